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


def deeds_of(second_granted_ms, outcome=Outcome.DECLINED):
    """Both begin at 0; the first receives a late grant at 7 s and another at 10 s."""
    deeds = Deeds()
    queued = wire.Queued(
        shard_id=FIRST, bucket=1, request_id="r", position=1, eta_ms=400, renew_in_ms=2_000, reason=Reason.WINDOW
    )
    said = [(0, "asked"), (7_000, granted(FIRST, 2_000)), (7_000, SendAnswer("", outcome)), (BACK_MS, queued)]
    deeds.messages[FIRST] = [(at_ms * NS_PER_MS, message) for at_ms, message in said]
    deeds.messages[FIRST].append((10_000 * NS_PER_MS, granted(FIRST, 9_900)))
    deeds.messages[SECOND] = [(0, "asked"), (9_500 * NS_PER_MS, granted(SECOND, second_granted_ms))]
    return deeds


@pytest.mark.parametrize(("second_granted_ms", "excused"), [(8_000, True), (9_200, False)])
def test_a_shard_whose_grant_came_too_late_may_be_passed_until_it_is_back(second_granted_ms, excused):
    assert is_excused(FIRST, [SECOND, FIRST], deeds_of(second_granted_ms)) is excused


def test_a_shard_that_declined_nothing_is_not_excused():
    assert not is_excused(FIRST, [SECOND, FIRST], deeds_of(8_000, Outcome.READY))
