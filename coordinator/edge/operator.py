"""Receives the commands of operators, as endpoints of the micro service, and puts them into the event queue.

Every coordinator receives each command, since each endpoint has a queue group of its own; the leader alone replies.
It decides nothing: the core applies the command, and its reply leaves when the ledger has recorded it.
"""

import re
from collections.abc import Awaitable, Callable
from typing import Final

from nats.micro.request import Request
from pydantic import ValidationError

from coordinator.core.ledger import Handover
from coordinator.edge.event_queue import EventQueue
from coordinator.edge.publisher import Publisher
from coordinator.edge.service import Service
from nats_identify import operator_wire, wire
from nats_identify.operator_wire import COMMAND_BYTES_MAX, Command
from nats_identify.schedule import model
from nats_identify.schedule.model import MS, Code, CommandReply, Operator
from nats_identify.schemas import schema_of

Event = model.Pause | model.Resume | model.Kick | model.Release | model.Pardon | Handover

FOR_PEOPLE: Final = {
    Command.PAUSE: "Grant no request below a priority, or none at all, for a time or until resume",
    Command.RESUME: "End the pause",
    Command.KICK: "End a waiting request",
    Command.RELEASE: "Give a granted turn back that its shard will not use",
    Command.PARDON: "Forget the grants for which the guard defers a shard",
    Command.HANDOVER: "Give the lead up to another replica",
}
"""What each endpoint does, in its metadata."""

_PAYLOADS: Final[dict[Command, type[wire.Message]]] = {
    Command.PAUSE: operator_wire.Pause,
    Command.RESUME: operator_wire.Resume,
    Command.KICK: operator_wire.Kick,
    Command.RELEASE: operator_wire.Release,
    Command.PARDON: operator_wire.Pardon,
    Command.HANDOVER: operator_wire.Handover,
}
_REPLY_TO: Final = re.compile(r"[!-~]{1,256}")  # as a requester's


class OperatorCommands:
    """The six commands of one coordinator.

    Args:
        subjects: where they arrive.
        event_queue: takes the events.
        publisher: sends the reply to a payload that is no command.
        is_leading: whether this replica leads: the leader alone replies.
    """

    def __init__(
        self,
        subjects: wire.Subjects,
        event_queue: EventQueue,
        *,
        publisher: Publisher,
        is_leading: Callable[[], bool],
    ) -> None:
        self._subjects = subjects
        self._event_queue = event_queue
        self._publisher = publisher
        self._is_leading = is_leading

    async def open(self, service: Service) -> None:
        """Add an endpoint for each command to the service."""
        for command in Command:
            await service.add_endpoint(
                command.value,
                self._subjects.command(command),
                self._handler_of(command),
                about=FOR_PEOPLE[command],
                request=schema_of(command.value),
                reply={"oneOf": [schema_of("done"), schema_of("not_done")]},
                reaches_all=True,
            )

    def _handler_of(self, command: Command) -> Callable[[Request], Awaitable[None]]:
        async def handle(request: Request) -> None:
            reply_to = request._msg.reply  # noqa: SLF001  # the public part can only respond at once
            self.receive(command, request.data, reply_to if _REPLY_TO.fullmatch(reply_to) else "")

        return handle

    def receive(self, command: Command, payload: bytes, reply_to: str) -> None:
        """Put the command into the event queue; one that is none is refused by the leader."""
        try:
            event = decode_command(command, payload, reply_to)
        except ValueError as error:
            self._refuse(command, reply_to, Code.BAD_REQUEST, str(error))
            return
        if not self._event_queue.try_put(event):
            text = "this coordinator has more to do than it can; give the command again in some seconds"
            self._refuse(command, reply_to, Code.OVERLOADED, text)

    def _refuse(self, command: Command, reply_to: str, code: Code, text: str) -> None:
        if self._is_leading():
            self._publisher.reply_to_command(CommandReply(reply_to, command.value, text, code), 0)


def decode_command(command: Command, payload: bytes, reply_to: str) -> Event:
    """Read a command.

    Raises:
        ValueError: it is none; the message says what is wrong.
    """
    if len(payload) > COMMAND_BYTES_MAX:
        message = f"the payload has {len(payload)} bytes; a command has {COMMAND_BYTES_MAX} at most"
        raise ValueError(message)
    try:
        said = _PAYLOADS[command].model_validate_json(payload)
    except ValidationError as error:
        raise ValueError(wire.why_invalid(error)) from None
    return _event(said, reply_to)


def _event(said: wire.Message, reply_to: str) -> Event:
    match said:
        case operator_wire.Pause(by=by, why=why, for_ms=for_ms, below_priority=below):
            for_ns = None if for_ms is None else for_ms * MS
            return model.Pause(Operator(by, why, reply_to), for_ns, below)
        case operator_wire.Resume(by=by, why=why):
            return model.Resume(Operator(by, why, reply_to))
        case operator_wire.Kick(by=by, why=why, request_id=request_id):
            return model.Kick(Operator(by, why, reply_to), request_id)
        case operator_wire.Release(by=by, why=why, grant_id=grant_id):
            return model.Release(Operator(by, why, reply_to), grant_id)
        case operator_wire.Pardon(by=by, why=why, shard_id=shard_id):
            return model.Pardon(Operator(by, why, reply_to), shard_id)
        case operator_wire.Handover(by=by, why=why):
            return Handover(Operator(by, why, reply_to))
        case _:
            text = f"{type(said).__name__} is no command"
            raise AssertionError(text)
