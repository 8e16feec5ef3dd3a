"""Several bots in one namespace: each has what is its own, one NATS serves them, and neither can touch the other's."""

import re
import subprocess

import nats
import nats.errors
import pytest
import yaml

from nats_identify import NatsQueue
from nats_identify.client.environment import queue_from_environment
from tests.deploy.conftest import docs_of
from tests.deploy.objects import get, labels_of, name_of, of_kind, selected, workloads
from tests.deploy.program import variables_are_read
from tests.deploy.rendering import BOTS, DEPLOY
from tests.deploy.rules import EVERYWHERE, peers_are_pods_that_are_there
from tests.deploy.server import environment_in_pod, running
from tests.deploy.test_manifests import KUBERNETES, complaints
from tests.deploy.test_roles import allowed
from tests.processes import QUICK, CoordinatorProcess, until


@pytest.fixture
def docs(tree):
    return tree.render("examples/bots")


@pytest.fixture
async def server(tree, tmp_path):
    """One server in place of three, with the accounts of both bots."""
    docs = tree.render("examples/bots")
    alone = get(docs_of(tree, "dev"), "ConfigMap", "nats-config")
    docs = [alone if doc["metadata"]["name"].startswith("nats-config-") else doc for doc in docs]
    async with running(docs, tmp_path / "nats") as server:
        for bot in BOTS:
            for role in ("coordinator", "shard", "operator"):
                server.passwords[f"{role}-{bot}"] = server.passwords[f"{role}_{bot}"]
        yield server


@pytest.mark.parametrize("rule", [*EVERYWHERE, variables_are_read], ids=lambda rule: rule.__name__)
def test_it_holds_together(docs, rule):
    assert list(rule(docs)) == []


@pytest.mark.parametrize("version", KUBERNETES)
def test_kubernetes_knows_every_field(docs, version):
    assert complaints(docs, version) == []


def test_nothing_of_one_bot_selects_a_pod_of_another(docs):
    own = [
        (doc, doc["spec"].get("selector") or doc["spec"]["podSelector"])
        for doc in of_kind(docs, "Deployment", "StatefulSet", "PodDisruptionBudget", "NetworkPolicy", "Service")
        if doc["metadata"]["name"].endswith(BOTS)
    ]
    assert len(own) == 16
    for doc, selector in own:
        found = selected(docs, selector.get("matchLabels", selector))
        bot = doc["metadata"]["name"].rpartition("-")[2]
        assert [labels_of(workload)["app.kubernetes.io/instance"] for workload in found] == [bot], name_of(doc)


def test_each_pod_has_one_disruption_budget(docs):
    for workload in workloads(docs):
        budgets = of_kind(docs, "PodDisruptionBudget")
        mine = [doc for doc in budgets if workload in selected(docs, doc["spec"]["selector"]["matchLabels"])]
        assert len(mine) == 1, f"{name_of(workload)}: Kubernetes evicts no pod that two budgets name"


def test_a_label_in_every_selector_is_found(tree):
    """What includeSelectors does, the obvious way to write it: no pod of the bot could reach NATS."""
    file = tree.folder / "examples/bots/alpha/kustomization.yaml"
    text = file.read_text()
    obvious = re.sub(r"    fields:\n(      - .*\n)+(?=  - pairs)", "    includeSelectors: true\n", text, count=1)
    assert obvious != text
    file.write_text(obvious)
    try:
        docs, complaints = tree.render_text("examples/bots/alpha")
        assert not complaints
    finally:
        file.write_text(text)
    spoiled = [*yaml.safe_load_all(docs), *tree.render("nats")]
    assert "NetworkPolicy/coordinator-alpha" in " ".join(peers_are_pods_that_are_there(spoiled))


