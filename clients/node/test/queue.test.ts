/** The queue at a NATS server that a test plays: what is sent, what is not, and what the operator is told. */

import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { nowMs } from "../src/clock.js";
import type { Progress } from "../src/requester.js";
import { IdentifyQueue, type QueueOptions } from "../src/queue.js";
import { QueueClosedError } from "../src/turn.js";
import { FakeNats, type Published, until } from "./fake_nats.js";
import { granted, queued, refused } from "./helpers.js";

const TIMEOUT = { timeout: 60_000 };
const SECRET = "hunter2";
let nats: FakeNats;
let address: string;
let lines: string[];
let queue: IdentifyQueue | undefined;

beforeEach(async () => {
  nats = new FakeNats();
  address = await nats.start();
  lines = [];
});

afterEach(async () => {
  await queue?.close();
  await nats.stop();
});

function open(options: QueueOptions = {}): IdentifyQueue {
  queue = new IdentifyQueue({ servers: address, log: (line) => lines.push(line), ...options });
  return queue;
}

function idOf(request: Published): string {
  return JSON.parse(request.payload).request_id;
}

function inboxOf(message: Published): string {
  return message.reply.slice(0, message.reply.lastIndexOf("."));
}

/** Grant what a request asks for. */
function grant(request: Published, grantId = "g1", reply?: string): void {
  const { request_id, renewal } = JSON.parse(request.payload);
  const body = granted({ request_id, renewal, grant_id: grantId });
  nats.answer(request, body, reply ?? `identify.confirm.0.${grantId}`);
}

test("a turn is asked for, granted, and confirmed", TIMEOUT, async () => {
  const turn = open().turn(0, { priority: 1 });
  const request = await nats.until("identify.request.0");
  assert.equal(JSON.parse(request.payload).priority, 1);
  grant(request);
  await turn.granted();
  turn.identified();
  turn.ready();
  await until(() => nats.published.filter((one) => one.subject === "identify.confirm.0.g1").length === 2);
  const outcomes = nats.published.filter((one) => one.subject.startsWith("identify.confirm")).map((one) => one.payload);
  assert.deepEqual(outcomes, ['{"outcome":"identified"}', '{"outcome":"ready"}']);
  grant(request); // a copy
  await until(() => nats.published.filter((one) => one.payload === '{"outcome":"identified"}').length === 2);
});

test("where TLS is asked for, nothing is sent without it", TIMEOUT, async () => {
  open({ servers: `tls://shard:${SECRET}@${address}` });
  await until(() => nats.connections >= 3);
  await until(() => lines.some((line) => line.includes("tls")));
  assert.equal(nats.text, "");
  assert.ok(!lines.join().includes(SECRET));
});

test("a login that is refused is tried again, and the log holds no password", TIMEOUT, async () => {
  nats.refusal = "-ERR 'Authorization Violation'";
  const seen: Progress[] = [];
  open({ servers: `nats://shard:${SECRET}@${address}` }).turn(0, { onProgress: (progress) => seen.push(progress) });
  await until(() => nats.connections >= 3);
  assert.ok(nats.text.includes(SECRET), "so the assertions on the log could fail");
  await until(() => lines.some((line) => line.includes("is away")));
  await until(() => seen.some((progress) => progress.reason === "no_answer"));
  nats.refusal = "";
  await nats.until("identify.request.0");
  await until(() => lines.some((line) => line.includes("NATS is back")));
  assert.ok(!lines.join().includes(SECRET));
});

test("a queue whose server says nothing is closed all the same", TIMEOUT, async () => {
  nats.isSilent = true;
  const turn = open().turn(0);
  const waiting = assert.rejects(turn.granted(), QueueClosedError);
  await until(() => nats.connections >= 1);
  await queue?.close();
  await waiting;
  await assert.rejects(queue?.turn(1).granted() ?? Promise.resolve(), QueueClosedError);
});

test("close withdraws what waits, and so does the signal", TIMEOUT, async () => {
  const controller = new AbortController();
  const waits = [open().turn(0).granted(), queue?.turn(1, { signal: controller.signal }).granted()];
  const rejected = Promise.allSettled(waits);
  const request = await nats.until("identify.request.0");
  await until(() => nats.published.filter((one) => one.subject === "identify.request.0").length >= 2);
  controller.abort();
  await nats.until("identify.cancel.0");
  await queue?.close();
  await until(() => nats.published.some((one) => one.subject === "identify.cancel.0" && one.payload.includes(idOf(request))));
  assert.deepEqual((await rejected).map((one) => one.status), ["rejected", "rejected"]);
});

test("an inbox that is refused for a while is subscribed to again, and the requests go on", TIMEOUT, async () => {
  let passedMs = 0;
  nats.refusesSubscriptions = true;
  const turn = open({ clock: () => nowMs() + passedMs }).turn(0);
  const asked = await nats.until("identify.request.0");
  await until(() => lines.some((line) => line.includes("Permissions Violation")));
  passedMs += 30_000; // it is still refused
  const refused = await until(() => nats.published.find((one) => one.subject === "identify.info" && inboxOf(one) === inboxOf(asked)));
  nats.refusesSubscriptions = false;
  const from = nats.published.indexOf(refused) + 1;
  passedMs += 30_000;
  nats.answer(await nats.until("identify.info", from), { max_concurrency: 1 });
  const answeredAt = nats.published.length;
  const renewal = await nats.until("identify.request.0", answeredAt);
  assert.equal(idOf(renewal), idOf(asked));
  grant(renewal);
  await turn.granted();
});

