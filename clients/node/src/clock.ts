/** The one clock of this package: milliseconds that only grow, of this process alone. */

import { uptime } from "node:os";

/** Returns milliseconds, with fractions, that never go back. */
export type Clock = () => number;

/** How exact `os.uptime` is: hundredths of a second on Linux; elsewhere it may follow steps of the wall clock. */
const UPTIME_STEP_MS = process.platform === "linux" ? 50 : 2_000;

/**
 * Return a clock that also counts the time for which the machine was suspended.
 *
 * A grant ages while a laptop sleeps or a virtual machine is paused. Node's own clock (`CLOCK_MONOTONIC` on Linux) stops
 * then. The system's uptime goes on (`CLOCK_BOOTTIME`): what it is ahead is added.
 *
 * @param monotonicMs a monotonic clock, in milliseconds.
 * @param uptimeMs the time since the machine was started, in milliseconds, suspends included.
 */
export function clockThroughSuspend(monotonicMs: Clock, uptimeMs: Clock): Clock {
  const aheadAtFirstMs = uptimeMs() - monotonicMs();
  let suspendedMs = 0;
  return () => {
    const monotonic = monotonicMs();
    const aheadMs = uptimeMs() - monotonic - aheadAtFirstMs;
    if (aheadMs > suspendedMs + UPTIME_STEP_MS) suspendedMs = aheadMs;
    return monotonic + suspendedMs;
  };
}

/** The clock of the process. */
export const nowMs: Clock = clockThroughSuspend(
  () => performance.now(),
  () => uptime() * 1_000,
);
