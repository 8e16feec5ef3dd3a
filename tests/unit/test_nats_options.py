"""Where NATS is and how to log in: what is taken, what is refused at once, and that no error shows a secret."""

import os
from pathlib import Path

import nkeys
import pytest

from nats_identify import NatsQueue
from nats_identify.nats_address import parse_servers
from nats_identify.nats_options import NatsOptions, NatsOptionsError

SECRET = "hunter2"  # noqa: S105  # what must never be shown


def seed_of(prefix=nkeys.PREFIX_BYTE_USER):
    return nkeys.encode_seed(bytes(range(32)), prefix)


def credentials(*, jwt=b"aaa.bbb.ccc", seed=None):
    """Return a credentials file as `nsc` writes it; without its JWT or seed where one is empty."""
    parts = []
    if jwt:
        parts += [b"-----BEGIN NATS USER JWT-----", jwt, b"------END NATS USER JWT------", b""]
    if seed != b"":
        parts += [b"-----BEGIN USER NKEY SEED-----", seed or seed_of(), b"------END USER NKEY SEED------", b""]
    return b"\n".join(parts)


@pytest.mark.parametrize(
    ("servers", "read"),
    [
        ("nats://one", ["nats://one:4222"]),
        ("one", ["nats://one:4222"]),
        ("one:4223", ["nats://one:4223"]),
        ("nats://one:4222,nats://two:4223", ["nats://one:4222", "nats://two:4223"]),
        (" nats://one , ,two,", ["nats://one:4222", "nats://two:4222"]),
        (
            ["nats://one", " two:1 ", "three,four"],
            [f"nats://{at}" for at in ("one:4222", "two:1", "three:4222", "four:4222")],
        ),
        (("tls://[::1]:4222/",), ["tls://[::1]:4222"]),
        ("NATS://one", ["nats://one:4222"]),
        ("nats://one,one:4222", ["nats://one:4222"]),
        ("wss://one/nats", ["wss://one/nats"]),
        ("nats://nats-0.nats_headless.bots.svc:4222", ["nats://nats-0.nats_headless.bots.svc:4222"]),
    ],
)
def test_one_server_or_several_in_each_form(servers, read):
    assert list(parse_servers(servers).servers) == read
    NatsQueue.connect(servers)


WRONG = [
    ("", "names no server"),
    (" , ", "names no server"),
    ([], "names no server"),
    ("nats://", "no valid host"),
    ("nats://None:4222", "no valid host"),
    ("nats://a..b", "no valid host"),
    ("nats://a b:4222", "no valid host"),
    ("::1", "no valid host"),
    ("nats://host:", "a port that is no number"),
    ("nats://host:port", "a port that is no number"),
    ("nats://host:0", "a port that is no number"),
    ("nats://host:65536", "a port that is no number"),
    ("nats://host:4222222222", "a port that is no number"),
    ("http://host:4222", "no scheme of NATS"),
    ("nats:host", "a port that is no number"),
    ("nats://host/path", "a path"),
    ("nats://one:4222;nats://two:4222", "a port that is no number"),
    ("nats://one,http://two", "server 2 begins with no scheme"),
    ("nats://one,wss://two", "cannot be mixed"),
    (f"nats://bot:{SECRET}@host:{SECRET}", "a port that is no number"),
    (f"nats://bot:{SECRET}@", "no valid host"),
    (f"nats://:{SECRET}@host", "an empty user name"),
    ("nats://bot:@host", "an empty user name, password"),
    ("nats://@host", "an empty user name"),
    (f"nats://bot:{SECRET}%ff@host", "is not UTF-8"),
    (f"nats://bot:1,{SECRET}@host", "%2C"),
    (f"nats://bot:{SECRET},x@host", "a port that is no number|%2C"),
    (f"nats://a:{SECRET}@one,nats://b:{SECRET}@two", "different credentials"),
]


@pytest.mark.parametrize(("servers", "said"), WRONG)
def test_an_address_that_can_never_work_is_refused_at_once(servers, said):
    with pytest.raises(ValueError, match=f"^servers: .*({said}).*; give nats://host:port") as refused:
        NatsQueue.connect(servers)
    assert SECRET not in str(refused.value)
    assert "bot" not in str(refused.value)


@pytest.mark.parametrize("servers", [None, 4222, b"nats://host", ["nats://host", None]])
def test_what_is_no_text_is_a_type_error(servers):
    with pytest.raises(TypeError):
        NatsQueue.connect(servers)


def test_an_unknown_option_is_refused_at_once():
    with pytest.raises(TypeError, match="no option usr"):
        NatsQueue.connect("nats://host", usr="bot")


def test_a_callback_that_is_not_async_is_refused_at_once():
    with pytest.raises(ValueError, match=r"^closed_cb: must be an async function"):
        NatsQueue.connect("nats://host", closed_cb=print)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("bot:p%40ss", {"user": "bot", "password": "p@ss"}),
        ("bot:p@ss", {"user": "bot", "password": "p@ss"}),
        ("bot:p#s/s?s", {"user": "bot", "password": "p#s/s?s"}),
        ("bot:a:b", {"user": "bot", "password": "a:b"}),
        ("b%3Aot:%2C%25%20", {"user": "b:ot", "password": ",% "}),
        ("bot:pässwörd", {"user": "bot", "password": "pässwörd"}),
        ("bot:p%C3%A4ss", {"user": "bot", "password": "päss"}),
        ("bot:100%", {"user": "bot", "password": "100%"}),
        ("s3cr%2Ft", {"token": "s3cr/t"}),
        ("s3#cr/t", {"token": "s3#cr/t"}),
    ],
)
def test_credentials_in_a_url_are_what_they_mean(written, meant):
    options = NatsOptions.of(f"nats://{written}@host:4222,nats://other")
    assert options.settings == meant
    assert options.shown == "nats://host:4222, nats://other:4222"
    assert repr(options) == "NatsOptions(addresses=Addresses(servers=('nats://host:4222', 'nats://other:4222')))"


