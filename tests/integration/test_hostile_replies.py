"""A coordinator that sends whatever it likes, to real shards over a real NATS server: they wait, and stay well."""

import logging

from tests.hostile_run import run


async def test_some_thousands_of_malicious_replies(nats_server, caplog):
    caplog.set_level(logging.DEBUG)
    await run(nats_server.url, 4_000, caplog, seed=13)
