//! The queue at a NATS server that a test plays: what it sends when a login changes.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nkeys::KeyPair;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

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
            ["PUB" | "HPUB", .., size] => {
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
