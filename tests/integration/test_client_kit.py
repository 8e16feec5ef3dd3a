"""The kit that certifies clients: the library's own client keeps every rule, and each planted fault is found."""

import asyncio
import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nats_identify.processes.nats_server import EmbeddedNats
from nats_identify.testing.client_kit.__main__ import main, nats_options
from nats_identify.testing.client_kit.client import AwaitedClient, ClientProcess
from nats_identify.testing.client_kit.managed_rules import MANAGED_RULES
from nats_identify.testing.client_kit.plain_rules import PLAIN_RULES
from nats_identify.testing.client_kit.rule import ClientRule
from nats_identify.testing.client_kit.runner import CaseResult, Runner, nats_for_kit
from tests.processes import ROOT, WITHIN_S

BY_NAME = {rule.name: rule for rule in MANAGED_RULES}
OURS = shlex.join([sys.executable, str(ROOT / "examples/kit_client.py")])
HAND = ROOT / "tests/integration/hand_client.py"
PLAIN_HAND = ROOT / "tests/integration/hand_plain_client.py"


def by_hand(fault: str = "", program: Path = HAND) -> str:
    return shlex.join([sys.executable, str(program), *([fault] if fault else [])])


async def play(command: str, *rules: ClientRule) -> list[CaseResult]:
    async with nats_for_kit(None) as options:
        return await Runner(options, lambda record: ClientProcess(command, record)).run(rules, jobs=4)


def findings(results: list[CaseResult]) -> dict[str, str]:
    return {result.rule.name: result.finding.seen for result in results if result.finding is not None}


async def test_the_library_s_own_client_keeps_every_rule():
    assert findings(await play(OURS, *MANAGED_RULES)) == {}


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
    "hammers when unanswered": {"it_slows_down_while_unanswered": "renewals, and did not slow down"},
    "leaves managed out": {"each_shard_asks_with_a_request_of_its_own": "it is a plain one"},
    "leaves waited_ms out": {"waited_ms_is_the_time_since_the_first_sending": "waited_ms grew by 0"},
    "has a pace of its own": {"it_renews_at_the_pace_of_the_reply": "renew_in_ms was 400, and its renewals came after"},
    "ignores what it did not ask for": {"a_nudge_is_answered_at_once": "the kit saw no next request of shard 0"},
    "sends as fast as it is asked to": {"it_sends_at_most_20_times_a_second": "each reply had a renew_in_ms of 0"},
    "never confirms": {"a_grant_is_used_once_and_confirmed": "the kit saw no answer to the grant for shard 0"},
    "is silent after it has identified": {"another_grant_is_declined": "the kit saw no answer to the grant"},
    "ends at a reply that it cannot read": {"unknown_replies_are_ignored": "the client ended with status 1"},
    "keeps its first bucket": {
        "a_refusal_moves_it_to_another_bucket": "after `wrong_bucket` with max_concurrency 3, which is bucket 2",
        "a_reply_moves_it_to_another_bucket": "although replies had max_concurrency 3: bucket 2",
    },
    "asks again at once after a refusal": {
        "it_waits_as_long_as_a_refusal_demands": "after `overloaded` it had to wait 3000 ms or more",
    },
    "goes on with an id that has ended": {"after_ended_it_asks_with_a_new_id": "no request with a new request_id"},
    "does not renew after a reconnect": {"a_reconnect_keeps_its_request": "the kit saw no next request of shard 0"},
    "takes an empty message for a grant": {
        "it_waits_while_no_coordinator_answers": "shard 0 identified although no coordinator was connected",
    },
    "sends numbers as text": {
        "each_shard_asks_with_a_request_of_its_own": "a request cannot be used: shard_id: ",
    },
    "begins each renewal with 0": {"it_renews_at_the_pace_of_the_reply": "number 0 was sent before"},
    "identifies again for a copy": {
        "a_copy_of_a_grant_gets_the_same_answer": "its grant was a copy of one that it had used",
    },
    "confirms in the first bucket": {
        "a_reply_moves_it_to_another_bucket": "a grant of bucket 2 on the confirm subject of bucket 0",
    },
    "identifies at once": {
        "each_shard_asks_with_a_request_of_its_own": "identified although no grant was sent",
    },
    "ends without a cancel": {"it_withdraws_when_it_ends": "did not withdraw the request of shard 0"},
}
"""A planted fault, and the sentence that each rule says of it. Each rule has a fault here."""


