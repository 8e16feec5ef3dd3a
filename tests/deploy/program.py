"""What must hold between the manifests and the program: settings, probes, grace periods. It runs nothing.

Like tests.deploy.rules, for what only the program's own source can tell.
"""

import re
from collections.abc import Iterator
from typing import Final

from coordinator.edge.http_server import CLOSE_WITHIN_S
from coordinator.process import RELEASE_WITHIN_S
from coordinator.settings import Settings
from nats_identify.client import environment, shards
from tests.deploy.objects import Doc, containers, environment_of, get, name_of, of_kind, pod_of, ports_of, workloads
from tests.deploy.rules import mib

SETTLE_S: Final = 5.0
"""A last flush, the end of Python, and a node that is busy."""

NATS_SPARE_S: Final = 20.0
KUBERNETES: Final = {"POD_NAME"}
"""What only other variables refer to."""

BOTS: Final = {"DISCORD_TOKEN"}
"""What the examples read themselves."""


def coordinator_variables() -> set[str]:
    return {name.upper() for name in Settings.model_fields}


def bot_variables() -> set[str]:
    """Return every name that the library looks up, by letting it look."""
    looked_up: set[str] = set()

    class Watched(dict[str, str]):
        def get(self, name, default=None):
            looked_up.add(name)
            return super().get(name, default)

    watched = Watched(NATS_URL="nats://nats:4222", SHARD_COUNT="1", POD_INDEX="0")
    environment.queue_from_environment(watched)
    shards.shards_of_pod(watched)
    return looked_up | BOTS


def variables_are_read(docs: list[Doc]) -> Iterator[str]:
    known = {"coordinator": coordinator_variables(), "shards": bot_variables()}
    for workload in workloads(docs):
        for container in containers(workload):
            read = known.get(container["name"])
            if read is not None:
                for name in sorted(environment_of(container, docs).keys() - read - KUBERNETES):
                    yield f"{name_of(workload)}: {name} is a variable that nobody reads"


