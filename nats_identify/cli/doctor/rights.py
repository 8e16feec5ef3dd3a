"""Tries each permission that a role needs, harmlessly, and reads the server's Permissions Violation.

What is published has no reply subject that a coordinator would answer, or cannot be read, or carries a condition that
can never hold: NATS checks the permission first, and then it changes nothing.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Literal

from nats_identify.cli.doctor.findings import Finding, note, todo, well
from nats_identify.cli.operator import round_trip
from nats_identify.nats_connection import NatsClient
from nats_identify.operator_wire import Command
from nats_identify.printable import printable
from nats_identify.wire import Subjects

ROLES: Final = ("operator", "shard", "coordinator")

UNREADABLE: Final = b"?"
"""No JSON: a coordinator drops it, and JetStream's API answers with an error."""

NEVER: Final = {"Nats-Expected-Stream": "nats-identify-doctor", "Nats-Expected-Last-Subject-Sequence": f"{2**53}"}
"""JetStream stores a message with these headers under no circumstances: no ledger is in that stream."""

_TOKEN: Final = "doctor"  # noqa: S105  # of a subject: no bucket, no grant


@dataclass(frozen=True, slots=True)
class Try:
    """One permission.

    Attributes:
        direction: as the server names it.
        right: what the account must allow.
        subject: what is tried; it is covered by the right.
        body, headers: of a message that changes nothing.
        wants_reply: whether it carries a reply subject, to which nothing listens.
    """

    direction: Literal["publish", "subscription"]
    right: str
    subject: str
    body: bytes = UNREADABLE
    headers: dict[str, str] = field(default_factory=dict)
    wants_reply: bool = False

    @property
    def check(self) -> str:
        """What is looked at."""
        return f"may {'publish' if self.direction == 'publish' else 'subscribe to'} {self.right}"

    def is_refused_by(self, error: str) -> bool:
        """Whether the server's error names this permission."""
        text = error.lower()
        return f'permissions violation for {self.direction} to "{self.subject.lower()}"' in text


def _publish(right: str, **more: object) -> Try:
    """Try a right whose wildcards are filled in."""
    subject = right.replace("*", _TOKEN).removesuffix(">") + (_TOKEN if right.endswith(">") else "")
    return Try("publish", right, subject, **more)  # type: ignore[arg-type]  # fields of Try


def _subscribe(right: str) -> Try:
    return Try("subscription", right, right)


def ledger_write(subjects: Subjects) -> Try:
    """Write the ledger, on a condition that never holds: a coordinator may, and others should not."""
    return Try("publish", "the ledger", f"$KV.{subjects.kv_bucket}.ledger", headers=NEVER)


def tries_of(role: str, subjects: Subjects, inbox: str) -> list[Try]:
    """Return what a role needs; ``inbox`` is the prefix under which this login listens."""
    prefix, stream = subjects.prefix, f"KV_{subjects.kv_bucket}"
    shard = [_publish(f"{prefix}.{name}") for name in ("request.*", "cancel.*", "confirm.*.*", "info")]
    replies = Try("subscription", f"{inbox}.>", f"{inbox}.{_TOKEN}.*")
    reads = [
        _publish(f"$JS.API.STREAM.MSG.GET.{stream}", wants_reply=True),
        _publish(f"$JS.API.STREAM.INFO.{stream}", body=b"", wants_reply=True),
    ]
    if role == "shard":
        return [replies, *shard]
    if role == "operator":
        return [
            replies,
            *shard,
            _publish(f"{prefix}.status"),
            _publish(f"{prefix}.refresh"),
            *(_publish(f"{prefix}.{command}") for command in Command),
            _subscribe(subjects.events),
            *(_publish(f"$SRV.{verb}.identify-coordinator", body=b"", wants_reply=True) for verb in ("PING", "INFO")),
            *reads,
            *_history_reads(subjects),
        ]
    listens = (subjects.requests, subjects.confirms, subjects.cancels, subjects.info, subjects.status, subjects.refresh)
    return [
        replies,
        *(_subscribe(subject) for subject in listens),
        *(_subscribe(subjects.command(command)) for command in Command),
        _publish(f"$JS.API.STREAM.CREATE.{stream}", wants_reply=True),
        _publish(f"$JS.API.CONSUMER.CREATE.{stream}", wants_reply=True),
        *reads,
    ]


def _history_reads(subjects: Subjects) -> list[Try]:
    """What `nats-identify history` needs; without IDENTIFY_HISTORY there is no such stream: then the right is idle."""
    stream = subjects.event_stream
    return [
        _publish(f"$JS.API.STREAM.INFO.{stream}", body=b"", wants_reply=True),
        _publish(f"$JS.API.CONSUMER.CREATE.{stream}.>", wants_reply=True),
        _publish(f"$JS.API.CONSUMER.MSG.NEXT.{stream}.*", wants_reply=True),
    ]


async def try_rights(connection: NatsClient, errors: deque[str], tries: Iterable[Try]) -> set[str]:
    """Try them all, and return the rights that the server refuses.

    Args:
        connection: of the login.
        errors: what the server reports; its error callback fills it.
        tries: what is tried.
    """
    tries = list(tries)
    errors.clear()
    subscriptions = []
    for each in tries:
        if each.direction == "subscription":
            subscriptions.append(await connection.subscribe(each.subject))
        else:
            reply = connection.new_inbox() if each.wants_reply else ""
            await connection.publish(each.subject, each.body, reply=reply, headers=each.headers or None)
    await round_trip(connection)
    refused = {each.right for each in tries if any(each.is_refused_by(error) for error in errors)}
    for subscription in subscriptions:
        await subscription.unsubscribe()
    return refused


async def check_rights(
    connection: NatsClient, errors: deque[str], role: str, subjects: Subjects, inbox: str
) -> list[Finding]:
    """Try what a role needs, one by one, and whether it may write the ledger."""
    tries, write = tries_of(role, subjects, inbox), ledger_write(subjects)
    refused = await try_rights(connection, errors, [*tries, write])
    findings = []
    for each in tries:
        if each.right not in refused:
            findings.append(well(each.check, "yes"))
            continue
        where = "publish" if each.direction == "publish" else "subscribe"
        advice = f"no; allow it for this user: permissions {where} allow {printable(each.right)}"
        if each.direction == "subscription" and each.subject.startswith(inbox):
            advice += ", or set NATS_INBOX_PREFIX to what the account allows, such as _INBOX_operator"
        findings.append(todo(each.check, advice))
    return [*findings, _of_write(role, is_allowed=write.right not in refused)]


def _of_write(role: str, *, is_allowed: bool) -> Finding:
    check = "may write the ledger"
    if role == "coordinator":
        if is_allowed:
            return well(check, "yes, as a coordinator must")
        return todo(check, "no; a coordinator must: allow publish on $KV.<bucket>.ledger for its user")
    if is_allowed:
        return note(check, f"yes: this login can do more than the role {role} needs; give people a user of their own")
    return well(check, f"no, and the role {role} need not")
