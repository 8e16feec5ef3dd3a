"""`nats-identify up`: a bot's shard gets its turn through it, and it leaves nothing behind but its store."""

import asyncio
import os
import re
import signal
from pathlib import Path

import pytest

from nats_identify import NatsQueue
from nats_identify.testing import BareShard, ErrorResponse, Report, ShardState, SimulatedGateway
from tests.integration.command import Command, command
from tests.processes import WITHIN_S, until

UP = ("up", "--port", "0", "--http-port", "0")
QUICK = {"IDENTIFY_WINDOW": "0.4", "IDENTIFY_USE_WITHIN": "1", "IDENTIFY_LEASE": "1"}


async def address_of(up: Command) -> str:
    await up.until_said("ctrl-C stops both")
    told = re.search(r"NatsQueue\.connect\(\"(nats://127\.0\.0\.1:\d+)\"", up.output)
    assert told is not None
    return told[1]


async def bring_up_a_shard(url: str, prefix: str = "identify") -> Report:
    async with (
        asyncio.timeout(WITHIN_S),
        SimulatedGateway() as gateway,
        NatsQueue.connect(url, prefix=prefix) as queue,
        BareShard(queue, 0, 1, gateway.ws_url, "of no bot") as shard,
    ):
        await shard.until(ShardState.UP)
        return gateway.record.report()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
async def test_a_shard_identifies_through_it_and_a_signal_ends_it_in_order(tmp_path, how):
    async with command(tmp_path, *UP, "--store", str(tmp_path / "store"), **QUICK) as up:
        report = await bring_up_a_shard(await address_of(up))
        assert (report.identifies, report.violations) == (1, 0)
        assert await up.end(how) == 0, up.output
        assert up.family() == []
        assert "NATS is gone" not in up.output  # the coordinator was stopped first


async def test_ctrl_c_at_a_terminal_ends_it_in_order_too(tmp_path):
    async with command(tmp_path, *UP, "--store", str(tmp_path / "store"), **QUICK) as up:
        await address_of(up)
        assert await up.interrupt() == 0, up.output
        assert up.family() == []
        assert "NATS is gone" not in up.output


async def test_a_store_is_one_server_s_at_a_time(tmp_path):
    store = ("--store", str(tmp_path / "store"))
    async with command(tmp_path, *UP, *store, **QUICK) as first, command(tmp_path, *UP, *store, **QUICK) as second:
        said = {await first.ended_or_said("ready"), await second.ended_or_said("ready")}
        assert said == {"ended", "said"}
        loser = first if first.process.returncode is not None else second
        assert "in use by another nats-server" in loser.output


async def test_a_port_that_is_taken_is_said(tmp_path, nats_server):
    arguments = ("up", "--port", str(nats_server.port), "--store", str(tmp_path / "store"))
    async with command(tmp_path, *arguments, **QUICK) as up:
        assert await up.ended() != 0
        assert "address already in use" in up.output
        assert up.family() == []


async def test_the_next_one_reads_the_ledger_that_the_last_one_left(tmp_path):
    options = (*UP, "--store", str(tmp_path / "store"), "--max-concurrency", "3", "--prefix", "bots.alpha")
    for term in (1, 2):
        async with command(tmp_path, *options, **QUICK) as up:
            url = await address_of(up)
            await bring_up_a_shard(url, "bots.alpha")
            async with command(tmp_path, "status", "--server", url, "--prefix", "bots.alpha") as status:
                assert await status.ended() == 0, status.output
                assert status.lines[0].endswith(f"leads, term {term}")
                table = [line.split() for line in status.lines if line.strip()]
                buckets = table[[row[0] for row in table].index("bucket") + 1 :]
                assert [row[0] for row in buckets] == ["0", "1", "2"]
            assert await up.end(signal.SIGTERM) == 0, up.output


async def test_discord_tells_the_limits_where_there_is_a_token(tmp_path):
    token_file = tmp_path / "token"
    token_file.write_text("Bot of.no.bot\n")  # as it was pasted
    async with SimulatedGateway(max_concurrency=7, remaining=500, token="of.no.bot") as gateway:  # noqa: S106  # as it says
        settings = {**QUICK, "DISCORD_API_URL": gateway.rest_url, "DISCORD_TOKEN": "another"}
        store = str(tmp_path / "store")
        async with command(tmp_path, *UP, "--store", store, "--token-file", str(token_file), **settings) as up:
            url = await address_of(up)
            async with NatsQueue.connect(url) as queue:

                async def known():
                    info = await queue.info()
                    return info and info.max_concurrency and (info.max_concurrency, info.session_start_limit.remaining)

                assert await until(known, "Discord has told the limits") == (7, 500)
            assert await up.end(signal.SIGTERM) == 0, up.output


async def test_with_a_refused_token_it_is_not_ready_and_says_so(tmp_path):
    async with SimulatedGateway(token="of.no.bot") as gateway:  # noqa: S106  # as it says
        settings = {**QUICK, "DISCORD_API_URL": gateway.rest_url, "DISCORD_TOKEN": "another"}
        async with command(tmp_path, *UP, "--store", str(tmp_path / "store"), **settings) as up:
            await up.until_said("The queue is not ready: Discord refuses the bot's token (HTTP 401)")
            assert "set DISCORD_TOKEN or DISCORD_TOKEN_FILE to the bot's present token" in up.output
            assert "The queue is ready" not in up.output
            assert "another" not in up.output
            assert await up.end(signal.SIGTERM) == 0, up.output
            assert "The queue is ready" not in up.output


