"""A coordinator's environment: what is read, and what is said about a wrong one."""

import pytest

from coordinator import settings
from coordinator.settings import SettingsError
from nats_identify.schedule.model import MS, SECOND

SECRET = "hunter2"  # noqa: S105  # what must never be shown


@pytest.fixture
def load(monkeypatch):
    """Load the settings from these variables alone."""
    for name in settings.Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)

    def load_from(**environment):
        for name, value in environment.items():
            monkeypatch.setenv(name, str(value))
        return settings.load()

    return load_from


def lines_of(load, **environment):
    with pytest.raises(SettingsError) as caught:
        load(**environment)
    return caught.value.lines


def test_an_empty_environment_is_enough(load):
    loaded = load()
    assert (loaded.nats().shown, loaded.identify_prefix) == ("nats://127.0.0.1:4222", "identify")
    assert (loaded.identify_http_host, loaded.identify_http_port) == ("127.0.0.1", 8080)
    assert loaded.lease_ns == 3 * SECOND
    assert loaded.timing.window_ns == 5 * SECOND
    assert loaded.timing.margin_ns == 200 * MS
    assert loaded.identify_replica_name
    core = loaded.core("instance", grant_key=b"key", has_token=False)
    assert (core.static.max_concurrency, core.static.total, core.static.remaining) == (1, 1000, 1000)
    assert (core.reserve, core.max_waiting, core.fresh_start) == (10, 200_000, False)


def test_an_empty_variable_is_an_unset_one(load):
    assert load(IDENTIFY_WINDOW="", DISCORD_TOKEN="").identify_window == 5


def test_seconds_become_whole_nanoseconds(load):
    timing = load(IDENTIFY_WINDOW="0.3", IDENTIFY_MARGIN="0", IDENTIFY_USE_WITHIN="1.1", IDENTIFY_GRACE="0.7").timing
    assert (timing.window_ns, timing.margin_ns) == (300 * MS, 0)
    assert (timing.use_within_ns, timing.grace_ns) == (1100 * MS, 700 * MS)


def test_with_a_token_there_are_no_static_limits(load):
    loaded = load(DISCORD_TOKEN=SECRET, IDENTIFY_MAX_CONCURRENCY="16")
    assert loaded.core("instance", grant_key=b"key", has_token=loaded.token() is not None).static is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("IDENTIFY_WINDOW", "0"),
        ("IDENTIFY_WINDOW", "-1"),
        ("IDENTIFY_WINDOW", "nan"),
        ("IDENTIFY_WINDOW", "inf"),
        ("IDENTIFY_WINDOW", "5s"),
        ("IDENTIFY_MARGIN", "-0.1"),
        ("IDENTIFY_USE_WITHIN", "0"),
        ("IDENTIFY_GRACE", "0"),
        ("IDENTIFY_LEASE", "0.1"),
        ("IDENTIFY_MAX_CONCURRENCY", "0"),
        ("IDENTIFY_MAX_CONCURRENCY", "100000"),
        ("IDENTIFY_SESSION_TOTAL", "0"),
        ("IDENTIFY_SESSION_RESERVE", "-1"),
        ("IDENTIFY_KV_REPLICAS", "2"),
        ("IDENTIFY_KV_MAX_BYTES", "1MB"),
        ("IDENTIFY_KV_MAX_BYTES", "0"),
        ("IDENTIFY_HTTP_PORT", "http"),
        ("IDENTIFY_HTTP_PORT", "65536"),
        ("IDENTIFY_QUEUE_HTTP_PORT", "http"),
        ("IDENTIFY_QUEUE_HTTP_MAX_WAITING", "0"),
        ("IDENTIFY_QUEUE_HTTP_TOKEN", " "),
        ("IDENTIFY_QUEUE_HTTP_TOKEN", f"{SECRET} and a blank"),
        ("IDENTIFY_QUEUE_HTTP_TOKEN_FILE", "/nowhere/token"),
        ("IDENTIFY_QUEUE_HTTP_TOKEN_FILE", "/dev/null"),
        ("IDENTIFY_LOG_LEVEL", "loud"),
        ("IDENTIFY_LOG_FORMAT", "xml"),
        ("IDENTIFY_FRESH_START", "perhaps"),
        ("IDENTIFY_PREFIX", "a.*.b"),
        ("IDENTIFY_PREFIX", "two words"),
        ("IDENTIFY_CRASH_LOOP_GRANTS", "-1"),
        ("IDENTIFY_CRASH_LOOP_GRANTS", "101"),
        ("IDENTIFY_CRASH_LOOP_PERIOD", "0"),
        ("NATS_INBOX_PREFIX", "inbox.>"),
        ("NATS_URL", "nats://"),
        ("NATS_URL", ","),
        ("NATS_URL", " "),
        ("NATS_URL", "http://host:4222"),
        ("NATS_URL", "nats://host:4222x"),
        ("NATS_URL", f"nats://bot:{SECRET}%ff@host"),
        ("NATS_TLS_HANDSHAKE_FIRST", "perhaps"),
        ("DISCORD_API_URL", "discord.com"),
        ("DISCORD_API_URL", "https://discord.com/api?token=x"),
        ("DISCORD_API_URL", "https://discord.com:99999/api/v10"),
        ("DISCORD_API_URL", "https://discord.com:port/api/v10"),
        ("NATS_CREDS_FILE", "/nowhere/bot.creds"),
        ("DISCORD_TOKEN_FILE", "/nowhere/token"),
    ],
)
def test_a_wrong_value_is_one_line_that_names_the_variable_and_what_to_give(load, name, value):
    (line,) = lines_of(load, **{name: value})
    assert line.startswith(f"{name}: ")
    assert "give" in line
    assert "\n" not in line


