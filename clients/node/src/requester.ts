/**
 * One request's life at the shard: ask, renew, take or decline the grant, withdraw. It does no I/O and reads no clock.
 *
 * Pass events with their time to `handle`, and carry out the actions that it returns. It counts a grant's use_within
 * from the first sending of the renewal that the grant echoes, decides once for each grant, and repeats that answer.
 * All times are milliseconds of one monotonic clock.
 */

import type { Granted, Outcome, Queued, Reason, Refused, Reply, Request } from "./wire.js";

/** Renewals whose sending time is kept; a grant that echoes an older one is declined as late. */
const RENEWALS_REMEMBERED = 256;

/** Decided grants that are kept, to repeat the answer to their copies. */
const GRANTS_REMEMBERED = 64;

/** An unanswered renewal is repeated within this; the bound doubles with each that is unanswered. */
export const PACE_MS = 2_000;

/** The least wait for a reply is half of the first bound: a reply that is on its way arrives before the repeat. */
const FLOOR_SHARE = 2;

/** The longest interval of the contract, in replies and of the backoff. */
const RENEW_MAX_MS = 60_000;

/** A request that was queued backs off to half of the time after which a coordinator drops it, and to this at least. */
const QUEUED_BOUND_MS = 6_000;

/** After a reconnect 100,000 requests renew within 5 s, those near their turn first. */
const SPREAD_MAX_MS = 5_000;
const SPREAD_STEP_MS = 0.05;

/** The longest use_within that is accepted. */
const USE_WITHIN_MAX_MS = 60_000;

/** A request is sent at most 20 times a second, whatever the replies demand. */
const SENDINGS_MAX = 20;
const SENDINGS_PERIOD_MS = 1_000;

/** A request that ended although its shard still wants a turn is followed by a new one after a pause that doubles. */
const ANEW_MIN_MS = 250;
const ANEW_MAX_MS = 8_000;

/** A refusal without retry_after_ms. */
const RETRY_MS = 5_000;

/** A request at position 1 is near when it has at most this long to wait: time for TCP, TLS and HELLO. */
const NEAR_MS = 2_000;

const DOUBLINGS_MAX = 16;

/**
 * Asking: in the queue or on its way there. Holding: granted, and not decided. Resting: its grant was declined, and it asks
 * for none until it goes on. Over: no turn follows from it.
 */
export type State = "asking" | "holding" | "resting" | "over";

export type RequesterEvent =
  /** The shard wants a turn; `pauseMs`: wait this long before the first message. */
  | { kind: "begin"; pauseMs?: number }
  /** A reply arrived; `answerTo` is its reply subject. */
  | { kind: "received"; reply: Reply; answerTo: string }
  /**
   * The connection, or the coordinators, are back: messages sent during the outage may be lost. `jitter`: from 0 to 1,
   * one for all requests of the process. `waitedMs`: the longest that one of them has waited without a reply.
   */
  | { kind: "reconnected"; jitter: number; waitedMs: number }
  /** IDENTIFY has just been sent with the grant held. */
  | { kind: "identified" }
  /** The grant held came too late: it is declined, and the request goes on. */
  | { kind: "late" }
  /** The grant held is declined, and the shard cannot use another one now. A coordinator grants none before a renewal. */
  | { kind: "rest" }
  /** The shard of a request that rests waits again; its place is kept, or `waited_ms` restores it. */
  | { kind: "goOn" }
  /** The shard wants no turn any more; a grant held is declined. */
  | { kind: "withdraw" }
  /** Time has passed; early and repeated ticks are harmless. */
  | { kind: "tick" };

/** Progress of a request, for people and for the moment to connect. */
export interface Progress {
  /** Its place in its bucket, 1 is next; null while there is no reply. */
  position: number | null;
  /** Milliseconds until the turn; null while that is not known. */
  etaMs: number | null;
  /** Why it waits. */
  reason: Reason;
  /** The turn is about two seconds away or less: the moment to open the connection to Discord. */
  near: boolean;
}

export type RequesterAction =
  /** Publish this on the request subject of `bucket`, with this request's inbox as reply subject. */
  | { kind: "sendRequest"; bucket: number; request: Request }
  /** Publish this on the cancel subject of `bucket`. */
  | { kind: "sendCancel"; bucket: number; requestId: string }
  /** Publish this on the reply subject of a grant. */
  | { kind: "sendAnswer"; to: string; outcome: Outcome }
  /** The shard may identify until `useByMs`; `answerTo`: where every answer to this grant goes. */
  | { kind: "deliverGrant"; grant: Granted; useByMs: number; answerTo: string }
  /** `problem`: what an operator should look at; empty where there is nothing. */
  | { kind: "reportProgress"; progress: Progress; problem: string }
  /**
   * The request has ended at the coordinators, and its shard still wants a turn: begin another requester with a new id
   * and `anewCount`, after `pauseMs`. `message`: why, in the coordinator's words.
   */
  | { kind: "askAnew"; anewCount: number; pauseMs: number; message: string };

