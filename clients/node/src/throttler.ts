/**
 * The identify throttler of discord.js and @discordjs/ws: each IDENTIFY has a turn of the queue, and RESUME waits for none.
 *
 * How near the answer is to the send. The library awaits `waitForIdentify`, emits the debug message "Identifying", and
 * hands IDENTIFY to the socket in the same step, with no other event in between. So `identified` is published in the
 * microtask after that message: right after the send, never before it. With `WorkerShardingStrategy` the message comes
 * from the worker, also after its send; the grant is then older at the send by the time of one message to the worker.
 * Should a later version word its messages otherwise, READY answers the grant (`ready` includes `identified`) or the end
 * of the connection does: the bucket opens later, never earlier.
 *
 * When a connection ends. The library aborts a wait when its shard emits "closed". A connection that the library itself
 * destroys emits that only when the socket is closed, up to 30 s later, and a socket that was closing already never does:
 * the next connection then waits beside the one before. So the debug message "Destroying shard" ends the use of a turn,
 * and the newest wait of a shard takes the turn over. The wait before rejects when it is aborted, and not earlier.
 */

import { setTimeout as pause } from "node:timers/promises";
import { nowMs } from "./clock.js";
import type { IdentifyQueue } from "./queue.js";
import type { Progress } from "./requester.js";
import type { Turn } from "./turn.js";

/** The convention for a session that was live and was lost. */
const LOST_PRIORITY = 1;

/** A connection that dies in the wait is replaced, and its shard goes on at its place, if it is back within this. */
const KEEP_MS = 5_000;

/** Discord asks for a random wait of 1 to 5 s after Invalid Session. */
const INVALID_SESSION_PAUSE_MS = [1_000, 5_000] as const;

/** As much of an IdentifyQueue as is used. */
export type Turns = Pick<IdentifyQueue, "turn">;

/** As much of a WebSocketManager as is used, of @discordjs/ws 1 (in discord.js 14) and 2. */
export interface ManagerLike {
  // The two versions have different types of events: the arguments are read by `shardOf` and `textOf`.
  on(event: any, listener: (...args: any[]) => void): unknown;
}

/** What the library calls: the interface IIdentifyThrottler of @discordjs/ws. */
export interface IdentifyThrottler {
  waitForIdentify(shardId: number, signal: AbortSignal): Promise<void>;
}

export interface ThrottlerOptions {
  /** Gets each new progress of a shard that waits. */
  onProgress?: (shardId: number, progress: Progress) => void;
  /** The least and the longest wait after Invalid Session, in milliseconds. */
  invalidSessionPauseMs?: readonly [number, number];
}

/**
 * Return the option `buildIdentifyThrottler` of a WebSocketManager, which discord.js has under `ws`.
 *
 * The queue stays the caller's: close it when the bot is destroyed. While it waits for NATS, the shards wait.
 */
export function identifyThrottler(
  queue: Turns,
  options: ThrottlerOptions = {},
): (manager: ManagerLike) => IdentifyThrottler {
  return (manager) => new Throttler(queue, manager, options);
}

/** One call of `waitForIdentify` that has not returned. */
interface Wait {
  turn: Turn | null;
}

class Throttler implements IdentifyThrottler {
  readonly #queue: Turns;
  readonly #options: ThrottlerOptions;
  readonly #waits = new Map<number, Wait>(); // the newest of each shard
  readonly #ending = new Set<number>(); // shards whose connection is being destroyed, although a wait goes on
  readonly #left = new Map<number, Turn>(); // of shards whose connection has died in the wait
  readonly #used = new Map<number, Turn>(); // passed to the library; Discord has not answered yet
  readonly #hadSession = new Set<number>();
  readonly #notBeforeMs = new Map<number, number>(); // after Invalid Session

