"""A cluster, its shards and a transcript: what a history's commands act on. It asserts nothing itself.

Time is exact: messages take none, but for the `ROUND_TRIP_NS` of a shard's reply, and each deadline is met on time.
"""

from dataclasses import dataclass, field

from coordinator.core.ledger import Ledger, TrafficReceived
from coordinator.core.replica import Role
from nats_identify.schedule import model
from nats_identify.schedule.model import MS, SECOND, Event, FetchLimits, Outcome, Reply
from tests.unit.cluster import Cluster

ROUND_TRIP_NS = 10 * MS
"""How long a shard takes to renew after a nudge, and NATS to report that a message had no receiver."""

PROBE_NS = 500 * MS
"""How often the connection of each replica carries a message of its own."""

UNANSWERED_NS = 2 * SECOND
"""A request that gets no reply is renewed after this time."""


@dataclass(slots=True)
class Shard:
    """One shard's newest request.

    Attributes:
        is_there: whether its inbox has a subscriber; otherwise NATS answers 503 to what is sent to it.
        is_renewing: whether it renews in time.
        identify_after_ns: it sends IDENTIFY by itself this long after its grant; None: at a `confirm` command.
    """

    shard_id: int
    fields: dict[str, object] = field(default_factory=dict)
    request_id: str = ""
    renewal: int = 0
    is_there: bool = True
    is_renewing: bool = True
    identify_after_ns: int | None = None
    renew_at_ns: int | None = None
    identify_at_ns: int | None = None
    grant_id: str = ""


