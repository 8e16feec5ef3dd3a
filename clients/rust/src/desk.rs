//! The waiting shards of one queue object: which request belongs to which receiver, and when a turn is handed over.
//! Events in, messages out; it neither sends nor waits, and the caller passes the time.

use std::collections::{HashMap, VecDeque};

use tokio::sync::oneshot;
use tracing::warn;

use crate::core::absence::Absence;
use crate::core::requester::{Action, Asker, Event, Requester, Source, State};
use crate::core::wire::{decode_info, decode_reply, Cancel, Confirm, Outcome, Reply, Subjects};
use crate::core::{between, Jitter, Ns, NS_PER_MS, NS_PER_S};
use crate::trouble::Trouble;

/// Two calls for one shard within this come from one poll of it: no connection to Discord opens so fast.
const ONE_POLL_NS: Ns = NS_PER_MS;

/// A shard that was asked to call again, and does not: its task is busy, or it is gone. Nothing shows which. A busy one
/// sends Discord no heartbeat either, and has lost its connection by then.
const BUSY_NS: Ns = 300 * NS_PER_S;

/// Messages that wait for the connection at most; then the oldest are dropped, and renewals replace them.
const OUTBOX_MAX: usize = 10_000;

/// Ended requests that are kept at most, to answer copies of their grants.
const ENDED_MAX: usize = 1024;

/// How long to wait for the limits before requests are sent without them.
const LIMITS_WITHIN_NS: Ns = NS_PER_S;

/// Unanswered requests are logged after this; a standby takes over from a dead leader in less.
const SILENCE_NS: Ns = 5 * NS_PER_S;

/// A connection that is back within this, at another server of a cluster, is not logged.
const BLIP_NS: Ns = NS_PER_S;

/// After Invalid Session Discord wants a pause of 1 to 5 s, chosen at random, before the next IDENTIFY.
/// Source: <https://docs.discord.com/developers/events/gateway#invalid-session-event>
const INVALID_MIN_NS: Ns = NS_PER_S;
const INVALID_MAX_NS: Ns = 5 * NS_PER_S;

/// Kinds of refusals that are logged apart; the contract has six.
const REFUSALS_MAX: usize = 16;

/// Characters of a text from outside that are logged.
const SHOWN_MAX: usize = 200;

/// The last token of the reply subject of a message to `info`; a request has its id there.
pub(crate) const INFO_TOKEN: &str = "info";

/// A message to publish.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Outgoing {
    pub subject: String,
    pub payload: Vec<u8>,
    /// The last token of its reply subject, where it has one.
    pub reply_token: Option<String>,
}

/// A message that arrived at the inbox.
pub(crate) struct Incoming<'a> {
    /// The last token of its subject.
    pub token: &'a str,
    pub payload: &'a [u8],
    /// Its reply subject, or empty.
    pub reply: &'a str,
    /// NATS itself says that no coordinator is connected.
    pub is_status: bool,
}

/// Whether messages can be sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Link {
    Away,
    /// NATS is there. Requests wait for the limits, until this time at most.
    AsksLimits(Ns),
    Open,
}

/// A grant that no shard has used yet.
struct InHand {
    use_by_ns: Ns,
    answer_to: String,
}

/// A shard that waits, and its request.
struct Wait {
    requester: Requester,
    /// The sending half of the shard's receiver; `None` after it was closed, on either side.
    permit: Option<oneshot::Sender<()>>,
    /// When the request is withdrawn, unless its shard calls; `None` while it has a receiver.
    withdraw_at_ns: Option<Ns>,
    in_hand: Option<InHand>,
    /// When the shard was last asked to call again.
    called_ns: Option<Ns>,
    unanswered_since_ns: Option<Ns>,
}

impl Wait {
    fn has_receiver(&self) -> bool {
        self.permit.as_ref().is_some_and(|permit| !permit.is_closed())
    }

    fn next_deadline_ns(&self) -> Option<Ns> {
        let deadlines = [
            self.requester.next_deadline_ns(),
            self.in_hand.as_ref().map(|in_hand| in_hand.use_by_ns + 1),
            self.withdraw_at_ns,
        ];
        deadlines.into_iter().flatten().min()
    }
}

