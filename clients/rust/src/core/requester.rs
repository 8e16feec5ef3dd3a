//! One request's life at the shard: ask, renew, take or decline the grant, withdraw. It never waits or sends.
//!
//! Pass events with their time to [`Requester::handle`], and carry out the actions that it returns. It counts a grant's
//! `use_within` from the first sending of the renewal that the grant echoes, decides once for each grant, and repeats
//! that answer to copies of the grant. It is the counterpart of `nats_identify/client/requester.py`.

use std::collections::{HashMap, VecDeque};

use super::wire::{Granted, Outcome, Queued, Refused, Reply, Request};
use super::{between, share, Jitter, Ns, NS_PER_MS, NS_PER_S};

/// Renewals whose sending time is kept; a grant that echoes an older one is declined as late.
const RENEWALS_REMEMBERED: u64 = 256;

/// Decided grants that are kept, to repeat the answer to their copies.
const GRANTS_REMEMBERED: usize = 64;

/// The first bound of the wait for a reply; it doubles with each renewal that is unanswered.
const PACE_NS: Ns = 2 * NS_PER_S;

/// The floor of that wait is this part of the first bound: a reply that is on its way arrives before the repeat.
const FLOOR_SHARE: Ns = 2;

/// The longest interval of the contract, in replies and of the backoff: with a longer one the request would expire.
const RENEW_MAX_NS: Ns = 60 * NS_PER_S;

/// A request that was queued backs off to 1.5 times its interval, and to this at least: half of the time after which
/// a coordinator drops it. A coordinator may receive the renewals although its replies are lost.
const QUEUED_BOUND_NS: Ns = 6 * NS_PER_S;

/// After a reconnect 100,000 requests renew within this, those near their turn first.
const SPREAD_MAX_NS: Ns = 5 * NS_PER_S;

/// The step from one place of the queue to the next in that spread.
const SPREAD_STEP_NS: Ns = 50_000;

/// A grant is never used for longer, whatever it says.
const USE_WITHIN_MAX_NS: Ns = 60 * NS_PER_S;

/// A request is sent at most so often in [`SENDINGS_PERIOD_NS`], whatever the replies demand.
const SENDINGS_MAX: u64 = 20;

/// See [`SENDINGS_MAX`].
const SENDINGS_PERIOD_NS: Ns = NS_PER_S;

/// The first pause between the end of a request and the new one of the same shard.
const ANEW_MIN_NS: Ns = NS_PER_S / 4;

/// That pause doubles up to this.
const ANEW_MAX_NS: Ns = 8 * NS_PER_S;

/// The pause after a refusal that names none.
const RETRY_AFTER_MS: u64 = 5_000;

/// Numbers the requests of one queue object in the order in which they began, under a random token.
#[derive(Debug)]
pub struct Source {
    token: String,
    since_ns: Ns,
    next_us: u64,
}

impl Source {
    /// Begins to count. `token`: random, 1 to 64 of `A-Z a-z 0-9 _ -`.
    #[must_use]
    pub fn new(token: String, since_ns: Ns) -> Self {
        Self { token, since_ns, next_us: 0 }
    }

    /// Returns the token, and microseconds since the beginning; they are larger for each call.
    pub fn begin(&mut self, now_ns: Ns) -> (String, u64) {
        let asked_us = self.next_us.max(now_ns.saturating_sub(self.since_ns) / 1_000);
        self.next_us = asked_us + 1;
        (self.token.clone(), asked_us)
    }
}

/// The state of a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum State {
    /// In the queue, or on its way there.
    Asking,
    /// Granted to the shard, which has not decided yet.
    Holding,
    /// Its grant was declined, and it asks for none until it goes on.
    Resting,
    /// Identified, withdrawn, or ended at the coordinators.
    Over,
}

