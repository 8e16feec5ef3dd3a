"""Turns what arrives on NATS into events of the core, or a refusal that says what is wrong. It keeps no state.

Whatever anybody sends ends here as an event, a refusal or a count; no exception leaves a callback.
"""

import re
from contextlib import suppress
from hashlib import blake2b
from typing import Final

from nats.aio.msg import Msg
from pydantic import ValidationError
from pydantic_core import from_json

from coordinator.edge.connections import Connection
from coordinator.edge.inbox import Inbox
from coordinator.edge.metrics import Metrics
from coordinator.edge.replies import Replies
from coordinator.edge.seat import Seat
from nats_identify.schedule.model import (
    SECOND,
    Answer,
    Cancel,
    Code,
    Happened,
    Outcome,
    Refused,
    Reply,
    Undeliverable,
)
from nats_identify.wire import REQUEST_BYTES_MOST, TOKEN, Answered, Cancelled, Request, Subjects

BUCKET_MOST: Final = 2**31
REPLY_TO_MOST: Final = 512
RETRY_AFTER_NS: Final = 5 * SECOND

_BUCKET: Final = re.compile(r"[0-9]{1,10}", re.ASCII)
_PROBLEMS_NAMED: Final = 3


class BadRequestError(ValueError):
    """The requester must change what it sends; the message says what."""


class Intake:
    """The ears of a coordinator.

    Args:
        traffic: carries requests, cancels and answers.
        subjects: where they arrive.
        inbox: told of the events.
        replies: sends the refusals.
        seat: whether this replica leads: only one of them refuses.
        metrics: counts what is dropped.
    """

    def __init__(
        self,
        traffic: Connection,
        subjects: Subjects,
        inbox: Inbox,
        *,
        replies: Replies,
        seat: Seat,
        metrics: Metrics,
    ) -> None:
        self._traffic = traffic
        self._subjects = subjects
        self._inbox = inbox
        self._replies = replies
        self._seat = seat
        self._metrics = metrics

    async def open(self) -> None:
        """Listen; every replica hears everything."""
        await self._traffic.subscribe(self._subjects.requests, cb=self._requested)
        await self._traffic.subscribe(self._subjects.confirms, cb=self._answered)
        await self._traffic.subscribe(self._subjects.cancels, cb=self._cancelled)

    async def _requested(self, message: Msg) -> None:
        if not 0 < len(message.reply) <= REPLY_TO_MOST:
            self._drop("no_reply_subject")
            return
        try:
            bucket = bucket_of(message.subject)
            request = decode_request(message.data)
        except BadRequestError as error:
            await self._refuse(message, Refused(salvaged_id(message), Code.BAD_REQUEST, str(error)))
            return
        ask = request.ask(bucket=bucket, reply_to=message.reply, request_id=name_of(message.reply))
        if not self._inbox.offer(ask):
            self._drop("overflow")
            busy = "this coordinator has more to do than it can; ask again later"
            await self._refuse(message, Refused(ask.request_id, Code.OVERLOADED, busy, retry_after_ns=5 * 10**9))

    async def _answered(self, message: Msg) -> None:
        grant_id = message.subject.rpartition(".")[2]
        if not re.fullmatch(TOKEN, grant_id):
            self._drop("bad_answer")
            return
        # The header first: NATS's "nobody is there" is empty, and so is the shortest way to say "identified".
        if message.headers and "Status" in message.headers:
            if message.headers["Status"] == "503" and not message.data:
                self._offer(Undeliverable(grant_id))
            else:
                self._drop("bad_answer")
            return
        try:
            outcome = decode_answer(message.data)
        except ValueError:
            self._drop("bad_answer")
        else:
            self._offer(Answer(grant_id, outcome))

    async def _cancelled(self, message: Msg) -> None:
        try:
            if len(message.data) > REQUEST_BYTES_MOST:
                raise BadRequestError
            cancelled = Cancelled.model_validate_json(message.data)
        except ValueError:
            self._drop("bad_cancel")
        else:
            self._offer(Cancel(cancelled.request_id))

    def _offer(self, event: Answer | Cancel | Undeliverable) -> None:
        if not self._inbox.offer(event):
            self._drop("overflow")

    def _drop(self, why: str) -> None:
        self._metrics.dropped.labels(why).inc()

    async def _refuse(self, message: Msg, refused: Refused) -> None:
        if self._seat.is_leading:
            await self._replies.reply(Reply(message.reply, refused), term=0)
            facts: dict[str, str | int | None] = {
                "request_id": refused.request_id,
                "code": refused.code,
                "message": refused.message,
            }
            await self._replies.happened(Happened("refused", facts))


def salvaged_id(message: Msg) -> str:
    """Return the id that a bad request names, if it is one: its sender knows the refusal by it."""
    with suppress(ValueError):
        said = from_json(message.data[:REQUEST_BYTES_MOST])
        named = said.get("request_id") if isinstance(said, dict) else None
        if isinstance(named, str) and re.fullmatch(TOKEN, named):
            return named
    return name_of(message.reply)


def bucket_of(subject: str) -> int:
    """Return the bucket that a request's subject names.

    Raises:
        BadRequestError: it names none.
    """
    token = subject.rpartition(".")[2]
    bucket = int(token) if _BUCKET.fullmatch(token) else BUCKET_MOST + 1
    if bucket > BUCKET_MOST:
        message = f"the subject ends in {token[:32]!r}; give a bucket, a number from 0 to {BUCKET_MOST}"
        raise BadRequestError(message)
    return bucket


def decode_request(payload: bytes) -> Request:
    """Read a request; an empty payload is one.

    Raises:
        BadRequestError: it is none.
    """
    if len(payload) > REQUEST_BYTES_MOST:
        message = f"the payload has {len(payload)} bytes; a request has {REQUEST_BYTES_MOST} at most"
        raise BadRequestError(message)
    try:
        return Request.model_validate_json(payload if payload.strip() else b"{}")
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False, include_input=False)
        said = [_problem(problem["loc"], problem["msg"]) for problem in problems[:_PROBLEMS_NAMED]]
        raise BadRequestError("; ".join(said)) from None


def decode_answer(payload: bytes) -> Outcome:
    """Read an answer to a grant; an empty payload means identified.

    Raises:
        ValueError: it is none.
    """
    if not payload:
        return Outcome.IDENTIFIED
    if len(payload) > REQUEST_BYTES_MOST:
        raise BadRequestError
    return Answered.model_validate_json(payload).outcome


def name_of(reply_to: str) -> str:
    """Return a request id made from the reply inbox: the same for the same inbox."""
    if re.fullmatch(TOKEN, reply_to):
        return reply_to
    return blake2b(reply_to.encode(), digest_size=8).hexdigest()


def _problem(where: tuple[int | str, ...], said: str) -> str:
    field = ".".join(str(part) for part in where)
    return f"{field}: {said}" if field else f"the payload is no request: {said}"
