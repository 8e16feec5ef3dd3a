"""Every check bites: each rule and the schemas are fed an error of their own and find it, and it alone is new."""

import copy

import pytest

from tests.deploy.conftest import docs_of
from tests.deploy.objects import containers, get, labels_of, of_kind, pod_of
from tests.deploy.program import PROGRAM
from tests.deploy.rules import EVERYWHERE
from tests.deploy.test_manifests import KUBERNETES, complaints


@pytest.fixture
def docs(tree):
    """Prod and shards with every option, to be spoiled."""
    return copy.deepcopy(docs_of(tree, "prod with every option"))


def coordinator(docs):
    return get(docs, "Deployment", "coordinator")


def container(docs):
    return containers(coordinator(docs))[0]


def nats(docs):
    return get(docs, "StatefulSet", "nats")


def setting(docs, name, **values):
    get(docs, "ConfigMap", name)["data"].update(values)


def conf(docs, old, new):
    data = get(docs, "ConfigMap", "nats-config")["data"]
    assert old in data["nats.conf"]
    data["nats.conf"] = data["nats.conf"].replace(old, new)


def unset(name):
    def spoil(docs):
        env = container(docs)["env"]
        env[:] = [variable for variable in env if variable["name"] != name]

    return spoil


PLANTED = {
    # between objects
    "a name twice": ("names_are_unique", lambda docs: docs.append(copy.deepcopy(docs[1]))),
    "another namespace": ("names_are_unique", lambda docs: docs[1]["metadata"].update(namespace="default")),
    "a Secret's key": ("referred_to", lambda docs: get(docs, "Secret", "coordinator-nats")["data"].clear()),
    "a ConfigMap's name": ("referred_to", lambda docs: container(docs)["envFrom"][0]["configMapRef"].update(name="x")),
    "a ServiceAccount": ("referred_to", lambda docs: docs.remove(get(docs, "ServiceAccount", "nats"))),
    "a headless Service": ("referred_to", lambda docs: nats(docs)["spec"].update(serviceName="nats-headles")),
    "a projected Secret": (
        "referred_to",
        lambda docs: pod_of(nats(docs))["volumes"][0]["projected"]["sources"][2]["secret"].update(name="x"),
    ),
    "a volume unused": ("volumes_are", lambda docs: container(docs)["volumeMounts"].pop()),
    "a volume missing": ("volumes_are", lambda docs: pod_of(nats(docs))["volumes"].pop()),
    "own pods": ("selectors", lambda docs: labels_of(nats(docs)).update({"app.kubernetes.io/name": "nuts"})),
    "a Service of none": (
        "selectors",
        lambda docs: get(docs, "Service", "nats")["spec"]["selector"].update({"app.kubernetes.io/component": "x"}),
    ),
    "a budget of none": (
        "selectors",
        lambda docs: get(docs, "PodDisruptionBudget", "nats")["spec"]["selector"]["matchLabels"].update(a="b"),
    ),
    "a peer with a label too many": (
        "peers_are_pods",
        lambda docs: get(docs, "NetworkPolicy", "coordinator")["spec"]["egress"][1]["to"][0]["podSelector"][
            "matchLabels"
        ].update({"app.kubernetes.io/instance": "alpha"}),
    ),
    "a selector by version": (
        "selectors",
        lambda docs: coordinator(docs)["spec"]["selector"]["matchLabels"].update({"app.kubernetes.io/version": "0"}),
    ),
    "a spread over others": (
        "selectors",
        lambda docs: pod_of(nats(docs))["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"].update(a="b"),
    ),
    "a target port": (
        "ports_are_open",
        lambda docs: get(docs, "Service", "nats")["spec"]["ports"][0].update(targetPort="clients"),
    ),
    "a monitored port": (
        "ports_are_open",
        lambda docs: get(docs, "PodMonitor", "coordinator")["spec"]["podMetricsEndpoints"][0].update(port="metrics"),
    ),
    "a probed port": (
        "probes_ask_open",
        lambda docs: container(docs)["livenessProbe"]["httpGet"].update(port="https"),
    ),
    "no way to Discord": (
        "network_policies",
        lambda docs: get(docs, "NetworkPolicy", "coordinator")["spec"]["egress"].pop(),
    ),
    "no way out of NATS": ("network_policies", lambda docs: docs.remove(get(docs, "NetworkPolicy", "nats"))),
    "a door to nowhere": (
        "network_policies",
        lambda docs: get(docs, "NetworkPolicy", "nats")["spec"]["ingress"][0]["ports"][0].update(port=4223),
    ),
    "a client without its label": (
        "network_policies",
        lambda docs: labels_of(get(docs, "StatefulSet", "shards")).pop("nats-identify/client"),
    ),
    "a client that TLS forgets": (
        "network_policies",
        lambda docs: coordinator(docs)["metadata"]["labels"].pop("nats-identify/client"),
    ),
    "a Service of one family": (
        "both_families",
        lambda docs: get(docs, "Service", "nats")["spec"].pop("ipFamilyPolicy"),
    ),
    "a Service of a named family": (
        "both_families",
        lambda docs: get(docs, "Service", "nats")["spec"].update(ipFamilies=["IPv4"]),
    ),
    "Discord by IPv4": (
        "both_families",
        lambda docs: get(docs, "NetworkPolicy", "coordinator")["spec"]["egress"][-1].update(
            to=[{"ipBlock": {"cidr": "0.0.0.0/0"}}]
        ),
    ),
    "a path": ("mounted_paths", lambda docs: setting(docs, "coordinator", DISCORD_TOKEN_FILE="/var/run/secrets/x")),  # noqa: S106  # a path
    "a config file": (
        "mounted_paths",
        lambda docs: containers(nats(docs))[0].update(args=["--config", "/etc/nats.conf"]),
    ),
    "no eviction": (
        "one_pod_can",
        lambda docs: get(docs, "PodDisruptionBudget", "coordinator")["spec"].update(maxUnavailable=0),
    ),
    "no quorum": (
        "one_pod_can",
        lambda docs: get(docs, "PodDisruptionBudget", "nats")["spec"].update(maxUnavailable=2),
    ),
    "two replicas": ("one_pod_can", lambda docs: coordinator(docs)["spec"].update(replicas=2)),
    "no budget": ("one_pod_can", lambda docs: docs.remove(get(docs, "PodDisruptionBudget", "nats"))),
    "a stuck drain": (
        "one_pod_can",
        lambda docs: get(docs, "PodDisruptionBudget", "nats")["spec"].pop("unhealthyPodEvictionPolicy"),
    ),
    "root": ("pods_are_restricted", lambda docs: pod_of(nats(docs))["securityContext"].update(runAsUser=0)),
    "no seccomp": ("pods_are_restricted", lambda docs: pod_of(nats(docs))["securityContext"].pop("seccompProfile")),
    "the host's network": ("pods_are_restricted", lambda docs: pod_of(nats(docs)).update(hostNetwork=True)),
    "an API token": ("pods_are_restricted", lambda docs: pod_of(nats(docs)).pop("automountServiceAccountToken")),
    "a path of the host": (
        "pods_are_restricted",
        lambda docs: pod_of(nats(docs))["volumes"].append({"name": "data", "hostPath": {"path": "/"}}),
    ),
    "a lax namespace": (
        "pods_are_restricted",
        lambda docs: of_kind(docs, "Namespace")[0]["metadata"]["labels"].update(
            {"pod-security.kubernetes.io/enforce": "baseline"}
        ),
    ),
    "privileges": ("containers_are", lambda docs: container(docs)["securityContext"].pop("allowPrivilegeEscalation")),
    "capabilities": ("containers_are", lambda docs: container(docs)["securityContext"].pop("capabilities")),
    "a root to write to": (
        "containers_are",
        lambda docs: container(docs)["securityContext"].pop("readOnlyRootFilesystem"),
    ),
    "latest": ("images_are", lambda docs: container(docs).update(image="example.org/nats-identify:latest")),
    "no tag": ("images_are", lambda docs: container(docs).update(image="example.org:5000/nats-identify")),
    "no request": ("resources_are", lambda docs: container(docs)["resources"]["requests"].pop("cpu")),
    "throttled": ("resources_are", lambda docs: container(docs)["resources"]["limits"].update(cpu="1")),
    "more than the limit": (
        "resources_are",
        lambda docs: container(docs)["resources"]["requests"].update(memory="1Gi"),
    ),
    "GOMEMLIMIT": ("resources_are", lambda docs: containers(nats(docs))[0]["env"][1].update(value="250MiB")),
    "no version": ("versions_are", lambda docs: labels_of(nats(docs)).pop("app.kubernetes.io/version")),
    "a version on a claim": (
        "versions_are",
        lambda docs: nats(docs)["spec"]["volumeClaimTemplates"][0]["metadata"].update(labels={"version": "1"}),
    ),
    # between the objects and the program
    "a misspelt setting": ("variables_are_read", lambda docs: setting(docs, "coordinator", IDENTIFY_WINDOWS="5")),
    "a misspelt bot's setting": ("variables_are_read", lambda docs: setting(docs, "shards", SHARDS_COUNT="5")),
    "another port": ("probes_ask_what", lambda docs: setting(docs, "coordinator", IDENTIFY_HTTP_PORT="8081")),
    "loopback": ("probes_ask_what", lambda docs: setting(docs, "coordinator", IDENTIFY_HTTP_HOST="127.0.0.1")),
    "IPv4 alone": ("probes_ask_what", lambda docs: setting(docs, "coordinator", IDENTIFY_HTTP_HOST="0.0.0.0")),  # noqa: S104  # planted
    "ready means leading": (
        "probes_ask_what",
        lambda docs: container(docs)["readinessProbe"]["httpGet"].update(path="/leader"),
    ),
    "another port of the queue": (
        "the_queue_over_http",
        lambda docs: container(docs)["ports"][1].update(containerPort=8082),
    ),
    "a queue without a token": ("the_queue_over_http", unset("IDENTIFY_QUEUE_HTTP_TOKEN")),
    "places that are lost": (
        "the_queue_over_http",
        lambda docs: get(docs, "Service", "queue-http")["spec"].pop("sessionAffinity"),
    ),
    "a queue for everybody": (
        "the_queue_over_http",
        lambda docs: get(docs, "NetworkPolicy", "coordinator-queue-http")["spec"]["ingress"][0].pop("from"),
    ),
    "killed too soon": (
        "grace_periods",
        lambda docs: pod_of(coordinator(docs)).update(terminationGracePeriodSeconds=5),
    ),
    "NATS killed too soon": ("grace_periods", lambda docs: pod_of(nats(docs)).pop("terminationGracePeriodSeconds")),
    "a longer lame duck": ("grace_periods", lambda docs: conf(docs, "duration: 30s", "duration: 60s")),
    "a hasty rollout": ("grace_periods", lambda docs: coordinator(docs)["spec"].pop("minReadySeconds")),
    "a rollout that takes away": (
        "grace_periods",
        lambda docs: coordinator(docs)["spec"]["strategy"]["rollingUpdate"].update(maxUnavailable=1),
    ),
    "a store too large": ("nats_keeps", lambda docs: conf(docs, "900MB", "2GB")),
    "lost on a power cut": ("nats_keeps", lambda docs: conf(docs, "sync_interval: always", "sync_interval: 2m")),
    "a store that is nowhere": ("nats_keeps", lambda docs: conf(docs, "store_dir: /data", "store_dir: /store")),
    "another pid file": ("nats_keeps", lambda docs: conf(docs, "nats.pid", "pid")),
    "NATS on IPv4 alone": ("nats_keeps", lambda docs: conf(docs, "http: 8222", "http: 8222\nhost: 0.0.0.0")),
    "another NATS port": ("nats_keeps", lambda docs: conf(docs, "port: 4222", "port: 4223")),
}


