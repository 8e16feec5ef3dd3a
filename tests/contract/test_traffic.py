"""Messages: what the simulation believes of NATS, who hears what and when nobody does, is true of both."""

import pytest

from tests.contract.ways_to_nats import Heard, model_net, real_net


@pytest.fixture(params=[model_net, real_net], ids=["model", "nats-server"])
async def net(request, tmp_path):
    async with request.param(tmp_path) as net:
        yield net


async def test_everybody_who_listens_hears_once(net):
    one, two, other = [await net.join() for _ in range(3)]
    await one.subscribe("identify.request.*")
    await two.subscribe("identify.request.7")
    await other.subscribe("identify.confirm.*.*")
    await net.settle()
    await other.publish("identify.request.7", "ask", "_INBOX.r1")
    await net.settle()
    assert one.heard == two.heard == [Heard("identify.request.7", "ask", "_INBOX.r1")]
    assert other.heard == []


async def test_who_publishes_hears_itself(net):
    one = await net.join()
    await one.subscribe("probe")
    await one.publish("probe", "")
    await net.settle()
    assert one.heard == [Heard("probe", "")]


async def test_two_subscriptions_of_one_connection_are_two_copies(net):
    one, sender = await net.join(), await net.join()
    await one.subscribe("a.*")
    await one.subscribe("a.b")
    await net.settle()
    await sender.publish("a.b", "x")
    await net.settle()
    assert one.heard == [Heard("a.b", "x")] * 2


async def test_a_star_is_one_token(net):
    one, sender = await net.join(), await net.join()
    await one.subscribe("a.*")
    await net.settle()
    for subject in ("a", "a.b.c", "b.b", "a.b"):
        await sender.publish(subject, subject)
    await net.settle()
    assert [heard.payload for heard in one.heard] == ["a.b"]


@pytest.mark.parametrize("listens_on", ["confirm.3.g1", "confirm.*.*"])
async def test_where_nobody_listens_the_publisher_alone_is_told_so(net, listens_on):
    leader, standby = await net.join(), await net.join()
    for party in (leader, standby):
        await party.subscribe(listens_on)
    await net.settle()
    await leader.publish("_INBOX.gone", "grant", "confirm.3.g1")
    await net.settle()
    assert leader.heard == [Heard("confirm.3.g1", "", nobody=True)]
    assert standby.heard == []


async def test_a_publisher_that_does_not_listen_for_replies_is_told_nothing(net):
    leader, standby = await net.join(), await net.join()
    await standby.subscribe("confirm.*.*")
    await net.settle()
    await leader.publish("_INBOX.gone", "grant", "confirm.3.g1")
    await leader.publish("_INBOX.gone", "grant")
    await net.settle()
    assert leader.heard == standby.heard == []


async def test_whoever_listens_to_anything_that_fits_is_somebody(net):
    leader, shard = await net.join(), await net.join()
    await leader.subscribe("confirm.*.*")
    await shard.subscribe("_INBOX.pod.*")
    await net.settle()
    await leader.publish("_INBOX.pod.r1", "grant", "confirm.3.g1")
    await net.settle()
    assert leader.heard == []
    assert shard.heard == [Heard("_INBOX.pod.r1", "grant", "confirm.3.g1")]


@pytest.mark.parametrize("leaves", ["unsubscribe", "close"])
async def test_who_has_left_is_nobody(net, leaves):
    leader, shard = await net.join(), await net.join()
    await leader.subscribe("confirm.*.*")
    await shard.subscribe("_INBOX.pod")
    await net.settle()
    await (shard.close() if leaves == "close" else shard.unsubscribe("_INBOX.pod"))
    await net.settle()
    await leader.publish("_INBOX.pod", "grant", "confirm.3.g1")
    await net.settle()
    assert shard.heard == []
    assert leader.heard == [Heard("confirm.3.g1", "", nobody=True)]


async def test_what_one_says_to_another_keeps_its_order_over_subjects_and_subscriptions(net):
    one, sender = await net.join(), await net.join()
    for pattern in ("request.*", "cancel.*", "confirm.*.*"):
        await one.subscribe(pattern)
    await net.settle()
    said = [(f"{kind}.{n}" if kind != "confirm" else f"confirm.{n}.g", str(n)) for n in range(40) for kind in KINDS]
    for subject, payload in said:
        await sender.publish(subject, payload)
    await net.settle()
    for kind in KINDS:  # of one subscription, always; the server keeps the order of all
        assert [(h.subject, h.payload) for h in one.heard if h.subject.startswith(kind)] == [
            one_said for one_said in said if one_said[0].startswith(kind)
        ]


async def test_what_was_said_before_somebody_listened_is_lost(net):
    one, sender = await net.join(), await net.join()
    await sender.publish("a", "early")
    await net.settle()
    await one.subscribe("a")
    await net.settle()
    await sender.publish("a", "late")
    await net.settle()
    assert [heard.payload for heard in one.heard] == ["late"]


KINDS = ("request", "cancel", "confirm")