class Stage(Cluster):
    """The cluster of a history, and the lines that say what it did."""

    def __init__(self, *names, **options):
        self.lines: list[str] = []
        self.heartbeats = 0
        self.shards: dict[int, Shard] = {}
        self.is_down = False  # NATS: no message is carried, the ledger cannot be reached
        self.began_ns = 0
        self._aliases: dict[str, str] = {}
        self._content: tuple[object, ...] = ("", "", "", ())  # of the entry before
        self._no_receiver: list[tuple[int, str, object]] = []  # when, whose message, the event that says so
        super().__init__(**options)
        self.began_ns = self.now_ns
        for name in names:
            self.start(name)

    # --- the transcript

    def note(self, text):
        self.lines.append(f"{seconds(self.now_ns - self.began_ns):>7}  {text}")

    def take_lines(self):
        """Return what happened since the last call."""
        lines, self.lines = self.lines, []
        if self.heartbeats:
            lines.append(f"         (writes that only renew the lease: {self.heartbeats})")
        self.heartbeats = 0
        return lines

    def alias(self, grant_id):
        """Grant ids are random in production; a history counts them."""
        return self._aliases.setdefault(grant_id, f"g{len(self._aliases) + 1}")

    # --- time

    def pass_ns(self, duration_ns):
        """Move time forward from one deadline to the next."""
        end_ns = self.now_ns + duration_ns
        while self.now_ns < end_ns:
            deadlines = [replica.next_deadline_ns() for replica in self.replicas.values()]
            deadlines += [
                at_ns for shard in self.shards.values() for at_ns in (shard.renew_at_ns, shard.identify_at_ns)
            ]
            deadlines += [at_ns for at_ns, _, _ in self._no_receiver]
            at_ns = min([at_ns for at_ns in deadlines if at_ns is not None], default=end_ns)
            self.now_ns = min(end_ns, self.now_ns + PROBE_NS, max(self.now_ns + MS, at_ns))
            for name in list(self.replicas):
                self.tell(name, model.Wake() if self.is_down else TrafficReceived())
            self._run_shards()

    def _run_shards(self):
        due = [one for one in self._no_receiver if one[0] <= self.now_ns]
        self._no_receiver = [one for one in self._no_receiver if one[0] > self.now_ns]
        for _, name, event in due:
            self.tell(name, event)
        for shard in self.shards.values():
            if shard.identify_at_ns is not None and shard.identify_at_ns <= self.now_ns:
                self.confirm(shard, Outcome.IDENTIFIED)
            if shard.renew_at_ns is not None and shard.renew_at_ns <= self.now_ns:
                self.renew(shard)

    # --- shards

    def request(self, shard):
        """Send its request, or the renewal of it, as `Shard` says."""
        shard.renew_at_ns = self.now_ns + UNANSWERED_NS if shard.is_renewing else None
        if self.is_down:
            self.note(f"shard {shard.shard_id} sends renewal {shard.renewal}: not delivered")
            return
        self.ask(shard.shard_id, request_id=shard.request_id, renewal=shard.renewal, **shard.fields)

    def renew(self, shard):
        shard.renew_at_ns = None
        if shard.is_there and shard.is_renewing:
            shard.renewal += 1
            if not self.is_down:
                self.note(f"shard {shard.shard_id} sends renewal {shard.renewal}")
            self.request(shard)

    def confirm(self, shard, outcome):
        shard.identify_at_ns = None
        self.note(f"shard {shard.shard_id} confirms {self.alias(shard.grant_id)}: {outcome}")
        if not self.is_down:
            self.answer(shard.grant_id, outcome)
        is_declined = outcome is Outcome.DECLINED
        shard.renew_at_ns = self.now_ns + ROUND_TRIP_NS if is_declined and shard.is_renewing else None

    def _receive(self, name, body):
        shard = next((one for one in self.shards.values() if one.request_id == body.request_id), None)
        if shard is None or not shard.is_there:
            if isinstance(body, model.Granted):
                self._no_receiver.append((self.now_ns + ROUND_TRIP_NS, name, model.Undeliverable(body.grant_id)))
            elif isinstance(body, model.Queued) and body.nudge:
                self._no_receiver.append((self.now_ns + ROUND_TRIP_NS, name, model.NudgeUndeliverable(body.request_id)))
        elif isinstance(body, model.Granted):
            shard.grant_id, shard.renew_at_ns = body.grant_id, None
            if shard.identify_after_ns is not None:
                shard.identify_at_ns = self.now_ns + shard.identify_after_ns
        elif isinstance(body, model.Queued):
            shard.renew_at_ns = self.now_ns + max(body.renew_in_ns, ROUND_TRIP_NS) if shard.is_renewing else None
        else:
            shard.renew_at_ns = None

    # --- what the replicas do

    def _perform(self, name, actions):
        for action in actions:
            match action:
                case Reply(_, body):
                    self.note(f"{name} to shard {self._shard_of(body)}: {self._reply_text(body)}")
                    self._receive(name, body)
                case Event(what, fields):
                    shown = fields if what == "granted" else {**fields, "waited_ms": None}  # a history says it once
                    self.note(f"{name} event {what}{self._fields_text(shown)}")
                case FetchLimits(why):
                    self.note(f"{name} asks for Discord's limits: {why}")
            super()._perform(name, [action])

    def _write(self, name, write):
        if self.is_away or write.revision != self.revision:
            self.note(f"{name} writes to the ledger: no answer")
        else:
            self._note_write(name, write.ledger)
        super()._write(name, write)

    def _note_write(self, name, ledger: Ledger):
        """One line, without what stands as it stood in the entry before; none for an entry that changes nothing."""
        leads = f"{f'leader {ledger.leader}' if ledger.leader else 'no leader'}, term {ledger.term}"
        buckets = f"max_concurrency {_number(ledger.max_concurrency)}"
        left = f"{_number(ledger.remaining)} of {_number(ledger.total)} left"
        grants = tuple((record.grant.grant_id, record.outcome) for record in ledger.grants)
        content, before = (leads, buckets, left, grants), self._content
        if content == before:
            self.heartbeats += 1
            return
        self._content = content
        parts = [text for text, stood in zip((leads, buckets), before, strict=False) if text != stood]
        parts += [left, *(self._record_text(record) for record in ledger.grants)]
        parts += [] if grants else ["no bucket is held"]
        self.note(f"{name} writes to the ledger: {'; '.join(parts)}")

    def _record_text(self, record):
        until = seconds(self.now_ns + record.hold_ns - self.began_ns)
        if not record.grant.request_id:
            return f"every bucket held until {until}"
        outcome, grant = f" {record.outcome}" if record.outcome else "", record.grant
        return f"{self.alias(grant.grant_id)} shard {grant.shard_id}{outcome}, bucket {grant.bucket} until {until}"

    def _reply_text(self, body):
        match body:
            case model.Granted():
                alias, left, use = self.alias(body.grant_id), _number(body.remaining), seconds(body.use_within_ns)
                return f"granted {alias} for renewal {body.renewal}, use within {use} s, {left} left"
            case model.Queued(nudge=True):
                return "nudge, renew now"
            case model.Queued():
                turn = "turn unknown" if body.eta_ns is None else f"turn in {seconds(body.eta_ns)} s"
                renew = seconds(body.renew_in_ns)
                return f"queued at {body.position}, {turn}, renew in {renew} s, waits for {body.reason}"
            case model.Refused():
                again = "" if body.retry_after_ns is None else f", again in {seconds(body.retry_after_ns)} s"
                return f"refused {body.code}: {body.message}{again}"

    def _shard_of(self, body):
        if not isinstance(body, model.Refused):
            return body.shard_id
        return next((one.shard_id for one in self.shards.values() if one.request_id == body.request_id), "?")

    def _fields_text(self, fields):
        """The fields but for those that a history names otherwise; milliseconds as seconds."""
        shown = []
        for key, value in fields.items():
            if value is None or key in {"request_id", "instance", "bucket"}:
                continue
            if key == "grant_id":
                shown.append(self.alias(value))
            elif key.endswith("_ms"):
                shown.append(f"{key.removesuffix('_ms')} {seconds(value * MS)} s")
            else:
                shown.append(f"{key.removesuffix('_id')} {value}")
        return f": {', '.join(shown)}" if shown else ""

    @property
    def leading(self):
        """The leader's name, or None."""
        return next(iter(self.roles(Role.LEADER)), None)


def seconds(duration_ns):
    """Seconds, to the millisecond, without needless zeros."""
    text = f"{round(duration_ns / MS) / 1000:.3f}".rstrip("0")
    return text + "0" if text.endswith(".") else text


def _number(count):
    return "unknown" if count is None else count
