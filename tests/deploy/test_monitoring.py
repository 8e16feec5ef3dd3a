"""Alerts and dashboard ask only for what the program exports, and each alert tells a person what to do."""

import json
import re

import pytest

from tests.deploy.conftest import docs_of
from tests.deploy.objects import containers, get
from tests.deploy.series import exported, unknown


@pytest.fixture(scope="module")
def docs(tree):
    return docs_of(tree, "prod with every option")


def rules_of(docs):
    return [rule for group in get(docs, "PrometheusRule", "nats-identify")["spec"]["groups"] for rule in group["rules"]]


def dashboard_of(docs):
    config = get(docs, "ConfigMap", "nats-identify-dashboard")
    assert config["metadata"]["labels"]["grafana_dashboard"] == "1"
    return json.loads(config["data"]["nats-identify.json"])


def test_each_sum_keeps_the_bots_apart(docs):
    """One Prometheus may hold several bots: what is summed over pods is summed for each namespace and prefix."""
    for rule in rules_of(docs):
        for grouped in re.findall(r"\bby \(([^)]*)\)", rule["expr"]):
            assert {"namespace", "prefix"} <= set(grouped.split(", ")), rule["alert"]
    for panel in dashboard_of(docs)["panels"]:
        for target in panel["targets"]:
            assert target["expr"].count("{") == target["expr"].count('prefix=~"$prefix"'), target["expr"]


def test_the_alerts_ask_for_what_is_exported(docs):
    rules = rules_of(docs)
    assert len(rules) >= 8
    assert [wrong for rule in rules for wrong in unknown(rule["expr"])] == []


def test_the_dashboard_asks_for_what_is_exported(docs):
    targets = [target["expr"] for panel in dashboard_of(docs)["panels"] for target in panel["targets"]]
    assert len(targets) >= 10
    assert [wrong for expression in targets for wrong in unknown(expression)] == []


def test_each_alert_says_what_is_wrong_and_what_to_do(docs):
    for rule in rules_of(docs):
        assert rule["alert"].startswith("Identify")
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert len(rule["annotations"]["summary"]) < 110
        assert len(rule["annotations"]["description"].split()) >= 15


def test_the_exporter_is_scraped_by_both_families_of_addresses(docs):
    """Its default is 0.0.0.0, and no address is every one: natsio/prometheus-nats-exporter, exporter.go."""
    (exporter,) = [one for one in containers(get(docs, "StatefulSet", "nats")) if one["name"] == "exporter"]
    assert "-addr=" in exporter["args"]
    assert f"-port={exporter['ports'][0]['containerPort']}" in exporter["args"]


def test_every_metric_of_the_queue_is_watched_somewhere(docs):
    """A figure that no alert and no panel shows is one that nobody will find when it is needed."""
    shown = json.dumps([rules_of(docs), dashboard_of(docs)])
    unseen = {name for name in exported() if name.startswith("identify_") and name not in shown}
    assert {name for name in unseen if not name.endswith(("_count", "_sum"))} <= {"identify_term"}


@pytest.mark.parametrize(
    ("expression", "found"),
    [
        ("identify_leaders == 0", ["identify_leaders"]),
        ("sum(rate(identify_events[5m]))", ["identify_events"]),
        ('increase(identify_events_total{name="rejected"}[15m]) > 2', ["identify_events_total{name}"]),
        ("sum by (shard) (identify_waiting) > 0", ["by (shard)"]),
        ("identify_leader == 1 and on (bucket) up == 1", ["up", "by (bucket)"]),
        ('sum by (le) (rate(identify_commit_seconds_bucket{pod=~"a|b"}[5m])) unless absent(identify_leader)', []),
    ],
)
def test_a_wrong_name_is_found(expression, found):
    assert unknown(expression) == found