/// What is known of a shard's session.
#[derive(Default)]
struct Session {
    /// It was live: an IDENTIFY that follows means that it was lost.
    was_live: bool,
    /// Where `ready` or `rejected` goes, between IDENTIFY and Discord's answer to it.
    answer_to: Option<String>,
    /// Ask no sooner than this.
    not_before_ns: Ns,
}

/// What a desk is made with.
pub(crate) struct Parts {
    pub subjects: Subjects,
    /// A name for people; may be empty.
    pub client: String,
    /// Where NATS is, for people.
    pub servers: String,
    /// How long a request is kept without a receiver.
    pub keep_ns: Ns,
    /// After this a refused subscription is tried again.
    pub subscribe_again_ns: Ns,
    /// Returns a random id at each call.
    pub new_id: fn() -> String,
    pub jitter: Jitter,
}

/// See the module.
pub(crate) struct Desk {
    parts: Parts,
    source: Source,
    max_concurrency: Option<u32>,
    waits: HashMap<String, Wait>,
    ended: HashMap<String, Requester>,
    ended_order: VecDeque<String>,
    sessions: HashMap<u32, Session>,
    outbox: VecDeque<Outgoing>,
    absence: Absence,
    link: Link,
    link_since_ns: Ns,
    /// When the server refused the subscription to the inbox.
    inbox_refused_ns: Option<Ns>,
    /// It was refused, and nothing has arrived there since.
    is_deaf: bool,
    is_closed: bool,
    /// Of shards that asked after the end: closed, they would make the shard ask again at once, for ever.
    parked: Vec<oneshot::Sender<()>>,
    why_away: String,
    away: Trouble,
    complaints: Trouble,
    unanswered: Trouble,
    unusable: Trouble,
    ended_elsewhere: Trouble,
    refusals: HashMap<String, Trouble>,
}

impl Desk {
    pub fn new(parts: Parts, now_ns: Ns) -> Self {
        Self {
            source: Source::new((parts.new_id)(), now_ns),
            max_concurrency: None,
            waits: HashMap::new(),
            ended: HashMap::new(),
            ended_order: VecDeque::new(),
            sessions: HashMap::new(),
            outbox: VecDeque::new(),
            absence: Absence::new(parts.jitter),
            link: Link::Away,
            link_since_ns: now_ns,
            inbox_refused_ns: None,
            is_deaf: false,
            is_closed: false,
            parked: Vec::new(),
            why_away: "it is not reached yet".to_owned(),
            away: Trouble::default(),
            complaints: Trouble::default(),
            unanswered: Trouble::default(),
            unusable: Trouble::default(),
            ended_elsewhere: Trouble::default(),
            refusals: HashMap::new(),
            parts,
        }
    }

    // --- what shards call

    /// A shard wants a turn, or was asked to call again.
    pub fn enqueue(&mut self, shard_id: u32, now_ns: Ns) -> oneshot::Receiver<()> {
        let (permit, receiver) = oneshot::channel();
        if self.is_closed {
            self.parked.retain(|one| !one.is_closed());
            self.parked.push(permit);
            return receiver;
        }
        let is_unclaimed = |wait: &&Wait| wait.requester.asker().shard_id == shard_id && !wait.has_receiver();
        let unclaimed = self.waits.values().find(is_unclaimed);
        match unclaimed.map(|wait| wait.requester.asker().request_id.clone()) {
            Some(request_id) => self.claim(&request_id, permit, now_ns),
            None => self.begin(shard_id, permit, now_ns),
        }
        receiver
    }

    /// Discord sent READY to this shard.
    pub fn ready(&mut self, shard_id: u32) {
        let session = self.sessions.entry(shard_id).or_default();
        session.was_live = true;
        if let Some(to) = session.answer_to.take() {
            self.send_answer(to, Outcome::Ready);
        }
    }

    /// Discord let this shard resume.
    pub fn resumed(&mut self, shard_id: u32) {
        self.sessions.entry(shard_id).or_default().was_live = true;
    }

