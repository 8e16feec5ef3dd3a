/** The test vectors of the contract, played with the core. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { Requester, type RequesterAction, type RequesterEvent } from "../src/requester.js";
import { decodeReply, Subjects } from "../src/wire.js";

const FILE = new URL("../../../../nats_identify/testing/client_kit/vectors.json", import.meta.url);

interface Step {
  at_ms: number;
  event: "begin" | "time" | "identified" | "withdraw" | "message";
  payload?: unknown;
  reply?: string;
  out: unknown[];
}

interface Exchange {
  name: string;
  shard_id: number;
  max_concurrency: number;
  request_id: string;
  steps: Step[];
}

const vectors = JSON.parse(readFileSync(FILE, "utf-8")) as { prefix: string; exchanges: Exchange[] };
const subjects = new Subjects(vectors.prefix);

/** An action as the vectors have it; nothing for one that is not part of the contract. */
function shown(action: RequesterAction): unknown[] {
  switch (action.kind) {
    case "sendRequest":
      return [{ publish: subjects.request(action.bucket), payload: action.request }];
    case "sendCancel":
      return [{ publish: subjects.cancel(action.bucket), payload: { request_id: action.requestId } }];
    case "sendAnswer":
      return [{ publish: action.to, payload: { outcome: action.outcome } }];
    case "deliverGrant":
      return [{ may_identify: action.grant.grant_id, until_ms: action.useByMs }];
    case "askAnew":
      return [{ begin: "a new request, with another request_id" }];
    case "reportProgress":
      return [];
  }
}

function eventOf(step: Step): RequesterEvent {
  if (step.event === "message") {
    const payload = new TextEncoder().encode(JSON.stringify(step.payload));
    return { kind: "received", reply: decodeReply(payload), answerTo: step.reply ?? "" };
  }
  return { kind: step.event === "time" ? "tick" : step.event };
}

test("there are vectors", () => assert.ok(vectors.exchanges.length >= 10));

for (const exchange of vectors.exchanges) {
  test(exchange.name, () => {
    const requester = new Requester({
      shardId: exchange.shard_id,
      requestId: exchange.request_id,
      maxConcurrency: exchange.max_concurrency,
      jitter: () => 0,
    });
    for (const step of exchange.steps) {
      assert.deepEqual(requester.handle(eventOf(step), step.at_ms).flatMap(shown), step.out, `at ${step.at_ms} ms`);
    }
  });
}
