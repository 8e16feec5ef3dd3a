//! The queue at a NATS server that a test plays: what it sends when a login or a permission changes.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nkeys::KeyPair;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use twilight_gateway_queue::Queue;

use crate::{NatsQueue, Settings};

/// A test that waits longer hangs.
const WITHIN: Duration = Duration::from_secs(60);

const GREETING: &str =
    "INFO {\"server_id\":\"fake\",\"version\":\"2.11.0\",\"proto\":1,\"max_payload\":1048576,\"headers\":true,\
     \"nonce\":\"nonce\",\"auth_required\":true}\r\n";

/// What clients have sent.
#[derive(Default)]
struct Seen {
    /// The payload of each CONNECT.
    logins: Vec<Value>,
    /// The subject and the reply subject of each message.
    published: Vec<(String, String)>,
    /// The subject and the number of each subscription that was not refused.
    subscriptions: Vec<(String, String)>,
    refuses_subscriptions: bool,
    refused_count: usize,
    /// Of the connections that are open.
    sockets: Vec<mpsc::UnboundedSender<String>>,
}

/// As much of a NATS server as these tests need.
struct FakeNats {
    url: String,
    seen: Arc<Mutex<Seen>>,
}

impl FakeNats {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("nats://{}", listener.local_addr().expect("an address"));
        let seen = Arc::<Mutex<Seen>>::default();
        let of_clients = seen.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(serve_one(socket, of_clients.clone()));
            }
        });
        Self { url, seen }
    }

    /// Ends every connection with this error.
    fn cut(&self, error: &str) {
        for socket in self.seen.lock().expect("no test panicked").sockets.drain(..) {
            let _ = socket.send(format!("-ERR '{error}'\r\n"));
        }
    }

    fn refuse_subscriptions(&self, is_refused: bool) {
        self.seen.lock().expect("no test panicked").refuses_subscriptions = is_refused;
    }

    /// Answers the last message on this subject.
    fn answer(&self, subject: &str, payload: &str) {
        let seen = self.seen.lock().expect("no test panicked");
        let (_, reply) = seen.published.iter().rev().find(|(one, _)| one == subject).expect("it was published");
        let inbox = reply.rsplit_once('.').expect("it has tokens").0;
        let found = seen.subscriptions.iter().rev().find(|(one, _)| one.strip_suffix(".*") == Some(inbox));
        let (_, number) = found.expect("it is subscribed to");
        let text = format!("MSG {reply} {number} {}\r\n{payload}\r\n", payload.len());
        let _ = seen.sockets.last().expect("it is connected").send(text);
    }

    /// Looks until there is something.
    async fn until<T>(&self, look: impl Fn(&Seen) -> Option<T>) -> T {
        let found = async {
            loop {
                if let Some(found) = look(&self.seen.lock().expect("no test panicked")) {
                    return found;
                }
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(WITHIN, found).await.expect("it is seen in time")
    }

    /// The login of this connection, from 0.
    async fn login(&self, index: usize) -> Value {
        self.until(|seen| seen.logins.get(index).cloned()).await
    }
}

async fn serve_one(socket: TcpStream, seen: Arc<Mutex<Seen>>) {
    let (reading, mut writing) = socket.into_split();
    let (to_client, mut texts) = mpsc::unbounded_channel::<String>();
    to_client.send(GREETING.to_owned()).expect("it is open");
    seen.lock().expect("no test panicked").sockets.push(to_client.clone());
    let replies = to_client.downgrade(); // only what the test holds keeps the connection open
    drop(to_client);
    tokio::spawn(async move {
        while let Some(text) = texts.recv().await {
            if writing.write_all(text.as_bytes()).await.is_err() {
                return;
            }
        }
    });
    let mut reading = BufReader::new(reading);
    let mut line = String::new();
    while reading.read_line(&mut line).await.is_ok_and(|size| size > 0) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["CONNECT", ..] => {
                let login = serde_json::from_str(line.trim_start_matches("CONNECT")).expect("JSON");
                seen.lock().expect("no test panicked").logins.push(login);
            }
            ["PING"] => {
                let Some(replies) = replies.upgrade() else { return };
                let _ = replies.send("PONG\r\n".to_owned());
            }
            ["SUB", subject, number] => {
                let mut seen = seen.lock().expect("no test panicked");
                if seen.refuses_subscriptions {
                    seen.refused_count += 1;
                    let refusal = format!("-ERR 'Permissions Violation for Subscription to \"{subject}\"'\r\n");
                    let _ = replies.upgrade().map(|replies| replies.send(refusal));
                } else {
                    seen.subscriptions.push(((*subject).to_owned(), (*number).to_owned()));
                }
            }
            ["PUB", subject, reply @ .., size] => {
                let reply = reply.first().copied().unwrap_or_default();
                let published = ((*subject).to_owned(), reply.to_owned());
                seen.lock().expect("no test panicked").published.push(published);
                let mut payload = vec![0; size.parse::<usize>().expect("a size") + 2];
                if reading.read_exact(&mut payload).await.is_err() {
                    return;
                }
            }
            _ => {}
        }
        line.clear();
    }
}

