"""``nats-identify plan``: how long a start of many shards takes, and whether the day suffices. Arithmetic alone."""

from dataclasses import asdict, dataclass
from typing import Any, Final

import typer

from nats_identify.cli.operator import connected
from nats_identify.cli.options import CommandError, Exit, Where, as_line
from nats_identify.cli.when import show_ms
from nats_identify.operator_wire import FullStatus
from nats_identify.printable import printable

RESERVE: Final = 10
"""``IDENTIFY_SESSION_RESERVE`` of a coordinator, where it is not set."""

TURN_MS: Final = 5200
"""``IDENTIFY_WINDOW`` and ``IDENTIFY_MARGIN`` of a coordinator, where they are not set."""

DAY_MS: Final = 86_400_000


@dataclass(frozen=True, slots=True)
class Figures:
    """What a plan is made of; None: not known.

    Attributes:
        max_concurrency: the number of buckets.
        remaining, total: session starts that are left today, and those of a day.
        reserve: the last ones, for sessions that were lost.
        turn_ms: between two turns of a bucket.
        reset_after_ms: until the day ends.
        waiting: requests that wait already.
    """

    max_concurrency: int | None = None
    remaining: int | None = None
    total: int | None = None
    reserve: int | None = None
    turn_ms: int | None = None
    reset_after_ms: int | None = None
    waiting: int = 0

    @property
    def suffice(self) -> bool:
        """Whether no coordinator need be asked."""
        return None not in (self.max_concurrency, self.remaining, self.total)

    def or_else(self, other: "Figures") -> "Figures":
        """Fill in what is not known here."""
        own = {name: value for name, value in asdict(self).items() if value is not None and name != "waiting"}
        return Figures(**{**asdict(other), **own})


@dataclass(frozen=True, slots=True)
class Plan:
    """The result.

    Attributes:
        turns: of the fullest bucket.
        all_up_in_ms: until the last shard may identify; None: that is not known.
        short: shards for which today has no session start.
    """

    turns: int
    all_up_in_ms: int | None
    short: int


def figures_of(status: FullStatus) -> Figures:
    """The figures of a coordinator."""
    limit = status.session_start_limit
    turn_ms = status.window_ms + max(0, status.margin_ms)
    return Figures(
        status.max_concurrency,
        limit.remaining,
        limit.total,
        status.reserve,
        turn_ms,
        limit.reset_after_ms,
        max(0, status.waiting),
    )


def make_plan(shards: int, figures: Figures) -> Plan:
    """Compute it, as a coordinator does for ``restart``: shards from 0, all asking now, every bucket open.

    Raises:
        CommandError: max_concurrency, or the day's figures, are not known.
    """
    buckets, remaining, total = figures.max_concurrency, figures.remaining, figures.total
    if buckets is None or remaining is None or total is None:
        message = "the coordinator does not know Discord's limits; give --max-concurrency, --remaining and --total"
        raise CommandError(message)
    reserve = RESERVE if figures.reserve is None else figures.reserve
    turn_ms = TURN_MS if figures.turn_ms is None else figures.turn_ms
    turns = -(-shards // buckets)
    all_up_in_ms: int | None = (turns - 1) * turn_ms
    short = max(0, shards - max(0, remaining - reserve))
    a_day = total - reserve
    if short and (figures.reset_after_ms is None or a_day < 1):
        all_up_in_ms = None
    elif short:
        days, last = divmod(short - 1, a_day)
        later_ms = (figures.reset_after_ms or 0) + days * DAY_MS + last // min(shards, buckets) * turn_ms
        all_up_in_ms = max(all_up_in_ms or 0, later_ms)
    return Plan(turns, all_up_in_ms, short)


def explain_plan(shards: int, figures: Figures, plan: Plan, source: str) -> list[str]:
    """Say what comes of it, and how it was computed."""
    reserve = RESERVE if figures.reserve is None else figures.reserve
    turn_ms = TURN_MS if figures.turn_ms is None else figures.turn_ms
    buckets, remaining = figures.max_concurrency or 1, figures.remaining or 0
    first_ms = (plan.turns - 1) * turn_ms
    when = "at an unknown time" if plan.all_up_in_ms is None else f"in {show_ms(plan.all_up_in_ms)}"
    usable = max(0, remaining - reserve)
    step = f"{round(turn_ms / 1000, 2):g} s"
    fullest = f"in the fullest of {min(shards, buckets)} buckets" if min(shards, buckets) > 1 else "in one bucket"
    turns = f"{plan.turns} {fullest}, {step} apart"
    left = f"{remaining} of {figures.total} are left today, the last {reserve} of them kept for lost sessions"
    lines = [
        f"{shards} shards: the last of them may identify {when}.",
        f"Turns: {turns}: ({plan.turns} - 1) x {step} = {show_ms(first_ms)}.",
        f"Session starts: {shards} are needed; {left}: {usable} can be used.",
    ]
    if plan.short:
        reset = figures.reset_after_ms
        begins = "which begins at an unknown time" if reset is None else f"which begins in {show_ms(reset)}"
        lines.append(f"The day does NOT suffice: {plan.short} shards wait for the next day, {begins}.")
    else:
        lines.append(f"The day suffices; {usable - shards} usable session starts are left afterwards.")
    if figures.waiting:
        wait = "1 request waits" if figures.waiting == 1 else f"{figures.waiting} requests wait"
        lines.append(f"{wait} already; those of other shards need turns and starts, too.")
    lines.append(f"Figures: {source}. A shard that connects slowly, or identifies twice, makes it longer.")
    return lines


async def run_plan(shards: int, given: Figures, where: Where | None, *, as_json: bool) -> int:
    """Make it and print it. Return the exit status: `Exit.REFUSED` where the day does not suffice.

    Raises:
        NoAnswerError: a coordinator is needed, and none answers.
    """
    figures, source = given, "from the options alone"
    if where is not None:
        async with connected(where) as operator:
            status = await operator.status()
        figures = given.or_else(figures_of(status))
        source = f"of coordinator {printable(status.name, 64)}"
        if given != Figures():
            source += ", but for those of the options"
    plan = make_plan(shards, figures)
    if as_json:
        body: dict[str, Any] = {
            "shards": shards,
            **asdict(plan),
            "suffices": not plan.short,
            "figures": asdict(figures),
        }
        typer.echo(as_line(body))
    else:
        typer.echo("\n".join(explain_plan(shards, figures, plan, source)))
    return Exit.REFUSED if plan.short else Exit.DONE
