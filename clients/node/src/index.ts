export { type Environment, type NatsOptions, optionsFromEnvironment, WrongOptionError } from "./environment.js";
export { IdentifyQueue, type QueueOptions, type TurnOptions } from "./queue.js";
export type { Progress } from "./requester.js";
export { identifyThrottler, type IdentifyThrottler, type ThrottlerOptions } from "./throttler.js";
export { type Grant, QueueClosedError, Turn } from "./turn.js";
export type { Reason } from "./wire.js";
