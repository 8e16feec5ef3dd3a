//! The queue that twilight's shards wait in.

use std::fmt;
use std::sync::Arc;

use tokio::sync::{oneshot, watch};
use twilight_gateway_queue::Queue;
use twilight_model::gateway::event::Event;

use crate::core::wire::Subjects;
use crate::core::Ns;
use crate::desk::{Desk, Parts};
use crate::edge::{supervise, Shared};
use crate::settings::{Settings, SettingsError};

/// One queue for the shards of a bot in all its processes, kept by coordinators on NATS.
///
/// Clone it for each shard: the clones are one queue with one connection. When the last one is dropped, every request
/// is withdrawn and the connection closed.
///
/// See the [crate] for how near the answer to a grant comes to the IDENTIFY of the shard.
#[derive(Clone)]
pub struct NatsQueue {
    handle: Arc<Handle>,
}

/// Its end ends the task.
struct Handle {
    shared: Arc<Shared>,
    subjects: Subjects,
    ended: watch::Receiver<()>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.at_desk(Desk::close);
        self.shared.wake();
    }
}

impl NatsQueue {
    /// Makes a queue at `nats://host:port`, with the prefix `identify`. It does not wait for NATS: the shards do.
    ///
    /// # Errors
    ///
    /// An address can never work.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn connect(servers: &str) -> Result<Self, SettingsError> {
        Settings::new(servers).map(Self::new)
    }

    /// Makes a queue from the environment; [`Settings::from_env`] says which variables are read.
    ///
    /// # Errors
    ///
    /// A variable can never work, or `NATS_URL` is not set.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn from_env() -> Result<Self, SettingsError> {
        Settings::from_env().map(Self::new)
    }

    /// Makes a queue from settings.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let parts = Parts {
            subjects: settings.subjects.clone(),
            client: settings.client.clone(),
            servers: settings.shown(),
            keep_ns: Ns::try_from(settings.keep_place_for.as_nanos()).unwrap_or(Ns::MAX / 2),
            subscribe_again_ns: Ns::try_from(settings.subscribe_again_after.as_nanos()).unwrap_or(Ns::MAX / 2),
            new_id: || format!("{:016x}", rand::random::<u64>()),
            jitter: rand::random,
        };
        let subjects = parts.subjects.clone();
        let shared = Arc::new(Shared::new(Desk::new(parts, crate::clock::now_ns())));
        let (running, ended) = watch::channel(());
        let task = supervise(shared.clone(), settings);
        tokio::spawn(async move {
            task.await;
            drop(running);
        });
        Self { handle: Arc::new(Handle { shared, subjects, ended }) }
    }

    /// Passes on what Discord answered: call it with each event of each shard.
    ///
    /// It looks at `Ready`, `Resumed` and `GatewayInvalidateSession` alone. The event types that a shard is asked for
    /// must contain these three.
    pub fn observe(&self, shard_id: u32, event: &Event) {
        match event {
            Event::Ready(_) => self.ready(shard_id),
            Event::Resumed => self.at_desk(|desk, _| desk.resumed(shard_id)),
            Event::GatewayInvalidateSession(_) => self.invalid_session(shard_id),
            _ => {}
        }
    }

    /// Discord sent READY to this shard just now: its bucket opens a window later, without the margin.
    ///
    /// If the shard has to identify again later, its session was lost, and it goes first (priority 1).
    pub fn ready(&self, shard_id: u32) {
        self.at_desk(|desk, _| desk.ready(shard_id));
    }

    /// Discord sent Invalid Session to this shard just now.
    ///
    /// In answer to an IDENTIFY it widens the margin of the bucket. In answer to a RESUME, or to a live session, it
    /// is not reported. In either case the shard asks no sooner than 1 to 5 s later, as Discord demands.
    pub fn invalid_session(&self, shard_id: u32) {
        self.at_desk(|desk, now_ns| desk.invalid_session(shard_id, now_ns));
    }

    /// Withdraws this shard's request at once, such as for a shard that is closed for good. The receiver is not
    /// resolved. Without it the request is withdrawn some time after the receiver was dropped, see
    /// [`Settings::keep_place_for`].
    pub fn withdraw(&self, shard_id: u32) {
        self.at_desk(|desk, now_ns| desk.withdraw(shard_id, now_ns));
    }

    /// Withdraws every request, and returns when that is sent, within seconds. Call it before the runtime ends.
    ///
    /// A shard that waits goes on waiting: close it, too.
    pub async fn close(&self) {
        self.at_desk(Desk::close);
        let mut ended = self.handle.ended.clone();
        while ended.changed().await.is_ok() {}
    }

    fn at_desk<R>(&self, work: impl FnOnce(&mut Desk, Ns) -> R) -> R {
        let done = self.handle.shared.at_desk(work);
        self.handle.shared.wake();
        done
    }
}

impl Queue for NatsQueue {
    fn enqueue(&self, id: u32) -> oneshot::Receiver<()> {
        self.at_desk(|desk, now_ns| desk.enqueue(id, now_ns))
    }
}

impl fmt::Debug for NatsQueue {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = self.handle.subjects.prefix();
        formatter.debug_struct("NatsQueue").field("prefix", &prefix).finish_non_exhaustive()
    }
}
