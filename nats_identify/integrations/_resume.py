"""Resumes a shard's session wherever that can be done; it never asks the queue, since RESUME is free.

First at the host that READY named, which may be gone while the gateway is well; then at the gateway, for as long as
that cannot be reached: a new session would have to be opened there, too. Only a session that the gateway refuses, or
leaves unanswered again and again, is given up.
"""

import asyncio
import random
from collections.abc import Callable, Iterator
from typing import Any, Final

from nats_identify.integrations._close_codes import NORMAL
from nats_identify.integrations._library import Library, LibraryWebSocket
from nats_identify.integrations._outage import Outage
from nats_identify.integrations._websocket import ATTEMPT, IdentifyAttempt, OwnWebSocket, what_ended

RETRIES_S: Final = (0.0, 0.25, 1.0)
"""The pause before each try at the host that READY named; the gateway may leave the same number of tries unanswered."""

HOST_MAX_S: Final = 5.0
"""Time for all tries at the host that READY named; a hanging host must not cost the shard more."""

ANSWER_MAX_S: Final = 10.0
"""Time for one connection to the gateway, from the handshake to the first event of the session."""

PAUSE_MAX_S: Final = 8.0
"""Between two tries at a gateway that is away: doubled up to this, less up to half at random."""


class Resumer:
    """What one shard resumes with.

    Args:
        library: how to connect.
        client: the library's, which connects; its ``main_gateway`` is where the gateway was found.
        shard_id: the shard.
        outage: logs what goes wrong.
        abandon: ends a connection that is not used.
    """

    def __init__(
        self,
        library: Library,
        client: Any,  # noqa: ANN401  # a library's, with what `QueuedClient` adds
        shard_id: int,
        outage: Outage,
        abandon: Callable[[IdentifyAttempt], None],
    ) -> None:
        self._library = library
        self._client = client
        self._shard_id = shard_id
        self._outage = outage
        self._abandon = abandon

    async def resume(self, lost: LibraryWebSocket) -> LibraryWebSocket | None:
        """Return a connection on which the session goes on; None if a new session is needed.

        Args:
            lost: the connection that is over, which knows the session.

        Raises:
            ReconnectWebSocket: the library's: Discord refused the session (Invalid Session).
            ConnectionClosed: the library's, for a close code after which a retry cannot succeed.
        """
        resumed = await self._at_its_host(lost)
        return resumed or await self._at_the_gateway(lost)

    async def _at_its_host(self, lost: LibraryWebSocket) -> LibraryWebSocket | None:
        """Try the host that READY named; None if that fails, or is the gateway itself."""
        name = self._library.resume_address
        host = getattr(lost, name, None) if name else None
        if host is None or _place(host) == _place(self._client.main_gateway):
            return None
        clock = asyncio.get_running_loop().time
        give_up_s = clock() + HOST_MAX_S
        why = ""
        for pause_s in RETRIES_S:
            await asyncio.sleep(pause_s)
            left_s = give_up_s - clock()
            if left_s <= 0:
                break
            resumed, why, _ = await self._try(lost, host, left_s)
            if resumed is not None:
                return resumed
        self._outage.note(
            "resume host",
            f"cannot resume at {_place(host)}, the host that Discord named: {why}; it goes to the gateway",
        )
        return None

    async def _at_the_gateway(self, lost: LibraryWebSocket) -> LibraryWebSocket | None:
        """Try until the session goes on; None if the gateway is there and does not answer RESUME."""
        unanswered = 0
        for number, pause_s in enumerate(_pauses_s()):
            await asyncio.sleep(pause_s)
            # Now and then its address is looked up anew: it may have moved.
            address = None if number % len(RETRIES_S) == len(RETRIES_S) - 1 else self._client.main_gateway
            resumed, why, is_open = await self._try(lost, address, ANSWER_MAX_S)
            if resumed is not None:
                return resumed
            unanswered += is_open
            if unanswered >= len(RETRIES_S):
                what = f"got no answer to RESUME at the gateway, {unanswered} times, at last: {why}"
                self._outage.note("unanswered", f"{what}; it gives its session up and asks for a new one in its turn")
                return None
            if number + 1 >= len(RETRIES_S):
                again = f"it tries again at least every {PAUSE_MAX_S + ANSWER_MAX_S:.0f} s, and keeps its session"
                self._outage.note("unreachable", f"cannot reach the gateway: {why}; {again}")
        raise AssertionError("pauses have no end")

    async def _try(
        self, lost: LibraryWebSocket, address: object, max_s: float
    ) -> tuple[LibraryWebSocket | None, str, bool]:
        """Connect once and resume: the connection, or why there is none and whether RESUME was sent on it."""
        attempt = IdentifyAttempt()
        ATTEMPT.set(attempt)
        try:
            async with asyncio.timeout(max_s):
                websocket: OwnWebSocket = await self._library.resuming.from_client(
                    self._client,
                    resume=True,
                    gateway=address,
                    shard_id=self._shard_id,
                    session=lost.session_id,
                    sequence=lost.sequence,
                )
                while not websocket.is_resumed:
                    await websocket.poll_event()
        except BaseException as error:
            self._abandon(attempt)
            if not isinstance(error, Exception) or self._is_final(error):
                raise
            why = f"no answer within {max_s:.1f} s" if isinstance(error, TimeoutError) else ""
            return None, why or what_ended(self._library, error, attempt.websocket), attempt.is_open
        return websocket, "", True

    def _is_final(self, error: Exception) -> bool:
        if isinstance(error, self._library.reconnect_error):
            return not error.resume
        return isinstance(error, self._library.closed_error) and getattr(error, "code", None) != NORMAL


def _place(address: object) -> str:
    """An address without its query, which each library writes in its own way."""
    return str(address).partition("?")[0].rstrip("/")


def _pauses_s() -> Iterator[float]:
    """How long to wait before each try at the gateway."""
    yield from RETRIES_S
    max_s = min(2.0, PAUSE_MAX_S)
    while True:
        yield max_s * random.uniform(0.5, 1)  # noqa: S311  # jitter
        max_s = min(2 * max_s, PAUSE_MAX_S)
