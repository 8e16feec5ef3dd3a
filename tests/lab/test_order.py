"""The judge of the order finds who was passed by, and lets go what only looks like it."""

from tests.lab.order import passed_by, served


def event(name, shard_id, second, waited_s=0.0, bucket=0):
    at = f"2026-11-25T14:00:{second:06.3f}Z"
    facts = {"at": at, "shard_id": shard_id, "bucket": bucket, "request_id": f"r{shard_id}"}
    return name, {**facts, "waited_ms": round(waited_s * 1000)} if name == "granted" else facts


QUEUED = [event("queued", 1, 1), event("queued", 2, 2), event("queued", 3, 3)]


def test_first_come_first_served():
    line = served([*QUEUED, *(event("granted", shard, 5 * shard, 4 * shard) for shard in (1, 2, 3))])
    assert [request.shard_id for request in line] == [1, 2, 3]
    assert [request.asked_s % 60 for request in line] == [1, 2, 3]
    assert passed_by(line) == []


def test_who_is_passed_by_is_found():
    events = [*QUEUED, event("granted", 1, 5, 4), event("granted", 3, 10, 7), event("granted", 2, 15, 13)]
    assert passed_by(served(events)) == [(3, 2)]


def test_whose_message_came_late_keeps_the_place_it_had_asked_for():
    events = [*QUEUED, event("granted", 1, 5, 4), event("granted", 3, 10, 9), event("granted", 2, 15, 13)]
    assert passed_by(served(events)) == []


def test_an_open_bucket_passes_nobody_by():
    """Its event leaves after the commit, and so after that of one who came meanwhile and has to wait."""
    events = [event("queued", 1, 1.05), event("granted", 2, 1.06, 0.01), event("granted", 1, 6, 5)]
    assert passed_by(served(events)) == []


def test_who_was_not_there_yet_was_not_passed_by():
    events = [event("queued", 1, 1), event("granted", 1, 5, 4), event("queued", 2, 6), event("granted", 2, 10, 9.5)]
    assert passed_by(served(events)) == []


def test_another_bucket_is_another_line():
    events = [event("queued", 1, 1), event("queued", 2, 2, bucket=1)]
    events += [event("granted", 2, 5, 3, bucket=1), event("granted", 1, 10, 9)]
    assert passed_by(served(events)) == []
