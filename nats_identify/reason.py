"""Why a shard waits, as one enum: all that a `Progress` may say. It imports nothing of this library.

The schedule has two enums of its own, one for a queued request and one for refusals; this one has every value of both.
"""

from enum import StrEnum
from typing import Self


class Reason(StrEnum):
    """Why a shard waits; the `reason` of a `Progress`. Each is also the string that it is on the wire.

    The queue goes on waiting whatever the reason is.

    ``Reason(value)`` of a value that this version does not have is `UNKNOWN`: a newer coordinator may send one.

    Attributes:
        WINDOW: the window of its bucket, and the requests before it there. The usual reason.
        SESSION_LIMIT: the day's session starts are spent, but for those that are reserved for higher priorities. It
            goes on at the day's end, which `Progress.eta_ms` counts in where it is known.
        CRASH_LOOP: this shard was granted too many turns lately. It goes on when its delay is over.
        LIMITS_UNKNOWN: the coordinator, or the `LargeBotQueue`, has no figures from Discord yet. The ETA is None.
        PAUSED: an operator has paused the queue. It goes on when the pause ends, which `Progress.eta_ms` counts in
            where it is known.
        ENDED: its request ended, and not by this queue: another process used its id or withdrew it. The queue asks
            again under another id, at the end of the line.
        NO_ANSWER: NATS is away, or no coordinator answers there; reported at the latest 5 s after that began.
        OVERLOADED: the coordinator's queue is full, or this connection has its share of it. The queue asks again when
            the coordinator says, after 5 s where it says nothing.
        TIMEOUT: the request waited longer than its ``timeout_ms``. The queues of this library never set one.
        WRONG_BUCKET: the coordinator counts the shard into another bucket, and did not say which. The queue asks again.
        BAD_REQUEST: the coordinator cannot read the request. One of the two is out of date, or broken: the log has
            the coordinator's message.
        UNKNOWN: a reason that this version does not know. Update this library.
    """

    WINDOW = "window"
    SESSION_LIMIT = "session_limit"
    CRASH_LOOP = "crash_loop"
    LIMITS_UNKNOWN = "limits_unknown"
    PAUSED = "paused"
    ENDED = "ended"
    NO_ANSWER = "no_answer"
    OVERLOADED = "overloaded"
    TIMEOUT = "timeout"
    WRONG_BUCKET = "wrong_bucket"
    BAD_REQUEST = "bad_request"
    UNKNOWN = "unknown"

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        return cls("unknown") if isinstance(value, str) else None
