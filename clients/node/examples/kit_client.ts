/** What a program does that the kit for clients judges (docs/protocol.md), here with the queue of this package. */

import { IdentifyQueue } from "../src/index.js";

const queue = IdentifyQueue.fromEnvironment();

/** Take one turn; where a bot sends IDENTIFY to Discord, this prints that it does. */
async function bringUp(shardId: number): Promise<void> {
  const turn = queue.turn(shardId);
  await turn.granted();
  process.stdout.write(`identify ${shardId}\n`);
  turn.identified();
}

for (const shardId of (process.env["SHARD_IDS"] ?? "0").split(",")) {
  bringUp(Number(shardId)).catch(() => undefined); // the queue was closed
}
process.once("SIGTERM", () => void queue.close());
