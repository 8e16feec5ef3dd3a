"""Whatever anybody sends: a hundred thousand random payloads, subjects and answers leave the coordinator serving."""

import json
import os
import random

import nats
import pytest

pytestmark = pytest.mark.slow

MESSAGES = 100_000
SEED = int(os.environ.get("GARBAGE_SEED", "20261123"))
WORDS = (
    "shard_id",
    "request_id",
    "renewal",
    "waited_ms",
    "max_concurrency",
    "priority",
    "managed",
    "timeout_ms",
    "client",
)


def value(rng):
    return rng.choice(
        (
            None,
            True,
            rng.randint(-(10**9), 10**9),
            10**400,
            -1,
            1.5,
            float("nan"),
            "x" * rng.randint(0, 200),
            "\u0000\ud83d\ude00"[: rng.randint(0, 3)],
            [],
            {"outcome": "identified"},
        )
    )


def payload(rng):
    kind = rng.randrange(7)
    if kind == 0:
        return rng.randbytes(rng.randint(0, 300))
    if kind == 1:
        return b""
    if kind == 2:
        return b"[" * rng.randint(1, 4000)
    if kind == 3:
        return rng.randbytes(rng.randint(4_097, 9_000))
    if kind == 4:
        return json.dumps({"outcome": rng.choice(("identified", "declined", "ready", "rejected", "so-so", 7))}).encode()
    if kind == 5:
        return json.dumps({"request_id": rng.choice(("a", "b-1", "c" * 65, "", "no spaces"))}).encode()
    return json.dumps({rng.choice(WORDS): value(rng) for _ in range(rng.randint(0, 9))}).encode()


def token(rng):
    return rng.choice(("0", "1", "7", "-1", "x", "99999999999999999999", "0x1", "a_b", "é", "\u0661", "g-1"))


def subject(rng):
    kind = rng.randrange(8)
    if kind <= 2:
        return f"identify.request.{token(rng)}"
    if kind == 3:
        return f"identify.confirm.{token(rng)}.{token(rng)}"
    if kind == 4:
        return f"identify.cancel.{token(rng)}"
    return rng.choice(
        ("identify.info", "identify.status", "identify.refresh", "identify.request.0", "identify.confirm.0.x")
    )


async def test_garbage_leaves_it_serving(nats_server, start_coordinator):
    coordinator = await start_coordinator(IDENTIFY_LOG_LEVEL="info", IDENTIFY_MAX_CONCURRENCY="3")
    rng = random.Random(SEED)
    connection = await nats.connect(nats_server.url, skip_subject_validation=True)
    replies = 0

    async def count(_message):
        nonlocal replies
        replies += 1

    await connection.subscribe("trash.*", cb=count)
    answers_to = (
        "trash.1",
        "trash.2",
        "nobody.listens",
        "",
        "",
        "identify.request.0",
        "$SYS.x",
        "identify.confirm.0.y",
    )
    for number in range(MESSAGES):
        headers = {"Status": rng.choice(("503", "100", ""))} if rng.randrange(20) == 0 else None
        await connection.publish(subject(rng), payload(rng), reply=rng.choice(answers_to), headers=headers)
        if number % 500 == 0:
            await connection.request("identify.info", b"", timeout=30)  # it answers all the while
    info = json.loads((await connection.request("identify.info", b"", timeout=30)).data)
    assert info["leader"]
    assert replies > 0
    assert coordinator.process.returncode is None
    assert not [line for line in coordinator.log.splitlines() if "Traceback" in line]
    refused = await connection.request("identify.request.0", b"{garbage", timeout=30)
    assert json.loads(refused.data)["code"] == "bad_request"
    granted = await connection.request("identify.request.0", b'{"shard_id": 0, "priority": 10}', timeout=60)
    assert json.loads(granted.data)["status"] == "granted"
    await connection.close()
