"""The bounded event queue of the loop: events that wait until the replica applies them. It reads nothing itself."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Final, NamedTuple

from coordinator.core.ledger import ReplicaEvent
from nats_identify.schedule.model import RequestReceived

QUEUED_MAX: Final = 81_920
"""Events from outside that wait at most: five seconds' work for one core."""

QUEUED_BYTES_MAX: Final = 50_000_000
"""Of the requests that wait, by `bytes_of`: see the memory limit of the manifest. It is enough for `QUEUED_MAX`
ordinary ones, and for 32,768 of the largest that are taken.
"""

UNREAD_SHARE: Final = 2
"""The newer messages that are not parsed yet may take `QUEUED_BYTES_MAX` divided by this, in addition."""

EVENT_BYTES: Final = 480
"""What a request takes while it waits, beside its texts."""

UNREAD_BYTES: Final = 300
"""What a message that is not parsed takes, beside its texts."""

SENDER_MAX: Final = QUEUED_MAX // 4
"""How many requests of one sender wait at most, so that one sender cannot fill the queue for all others."""

RESERVED: Final = 8
"""An eighth of the room is kept for priority requests, and for senders that have no request here."""

MOVED: Final = 8
"""An entry that moves to another lane leaves an empty one behind. At most an eighth of the room is such entries."""

IN_ORDER_MAX: Final = 256
"""While no more events from outside wait, 10 ms of work, a confirm is taken after the requests that came before it."""


class Unread(NamedTuple):
    """A renewal as it arrived, not parsed: its number, as far as a glance shows it, and all that parsing it takes."""

    renewal: int
    subject: bytes
    reply_to: str
    body: bytes
    received_at_ns: int


class _Entry:
    """One event from outside, with the number of its arrival.

    Attributes:
        event: None where it was moved or taken.
        lane: where it waits; None: with the confirms, or the awaited.
        size: its bytes where it counts as a request, else 0.
        newer: a newer message of the same request.
    """

    __slots__ = ("arrival", "event", "lane", "newer", "size")

    def __init__(self, arrival: int, event: ReplicaEvent, lane: "_Senders | None", size: int) -> None:
        self.arrival = arrival
        self.event: ReplicaEvent | None = event
        self.lane = lane
        self.size = size
        self.newer: Unread | None = None


class _Senders:
    """Requests by sender: in order for each sender, round-robin among senders."""

    def __init__(self) -> None:
        self._senders: OrderedDict[int, deque[_Entry] | _Entry] = OrderedDict()  # by hash, for its size

    def __bool__(self) -> bool:
        return bool(self._senders)

    def count_of(self, sender: int) -> int:
        """How many of its entries wait."""
        waiting = self._senders.get(sender, ())
        return 1 if isinstance(waiting, _Entry) else len(waiting)

    def add(self, sender: int, entry: _Entry) -> None:
        """Put an entry behind the others of its sender."""
        waiting = self._senders.get(sender)
        if waiting is None:
            self._senders[sender] = entry  # a deque has 700 bytes
        elif isinstance(waiting, _Entry):
            self._senders[sender] = deque((waiting, entry))
        else:
            waiting.append(entry)

    def pop(self) -> _Entry:
        """Remove and return the next entry."""
        sender, waiting = self._senders.popitem(last=False)
        if isinstance(waiting, _Entry):
            return waiting
        entry = waiting.popleft()
        if waiting:
            self._senders[sender] = waiting  # behind the others
        return entry

    def oldest(self) -> int:
        """The lowest number of arrival: each sender's first has its lowest."""
        firsts = (waiting if isinstance(waiting, _Entry) else waiting[0] for waiting in self._senders.values())
        return min(first.arrival for first in firsts)


class _Line:
    """Entries in the order in which they came."""

    def __init__(self) -> None:
        self._entries: deque[_Entry] = deque()

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, entry: _Entry) -> None:
        """Put an entry behind all others."""
        self._entries.append(entry)

    def pop(self) -> _Entry:
        """Remove and return the first entry."""
        return self._entries.popleft()

    def oldest(self) -> int:
        """The number of arrival of the first."""
        return self._entries[0].arrival