@pytest.mark.parametrize("error", PLANTED)
def test_a_planted_error_is_found_by_its_rule(docs, error):
    name, spoil = PLANTED[error]
    (rule,) = [rule for rule in EVERYWHERE + PROGRAM if rule.__name__.startswith(name) or name in rule.__name__]
    assert list(rule(docs)) == []
    spoil(docs)
    assert list(rule(docs)) != []


def test_every_rule_has_a_planted_error():
    named = [name for name, _ in PLANTED.values()]
    assert all(any(name in rule.__name__ for name in named) for rule in EVERYWHERE + PROGRAM)


WRONG_FOR_KUBERNETES = {
    "an unknown field": lambda docs: pod_of(nats(docs)).update(terminationGracePeriod=60),
    "a wrong case": lambda docs: container(docs).update(imagepullPolicy="Always"),
    "a wrong type": lambda docs: coordinator(docs)["spec"].update(replicas="3"),
    "an API that is gone": lambda docs: get(docs, "PodDisruptionBudget", "nats").update(apiVersion="policy/v1beta1"),
    "a kind that is not there": lambda docs: get(docs, "Service", "nats").update(kind="Sevice"),
    "an API of others": lambda docs: get(docs, "PodMonitor", "coordinator").update(kind="ServiceMonitor"),
}


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("error", WRONG_FOR_KUBERNETES)
def test_a_planted_error_is_found_by_the_schemas(docs, error, version):
    WRONG_FOR_KUBERNETES[error](docs)
    assert len(complaints(docs, version)) == 1