    /// Discord sent Invalid Session to this shard.
    pub fn invalid_session(&mut self, shard_id: u32, now_ns: Ns) {
        let pause_ns = between(INVALID_MIN_NS, INVALID_MAX_NS, self.parts.jitter);
        let session = self.sessions.entry(shard_id).or_default();
        session.not_before_ns = now_ns + pause_ns;
        if let Some(to) = session.answer_to.take() {
            self.send_answer(to, Outcome::Rejected);
        }
    }

    /// This shard wants no turn any more.
    pub fn withdraw(&mut self, shard_id: u32, now_ns: Ns) {
        let of_shard = |wait: &&Wait| wait.requester.asker().shard_id == shard_id;
        for request_id in self.ids(of_shard) {
            self.step(&request_id, &Event::Withdraw, now_ns);
        }
    }

    /// Withdraws every request. A shard that waits goes on waiting: no turn is handed over any more.
    pub fn close(&mut self, now_ns: Ns) {
        self.is_closed = true;
        for request_id in self.ids(|_| true) {
            let permit = self.waits.get_mut(&request_id).and_then(|wait| wait.permit.take());
            self.parked.extend(permit);
            self.step(&request_id, &Event::Withdraw, now_ns);
        }
    }

    pub fn is_closed(&self) -> bool {
        self.is_closed
    }

    // --- what the connection calls

    /// NATS is connected, anew or for the first time: what was sent before may be lost.
    pub fn connected(&mut self, now_ns: Ns) {
        self.link_since_ns = now_ns;
        (self.inbox_refused_ns, self.is_deaf) = (None, false); // it was subscribed to again
        if let Some(lasted_ns) = self.away.over(now_ns) {
            warn!("NATS is back at {} after {} s", self.parts.servers, lasted_ns / NS_PER_S);
        }
        if self.max_concurrency.is_none() {
            self.link = Link::AsksLimits(now_ns + LIMITS_WITHIN_NS);
            self.ask_info();
        } else {
            self.open(now_ns);
        }
    }

    /// NATS is away. `why`: for people.
    pub fn disconnected(&mut self, why: &str, now_ns: Ns) {
        why.clone_into(&mut self.why_away);
        if self.link != Link::Away {
            self.link = Link::Away;
            self.link_since_ns = now_ns;
        }
    }

    /// NATS said that something is wrong, such as that a permission is missing. `what`: in its words.
    pub fn complained(&mut self, what: &str, now_ns: Ns) {
        if self.complaints.note(now_ns).is_some() {
            warn!("NATS at {}: {}; ask who keeps the NATS account of this bot", self.parts.servers, shown(what));
        }
    }

    /// The server refused the subscription to the inbox: no reply arrives.
    pub fn inbox_refused(&mut self, now_ns: Ns) {
        self.inbox_refused_ns = Some(now_ns);
    }

    /// Whether to subscribe to the inbox again now, before anything is published: the permission may be there by now.
    pub fn takes_subscribing(&mut self, now_ns: Ns) -> bool {
        let is_due = self.inbox_refused_ns.is_some_and(|at_ns| now_ns >= at_ns + self.parts.subscribe_again_ns);
        if is_due {
            self.inbox_refused_ns = None;
            self.is_deaf = true;
            self.ask_info();
        }
        is_due
    }

    /// A message arrived at the inbox.
    pub fn received(&mut self, message: &Incoming<'_>, now_ns: Ns) {
        let was_deaf = std::mem::take(&mut self.is_deaf); // then the renewals have backed off
        if message.is_status {
            self.absence.no_responders(now_ns);
            self.no_coordinator("none is connected", now_ns);
            return;
        }
        if message.token == INFO_TOKEN {
            self.info_received(message.payload, was_deaf, now_ns);
            return;
        }
        let reply = match self.read(message) {
            Ok(reply) => reply,
            Err(why) => return self.unusable_reply(&why, now_ns),
        };
        if let Some(lasted_ns) = self.unanswered.over(now_ns) {
            warn!("a coordinator answers again, after {} s", lasted_ns / NS_PER_S);
        }
        if self.absence.request_answered() || was_deaf {
            self.renew_all(now_ns);
        }
        let event = Event::Received { reply: &reply, answer_to: message.reply };
        if let Some(wait) = self.waits.get_mut(message.token) {
            wait.unanswered_since_ns = None;
            self.step(message.token, &event, now_ns);
        } else if let Some(requester) = self.ended.get_mut(message.token) {
            for action in requester.handle(&event, now_ns) {
                if let Action::SendAnswer { to, outcome } = action {
                    self.send_answer(to, outcome);
                }
            }
        }
    }

