"""How a shard's queue gets into NATS, and what it keeps to itself where it should not."""

import logging
import ssl

import pytest

from nats_identify import NatsQueue
from nats_identify.client.environment import queue_from_environment
from tests.processes import until

SECRET = "hunter2"  # noqa: S105  # what must never be told


@pytest.mark.parametrize(
    ("scheme", "options"), [("tls", {}), ("nats", {"tls": ssl.create_default_context()})], ids=["URL", "options"]
)
async def test_where_tls_is_asked_for_nothing_is_told_without_it(listener, caplog, scheme, options):
    caplog.set_level(logging.WARNING, "nats_identify")
    port, told = listener
    async with NatsQueue.connect(f"{scheme}://127.0.0.1:{port}", user="shard", password=SECRET, **options):

        async def has_complained():
            return "the server offers no TLS" in caplog.text

        await until(has_complained, "it says so")
    assert SECRET.encode() not in told
    assert SECRET not in caplog.text


async def test_without_tls_it_is_told(listener):
    """So the test above could fail."""
    port, told = listener
    async with NatsQueue.connect(f"nats://127.0.0.1:{port}", user="shard", password=SECRET):

        async def was_told():
            return SECRET.encode() in told

        await until(was_told, "the server hears who is there")


async def test_the_environment_is_enough(coordinator, nats_server):
    async with (
        queue_from_environment({"NATS_URL": nats_server.url, "NATS_INBOX_PREFIX": "_INBOX_shard.pod-0"}) as queue,
        queue.turn(0),
    ):
        pass
    await coordinator.until_metric('identify_events_total{event="identified"}', 1)
