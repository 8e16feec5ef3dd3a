"""Each alert names a command that answers, and links to the section of the runbook that is about it."""

import re

import pytest
import yaml

from nats_identify.cli.commands import app
from tests.deploy.conftest import docs_of
from tests.deploy.objects import get
from tests.deploy.rendering import ROOT

KUBECTL = {"get", "logs", "describe", "top"}
NATS = {"req", "server report", "stream report", "sub"}


@pytest.fixture(scope="module")
def rules(tree):
    docs = docs_of(tree, "prod with every option")
    return [
        rule
        for name in ("nats-identify", "nats")
        for group in get(docs, "PrometheusRule", name)["spec"]["groups"]
        for rule in group["rules"]
    ]


def sections():
    text = (ROOT / "docs/runbook.md").read_text()
    return {part.partition("\n")[0]: part.partition("\n")[2] for part in text.split("\n## ")[1:]}


def commands_in(text):
    """Return each command that is named, by its program and its verb."""
    found = {("nats-identify", verb) for verb in re.findall(r"(?<!-n )\bnats-identify ([a-z]+)\b", text)}
    found |= {("kubectl", verb) for verb in re.findall(r"\bkubectl (?:-n nats-identify )?([a-z]+)\b", text)}
    return found | {("nats", verb) for verb in re.findall(r"\bnats (req|sub|server report|stream report)\b", text)}


def test_each_alert_links_to_its_section(rules):
    assert [rule["alert"] for rule in rules] == list(sections())
    for rule in rules:
        page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
        assert anchor == rule["alert"].lower()
        assert page == "https://docs.example.org/nats-identify/runbook"


def test_one_line_moves_the_runbook(tree):
    file = tree.folder / "options/components/monitoring/kustomization.yaml"
    text = file.read_text()
    file.write_text(text.replace("page=https://docs.example.org/nats-identify/runbook", "page=https://x.example/y"))
    try:
        docs = list(yaml.safe_load_all(tree.render_text("options/overlays/prod")[0]))
    finally:
        file.write_text(text)
    for name in ("nats-identify", "nats"):
        for rule in get(docs, "PrometheusRule", name)["spec"]["groups"][0]["rules"]:
            assert rule["annotations"]["runbook_url"] == f"https://x.example/y#{rule['alert'].lower()}"


def test_each_alert_names_a_command_that_its_section_has_too(rules):
    for rule in rules:
        named = commands_in(rule["annotations"]["description"])
        shown = commands_in("".join(re.findall(r"```console\n(.*?)```", sections()[rule["alert"]], re.DOTALL)))
        assert named & shown, rule["alert"]


def test_every_command_that_is_named_is_there(rules):
    ours = {command.name or getattr(command.callback, "__name__", "") for command in app.registered_commands}
    known = {"nats-identify": ours, "kubectl": KUBECTL | {"rollout", "delete"}, "nats": NATS}
    texts = [*(rule["annotations"]["description"] for rule in rules), (ROOT / "docs/runbook.md").read_text()]
    for program, verb in set().union(*map(commands_in, texts)):
        assert verb in known[program], f"{program} {verb}"


def test_each_section_explains_what_the_command_shows():
    for name, text in sections().items():
        before, shown, after = re.split(r"```(?:console)?\n?", text, maxsplit=2)
        assert len(before.split()) >= 10, name
        assert shown.startswith("$ "), name
        assert len(after.split()) >= 20, name
