//! The client's part of the wire contract, as pure state machines: no I/O, no clock, no randomness of their own.
//!
//! The contract is `docs/protocol.md` of the repository. The tests play the test vectors that the project ships.

pub mod absence;
pub mod requester;
pub mod wire;

/// Nanoseconds of a monotonic clock of this process.
pub type Ns = u64;

/// Nanoseconds in a millisecond.
pub const NS_PER_MS: Ns = 1_000_000;

/// Nanoseconds in a second.
pub const NS_PER_S: Ns = 1_000_000_000;

/// Returns a random number from 0 (included) to 1 (excluded), anew at each call.
pub type Jitter = fn() -> f64;

/// Returns a duration from `min_ns` to `max_ns`, drawn with `jitter`.
pub(crate) fn between(min_ns: Ns, max_ns: Ns, jitter: Jitter) -> Ns {
    min_ns + share(max_ns.saturating_sub(min_ns), jitter())
}

/// Returns a share of a duration.
#[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, clippy::cast_sign_loss)] // durations are below 2^53 ns (104 days), and a share is at least 0
pub(crate) fn share(duration_ns: Ns, part: f64) -> Ns {
    (duration_ns as f64 * part) as Ns
}
