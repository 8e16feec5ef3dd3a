"""What a bot's own tests need: a simulated gateway, a bare shard, an instant queue; never for production.

The gateway and the shard need the extra ``testing`` (aiohttp); the judge, the record and the instant queue
need nothing, so each name is imported when it is first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from nats_identify.testing.doors import DoorState
    from nats_identify.testing.gateway import SimulatedGateway
    from nats_identify.testing.instant import InstantQueue
    from nats_identify.testing.judge import Day, Judge, Judgement, Verdict
    from nats_identify.testing.record import Record, Report
    from nats_identify.testing.rest import ErrorResponse
    from nats_identify.testing.shard import BareShard
    from nats_identify.testing.shard_state import ShardRefusedError, ShardState

__all__ = [
    "BareShard",
    "Day",
    "DoorState",
    "ErrorResponse",
    "InstantQueue",
    "Judge",
    "Judgement",
    "Record",
    "Report",
    "ShardRefusedError",
    "ShardState",
    "SimulatedGateway",
    "Verdict",
]

_MODULES: Final = {
    "BareShard": "shard",
    "Day": "judge",
    "DoorState": "doors",
    "InstantQueue": "instant",
    "Judge": "judge",
    "Judgement": "judge",
    "ErrorResponse": "rest",
    "Record": "record",
    "Report": "record",
    "ShardRefusedError": "shard_state",
    "ShardState": "shard_state",
    "SimulatedGateway": "gateway",
    "Verdict": "judge",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
