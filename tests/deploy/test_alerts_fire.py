"""Each alert fires for what it is meant for, and none where all is well: by promtool, where that is on PATH."""

import shutil
import subprocess

import pytest
import yaml

from tests.deploy.conftest import docs_of
from tests.deploy.objects import get

LEADER = {"namespace": "n", "prefix": "identify", "pod": "leader"}
STANDBY = {**LEADER, "pod": "standby"}
OTHER_BOT = [{"namespace": "n", "prefix": "other", "pod": f"other-{number}"} for number in range(2)]
NATS = [{"namespace": "n", "pod": f"nats-{number}"} for number in range(3)]


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
PAUSED = series("identify_paused", LEADER)

SERVERS = [series("nats_server_max_storage", {**server, "cluster": "c", "meta_leader": "nats-1"}) for server in NATS]
CUT_OFF = [series("nats_server_max_storage", {**server, "cluster": "c", "meta_leader": ""}) for server in NATS]
STARTED = series("nats_varz_start", {**NATS[0], "instance": "10.0.0.1"})
STORED = series("nats_varz_jetstream_stats_storage", NATS[0])

WELL = {
    # Another bot in the same Prometheus: nothing of it may hide or cause an alert.
    series("identify_leader", OTHER_BOT[0]): "1x60",
    series("identify_leader", OTHER_BOT[1]): "0x60",
    series("identify_events_total", {**OTHER_BOT[0], "event": "granted"}): "0+1x60",
    **dict.fromkeys(SERVERS, "9e8x60"),
    STARTED: "1.7e12x60",
    STORED: "1e6x60",
    series("nats_varz_jetstream_config_max_storage", NATS[0]): "9e8x60",
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
    PAUSED: "0x60",
}

FIRES = {
    "all is well": ({}, []),
    "nobody leads": ({LEADS: "0x60"}, ["IdentifyNobodyLeads"]),
    "no pod of the bot is there any more": (
        {LEADS: "1x5 _x60", STANDS_BY: "0x5 _x60", GRANTED: "0+1x5 _x60", WAITING: "0x5 _x60", LEFT: "900x5 _x60"},
        ["IdentifyNobodyLeads"],
    ),
    "no pod is scraped": (
        {LEADS: None, STANDS_BY: None, **dict.fromkeys(series("identify_leader", pod) for pod in OTHER_BOT)},
        ["IdentifyNobodyLeads"],
    ),
    "one is left": ({STANDS_BY: None}, ["IdentifyNoStandby"]),
    "NATS is away": ({CONNECTED: "0x60"}, ["IdentifyNatsAway"]),
    "the ledger is refused": ({UNWRITTEN: "0+60x60"}, ["IdentifyLedgerRefused"]),
    "limits are not known": ({BUCKETS: "0x60"}, ["IdentifyLimitsUnknown"]),
    "what is left is not known": ({LEFT: "-1x60"}, ["IdentifyLimitsUnknown"]),
    "nothing is granted": ({GRANTED: "7x60"}, ["IdentifyQueueStands"]),
    "an operator has paused": ({GRANTED: "7x60", PAUSED: "1x60"}, []),
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
    "NATS has no quorum": (dict.fromkeys(SERVERS) | dict.fromkeys(CUT_OFF, "9e8x60"), ["IdentifyNatsNoMetaLeader"]),
    "one NATS server is cut off": ({SERVERS[0]: None, CUT_OFF[0]: "9e8x60"}, []),
    "one NATS server alone": (
        dict.fromkeys(SERVERS)
        | {series("nats_server_max_storage", {**NATS[0], "cluster": "", "meta_leader": ""}): "9e8x60"},
        [],
    ),
    "a NATS volume fills": ({STORED: "8e8x60"}, ["IdentifyNatsStorageNearlyFull"]),
    "a NATS container restarts": ({STARTED: "1x5 2x5 3x5 4x60"}, ["IdentifyNatsRestarts"]),
    "a NATS pod is made anew": (
        {series("nats_varz_start", {**NATS[0], "instance": f"10.0.1.{number}"}): "1x10 _x60" for number in range(3)},
        ["IdentifyNatsRestarts"],
    ),
    "a rolling restart of NATS": ({STARTED: "1x10 _x60", STARTED.replace("0.1", "0.9"): "_x12 2x60"}, []),
    "messages are dropped": ({DROPPED: "0+20x60"}, ["IdentifyMessagesDropped"]),
}


def groups_of(tree):
    docs = docs_of(tree, "prod with every option")
    return [
        group for name in ("nats-identify", "nats") for group in get(docs, "PrometheusRule", name)["spec"]["groups"]
    ]


def case(changed):
    values = {name: values for name, values in (WELL | changed).items() if values is not None}
    return [{"series": name, "values": each} for name, each in values.items()]


def crash_loop(tree):
    """Return the annotations of IdentifyCrashLoop as a person reads them, for two shards."""
    (rule,) = [rule for group in groups_of(tree) for rule in group["rules"] if rule["alert"] == "IdentifyCrashLoop"]
    shown = {
        name: text.replace("{{ $labels.prefix }}", "identify").replace("{{ $value }}", "2")
        for name, text in rule["annotations"].items()
    }
    assert "nats-identify status --prefix identify" in shown["description"]
    assert not any("{{" in text for text in shown.values())
    return shown


def test_each_alert_fires_for_what_it_is_meant_for(tree, tmp_path):
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("Prometheus's promtool tries the alerts, and is not on PATH")
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": groups_of(tree)}))
    checked = subprocess.run([promtool, "check", "rules", tmp_path / "rules.yaml"], capture_output=True, check=False)
    assert checked.returncode == 0, checked.stdout.decode() + checked.stderr.decode()
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
    tests.append(
        {
            "name": "what an alert tells a person names the bot and the command",
            "interval": "1m",
            "input_series": case({HELD_BACK: "2x60"}),
            "alert_rule_test": [
                {
                    "eval_time": "30m",
                    "alertname": "IdentifyCrashLoop",
                    "exp_alerts": [
                        {"exp_labels": {**LEADER, "severity": "warning"}, "exp_annotations": crash_loop(tree)}
                    ],
                }
            ],
        }
    )
    file = tmp_path / "tests.yaml"
    file.write_text(yaml.safe_dump({"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": tests}))
    done = subprocess.run([promtool, "test", "rules", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_case(tree):
    named = {rule["alert"] for group in groups_of(tree) for rule in group["rules"]}
    assert named == {alert for _, alerts in FIRES.values() for alert in alerts}
