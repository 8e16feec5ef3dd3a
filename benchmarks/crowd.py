"""Many managed requests over a few bare sockets, as a process of its own: python -m benchmarks.crowd ORDER.

A client by the letter of the protocol page and without a library, so that what is measured is the coordinator. Each
half second it writes a line of JSON, a `Line`; it ends when no request waits, or at SIGTERM.
"""

import asyncio
import heapq
import json
import random
import re
import secrets
import signal
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any, Final, cast

from benchmarks.judged_buckets import JudgedBuckets
from nats_identify.clock import NS_PER_MS, NS_PER_S, now_ns

TICK_S: Final = 0.005
REPORT_EVERY_NS: Final = NS_PER_S // 2
PACE_NS: Final = 2 * NS_PER_S
PACE_MAX_NS: Final = 60 * NS_PER_S
ASKS_PER_TICK: Final = 200
"""Requests are first sent at 40,000 a second at most; the server's buffer for a coordinator is bounded."""

RENEWALS_AFTER_OUTAGE_PER_S: Final = 10_000
SENDINGS_REMEMBERED: Final = 8
_RENEW_IN: Final = re.compile(rb'"renew_in_ms":(\d+)')


@dataclass(frozen=True, slots=True)
class Order:
    """What the crowd does.

    Attributes:
        port: of the nats-server.
        count: requests, dealt over the first ``buckets`` buckets.
        buckets: in which the crowd waits.
        max_concurrency: of the coordinator. The buckets behind ``buckets`` are idle.
        connections: a bucket keeps to one of them.
        probe_every_s: how often an idle bucket is asked; 0: never.
        first_shard: the lowest shard id; a second crowd has others.
    """

    port: int
    count: int
    buckets: int
    max_concurrency: int
    connections: int = 8
    probe_every_s: float = 0.0
    first_shard: int = 0


@dataclass(slots=True)
class Line:
    """What has happened since the last line, and how it stands.

    Attributes:
        at_ns: when it was written, on `nats_identify.clock.now_ns`.
        answered, waiting: of the crowd, now.
        late_ms: of each grant since: how long after its turn was possible.
        probes_ms: of each idle bucket asked since: from the request to the grant.
        sent, overloaded, declined: messages since; declined is a grant that came too late to be used.
        grants, violations, overtaken: since the beginning.
        trouble: what the server complained about.
    """

    at_ns: int = 0
    answered: int = 0
    waiting: int = 0
    late_ms: list[float] = field(default_factory=list)
    probes_ms: list[float] = field(default_factory=list)
    sent: int = 0
    overloaded: int = 0
    declined: int = 0
    grants: int = 0
    violations: int = 0
    overtaken: int = 0
    trouble: str = ""


class Asked:
    """One request."""

    __slots__ = (
        *("asked_ns", "due_ns", "head", "is_answered", "is_over", "is_probe", "link", "missed", "number", "renewal"),
        *("sent_ns", "shard_id"),
    )

    def __init__(self, number: int, shard_id: int, link: "Link", head: bytes, *, is_probe: bool) -> None:
        self.number = number
        self.shard_id = shard_id
        self.link = link
        self.head = head
        self.asked_ns = 0
        self.is_answered = False
        self.is_over = False
        self.is_probe = is_probe
        self.renewal = -1
        self.sent_ns: dict[int, int] = {}
        self.due_ns = 0
        self.missed = 0