/// What happens to a request.
#[derive(Clone, Debug)]
pub enum Event<'a> {
    /// The shard wants a turn, and waits so long before the first message.
    Begin {
        /// Nanoseconds.
        pause_ns: Ns,
    },
    /// A reply arrived.
    Received {
        /// The reply.
        reply: &'a Reply,
        /// The reply subject of its message; the confirm subject in a grant, else empty.
        answer_to: &'a str,
    },
    /// The connection, or the coordinators, are back. What was sent during the outage may be lost.
    Reconnected {
        /// Random, from 0 to 1, one for all requests of the process: they keep their order.
        jitter: f64,
        /// The longest that one of them has waited without a place, see [`Requester::unplaced_since_ns`].
        waited_ns: Ns,
    },
    /// IDENTIFY is sent with the grant held.
    Identified,
    /// The grant was not used in time; the request goes on.
    Late,
    /// The grant was not used in time, and the shard could not use another one now. A coordinator grants none before a
    /// renewal.
    Rest,
    /// The shard of a request that rests waits again; its place is kept, or `waited_ms` restores it.
    GoOn,
    /// The shard no longer wants a turn.
    Withdraw,
    /// Time has passed. Early and repeated ticks are harmless.
    Tick,
}

/// What to do, in this order.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Publish this on the request subject of the bucket, with this request's inbox as reply subject.
    SendRequest {
        /// The bucket.
        bucket: u32,
        /// The payload.
        request: Box<Request>,
    },
    /// Publish a withdrawal on the cancel subject of the bucket.
    SendCancel {
        /// The bucket.
        bucket: u32,
    },
    /// Publish this on the reply subject of a grant.
    SendAnswer {
        /// The subject.
        to: String,
        /// The payload.
        outcome: Outcome,
    },
    /// The shard may identify until `use_by_ns`. Every answer to this grant goes to `answer_to`.
    DeliverGrant {
        /// The identity of the grant.
        grant_id: String,
        /// By the clock of [`Requester::handle`].
        use_by_ns: Ns,
        /// The confirm subject.
        answer_to: String,
    },
    /// An operator should look at this.
    Report {
        /// The code of the refusal.
        code: String,
        /// In the coordinator's words.
        message: String,
    },
    /// The request has ended at the coordinators, and its shard still wants a turn: begin another one, with a new id
    /// and this count, after the pause.
    AskAnew {
        /// For the next [`Requester`].
        anew_count: u32,
        /// For its [`Event::Begin`].
        pause_ns: Ns,
        /// Why, in the coordinator's words.
        message: String,
    },
}

/// Who asks.
#[derive(Clone, Debug, Default)]
pub struct Asker {
    /// The shard.
    pub shard_id: u32,
    /// Random, never used for another request.
    pub request_id: String,
    /// As far as is known; replies correct it.
    pub max_concurrency: Option<u32>,
    /// From -10 to 10; higher goes first.
    pub priority: i8,
    /// A name for people.
    pub client: Option<String>,
    /// The token of the source, and the number of the request there; see [`Source::begin`].
    pub source: Option<(String, u64)>,
    /// How many requests of this shard's wait have ended before this one.
    pub anew_count: u32,
}

/// One request of one shard.
#[derive(Debug)]
pub struct Requester {
    asker: Asker,
    jitter: Jitter,
    state: State,
    pace_ns: Ns,
    begun_at_ns: Option<Ns>,
    sent_count: u64,                 // the next renewal has this number
    unanswered_count: u32,           // renewals sent since the last reply
    refused_count: u32,              // refusals in a row
    position: Option<u64>,           // None: not known to be queued
    interval_ns: Option<Ns>,         // of the last `queued`
    first_sent_ns: HashMap<u64, Ns>, // by renewal
    renew_at_ns: Option<Ns>,
    held: Option<(String, String)>, // grant_id, answer_to
    decided: VecDeque<(String, Outcome)>,
}

impl Requester {
    /// Makes a request that has not begun. `jitter`: a random number from 0 to 1 at each call.
    #[must_use]
    pub fn new(asker: Asker, jitter: Jitter) -> Self {
        Self {
            asker,
            jitter,
            state: State::Asking,
            pace_ns: PACE_NS,
            begun_at_ns: None,
            sent_count: 0,
            unanswered_count: 0,
            refused_count: 0,
            position: None,
            interval_ns: None,
            first_sent_ns: HashMap::new(),
            renew_at_ns: None,
            held: None,
            decided: VecDeque::new(),
        }
    }

