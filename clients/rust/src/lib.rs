//! One IDENTIFY queue for all twilight shards of a Discord bot, whatever process or machine they run in, kept by the
//! coordinators of nats-identify on NATS. Other processes of the same bot may be in Python.
//!
//! [`NatsQueue`] implements [`twilight_gateway_queue::Queue`]. See `README.md` beside the crate for how to join.
//!
//! # When a turn is handed over
//!
//! The contract demands that a client looks at the clock right before IDENTIFY leaves, and answers `identified` at once
//! after it. twilight sends IDENTIFY itself, when it is next polled after its receiver resolved; the queue does not see
//! that. A shard that is not polled for a while, since its task handles an event, would send a turn that has expired.
//!
//! So the queue does not resolve the receiver when the grant arrives. It drops the sender, and by the contract of
//! [`Queue`](twilight_gateway_queue::Queue) the shard then calls `enqueue` again: twilight-gateway 0.18 does that inside
//! the poll in which it receives the end, right before it would send. The queue answers with a receiver that is closed
//! already. If the shard calls once more within a millisecond, it is polled at this moment: no new connection to
//! Discord opens so fast. Now the queue looks at the clock. In time, it decides `identified` and returns a receiver that
//! is resolved already, so that the same poll writes IDENTIFY to the socket. Late, it answers `declined`, and the shard
//! waits on.
//!
//! So between the decision and the write there are no wait and no code of the bot, but for a socket that takes no bytes
//! or a command rate limit of the shard that is used up before its first IDENTIFY. `identified` is published by another
//! task at the same time: it may leave microseconds before IDENTIFY. The margin of the coordinators (0.2 s at first) is
//! a thousand times that.
//!
//! A shard that is not polled until the grant has expired gets none: the queue declines, and the turn goes on to the next.
//! It asks for another turn when the shard calls, at the place of the shard: a shard that is busy for long does not hold
//! the bucket again and again. A receiver that is dropped, since the connection to Discord was lost, keeps its place for
//! [a while](Settings::keep_place_for). A grant that arrives meanwhile waits for the next connection while it is valid.
//!
//! Other code than twilight's may use the queue as well; it must call `enqueue` again where the receiver is closed:
//!
//! ```no_run
//! # use nats_identify::NatsQueue;
//! # use twilight_gateway_queue::Queue;
//! # async fn turn(queue: &NatsQueue, shard_id: u32) {
//! while queue.enqueue(shard_id).await.is_err() {}
//! // Send IDENTIFY now, before anything else is awaited.
//! # }
//! ```
//!
//! # What it never does
//!
//! Without NATS, without a coordinator, and after any refusal the shards wait: no failure is a permission. After
//! [`NatsQueue::close`] no receiver resolves. Troubles are logged by `tracing` at level `WARN`, once when they begin,
//! each 30 s while they last, and once when they are over.

pub mod core;

mod clock;
mod desk;
mod edge;
mod queue;
mod settings;
mod trouble;

pub use queue::NatsQueue;
pub use settings::{Settings, SettingsError};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
