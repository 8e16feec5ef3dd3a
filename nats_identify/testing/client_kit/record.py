"""What the client under test did, in the order in which the kit saw it; it judges nothing but IDENTIFYs without a turn.

Times are those of the kit's clock. A message is seen later than it was sent, never earlier.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from nats_identify import wire
from nats_identify.clock import now_ns
from nats_identify.schedule.model import Outcome
from nats_identify.testing.queue_harness import RuleBrokenError


class ClientFaultError(RuleBrokenError):
    """A client did what no rule allows, whichever is played.

    Attributes:
        reason: why that matters to a bot.
        advice: what to change in the client.
    """

    def __init__(self, seen: str, *, reason: str, advice: str) -> None:
        super().__init__(seen)
        self.reason = reason
        self.advice = advice


@dataclass(frozen=True, slots=True)
class RequestSeen:
    """A request or its renewal; ``problem``: why it cannot be read, else empty."""

    at_ns: int
    bucket: int
    reply_to: str
    body: wire.Request
    problem: str = ""

    @property
    def shard_id(self) -> int:
        """The shard: the subject's bucket where the payload names none."""
        return self.bucket if self.body.shard_id is None else self.body.shard_id

    @property
    def request_id(self) -> str:
        """The id that replies to it carry; a plain request may have none, and gets one."""
        return self.body.request_id or "given-by-kit"


@dataclass(frozen=True, slots=True)
class ConfirmSeen:
    """An answer to a grant; the bucket or the outcome is None where it cannot be read."""

    at_ns: int
    bucket: int | None
    grant_id: str
    outcome: Outcome | None


@dataclass(frozen=True, slots=True)
class CancelSeen:
    """A withdrawal; the bucket or the id is None where it cannot be read."""

    at_ns: int
    bucket: int | None
    request_id: str | None


@dataclass(frozen=True, slots=True)
class IdentifySeen:
    """The line ``identify <shard_id>``: here the client would send IDENTIFY to Discord."""

    at_ns: int
    shard_id: int


@dataclass(frozen=True, slots=True)
class EndSeen:
    """The client has ended; ``how``: its status and last lines, for people."""

    at_ns: int
    how: str


Entry = RequestSeen | ConfirmSeen | CancelSeen | IdentifySeen | EndSeen
DIGITS_MAX: Final = 16
"""Of the largest number on the wire."""

NO_GRANT: Final = "no grant was sent"

EntryT = TypeVar("EntryT", RequestSeen, ConfirmSeen, CancelSeen, IdentifySeen, EndSeen)


class Record:
    """Every entry of one case.

    Attributes:
        entries: in the order in which they were seen.
        situation: what the kit does at the time, for the sentence about an IDENTIFY that has no turn.
        may_end: the end of the client is no finding.
    """

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.situation = NO_GRANT
        self.may_end = False
        self._permitted: Counter[int] = Counter()
        self._fault: RuleBrokenError | None = None
        self._changed = asyncio.Event()

    def permit(self, shard_id: int) -> None:
        """Let this shard identify once more."""
        self._permitted[shard_id] += 1

    def add(self, entry: Entry) -> None:
        """Take in what was seen."""
        self.entries.append(entry)
        match entry:
            case IdentifySeen(_, shard_id):
                self._permitted[shard_id] -= 1
                if self._permitted[shard_id] < 0:
                    self._fault = self._fault or _no_turn(shard_id, self.situation)
            case EndSeen(_, how) if not self.may_end:
                self._fault = self._fault or _has_ended(how)
            case _:
                pass
        self._changed.set()

    def check(self) -> None:
        """Raise what no rule allows.

        Raises:
            RuleBrokenError: a shard identified without a turn, or the client has ended.
        """
        if self._fault is not None:
            raise self._fault

    def find(self, kind: type[EntryT], matches: Callable[[EntryT], bool], since: int = 0) -> EntryT | None:
        """Return the first entry that matches, from the entry with the number ``since`` on, or None."""
        return next((one for one in self.entries[since:] if isinstance(one, kind) and matches(one)), None)

    async def until(
        self, kind: type[EntryT], matches: Callable[[EntryT], bool], *, since: int = 0, within_s: float
    ) -> EntryT | None:
        """Wait for an entry that matches; None: there was none within this time.

        Raises:
            RuleBrokenError: see `check`.
        """
        try:
            async with asyncio.timeout(within_s):
                while True:
                    self.check()
                    found = self.find(kind, matches, since)
                    if found is not None:
                        return found
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return None

    async def stay(self, seconds: float) -> None:
        """Let this time pass, in which nothing may happen that no rule allows.

        Raises:
            RuleBrokenError: see `check`.
        """
        await self.until(EndSeen, lambda _: False, within_s=seconds)

    def ended(self, how: str) -> None:
        """Take in that the client has ended."""
        self.add(EndSeen(now_ns(), how))

    def line(self, line: str) -> None:
        """Take in a line that the client printed; only those of the form ``identify <shard_id>`` count."""
        word, _, number = line.strip().partition(" ")
        shard_id = natural(number)
        if word == "identify" and shard_id is not None:
            self.add(IdentifySeen(now_ns(), shard_id))


def natural(text: str) -> int | None:
    """Read decimal digits, as they are in a subject; None for anything else, and for a number that no shard has."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= DIGITS_MAX else None


def _no_turn(shard_id: int, situation: str) -> RuleBrokenError:
    seen = f"shard {shard_id} identified although {situation}"
    if situation != NO_GRANT:
        return RuleBrokenError(seen)  # the rule made this situation, and its advice is about it
    return ClientFaultError(
        seen,
        reason="an IDENTIFY without a turn breaks the window of its bucket, and many of them spend the day's limit",
        advice=f"print `identify {shard_id}` for a grant alone; in doubt a shard waits",
    )


def _has_ended(how: str) -> ClientFaultError:
    return ClientFaultError(
        f"the client {how}",
        reason="a shard that waits goes on waiting, and one that has identified answers copies of its grant",
        advice="let no reply, no outage and no identified shard end the program; end it at SIGTERM alone",
    )
