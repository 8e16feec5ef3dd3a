"""The judge of the chaos tests excuses a shard whose grant came too late, and none other."""

import pytest

from nats_identify import wire
from nats_identify.client.requester import SendAnswer
from nats_identify.clock import NS_PER_MS
from nats_identify.reason import Reason
from nats_identify.schedule.model import Outcome
from tests.chaos.judge import Deeds, is_excused

FIRST, SECOND = 1, 17
BACK_MS = 9_000
"""When the first shard had its first reply after the grant that came too late."""


def granted(shard_id, grant_id, published_ms):
    return wire.Granted(
        shard_id=shard_id,
        bucket=1,
        request_id="r",
        grant_id=grant_id,
        renewal=0,
        use_within_ms=5_000,
        waited_ms=published_ms,
        remaining=100,
        max_concurrency=16,
    )


def answer(grant_id, outcome):
    return SendAnswer(f"identify.confirm.1.{grant_id}", outcome)


def deeds_of(second_published_ms, *, declined_at_ms=7_000, more=()):
    """Both begin at 0. The first receives a grant of 2 s at 7 s, which is too late; it uses another at 10 s."""
    deeds = Deeds()
    queued = wire.Queued(
        shard_id=FIRST, bucket=1, request_id="r", position=1, eta_ms=400, renew_in_ms=2_000, reason=Reason.WINDOW
    )
    known = [
        (0, "asked"),
        (7_000, granted(FIRST, "1-a", 2_000)),
        (declined_at_ms, answer("1-a", Outcome.DECLINED)),
        (BACK_MS, queued),
        (10_000, granted(FIRST, "3-c", 9_900)),
        (10_000, answer("3-c", Outcome.IDENTIFIED)),
        *more,
    ]
    in_order = sorted(known, key=lambda one: one[0])
    deeds.messages[FIRST] = [(at_ms * NS_PER_MS, message) for at_ms, message in in_order]
    second = [
        (0, "asked"),
        (9_500, granted(SECOND, "2-b", second_published_ms)),
        (9_500, answer("2-b", Outcome.IDENTIFIED)),
    ]
    deeds.messages[SECOND] = [(at_ms * NS_PER_MS, message) for at_ms, message in second]
    return deeds


@pytest.mark.parametrize(("second_published_ms", "excused"), [(1_000, False), (8_000, True), (9_400, False)])
def test_a_shard_whose_grant_came_too_late_may_be_passed_until_it_is_back(second_published_ms, excused):
    assert is_excused(FIRST, [SECOND, FIRST], deeds_of(second_published_ms)) is excused


def test_a_shard_that_was_not_passed_needs_no_excuse():
    assert not is_excused(FIRST, [FIRST, SECOND], deeds_of(8_000))


def test_a_grant_that_is_declined_after_another_was_used_is_no_excuse():
    assert not is_excused(FIRST, [SECOND, FIRST], deeds_of(8_000, declined_at_ms=11_000))


def test_a_copy_that_is_declined_again_is_no_further_excuse():
    copy = [(9_200, answer("1-a", Outcome.DECLINED))]
    assert not is_excused(FIRST, [SECOND, FIRST], deeds_of(9_400, more=copy))
