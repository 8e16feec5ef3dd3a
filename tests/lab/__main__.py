"""Makes the images and an empty cluster, applies prod, has the play played in its network, and takes all down again.

``python -m tests.lab``, as root. The lab is a program of its own, which ``LAB`` names; see tests/lab/README.md.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from tests.deploy.rendering import ROOT, Tree, find_renderer

LAB: Final = Path(os.environ.get("LAB") or ROOT / ".." / "shared" / "k8s-lab" / "lab").resolve()
PYTHON_IMAGE: Final = "python:3.13-slim"
NATS_IMAGE: Final = "2.15.1-alpine"
QUEUE_IMAGE: Final = "registry.example.org/nats-identify:0.1.0"
BOT_IMAGE: Final = "registry.example.org/bot:1.0.0"
NAMESPACE: Final = "nats-identify"


def lab(*arguments: str | Path, quiet: bool = True) -> None:
    """Run the lab's program; what it says is shown where it fails."""
    # One machine stands for three nodes and more: what the pods ask for is measured, not reserved.
    environment = {"LAB_CPU_REQUEST": "20m", **os.environ}
    out = subprocess.PIPE if quiet else None
    done = subprocess.run([LAB, *arguments], env=environment, stdout=out, stderr=subprocess.STDOUT, check=False)
    if done.returncode != 0:
        sys.stderr.write((done.stdout or b"").decode())
        raise SystemExit(f"lab {arguments[0]} ended with {done.returncode}")


def figure(what: str, began_s: float) -> None:
    print(f"{what}: {time.monotonic() - began_s:.1f} s", flush=True)


def make_images() -> None:
    """The lab's base images, ours, and a bot's."""
    began_s = time.monotonic()
    lab("build")
    lab("base-image", PYTHON_IMAGE)
    lab("nats-image", NATS_IMAGE)
    lab("image", ROOT, "-t", QUEUE_IMAGE)
    lab("image", ROOT, "-f", ROOT / "examples" / "Dockerfile", "-t", BOT_IMAGE)
    figure("images made", began_s)


def apply_prod(folder: Path) -> Tree:
    """Apply prod to an empty cluster, as a user would; return when all is ready."""
    renderer = find_renderer()
    if renderer is None:
        raise SystemExit("there is no kubectl from 1.27 on, no kustomize 5 and no Go to build one")
    tree = Tree.copied_to(folder / "k8s", renderer)
    shutil.copytree(Path(__file__).with_name("manifests"), folder / "manifests")
    shutil.copy(ROOT / "tests" / "clients" / "run_example.py", folder / "manifests" / "shards")
    lab("up")
    lab("pv", "1Gi", "3")
    began_s = time.monotonic()
    lab("apply", folder / "manifests" / "queue")
    for workload in ("statefulset/nats", "deployment/coordinator"):
        lab("kubectl", "-n", NAMESPACE, "rollout", "status", workload, "--timeout=300s")
    figure("prod applied to an empty cluster, 3 NATS servers and 3 coordinators ready", began_s)
    return tree


def main() -> int:
    """Return 0 where everything was as it must be."""
    if not LAB.is_file():
        print(
            f"there is no lab at {LAB}: set LAB to a Kubernetes lab's program; tests/lab/README.md says what it must do"
        )
        return 2
    make_images()
    with tempfile.TemporaryDirectory() as folder:
        try:
            tree = apply_prod(Path(folder))
            secrets = tree.folder / "overlays" / "prod" / "secrets"
            lab("enter", sys.executable, "-m", "tests.lab.play", secrets, LAB, Path(folder) / "manifests", quiet=False)
        finally:
            lab("down")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