def test_every_wrong_variable_has_a_line(load):
    lines = lines_of(load, IDENTIFY_WINDOW="soon", IDENTIFY_GRACE="later", IDENTIFY_LEASE="0")
    assert sorted(line.partition(":")[0] for line in lines) == ["IDENTIFY_GRACE", "IDENTIFY_LEASE", "IDENTIFY_WINDOW"]


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({"NATS_USER": "bot"}, "NATS_USER"),
        ({"NATS_PASSWORD": SECRET}, "NATS_PASSWORD"),
        ({"NATS_USER": "bot", "NATS_PASSWORD": SECRET, "NATS_TOKEN": SECRET}, "NATS_USER"),
    ],
)
def test_what_does_not_go_together_is_said_without_a_secret(load, environment, named):
    lines = lines_of(load, **environment)
    assert lines[0].startswith(f"{named}: is set ")
    assert SECRET not in str(lines)


@pytest.mark.parametrize("url", [f"https://me:{SECRET}@discord.com/api/v10", f"http://{SECRET}@127.0.0.1:1"])
def test_an_address_with_a_password_is_refused_and_not_repeated(load, url):
    """It is part of what is logged when Discord does not answer."""
    (line,) = lines_of(load, DISCORD_API_URL=url)
    assert line.startswith("DISCORD_API_URL: ")
    assert "without a user" in line
    assert SECRET not in line


def test_two_tokens_are_one_too_many(load, tmp_path):
    file = tmp_path / "token"
    file.write_text(SECRET)
    (line,) = lines_of(load, DISCORD_TOKEN=SECRET, DISCORD_TOKEN_FILE=file)
    assert line.startswith("DISCORD_TOKEN: ")
    assert SECRET not in line


def test_a_token_is_read_from_its_file_and_stripped(load, tmp_path):
    file = tmp_path / "token"
    file.write_text(f" {SECRET}\n")
    assert load(DISCORD_TOKEN_FILE=file).token() == SECRET


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe"])
def test_a_file_without_a_token_is_said(load, tmp_path, content):
    file = tmp_path / "token"
    file.write_bytes(content)
    with pytest.raises(SettingsError) as caught:
        load(DISCORD_TOKEN_FILE=file).token()
    assert caught.value.lines[0].startswith("DISCORD_TOKEN_FILE: ")


@pytest.mark.parametrize("name", ["NATS_CREDS_FILE", "NATS_NKEY_SEED_FILE"])
def test_a_credentials_file_with_nothing_in_it_is_said(load, tmp_path, name):
    file = tmp_path / "credentials"
    file.write_text("nothing")
    (line,) = lines_of(load, **{name: file})
    assert line.startswith(f"{name}: holds no ")


