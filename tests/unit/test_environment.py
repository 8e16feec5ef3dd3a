"""How a bot learns from its environment where the queue is, and what it refuses to guess."""

import ssl

import pytest

from coordinator.settings import Settings
from nats_identify import LocalQueue, NatsQueue
from nats_identify.client.environment import (
    WrongEnvironmentError,
    nats_options,
    queue_from_environment,
)
from tests.unit.test_nats_options import credentials, seed_of

URL = {"NATS_URL": "nats://one:4222, nats://two:4222"}
SECRET = "hunter2"  # noqa: S105  # what must never be shown


async def test_with_a_url_it_is_the_common_queue_else_one_for_this_process():
    assert isinstance(queue_from_environment(URL), NatsQueue)
    assert isinstance(queue_from_environment({}), LocalQueue)


def test_a_pod_without_a_url_is_refused():
    """Each pod pacing itself is how the limit is broken."""
    with pytest.raises(WrongEnvironmentError, match=r"^NATS_URL: is not set in this pod"):
        queue_from_environment({"KUBERNETES_SERVICE_HOST": "10.96.0.1"})


def test_several_servers():
    assert nats_options(URL).addresses.servers == ("nats://one:4222", "nats://two:4222")


def test_every_way_in(tmp_path):
    seed, creds = tmp_path / "seed", tmp_path / "creds"
    seed.write_bytes(seed_of())
    creds.write_bytes(credentials())
    for environment, settings in (
        ({"NATS_USER": "shard", "NATS_PASSWORD": SECRET}, {"user": "shard", "password": SECRET}),
        ({"NATS_TOKEN": SECRET}, {"token": SECRET}),
        ({"NATS_URL": f"nats://{SECRET}@host"}, {"token": SECRET}),
        ({"NATS_CREDS_FILE": f"{creds}"}, {"user_credentials": f"{creds}"}),
        ({"NATS_NKEY_SEED_FILE": f"{seed}"}, {"nkeys_seed": f"{seed}"}),
        ({"NATS_INBOX_PREFIX": "_INBOX_shard.pod-0"}, {"inbox_prefix": "_INBOX_shard.pod-0"}),
        ({"NATS_TLS_HANDSHAKE_FIRST": "1"}, {"tls_handshake_first": True}),
        ({"NATS_USER": "", "NATS_INBOX_PREFIX": ""}, {}),
    ):
        assert nats_options(environment).settings == settings


def test_trust(monkeypatch):
    asked = []

    def context(*, cafile):
        asked.append(cafile)
        return "context"

    monkeypatch.setattr(ssl, "create_default_context", context)
    assert nats_options({"NATS_TLS_CA": "/ca.crt"}).settings == {"tls": "context"}
    assert asked == ["/ca.crt"]


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"NATS_USER": "shard"}, "NATS_USER: is set without NATS_PASSWORD"),
        ({"NATS_PASSWORD": SECRET}, "NATS_PASSWORD: is set without NATS_USER"),
        (
            {"NATS_USER": "shard", "NATS_PASSWORD": SECRET, "NATS_TOKEN": SECRET},
            "NATS_USER: is set together with NATS_TOKEN",
        ),
        ({"NATS_CREDS_FILE": "/nowhere"}, "NATS_CREDS_FILE: is no file"),
        ({"NATS_NKEY_SEED_FILE": "/nowhere"}, "NATS_NKEY_SEED_FILE: is no file"),
        ({"NATS_TLS_CA": "/nowhere"}, "NATS_TLS_CA: holds no certificate"),
        ({"NATS_TLS_CERT": "/nowhere"}, "NATS_TLS_CERT: is set without NATS_TLS_KEY"),
        ({"NATS_TLS_KEY": "/nowhere"}, "NATS_TLS_KEY: is set without NATS_TLS_CERT"),
        ({"NATS_TLS_CERT": "/nowhere", "NATS_TLS_KEY": "/nowhere"}, "NATS_TLS_CERT: does not fit NATS_TLS_KEY"),
        ({"NATS_URL": " "}, "NATS_URL: names no server"),
        ({"NATS_URL": f"nats://bot:{SECRET}@host:{SECRET}"}, "NATS_URL: it has a port that is no number"),
        ({"NATS_URL": f"nats://bot:{SECRET}@host", "NATS_TOKEN": SECRET}, "NATS_URL: has credentials in it"),
        ({"NATS_TLS_HANDSHAKE_FIRST": "perhaps"}, "NATS_TLS_HANDSHAKE_FIRST: is neither yes nor no"),
        ({"NATS_INBOX_PREFIX": "_INBOX.*"}, "NATS_INBOX_PREFIX: is no subject prefix"),
        ({"IDENTIFY_PREFIX": "a b"}, "IDENTIFY_PREFIX: prefix 'a b'"),
    ],
)
def test_what_makes_no_sense_is_refused_and_no_secret_is_repeated(environment, said):
    with pytest.raises(WrongEnvironmentError, match=f"^{said}") as refused:
        queue_from_environment({**URL, **environment})
    assert SECRET not in str(refused.value)


def test_the_variables_are_those_of_a_coordinator():
    """Who has configured one has configured the other."""
    read = set()

    class Watched(dict[str, str]):
        def get(self, name, default=None):
            read.add(name)
            return super().get(name, default)

    queue_from_environment(Watched(URL))
    assert read - {name.upper() for name in Settings.model_fields} == set()
    assert {"NATS_URL", "NATS_USER", "NATS_TLS_CA", "NATS_INBOX_PREFIX", "IDENTIFY_PREFIX"} <= read
