"""What must hold between rendered objects, a function for each rule: it yields a line for each breach.

`EVERYWHERE` holds in every view of a cluster. The schemas know fields and types; these know names and numbers.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from tests.deploy.objects import (
    Doc,
    containers,
    environment_of,
    keys_of,
    labels_of,
    mounted_files,
    name_of,
    of_kind,
    pod_of,
    ports_of,
    selected,
    selects,
    workloads,
)
from tests.deploy.rendering import NAMESPACE

Rule = Callable[[list[Doc]], Iterator[str]]

CLUSTER_WIDE: Final = {"Namespace"}
BROUGHT: Final = {("Service", "nats"), ("ServiceAccount", "default")}
"""What the NATS chart, or Kubernetes itself, brings along."""

CHART_PODS: Final = {"app.kubernetes.io/name": "nats", "app.kubernetes.io/component": "nats"}
"""The labels of the NATS chart's pods."""


STRANGERS: Final = CHART_PODS | {"nats-identify/http-client": "true"}
"""Labels of pods that others make: the chart's, and clients of the queue over HTTP."""


def names_are_unique_and_in_one_namespace(docs: list[Doc]) -> Iterator[str]:
    for (kind, name), count in Counter((doc["kind"], doc["metadata"]["name"]) for doc in docs).items():
        if count > 1:
            yield f"{kind}/{name} is there {count} times"
    for doc in docs:
        if doc["kind"] not in CLUSTER_WIDE and doc["metadata"].get("namespace") != NAMESPACE:
            yield f"{name_of(doc)} is not in the namespace {NAMESPACE}"


def what_is_referred_to_is_there(docs: list[Doc]) -> Iterator[str]:
    there = {(doc["kind"], doc["metadata"]["name"]): keys_of(doc) for doc in docs}
    for workload in workloads(docs):
        for kind, name, key in _references(workload):
            if (kind, name) in BROUGHT:
                continue
            if (kind, name) not in there:
                yield f"{name_of(workload)} names {kind}/{name}, which is not there"
            elif key is not None and key not in there[kind, name]:
                yield f"{name_of(workload)} names {kind}/{name} {key}, which has no such key"


def _references(workload: Doc) -> Iterator[tuple[str, str, str | None]]:
    pod = pod_of(workload)
    yield "ServiceAccount", pod.get("serviceAccountName", "default"), None
    if workload["kind"] == "StatefulSet":
        yield "Service", workload["spec"]["serviceName"], None
    for container in containers(workload):
        for source in container.get("envFrom", ()):
            yield "ConfigMap", source["configMapRef"]["name"], None
        for variable in container.get("env", ()):
            source = variable.get("valueFrom", {})
            for field, kind in (("secretKeyRef", "Secret"), ("configMapKeyRef", "ConfigMap")):
                if field in source:
                    yield kind, source[field]["name"], source[field]["key"]
    for volume in pod.get("volumes", ()):
        for source in volume.get("projected", {}).get("sources", [volume]):
            for field, kind, key in (("configMap", "ConfigMap", "name"), ("secret", "Secret", "secretName")):
                if field in source:
                    name = source[field].get(key) or source[field].get("name")
                    for item in source[field].get("items", [{"key": None}]):
                        yield kind, name, item["key"]


def volumes_are_there_and_used(docs: list[Doc]) -> Iterator[str]:
    for workload in workloads(docs):
        there = {volume["name"] for volume in pod_of(workload).get("volumes", ())}
        there |= {claim["metadata"]["name"] for claim in workload["spec"].get("volumeClaimTemplates", ())}
        used = {mount["name"] for container in containers(workload) for mount in container.get("volumeMounts", ())}
        for name in there ^ used:
            yield f"{name_of(workload)}: volume {name} is {'not used' if name in there else 'not there'}"


