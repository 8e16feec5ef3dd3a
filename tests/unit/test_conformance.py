"""The conformance suite: good queues pass all of it, and each planted fault is found by the rule it breaks."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from nats_identify import LargeBotQueue, LocalQueue, Queue
from nats_identify.testing import SimulatedGateway, conformance
from nats_identify.testing.conformance import CHECKS, Check, NonConformingError, QueueFactory, check
from tests.unit import bad_queues

WINDOW_S = 0.2


def factory_of(kind: type[LocalQueue]) -> QueueFactory:
    @asynccontextmanager
    async def make_queue(max_concurrency: int) -> AsyncIterator[Queue]:
        queue = kind(max_concurrency, window_s=WINDOW_S, margin_s=0, use_within_s=2)
        try:
            yield queue
        finally:
            await queue.close()

    return make_queue


@asynccontextmanager
async def make_large_bot_queue(max_concurrency: int) -> AsyncIterator[Queue]:
    async with SimulatedGateway(max_concurrency) as gateway:
        queue = LargeBotQueue("not-a-token", api_url=gateway.rest_url, window_s=WINDOW_S, margin_s=0)
        try:
            yield queue
        finally:
            await queue.close()


GOOD = {"LocalQueue": factory_of(LocalQueue), "LargeBotQueue": make_large_bot_queue}

BAD = {
    bad_queues.BornOver: conformance.a_grant_names_its_shard_its_bucket_and_its_end,
    bad_queues.Ticking: conformance.an_idle_bucket_grants_at_once,
    bad_queues.OneLineForAll: conformance.buckets_do_not_wait_for_each_other,
    bad_queues.WindowAtGrant: conformance.the_window_starts_at_identified,
    bad_queues.FailsOpen: conformance.an_answer_opens_a_bucket_sooner_than_silence,
    bad_queues.DeafToIdentified: conformance.an_answer_opens_a_bucket_sooner_than_silence,
    bad_queues.LastComeFirstServed: conformance.first_come_first_served,
    bad_queues.BlindToPriority: conformance.higher_priority_goes_first,
    bad_queues.DeclineCostsAWindow: conformance.a_declined_turn_goes_on_at_once,
    bad_queues.CancelledStaysInLine: conformance.a_cancelled_wait_swallows_no_turn,
    bad_queues.DropsACrossedGrant: conformance.a_cancel_that_crosses_its_grant_gives_the_turn_back,
    bad_queues.KeepsTheTurnOfAFailedBlock: conformance.an_exception_before_granted_gives_the_turn_back,
    bad_queues.LateGoesToTheEnd: conformance.a_late_grant_is_given_back_and_keeps_its_place,
    bad_queues.OneAskingForAShard: conformance.two_requests_of_one_shard_are_two_requests,
    bad_queues.ForgetsOneOfMany: conformance.of_many_each_is_granted_once,
}


HANGING = {bad_queues.OneLineForAll, bad_queues.ForgetsOneOfMany}
"""What these do wrong is seen by nothing but waiting in vain."""


@pytest.mark.parametrize("rule", CHECKS, ids=str)
@pytest.mark.parametrize("make_queue", GOOD.values(), ids=GOOD.keys())
async def test_a_good_queue_keeps_every_rule(make_queue: QueueFactory, rule: Check):
    await rule(make_queue, window_s=WINDOW_S)


@pytest.mark.parametrize(("kind", "rule"), BAD.items(), ids=lambda value: getattr(value, "__name__", "of"))
async def test_a_planted_fault_is_found(kind: type[LocalQueue], rule: Check):
    with pytest.raises(NonConformingError, match=rule.name) as found:
        await rule(factory_of(kind), window_s=WINDOW_S, timeout_s=2 if kind in HANGING else 30)
    assert all(part in str(found.value) for part in (rule.reason, rule.advice))


async def test_check_finds_all_that_is_broken_and_nothing_else():
    findings = await check(factory_of(bad_queues.BlindToPriority), window_s=WINDOW_S)
    assert [finding.rule for finding in findings] == ["higher_priority_goes_first"]


def test_every_rule_has_a_queue_that_breaks_it():
    assert set(BAD.values()) == set(CHECKS)
