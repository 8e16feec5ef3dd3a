"""Finds the coordinators of a prefix, and judges their number, versions, leader and answers from Discord."""

import asyncio
import json
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from nats.aio.msg import Msg

from nats_identify.cli.doctor.findings import Finding, note, todo, well
from nats_identify.cli.operator import NoAnswerError, Operator
from nats_identify.cli.when import show_ms
from nats_identify.nats_connection import NatsClient
from nats_identify.operator_wire import FullStatus
from nats_identify.printable import printable

LISTEN_S: Final = 1.0
"""A coordinator answers a ping in milliseconds; one that takes longer is in trouble."""

COORDINATORS_MAX: Final = 100
NAME_MAX: Final = 64


@dataclass(frozen=True, slots=True)
class Found:
    """One coordinator that answered a ping."""

    replica: str
    prefix: str
    version: str


async def find_coordinators(connection: NatsClient) -> list[Found]:
    """Ping all coordinators of this NATS account, whatever their prefix."""
    found: list[Found] = []
    is_over = asyncio.Event()

    async def receive(message: Msg) -> None:
        if (one := _read(message.data)) is not None:
            found.append(one)
        if not message.data or len(found) >= COORDINATORS_MAX:  # empty: NATS knows of no receiver
            is_over.set()

    inbox = connection.new_inbox()
    subscription = await connection.subscribe(inbox, cb=receive)
    await connection.publish("$SRV.PING.identify-coordinator", b"", reply=inbox)
    with suppress(TimeoutError):
        async with asyncio.timeout(LISTEN_S):
            await is_over.wait()
    await subscription.unsubscribe()
    return found


def _read(payload: bytes) -> Found | None:
    try:
        pong: dict[str, Any] = json.loads(payload)
        metadata = pong.get("metadata") or {}
        texts = (metadata.get("replica", "?"), metadata.get("prefix", "?"), pong.get("version", "?"))
    except (ValueError, AttributeError, RecursionError):
        return None
    return Found(*(printable(text, NAME_MAX) for text in texts))


def judge_coordinators(found: list[Found], prefix: str, own_version: str) -> list[Finding]:
    """Return a line each on their number, their versions and other prefixes."""
    ours = [one for one in found if one.prefix == prefix]
    others = sorted({one.prefix for one in found} - {prefix})
    findings = []
    named = ", ".join(sorted(one.replica for one in ours))
    if not ours:
        hint = f"; there are some of prefix {', '.join(others)}: set --prefix" if others else ""
        findings.append(todo("coordinators", f"none of prefix {prefix} answers: start python -m coordinator{hint}"))
    elif len(ours) == 1:
        findings.append(note("coordinators", f"one, {named}: there is no standby; while it is away nothing is granted"))
    else:
        findings.append(well("coordinators", f"{len(ours)}: {named}"))
    if ours and others:
        findings.append(note("prefix", f"{prefix}; others on this NATS: {', '.join(others)}"))
    versions = sorted({one.version for one in ours})
    if len(versions) > 1:
        findings.append(todo("versions", f"coordinators of {' and '.join(versions)}: finish the update"))
    elif ours and versions != [own_version]:
        findings.append(note("versions", f"coordinators {versions[0]}, this command {own_version}"))
    elif ours:
        findings.append(well("versions", f"{versions[0]} everywhere"))
    return findings


async def check_queue(operator: Operator) -> tuple[list[Finding], FullStatus | None]:
    """Ask for the status; return a line each on the leader, Discord's answers and a pause, and the status."""
    try:
        status = await operator.status()
    except NoAnswerError as error:
        return [todo("status", str(error))], None
    findings = []
    if status.leader is None:
        findings.append(todo("leader", "none: look at the coordinators' logs and /readyz; nothing is granted"))
    else:
        findings.append(well("leader", f"{printable(status.leader, NAME_MAX)}, term {status.term}"))
    if status.trouble is not None:
        findings.append(todo("coordinators' token", f"no figures from Discord: {printable(status.trouble, 300)}"))
    limit = status.session_start_limit
    if limit.remaining is None:
        findings.append(todo("day", "how many session starts are left is not known: nothing is granted"))
    elif limit.remaining <= status.reserve:
        left = "" if limit.reset_after_ms is None else f" in {show_ms(limit.reset_after_ms)}"
        findings.append(todo("day", f"{limit.remaining} session starts left, all reserved; the next day begins{left}"))
    else:
        findings.append(well("day", f"{limit.remaining} of {limit.total} session starts left"))
    if status.paused is not None:
        findings.append(note("pause", "the queue is paused: nats-identify status shows why; resume ends it"))
    return findings, status
