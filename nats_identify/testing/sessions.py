"""Remembers which gateway sessions could be resumed; it never talks to a client."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

SESSIONS_MAX: Final = 100_000
"""The oldest session is forgotten beyond this: its RESUME is then refused, as after minutes at Discord."""


@dataclass(slots=True)
class Session:
    """One login of one shard; several may exist for one shard id, so that deploys can overlap.

    Attributes:
        sequence: the number of the latest dispatch.
        connection: the connection that carries it now or carried it last, by number.
    """

    session_id: str
    shard_id: int
    shard_count: int
    connection: int
    sequence: int = 0


class Sessions:
    """All sessions of one gateway, by id."""

    def __init__(self, new_id: Callable[[], str]) -> None:
        self._new_id = new_id
        self._by_id: dict[str, Session] = {}

    def open(self, shard_id: int, shard_count: int, connection: int) -> Session:
        """Begin a session."""
        session = Session(self._new_id(), shard_id, shard_count, connection)
        self._by_id[session.session_id] = session
        if len(self._by_id) > SESSIONS_MAX:
            del self._by_id[next(iter(self._by_id))]
        return session

    def find(self, session_id: object) -> Session | None:
        """Return the session of this id, or None if there is none to resume."""
        return self._by_id.get(session_id) if isinstance(session_id, str) else None

    def forget(self, session: Session) -> None:
        """End a session for good."""
        self._by_id.pop(session.session_id, None)
