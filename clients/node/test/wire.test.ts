/** What is read of a reply, and what is refused. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { clientName, decodeReply, maxConcurrencyOf, Subjects } from "../src/wire.js";
import { granted, queued, refused } from "./helpers.js";

function bytes(value: unknown): Uint8Array {
  return new TextEncoder().encode(typeof value === "string" ? value : JSON.stringify(value));
}

test("a field or a reason of a later version is no obstacle", () => {
  assert.deepEqual(decodeReply(bytes({ ...granted(), later: [1] })), granted());
  assert.deepEqual(decodeReply(bytes(queued({ reason: "moon_phase" }))), queued({ reason: "moon_phase" }));
});

test("what is absent in a refusal is null", () => {
  assert.deepEqual(decodeReply(bytes({ status: "refused", code: "ended", message: "over" })), {
    ...refused({ code: "ended", message: "over" }),
    request_id: null,
  });
});

for (const [what, payload] of [
  ["no JSON", "{"],
  ["a list", "[]"],
  ["null", "null"],
  ["no status", {}],
  ["another status", { status: "maybe" }],
  ["a number as text", { ...granted(), renewal: "0" }],
  ["a negative number", { ...granted(), use_within_ms: -1 }],
  ["a fraction", { ...granted(), renewal: 0.5 }],
  ["no bucket at all", { ...granted(), max_concurrency: 0 }],
  ["more buckets than there are", { ...granted(), max_concurrency: 4_097 }],
  ["an id that is no token", { ...granted(), grant_id: "a.b" }],
  ["position 0", queued({ position: 0 })],
  ["a message that is too long", refused({ message: "x".repeat(1_025) })],
  ["too many bytes", { ...granted(), padding: "x".repeat(16_384) }],
] as const) {
  test(`it does not read ${what}`, () => {
    assert.throws(() => decodeReply(bytes(payload)), Error);
  });
}

test("a reply that is no UTF-8 is not read", () => {
  assert.throws(() => decodeReply(new Uint8Array([0x7b, 0xff, 0x7d])));
});

test("a prefix is plain tokens", () => {
  assert.equal(new Subjects("bots.alpha.identify").request(3), "bots.alpha.identify.request.3");
  for (const prefix of ["", "a..b", "a b", "identify.*", "$SYS", "identify.>"]) {
    assert.throws(() => new Subjects(prefix), RangeError);
  }
});

test("a client's name is cut to 128 bytes, and to whole characters", () => {
  assert.equal(clientName("pod-a"), "pod-a");
  assert.equal(clientName("ä".repeat(100)), "ä".repeat(64));
  assert.equal(clientName(`x${"ä".repeat(100)}`), `x${"ä".repeat(63)}`);
});

test("limits that cannot be read are not known", () => {
  assert.equal(maxConcurrencyOf(bytes({ max_concurrency: 16 })), 16);
  for (const body of ["", "{", {}, { max_concurrency: null }, { max_concurrency: "16" }, { max_concurrency: 0 }]) {
    assert.equal(maxConcurrencyOf(bytes(body)), null);
  }
});