class EventQueue:
    """Five lanes: our own events; confirms; renewals of those whose turn is near; priority requests; all others.

    Our own events come first. The other four take turns, so that none holds up another. When a shard declines a grant,
    its turn must go to the first in order among the requests that were sent before that confirm. So while few events
    wait, a confirm is taken after the requests that arrived before it. The requests of one sender stay in their order;
    among senders it is round-robin, so that a flood delays its own sender alone.

    Of one managed request one message waits at most. A newer one replaces it, at its place in the line and with its
    time of arrival: an unanswered requester repeats itself, and its copies cost no more than one.

    Args:
        queued_max: how many confirms, and how many requests, wait at most.
        sender_max: how many requests of one sender wait at most.
        bytes_max: how many bytes the requests that wait have at most.

    Attributes:
        request_bytes: of the requests that wait, by `bytes_of`. ``unread_bytes``: of their newer messages.
        moved: entries that were left behind in the lanes from which requests were moved.
        parse: returns the request in a message that was put in without being parsed, or None where there is none.
    """

    def __init__(
        self, queued_max: int = QUEUED_MAX, sender_max: int = SENDER_MAX, bytes_max: int = QUEUED_BYTES_MAX
    ) -> None:
        self._queued_max = queued_max
        self._sender_max = min(sender_max, queued_max - queued_max // RESERVED)
        self._bytes_max = bytes_max
        self._own: deque[tuple[ReplicaEvent, asyncio.Future[None] | None]] = deque()
        self._confirmed = _Line()
        self._awaited = _Line()
        self._priority = _Senders()
        self._ordinary = _Senders()
        self._lanes: tuple[_Line | _Senders, ...] = (self._confirmed, self._awaited, self._priority, self._ordinary)
        self._by_request: dict[str, _Entry] = {}  # the managed requests that wait
        self._arrivals = 0
        self._confirms = 0
        self._requests = 0
        self.moved = 0
        self.request_bytes = 0
        self.unread_bytes = 0
        self._turn = 0
        self.parse: Callable[[Unread], RequestReceived | None] = lambda _: None
        self._arrived = asyncio.Event()

    def __len__(self) -> int:
        return len(self._own) + self._confirms + self._requests

    def put(self, event: ReplicaEvent) -> None:
        """Put in an event of our own: a result, a probe, a signal."""
        self._own.append((event, None))
        self._arrived.set()

    async def put_and_wait(self, *events: ReplicaEvent) -> None:
        """Put in events of our own, and wait until the replica has applied them."""
        if not events:
            return
        handled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._own += [(event, None) for event in events[:-1]]
        self._own.append((events[-1], handled))
        self._arrived.set()
        await handled

    def try_put(self, event: ReplicaEvent) -> bool:
        """Put in an event from outside that is no request; False where there is no room for it."""
        if self._confirms >= self._queued_max:
            return False
        self._confirms += 1
        self._confirmed.add(_Entry(self._next_arrival(), event, None, 0))
        self._arrived.set()
        return True

    def has_room(self, sender: str, *, is_urgent: bool = False) -> bool:
        """Whether a request of this sender would be taken: one that would not is not worth parsing.

        ``is_urgent``: it has a priority, or withdraws a request.
        """
        if self._requests < self._sender_max and self._is_below(self._sender_max):
            return True  # nearly always
        waiting = (self._priority if is_urgent else self._ordinary).count_of(hash(sender))
        kept = 0 if is_urgent or not waiting else self._queued_max // RESERVED
        return waiting < self._sender_max and self._is_below(self._queued_max - kept)

    def _is_below(self, most: int) -> bool:
        return self._requests < most and self.request_bytes * self._queued_max < self._bytes_max * most

    def try_replace(self, request_id: str, unread: Unread) -> bool:
        """Let a newer message wait in the place of one of the same managed request; False where none waits.

        It is parsed when its turn comes, if no newer one has replaced it by then: a crowd that is not answered
        repeats itself, and what is replaced costs no more than a look at it.
        """
        entry = self._by_request.get(request_id)
        if entry is None:
            return False
        assert isinstance(entry.event, RequestReceived)  # noqa: S101  # entries by request hold nothing else
        if unread.renewal > (entry.newer or entry.event).renewal:
            older = 0 if entry.newer is None else _bytes_of_unread(entry.newer)
            unread_bytes = self.unread_bytes - older + _bytes_of_unread(unread)
            if unread_bytes <= self._bytes_max // UNREAD_SHARE:  # else this renewal is dropped, and its request stays
                entry.newer, self.unread_bytes = unread, unread_bytes
        return True

    def _drop_newer(self, entry: _Entry) -> Unread | None:
        newer, entry.newer = entry.newer, None
        if newer is not None:
            self.unread_bytes -= _bytes_of_unread(newer)
        return newer

    def try_put_request(self, event: ReplicaEvent, sender: str, *, is_awaited: bool = False) -> bool:
        """Put in a request or a cancel of this sender; False where there is no room for it.

        ``is_awaited``: its turn is near. If its renewal waited behind a crowd of others, it would be too late: another
        request would get the turn, and more and more requests would be nudged.
        """
        request = event if isinstance(event, RequestReceived) and event.managed else None
        if request is not None:
            older = self._by_request.get(request.request_id)
            if older is not None:
                self._replace(older, request, is_awaited=is_awaited)
                return True
        is_urgent = not isinstance(event, RequestReceived) or event.priority > 0
        most = self._queued_max + self._queued_max // RESERVED
        if not (self._is_below(most) if is_awaited else self.has_room(sender, is_urgent=is_urgent)):
            return False
        lane = None if is_awaited else self._priority if is_urgent else self._ordinary
        entry = _Entry(self._next_arrival(), event, lane, bytes_of(event))
        self._requests += 1
        self.request_bytes += entry.size
        if request is not None:
            self._by_request[request.request_id] = entry
        if lane is None:
            self._awaited.add(entry)
        else:
            lane.add(hash(sender), entry)  # of two senders with one hash, one in 2**64, each may delay the other
        self._arrived.set()
        return True

    def _replace(self, older: _Entry, newer: RequestReceived, *, is_awaited: bool) -> None:
        """Let the newer message wait in the older one's place, or in the lane of the awaited if its turn is near."""
        assert isinstance(older.event, RequestReceived)  # noqa: S101  # as above
        unread = self._drop_newer(older)
        waiting = older.event if unread is None else self._merged(older.event, unread)
        merged = waiting.merged_with(newer)
        is_calm = self._confirms + self._requests <= IN_ORDER_MAX
        if not is_awaited or older.lane is None or is_calm or self.moved >= self._queued_max // MOVED:
            size = bytes_of(merged)
            self.request_bytes += size - older.size
            older.event, older.size = merged, size
            return
        self._remove(older)
        self.moved += 1
        entry = _Entry(older.arrival, merged, None, bytes_of(merged))
        self._requests += 1
        self.request_bytes += entry.size
        self._by_request[newer.request_id] = entry
        self._awaited.add(entry)
        self._arrived.set()

    def _remove(self, entry: _Entry) -> ReplicaEvent:
        """Count an entry out: the event is taken, or waits in another lane from now on."""
        event, entry.event = entry.event, None
        assert event is not None  # noqa: S101  # it is removed once
        if not entry.size:
            self._confirms -= 1
            return event
        self._requests -= 1
        self.request_bytes -= entry.size
        if isinstance(event, RequestReceived) and self._by_request.get(event.request_id) is entry:
            del self._by_request[event.request_id]
        return event

    def take(self) -> tuple[ReplicaEvent, asyncio.Future[None] | None] | None:
        """Return the next event, and the future to set when it has been applied, if there is one."""
        if self._own:
            return self._own.popleft()
        while (entry := self._next_entry()) is not None:
            if entry.event is None:  # it was moved
                self.moved -= 1
                continue
            newer = self._drop_newer(entry)
            event = self._remove(entry)
            if newer is None or not isinstance(event, RequestReceived):
                return event, None
            return self._merged(event, newer), None
        return None

    def _merged(self, event: RequestReceived, unread: Unread) -> RequestReceived:
        newer = self.parse(unread)
        is_same = newer is not None and newer.managed and newer.request_id == event.request_id
        return event.merged_with(newer) if newer is not None and is_same else event

    def _next_entry(self) -> _Entry | None:
        """Remove one from the lane with the oldest while few wait, else from the lane whose turn it is."""
        lanes = [lane for lane in self._lanes if lane]
        if not lanes:
            return None
        if len(lanes) == 1:
            (lane,) = lanes
        elif self._confirms + self._requests + self.moved <= IN_ORDER_MAX:
            lane = min(lanes, key=lambda lane: lane.oldest())
        else:
            lane = lanes[self._turn % len(lanes)]
            self._turn += 1
        return lane.pop()

    def _next_arrival(self) -> int:
        self._arrivals += 1
        return self._arrivals

    async def wait(self, seconds: float) -> None:
        """Return when something has arrived, or after ``seconds``."""
        if len(self):
            return
        self._arrived.clear()
        timer = asyncio.get_running_loop().call_later(seconds, self._arrived.set)
        try:
            await self._arrived.wait()
        finally:
            timer.cancel()


def _bytes_of_unread(unread: Unread) -> int:
    return UNREAD_BYTES + len(unread.subject) + len(unread.reply_to) + len(unread.body)


def bytes_of(event: ReplicaEvent) -> int:
    """About how many bytes a request or a cancel takes while it waits."""
    if not isinstance(event, RequestReceived):
        return EVENT_BYTES
    return EVENT_BYTES + len(event.reply_to) + 4 * len(event.client) + len(event.source)