    /// Time has passed.
    pub fn tick(&mut self, now_ns: Ns) {
        if matches!(self.link, Link::AsksLimits(until_ns) if now_ns >= until_ns) {
            self.open(now_ns);
        }
        if self.link == Link::Open && self.absence.is_due(now_ns) {
            self.ask_info();
        }
        for wait in self.waits.values_mut() {
            if wait.permit.as_ref().is_some_and(oneshot::Sender::is_closed) {
                wait.permit = None;
                wait.withdraw_at_ns = Some(now_ns + self.parts.keep_ns);
            }
        }
        let is_due = |wait: &&Wait| wait.next_deadline_ns().is_some_and(|at_ns| now_ns >= at_ns);
        for request_id in self.ids(is_due) {
            self.wait_is_due(&request_id, now_ns);
        }
        self.look_for_absence(now_ns);
        self.look_for_silence(now_ns);
    }

    /// When [`Self::tick`] is needed.
    pub fn next_deadline_ns(&self) -> Option<Ns> {
        let limits_ns = match self.link {
            Link::AsksLimits(until_ns) => Some(until_ns),
            _ => None,
        };
        let waits = self.waits.values().filter_map(Wait::next_deadline_ns);
        waits.chain(limits_ns).chain(self.absence.probe_at_ns()).min()
    }

    /// What is to be published now.
    pub fn take_outbox(&mut self) -> VecDeque<Outgoing> {
        std::mem::take(&mut self.outbox)
    }

    /// Takes back what could not be published.
    pub fn put_back(&mut self, mut messages: VecDeque<Outgoing>) {
        messages.append(&mut self.outbox);
        messages.retain(|one| one.reply_token.is_none()); // a request is not sent late: its renewal follows
        self.outbox = messages;
    }

    // --- a wait

    fn begin(&mut self, shard_id: u32, permit: oneshot::Sender<()>, now_ns: Ns) {
        let session = self.sessions.entry(shard_id).or_default();
        session.answer_to = None; // the IDENTIFY before got no answer
        let priority = i8::from(session.was_live);
        let pause_ns = session.not_before_ns.saturating_sub(now_ns);
        let asker = Asker { shard_id, priority, ..Asker::default() };
        let wait = Wait {
            requester: self.requester(&asker, now_ns),
            permit: Some(permit),
            withdraw_at_ns: None,
            in_hand: None,
            called_ns: None,
            unanswered_since_ns: None,
        };
        self.start(wait, pause_ns, now_ns);
    }

    fn start(&mut self, wait: Wait, pause_ns: Ns, now_ns: Ns) {
        let request_id = wait.requester.asker().request_id.clone();
        self.waits.insert(request_id.clone(), wait);
        self.step(&request_id, &Event::Begin { pause_ns }, now_ns);
    }

    fn requester(&mut self, wanted: &Asker, now_ns: Ns) -> Requester {
        let asker = Asker {
            request_id: (self.parts.new_id)(),
            max_concurrency: self.max_concurrency,
            client: Some(self.parts.client.clone()).filter(|name| !name.is_empty()),
            source: Some(self.source.begin(now_ns)),
            ..wanted.clone()
        };
        Requester::new(asker, self.parts.jitter)
    }

