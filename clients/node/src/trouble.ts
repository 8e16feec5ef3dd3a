/** What the bot's operator is told: each trouble once when it begins, each 30 s while it lasts, and once at its end. */

/** Takes one line for the operator; there is no secret in it. */
export type Log = (line: string) => void;

/** The shortest time between two lines about one trouble, also where it comes and goes. */
const REPEAT_MS = 30_000;

/** A connection that is back within this, at another server of a cluster, is not logged. */
const BLIP_MS = 1_000;

const SHOWN_MAX = 300;

/** Return text from outside on one line, without control characters, and bounded. */
export function printable(text: string): string {
  return text.replace(/[\p{C}\p{Zl}\p{Zp}]+/gu, "?").slice(0, SHOWN_MAX);
}

/** Return what an error says; credentials in an address are left out. */
export function whyOf(error: unknown): string {
  const text = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  return printable(text.replace(/\/\/[^/\s]*@/g, "//"));
}

/** One thing that can be wrong. */
export class Trouble {
  #sinceMs: number | null = null;
  #saidAtMs: number | null = null;
  #isSaid = false;

  /** The trouble is there; return for how many milliseconds, if a line is due, else null. */
  note(nowMs: number): number | null {
    this.#sinceMs ??= nowMs;
    if (this.#saidAtMs !== null && nowMs - this.#saidAtMs < REPEAT_MS) return null;
    this.#saidAtMs = nowMs;
    this.#isSaid = true;
    return nowMs - this.#sinceMs;
  }

  /** Nothing is wrong; return how long the trouble lasted, if it was logged and its end was not, else null. */
  over(nowMs: number): number | null {
    const lastedMs = this.#sinceMs !== null && this.#isSaid ? nowMs - this.#sinceMs : null;
    this.#sinceMs = null;
    this.#isSaid = false;
    return lastedMs;
  }
}

/** The log of one queue's connection. */
export class OutageLog {
  readonly #log: Log;
  readonly #where: string;
  readonly #requests: string;
  readonly #away = new Trouble();
  readonly #unanswered = new Trouble();
  readonly #unusable = new Trouble();
  readonly #errors = new Trouble();
  #why = "";
  #isThere = false;
  #sinceMs: number | null = null;

  /**
   * @param where the NATS servers, without credentials.
   * @param requests the subject that coordinators subscribe to.
   */
  constructor(log: Log, where: string, requests: string) {
    this.#log = log;
    this.#where = where;
    this.#requests = requests;
  }

  /** Keep why the connection failed; `connection` says so, if it is not back by then. */
  failed(error: unknown): void {
    this.#why = whyOf(error);
  }

  /** Log an error that ends no connection, such as a permission that is missing. */
  error(error: unknown, nowMs: number): void {
    if (this.#errors.note(nowMs) !== null) this.#log(`NATS at ${this.#where}: ${whyOf(error)}`);
  }

  /** Take in whether NATS is connected; return for how many milliseconds it has been so. */
  connection(isThere: boolean, nowMs: number): number {
    if (isThere !== this.#isThere || this.#sinceMs === null) {
      this.#isThere = isThere;
      this.#sinceMs = nowMs;
    }
    const lastsMs = nowMs - this.#sinceMs;
    if (!isThere && lastsMs >= BLIP_MS && this.#away.note(nowMs) !== null) {
      const why = this.#why === "" ? "" : ` (${this.#why})`;
      this.#log(`NATS at ${this.#where} is away${why}; the shards wait`);
    }
    const awayMs = isThere ? this.#away.over(nowMs) : null;
    if (awayMs !== null) this.#log(`NATS is back: connected to ${this.#where} after ${seconds(awayMs)}`);
    return lastsMs;
  }

  /** Take in that no coordinator answers, although NATS is there. `why`: how that is known. */
  noCoordinator(why: string, nowMs: number): void {
    if (this.#unanswered.note(nowMs) === null) return;
    this.#log(
      `no coordinator answers on ${this.#requests} at ${this.#where}: ${why}. Is one running, with this prefix ` +
        "(IDENTIFY_PREFIX) and in this NATS account? The shards wait",
    );
  }

  /** Take in that a coordinator has answered. */
  coordinatorAnswers(nowMs: number): void {
    const lastedMs = this.#unanswered.over(nowMs);
    if (lastedMs !== null) this.#log(`a coordinator answers again, after ${seconds(lastedMs)}`);
  }

  /** Log that a reply was dropped. */
  unusableReply(error: unknown, nowMs: number): void {
    if (this.#unusable.note(nowMs) === null) return;
    this.#log(
      `a reply at ${this.#where} was dropped, as others may be: ${whyOf(error)}. Is a coordinator of another version ` +
        "running there, or does another client publish to the inboxes of this bot? The shards wait for one that can be used",
    );
  }
}

function seconds(ms: number): string {
  return `${Math.round(ms / 1_000)} s`;
}
