"""Certifies a client: runs its command against a played coordinator, and prints a line for each case.

It exits with 0 if the client keeps every rule, 1 if it breaks one, 2 where the options make no sense.
"""

import argparse
import json
import os
import shlex
import sys
from collections.abc import Sequence
from typing import Final

import nats.errors

from nats_identify.nats_options import NatsOptions, NatsOptionsError
from nats_identify.printable import printable
from nats_identify.processes.nats_server import NatsServerError
from nats_identify.processes.subprocesses import run_until_signalled
from nats_identify.testing.client_kit.client import AwaitedClient, ClientProcess, ClientUnderTest
from nats_identify.testing.client_kit.managed_rules import MANAGED_RULES
from nats_identify.testing.client_kit.plain_rules import PLAIN_RULES
from nats_identify.testing.client_kit.record import Record
from nats_identify.testing.client_kit.rule import ClientRule
from nats_identify.testing.client_kit.runner import CaseResult, Runner, nats_for_kit, server_of

JOBS: Final = 4
ERROR_SHOWN_MAX: Final = 2_000
RUNNING_SHOWN_MAX: Final = 140
"""Characters of a line."""


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line; argparse ends the process, with a message, if it makes no sense."""
    parser = argparse.ArgumentParser(
        prog="python -m nats_identify.testing.client_kit",
        description="Certifies a client in any language: plays a coordinator over a real nats-server, and judges it.",
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--command", metavar="COMMAND", help="starts the client, as in 'node client.js'")
    how.add_argument("--wait", action="store_true", help="you start the client, once for each case")
    how.add_argument("--list", action="store_true", help="show the cases, and why a bot needs each")
    parser.add_argument("--plain", action="store_true", help="judge a plain client: one request, one reply")
    parser.add_argument("--case", action="append", metavar="NAME", default=[], help="play this one alone; repeatable")
    parser.add_argument("--nats-url", metavar="URL", help="use this server; else the kit starts one of its own")
    parser.add_argument("--jobs", type=int, default=JOBS, help=f"cases at a time, each with its own client ({JOBS})")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of lines")
    options = parser.parse_args(arguments)
    if not (options.command or options.wait or options.list):
        parser.error("give --command 'PROGRAM …' to have the client started, or --wait to start it yourself")
    if options.jobs < 1:
        parser.error("--jobs: give 1 or more")
    return options


def chosen_rules(names: Sequence[str], *, plain: bool) -> list[ClientRule]:
    """Return the rules of these names, or all.

    Raises:
        ValueError: there is no such rule.
    """
    rules = PLAIN_RULES if plain else MANAGED_RULES
    unknown = set(names) - {rule.name for rule in rules}
    if unknown:
        message = f"--case: there is no {printable(', '.join(sorted(unknown)))}; --list shows all"
        raise ValueError(message)
    return [rule for rule in rules if not names or rule.name in names]


def nats_options(url: str | None) -> NatsOptions | None:
    """Return where NATS is, with the login of the environment; None: the kit starts a server.

    Raises:
        ValueError: this server cannot be used; the message names the option or the variable.
    """
    if url is None:
        return None
    if "@" in url:
        message = "--nats-url: takes no login, since it is shown; set NATS_USER and NATS_PASSWORD, or NATS_TOKEN"
        raise ValueError(message)
    options = NatsOptions.from_environment({**os.environ, "NATS_URL": url})
    server_of(options)
    return options


class Printer:
    """Prints a line for each case as it ends, and the cases that run, where there is a terminal.

    Args:
        is_json: print one object in the end, and nothing else.
    """

    def __init__(self, *, is_json: bool) -> None:
        self._is_json = is_json
        self._is_live = sys.stderr.isatty() and not is_json
        self._running: list[str] = []

    def begin(self, rule: ClientRule) -> None:
        """Show that a case runs."""
        self._running.append(rule.name)
        self._show_running()

    def end(self, result: CaseResult) -> None:
        """Print what became of a case."""
        self._running.remove(result.rule.name)
        if not self._is_json:
            self.say(lines_of(result))
        self._show_running()

    def say(self, text: str) -> None:
        """Print lines, in place of the line about what runs."""
        if self._is_live:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
        (sys.stderr if self._is_json else sys.stdout).write(f"{text}\n")
        (sys.stderr if self._is_json else sys.stdout).flush()

    def sum_up(self, results: Sequence[CaseResult]) -> None:
        """Print how many rules were kept, or all as JSON."""
        kept = sum(result.finding is None for result in results)
        if self._is_json:
            cases = [as_json(result) for result in results]
            sys.stdout.write(json.dumps({"ok": kept == len(results), "kept": kept, "cases": cases}, indent=2) + "\n")
        else:
            self.say(f"the client keeps {kept} of {len(results)} rules")

    def _show_running(self) -> None:
        if self._is_live and self._running:
            sys.stderr.write(f"\r\x1b[K… {', '.join(self._running)}"[:RUNNING_SHOWN_MAX])
            sys.stderr.flush()


def lines_of(result: CaseResult) -> str:
    """A result for people: ✓ and the rule, or ✗, what was seen, why it matters and what to do."""
    finding = result.finding
    return f"✓ {result.rule.name} ({result.seconds:.1f} s)" if finding is None else f"✗ {finding}"


def as_json(result: CaseResult) -> dict[str, object]:
    """A result for programs."""
    finding = result.finding
    found = {} if finding is None else {"seen": finding.seen, "reason": finding.reason, "advice": finding.advice}
    return {"name": result.rule.name, "ok": finding is None, "seconds": round(result.seconds, 1), **found}


async def certify(options: argparse.Namespace, rules: Sequence[ClientRule], server: NatsOptions | None) -> int:
    """Play the cases; return the exit status."""
    printer = Printer(is_json=options.json)
    keeps_login = server is not None

    def make(record: Record) -> ClientUnderTest:
        if options.wait:
            return AwaitedClient(record, printer.say)
        return ClientProcess(options.command, record, keeps_login=keeps_login)

    try:
        async with nats_for_kit(server) as at:
            runner = Runner(at, make, on_begin=printer.begin, on_end=printer.end)
            results = await runner.run(rules, jobs=1 if options.wait else options.jobs)
    except (NatsServerError, nats.errors.Error, OSError) as error:
        sys.stderr.write(f"the kit cannot go on: {printable(f'{type(error).__name__}: {error}', ERROR_SHOWN_MAX)}\n")
        return 2
    printer.sum_up(results)
    return int(any(result.finding is not None for result in results))


def main(arguments: Sequence[str] = sys.argv[1:]) -> int:
    """Return the exit status."""
    options = parse_arguments(arguments)
    try:
        rules = chosen_rules(options.case, plain=options.plain)
        if options.list:
            for rule in rules:
                sys.stdout.write(f"{rule.name}\n  why it matters: {rule.reason}\n  what to do: {rule.advice}\n")
            return 0
        if options.command is not None:
            shlex.split(options.command)
        server = nats_options(options.nats_url)
    except (ValueError, NatsOptionsError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return run_until_signalled(certify(options, rules, server), status_of=lambda number: 128 + number)


if __name__ == "__main__":
    sys.exit(main())
