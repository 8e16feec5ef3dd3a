"""The NATS configuration as the pods see it: valid to nats-server itself, and the same accounts in every overlay."""

import shutil
import socket

import nats
import pytest

from tests.deploy.conftest import docs_of
from tests.deploy.objects import get
from tests.deploy.server import objections, running, server_environment, write_config

VIEWS = ("prod", "dev")


@pytest.mark.parametrize("view", VIEWS)
def test_nats_server_takes_it(tree, tmp_path, view):
    docs = docs_of(tree, view)
    assert objections(write_config(docs, tmp_path), server_environment(docs)) == ""


def test_nats_server_takes_it_with_tls(tree, tmp_path):
    """Only the path of the certificates is another here: the Secret's files, instead of where the pod mounts them."""
    docs = docs_of(tree, "prod with every option")
    main = write_config(docs, tmp_path)
    certificates = tree.folder / "options/overlays/prod/secrets"
    for name in ("tls.conf", "cluster-tls.conf"):
        file = tmp_path / name
        assert "/etc/nats-tls/tls.crt" in file.read_text()
        file.write_text(file.read_text().replace("/etc/nats-tls", str(certificates)))
    assert objections(main, server_environment(docs)) == ""


def test_the_chart_has_the_limits_of_our_own_servers(tree):
    own = (tree.folder / "nats/nats.conf").read_text()
    values = (tree.folder / "overlays/external-nats/values.yaml").read_text()
    limits = [line for line in own.splitlines() if line.startswith("max_")]
    assert [line.partition(":")[0] for line in limits] == ["max_payload", "max_pending", "max_connections"]
    assert all(f"\n    {line}\n" in values for line in limits)


PLANTED = {
    "an unknown field": ("nats.conf", "max_file_store", "max_file_stores"),
    "a misspelt permission": ("accounts.conf", "subscribe: {", "subscribes: {"),
    "a password that is not there": ("accounts.conf", "$SHARD_PASSWORD", "$SHARDS_PASSWORD"),
    "a file that is not there": ("nats.conf", "include cluster.conf", "include clusters.conf"),
    "a quantity": ("nats.conf", "lame_duck_duration: 30s", "lame_duck_duration: thirty"),
    "a user twice": ("accounts.conf", "user: operator", "user: shard"),
    "a password for nobody": ("users.conf", "ADMIN_PASSWORD", "ADMINS_PASSWORD"),
}


@pytest.mark.parametrize("error", PLANTED)
def test_a_planted_error_is_found(tree, tmp_path, error):
    docs = docs_of(tree, "prod")
    main = write_config(docs, tmp_path)
    name, old, new = PLANTED[error]
    text = (tmp_path / name).read_text()
    assert old in text
    (tmp_path / name).write_text(text.replace(old, new))
    assert objections(main, server_environment(docs)) != ""


def test_a_name_that_is_not_said_is_found(tree, tmp_path):
    docs = docs_of(tree, "prod")
    environment = server_environment(docs)
    del environment["SERVER_NAME"]
    assert "SERVER_NAME" in objections(write_config(docs, tmp_path), environment)


def test_the_accounts_are_the_same_everywhere(tree):
    told = {
        get(docs_of(tree, view), "ConfigMap", "nats-accounts")["data"]["accounts.conf"]
        for view in (*VIEWS, "external NATS")
    }
    assert len(told) == 1


def test_the_nats_chart_finds_the_accounts(tree, tmp_path):
    """values.yaml names what the overlay makes, and the chart's own include is no more than this."""
    docs = docs_of(tree, "external NATS")
    values = (tree.folder / "overlays/external-nats/values.yaml").read_text()
    for kind, name in (("ConfigMap", "nats-accounts"), ("Secret", "nats-passwords")):
        assert any(doc["kind"] == kind and doc["metadata"]["name"] == name for doc in docs)
        assert f"name: {name}" in values
    write_config(docs, tmp_path / "nats-identify")
    (tmp_path / "nats-config").mkdir()
    main = tmp_path / "nats-config" / "nats.conf"
    main.write_text('include "../nats-identify/accounts.conf"\nserver_name: nats-0\njetstream { store_dir: /data }\n')
    assert "$include: ../nats-identify/accounts.conf" in values
    assert objections(main, {"SERVER_NAME": "nats-0"}) == ""
    shutil.rmtree(tmp_path / "nats-identify")
    assert objections(main, {"SERVER_NAME": "nats-0"}) != ""


async def test_it_listens_on_both_families_of_addresses(tree, tmp_path):
    """As a pod would: no address is given to it, and clients come by IPv4 and IPv6."""
    if not socket.has_dualstack_ipv6():
        pytest.skip("IPv6 is off on this machine")
    async with running(docs_of(tree, "dev"), tmp_path, everywhere=True) as server:
        for host in ("127.0.0.1", "[::1]"):
            client = await nats.connect(f"nats://{host}:{server.port}", **server.way_in("operator"))
            assert client.connected_url is not None
            assert client.connected_url.hostname == host.strip("[]")
            await client.close()
