"""What the simulated Discord knows: limits, sessions and the record; it never holds a socket.

The websocket and the REST side both ask here, so that there is one day and one judge.
"""

import hmac

from nats_identify.clock import Clock, now_ns
from nats_identify.testing import events
from nats_identify.testing.delays import Delays
from nats_identify.testing.judge import Judge, Verdict
from nats_identify.testing.record import Record
from nats_identify.testing.sessions import Session, Sessions


class Backend:
    """Discord behind its doors.

    Attributes:
        ws_url: where the websocket side listens; empty until it does. ``resume_url``: what READY names for RESUME.
    """

    def __init__(
        self,
        judge: Judge,
        delays: Delays,
        *,
        max_concurrency: int,
        shards: int,
        token: str | None,
        clock: Clock = now_ns,
    ) -> None:
        """Open for business.

        Raises:
            ValueError: a figure that Discord would never send.
        """
        self.judge = judge
        self.delays = delays
        self.record = Record()
        self.sessions = Sessions(delays.session_id)
        self.max_concurrency = _at_least_one("max_concurrency", max_concurrency)
        self.shards = _at_least_one("shards", shards)
        self.ws_url = self.resume_url = ""
        self.clock = clock
        self._token = token

    def knows(self, token: object) -> bool:
        """Return whether this is the bot's token, with or without ``Bot``; any is if none was set."""
        if self._token is None:
            return True
        given = token.removeprefix("Bot ") if isinstance(token, str) else ""
        return hmac.compare_digest(given.encode(), self._token.encode())

    def identify(self, connection: int, shard_id: int, shard_count: int) -> Session | None:
        """Judge an IDENTIFY that arrived this moment. Return its new session, or None if it is refused."""
        judgement = self.judge.identify(self.clock(), shard_id, self.max_concurrency)
        self.record.add(
            events.Identified(
                at_ns=judgement.at_ns,
                connection=connection,
                shard_id=shard_id,
                shard_count=shard_count,
                max_concurrency=judgement.max_concurrency,
                bucket=judgement.bucket,
                gap_ns=judgement.gap_ns,
                verdict=judgement.verdict,
            )
        )
        if judgement.verdict is Verdict.OVER_LIMIT:
            self.record.add(events.TokenReset(judgement.at_ns, shard_id))
        if judgement.verdict is not Verdict.ACCEPTED:
            return None
        return self.sessions.open(shard_id, shard_count, connection)

    def session_start_limit(self) -> dict[str, int]:
        """Return the figures of ``GET /gateway/bot``.

        Source: https://discord.com/developers/docs/events/gateway#session-start-limit-object
        """
        at_ns, day = self.clock(), self.judge.day
        return {
            "total": day.total,
            "remaining": day.remaining(at_ns),
            "reset_after": day.reset_after_ms(at_ns),
            "max_concurrency": self.max_concurrency,
        }

    def set_limits(
        self,
        *,
        max_concurrency: int | None = None,
        total: int | None = None,
        remaining: int | None = None,
        reset_after_ns: int | None = None,
        shards: int | None = None,
    ) -> None:
        """Put other limits in force from this moment; what is None stays.

        Raises:
            ValueError: a figure that Discord would never send; nothing was changed.
        """
        checked_concurrency = _at_least_one(
            "max_concurrency", self.max_concurrency if max_concurrency is None else max_concurrency
        )
        checked_shards = _at_least_one("shards", self.shards if shards is None else shards)
        self.judge.day.change(self.clock(), total=total, remaining=remaining, length_ns=reset_after_ns)
        self.max_concurrency, self.shards = checked_concurrency, checked_shards
        self._note_limits()

    def reset_day(self) -> None:
        """Begin a new day with all session starts left."""
        self.judge.day.reset()
        self._note_limits()

    def _note_limits(self) -> None:
        at_ns, day = self.clock(), self.judge.day
        remaining = day.remaining(at_ns)
        self.record.add(events.LimitsChanged(at_ns, self.max_concurrency, day.total, remaining))


def _at_least_one(name: str, value: int) -> int:
    if value < 1:
        message = f"{name} is {value}; give 1 or more (to have it served wrong, order an ErrorResponse)"
        raise ValueError(message)
    return value
