/** What the core does that no vector shows: the pace, the moment to connect, the limits. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { type Progress, type Requester, type RequesterEvent, Source } from "../src/requester.js";
import type { Reply } from "../src/wire.js";
import { granted, queued, refused, requester } from "./helpers.js";

const HOUR_MS = 3_600_000;

function receive(one: Requester, reply: Reply, atMs: number): ReturnType<Requester["handle"]> {
  return one.handle({ kind: "received", reply, answerTo: "identify.confirm.0.g1" }, atMs);
}

/** Let time pass, tick by tick at its own deadlines; return when each request was sent. */
function sendings(one: Requester, fromMs: number, untilMs: number): number[] {
  const sent: number[] = [];
  for (let now = one.deadlineMs ?? Infinity; now <= untilMs; now = one.deadlineMs ?? Infinity) {
    assert.ok(now >= fromMs, "a deadline lies in the past");
    if (one.handle({ kind: "tick" }, now).some((action) => action.kind === "sendRequest")) sent.push(now);
  }
  return sent;
}

function progressOf(actions: ReturnType<Requester["handle"]>): Progress | undefined {
  return actions.flatMap((action) => (action.kind === "reportProgress" ? [action.progress] : []))[0];
}

for (const jitter of [0, 0.5, 1]) {
  test(`unanswered renewals back off to a minute, with jitter ${jitter}`, () => {
    const one = requester({ jitter: () => jitter });
    one.handle({ kind: "begin" }, 0);
    const sent = [0, ...sendings(one, 0, HOUR_MS)];
    const waits = sent.slice(1).map((at, index) => at - (sent[index] ?? 0));
    waits.forEach((wait, index) => {
      const bound = Math.min(2_000 * 2 ** index, 60_000);
      assert.equal(wait, 1_000 + (bound - 1_000) * jitter, `wait ${index + 1}`);
    });
  });
}

test("a request that was queued backs off to half of the time after which it would be dropped", () => {
  const one = requester({ jitter: () => 1 });
  one.handle({ kind: "begin" }, 0);
  receive(one, queued({ renew_in_ms: 2_000 }), 1);
  const sent = sendings(one, 0, 60_000);
  const longest = Math.max(...sent.slice(1).map((at, index) => at - (sent[index] ?? 0)));
  assert.equal(longest, 6_000);
});

test("the first reply ends the row of the unanswered", () => {
  const one = requester({ jitter: () => 1 });
  one.handle({ kind: "begin" }, 0);
  sendings(one, 0, 30_000);
  receive(one, queued({ renew_in_ms: 1_000 }), 30_001);
  assert.equal(one.deadlineMs, 31_001);
  one.handle({ kind: "tick" }, 31_001);
  assert.equal(one.deadlineMs, 32_001, "the bound is the pace again");
});

test("it sends at most 20 requests in a second, whatever the replies demand", () => {
  const one = requester();
  one.handle({ kind: "begin" }, 0);
  const sent = [0];
  for (let now = 0; now < 10_000; now += 1) {
    if (receive(one, queued({ renew_in_ms: 0 }), now).some((action) => action.kind === "sendRequest")) sent.push(now);
  }
  sent.forEach((at, index) => assert.ok(at - (sent[index - 20] ?? -Infinity) >= 1_000, `sending ${index}`));
  assert.ok(sent.length >= 199, "and no fewer");
});

test("refusals in a row are answered more and more slowly, up to a minute, and never in step", () => {
  const spread = [0, 1].map((jitter) => {
    const one = requester({ jitter: () => jitter });
    one.handle({ kind: "begin" }, 0);
    const waits: number[] = [];
    for (let now = 1, count = 0; count < 8; count += 1) {
      receive(one, refused({ retry_after_ms: 5_000 }), now);
      waits.push((one.deadlineMs ?? 0) - now);
      now = one.deadlineMs ?? 0;
      one.handle({ kind: "tick" }, now);
    }
    return waits;
  });
  assert.deepEqual(spread[0], Array(8).fill(5_000));
  assert.deepEqual(spread[1], [10_000, 20_000, 40_000, ...Array(5).fill(60_000)]);
});

test("a reply that demands a minute and more is obeyed for a minute", () => {
  const one = requester();
  one.handle({ kind: "begin" }, 0);
  receive(one, queued({ renew_in_ms: 2 ** 53 }), 0);
  assert.equal(one.deadlineMs, 60_000);
});

