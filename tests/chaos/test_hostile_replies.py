"""A hundred thousand malicious replies at eight shards that wait: the figures."""

import logging
import os

import pytest

from tests.hostile_run import run

pytestmark = pytest.mark.slow

REPLIES = 100_000
SEED = int(os.environ.get("HOSTILE_SEED", "20261127"))


async def test_a_hundred_thousand_malicious_replies(nats_server, caplog):
    caplog.set_level(logging.INFO)
    print()
    print(await run(nats_server.url, REPLIES, caplog, seed=SEED))
