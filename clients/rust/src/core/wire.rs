//! The messages of the contract as JSON, and the subjects of one prefix. It sends nothing.

use serde::{Deserialize, Serialize};

/// A longer reply is not read: a reply has 1 KiB of text at most, and numbers.
pub const REPLY_BYTES_MAX: usize = 16_384;

/// Bytes of UTF-8 of a client's name in a request, at most.
pub const CLIENT_BYTES_MAX: usize = 128;

/// The largest number on the wire.
const INT_MAX: u64 = 1 << 53;

/// Most buckets that a bot may have.
const BUCKETS_MAX: u32 = 4096;

/// Characters of an id, at most.
const TOKEN_MAX: usize = 64;

/// The subjects of one prefix.
#[derive(Clone, Debug)]
pub struct Subjects {
    prefix: String,
}

impl Default for Subjects {
    /// The subjects of the prefix `identify`.
    fn default() -> Self {
        Self { prefix: "identify".to_owned() }
    }
}

impl Subjects {
    /// Returns the subjects, or `None` where the prefix is not plain tokens (`A-Z a-z 0-9 _ -`) separated by dots.
    #[must_use]
    pub fn new(prefix: &str) -> Option<Self> {
        prefix.split('.').all(|token| !token.is_empty() && is_plain(token)).then(|| Self { prefix: prefix.to_owned() })
    }

    /// The prefix.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Where a request and its renewals go.
    #[must_use]
    pub fn request(&self, bucket: u32) -> String {
        format!("{}.request.{bucket}", self.prefix)
    }

    /// Where the answer to a grant goes: the reply subject of the grant's message.
    #[must_use]
    pub fn confirm(&self, bucket: u32, grant_id: &str) -> String {
        format!("{}.confirm.{bucket}.{grant_id}", self.prefix)
    }

    /// Where a withdrawal goes.
    #[must_use]
    pub fn cancel(&self, bucket: u32) -> String {
        format!("{}.cancel.{bucket}", self.prefix)
    }

    /// Where any coordinator replies with the limits.
    #[must_use]
    pub fn info(&self) -> String {
        format!("{}.info", self.prefix)
    }
}

/// A request or its renewal.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Request {
    /// The shard.
    pub shard_id: u32,
    /// The identity of the request.
    pub request_id: String,
    /// One higher each time that the request is sent.
    pub renewal: u64,
    /// Milliseconds since the first sending.
    pub waited_ms: u64,
    /// The number with which the bucket was computed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_concurrency: Option<u32>,
    /// From -10 to 10; higher goes first.
    pub priority: i8,
    /// Always true: this client renews and confirms.
    pub managed: bool,
    /// A name for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// Random, one for each queue object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Microseconds since the source began, larger for each new request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asked_us: Option<u64>,
}

/// What became of a grant.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// IDENTIFY was sent just now.
    Identified,
    /// IDENTIFY was not sent and will not be.
    Declined,
    /// Discord sent READY.
    Ready,
    /// Discord answered this IDENTIFY with Invalid Session.
    Rejected,
}

/// The payload of a confirm.
#[derive(Serialize)]
pub(crate) struct Confirm {
    pub outcome: Outcome,
}

/// The payload of a withdrawal.
#[derive(Serialize)]
pub(crate) struct Cancel<'a> {
    pub request_id: &'a str,
}

/// The turn.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct Granted {
    /// The shard.
    pub shard_id: u64,
    /// Its bucket.
    pub bucket: u64,
    /// The request.
    pub request_id: String,
    /// The identity of the grant.
    pub grant_id: String,
    /// The renewal that this grant echoes.
    pub renewal: u64,
    /// IDENTIFY may be sent until so long after the first sending of that renewal.
    pub use_within_ms: u64,
    /// The number under which the grant was made.
    pub max_concurrency: u32,
}

/// The request waits.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct Queued {
    /// The request.
    pub request_id: String,
    /// 1 is next.
    pub position: u64,
    /// Expected time to the turn, where it is known.
    pub eta_ms: Option<u64>,
    /// Send the next renewal after this; 0 means now.
    pub renew_in_ms: u64,
    /// What the request waits for.
    #[serde(default)]
    pub reason: String,
    /// Today's number, where it is known.
    #[serde(default)]
    pub max_concurrency: Option<u32>,
}

/// The request is refused.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct Refused {
    /// Why, for programs.
    pub code: String,
    /// Why, for people: who must change what.
    pub message: String,
    /// The request, where it is known.
    #[serde(default)]
    pub request_id: Option<String>,
    /// Today's number, where it helps.
    #[serde(default)]
    pub max_concurrency: Option<u32>,
    /// Do not ask again sooner, where it helps.
    #[serde(default)]
    pub retry_after_ms: Option<u64>,
}

/// Any of the three replies. Unknown fields are ignored.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(tag = "status", rename_all = "lowercase")]
pub enum Reply {
    /// The turn.
    Granted(Granted),
    /// The request waits.
    Queued(Queued),
    /// The request is refused.
    Refused(Refused),
}

/// The limits, as far as this client needs them.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub(crate) struct Info {
    #[serde(default)]
    pub max_concurrency: Option<u32>,
}

