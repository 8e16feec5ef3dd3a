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

test("a used turn is granted for no second IDENTIFY, in time or late", async () => {
  for (const nowMs of [1, 3_600_000]) {
    const host = new FakeHost();
    const turn = host.turn(3);
    host.grant(turn);
    await turn.granted();
    turn.identified();
    host.nowMs = nowMs;
    await assert.rejects(turn.granted(), /shard 3 has used this turn for its one IDENTIFY/);
    assert.deepEqual(host.sent, ["request r0", "identified g1"]);
  }
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

test("a turn that rests gives its grant back at once, and asks on when it is waited for again", async () => {
  const host = new FakeHost();
  const turn = host.turn(0);
  turn.rest(); // it holds nothing
  host.grant(turn);
  await turn.granted();
  turn.rest();
  turn.rest();
  const reply = queued({ request_id: "r0", renew_in_ms: 0 });
  host.step(turn, { kind: "received", reply, answerTo: "" });
  host.step(turn, { kind: "reconnected", jitter: 0, waitedMs: 0 });
  host.nowMs = 3_600_000;
  host.step(turn, { kind: "tick" });
  host.grant(turn, { grant_id: "g2" });
  assert.deepEqual(host.sent.splice(0), ["request r0", "declined g1", "declined g2"]);
  const waiting = turn.granted();
  assert.deepEqual(host.sent.splice(0), ["request r0"]);
  host.grant(turn, { grant_id: "g3", renewal: 1 });
  assert.equal((await waiting).grantId, "g3");
});

test("a turn that rests is withdrawn where the wait has ended", async () => {
  const host = new FakeHost();
  const turns = [host.turn(0), host.turn(1), host.turn(2)];
  for (const turn of turns) host.grant(turn);
  await Promise.all(turns.map((turn) => turn.granted()));
  const [declined, failed, ended] = turns;
  declined?.rest();
  failed?.rest();
  ended?.fail(new Error("enough")); // it holds the grant: its end comes when that is given back
  host.sent.length = 0;
  declined?.declined();
  failed?.fail(new Error("enough"));
  ended?.rest();
  assert.deepEqual(host.sent, ["cancel r0", "cancel r1", "declined g1", "cancel r2"]);
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