    /// The shard of a wait without a receiver calls: by the poll that was asked for, or on a new connection.
    ///
    /// With a grant in hand its receiver is closed at once, so that the poll which receives it calls again within
    /// microseconds. That second call is the last moment before IDENTIFY: only it uses the grant.
    fn claim(&mut self, request_id: &str, permit: oneshot::Sender<()>, now_ns: Ns) {
        let Some(wait) = self.waits.get_mut(request_id) else { return };
        wait.withdraw_at_ns = None;
        let use_by_ns = wait.in_hand.as_ref().map(|in_hand| in_hand.use_by_ns);
        let Some(use_by_ns) = use_by_ns else {
            wait.permit = Some(permit);
            if wait.requester.state() == State::Resting {
                self.step(request_id, &Event::GoOn, now_ns);
            }
            return;
        };
        let is_polled = wait.called_ns.is_some_and(|at_ns| now_ns - at_ns < ONE_POLL_NS);
        if now_ns > use_by_ns {
            wait.permit = Some(permit);
            self.late(request_id, &Event::Late, now_ns);
        } else if !is_polled {
            wait.called_ns = Some(now_ns); // the permit is dropped: call again
            wait.withdraw_at_ns = Some(now_ns + self.parts.keep_ns.max(BUSY_NS));
        } else if permit.send(()).is_ok() {
            self.identify(request_id, now_ns);
        }
    }

    fn identify(&mut self, request_id: &str, now_ns: Ns) {
        let Some(wait) = self.waits.get_mut(request_id) else { return };
        let shard_id = wait.requester.asker().shard_id;
        let answer_to = wait.in_hand.take().map(|in_hand| in_hand.answer_to);
        let session = self.sessions.entry(shard_id).or_default();
        session.was_live = false;
        session.answer_to = answer_to;
        self.step(request_id, &Event::Identified, now_ns);
    }

    fn late(&mut self, request_id: &str, event: &Event<'_>, now_ns: Ns) {
        if let Some(wait) = self.waits.get_mut(request_id) {
            wait.in_hand = None;
            wait.called_ns = None;
            self.step(request_id, event, now_ns);
        }
    }

    fn wait_is_due(&mut self, request_id: &str, now_ns: Ns) {
        let Some(wait) = self.waits.get(request_id) else { return };
        let is_late = wait.in_hand.as_ref().is_some_and(|in_hand| now_ns > in_hand.use_by_ns);
        let is_left = wait.withdraw_at_ns.is_some_and(|at_ns| now_ns >= at_ns);
        if is_left {
            self.step(request_id, &Event::Withdraw, now_ns);
        } else if is_late {
            // Its shard did not call for it, and would not call for the next one now: that would only hold the bucket.
            self.late(request_id, &Event::Rest, now_ns);
        } else {
            self.step(request_id, &Event::Tick, now_ns);
        }
    }

    /// Passes an event to a request, and carries out the actions that it returns.
    fn step(&mut self, request_id: &str, event: &Event<'_>, now_ns: Ns) {
        let Some(wait) = self.waits.get_mut(request_id) else { return };
        let actions = wait.requester.handle(event, now_ns);
        self.max_concurrency = wait.requester.asker().max_concurrency.or(self.max_concurrency);
        let is_over = wait.requester.state() == State::Over;
        let mut anew = None;
        for action in actions {
            match action {
                Action::SendRequest { bucket, request } => self.send_request(bucket, &request, now_ns),
                Action::SendCancel { bucket } => {
                    self.send(self.parts.subjects.cancel(bucket), &Cancel { request_id }, None);
                }
                Action::SendAnswer { to, outcome } => self.send_answer(to, outcome),
                Action::DeliverGrant { use_by_ns, answer_to, .. } => {
                    self.deliver(request_id, InHand { use_by_ns, answer_to }, now_ns);
                }
                Action::Report { code, message } => self.refused(request_id, code, &message, now_ns),
                Action::AskAnew { anew_count, pause_ns, message } => {
                    self.log_anew(request_id, &message, now_ns);
                    anew = Some((anew_count, pause_ns));
                }
            }
        }
        if is_over {
            self.end(request_id, anew, now_ns);
        }
    }