def selectors_select(docs: list[Doc]) -> Iterator[str]:
    for workload in workloads(docs):
        if not selects(workload["spec"]["selector"]["matchLabels"], labels_of(workload)):
            yield f"{name_of(workload)} does not select its own pods"
        for spread in pod_of(workload).get("topologySpreadConstraints", ()):
            if not selects(spread["labelSelector"]["matchLabels"], labels_of(workload)):
                yield f"{name_of(workload)} spreads over pods that are not its own"
    for who, selector in _selectors(docs):
        if not selected(docs, selector) and (who, selector) != ("NetworkPolicy/nats", CHART_PODS):
            yield f"{who} selects no pods"
        if "app.kubernetes.io/version" in selector:
            yield f"{who} selects by a version: an upgrade would leave the old pods alone"


def _selectors(docs: list[Doc]) -> Iterator[tuple[str, Mapping[str, str]]]:
    for doc in docs:
        spec = doc.get("spec", {})
        match doc["kind"]:
            case "Service":
                yield name_of(doc), spec["selector"]
            case "PodDisruptionBudget" | "PodMonitor" | "Deployment" | "StatefulSet":
                yield name_of(doc), spec["selector"]["matchLabels"]
            case "NetworkPolicy":
                yield name_of(doc), spec["podSelector"].get("matchLabels", {})


def ports_are_open(docs: list[Doc]) -> Iterator[str]:
    for service in of_kind(docs, "Service"):
        for workload in selected(docs, service["spec"]["selector"]):
            for port in service["spec"].get("ports", ()):
                if port.get("targetPort", port["port"]) not in {*ports_of(workload), *ports_of(workload).values()}:
                    yield f"{name_of(service)}: {name_of(workload)} has no port {port.get('targetPort')}"
    for monitor in of_kind(docs, "PodMonitor"):
        for workload in selected(docs, monitor["spec"]["selector"]["matchLabels"]):
            for endpoint in monitor["spec"]["podMetricsEndpoints"]:
                if endpoint["port"] not in ports_of(workload):
                    yield f"{name_of(monitor)}: {name_of(workload)} has no port {endpoint['port']}"


def probes_ask_open_ports(docs: list[Doc]) -> Iterator[str]:
    for workload in workloads(docs):
        for container in containers(workload):
            open_ports = {port["name"] for port in container.get("ports", ())}
            for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
                port = container.get(kind, {}).get("httpGet", {}).get("port")
                if port is not None and port not in open_ports:
                    yield f"{name_of(workload)}: {kind} asks port {port}, which is not there"


def network_policies_let_through_what_is_needed(docs: list[Doc]) -> Iterator[str]:
    policies = of_kind(docs, "NetworkPolicy")
    for workload in workloads(docs):
        mine = [policy for policy in policies if _is_meant(policy, workload)]
        if {kind for policy in mine for kind in policy["spec"]["policyTypes"]} != {"Ingress", "Egress"}:
            yield f"{name_of(workload)}: no NetworkPolicy says what comes in and what goes out"
        out = {port["port"] for policy in mine for rule in policy["spec"].get("egress", ()) for port in rule["ports"]}
        client = "NATS_URL" in environment_of(containers(workload)[0], docs)
        needed = {53, 4222, 443} if client else {53, 6222}
        if not needed <= out:
            yield f"{name_of(workload)}: it may not go out to {sorted(needed - out)}"
        for policy in mine:
            for rule in policy["spec"].get("ingress", ()):
                for port in rule["ports"]:
                    if port["port"] not in ports_of(workload).values():
                        yield f"{name_of(policy)} lets in to {port['port']}, where nobody listens"
        if client and labels_of(workload).get("nats-identify/client") != "true":
            yield f"{name_of(workload)}: NATS does not let it in without the label nats-identify/client"
        if client and workload["metadata"].get("labels", {}).get("nats-identify/client") != "true":
            yield f"{name_of(workload)}: components/tls-clients does not find it without the label nats-identify/client"


