"""The kit that certifies clients: the library's own client keeps every rule, and each planted fault is found."""

import asyncio
import json
import shlex
import sys

import pytest

from nats_identify.processes.nats_server import EmbeddedNats
from nats_identify.testing.client_kit.__main__ import main, nats_options
from nats_identify.testing.client_kit.client import ClientProcess
from nats_identify.testing.client_kit.managed_rules import MANAGED_RULES
from nats_identify.testing.client_kit.plain_rules import PLAIN_RULES
from nats_identify.testing.client_kit.rule import ClientRule
from nats_identify.testing.client_kit.runner import CaseResult, Runner, nats_for_kit
from tests.processes import ROOT, WITHIN_S

BY_NAME = {rule.name: rule for rule in (*PLAIN_RULES, *MANAGED_RULES)}
OURS = shlex.join([sys.executable, str(ROOT / "examples/kit_client.py")])
HAND = ROOT / "tests/integration/hand_client.py"


def by_hand(fault: str = "") -> str:
    return shlex.join([sys.executable, str(HAND), *([fault] if fault else [])])


async def play(command: str, *rules: ClientRule) -> list[CaseResult]:
    async with nats_for_kit(None) as options:
        return await Runner(options, lambda record: ClientProcess(command, record)).run(rules, jobs=4)


def findings(results: list[CaseResult]) -> dict[str, str]:
    return {result.rule.name: result.finding.seen for result in results if result.finding is not None}


SLOWS_DOWN = BY_NAME["it_slows_down_while_unanswered"]


async def test_the_library_s_own_client_keeps_every_rule():
    assert findings(await play(OURS, *(rule for rule in MANAGED_RULES if rule is not SLOWS_DOWN))) == {}


@pytest.mark.xfail(strict=True, reason="the library's requester does not slow down yet while nothing answers")
async def test_the_library_s_own_client_slows_down():
    assert findings(await play(OURS, SLOWS_DOWN)) == {}


async def test_a_client_written_by_hand_keeps_every_rule():
    assert findings(await play(by_hand(), *MANAGED_RULES)) == {}


PLANTED = {
    "passes when NATS is away": {"it_waits_while_nats_is_away": "shard 0 identified although NATS was away"},
    "uses late grants": {
        "a_late_grant_is_declined": "shard 0 identified although its grant came",
        "use_within_counts_from_the_renewal_of_the_grant": "shard 0 identified although its grant echoed renewal 0",
    },
    "counts use_within from the newest renewal": {
        "use_within_counts_from_the_renewal_of_the_grant": "shard 0 identified although its grant echoed renewal 0",
    },
    "a new id at each renewal": {
        "it_renews_at_the_pace_of_the_reply": "although its request had not ended",
        "a_reconnect_keeps_its_request": "although its request had not ended",
    },
    "answers every grant and decides each time": {
        "only_its_own_grants_are_answered": "although the kit had sent a grant for another request_id",
        "a_copy_of_a_grant_gets_the_same_answer": "it answered a grant `identified`, and a copy of it `declined`",
    },
    "hammers when unanswered": {"it_slows_down_while_unanswered": "10 renewals, and did not slow down"},
}
"""A planted fault, and the sentence that each rule says of it."""


@pytest.mark.parametrize("fault", PLANTED)
async def test_a_planted_fault_is_found_and_named(fault: str):
    expected = PLANTED[fault]
    kept = BY_NAME["another_grant_is_declined"]
    seen = findings(await play(by_hand(fault), *(BY_NAME[name] for name in expected), kept))
    assert seen.keys() == expected.keys()
    for name, sentence in expected.items():
        assert sentence in seen[name]


async def test_a_client_that_ends_is_named_with_what_it_said():
    command = shlex.join([sys.executable, "-c", "import sys; print('no module nats'); sys.exit(3)"])
    (result,) = await play(command, BY_NAME["a_late_grant_is_declined"])
    assert result.finding is not None
    assert result.finding.seen == "the client ended with status 3; its last lines: no module nats"


async def test_a_server_of_the_user_s_own_is_used(nats_server: EmbeddedNats):
    options = nats_options(nats_server.url)
    assert options is not None
    runner = Runner(options, lambda record: ClientProcess(OURS, record))
    results = await runner.run([BY_NAME["another_grant_is_declined"], BY_NAME["a_reconnect_keeps_its_request"]])
    assert findings(results) == {}


async def test_the_command_line_prints_a_line_for_each_case_and_the_status():
    cases = ["--case", "a_late_grant_is_declined", "--case", "another_grant_is_declined"]
    kept = await run_kit(*cases, "--command", by_hand())
    assert kept[0] == 0
    assert [line[0] for line in kept[1].splitlines()] == ["✓", "✓", "t"]
    assert kept[1].endswith("the client keeps 2 of 2 rules\n")
    broken = await run_kit(*cases, "--json", "--command", by_hand("uses late grants"))
    assert broken[0] == 1
    cases_seen = {case["name"]: case for case in json.loads(broken[1])["cases"]}
    assert cases_seen["another_grant_is_declined"]["ok"]
    assert cases_seen["a_late_grant_is_declined"]["advice"] == BY_NAME["a_late_grant_is_declined"].advice


async def run_kit(*arguments: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "nats_identify.testing.client_kit", *arguments), stdout=asyncio.subprocess.PIPE
    )
    output, _ = await asyncio.wait_for(process.communicate(), WITHIN_S)
    return process.returncode or 0, output.decode()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--command", "x", "--case", "nosuch"], "--case: there is no nosuch"),
        (["--command", "x", "--nats-url", "nats://a:b@127.0.0.1:4222"], "--nats-url: takes no login"),
        (["--command", "x", "--nats-url", "nats://127.0.0.1:1,nats://127.0.0.1:2"], "--nats-url: give one server"),
        (["--command", "'x"], "No closing quotation"),
        (["--command", "/no/such/program"], "the kit cannot go on: FileNotFoundError"),
    ],
)
def test_options_that_make_no_sense_end_with_status_2(arguments, said, capsys):
    assert main(arguments) == 2
    assert said in capsys.readouterr().err


def test_each_rule_says_what_to_do():
    for rule in BY_NAME.values():
        assert rule.reason
        assert rule.advice
