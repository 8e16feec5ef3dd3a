"""The record's sums, and what never gets into it."""

from nats_identify.clock import NS_PER_S
from nats_identify.testing import Record, Verdict
from nats_identify.testing.events import (
    BecameReady,
    Disconnected,
    GatewayEvent,
    HeartbeatMissed,
    Identified,
    Resumed,
    TokenReset,
)


def identified(at_s: int, bucket: int = 0, gap_s: int | None = None, verdict: Verdict = Verdict.ACCEPTED) -> Identified:
    return Identified(
        at_ns=at_s * NS_PER_S,
        connection=1,
        shard_id=bucket,
        shard_count=16,
        max_concurrency=16,
        bucket=bucket,
        gap_ns=None if gap_s is None else gap_s * NS_PER_S,
        verdict=verdict,
    )


def test_a_report_adds_up_what_happened() -> None:
    record = Record()
    for event in (
        identified(1),
        identified(7, gap_s=6),
        identified(15, gap_s=8, verdict=Verdict.TOO_EARLY),
        identified(16, bucket=3, verdict=Verdict.OVER_LIMIT),
        TokenReset(16 * NS_PER_S, shard_id=3),
        BecameReady(17, connection=1, shard_id=0),
        Resumed(18, connection=2, shard_id=0, accepted=True),
        Resumed(19, connection=2, shard_id=None, accepted=False),
        HeartbeatMissed(20, connection=2, shard_id=0),
        Disconnected(20, connection=2, shard_id=0, close_code=4009, by_gateway=True),
    ):
        record.add(event)
    report = record.report()
    assert (report.identifies, report.violations, report.over_limit, report.token_resets) == (4, 2, 1, 1)
    assert report.identifies_by_bucket == {0: 3, 3: 1}
    assert report.smallest_gap_s == {0: 6.0}
    assert report.mean_gap_s == {0: 7.0}
    assert (report.first_identify_ns, report.last_identify_ns) == (NS_PER_S, 16 * NS_PER_S)
    assert (report.ready, report.ready_by_shard) == (1, {0: 1})
    assert (report.resumes, report.resumes_refused) == (1, 1)
    assert (report.disconnects_by_code, report.heartbeat_timeouts) == ({4009: 1}, 1)
    assert str(report) == (
        "4 IDENTIFYs, 2 violations (1 over the day's limit), 1 READYs to 1 shards, 1 RESUMEs\n"
        "bucket 0: 3 IDENTIFYs, smallest gap 6.0000 s, mean 7.0000 s"
    )


def test_old_events_go_and_the_sums_stay() -> None:
    record = Record(events_kept=2)
    for at_s in range(5):
        record.add(identified(at_s))
    assert [event.at_ns for event in record.of(Identified)] == [3 * NS_PER_S, 4 * NS_PER_S]
    assert record.report().identifies == 5


def test_a_listener_hears_every_event_until_it_leaves() -> None:
    record, heard = Record(), list[GatewayEvent]()
    leave = record.listen(heard.append)
    record.add(identified(1))
    leave()
    record.add(identified(2))
    assert heard == [identified(1)]


def test_an_event_names_itself_in_json() -> None:
    assert BecameReady(5, connection=1, shard_id=2).as_json() == {
        "event": "ready",
        "at_ns": 5,
        "connection": 1,
        "shard_id": 2,
    }
