/** The real library, whose connection dies in silence while its shard waits. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { WebSocketManager, type WebSocketManager as Manager } from "@discordjs/ws";
import { identifyThrottler } from "../src/throttler.js";
import { until } from "./fake_nats.js";
import { FakeHost } from "./helpers.js";
import { SilentGateway } from "./silent_gateway.js";

const LIMIT = { total: 1_000, remaining: 1_000, reset_after: 0, max_concurrency: 1 };

test("a turn that comes while the library destroys a dead connection is used by the next one", { timeout: 60_000 }, async () => {
  const host = new FakeHost();
  const gateway = new SilentGateway();
  const url = await gateway.start();
  const rest = { get: async () => ({ url, shards: 1, session_start_limit: LIMIT }) };
  const texts: string[] = [];
  const manager: Manager = new WebSocketManager({
    token: "simulated",
    intents: 0,
    rest: rest as unknown as ConstructorParameters<typeof WebSocketManager>[0]["rest"],
    shardIds: [0],
    shardCount: 1,
    buildIdentifyThrottler: identifyThrottler(host),
  });
  manager.on("debug", (text: string) => texts.push(text));
  const connected = manager.connect();
  const turn = await until(() => host.turns[0]);
  await until(() => texts.some((text) => text.startsWith("Destroying shard")));
  host.grant(turn);
  await until(() => host.sent.includes("declined g1"));
  assert.ok(!texts.some((text) => text.startsWith("Identifying")));
  gateway.sockets[0]?.destroy(); // the socket gives the peer up
  await until(() => host.sent.filter((one) => one === "request r0").length === 2);
  host.grant(turn, { grant_id: "g2", renewal: 1 });
  await connected;
  await until(() => host.sent.includes("ready g2"));
  assert.deepEqual(host.sent, ["request r0", "declined g1", "request r0", "identified g2", "ready g2"]);
  assert.deepEqual(gateway.identifies, [1]);
  assert.equal(host.turns.length, 1);
  await manager.destroy();
  await gateway.stop();
});