@pytest.mark.parametrize("fault", PLANTED)
async def test_a_planted_fault_is_found_and_named(fault: str):
    expected = PLANTED[fault]
    seen = findings(await play(by_hand(fault), *(BY_NAME[name] for name in expected)))
    assert seen.keys() == expected.keys()
    for name, sentence in expected.items():
        assert sentence in seen[name]


async def test_a_client_that_ends_is_named_with_what_it_said():
    command = shlex.join([sys.executable, "-c", "import sys; print('no module nats'); sys.exit(3)"])
    (result,) = await play(command, BY_NAME["a_late_grant_is_declined"])
    assert result.finding is not None
    assert result.finding.seen == "the client ended with status 3; its last lines: no module nats"


async def test_a_client_that_a_person_starts_is_judged_by_what_it_pipes_to_the_kit():
    """The person does what the kit says, with bash instead of nc."""
    started: list[asyncio.Task[asyncio.subprocess.Process]] = []
    ended: list[asyncio.Task[None]] = []

    async def start(line: str) -> asyncio.subprocess.Process:
        command, _, port = line.strip().rpartition(" ")
        variables = command.partition(" YOUR-CLIENT")[0]
        script = f"export {variables}; exec {by_hand()} > /dev/tcp/127.0.0.1/{port}"
        return await asyncio.create_subprocess_exec("bash", "-c", script)

    async def end() -> None:
        process = await started[-1]
        process.terminate()
        await process.wait()

    def do(said: str) -> None:
        if said.startswith("start"):
            started.append(asyncio.create_task(start(said.splitlines()[1])))
        else:
            ended.append(asyncio.create_task(end()))

    async with nats_for_kit(None) as options:
        runner = Runner(options, lambda record: AwaitedClient(record, do))
        results = await runner.run([BY_NAME["a_late_grant_is_declined"], BY_NAME["it_withdraws_when_it_ends"]])
    assert findings(results) == {}
    assert len(started) == len(ended) == 2


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


def test_each_rule_has_a_planted_fault():
    assert {rule.name for rule in MANAGED_RULES} == {name for expected in PLANTED.values() for name in expected}
    assert {rule.name for rule in PLAIN_RULES} == {name for expected in PLAIN.values() for name in expected}


async def test_a_plain_client_written_by_hand_keeps_every_rule():
    assert findings(await play(by_hand(program=PLAIN_HAND), *PLAIN_RULES)) == {}


PLAIN = {
    "calls itself managed": {"it_asks_with_one_request": "a plain client does not renew"},
    "asks again before it has a reply": {"it_asks_with_one_request": "before its first request had a reply"},
    "never confirms": {"a_grant_is_used_once_and_confirmed": "the kit saw no answer to the grant for shard 0"},
    "takes its time limit for a grant": {"no_reply_is_no_grant": "shard 0 identified although there was no reply"},
    "takes any reply for a grant": {
        "a_refusal_is_no_grant": "its request was refused with `session_limit`",
        "a_503_is_no_grant": "its reply was NATS's own 503",
    },
}
"""As `PLANTED`, for plain clients."""


@pytest.mark.parametrize("fault", PLAIN)
async def test_a_fault_of_a_plain_client_is_found_and_named(fault: str):
    rules = [rule for rule in PLAIN_RULES if rule.name in PLAIN[fault]]
    seen = findings(await play(by_hand(fault, PLAIN_HAND), *rules))
    assert seen.keys() == PLAIN[fault].keys()
    for name, sentence in PLAIN[fault].items():
        assert sentence in seen[name]


@pytest.fixture(scope="session")
def go_client(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The example in Go, built; its one module comes from the Go module proxy, or from the cache."""
    go = shutil.which("go")
    if go is None:
        pytest.skip("there is no go")
    program = tmp_path_factory.mktemp("go") / "client"
    command = [go, "build", "-o", str(program), "."]
    build = subprocess.run(command, cwd=ROOT / "examples/go", capture_output=True, text=True, check=False)
    if build.returncode and "dial tcp" in build.stderr:
        pytest.skip("the Go module proxy cannot be reached")
    assert build.returncode == 0, build.stderr
    return str(program)


async def test_the_example_in_go_keeps_every_rule_of_a_plain_client(go_client: str):
    assert findings(await play(go_client, *PLAIN_RULES)) == {}
