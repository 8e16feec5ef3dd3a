/** Decides when to look for coordinators after NATS has reported that none is connected. It neither sends nor waits. */

/** The longest pause between two probes; each is half of it at the least. */
const PROBE_MS = 2_000;

/** The pause doubles up to this while probes are answered and requests are not. */
const PROBE_MAX_MS = 60_000;

/** Whether NATS reports that no coordinator is connected, and when the one probe of the process is sent. */
export class Absence {
  readonly #jitter: () => number;
  #probeAtMs: number | null = null;
  #pauseMs = PROBE_MS;

  /** @param jitter a random number from 0 to 1 at each call. */
  constructor(jitter: () => number) {
    this.#jitter = jitter;
  }

  /** NATS replied 503 to a request or a probe. */
  noResponders(nowMs: number): void {
    if (this.#probeAtMs === null) this.#schedule(nowMs);
  }

  /** Whether to send a probe now; the next one is scheduled. */
  isDue(nowMs: number): boolean {
    if (this.#probeAtMs === null || nowMs < this.#probeAtMs) return false;
    this.#schedule(nowMs);
    return true;
  }

  /** A coordinator replied to a probe; return whether that ends an absence: all requests renew. */
  probeAnswered(): boolean {
    if (this.#probeAtMs === null) return false;
    this.#probeAtMs = null;
    this.#pauseMs = Math.min(2 * this.#pauseMs, PROBE_MAX_MS);
    return true;
  }

  /** A coordinator replied to a request; return whether that ends an absence: all requests renew. */
  requestAnswered(): boolean {
    const isOver = this.#probeAtMs !== null;
    this.#probeAtMs = null;
    this.#pauseMs = PROBE_MS;
    return isOver;
  }

  #schedule(nowMs: number): void {
    this.#probeAtMs = nowMs + (this.#pauseMs / 2) * (1 + this.#jitter());
  }
}
