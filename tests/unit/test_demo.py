"""The demo's pure parts: how shards are dealt, where a board sees them, how it is drawn, and what the verdict says."""

from dataclasses import replace

import pytest
from rich.console import Console

from nats_identify.cli.demo.board import Board, Stage
from nats_identify.cli.demo.picture import draw
from nats_identify.cli.demo.plan import Plan
from nats_identify.cli.demo.verdict import Run, judge_control, judge_queue, no_control, together
from nats_identify.clock import NS_PER_S

GOOD = Run(
    identifies=4,
    violations=0,
    over_limit=0,
    ready_by_shard={0: 1, 1: 1, 2: 1, 3: 1},
    smallest_gap_s={0: 5.214, 1: 5.25},
    mean_gap_s={0: 5.22, 1: 5.25},
    remaining=996,
    first_up_s=1.44,
    all_up_s=6.71,
)
PLAN = Plan(shards=4, max_concurrency=2)


@pytest.mark.parametrize("shards", [1, 2, 6, 12, 48, 200])
@pytest.mark.parametrize("max_concurrency", [1, 2, 3, 16])
@pytest.mark.parametrize("processes", [1, 2, 3, 4])
def test_every_shard_is_dealt_once_and_neighbours_in_a_bucket_to_different_processes(
    shards, max_concurrency, processes
):
    plan = Plan(shards=shards, max_concurrency=max_concurrency, processes=processes)
    hands = plan.deal()
    assert sorted(shard_id for hand in hands for shard_id in hand) == list(range(shards))
    assert all(hands)
    owner = {shard_id: number for number, hand in enumerate(hands) for shard_id in hand}
    if processes > 1:
        assert all(owner[shard_id] != owner[shard_id + max_concurrency] for shard_id in range(shards - max_concurrency))
    shared = sum(
        len({owner[shard_id] for shard_id in range(bucket, shards, max_concurrency)}) - 1
        for bucket in range(plan.buckets)
    )
    assert plan.collisions == shared


def test_the_ideal_is_every_identify_of_the_fullest_bucket_a_window_apart():
    assert Plan(shards=12, max_concurrency=2).ideal_s == 25.0
    assert Plan(shards=13, max_concurrency=2).ideal_s == 30.0
    assert Plan(shards=2, max_concurrency=2).ideal_s == 0.0


# --- the board


def stages(board: Board) -> list[list[tuple[int, Stage]]]:
    return [[(seat.shard_id, seat.stage) for seat in bucket] for bucket in board.buckets]


def identify(
    shard_id: int, *, bucket: int = 0, verdict: str = "accepted", gap_ns: int | None = None
) -> dict[str, object]:
    return {"event": "identify", "shard_id": shard_id, "bucket": bucket, "verdict": verdict, "gap_ns": gap_ns}


def test_a_bucket_shows_those_who_had_a_turn_and_then_the_line_in_its_order():
    board = Board(4, 1, started_ns=0)
    for shard_id in (2, 0, 1):
        board.queue_said("queued", {"shard_id": shard_id})
    board.queue_said("granted", {"shard_id": 2})
    assert stages(board) == [[(2, Stage.GRANTED), (0, Stage.NEXT), (1, Stage.WAITING), (3, Stage.UNSEEN)]]
    board.queue_said("identified", {"shard_id": 2})
    board.queue_said("granted", {"shard_id": 0})
    board.discord_said({"event": "ready", "shard_id": 2, "at_ns": 3 * NS_PER_S})
    assert stages(board) == [[(2, Stage.UP), (0, Stage.GRANTED), (1, Stage.NEXT), (3, Stage.UNSEEN)]]


def test_what_the_queue_says_late_does_not_undo_what_discord_has_seen():
    board = Board(1, 1, started_ns=0)
    board.discord_said(identify(0))
    board.queue_said("granted", {"shard_id": 0})
    assert stages(board) == [[(0, Stage.IDENTIFIED)]]
    board.discord_said({"event": "ready", "shard_id": 0, "at_ns": 1})
    for name in ("queued", "granted", "identified", "declined"):
        board.queue_said(name, {"shard_id": 0})
    assert stages(board) == [[(0, Stage.UP)]]
    assert board.is_all_up


def test_a_declined_turn_waits_again_and_a_refused_shard_comes_again():
    board = Board(1, 1, started_ns=0)
    board.queue_said("granted", {"shard_id": 0})
    board.queue_said("declined", {"shard_id": 0})
    assert stages(board) == [[(0, Stage.NEXT)]]
    board.discord_said(identify(0, verdict="too_early", gap_ns=NS_PER_S))
    assert stages(board) == [[(0, Stage.REFUSED)]]
    assert (board.identifies, board.violations, board.smallest_gap_s) == (1, 1, {0: 1.0})
    board.queue_said("granted", {"shard_id": 0})
    assert stages(board) == [[(0, Stage.GRANTED)]]


