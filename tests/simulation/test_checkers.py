"""The judges judge: what each excuses depends on who made a grant, and a grant's id does not tell that."""

from types import SimpleNamespace

import pytest

from coordinator.core.ledger import Ledger, Write
from nats_identify import wire
from nats_identify.schedule.grants import Grant, HoldRecord
from nats_identify.schedule.model import (
    SECOND,
    Confirmation,
    Limits,
    LimitsFetched,
    LimitsFetchStarted,
    Outcome,
    Timing,
)
from nats_identify.testing.judge import Day, Judgement, Verdict
from tests.simulation.checkers.figures import Figures
from tests.simulation.checkers.identifies import ExcusedError, Identifies
from tests.simulation.checkers.left import Left
from tests.simulation.checkers.loops import Loops
from tests.simulation.plan import CrashLoop
from tests.simulation.violation import Violation


def record(number, **fields):
    place = (f"{number}-0123456789abcdef", f"r{number}", number, 0, 1, 0, 5 * SECOND)
    return HoldRecord(Grant(*place), **{"hold_ns": 10 * SECOND, **fields})


def entry(*records):
    return Ledger("p", "a", "a1", 1, len(records), 3 * SECOND, 1, 100, 90, None, records)


def granted(one):
    return wire.Granted(
        shard_id=one.grant.shard_id,
        bucket=0,
        request_id=one.grant.request_id,
        grant_id=one.grant.grant_id,
        renewal=0,
        use_within_ms=5_000,
        waited_ms=0,
        remaining=9,
        max_concurrency=1,
        term=1,
    )


@pytest.mark.parametrize(("known_ns", "raised"), [(5 * SECOND, Violation), (SECOND, ExcusedError)])
def test_a_window_broken_after_a_loss_is_excused_only_where_its_maker_could_not_know(known_ns, raised):
    identifies, first, second = Identifies(), record(1), record(2)
    identifies.saw("a1", None, known_ns)
    identifies.writes("a1", entry(first))
    identifies.writes("a1", entry(first, second))
    identifies.lost()
    identifies.judged(Judgement(0, 1, 1, 0, None, Verdict.ACCEPTED), granted(first))
    with pytest.raises(raised):
        identifies.judged(Judgement(SECOND, 2, 1, 0, SECOND, Verdict.TOO_EARLY), granted(second))


def leading(settings, remaining):
    """A leader of term 1, and the session starts that are left."""
    state = SimpleNamespace(budget=SimpleNamespace(remaining=remaining))
    replica = SimpleNamespace(term=1, schedule=SimpleNamespace(state=state))
    return SimpleNamespace(name="a1", settings=settings, replica=replica, engine=SimpleNamespace(now_ns=0))


def test_a_figure_counts_less_what_its_own_leader_granted_since():
    figures, settings = Figures(), SimpleNamespace(timing=Timing())
    leader = leading(settings, remaining=90)
    figures.told(leader, LimitsFetchStarted(), 0)
    figures.writes(leader, Write(entry(record(1)), 1), 1)
    with pytest.raises(Violation, match="figure"):
        figures.believed(leader, LimitsFetched(Limits(1, 100, 90)))


def test_a_figure_counts_less_what_was_used_right_before():
    figures, settings = Figures(), SimpleNamespace(timing=Timing())
    leader = leading(settings, remaining=90)
    figures.writes(leader, Write(entry(record(1)), 1), 0)
    figures.told(leader, Confirmation(record(1).grant.grant_id, Outcome.IDENTIFIED), SECOND)
    figures.told(leader, LimitsFetchStarted(), 2 * SECOND)
    with pytest.raises(Violation, match="figure"):
        figures.believed(leader, LimitsFetched(Limits(1, 100, 90)))


def test_an_identify_counts_for_a_crash_loop_unless_a_pardon_forgot_its_grant():
    loops = Loops(CrashLoop(grants=1, period_ns=60 * SECOND, first_wait_ns=60 * SECOND), 0)  # two in a period
    records = [record(number) for number in (1, 2, 3, 4, 5)]
    used = [HoldRecord(one.grant._replace(shard_id=7), one.hold_ns) for one in records]
    for number, one in enumerate(used[:4], 1):
        loops.writes(entry(one))
        if number == 2:
            loops.pardoned(7)  # its turn is used after that
        loops.sent(7, one.grant.grant_id, number * SECOND)
    with pytest.raises(Violation):
        loops.sent(7, used[4].grant.grant_id, 5 * SECOND)


def test_a_late_turn_of_a_lost_ledger_counts_only_for_a_writer_that_could_know_of_it():
    left = Left(Day(0, total=100), settings_are_true=True)
    left.applied(entry(record(1)), 0, can_ask=True)
    left.lost(may_forget=False)
    left.applied(entry(), 0, can_ask=True)  # 90 are left: 10 may follow
    for _ in range(11):
        left.counted(record(1).grant.grant_id, 0, knew=lambda _: False)
    for _ in range(10):
        left.counted(record(1).grant.grant_id, 0, knew=lambda _: True)
    assert not left.is_shared, "no other excuse follows from it"
    with pytest.raises(Violation):
        left.counted(record(1).grant.grant_id, 0, knew=lambda name: name == "a1")
