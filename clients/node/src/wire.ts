/** The contract on the wire (docs/protocol.md): subjects and messages. It holds no state and sends nothing. */

/** A larger reply is not read. */
export const REPLY_BYTES_MAX = 16_384;

/** UTF-8 bytes of a client's name in a request. */
const CLIENT_BYTES_MAX = 128;

/** What every JSON library carries exactly. */
const INT_MAX = 2 ** 53;

const BUCKETS_MAX = 4_096;
const MESSAGE_MAX = 1_024;
const PREFIX = /^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$/;
const TOKEN = /^[A-Za-z0-9_-]{1,64}$/;

/** What became of a grant. */
export type Outcome = "identified" | "declined" | "ready" | "rejected";

/**
 * Why a shard waits. `no_answer` is the client's own: NATS is away, or no coordinator answers.
 *
 * A coordinator of a later version may send a reason that is not listed here.
 */
export type Reason =
  | "window"
  | "session_limit"
  | "crash_loop"
  | "limits_unknown"
  | "paused"
  | "ended"
  | "no_answer"
  | "overloaded"
  | "timeout"
  | "wrong_bucket"
  | "bad_request"
  | (string & {});

/** A request for a turn, or its renewal. */
export interface Request {
  shard_id: number;
  request_id: string;
  renewal: number;
  waited_ms: number;
  max_concurrency?: number;
  priority: number;
  managed: true;
  client?: string;
  source?: string;
  asked_us?: number;
}

/** The turn. `use_within_ms` counts from the first sending of the renewal that is echoed. */
export interface Granted {
  status: "granted";
  shard_id: number;
  bucket: number;
  request_id: string;
  grant_id: string;
  renewal: number;
  use_within_ms: number;
  waited_ms: number;
  remaining: number | null;
  max_concurrency: number;
}

/** Where a request stands, and when to renew it; 0 means now. */
export interface Queued {
  status: "queued";
  request_id: string;
  position: number;
  eta_ms: number | null;
  renew_in_ms: number;
  reason: Reason;
  max_concurrency: number | null;
}

/** Final for the coordinators; the shard asks again, differently or later. */
export interface Refused {
  status: "refused";
  code: Reason;
  message: string;
  request_id: string | null;
  max_concurrency: number | null;
  retry_after_ms: number | null;
}

/** Any reply to a request. */
export type Reply = Granted | Queued | Refused;

/** The subjects of one prefix. */
export class Subjects {
  readonly prefix: string;

  /** @throws RangeError the prefix is no NATS subject of plain tokens. */
  constructor(prefix = "identify") {
    if (!PREFIX.test(prefix)) {
      throw new RangeError("the prefix has letters, digits, _ and -, separated by dots, as in bots.alpha.identify");
    }
    this.prefix = prefix;
  }

  /** Ask for a turn, and renew the request. */
  request(bucket: number): string {
    return `${this.prefix}.request.${bucket}`;
  }

  /** Answer a grant: the reply subject of the grant's message. */
  confirm(bucket: number, grantId: string): string {
    return `${this.prefix}.confirm.${bucket}.${grantId}`;
  }

  /** Withdraw a request. */
  cancel(bucket: number): string {
    return `${this.prefix}.cancel.${bucket}`;
  }

  /** The limits, as a coordinator knows them. */
  get info(): string {
    return `${this.prefix}.info`;
  }
}

/** Cut a name for people to what a request may carry. */
export function clientName(name: string): string {
  const bytes = new TextEncoder().encode(name).subarray(0, CLIENT_BYTES_MAX);
  return new TextDecoder().decode(bytes, { stream: true }); // `stream` leaves out a character that was cut
}

/**
 * Read a reply.
 *
 * @throws Error it is none of this contract; the message says why.
 */
export function decodeReply(payload: Uint8Array): Reply {
  if (payload.length > REPLY_BYTES_MAX) {
    throw new Error(`it has ${payload.length} bytes; a reply has ${REPLY_BYTES_MAX} at most`);
  }
  const body = new Fields(JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(payload)));
  const status = body.text("status", MESSAGE_MAX);
  switch (status) {
    case "granted":
      return {
        status,
        shard_id: body.natural("shard_id"),
        bucket: body.natural("bucket"),
        request_id: body.token("request_id"),
        grant_id: body.token("grant_id"),
        renewal: body.natural("renewal"),
        use_within_ms: body.natural("use_within_ms"),
        waited_ms: body.natural("waited_ms"),
        remaining: body.optional("remaining", () => body.natural("remaining")),
        max_concurrency: body.buckets(),
      };
    case "queued":
      return {
        status,
        request_id: body.token("request_id"),
        position: body.integer("position", 1, INT_MAX),
        eta_ms: body.optional("eta_ms", () => body.natural("eta_ms")),
        renew_in_ms: body.natural("renew_in_ms"),
        reason: body.text("reason", MESSAGE_MAX),
        max_concurrency: body.optional("max_concurrency", () => body.buckets()),
      };
    case "refused":
      return {
        status,
        code: body.text("code", MESSAGE_MAX),
        message: body.text("message", MESSAGE_MAX),
        request_id: body.optional("request_id", () => body.token("request_id")),
        max_concurrency: body.optional("max_concurrency", () => body.buckets()),
        retry_after_ms: body.optional("retry_after_ms", () => body.natural("retry_after_ms")),
      };
    default:
      throw new Error("its status is none of granted, queued, refused");
  }
}

/** Return today's max_concurrency of a reply to `info`, or null where it has none that can be used. */
export function maxConcurrencyOf(info: Uint8Array): number | null {
  try {
    const body = new Fields(JSON.parse(new TextDecoder().decode(info)));
    return body.optional("max_concurrency", () => body.buckets());
  } catch {
    return null; // requests are answered with it
  }
}

/** Reads the fields of one message; each reader throws an Error that names the field. */
class Fields {
  readonly #values: Record<string, unknown>;

  constructor(body: unknown) {
    if (typeof body !== "object" || body === null || Array.isArray(body)) throw new Error("it is no JSON object");
    this.#values = body as Record<string, unknown>;
  }

  integer(name: string, least: number, most: number): number {
    const value = this.#values[name];
    if (typeof value !== "number" || !Number.isInteger(value) || value < least || value > most) {
      throw new Error(`${name} is no integer from ${least} to ${most}`);
    }
    return value;
  }

  natural(name: string): number {
    return this.integer(name, 0, INT_MAX);
  }

  buckets(): number {
    return this.integer("max_concurrency", 1, BUCKETS_MAX);
  }

  text(name: string, most: number): string {
    const value = this.#values[name];
    if (typeof value !== "string" || value.length > most) {
      throw new Error(`${name} is no text of up to ${most} characters`);
    }
    return value;
  }

  token(name: string): string {
    const value = this.text(name, MESSAGE_MAX);
    if (!TOKEN.test(value)) throw new Error(`${name} is no id of 1 to 64 letters, digits, _ and -`);
    return value;
  }

  optional<T>(name: string, read: () => T): T | null {
    return this.#values[name] === undefined || this.#values[name] === null ? null : read();
  }
}
