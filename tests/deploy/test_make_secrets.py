"""The command that makes the Secrets' files: what it makes, what it keeps, and what it refuses."""

import shutil
import subprocess

import pytest

from tests.deploy.rendering import DEPLOY, ROOT
from tests.tokens import MEANT, TOKEN, WRONG

GIT = shutil.which("git") or "git"


@pytest.fixture
def folder(tmp_path):
    copy = tmp_path / "k8s"
    shutil.copytree(DEPLOY, copy, ignore=shutil.ignore_patterns("secrets"))
    return copy


def make(folder, *arguments, token="the.bots-token"):  # noqa: S107  # it opens nothing
    command = [folder / "make-secrets", *arguments]
    content = token.encode() if isinstance(token, str) else token
    ran = subprocess.run(command, input=content, capture_output=True, check=False)
    return subprocess.CompletedProcess(command, ran.returncode, ran.stdout.decode(), ran.stderr.decode())


def contents(folder):
    return {path.name: path.read_text() for path in (folder / "secrets").iterdir()}


def test_each_role_gets_a_password_of_its_own(folder):
    prod, shards = folder / "overlays/prod", folder / "examples/shards"
    assert make(folder, prod, shards).returncode == 0
    made = contents(prod)
    words = [made[f"{role}-password"] for role in ("coordinator", "shard", "operator", "admin", "route")]
    assert len(set(words)) == 5
    assert all(word.isalnum() and word[0].isalpha() and len(word) > 40 for word in words)
    assert made["users.conf"].count(made["shard-password"]) == 1
    assert made["routes.conf"].count(made["route-password"]) == 4
    assert "@" not in made["users.conf"].replace("…@", "").replace("@…", "").partition("\n\n")[2]
    assert contents(shards) == {name: made[name] for name in ("shard-password", "discord-token")}


def test_nobody_else_may_read_them(folder):
    make(folder, folder / "overlays/prod")
    secrets = folder / "overlays/prod/secrets"
    assert {path.stat().st_mode & 0o077 for path in (secrets, *secrets.iterdir())} == {0}


def test_what_was_open_to_others_is_closed(folder, tmp_path):
    """A folder that somebody made with 0777, files that all may read, and a link to elsewhere."""
    overlay, bot, elsewhere = folder / "overlays/prod", folder / "examples/shards", tmp_path / "elsewhere"
    elsewhere.write_text("mine")
    for place in (overlay / "secrets", bot / "secrets"):
        place.mkdir()
        place.chmod(0o777)
        (place / "shard-password").symlink_to(elsewhere)
        (place / "discord-token").write_text("an.old.token")
        (place / "discord-token").chmod(0o666)
    made = make(folder, "--token", overlay, bot)
    assert made.returncode == 0
    assert "everybody could write" in made.stderr
    for place in (overlay / "secrets", bot / "secrets"):
        assert {path.stat().st_mode & 0o077 for path in (place, *place.iterdir())} == {0}
    assert elsewhere.read_text() == "mine"


def test_a_folder_that_is_a_link_is_refused(folder, tmp_path):
    (folder / "overlays/prod/secrets").symlink_to(tmp_path)
    refused = make(folder, folder / "overlays/prod")
    assert refused.returncode == 2
    assert "is a symbolic link" in refused.stderr


def test_what_is_there_is_kept_and_a_token_is_replaced_alone(folder):
    prod = folder / "overlays/prod"
    make(folder, prod)
    before = contents(prod)
    assert make(folder, prod, token="").returncode == 0
    assert contents(prod) == before
    replaced = make(folder, "--token", prod, token="another.token\n")  # noqa: S106  # it opens nothing
    assert replaced.returncode == 0
    assert contents(prod) == {**before, "discord-token": "another.token"}


@pytest.mark.parametrize("name", MEANT)
def test_a_token_is_taken_as_it_was_meant(folder, name):
    assert make(folder, folder / "overlays/dev", token=MEANT[name]).returncode == 0
    assert (folder / "overlays/dev/secrets/discord-token").read_text() == TOKEN


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_token_is_refused_and_not_repeated(folder, name):
    content, said = WRONG[name]
    refused = make(folder, folder / "overlays/prod", token=content)
    assert refused.returncode == 2
    assert "standard input holds no token" in refused.stderr
    assert said in refused.stderr
    assert not any(part in refused.stderr for part in ("hunter2", "MTAw", "the-bot"))
    assert not (folder / "overlays/prod/secrets/discord-token").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [((), "which overlay"), (("nowhere",), "holds no kustomization"), (("--tsl",), "is no option")],
)
def test_other_words_are_refused(folder, arguments, said):
    refused = make(folder, *arguments)
    assert refused.returncode == 2
    assert said in refused.stderr


def test_certificates_name_every_server(folder):
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificates, and is not there")
    prod = folder / "overlays/prod"
    assert make(folder, "--tls", prod).returncode == 0
    secrets = prod / "secrets"
    # As strict as Python from 3.13 on, which the image has.
    verify = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", secrets / "ca.crt"]
    for name in ("nats", "nats.nats-identify.svc", "nats-2.nats-headless"):
        subprocess.run([*verify, "-verify_hostname", name, secrets / "tls.crt"], check=True, capture_output=True)
    stranger = [*verify, "-verify_hostname", "example.org", secrets / "tls.crt"]
    assert subprocess.run(stranger, check=False, capture_output=True).returncode != 0


def test_git_ignores_them_all():
    overlays = ("overlays/prod", "overlays/dev", "overlays/external-nats", "overlays/existing-secrets")
    for folder in (*overlays, "examples/shards", "examples/bots", "examples/bots/alpha"):
        asked = [GIT, "check-ignore", "-q", f"deploy/k8s/{folder}/secrets/discord-token"]
        assert subprocess.run(asked, cwd=ROOT, check=False).returncode == 0
    known = subprocess.run([GIT, "ls-files", "deploy"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert "/secrets/" not in known