/// A file that is removed in the end.
struct File(PathBuf);

impl File {
    fn new(name: &str, content: &str) -> Self {
        let file = Self(std::env::temp_dir().join(format!("nats-identify-{}-{name}", std::process::id())));
        file.write(content);
        file
    }

    fn write(&self, content: &str) {
        std::fs::write(&self.0, content).expect("it can be written");
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn credentials(jwt: &str, key: &KeyPair) -> String {
    let seed = key.seed().expect("it has one");
    format!(
        "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    )
}

fn settings(nats: &FakeNats, variable: &str, file: &File) -> Settings {
    let path = file.0.to_str().expect("a plain name").to_owned();
    let settings = Settings::from_variables(|name| match name {
        "NATS_URL" => Some(nats.url.clone()),
        _ => (name == variable).then(|| path.clone()),
    });
    settings.expect("it can work")
}

#[tokio::test]
async fn a_file_of_credentials_is_read_anew_at_each_connection() {
    let nats = FakeNats::start().await;
    let key = KeyPair::new_user();
    let file = File::new("creds", &credentials("old", &key));
    let queue = NatsQueue::new(settings(&nats, "NATS_CREDS_FILE", &file));
    let login = nats.login(0).await;
    assert_eq!((&login["jwt"], login["sig"].is_string()), (&"old".into(), true));
    file.write(&credentials("new", &key));
    nats.cut("User Authentication Expired");
    assert_eq!(nats.login(1).await["jwt"], "new");
    queue.close().await;
}

#[tokio::test]
async fn a_file_with_a_seed_is_read_anew_at_each_connection() {
    let nats = FakeNats::start().await;
    let (old, new) = (KeyPair::new_user(), KeyPair::new_user());
    let file = File::new("nk", &old.seed().expect("it has one"));
    let queue = NatsQueue::new(settings(&nats, "NATS_NKEY_SEED_FILE", &file));
    let login = nats.login(0).await;
    assert_eq!((&login["nkey"], login["sig"].is_string()), (&old.public_key().into(), true));
    file.write(&format!("{}\n", new.seed().expect("it has one")));
    nats.cut("Authorization Violation");
    assert_eq!(nats.login(1).await["nkey"], new.public_key());
    queue.close().await;
}

#[tokio::test]
async fn a_file_that_cannot_be_used_is_named_and_tried_again_after_a_while() {
    let nats = FakeNats::start().await;
    let file = File::new("wrong", "s3cret");
    for variable in ["NATS_CREDS_FILE", "NATS_NKEY_SEED_FILE"] {
        let Err((why, pause)) = settings(&nats, variable, &file).open().await else { panic!("it cannot be opened") };
        assert!(why.contains(variable) && !why.contains("s3cret"), "{why}");
        assert!(pause > Duration::from_secs(1), "{pause:?}");
    }
    assert!(nats.seen.lock().expect("no test panicked").logins.is_empty());
}

#[tokio::test]
async fn an_inbox_that_is_refused_for_a_while_is_subscribed_to_again_and_the_requests_go_on() {
    let nats = FakeNats::start().await;
    nats.refuse_subscriptions(true);
    let mut settings = Settings::new(&nats.url).expect("it can work");
    settings.subscribe_again_after = Duration::from_millis(20);
    let queue = NatsQueue::new(settings);
    let _receiver = queue.enqueue(0);
    nats.until(|seen| (seen.refused_count >= 2).then_some(())).await;
    nats.refuse_subscriptions(false);
    nats.until(|seen| (!seen.subscriptions.is_empty()).then_some(())).await;
    let requests = |seen: &Seen| seen.published.iter().filter(|(one, _)| one == "identify.request.0").count();
    let before = nats.until(|seen| Some(requests(seen))).await;
    nats.answer("identify.info", r#"{"max_concurrency":1}"#);
    nats.until(|seen| (requests(seen) > before).then_some(())).await;
    queue.close().await;
}
