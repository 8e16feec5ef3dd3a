"""The cluster through kubectl: pods, evictions, restarts, and a kill from outside of a container. It judges nothing."""

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import Any, Final

NAMESPACE: Final = "nats-identify"
COORDINATORS: Final = "app.kubernetes.io/component=coordinator"


class KubectlError(Exception):
    """kubectl did not do it; what it said."""


async def kubectl(*arguments: str, stdin: bytes = b"") -> str:
    """Run kubectl in our namespace; return what it wrote.

    Raises:
        KubectlError: it failed.
    """
    process = await asyncio.create_subprocess_exec(
        *("kubectl", "-n", NAMESPACE, *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    wrote, complained = await process.communicate(stdin)
    if process.returncode != 0:
        raise KubectlError(complained.decode().strip())
    return wrote.decode()


async def pods(selector: str) -> list[dict[str, Any]]:
    """Return the pods that are not about to end."""
    found = json.loads(await kubectl("get", "pods", "-l", selector, "-o", "json"))["items"]
    return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]


async def restarts(selector: str) -> dict[str, int]:
    """Return how often the containers of each pod were started again."""
    return {
        pod["metadata"]["name"]: sum(status["restartCount"] for status in pod["status"].get("containerStatuses", ()))
        for pod in await pods(selector)
    }


async def all_ready(selector: str, count: int) -> bool:
    """Whether there are so many pods, all ready."""
    found = await pods(selector)
    return len(found) == count and all(is_ready(pod) for pod in found)


def is_ready(pod: dict[str, Any]) -> bool:
    conditions = {condition["type"]: condition["status"] for condition in pod["status"].get("conditions", ())}
    return conditions.get("Ready") == "True"


async def evict(pod: str) -> int:
    """Ask the eviction API to end a pod; return the HTTP status, which kubectl tells as Kubernetes's reason for it."""
    eviction = {"apiVersion": "policy/v1beta1", "kind": "Eviction", "metadata": {"name": pod, "namespace": NAMESPACE}}
    path = f"/api/v1/namespaces/{NAMESPACE}/pods/{pod}/eviction"
    try:
        await kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(eviction).encode())
    except KubectlError as error:
        if "(TooManyRequests)" in str(error) and "disruption budget" in str(error):
            return 429
        raise
    return 201


async def rollout_restart(workload: str) -> None:
    """Replace every pod, as a change of its template would, and wait for the end of it."""
    await kubectl("rollout", "restart", workload)
    await kubectl("rollout", "status", workload, "--timeout=600s")


def main_processes(pod_uid: str) -> dict[str, int]:
    """Return the id of the first process in each container of a pod, by the container's id."""
    first: dict[str, int] = {}
    for folder in Path("/proc").iterdir():
        try:
            groups = (folder / "cgroup").read_text()
            command = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if f"pod{pod_uid}/" in groups and folder.name.isdigit() and b"/pause" not in command:
            container = groups.partition(f"pod{pod_uid}/")[2].splitlines()[0]
            first[container] = min(int(folder.name), first.get(container, 2**31))
    return first


async def kill_from_outside(pod: str) -> None:
    """SIGKILL for a container's first process, as the kernel does when memory runs out."""
    uid = (await kubectl("get", "pod", pod, "-o", "jsonpath={.metadata.uid}")).strip()
    (process,) = (await asyncio.to_thread(main_processes, uid)).values()
    os.kill(process, signal.SIGKILL)