/** Numbers the requests of one queue object in the order in which they began, under a random token. */
export class Source {
  readonly token: string;
  readonly #sinceMs: number;
  #lastUs = -1;

  /** @param token random, 1 to 64 of `[A-Za-z0-9_-]`. */
  constructor(token: string, sinceMs: number) {
    this.token = token;
    this.#sinceMs = sinceMs;
  }

  /** Microseconds since the source began; larger for each request. */
  beginUs(nowMs: number): number {
    this.#lastUs = Math.max(this.#lastUs + 1, Math.floor((nowMs - this.#sinceMs) * 1_000));
    return this.#lastUs;
  }
}

export interface RequesterOptions {
  shardId: number;
  /** Random, never used for another request. */
  requestId: string;
  /** A random number from 0 to 1 at each call. */
  jitter: () => number;
  /** As far as is known; replies correct it. */
  maxConcurrency?: number | null;
  /** -10 … 10, higher goes first. */
  priority?: number;
  /** A name for people. */
  client?: string;
  source?: Source;
  /** How many requests of this shard's wait have ended before this one. */
  anewCount?: number;
}

/** One request of one shard. */
export class Requester {
  readonly shardId: number;
  readonly requestId: string;
  readonly priority: number;
  maxConcurrency: number | null;
  state: State = "asking";
  readonly #client: string;
  readonly #jitter: () => number;
  readonly #source: Source | undefined;
  readonly #anewCount: number;
  readonly #firstSentMs = new Map<number, number>();
  readonly #decided = new Map<string, Outcome>();
  #paceMs = PACE_MS;
  #askedUs: number | undefined;
  #begunAtMs: number | null = null;
  #renewal = -1;
  #unansweredCount = 0; // renewals sent since the last reply
  #refusedCount = 0; // refusals in a row
  #position: number | null = null; // in its queue; null: not known to be queued
  #intervalMs: number | null = null; // of the last `queued`
  #renewAtMs: number | null = null;
  #nearAtMs: number | null = null;
  #progress: Progress | null = null;
  #held: { grantId: string; answerTo: string } | null = null;

  constructor(options: RequesterOptions) {
    this.shardId = options.shardId;
    this.requestId = options.requestId;
    this.priority = options.priority ?? 0;
    this.maxConcurrency = options.maxConcurrency ?? null;
    this.#client = options.client ?? "";
    this.#jitter = options.jitter;
    this.#source = options.source;
    this.#anewCount = options.anewCount ?? 0;
  }

