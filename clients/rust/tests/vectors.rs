//! Plays the test vectors that the project ships for managed clients.

use nats_identify::core::requester::{Action, Asker, Event, Requester};
use nats_identify::core::wire::{decode_reply, Subjects};
use nats_identify::core::NS_PER_MS;
use serde_json::{json, Map, Value};

const VECTORS: &str = include_str!("../../../nats_identify/testing/client_kit/vectors.json");

#[test]
fn every_exchange_is_played_as_the_project_s_own_client_plays_it() {
    let vectors: Value = serde_json::from_str(VECTORS).expect("JSON");
    let subjects = Subjects::new(vectors["prefix"].as_str().expect("text")).expect("a prefix");
    let exchanges = vectors["exchanges"].as_array().expect("a list");
    assert!(exchanges.len() >= 11, "{}", exchanges.len());
    for exchange in exchanges {
        play(exchange, &subjects);
    }
}

fn play(exchange: &Value, subjects: &Subjects) {
    let number = |name: &str| u32::try_from(exchange[name].as_u64().expect("a number")).expect("small");
    let asker = Asker {
        shard_id: number("shard_id"),
        request_id: exchange["request_id"].as_str().expect("text").to_owned(),
        max_concurrency: Some(number("max_concurrency")),
        ..Asker::default()
    };
    let mut requester = Requester::new(asker, || 0.0);
    for step in exchange["steps"].as_array().expect("a list") {
        let now_ns = step["at_ms"].as_u64().expect("a number") * NS_PER_MS;
        let reply = decode_reply(step["payload"].to_string().as_bytes());
        let event = match step["event"].as_str().expect("text") {
            "begin" => Event::Begin { pause_ns: 0 },
            "time" => Event::Tick,
            "identified" => Event::Identified,
            "withdraw" => Event::Withdraw,
            "message" => Event::Received {
                reply: reply.as_ref().expect("a reply of the contract"),
                answer_to: step["reply"].as_str().unwrap_or_default(),
            },
            other => panic!("an event that this test does not know: {other}"),
        };
        let actions = requester.handle(&event, now_ns);
        let done: Vec<Value> = actions.iter().filter_map(|one| shown(one, subjects, &requester)).collect();
        let expected: Vec<Value> = step["out"].as_array().expect("a list").iter().map(without_defaults).collect();
        assert_eq!(done, expected, "{}: {step}", exchange["name"]);
    }
}

fn shown(action: &Action, subjects: &Subjects, requester: &Requester) -> Option<Value> {
    let shown = match action {
        Action::SendRequest { bucket, request } => json!({"publish": subjects.request(*bucket), "payload": request}),
        Action::SendCancel { bucket } => {
            json!({"publish": subjects.cancel(*bucket), "payload": {"request_id": requester.asker().request_id}})
        }
        Action::SendAnswer { to, outcome } => json!({"publish": to, "payload": {"outcome": outcome}}),
        Action::DeliverGrant { grant_id, use_by_ns, .. } => {
            json!({"may_identify": grant_id, "until_ms": use_by_ns / NS_PER_MS})
        }
        Action::AskAnew { .. } => json!({"begin": "a new request, with another request_id"}),
        Action::Report { .. } => return None,
    };
    Some(without_defaults(&shown))
}

/// A field that has its default may be left out of a request.
fn without_defaults(message: &Value) -> Value {
    let mut message = message.clone();
    if let Some(payload) = message.get_mut("payload").and_then(Value::as_object_mut) {
        let kept = payload.iter().filter(|(_, value)| **value != json!(0) && !value.is_null());
        *payload = kept.map(|(name, value)| (name.clone(), value.clone())).collect::<Map<_, _>>();
    }
    message
}
