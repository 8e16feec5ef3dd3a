"""``nats-identify doctor``: runs all checks in order, and prints a line for each as soon as it is known."""

import json
import re
import sys
import time
from datetime import datetime
from importlib.metadata import version
from typing import Final

import nats.errors
import typer
from nats.js import api

from nats_identify.cli.doctor.bucket import judge_bucket, need_of
from nats_identify.cli.doctor.coordinators import check_queue, find_coordinators, judge_coordinators
from nats_identify.cli.doctor.discord import check_token, judge_clock
from nats_identify.cli.doctor.findings import Finding, Level, note, todo, well
from nats_identify.cli.doctor.rights import ROLES, check_rights
from nats_identify.cli.operator import NoAnswerError, Operator, connected
from nats_identify.cli.options import Exit, Where, as_line
from nats_identify.printable import printable

__all__ = ["ROLES", "run_doctor"]

CLUSTER_VERSION: Final = (2, 11)
"""Older servers in a cluster can let two writers win one compare-and-set; a coordinator refuses them."""

_NUMBERS: Final = re.compile(r"(\d+)\.(\d+)(?:\.(\d+))?")
_LOGINS: Final = {
    "user": "NATS_USER and NATS_PASSWORD",
    "token": "NATS_TOKEN",
    "user_credentials": "NATS_CREDS_FILE",
    "nkeys_seed": "NATS_NKEY_SEED_FILE",
}


class Report:
    """Prints findings, and remembers whether there is something to do.

    Args:
        as_json: an object for each line.
    """

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._is_utf8 = (sys.stdout.encoding or "").lower().startswith("utf")
        self.counts = dict.fromkeys(Level, 0)

    def show(self, *findings: Finding) -> None:
        """Print them."""
        for finding in findings:
            self.counts[finding.level] += 1
            if self._as_json:
                line = as_line({"level": finding.level.value, "check": finding.check, "text": finding.text})
            else:
                line = finding.line(is_utf8=self._is_utf8)
            typer.echo(line)

    @property
    def status(self) -> Exit:
        """The exit status."""
        return Exit.FAILED if self.counts[Level.TODO] else Exit.DONE


async def run_doctor(where: Where, role: str, *, as_json: bool) -> int:
    """Check everything. Return the exit status: `Exit.FAILED` where there is something to do."""
    report = Report(as_json=as_json)
    clock: Finding | None = None
    try:
        async with connected(where) as operator:
            clock = await _check_nats(operator, where, role, report)
    except NoAnswerError as error:
        report.show(todo("NATS", f"{error}; is it running, is the address right, and is the login its own?"))
    discord = await check_token()
    report.show(*discord.findings)
    report.show(clock or judge_clock(discord.ahead_s, "Discord", 1.0))
    if not as_json:
        counts = report.counts
        typer.echo(f"{counts[Level.WELL]} well, {counts[Level.NOTE]} to note, {counts[Level.TODO]} to do")
    return report.status


async def _check_nats(operator: Operator, where: Where, role: str, report: Report) -> Finding | None:
    """Check all that needs NATS; return what is found of the clock, if the server names its time."""
    report.show(*_judge_server(operator, where))
    subjects, connection = operator.subjects, operator.connection
    inbox = str(where.nats.settings.get("inbox_prefix") or "_INBOX")
    rights = await check_rights(connection, operator.errors, role, subjects, inbox)
    report.show(*rights)
    if rights[0].level is Level.TODO:
        report.show(note("the rest", "not tried: without an inbox no answer arrives"))
        return None
    status = None
    if role == "operator":
        report.show(*judge_coordinators(await find_coordinators(connection), subjects.prefix, _semantic()))
        findings, status = await check_queue(operator)
        report.show(*findings)
    if role == "shard":
        return None
    findings, clock = await _check_bucket(operator, status.max_concurrency if status else None)
    report.show(*findings)
    return clock