def test_what_concerns_no_shard_of_ours_is_ignored():
    board = Board(1, 1, started_ns=0)
    for event in ({"event": "connect"}, {"event": "disconnect", "shard_id": None}, identify(7), {}):
        board.discord_said(event)
    for name in ("leader", "limits", "news of a later version"):
        board.queue_said(name, {"shard_id": 7})
    assert stages(board) == [[(0, Stage.UNSEEN)]]
    assert board.identifies == 0


# --- the picture


@pytest.mark.parametrize("shards", [1, 12, 48, 200])
@pytest.mark.parametrize("max_concurrency", [1, 2, 16, 64])
@pytest.mark.parametrize(("columns", "lines"), [(80, 24), (120, 40), (200, 60)])
def test_the_picture_fits_the_screen_and_shows_every_shard(shards, max_concurrency, columns, lines):
    plan, board = Plan(shards=shards, max_concurrency=max_concurrency), Board(shards, max_concurrency, started_ns=0)
    for shard_id in range(shards):
        board.queue_said("queued", {"shard_id": shard_id})
        if shard_id < max_concurrency:
            board.discord_said(identify(shard_id, bucket=shard_id, gap_ns=5 * NS_PER_S))
            board.discord_said({"event": "ready", "shard_id": shard_id, "at_ns": NS_PER_S})
    console = Console(width=columns, height=lines, color_system=None)
    with console.capture() as captured:
        console.print(draw(board, plan, "Test", now_ns=NS_PER_S, columns=columns, lines=lines))
    rows = captured.get().splitlines()
    assert max(map(len, rows)) <= columns
    assert len(rows) <= max(lines, 9 + -(-min(shards, max_concurrency) // 4))  # else a screen is too small for it
    up, waiting = board.up, shards - board.up
    drawn = "\n".join(row for row in rows if " up " not in row)
    assert drawn.count("✓") == up
    assert drawn.count("▸") + drawn.count("·") - rows[1].count("·") == waiting


# --- the verdict


def test_a_good_run_passes_and_says_so_in_plain_words():
    verdict = together(judge_queue(PLAN, GOOD), judge_control(replace(GOOD, violations=3)))
    assert verdict.lines == [
        "4 of 4 shards up in 6.7 s (ideal 5.0 s: 2 in a bucket, 5 s apart)",
        "first shard up after 1.4 s",
        "smallest gap: bucket 0 5.214 s, bucket 1 5.250 s",
        "mean gap: bucket 0 5.220 s, bucket 1 5.250 s",
        "violations: 0",
        "session starts: 4 used, 996 of 1000 left",
        "control without the common queue: 3 violations in 4 IDENTIFYs",
    ]
    assert verdict.status == 0
    assert verdict.sentence.startswith("PASSED")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"violations": 2}, "2 violations with the queue"),
        ({"over_limit": 1}, "over the day's limit"),
        ({"ready_by_shard": {0: 1, 1: 1, 2: 1}, "all_up_s": None}, "1 of 4 shards did not come up"),
        ({"ready_by_shard": {0: 2, 1: 1, 2: 1, 3: 1}}, "1 shards had more than one READY"),
        ({"ready_by_shard": {}, "first_up_s": None, "all_up_s": None, "smallest_gap_s": {}}, "4 of 4 shards did not"),
    ],
)
def test_each_failure_is_said_and_fails(changed, said):
    verdict = judge_queue(PLAN, replace(GOOD, **changed))
    assert verdict.status == 1
    assert verdict.sentence.startswith("FAILED: ")
    assert said in verdict.sentence


def test_a_control_that_violates_nothing_fails():
    verdict = together(judge_queue(PLAN, GOOD), judge_control(GOOD))
    assert verdict.status == 1
    assert "the control" in verdict.sentence


@pytest.mark.parametrize("plan", [Plan(shards=2), Plan(processes=1), Plan(wants_control=False)])
def test_a_control_that_cannot_be_is_left_out_and_said(plan):
    verdict = no_control(plan)
    assert verdict.status == 0
    assert "left out" in verdict.lines[0]
    assert plan.collisions == 0 or not plan.wants_control


def test_many_buckets_are_counted_rather_than_named():
    plan = Plan(shards=32, max_concurrency=16)
    gaps_s = {bucket: 5.2 + bucket / 100 for bucket in range(16)}
    run = replace(GOOD, smallest_gap_s=gaps_s, ready_by_shard=dict.fromkeys(range(32), 1))
    line = judge_queue(plan, run).lines[2]
    named = "bucket 0 5.200 s, bucket 1 5.210 s, bucket 2 5.220 s, bucket 3 5.230 s"
    assert line == f"smallest gap: {named}, and 12 buckets with larger ones"