    /// A turn has come. Its shard is asked to call again when it is polled; see [`Self::claim`].
    fn deliver(&mut self, request_id: &str, in_hand: InHand, now_ns: Ns) {
        let Some(wait) = self.waits.get_mut(request_id) else { return };
        let keep_ns = if wait.has_receiver() { self.parts.keep_ns.max(BUSY_NS) } else { self.parts.keep_ns };
        wait.withdraw_at_ns.get_or_insert(now_ns + keep_ns);
        wait.in_hand = Some(in_hand);
        wait.called_ns = None;
        wait.permit = None; // dropped: the receiver is closed
    }

    /// Keeps an ended request to answer copies of its grants. `anew`: its shard still waits, by another request.
    fn end(&mut self, request_id: &str, anew: Option<(u32, Ns)>, now_ns: Ns) {
        let Some(wait) = self.waits.remove(request_id) else { return };
        let asker = wait.requester.asker().clone();
        self.ended.insert(request_id.to_owned(), wait.requester);
        self.ended_order.push_back(request_id.to_owned());
        if self.ended_order.len() > ENDED_MAX {
            self.ended_order.pop_front().and_then(|oldest| self.ended.remove(&oldest));
        }
        if let Some((anew_count, pause_ns)) = anew {
            let requester = self.requester(&Asker { anew_count, ..asker }, now_ns);
            let wait = Wait {
                requester,
                permit: wait.permit,
                withdraw_at_ns: wait.withdraw_at_ns,
                in_hand: None,
                called_ns: None,
                unanswered_since_ns: None,
            };
            self.start(wait, pause_ns, now_ns);
        }
    }

    // --- messages

    fn send_request(&mut self, bucket: u32, request: &crate::core::wire::Request, now_ns: Ns) {
        if self.link != Link::Open {
            return; // an old request must not arrive long after; a renewal follows the reconnect
        }
        if let Some(wait) = self.waits.get_mut(&request.request_id) {
            wait.unanswered_since_ns.get_or_insert(now_ns);
        }
        let token = Some(request.request_id.clone());
        self.send(self.parts.subjects.request(bucket), request, token);
    }

    fn send_answer(&mut self, to: String, outcome: Outcome) {
        self.send(to, &Confirm { outcome }, None);
    }

    fn send(&mut self, subject: String, body: &impl serde::Serialize, reply_token: Option<String>) {
        let payload = serde_json::to_vec(body).expect("plain fields are JSON");
        self.push(Outgoing { subject, payload, reply_token });
    }

    fn ask_info(&mut self) {
        let reply_token = Some(INFO_TOKEN.to_owned());
        self.push(Outgoing { subject: self.parts.subjects.info(), payload: Vec::new(), reply_token });
    }

    fn push(&mut self, message: Outgoing) {
        if self.outbox.len() >= OUTBOX_MAX {
            self.outbox.pop_front();
        }
        self.outbox.push_back(message);
    }

    // --- replies

    /// Reads a reply. The answer to a grant goes to the grant's reply subject. A grant with another reply subject than
    /// its confirm subject is not used: a shard would publish to any subject that the sender chooses.
    fn read(&self, message: &Incoming<'_>) -> Result<Reply, String> {
        let reply = decode_reply(message.payload)?;
        if let Reply::Granted(grant) = &reply {
            let bucket = u32::try_from(grant.bucket).map_err(|_| "no bot has such a bucket")?;
            if message.reply != self.parts.subjects.confirm(bucket, &grant.grant_id) {
                return Err(format!("a grant whose answer is to go to {}", message.reply));
            }
        }
        Ok(reply)
    }

    fn info_received(&mut self, payload: &[u8], was_deaf: bool, now_ns: Ns) {
        let Some(info) = decode_info(payload) else {
            return self.unusable_reply("it is no reply of info", now_ns);
        };
        if let Some(max_concurrency) = info.max_concurrency {
            self.max_concurrency.get_or_insert(max_concurrency);
            for wait in self.waits.values_mut() {
                wait.requester.adopt(max_concurrency);
            }
        }
        let is_back = self.absence.probe_answered() || was_deaf;
        if matches!(self.link, Link::AsksLimits(_)) {
            self.open(now_ns);
        } else if is_back {
            self.renew_all(now_ns);
        }
    }

    fn open(&mut self, now_ns: Ns) {
        self.link = Link::Open;
        self.renew_all(now_ns);
    }

