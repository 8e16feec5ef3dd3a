"""Small questions to rendered objects: which pods, who selects whom, what a container sees. It judges nothing."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

Doc = dict[str, Any]

WORKLOADS: Final = ("Deployment", "StatefulSet")


def name_of(doc: Doc) -> str:
    return f"{doc['kind']}/{doc['metadata']['name']}"


def of_kind(docs: list[Doc], *kinds: str) -> list[Doc]:
    return [doc for doc in docs if doc["kind"] in kinds]


def workloads(docs: list[Doc]) -> list[Doc]:
    return of_kind(docs, *WORKLOADS)


def get(docs: list[Doc], kind: str, name: str) -> Doc:
    """Return an object by its kind and its name, the hash of a generated one left out."""
    found = [doc for doc in of_kind(docs, kind) if plain(doc["metadata"]["name"]) == name]
    assert len(found) == 1, f"{len(found)} objects {kind}/{name}"
    return found[0]


HASH_LETTERS = set("2456789bcdfghkmt")
"""Kustomize writes the hash of a generated object in these: no vowels. One of three hundred has no digit."""


def plain(name: str) -> str:
    """Return a name without the hash that kustomize adds."""
    head, _, tail = name.rpartition("-")
    return head if len(tail) == 10 and set(tail) <= HASH_LETTERS else name


def labels_of(workload: Doc) -> dict[str, str]:
    labels: dict[str, str] = workload["spec"]["template"]["metadata"]["labels"]
    return labels


def pod_of(workload: Doc) -> Doc:
    spec: dict[str, Any] = workload["spec"]["template"]["spec"]
    return spec


def containers(workload: Doc) -> list[Doc]:
    pod = pod_of(workload)
    return [*pod["containers"], *pod.get("initContainers", ())]


def selects(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    return selector.items() <= labels.items()


def selected(docs: list[Doc], selector: Mapping[str, str]) -> list[Doc]:
    return [workload for workload in workloads(docs) if selects(selector, labels_of(workload))]


def ports_of(workload: Doc) -> dict[str, int]:
    return {port["name"]: port["containerPort"] for container in containers(workload) for port in container["ports"]}


def keys_of(doc: Doc) -> set[str]:
    return {*doc.get("data", {}), *doc.get("stringData", {}), *doc.get("binaryData", {})}


def environment_of(container: Doc, docs: list[Doc]) -> dict[str, str]:
    """Return what a container's process sees; a Secret's value is its reference, a field's is its path."""
    seen: dict[str, str] = {}
    for source in container.get("envFrom", ()):
        seen |= _exactly(docs, "ConfigMap", source["configMapRef"]["name"]).get("data", {})
    for variable in container.get("env", ()):
        value = variable.get("value")
        if value is None:
            ((_, reference),) = variable["valueFrom"].items()
            value = reference.get("fieldPath") or f"{reference['name']}:{reference['key']}"
        seen[variable["name"]] = value
    return seen


def mounted_files(workload: Doc, container: Doc, docs: list[Doc]) -> Iterator[str]:
    """Yield the path of every file that a ConfigMap or a Secret puts into a container."""
    volumes = {volume["name"]: volume for volume in pod_of(workload).get("volumes", ())}
    for mount in container.get("volumeMounts", ()):
        volume = volumes.get(mount["name"], {})
        for source in volume.get("projected", {}).get("sources", [volume]):
            for key in _files(source, docs):
                yield f"{mount['mountPath']}/{key}"


def _files(source: Doc, docs: list[Doc]) -> Iterator[str]:
    for kind, field, key in (("ConfigMap", "configMap", "name"), ("Secret", "secret", "secretName")):
        if field in source:
            reference = source[field]
            target = _exactly(docs, kind, reference.get(key) or reference.get("name"))
            items = reference.get("items")
            yield from keys_of(target) if items is None else (item["path"] for item in items)


def _exactly(docs: list[Doc], kind: str, name: str) -> Doc:
    return next((doc for doc in of_kind(docs, kind) if doc["metadata"]["name"] == name), {})
