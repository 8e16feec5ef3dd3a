/** One shard's way through the queue, from the request to what Discord answered. It does no I/O. */

import type { Clock } from "./clock.js";
import type { Progress, Requester, RequesterEvent } from "./requester.js";
import type { Outcome } from "./wire.js";

/** The permission for one shard to send one IDENTIFY. */
export interface Grant {
  readonly shardId: number;
  readonly grantId: string;
  /** Discord's `rate_limit_key`. */
  readonly bucket: number;
  readonly maxConcurrency: number;
  /** The last instant at which IDENTIFY may be sent, on the queue's clock. */
  readonly useByMs: number;
  /** How long the shard waited. */
  readonly waitedMs: number;
  /** Session starts left today after this one, or null where they are not counted. */
  readonly remaining: number | null;
  /** Where every answer to this grant goes. */
  readonly answerTo: string;
}

/** The queue was closed by its owner: no shard can wait in it any more. */
export class QueueClosedError extends Error {
  constructor() {
    super("the queue of this turn was closed; make a new IdentifyQueue");
    this.name = "QueueClosedError";
  }
}

/** What a turn needs of its queue. */
export interface TurnHost {
  readonly clock: Clock;
  /** Pass an event to the turn's requester, and carry out what it returns. */
  step(turn: Turn, event: RequesterEvent): void;
  /** Publish the outcome of a grant. */
  answer(to: string, outcome: Outcome): void;
  /** Log a line for the operator. */
  log(line: string): void;
}

/** A turn that was used so much later than its grant allowed is logged. */
const LATE_MS = 1_000;

/**
 * One shard's turn: it waits from the moment at which it is made.
 *
 * ```ts
 * const turn = queue.turn(shardId);
 * await turn.near();        // about two seconds to go: connect to Discord
 * await turn.granted();     // right before the send: it looks at the clock
 * socket.send(identify);
 * turn.identified();        // right after the send
 * turn.ready();             // when READY was received
 * ```
 *
 * A turn that is not wanted any more is given back with `declined()`.
 */
export class Turn {
  readonly shardId: number;
  /** The newest progress, or null before the first. */
  progress: Progress | null = null;
  /** The turn's request; replaced when it has ended and the shard still waits. For the queue alone. */
  requester: Requester;
  readonly #host: TurnHost;
  #grant: Grant | null = null;
  #decided: "identified" | "declined" | null = null;
  #failure: { readonly error: unknown } | null = null; // what has ended the wait
  #endsIfLate: { readonly error: unknown } | null = null; // what ends it, should the grant in hand be too late
  #isPassed = false; // `granted` has returned: IDENTIFY may have been sent
  #waiters: (() => void)[] = [];

  /** For the queue alone: use `queue.turn`. */
  constructor(host: TurnHost, requester: Requester) {
    this.#host = host;
    this.requester = requester;
    this.shardId = requester.shardId;
  }

