/** The clock goes on through a suspend, and never back. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { clockThroughSuspend, nowMs } from "../src/clock.js";

test("the time of a suspend is counted, and the coarseness of the uptime is not", () => {
  let monotonic = 1_000;
  let uptime = 500_000;
  const clock = clockThroughSuspend(
    () => monotonic,
    () => uptime,
  );
  assert.equal(clock(), 1_000);
  monotonic += 100;
  uptime += 110;
  assert.equal(clock(), 1_100);
  monotonic += 100;
  uptime += 60_090;
  assert.equal(clock(), 61_200);
  monotonic += 100;
  uptime += 90;
  assert.equal(clock(), 61_300);
});

test("the clock of the process grows", () => {
  const readings = Array.from({ length: 1_000 }, () => nowMs());
  assert.ok(readings.every((reading, index) => reading >= (readings[index - 1] ?? 0)));
});
