"""NATS core as a pure model: who gets a message, and who hears that nobody does. It loses and delays nothing."""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message on its way to one connection; ``nobody``: NATS's own empty message with ``Status: 503``."""

    connection: int
    subject: str
    payload: Any
    reply_to: str = ""
    nobody: bool = False


class Broker:
    """Connections, their subscriptions, and the routing between them.

    A subscription's pattern may hold ``*`` tokens. There are no queue groups: coordinators use none for what
    the simulation sends.
    """

    def __init__(self) -> None:
        self._next = 0
        self._patterns: dict[int, list[str]] = {}
        self._routes: dict[str, list[int]] = {}
        self._by_pattern: defaultdict[str, list[int]] = defaultdict(list)

    def open(self) -> int:
        """A client connects."""
        self._next += 1
        self._patterns[self._next] = []
        return self._next

    def close(self, connection: int) -> None:
        """The server forgets a connection and all its subscriptions."""
        for pattern in self._patterns.pop(connection, ()):
            self._by_pattern[pattern].remove(connection)
            if not self._by_pattern[pattern]:
                del self._by_pattern[pattern]
        self._routes.clear()

    def is_open(self, connection: int) -> bool:
        """Whether the server knows this connection."""
        return connection in self._patterns

    def subscribe(self, connection: int, pattern: str) -> None:
        """Messages on these subjects go to this connection from now on."""
        self._patterns[connection].append(pattern)
        self._by_pattern[pattern].append(connection)
        self._routes.clear()

    def unsubscribe(self, connection: int, pattern: str) -> None:
        """They no longer do."""
        if connection in self._patterns and pattern in self._patterns[connection]:
            self._patterns[connection].remove(pattern)
            self._by_pattern[pattern].remove(connection)
            if not self._by_pattern[pattern]:
                del self._by_pattern[pattern]
            self._routes.clear()

    def publish(self, connection: int, subject: str, payload: object, reply_to: str = "") -> list[Delivery]:
        """Route one message; one for nobody comes back to its publisher where that one listens for replies."""
        receivers = self._receivers(subject)
        if receivers:
            return [Delivery(receiver, subject, payload, reply_to) for receiver in receivers]
        if reply_to and connection in self._receivers(reply_to):
            return [Delivery(connection, reply_to, None, nobody=True)]
        return []

    def _receivers(self, subject: str) -> list[int]:
        route = self._routes.get(subject)
        if route is None:
            route = [c for pattern, cs in self._by_pattern.items() if matches(pattern, subject) for c in cs]
            if len(self._routes) > 10_000:  # one-time inboxes
                self._routes.clear()
            self._routes[subject] = route
        return route


def matches(pattern: str, subject: str) -> bool:
    """Whether a pattern covers a subject, token by token."""
    if pattern == subject:
        return True
    if "*" not in pattern:
        return False
    wanted, given = pattern.split("."), subject.split(".")
    return len(wanted) == len(given) and all(w in {"*", g} for w, g in zip(wanted, given, strict=True))