  /**
   * Wait until the turn is about two seconds away, or here: the moment to connect to Discord.
   *
   * It rejects as `granted` does.
   */
  async near(): Promise<void> {
    for (;;) {
      this.#refuseIfOver();
      this.#goOn();
      if (this.#grant !== null || this.progress?.near === true) return;
      await this.#change();
    }
  }

  /**
   * Wait until IDENTIFY may be sent; call it again right before the send, it costs nothing.
   *
   * It looks at the clock: a grant that came too late is declined, and the wait goes on at the same place. It rejects
   * with a QueueClosedError when the queue was closed, with the reason of the signal when that was aborted, and with an
   * Error when the turn was declined or used. Nothing else ends the wait: without NATS and without a coordinator it goes
   * on.
   */
  async granted(): Promise<Grant> {
    for (;;) {
      this.#refuseIfOver();
      if (this.#decided === "identified") {
        const used = `shard ${this.shardId} has used this turn for its one IDENTIFY`;
        throw new Error(`${used}; to identify again, take a new one from \`queue.turn\``);
      }
      this.#goOn();
      const grant = this.#grant;
      if (grant !== null && this.#host.clock() <= grant.useByMs) {
        this.#isPassed = true;
        return grant;
      }
      if (grant !== null) this.#giveBack("late");
      else await this.#change();
    }
  }

  /**
   * IDENTIFY has just been sent. Call it right after the send; later calls do nothing.
   *
   * @throws Error there is no grant, or it was declined: an IDENTIFY was sent that no turn allowed.
   */
  identified(): void {
    const grant = this.#held("identified");
    if (this.#decided !== null) return;
    this.#decided = "identified";
    this.#host.step(this, { kind: "identified" });
    if (this.#host.clock() > grant.useByMs + LATE_MS) {
      this.#host.log(`shard ${this.shardId} used its turn too late; call \`await turn.granted()\` right before the send`);
    }
  }

  /** IDENTIFY was not sent and will not be: the turn, or the place, goes to the next shard. Later calls do nothing. */
  declined(): void {
    if (this.#decided !== null || this.#failure !== null) return;
    this.#decided = "declined";
    this.#host.step(this, { kind: "withdraw" });
    this.#changed();
  }

  /**
   * READY was received. Never call it earlier: the bucket may open one window later.
   *
   * @throws Error as `identified`.
   */
  ready(): void {
    this.identified();
    this.#host.answer(this.#held("ready").answerTo, "ready");
  }

  /**
   * Discord answered the IDENTIFY of this turn with Invalid Session. One after RESUME, or of a live session, is none.
   *
   * @throws Error as `identified`.
   */
  rejected(): void {
    this.identified();
    this.#host.answer(this.#held("rejected").answerTo, "rejected");
  }

  // --- for the queue and the throttler alone

  /** A grant has arrived. */
  deliver(grant: Grant): void {
    this.#grant = grant;
    this.#changed();
  }

  /** The request has a new position or reason. */
  progressed(progress: Progress): void {
    this.progress = progress;
    this.#changed();
  }

  /**
   * End the wait with this error: the place, or a grant that `granted` has not returned, is given back.
   *
   * A grant that `granted` has returned is left as it is: only the shard knows whether IDENTIFY was sent. If it is found
   * to be too late, the wait ends then.
   */
  fail(error: unknown): void {
    if (this.#decided !== null || this.#failure !== null) return;
    if (this.#isPassed) {
      this.#endsIfLate = { error };
      return;
    }
    this.#failure = { error };
    this.#host.step(this, { kind: "withdraw" });
    this.#grant = null;
    this.#changed();
  }

  /**
   * Decline the grant, and ask for no other until `granted` is called again: the shard cannot identify now, and would
   * hold the bucket in vain. It keeps its place.
   */
  rest(): void {
    if (this.#grant !== null && this.#decided === null) this.#giveBack("rest");
  }

  /** Decline the grant; the request keeps its place. */
  #giveBack(kind: "late" | "rest"): void {
    this.#grant = null;
    this.#isPassed = false;
    if (this.#endsIfLate !== null) this.fail(this.#endsIfLate.error);
    else this.#host.step(this, { kind });
  }

  #goOn(): void {
    if (this.requester.state === "resting") this.#host.step(this, { kind: "goOn" });
  }

  #held(what: Outcome): Grant {
    if (this.#decided === "declined") {
      throw new Error(`shard ${this.shardId} reports ${what}, and has declined this turn: its IDENTIFY had no turn`);
    }
    if (this.#grant === null) {
      throw new Error(`shard ${this.shardId} reports ${what} and holds no grant: call it after \`await turn.granted()\``);
    }
    return this.#grant;
  }

  #refuseIfOver(): void {
    if (this.#failure !== null) throw this.#failure.error;
    if (this.#decided === "declined") throw new Error("this turn was declined; take a new one from `queue.turn`");
  }

  #change(): Promise<void> {
    return new Promise((resolve) => this.#waiters.push(resolve));
  }

  #changed(): void {
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const resolve of waiters) resolve();
  }
}
