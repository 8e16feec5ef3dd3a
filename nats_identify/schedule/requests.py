"""All requests of one bot, queued and granted. Grants, budgets and windows are elsewhere."""

from collections import OrderedDict
from dataclasses import dataclass

from nats_identify.schedule.bucket_queue import BucketQueue, QueuedRequest
from nats_identify.schedule.model import SECOND, RequestReceived
from nats_identify.schedule.senders import SenderCounts, digest_of
from nats_identify.schedule.timers import TimerKind, Timers

PLAIN_TIMEOUT_NS = 60 * SECOND
"""How long a plain requester is assumed to wait for its reply where its request has no timeout."""

ENDED_MAX = 20_000
"""The most ended requests that are kept, so that a late renewal does not queue one again: about 2 MB."""


@dataclass(slots=True)
class _Ended:
    """A spent id: whether a renewal of it was refused since, and a digest of its reply subject, if that is known."""

    is_refused: bool = False
    reply_digest: int | None = None


SENDERS_FOR_ALL = 4
"""One sender may have a quarter of the queue: one faulty pod cannot fill it."""


class RequestTable:
    """Requests by request id and by bucket, bounded; ended ones are kept for a while.

    Args:
        max_concurrency: how many buckets there are.
        max_waiting: the most requests that are queued.
        timers: the timer of a dropped request is removed from them.

    Attributes:
        max_of_sender: the most new requests of one sender that are queued, see `SenderCounts`. A renewal may come from
            a new inbox and is never refused, so a sender can have more.
    """

    def __init__(self, max_concurrency: int, max_waiting: int, timers: Timers) -> None:
        self.max_concurrency = max_concurrency
        self.max_waiting = max_waiting
        self.max_of_sender = max(1, max_waiting // SENDERS_FOR_ALL)
        self.by_id: dict[str, QueuedRequest] = {}
        self.queues: dict[int, BucketQueue] = {}
        self._ended: OrderedDict[str, _Ended] = OrderedDict()
        self._senders = SenderCounts()
        self._timers = timers
        self._order = 0

    @property
    def is_full(self) -> bool:
        """Whether no further request is queued."""
        return len(self.by_id) >= self.max_waiting

    def is_full_for(self, reply_to: str) -> bool:
        """Whether the sender of this reply subject has its share of the queue."""
        return len(self.by_id) >= self.max_of_sender and self._senders.of(reply_to) >= self.max_of_sender

    def has_ended(self, request_id: str) -> bool:
        """Whether this request was identified or withdrawn: its id is spent."""
        return request_id in self._ended

    def refuse_ended(self, request_id: str) -> bool:
        """Record that a request with a spent id is refused; return True the first time."""
        ended = self._ended[request_id]
        is_first, ended.is_refused = not ended.is_refused, True
        return is_first

    def may_be_copy_of_ended(self, message: RequestReceived) -> bool:
        """Whether a plain message with a spent id may be the one that spent it, late or twice on its way.

        A requester that uses an id again has another reply subject. Where the first one is not known it may be a copy.
        """
        reply_digest = self._ended[message.request_id].reply_digest
        return reply_digest is None or reply_digest == digest_of(message.reply_to)

    def get(self, request_id: str) -> QueuedRequest | None:
        """Return the request of this name."""
        return self.by_id.get(request_id)

    def admit(self, message: RequestReceived, now_ns: int) -> QueuedRequest:
        """Queue a new request; its ``waited_ns`` counts for its place and its ``timeout_ns``.

        A copy has the rest of the timeout, and its place at the other replica.
        """
        self._order += 1
        received_at_ns = message.first_at_ns(now_ns)
        request = QueuedRequest(
            _without_what_counts_once(message),
            asked_at_ns=received_at_ns - message.waited_ns,
            order=self._order,
            renewed_at_ns=message.number_at_ns(now_ns),
        )
        request.place_ns = self._place_of(message, request.asked_at_ns)
        if message.is_copy:  # it keeps the place that it has elsewhere
            request.place_ns = request.asked_at_ns if message.place_at_ns is None else message.place_at_ns
        request.is_restored = message.waited_ns > 0
        timeout_ns = message.timeout_ns or (None if message.managed else PLAIN_TIMEOUT_NS)
        began_ns = received_at_ns if message.is_copy else request.asked_at_ns
        request.timeout_at_ns = None if timeout_ns is None else began_ns + timeout_ns
        self.by_id[message.request_id] = request
        self._senders.add(message.reply_to)
        self.put(request)
        return request

    def renew(self, request: QueuedRequest, message: RequestReceived, now_ns: int) -> None:
        """Apply a newer message; the place stays, unless the priority changed.

        The place of a request that had waited elsewhere is an estimate, late by the time that its message took: the
        quickest of its messages gives the best one. A request behind a promise takes its own place when that is over.
        """
        asked_at_ns = request.asked_at_ns
        if request.is_restored:
            asked_at_ns = min(asked_at_ns, message.first_at_ns(now_ns) - message.waited_ns)
        place_ns = request.place_ns
        if asked_at_ns < place_ns:  # no place is before the estimate that it is made from
            place_ns = min(place_ns, self._place_of(message, asked_at_ns))
        moves = (*_standing(message), place_ns) != (
            *_standing(request.message),
            request.place_ns,
        ) and request.grant_id is None
        keeps_promise = moves and self._is_promised(request) and _queue_of(message) == _queue_of(request.message)
        if moves:
            self.take(request)
        request.asked_at_ns, request.place_ns = asked_at_ns, place_ns
        if message.reply_to != request.message.reply_to:
            self._senders.remove(request.message.reply_to)
            self._senders.add(message.reply_to)
        request.renew(_without_what_counts_once(message), message.number_at_ns(now_ns))
        if moves:
            self.put(request)
        if keeps_promise:  # it has moved within its queue, and has not left it
            self.queues[request.bucket].promise(request)

    def put(self, request: QueuedRequest) -> None:
        """Add it to the queue of today's bucket, at its place."""
        request.bucket = request.message.shard_id % self.max_concurrency
        self.queues.setdefault(request.bucket, BucketQueue()).add(request)

    def take(self, request: QueuedRequest) -> None:
        """Remove it from its queue."""
        queue = self.queues[request.bucket]
        queue.remove(request)
        if not queue:
            del self.queues[request.bucket]

    def forget(self, request: QueuedRequest) -> None:
        """Drop it, queued or granted; a renewal queues it again."""
        if request.grant_id is None:
            self.take(request)
        self._senders.remove(request.message.reply_to)
        self._timers.drop(TimerKind.REQUEST, request.message.request_id)
        del self.by_id[request.message.request_id]

    def end(self, request_id: str, reply_to: str = "") -> QueuedRequest | None:
        """Drop it for good, and remember that, whether it was known or not; ``reply_to``: of one that never waited."""
        request = self.by_id.get(request_id)
        if request is not None:
            self.forget(request)
            reply_to = request.message.reply_to
        ended = self._ended.setdefault(request_id, _Ended())
        if reply_to and ended.reply_digest is None:
            ended.reply_digest = digest_of(reply_to)
        if len(self._ended) > ENDED_MAX:
            self._ended.popitem(last=False)
        return request

    def break_promises(self) -> None:
        """End all promises: another request may be placed before one that was promised its turn."""
        for queue in self.queues.values():
            queue.break_promises()

    def renumber(self, max_concurrency: int) -> None:
        """Move all queued requests to their new buckets; their order stays."""
        self.max_concurrency = max_concurrency
        waiting = [request for queue in self.queues.values() for request in queue]
        self.queues = {}
        for request in waiting:
            self.put(request)

    def _is_promised(self, request: QueuedRequest) -> bool:
        return self.queues[request.bucket].is_promised(request)

    def _place_of(self, message: RequestReceived, asked_at_ns: int) -> int:
        queue = self.queues.get(message.shard_id % self.max_concurrency)
        return asked_at_ns if queue is None else queue.place_of(message, asked_at_ns)


def _without_what_counts_once(message: RequestReceived) -> RequestReceived:
    """Drop the fields that count only when a message arrives: a kept message uses memory while its request waits."""
    return RequestReceived(  # `dataclasses.replace` takes three times as long
        request_id=message.request_id,
        shard_id=message.shard_id,
        bucket=message.bucket,
        reply_to=message.reply_to,
        renewal=message.renewal,
        priority=message.priority,
        managed=message.managed,
        client=message.client,
        is_copy=message.is_copy,
        source=message.source,
        asked_us=message.asked_us,
    )


def _queue_of(message: RequestReceived) -> tuple[int, int]:
    """The fields that decide which requests it is compared with."""
    return message.priority, message.shard_id


def _standing(message: RequestReceived) -> tuple[int, int, str, int]:
    """The fields that decide a request's position, beside its place."""
    return message.priority, message.shard_id, message.source, message.asked_us