def peers_are_pods_that_are_there(docs: list[Doc]) -> Iterator[str]:
    """A peer that selects no pod lets nothing through, and says nothing: a label too many is enough."""
    for policy in of_kind(docs, "NetworkPolicy"):
        for rule in [*policy["spec"].get("ingress", ()), *policy["spec"].get("egress", ())]:
            for peer in _peers(rule):
                labels = peer.get("podSelector", {}).get("matchLabels", {})
                if labels and not selected(docs, labels) and not labels.items() <= STRANGERS.items():
                    yield f"{name_of(policy)} names pods that are not there: {labels}"


def _is_meant(policy: Doc, workload: Doc) -> bool:
    return selects(policy["spec"]["podSelector"].get("matchLabels", {}), labels_of(workload))


def both_families_of_addresses_are_served(docs: list[Doc]) -> Iterator[str]:
    """A cluster has IPv4, IPv6 or both: nothing may be written for one of them."""
    for service in of_kind(docs, "Service"):
        if service["spec"].get("ipFamilyPolicy") != "PreferDualStack" or "ipFamilies" in service["spec"]:
            yield f"{name_of(service)} has addresses of one family alone in a cluster of two"
    for policy in of_kind(docs, "NetworkPolicy"):
        rules = [*policy["spec"].get("ingress", ()), *policy["spec"].get("egress", ())]
        blocks = {peer["ipBlock"]["cidr"] for rule in rules for peer in _peers(rule) if "ipBlock" in peer}
        if len({":" in block for block in blocks}) == 1:
            yield f"{name_of(policy)} names addresses of one family alone: {sorted(blocks)}"


def _peers(rule: Mapping[str, list[Doc]]) -> list[Doc]:
    return [*rule.get("from", ()), *rule.get("to", ())]


def mounted_paths_are_mounted(docs: list[Doc]) -> Iterator[str]:
    for workload in workloads(docs):
        for container in containers(workload):
            files = set(mounted_files(workload, container, docs))
            for name, value in environment_of(container, docs).items():
                if value.startswith("/var/run/secrets/") and value not in files:
                    yield f"{name_of(workload)}: {name} names {value}, which is not mounted"
            if container.get("args", [])[:1] == ["--config"] and container["args"][1] not in files:
                yield f"{name_of(workload)}: {container['args'][1]} is not mounted"


def one_pod_can_be_evicted_and_most_stay(docs: list[Doc]) -> Iterator[str]:
    budgets = of_kind(docs, "PodDisruptionBudget")
    for workload in workloads(docs):
        mine = [budget for budget in budgets if selects(budget["spec"]["selector"]["matchLabels"], labels_of(workload))]
        if len(mine) != 1:
            yield f"{name_of(workload)} has {len(mine)} disruption budgets"
            continue
        spec = mine[0]["spec"]
        if spec.get("unhealthyPodEvictionPolicy") != "AlwaysAllow":
            yield f"{name_of(workload)}: a pod that is not ready would hold up a drain"
        away, replicas = spec.get("maxUnavailable"), workload["spec"]["replicas"]
        if not isinstance(away, int) or away < 1:
            yield f"{name_of(workload)}: no pod can be evicted"
        elif replicas > 1 and replicas - away <= replicas // 2:
            yield f"{name_of(workload)}: half of {replicas} pods or more may be evicted together"


def pods_are_restricted(docs: list[Doc]) -> Iterator[str]:
    """The restricted profile of the Pod Security Standards, and a root file system that nobody writes to."""
    for workload in workloads(docs):
        pod, who = pod_of(workload), name_of(workload)
        security = pod.get("securityContext", {})
        if not security.get("runAsNonRoot") or not security.get("runAsUser", 0) > 0:
            yield f"{who} may run as root"
        if security.get("seccompProfile") != {"type": "RuntimeDefault"}:
            yield f"{who} has no seccomp profile"
        if any(pod.get(name) for name in ("hostNetwork", "hostPID", "hostIPC")):
            yield f"{who} sees its host"
        if pod.get("automountServiceAccountToken") is not False or pod.get("enableServiceLinks") is not False:
            yield f"{who} is told more of the cluster than it needs"
        for volume in pod.get("volumes", ()):
            if not {"configMap", "secret", "projected", "emptyDir"} & volume.keys():
                yield f"{who}: volume {volume['name']} is of a kind that is not allowed"
    for namespace in of_kind(docs, "Namespace"):
        if namespace["metadata"]["labels"].get("pod-security.kubernetes.io/enforce") != "restricted":
            yield f"{name_of(namespace)} does not enforce the restricted profile"


