"""A coordinator that sends what it likes, on a real NATS server: raw bytes, so that no client library corrects them."""

import asyncio
import json
import random
from contextlib import suppress
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

NUMBERS = (-(2**63), -5, -1, 0, 1, 2, 3, 4, 5, 999, 60_000, 2**31, 2**53, 2**60, 10**400)
TEXTS = ("", "r1", "a\nFORGED \x1b[2J\u202e", "x" * 300, "[red]", "\ud800", "é" * 70)
OTHER: tuple[Any, ...] = (None, [], {}, True, 1.5, float("nan"))
ANSWER_TO = (
    b"$JS.API.STREAM.DELETE.KV_identify",
    b"$KV.identify.ledger",
    b"identify.request.0",
    b"identify.confirm.0.another",
    b"identify.confirm.0",
    b"identify.\x0bconfirm.0.g",
    b"\xff\xfe",
    b"",
)
HEADERS = (
    b"NATS/1.0 503\r\n\r\n",
    b"NATS/1.0\r\nStatus: 503\r\n\r\n",
    b"NATS/1.0 abc\r\n\r\n",
    b"NATS/1.0 503 \xff\r\n\r\n",
    b"NATS/1.0\r\nno colon\r\n\r\n",
    b"NATS/1.0\r\n\xff\xfe: \xff\r\n\r\n",
    b"no header block",
    b"\x00" * 40,
    b"N",
)
GIANT = b'{"status": "' + b"9" * 900_000 + b'"}'
SHARDS = 8
GRANTS_MAX = 40
"""So many replies are real grants: each of them ends a request, and lets another begin."""


