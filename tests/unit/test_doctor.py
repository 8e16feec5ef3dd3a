"""`nats-identify doctor`: how it judges what it found."""

from typing import Any

import pytest
from nats.js import api

from coordinator.edge.bucket import need_of as coordinators_need
from coordinator.settings import Settings
from nats_identify.cli.doctor.bucket import judge_bucket, need_of
from nats_identify.cli.doctor.coordinators import Found, judge_coordinators
from nats_identify.cli.doctor.discord import judge_clock
from nats_identify.cli.doctor.findings import Level, todo, well
from nats_identify.cli.doctor.rights import ROLES, tries_of
from nats_identify.wire import Subjects

GOOD: dict[str, Any] = {"max_msgs_per_subject": 1, "storage": api.StorageType.FILE, "num_replicas": 3}


def todos(findings):
    return [f"{finding.check}: {finding.text}" for finding in findings if finding.level is Level.TODO]


@pytest.mark.parametrize("max_concurrency", [1, 16, 256, 1000, 4096])
def test_its_bound_of_a_ledger_holds_and_is_near(max_concurrency):
    need = coordinators_need(Settings(), max_concurrency).largest
    assert need <= need_of(max_concurrency) <= 1.2 * need


def test_a_good_bucket_is_well():
    assert todos(judge_bucket("identify", api.StreamConfig(**GOOD), max_concurrency=16, is_clustered=True)) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"max_age": 60.0}, "KV TTL: 60 s: it deletes the ledger; nats stream edit KV_identify --max-age=0"),
        ({"storage": api.StorageType.MEMORY}, "KV storage: memory"),
        ({"num_replicas": 1}, "--replicas=3"),
        ({"max_msg_size": 100_000}, "KV value size: 100000 bytes at most, and a ledger may need"),
        ({"max_bytes": 100_000}, "KV bytes: 100000 bytes for an entry"),
        ({"max_msgs_per_subject": 0}, "KV history: it keeps every commit"),
        ({"max_msgs_per_subject": 64, "max_bytes": 1_000_000}, "KV bytes: 15625 bytes for an entry"),
        ({"sealed": True}, "takes no writes"),
    ],
)
def test_each_setting_that_is_wrong_says_what_to_do(change, said):
    config = api.StreamConfig(**{**GOOD, **change})
    (line,) = todos(judge_bucket("identify", config, max_concurrency=16, is_clustered=True))
    assert said in line


@pytest.mark.parametrize(
    ("found", "level", "said"),
    [
        ([], Level.TODO, "none of prefix identify answers"),
        ([Found("a", "other", "0.1.0")], Level.TODO, "there are some of prefix other: set --prefix"),
        ([Found("a", "identify", "0.1.0")], Level.NOTE, "there is no standby"),
        ([Found("a", "identify", "0.1.0"), Found("b", "identify", "0.1.0")], Level.WELL, "2: a, b"),
        ([Found("a", "identify", "0.1.0"), Found("b", "identify", "0.2.0")], Level.TODO, "0.1.0 and 0.2.0: finish"),
        ([Found("a", "identify", "0.2.0")], Level.NOTE, "coordinators 0.2.0, this command 0.1.0"),
    ],
)
def test_coordinators(found, level, said):
    findings = judge_coordinators(found, "identify", "0.1.0")
    assert [finding.level for finding in findings if said in finding.text] == [level]


@pytest.mark.parametrize(
    ("ahead_s", "level"),
    [(None, Level.NOTE), (0.0, Level.WELL), (-5.5, Level.WELL), (6.5, Level.TODO), (-60, Level.TODO)],
)
def test_a_clock(ahead_s, level):
    assert judge_clock(ahead_s, "NATS", 1.0).level is level


@pytest.mark.parametrize("role", ROLES)
def test_what_is_tried_is_covered_by_its_right_and_has_no_wildcard_to_publish(role):
    for each in tries_of(role, Subjects("bots.alpha.identify"), "_INBOX_operator"):
        if each.direction == "publish":
            assert not set(each.subject.split(".")) & {"*", ">"}
            assert len(each.subject.split(".")) == len(each.right.split("."))
        assert each.is_refused_by(f'nats: permissions violation for {each.direction} to "{each.subject.lower()}"')
        assert not each.is_refused_by(f'nats: permissions violation for {each.direction} to "{each.subject.lower()}x"')


def test_a_mark_has_a_word_where_there_is_no_utf_8():
    assert well("NATS", "yes").line(is_utf8=True) == "✓ NATS: yes"
    assert todo("NATS", "no").line(is_utf8=False) == "TODO NATS: no"
