"""Counts what each client sends, by the minute, in a fixed room. It decides nothing and reads no clock.

The counters of a minute are those of Misra and Gries ("Finding repeated elements", 1982): where a new name finds no
room, every counter is lowered by one, and those at zero are removed. A client that sends more than one message in
`CLIENTS_MAX` of a minute is always there, however many names there are. What is shown is never more than was sent. It
is exact while a minute has no more names than there is room for, and else less by one `CLIENTS_MAX`-th of its messages
at most.
"""

from collections import Counter, deque
from typing import Final, NamedTuple

from nats_identify.schedule.model import SECOND

CLIENTS_MAX: Final = 512
"""Clients of one minute that are counted at a time. With `MINUTES`, and names of 256 bytes, that is 2 MB at most."""

MINUTES: Final = 5
"""Minutes that are kept: the one that runs, and those before it."""

MINUTE_NS: Final = 60 * SECOND

SHOWN_MAX: Final = 10
"""Clients that a status names."""


class Busy(NamedTuple):
    """How much one client has sent: requests with a new id, and messages in all."""

    client: str
    new_requests: int
    messages: int


class _Minute:
    """The counters of one minute."""

    __slots__ = ("began_at_ns", "messages", "new_requests")

    def __init__(self, began_at_ns: int) -> None:
        self.began_at_ns = began_at_ns
        self.messages: dict[str, int] = {}
        self.new_requests: dict[str, int] = {}


class Busiest:
    """What each client has sent in the last `MINUTES`.

    Args:
        now_ns: a reading of the clock: the first minute begins then.
    """

    def __init__(self, now_ns: int) -> None:
        self._minutes: deque[_Minute] = deque([_Minute(now_ns)], maxlen=MINUTES)
        self._messages = self._minutes[-1].messages
        self._ends_at_ns = now_ns + MINUTE_NS

    @property
    def counters(self) -> int:
        """How many counters there are now."""
        return sum(len(minute.messages) + len(minute.new_requests) for minute in self._minutes)

    def message(self, client: str, now_ns: int) -> None:
        """Count one message of this client."""
        if now_ns >= self._ends_at_ns:
            self._begin(now_ns)
        counts = self._messages
        if client in counts:  # nearly always; a third of a call
            counts[client] += 1
        else:
            _admit(counts, client)

    def new_request(self, client: str, now_ns: int) -> None:
        """Count one of its messages, already counted, as a request with a new id."""
        if now_ns >= self._ends_at_ns:
            self._begin(now_ns)
        counts = self._minutes[-1].new_requests
        if client in counts:
            counts[client] += 1
        else:
            _admit(counts, client)

    def shown(self, now_ns: int) -> tuple[list[Busy], int]:
        """Return those that have sent most, the first first, and the time in nanoseconds in which they did."""
        if now_ns >= self._ends_at_ns:
            self._begin(now_ns)
        messages, new_requests = Counter[str](), Counter[str]()
        for minute in self._minutes:
            messages.update(minute.messages)
            new_requests.update(minute.new_requests)
        most = sorted(messages.items(), key=lambda item: (-item[1], item[0]))[:SHOWN_MAX]
        busy = [Busy(client, min(new_requests[client], count), count) for client, count in most]
        return busy, now_ns - self._minutes[0].began_at_ns

    def _begin(self, now_ns: int) -> None:
        """Begin the minute of this instant, and those before it in which nothing was sent, so that old ones go."""
        passed = (now_ns - self._ends_at_ns) // MINUTE_NS + 1
        self._ends_at_ns += passed * MINUTE_NS
        for age in reversed(range(min(MINUTES, passed))):
            self._minutes.append(_Minute(self._ends_at_ns - (age + 1) * MINUTE_NS))
        self._messages = self._minutes[-1].messages


def _admit(counts: dict[str, int], client: str) -> None:
    """Count a client that has no counter: it takes a free one, or lowers all by one.

    Each unit that is taken away was counted by a message before, so that a message costs two steps in the long run.
    """
    if len(counts) < CLIENTS_MAX:
        counts[client] = 1
        return
    lowered = {name: count - 1 for name, count in counts.items() if count > 1}
    counts.clear()
    counts.update(lowered)