test("an inbox that was refused is subscribed to at a reconnect", TIMEOUT, async () => {
  nats.refusesSubscriptions = true;
  const turn = open().turn(0);
  await nats.until("identify.request.0");
  await until(() => lines.some((line) => line.includes("Permissions Violation")));
  nats.refusesSubscriptions = false;
  const from = nats.published.length;
  nats.cut();
  grant(await nats.until("identify.request.0", from));
  await turn.granted();
});

test("a confirm waits for the connection", TIMEOUT, async () => {
  const turn = open().turn(0);
  grant(await nats.until("identify.request.0"));
  await turn.granted();
  const before = nats.connections;
  nats.cut();
  await new Promise((resolve) => setTimeout(resolve, 50)); // the client sees the end of its connection
  turn.identified();
  await nats.until("identify.confirm.0.g1");
  assert.ok(nats.connections > before);
});

test("without a coordinator it says so once, probes, and renews when one is there", TIMEOUT, async () => {
  const seen: string[] = [];
  open().turn(0, { onProgress: (progress) => seen.push(progress.reason) });
  const request = await nats.until("identify.request.0");
  nats.noResponders(request);
  nats.noResponders(request);
  await until(() => seen.includes("no_answer"));
  const from = nats.published.length;
  const probe = await nats.until("identify.info", from);
  assert.equal(seen.length, 1);
  assert.equal(lines.filter((line) => line.includes("no coordinator answers")).length, 1);
  const before = nats.published.length;
  nats.answer(probe, { max_concurrency: 1 });
  const renewal = await nats.until("identify.request.0", before);
  nats.answer(renewal, queued({ request_id: idOf(renewal) }));
  await until(() => lines.some((line) => line.includes("a coordinator answers again")));
});

test("what no coordinator sends is dropped, and said once", TIMEOUT, async () => {
  const turn = open().turn(0);
  const request = await nats.until("identify.request.0");
  nats.answer(request, "{");
  grant(request, "g1", "$JS.API.STREAM.DELETE.KV_identify");
  grant(request, "g2");
  assert.equal((await turn.granted()).grantId, "g2");
  turn.identified();
  await nats.until("identify.confirm.0.g2");
  assert.deepEqual(nats.published.filter((one) => one.subject.startsWith("$")), []);
  assert.equal(lines.filter((line) => line.includes("was dropped")).length, 1);
});

test("the longest durations of the contract are no timer of a millisecond", TIMEOUT, async () => {
  const warnings: string[] = [];
  const onWarning = (warning: Error): void => void warnings.push(warning.name);
  process.on("warning", onWarning);
  const seen: Progress[] = [];
  open().turn(0, { onProgress: (progress) => seen.push(progress) });
  const request = await nats.until("identify.request.0");
  const body = queued({ request_id: idOf(request), position: 1, eta_ms: 2 ** 53, renew_in_ms: 2 ** 53 });
  nats.answer(request, body);
  await until(() => seen.length > 0);
  await new Promise((resolve) => setTimeout(resolve, 50));
  process.off("warning", onWarning);
  assert.deepEqual(warnings, []);
});

test("after `ended` a new request goes on, and a grant of the old one is declined", TIMEOUT, async () => {
  const turn = open().turn(0);
  const request = await nats.until("identify.request.0");
  nats.answer(request, refused({ code: "ended", message: "over", request_id: idOf(request) }));
  const anew = await until(() =>
    nats.published.find((one) => one.subject === "identify.request.0" && idOf(one) !== idOf(request)),
  );
  grant(request, "old");
  assert.equal((await nats.until("identify.confirm.0.old")).payload, '{"outcome":"declined"}');
  grant(anew, "new");
  assert.equal((await turn.granted()).grantId, "new");
  assert.equal(lines.filter((line) => line.includes("its request ended")).length, 1);
});

test("an onProgress that throws is logged, and the wait goes on", TIMEOUT, async () => {
  const turn = open().turn(0, {
    onProgress: () => {
      throw new Error("mine");
    },
  });
  const request = await nats.until("identify.request.0");
  nats.answer(request, queued({ request_id: idOf(request) }));
  await until(() => lines.some((line) => line.includes("mine")));
  grant(request);
  await turn.granted();
});

test("a log that throws ends nothing", TIMEOUT, async () => {
  const log = (): void => {
    throw new Error("mine");
  };
  const turn = open({ log }).turn(0);
  const request = await nats.until("identify.request.0");
  nats.answer(request, "{"); // which is logged
  grant(request);
  await turn.granted();
});

test("what can never be asked for is refused at once", TIMEOUT, () => {
  open();
  for (const shardId of [-1, 0.5, NaN, 2 ** 54]) assert.throws(() => queue?.turn(shardId), RangeError);
  for (const priority of [11, -11, 0.5]) assert.throws(() => queue?.turn(0, { priority }), RangeError);
  assert.throws(() => new IdentifyQueue({ prefix: "a b" }), RangeError);
});
