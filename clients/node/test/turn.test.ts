/** One turn, from the request to what Discord answered. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { FakeHost, queued, settle } from "./helpers.js";

test("a turn is granted, used once, and answered", async () => {
  const host = new FakeHost();
  const turn = host.turn(0);
  const waiting = turn.granted();
  host.grant(turn);
  assert.equal((await waiting).grantId, "g1");
  turn.identified();
  turn.identified();
  turn.declined();
  turn.ready();
  assert.deepEqual(host.sent, ["request r0", "identified g1", "ready g1"]);
});

test("READY and Invalid Session include that IDENTIFY was sent", () => {
  for (const outcome of ["ready", "rejected"] as const) {
    const host = new FakeHost();
    const turn = host.turn(0);
    host.grant(turn);
    turn[outcome]();
    assert.deepEqual(host.sent, ["request r0", "identified g1", `${outcome} g1`]);
  }
});

test("a grant that grew old is declined right before the send, and the wait goes on", async () => {
  const host = new FakeHost();
  const turn = host.turn(0);
  host.grant(turn);
  await turn.granted();
  host.nowMs = 5_001;
  const waiting = turn.granted();
  await settle();
  assert.deepEqual(host.sent, ["request r0", "declined g1", "request r0"]);
  host.grant(turn, { grant_id: "g2", renewal: 1 });
  assert.equal((await waiting).grantId, "g2");
});

test("the turn is near when the queue says so, and when it is granted", async () => {
  const host = new FakeHost();
  const turn = host.turn(0);
  const waiting = turn.near();
  const reply = queued({ request_id: "r0", position: 1, eta_ms: 1_500 });
  host.step(turn, { kind: "received", reply, answerTo: "" });
  await waiting;
  const other = host.turn(1);
  host.grant(other);
  await other.near();
});

test("a turn that is declined before its grant withdraws, and ends the wait", async () => {
  const host = new FakeHost();
  const turn = host.turn(0);
  const waiting = turn.granted();
  turn.declined();
  await assert.rejects(waiting, /declined/);
  assert.deepEqual(host.sent, ["request r0", "cancel r0"]);
  assert.throws(() => turn.identified(), /had no turn/);
});

test("a turn that is declined after its grant gives it back", async () => {
  const host = new FakeHost();
  const turn = host.turn(0);
  host.grant(turn);
  await turn.granted();
  turn.declined();
  assert.deepEqual(host.sent, ["request r0", "declined g1", "cancel r0"]);
  assert.throws(() => turn.ready(), /had no turn/);
});

test("an outcome without a grant is an error", () => {
  const turn = new FakeHost().turn(0);
  assert.throws(() => turn.identified(), /holds no grant/);
});

test("a wait that is ended withdraws; a grant that was not returned is given back", async () => {
  const host = new FakeHost();
  const turn = host.turn(0);
  const waiting = turn.granted();
  turn.fail(null); // `signal.reason` may be anything
  await assert.rejects(waiting, (error) => error === null);
  const other = host.turn(1);
  host.grant(other);
  other.fail(new Error("enough"));
  await assert.rejects(other.granted(), /enough/);
  assert.deepEqual(host.sent, ["request r0", "cancel r0", "request r1", "declined g1", "cancel r1"]);
});

test("a grant that was returned stays the shard's, and is given back where it is too late", async () => {
  const host = new FakeHost();
  const turn = host.turn(0);
  host.grant(turn);
  await turn.granted();
  turn.fail(new Error("enough"));
  await turn.granted();
  host.nowMs = 5_001;
  await assert.rejects(turn.granted(), /enough/);
  assert.deepEqual(host.sent, ["request r0", "declined g1", "cancel r0"]);
});

test("a turn that was used a second too late is logged", async () => {
  const host = new FakeHost();
  const turn = host.turn(0);
  host.grant(turn);
  await turn.granted();
  host.nowMs = 6_001;
  turn.identified();
  assert.match(host.lines.join(), /too late/);
});