def containers_are_restricted(docs: list[Doc]) -> Iterator[str]:
    """As `pods_are_restricted`."""
    for workload in workloads(docs):
        who = name_of(workload)
        for container in containers(workload):
            own = container.get("securityContext", {})
            if own.get("allowPrivilegeEscalation") is not False or own.get("privileged"):
                yield f"{who} may gain privileges"
            if own.get("capabilities") != {"drop": ["ALL"]}:
                yield f"{who} keeps capabilities"
            if own.get("readOnlyRootFilesystem") is not True:
                yield f"{who} may write to its image"
            if own.get("runAsUser") == 0 or own.get("runAsNonRoot") is False:
                yield f"{who} may run as root"


def images_are_pinned(docs: list[Doc]) -> Iterator[str]:
    for workload in workloads(docs):
        for container in containers(workload):
            _, _, tag = container["image"].rpartition("/")[2].partition(":")
            if "@sha256:" not in container["image"] and not re.search(r"\d+\.\d+", tag):
                yield f"{name_of(workload)}: {container['image']} is not pinned to a version"


def resources_are_said(docs: list[Doc]) -> Iterator[str]:
    for workload in workloads(docs):
        for container in containers(workload):
            resources = container.get("resources", {})
            requests, limits = resources.get("requests", {}), resources.get("limits", {})
            if not {"cpu", "memory"} <= requests.keys() or "memory" not in limits:
                yield f"{name_of(workload)}: requests or the limit on memory are missing"
                continue
            if "cpu" in limits:
                yield f"{name_of(workload)}: a limit on CPU costs a leader its lease"
            if mib(requests["memory"]) > mib(limits["memory"]):
                yield f"{name_of(workload)} requests more memory than its limit"
            go = environment_of(container, docs).get("GOMEMLIMIT")
            if go is not None and not 0.7 <= mib(go) / mib(limits["memory"]) <= 0.9:
                yield f"{name_of(workload)}: GOMEMLIMIT {go} is not about 80 % of {limits['memory']}"


def mib(quantity: str) -> float:
    """Return a quantity of memory in MiB."""
    parts = re.fullmatch(r"([0-9.]+)([A-Za-z]*)", quantity)
    assert parts is not None, quantity
    number, unit = parts.groups()
    return float(number) * {"Mi": 1, "MiB": 1, "Gi": 1024, "MB": 1e6 / 2**20, "GB": 1e9 / 2**20}[unit]


def versions_are_told_and_bind_nothing(docs: list[Doc]) -> Iterator[str]:
    for workload in workloads(docs):
        if "app.kubernetes.io/version" not in labels_of(workload):
            yield f"{name_of(workload)}: its pods do not say their version"
        for claim in workload["spec"].get("volumeClaimTemplates", ()):
            if claim["metadata"].get("labels"):
                yield f"{name_of(workload)}: labels on a claim's template can never change: an upgrade would be refused"


EVERYWHERE: Final[tuple[Rule, ...]] = (
    names_are_unique_and_in_one_namespace,
    what_is_referred_to_is_there,
    volumes_are_there_and_used,
    selectors_select,
    ports_are_open,
    probes_ask_open_ports,
    network_policies_let_through_what_is_needed,
    peers_are_pods_that_are_there,
    both_families_of_addresses_are_served,
    mounted_paths_are_mounted,
    one_pod_can_be_evicted_and_most_stay,
    pods_are_restricted,
    containers_are_restricted,
    images_are_pinned,
    resources_are_said,
    versions_are_told_and_bind_nothing,
)
