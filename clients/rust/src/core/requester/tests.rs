//! The rules of a managed client, by a clock that the test moves.

use super::{Action, Asker, Event, Requester, Source, State, SENDINGS_MAX};
use crate::core::wire::{decode_reply, Outcome, Reply};
use crate::core::{Ns, NS_PER_MS, NS_PER_S};

const CONFIRM: &str = "identify.confirm.0.g1";

fn requester(jitter: fn() -> f64) -> Requester {
    let asker = Asker { request_id: "a1".to_owned(), max_concurrency: Some(1), ..Asker::default() };
    Requester::new(asker, jitter)
}

fn begun(jitter: fn() -> f64) -> Requester {
    let mut requester = requester(jitter);
    assert_eq!(renewals(&requester.handle(&Event::Begin { pause_ns: 0 }, 0)), [0]);
    requester
}

fn queued(renew_in_ms: u64) -> Reply {
    placed(2, renew_in_ms)
}

fn placed(position: u64, renew_in_ms: u64) -> Reply {
    reply(&format!(
        r#"{{"status":"queued","request_id":"a1","position":{position},"eta_ms":null,"renew_in_ms":{renew_in_ms}}}"#
    ))
}

fn granted(grant_id: &str, renewal: u64) -> Reply {
    reply(&format!(
        r#"{{"status":"granted","shard_id":0,"bucket":0,"request_id":"a1","grant_id":"{grant_id}","renewal":{renewal},"use_within_ms":5000,"max_concurrency":1}}"#
    ))
}

