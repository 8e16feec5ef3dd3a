"""`nats-identify plan`: it agrees with what a coordinator projects, and says whether the day suffices."""

import pytest

from coordinator.edge import projection
from nats_identify.cli.options import CommandError
from nats_identify.cli.plan import Figures, explain_plan, make_plan
from nats_identify.schedule.budget import SessionBudget
from nats_identify.schedule.model import MS, SECOND, Limits, Timing
from nats_identify.schedule.scheduler import Scheduler

FIGURES = Figures(16, 1000, 1000, 10, 5200, 3_600_000)


@pytest.mark.parametrize("shards", [1, 15, 16, 17, 64, 990, 991, 1000, 1990, 2500])
@pytest.mark.parametrize("buckets", [1, 2, 16])
@pytest.mark.parametrize("remaining", [1000, 40, 10, 0])
def test_it_agrees_with_a_coordinator(shards, buckets, remaining):
    timing = Timing(window_ns=5 * SECOND, margin_ns=200 * MS)
    scheduler = Scheduler(timing, SessionBudget(reserve=10), max_concurrency=buckets, name_grant=str)
    scheduler.state.set_limits(Limits(buckets, total=1000, remaining=remaining, reset_in_ns=3600 * SECOND), 0)
    projected = projection.of_restart(scheduler.state, shards, 0)
    plan = make_plan(shards, Figures(buckets, remaining, 1000, 10, 5200, 3_600_000))
    assert (plan.all_up_in_ms, plan.short) == (projected.all_up_in_ms, projected.session_starts_short)


def test_an_end_of_the_day_that_is_not_known_is_said():
    figures = Figures(16, 50, 1000)
    plan = make_plan(64, figures)
    assert (plan.all_up_in_ms, plan.short) == (None, 24)
    text = "\n".join(explain_plan(64, figures, plan, "from the options alone"))
    assert "at an unknown time" in text
    assert "The day does NOT suffice: 24 shards wait for the next day" in text


def test_it_says_how_it_was_computed():
    text = "\n".join(explain_plan(64, FIGURES, make_plan(64, FIGURES), "of coordinator pod-0"))
    assert "4 in the fullest of 16 buckets, 5.2 s apart: (4 - 1) x 5.2 s = 15.6 s." in text
    assert "The day suffices; 926 usable session starts are left afterwards." in text


def test_one_bucket_and_one_request_are_said_in_the_singular():
    figures = Figures(1, 1000, 1000, 10, 5200, waiting=1)
    text = "\n".join(explain_plan(2, figures, make_plan(2, figures), "of coordinator pod-0"))
    assert "Turns: 2 in one bucket, 5.2 s apart" in text
    assert "\n1 request waits already" in text


def test_what_is_given_goes_before_what_a_coordinator_has():
    figures = Figures(max_concurrency=1, reserve=0).or_else(FIGURES)
    assert figures == Figures(1, 1000, 1000, 0, 5200, 3_600_000)
    assert Figures(1, 0, 10).suffice
    assert not Figures(1, 0).suffice


def test_limits_that_are_not_known_are_an_error_that_says_what_to_give():
    with pytest.raises(CommandError, match="give --max-concurrency, --remaining and --total"):
        make_plan(1, Figures(None, None, None, 10, 5200))