/// Reads a reply.
///
/// # Errors
///
/// A sentence for people, if the payload is none of the three replies.
pub fn decode_reply(payload: &[u8]) -> Result<Reply, String> {
    if payload.len() > REPLY_BYTES_MAX {
        return Err(format!("it has {} bytes; a reply has {REPLY_BYTES_MAX} at most", payload.len()));
    }
    let reply: Reply = serde_json::from_slice(payload).map_err(|error| error.to_string())?;
    match check(&reply) {
        None => Ok(reply),
        Some(field) => Err(format!("its field {field} is out of the contract's bounds")),
    }
}

/// Reads a reply of `info`; `None` where it is none.
pub(crate) fn decode_info(payload: &[u8]) -> Option<Info> {
    let info: Info = serde_json::from_slice(payload).ok()?;
    is_buckets_or_none(info.max_concurrency).then_some(info)
}

/// Cuts a name for people to what a request may carry.
pub(crate) fn client_name(name: &str) -> &str {
    let mut end = name.len().min(CLIENT_BYTES_MAX);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    &name[..end]
}

/// Returns the name of a field whose value no coordinator sends.
fn check(reply: &Reply) -> Option<&'static str> {
    let fields: Vec<(&'static str, bool)> = match reply {
        Reply::Granted(granted) => vec![
            ("shard_id", granted.shard_id <= INT_MAX),
            ("bucket", granted.bucket <= INT_MAX),
            ("request_id", is_token(&granted.request_id)),
            ("grant_id", is_token(&granted.grant_id)),
            ("renewal", granted.renewal <= INT_MAX),
            ("use_within_ms", granted.use_within_ms <= INT_MAX),
            ("max_concurrency", is_buckets_or_none(Some(granted.max_concurrency))),
        ],
        Reply::Queued(queued) => vec![
            ("request_id", is_token(&queued.request_id)),
            ("position", (1..=INT_MAX).contains(&queued.position)),
            ("eta_ms", queued.eta_ms.is_none_or(|eta| eta <= INT_MAX)),
            ("renew_in_ms", queued.renew_in_ms <= INT_MAX),
            ("max_concurrency", is_buckets_or_none(queued.max_concurrency)),
        ],
        Reply::Refused(refused) => vec![
            ("request_id", refused.request_id.as_deref().is_none_or(is_token)),
            ("max_concurrency", is_buckets_or_none(refused.max_concurrency)),
            ("retry_after_ms", refused.retry_after_ms.is_none_or(|retry| retry <= INT_MAX)),
        ],
    };
    let wrong = fields.into_iter().find(|(_, is_right)| !is_right);
    wrong.map(|(name, _)| name)
}

fn is_buckets_or_none(max_concurrency: Option<u32>) -> bool {
    max_concurrency.is_none_or(|number| (1..=BUCKETS_MAX).contains(&number))
}

fn is_token(text: &str) -> bool {
    (1..=TOKEN_MAX).contains(&text.len()) && is_plain(text)
}

fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::{client_name, decode_reply, Reply, Subjects};

    const GRANTED: &str = r#"{"status":"granted","shard_id":0,"bucket":0,"request_id":"a1","grant_id":"g1","renewal":0,"use_within_ms":5000,"waited_ms":0,"remaining":9,"max_concurrency":1,"term":1,"of_a_later_version":[1]}"#;

    #[test]
    fn a_reply_with_a_field_of_a_later_version_is_read() {
        assert!(matches!(decode_reply(GRANTED.as_bytes()), Ok(Reply::Granted(_))));
    }

    #[test]
    fn what_is_no_reply_of_the_contract_is_not_read() {
        let long = GRANTED.replace("[1]", &format!("[{}1]", "1,".repeat(10_000)));
        for payload in [
            "",
            "[]",
            "{",
            r#"{"status":"later"}"#,
            r#"{"status":"granted"}"#,
            &long,
            &GRANTED.replace(r#""renewal":0"#, r#""renewal":"0""#),
            &GRANTED.replace(r#""renewal":0"#, r#""renewal":-1"#),
            &GRANTED.replace(r#""renewal":0"#, r#""renewal":9007199254740993"#),
            &GRANTED.replace("g1", "g.1"),
            &GRANTED.replace(r#""max_concurrency":1"#, r#""max_concurrency":0"#),
            &GRANTED.replace(r#""max_concurrency":1"#, r#""max_concurrency":5000"#),
        ] {
            assert!(decode_reply(payload.as_bytes()).is_err(), "{payload}");
        }
    }

    #[test]
    fn a_prefix_is_plain_tokens() {
        assert!(Subjects::new("bots.alpha.identify").is_some());
        for prefix in ["", ".", "a.", "a b", "a.*", "a.>", "$SYS"] {
            assert!(Subjects::new(prefix).is_none(), "{prefix}");
        }
    }

    #[test]
    fn a_long_name_is_cut_between_two_characters() {
        assert_eq!(client_name("pod-0"), "pod-0");
        assert_eq!(client_name(&"ä".repeat(100)).len(), 128);
        assert_eq!(client_name(&format!("x{}", "ä".repeat(100))).len(), 127);
    }
}
