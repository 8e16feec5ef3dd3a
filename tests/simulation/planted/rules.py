"""Each of the ten rules in docs/simulation.md taken away, most in more than one way. It runs nothing."""

from tests.simulation.plan import Shape
from tests.simulation.planted.fault import Planted
from tests.simulation.planted.patching import Edit

REPLICA = "coordinator.core.replica:Replica"
VIEW = "coordinator.core.ledger_view:LedgerView"
POLICY = "coordinator.core.limits_policy:LimitsPolicy"
GRANTS = "nats_identify.schedule.grants"
SCHEDULER = "nats_identify.schedule.scheduler:Scheduler"
STATE = "nats_identify.schedule.state:ScheduleState"
HOLDS = "nats_identify.schedule.grants:HoldTable"
CONFIRMATIONS = "nats_identify.schedule.confirmations"
EVALUATE = "nats_identify.schedule.evaluate"
EXPIRY = "nats_identify.schedule.expiry"
BUDGET = "nats_identify.schedule.budget:SessionBudget"

GIVEN_UP = """self.schedule.step_down(pending.holds)
    self._write_state = Idle(next_at_ns=pending.next_at_ns)
    if not self.is_leader:
        self.role, self._read_state = Role.STANDBY, replace(self._read_state, is_retry=True)"""
"""In `Replica._unsettle`: a write without an outcome is forgotten; a leader leads on, a candidate reads later."""

