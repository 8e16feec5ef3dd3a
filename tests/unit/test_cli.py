"""The command line as a person meets it: options that make no sense, and extras that are missing."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.testing import CliRunner

import nats_identify
from nats_identify.cli.commands import app


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["demo", "--shards", "0"], "shards is 0"),
        (["demo", "--max-concurrency", "1001"], "max_concurrency is 1001"),
        (["demo", "--processes", "65"], "processes is 65"),
        (["demo", "--window", "0"], "window is 0"),
        (["demo", "--window", "nan"], "window is nan"),
        (["demo", "--connect-delay-ms", "soon"], "give milliseconds"),
        (["demo", "--frame-latency-ms", "60:20"], "the lowest comes first"),
        (["up", "--port", "65536"], "--port"),
        (["up", "--prefix", "a b"], "prefix 'a b'"),
        (["up", "--token-file", "/no/such/file"], "--token-file"),
        (["status", "--prefix", "a..b"], "prefix 'a..b'"),
        (["status", "--shard", "1", "--bucket", "1"], "give one of shard_id, bucket and client"),
        (["status", "--limit", "101"], "--limit"),
        (["status", "--client", "x" * 129], "client"),
        (["history", "--since", "soon"], "give a duration as in 2h"),
        (["history", "--until", "25:00"], "give a time of day"),
        (["plan", "--shards", "0"], "--shards"),
        (["plan", "--shards", "1", "--window", "nan"], "--window"),
        (["pause", "--for", "10"], "give a duration with its unit"),
        (["pause", "--for", "8d"], "a week at most"),
        (["pause", "--below-priority", "12"], "--below-priority"),
        (["pause", "--why", "x" * 201], "why"),
        (["resume", "--by", "x" * 129], "by"),
        (["kick"], "give either a REQUEST_ID or --shard"),
        (["kick", "abc", "--shard", "1"], "give either a REQUEST_ID or --shard"),
        (["kick", "a b"], "request_id"),
        (["release", "abc"], "--outcome"),
        (["release", "abc", "--outcome", "identified"], "outcome"),
        (["pardon", "three"], "'shard'"),
        (["doctor", "--role", "admin"], "give one of operator, shard, coordinator"),
        (["resume", "--server", "http://host"], "--server"),
        (["wait", "--prefix", "a..b", "3"], "prefix 'a..b'"),
        (["wait", "--server", "http://host", "3"], "--server"),
        (["wait", "--", "-1"], "'shard'"),
        (["wait", "three"], "'shard'"),
        (["wait", "--priority", "11", "3"], "'--priority'"),
        (["wait", "--within", "nan", "3"], "'--within'"),
        (["wait", "--timeout", "inf", "3"], "'--timeout'"),
    ],
)
def test_an_option_that_cannot_be_is_named_and_nothing_starts(arguments, said):
    result = CliRunner().invoke(app, arguments, env={"TERMINAL_WIDTH": "200", "NO_COLOR": "1"})
    assert result.exit_code == 2
    assert said in result.output


def test_the_version_is_that_of_the_package():
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.output) == (0, f"nats-identify {version('nats-identify')}\n")
    assert nats_identify.__version__ == version("nats-identify")


@pytest.mark.parametrize(
    ("missing", "command", "extra"),
    [("typer", "status", "cli"), ("rich", "status", "cli"), ("aiohttp", "demo", "testing")],
)
def test_a_missing_extra_is_named(missing, command, extra):
    program = f"import sys; sys.modules[{missing!r}] = None; sys.argv = ['nats-identify', {command!r}]\n"
    program += "from nats_identify.__main__ import main; sys.exit(main())"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    install = f"in a clone of it: pip install '.[{extra}]'"
    assert ended.stderr == f"nats-identify needs {missing}; {install}\n"


def test_the_version_needs_no_extra():
    program = "import sys; sys.modules['typer'] = None; sys.argv = ['nats-identify', '--version']\n"
    program += "from nats_identify.__main__ import main; sys.exit(main())"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout == f"nats-identify {nats_identify.__version__}\n"


def test_status_needs_nothing_of_the_demo():
    program = "import sys; sys.modules['aiohttp'] = None; import nats_identify.cli.commands"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_operators_commands_need_nothing_of_the_coordinator_and_load_late_what_one_needs():
    program = "import sys, nats_identify.cli.commands\n"
    program += "late = ('aiohttp.web', 'coordinator', 'nats_identify.cli.top', 'nats_identify.cli.doctor')\n"
    program += "print([name for name in late if name in sys.modules])"
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"


def test_a_shell_can_complete_the_commands():
    environment = {"_NATS_IDENTIFY_COMPLETE": "complete_bash", "COMP_WORDS": "nats-identify pa", "COMP_CWORD": "1"}
    result = CliRunner().invoke(app, [], env=environment, prog_name="nats-identify")
    assert result.output.split() == ["pause", "pardon"]
    assert "--install-completion" in CliRunner().invoke(app, ["--help"], env={"TERMINAL_WIDTH": "200"}).output


def test_every_command_states_its_exit_status_and_has_its_place_in_the_documents():
    page = (Path(__file__).parents[2] / "docs/commands.md").read_text()
    for name in [command.callback.__name__ for command in app.registered_commands if command.callback]:
        assert f"`{name}" in page, name
        shown = CliRunner().invoke(app, [name, "--help"], env={"TERMINAL_WIDTH": "200", "NO_COLOR": "1"}).output
        assert name in {"demo", "up"} or "Exit status: 0" in shown, name


def test_a_pod_without_an_address_does_not_wait():
    """Loopback would be right on a person's machine, and a wait for ever in a pod."""
    result = CliRunner().invoke(app, ["wait", "3"], env={"KUBERNETES_SERVICE_HOST": "10.0.0.1", "NATS_URL": ""})
    assert result.exit_code == 2
    assert "NATS_URL: is not set in this pod" in result.output
