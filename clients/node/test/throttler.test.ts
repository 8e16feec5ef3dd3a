/** The throttler, with a manager that a test plays; the real libraries are played in tests/clients/test_node.py. */

import assert from "node:assert/strict";
import { EventEmitter } from "node:events";
import { test } from "node:test";
import { type IdentifyThrottler, identifyThrottler } from "../src/throttler.js";
import { Turn, QueueClosedError } from "../src/turn.js";
import { FakeHost, requester, settle } from "./helpers.js";

/** How each version of @discordjs/ws emits the events of its shards. */
const VERSIONS = {
  1: (manager: EventEmitter, event: string, text: string) => manager.emit(event, { message: text, code: 1, shardId: 3 }),
  2: (manager: EventEmitter, event: string, text: string) => manager.emit(event, ...(text === "" ? [] : [text]), 3),
};

class Scene {
  readonly host = new FakeHost();
  readonly manager = new EventEmitter();
  readonly throttler: IdentifyThrottler;
  readonly #version: 1 | 2;

  constructor(version: 1 | 2 = 2) {
    this.#version = version;
    this.throttler = identifyThrottler(this.host, { invalidSessionPauseMs: [20, 20] })(this.manager);
  }

  emit(event: string, text = ""): void {
    VERSIONS[this.#version](this.manager, event, text);
  }

  /** Ask, and return the turn that was asked for. */
  async asked(controller = new AbortController()): Promise<{ turn: Turn; waiting: Promise<void> }> {
    const before = this.host.turns.length;
    const waiting = this.throttler.waitForIdentify(3, controller.signal);
    waiting.catch(() => undefined);
    while (this.host.turns.length === before) await settle();
    return { turn: this.host.turns[before] as Turn, waiting };
  }

  /** As `asked`, up to the moment at which the library may send. */
  async passed(): Promise<void> {
    const { turn, waiting } = await this.asked();
    this.host.grant(turn);
    await waiting;
    this.host.sent.length = 0;
  }
}

async function isOver(waiting: Promise<void>): Promise<boolean> {
  const over = waiting.then(() => true, () => true);
  return await Promise.race([over, settle().then(() => false)]);
}

for (const version of [1, 2] as const) {
  test(`IDENTIFY is reported after its send, and READY when it was received: version ${version}`, async () => {
    const scene = new Scene(version);
    await scene.passed();
    assert.deepEqual(scene.host.sent, []);
    scene.emit("debug", "Identifying\n\tshard id: 3");
    assert.deepEqual(scene.host.sent, [], "the library sends in this very step");
    await settle();
    assert.deepEqual(scene.host.sent, ["identified g1"]);
    scene.emit("ready");
    assert.deepEqual(scene.host.sent, ["identified g1", "ready g1"]);
    scene.emit("ready");
    scene.emit("closed");
    assert.equal(scene.host.sent.length, 2);
  });

  test(`Invalid Session in answer to IDENTIFY is reported, once: version ${version}`, async () => {
    const scene = new Scene(version);
    await scene.passed();
    scene.emit("debug", "Identifying");
    await settle();
    scene.emit("debug", "Invalid session; will attempt to resume: false");
    scene.emit("closed");
    assert.deepEqual(scene.host.sent, ["identified g1", "rejected g1"]);
    assert.equal((await scene.asked()).turn.requester.priority, 0, "it never had a session");
  });

  test(`a session that was live and was lost has priority 1: version ${version}`, async () => {
    for (const event of ["ready", "resumed"]) {
      const scene = new Scene(version);
      scene.emit(event);
      scene.emit("debug", "Invalid session; will attempt to resume: false");
      scene.emit("closed");
      assert.equal((await scene.asked()).turn.requester.priority, 1);
    }
  });
}

test("an Invalid Session in answer to RESUME is not reported", async () => {
  const scene = new Scene();
  await scene.passed();
  scene.emit("debug", "Identifying");
  scene.emit("ready");
  scene.emit("debug", "Invalid session; will attempt to resume: false");
  assert.deepEqual(scene.host.sent, ["identified g1", "ready g1"]);
});

test("after Invalid Session it waits before it asks", async () => {
  const scene = new Scene();
  scene.emit("debug", "Invalid session; will attempt to resume: false");
  const begun = performance.now();
  await scene.asked();
  assert.ok(performance.now() - begun >= 15);
});

test("it rejects when it is aborted after Invalid Session, and asks for no turn", async () => {
  const scene = new Scene();
  scene.emit("debug", "Invalid session; will attempt to resume: false");
  const controller = new AbortController();
  const waiting = scene.throttler.waitForIdentify(3, controller.signal);
  controller.abort(new Error("destroyed"));
  await assert.rejects(waiting, /destroyed/);
  assert.deepEqual(scene.host.turns, []);
});

test("a grant that was passed counts as used where the connection ends, and no message was understood", async () => {
  const scene = new Scene();
  await scene.passed();
  scene.emit("debug", "IDENTIFY is on its way"); // of a later version
  scene.emit("closed");
  assert.deepEqual(scene.host.sent, ["identified g1"]);
});

test("it rejects when it is aborted, and the shard goes on at its place", async () => {
  const scene = new Scene();
  const controller = new AbortController();
  const { turn, waiting } = await scene.asked(controller);
  controller.abort(new Error("closed"));
  await assert.rejects(waiting, /closed/);
  assert.deepEqual(scene.host.sent, ["request r0"]);
  const again = scene.throttler.waitForIdentify(3, new AbortController().signal);
  await settle();
  scene.host.grant(turn);
  await again;
  assert.equal(scene.host.turns.length, 1);
});

test("the newest connection of a shard takes the turn over from one that still waits", async () => {
  const scene = new Scene(); // a socket that was closing already emits no "closed"
  const controller = new AbortController();
  const { turn, waiting } = await scene.asked(controller);
  const newest = scene.throttler.waitForIdentify(3, new AbortController().signal);
  await settle();
  assert.equal(scene.host.turns.length, 1);
  scene.host.grant(turn);
  await newest;
  assert.equal(await isOver(waiting), false, "the library would send a second IDENTIFY");
  scene.emit("debug", "Identifying");
  await settle();
  controller.abort(new Error("closed")); // by the end of the newest connection
  await assert.rejects(waiting, /closed/);
  assert.deepEqual(scene.host.sent, ["request r0", "identified g1"]);
});

for (const version of [1, 2] as const) {
  test(`a turn that comes while the connection is destroyed is kept for the next one: version ${version}`, async () => {
    const scene = new Scene(version);
    const controller = new AbortController();
    const { turn, waiting } = await scene.asked(controller);
    scene.emit("debug", "Destroying shard\n\tReason: Zombie connection\n\tCode: 4200\n\tRecover: Resume");
    scene.host.grant(turn);
    assert.equal(await isOver(waiting), false);
    assert.deepEqual(scene.host.sent, ["request r0", "declined g1"], "the bucket is free, and no turn is asked for");
    scene.emit("closed");
    controller.abort(new Error("closed"));
    await assert.rejects(waiting, /closed/);
    const again = scene.throttler.waitForIdentify(3, new AbortController().signal);
    await settle();
    assert.deepEqual(scene.host.sent.splice(0), ["request r0", "declined g1", "request r0"]);
    scene.host.grant(turn, { grant_id: "g2", renewal: 1 });
    await again;
    scene.emit("debug", "Identifying");
    await settle();
    assert.deepEqual(scene.host.sent, ["identified g2"]);
    assert.equal(scene.host.turns.length, 1);
  });
}

test("a connection that was destroyed before the wait changes nothing", async () => {
  const scene = new Scene();
  scene.emit("debug", "Destroying shard");
  await scene.passed();
});

test("a place that no connection comes back for is given up", async (context) => {
  context.mock.timers.enable({ apis: ["setTimeout"] });
  const scene = new Scene();
  const controller = new AbortController();
  const waiting = scene.throttler.waitForIdentify(3, controller.signal);
  controller.abort();
  await assert.rejects(waiting);
  context.mock.timers.tick(4_999);
  assert.deepEqual(scene.host.sent, ["request r0"]);
  context.mock.timers.tick(1);
  assert.deepEqual(scene.host.sent, ["request r0", "cancel r0"]);
});

test("where the queue was closed, it waits until it is aborted", async () => {
  const host = new FakeHost();
  const closed = {
    turn(shardId: number): Turn {
      const turn = new Turn(host, requester({ shardId }));
      turn.fail(new QueueClosedError());
      return turn;
    },
  };
  const throttler = identifyThrottler(closed)(new EventEmitter());
  const controller = new AbortController();
  const waiting = throttler.waitForIdentify(0, controller.signal);
  let isOver = false;
  waiting.catch(() => undefined).finally(() => (isOver = true));
  for (let round = 0; round < 20; round += 1) await settle();
  assert.equal(isOver, false);
  controller.abort(new Error("destroyed"));
  await assert.rejects(waiting, /destroyed/);
});
