"""Plays each case with a client that it starts, and returns what was found. It prints nothing."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from nats_identify import wire
from nats_identify.clock import NS_PER_S, now_ns
from nats_identify.nats_connection import NatsClient, open_connection
from nats_identify.nats_options import NatsOptions
from nats_identify.processes.nats_server import EmbeddedNats
from nats_identify.testing.client_kit.client import ClientFactory, ClientUnderTest
from nats_identify.testing.client_kit.coordinator import PlayedCoordinator
from nats_identify.testing.client_kit.harness import ClientHarness
from nats_identify.testing.client_kit.proxy import Proxy
from nats_identify.testing.client_kit.record import ClientFaultError, Record
from nats_identify.testing.client_kit.rule import ClientRule
from nats_identify.testing.queue_harness import RuleBrokenError
from nats_identify.testing.rule import Finding

CASE_WITHIN_S: Final = 300.0
"""A case that takes longer hangs; each of its steps has a shorter limit of its own."""

CONNECT_WITHIN_S: Final = 10


@dataclass(frozen=True, slots=True)
class CaseResult:
    """What became of one case.

    Attributes:
        rule: which one.
        finding: None where the client keeps the rule.
        seconds: how long it took.
    """

    rule: ClientRule
    finding: Finding | None
    seconds: float


@asynccontextmanager
async def nats_for_kit(options: NatsOptions | None) -> AsyncIterator[NatsOptions]:
    """Yield where NATS is: at these options, or a nats-server of the kit's own with an empty store.

    Raises:
        NatsServerError: there is no nats-server, or it does not start.
    """
    if options is not None:
        yield options
        return
    with TemporaryDirectory(prefix="client-kit-") as folder:
        async with EmbeddedNats(Path(folder) / "nats") as server:
            yield NatsOptions.of(server.url)


class Runner:
    """Plays cases against one nats-server.

    Args:
        options: where NATS is.
        make_client: makes the client of a case.
        on_begin: called as a case begins.
        on_end: called as it ends.
    """

    def __init__(
        self,
        options: NatsOptions,
        make_client: ClientFactory,
        *,
        on_begin: Callable[[ClientRule], None] = lambda _: None,
        on_end: Callable[[CaseResult], None] = lambda _: None,
    ) -> None:
        self._options = options
        self._make_client = make_client
        self._on_begin = on_begin
        self._on_end = on_end

    async def run(self, rules: Sequence[ClientRule], *, jobs: int = 1) -> list[CaseResult]:
        """Play these cases, ``jobs`` of them at a time; return their results in the order of the rules.

        Raises:
            nats.errors.Error: NATS cannot be reached.
            OSError: the client's program or NATS cannot be started or reached.
        """
        limit = asyncio.Semaphore(jobs)

        async def one(rule: ClientRule) -> CaseResult:
            async with limit:
                self._on_begin(rule)
                result = await self.play(rule)
                self._on_end(result)
                return result

        playing = [asyncio.create_task(one(rule), name=rule.name) for rule in rules]
        try:
            return await asyncio.gather(*playing)
        finally:
            for case in playing:
                case.cancel()
            await asyncio.wait(playing)  # each ends its client

    async def play(self, rule: ClientRule) -> CaseResult:
        """Start a client, play one case with it, and end it."""
        begun_ns, record = now_ns(), Record()
        host, port = server_of(self._options)
        subjects = wire.Subjects(f"kit-{secrets.token_hex(4)}")
        connection = await open_connection(
            self._options, NatsClient(), name="client kit", connect_timeout=CONNECT_WITHIN_S, max_reconnect_attempts=3
        )
        try:
            async with Proxy(host, port) as proxy:
                coordinator = PlayedCoordinator(connection, subjects, rule.max_concurrency, record)
                await coordinator.subscribe()
                client = self._make_client(record)
                harness = ClientHarness(client, coordinator, proxy, record)
                finding = await _found(rule, harness, client, _environment(rule, subjects, proxy))
        finally:
            await connection.close()
        return CaseResult(rule, finding, (now_ns() - begun_ns) / NS_PER_S)


def server_of(options: NatsOptions) -> tuple[str, int]:
    """Return the host and the port of the one server.

    Raises:
        ValueError: there are several, or it takes TLS or a websocket: the proxy cannot stand between.
    """
    servers = list(options.addresses.servers)
    address = servers[0].removeprefix("nats://")
    host, _, port = address.rpartition(":")
    if len(servers) > 1 or options.wants_tls or "://" in address or not port.isdigit():
        message = "--nats-url: give one server without TLS, such as nats://127.0.0.1:4222"
        raise ValueError(message)
    return host.strip("[]"), int(port)


def _environment(rule: ClientRule, subjects: wire.Subjects, proxy: Proxy) -> dict[str, str]:
    return {
        "NATS_URL": proxy.url,
        "IDENTIFY_PREFIX": subjects.prefix,
        "SHARD_IDS": ",".join(str(shard_id) for shard_id in rule.shard_ids),
    }


async def _found(
    rule: ClientRule, harness: ClientHarness, client: ClientUnderTest, environment: dict[str, str]
) -> Finding | None:
    """Play; return what broke the rule, or None."""
    await client.start(environment)
    try:
        async with asyncio.timeout(CASE_WITHIN_S):
            await rule.play(harness)
            harness.record.check()
    except ClientFaultError as fault:
        return Finding(rule.name, fault.reason, str(fault), fault.advice)
    except RuleBrokenError as broken:
        return Finding(rule.name, rule.reason, str(broken), rule.advice)
    except TimeoutError:
        seen = f"for {CASE_WITHIN_S:g} s this case waited in vain for {harness.waits_for}"
        return Finding(rule.name, rule.reason, seen, rule.advice)
    finally:
        harness.record.may_end = True
        await client.end()
    return None
