"""The benchmark's bare sockets against a real coordinator: they keep to the contract, and are judged."""

from benchmarks.crowd import Order
from benchmarks.large import follow, latencies


async def test_a_crowd_is_granted_in_order_and_never_early(start_coordinator, nats_server):
    await start_coordinator(IDENTIFY_WINDOW="5", IDENTIFY_MARGIN="0.2", IDENTIFY_MAX_CONCURRENCY="20")
    async with follow(Order(nats_server.port, 24, 16, 20, connections=4, probe_every_s=0.2)) as crowd:
        await crowd.until(lambda: crowd.newest.grants >= 24 and crowd.newest.waiting == 0)
    figures = latencies(crowd.lines)
    assert figures["grants"] == 24
    assert figures["idle bucket p50 ms"] is not None
    assert (crowd.newest.answered, crowd.newest.violations, crowd.newest.overtaken) == (24, 0, 0)
    assert not crowd.newest.trouble


async def test_a_crowd_goes_on_when_nats_is_restarted(start_coordinator, nats_server):
    await start_coordinator(IDENTIFY_WINDOW="5", IDENTIFY_MARGIN="0.2", IDENTIFY_MAX_CONCURRENCY="4")
    async with follow(Order(nats_server.port, 8, 4, 4, connections=2)) as crowd:
        await crowd.until(lambda: crowd.newest.answered == 8)
        await nats_server.restart()
        await crowd.until(lambda: crowd.newest.waiting == 0)
    assert (crowd.newest.grants, crowd.newest.violations) == (8, 0)
