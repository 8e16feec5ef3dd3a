/** One process of a bot on @discordjs/ws. It prints what happens, one JSON object a line; SIGTERM closes it. */

import { REST } from "@discordjs/rest";
import { SimpleShardingStrategy, WebSocketManager, WebSocketShardEvents, WorkerShardingStrategy } from "@discordjs/ws";
import { IdentifyQueue, identifyThrottler } from "../../src/index.js";

const { DISCORD_API = "", DISCORD_TOKEN = "", SHARD_IDS = "0", SHARD_COUNT = "1", WORKERS = "" } = process.env;

function say(event: string, facts: object = {}): void {
  process.stdout.write(`${JSON.stringify({ event, ...facts })}\n`);
}

const queue = IdentifyQueue.fromEnvironment();
const throttler = identifyThrottler(queue, {
  invalidSessionPauseMs: [0, 100], // a test has no 5 s to wait
  onProgress: (shardId, { position, reason }) => say("queued", { shard_id: shardId, position, reason }),
});
const manager = new WebSocketManager({
  token: DISCORD_TOKEN,
  intents: 0,
  rest: new REST({ version: "10", api: DISCORD_API }).setToken(DISCORD_TOKEN),
  shardIds: SHARD_IDS.split(",").map(Number),
  shardCount: Number(SHARD_COUNT),
  buildIdentifyThrottler: throttler,
  buildStrategy: (made) =>
    WORKERS ? new WorkerShardingStrategy(made, { shardsPerWorker: 1 }) : new SimpleShardingStrategy(made),
});
manager.on(WebSocketShardEvents.Ready, (_data, shardId) => say("ready", { shard_id: shardId }));
manager.on(WebSocketShardEvents.Resumed, (shardId) => say("resumed", { shard_id: shardId }));
manager.on(WebSocketShardEvents.Debug, (message, shardId) => console.error(shardId, message));
manager.on(WebSocketShardEvents.SocketError, (error, shardId) => console.error(shardId, error.message));
process.once("SIGTERM", async () => {
  await manager.destroy();
  await queue.close();
  process.exit(); // a shard that was about to receive READY connects again after `destroy`: the library's own fault
});
await manager.connect().then(() => say("up"));
