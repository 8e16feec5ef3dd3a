"""Secrets that something else makes, the one line of the image, and what is said once for all pods."""

import base64
import re

import pytest
import yaml

from tests.deploy.conftest import VIEWS, docs_of
from tests.deploy.objects import containers, keys_of, of_kind, plain, pod_of, workloads
from tests.deploy.rendering import DEPLOY, Tree
from tests.deploy.rules import EVERYWHERE, what_is_referred_to_is_there
from tests.deploy.test_manifests import KUBERNETES, complaints

OURS = "nats-identify"


def documented():
    """Return the Secrets of the README's table, each with its keys."""
    text = (DEPLOY / "README.md").read_text()
    _, _, rest = text.partition("## Secrets of another tool")
    rows = re.findall(r"^\| `([a-z-]+)` \| ((?:`[a-z.-]+`(?:, )?)+) \|", rest.partition("\n## ")[0], re.MULTILINE)
    return {name: set(re.findall(r"`([^`]+)`", keys)) for name, keys in rows}


def stand_ins(names):
    """Return Secrets as another tool would make them."""
    value = base64.b64encode(b"of-another-tool").decode()
    return [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "namespace": "nats-identify"},
            "data": dict.fromkeys(keys, value),
        }
        for name, keys in names.items()
    ]


@pytest.fixture
def existing(tree):
    """The overlay with all its options, and the shards without the generator of their Secret."""
    options = Tree(tree.folder / "options", tree.renderer)
    file = options.folder / "examples/shards/kustomization.yaml"
    text = file.read_text()
    file.write_text(text.partition("# Where something else makes the Secret")[0])
    overlay = options.folder / "overlays/existing-secrets/kustomization.yaml"
    plain_text = overlay.read_text()
    options.take_every_option("overlays/existing-secrets")
    try:
        texts = [options.render_text(name) for name in ("overlays/existing-secrets", "examples/shards")]
    finally:
        file.write_text(text)
        overlay.write_text(plain_text)
    assert [complaints for _, complaints in texts] == ["", ""]
    return [doc for objects, _ in texts for doc in yaml.safe_load_all(objects)]


def test_it_makes_no_secret_and_needs_no_file(tree, existing):
    assert of_kind(existing, "Secret") == []
    assert of_kind(tree.render("overlays/existing-secrets"), "Secret") == []
    assert not (tree.folder / "overlays/existing-secrets/secrets").exists()


def test_the_secrets_that_it_names_are_those_of_the_readme(existing):
    assert list(what_is_referred_to_is_there(existing + stand_ins(documented()))) == []
    for name in documented():  # one that is left out is missed: none is documented in vain
        fewer = {other: keys for other, keys in documented().items() if other != name}
        assert list(what_is_referred_to_is_there(existing + stand_ins(fewer))) != [], name


def test_the_readme_s_keys_are_those_that_make_secrets_makes(tree):
    made = {
        plain(doc["metadata"]["name"]): keys_of(doc)
        for doc in docs_of(tree, "prod with every option")
        if doc["kind"] == "Secret"
    }
    assert documented() == made


@pytest.mark.parametrize("rule", EVERYWHERE, ids=lambda rule: rule.__name__)
def test_it_holds_together(existing, rule):
    assert list(rule(existing + stand_ins(documented()))) == []


@pytest.mark.parametrize("version", KUBERNETES)
def test_kubernetes_knows_every_field(existing, version):
    assert complaints(existing, version) == []


def images_of(docs):
    return {container["image"] for workload in workloads(docs) for container in containers(workload)}


def test_every_image_of_ours_follows_one_line(tree):
    file = tree.folder / "components/image/kustomization.yaml"
    folders = ["overlays/prod", "overlays/dev", "overlays/external-nats", "overlays/existing-secrets", "examples/bots"]
    text = file.read_text()
    (line,) = [line for line in text.splitlines() if line.startswith("  - {")]
    before = {folder: images_of(tree.render(folder)) for folder in folders}
    file.write_text(text.replace(line, f"  - {{ name: {OURS}, newName: elsewhere.example/ours, newTag: 9.8.7 }}"))
    try:
        after = {folder: images_of(list(yaml.safe_load_all(tree.render_text(folder)[0]))) for folder in folders}
    finally:
        file.write_text(text)
    for folder in folders:
        assert any(OURS in image for image in before[folder])
        assert "elsewhere.example/ours:9.8.7" in after[folder]
        assert not any(OURS in image for image in after[folder]), "an image of ours does not follow"
    other = [path for path in DEPLOY.rglob("kustomization.yaml") if f"name: {OURS}, new" in path.read_text()]
    assert [path.parent.name for path in other] == ["image"]
    assert not [path for path in DEPLOY.rglob("kustomization.yaml") if f"- name: {OURS}\n" in path.read_text()]


def test_every_pod_pulls_with_the_secret_and_the_queue_s_have_the_class(tree):
    docs = docs_of(tree, "prod with every option")
    assert "options/overlays/prod" in VIEWS["prod with every option"]
    for workload in workloads(docs):
        pod = pod_of(workload)
        assert pod["imagePullSecrets"] == [{"name": "registry"}]
        is_ours = workload["metadata"]["name"] != "shards"
        assert pod.get("priorityClassName") == ("nats-identify" if is_ours else None)
    for workload in workloads(docs_of(tree, "prod")):
        assert not {"imagePullSecrets", "priorityClassName"} & pod_of(workload).keys()
