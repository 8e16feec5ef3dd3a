"""How many requests each connection has in the queue. No decision is made here."""

from hashlib import blake2b

DIGEST_BYTES = 7
"""A digest stands for a sender: an inbox has up to 256 bytes, and each request may come from one of its own.

Seven bytes are an integer of 32. Two senders have the same digest, and one share, once in 2**56.
"""


def sender_of(reply_to: str) -> str:
    """Return what the requests of one connection have in common: the inbox that a client's reply subjects begin with.

    A reply subject of two tokens, ``_INBOX.<random>``, is an inbox of its own.
    """
    inbox = reply_to.rpartition(".")[0]
    return inbox if "." in inbox else reply_to


class SenderCounts:
    """Requests by sender; a sender without any takes no room."""

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}

    def of(self, reply_to: str) -> int:
        """Return how many requests the sender of this reply subject has."""
        return self._counts.get(_digest(reply_to), 0)

    def add(self, reply_to: str) -> None:
        """Count one more."""
        digest = _digest(reply_to)
        self._counts[digest] = self._counts.get(digest, 0) + 1

    def remove(self, reply_to: str) -> None:
        """Count one less.

        Raises:
            KeyError: this sender has none.
        """
        digest = _digest(reply_to)
        count = self._counts.pop(digest) - 1
        if count:
            self._counts[digest] = count


def digest_of(reply_to: str) -> int:
    """Return a number that stands for a reply subject, or a part of one."""
    return int.from_bytes(blake2b(reply_to.encode(), digest_size=DIGEST_BYTES).digest())


def _digest(reply_to: str) -> int:
    return digest_of(sender_of(reply_to))
