"""The page of metrics: every series names the bot, and names and types are Prometheus's conventions."""

import re
import shutil
import subprocess

import pytest
from prometheus_client import Gauge, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from coordinator.edge.metrics import Metrics
from tests.processes import samples_of

UNITS = {"milliseconds", "ms", "minutes", "hours", "kilobytes", "kb", "percent"}
"""What is no base unit."""


@pytest.fixture
def metrics():
    """Metrics of which each labelled one has a series."""
    metrics = Metrics("bots.alpha", "1.2.3")
    metrics.count_event("refused", {"code": "timeout"})
    metrics.count_event("granted", {"waited_ms": 7})
    metrics.fetches.labels("ok").inc()
    metrics.connected.labels("store").set(1)
    metrics.bucket_waiting.labels("0").set(2)
    metrics.http_queue.labels("granted").inc()
    metrics.drop("unsent")
    return metrics


def families_of(metrics):
    return list(text_string_to_metric_families(generate_latest(metrics.registry).decode()))


def test_every_series_names_the_bot(metrics):
    samples = [sample for family in families_of(metrics) for sample in family.samples]
    assert len({sample.name for sample in samples}) > 40
    assert {sample.labels.get("prefix") for sample in samples} == {"bots.alpha"}


def test_a_metric_that_is_added_later_names_the_bot(metrics):
    Gauge("later", "A gauge of another part.", registry=metrics.registry).set(1)
    assert 'later{prefix="bots.alpha"} 1.0' in generate_latest(metrics.registry).decode()


def test_the_build_names_its_version(metrics):
    (info,) = [family for family in families_of(metrics) if family.name == "identify_build_info"]
    assert [(sample.labels["version"], sample.value) for sample in info.samples] == [("1.2.3", 1)]


def test_names_are_conventional(metrics):
    for family in families_of(metrics):
        words = family.name.split("_")
        assert not UNITS & set(words), family.name
        assert family.documentation.endswith("."), family.name
        for sample in family.samples:
            if family.type == "counter" and not sample.name.endswith("_created"):
                assert sample.name.endswith("_total"), sample.name
        if family.type != "counter":
            assert not family.name.endswith(("_total", "_count", "_sum", "_bucket")), family.name


def test_prometheus_s_own_linter_has_nothing_to_say(metrics):
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("Prometheus's promtool lints the page, and is not on PATH")
    page = generate_latest(metrics.registry)
    done = subprocess.run([promtool, "check", "metrics"], input=page, capture_output=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")


def test_a_test_reads_a_sample_without_the_prefix(metrics):
    samples = samples_of(generate_latest(metrics.registry).decode())
    assert samples['identify_refusals_total{code="timeout"}'] == 1
    assert samples['identify_wait_seconds_bucket{le="0.01"}'] == 1
    assert samples["identify_waiting"] == 0
    assert not re.search("prefix", "".join(samples))
