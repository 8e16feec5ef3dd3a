//! Carries the messages of one desk over NATS. It keeps one connection, opens it anew without end, and decides nothing.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Client, Message, Subscriber};
use futures_util::{FutureExt, StreamExt};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tracing::error;

use crate::clock::now_ns;
use crate::core::Ns;
use crate::desk::{Desk, Incoming, Outgoing};
use crate::settings::{Failure, Settings};

/// How often the connection is looked at, at least.
const LOOK: Duration = Duration::from_millis(250);

/// The longest that one message waits for room in the connection's buffer.
const PUBLISH_WITHIN: Duration = Duration::from_secs(2);

/// A server that does not take what was sent by then is not waited for at the end.
const FLUSH_WITHIN: Duration = Duration::from_secs(2);

/// Replies that are handled at once, at most: meanwhile no shard can call the queue.
const BATCH: usize = 256;

/// The pause before a task that ended by a defect is started again.
const RESTART_AFTER: Duration = Duration::from_secs(1);

/// What the handles of a queue and its task share.
pub(crate) struct Shared {
    desk: Mutex<Desk>,
    wake: Notify,
}

impl Shared {
    pub fn new(desk: Desk) -> Self {
        Self { desk: Mutex::new(desk), wake: Notify::new() }
    }

    /// Works at the desk. The clock is read under the lock: time never runs backwards there.
    pub fn at_desk<R>(&self, work: impl FnOnce(&mut Desk, Ns) -> R) -> R {
        let mut desk = self.desk.lock().unwrap_or_else(PoisonError::into_inner);
        work(&mut desk, now_ns())
    }

    /// Lets the task look at the desk now.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    fn is_closed(&self) -> bool {
        self.at_desk(|desk, _| desk.is_closed())
    }
}

/// Runs until the queue is closed. A defect that ends the task is logged, and it begins again: shards must not wait
/// for ever in silence.
pub(crate) async fn supervise(shared: Arc<Shared>, settings: Settings) {
    loop {
        match tokio::spawn(run(shared.clone(), settings.clone())).await {
            Err(defect) if defect.is_panic() && !shared.is_closed() => {
                error!("a defect stopped the queue; it begins again: {defect}");
                sleep(RESTART_AFTER).await;
            }
            _ => return,
        }
    }
}

async fn run(shared: Arc<Shared>, settings: Settings) {
    while let Some(opened) = unless_closed(&shared, settings.open()).await {
        let (why, pause) = match opened {
            Ok((client, failure)) => match serve(&shared, &client, &failure).await {
                Some(why) => (why, LOOK),
                None => return,
            },
            Err(failed) => failed,
        };
        shared.at_desk(|desk, now_ns| desk.disconnected(&why, now_ns));
        if unless_closed(&shared, sleep(pause)).await.is_none() {
            return;
        }
    }
}

/// Waits while NATS is away, and lets time pass at the desk. Returns `None` where the queue was closed before.
async fn unless_closed<T>(shared: &Shared, wanted: impl Future<Output = T>) -> Option<T> {
    tokio::pin!(wanted);
    while !shared.is_closed() {
        tokio::select! {
            done = &mut wanted => return Some(done),
            () = shared.wake.notified() => {}
            () = sleep(LOOK) => {}
        }
        shared.at_desk(Desk::tick);
    }
    None
}

/// Serves one client, which reconnects by itself, until the queue is closed. Returns why where the client ends before
/// that, which async-nats does not expect.
async fn serve(shared: &Shared, client: &Client, failure: &Failure) -> Option<String> {
    let inbox = client.new_inbox();
    let mut replies = match client.subscribe(format!("{inbox}.*")).await {
        Ok(replies) => replies,
        Err(why) => return Some(why.to_string()),
    };
    let mut connects = 0;
    loop {
        let is_connected = client.connection_state() == State::Connected;
        let count = client.statistics().connects.load(Ordering::Relaxed);
        let (messages, is_refused, is_closed, wait) = shared.at_desk(|desk, now_ns| {
            if !is_connected {
                desk.disconnected(&failure.why(), now_ns);
            } else if count != connects {
                connects = count;
                desk.connected(now_ns);
            }
            if let Some(what) = failure.take_complaint() {
                desk.complained(&what, now_ns);
            }
            if failure.take_inbox_refused() {
                desk.inbox_refused(now_ns);
            }
            desk.tick(now_ns);
            let is_refused = is_connected && desk.takes_subscribing(now_ns);
            let messages = if is_connected { desk.take_outbox() } else { VecDeque::new() };
            let deadline_ns = desk.next_deadline_ns().unwrap_or(Ns::MAX);
            let wait = Duration::from_nanos(deadline_ns.saturating_sub(now_ns));
            (messages, is_refused, desk.is_closed(), wait.min(LOOK))
        });
        if is_refused {
            replies = match client.subscribe(format!("{inbox}.*")).await {
                Ok(replies) => replies,
                Err(why) => return Some(why.to_string()),
            };
        }
        let unsent = publish(client, &inbox, messages).await;
        let all_sent = unsent.is_empty();
        shared.at_desk(|desk, _| desk.put_back(unsent));
        if is_closed {
            let _ = timeout(FLUSH_WITHIN, client.flush()).await;
            return None;
        }
        tokio::select! {
            message = replies.next() => match message {
                Some(message) => receive(shared, &message, &mut replies),
                None => return Some("the client ended; see the log of async_nats".to_owned()),
            },
            () = shared.wake.notified(), if all_sent => {}
            () = sleep(wait), if all_sent => {}
            () = sleep(LOOK), if !all_sent => {}
        }
    }
}

/// Publishes these messages; returns those that could not be.
async fn publish(client: &Client, inbox: &str, mut messages: VecDeque<Outgoing>) -> VecDeque<Outgoing> {
    while let Some(message) = messages.pop_front() {
        let Outgoing { subject, payload, reply_token } = message.clone();
        let payload = payload.into();
        let sent = match reply_token {
            Some(token) => {
                let reply = format!("{inbox}.{token}");
                timeout(PUBLISH_WITHIN, client.publish_with_reply(subject, reply, payload)).await
            }
            None => timeout(PUBLISH_WITHIN, client.publish(subject, payload)).await,
        };
        if !matches!(sent, Ok(Ok(()))) {
            messages.push_front(message);
            break;
        }
    }
    messages
}

/// Passes on a message, and those that have arrived with it.
fn receive(shared: &Shared, first: &Message, replies: &mut Subscriber) {
    shared.at_desk(|desk, now_ns| {
        pass_on(desk, first, now_ns);
        for _ in 0..BATCH {
            let Some(Some(message)) = replies.next().now_or_never() else { break };
            pass_on(desk, &message, now_ns);
        }
    });
}

fn pass_on(desk: &mut Desk, message: &Message, now_ns: Ns) {
    let headers = message.headers.as_ref();
    let is_status = message.status.is_some() || headers.is_some_and(|one| one.get("Status").is_some());
    let incoming = Incoming {
        token: message.subject.rsplit('.').next().unwrap_or_default(),
        payload: &message.payload,
        reply: message.reply.as_deref().unwrap_or_default(),
        is_status,
    };
    desk.received(&incoming, now_ns);
}

#[cfg(test)]
mod tests;
