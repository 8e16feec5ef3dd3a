"""``nats-identify up``: NATS and a coordinator on this machine, ready for a bot."""

import asyncio
import os
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from nats_identify.printable import printable
from nats_identify.processes.local_cluster import Cluster, environment_without, run_cluster
from nats_identify.processes.subprocesses import Children
from nats_identify.wire import Info, Subjects


@dataclass(frozen=True, slots=True)
class UpOptions:
    """What is to be started.

    Attributes:
        port: of NATS, on loopback; 0 takes a free one.
        store: the ledger lives here; what was granted is remembered from one `up` to the next.
        token_file: holds the bot's token; without it ``DISCORD_TOKEN`` or ``DISCORD_TOKEN_FILE`` of our environment.
        max_concurrency: instead of Discord's.
        http_port: of the coordinator's health and metrics.
        prefix: of the subjects.
    """

    port: int
    store: Path
    token_file: Path | None
    max_concurrency: int | None
    http_port: int
    prefix: str


async def run_up(options: UpOptions, say: Callable[[str], None]) -> None:
    """Run until cancelled, and print what to do next.

    Raises:
        NatsServerError: there is no nats-server, or it does not start.
        ChildDiedError: nats-server or the coordinator ended.
        TimeoutError: the coordinator did not answer.
    """
    async with AsyncExitStack() as stack:
        children = await stack.enter_async_context(Children())
        running = run_cluster(children, options.store, port=options.port, settings=_settings(options), shown=True)
        cluster = await stack.enter_async_context(running)
        await children.run_while_alive(_until_ready(cluster, options.prefix, say))
        say(directions(cluster.url, options.prefix, options.http_port))
        say(f"What is granted is remembered in {options.store}. ctrl-C stops both.\n")
        await children.run_while_alive(_forever())


async def _until_ready(cluster: Cluster, prefix: str, say: Callable[[str], None]) -> None:
    """Wait until it can grant; print once why that takes longer than the start of a process.

    Raises:
        TimeoutError: no coordinator answered, or none led.
    """
    info = await cluster.until_known(_is_settled, prefix=prefix)
    if not _can_grant(info):
        why = printable(info.trouble)
        say(f"The queue is not ready: {why}.\nUntil that is mended nothing is granted. ctrl-C stops it.\n")
        await cluster.until_known(_can_grant, prefix=prefix, within_s=None)


def _can_grant(info: Info) -> bool:
    limit = info.session_start_limit
    return info.leader is not None and info.max_concurrency is not None and limit.remaining is not None


def _is_settled(info: Info) -> bool:
    """Whether Discord has answered, or there is none to ask."""
    return info.leader is not None and (_can_grant(info) or info.trouble is not None)


def directions(url: str, prefix: str, http_port: int) -> str:
    """What to put into the bot, and how to watch, for this address and prefix; a port of 0 is any, and in the log."""
    page = f"http://127.0.0.1:{http_port}/" if http_port else "the address in the log above (HTTP is served)"
    where = "" if url == "nats://127.0.0.1:4222" else f" --server {url}"
    named = "" if prefix == "identify" else f", prefix={prefix!r}"
    return f"""
The queue is ready. In your bot:

    from nats_identify import NatsQueue
    queue = await NatsQueue.connect("{url}"{named})
    async with queue.turn(shard_id): await websocket.send(identify)

Watch it in a browser at {page}, with `nats-identify status`, or with the nats command line:

    nats{where} sub '{prefix}.event.>'
    nats{where} request {prefix}.status ''
    nats{where} kv get {Subjects(prefix).kv_bucket} ledger --raw
    nats{where} kv watch {Subjects(prefix).kv_bucket}
    nats{where} micro info identify-coordinator
"""


async def _forever() -> None:
    await asyncio.Event().wait()


def _settings(options: UpOptions) -> dict[str, str]:
    """Whatever IDENTIFY_ and DISCORD_ variables are set hold, unless an option says otherwise."""
    settings = {
        **environment_without("NATS_"),
        "IDENTIFY_PREFIX": options.prefix,
        "IDENTIFY_HTTP_PORT": f"{options.http_port}",
        # Used only where the ledger has never existed. This command alone writes to its store, so a store without a
        # ledger means that nothing was granted; one that has a ledger is read, as everywhere.
        "IDENTIFY_FRESH_START": "1",
        # On a developer's machine a bot is restarted all day, which is no crash loop.
        "IDENTIFY_CRASH_LOOP_GRANTS": os.environ.get("IDENTIFY_CRASH_LOOP_GRANTS") or "0",
    }
    if options.max_concurrency is not None:
        settings["IDENTIFY_MAX_CONCURRENCY"] = f"{options.max_concurrency}"
    if options.token_file is not None:
        settings.pop("DISCORD_TOKEN", None)  # one of the two
        settings["DISCORD_TOKEN_FILE"] = f"{options.token_file}"
    return settings
