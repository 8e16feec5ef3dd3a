"""What becomes of a grant that cannot be published, and which troubles of NATS are logged one by one."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from nats import errors

from coordinator.edge.connections import Connection, ConnectionContext
from coordinator.edge.event_queue import EventQueue
from coordinator.edge.log import make_log
from coordinator.edge.metrics import Metrics
from coordinator.edge.publisher import Publisher
from coordinator.edge.recent import Recent
from nats_identify.clock import now_ns
from nats_identify.schedule.model import Granted, Queued, Reason, Reply, Undeliverable
from nats_identify.wire import Subjects

GRANT = Granted(3, 1, "r1", "7-abc", 0, 5_000_000_000, 0, 999, 2)
QUEUED = Queued(3, 1, "r1", 1, 0, 2_000_000_000, Reason.WINDOW, 2, nudge=True)


class Traffic:
    """A connection that is there, is not, or refuses what it is given."""

    def __init__(self, *, can_send=True, error=None):
        self.can_send, self._error = can_send, error
        self.published = []

    def new_inbox(self):
        return "_INBOX.c"

    def publish_now(self, to, _payload, **_more):
        if self._error is not None:
            raise self._error
        self.published.append(to)


def publisher_over(traffic):
    event_queue = EventQueue()
    told: Any = traffic
    made = Publisher(
        told,
        Subjects("identify"),
        event_queue,
        metrics=Metrics(),
        recent=Recent(),
        log=make_log("error", "json"),
        clock=now_ns,
    )
    return made, event_queue


def events_of(event_queue):
    events = []
    while (entry := event_queue.take()) is not None:
        events.append(entry[0])
    return events


@pytest.mark.parametrize(
    "traffic",
    [Traffic(can_send=False), Traffic(error=errors.BadSubjectError()), Traffic(error=errors.MaxPayloadError())],
    ids=["not connected", "no subject", "too large"],
)
def test_a_grant_that_is_not_published_is_reported_as_undeliverable(traffic):
    """Its plain shard would have no reply, and the bucket would stay shut for the full hold."""
    publisher, event_queue = publisher_over(traffic)
    publisher.reply(Reply("_INBOX.a.r1", QUEUED), term=1)
    assert events_of(event_queue) == [], "a shard renews"
    publisher.reply(Reply("_INBOX.a.r1", GRANT), term=1)
    assert events_of(event_queue) == [Undeliverable("7-abc")]


def test_a_grant_that_is_published_is_not_reported():
    traffic = Traffic()
    publisher, event_queue = publisher_over(traffic)
    publisher.reply(Reply("_INBOX.a.r1", GRANT), term=1)
    assert (traffic.published, events_of(event_queue)) == (["_INBOX.a.r1"], [])


class Warnings:
    """A log that keeps what went wrong."""

    def __init__(self):
        self.said = []

    def warning(self, _text, **facts):
        self.said.append(facts["error"])


async def test_each_refused_subscription_is_logged_and_refused_replies_once():
    lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    log: Any = Warnings()
    connection = Connection(ConnectionContext("traffic", "nats://host", (), log, Metrics(), lost))
    connection._transport = SimpleNamespace(close=lambda: None)  # type: ignore[assignment]  # as far as it looks at it
    refused = [f'nats: permissions violation for subscription to "identify.{name}.*"' for name in ("request", "cancel")]
    for text in (*refused, *refused):
        await connection.on_error(errors.Error(text))
    for number in range(10):
        await connection.on_error(errors.Error(f'nats: permissions violation for publish to "_inbox.{number}"'))
    assert log.said == [*refused, 'nats: permissions violation for publish to "_inbox.0"']
