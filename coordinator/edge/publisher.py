"""Publishes replies to requesters, and events. It never waits for a subscriber."""

import json
from datetime import UTC, datetime
from time import time_ns
from typing import Final

from nats import errors
from nats.aio.msg import Msg
from pydantic_core import to_json

from coordinator.edge.allowance import Allowance
from coordinator.edge.connections import Connection
from coordinator.edge.event_queue import EventQueue
from coordinator.edge.log import Log
from coordinator.edge.metrics import Metrics
from coordinator.edge.recent import Recent
from nats_identify.clock import Clock
from nats_identify.operator_wire import Command, Done, NotDone
from nats_identify.reason import Reason
from nats_identify.schedule import model
from nats_identify.schedule.model import CommandReply, Event, NudgeUndeliverable, Reply
from nats_identify.wire import ERROR_NUMBERS, Subjects, encode_reply

Fields = dict[str, str | int | None]

REFUSALS_PER_SECOND: Final = 1_000
"""Refusals that a sender can provoke at will: beyond it they are dropped, and the sender gets no reply."""

REFUSED_EVENTS_PER_SECOND: Final = 50
"""Events of refusals: people read them, and the metric counts them all."""

REFUSALS_LOGGED_PER_SECOND: Final = 1
"""Of these, those that are logged: a day of nothing but refusals makes a log of some 20 MB."""

REFUSALS_LOGGED_AT_ONCE: Final = 50
"""As many are logged at once after a quiet time."""

_PROVOKED: Final = frozenset({model.Code.BAD_REQUEST, model.Code.WRONG_BUCKET, model.Code.OVERLOADED})
_QUIET: Final = frozenset({"queued", "identified", "ready", "cancelled"})
_LOUD: Final = frozenset({"undeliverable", "rejected", "exhausted", "crash_loop"})


class Publisher:
    """Publishes replies and events.

    Args:
        traffic: carries the replies.
        subjects: where events and answers to grants go.
        event_queue: gets an event for each grant or nudge that no shard receives.
        metrics: counts what happens.
        recent: keeps what happened lately.
        log: for events, too.
        clock: nanoseconds that only grow.
    """

    def __init__(
        self,
        traffic: Connection,
        subjects: Subjects,
        event_queue: EventQueue,
        *,
        metrics: Metrics,
        recent: Recent,
        log: Log,
        clock: Clock,
    ) -> None:
        self._traffic = traffic
        self._subjects = subjects
        self._event_queue = event_queue
        self._metrics = metrics
        self._recent = recent
        self._log = log
        self._timestamp_ms, self._timestamp_text = 0, ""
        self._nudges = f"{traffic.new_inbox()}."
        self._refusals_left = Allowance(REFUSALS_PER_SECOND, REFUSALS_PER_SECOND, clock)
        self._refused_events_left = Allowance(REFUSED_EVENTS_PER_SECOND, REFUSED_EVENTS_PER_SECOND, clock)
        self._refusals_logged_left = Allowance(REFUSALS_LOGGED_PER_SECOND, REFUSALS_LOGGED_AT_ONCE, clock)

    async def open(self) -> None:
        """Subscribe to the 503 of nudges without a receiver."""
        await self._traffic.subscribe(f"{self._nudges}*", cb=self._nudge_came_back)

    def reply(self, reply: Reply, term: int) -> None:
        """Send a reply of the schedule; NATS answers a grant or a nudge without a receiver with 503."""
        body, answer_to, header = reply.body, "", b""
        match body:
            case model.Granted():
                answer_to = self._subjects.confirm(body.bucket, body.grant_id)
            case model.Queued(nudge=True):
                answer_to = self._nudges + body.request_id
            case model.Refused(code=code) if code in _PROVOKED and not self._refusals_left.take():
                self._metrics.drop("refusal")
                return
            case model.Refused():
                header = _error_header(ERROR_NUMBERS[body.code], body.message)
        is_grant = isinstance(body, model.Granted)
        sent = self._send(reply.to, encode_reply(body, term), answer_to=answer_to, header=header, is_first=is_grant)
        if isinstance(body, model.Granted) and not sent:  # that proves as much as a 503: its shard does not have it
            self._event_queue.put(model.Undeliverable(body.grant_id))

    def reply_to_command(self, reply: CommandReply, term: int) -> None:
        """Send the reply to an operator's command; one without a reply subject gets none."""
        command, header = Command(reply.command), b""
        if reply.code is None:
            body = Done(command=command, message=reply.message, term=term).model_dump_json()
        else:
            body = NotDone(command=command, code=Reason(reply.code), message=reply.message).model_dump_json()
            header = _error_header(ERROR_NUMBERS[reply.code], reply.message)
        if reply.to:
            self._send(reply.to, body.encode(), header=header)

    def write_out(self) -> None:
        """Write what is published, at once."""
        self._traffic.write_out()

    def publish_event(self, event: Event) -> None:
        """Publish, count and log an event."""
        name, fields = event.name, event.fields
        now_ms = time_ns() // 1_000_000
        self._metrics.count_event(name, fields)
        self._recent.add(name, fields, now_ms)
        if name == "refused" and not self._refused_events_left.take():
            return
        told = {"at": self._timestamp(now_ms), **fields}
        payload = to_json(told)
        if not payload.isascii():  # a terminal obeys some of these characters
            payload = json.dumps(told).encode()
        self._send(self._subjects.event(name), payload)
        if name in _LOUD:
            self._log.warning(name, **fields)
        elif name in _QUIET or (name == "refused" and not self._refusals_logged_left.take()):
            self._log.debug(name, **fields)
        else:
            self._log.info(name, **fields)

    def _timestamp(self, now_ms: int) -> str:
        """RFC 3339, to the millisecond; made once for all events of one."""
        if now_ms != self._timestamp_ms:
            at = datetime.fromtimestamp(now_ms / 1000, UTC).isoformat(timespec="milliseconds")
            self._timestamp_ms, self._timestamp_text = now_ms, at.replace("+00:00", "Z")
        return self._timestamp_text

    async def send(self, to: str, payload: bytes, *, headers: dict[str, str] | None = None) -> None:
        """Publish an answer to an operator now or not at all."""
        if not self._traffic.can_send:
            self._metrics.drop("unsent")
            return
        try:
            await self._traffic.publish(to, payload, headers=headers)
        except errors.Error as error:
            self._metrics.drop("unsent")
            self._log.debug("not sent", to=to, error=str(error))

    def _send(
        self, to: str, payload: bytes, *, answer_to: str = "", header: bytes = b"", is_first: bool = False
    ) -> bool:
        """Publish now or not at all: a requester asks again, and a grant that is sent late is of no use.

        Returns:
            Whether it is published.
        """
        if not self._traffic.can_send:
            self._metrics.drop("unsent")
            return False
        try:
            self._traffic.publish_now(to, payload, answer_to=answer_to, header=header, is_first=is_first)
        except errors.Error as error:
            self._metrics.drop("unsent")
            self._log.debug("not sent", to=to, error=str(error))
            return False
        return True

    async def _nudge_came_back(self, message: Msg) -> None:
        if message.headers and message.headers.get("Status") == "503":
            self._event_queue.try_put(NudgeUndeliverable(message.subject.removeprefix(self._nudges)))


def _error_header(number: int, text: str) -> bytes:
    """The header block of a refusal, as NATS services have it; the text stays on its line."""
    one_line = " ".join(text.split())
    return f"NATS/1.0\r\nNats-Service-Error-Code: {number}\r\nNats-Service-Error: {one_line}\r\n\r\n".encode()