def probes_ask_what_is_served(docs: list[Doc]) -> Iterator[str]:
    coordinator = get(docs, "Deployment", "coordinator")
    (container,) = containers(coordinator)
    port = environment_of(container, docs).get("IDENTIFY_HTTP_PORT", "8080")
    if str(ports_of(coordinator)["http"]) != port:
        yield f"the port http is {ports_of(coordinator)['http']}, and IDENTIFY_HTTP_PORT is {port}"
    host = environment_of(container, docs).get("IDENTIFY_HTTP_HOST", "127.0.0.1")
    if host != "::":
        yield f"the pages are served on {host}: probes of a pod with another kind of address do not come through"
    for kind, path in (("startupProbe", "/livez"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz")):
        if container[kind]["httpGet"]["path"] != path:
            yield f"{kind} asks {container[kind]['httpGet']['path']}, not {path}"


def the_queue_over_http_is_reached(docs: list[Doc]) -> Iterator[str]:
    """Where it is served: its port is open, on every address, and the Service and the NetworkPolicy name it."""
    coordinator = get(docs, "Deployment", "coordinator")
    (container,) = containers(coordinator)
    seen, port = environment_of(container, docs), ports_of(coordinator).get("queue-http")
    if (served := seen.get("IDENTIFY_QUEUE_HTTP_PORT")) is None and port is None:
        return
    if str(port) != served or seen.get("IDENTIFY_QUEUE_HTTP_HOST") != "::":
        yield f"the port queue-http is {port}, and IDENTIFY_QUEUE_HTTP_PORT is {served}"
    if "IDENTIFY_QUEUE_HTTP_TOKEN" not in seen:
        yield "the queue over HTTP has no token"
    service = get(docs, "Service", "queue-http")["spec"]
    if service.get("sessionAffinity") != "ClientIP":
        yield "a client that connects again comes to a coordinator that does not know its place"
    doors = [rule for policy in of_kind(docs, "NetworkPolicy") for rule in policy["spec"].get("ingress", ())]
    if not any(door.get("from") and {"protocol": "TCP", "port": port} in door["ports"] for door in doors):
        yield f"no NetworkPolicy lets chosen clients in to {port}"


def grace_periods_are_long_enough(docs: list[Doc]) -> Iterator[str]:
    coordinator = get(docs, "Deployment", "coordinator")
    grace_s, needed_s = _grace_s(coordinator), RELEASE_WITHIN_S + CLOSE_WITHIN_S + SETTLE_S
    if grace_s < needed_s:
        yield f"a coordinator is killed after {grace_s} s, and may need {needed_s} s to release the ledger"
    lease_s = Settings.model_fields["identify_lease"].default
    if coordinator["spec"].get("minReadySeconds", 0) <= lease_s:
        yield f"a rollout goes on before a new coordinator has seen the ledger move within a lease of {lease_s} s"
    strategy = coordinator["spec"]["strategy"]["rollingUpdate"]
    if strategy != {"maxSurge": 1, "maxUnavailable": 0}:
        yield "a rollout ends a coordinator before the next one is ready"
    for server in of_kind(docs, "StatefulSet"):
        if server["metadata"]["name"] == "nats":
            duck_s = sum(lame_duck_s(get(docs, "ConfigMap", "nats-config")["data"]["nats.conf"]))
            if _grace_s(server) < duck_s + NATS_SPARE_S:
                yield f"NATS is killed after {_grace_s(server)} s, and hands over for {duck_s} s"


def lame_duck_s(conf: str) -> tuple[float, float]:
    grace, duration = re.findall(r"^lame_duck_(?:grace_period|duration): (\d+)s$", conf, re.MULTILINE)
    return float(grace), float(duration)


def _grace_s(workload: Doc) -> float:
    return float(pod_of(workload).get("terminationGracePeriodSeconds", 30))


def nats_keeps_within_its_volume(docs: list[Doc]) -> Iterator[str]:
    for server in of_kind(docs, "StatefulSet"):
        if server["metadata"]["name"] != "nats":
            continue
        conf = get(docs, "ConfigMap", "nats-config")["data"]["nats.conf"]
        (claim,) = server["spec"]["volumeClaimTemplates"]
        size, most = claim["spec"]["resources"]["requests"]["storage"], _setting(conf, "max_file_store")
        if mib(most) >= mib(size):
            yield f"JetStream may store {most} on a volume of {size}"
        if _setting(conf, "sync_interval") != "always":
            yield "an acknowledged commit is lost when all nodes lose power: sync_interval is not always"
        mounts = {mount["mountPath"] for mount in containers(server)[0]["volumeMounts"]}
        for path in (_setting(conf, "store_dir"), _setting(conf, "pid_file").rpartition("/")[0]):
            if path not in mounts:
                yield f"nats.conf writes to {path}, which is not mounted"
        stop = containers(server)[0]["lifecycle"]["preStop"]["exec"]["command"][-1]
        if stop.partition("=ldm=")[2] != _setting(conf, "pid_file"):
            yield f"preStop looks for the server's id elsewhere than {_setting(conf, 'pid_file')}"
        if re.search(r"^\s*(host|net|addr|listen)\s*[:=]", "".join(_nats_files(docs)), re.MULTILINE):
            yield "nats.conf names an address to listen on: without one it listens on all, of IPv4 and IPv6"
        opened = {_setting(conf, "port"), _setting(conf, "http")}
        if not opened <= {str(port) for port in ports_of(server).values()}:
            yield f"nats.conf listens on {sorted(opened)}, and the container says {sorted(ports_of(server).values())}"


def _nats_files(docs: list[Doc]) -> Iterator[str]:
    return iter(get(docs, "ConfigMap", "nats-config")["data"].values())


def _setting(conf: str, name: str) -> str:
    found = re.search(rf"^ *{name}: (\S+)", conf, re.MULTILINE)
    return found[1] if found else ""


PROGRAM: Final = (
    variables_are_read,
    probes_ask_what_is_served,
    the_queue_over_http_is_reached,
    grace_periods_are_long_enough,
    nats_keeps_within_its_volume,
)
