"""How a bot learns from its environment where the queue is, and what it refuses to guess."""

import ssl

import pytest

from coordinator.settings import Settings
from nats_identify import LocalQueue, NatsQueue
from nats_identify.environment import (
    WrongEnvironmentError,
    connection_options,
    queue_from_environment,
    servers,
)

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
    assert servers(URL) == ["nats://one:4222", "nats://two:4222"]


def test_every_way_in(tmp_path):
    file = tmp_path / "file"
    file.write_text(SECRET)
    named = str(file)
    assert connection_options({"NATS_USER": "shard", "NATS_PASSWORD": SECRET}) == {"user": "shard", "password": SECRET}
    assert connection_options({"NATS_TOKEN": SECRET}) == {"token": SECRET}
    assert connection_options({"NATS_CREDS_FILE": named}) == {"user_credentials": named}
    assert connection_options({"NATS_NKEY_SEED_FILE": named}) == {"nkeys_seed": named}
    assert connection_options({"NATS_INBOX_PREFIX": "_INBOX_shard.pod-0"}) == {"inbox_prefix": "_INBOX_shard.pod-0"}
    assert connection_options({"NATS_USER": "", "NATS_INBOX_PREFIX": ""}) == {}


def test_trust(monkeypatch):
    asked = []
    monkeypatch.setattr(ssl, "create_default_context", lambda *, cafile: asked.append(cafile) or "context")
    assert connection_options({"NATS_TLS_CA": "/ca.crt"}) == {"tls": "context"}
    assert asked == ["/ca.crt"]


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"NATS_USER": "shard"}, "NATS_USER: is set without NATS_PASSWORD"),
        ({"NATS_PASSWORD": SECRET}, "NATS_PASSWORD: is set without NATS_USER"),
        ({"NATS_USER": "shard", "NATS_PASSWORD": SECRET, "NATS_TOKEN": SECRET}, "NATS_USER and NATS_TOKEN: are set"),
        ({"NATS_CREDS_FILE": "/nowhere"}, "NATS_CREDS_FILE: cannot be read"),
        ({"NATS_NKEY_SEED_FILE": "/nowhere"}, "NATS_NKEY_SEED_FILE: cannot be read"),
        ({"NATS_TLS_CA": "/nowhere"}, "NATS_TLS_CA: holds no certificate"),
        ({"NATS_TLS_CERT": "/nowhere"}, "NATS_TLS_CERT: is set without NATS_TLS_KEY"),
        ({"NATS_TLS_KEY": "/nowhere"}, "NATS_TLS_KEY: is set without NATS_TLS_CERT"),
        ({"NATS_TLS_CERT": "/nowhere", "NATS_TLS_KEY": "/nowhere"}, "NATS_TLS_CERT: does not fit NATS_TLS_KEY"),
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

    class Watched(dict):
        def get(self, name, default=None):
            read.add(name)
            return super().get(name, default)

    queue_from_environment(Watched(URL))
    assert read - {name.upper() for name in Settings.model_fields} == set()
    assert {"NATS_URL", "NATS_USER", "NATS_TLS_CA", "NATS_INBOX_PREFIX", "IDENTIFY_PREFIX"} <= read