  /** Take in one event; return what to do, in this order. */
  handle(event: RequesterEvent, nowMs: number): RequesterAction[] {
    return [...this.#happened(event, nowMs), ...this.#due(nowMs)];
  }

  /** When the request was first sent, if it is in no queue as far as is known; else null. */
  get unplacedSinceMs(): number | null {
    return this.#position === null ? this.#begunAtMs : null;
  }

  /** When `handle` needs a tick; null while there is no deadline. */
  get deadlineMs(): number | null {
    const sendingMs = this.#nextSendingMs();
    if (sendingMs === null || this.#nearAtMs === null) return sendingMs ?? this.#nearAtMs;
    return Math.min(sendingMs, this.#nearAtMs);
  }

  #happened(event: RequesterEvent, nowMs: number): RequesterAction[] {
    switch (event.kind) {
      case "begin":
        this.#renewAtMs = nowMs + (event.pauseMs ?? 0);
        return [];
      case "received":
        return this.#received(event.reply, event.answerTo, nowMs);
      case "reconnected":
        this.#reconnected(event.jitter, event.waitedMs, nowMs);
        return [];
      case "identified": {
        const answer = this.#decide("identified");
        this.#end();
        return answer;
      }
      case "late": {
        const answer = this.#decide("declined");
        this.#askOn(nowMs);
        return answer;
      }
      case "rest":
        if (this.state === "holding") this.state = "resting";
        return this.#decide("declined");
      case "goOn":
        if (this.state === "resting") this.#askOn(nowMs);
        return [];
      case "withdraw":
        return [...this.#decide("declined"), ...this.#withdraw()];
      case "tick":
        return [];
    }
  }

  // --- replies

  #received(reply: Reply, answerTo: string, nowMs: number): RequesterAction[] {
    switch (reply.status) {
      case "granted":
        return this.#granted(reply, answerTo, nowMs);
      case "queued":
        return this.#queued(reply, nowMs);
      case "refused":
        return this.#refused(reply, nowMs);
    }
  }

  #granted(grant: Granted, answerTo: string, nowMs: number): RequesterAction[] {
    if (grant.request_id !== this.requestId || grant.renewal > this.#renewal) {
      return []; // the grant of another request, which answers it
    }
    if (grant.shard_id !== this.shardId || grant.bucket !== grant.shard_id % grant.max_concurrency) {
      return []; // no coordinator sends this: IDENTIFY of this shard would take the place of another's
    }
    const decided = this.#decided.get(grant.grant_id);
    if (decided !== undefined) return [{ kind: "sendAnswer", to: answerTo, outcome: decided }];
    if (this.#held?.grantId === grant.grant_id) return []; // a copy: answered when the grant is decided
    this.maxConcurrency = grant.max_concurrency;
    this.#unansweredCount = this.#refusedCount = 0;
    const firstSentMs = this.#firstSentMs.get(grant.renewal);
    const useByMs =
      firstSentMs === undefined ? -Infinity : firstSentMs + Math.min(grant.use_within_ms, USE_WITHIN_MAX_MS);
    if (this.state !== "asking" || nowMs > useByMs) {
      this.#remember(grant.grant_id, "declined");
      if (this.state === "asking") this.#askOn(nowMs);
      return [{ kind: "sendAnswer", to: answerTo, outcome: "declined" }];
    }
    this.state = "holding";
    this.#held = { grantId: grant.grant_id, answerTo };
    this.#renewAtMs = this.#nearAtMs = null;
    return [{ kind: "deliverGrant", grant, useByMs, answerTo }];
  }

  #queued(queued: Queued, nowMs: number): RequesterAction[] {
    if (queued.request_id !== this.requestId || this.state !== "asking") return [];
    this.maxConcurrency = queued.max_concurrency ?? this.maxConcurrency;
    this.#unansweredCount = this.#refusedCount = 0;
    this.#position = queued.position;
    this.#intervalMs = Math.min(queued.renew_in_ms, RENEW_MAX_MS);
    this.#renewAtMs = nowMs + this.#intervalMs;
    if (queued.renew_in_ms > 0) this.#paceMs = Math.min(this.#paceMs, queued.renew_in_ms);
    const etaMs = queued.position === 1 ? queued.eta_ms : null; // that of the next one is exact
    this.#nearAtMs = etaMs === null ? null : nowMs + Math.max(0, etaMs - NEAR_MS);
    const near = etaMs !== null && etaMs <= NEAR_MS;
    return this.#report({ position: queued.position, etaMs: queued.eta_ms, reason: queued.reason, near });
  }

  /** A grant that the shard holds is not affected: it is newer than the refusal. */
  #refused(refused: Refused, nowMs: number): RequesterAction[] {
    if (refused.request_id !== this.requestId || this.state !== "asking") return [];
    const bucket = this.#bucket();
    this.maxConcurrency = refused.max_concurrency ?? this.maxConcurrency;
    if (refused.code === "ended") return this.#askAnew(refused);
    const isMoved = refused.code === "wrong_bucket" && this.#bucket() !== bucket;
    const waitMs = isMoved ? 0 : this.#refusedWaitMs(refused.retry_after_ms || RETRY_MS);
    this.#unansweredCount = 0;
    this.#position = this.#intervalMs = null;
    this.#renewAtMs = nowMs + waitMs;
    this.#nearAtMs = null;
    if (isMoved) return [];
    return this.#report({ position: null, etaMs: null, reason: refused.code, near: false }, refused.message);
  }

