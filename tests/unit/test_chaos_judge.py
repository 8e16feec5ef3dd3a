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


def granted(shard_id, decided_ms):
    return wire.Granted(
        shard_id=shard_id,
        bucket=1,
        request_id="r",
        grant_id="1-a",
        renewal=0,
        use_within_ms=5_000,
        waited_ms=decided_ms,
        remaining=100,
        max_concurrency=16,
    )


def deeds_of(second_decided_ms, *, declined_at_ms=7_000):
    """Both begin at 0; the first receives a grant at 7 s that is too late, and another at 10 s that it uses."""
    deeds = Deeds()
    queued = wire.Queued(
        shard_id=FIRST, bucket=1, request_id="r", position=1, eta_ms=400, renew_in_ms=2_000, reason=Reason.WINDOW
    )
    known = [
        (0, "asked"),
        (7_000, granted(FIRST, 2_000)),
        (declined_at_ms, SendAnswer("", Outcome.DECLINED)),
        (BACK_MS, queued),
        (10_000, granted(FIRST, 9_900)),
        (10_000, SendAnswer("", Outcome.IDENTIFIED)),
    ]
    in_order = sorted(known, key=lambda one: one[0])
    deeds.messages[FIRST] = [(at_ms * NS_PER_MS, message) for at_ms, message in in_order]
    deeds.messages[SECOND] = [(0, "asked"), (9_500 * NS_PER_MS, granted(SECOND, second_decided_ms))]
    return deeds


@pytest.mark.parametrize(("second_decided_ms", "excused"), [(8_000, True), (9_200, False)])
def test_a_shard_whose_grant_came_too_late_may_be_passed_until_it_is_back(second_decided_ms, excused):
    assert is_excused(FIRST, [SECOND, FIRST], deeds_of(second_decided_ms)) is excused


def test_a_shard_that_was_not_passed_needs_no_excuse():
    assert not is_excused(FIRST, [FIRST, SECOND], deeds_of(8_000))


def test_a_grant_that_is_declined_after_another_was_used_is_no_excuse():
    assert not is_excused(FIRST, [SECOND, FIRST], deeds_of(8_000, declined_at_ms=11_000))
