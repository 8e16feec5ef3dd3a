"""The fixture `simulated_discord`: pytest runs small test files with it, and they pass and fail as they should."""

import subprocess
import sys
from importlib.metadata import entry_points

CONFTEST = 'pytest_plugins = ["nats_identify.testing.pytest_plugin"]\n'
HEAD = """
import asyncio
import pytest
from nats_identify.testing import BareShard, SimulatedGateway

async def identify(discord, *shard_ids):
    for number, shard_id in enumerate(shard_ids, 1):
        async with BareShard(None, shard_id, 4, discord.ws_url, "token"):
            await discord.until(lambda report: report.identifies == number, within_s=60)
"""


def run(tmp_path, text):
    """Run one test file, and return what pytest printed."""
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_it.py").write_text(HEAD + text)
    command = [sys.executable, "-m", "pytest", "-q", "--strict-markers", "-p", "no:cacheprovider", "test_it.py"]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, timeout=240).stdout


def test_a_test_without_a_violation_passes(tmp_path):
    printed = run(
        tmp_path,
        """
@pytest.mark.simulated_discord(max_concurrency=2)
def test_two_buckets(simulated_discord):
    asyncio.run(identify(simulated_discord, 0, 1))
    assert simulated_discord.report().identifies == 2

def test_the_next_test_has_a_discord_of_its_own(simulated_discord):
    assert simulated_discord.report().identifies == 0

def test_orders_and_errors(simulated_discord):
    assert simulated_discord.call(lambda gateway: gateway.set_limits(remaining=5)) is None
    assert simulated_discord.wait_until(lambda report: report.identifies == 0).violations == 0
    with pytest.raises(LookupError):
        simulated_discord.call(lambda gateway: gateway.drop(0))
    with pytest.raises(TimeoutError, match="not met within"):
        asyncio.run(simulated_discord.until(lambda report: report.ready > 0, within_s=0.01))
""",
    )
    assert "3 passed" in printed, printed


def test_a_violation_fails_the_test_and_says_which_it_was(tmp_path):
    printed = run(
        tmp_path,
        """
def test_one_bucket(simulated_discord):
    asyncio.run(identify(simulated_discord, 0, 1, 2))

@pytest.mark.simulated_discord(max_concurrency=4, total=2)
def test_the_day(simulated_discord):
    asyncio.run(identify(simulated_discord, 0, 1, 2))

def test_that_may(simulated_discord):
    simulated_discord.allow_violations()
    asyncio.run(identify(simulated_discord, 0, 1))
""",
    )
    assert "2 failed, 1 passed" in printed, printed
    assert "Discord would have refused 2 IDENTIFYs" in printed
    assert "shard 1, bucket 0: 0." in printed
    assert "shard 2: over the day's limit" in printed
    assert "error" not in printed.splitlines()[-1]  # each violation is reported once, by the test itself


def test_what_another_fixture_does_at_the_end_is_judged_too(tmp_path):
    printed = run(
        tmp_path,
        """
@pytest.fixture
def bot(simulated_discord):
    yield
    asyncio.run(identify(simulated_discord, 0, 1))

def test_it(bot):
    pass
""",
    )
    assert "1 passed, 1 error" in printed, printed
    assert "Discord would have refused 1 IDENTIFYs" in printed


def test_no_wrong_option_is_taken_in_silence(tmp_path):
    printed = run(
        tmp_path,
        """
@pytest.mark.simulated_discord(max_concurency=2)
def test_it(simulated_discord):
    pass
""",
    )
    assert "max_concurency" in printed
    assert "1 error" in printed, printed


def test_the_plugin_is_not_loaded_for_those_who_do_not_name_it():
    assert [entry for entry in entry_points(group="pytest11") if entry.value.startswith("nats_identify")] == []


def test_a_port_in_use_fails_the_test_and_leaves_no_thread(tmp_path):
    printed = run(
        tmp_path,
        """
import socket
import threading
from nats_identify.testing.pytest_plugin import SimulatedDiscord

def test_it():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        with pytest.raises(OSError):
            SimulatedDiscord(port=taken.getsockname()[1]).start()
    assert [thread.name for thread in threading.enumerate() if thread.name == "simulated Discord"] == []
""",
    )
    assert "1 passed" in printed, printed