  /** The id is spent, though not by this shard: a new request takes over; a late grant of this one is declined. */
  #askAnew(refused: Refused): RequesterAction[] {
    this.#end();
    const pauseMs = Math.min(ANEW_MIN_MS * 2 ** Math.min(this.#anewCount, DOUBLINGS_MAX), ANEW_MAX_MS);
    return [
      ...this.#report({ position: null, etaMs: null, reason: refused.code, near: false }),
      {
        kind: "askAnew",
        anewCount: this.#anewCount + 1,
        pauseMs: this.#between(pauseMs, pauseMs * 1.2),
        message: refused.message,
      },
    ];
  }

  // --- steps

  #due(nowMs: number): RequesterAction[] {
    const actions: RequesterAction[] = [];
    if (this.#nearAtMs !== null && nowMs >= this.#nearAtMs) {
      this.#nearAtMs = null;
      const progress = this.#progress;
      if (progress !== null && !progress.near) actions.push(...this.#report({ ...progress, etaMs: NEAR_MS, near: true }));
    }
    const sendingMs = this.#nextSendingMs();
    if (sendingMs !== null && nowMs >= sendingMs) actions.push(this.#renew(nowMs));
    return actions;
  }

  /** When the next renewal is sent: by the last reply, and at most `SENDINGS_MAX` in a period. */
  #nextSendingMs(): number | null {
    if (this.#renewAtMs === null) return null;
    const earlierMs = this.#firstSentMs.get(this.#renewal - SENDINGS_MAX + 1);
    return earlierMs === undefined ? this.#renewAtMs : Math.max(this.#renewAtMs, earlierMs + SENDINGS_PERIOD_MS);
  }

  #renew(nowMs: number): RequesterAction {
    if (this.#begunAtMs === null) {
      this.#begunAtMs = nowMs;
      this.#askedUs = this.#source?.beginUs(nowMs);
    }
    this.#renewal += 1;
    this.#firstSentMs.set(this.#renewal, nowMs);
    this.#firstSentMs.delete(this.#renewal - RENEWALS_REMEMBERED);
    this.#renewAtMs = nowMs + this.#unansweredWaitMs(); // a reply names another pace
    this.#unansweredCount += 1;
    const request: Request = {
      shard_id: this.shardId,
      request_id: this.requestId,
      renewal: this.#renewal,
      waited_ms: Math.floor(nowMs - this.#begunAtMs),
      ...(this.maxConcurrency === null ? {} : { max_concurrency: this.maxConcurrency }),
      priority: this.priority,
      managed: true,
      ...(this.#client === "" ? {} : { client: this.#client }),
      ...(this.#source === undefined || this.#askedUs === undefined
        ? {}
        : { source: this.#source.token, asked_us: this.#askedUs }),
    };
    return { kind: "sendRequest", bucket: this.#bucket(), request };
  }

  /**
   * Renew soon, those near their turn first: a fleet that renews at once is a burst that is not answered.
   *
   * A renewal that is due sooner stays: a connection that is lost again and again does not put it off for ever.
   */
  #reconnected(jitter: number, waitedMs: number, nowMs: number): void {
    if (this.state !== "asking" || this.#begunAtMs === null) return;
    this.#unansweredCount = 0;
    let waitMs = Math.min(SPREAD_MAX_MS, waitedMs) * jitter;
    if (this.#position !== null) {
      const rank = (this.#position - 1) * (this.maxConcurrency ?? 1);
      waitMs = (Math.min(SPREAD_MAX_MS, rank * SPREAD_STEP_MS) * (1 + jitter)) / 2;
    }
    this.#renewAtMs = Math.min(this.#renewAtMs ?? Infinity, nowMs + waitMs);
  }

  /** How long to wait for the reply before the next renewal. */
  #unansweredWaitMs(): number {
    const mostMs =
      this.#intervalMs === null ? RENEW_MAX_MS : Math.min(RENEW_MAX_MS, Math.max(QUEUED_BOUND_MS, this.#intervalMs * 1.5));
    const boundMs = Math.min(this.#paceMs * 2 ** Math.min(this.#unansweredCount, DOUBLINGS_MAX), mostMs);
    return this.#between(Math.min(this.#paceMs / FLOOR_SHARE, boundMs), boundMs);
  }

  /** From what the refusal demands to twice that, doubled with each refusal in a row, up to 60 s; never in step. */
  #refusedWaitMs(retryAfterMs: number): number {
    const waitMs = Math.min(retryAfterMs, RENEW_MAX_MS);
    this.#refusedCount += 1;
    const boundMs = Math.min(waitMs * 2 ** Math.min(this.#refusedCount, DOUBLINGS_MAX), RENEW_MAX_MS);
    return this.#between(waitMs, Math.max(boundMs, waitMs * 1.2));
  }

  #between(leastMs: number, mostMs: number): number {
    return leastMs + (mostMs - leastMs) * this.#jitter();
  }

  #bucket(): number {
    return this.shardId % (this.maxConcurrency ?? 1);
  }

  #askOn(nowMs: number): void {
    this.state = "asking";
    this.#renewAtMs = nowMs;
  }

  #decide(outcome: Outcome): RequesterAction[] {
    if (this.#held === null) return [];
    const { grantId, answerTo } = this.#held;
    this.#held = null;
    this.#remember(grantId, outcome);
    return [{ kind: "sendAnswer", to: answerTo, outcome }];
  }

  #remember(grantId: string, outcome: Outcome): void {
    this.#decided.set(grantId, outcome);
    const [oldest] = this.#decided.keys();
    if (this.#decided.size > GRANTS_REMEMBERED && oldest !== undefined) this.#decided.delete(oldest);
  }

  #withdraw(): RequesterAction[] {
    if (this.state === "over") return [];
    this.#end();
    return this.#renewal < 0 ? [] : [{ kind: "sendCancel", bucket: this.#bucket(), requestId: this.requestId }];
  }

  #end(): void {
    this.state = "over";
    this.#renewAtMs = this.#nearAtMs = null;
  }

  #report(progress: Progress, problem = ""): RequesterAction[] {
    this.#progress = progress;
    return [{ kind: "reportProgress", progress, problem }];
  }
}
