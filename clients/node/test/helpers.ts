/** What the tests share: a clock that a test moves, replies, and a requester. */

import { Requester, type RequesterEvent, type RequesterOptions } from "../src/requester.js";
import { Turn, type TurnHost } from "../src/turn.js";
import type { Granted, Outcome, Queued, Refused } from "../src/wire.js";

export function requester(options: Partial<RequesterOptions> = {}): Requester {
  return new Requester({ shardId: 0, requestId: "a1", jitter: () => 0, maxConcurrency: 1, ...options });
}

export function granted(fields: Partial<Granted> = {}): Granted {
  return {
    status: "granted",
    shard_id: 0,
    bucket: 0,
    request_id: "a1",
    grant_id: "g1",
    renewal: 0,
    use_within_ms: 5_000,
    waited_ms: 0,
    remaining: 900,
    max_concurrency: 1,
    ...fields,
  };
}

export function queued(fields: Partial<Queued> = {}): Queued {
  return {
    status: "queued",
    request_id: "a1",
    position: 2,
    eta_ms: 60_000,
    renew_in_ms: 60_000,
    reason: "window",
    max_concurrency: 1,
    ...fields,
  };
}

export function refused(fields: Partial<Refused> = {}): Refused {
  return {
    status: "refused",
    code: "overloaded",
    message: "full",
    request_id: "a1",
    max_concurrency: null,
    retry_after_ms: null,
    ...fields,
  };
}

/** A host of turns, as the queue is: it plays the requesters with a clock of its own, and notes what would be sent. */
export class FakeHost implements TurnHost {
  nowMs = 0;
  readonly sent: string[] = [];
  readonly lines: string[] = [];
  readonly turns: Turn[] = [];
  readonly clock = (): number => this.nowMs;

  /** As `IdentifyQueue.turn`. */
  turn(shardId: number, { priority = 0 }: { priority?: number } = {}): Turn {
    const turn = new Turn(this, requester({ shardId, priority, requestId: `r${this.turns.length}` }));
    this.turns.push(turn);
    this.step(turn, { kind: "begin" });
    return turn;
  }

  /** Let the turn's grant arrive. */
  grant(turn: Turn, fields: Partial<Granted> = {}): void {
    const { shardId, requestId } = turn.requester;
    const grant = granted({ shard_id: shardId, request_id: requestId, ...fields });
    this.step(turn, { kind: "received", reply: grant, answerTo: grant.grant_id });
  }

  step(turn: Turn, event: RequesterEvent): void {
    for (const action of turn.requester.handle(event, this.nowMs)) {
      if (action.kind === "sendAnswer") this.answer(action.to, action.outcome);
      if (action.kind === "sendCancel") this.sent.push(`cancel ${action.requestId}`);
      if (action.kind === "sendRequest") this.sent.push(`request ${action.request.request_id}`);
      if (action.kind === "reportProgress") turn.progressed(action.progress);
      if (action.kind === "deliverGrant") {
        turn.deliver({
          shardId: turn.shardId,
          grantId: action.grant.grant_id,
          bucket: 0,
          maxConcurrency: 1,
          useByMs: action.useByMs,
          waitedMs: 0,
          remaining: null,
          answerTo: action.answerTo,
        });
      }
    }
  }

  answer(to: string, outcome: Outcome): void {
    this.sent.push(`${outcome} ${to}`);
  }

  log(line: string): void {
    this.lines.push(line);
  }
}

/** Let everything that waits for nothing but promises go on. */
export function settle(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