def test_the_accounts_are_what_make_accounts_makes(tree):
    """The file in the repository is for reading; the copy here has been made anew."""
    assert (tree.folder / "examples/bots/accounts.conf").read_text() == (
        DEPLOY / "examples/bots/accounts.conf"
    ).read_text()
    assert (DEPLOY / "examples/bots/namespace.yaml").read_text() == (DEPLOY / "base/namespace.yaml").read_text()
    alpha, beta = (DEPLOY / f"examples/bots/{bot}/kustomization.yaml" for bot in BOTS)
    assert beta.read_text() == alpha.read_text().replace("alpha", "beta")


@pytest.mark.parametrize(
    ("bots", "said"), [((), "which bots?"), (("Alpha",), "small letters"), (("gamma",), "has no passwords yet")]
)
def test_make_accounts_refuses_what_it_cannot_make(tree, bots, said):
    command = [tree.folder / "examples/bots/make-accounts", *bots]
    before = (tree.folder / "examples/bots/accounts.conf").read_text()
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert said in refused.stderr
    assert (tree.folder / "examples/bots/accounts.conf").read_text() == before


def settings_of(docs, bot, server):
    """Return what the bot's coordinator sees; its limits are static, since there is no Discord here."""
    seen = environment_in_pod(docs, f"Deployment/coordinator-{bot}", f"coordinator-{bot}-0", server)
    del seen["DISCORD_TOKEN_FILE"]
    own_times = {name: value for name, value in QUICK.items() if name.startswith("IDENTIFY_")}
    return {**seen, **own_times, "IDENTIFY_REPLICA_NAME": f"{bot}-0"}


async def test_both_bots_are_served_by_one_nats_each_from_a_ledger_of_its_own(docs, server, tmp_path):
    coordinators = [CoordinatorProcess(tmp_path / f"{bot}.log", settings_of(docs, bot, server)) for bot in BOTS]
    try:
        for coordinator in coordinators:
            await coordinator.start()
        for bot, coordinator in zip(BOTS, coordinators, strict=True):
            await until(coordinator.is_leader, f"{bot} has a leader")
            seen = environment_in_pod(docs, f"StatefulSet/shards-{bot}", f"shards-{bot}-0", server)
            async with queue_from_environment(seen) as queue, queue.turn(0):
                assert isinstance(queue, NatsQueue)
            operator = await nats.connect(
                server.url,
                user=f"operator-{bot}",
                inbox_prefix="_INBOX_operator",
                password=server.passwords[f"operator-{bot}"],
            )
            stream = await operator.jetstream().stream_info(f"KV_{bot}_identify")
            assert stream.state.messages == 1
            await operator.close()
            assert f'identify_leader{{prefix="{bot}.identify"}} 1.0' in (await coordinator.page("/metrics"))[1]
            assert await coordinator.metric("identify_leader") == 1
        assert "Violation" not in server.log
    finally:
        for coordinator in coordinators:
            if coordinator.process.returncode is None:
                coordinator.process.kill()
                await coordinator.process.wait()


@pytest.mark.parametrize("role", ["coordinator", "shard", "operator"])
async def test_a_bot_s_user_may_say_nothing_of_the_other_s(server, role):
    others = ["beta.identify.request.0", "beta.identify.confirm.0.x", "beta.identify.status", "beta.identify.pause"]
    others += ["$KV.beta_identify.ledger", "$JS.API.STREAM.CREATE.KV_beta_identify", "identify.request.0"]
    user = f"{role}-alpha"
    assert await allowed(server, user, "publish", others) == []
    assert await allowed(server, user, "subscribe", ["beta.identify.>", "beta.identify.event.>"]) == []
    assert await allowed(server, user, "publish", ["alpha.identify.request.0"]) == ["alpha.identify.request.0"]


async def test_a_bot_s_password_opens_its_own_account_alone(server):
    with pytest.raises(nats.errors.Error, match=r"(?i)authorization"):
        await nats.connect(
            server.url,
            allow_reconnect=False,
            max_reconnect_attempts=1,
            user="shard-alpha",
            password=server.passwords["shard-beta"],
        )
