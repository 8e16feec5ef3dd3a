"""A managed client written by hand on nats-py, which the kit for clients judges; it can have a planted fault.

``python hand_client.py [FAULT]``: without one it keeps every rule.
"""

import asyncio
import json
import os
import random
import secrets
import signal
import sys
import time
from contextlib import suppress

import nats

FAULT = sys.argv[1] if len(sys.argv) > 1 else ""
PREFIX = os.environ.get("IDENTIFY_PREFIX", "")
PACE_S = 2.0
PACE_MAX_S = 60.0


class Shard:
    """One shard's wait, and after that the answers to copies of its grants."""

    def __init__(self, client, shard_id):
        self.client = client
        self.shard_id = shard_id
        self.buckets = 1
        self.is_up = False
        self.anew_s = 0.25
        self.decided = {}
        self.wake = asyncio.Event()
        self.begin()

    def begin(self):
        self.request_id = secrets.token_hex(8)
        self.begun_s = time.monotonic()
        self.sent_s = {}
        self.renewal = -1
        self.pace_s = PACE_S
        self.due_s = time.monotonic()

    async def run(self):
        self.inbox = self.client.new_inbox()
        if FAULT == "identifies at once":
            self.identify()
        await self.client.subscribe(self.inbox, cb=self.on_reply)
        while not self.is_up or FAULT == "identifies at once":
            self.wake.clear()
            wait_s = self.due_s - time.monotonic()
            if wait_s <= 0:
                await self.renew()
                continue
            with suppress(TimeoutError):
                await asyncio.wait_for(self.wake.wait(), min(wait_s, 0.25))
            if FAULT == "passes when NATS is away" and not self.client.is_connected:
                self.identify()  # the fault: in doubt it goes ahead

    async def renew(self):
        if FAULT == "a new id at each renewal":
            self.begin()
        self.renewal += 1
        now_s = time.monotonic()
        self.sent_s[self.renewal] = now_s
        self.had_reply = False
        self.due_s = now_s + self.pace_s * random.uniform(0.8, 1.2)
        self.pace_s = min(self.pace_s * 2, PACE_MAX_S)
        if FAULT == "hammers when unanswered":
            self.due_s = now_s + 0.1
        self.newest_sent_s = now_s
        body = {
            "shard_id": self.shard_id,
            "request_id": self.request_id,
            "renewal": self.renewal,
            "waited_ms": round((now_s - self.begun_s) * 1000),
            "managed": True,
        }
        if FAULT == "sends numbers as text":
            body["shard_id"] = str(self.shard_id)
        if FAULT == "begins each renewal with 0":
            body["renewal"] = 0
        for field in ("managed", "waited_ms"):
            if f"leaves {field} out" == FAULT:
                del body[field]
        if self.client.is_connected:
            bucket = self.shard_id % self.buckets
            await self.client.publish(f"{PREFIX}.request.{bucket}", json.dumps(body).encode(), reply=self.inbox)

    async def on_reply(self, message):
        if FAULT == "takes an empty message for a grant" and not message.data:
            self.identify()
        try:
            reply = json.loads(message.data)
            {"granted": self.granted, "queued": self.queued, "refused": self.refused}[reply["status"]](reply, message)
        except (ValueError, KeyError, TypeError):
            if FAULT == "ends at a reply that it cannot read":
                os._exit(1)
            return
        self.wake.set()

    def queued(self, reply, _message):
        if reply["request_id"] != self.request_id or self.is_up:
            return
        is_unasked, self.had_reply = self.had_reply, True
        if FAULT == "ignores what it did not ask for" and is_unasked:
            return
        if FAULT != "keeps its first bucket":
            self.buckets = reply["max_concurrency"] or self.buckets
        self.pace_s = PACE_S
        renew_in_s = 3 if FAULT == "has a pace of its own" else reply["renew_in_ms"] / 1000
        if FAULT == "sends as fast as it is asked to" and renew_in_s == 0:
            TASKS.add(asyncio.create_task(self.renew()))
        self.due_s = time.monotonic() + max(0.06, min(renew_in_s, PACE_MAX_S))

    def refused(self, reply, _message):
        if reply["request_id"] != self.request_id or self.is_up:
            return
        buckets = self.buckets
        if FAULT != "keeps its first bucket":
            self.buckets = reply.get("max_concurrency") or self.buckets
        wait_s = reply.get("retry_after_ms", 5_000) / 1000 * random.uniform(1, 1.2)
        if FAULT == "asks again at once after a refusal":
            wait_s = 0.05
        if reply["code"] == "ended" and FAULT != "goes on with an id that has ended":
            self.begin()
            wait_s, self.anew_s = self.anew_s, min(self.anew_s * 2, 8)
        elif reply["code"] == "wrong_bucket" and buckets != self.buckets:
            wait_s = 0
        self.due_s = time.monotonic() + wait_s

    def granted(self, grant, message):
        is_own = grant["request_id"] == self.request_id and grant["renewal"] in self.sent_s
        is_own = is_own and grant["shard_id"] == self.shard_id
        confirm_to = f"{PREFIX}.confirm.{grant['bucket']}.{grant['grant_id']}"
        if FAULT != "answers every grant and decides each time":
            if not is_own or message.reply != confirm_to:
                return
            if grant["grant_id"] in self.decided:
                if FAULT == "identifies again for a copy":
                    self.identify()
                self.answer(message.reply, self.decided[grant["grant_id"]])
                return
        if self.is_up and FAULT == "is silent after it has identified":
            return
        is_late = time.monotonic() > self.sent_s.get(grant["renewal"], 0) + grant["use_within_ms"] / 1000
        if FAULT == "counts use_within from the newest renewal":
            is_late = time.monotonic() > self.newest_sent_s + grant["use_within_ms"] / 1000
        is_late = is_late and FAULT != "uses late grants"
        if self.is_up or is_late:
            self.decided[grant["grant_id"]] = "declined"
            self.answer(message.reply, "declined")
            self.due_s = time.monotonic()
            return
        self.buckets = grant["max_concurrency"]
        self.decided[grant["grant_id"]] = "identified"
        self.identify()
        if FAULT == "confirms in the first bucket":
            confirm_to = f"{PREFIX}.confirm.0.{grant['grant_id']}"
        if FAULT != "never confirms":
            self.answer(confirm_to, "identified")

    def identify(self):
        self.is_up = True
        print(f"identify {self.shard_id}", flush=True)  # noqa: T201  # the kit reads it

    def answer(self, to, outcome):
        task = asyncio.create_task(self.client.publish(to, json.dumps({"outcome": outcome}).encode()))
        TASKS.add(task)

    def reconnected(self):
        if FAULT == "does not renew after a reconnect":
            return
        self.due_s = time.monotonic() + random.uniform(0, 2)
        self.wake.set()

    async def withdraw(self):
        if not self.is_up and FAULT != "ends without a cancel":
            body = json.dumps({"request_id": self.request_id}).encode()
            await self.client.publish(f"{PREFIX}.cancel.{self.shard_id % self.buckets}", body)


TASKS: set[asyncio.Task[None]] = set()


async def main():
    shards: list[Shard] = []

    async def reconnected():
        for shard in shards:
            shard.reconnected()

    client = await nats.connect(
        os.environ["NATS_URL"],
        reconnected_cb=reconnected,
        reconnect_time_wait=0.25,
        max_reconnect_attempts=-1,
        error_cb=quiet,
    )
    shards += [Shard(client, int(one)) for one in os.environ["SHARD_IDS"].split(",")]
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    runs = [asyncio.create_task(shard.run()) for shard in shards]
    await ended.wait()
    for shard in shards:
        await shard.withdraw()
    for run in runs:
        run.cancel()
    await client.drain()


async def quiet(_error):
    """A server that is away is not news here."""


if __name__ == "__main__":
    asyncio.run(main())
