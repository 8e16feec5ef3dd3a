"""One request's record, and the order of a bucket's requests. Nothing is granted here.

The order of a queue: higher priority first, then by ``place_ns``, an estimate of when each was made. Two rules are
exact, whatever the estimates say:

1. *One source.* The requests of one process that have the same bucket and priority are queued in the order in
   which it made them. An estimate is never too early, only late by what a message took; so a request that was made
   before another one of its source is placed no later than that one.
2. *A promise.* The leader promises a request its turn when it replies, or nudges, that it is next and near. A request
   of the same priority that is received, or estimated anew, after that is placed behind it. A promise ends with the
   leader's term, when the leader was cut off, and when the request leaves the queue. Rule 1 goes first: a promise does
   not delay an earlier request of the same process.

After a restart of all coordinators the places are computed anew from the fields of the requests. No earlier promise
counts, and while every bucket is held for the full time none is made before its last ``nudge_lead_ns``: by then every
request near the head has renewed, and the order in which they were made decides.
"""

import bisect
from collections.abc import Iterator
from dataclasses import dataclass
from operator import itemgetter

from nats_identify.schedule.model import SECOND, RequestReceived, Timing

EXPIRY_MIN_NS = 12 * SECOND
"""The least time without a renewal after which a managed request expires: time for a client to reconnect."""

NEAR_NS = 2 * SECOND
"""A request whose last reply asks for a renewal within this time has its turn within twice as long."""

RENEW_MAX_NS = 60 * SECOND
"""The slowest pace of renewals: a queue of n costs at most n/60 of them a second."""


@dataclass(slots=True, eq=False)
class QueuedRequest:
    """One request, from its first message to its end.

    Attributes:
        message: its newest renewal.
        asked_at_ns: when it was made, by this clock; what it had waited elsewhere is counted in.
        place_ns: the instant that decides its place in the queue: ``asked_at_ns``, corrected as this module says.
        order: the tie-break between two with the same place; it counts admissions.
        renewed_at_ns: when the newest renewal's number was first received; grants echo that number.
        is_restored: it had waited already when it was first received here.
        expires_at_ns: when it expires unless it is renewed.
        timeout_at_ns: when it expires in any case, None for never.
        bucket: today's bucket.
        renew_in_ns: the pace of its last reply.
        is_unresponsive: declined, undeliverable or not reached by a nudge: not granted again before it renews.
        nudged_at_ns: when it was last nudged.
        retry_at_ns: a plain request that could not be delivered is not tried again before this.
        undeliverable_count: how often a plain request could not be delivered.
        deferred_until_ns: until then it is behind all others, since its shard crash-loops; 0: it is not deferred.
        grant_id: its live grant; while it has one it is in no queue.
    """

    message: RequestReceived
    asked_at_ns: int
    order: int
    renewed_at_ns: int
    place_ns: int = 0
    is_restored: bool = False
    expires_at_ns: int = 0
    timeout_at_ns: int | None = None
    bucket: int = 0
    renew_in_ns: int = 0
    is_unresponsive: bool = False
    nudged_at_ns: int = 0
    retry_at_ns: int = 0
    undeliverable_count: int = 0
    deferred_until_ns: int = 0
    grant_id: str | None = None

    def is_fresh(self, now_ns: int, timing: Timing) -> bool:
        """Whether a grant made now would leave its shard time enough to use it."""
        if not self.message.managed:
            return self.retry_at_ns <= now_ns
        return not self.is_unresponsive and now_ns - self.renewed_at_ns <= timing.fresh_ns

    def is_awaited_after(self, renewal: int) -> bool:
        """Whether a renewal of this number is needed now: the request was nudged, or its turn is near."""
        is_near = 0 < self.renew_in_ns <= NEAR_NS and self.grant_id is None
        return (is_near or self.nudged_at_ns > self.renewed_at_ns) and renewal > self.message.renewal

    def renew(self, message: RequestReceived, received_at_ns: int) -> None:
        """Apply a newer message of the same request. A number sent twice counts from its first sending."""
        if message.renewal > self.message.renewal or not message.managed:
            self.renewed_at_ns = received_at_ns
            self.is_unresponsive = False
        self.message = message

    def set_pace(self, renew_in_ns: int, now_ns: int) -> None:
        """Expect the next renewal in ``renew_in_ns``; three missed ones end a managed request."""
        self.renew_in_ns = renew_in_ns
        missed_at_ns = now_ns + max(3 * renew_in_ns, EXPIRY_MIN_NS)
        if self.timeout_at_ns is None:
            self.expires_at_ns = missed_at_ns
        else:
            self.expires_at_ns = min(missed_at_ns, self.timeout_at_ns) if self.message.managed else self.timeout_at_ns


