"""What the tests of the manifests share: one copy of them, rendered once."""

import pytest

from tests.deploy.objects import Doc
from tests.deploy.rendering import WHY_SKIPPED, Tree, find_renderer

VIEWS = {
    "prod": ("overlays/prod", "examples/shards"),
    "dev": ("overlays/dev", "examples/shards"),
    "external NATS": ("overlays/external-nats", "examples/shards"),
    "prod with every option": ("options/overlays/prod", "options/examples/shards"),
}
"""What would be in a cluster together, by the folders that are applied to it."""


@pytest.fixture(scope="session")
def renderer() -> tuple[str, ...]:
    found = find_renderer()
    if found is None:
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
