"""Renders the kustomizations as `kubectl apply -k` would, from a copy with fresh Secrets. It judges nothing."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).parents[2]
DEPLOY: Final = ROOT / "deploy" / "k8s"
TOOLS: Final = ROOT / ".tools" / "bin"
KUSTOMIZE: Final = "sigs.k8s.io/kustomize/kustomize/v5@v5.7.1"
TOKEN: Final = "MTAw.of-a-simulated.bot"  # noqa: S105  # opens nothing
NAMESPACE: Final = "nats-identify"

BOTS: Final = ("alpha", "beta")
"""The bots of examples/bots."""

OLDEST_KUBECTL: Final = (1, 27)
"""The first whose kustomize is a 5."""

WHY_SKIPPED: Final = (
    "the manifests were not rendered: there is no kubectl from 1.27 on, no kustomize 5 and no Go to build one"
)

Doc = dict[str, Any]


def find_renderer() -> tuple[str, ...] | None:
    """Return the command that renders a folder; None where there is neither kubectl nor kustomize nor Go."""
    kubectl = shutil.which("kubectl")
    if kubectl is not None and _kubectl_version(kubectl) >= OLDEST_KUBECTL:
        return (kubectl, "kustomize")
    for kustomize in (shutil.which("kustomize"), str(TOOLS / "kustomize")):
        if kustomize is not None and _is_kustomize_5(kustomize):
            return (kustomize, "build")
    return _build_kustomize()


def _kubectl_version(kubectl: str) -> tuple[int, int]:
    said = subprocess.run([kubectl, "version", "--client", "-o", "json"], capture_output=True, check=False).stdout
    try:
        version = json.loads(said)["clientVersion"]["gitVersion"]
    except (ValueError, LookupError):
        return (0, 0)
    major, minor = re.findall(r"\d+", version)[:2]
    return int(major), int(minor)


def _is_kustomize_5(kustomize: str) -> bool:
    try:
        said = subprocess.run([kustomize, "version"], capture_output=True, text=True, check=False).stdout
    except OSError:
        return False
    return re.search(r"v5\.", said) is not None


def _build_kustomize() -> tuple[str, ...] | None:
    go = shutil.which("go")
    if go is None:
        return None
    environment = {**os.environ, "GOBIN": str(TOOLS), "GOFLAGS": "-mod=mod"}
    built = subprocess.run([go, "install", KUSTOMIZE], env=environment, capture_output=True, text=True, check=False)
    assert built.returncode == 0, f"go install {KUSTOMIZE}: {built.stderr[-2000:]}"
    return (str(TOOLS / "kustomize"), "build")


@dataclass(slots=True)
class Tree:
    """A copy of deploy/k8s with Secrets of its own.

    Attributes:
        folder: where it is.
        renderer: see `find_renderer`.
    """

    folder: Path
    renderer: tuple[str, ...]
    _known: dict[str, list[Doc]] = field(default_factory=dict)

    @classmethod
    def copied_to(cls, folder: Path, renderer: tuple[str, ...]) -> "Tree":
        """Copy what git knows, and make the Secrets with the command that a user would run."""
        shutil.copytree(DEPLOY, folder, ignore=shutil.ignore_patterns("secrets"))
        for overlay, bots in (("prod", ["examples/shards"]), ("dev", []), ("external-nats", [])):
            places = [folder / "overlays" / overlay, *(folder / bot for bot in bots)]
            command = [str(folder / "make-secrets"), "--tls", *map(str, places)]
            subprocess.run(command, input=TOKEN, text=True, capture_output=True, check=True)
        namespace = folder / "examples/bots"
        for bot in BOTS:
            command = [str(folder / "make-secrets"), str(namespace / bot)]
            subprocess.run(command, input=TOKEN, text=True, capture_output=True, check=True)
        subprocess.run([namespace / "make-accounts", *BOTS], capture_output=True, check=True)
        return cls(folder, renderer)

    def render_text(self, name: str) -> tuple[str, str]:
        """Return what the renderer wrote: the objects, and its complaints."""
        done = subprocess.run([*self.renderer, self.folder / name], capture_output=True, text=True, check=False)
        return done.stdout, done.stderr

    def render(self, name: str) -> list[Doc]:
        """Return the objects of a folder, once rendered; do not change them."""
        if name not in self._known:
            objects, complaints = self.render_text(name)
            assert not complaints, f"{name}: {complaints}"
            self._known[name] = [doc for doc in yaml.safe_load_all(objects) if doc]
        return self._known[name]

    def take_every_option(self, name: str) -> None:
        """Uncomment what a kustomization offers."""
        file = self.folder / name / "kustomization.yaml"
        text = re.sub(
            r"^( *)# ?(- \.\./|- name:|  files:|  options:|components:)", r"\1\2", file.read_text(), flags=re.MULTILINE
        )
        file.write_text(text)


def main() -> int:
    """Say what renders the manifests; make it where it can be made. Return 1 where it cannot."""
    found = find_renderer()
    text = "nothing renders the manifests: put kubectl, kustomize 5 or Go on PATH" if found is None else " ".join(found)
    sys.stdout.write(f"{text}\n")
    return 1 if found is None else 0


if __name__ == "__main__":
    raise SystemExit(main())
