"""A hundred thousand messages that nobody should send leave a coordinator serving."""

import asyncio
import json
import random
from contextlib import suppress

import nats.errors

from tests.processes import until

MESSAGES = 100_000
BATCH = 1000

NOISE = bytes(byte for byte in range(256) if byte not in b" \t\r\n")
SUBJECTS = [b"identify.request.", b"identify.confirm.0.", b"identify.confirm.", b"identify.cancel.", b"identify.info"]
PAYLOADS = [
    *(b"", b"{}", b"[]", b"null", b"{", b'"identified"', b'{"outcome":"declined"}', b'{"outcome":7}'),
    *(b'{"managed":true,"request_id":"a"}', b'{"request_id":"a"}', b'{"shard_id":1e400}', b'{"shard_id":-1}'),
    *(b'{"priority":99}', b'{"max_concurrency":0}', b'{"waited_ms":9007199254740993}', b"[" * 3000),
    *(b'{"timeout_ms":1}', b'{"client":"\xff"}', b'{"renewal":1}', b"\x00", b"x" * 5000),
]
HEADERS = [
    *(b"NATS/1.0 503\r\n\r\n", b"NATS/1.0\r\nStatus: 503\r\n\r\n", b"NATS/1.0", b"NATS/1.0 \xff\xff\r\n\r\n"),
    *(b"NATS/1.0\r\n:\r\n\r\n", b"NATS/1.0 100 Idle\r\n\r\n", b"NATS/1.0\r\nStatus\r\n\r\n"),
]


def token(chance):
    kind = chance.random()
    if kind < 0.4:
        return str(chance.randrange(3)).encode()
    if kind < 0.6:
        return str(chance.randrange(2**40)).encode()
    return bytes(chance.choices(NOISE, k=chance.randrange(1, 12)))


def message(chance):
    subject = chance.choice(SUBJECTS)
    if subject.endswith(b"."):
        subject += token(chance)
    reply = chance.choice([b"", b"_INBOX.nobody", b"$KV.identify.ledger", b"identify.request.0", token(chance)])
    payload = chance.choice(PAYLOADS)
    if chance.random() < 0.2:
        payload = chance.randbytes(chance.randrange(40))
    head = subject + (b" " + reply if reply else b"")
    if chance.random() < 0.2:
        header = chance.choice(HEADERS)
        return b"HPUB %b %d %d\r\n%b%b\r\n" % (head, len(header), len(header) + len(payload), header, payload)
    return b"PUB %b %d\r\n%b\r\n" % (head, len(payload), payload)


async def test_garbage_leaves_it_serving(coordinator, nats_server, client):
    chance = random.Random(20)
    reader, writer = await asyncio.open_connection("127.0.0.1", nats_server.port)
    await reader.readline()
    writer.write(b'CONNECT {"verbose":false,"pedantic":false,"headers":true,"no_responders":false}\r\n')
    for _ in range(MESSAGES // BATCH):
        writer.write(b"".join(message(chance) for _ in range(BATCH)) + b"PING\r\n")
        while (line := await reader.readline()) != b"PONG\r\n":
            assert not line.startswith(b"-ERR"), line
            assert line, "the server has closed the connection"
    writer.close()

    async def is_granted():
        # The server may have cut a coordinator that read too slowly: what was sent meanwhile is lost, so ask again.
        with suppress(nats.errors.TimeoutError, nats.errors.NoRespondersError):
            reply = await client.request("identify.request.0", b'{"priority": 10}', timeout=3)
            return json.loads(reply.data or b"{}").get("status") == "granted"

    await until(is_granted, "it grants", within_s=120)
    assert coordinator.process.returncode is None
    assert "Traceback" not in coordinator.log
    await until(coordinator.is_leader, "it leads, or does so again")
    assert await coordinator.end() == 0
