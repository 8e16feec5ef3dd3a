"""The demo, on real processes, small: that it passes, that it can fail, and that it leaves nothing behind."""

import os
import re
import signal
from dataclasses import replace

import pytest

from nats_identify.cli.demo.plan import Plan
from nats_identify.cli.demo.run import run_control, run_with_queue
from nats_identify.cli.demo.verdict import judge_control, judge_queue
from nats_identify.processes.subprocesses import ChildDiedError
from tests.integration.command import command

SMALL = ("--plain", "--shards", "6", "--window", "0.6", "--connect-delay-ms", "0:50", "--frame-latency-ms", "5:20")
LONG = ("--plain", "--shards", "40", "--window", "5")


class Blind:
    """A view that shows nothing."""

    def look(self, board):
        pass

    def close(self):
        pass


SMALL_PLAN = Plan(shards=4, max_concurrency=1, window_s=0.6, connect_delay_ms="0", frame_latency_ms="5:20")


async def test_the_demo_passes_and_its_verdict_says_why(tmp_path):
    async with command(tmp_path, "demo", *SMALL) as demo:
        assert await demo.ended() == 0, demo.output
        assert re.search(
            r"^6 of 6 shards up in \d+\.\d s \(ideal 1\.2 s: 3 in a bucket, 0\.6 s apart\)$", demo.output, re.MULTILINE
        )
        assert re.search(r"^first shard up after \d+\.\d s$", demo.output, re.MULTILINE)
        gaps = re.search(r"^smallest gap: bucket 0 (\S+) s, bucket 1 (\S+) s$", demo.output, re.MULTILINE)
        assert gaps is not None
        assert min(map(float, gaps.groups())) >= 0.6
        assert "violations: 0" in demo.lines
        assert "session starts: 6 used, 994 of 1000 left" in demo.lines
        control = re.search(
            r"^control without the common queue: (\d+) violations in \d+ IDENTIFYs$", demo.output, re.MULTILINE
        )
        assert control is not None
        assert int(control[1]) > 0
        assert demo.lines[-1].startswith("PASSED")
        assert demo.family() == []
    assert list((tmp_path / "temporary").iterdir()) == []


async def test_a_fleet_that_does_not_ask_is_seen_to_violate():
    plan = replace(SMALL_PLAN, fleet_module="tests.integration.reckless_fleet")
    verdict = judge_queue(plan, await run_with_queue(plan, lambda _title: Blind()))
    assert verdict.status == 1
    assert any("violations with the queue" in failure for failure in verdict.failures)


async def test_the_control_violates_and_a_control_that_does_not_is_a_failure():
    run = await run_control(replace(SMALL_PLAN, processes=4), lambda _title: Blind())
    assert run.violations >= 3
    assert judge_control(run).status == 0


async def test_a_process_that_cannot_run_ends_the_demo_and_its_last_words_are_shown():
    plan = replace(SMALL_PLAN, fleet_module="tests.integration.no_such_fleet")
    with pytest.raises(ChildDiedError, match=r"(?s)fleet-\d ended with status 1.*No module named") as died:
        await run_with_queue(plan, lambda _title: Blind())
    assert died.value.status == 1


@pytest.mark.parametrize("victim", ["coordinator", "nats-server.conf", "nats_identify.testing", "demo.fleet"])
async def test_a_process_that_dies_ends_the_demo(tmp_path, victim):
    async with command(tmp_path, "demo", *LONG) as demo:
        await demo.until_said("of 40 up")
        os.kill(demo.family(victim)[0], signal.SIGKILL)
        assert await demo.ended() == 1, demo.output
        name = {
            "coordinator": "the coordinator ended by SIGKILL",
            "nats-server.conf": "nats-server ended",
            "nats_identify.testing": "the simulated Discord ended by SIGKILL",
            "demo.fleet": " ended by SIGKILL",
        }[victim]
        assert "FAILED: " in demo.output
        assert name in demo.output
        assert demo.family() == []
    assert list((tmp_path / "temporary").iterdir()) == []


@pytest.mark.parametrize("moment", ["Starting", "of 40 up"])
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_at_any_time_leaves_no_process_and_no_file(tmp_path, moment, how):
    async with command(tmp_path, "demo", *LONG) as demo:
        await demo.until_said(moment)
        assert await demo.end(how) == 128 + how, demo.output
        assert demo.family() == []
    assert list((tmp_path / "temporary").iterdir()) == []