    /// Who asks, with today's `max_concurrency` as far as is known.
    #[must_use]
    pub fn asker(&self) -> &Asker {
        &self.asker
    }

    /// The state.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// When the request was first sent, if it has no place in a queue as far as is known.
    #[must_use]
    pub fn unplaced_since_ns(&self) -> Option<Ns> {
        self.begun_at_ns.filter(|_| self.position.is_none())
    }

    /// Takes the number of buckets from `info`, where none is known yet.
    pub fn adopt(&mut self, max_concurrency: u32) {
        self.asker.max_concurrency.get_or_insert(max_concurrency);
    }

    /// When [`Self::handle`] needs a [`Event::Tick`]: by the last reply, and at most 20 times in a second.
    #[must_use]
    pub fn next_deadline_ns(&self) -> Option<Ns> {
        let renew_at_ns = self.renew_at_ns?;
        let earlier = self.sent_count.checked_sub(SENDINGS_MAX);
        let earlier_ns = earlier.and_then(|number| self.first_sent_ns.get(&number));
        Some(earlier_ns.map_or(renew_at_ns, |at_ns| renew_at_ns.max(at_ns + SENDINGS_PERIOD_NS)))
    }

    /// Takes in one event; returns what to do, in this order.
    pub fn handle(&mut self, event: &Event<'_>, now_ns: Ns) -> Vec<Action> {
        let mut actions = match *event {
            Event::Begin { pause_ns } => {
                self.renew_at_ns = Some(now_ns + pause_ns);
                Vec::new()
            }
            Event::Reconnected { jitter, waited_ns } => {
                self.reconnected(jitter, waited_ns, now_ns);
                Vec::new()
            }
            Event::Received { reply, answer_to } => match reply {
                Reply::Granted(grant) => self.granted(grant, answer_to, now_ns),
                Reply::Queued(queued) => {
                    self.queued(queued, now_ns);
                    Vec::new()
                }
                Reply::Refused(refused) => self.refused(refused, now_ns),
            },
            Event::Identified => {
                let actions = self.decide(Outcome::Identified);
                self.end();
                actions
            }
            Event::Late => {
                let actions = self.decide(Outcome::Declined);
                if self.state == State::Holding {
                    self.ask_on(now_ns);
                }
                actions
            }
            Event::Rest => {
                if self.state == State::Holding {
                    self.state = State::Resting;
                }
                self.decide(Outcome::Declined)
            }
            Event::GoOn => {
                if self.state == State::Resting {
                    self.ask_on(now_ns);
                }
                Vec::new()
            }
            Event::Withdraw => {
                let mut actions = self.decide(Outcome::Declined);
                actions.extend(self.withdraw());
                actions
            }
            Event::Tick => Vec::new(),
        };
        if self.next_deadline_ns().is_some_and(|at_ns| now_ns >= at_ns) {
            actions.push(self.renew(now_ns));
        }
        actions
    }

    // --- replies

    fn granted(&mut self, grant: &Granted, answer_to: &str, now_ns: Ns) -> Vec<Action> {
        if grant.request_id != self.asker.request_id || grant.renewal >= self.sent_count {
            return Vec::new(); // the grant of another request, which answers it
        }
        let own_bucket = u64::from(self.asker.shard_id % grant.max_concurrency);
        if grant.shard_id != u64::from(self.asker.shard_id) || grant.bucket != own_bucket {
            return Vec::new(); // no coordinator sends this: IDENTIFY would take the place of another shard's
        }
        if let Some((_, outcome)) = self.decided.iter().find(|(id, _)| *id == grant.grant_id) {
            return vec![answer(answer_to, *outcome)];
        }
        if self.held.as_ref().is_some_and(|(id, _)| *id == grant.grant_id) {
            return Vec::new(); // a copy of the grant that is held: answered when it is decided
        }
        self.asker.max_concurrency = Some(grant.max_concurrency);
        self.unanswered_count = 0;
        self.refused_count = 0;
        let within_ns = ns(grant.use_within_ms).min(USE_WITHIN_MAX_NS);
        let first_sent_ns = self.first_sent_ns.get(&grant.renewal);
        let use_by_ns = first_sent_ns.map_or(0, |at_ns| at_ns + within_ns);
        if self.state != State::Asking || now_ns > use_by_ns {
            self.remember(grant.grant_id.clone(), Outcome::Declined);
            if self.state == State::Asking {
                self.ask_on(now_ns);
            }
            return vec![answer(answer_to, Outcome::Declined)];
        }
        self.state = State::Holding;
        self.held = Some((grant.grant_id.clone(), answer_to.to_owned()));
        self.renew_at_ns = None;
        vec![Action::DeliverGrant { grant_id: grant.grant_id.clone(), use_by_ns, answer_to: answer_to.to_owned() }]
    }

