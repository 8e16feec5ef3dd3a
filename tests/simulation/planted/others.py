"""Faults that no single rule names, at the ledger: commits, holds and charges. It runs nothing."""

from tests.simulation.key import ANY_REVISION
from tests.simulation.plan import Shape
from tests.simulation.planted.fault import Planted
from tests.simulation.planted.patching import Edit
from tests.simulation.planted.rules import BUDGET, CONFIRMATIONS, GIVEN_UP, REPLICA, SCHEDULER, STATE, VIEW

TIMING = "nats_identify.schedule.model:Timing"

COMMITS: tuple[Planted, ...] = (
    Planted(
        "a reply leaves before its commit",
        (
            Edit(
                f"{REPLICA}._write",
                "    return [*actions, write]",
                "    early = self.schedule.on_committed(holds, now_ns)\n"
                "    return [*actions, *self._if_leading(early, now_ns), write]",
            ),
        ),
    ),
    Planted(
        "no compare-and-set",
        (Edit(f"{REPLICA}._write", "revision=self.view.revision", f"revision={ANY_REVISION}"),),
    ),
    Planted(
        "two commits in flight",
        (
            Edit(
                f"{REPLICA}._advance",
                "    if isinstance(self._write_state, InFlight):\n",
                "    if isinstance(self._write_state, InFlight) and self.is_leader:\n"
                "        return self._lead(now_ns)\n"
                "    if isinstance(self._write_state, InFlight):\n",
            ),
        ),
    ),
    Planted(
        "a lease counts from when its renewal was acknowledged",
        (
            Edit(
                f"{REPLICA}._written", "pending.sent_at_ns + self.settings.lease_ns", "now_ns + self.settings.lease_ns"
            ),
        ),
    ),
    Planted(
        "replies leave after the lease",
        (Edit(f"{REPLICA}.is_leading", " and now_ns <= self.lease_until_ns", ""),),
    ),
    Planted(
        "standbys speak",
        (Edit(f"{REPLICA}.is_leading", "self.is_leader and now_ns <= self.lease_until_ns", "True"),),
    ),
    Planted(
        "a plain grant is sent however late its commit was",
        (Edit(f"{SCHEDULER}.on_committed", "if is_late and not hold.grant.managed:", "if False:"),),
        shape=Shape.PLAIN,
    ),
    Planted(
        "a leader that slept past its lease writes before it looks",
        (
            Edit(
                f"{REPLICA}._lead",
                "if now_ns > self.lease_until_ns:",
                "if False:",
            ),
        ),
    ),
    Planted(
        "a takeover keeps the term",
        (Edit(f"{REPLICA}._take_over", "self.view.newest_age[0] + 1", "max(1, self.view.newest_age[0])"),),
    ),
    Planted(
        "a standby takes over without waiting for the lease",
        (
            Edit(
                f"{VIEW}.lease_expires_at_ns",
                "self.last_change_ns + max(self.lease_ns, self.ledger.lease_ns)",
                "self.last_change_ns",
            ),
        ),
    ),
    Planted(
        "a refused write is repeated at once",
        (
            Edit(
                f"{REPLICA}._unsettle",
                "refused_pause_ns(pending.refusals, self.settings.lease_ns) if is_refused else 0",
                "0",
            ),
        ),
        shape=Shape.ORDINARY,
    ),
    Planted(
        "a refused write is given up, and something else is written in its place",
        (
            Edit(
                f"{REPLICA}._unsettle",
                "    self.schedule.on_commit_unknown(now_ns)\n",
                "    self.schedule.on_commit_unknown(now_ns)\n    if not is_refused:\n        return\n"
                f"    {GIVEN_UP}\n",
            ),
        ),
        shape=Shape.ORDINARY,
    ),
    Planted(
        "an unanswered read is never repeated",
        (
            Edit(
                f"{REPLICA}._apply",
                "self._read_state = ReadDue(now_ns + RETRY_NS, is_retry=True)",
                "pass",
            ),
        ),
    ),
)
"""How the ledger is used."""

HOLDING: tuple[Planted, ...] = (
    Planted("a hold without use_within", (Edit(f"{TIMING}.managed_hold_ns", "self.use_within_ns + ", ""),)),
    Planted(
        "a hold without the window",
        (Edit(f"{TIMING}.managed_hold_ns", "self.confirmed_hold_ns", "self.margin_ns"),),
    ),
    Planted("a hold without the margin", (Edit(f"{TIMING}.confirmed_hold_ns", " + self.margin_ns", ""),)),
    Planted(
        "a confirm counts from the grant",
        (Edit(f"{STATE}.identify", "(hold, at_ns + self", "(hold, hold.granted_at_ns + self"),),
    ),
    Planted(
        "a standby keeps the earlier hold of a grant that was committed again",
        (
            Edit(
                f"{STATE}._merge_hold",
                "        mine.opens_at_ns = theirs.opens_at_ns\n",
                "        mine.opens_at_ns = min(mine.opens_at_ns, theirs.opens_at_ns)\n",
            ),
        ),
        shape=Shape.PLAIN,
    ),
    Planted(
        "a decline of a used turn frees it",
        (Edit(f"{CONFIRMATIONS}:confirm", "if hold.state not in AWAITING:", "if False:"),),
    ),
    Planted(
        "a plain grant without its grace",
        (Edit(f"{TIMING}.plain_hold_ns", "self.grace_ns + ", ""),),
    ),
)
"""How long a bucket stays shut."""

CHARGING: tuple[Planted, ...] = (
    Planted("a grant is charged twice", (Edit(f"{BUDGET}.spend", "self.remaining -= 1", "self.remaining -= 2"),)),
    Planted("a grant is not charged", (Edit(f"{BUDGET}.spend", "self.remaining -= 1", "pass"),)),
    Planted(
        "a turn is given back twice",
        (
            Edit(f"{STATE}.decline", "self.refund(hold)", "self.refund(hold); self.refund(hold)"),
            Edit(f"{CONFIRMATIONS}:undeliverable", "state.refund(hold)", "state.refund(hold); state.refund(hold)"),
        ),
    ),
    Planted(
        "a turn is never given back",
        (
            Edit(f"{STATE}.decline", "    self.refund(hold)\n", ""),
            Edit(f"{CONFIRMATIONS}:undeliverable", "    state.refund(hold)\n", ""),
        ),
    ),
    Planted(
        "an unanswered turn is given back when its hold is over",
        (
            Edit(
                f"{STATE}.expire_hold",
                "    self.end_hold(hold)\n",
                "    self.end_hold(hold)\n    if hold.state.outcome is None:\n        self.budget.refund()\n",
            ),
        ),
    ),
    Planted(
        "an unknown budget is open",
        (
            Edit(f"{BUDGET}.closed_for", "return Reason.LIMITS_UNKNOWN", "return None"),
            Edit(
                f"{BUDGET}.charge",
                "if self.known is None or self.known <= 0:",
                "if self.known is None:\n        return\n    if self.known <= 0:",
            ),
        ),
    ),
    Planted(
        "max_concurrency 0 is believed",
        (
            Edit(
                "nats_identify.schedule.limits:learn", "if not 1 <= limits.max_concurrency <= BUCKETS_MAX:", "if False:"
            ),
        ),
    ),
)
"""What a turn costs."""