test("the turn is near two seconds before it, and that is reported once", () => {
  const one = requester();
  one.handle({ kind: "begin" }, 0);
  const first = progressOf(receive(one, queued({ position: 1, eta_ms: 5_000 }), 0));
  assert.deepEqual([first?.near, one.deadlineMs], [false, 3_000]);
  assert.equal(progressOf(one.handle({ kind: "tick" }, 3_000))?.near, true);
  assert.equal(progressOf(one.handle({ kind: "tick" }, 3_001)), undefined);
  assert.equal(progressOf(receive(one, queued({ position: 1, eta_ms: 2_000 }), 3_100))?.near, true);
  assert.equal(progressOf(receive(one, queued({ position: 2, eta_ms: 1_000 }), 3_200))?.near, false);
});

test("after a reconnect the head renews at once, others by their rank, and one that is due sooner stays", () => {
  const reconnected: RequesterEvent = { kind: "reconnected", jitter: 1, waitedMs: 400 };
  const deadline = (position: number | null, renewInMs: number): number | null => {
    const one = requester({ jitter: () => 1, maxConcurrency: 16 });
    one.handle({ kind: "begin" }, 0);
    if (position !== null) receive(one, queued({ position, renew_in_ms: renewInMs, max_concurrency: 16 }), 0);
    const isSent = one.handle(reconnected, 10).some((action) => action.kind === "sendRequest");
    return isSent ? 10 : one.deadlineMs;
  };
  assert.equal(deadline(1, 60_000), 10);
  assert.equal(deadline(1_001, 60_000), 10 + 1_000 * 16 * 0.05);
  assert.equal(deadline(1_000_000, 60_000), 10 + 5_000);
  assert.equal(deadline(1_000_000, 500), 500);
  assert.equal(deadline(null, 0), 10 + 400, "one that was never answered: as long as such a one has waited");
});

test("a grant is never used for more than a minute", () => {
  const one = requester();
  one.handle({ kind: "begin" }, 0);
  const delivered = receive(one, granted({ use_within_ms: 3_600_000 }), 1)[0];
  assert.equal(delivered?.kind === "deliverGrant" && delivered.useByMs, 60_000);
});

test("a grant held that came too late is declined, and its request goes on at once", () => {
  const one = requester();
  one.handle({ kind: "begin" }, 0);
  receive(one, granted(), 10);
  const actions = one.handle({ kind: "late" }, 6_000);
  assert.deepEqual(
    actions.map((action) => (action.kind === "sendAnswer" ? action.outcome : action.kind)),
    ["declined", "sendRequest"],
  );
  assert.equal(one.state, "asking");
  assert.equal(receive(one, granted({ grant_id: "g2", renewal: 1 }), 6_010)[0]?.kind, "deliverGrant");
});

test("a refusal that crosses a grant changes nothing", () => {
  const one = requester();
  one.handle({ kind: "begin" }, 0);
  receive(one, granted(), 10);
  assert.deepEqual(receive(one, refused({ code: "ended" }), 11), []);
  assert.equal(one.state, "holding");
});

test("the pause before a new request doubles up to 8 s", () => {
  const pauses = [0, 1, 2, 5, 6, 100].map((anewCount) => {
    const one = requester({ anewCount });
    one.handle({ kind: "begin" }, 0);
    const anew = receive(one, refused({ code: "ended" }), 1).find((action) => action.kind === "askAnew");
    return anew?.pauseMs;
  });
  assert.deepEqual(pauses, [250, 500, 1_000, 8_000, 8_000, 8_000]);
});

test("a withdrawal before the first message sends none", () => {
  const one = requester();
  one.handle({ kind: "begin", pauseMs: 1_000 }, 0);
  assert.deepEqual(one.handle({ kind: "withdraw" }, 10), []);
  assert.equal(one.deadlineMs, null);
});

test("a source numbers its requests in order, at one instant too", () => {
  const source = new Source("s", 100);
  assert.deepEqual([source.beginUs(100), source.beginUs(100), source.beginUs(102.5)], [0, 1, 2_500]);
  const one = requester({ source });
  const [sent] = one.handle({ kind: "begin" }, 102.5);
  assert.ok(sent?.kind === "sendRequest");
  assert.deepEqual([sent.request.source, sent.request.asked_us], ["s", 2_501]);
});
