"""A library's shard whose new sessions wait for their turn; it never holds up another shard.

The client runs `reidentify` and `reconnect` in tasks of their own, so both may take as long as the queue does.
"""

import asyncio
import random
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from nats_identify.integrations._library import LibraryShard, ReconnectError
else:
    LibraryShard = object  # a front adds the library's own class

LOST_PRIORITY: Final = 1
"""What a shard asks with whose session was live and was lost; by convention, see `Queue.acquire`."""

INVALID_SESSION_DELAY_S: Final = (1.0, 5.0)
"""Discord asks for a random wait after Invalid Session; the libraries' own comes from the hook that is not used here.

Source: https://discord.com/developers/docs/events/gateway#resuming
"""


SHORT_LIVED_S: Final = 1.0
SHORT_LIVED_MOST: Final = 3
"""After so many connections in a row that were lost within so long after their RESUME, the next one has to wait."""


class QueuedShard(LibraryShard):
    """Mixed in before a library's ``Shard``."""

    def __init__(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401  # the library's own
        super().__init__(*arguments, **options)
        self._one_at_a_time = asyncio.Lock()
        self._priority = 0
        self._resumed_at_s = -SHORT_LIVED_S
        self._short_lived = 0

    async def reidentify(self, exc: "ReconnectError") -> None:
        """Resume at once; or, where there is no session to resume, take a turn for a new one."""
        if exc.resume and self.ws.session_id is not None:
            await self._resume(exc)
            return
        self._dispatch("disconnect")
        self._dispatch("shard_disconnect", self.id)
        if not exc.resume:
            await asyncio.sleep(random.uniform(*INVALID_SESSION_DELAY_S))  # noqa: S311  # not a secret
        await self.reconnect()

    async def reconnect(self) -> None:
        """Take a turn for a new session."""
        lost = self.ws
        self._cancel_task()
        if getattr(lost, "is_welcome", True):  # a websocket of the library's own is one that has resumed
            self._priority = LOST_PRIORITY
        async with self._one_at_a_time:
            if self.ws is lost:  # else somebody was faster: a bot may call ShardInfo.connect whenever it likes
                self.ws = await self._client.identify_shard(self.id, priority=self._priority)
                self.launch()

    async def close(self) -> None:
        """Close the connection, with the code that the bot wants; the libraries' own is always 1000."""
        self._cancel_task()
        await self.ws.close(code=self._client.close_code)

    async def _resume(self, exc: "ReconnectError") -> None:
        """Resume as the library does; at once, unless the gateway drops every connection as soon as it is open."""
        clock = asyncio.get_running_loop().time
        is_short_lived = clock() - self._resumed_at_s < SHORT_LIVED_S
        self._short_lived = self._short_lived + 1 if is_short_lived else 0
        if self._short_lived >= SHORT_LIVED_MOST:
            await asyncio.sleep(self._backoff.delay())
        await super().reidentify(exc)
        self._resumed_at_s = clock()