@pytest.mark.parametrize("name", ["NATS_TLS_CA", "NATS_TLS_CERT"])
def test_a_file_that_is_no_certificate_is_said(load, tmp_path, name):
    file = tmp_path / "file.pem"
    file.write_text("nothing")
    environment = {name: file} | ({"NATS_TLS_KEY": file} if name == "NATS_TLS_CERT" else {})
    (line,) = lines_of(load, **environment)
    assert line.startswith(f"{name}: ")


def test_no_secret_is_ever_shown(load):
    loaded = load(NATS_URL=f"nats://bot:{SECRET}@127.0.0.1", DISCORD_TOKEN=SECRET, IDENTIFY_WINDOW="5")
    assert SECRET not in repr(loaded)
    assert SECRET not in str(loaded)
    assert SECRET not in repr(loaded.nats())
    assert SECRET not in str(lines_of(load, NATS_URL=f"nats://bot:{SECRET}@host:port", NATS_TOKEN=SECRET))


def test_unknown_variables_are_found():
    environment = {"IDENTIFY_MAX_CONCURENCY": "16", "IDENTIFY_WINDOW": "5", "HOME": "/"}
    assert settings.unknown_variables(environment) == ["IDENTIFY_MAX_CONCURENCY"]


@pytest.mark.parametrize("host", ["::", "192.0.2.1", "queue.example.org"])
def test_the_queue_over_http_needs_a_token_beyond_loopback(load, host):
    served = {"IDENTIFY_QUEUE_HTTP_PORT": "9000", "IDENTIFY_QUEUE_HTTP_HOST": host}
    (line,) = lines_of(load, **served)
    assert line.startswith("IDENTIFY_QUEUE_HTTP_TOKEN: ")
    assert load(**served, IDENTIFY_QUEUE_HTTP_TOKEN=SECRET).http_queue_token() == SECRET


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "[::1]", "localhost"])
def test_on_loopback_it_needs_none(load, host):
    assert load(IDENTIFY_QUEUE_HTTP_PORT="0", IDENTIFY_QUEUE_HTTP_HOST=host).http_queue_token() is None


def test_the_token_of_the_queue_over_http_is_given_once(load, tmp_path):
    (tmp_path / "token").write_text(f"\ufeff{SECRET}\n")
    in_file = {"IDENTIFY_QUEUE_HTTP_TOKEN_FILE": str(tmp_path / "token")}
    assert load(**in_file).http_queue_token() == SECRET
    (line,) = lines_of(load, **in_file, IDENTIFY_QUEUE_HTTP_TOKEN="x")  # noqa: S106  # opens nothing
    assert "keep one" in line


def test_a_grace_that_leaves_no_time_for_http_is_refused(load):
    """A grant has two fifths of its time left; the client needs the grace of it. Without HTTP it matters not."""
    slow = {"IDENTIFY_GRACE": "2"}
    assert load(**slow).identify_grace == 2
    (line,) = lines_of(load, **slow, IDENTIFY_QUEUE_HTTP_PORT="0")
    assert line.startswith("IDENTIFY_GRACE: ")


@pytest.mark.parametrize(
    ("said", "minutes"), [("24h", 1440), ("90m", 90), ("7d", 10_080), ("366d", 527_040), ("", None)]
)
def test_how_long_events_are_kept(load, said, minutes):
    loaded = load(IDENTIFY_HISTORY=said)
    assert loaded.history_ns == (None if minutes is None else minutes * 60 * SECOND)
    assert loaded.identify_history_max_bytes == 256 * 1024 * 1024


@pytest.mark.parametrize(
    "said", ["24", "h", "1.5h", "-1h", "0h", "24 h", "1w", "24H", "1d12h", "367d", "٢h", "9999999m"]
)  # one has a digit that is none of ASCII
def test_a_history_that_makes_no_sense_names_the_variable_and_what_to_give(load, said):
    (line,) = lines_of(load, IDENTIFY_HISTORY=said)
    assert line == (
        "IDENTIFY_HISTORY: is no duration that can be kept; "
        "give a whole number and m, h or d, as in 90m, 24h or 7d, a year at most; unset: no history is kept"
    )


def test_the_bytes_of_the_history_are_checked(load):
    (line,) = lines_of(load, IDENTIFY_HISTORY_MAX_BYTES="1000")
    assert line.startswith("IDENTIFY_HISTORY_MAX_BYTES: ")
