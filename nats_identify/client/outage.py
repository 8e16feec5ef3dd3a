"""Logs for a bot's operator that NATS or its coordinators are away, why, and when they are back. It waits for nothing.

Each trouble is logged once when it begins, at most each 30 s while it lasts, and once when it is over. All at level
warning: a bot that sets up no logging shows nothing below it, and its operator must also see the end of a trouble.
"""

import logging
import re
from typing import Final
from urllib.parse import urlsplit

from nats.aio.client import Client
from pydantic import ValidationError

from nats_identify import wire
from nats_identify.clock import NS_PER_S
from nats_identify.printable import printable
from nats_identify.trouble import Trouble

BLIP_NS: Final = NS_PER_S
"""A connection that is back within this, at another server of a cluster, is not logged."""

KINDS_MAX: Final = 16
"""Kinds of errors over a live connection that are logged apart; nats-py has about as many."""

_SECRET: Final = re.compile(r"//[^/\s]*@")

logger = logging.getLogger("nats_identify")


class OutageLog:
    """The log of one queue's connection.

    Args:
        requests: the subject that coordinators subscribe to.
    """

    def __init__(self, requests: str) -> None:
        self._requests = requests
        self._why = ""
        self._is_there = False
        self._is_absent = False
        self._since_ns: int | None = None
        self._away = Trouble()
        self._unanswered = Trouble()
        self._unusable = Trouble()
        self._errors: dict[str, Trouble] = {}

    def error(self, error: Exception) -> None:
        """Keep why the connection failed; `connection` says so, if it is not back by then."""
        self._why = printable(_SECRET.sub("//", f"{type(error).__name__}: {error}".rstrip(": ")))

    def error_while_connected(self, error: Exception, where: str, now_ns: int) -> None:
        """Log an error that ends no connection, such as a permission that is missing."""
        self.error(error)
        kind = type(error).__name__ if len(self._errors) < KINDS_MAX else ""
        if self._errors.setdefault(kind, Trouble()).note(now_ns) is not None:
            logger.warning("NATS at %s: %s", where, self._why)

    def connection(self, is_there: bool, where: str, now_ns: int) -> int:
        """Take in whether NATS is connected, as often as that is looked at.

        Returns:
            How long it has been so, in nanoseconds.
        """
        if is_there is not self._is_there or self._since_ns is None:
            self._is_there, self._since_ns = is_there, now_ns
        if not is_there and now_ns - self._since_ns >= BLIP_NS:
            self._nats_is_away(where, now_ns)
        if is_there and (lasted_ns := self._away.over(now_ns)) is not None:
            logger.warning("NATS is back: connected to %s after %.0f s", where, lasted_ns / NS_PER_S)
        return now_ns - self._since_ns

    def _nats_is_away(self, where: str, now_ns: int) -> None:
        lasted_ns = self._away.note(now_ns)
        if lasted_ns is None:
            return
        away = f"has been away for {lasted_ns / NS_PER_S:.0f} s" if lasted_ns >= NS_PER_S else "is away"
        why = f" ({self._why})" if self._why else ""
        logger.warning("NATS at %s %s%s; the shards wait", where, away, why)

    def no_coordinator(self, where: str, now_ns: int, *, is_absent: bool = False) -> None:
        """Take in that no coordinator answers, although NATS is there.

        Args:
            where: the NATS server.
            now_ns: the time.
            is_absent: NATS answered 503: none is subscribed.
        """
        self._is_absent = is_absent or self._is_absent
        lasted_ns = self._unanswered.note(now_ns)
        if lasted_ns is None:
            return
        lasted = f" for {lasted_ns / NS_PER_S:.0f} s" if lasted_ns >= NS_PER_S else ""
        logger.warning(
            "no coordinator answers on %s at %s%s: %s. Is one running, with this prefix (IDENTIFY_PREFIX) and in this "
            "NATS account? The shards wait",
            *(self._requests, where, lasted, "none is connected" if self._is_absent else "requests have no answer"),
        )

    def unusable_reply(self, why: Exception, where: str, now_ns: int) -> None:
        """Log that a reply was dropped. ``why``: the error that its reading raised."""
        if self._unusable.note(now_ns) is None:
            return
        said = wire.why_invalid(why) if isinstance(why, ValidationError) else printable(why)
        logger.warning(
            "a reply at %s was dropped, as others may be: %s. Is a coordinator of another version running there, or "
            "does another client publish to the inboxes of this bot? The shards wait for a reply that can be used",
            *(where, said),
        )

    def coordinator_answers(self, now_ns: int) -> None:
        """Take in that a coordinator has answered."""
        self._is_absent = False
        if (lasted_ns := self._unanswered.over(now_ns)) is not None:
            logger.warning("a coordinator answers again, after %.0f s", lasted_ns / NS_PER_S)


def address_of(client: Client) -> str:
    """Return where a client is connected, or would be, without any secret: hosts and ports alone."""
    here = client.connected_url
    urls = [here] if here is not None else client.servers
    return printable(", ".join(f"{url.hostname or '?'}:{url.port or 4222}" for url in urls)) or "an unknown address"


def addresses_in(servers: list[str]) -> str:
    """Return the hosts and ports of these URLs, without any secret."""
    addresses = [urlsplit(url if "://" in url else f"nats://{url}").netloc.rpartition("@")[2] for url in servers]
    return printable(", ".join(addresses))
