"""Every line of a kustomization does something: without it the result is another. A patch that misses is silent."""

import copy
import shutil
from typing import Any

import pytest
import yaml

from tests.deploy.rendering import Tree

FOLDERS = (
    "options/overlays/prod",
    "overlays/dev",
    "overlays/external-nats",
    "options/examples/shards",
    "base",
    "nats",
    "options/components/tls",
    "options/components/tls-clients",
    "options/components/queue-http",
    "options/components/image",
    "options/components/pull-secret",
    "options/components/priority-class",
    "options/components/nats-exporter",
    "options/components/monitoring",
    "overlays/existing-secrets",
    "examples/bots",
    "examples/bots/alpha",
)
LISTS = (
    "patches",
    "images",
    "replicas",
    "replacements",
    "labels",
    "components",
    "resources",
    "configMapGenerator",
    "secretGenerator",
)
NEEDED_BY = {folder: "options/overlays/prod" for folder in FOLDERS if folder.startswith("options/components/")}
"""A component renders nothing alone: who takes it is rendered."""


def entries(tree: Tree, folder: str):
    """Yield each line of the lists, and what would be left without it; of a patch, without each of its operations."""
    whole = yaml.safe_load((tree.folder / folder / "kustomization.yaml").read_text())
    for name in LISTS:
        for number, entry in enumerate(whole.get(name, ())):
            left = copy.deepcopy(whole)
            del left[name][number]
            yield f"{name}[{number}]", left
            operations = yaml.safe_load(entry["patch"]) if name == "patches" else []
            for step in range(len(operations) if len(operations) > 1 else 0):
                left = copy.deepcopy(whole)
                rest = [operation for other, operation in enumerate(operations) if other != step]
                left[name][number]["patch"] = yaml.safe_dump(rest)
                yield f"{name}[{number}].{step}", left


def dead_lines(tree: Tree, folder: str):
    file = tree.folder / folder / "kustomization.yaml"
    rendered = NEEDED_BY.get(folder, folder)
    text, before = file.read_text(), tree.render_text(rendered)[0]
    assert before
    try:
        for where, left in entries(tree, folder):
            file.write_text(yaml.safe_dump(left))
            if tree.render_text(rendered)[0] == before:
                yield where
    finally:
        file.write_text(text)


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_line_does_something(tree, folder):
    assert list(dead_lines(tree, folder)) == []


def test_every_kustomization_is_looked_at(tree):
    there = {path.parent.relative_to(tree.folder).as_posix() for path in tree.folder.rglob("kustomization.yaml")}
    looked_at = {folder.removeprefix("options/") for folder in FOLDERS}
    # Lists of files and nothing else, where a file that is missing is an error of the renderer; beta is as alpha.
    files_alone = {"accounts", "components/default-deny", "examples/shards/base", "examples/bots/beta"}
    assert {folder.removeprefix("options/") for folder in there} == looked_at | files_alone


PLANTED: dict[str, dict[str, list[dict[str, Any]]]] = {
    "a patch for nobody": {"patches": [{"target": {"kind": "Deployment", "name": "cordinator"}, "patch": "- {}"}]},
    "an image of nobody": {"images": [{"name": "identify", "newTag": "9.9"}]},
}


@pytest.mark.parametrize("error", PLANTED)
def test_a_planted_dead_line_is_found(tree, tmp_path, error):
    spoiled = Tree(tmp_path / "k8s", tree.renderer)
    shutil.copytree(tree.folder, spoiled.folder)
    file = spoiled.folder / "overlays" / "dev" / "kustomization.yaml"
    kustomization = yaml.safe_load(file.read_text())
    for name, lines in PLANTED[error].items():
        kustomization[name] = [*kustomization.get(name, ()), *lines]
    file.write_text(yaml.safe_dump(kustomization))
    assert len(list(dead_lines(spoiled, "overlays/dev"))) == 1