def _judge_server(operator: Operator, where: Where) -> list[Finding]:
    connection, settings = operator.connection, where.nats.settings
    info = connection.server_info
    name = printable(info.get("version", "?"), 32)
    cluster = printable(info["cluster"], 64) if info.get("cluster") else ""
    findings = [well("NATS", f"{operator.shown} answers" + (f", cluster {cluster}" if cluster else ""))]
    found = _NUMBERS.match(name)
    is_old = found is not None and (int(found[1]), int(found[2])) < CLUSTER_VERSION
    if is_old and cluster:
        findings.append(todo("server version", f"{name} in a cluster: its compare-and-set is broken; update to 2.11"))
    elif is_old:
        findings.append(note("server version", f"{name}: update to 2.11 before it joins a cluster"))
    else:
        findings.append(well("server version", name))
    if connection.is_encrypted:
        findings.append(well("TLS", "the connection is encrypted"))
    elif _is_loopback(operator.shown):
        findings.append(note("TLS", "none, on this machine alone"))
    else:
        findings.append(todo("TLS", "none: what is sent can be read on the way; use tls:// or NATS_TLS_CA"))
    login = next((named for option, named in _LOGINS.items() if settings.get(option)), None)
    if login is not None:
        findings.append(well("login", f"accepted, by {login} or the URL"))
    else:
        findings.append(note("login", "none: this server takes every client; deploy/k8s has a user for each role"))
    if not info.get("jetstream"):
        findings.append(todo("JetStream", "it is off at this server: the ledger needs it"))
    return findings


def _is_loopback(shown: str) -> bool:
    return all(re.search(r"//(127\.|localhost|\[::1\])", address) for address in shown.split(", "))


async def _check_bucket(operator: Operator, max_concurrency: int | None) -> tuple[list[Finding], Finding | None]:
    """Read the settings of the bucket; the answer has the server's time."""
    name, connection = operator.subjects.kv_bucket, operator.connection
    before_s = time.time()
    try:
        reply = await connection.request(f"$JS.API.STREAM.INFO.KV_{name}", b"", timeout=2)
        answer = _Answer.read(reply.data)
    except (nats.errors.Error, OSError, ValueError) as error:  # a refused permission was reported above
        return [note("KV bucket", f"not read: {printable(error) or type(error).__name__}")], None
    took_s = time.time() - before_s
    clock = None if answer.at is None else judge_clock(before_s + took_s / 2 - answer.at.timestamp(), "NATS", took_s)
    if answer.config is None:
        text = f"{name} is not there ({printable(answer.trouble, 200)}); a coordinator makes it at its start"
        return [todo("KV bucket", text)], clock
    is_clustered = bool(connection.server_info.get("cluster"))
    buckets = max_concurrency or 1
    findings = judge_bucket(name, answer.config, max_concurrency=buckets, is_clustered=is_clustered)
    if need_of(buckets) > connection.max_payload:
        text = f"{connection.max_payload} bytes, and a ledger may need {need_of(buckets)}; raise it at the server"
        findings.append(todo("max_payload", text))
    return findings, clock


class _Answer:
    """What JetStream says of a stream.

    Attributes:
        config: of the stream; None: there is none.
        at: the server's time; None: it names none.
        trouble: why there is no stream.
    """

    def __init__(self, config: api.StreamConfig | None, at: datetime | None, trouble: str) -> None:
        self.config, self.at, self.trouble = config, at, trouble

    @classmethod
    def read(cls, payload: bytes) -> "_Answer":
        """Read it.

        Raises:
            ValueError: it is none.
        """
        body = json.loads(payload)
        if not isinstance(body, dict):
            message = "no answer of JetStream"
            raise ValueError(message)  # noqa: TRY004  # what arrived is wrong, not an argument
        at = None
        if isinstance(body.get("ts"), str):
            at = datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", body["ts"]))
        config = body.get("config")
        found = api.StreamConfig.from_response(config) if isinstance(config, dict) else None
        return cls(found, at, str((body.get("error") or {}).get("description", "no reason is given")))


def _semantic() -> str:
    """Return this version as NATS shows a coordinator's: its numbers."""
    found = _NUMBERS.match(version("nats-identify"))
    return ".".join(number or "0" for number in found.groups()) if found else "0.0.0"