class Link(asyncio.Protocol):
    """One connection to the nats-server; it comes back by itself."""

    def __init__(self, crowd: "Crowd", inbox: str) -> None:
        self._crowd = crowd
        self._inbox = inbox.encode()
        self._rest = b""
        self._transport: asyncio.Transport | None = None
        self._out: list[bytes] = []

    @property
    def inbox(self) -> bytes:
        """Where its replies come, without the last token."""
        return self._inbox

    def write(self, subject: bytes, reply_to: bytes, body: bytes) -> None:
        """Publish, with what is written next."""
        to = b"%s %s" % (subject, reply_to) if reply_to else subject
        self._out.append(b"PUB %s %d\r\n%s\r\n" % (to, len(body), body))

    def flush(self) -> None:
        """Send what was written; it is lost where there is no connection, as it would be on the way."""
        if self._out and self._transport is not None:
            self._transport.write(b"".join(self._out))
        self._out.clear()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say who we are, and listen for replies."""
        self._transport, self._rest = cast("asyncio.Transport", transport), b""
        hello = b'{"verbose":false,"pedantic":false,"headers":true,"no_responders":true,"name":"crowd"}'
        self._transport.write(b"CONNECT %s\r\nSUB %s.* 1\r\n" % (hello, self._inbox))

    def connection_lost(self, exc: Exception | None) -> None:
        """Connect again."""
        self._transport = None
        self._crowd.reconnect(self)

    def data_received(self, data: bytes) -> None:
        """Read whole messages, and keep the rest."""
        data = self._rest + data if self._rest else data
        at = 0
        while (end := data.find(b"\r\n", at)) >= 0:
            words = data[at:end].split(b" ")
            if words[0] in {b"MSG", b"HMSG"}:
                start, size = end + 2, int(words[-1])
                if len(data) < start + size + 2:
                    break
                header_size = int(words[-2]) if words[0] == b"HMSG" else 0
                reply_to = words[3] if len(words) == (6 if header_size else 5) else b""
                number = int(words[1].rpartition(b".")[2])
                self._crowd.take_reply(number, reply_to, data[start + header_size : start + size])
                at = start + size + 2
                continue
            if words[0] == b"PING":
                self._out.append(b"PONG\r\n")
            elif words[0] == b"-ERR":
                self._crowd.line.trouble = data[at:end].decode(errors="replace")
            at = end + 2
        self._rest = data[at:]
        self.flush()


class Crowd:
    """All requests of one run."""

    def __init__(self, order: Order) -> None:
        self.line = Line()
        self._order = order
        self._tag = secrets.token_hex(6)
        self.links = [Link(self, f"_INBOX.{self._tag}{number}") for number in range(order.connections)]
        self._requests: list[Asked] = []  # by number, probes among them
        self._timers: list[tuple[int, int]] = []  # due_ns, number; one that was put off stays, and does nothing
        self._asked = self._allowed = 0
        self._probed = 0
        self._probe_at_ns = 0
        self._judge = JudgedBuckets(order.max_concurrency)
        self._reconnecting: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Ask, renew and identify until no request waits."""
        await asyncio.gather(*(self._connect(link) for link in self.links))
        report_at_ns = self._probe_at_ns = loop_ns = now_ns()
        while self._asked < self._order.count or self.line.waiting:
            await asyncio.sleep(TICK_S)
            loop_ns = now_ns()
            self.ask_some(loop_ns)
            self.renew_due(loop_ns)
            for link in self.links:
                link.flush()
            if loop_ns >= report_at_ns:
                report_at_ns += REPORT_EVERY_NS
                self._report(loop_ns)
        self._report(loop_ns)

    def take_reply(self, number: int, reply_to: bytes, body: bytes) -> None:
        """Take a reply to the request with this number; an empty one is the server's: no coordinator is there."""
        request = self._requests[number]
        if not body or request.is_over:
            return
        at_ns = now_ns()
        request.missed = 0
        if not request.is_answered and not request.is_probe:
            request.is_answered = True
            self.line.answered += 1
        if b'"status":"queued"' in body:
            found = _RENEW_IN.search(body)
            renew_in_ms = int(found[1]) if found else 0
            if renew_in_ms:
                self._set_timer(request, at_ns + renew_in_ms * NS_PER_MS)
            else:
                self._send(request, at_ns)
        elif b'"status":"granted"' in body:
            self._take_grant(request, reply_to, json.loads(body), at_ns)
        else:  # refused: for this time
            self.line.overloaded += 1
            wait_ms = json.loads(body).get("retry_after_ms") or 5_000
            self._set_timer(request, at_ns + round(wait_ms * random.uniform(1, 1.2) * NS_PER_MS))  # noqa: S311

    def reconnect(self, link: Link) -> None:
        """Connect this link again, until it is connected."""

        async def again() -> None:
            while True:
                await asyncio.sleep(random.uniform(0.1, 0.3))  # noqa: S311  # spread
                try:
                    await self._connect(link)
                except OSError:
                    continue
                self._renew_soon(link)
                return

        task = asyncio.create_task(again())
        self._reconnecting.add(task)
        task.add_done_callback(self._reconnecting.discard)

    # --- steps

    async def _connect(self, link: Link) -> None:
        await asyncio.get_running_loop().create_connection(lambda: link, "127.0.0.1", self._order.port)

    def ask_some(self, at_ns: int) -> None:
        """Send some of the first requests, and a probe if it is time for one."""
        order = self._order
        self._allowed = min(order.count, self._allowed + ASKS_PER_TICK)
        while self._asked < self._allowed:
            turn, bucket = divmod(self._asked, order.buckets)
            self._begin(order.first_shard + turn * order.max_concurrency + bucket, at_ns, is_probe=False)
            self._asked += 1
            self.line.waiting += 1
        if order.probe_every_s and at_ns >= self._probe_at_ns:
            self._probe_at_ns = at_ns + round(order.probe_every_s * NS_PER_S)
            idle = order.max_concurrency - order.buckets
            self._begin(order.buckets + self._probed % idle, at_ns, is_probe=True)
            self._probed += 1

    def _begin(self, shard_id: int, at_ns: int, *, is_probe: bool) -> None:
        number = len(self._requests)
        bucket = shard_id % self._order.max_concurrency
        head = (
            f'{{"managed":true,"shard_id":{shard_id},"request_id":"{self._tag}-{number}","client":"crowd",'
            f'"max_concurrency":{self._order.max_concurrency},"source":"{self._tag}","asked_us":{number},'
        )
        request = Asked(number, shard_id, self.links[bucket % len(self.links)], head.encode(), is_probe=is_probe)
        request.asked_ns = at_ns
        self._requests.append(request)
        self._send(request, at_ns)

    def _send(self, request: Asked, at_ns: int) -> None:
        """Send or renew; unanswered, the next renewal is after the pace, doubled each time, with full jitter."""
        request.renewal += 1
        request.sent_ns[request.renewal] = at_ns
        request.sent_ns.pop(request.renewal - SENDINGS_REMEMBERED, None)
        waited_ms = (at_ns - request.asked_ns) // NS_PER_MS
        body = b'%s"waited_ms":%d,"renewal":%d}' % (request.head, waited_ms, request.renewal)
        subject = b"identify.request.%d" % (request.shard_id % self._order.max_concurrency)
        request.link.write(subject, b"%s.%d" % (request.link.inbox, request.number), body)
        self.line.sent += 1
        pace_ns = min(PACE_NS << min(request.missed, 5), PACE_MAX_NS)
        spread = random.uniform(1, 1.2) if request.missed == 0 else random.uniform(0.5, 1)  # noqa: S311
        request.missed += 1
        self._set_timer(request, at_ns + round(pace_ns * spread))

    def _set_timer(self, request: Asked, due_ns: int) -> None:
        request.due_ns = due_ns
        heapq.heappush(self._timers, (due_ns, request.number))

    def renew_due(self, at_ns: int) -> None:
        """Renew each request whose time has come."""
        while self._timers and self._timers[0][0] <= at_ns:
            due_ns, number = heapq.heappop(self._timers)
            request = self._requests[number]
            if request.due_ns == due_ns and not request.is_over:
                self._send(request, at_ns)

    def _renew_soon(self, link: Link) -> None:
        """After an outage: those near the head first, the others spread over seconds."""
        waiting = [request for request in self._requests if request.link is link and not request.is_over]
        at_ns = now_ns()
        each_ns = NS_PER_S * len(self.links) // RENEWALS_AFTER_OUTAGE_PER_S
        for rank, request in enumerate(waiting):
            self._set_timer(request, at_ns + rank * each_ns)

    def _take_grant(self, request: Asked, reply_to: bytes, grant: dict[str, Any], at_ns: int) -> None:
        first_sent_ns = request.sent_ns.get(grant["renewal"])
        if first_sent_ns is None or at_ns > first_sent_ns + grant["use_within_ms"] * NS_PER_MS:
            self.line.declined += 1
            request.link.write(reply_to, b"", b'{"outcome":"declined"}')
            self._set_timer(request, at_ns)
            return
        request.link.write(reply_to, b"", b'{"outcome":"identified"}')
        request.is_over = True
        late_ns = self._judge.identify(request.number, request.shard_id, request.asked_ns, at_ns)
        if request.is_probe:
            self.line.probes_ms.append(late_ns / NS_PER_MS)
        else:
            self.line.late_ms.append(late_ns / NS_PER_MS)
            self.line.waiting -= 1

    def _report(self, at_ns: int) -> None:
        line, judge = self.line, self._judge
        line.at_ns = at_ns
        line.grants, line.violations, line.overtaken = judge.grants, judge.violations, judge.overtaken
        sys.stdout.write(json.dumps(asdict(line)) + "\n")
        sys.stdout.flush()
        self.line = Line(answered=line.answered, waiting=line.waiting)


def main() -> None:
    """Run one order."""
    crowd = Crowd(Order(**json.loads(sys.argv[1])))
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with suppress(ImportError):
        import uvloop  # noqa: PLC0415  # an extra: faster where it is installed

        uvloop.run(crowd.run())
        return
    asyncio.run(crowd.run())


if __name__ == "__main__":
    main()
