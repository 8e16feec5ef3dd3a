"""A rule that every client keeps, and what is found where one does not. It plays nothing itself.

The rules stand in `managed_rules` and `plain_rules`.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from nats_identify.testing.client_kit.harness import ClientHarness


@dataclass(frozen=True, slots=True)
class ClientRule:
    """One rule, which is one case.

    Attributes:
        name: the rule, as a sentence with underscores.
        reason: why a bot needs it.
        advice: what to change in a client that breaks it.
        shard_ids: what the client is started with.
        max_concurrency: what `info` answers.
        play: plays it; it raises `RuleBrokenError`.
    """

    name: str
    reason: str
    advice: str
    shard_ids: tuple[int, ...]
    max_concurrency: int
    play: Callable[[ClientHarness], Awaitable[None]]

    def __str__(self) -> str:
        return self.name


def client_rule(
    *, reason: str, advice: str, shard_ids: tuple[int, ...] = (0,), max_concurrency: int = 1
) -> Callable[[Callable[[ClientHarness], Awaitable[None]]], ClientRule]:
    """Make a rule of the function that plays it; it is named after what must hold."""

    def make(play: Callable[[ClientHarness], Awaitable[None]]) -> ClientRule:
        return ClientRule(getattr(play, "__name__", ""), reason, advice, shard_ids, max_concurrency, play)

    return make
