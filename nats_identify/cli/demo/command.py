"""``nats-identify demo``: chooses how to show it, runs it and prints the verdict; it starts nothing itself."""

from typing import Final

from rich.console import Console

from nats_identify.cli.demo.plan import Plan
from nats_identify.cli.demo.run import run_demo
from nats_identify.cli.demo.show import LiveView, PlainView, View
from nats_identify.cli.demo.verdict import Verdict
from nats_identify.processes.nats_server import NatsServerError
from nats_identify.processes.subprocesses import ChildDiedError

_TROUBLES: Final = (ChildDiedError, NatsServerError, TimeoutError)
"""What a person can act on; anything else is a fault of ours and shows its traceback."""


async def demonstrate(plan: Plan, console: Console, *, is_plain: bool) -> int:
    """Run the demo. Return the exit status: 0 if it passed."""
    is_live = console.is_terminal and not is_plain and console.encoding.startswith("utf")

    def open_view(title: str) -> View:
        return LiveView(console, plan, title) if is_live else PlainView(console, plan, title)

    console.print("Starting nats-server, a coordinator, a simulated Discord and a bot …")
    try:
        verdict = await run_demo(plan, open_view)
    except _TROUBLES as trouble:
        verdict = Verdict(failures=[str(trouble)])
    console.print()
    for line in verdict.lines:
        console.print(line)
    console.print(verdict.sentence, style="bold red" if verdict.failures else "bold green", markup=False)
    return verdict.status
