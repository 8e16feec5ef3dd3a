"""The ledger's key: what the simulation believes of JetStream KV, and of the product's way there, is true of both."""

from dataclasses import replace

import pytest

from coordinator.core.ledger import Ledger, LedgerRead, LedgerUnreadable, Write, WriteUnsettled, Written
from nats_identify.schedule.grants import Grant, HoldRecord
from nats_identify.schedule.model import MS, SECOND, Outcome
from tests.contract.ways_to_the_ledger import model_bucket, real_bucket

GRANT = HoldRecord(Grant("a-1", "r1", 17, 1, 16, 3, 5 * SECOND), 10_200 * MS, Outcome.IDENTIFIED)
LEDGER = Ledger("identify", "a", "ai", 1, 1, 3 * SECOND, 16, 1000, 999, 86_400 * SECOND, (GRANT,), "a-0")


@pytest.fixture(params=[model_bucket, real_bucket], ids=["model", "nats-server"])
async def bucket(request, tmp_path):
    async with request.param(tmp_path) as bucket:
        yield bucket


def next_to(ledger, **changes):
    return replace(ledger, sequence=ledger.sequence + 1, **changes)


async def test_nothing_is_there_at_first_and_nothing_ever_was(bucket):
    assert await bucket.way("ai").read() == LedgerRead(None, 0, never_written=True)


async def test_what_is_written_is_read_by_everybody(bucket):
    way, other = bucket.way("ai"), bucket.way("bi")
    await way.read()
    assert await way.write(Write(LEDGER, 0)) == Written(1)
    assert await way.read() == await other.read() == LedgerRead(LEDGER, 1, written_on=0)


async def test_each_write_counts_one_up(bucket):
    way, ledger = bucket.way("ai"), LEDGER
    await way.read()
    for revision in range(5):
        ledger = next_to(ledger)
        assert await way.write(Write(ledger, revision)) == Written(revision + 1)
    assert await way.read() == LedgerRead(ledger, 5, written_on=4)


async def test_a_write_on_an_old_revision_is_not_done(bucket):
    way = bucket.way("ai")
    await way.read()
    await way.write(Write(LEDGER, 0))
    for stale in (0, 7):
        assert await way.write(Write(next_to(LEDGER, instance="bi"), stale)) == WriteUnsettled()
    assert await way.read() == LedgerRead(LEDGER, 1, written_on=0)


async def test_an_entry_too_large_is_refused_as_often_as_it_is_written_and_a_smaller_one_is_not(bucket):
    way = bucket.way("ai")
    await way.read()
    await bucket.refuse_grants(is_refused=True)
    for _ in range(2):
        assert await way.write(Write(LEDGER, 0)) == WriteUnsettled(is_refused=True)
    assert (await way.read()).ledger is None
    assert await way.write(Write(replace(LEDGER, grants=()), 0)) == Written(1)
    assert await way.write(Write(next_to(LEDGER), 0)) in {WriteUnsettled(), WriteUnsettled(is_refused=True)}
    await bucket.refuse_grants(is_refused=False)
    assert await way.write(Write(next_to(LEDGER), 0)) == WriteUnsettled()  # an old revision is another matter
    assert await way.write(Write(next_to(LEDGER), 1)) == Written(2)


async def test_of_two_who_write_on_one_revision_one_wins(bucket):
    ways = [bucket.way(f"{name}i") for name in "abc"]
    await ways[0].read()
    outcomes = [await way.write(Write(replace(LEDGER, instance=str(n)), 0)) for n, way in enumerate(ways)]
    assert outcomes == [Written(1), WriteUnsettled(), WriteUnsettled()]


async def test_a_deleted_key_is_a_revision_that_is_written_on(bucket):
    way = bucket.way("ai")
    await way.read()
    await way.write(Write(LEDGER, 0))
    await bucket.delete_key()
    assert await way.read() == LedgerRead(None, 2)
    assert await way.write(Write(LEDGER, 1)) == WriteUnsettled()
    assert await way.write(Write(LEDGER, 2)) == Written(3)
    assert await way.read() == LedgerRead(LEDGER, 3, written_on=2)


async def test_a_deleted_bucket_begins_anew_and_only_who_saw_it_knows(bucket):
    way = bucket.way("ai")
    await way.read()
    await way.write(Write(LEDGER, 0))
    await bucket.delete_bucket()
    assert await way.read() == LedgerRead(None, 0, never_written=False)
    assert await bucket.way("bi").read() == LedgerRead(None, 0, never_written=True)
    assert await way.write(Write(next_to(LEDGER), 0)) == Written(1)


async def test_a_copy_that_somebody_puts_back_was_written_on_nothing(bucket):
    way = bucket.way("ai")
    await way.read()
    await way.write(Write(LEDGER, 0))
    await way.write(Write(next_to(LEDGER), 1))
    await bucket.put_back(LEDGER)
    read = await way.read()
    assert isinstance(read, LedgerRead)
    assert read.ledger is not None
    assert (read.ledger.age, read.revision, read.written_on) == (LEDGER.age, 3, None)
    assert await way.write(Write(next_to(LEDGER), 2)) == WriteUnsettled()


async def test_a_stream_that_is_away_answers_nothing_and_forgets_nothing(bucket):
    way = bucket.way("ai")
    await way.read()
    await way.write(Write(LEDGER, 0))
    await bucket.go_away()
    assert await way.read() == LedgerUnreadable()
    assert await way.write(Write(next_to(LEDGER), 1)) == WriteUnsettled()
    await bucket.come_back()
    read = await way.read()
    assert read in {LedgerRead(LEDGER, 1, written_on=0), LedgerRead(next_to(LEDGER), 2, written_on=1)}


async def test_the_watch_shows_what_others_write_and_the_newest_at_last(bucket):
    writer, watcher = bucket.way("ai"), bucket.way("bi")
    await writer.read()
    await writer.write(Write(LEDGER, 0))
    assert (await watcher.is_shown(1)).ledger == LEDGER
    ledger = LEDGER
    for revision in range(1, 12):  # faster than the watch looks
        ledger = next_to(ledger)
        await writer.write(Write(ledger, revision))
    assert (await watcher.is_shown(12)).ledger == ledger