    /// Lets every request renew, spread over seconds.
    fn renew_all(&mut self, now_ns: Ns) {
        let unplaced = self.waits.values().filter_map(|wait| wait.requester.unplaced_since_ns());
        let waited_ns = unplaced.map(|since_ns| now_ns.saturating_sub(since_ns)).max().unwrap_or(0);
        let event = Event::Reconnected { jitter: (self.parts.jitter)(), waited_ns };
        for request_id in self.ids(|_| true) {
            if let Some(wait) = self.waits.get_mut(&request_id) {
                wait.unanswered_since_ns = None; // it counts from the renewal that follows
            }
            self.step(&request_id, &event, now_ns);
        }
    }

    /// The ids of some waits, in the order in which they began.
    fn ids(&self, is_wanted: impl FnMut(&&Wait) -> bool) -> Vec<String> {
        let wanted = self.waits.values().filter(is_wanted).map(|wait| wait.requester.asker());
        let mut ids: Vec<(Option<u64>, String)> =
            wanted.map(|asker| (asker.source.as_ref().map(|one| one.1), asker.request_id.clone())).collect();
        ids.sort();
        ids.into_iter().map(|(_, request_id)| request_id).collect()
    }

    // --- the log

    fn look_for_absence(&mut self, now_ns: Ns) {
        if self.link != Link::Away || now_ns < self.link_since_ns + BLIP_NS {
            return;
        }
        if let Some(lasted_ns) = self.away.note(now_ns) {
            let (servers, why, seconds) = (&self.parts.servers, shown(&self.why_away), lasted_ns / NS_PER_S);
            warn!("NATS at {servers} is away, for {seconds} s now ({why}); the shards wait");
        }
    }

    fn look_for_silence(&mut self, now_ns: Ns) {
        let since_ns = self.waits.values().filter_map(|wait| wait.unanswered_since_ns).min();
        if self.link == Link::Open && since_ns.is_some_and(|at_ns| now_ns >= at_ns + SILENCE_NS) {
            self.no_coordinator("requests have no answer", now_ns);
        }
    }

    fn no_coordinator(&mut self, how: &str, now_ns: Ns) {
        if let Some(lasted_ns) = self.unanswered.note(now_ns) {
            warn!(
                "no coordinator answers on {}.request.* at {} for {} s: {how}. Is one running, with this prefix \
                 (IDENTIFY_PREFIX) and in this NATS account? The shards wait",
                self.parts.subjects.prefix(),
                self.parts.servers,
                lasted_ns / NS_PER_S,
            );
        }
    }

    fn unusable_reply(&mut self, why: &str, now_ns: Ns) {
        if self.unusable.note(now_ns).is_some() {
            warn!(
                "a reply at {} was dropped, as others may be: {}. Is a coordinator of another version running there, \
                 or does another client publish to the inboxes of this bot? The shards wait for a reply that can be used",
                self.parts.servers,
                shown(why),
            );
        }
    }

    fn refused(&mut self, request_id: &str, code: String, message: &str, now_ns: Ns) {
        let key = if self.refusals.len() < REFUSALS_MAX { code } else { String::new() };
        if self.refusals.entry(key).or_default().note(now_ns).is_some() {
            warn!("shard {} waits: {}", self.shard_of(request_id), shown(message));
        }
    }

    fn log_anew(&mut self, request_id: &str, message: &str, now_ns: Ns) {
        if self.ended_elsewhere.note(now_ns).is_some() {
            warn!(
                "shard {} waits: its request {request_id} ended, and not by this process ({}); it asks anew, at the \
                 end of its queue; if no operator ended it, find the other client that uses the id or the cancel \
                 subject",
                self.shard_of(request_id),
                shown(message),
            );
        }
    }

    fn shard_of(&self, request_id: &str) -> u32 {
        self.waits.get(request_id).map_or(0, |wait| wait.requester.asker().shard_id)
    }
}

/// Bounds and escapes a text from outside.
fn shown(text: &str) -> String {
    text.chars().take(SHOWN_MAX).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests;