FILES = {
    "without a JWT": (credentials(jwt=b""), "holds no user JWT"),
    "without a seed": (credentials(seed=b""), "holds no seed"),
    "with an empty JWT": (credentials(jwt=b"") + b"-----BEGIN NATS USER JWT-----", "holds no user JWT"),
    "with a broken seed": (credentials(seed=b"SU" + SECRET.encode()), "holds no seed"),
    "with an account's seed": (credentials(seed=seed_of(nkeys.PREFIX_BYTE_ACCOUNT)), "holds no seed"),
    "empty": (b"", "holds no user JWT"),
}


@pytest.mark.parametrize(("content", "said"), FILES.values(), ids=FILES)
def test_a_credentials_file_that_lets_nobody_in_is_refused(tmp_path, content, said):
    file = tmp_path / "bot.creds"
    file.write_bytes(content)
    refused = refusals("user_credentials", "NATS_CREDS_FILE", file)
    assert all(said in text and SECRET not in text for text in refused), refused


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"nothing", b"SU" + SECRET.encode(), seed_of(nkeys.PREFIX_BYTE_ACCOUNT)]
)
def test_a_seed_file_that_lets_nobody_in_is_refused(tmp_path, content):
    file = tmp_path / "bot.nk"
    file.write_bytes(content)
    refused = refusals("nkeys_seed", "NATS_NKEY_SEED_FILE", file)
    assert all("holds no seed" in text and SECRET not in text for text in refused), refused


@pytest.mark.parametrize(
    ("option", "variable"), [("user_credentials", "NATS_CREDS_FILE"), ("nkeys_seed", "NATS_NKEY_SEED_FILE")]
)
def test_what_is_no_readable_file_is_refused(tmp_path, monkeypatch, option, variable):
    os.mkfifo(tmp_path / "pipe")  # to open it would wait for ever
    for path in (tmp_path, tmp_path / "missing", tmp_path / "pipe", Path("/dev/zero")):
        assert all("is no file" in text for text in refusals(option, variable, path))
    locked = tmp_path / "locked"
    locked.write_bytes(credentials())
    monkeypatch.setattr(Path, "open", _refuse)  # root may read everything
    assert all("cannot be read" in text for text in refusals(option, variable, locked))


def _refuse(*_arguments):
    raise PermissionError


def refusals(option, variable, file):
    """Return what the library and the environment say of this file."""
    with pytest.raises(NatsOptionsError, match=f"^{option}: ") as in_code:
        NatsQueue.connect("nats://host", **{option: str(file)})
    with pytest.raises(NatsOptionsError, match=f"^{variable}: ") as in_environment:
        NatsOptions.from_environment({variable: str(file)})
    return [str(in_code.value), str(in_environment.value)]


def test_files_are_looked_at_again(tmp_path):
    file = tmp_path / "bot.creds"
    file.write_bytes(credentials())
    options = NatsOptions.of("nats://host", user_credentials=file)
    options.check()
    file.write_bytes(b"")
    with pytest.raises(NatsOptionsError, match=r"^user_credentials: holds no user JWT"):
        options.check()


@pytest.mark.parametrize(
    ("url", "options", "said"),
    [
        (f"nats://bot:{SECRET}@host", {"user": "bot", "password": SECRET}, "servers: has credentials in it and is set"),
        (f"nats://{SECRET}@host", {"token": SECRET}, "servers: has credentials in it and is set together with token"),
        ("nats://host", {"user": "bot"}, "user: is set without password"),
        ("nats://host", {"password": SECRET}, "password: is set without user"),
        ("nats://host", {"user": "bot", "password": SECRET, "token": SECRET}, "user: is set together with token"),
        ("nats://host", {"inbox_prefix": "a.*"}, "inbox_prefix: is no subject prefix"),
        ("ws://host", {"tls_handshake_first": True}, "tls_handshake_first: is for nats:// and tls://"),
    ],
)
def test_what_does_not_go_together_is_refused(url, options, said):
    with pytest.raises(NatsOptionsError, match=f"^{said}") as refused:
        NatsQueue.connect(url, **options)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(("text", "value"), [("1", True), ("true", True), ("0", False), ("no", False)])
def test_the_handshake_first_is_a_variable(text, value):
    options = NatsOptions.from_environment({"NATS_TLS_HANDSHAKE_FIRST": text})
    assert options.settings == {"tls_handshake_first": value}
    assert options.wants_tls is value


def test_several_wrong_variables_have_a_line_each():
    with pytest.raises(NatsOptionsError) as refused:
        NatsOptions.from_environment(
            {"NATS_URL": "host:x", "NATS_USER": "bot", "NATS_TLS_CA": "/no", "NATS_TLS_HANDSHAKE_FIRST": "perhaps"}
        )
    named = sorted(line.partition(":")[0] for line in refused.value.problems)
    assert named == ["NATS_TLS_CA", "NATS_TLS_HANDSHAKE_FIRST", "NATS_URL", "NATS_USER"]
