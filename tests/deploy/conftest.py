"""What the tests of the manifests share: one copy of them, rendered once; and the word that they were skipped."""

import pytest

from tests.deploy.objects import Doc
from tests.deploy.rendering import Tree, find_renderer

WHY_SKIPPED = "the manifests were not rendered: there is no kubectl from 1.27 on, no kustomize 5 and no Go to build one"

VIEWS = {
    "prod": ("overlays/prod", "examples/shards"),
    "dev": ("overlays/dev", "examples/shards"),
    "external NATS": ("overlays/external-nats", "examples/shards"),
    "prod with every option": ("options/overlays/prod", "options/examples/shards"),
}
"""What would be in a cluster together, by the folders that are applied to it."""

SKIPPED = pytest.StashKey[bool]()


@pytest.fixture(scope="session")
def renderer(request) -> tuple[str, ...]:
    found = find_renderer()
    if found is None:
        request.config.stash[SKIPPED] = True
        pytest.skip(WHY_SKIPPED)
    return found


@pytest.fixture(scope="session")
def tree(renderer, tmp_path_factory) -> Tree:
    """All manifests with Secrets, and beside them in options/ a copy in which every offered option is taken."""
    folder = tmp_path_factory.mktemp("deploy")
    tree = Tree.copied_to(folder / "k8s", renderer)
    options = Tree.copied_to(folder / "k8s" / "options", renderer)
    for name in ("overlays/prod", "examples/shards"):
        options.take_every_option(name)
    return tree


@pytest.fixture(params=VIEWS)
def view(request, tree) -> list[Doc]:
    return docs_of(tree, request.param)


def docs_of(tree: Tree, view: str) -> list[Doc]:
    return [doc for folder in VIEWS[view] for doc in tree.render(folder)]


def pytest_terminal_summary(terminalreporter) -> None:
    if terminalreporter.config.stash.get(SKIPPED, False):
        terminalreporter.section("deploy/k8s", sep="!")
        terminalreporter.line(WHY_SKIPPED)
