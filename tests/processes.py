"""What integration tests hold: a coordinator process, and a requester's mailbox. They judge nothing."""

import asyncio
import json
import os
import re
import shlex
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.error import HTTPError, URLError
from urllib.request import ProxyHandler, build_opener

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import NoRespondersError

ROOT: Final = Path(__file__).parents[1]
COORDINATOR: Final = (*(shlex.split(os.environ.get("COORDINATOR_PYTHON", "")) or [sys.executable]), "-m", "coordinator")
"""Runs a coordinator: by this Python, or by that of another environment, where it is compiled (`make compiled`)."""

WITHIN_S: Final = 120.0
"""A test that waits longer hangs. A start of a process has taken 15 s on a machine with more to do than it can."""

QUICK: Final = {
    "IDENTIFY_FRESH_START": "1",
    "IDENTIFY_WINDOW": "0.4",
    "IDENTIFY_MARGIN": "0.05",
    "IDENTIFY_USE_WITHIN": "1",
    "IDENTIFY_GRACE": "0.2",
    "IDENTIFY_LEASE": "3",
    "IDENTIFY_CRASH_LOOP_GRANTS": "0",
    "IDENTIFY_HTTP_PORT": "0",
    "IDENTIFY_LOG_FORMAT": "json",
    "IDENTIFY_LOG_LEVEL": "debug",
}
"""Small windows, no guard, an empty store that is known to be one, and a log that a test can read.

The lease is a coordinator's own: on a busy machine a process may be stopped for longer than a second, and loses a
shorter one."""


async def settle(client: Client, subject: str = "nothing.listens.here") -> None:
    """Return when the server has taken in what this client sent and subscribed to; `flush` may overtake both.

    ``subject``: one that the client may publish on; an answer does no harm.
    """
    with suppress(NoRespondersError):
        await client.request(subject, b"", timeout=WITHIN_S)


SeenT = TypeVar("SeenT")


async def until(condition: Callable[[], Awaitable[SeenT | None]], what: str, within_s: float = WITHIN_S) -> SeenT:
    """Look until the condition holds, and return what it said."""
    try:
        async with asyncio.timeout(within_s):
            while not (seen := await condition()):  # noqa: ASYNC110  # another process is looked at
                await asyncio.sleep(0.01)  # between two looks
            return seen
    except TimeoutError:
        raise AssertionError(f"not within {within_s} s: {what}") from None


def samples_of(page: str) -> dict[str, float]:
    """Return all samples of a page of metrics by name and labels, without the label that all of them have."""
    samples = [line.rpartition(" ") for line in page.splitlines() if not line.startswith("#")]
    return {_without_prefix(name): float(value) for name, _, value in samples}


def _without_prefix(name: str) -> str:
    return re.sub(r',?prefix="[^"]*"', "", name).replace("{,", "{").replace("{}", "")


class CoordinatorProcess:
    """One `python -m coordinator`, with nothing of this process's environment but PATH."""

    def __init__(self, log_file: Path, environment: dict[str, str]) -> None:
        self.log_file = log_file
        self.environment = {"PATH": os.environ["PATH"], **environment}
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        with self.log_file.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                *COORDINATOR, cwd=ROOT, env=self.environment, stdout=log, stderr=log
            )

    @property
    def process(self) -> asyncio.subprocess.Process:
        assert self._process is not None
        return self._process

    @property
    def log(self) -> str:
        return self.log_file.read_text()

    def logged(self, event: str) -> list[dict[str, Any]]:
        complete, _, _ = self.log.rpartition("\n")  # what follows is being written
        lines = [json.loads(line) for line in complete.splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == event]

    async def until_logged(self, event: str) -> dict[str, Any]:
        """Wait until it has logged this, and return the newest line; a reply may come before the log does."""

        async def look() -> list[dict[str, Any]]:
            return self.logged(event)

        return (await until(look, f"it logs {event!r}"))[-1]

    async def until_metric(self, name: str, value: float) -> None:
        """Wait until a sample of /metrics has this value; what a reply says may be counted after it."""

        async def look() -> bool:
            return await self.metric(name) == value

        await until(look, f"{name} is {value:g}")

    async def page(self, path: str) -> tuple[int, str]:
        """GET a page; status 0 where nobody answers yet."""
        served = self.logged("HTTP is served")
        if not served:
            assert self.process.returncode is None, self.log
            return 0, ""
        return await asyncio.to_thread(fetch_page, f"http://{served[-1]['addresses'][0]}{path}")

    async def is_ready(self) -> bool:
        return (await self.page("/readyz"))[0] == 200

    async def is_leader(self) -> bool:
        return (await self.page("/leader"))[0] == 200

    async def metric(self, name: str) -> float:
        """Return one sample of /metrics, 0 where there is none; its name is without the label ``prefix``."""
        return samples_of((await self.page("/metrics"))[1]).get(name, 0.0)

    async def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal, and return the exit status."""
        if self.process.returncode is None:
            self.process.send_signal(how)
        return await self.ended()

    async def ended(self) -> int:
        """Wait for its end, and return the exit status."""
        return await asyncio.wait_for(self.process.wait(), WITHIN_S)


class Mailbox:
    """An inbox of its own, as every requester has one.

    Attributes:
        address: the reply subject.
    """

    def __init__(self, client: Client, prefix: str = "identify") -> None:
        self.address = client.new_inbox()
        self._client = client
        self._prefix = prefix
        self._subscription: Subscription | None = None

    async def open(self, settle_on: str = "nothing.listens.here") -> None:
        self._subscription = await self._client.subscribe(self.address)
        await settle(self._client, settle_on)

    async def close(self) -> None:
        await self.subscription.unsubscribe()
        await settle(self._client)

    @property
    def subscription(self) -> Subscription:
        assert self._subscription is not None
        return self._subscription

    async def ask(self, bucket: int | str = 0, payload: bytes | None = None, **fields: Any) -> None:
        """Send a request: a payload as it is, or the fields as JSON."""
        body = json.dumps(fields).encode() if payload is None else payload
        await self._client.publish(f"{self._prefix}.request.{bucket}", body, reply=self.address)

    async def reply(self) -> Msg:
        """Return the next reply, whatever it is."""
        return await self.subscription.next_msg(timeout=WITHIN_S)

    async def next(self, status: str) -> tuple[dict[str, Any], Msg]:
        """Return the next reply of this status; others are passed over."""
        while True:
            message = await self.reply()
            body = json.loads(message.data)
            if body["status"] == status:
                return body, message

    async def until_granted(self, request_id: str, bucket: int = 0, **fields: Any) -> tuple[dict[str, Any], Msg]:
        """Ask as a managed shard, renew whenever that is wanted at once, and return the grant."""
        renewal = fields.pop("renewal", 0)
        await self.ask(bucket, managed=True, request_id=request_id, renewal=renewal, **fields)
        while True:
            message = await self.reply()
            body = json.loads(message.data or b"{}")  # empty: no coordinator is there
            if body.get("status") == "granted" and body["request_id"] == request_id:
                return body, message
            if body.get("renew_in_ms", 0) == 0:
                renewal += 1
                await self.ask(bucket, managed=True, request_id=request_id, renewal=renewal, **fields)


def fetch_page(url: str) -> tuple[int, str]:
    """GET a page of this machine, through no proxy; status 0 where nobody answers."""
    try:
        with build_opener(ProxyHandler({})).open(url, timeout=WITHIN_S) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as error:
        return error.code, error.read().decode()
    except (URLError, OSError):
        return 0, ""