class BucketQueue:
    """One bucket's requests: higher priority first, first come first served within one; deferred ones come last."""

    def __init__(self) -> None:
        self._places: list[tuple[int, int, int, int, int, QueuedRequest]] = []
        # By priority and source, as made: one request, or a list of them, since most have no sibling.
        self._siblings: dict[int, dict[str, QueuedRequest | list[QueuedRequest]]] = {}
        self._promised: dict[str, QueuedRequest] = {}  # by request_id: those that were promised their turn
        self._promised_until_ns = 0  # none of these has a later place
        self.nudge_width = 1  # the most unanswered requests that are nudged
        self.widen_at_ns: int | None = None  # when twice as many are

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[QueuedRequest]:
        return map(_request_of, self._places)  # lazy also where it is compiled: mypyc makes a list of a generator

    def part(self, start: int, stop: int) -> list[QueuedRequest]:
        """Return the requests of these indices, in order."""
        return [place[-1] for place in self._places[start:stop]]

    def as_it_stands(self) -> Iterator[QueuedRequest]:
        """Return the requests in order as they are queued now, whatever changes before they are read."""
        return (place[-1] for place in self._places[:])

    @property
    def last(self) -> QueuedRequest:
        """The last request in order."""
        return self._places[-1][-1]

    @property
    def deferred_count(self) -> int:
        """How many are behind all others since their shards crash-loop."""
        return len(self._places) - bisect.bisect_left(self._places, (1,))

    def add(self, request: QueuedRequest) -> None:
        """Add it in order of priority, place and the order of its source; earlier ones of its source may move up."""
        if request.message.source and not request.deferred_until_ns:
            families = self._siblings.setdefault(request.message.priority, {})
            siblings = _listed(families.get(request.message.source))
            index = bisect.bisect(siblings, request.message.asked_us, key=_asked_us)
            if index < len(siblings):
                request.place_ns = min(request.place_ns, siblings[index].place_ns)
            before = index
            while before and (earlier := siblings[before - 1]).place_ns > request.place_ns:
                before -= 1
                del self._places[self.position(earlier) - 1]
                earlier.place_ns = request.place_ns
                bisect.insort(self._places, self._place(earlier))
            siblings.insert(index, request)
            families[request.message.source] = siblings if len(siblings) > 1 else request
        bisect.insort(self._places, self._place(request))

    def remove(self, request: QueuedRequest) -> None:
        """Take it out; its priority and its source must be those it was added with."""
        del self._places[self.position(request) - 1]
        if request.message.source and not request.deferred_until_ns:
            families = self._siblings[request.message.priority]
            siblings = _listed(families[request.message.source])
            del siblings[siblings.index(request, bisect.bisect_left(siblings, request.message.asked_us, key=_asked_us))]
            if not siblings:
                del families[request.message.source]
            if not families:
                del self._siblings[request.message.priority]
        self._promised.pop(request.message.request_id, None)

    def promise(self, request: QueuedRequest) -> None:
        """Promise it its turn: later requests are placed behind it."""
        self._promised[request.message.request_id] = request
        self._promised_until_ns = max(self._promised_until_ns, request.place_ns)  # a place only becomes earlier

    def is_promised(self, request: QueuedRequest) -> bool:
        """Whether it was promised its turn."""
        return request.message.request_id in self._promised

    def break_promises(self) -> None:
        """End all promises: they may not have been received, or were another leader's."""
        self._promised.clear()

    def place_of(self, message: RequestReceived, asked_at_ns: int) -> int:
        """The place of a request that is estimated now to have been made then: behind those with a promise.

        One that has a promise itself stays behind those with a promise that are before it now.
        """
        if asked_at_ns > self._promised_until_ns:
            return asked_at_ns
        promised = self._promised.get(message.request_id)
        equals = (one for one in self._promised.values() if one.message.priority == message.priority)
        others = (one for one in equals if not message.source or one.message.source != message.source)
        if promised is not None:
            others = (one for one in others if one.place_ns < promised.place_ns)
        return max(asked_at_ns, max((one.place_ns + 1 for one in others), default=asked_at_ns))

    def position(self, request: QueuedRequest) -> int:
        """1 means next."""
        return bisect.bisect_left(self._places, self._place(request)) + 1

    @staticmethod
    def _place(request: QueuedRequest) -> tuple[int, int, int, int, int, QueuedRequest]:
        message = request.message
        return (
            request.deferred_until_ns,
            -message.priority,
            request.place_ns,
            message.asked_us,
            request.order,
            request,
        )


_request_of = itemgetter(-1)  # in a place


def _listed(siblings: QueuedRequest | list[QueuedRequest] | None) -> list[QueuedRequest]:
    if siblings is None:
        return []
    return siblings if isinstance(siblings, list) else [siblings]


def _asked_us(request: QueuedRequest) -> int:
    return request.message.asked_us
