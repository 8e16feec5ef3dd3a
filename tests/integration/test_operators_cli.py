"""The operators' commands as a shell runs them, on a real nats-server: what they send, print and exit with."""

import asyncio
import json
import signal
import sys

import pytest

from nats_identify.processes.nats_server import EmbeddedNats
from tests.integration.command import command
from tests.integration.fake_operator import FakeCoordinator
from tests.processes import ROOT, WITHIN_S, until

BY = ("--by", "alice@laptop")


@pytest.fixture
async def fake(client):
    coordinator = FakeCoordinator(client)
    await coordinator.open()
    return coordinator


async def run(url, *arguments, said=b"", **environment):
    """Run a command to its end; return its status, standard output and standard error."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "nats_identify", *arguments),
        cwd=ROOT,
        env={"NATS_URL": url, "TERMINAL_WIDTH": "200", "NO_COLOR": "1", **environment},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await asyncio.wait_for(process.communicate(said), WITHIN_S)
    return process.returncode, output.decode(), errors.decode()


async def test_a_shard_that_waits_is_explained(fake, nats_server):
    fake.wait(17, "abc", position=3, ahead_count=1, ahead=[{"request_id": "x", "shard_id": 1, "client": "pod-1"}])
    status, output, errors = await run(nats_server.url, "status", "--shard", "17")
    assert (status, errors) == (0, "")
    assert "Shard 17 (pod-17) waits in bucket 1 at position 3; its turn comes in 12.0 s." in output
    assert "for the request before it: shard 1 (pod-1)." in output


async def test_a_bucket_that_cannot_be_is_a_wrong_option(fake, nats_server):
    status, output, errors = await run(nats_server.url, "status", "--bucket", "99")
    assert (status, output, errors) == (2, "", "bucket: there is no bucket 99\n")


async def test_the_whole_picture_names_the_pause_and_the_busiest(fake, nats_server):
    fake.status["paused"] = {"by": "alice", "why": "deploy", "left_ms": 60_000}
    fake.status["busiest"] = [{"client": "pod\x1b[31m", "new_requests": 1, "messages": 9, "over_ms": 10_000}]
    fake.status["buckets"] = [{"bucket": 0, "waiting": 1, "next_release_ms": 0, "reason": "paused", "first": []}]
    status, output, _ = await run(nats_server.url, "status")
    assert status == 0
    assert "PAUSED by alice: every request waits for 0:01:00 more; deploy" in output
    assert "busiest clients, messages in 10.0 s: pod\\x1b[31m 9 (1 new)" in output
    assert "the end of a pause by an operator" in output


async def test_json_is_ascii_and_whole(fake, nats_server):
    fake.wait(17, "abc", client="\u202epod")
    status, output, _ = await run(nats_server.url, "status", "--client", "\u202epod", "--json")
    assert (status, output.isascii()) == (0, True)
    assert json.loads(output)["requests"][0]["client"] == "\u202epod"


@pytest.mark.parametrize("as_json", [False, True])
async def test_a_watch_goes_on_through_an_outage(fake, nats_server, client, tmp_path, as_json):
    more = ["--json"] if as_json else []
    async with command(tmp_path, "status", "--watch", *more, NATS_URL=nats_server.url) as watching:
        await watching.until_said("pod-0")
        await nats_server.stop()
        await watching.until_said("no coordinator answers on identify.status")
        fake.status["leader"] = "pod-1"
        await nats_server.start()
        await watching.until_said("pod-1")
        assert watching.output.count("no coordinator answers") <= 2  # by its reason, not by its number
        assert await watching.end(signal.SIGTERM) == 143


COMMANDS = [
    (["pause", "--for", "10m", "--why", "deploy"], {"why": "deploy", "for_ms": 600_000}),
    (["pause", "--below-priority", "1"], {"why": "", "below_priority": 1}),
    (["resume"], {"why": ""}),
    (["kick", "abc", "--why", "stuck"], {"why": "stuck", "request_id": "abc"}),
    (["release", "g-1", "--outcome", "declined"], {"why": "", "grant_id": "g-1", "outcome": "declined"}),
    (["pardon", "17"], {"why": "", "shard_id": 17}),
    (["handover"], {"why": ""}),
]


@pytest.mark.parametrize(("arguments", "body"), COMMANDS, ids=lambda value: value[0] if isinstance(value, list) else "")
async def test_a_command_says_what_was_done_or_why_not(fake, nats_server, arguments, body):
    status, output, _ = await run(nats_server.url, *arguments, *BY, said=b"declined\n")
    assert (status, output) == (0, f"done: {arguments[0]} was done (term 7)\n")
    assert fake.received == [(arguments[0], {"by": "alice@laptop", **body})]
    fake.refusal = ("bad_request", "no\x1b[2J")
    status, output, errors = await run(nats_server.url, *arguments, said=b"declined\n")
    assert (status, output) == (3, "")
    assert errors.endswith("not done (bad_request): no\\x1b[2J\n")
    assert "@" in fake.received[-1][1]["by"]
    status, output, _ = await run(nats_server.url, *arguments, "--json", said=b"declined\n")
    assert (status, json.loads(output)["status"]) == (3, "refused")


@pytest.mark.parametrize("answer", [b"", b"yes\n", b"\n", b"no\n"])
async def test_a_release_wants_the_word(fake, nats_server, answer):
    status, output, errors = await run(nats_server.url, "release", "g-1", "--outcome", "declined", said=answer)
    assert (status, output, fake.received) == (3, "", [])
    assert "Discord answers Invalid Session" in errors
    assert "nothing was done" in errors


async def test_a_kick_of_a_shard_looks_its_request_up(fake, nats_server):
    fake.wait(17, "abc")
    fake.wait(1, "other")
    assert (await run(nats_server.url, "kick", "--shard", "17"))[0] == 0
    assert [body["request_id"] for _, body in fake.received] == ["abc"]


@pytest.mark.parametrize(
    ("answer", "more", "kicked"), [(b"n\n", (), 0), (b"", (), 0), (b"y\n", (), 2), (b"", ("--yes",), 2)]
)
async def test_a_kick_of_several_requests_asks_first(fake, nats_server, answer, more, kicked):
    fake.wait(17, "abc")
    fake.wait(17, "abd")
    fake.wait(17, "abe", grant_id="g-1")  # it waits no longer
    status, _, errors = await run(nats_server.url, "kick", "--shard", "17", *more, said=answer)
    assert (status, len(fake.received)) == (0 if kicked else 3, kicked)
    assert ("request abd, position 2" in errors) is (not more)


@pytest.mark.parametrize("arguments", [("kick", "--shard", "17"), ("release", "g-1", "--outcome", "declined")])
async def test_without_a_standard_input_there_is_no_answer(fake, nats_server, arguments):
    """As a shell starts it with ``<&-``: Python has no `sys.stdin` then."""
    fake.wait(17, "abc")
    fake.wait(17, "abd")
    process = await asyncio.create_subprocess_exec(
        *("/bin/sh", "-c", 'exec "$@" <&-', "sh", sys.executable, "-m", "nats_identify", *arguments),
        cwd=ROOT,
        env={"NATS_URL": nats_server.url},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await asyncio.wait_for(process.communicate(), WITHIN_S)
    assert (process.returncode, output, fake.received) == (3, b"", []), errors.decode()
    assert b"nothing was done: there was no answer" in errors.splitlines()[-1]


async def test_a_kick_of_more_requests_than_a_page_has_ends_them_all(fake, nats_server):
    for number in range(250):
        fake.wait(17, f"r{number}", **({"grant_id": "g-1"} if number == 0 else {}))  # that one waits no longer
    status, output, errors = await run(nats_server.url, "kick", "--shard", "17", said=b"y\n")
    assert status == 0, errors
    assert [body["request_id"] for _, body in fake.received] == [f"r{number}" for number in range(1, 250)]
    assert output.count("done: ") == 249
    assert "Shard 17 has 249 requests. End all of them?" in errors
    assert len(errors.splitlines()) == 102, "a page of them is shown, and how many more there are"
    assert "and 149 more" in errors


async def test_a_kick_that_leaves_requests_says_so(fake, nats_server):
    """As where the queue has moved between two pages."""
    fake.wait(17, "abc")
    fake.more = 2
    status, output, errors = await run(nats_server.url, "kick", "--shard", "17", "--yes")
    assert (status, output) == (1, "done: kick was done (term 7)\n")
    assert errors == "2 more requests of shard 17 were not looked up: give the command again\n"


async def test_a_kick_of_a_shard_that_does_not_wait_is_refused(fake, nats_server):
    status, _, errors = await run(nats_server.url, "kick", "--shard", "17")
    assert (status, errors) == (3, "shard 17 has no request here: nothing waits that could be ended\n")


async def test_a_command_without_a_leader_says_that_its_outcome_is_not_known(client, nats_server):
    async def silent(_message):
        """A standby: it listens, and does not reply."""

    await client.subscribe("identify.resume", cb=silent)
    await client.flush()
    status, _, errors = await run(nats_server.url, "resume")
    assert status == 4
    assert "whether it was carried out is not known" in errors


@pytest.mark.parametrize("arguments", [arguments for arguments, _ in COMMANDS], ids=lambda value: " ".join(value[:2]))
async def test_without_a_coordinator_a_command_fails_at_once(nats_server, arguments):
    status, output, errors = await run(nats_server.url, *arguments, said=b"declined\n")
    assert (status, output) == (1, "")
    assert "no coordinator takes commands" in errors


@pytest.mark.parametrize("name", ["status", "events", "plan", "resume", "doctor"])
async def test_without_nats_it_is_one_line_and_status_1(name):
    more = ["--shards", "1"] if name == "plan" else []
    status, output, errors = await run("nats://127.0.0.1:1", name, *more)
    assert status == 1
    assert "cannot connect to NATS at nats://127.0.0.1:1" in output + errors


async def test_a_missing_permission_is_reported_at_once_and_in_the_servers_words(tmp_path):
    users = (
        'authorization { users: [ { user: a, password: b, permissions: { publish: "x", subscribe: "_INBOX.>" } } ] }'
    )
    async with EmbeddedNats(tmp_path / "restricted", extra=users) as server:
        login = {"NATS_USER": "a", "NATS_PASSWORD": "b"}
        for arguments in (["status"], ["resume"], ["plan", "--shards", "1"]):
            status, _, errors = await run(server.url, *arguments, **login)
            assert status == 1
            assert 'permissions violation for publish to "identify.' in errors.lower()
        status, _, errors = await run(server.url, "events", **login)
        assert status == 1
        assert "this login may not subscribe to identify.event.*" in errors


async def test_events_are_followed_filtered_and_lost_in_an_outage(fake, nats_server, tmp_path):
    filters = ("--name", "granted", "--name", "queued", "--client", "pod-7")
    async with command(tmp_path, "events", *filters, NATS_URL=nats_server.url) as following:
        await following.until_said("follows identify.event.*")
        await fake.event("queued", shard_id=7, bucket=1, request_id="a", client="pod-7\x1b")
        await fake.event("queued", shard_id=7, bucket=1, request_id="b", client="pod-7")
        await fake.event("refused", shard_id=7, request_id="b", client="pod-7")
        await fake.client.publish("identify.event.granted", b"\xff no JSON")
        await fake.event("granted", shard_id=7, bucket=1, request_id="b", grant_id="g")
        await following.until_said("granted")
        assert "request_id=a" not in following.output
        assert "refused" not in following.output
        assert "queued        shard 7  bucket 1  client pod-7  request_id=b" in following.output
        await nats_server.stop()
        await following.until_said("NATS is away")
        await nats_server.start()
        await following.until_said("NATS is back after")

        async def is_seen():
            await fake.event("granted", shard_id=8, bucket=0, request_id="b", grant_id="after")
            return "grant_id=after" in following.output

        await until(is_seen, "it follows again")
        assert await following.end(signal.SIGINT) == 130
        assert following.output.count("NATS is away") == 1


async def test_a_plan_says_whether_the_day_suffices(fake, nats_server):
    fake.status["session_start_limit"]["remaining"] = 60
    status, output, _ = await run(nats_server.url, "plan", "--shards", "50")
    assert status == 0
    assert "of coordinator pod-0" in output
    status, output, _ = await run(nats_server.url, "plan", "--shards", "51", "--json")
    assert (status, json.loads(output)["short"]) == (3, 1)
    alone = ("--max-concurrency", "16", "--remaining", "1000", "--total", "1000")
    status, output, _ = await run("nats://127.0.0.1:1", "plan", "--shards", "64", *alone)
    assert status == 0
    assert "from the options alone" in output


async def test_a_doctor_finds_what_a_login_may_not_do(tmp_path):
    allow = '["identify.status", "identify.request.*", "identify.cancel.*", "$SRV.PING.>"]'
    permissions = f'{{ publish: {{ allow: {allow} }}, subscribe: {{ allow: ["_INBOX_operator.>"] }} }}'
    users = f"authorization {{ users: [ {{ user: o, password: hunter2, permissions: {permissions} }} ] }}"
    async with EmbeddedNats(tmp_path / "restricted", extra=users) as server:
        login = {"NATS_USER": "o", "NATS_PASSWORD": "hunter2", "NATS_INBOX_PREFIX": "_INBOX_operator"}
        status, output, _ = await run(server.url, "doctor", "--json", **login)
        findings = {line["check"]: line for line in map(json.loads, output.splitlines())}
        assert status == 1
        for right in ("publish identify.status", "publish identify.request.*", "subscribe to _INBOX_operator.>"):
            assert findings[f"may {right}"]["level"] == "well"
        for right in ("publish identify.confirm.*.*", "publish identify.kick", "subscribe to identify.event.*"):
            assert findings[f"may {right}"]["level"] == "todo"
        assert findings["may write the ledger"]["level"] == "well"
        status, output, _ = await run(server.url, "doctor", **(login | {"NATS_INBOX_PREFIX": ""}))
        assert "set NATS_INBOX_PREFIX" in output
        assert "hunter2" not in output
