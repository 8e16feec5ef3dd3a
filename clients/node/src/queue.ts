/**
 * The queue of a bot's shards, kept by coordinators on NATS. It carries messages and keeps no schedule.
 *
 * While NATS or every coordinator is away its shards wait: no turn is granted, and nothing is thrown into a bot.
 */

import { randomBytes } from "node:crypto";
import { hostname } from "node:os";
import { setTimeout as pause } from "node:timers/promises";
import { connect, createInbox, type Msg, type NatsConnection, type Subscription } from "@nats-io/transport-node";
import { Absence } from "./absence.js";
import { type Clock, nowMs } from "./clock.js";
import { type ConnectOptions, connectOptions, type Environment, type NatsOptions, optionsFromEnvironment } from "./environment.js";
import { type Progress, Requester, type RequesterAction, type RequesterEvent, Source } from "./requester.js";
import { type Log, OutageLog, printable, Trouble, whyOf } from "./trouble.js";
import { QueueClosedError, Turn, type TurnHost } from "./turn.js";
import { clientName, decodeReply, maxConcurrencyOf, type Outcome, type Reply, Subjects } from "./wire.js";

/** Messages that wait for the connection at most; then the oldest are dropped, and renewals replace them. */
const OUTBOX_MAX = 10_000;

/** Ended requests that are kept at most, to answer copies of their grants. */
const ENDED_MAX = 1_024;

/** Interval of the checks for a connection, and for a reply to each request. */
const LOOK_MS = 1_000;

/** A shard is notified when NATS is away, or its request unanswered, for this long: with the check, within 5 s. */
const ANSWER_WITHIN_MS = 3_000;

/** Unanswered requests are logged after this; a standby takes over from a dead leader in less. */
const SILENCE_MS = 5_000;

/** A refused subscription is tried again at this interval: the operator may have mended the permission. */
const SUBSCRIBE_AGAIN_MS = 30_000;

/** How long to wait for the limits before requests are sent without them. */
const INFO_TIMEOUT_MS = 1_000;

/** The longest that `close` waits for NATS. */
const CLOSE_WITHIN_MS = 4_000;

/** The longest that a timer runs: `setTimeout` takes a longer one than 24 days for none at all. */
const TIMER_MAX_MS = 60_000;

/** The last token of a probe's reply subject; a request has its random id there. */
const PROBE = "info";

const PRIORITY_MAX = 10;

/** How the connection behaves: it is tried again for ever, and a server that hangs is noticed within 30 s. */
const BEHAVIOUR = {
  maxReconnectAttempts: -1,
  reconnectTimeWait: 250,
  pingInterval: 10_000,
  timeout: 2_000,
  ignoreAuthErrorAbort: true, // else a login that is refused for a moment ends the attempts
};
const RETRY_MS = 250;

export interface QueueOptions extends NatsOptions {
  /** The bot's subjects, `IDENTIFY_PREFIX` of its coordinators. */
  prefix?: string;
  /** A name for people, such as the pod; the host's by default. */
  client?: string;
  /** Takes each line for the operator; by default they go to `console.warn`. */
  log?: Log;
  /** For tests. */
  clock?: Clock;
}

export interface TurnOptions {
  /** -10 … 10, higher goes first; convention: 1 for a session that was live and was lost. */
  priority?: number;
  /** Aborting it ends the wait and withdraws the request. After `granted` has returned it has no effect. */
  signal?: AbortSignal;
  /** Gets each new progress. What it throws is logged, and the wait goes on. */
  onProgress?: (progress: Progress) => void;
}

/** What the queue keeps of a turn that waits, or that holds a grant. */
interface Pending {
  readonly turn: Turn;
  readonly onProgress: ((progress: Progress) => void) | undefined;
  readonly unlink: () => void;
  timer: NodeJS.Timeout | null;
  /** When the oldest message without a reply was sent; null: none is. */
  unansweredSinceMs: number | null;
  /** The shard has been notified that no reply comes. */
  isSilent: boolean;
}

/**
 * One queue for the shards of a bot in all its processes.
 *
 * It connects at once, keeps the process running until `close`, and waits for NATS as long as that takes.
 *
 * ```ts
 * const queue = new IdentifyQueue({ servers: "nats://127.0.0.1:4222" });
 * const turn = queue.turn(shardId);
 * await turn.granted();
 * ```
 */