    fn queued(&mut self, queued: &Queued, now_ns: Ns) {
        if queued.request_id != self.asker.request_id || self.state != State::Asking {
            return;
        }
        self.asker.max_concurrency = queued.max_concurrency.or(self.asker.max_concurrency);
        self.unanswered_count = 0;
        self.refused_count = 0;
        let told_ns = ns(queued.renew_in_ms);
        let interval_ns = told_ns.min(RENEW_MAX_NS);
        self.position = Some(queued.position);
        self.interval_ns = Some(interval_ns);
        self.renew_at_ns = Some(now_ns + interval_ns);
        if told_ns > 0 {
            self.pace_ns = self.pace_ns.min(told_ns); // the coordinator's own is min(2 s, 0.4 use_within)
        }
    }

    /// A refusal is final at the coordinator, never for the shard, which asks again, differently or later.
    /// A grant that the shard holds is not affected: it is newer than the refusal.
    fn refused(&mut self, refused: &Refused, now_ns: Ns) -> Vec<Action> {
        if refused.request_id.as_ref() != Some(&self.asker.request_id) || self.state != State::Asking {
            return Vec::new();
        }
        let bucket = self.bucket();
        self.asker.max_concurrency = refused.max_concurrency.or(self.asker.max_concurrency);
        if refused.code == "ended" {
            return vec![self.ask_anew(refused)];
        }
        let is_moved = refused.code == "wrong_bucket" && self.bucket() != bucket;
        let wait_ns = if is_moved { 0 } else { self.refused_wait_ns(refused.retry_after_ms.filter(|ms| *ms > 0)) };
        self.unanswered_count = 0;
        self.position = None;
        self.interval_ns = None;
        self.renew_at_ns = Some(now_ns + wait_ns);
        let report = Action::Report { code: refused.code.clone(), message: refused.message.clone() };
        (!is_moved).then_some(report).into_iter().collect()
    }

    /// The id is spent, though not by this shard. A new request takes over; a late grant of this one is declined.
    fn ask_anew(&mut self, refused: &Refused) -> Action {
        self.end();
        let pause_ns = (ANEW_MIN_NS << self.asker.anew_count.min(8)).min(ANEW_MAX_NS);
        Action::AskAnew {
            anew_count: self.asker.anew_count + 1,
            pause_ns: between(pause_ns, pause_ns * 6 / 5, self.jitter),
            message: refused.message.clone(),
        }
    }

    // --- steps

    fn renew(&mut self, now_ns: Ns) -> Action {
        let begun_at_ns = *self.begun_at_ns.get_or_insert(now_ns);
        let renewal = self.sent_count;
        self.sent_count += 1;
        self.first_sent_ns.insert(renewal, now_ns);
        if let Some(old) = renewal.checked_sub(RENEWALS_REMEMBERED) {
            self.first_sent_ns.remove(&old);
        }
        self.renew_at_ns = Some(now_ns + self.unanswered_wait_ns()); // a reply names another pace
        self.unanswered_count += 1;
        let asker = &self.asker;
        let (source, asked_us) = asker.source.clone().unzip();
        Action::SendRequest {
            bucket: self.bucket(),
            request: Box::new(Request {
                shard_id: asker.shard_id,
                request_id: asker.request_id.clone(),
                renewal,
                waited_ms: (now_ns - begun_at_ns) / NS_PER_MS,
                max_concurrency: asker.max_concurrency,
                priority: asker.priority,
                managed: true,
                client: asker.client.clone(),
                source,
                asked_us,
            }),
        }
    }

