"""All askings of one bot, in their lines and out of them. It knows nothing of grants, budgets or windows."""

from collections import OrderedDict
from dataclasses import dataclass, replace

from nats_identify.schedule.alarms import Alarms, Look
from nats_identify.schedule.line import Asking, Line
from nats_identify.schedule.model import SECOND, Ask
from nats_identify.schedule.senders import SenderCounts, digest_of

PLAIN_TIMEOUT_NS = 60 * SECOND
"""How long a plain requester is believed to listen where it does not say."""

REMEMBERED_MOST = 20_000
"""So many ended askings are remembered, so that a late renewal does not bring one back: about 2 MB."""


@dataclass(slots=True)
class _Ended:
    """A spent id: whether a renewal of it was refused since, and a digest of its reply subject, if that is known."""

    is_refused: bool = False
    reply_digest: int | None = None


SENDERS_FOR_ALL = 4
"""One sender may have this part of the queue, a quarter: one pod that repeats itself cannot fill it."""


class WaitingRoom:
    """Askings by request id and by bucket, bounded; the ended ones are remembered for a while.

    Args:
        max_concurrency: how many buckets there are.
        max_waiting: how many askings are taken at most.
        alarms: rid of the alarm of an asking that is dropped.

    Attributes:
        max_of_sender: how many new ones are taken at most from one sender, see `SenderCounts`. A renewal may come from
            a new inbox and is never refused, so a sender can have more.
    """

    def __init__(self, max_concurrency: int, max_waiting: int, alarms: Alarms) -> None:
        self.max_concurrency = max_concurrency
        self.max_waiting = max_waiting
        self.max_of_sender = max(1, max_waiting // SENDERS_FOR_ALL)
        self.askings: dict[str, Asking] = {}
        self.lines: dict[int, Line] = {}
        self._ended: OrderedDict[str, _Ended] = OrderedDict()
        self._senders = SenderCounts()
        self._alarms = alarms
        self._order = 0

    @property
    def is_full(self) -> bool:
        """Whether one more would be too many."""
        return len(self.askings) >= self.max_waiting

    def is_full_for(self, reply_to: str) -> bool:
        """Whether the sender of this reply subject has its share of the queue."""
        return self._senders.of(reply_to) >= self.max_of_sender

    def has_ended(self, request_id: str) -> bool:
        """Whether this asking was identified or withdrawn: its id is spent."""
        return request_id in self._ended

    def refuse_ended(self, request_id: str) -> bool:
        """Note that the requester of a spent id is told so; return whether it is for the first time."""
        ended = self._ended[request_id]
        is_first, ended.is_refused = not ended.is_refused, True
        return is_first

    def may_be_copy_of_ended(self, ask: Ask) -> bool:
        """Whether a plain message with a spent id may be the one that spent it, late or twice on its way.

        A requester that uses an id again has another reply subject. Where the first one is not known it may be a copy.
        """
        reply_digest = self._ended[ask.request_id].reply_digest
        return reply_digest is None or reply_digest == digest_of(ask.reply_to)

    def get(self, request_id: str) -> Asking | None:
        """Return the asking of this name."""
        return self.askings.get(request_id)

    def admit(self, ask: Ask, now_ns: int) -> Asking:
        """Begin an asking, and put it in line; what it says it has waited already counts.

        So does it for its ``timeout_ns``; a copy tells what was left of that, and its place.
        """
        self._order += 1
        kept = _without_what_counts_once(ask)
        asking = Asking(kept, asked_at_ns=now_ns - ask.waited_ns, order=self._order, heard_at_ns=now_ns)
        asking.place_ns = self._place_of(ask, asking.asked_at_ns)
        if ask.is_copy:  # it keeps the place that it has elsewhere
            asking.place_ns = asking.asked_at_ns if ask.place_at_ns is None else ask.place_at_ns
        asking.is_restored = ask.waited_ns > 0
        timeout_ns = ask.timeout_ns or (None if ask.managed else PLAIN_TIMEOUT_NS)
        began_ns = now_ns if ask.is_copy else asking.asked_at_ns
        asking.timeout_at_ns = None if timeout_ns is None else began_ns + timeout_ns
        self.askings[ask.request_id] = asking
        self._senders.add(ask.reply_to)
        self.put(asking)
        return asking

    def renew(self, asking: Asking, ask: Ask, now_ns: int) -> None:
        """Take in a newer message; the place stays, unless the priority changed.

        The place of one that had waited elsewhere is an estimate, late by the time that its message took:
        the quickest of its messages tells best. One that stands behind a promise takes its own place when that is over.
        """
        asked_at_ns = min(asking.asked_at_ns, now_ns - ask.waited_ns) if asking.is_restored else asking.asked_at_ns
        place_ns = min(asking.place_ns, self._place_of(ask, asked_at_ns))
        moves = (*_standing(ask), place_ns) != (*_standing(asking.ask), asking.place_ns) and asking.grant_id is None
        if moves:
            self.take(asking)
        asking.asked_at_ns, asking.place_ns = asked_at_ns, place_ns
        if ask.reply_to != asking.ask.reply_to:
            self._senders.remove(asking.ask.reply_to)
            self._senders.add(ask.reply_to)
        asking.renew(_without_what_counts_once(ask), now_ns)
        if moves:
            self.put(asking)

    def put(self, asking: Asking) -> None:
        """Put it in the line of today's bucket, at its place."""
        asking.bucket = asking.ask.shard_id % self.max_concurrency
        self.lines.setdefault(asking.bucket, Line()).add(asking)

    def take(self, asking: Asking) -> None:
        """Take it out of its line."""
        line = self.lines[asking.bucket]
        line.remove(asking)
        if not line:
            del self.lines[asking.bucket]

    def forget(self, asking: Asking) -> None:
        """Drop it, in line or granted; it may come back."""
        if asking.grant_id is None:
            self.take(asking)
        self._senders.remove(asking.ask.reply_to)
        self._alarms.drop(Look.ASKING, asking.ask.request_id)
        del self.askings[asking.ask.request_id]

    def end(self, request_id: str, reply_to: str = "") -> Asking | None:
        """Drop it for good, and remember that, whether it was known or not; ``reply_to``: of one that never waited."""
        asking = self.askings.get(request_id)
        if asking is not None:
            self.forget(asking)
            reply_to = asking.ask.reply_to
        ended = self._ended.setdefault(request_id, _Ended())
        if reply_to and ended.reply_digest is None:
            ended.reply_digest = digest_of(reply_to)
        if len(self._ended) > REMEMBERED_MOST:
            self._ended.popitem(last=False)
        return asking

    def break_promises(self) -> None:
        """Those who were told that they are next may be overtaken from now on."""
        for line in self.lines.values():
            line.break_promises()

    def renumber(self, max_concurrency: int) -> None:
        """Move all who wait to their new buckets; their order stays."""
        self.max_concurrency = max_concurrency
        waiting = [asking for line in self.lines.values() for asking in line]
        self.lines = {}
        for asking in waiting:
            self.put(asking)

    def _place_of(self, ask: Ask, asked_at_ns: int) -> int:
        line = self.lines.get(ask.shard_id % self.max_concurrency)
        return asked_at_ns if line is None else line.place_of(ask, asked_at_ns)


def _without_what_counts_once(ask: Ask) -> Ask:
    """Drop what counts at the arrival of a message alone: what a request keeps is there for as long as it waits."""
    if not ask.waited_ns and ask.timeout_ns is None and ask.max_concurrency is None and ask.place_at_ns is None:
        return ask
    return replace(ask, waited_ns=0, timeout_ns=None, max_concurrency=None, heard_at_ns=None, place_at_ns=None)


def _standing(ask: Ask) -> tuple[int, int, str, int]:
    """What of a request decides where it stands, beside its place."""
    return ask.priority, ask.shard_id, ask.source, ask.asked_us
