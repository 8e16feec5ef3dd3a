"""Checks what becomes of an operator's commands: recorded before `Done`, and kept through every change of leader."""

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from coordinator.core.ledger import Handover, Ledger, ReplicaEvent
from nats_identify.schedule.model import (
    DAY,
    MS,
    CommandReply,
    Kick,
    Pardon,
    Pause,
    Release,
    RequestReceived,
    Resume,
)
from nats_identify.schedule.pause import Paused
from tests.simulation.process import DRIFT_MAX_PPM
from tests.simulation.violation import Violation
from tests.view import has_ended, knows_request

if TYPE_CHECKING:
    from tests.simulation.coordinator import Coordinator

COMMANDS: Final = (Pause, Resume, Kick, Release, Pardon, Handover)


@dataclass(frozen=True, slots=True)
class InForce:
    """The pause of the newest entry: which, and until when in real time it must stand; None: until a resume."""

    number: str
    until_ns: int | None


class Commands:
    """The promises to an operator.

    ``paused``: no entry that has a pause grants a request that the pause covers.
    ``pause kept``: a pause leaves the ledger by a `Resume`, another pause or its end, and comes back by a `Pause`
    alone. ``done``: a command is recorded by an entry of its leader before `Done`, a pause in so many words.
    ``kicked``: a coordinator that was told ends the request and grants it no more.
    ``pardoned``: after `Done` the ledger has no grant of the shard from before the pardon.

    What was lost or put back with the ledger is not judged after that.
    """

    def __init__(self) -> None:
        self._is_blind = False
        self._priorities: dict[str, int] = {}  # by request: the highest that anybody was told
        self._seen: set[str] = set()  # grants of all entries
        self._granted: dict[int, set[str]] = {}  # by shard, of all entries that were sent
        self._made_at_ns: dict[tuple[str, int, int], int] = {}
        self._entries: Counter[str] = Counter()  # by instance: how many of its entries are stored
        self._told: dict[tuple[str, str], int] = {}  # by instance and reply subject: `_entries` when it was told
        self._recorded: set[str] = set()  # pauses that an entry has had
        self._in_force: InForce | None = None
        self._ended: set[str] = set()  # pauses that the newest entry had not any more
        self._may_end: dict[str, set[str]] = {}  # by instance: the pauses since whose first telling it was told an end
        self._may_begin: dict[str, set[str]] = {}  # by instance: the pauses that it was told as a leader
        self._first_told: set[str] = set()
        self._over_at_ns: dict[str, int] = {}  # by pause: in real time, since it was first told
        self._pauses: dict[str, set[str]] = {}  # by instance: the pauses and resumes that it was told
        self._replaced: dict[str, set[str]] = {}  # of these, those after whose first telling it was told another
        self._kicked: set[tuple[str, str]] = set()
        self._made_by: dict[str, str] = {}  # by grant: who wrote it first
        self._baselines: dict[tuple[str, str], int] = {}  # by instance and reply subject: grants of a pardoned shard
        self._shards: dict[str, int] = {}  # by reply subject of a pardon
        self._forgiven: dict[int, int] = {}  # by shard: so many of its grants are forgiven

    def told(self, coordinator: "Coordinator", event: ReplicaEvent) -> None:
        """A replica was told something, and has applied it."""
        if type(event) is RequestReceived:
            before = self._priorities.get(event.request_id, event.priority)
            self._priorities[event.request_id] = max(before, event.priority)
        elif isinstance(event, COMMANDS):
            self._commanded(coordinator, event)

    def _commanded(
        self, coordinator: "Coordinator", event: Pause | Resume | Kick | Release | Pardon | Handover
    ) -> None:
        name, reply_to, number = coordinator.name, event.operator.reply_to, event.operator.why
        self._told.setdefault((name, reply_to), self._entries[name])
        if isinstance(event, Pause | Resume):
            self._may_end.setdefault(name, set()).update(self._first_told)
            told = self._pauses.setdefault(name, set())
            self._replaced.setdefault(name, set()).update(told - {number})
            told.add(number)
        if isinstance(event, Pause):
            self._first_told.add(number)
            if event.for_ns is not None:
                over_ns = event.for_ns - event.for_ns * 2 * DRIFT_MAX_PPM // 1_000_000 - 2 * MS
                self._over_at_ns.setdefault(number, coordinator.engine.now_ns + over_ns)
            if coordinator.replica.is_leader:
                self._may_begin.setdefault(name, set()).add(number)
        elif isinstance(event, Kick) and self._has_applied(coordinator, event):
            self._kicked.add((name, event.request_id))
        elif isinstance(event, Pardon):
            self._shards[reply_to] = event.shard_id
            self._baselines.setdefault((name, reply_to), len(self._granted.get(event.shard_id, ())))

    @staticmethod
    def _has_applied(coordinator: "Coordinator", kick: Kick) -> bool:
        """Whether it ended the request: one that leads says so at once where it did not, within its lease alone."""
        schedule = coordinator.replica.schedule
        has_ended_it = coordinator.is_leading or has_ended(schedule, kick.request_id)
        return has_ended_it and not knows_request(schedule, kick.request_id)

    def is_kicked(self, name: str, request_id: str) -> bool:
        """Whether this coordinator ended the request since it was told to."""
        return (name, request_id) in self._kicked

    def says(self, coordinator: "Coordinator", reply: CommandReply) -> None:
        """A leader answers an operator."""
        name, number = coordinator.name, reply.to.rpartition(".")[2]
        if reply.code is not None:
            if reply.command == "kick":  # not by this leader, which did not know it
                self._kicked = {one for one in self._kicked if one[0] != name or one[1] not in reply.message}
            return
        told = self._told.get((name, reply.to))
        is_recorded = told is not None and self._entries[name] > told
        is_missing = reply.command == "pause" and number not in self._recorded
        # A later command may have replaced it before its entry was made, or its time was over by then.
        is_gone = number in self._replaced.get(name, ()) or coordinator.engine.now_ns >= self._over_at_ns.get(
            number, DAY
        )
        if not is_recorded or (is_missing and not is_gone):
            self._blame("done", coordinator, f"{reply.command} {number} is done before it is in the ledger")
        if reply.command == "pardon":
            shard_id = self._shards[reply.to]
            self._forgiven[shard_id] = max(self._forgiven.get(shard_id, 0), self._baselines[name, reply.to])

    def writes(self, coordinator: "Coordinator", ledger: Ledger) -> None:
        """A replica sends a write."""
        key = (ledger.instance, ledger.term, ledger.sequence)
        self._made_at_ns.setdefault(key, coordinator.engine.now_ns)
        for record in ledger.grants:
            grant = record.grant
            self._granted.setdefault(grant.shard_id, set()).add(grant.grant_id)
            is_new = self._made_by.setdefault(grant.grant_id, coordinator.name) == coordinator.name
            if is_new and grant.grant_id not in self._seen and self.is_kicked(coordinator.name, grant.request_id):
                self._blame("kicked", coordinator, f"{grant.request_id} is granted after it was kicked")

    def applied(self, ledger: Ledger, now_ns: int) -> None:
        """The stream has stored an entry."""
        self._entries[ledger.instance] += 1
        new = [record.grant for record in ledger.grants if record.grant.grant_id not in self._seen]
        self._seen.update(grant.grant_id for grant in new)
        if ledger.paused is not None:
            self._recorded.add(ledger.paused.why)
            for grant in new:
                priority = self._priorities.get(grant.request_id)
                if priority is not None and ledger.paused.covers(priority):
                    what = f"{ledger.instance} grants {grant.request_id}, of priority {priority}, in {ledger.paused}"
                    raise Violation("paused", now_ns, what)
        if not self._is_blind:
            self._judge_change(ledger, now_ns)
            self._judge_pardons(ledger, now_ns)

    def lost(self) -> None:
        """What was in the ledger is gone."""
        self._is_blind = True

    def _judge_change(self, ledger: Ledger, now_ns: int) -> None:
        before, number = self._in_force, None if ledger.paused is None else ledger.paused.why
        who = ledger.instance
        if before is not None and before.number != number:
            is_over = before.until_ns is not None and now_ns >= before.until_ns
            if not is_over and before.number not in self._may_end.get(who, ()):
                what = f"{who} ends pause {before.number}, and was not told to"
                raise Violation("pause kept", now_ns, what)
            self._ended.add(before.number)
        if number is not None and (before is None or before.number != number):
            if number in self._ended and number not in self._may_begin.get(who, ()):
                raise Violation("pause kept", now_ns, f"{who} brings pause {number} back, which had ended")
            self._ended.discard(number)
        until_ns = self._until_ns(ledger)
        was_ns = before.until_ns if before is not None and before.number == number else None
        if was_ns is not None and until_ns is not None and until_ns + 5 * MS < was_ns:
            raise Violation("pause kept", now_ns, f"{who} ends pause {number} {(was_ns - until_ns) // MS} ms early")
        self._in_force = None if ledger.paused is None else InForce(ledger.paused.why, until_ns)

    def _until_ns(self, ledger: Ledger) -> int | None:
        paused: Paused | None = ledger.paused
        if paused is None or paused.ends_ns is None:
            return None
        made_at_ns = self._made_at_ns[ledger.instance, ledger.term, ledger.sequence]
        return made_at_ns + paused.ends_ns - paused.ends_ns * 2 * DRIFT_MAX_PPM // 1_000_000 - 2 * MS

    def _judge_pardons(self, ledger: Ledger, now_ns: int) -> None:
        for history in ledger.crash_loops if self._forgiven else ():
            forgiven = self._forgiven.get(history.shard_id, 0)
            since = len(self._granted.get(history.shard_id, ())) - forgiven
            if forgiven and len(history.granted_ns) > since:
                what = f"{ledger.instance} holds {len(history.granted_ns)} grants against shard {history.shard_id}"
                raise Violation("pardoned", now_ns, f"{what}, which was pardoned and had {since} since")

    @staticmethod
    def _blame(checker: str, coordinator: "Coordinator", what: str) -> None:
        raise Violation(checker, coordinator.engine.now_ns, f"{coordinator.name}: {what}")
