"""Faults that no single rule names: commits, holds, charges, the queue, and the requester's side. It runs nothing."""

from tests.simulation.key import ANY_REVISION
from tests.simulation.planted.fault import Planted
from tests.simulation.planted.patching import Edit
from tests.simulation.planted.rules import ANSWERS, BOOK, BUDGET, RELEASE, REPLICA, SIGHTING

ATTEMPT = "nats_identify.attempt:Attempt"
TIMING = "nats_identify.schedule.model:Timing"
ASKING = "nats_identify.schedule.line:Asking"
LINE = "nats_identify.schedule.line:Line"
ROOM = "nats_identify.schedule.waiting:WaitingRoom"

COMMITS: tuple[Planted, ...] = (
    Planted(
        "a reply leaves before its commit",
        (
            Edit(
                f"{REPLICA}._write",
                "    return [write]",
                "    early = self.schedule.committed(grants, now_ns)\n    return [*self._speak(early, now_ns), write]",
            ),
        ),
    ),
    Planted(
        "no compare-and-set",
        (Edit(f"{REPLICA}._write", "Write(entry, self.seen.revision)", f"Write(entry, {ANY_REVISION})"),),
    ),
    Planted(
        "two commits in flight",
        (
            Edit(
                f"{REPLICA}._go_on",
                "    if self._pending is not None:\n",
                "    if self._pending is not None and (self._is_unsettled or self.role is not Role.LEADER):\n",
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
        (Edit(f"{REPLICA}._speak", " and now_ns <= self.lease_until_ns", ""),),
    ),
    Planted(
        "standbys speak",
        (Edit(f"{REPLICA}._speak", "self.role is Role.LEADER and now_ns <= self.lease_until_ns", "True"),),
    ),
    Planted(
        "a plain grant is sent however late its commit was",
        (Edit(f"{RELEASE}.committed", "if is_late and not grant.managed:", "if False:"),),
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
        (Edit(f"{REPLICA}._take_over", "self.seen.newest_age[0] + 1", "max(1, self.seen.newest_age[0])"),),
    ),
    Planted(
        "a standby takes over without waiting for the lease",
        (
            Edit(
                f"{SIGHTING}.free_at_ns",
                "self.moved_at_ns + max(self.lease_ns, self.ledger.lease_ns)",
                "self.moved_at_ns",
            ),
        ),
    ),
    Planted(
        "an unanswered read is never repeated",
        (
            Edit(
                f"{REPLICA}.handle",
                "            self._is_reading = False\n",
                "",
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
        (
            Edit(
                f"{BOOK}.identify",
                "grant.opens_at_ns = at_ns + self.timing.confirmed_hold_ns",
                "grant.opens_at_ns = grant.granted_at_ns + self.timing.confirmed_hold_ns",
            ),
        ),
    ),
    Planted(
        "a standby keeps the earlier hold of a grant that was committed again",
        (
            Edit(
                f"{BOOK}.adopt",
                "            mine.opens_at_ns = grant.opens_at_ns\n",
                "            mine.opens_at_ns = min(mine.opens_at_ns, grant.opens_at_ns)\n",
            ),
        ),
    ),
    Planted(
        "a decline of a used turn frees it",
        (Edit(f"{ANSWERS}:answer", "if grant.outcome is None else []", "if True else []"),),
    ),
    Planted(
        "a plain grant without its grace",
        (Edit(f"{TIMING}.plain_hold_ns", "self.grace_ns + ", ""),),
    ),
)
"""How long a bucket stays shut."""

CHARGING: tuple[Planted, ...] = (
    Planted("a grant is charged twice", (Edit(f"{BUDGET}.charge", "self.remaining -= 1", "self.remaining -= 2"),)),
    Planted("a grant is not charged", (Edit(f"{BUDGET}.charge", "self.remaining -= 1", "pass"),)),
    Planted(
        "a turn is given back twice",
        (Edit(f"{ANSWERS}:_give_back", "book.give_back()", "book.give_back(); book.give_back()"),),
    ),
    Planted("a turn is never given back", (Edit(f"{ANSWERS}:_give_back", "    book.give_back()\n", ""),)),
    Planted(
        "an unanswered turn is given back when its hold is over",
        (
            Edit(
                f"{ANSWERS}:let_over",
                "    book.let_go(grant)\n",
                "    book.let_go(grant)\n    if grant.outcome is None:\n        book.budget.give_back()\n",
            ),
        ),
    ),
    Planted(
        "an unknown budget is open",
        (
            Edit(f"{BUDGET}.closed_for", "return Reason.LIMITS_UNKNOWN", "return None"),
            Edit(
                f"{BUDGET}.charge",
                "if self.remaining is None or self.remaining <= 0:",
                "if self.remaining is None:\n        return\n    if self.remaining <= 0:",
            ),
        ),
    ),
    Planted(
        "max_concurrency 0 is believed",
        (
            Edit(
                "nats_identify.schedule.day:Day.learn",
                "if not 1 <= limits.max_concurrency <= MAX_BUCKETS:",
                "if False:",
            ),
        ),
    ),
)
"""What a turn costs."""

QUEUEING: tuple[Planted, ...] = (
    Planted(
        "a decline costs its place",
        (
            Edit(
                f"{BOOK}.let_go",
                "    self.room.put(asking)",
                "    asking.asked_at_ns += 10**12\n    self.room.put(asking)",
            ),
        ),
    ),
    Planted(
        "a new leader drops the queue",
        (
            Edit(
                f"{RELEASE}.begin",
                "    self.book.all_due()",
                "    for asking in [a for line in self.book.room.lines.values() for a in line]:\n"
                "        self.book.room.forget(asking)\n    self.book.all_due()",
            ),
        ),
    ),
    Planted(
        "stale renewals are granted",
        (Edit(f"{ASKING}.is_fresh", " and now_ns - self.heard_at_ns <= timing.fresh_ns", ""),),
    ),
    Planted(
        "a renewal number that is sent twice counts from the second",
        (Edit(f"{ASKING}.renew", "if ask.renewal > self.ask.renewal or not ask.managed:", "if True:"),),
    ),
    Planted(
        "who declined is granted again before it renews",
        (
            Edit(
                f"{BOOK}.let_go",
                "asking.silent = is_unsent or asking.ask.renewal <= grant.renewal",
                "asking.silent = False",
            ),
        ),
    ),
    Planted(
        "priority counts for nothing",
        (Edit(f"{LINE}._place", "-asking.ask.priority", "0"),),
    ),
    Planted(
        "what was waited elsewhere counts for nothing",
        (Edit(f"{ROOM}.admit", "asked_at_ns=now_ns - ask.waited_ns", "asked_at_ns=now_ns"),),
    ),
    Planted(
        "the last to come is the first",
        (Edit(f"{LINE}._place", "asking.asked_at_ns, asking.order", "-asking.asked_at_ns, asking.order"),),
    ),
    Planted(
        "a stale head blocks its bucket",
        (
            Edit(
                f"{RELEASE}._candidate",
                "        if asking.is_fresh(now_ns, self._timing):\n            return asking\n",
                "        return asking if asking.is_fresh(now_ns, self._timing) else None\n",
            ),
        ),
    ),
    Planted(
        "nobody looks at a bucket again when it opens",
        (
            Edit(
                f"{BOOK}.identify",
                "    self.due.update(self.holds.buckets_of(grant))  # it opens at another time now\n",
                "",
            ),
            Edit(f"{BOOK}.let_go", "    self.due.update(self.holds.buckets_of(grant))\n", ""),
        ),
    ),
    Planted(
        "a copied asking is granted before it renews",
        (Edit(f"{RELEASE}._take_copy", "now_ns - self._timing.fresh_ns - 1", "now_ns"),),
    ),
    Planted(
        "a copied asking that is fresh is not looked at",
        (Edit(f"{RELEASE}._take_copy", "    self.book.due.add(asking.bucket)\n", ""),),
    ),
    Planted(
        "a stale head is passed over, whether it was asked or not",
        (
            Edit(
                "nats_identify.schedule.nudge:may_be_passed", "if asking.silent or not asking.ask.managed:", "if True:"
            ),
        ),
    ),
    Planted(
        "nobody looks again whether a head that was told has answered",
        (
            Edit(
                "nats_identify.schedule.nudge:nudge",
                "            break  # this one will take the turn, a step after those before it were told\n",
                "            return told\n",
            ),
        ),
    ),
    Planted(
        "the last turn of a day that is given back is offered to its own bucket alone",
        (Edit(f"{BOOK}.give_back", "    if was_closed:\n        self.all_due()\n", ""),),
    ),
    Planted(
        "those that are withdrawn are forgotten",
        (Edit(f"{ROOM}.end", "    self._ended[request_id] = None\n", ""),),
    ),
    Planted(
        "the ended are remembered without end",
        (
            Edit(
                f"{RELEASE}._ask",
                "    room = self.book.room\n",
                "    room = self.book.room\n    self.book.__dict__.setdefault('all', []).append(ask)\n",
            ),
        ),
    ),
)
"""Who is next."""

REQUESTING: tuple[Planted, ...] = (
    Planted(
        "use_within counts from the grant's arrival",
        (Edit(f"{ATTEMPT}._granted", "self._first_sent_ns.get(grant.renewal)", "now_ns"),),
    ),
    Planted(
        "use_within counts from the newest renewal",
        (
            Edit(
                f"{ATTEMPT}._granted",
                "self._first_sent_ns.get(grant.renewal)",
                "self._first_sent_ns.get(self._renewal)",
            ),
        ),
    ),
    Planted(
        "a shard sends one renewal number again and again, and counts from the last",
        (Edit(f"{ATTEMPT}._renew", "self._renewal += 1", "self._renewal = 0"),),
    ),
    Planted(
        "the answer to a copy is a decline, whatever was decided",
        (
            Edit(
                f"{ATTEMPT}._granted",
                "return [SendAnswer(answer_to, decided)]",
                "return [SendAnswer(answer_to, Outcome.DECLINED)]",
            ),
        ),
    ),
    Planted(
        "a shard that has identified forgets its grant",
        (
            Edit(
                f"{ATTEMPT}._decide",
                "    self._remember(grant_id, outcome)\n",
                "",
            ),
        ),
    ),
    Planted(
        "a withdrawn grant is answered as used, a used one as withdrawn",
        (
            Edit(
                f"{ATTEMPT}._decide",
                "    return [SendAnswer(answer_to, outcome)]",
                "    return [SendAnswer(answer_to, Outcome.DECLINED)]",
            ),
        ),
    ),
    Planted(
        "a second grant is used after the first",
        (
            Edit(
                f"{ATTEMPT}._granted",
                "if self.state is not State.ASKING or now_ns > use_by_ns:",
                "if now_ns > use_by_ns:",
            ),
        ),
    ),
    Planted(
        "a shard that was refused never asks again",
        (
            Edit(
                f"{ATTEMPT}._refused",
                "self._renew_at_ns, self._near_at_ns = now_ns + wait_ns, None",
                "self._renew_at_ns = self._near_at_ns = None",
            ),
        ),
    ),
)
"""What the shard does."""