fn refused(fields: &str) -> Reply {
    reply(&format!(r#"{{"status":"refused","request_id":"a1","message":"no",{fields}}}"#))
}

fn reply(json: &str) -> Reply {
    decode_reply(json.as_bytes()).expect("a reply of the contract")
}

fn receive(requester: &mut Requester, reply: &Reply, now_ns: Ns) -> Vec<Action> {
    let answer_to = CONFIRM;
    requester.handle(&Event::Received { reply, answer_to }, now_ns)
}

fn renewals(actions: &[Action]) -> Vec<u64> {
    let sent = actions.iter().filter_map(|action| match action {
        Action::SendRequest { request, .. } => Some(request.renewal),
        _ => None,
    });
    sent.collect()
}

fn outcomes(actions: &[Action]) -> Vec<Outcome> {
    let sent = actions.iter().filter_map(|action| match action {
        Action::SendAnswer { outcome, .. } => Some(*outcome),
        _ => None,
    });
    sent.collect()
}

/// Ticks at each deadline without any reply; returns how long each wait was.
fn unanswered_waits(requester: &mut Requester, mut now_ns: Ns, count: usize) -> Vec<Ns> {
    let mut waits = Vec::new();
    for _ in 0..count {
        let at_ns = requester.next_deadline_ns().expect("it goes on");
        assert_eq!(requester.handle(&Event::Tick, at_ns - 1), []);
        assert_eq!(renewals(&requester.handle(&Event::Tick, at_ns)).len(), 1);
        waits.push(at_ns - now_ns);
        now_ns = at_ns;
    }
    waits
}

#[test]
fn unanswered_renewals_double_from_2_s_up_to_60_s_with_jitter() {
    let mut longest = begun(|| 1.0);
    let seconds = unanswered_waits(&mut longest, 0, 8);
    assert_eq!(seconds, [2, 4, 8, 16, 32, 60, 60, 60].map(|s| s * NS_PER_S));
    let mut shortest = begun(|| 0.0);
    assert_eq!(unanswered_waits(&mut shortest, 0, 8), [NS_PER_S; 8]);
}

#[test]
fn a_queued_request_backs_off_to_half_of_its_expiry_only() {
    for (renew_in_ms, longest_s) in [(2_000, 6), (10_000, 15), (60_000, 60)] {
        let mut requester = begun(|| 1.0);
        receive(&mut requester, &queued(renew_in_ms), 0);
        let waits = unanswered_waits(&mut requester, 0, 9);
        assert_eq!(waits[0], renew_in_ms * NS_PER_MS, "the told pace is kept first");
        assert_eq!(waits[1], 2 * NS_PER_S, "the first repeat comes soon");
        assert_eq!(waits.iter().skip(1).max(), Some(&(longest_s * NS_PER_S)));
    }
}

#[test]
fn a_told_pace_below_2_s_is_the_first_bound() {
    let mut requester = begun(|| 1.0);
    receive(&mut requester, &queued(400), 0);
    let waits = unanswered_waits(&mut requester, 0, 4);
    assert_eq!(waits, [400, 400, 800, 1_600].map(|ms| ms * NS_PER_MS));
}

#[test]
fn the_first_reply_ends_the_row_of_unanswered_renewals() {
    let mut requester = begun(|| 1.0);
    unanswered_waits(&mut requester, 0, 4);
    receive(&mut requester, &queued(2_000), 100 * NS_PER_S);
    let waits = unanswered_waits(&mut requester, 100 * NS_PER_S, 2);
    assert_eq!(waits, [2 * NS_PER_S; 2]);
}

#[test]
fn it_sends_20_times_a_second_at_most() {
    let mut requester = begun(|| 0.0);
    let mut sent = 1;
    for ms in 0..3_000 {
        sent += renewals(&receive(&mut requester, &queued(0), ms * NS_PER_MS)).len() as u64;
    }
    assert_eq!(sent, 3 * SENDINGS_MAX);
}

#[test]
fn a_grant_is_used_until_use_within_after_the_first_sending_of_its_renewal() {
    let mut requester = begun(|| 0.0);
    receive(&mut requester, &queued(4_000), 0);
    requester.handle(&Event::Tick, 4 * NS_PER_S);
    let late = receive(&mut requester, &granted("g1", 0), 5 * NS_PER_S + 1);
    assert_eq!(outcomes(&late), [Outcome::Declined]);
    assert_eq!(renewals(&late), [2], "it renews at once");
    let in_time = receive(&mut requester, &granted("g2", 1), 9 * NS_PER_S);
    let until = match in_time.as_slice() {
        [Action::DeliverGrant { use_by_ns, .. }] => *use_by_ns,
        other => panic!("{other:?}"),
    };
    assert_eq!(until, 9 * NS_PER_S);
    assert_eq!(requester.state(), State::Holding);
    assert_eq!(requester.next_deadline_ns(), None);
}

#[test]
fn no_grant_is_used_for_longer_than_60_s() {
    let mut requester = begun(|| 0.0);
    let Reply::Granted(mut grant) = granted("g1", 0) else { unreachable!() };
    grant.use_within_ms = 1 << 53;
    let late = receive(&mut requester, &Reply::Granted(grant), 60 * NS_PER_S + 1);
    assert_eq!(outcomes(&late), [Outcome::Declined]);
}

#[test]
fn each_grant_is_decided_once_and_its_copies_get_the_same_answer() {
    let mut requester = begun(|| 0.0);
    receive(&mut requester, &granted("g1", 0), 0);
    assert_eq!(receive(&mut requester, &granted("g1", 0), 1), [], "a copy of the grant in hand");
    let other = receive(&mut requester, &granted("g2", 0), 2);
    assert_eq!(outcomes(&other), [Outcome::Declined], "another one while one is in hand");
    assert_eq!(outcomes(&requester.handle(&Event::Identified, 3)), [Outcome::Identified]);
    assert_eq!(requester.handle(&Event::Identified, 4), []);
    for (grant_id, outcome) in
        [("g1", Outcome::Identified), ("g2", Outcome::Declined), ("g3", Outcome::Declined), ("g1", Outcome::Identified)]
    {
        let copy = receive(&mut requester, &granted(grant_id, 0), 90 * NS_PER_S);
        assert_eq!(outcomes(&copy), [outcome], "{grant_id}");
    }
    assert_eq!(requester.state(), State::Over);
}

#[test]
fn a_grant_that_was_not_used_in_time_is_declined_and_the_request_goes_on() {
    let mut requester = begun(|| 0.0);
    receive(&mut requester, &granted("g1", 0), 0);
    let actions = requester.handle(&Event::Late, 6 * NS_PER_S);
    assert_eq!((outcomes(&actions), renewals(&actions)), (vec![Outcome::Declined], vec![1]));
    assert_eq!(requester.handle(&Event::Late, 6 * NS_PER_S), [], "there is none in hand");
}

#[test]
fn a_request_that_rests_is_silent_until_it_goes_on() {
    let mut requester = begun(|| 0.0);
    assert_eq!(requester.handle(&Event::Rest, 0), []);
    assert_eq!(requester.state(), State::Asking, "it held nothing");
    receive(&mut requester, &granted("g1", 0), 0);
    assert_eq!(outcomes(&requester.handle(&Event::Rest, 5 * NS_PER_S + 1)), [Outcome::Declined]);
    for silent in [queued(0), refused(r#""code":"ended""#), refused(r#""code":"overloaded","retry_after_ms":1"#)] {
        assert_eq!(receive(&mut requester, &silent, 6 * NS_PER_S), []);
    }
    assert_eq!(requester.handle(&Event::Reconnected { jitter: 0.0, waited_ns: 0 }, 7 * NS_PER_S), []);
    assert_eq!(requester.next_deadline_ns(), None);
    for grant_id in ["g1", "g2"] {
        assert_eq!(outcomes(&receive(&mut requester, &granted(grant_id, 0), 8 * NS_PER_S)), [Outcome::Declined]);
    }
    assert_eq!(requester.state(), State::Resting);
    assert_eq!(renewals(&requester.handle(&Event::GoOn, 9 * NS_PER_S)), [1]);
    assert_eq!(requester.handle(&Event::GoOn, 9 * NS_PER_S), []);
    receive(&mut requester, &granted("g3", 1), 9 * NS_PER_S);
    requester.handle(&Event::Rest, 9 * NS_PER_S);
    assert_eq!(requester.handle(&Event::Withdraw, 10 * NS_PER_S), [Action::SendCancel { bucket: 0 }]);
}

#[test]
fn a_withdrawal_declines_what_is_in_hand_and_what_still_comes() {
    let mut requester = begun(|| 0.0);
    receive(&mut requester, &granted("g1", 0), 0);
    let actions = requester.handle(&Event::Withdraw, 1);
    assert_eq!(outcomes(&actions), [Outcome::Declined]);
    assert_eq!(actions.last(), Some(&Action::SendCancel { bucket: 0 }));
    assert_eq!(requester.handle(&Event::Withdraw, 2), []);
    assert_eq!(outcomes(&receive(&mut requester, &granted("g2", 0), 3)), [Outcome::Declined]);
    assert_eq!(requester.next_deadline_ns(), None);
}

#[test]
fn a_request_that_was_never_sent_is_not_cancelled() {
    let mut requester = requester(|| 0.0);
    requester.handle(&Event::Begin { pause_ns: NS_PER_S }, 0);
    assert_eq!(requester.handle(&Event::Withdraw, 1), []);
}

#[test]
fn a_reconnect_keeps_the_id_and_the_numbers_and_the_head_renews_at_once() {
    let mut requester = begun(|| 0.0);
    receive(&mut requester, &placed(1, 60_000), 0);
    let actions = requester.handle(&Event::Reconnected { jitter: 1.0, waited_ns: 0 }, 9);
    let Some(Action::SendRequest { request, .. }) = actions.first() else {
        panic!("{actions:?}");
    };
    assert_eq!((request.request_id.as_str(), request.renewal), ("a1", 1));
}

#[test]
fn after_a_reconnect_a_crowd_returns_by_place_and_no_faster_than_it_came() {
    for (position, jitter, wait_ms) in [(1_001, 1.0, 50), (1_001, 0.0, 25), (900_000, 1.0, 5_000)] {
        let mut requester = begun(|| 0.0);
        receive(&mut requester, &placed(position, 60_000), 0);
        requester.handle(&Event::Reconnected { jitter, waited_ns: 0 }, 0);
        assert_eq!(requester.next_deadline_ns(), Some(wait_ms * NS_PER_MS));
    }
    for (waited_s, wait_ms) in [(0, 0), (2, 500), (100, 1_250)] {
        let mut requester = requester(|| 1.0);
        requester.handle(&Event::Begin { pause_ns: 0 }, 0);
        let waited_ns = waited_s * NS_PER_S;
        let sent = requester.handle(&Event::Reconnected { jitter: 0.25, waited_ns }, 0);
        if wait_ms == 0 {
            assert_eq!(renewals(&sent), [1]);
        } else {
            assert_eq!(requester.next_deadline_ns(), Some(wait_ms * NS_PER_MS));
        }
    }
}

#[test]
fn a_renewal_that_is_due_sooner_than_after_a_reconnect_stays() {
    let mut requester = begun(|| 0.0);
    receive(&mut requester, &placed(900_000, 1_000), 0);
    requester.handle(&Event::Reconnected { jitter: 1.0, waited_ns: 0 }, 0);
    assert_eq!(requester.next_deadline_ns(), Some(NS_PER_S));
}

#[test]
fn refusals_in_a_row_wait_longer_and_a_place_ends_the_row() {
    let mut requester = begun(|| 1.0);
    let overloaded = refused(r#""code":"overloaded","retry_after_ms":3000"#);
    let mut waits_s = Vec::new();
    let mut now_ns = 0;
    for _ in 0..5 {
        let reported = receive(&mut requester, &overloaded, now_ns);
        assert!(matches!(reported.as_slice(), [Action::Report { .. }]), "{reported:?}");
        let at_ns = requester.next_deadline_ns().expect("it asks again");
        waits_s.push((at_ns - now_ns) / NS_PER_S);
        now_ns = at_ns;
        requester.handle(&Event::Tick, now_ns);
    }
    assert_eq!(waits_s, [6, 12, 24, 48, 60]);
    receive(&mut requester, &queued(60_000), now_ns);
    receive(&mut requester, &refused(r#""code":"of_a_later_version""#), now_ns);
    assert_eq!(requester.next_deadline_ns(), Some(now_ns + 10 * NS_PER_S), "5 s where none is named");
}

#[test]
fn the_longest_numbers_of_the_wire_are_bounded() {
    let mut requester = begun(|| 1.0);
    receive(&mut requester, &queued(1 << 53), 0);
    assert_eq!(requester.next_deadline_ns(), Some(60 * NS_PER_S));
    receive(&mut requester, &refused(r#""code":"overloaded","retry_after_ms":9007199254740992"#), 0);
    assert_eq!(requester.next_deadline_ns(), Some(72 * NS_PER_S));
}

#[test]
fn a_changed_max_concurrency_moves_the_request() {
    let mut requester = begun(|| 0.0);
    requester.asker.shard_id = 5;
    let moved = receive(&mut requester, &refused(r#""code":"wrong_bucket","max_concurrency":3"#), 0);
    assert!(matches!(moved.as_slice(), [Action::SendRequest { bucket: 2, .. }]), "{moved:?}");
    let same = receive(&mut requester, &refused(r#""code":"wrong_bucket","max_concurrency":3"#), 0);
    assert!(matches!(same.as_slice(), [Action::Report { .. }]), "{same:?}");
    assert_eq!(requester.next_deadline_ns(), Some(5 * NS_PER_S), "the same bucket again is no move");
}

#[test]
fn after_ended_another_request_begins_after_a_pause_that_doubles() {
    let mut pauses_ms = Vec::new();
    for anew_count in [0, 1, 2, 3, 4, 5, 6, 300] {
        let mut requester = begun(|| 0.0);
        requester.asker.anew_count = anew_count;
        match receive(&mut requester, &refused(r#""code":"ended""#), 0).as_slice() {
            [Action::AskAnew { pause_ns, anew_count: next, .. }] => {
                assert_eq!(*next, anew_count + 1);
                pauses_ms.push(pause_ns / NS_PER_MS);
            }
            other => panic!("{other:?}"),
        }
        let late = receive(&mut requester, &granted("g1", 0), 1);
        assert_eq!(outcomes(&late), [Outcome::Declined]);
    }
    assert_eq!(pauses_ms, [250, 500, 1_000, 2_000, 4_000, 8_000, 8_000, 8_000]);
}

#[test]
fn only_its_own_grants_are_answered() {
    let mut requester = begun(|| 0.0);
    let Reply::Granted(own) = granted("g1", 0) else { unreachable!() };
    let mut others = vec![own.clone(), own.clone(), own.clone(), own.clone()];
    others[0].request_id = "b2".to_owned();
    others[1].shard_id = 7;
    others[2].renewal = 1;
    others[3].bucket = 3;
    for other in others {
        assert_eq!(receive(&mut requester, &Reply::Granted(other), 1), []);
    }
    assert_eq!(requester.state(), State::Asking);
}

#[test]
fn a_source_numbers_its_requests_in_their_order() {
    let mut source = Source::new("s".to_owned(), 5_000);
    let numbers = [5_000, 5_000, 7_000, 7_001, 20_000].map(|now_ns| source.begin(now_ns).1);
    assert_eq!(numbers, [0, 1, 2, 3, 15]);
}
