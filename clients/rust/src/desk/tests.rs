//! How turns are handed over, by a clock that the test moves.

use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::Value;
use tokio::sync::oneshot::{error::TryRecvError, Receiver};

use super::{Desk, Incoming, Outgoing, Parts, INFO_TOKEN};
use crate::core::wire::Subjects;
use crate::core::{Ns, NS_PER_MS, NS_PER_S};

const KEEP_NS: Ns = 15 * NS_PER_S;
const SUBSCRIBE_AGAIN_NS: Ns = 30 * NS_PER_S;
const BUSY_NS: Ns = 300 * NS_PER_S;
const USE_WITHIN_NS: Ns = 5 * NS_PER_S;

/// A few microseconds: between two calls of one poll.
const ONE_POLL: Ns = 5_000;

fn new_id() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!("r{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

/// A desk with an open link, which knows that there is one bucket.
fn desk() -> Desk {
    let parts = Parts {
        subjects: Subjects::default(),
        client: "pod-0".to_owned(),
        servers: "127.0.0.1:4222".to_owned(),
        keep_ns: KEEP_NS,
        subscribe_again_ns: SUBSCRIBE_AGAIN_NS,
        new_id,
        jitter: || 0.0,
    };
    let mut desk = Desk::new(parts, 0);
    desk.connected(0);
    desk.take_outbox();
    let payload = br#"{"max_concurrency":1}"#;
    desk.received(&Incoming { token: INFO_TOKEN, payload, reply: "", is_status: false }, 0);
    desk
}

/// What was sent: the subject without the prefix, and the payload.
fn sent(desk: &mut Desk) -> Vec<(String, Value)> {
    let read = |one: Outgoing| {
        let payload = if one.payload.is_empty() { Value::Null } else { serde_json::from_slice(&one.payload).unwrap() };
        (one.subject.trim_start_matches("identify.").to_owned(), payload)
    };
    desk.take_outbox().into_iter().map(read).collect()
}

/// Takes out the one request that was sent, and returns its payload.
fn one_request(desk: &mut Desk) -> Value {
    let all = sent(desk);
    assert_eq!(all.len(), 1, "{all:?}");
    assert!(all[0].0.starts_with("request."), "{all:?}");
    all[0].1.clone()
}

fn outcomes(desk: &mut Desk) -> Vec<String> {
    let all = sent(desk);
    let of_confirms = all.iter().filter(|(subject, _)| subject.starts_with("confirm."));
    of_confirms.map(|(_, payload)| payload["outcome"].as_str().unwrap().to_owned()).collect()
}

fn grant(desk: &mut Desk, request: &Value, grant_id: &str, now_ns: Ns) {
    let (id, renewal, shard) = (request["request_id"].as_str().unwrap(), &request["renewal"], &request["shard_id"]);
    let payload = format!(
        r#"{{"status":"granted","shard_id":{shard},"bucket":0,"request_id":"{id}","grant_id":"{grant_id}","renewal":{renewal},"use_within_ms":5000,"max_concurrency":1}}"#
    );
    reply(desk, id, &payload, &format!("identify.confirm.0.{grant_id}"), now_ns);
}

fn refuse(desk: &mut Desk, request: &Value, code: &str, now_ns: Ns) {
    let id = request["request_id"].as_str().unwrap();
    let payload = format!(r#"{{"status":"refused","code":"{code}","message":"no","request_id":"{id}"}}"#);
    reply(desk, id, &payload, "", now_ns);
}

fn reply(desk: &mut Desk, token: &str, payload: &str, reply: &str, now_ns: Ns) {
    desk.received(&Incoming { token, payload: payload.as_bytes(), reply, is_status: false }, now_ns);
}

/// What twilight does in a poll: it calls again while the receiver is closed. Returns the last receiver.
fn poll(desk: &mut Desk, shard_id: u32, mut receiver: Receiver<()>, now_ns: &mut Ns) -> Result<Receiver<()>, u32> {
    for calls in 1..10 {
        match receiver.try_recv() {
            Ok(()) => return Err(calls),
            Err(TryRecvError::Empty) => return Ok(receiver),
            Err(TryRecvError::Closed) => {
                *now_ns += ONE_POLL;
                receiver = desk.enqueue(shard_id, *now_ns);
            }
        }
    }
    panic!("it goes on and on");
}

fn waits(receiver: Result<Receiver<()>, u32>) -> Receiver<()> {
    receiver.expect("it waits")
}

#[test]
fn a_turn_is_handed_over_inside_the_poll_of_the_shard() {
    let (mut desk, mut now_ns) = (desk(), 0);
    let receiver = desk.enqueue(3, now_ns);
    let request = one_request(&mut desk);
    let receiver = waits(poll(&mut desk, 3, receiver, &mut now_ns));
    grant(&mut desk, &request, "g1", now_ns);
    assert_eq!(sent(&mut desk), [], "nothing is decided before the shard is polled");
    now_ns += NS_PER_S;
    assert_eq!(poll(&mut desk, 3, receiver, &mut now_ns).unwrap_err(), 3, "closed, closed, resolved");
    assert_eq!(outcomes(&mut desk), ["identified"]);
    grant(&mut desk, &request, "g1", now_ns);
    grant(&mut desk, &request, "g2", now_ns);
    assert_eq!(outcomes(&mut desk), ["identified", "declined"], "a copy, and another one");
}

#[test]
fn a_shard_that_is_polled_too_late_gets_no_turn_and_waits_on() {
    let (mut desk, mut now_ns) = (desk(), 0);
    let receiver = desk.enqueue(0, now_ns);
    let request = one_request(&mut desk);
    grant(&mut desk, &request, "g1", now_ns);
    now_ns = USE_WITHIN_NS + 1;
    let receiver = waits(poll(&mut desk, 0, receiver, &mut now_ns));
    let all = sent(&mut desk);
    assert_eq!(all[0].1["outcome"], "declined");
    assert_eq!((&all[1].1["request_id"], &all[1].1["renewal"]), (&request["request_id"], &1.into()), "at once");
    grant(&mut desk, &all[1].1.clone(), "g2", now_ns);
    assert!(poll(&mut desk, 0, receiver, &mut now_ns).is_err(), "the next one is used");
    assert_eq!(outcomes(&mut desk), ["identified"]);
}

#[test]
fn a_grant_that_no_poll_takes_is_declined_when_it_expires() {
    let mut desk = desk();
    let receiver = desk.enqueue(0, 0);
    let request = one_request(&mut desk);
    grant(&mut desk, &request, "g1", 0);
    desk.tick(USE_WITHIN_NS);
    assert_eq!(sent(&mut desk), []);
    assert!(desk.next_deadline_ns() <= Some(USE_WITHIN_NS + 1));
    desk.tick(USE_WITHIN_NS + 1);
    assert_eq!(outcomes(&mut desk), ["declined"]);
    drop(receiver);
}

#[test]
fn a_shard_that_is_busy_for_long_holds_no_bucket_again_and_goes_on_at_its_place() {
    let (mut desk, mut now_ns) = (desk(), 0);
    let receiver = desk.enqueue(0, now_ns);
    let request = one_request(&mut desk);
    grant(&mut desk, &request, "g1", now_ns);
    let mut all = Vec::new();
    while now_ns < 60 * NS_PER_S {
        now_ns += NS_PER_S;
        desk.tick(now_ns);
        all.extend(sent(&mut desk).into_iter().map(|(subject, _)| subject));
    }
    assert_eq!(all, ["confirm.0.g1"], "it asks for no turn that it cannot use, and withdraws nothing");
    desk.disconnected("away", now_ns);
    desk.connected(now_ns);
    assert_eq!(sent(&mut desk), []);
    let receiver = waits(poll(&mut desk, 0, receiver, &mut now_ns));
    let renewed = one_request(&mut desk);
    assert_eq!((&renewed["request_id"], &renewed["renewal"]), (&request["request_id"], &1.into()));
    assert_eq!(renewed["waited_ms"], 60_000, "it restores the place, where a coordinator has dropped the request");
    grant(&mut desk, &renewed, "g2", now_ns);
    assert!(poll(&mut desk, 0, receiver, &mut now_ns).is_err());
    assert_eq!(outcomes(&mut desk), ["identified"]);
}

#[test]
fn a_shard_that_never_calls_for_its_turn_is_withdrawn_at_last() {
    let mut desk = desk();
    let _receiver = desk.enqueue(0, 0);
    let request = one_request(&mut desk);
    grant(&mut desk, &request, "g1", 0);
    desk.tick(BUSY_NS - 1);
    assert_eq!(outcomes(&mut desk), ["declined"]);
    desk.tick(BUSY_NS);
    let all = sent(&mut desk);
    assert_eq!((all.len(), all[0].0.as_str()), (1, "cancel.0"));
    assert_eq!(all[0].1["request_id"], request["request_id"]);
}

#[test]
fn a_grant_that_no_connection_comes_back_for_is_declined_once_and_the_place_is_given_up() {
    let mut desk = desk();
    drop(desk.enqueue(0, 0));
    let request = one_request(&mut desk);
    grant(&mut desk, &request, "g1", 1);
    desk.tick(USE_WITHIN_NS + 1);
    assert_eq!(outcomes(&mut desk), ["declined"]);
    desk.tick(KEEP_NS);
    assert_eq!(sent(&mut desk), []);
    desk.tick(KEEP_NS + 1);
    assert_eq!(sent(&mut desk)[0].0, "cancel.0");
}

#[test]
fn a_new_connection_keeps_the_request_of_the_one_that_was_lost() {
    let (mut desk, mut now_ns) = (desk(), 0);
    drop(desk.enqueue(0, now_ns));
    let request = one_request(&mut desk);
    desk.tick(NS_PER_S / 2);
    let receiver = desk.enqueue(0, KEEP_NS);
    assert_eq!(sent(&mut desk), [], "neither a cancel nor a second request");
    now_ns += KEEP_NS;
    desk.tick(now_ns + NS_PER_S);
    let renewed = one_request(&mut desk);
    assert_eq!(renewed["request_id"], request["request_id"]);
    grant(&mut desk, &renewed, "g1", now_ns + NS_PER_S);
    now_ns += NS_PER_S;
    assert!(poll(&mut desk, 0, receiver, &mut now_ns).is_err());
}

#[test]
fn a_grant_that_comes_between_two_connections_is_used_by_a_poll_and_not_by_the_hello() {
    let (mut desk, mut now_ns) = (desk(), 0);
    let receiver = desk.enqueue(0, now_ns);
    let request = one_request(&mut desk);
    grant(&mut desk, &request, "g1", now_ns);
    drop(receiver); // the connection is lost before the shard is polled
    now_ns += NS_PER_S;
    let receiver = desk.enqueue(0, now_ns); // HELLO of the next one
    assert_eq!(outcomes(&mut desk), Vec::<String>::new(), "HELLO is no poll that sends");
    drop(receiver);
    now_ns += 50 * NS_PER_MS;
    let receiver = desk.enqueue(0, now_ns); // HELLO once more: two of them are no poll either
    assert_eq!(outcomes(&mut desk), Vec::<String>::new());
    now_ns += 400 * NS_PER_MS;
    assert!(poll(&mut desk, 0, receiver, &mut now_ns).is_err());
    assert_eq!(outcomes(&mut desk), ["identified"]);
}

#[test]
fn a_receiver_that_is_dropped_is_withdrawn_after_a_while() {
    let mut desk = desk();
    drop(desk.enqueue(0, 0));
    let request = one_request(&mut desk);
    desk.tick(NS_PER_S / 4);
    assert!(desk.next_deadline_ns() <= Some(NS_PER_S / 4 + KEEP_NS));
    desk.tick(NS_PER_S / 4 + KEEP_NS);
    let all = sent(&mut desk);
    let cancels: Vec<_> = all.iter().filter(|(subject, _)| subject == "cancel.0").collect();
    assert_eq!((cancels.len(), &cancels[0].1["request_id"]), (1, &request["request_id"]), "{all:?}");
    grant(&mut desk, &request, "g1", KEEP_NS + NS_PER_S);
    assert_eq!(outcomes(&mut desk), ["declined"]);
    drop(desk.enqueue(0, KEEP_NS + NS_PER_S));
    assert_ne!(one_request(&mut desk)["request_id"], request["request_id"]);
}

#[test]
fn a_withdrawal_with_a_grant_in_hand_declines_it_first() {
    let mut desk = desk();
    let _receiver = desk.enqueue(0, 0);
    let request = one_request(&mut desk);
    grant(&mut desk, &request, "g1", 0);
    desk.withdraw(0, 1);
    let all = sent(&mut desk);
    assert_eq!((all[0].0.as_str(), &all[0].1["outcome"]), ("confirm.0.g1", &"declined".into()));
    assert_eq!(all[1].0, "cancel.0");
}

#[test]
fn two_shards_of_one_id_have_a_request_each() {
    let mut desk = desk();
    let _first = desk.enqueue(0, 0);
    let _second = desk.enqueue(0, 0);
    let all = sent(&mut desk);
    assert_eq!(all.len(), 2);
    assert_ne!(all[0].1["request_id"], all[1].1["request_id"]);
    assert!(all[0].1["asked_us"].as_u64() < all[1].1["asked_us"].as_u64(), "in the order in which they asked");
}

#[test]
fn after_ended_the_same_receiver_waits_by_a_new_request() {
    let (mut desk, mut now_ns) = (desk(), 0);
    let receiver = desk.enqueue(0, now_ns);
    let request = one_request(&mut desk);
    refuse(&mut desk, &request, "ended", now_ns);
    assert_eq!(sent(&mut desk), []);
    now_ns += NS_PER_S / 4;
    desk.tick(now_ns);
    let anew = one_request(&mut desk);
    assert_ne!(anew["request_id"], request["request_id"]);
    assert_eq!(anew["renewal"], 0);
    grant(&mut desk, &request, "g1", now_ns);
    assert_eq!(outcomes(&mut desk), ["declined"], "a grant of the old one");
    let receiver = waits(poll(&mut desk, 0, receiver, &mut now_ns));
    grant(&mut desk, &anew, "g2", now_ns);
    assert!(poll(&mut desk, 0, receiver, &mut now_ns).is_err());
}

/// Brings a shard up to its IDENTIFY, and returns the payload of its newest renewal.
fn identify(desk: &mut Desk, shard_id: u32, now_ns: &mut Ns) -> Value {
    let receiver = desk.enqueue(shard_id, *now_ns);
    desk.tick(*now_ns + 5 * NS_PER_S);
    *now_ns += 5 * NS_PER_S;
    let request = sent(desk).pop().expect("it asks").1; // its newest renewal
    grant(desk, &request, "g1", *now_ns);
    assert!(poll(desk, shard_id, receiver, now_ns).is_err());
    assert_eq!(outcomes(desk), ["identified"]);
    request
}

#[test]
fn ready_and_rejected_follow_identified_once() {
    let (mut desk, mut now_ns) = (desk(), 0);
    identify(&mut desk, 0, &mut now_ns);
    desk.ready(0);
    desk.ready(0);
    desk.invalid_session(0, now_ns);
    assert_eq!(outcomes(&mut desk), ["ready"], "an Invalid Session of a live session is no answer to IDENTIFY");
    identify(&mut desk, 0, &mut now_ns);
    desk.invalid_session(0, now_ns);
    assert_eq!(outcomes(&mut desk), ["rejected"]);
    desk.ready(1);
    assert_eq!(outcomes(&mut desk), Vec::<String>::new(), "no turn of this shard is known");
}

#[test]
fn what_comes_after_the_next_connection_is_no_answer_to_the_identify_before() {
    let (mut desk, mut now_ns) = (desk(), 0);
    identify(&mut desk, 0, &mut now_ns);
    let _receiver = desk.enqueue(0, now_ns);
    desk.invalid_session(0, now_ns);
    assert_eq!(outcomes(&mut desk), Vec::<String>::new());
}

#[test]
fn a_shard_whose_session_was_lost_goes_first_until_it_identifies() {
    let (mut desk, mut now_ns) = (desk(), 0);
    let priorities = |desk: &mut Desk, now_ns: &mut Ns| identify(desk, 0, now_ns)["priority"].as_i64().unwrap();
    assert_eq!(priorities(&mut desk, &mut now_ns), 0);
    assert_eq!(priorities(&mut desk, &mut now_ns), 0, "it had no READY");
    desk.ready(0);
    desk.take_outbox();
    assert_eq!(priorities(&mut desk, &mut now_ns), 1);
    assert_eq!(priorities(&mut desk, &mut now_ns), 0);
    desk.resumed(0);
    assert_eq!(priorities(&mut desk, &mut now_ns), 1);
}

#[test]
fn after_invalid_session_it_asks_no_sooner_than_1_s_later() {
    let mut desk = desk();
    desk.invalid_session(0, 0);
    let _receiver = desk.enqueue(0, NS_PER_MS);
    desk.tick(NS_PER_S - 1);
    assert_eq!(sent(&mut desk), []);
    desk.tick(NS_PER_S);
    assert_eq!(one_request(&mut desk)["renewal"], 0);
}

#[test]
fn while_nats_is_away_nothing_is_handed_over_and_the_same_request_goes_on() {
    let (mut desk, mut now_ns) = (desk(), 0);
    let receiver = desk.enqueue(0, now_ns);
    let request = one_request(&mut desk);
    for second in 1..60 {
        now_ns = second * NS_PER_S;
        desk.disconnected("away", now_ns);
        desk.tick(now_ns);
    }
    assert_eq!(sent(&mut desk), [], "no request piles up");
    let receiver = waits(poll(&mut desk, 0, receiver, &mut now_ns));
    desk.connected(now_ns);
    let renewed = one_request(&mut desk);
    assert_eq!(renewed["request_id"], request["request_id"]);
    assert!(renewed["renewal"].as_u64() > Some(1));
    assert!(renewed["waited_ms"].as_u64() >= Some(59_000));
    drop(receiver);
}

#[test]
fn answers_and_cancels_wait_for_the_connection_and_requests_do_not() {
    let mut desk = desk();
    let _receiver = desk.enqueue(0, 0);
    let request = desk.take_outbox();
    desk.withdraw(0, 1);
    let cancel = desk.take_outbox();
    desk.put_back(request.into_iter().chain(cancel).collect());
    let subjects: Vec<String> = sent(&mut desk).into_iter().map(|(subject, _)| subject).collect();
    assert_eq!(subjects, ["cancel.0"]);
}

#[test]
fn the_first_requests_wait_for_the_limits_for_a_second_at_most() {
    for is_answered in [true, false] {
        let mut desk = desk();
        desk.max_concurrency = None;
        desk.connected(0);
        let _receiver = desk.enqueue(5, 0);
        let asked: Vec<String> = sent(&mut desk).into_iter().map(|(subject, _)| subject).collect();
        assert_eq!(asked, ["info"]);
        if is_answered {
            reply(&mut desk, INFO_TOKEN, r#"{"max_concurrency":2,"window_ms":5000}"#, "", 1);
            let all = sent(&mut desk);
            assert_eq!((all[0].0.as_str(), &all[0].1["max_concurrency"]), ("request.1", &2.into()));
        } else {
            desk.tick(NS_PER_S);
            let all = sent(&mut desk);
            assert_eq!((all[0].0.as_str(), &all[0].1["max_concurrency"]), ("request.0", &Value::Null));
        }
    }
}

#[test]
fn a_coordinator_that_is_back_is_found_by_a_probe_and_all_requests_renew() {
    let (mut desk, mut now_ns) = (desk(), 0);
    let _receivers = [desk.enqueue(0, 0), desk.enqueue(1, 0)];
    let request = sent(&mut desk).remove(0).1;
    let token = request["request_id"].as_str().unwrap();
    desk.received(&Incoming { token, payload: b"", reply: "", is_status: true }, now_ns);
    let mut probes = 0;
    while now_ns < 20 * NS_PER_S {
        now_ns += NS_PER_S / 4;
        desk.tick(now_ns);
        probes += sent(&mut desk).iter().filter(|(subject, _)| subject == "info").count();
    }
    assert!((10..=20).contains(&probes), "{probes}");
    reply(&mut desk, INFO_TOKEN, r#"{"max_concurrency":1}"#, "", now_ns);
    assert_eq!(sent(&mut desk).len(), 2, "both renew");
    desk.tick(now_ns + 3 * NS_PER_S);
    assert!(sent(&mut desk).iter().all(|(subject, _)| subject != "info"), "no probe is needed");
}

#[test]
fn a_refused_inbox_is_subscribed_to_again_and_all_requests_renew_when_something_arrives_there() {
    let mut desk = desk();
    let _receiver = desk.enqueue(0, 0);
    let request = one_request(&mut desk);
    assert!(!desk.takes_subscribing(NS_PER_S), "nothing was refused");
    desk.inbox_refused(NS_PER_S);
    assert!(!desk.takes_subscribing(NS_PER_S + SUBSCRIBE_AGAIN_NS - 1));
    for again in 1..4 {
        let now_ns = NS_PER_S + again * SUBSCRIBE_AGAIN_NS;
        assert!(desk.takes_subscribing(now_ns));
        assert_eq!(sent(&mut desk), [("info".to_owned(), Value::Null)], "its answer shows whether it is open");
        assert!(!desk.takes_subscribing(now_ns + SUBSCRIBE_AGAIN_NS), "not refused so far");
        desk.inbox_refused(now_ns);
    }
    let now_ns = NS_PER_S + 4 * SUBSCRIBE_AGAIN_NS;
    assert!(desk.takes_subscribing(now_ns));
    desk.take_outbox();
    reply(&mut desk, INFO_TOKEN, r#"{"max_concurrency":1}"#, "", now_ns);
    assert_eq!(one_request(&mut desk)["request_id"], request["request_id"]);
    reply(&mut desk, INFO_TOKEN, r#"{"max_concurrency":1}"#, "", now_ns);
    assert_eq!(sent(&mut desk), [], "only once");
    desk.inbox_refused(now_ns);
    desk.connected(now_ns);
    assert!(!desk.takes_subscribing(now_ns + SUBSCRIBE_AGAIN_NS), "async-nats subscribes at a reconnect");
}

#[test]
fn a_grant_with_another_reply_subject_than_its_confirm_subject_is_not_used() {
    let mut desk = desk();
    let _receiver = desk.enqueue(0, 0);
    let request = one_request(&mut desk);
    let id = request["request_id"].as_str().unwrap();
    let payload = format!(
        r#"{{"status":"granted","shard_id":0,"bucket":0,"request_id":"{id}","grant_id":"g1","renewal":0,"use_within_ms":5000,"max_concurrency":1}}"#
    );
    for misled in ["", "identify.confirm.1.g1", "identify.confirm.0.g2", "$JS.API.STREAM.DELETE.KV"] {
        reply(&mut desk, id, &payload, misled, 1);
        assert!(desk.waits[id].in_hand.is_none(), "{misled}");
    }
    assert_eq!(sent(&mut desk), []);
    reply(&mut desk, id, &payload, "identify.confirm.0.g1", 1);
    assert!(desk.waits[id].in_hand.is_some());
}

#[test]
fn after_the_end_no_receiver_resolves_and_none_is_closed() {
    let mut desk = desk();
    let mut before = desk.enqueue(0, 0);
    let request = one_request(&mut desk);
    desk.close(1);
    assert_eq!(sent(&mut desk)[0].0, "cancel.0");
    let mut after = desk.enqueue(0, 2);
    grant(&mut desk, &request, "g1", 3);
    assert_eq!(outcomes(&mut desk), ["declined"]);
    for receiver in [&mut before, &mut after] {
        assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty), "a closed one makes twilight call again and again");
    }
}

#[test]
fn garbage_changes_nothing() {
    let mut desk = desk();
    let _receiver = desk.enqueue(0, 0);
    let request = one_request(&mut desk);
    let id = request["request_id"].as_str().unwrap();
    for payload in ["", "{", "[]", r#"{"status":"later"}"#, "\u{1b}[31m"] {
        reply(&mut desk, id, payload, "", 1);
        reply(&mut desk, "of-another", payload, "", 1);
        reply(&mut desk, INFO_TOKEN, payload, "", 1);
    }
    assert_eq!(sent(&mut desk), []);
}