  constructor(queue: Turns, manager: ManagerLike, options: ThrottlerOptions) {
    this.#queue = queue;
    this.#options = options;
    manager.on("debug", (...args) => this.#onDebug(shardOf(args), textOf(args)));
    manager.on("ready", (...args) => this.#onReady(shardOf(args)));
    manager.on("resumed", (...args) => this.#hadSession.add(shardOf(args)));
    manager.on("closed", (...args) => this.#onClosed(shardOf(args)));
  }

  /**
   * Return when the shard may send IDENTIFY, at once.
   *
   * It rejects when the signal is aborted, and never otherwise: the library takes any other rejection for permission.
   */
  async waitForIdentify(shardId: number, signal: AbortSignal): Promise<void> {
    this.#settle(shardId); // of an earlier connection
    this.#ending.delete(shardId);
    const aborted = rejectionOf(signal);
    const wait: Wait = { turn: this.#waits.get(shardId)?.turn ?? null };
    this.#waits.set(shardId, wait); // an older one of this shard passes nothing any more
    try {
      const turn = await this.#passed(shardId, wait, signal, aborted);
      this.#waits.delete(shardId);
      this.#used.set(shardId, turn);
    } catch {
      if (this.#waits.get(shardId) === wait) {
        this.#waits.delete(shardId);
        if (signal.aborted && wait.turn !== null) this.#leave(shardId, wait.turn);
      }
      return await aborted; // at once; where the queue was closed, when the connection is
    }
  }

  /** Return the turn with which this wait's connection may identify; reject as soon as no turn can follow. */
  async #passed(shardId: number, wait: Wait, signal: AbortSignal, aborted: Promise<never>): Promise<Turn> {
    const isReplaced = (): boolean => this.#waits.get(shardId) !== wait;
    const waitMs = (this.#notBeforeMs.get(shardId) ?? 0) - nowMs();
    if (waitMs > 0) await Promise.race([aborted, pause(waitMs, undefined, { signal })]);
    signal.throwIfAborted();
    if (isReplaced()) return await aborted;
    wait.turn ??= this.#take(shardId);
    await Promise.race([wait.turn.granted(), aborted]);
    signal.throwIfAborted();
    if (isReplaced()) return await aborted;
    if (!this.#ending.has(shardId)) return wait.turn;
    wait.turn.rest(); // the socket takes nothing any more, and may need 30 s to close
    return await aborted;
  }

  #take(shardId: number): Turn {
    const left = this.#left.get(shardId);
    this.#left.delete(shardId);
    if (left !== undefined) return left;
    const { onProgress } = this.#options;
    return this.#queue.turn(shardId, {
      priority: this.#hadSession.has(shardId) ? LOST_PRIORITY : 0,
      ...(onProgress === undefined ? {} : { onProgress: (progress) => onProgress(shardId, progress) }),
    });
  }

  /** Keep the place for the next connection of this shard, for a while. */
  #leave(shardId: number, turn: Turn): void {
    this.#left.get(shardId)?.declined();
    this.#left.set(shardId, turn);
    const timer = setTimeout(() => {
      if (this.#left.get(shardId) !== turn) return; // taken, or replaced
      this.#left.delete(shardId);
      turn.declined();
    }, KEEP_MS);
    timer.unref();
  }

  #onDebug(shardId: number, text: string): void {
    const used = this.#used.get(shardId);
    if (text.startsWith("Destroying shard")) this.#ending.add(shardId);
    if (text.startsWith("Identifying")) queueMicrotask(() => used?.identified());
    if (!text.startsWith("Invalid session")) return;
    const [leastMs, mostMs] = this.#options.invalidSessionPauseMs ?? INVALID_SESSION_PAUSE_MS;
    this.#notBeforeMs.set(shardId, nowMs() + leastMs + (mostMs - leastMs) * Math.random());
    if (used === undefined) this.#hadSession.add(shardId); // the answer to RESUME, or the end of a live session
    this.#used.delete(shardId);
    used?.rejected();
  }

  #onReady(shardId: number): void {
    const used = this.#used.get(shardId);
    this.#used.delete(shardId);
    this.#hadSession.add(shardId);
    used?.ready();
  }

  #onClosed(shardId: number): void {
    this.#settle(shardId);
  }

  /** A turn that was passed to the library counts as used: whether IDENTIFY was sent cannot be known. */
  #settle(shardId: number): void {
    const used = this.#used.get(shardId);
    this.#used.delete(shardId);
    used?.identified();
  }
}

/** Return a promise that rejects when the signal is aborted. */
function rejectionOf(signal: AbortSignal): Promise<never> {
  const aborted = new Promise<never>((_resolve, reject) => {
    if (signal.aborted) reject(signal.reason);
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
  aborted.catch(() => undefined); // it may come when no one waits any more
  return aborted;
}

/** Version 2 emits `(…, shardId)`, version 1 one object with `shardId`. */
function shardOf(args: readonly unknown[]): number {
  const last = args.at(-1);
  return typeof last === "number" ? last : ((last as { shardId?: number } | undefined)?.shardId ?? -1);
}

/** Version 2 emits `(message, shardId)`, version 1 one object with `message`. */
function textOf(args: readonly unknown[]): string {
  const first = args[0];
  return typeof first === "string" ? first : ((first as { message?: string } | undefined)?.message ?? "");
}
