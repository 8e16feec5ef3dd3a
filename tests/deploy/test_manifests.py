"""Every overlay renders, fits the schemas of three Kubernetes, and holds together with itself and with the program."""

import copy
from functools import cache
from itertools import chain

import kubernetes_validate
import pytest
import yaml
from kubernetes_validate import utils

from tests.deploy.conftest import VIEWS, docs_of
from tests.deploy.objects import Doc, name_of
from tests.deploy.program import PROGRAM
from tests.deploy.rules import EVERYWHERE

KUBERNETES = ("1.29", "1.32", utils.latest_version())
CUSTOM = {("monitoring.coreos.com/v1", "PodMonitor"), ("monitoring.coreos.com/v1", "PrometheusRule")}
"""Kinds of others, whose schemas Kubernetes does not have; only components/monitoring brings them."""

utils.schema_contents = cache(utils.schema_contents)  # it would read two megabytes for every object


def complaint(doc: Doc, version: str) -> str | None:
    """Return what Kubernetes of this version would refuse; an API that it does not have is refused, too."""
    try:
        kubernetes_validate.validate(doc, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        return f"{name_of(doc)}: {'.'.join(str(step) for step in error.path)}: {error.message}"
    except utils.SchemaNotFoundError as error:
        return None if (doc["apiVersion"], doc["kind"]) in CUSTOM else f"{name_of(doc)}: {error.message}"
    return None


def complaints(docs: list[Doc], version: str) -> list[str]:
    return [said for doc in docs if (said := complaint(doc, version)) is not None]


@pytest.mark.parametrize("version", KUBERNETES)
def test_kubernetes_knows_every_field(tree, version):
    docs = chain.from_iterable(docs_of(tree, name) for name in VIEWS)
    different = {yaml.safe_dump(doc): doc for doc in docs}
    assert len(different) > 40
    assert complaints(list(different.values()), version) == []


def test_only_the_monitoring_needs_kinds_of_others(tree):
    for name in ("prod", "dev", "external NATS"):
        assert not {(doc["apiVersion"], doc["kind"]) for doc in docs_of(tree, name)} & CUSTOM


@pytest.mark.parametrize("rule", EVERYWHERE + PROGRAM, ids=lambda rule: rule.__name__)
def test_it_holds_together(view, rule):
    assert list(rule(view)) == []


def test_no_secret_is_in_the_repository(tree):
    """What git knows renders no overlay: each wants files that make-secrets makes."""
    for secret in (doc for doc in docs_of(tree, "prod") if doc["kind"] == "Secret"):
        assert secret["data"]
    bare = copy.copy(tree)
    for folder in ("overlays/prod", "overlays/dev", "overlays/external-nats", "examples/shards"):
        (bare.folder / folder / "secrets").rename(bare.folder / folder / "away")
        try:
            objects, said = bare.render_text(folder)
        finally:
            (bare.folder / folder / "away").rename(bare.folder / folder / "secrets")
        assert objects == ""
        assert "secrets/" in said


def test_a_changed_token_rolls_the_pods(tree):
    """The Secret's name carries a hash of what is in it."""
    before = {name_of(doc) for doc in tree.render("overlays/prod")}
    file = tree.folder / "overlays/prod/secrets/discord-token"
    token = file.read_text()
    file.write_text("another")
    try:
        after = {name_of(doc) for doc in yaml.safe_load_all(tree.render_text("overlays/prod")[0])}
    finally:
        file.write_text(token)
    (changed,) = before - after
    assert changed.startswith("Secret/discord-token-")
