"""What can happen at the simulated gateway, one frozen record each; none ever holds a token."""

from dataclasses import asdict, dataclass
from typing import ClassVar

from nats_identify.testing.judge import Verdict


@dataclass(frozen=True, slots=True)
class GatewayEvent:
    """Something that happened.

    Attributes:
        at_ns: when, on `nats_identify.clock.now_ns` of the gateway's process.
    """

    kind: ClassVar[str] = "event"
    at_ns: int

    def as_json(self) -> dict[str, object]:
        """Return the event as JSON-ready values, its name first under ``event``."""
        return {"event": self.kind, **asdict(self)}


@dataclass(frozen=True, slots=True)
class Connected(GatewayEvent):
    """A websocket was accepted; ``connection`` numbers it from 1, ``door`` is ``gateway`` or ``resume host``."""

    kind: ClassVar[str] = "connect"
    connection: int
    door: str = "gateway"


@dataclass(frozen=True, slots=True)
class Identified(GatewayEvent):
    """An IDENTIFY arrived and was judged.

    Attributes:
        bucket: ``shard_id % max_concurrency``, by the number in force at its arrival.
        gap_ns: since the latest earlier IDENTIFY that shares a bucket with it; None for the first.
    """

    kind: ClassVar[str] = "identify"
    connection: int
    shard_id: int
    shard_count: int
    max_concurrency: int
    bucket: int
    gap_ns: int | None
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class TokenReset(GatewayEvent):
    """The day's limit was overrun: real Discord would end all sessions and reset the bot's token now."""

    kind: ClassVar[str] = "token_reset"
    shard_id: int


@dataclass(frozen=True, slots=True)
class BecameReady(GatewayEvent):
    """READY was sent."""

    kind: ClassVar[str] = "ready"
    connection: int
    shard_id: int


@dataclass(frozen=True, slots=True)
class Resumed(GatewayEvent):
    """A RESUME arrived; ``accepted`` says whether RESUMED or Invalid Session was the answer."""

    kind: ClassVar[str] = "resume"
    connection: int
    shard_id: int | None
    accepted: bool


@dataclass(frozen=True, slots=True)
class HeartbeatMissed(GatewayEvent):
    """A client's heartbeats stopped, and the gateway closes its connection."""

    kind: ClassVar[str] = "heartbeat_timeout"
    connection: int
    shard_id: int | None


@dataclass(frozen=True, slots=True)
class Disconnected(GatewayEvent):
    """A connection ended.

    Attributes:
        shard_id: whose it was; None if it never had a session.
        close_code: 1006 where no close frame was exchanged.
        by_gateway: the gateway closed it, not the client.
    """

    kind: ClassVar[str] = "disconnect"
    connection: int
    shard_id: int | None
    close_code: int
    by_gateway: bool


@dataclass(frozen=True, slots=True)
class LimitsChanged(GatewayEvent):
    """Somebody ordered other limits."""

    kind: ClassVar[str] = "limits"
    max_concurrency: int
    total: int
    remaining: int


@dataclass(frozen=True, slots=True)
class RestAnswered(GatewayEvent):
    """A REST request was answered; ``status`` is 0 where it was left hanging."""

    kind: ClassVar[str] = "rest"
    path: str
    status: int