RULES: tuple[Planted, ...] = (
    Planted(
        "a renewal of a granted request gets a new grant, with a commit of its own",
        (
            Edit(
                f"{SCHEDULER}._same_grant_again",
                "    return self._publish(hold, message.reply_to, now_ns)",
                "    self.state.end_hold(hold)\n    request.is_unresponsive = False\n    return []",
            ),
        ),
        rule=1,
    ),
    Planted(
        "a 503 counts however often the grant was published",
        (Edit(f"{CONFIRMATIONS}:undeliverable", "hold.publish_count != 1", "not hold.publish_count"),),
        rule=1,
    ),
    Planted(
        "a 503 counts for a leader that did not commit the grant",
        (
            Edit(
                f"{STATE}.rollback_uncommitted",
                "    for hold in self.holds:\n        hold.publish_count = 0\n"
                "        if hold.state is HoldState.UNANSWERED:\n"
                "            hold.state = HoldState.INHERITED\n",
                "",
            ),
            Edit(f"{GRANTS}:hold_of", "HoldState.INHERITED if", "HoldState.UNANSWERED if"),
        ),
        rule=1,
    ),
    Planted(
        "a successor holds by its own settings, not by the grant's",
        (
            Edit(
                f"{STATE}.restore_holds",
                "    early = []\n",
                "    early = []\n    for hold in theirs.values():\n"
                "        mine_ns = now_ns + self.timing.managed_hold_ns\n"
                "        hold.opens_at_ns = min(hold.opens_at_ns, mine_ns)\n",
            ),
        ),
        rule=2,
        shape=Shape.FOCUSED,
    ),
    Planted(
        "unknown grants are held by the replica's own settings alone",
        (
            Edit(
                f"{REPLICA}._remember",
                "self.view.note_hold(hold_ns)",
                "pass",
            ),
        ),
        rule=2,
        shape=Shape.LOSSES,
    ),
    Planted(
        "the ledger carries instants of its writer's clock",
        (
            Edit(f"{GRANTS}:records_of", "hold.opens_at_ns - now_ns", "hold.opens_at_ns"),
            Edit(f"{GRANTS}:_global_record", "hold.opens_at_ns - now_ns", "hold.opens_at_ns"),
            Edit(f"{GRANTS}:hold_of", "now_ns + record.hold_ns", "record.hold_ns"),
        ),
        rule=3,
    ),
    Planted(
        "a standby counts a hold from its previous look, not from when it sees the grant",
        (Edit(f"{STATE}.restore", "snapshot.grants, now_ns,", "snapshot.grants, now_ns - SECOND,"),),
        rule=3,
    ),
    Planted(
        "answers whose grant has not been seen are thrown away",
        (
            Edit(
                f"{CONFIRMATIONS}:_confirm_without_grant",
                "state.buffer_early_confirm(grant_id, outcome, at_ns)",
                "pass",
            ),
        ),
        rule=3,
    ),
    Planted(
        "an answer is taken for whatever grant is unanswered",
        (
            Edit(
                f"{CONFIRMATIONS}:confirm",
                "    hold = state.holds.get(grant_id)\n",
                "    hold = state.holds.get(grant_id)\n    if hold is None:\n"
                "        hold = next((h for h in state.holds if h.state in AWAITING), None)\n",
            ),
        ),
        rule=3,
    ),
    Planted(
        "newer means a higher revision",
        (Edit(f"{VIEW}.observe", "is_newer = age > self.newest_age", "is_newer = revision > self.revision"),),
        rule=4,
        shape=Shape.LOSSES,
    ),
    Planted(
        "a ledger that is missing or older is believed",
        (Edit(f"{REPLICA}._take_over", "is_known = self.view.is_trusted or is_first", "is_known = True"),),
        rule=4,
    ),
    Planted(
        "a replica that has just started believes the ledger that it meets",
        (
            Edit(
                f"{VIEW}.observe",
                "self.is_trusted = False\n    elif has_moved",
                "self.is_trusted = before is None\n    elif has_moved",
            ),
        ),
        rule=4,
        shape=Shape.LOSSES,
    ),
    Planted(
        "a ledger of another lineage is believed once it is newer",
        (Edit(f"{VIEW}.observe", "(is_newer and is_descended)", "is_newer"),),
        rule=4,
        shape=Shape.LOSSES,
    ),
    Planted(
        "the budget of a ledger that is not believed is",
        (Edit(f"{STATE}.assume_unknown_grants", "self.budget.mark_unknown(now_ns)", "pass"),),
        rule=4,
        shape=Shape.LOSSES,
    ),
    Planted(
        "after a blind takeover a figure counts at once",
        (Edit(f"{POLICY}.become_leader", "now_ns + wait_ns", "now_ns"),),
        rule=4,
        shape=Shape.LOSSES,
    ),
    Planted(
        "a later lead forgets for how long an earlier one believes no figure",
        (Edit(f"{POLICY}.become_leader", "max(self._believed_from_ns, now_ns + wait_ns)", "now_ns + wait_ns"),),
        rule=4,
        shape=Shape.LOSSES,
    ),
    Planted(
        "a standby reads no quiet ledger",
        (
            Edit(
                f"{REPLICA}._start_read",
                "next_at_ns=now_ns + self.settings.lease_ns // 3",
                "next_at_ns=now_ns + self.settings.lease_ns * (1000 if isinstance(self._write_state, Idle) else 1)",
            ),
        ),
        rule=5,
    ),
    Planted(
        "a lost contact with the ledger is not noticed",
        (
            Edit(
                f"{VIEW}.observe",
                "was_out_of_contact = before is None or now_ns - before > self.lease_ns",
                "was_out_of_contact = before is None",
            ),
        ),
        rule=5,
    ),
    Planted(
        "a standby takes over without a last look",
        (
            Edit(
                f"{REPLICA}._advance",
                "    read_at_ns = self._read_at_ns()\n",
                "    if self._may_contest and now_ns >= self.view.lease_expires_at_ns():\n"
                "        return self._take_over(now_ns, is_first=False)\n"
                "    read_at_ns = self._read_at_ns()\n",
            ),
        ),
        rule=5,
    ),
    Planted(
        "the answer to a read that a later entry overtook is taken for the ledger",
        (
            Edit(
                f"{REPLICA}._read",
                "    if self.view.is_overtaken(read.revision, reading.started_at_ns):\n",
                "    if False:\n",
            ),
        ),
        rule=5,
    ),
    Planted(
        "a leader whose traffic is dead leads on",
        (
            Edit(
                f"{REPLICA}._advance",
                "self._is_traffic_lost = traffic_at_ns is None or now_ns - traffic_at_ns > self.settings.lease_ns",
                "self._is_traffic_lost = traffic_at_ns is None",
            ),
        ),
        rule=6,
    ),
    Planted(
        "an unknown outcome is taken for success",
        (
            Edit(
                f"{REPLICA}._apply",
                "self._unsettle(now_ns, is_refused=is_refused)",
                "actions += self._written(self.view.revision + 1, now_ns)\n"
                "            self.schedule.on_commit_unknown(now_ns)",
            ),
        ),
        rule=7,
    ),
    Planted(
        "an unknown outcome is taken for failure, and something else is written",
        (
            Edit(
                f"{REPLICA}._unsettle",
                "self._write_state = pending.unsettled(is_refused=is_refused)",
                f"{GIVEN_UP}\n    return self.schedule.on_commit_unknown(now_ns)",
            ),
        ),
        rule=7,
    ),
    Planted(
        "a replica of our name in the ledger is taken for ourselves",
        (
            Edit(
                "coordinator.core.write_state:Pending.has_landed",
                "_identity(read.ledger) == _identity(self.write.ledger)",
                "(read.ledger and (read.ledger.leader, read.ledger.age)) =="
                " (self.write.ledger.leader, self.write.ledger.age)",
            ),
        ),
        rule=7,
    ),
    Planted(
        "a change of max_concurrency forgets the holds",
        (Edit(f"{HOLDS}.renumber", "    for hold in holds:\n        self.add(hold)\n", ""),),
        rule=8,
    ),
    Planted(
        "a grant made under another max_concurrency blocks the bucket of its number alone",
        (
            Edit(
                f"{HOLDS}._place",
                "    self._steps.add(step)\n    return self._elsewhere, (step, grant.shard_id % step)",
                "    self._steps.add(4096)\n    return self._elsewhere, (4096, grant.bucket)",
            ),
        ),
        rule=8,
    ),
    Planted(
        "a cancel frees a granted turn",
        (
            Edit(
                f"{SCHEDULER}._cancel",
                "    request = self.state.end_request(request_id)",
                "    granted = self.state.holds.for_request(request_id)\n"
                "    if granted is not None and granted.state.outcome is None:\n"
                "        self.state.budget.refund()\n        self.state.end_hold(granted)\n"
                "    request = self.state.end_request(request_id)",
            ),
        ),
        rule=9,
    ),
    Planted(
        "an expiry drops the hold",
        (
            Edit(
                f"{EXPIRY}:_look_at_request",
                "    if request.expires_at_ns > now_ns or request.grant_id is not None:",
                "    granted = state.holds.for_request(request_id)\n"
                "    if granted is not None and request.expires_at_ns <= now_ns:\n"
                "        state.end_hold(granted)\n"
                "    if request.expires_at_ns > now_ns or request.grant_id is not None:",
            ),
        ),
        rule=9,
    ),
    Planted(
        "a new leader drops the unanswered grants of the old one",
        (
            Edit(
                f"{STATE}.become_leader",
                "    self.mark_all_dirty()",
                "    for hold in [h for h in self.holds if h.state.outcome is None]:\n"
                "        self.end_hold(hold)\n    self.mark_all_dirty()",
            ),
        ),
        rule=9,
    ),
    Planted(
        "a figure is believed less nothing",
        (Edit(f"{STATE}.set_limits", "unconfirmed_count=uncounted", "unconfirmed_count=0"),),
        rule=10,
        shape=Shape.BUDGET,
    ),
    Planted(
        "a figure ignores what was granted since it was asked for",
        (Edit(f"{STATE}._charge", "self._uncounted += 1", "pass"),),
        rule=10,
        shape=Shape.BUDGET,
    ),
    Planted(
        "a figure counts what has just been confirmed as if Discord had counted it",
        (
            Edit(
                f"{STATE}._may_be_uncounted",
                "confirmed_ns is None or now_ns - confirmed_ns < self.timing.window_ns",
                "confirmed_ns is None",
            ),
        ),
        rule=10,
        shape=Shape.BUDGET,
    ),
    Planted(
        "a figure asked for in another term is believed",
        (
            Edit(f"{POLICY}.believes", "asked is None or asked[0] != term", "asked is None"),
            Edit(
                f"{POLICY}.become_leader",
                "    self._believed_from_ns = max(self._believed_from_ns, now_ns + wait_ns)\n"
                "    self.due_at_ns = None if self._is_static else self._believed_from_ns\n",
                "    self._believed_from_ns = now_ns + wait_ns if wait_ns else 0\n"
                "    self.due_at_ns = None if self._is_static else now_ns + wait_ns\n",
            ),
        ),
        rule=10,
        shape=Shape.BUDGET,
    ),
    Planted(
        "the day's end refills the budget without a figure",
        (Edit(f"{BUDGET}.end_day", "if self.from_settings and self.total is not None:", "if self.total is not None:"),),
        rule=10,
        shape=Shape.BUDGET,
    ),
    Planted(
        "a static day begins with its first turn, used or not",
        (Edit(f"{BUDGET}._begin_day", "settings else 0)", "settings else 0)\n    self.is_begun = True"),),
        rule=10,
        shape=Shape.DAYS,
    ),
    Planted(
        "a static day is no longer than Discord's",
        (Edit(f"{BUDGET}._begin_day", "(DAY // 1000 if self.from_settings else 0)", "0"),),
        rule=10,
        shape=Shape.DAYS,
    ),
)
"""What each rule forbids, done."""