class HostileCoordinator:
    """Answers nothing and sends everything.

    Attributes:
        grants: those that were in contract, by grant_id.
        seen: the subjects that others published to, with the time.
    """

    def __init__(self, url: str, seed: int) -> None:
        self.grants: dict[str, dict[str, Any]] = {}
        self.seen: list[tuple[float, str]] = []
        self._url = urlsplit(url)
        self._dice = random.Random(seed)
        self._newest: dict[int, tuple[bytes, dict[str, Any]]] = {}  # by shard: the inbox and the request
        self._ended: list[tuple[bytes, dict[str, Any]]] = []
        self._infos: list[bytes] = []

    async def __aenter__(self):
        self._reader, self._writer = await asyncio.open_connection(self._url.hostname, self._url.port)
        await self._reader.readline()
        options = {"verbose": False, "pedantic": False, "echo": False, "headers": True, "lang": "x", "version": "1"}
        self._writer.write(b"CONNECT " + json.dumps(options).encode() + b"\r\nSUB > 1\r\nPING\r\n")
        while await self._reader.readline() != b"PONG\r\n":
            pass
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_):
        self._reading.cancel()
        with suppress(asyncio.CancelledError):
            await self._reading
        self._writer.close()

    @property
    def shards(self):
        """The shards that have asked."""
        return set(self._newest)

    async def _read(self):
        while line := await self._reader.readline():
            words = line.split()
            if words[0] in {b"MSG", b"HMSG"}:
                body = (await self._reader.readexactly(int(words[-1]) + 2))[:-2]
                self._heard(words[1].decode(), words[3] if len(words) > (4 if words[0] == b"MSG" else 5) else b"", body)
            elif words[0] == b"PING":
                self._writer.write(b"PONG\r\n")
            else:
                assert words[0] in {b"PONG", b"INFO"}, line

    def _heard(self, subject, inbox, body):
        is_request = subject.startswith("identify.request.")
        self.seen.append((monotonic(), f"an answer on {subject}" if is_request and not inbox else subject))
        if is_request and inbox:
            request = json.loads(body)
            former = self._newest.get(request["shard_id"])
            if former is not None and former[1]["request_id"] != request["request_id"]:
                self._ended = [*self._ended[-99:], former]
            self._newest[request["shard_id"]] = (inbox, request)
        elif subject == "identify.info":
            self._infos = [*self._infos[-9:], inbox]

    async def send(self, count, make):
        """Send so many messages, with a look at everything else after each few."""
        for number in range(count):
            self._writer.write(make(self))
            if number % 20 == 0:
                await self._writer.drain()
                await asyncio.sleep(0)

    async def flush(self):
        await self._writer.drain()

    # --- what is sent

    def benign(self):
        inbox, request = self._dice.choice(list(self._newest.values()))
        return publish(inbox, json.dumps(self._queued(request)).encode())

    def mark(self, position):
        """Tell every shard a position by which the end of everything before can be known."""
        for inbox, request in self._newest.values():
            self._writer.write(publish(inbox, json.dumps({**self._queued(request), "position": position}).encode()))

    def malicious(self):
        dice = self._dice
        if self._infos and dice.random() < 0.02:
            return publish(dice.choice(self._infos), self._payload(self._info()), dice.choice(ANSWER_TO))
        inbox, request = dice.choice([*self._newest.values(), *self._ended])
        if dice.random() < 0.1:
            inbox = inbox.rpartition(b".")[0] + dice.choice((b".r1", b".\xff\xfe", b".\x0b", b"." + b"x" * 300))
        kind = dice.random()
        if kind < 0.05:
            return publish(inbox, dice.choice((b"", b"{}", b"x")), headers=dice.choice(HEADERS))
        if kind < 0.1:
            return publish(
                inbox, dice.choice((b"", b"\xff\xfe{", b"{" * 3_000, b'{"a":' * 3_000, b"null", b"1" * 9_000))
            )
        if kind < 0.102:
            return publish(inbox, GIANT, dice.choice(ANSWER_TO))
        reply = dice.choice((self._hasty, self._queued, self._refused, self._granted))(request)
        if kind < 0.5:
            for field in dice.sample(sorted(reply), dice.randint(0, 3)):
                reply[field] = dice.choice((*NUMBERS, *TEXTS, *OTHER))
        if reply["status"] != "granted":
            return publish(inbox, self._payload(reply), dice.choice(ANSWER_TO))
        return self._hostile_grant(inbox, request, reply)

    def _hostile_grant(self, inbox, request, reply):
        """Send a grant, that of another shard, or one whose answer would go where no answer must go."""
        dice = self._dice
        if dice.random() < 0.3:
            reply |= {"shard_id": (request["shard_id"] + 1) % SHARDS}
        elif len(self.grants) < GRANTS_MAX and dice.random() < 0.05:
            grant = self._granted(request)
            self.grants[grant["grant_id"]] = grant
            confirm = f"identify.confirm.{grant['bucket']}.{grant['grant_id']}".encode()
            return publish(inbox, json.dumps(grant).encode(), confirm)
        answer_to = dice.choice(ANSWER_TO)
        return publish(inbox, self._payload(reply), answer_to)

    def _payload(self, body):
        return json.dumps(body).encode()[: self._dice.choice((None, None, None, None, 40))]

    def _ids(self, request):
        return {
            "shard_id": request["shard_id"],
            "bucket": request["shard_id"] % 4,
            "request_id": request["request_id"],
            "max_concurrency": 4,
        }

    def _queued(self, request):
        told = {"position": 2, "eta_ms": 20_000, "renew_in_ms": 10_000, "reason": "window"}
        return {"status": "queued", **self._ids(request), **told}

    def _hasty(self, request):
        """Send a reply that demands another request at once."""
        return {**self._queued(request), "renew_in_ms": self._dice.choice((0, 1))}

    def _refused(self, request):
        code = "ended" if self._dice.random() < 0.001 else self._dice.choice(("overloaded", "wrong_bucket", "timeout"))
        told = {"message": self._dice.choice(TEXTS), "retry_after_ms": self._dice.choice((0, 1, 5_000))}
        if code == "wrong_bucket":  # another one each time: it asks again at once
            told["max_concurrency"] = self._dice.randint(1, 4)
        return {"status": "refused", "code": code, "request_id": request["request_id"], **told}

    def _granted(self, request):
        number = f"g{self._dice.getrandbits(64):x}"
        told = {"grant_id": number, "renewal": request["renewal"], "use_within_ms": 5_000, "waited_ms": 0}
        return {"status": "granted", **self._ids(request), **told, "remaining": 9}

    def _info(self):
        info = {"window_ms": 5_000, "session_start_limit": {"total": 1_000}, "max_concurrency": 4, "shards": 8}
        info[self._dice.choice(sorted(info))] = self._dice.choice((*NUMBERS, *TEXTS, *OTHER))
        return info


def publish(subject, payload, reply=b"", headers=None):
    """Return what a client writes to publish this."""
    to = b" ".join(part for part in (subject, reply) if part)
    if headers is None:
        return b"PUB %b %d\r\n%b\r\n" % (to, len(payload), payload)
    return b"HPUB %b %d %d\r\n%b\r\n" % (to, len(headers), len(headers) + len(payload), headers + payload)


class Pulse:
    """The largest pause of this event loop."""

    def __init__(self) -> None:
        self.largest_s = 0.0
        self.beats = 0

    async def __aenter__(self):
        self._beating = asyncio.create_task(self._beat())
        return self

    async def __aexit__(self, *_):
        self._beating.cancel()

    async def _beat(self):
        last = monotonic()
        while True:
            await asyncio.sleep(0.002)  # what is measured
            now = monotonic()
            self.largest_s, last, self.beats = max(self.largest_s, now - last), now, self.beats + 1
