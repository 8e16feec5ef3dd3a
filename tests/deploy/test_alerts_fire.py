"""Each alert fires for what it is meant for, and none where all is well: by promtool, where that is on PATH."""

import shutil
import subprocess

import pytest
import yaml

from tests.deploy.conftest import docs_of
from tests.deploy.objects import get

LEADER = {"namespace": "n", "pod": "leader"}
STANDBY = {"namespace": "n", "pod": "standby"}


def series(name, labels):
    listed = ",".join(f'{label}="{value}"' for label, value in labels.items())
    return f"{name}{{{listed}}}"


GRANTED = series("identify_events_total", {**LEADER, "event": "granted"})
REJECTED = series("identify_events_total", {**LEADER, "event": "rejected"})
CONNECTED = series("identify_nats_connected", {**LEADER, "name": "store"})
DROPPED = series("identify_dropped_total", {**LEADER, "why": "unsent"})
LEADS = series("identify_leader", LEADER)
STANDS_BY = series("identify_leader", STANDBY)
WAITING = series("identify_waiting", LEADER)
LEFT = series("identify_session_starts_remaining", LEADER)
HELD_BACK = series("identify_held_back", LEADER)
SHORT = series("identify_projected_starts_short", LEADER)
UNWRITTEN = series("identify_ledger_unwritten_seconds", LEADER)
BUCKETS = series("identify_max_concurrency", LEADER)

WELL = {
    LEADS: "1x60",
    STANDS_BY: "0x60",
    BUCKETS: "16x60",
    series("identify_max_concurrency", STANDBY): "0x60",
    LEFT: "900x60",
    series("identify_session_starts_limit", LEADER): "1000x60",
    series("identify_session_starts_remaining", STANDBY): "-1x60",  # it has heard of nothing yet: no alert of its own
    series("identify_session_starts_reserve", LEADER): "10x60",
    WAITING: "5x60",
    HELD_BACK: "0x60",
    SHORT: "0x60",
    GRANTED: "0+1x60",
    CONNECTED: "1x60",
    DROPPED: "0x60",
    UNWRITTEN: "0x60",
}

FIRES = {
    "all is well": ({}, []),
    "nobody leads": ({LEADS: "0x60"}, ["IdentifyNobodyLeads"]),
    "no pod is scraped": ({LEADS: None, STANDS_BY: None}, ["IdentifyNobodyLeads"]),
    "one is left": ({STANDS_BY: None}, ["IdentifyNoStandby"]),
    "NATS is away": ({CONNECTED: "0x60"}, ["IdentifyNatsAway"]),
    "the ledger is refused": ({UNWRITTEN: "0+60x60"}, ["IdentifyLedgerRefused"]),
    "limits are not known": ({BUCKETS: "0x60"}, ["IdentifyLimitsUnknown"]),
    "what is left is not known": ({LEFT: "-1x60"}, ["IdentifyLimitsUnknown"]),
    "nothing is granted": ({GRANTED: "7x60"}, ["IdentifyQueueStands"]),
    "nothing but the reserve is left": (
        {GRANTED: "7x60", LEFT: "10x60"},
        ["IdentifyDayNearlySpent"],
    ),
    "only crash loops wait": ({GRANTED: "7x60", HELD_BACK: "5x60"}, ["IdentifyCrashLoop"]),
    "the day is too short": ({SHORT: "3x60"}, ["IdentifyWaitingBeyondToday"]),
    "little is left": ({LEFT: "50x60"}, ["IdentifyDayNearlySpent"]),
    "nothing is left": ({LEFT: "0x60"}, ["IdentifyDayNearlySpent", "IdentifyDaySpent"]),
    "Discord refuses": ({REJECTED: "0+1x60"}, ["IdentifyRefusedByDiscord"]),
    "commits are slow": (
        {
            series("identify_commit_seconds_bucket", {**LEADER, "le": "0.25"}): "0+1x60",
            series("identify_commit_seconds_bucket", {**LEADER, "le": "1"}): "0+100x60",
            series("identify_commit_seconds_bucket", {**LEADER, "le": "+Inf"}): "0+100x60",
        },
        ["IdentifyCommitsSlow"],
    ),
    "messages are dropped": ({DROPPED: "0+20x60"}, ["IdentifyMessagesDropped"]),
}


def case(changed):
    values = {name: values for name, values in (WELL | changed).items() if values is not None}
    return [{"series": name, "values": each} for name, each in values.items()]


def test_each_alert_fires_for_what_it_is_meant_for(tree, tmp_path):
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("Prometheus's promtool tries the alerts, and is not on PATH")
    rules = get(docs_of(tree, "prod with every option"), "PrometheusRule", "nats-identify")["spec"]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rules))
    firing = 'count by (alertname) (ALERTS{alertstate="firing"})'
    tests = [
        {
            "name": name,
            "interval": "1m",
            "input_series": case(changed),
            "promql_expr_test": [
                {
                    "expr": firing,
                    "eval_time": "30m",
                    "exp_samples": [{"labels": f'{{alertname="{alert}"}}', "value": 1} for alert in alerts],
                }
            ],
        }
        for name, (changed, alerts) in FIRES.items()
    ]
    file = tmp_path / "tests.yaml"
    file.write_text(yaml.safe_dump({"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": tests}))
    done = subprocess.run([promtool, "test", "rules", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_case(tree):
    rules = get(docs_of(tree, "prod with every option"), "PrometheusRule", "nats-identify")["spec"]["groups"]
    named = {rule["alert"] for group in rules for rule in group["rules"]}
    assert named == {alert for _, alerts in FIRES.values() for alert in alerts}