export class IdentifyQueue {
  readonly #subjects: Subjects;
  readonly #options: ConnectOptions;
  readonly #client: string;
  readonly #log: Log;
  readonly #clock: Clock;
  readonly #outages: OutageLog;
  readonly #absence = new Absence(Math.random);
  readonly #refusals = new Map<string, Trouble>();
  readonly #host: TurnHost;
  readonly #source: Source;
  readonly #pending = new Map<string, Pending>();
  readonly #ended = new Map<string, Requester>();
  readonly #looking: NodeJS.Timeout;
  readonly #closing = new AbortController();
  readonly #running: Promise<void>;
  #outbox: { subject: string; payload: string }[] = [];
  #maxConcurrency: number | null = null;
  #inbox = "";
  #subscription: Subscription | null = null; // to the inbox; nats.js closes it where the server refuses it
  #subscribedAtMs = 0;
  #isDeaf = false; // it was refused, and nothing has arrived since
  #connection: NatsConnection | null = null;
  #isOpen = false; // connected, and subscribed to the inbox

  /** @throws WrongOptionError, RangeError the options can never work. */
  constructor(options: QueueOptions = {}) {
    this.#subjects = new Subjects(options.prefix);
    this.#options = connectOptions(options);
    this.#client = clientName(options.client ?? hostname());
    this.#log = harmless(options.log ?? ((line) => console.warn(`nats-identify: ${line}`)));
    this.#clock = options.clock ?? nowMs;
    this.#outages = new OutageLog(this.#log, this.#options.servers.join(", "), this.#subjects.request(0).replace(/0$/, "*"));
    this.#source = new Source(randomBytes(8).toString("hex"), this.#clock());
    this.#host = {
      clock: this.#clock,
      step: (turn, event) => this.#stepTurn(turn, event),
      answer: (to, outcome) => this.#answer(to, outcome),
      log: (line) => this.#log(line),
    };
    this.#looking = setInterval(() => this.#look(), LOOK_MS);
    this.#running = this.#run();
  }

  /**
   * Return the queue that NATS_URL, IDENTIFY_PREFIX and the variables of the login name.
   *
   * @throws WrongOptionError a variable makes no sense, or NATS_URL is not set.
   */
  static fromEnvironment(options: QueueOptions = {}, environment: Environment = process.env): IdentifyQueue {
    return new IdentifyQueue({ ...optionsFromEnvironment(environment), ...options });
  }

  /**
   * Ask for a turn of one shard.
   *
   * @throws RangeError no such shard or priority can be asked for.
   */
  turn(shardId: number, { priority = 0, signal, onProgress }: TurnOptions = {}): Turn {
    if (!Number.isSafeInteger(shardId) || shardId < 0) throw new RangeError("shardId: give a whole number from 0");
    if (!Number.isInteger(priority) || Math.abs(priority) > PRIORITY_MAX) {
      throw new RangeError(`priority: give a whole number from -${PRIORITY_MAX} to ${PRIORITY_MAX}`);
    }
    const turn = new Turn(this.#host, this.#requester(shardId, priority));
    if (this.isClosed || signal?.aborted === true) {
      turn.fail(this.isClosed ? new QueueClosedError() : signal?.reason);
      return turn;
    }
    const onAbort = (): void => turn.fail(signal?.reason);
    signal?.addEventListener("abort", onAbort, { once: true });
    const pending: Pending = {
      turn,
      onProgress,
      unlink: () => signal?.removeEventListener("abort", onAbort),
      timer: null,
      unansweredSinceMs: null,
      isSilent: false,
    };
    this.#pending.set(turn.requester.requestId, pending);
    this.#step(pending, { kind: "begin" });
    return turn;
  }

  get isClosed(): boolean {
    return this.#closing.signal.aborted;
  }

  /**
   * Withdraw every request, end every wait with a QueueClosedError, and close the connection, within some seconds.
   *
   * A grant that a shard holds is not changed: only the shard knows whether IDENTIFY was sent.
   */
  async close(): Promise<void> {
    if (this.isClosed) return await this.#running;
    this.#closing.abort();
    clearInterval(this.#looking);
    for (const pending of [...this.#pending.values()]) {
      pending.turn.fail(new QueueClosedError());
    }
    const connection = this.#connection;
    const isFlushed = new AbortController();
    const flushed = connection !== null && this.#isOpen ? connection.flush().catch(() => undefined) : Promise.resolve();
    await Promise.race([flushed, pause(CLOSE_WITHIN_MS / 2, undefined, { signal: isFlushed.signal }).catch(() => undefined)]);
    const closed = Promise.all([connection?.close().catch(() => undefined), this.#running]);
    await Promise.race([closed, pause(CLOSE_WITHIN_MS / 2, undefined, { signal: isFlushed.signal }).catch(() => undefined)]);
    isFlushed.abort(); // ends the timers of both
  }

  // --- the connection

  async #run(): Promise<void> {
    while (!this.isClosed) {
      try {
        const connection = await connect({ ...this.#options, ...BEHAVIOUR, name: `nats-identify ${this.#client}` });
        await this.#use(connection);
      } catch (error) {
        this.#outages.failed(error);
      }
      await pause(RETRY_MS, undefined, { signal: this.#closing.signal }).catch(() => undefined);
    }
  }

  /** Work with this connection until it is closed for good. */
  async #use(connection: NatsConnection): Promise<void> {
    if (this.isClosed) return await connection.close();
    this.#connection = connection;
    try {
      this.#inbox = createInbox(this.#options.inboxPrefix);
      this.#subscribe(connection);
      const statuses = connection.status();
      await this.#learnLimits(connection);
      if (!connection.isClosed()) this.#opened(connection);
      for await (const status of statuses) {
        if (status.type === "disconnect") this.#isOpen = false;
        if (status.type === "reconnect") this.#opened(connection);
        if (status.type === "error") this.#outages.error(status.error, this.#clock());
      }
      const error = await connection.closed();
      if (error) this.#outages.failed(error);
    } finally {
      this.#isOpen = false;
      this.#connection = this.#subscription = null;
    }
  }

  #subscribe(connection: NatsConnection): void {
    this.#subscribedAtMs = this.#clock();
    this.#subscription = connection.subscribe(`${this.#inbox}.*`, {
      callback: (error, message) => this.#onMessage(error, message),
    });
  }

  /** Subscribe anew where the server has refused it: nats.js makes no closed subscription again, at a reconnect neither. */
  #subscribeAgain(connection: NatsConnection): void {
    if (this.#subscription?.isClosed() !== true) return;
    this.#isDeaf = true;
    try {
      this.#subscribe(connection);
    } catch (error) {
      this.#outages.failed(error); // the connection is closed; another follows
    }
  }

  /** Requests that have no max_concurrency yet find their bucket by the coordinator's. */
  async #learnLimits(connection: NatsConnection): Promise<void> {
    try {
      const reply = await connection.request(this.#subjects.info, "", { timeout: INFO_TIMEOUT_MS });
      this.#maxConcurrency = maxConcurrencyOf(reply.data) ?? this.#maxConcurrency;
    } catch {
      return; // requests are answered with it
    }
    for (const { turn } of this.#pending.values()) turn.requester.maxConcurrency ??= this.#maxConcurrency;
  }

  #opened(connection: NatsConnection): void {
    this.#subscribeAgain(connection);
    this.#isOpen = true;
    const outbox = this.#outbox;
    this.#outbox = [];
    for (const { subject, payload } of outbox) this.#publish(subject, payload);
    this.#renewAll();
  }

  /** Let every request renew, spread over seconds: what was sent before may be lost. */
  #renewAll(): void {
    const now = this.#clock();
    const all = [...this.#pending.values()];
    const sinceMs = all.map(({ turn }) => turn.requester.unplacedSinceMs).filter((since) => since !== null);
    const waitedMs = sinceMs.reduce((longest, since) => Math.max(longest, now - since), 0);
    const jitter = Math.random();
    for (const pending of all) {
      pending.unansweredSinceMs = null; // it counts from the renewal that follows
      this.#step(pending, { kind: "reconnected", jitter, waitedMs });
    }
  }

  /** Answers and cancels wait for the connection; a request does not: the next renewal follows the reconnect. */
  #publish(subject: string, payload: string): void {
    if (this.#isOpen && this.#connection !== null) {
      try {
        this.#connection.publish(subject, payload);
        return;
      } catch (error) {
        this.#outages.failed(error); // it is closed; another follows
      }
    }
    this.#outbox.push({ subject, payload });
    if (this.#outbox.length > OUTBOX_MAX) this.#outbox.shift();
  }

  #publishRequest(subject: string, payload: string, inbox: string): void {
    if (!this.#isOpen || this.#connection === null) return;
    try {
      this.#connection.publish(subject, payload, { reply: `${this.#inbox}.${inbox}` });
    } catch (error) {
      this.#outages.failed(error);
    }
  }

  // --- what NATS calls

  #onMessage(error: Error | null, message: Msg): void {
    try {
      if (error !== null) this.#outages.error(error, this.#clock());
      else this.#read(message);
    } catch (unusable) {
      this.#outages.unusableReply(unusable, this.#clock());
    }
  }

  #read(message: Msg): void {
    const wasDeaf = this.#isDeaf; // then the renewals have backed off
    this.#isDeaf = false;
    const requestId = message.subject.slice(message.subject.lastIndexOf(".") + 1);
    const pending = this.#pending.get(requestId);
    if (message.headers !== undefined && message.headers.code !== 0) {
      this.#absence.noResponders(this.#clock());
      this.#outages.noCoordinator("none is connected", this.#clock());
      if (pending !== undefined) this.#noAnswer(pending);
      return;
    }
    if (requestId === PROBE) {
      if (this.#absence.probeAnswered() || wasDeaf) this.#renewAll();
      return;
    }
    const reply = this.#decode(message);
    this.#outages.coordinatorAnswers(this.#clock());
    if (this.#absence.requestAnswered() || wasDeaf) this.#renewAll();
    const event: RequesterEvent = { kind: "received", reply, answerTo: message.reply ?? "" };
    if (pending !== undefined) {
      pending.unansweredSinceMs = null;
      pending.isSilent = false;
      this.#step(pending, event);
      return;
    }
    const ended = this.#ended.get(requestId);
    for (const action of ended?.handle(event, this.#clock()) ?? []) {
      if (action.kind === "sendAnswer") this.#answer(action.to, action.outcome);
    }
  }

  /** A grant whose answer would go elsewhere is not used: a shard would publish to any subject that the sender chooses. */
  #decode(message: Msg): Reply {
    const reply = decodeReply(message.data);
    if (reply.status === "granted" && message.reply !== this.#subjects.confirm(reply.bucket, reply.grant_id)) {
      throw new Error("the reply subject of a grant is not its confirm subject");
    }
    return reply;
  }

  // --- the requests

  #requester(shardId: number, priority: number, anewCount = 0): Requester {
    return new Requester({
      shardId,
      requestId: randomBytes(8).toString("hex"),
      jitter: Math.random,
      maxConcurrency: this.#maxConcurrency,
      priority,
      client: this.#client,
      source: this.#source,
      anewCount,
    });
  }

  #stepTurn(turn: Turn, event: RequesterEvent): void {
    const pending = this.#pending.get(turn.requester.requestId);
    if (pending === undefined) return; // its request has ended
    this.#step(pending, event);
  }

  /** Pass an event to a requester, and carry out the actions that it returns. */
  #step(pending: Pending, event: RequesterEvent): void {
    const { turn } = pending;
    const { requester } = turn;
    for (const action of requester.handle(event, this.#clock())) this.#act(pending, action);
    this.#maxConcurrency = requester.maxConcurrency ?? this.#maxConcurrency;
    if (turn.requester !== requester) return; // another request has taken over, and was stepped
    if (pending.timer !== null) clearTimeout(pending.timer);
    pending.timer = null;
    if (requester.state === "over") {
      this.#pending.delete(requester.requestId);
      this.#remember(requester);
      pending.unlink();
      return;
    }
    const deadlineMs = requester.deadlineMs;
    if (deadlineMs === null) return;
    const waitMs = Math.min(Math.max(0, deadlineMs - this.#clock()), TIMER_MAX_MS);
    pending.timer = setTimeout(() => this.#step(pending, { kind: "tick" }), Math.ceil(waitMs));
  }

  #act(pending: Pending, action: RequesterAction): void {
    const { turn } = pending;
    switch (action.kind) {
      case "sendRequest":
        pending.unansweredSinceMs ??= this.#clock();
        this.#publishRequest(
          this.#subjects.request(action.bucket),
          JSON.stringify(action.request),
          action.request.request_id,
        );
        return;
      case "sendCancel":
        this.#publish(this.#subjects.cancel(action.bucket), JSON.stringify({ request_id: action.requestId }));
        return;
      case "sendAnswer":
        this.#answer(action.to, action.outcome);
        return;
      case "deliverGrant":
        turn.deliver({
          shardId: action.grant.shard_id,
          grantId: action.grant.grant_id,
          bucket: action.grant.bucket,
          maxConcurrency: action.grant.max_concurrency,
          useByMs: action.useByMs,
          waitedMs: action.grant.waited_ms,
          remaining: action.grant.remaining,
          answerTo: action.answerTo,
        });
        return;
      case "reportProgress":
        this.#progressed(pending, action.progress, action.problem);
        return;
      case "askAnew":
        this.#askAnew(pending, action.anewCount, action.pauseMs, action.message);
    }
  }

  #answer(to: string, outcome: Outcome): void {
    this.#publish(to, JSON.stringify({ outcome }));
  }

  /** Replace a request that has ended with a new one; the old one still declines late grants. */
  #askAnew(pending: Pending, anewCount: number, pauseMs: number, message: string): void {
    const { turn } = pending;
    const ended = turn.requester;
    this.#pending.delete(ended.requestId);
    this.#remember(ended);
    turn.requester = this.#requester(ended.shardId, ended.priority, anewCount);
    pending.unansweredSinceMs = null;
    pending.isSilent = false;
    this.#pending.set(turn.requester.requestId, pending);
    if (this.#trouble("ended").note(this.#clock()) !== null) {
      this.#log(
        `shard ${ended.shardId} waits: its request ended, and not by this process (${printable(message)}); it asks anew, ` +
          "at the end of its line; if no operator ended it, find the other client that uses the id or the cancel subject",
      );
    }
    this.#step(pending, { kind: "begin", pauseMs });
  }

  #remember(ended: Requester): void {
    this.#ended.set(ended.requestId, ended);
    const [oldest] = this.#ended.keys();
    if (this.#ended.size > ENDED_MAX && oldest !== undefined) this.#ended.delete(oldest);
  }

  // --- what people are told

  /** Log what is wrong, or over, and notify the shards that wait. */
  #look(): void {
    const now = this.#clock();
    const lastsMs = this.#outages.connection(this.#isOpen, now);
    if (!this.#isOpen) {
      if (lastsMs >= ANSWER_WITHIN_MS) this.#reportSilence(0);
      return;
    }
    this.#lookForRefusal(now);
    if (this.#absence.isDue(now)) this.#publishRequest(this.#subjects.info, "", PROBE);
    if (Math.min(this.#reportSilence(ANSWER_WITHIN_MS), lastsMs) >= SILENCE_MS) {
      this.#outages.noCoordinator("requests have no answer", now);
    }
  }

  /** Subscribe again after a while, and probe: the answer shows that the inbox is open. */
  #lookForRefusal(now: number): void {
    const connection = this.#connection;
    const isRefused = this.#subscription?.isClosed() === true;
    if (connection === null || !isRefused || now < this.#subscribedAtMs + SUBSCRIBE_AGAIN_MS) return;
    this.#subscribeAgain(connection);
    this.#publishRequest(this.#subjects.info, "", PROBE);
  }

  /** Notify the shards whose requests are unanswered for this long; return the longest such time. */
  #reportSilence(leastMs: number): number {
    const now = this.#clock();
    let longestMs = 0;
    for (const pending of this.#pending.values()) {
      const unansweredMs = pending.unansweredSinceMs === null ? 0 : now - pending.unansweredSinceMs;
      longestMs = Math.max(longestMs, unansweredMs);
      if (unansweredMs >= leastMs) this.#noAnswer(pending);
    }
    return longestMs;
  }

  #noAnswer(pending: Pending): void {
    if (pending.isSilent || pending.turn.requester.state !== "asking") return;
    pending.isSilent = true;
    this.#progressed(pending, { position: null, etaMs: null, reason: "no_answer", near: false }, "");
  }

  #progressed(pending: Pending, progress: Progress, problem: string): void {
    const { shardId } = pending.turn;
    if (problem !== "" && this.#trouble(progress.reason).note(this.#clock()) !== null) {
      this.#log(`shard ${shardId} waits: ${printable(problem)}`);
    }
    pending.turn.progressed(progress);
    try {
      pending.onProgress?.(progress);
    } catch (error) {
      this.#log(`onProgress of shard ${shardId} failed, and the wait goes on: ${whyOf(error)}`);
    }
  }

  /** One for each reason of the contract; reasons that are not known share one. */
  #trouble(reason: string): Trouble {
    const known = ["ended", "overloaded", "timeout", "wrong_bucket", "bad_request", "session_limit"];
    const kind = known.includes(reason) ? reason : "";
    const found = this.#refusals.get(kind) ?? new Trouble();
    this.#refusals.set(kind, found);
    return found;
  }
}

/** Return a log that throws nothing: it is called by timers and by nats.js, where an error would end the process. */
function harmless(log: Log): Log {
  return (line) => {
    try {
      log(line);
    } catch {
      // there is nowhere else to say it
    }
  };
}