    /// Renews soon, those near their turn first: a fleet that renews at once is a burst that is not answered.
    ///
    /// A request at rank r of all queues waits for r steps, less up to half at random. Those with no rank wait for at
    /// most as long as they have waited: a crowd returns no faster than it came. A renewal that is due sooner stays: a
    /// connection that is lost again and again does not put it off for ever.
    fn reconnected(&mut self, jitter: f64, waited_ns: Ns, now_ns: Ns) {
        if self.state != State::Asking || self.begun_at_ns.is_none() {
            return;
        }
        self.unanswered_count = 0;
        let wait_ns = match self.position {
            None => share(waited_ns.min(SPREAD_MAX_NS), jitter),
            Some(position) => {
                let buckets = u64::from(self.asker.max_concurrency.unwrap_or(1));
                let rank = (position - 1).saturating_mul(buckets);
                let spread_ns = rank.saturating_mul(SPREAD_STEP_NS).min(SPREAD_MAX_NS);
                share(spread_ns, f64::midpoint(1.0, jitter))
            }
        };
        let renew_at_ns = now_ns + wait_ns;
        self.renew_at_ns = Some(self.renew_at_ns.map_or(renew_at_ns, |at_ns| at_ns.min(renew_at_ns)));
    }

    /// How long to wait for a reply before the next renewal.
    fn unanswered_wait_ns(&self) -> Ns {
        let max_ns = self
            .interval_ns
            .map_or(RENEW_MAX_NS, |interval_ns| RENEW_MAX_NS.min(QUEUED_BOUND_NS.max(interval_ns * 3 / 2)));
        let bound_ns = (self.pace_ns << self.unanswered_count.min(16)).min(max_ns);
        between((self.pace_ns / FLOOR_SHARE).min(bound_ns), bound_ns, self.jitter)
    }

    /// From what the refusal demands to twice that, doubled with each refusal in a row, up to 60 s.
    fn refused_wait_ns(&mut self, retry_after_ms: Option<u64>) -> Ns {
        let wait_ns = ns(retry_after_ms.unwrap_or(RETRY_AFTER_MS)).min(RENEW_MAX_NS);
        self.refused_count += 1;
        let bound_ns = (wait_ns << self.refused_count.min(16)).min(RENEW_MAX_NS);
        between(wait_ns, bound_ns.max(wait_ns * 6 / 5), self.jitter) // never in step, whatever is demanded
    }

    fn bucket(&self) -> u32 {
        self.asker.shard_id % self.asker.max_concurrency.unwrap_or(1)
    }

    fn ask_on(&mut self, now_ns: Ns) {
        self.state = State::Asking;
        self.held = None;
        self.renew_at_ns = Some(now_ns);
    }

    fn decide(&mut self, outcome: Outcome) -> Vec<Action> {
        let Some((grant_id, answer_to)) = self.held.take() else {
            return Vec::new();
        };
        self.remember(grant_id, outcome);
        vec![answer(&answer_to, outcome)]
    }

    fn remember(&mut self, grant_id: String, outcome: Outcome) {
        self.decided.push_back((grant_id, outcome));
        if self.decided.len() > GRANTS_REMEMBERED {
            self.decided.pop_front();
        }
    }

    fn withdraw(&mut self) -> Option<Action> {
        if self.state == State::Over {
            return None;
        }
        self.end();
        (self.sent_count > 0).then(|| Action::SendCancel { bucket: self.bucket() })
    }

    fn end(&mut self) {
        self.state = State::Over;
        self.renew_at_ns = None;
    }
}

/// Nanoseconds of a duration on the wire, which may be as long as 285,000 years.
fn ns(duration_ms: u64) -> Ns {
    duration_ms.saturating_mul(NS_PER_MS)
}

fn answer(to: &str, outcome: Outcome) -> Action {
    Action::SendAnswer { to: to.to_owned(), outcome }
}

#[cfg(test)]
mod tests;