async def test_with_discord_away_it_is_ready_once_discord_answers(tmp_path):
    async with SimulatedGateway() as gateway:
        gateway.misbehave(ErrorResponse.server_error(), ErrorResponse.server_error())
        settings = {**QUICK, "DISCORD_API_URL": gateway.rest_url, "DISCORD_TOKEN": "some"}
        async with command(tmp_path, *UP, "--store", str(tmp_path / "store"), **settings) as up:
            await up.until_said("ctrl-C stops both")
            not_ready, ready = "The queue is not ready: Discord answered HTTP 503", "The queue is ready"
            assert 0 <= up.output.index(not_ready) < up.output.index(ready)
            assert "Discord answers again" in up.output
            assert await up.end(signal.SIGTERM) == 0, up.output


async def test_a_wrong_setting_ends_it_with_the_coordinator_s_own_words(tmp_path):
    async with command(tmp_path, *UP, "--store", str(tmp_path / "store"), IDENTIFY_WINDOW="soon") as up:
        assert await up.ended() == 2
        assert "IDENTIFY_WINDOW: " in up.output
        assert "the coordinator ended with status 2" in up.output
        assert up.family() == []


SECRETS = {
    "NATS_PASSWORD": "hunter2",
    "NATS_TOKEN": "hunter2",
    "DISCORD_TOKEN": "MTAw.of-no-bot.hunter2",
    "DISCORD_API_URL": "http://127.0.0.1:1/api",  # where there is no Discord
    "AWS_SECRET_ACCESS_KEY": "hunter2",
    "DATABASE_URL": "postgres://me:hunter2@127.0.0.1/db",
}


async def test_nats_server_is_given_no_secret(tmp_path):
    async with command(tmp_path, *UP, "--store", str(tmp_path / "store"), **QUICK, **SECRETS) as up:
        await up.until_said("The queue is not ready")  # there is no Discord: by then the server is long up
        (server,) = up.family("nats-server")
        environment = await asyncio.to_thread(Path(f"/proc/{server}/environ").read_bytes)
        assert b"PATH=" in environment
        assert b"hunter2" not in environment


async def test_the_store_is_for_its_owner_alone(tmp_path):
    store = tmp_path / "store"
    async with command(tmp_path, *UP, "--store", str(store), **QUICK) as up:
        await address_of(up)
        assert await up.end(signal.SIGTERM) == 0, up.output
    assert {path.name: oct(path.stat().st_mode & 0o077) for path in (store, *store.rglob("*"))} == {
        path.name: "0o0" for path in (store, *store.rglob("*"))
    }
    store.chmod(0o755)  # as an older version made it
    async with command(tmp_path, *UP, "--store", str(store), **QUICK) as up:
        await address_of(up)
        assert store.stat().st_mode & 0o077 == 0
        assert await up.end(signal.SIGTERM) == 0, up.output


async def test_nothing_is_written_through_a_link(tmp_path):
    store, elsewhere = tmp_path / "store", tmp_path / "elsewhere"
    store.mkdir()
    elsewhere.write_text("mine")
    (store / "nats-server.conf").symlink_to(elsewhere)
    async with command(tmp_path, *UP, "--store", str(store), **QUICK) as up:
        await address_of(up)
        assert await up.end(signal.SIGTERM) == 0, up.output
    assert elsewhere.read_text() == "mine"
    for name in ("lock", "nats-server.log"):
        (store / name).unlink()
        (store / name).symlink_to(elsewhere)
        async with command(tmp_path, *UP, "--store", str(store), **QUICK) as up:
            assert await up.ended() == 1
            assert f"{name} " in up.output
            assert "remove it" in up.output
        assert elsewhere.read_text() == "mine"
        (store / name).unlink()


async def test_a_store_that_everybody_may_write_to_is_refused(tmp_path):
    store = tmp_path / "store"
    store.mkdir()
    store.chmod(0o777)
    async with command(tmp_path, *UP, "--store", str(store), **QUICK) as up:
        assert await up.ended() == 1
        assert "chmod 700" in up.output


@pytest.mark.parametrize(("victim", "said"), [("coordinator", "by SIGKILL"), ("nats-server", "nats-server ended")])
async def test_it_ends_when_a_part_of_it_dies(tmp_path, victim, said):
    async with command(tmp_path, *UP, "--store", str(tmp_path / "store"), **QUICK) as up:
        await address_of(up)
        os.kill(next(iter(up.family(victim))), signal.SIGKILL)
        assert await up.ended() == 1, up.output
        assert said in up.output
        assert up.family() == []


async def test_status_says_where_nobody_answers(tmp_path, nats_server):
    said_of = {"nats://127.0.0.1:1": "cannot connect to NATS", nats_server.url: "no coordinator answers"}
    for server, said in said_of.items():
        async with command(tmp_path, "status", "--server", server) as status:
            assert await status.ended() == 1
            assert status.output.startswith(said)
