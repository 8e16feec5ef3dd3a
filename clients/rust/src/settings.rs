//! Where NATS is, how to log in, and what the queue is called. It connects to nothing.
//!
//! The variables are those of the Python library and of the coordinators. What can never work is refused at once, and
//! no error repeats a value.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::{Auth, AuthError, Client, ConnectOptions, Event, ServerAddr};
use nkeys::KeyPair;

use crate::core::wire::{client_name, Subjects};

/// How long a request is kept whose shard has lost its connection to Discord, unless [`Settings::keep_place_for`] says
/// otherwise: twilight gives a connection 10 s to open, and tries again at once and after 1 s and 2 s.
const KEEP_PLACE_FOR: Duration = Duration::from_secs(15);

/// A connection to NATS has so long to open.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);

/// A connection on which nothing answers is given up after the third of these.
const PING_EVERY: Duration = Duration::from_secs(10);

/// The pause between two tries to connect.
const TRY_EVERY: Duration = Duration::from_millis(250);

/// The pause after a server has refused the login. A person must change something, and async-nats logs each refusal.
const TRY_REFUSED_EVERY: Duration = Duration::from_secs(10);

/// Why a login cannot be signed, for people.
const UNUSABLE_FILE: &str =
    "the file of NATS_CREDS_FILE or NATS_NKEY_SEED_FILE cannot be used; give the file that nsc or nk made";

/// A subscription that the server refuses is tried again after this: the operator may have mended the permission.
const SUBSCRIBE_AGAIN_AFTER: Duration = Duration::from_secs(30);

/// Replies that wait to be handled at most; more are dropped, and renewals replace them. A process with 4096 shards has
/// 4096 replies after a reconnect.
const REPLIES_MAX: usize = 4096;

/// A setting can never work. The message names it, and says what to give.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SettingsError(String);

impl fmt::Display for SettingsError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for SettingsError {}

fn wrong<T>(message: impl Into<String>) -> Result<T, SettingsError> {
    Err(SettingsError(message.into()))
}

/// How to log in.
#[derive(Clone, Eq, PartialEq)]
enum Login {
    None,
    UserAndPassword(String, String),
    Token(String),
    CredentialsFile(PathBuf),
    NkeySeedFile(PathBuf),
}

/// What a [`NatsQueue`](crate::NatsQueue) needs to know. It has no `Debug`: it holds secrets.
#[derive(Clone)]
pub struct Settings {
    servers: Vec<ServerAddr>,
    login: Login,
    tls_ca: Option<PathBuf>,
    tls_cert: Option<(PathBuf, PathBuf)>,
    tls_first: bool,
    inbox_prefix: Option<String>,
    pub(crate) subjects: Subjects,
    pub(crate) client: String,
    pub(crate) keep_place_for: Duration,
    pub(crate) subscribe_again_after: Duration,
}

impl Settings {
    /// Reads `nats://host:port`, or several of them separated by commas.
    ///
    /// Credentials may stand before an `@`: `user:password` or a token, percent-encoded where needed. The prefix is
    /// `identify`, and the client's name is that of the host.
    ///
    /// # Errors
    ///
    /// An address can never work, or the servers have different credentials.
    pub fn new(servers: &str) -> Result<Self, SettingsError> {
        let mut settings = Self {
            servers: Vec::new(),
            login: Login::None,
            tls_ca: None,
            tls_cert: None,
            tls_first: false,
            inbox_prefix: None,
            subjects: Subjects::default(),
            client: host_name(),
            keep_place_for: KEEP_PLACE_FOR,
            subscribe_again_after: SUBSCRIBE_AGAIN_AFTER,
        };
        for server in servers.split(',').map(str::trim).filter(|one| !one.is_empty()) {
            let (address, login) = read_server(server)?;
            settings.servers.push(address);
            if login == Login::None {
                continue;
            }
            if settings.login != Login::None && settings.login != login {
                return wrong("NATS_URL: the servers have different credentials; servers of one system have the same");
            }
            settings.login = login;
        }
        if settings.servers.is_empty() {
            return wrong("NATS_URL names no server; give nats://host:port");
        }
        Ok(settings)
    }

    /// Reads the environment: `NATS_URL`, `IDENTIFY_PREFIX`, `NATS_USER` with `NATS_PASSWORD`, `NATS_TOKEN`,
    /// `NATS_CREDS_FILE`, `NATS_NKEY_SEED_FILE`, `NATS_TLS_CA`, `NATS_TLS_CERT` with `NATS_TLS_KEY`,
    /// `NATS_TLS_HANDSHAKE_FIRST` and `NATS_INBOX_PREFIX`. An empty variable is an unset one.
    ///
    /// # Errors
    ///
    /// `NATS_URL` is not set, or a variable can never work.
    pub fn from_env() -> Result<Self, SettingsError> {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    /// Reads the same variables from elsewhere.
    ///
    /// # Errors
    ///
    /// As [`Self::from_env`].
    pub fn from_variables(read: impl Fn(&str) -> Option<String>) -> Result<Self, SettingsError> {
        let get = |name: &str| read(name).filter(|value| !value.is_empty());
        let Some(servers) = get("NATS_URL") else {
            return wrong("NATS_URL is not set; give the queue's, such as nats://nats:4222");
        };
        let mut settings = Self::new(&servers)?;
        if let Some(prefix) = get("IDENTIFY_PREFIX") {
            settings = settings.prefix(&prefix)?;
        }
        settings.login = read_login(&get, settings.login)?;
        settings.tls_ca = get("NATS_TLS_CA").map(PathBuf::from);
        settings.tls_cert = match (get("NATS_TLS_CERT"), get("NATS_TLS_KEY")) {
            (Some(cert), Some(key)) => Some((cert.into(), key.into())),
            (None, None) => None,
            _ => return wrong("NATS_TLS_CERT and NATS_TLS_KEY belong together; set both or neither"),
        };
        settings.tls_first = get("NATS_TLS_HANDSHAKE_FIRST").map_or(Ok(false), |text| yes_or_no(&text))?;
        settings.inbox_prefix = get("NATS_INBOX_PREFIX");
        if settings.inbox_prefix.as_deref().is_some_and(|prefix| Subjects::new(prefix).is_none()) {
            return wrong("NATS_INBOX_PREFIX is no subject prefix; give subject tokens, as in _INBOX_shard.pod-0");
        }
        let files = [&settings.tls_ca].into_iter().flatten();
        for file in files.chain(settings.tls_cert.iter().flat_map(|(cert, key)| [cert, key])) {
            readable(file, "NATS_TLS_CA, NATS_TLS_CERT or NATS_TLS_KEY")?;
        }
        Ok(settings)
    }

    /// Sets the prefix of the bot's coordinators, their `IDENTIFY_PREFIX`.
    ///
    /// # Errors
    ///
    /// It is no NATS subject of plain tokens.
    pub fn prefix(mut self, prefix: &str) -> Result<Self, SettingsError> {
        let Some(subjects) = Subjects::new(prefix) else {
            return wrong(
                "IDENTIFY_PREFIX: use letters, digits, _ and -, separated by dots, as in bots.alpha.identify",
            );
        };
        self.subjects = subjects;
        Ok(self)
    }

    /// Sets a name for people, such as the pod. It is cut to 128 bytes.
    #[must_use]
    pub fn client(mut self, name: &str) -> Self {
        client_name(name).clone_into(&mut self.client);
        self
    }

    /// Sets how long a request is kept after its shard dropped the receiver; 15 s unless set.
    ///
    /// twilight drops it when the connection to Discord is lost, and asks again on the next one: the same request goes
    /// on. After this time it is withdrawn. A shard whose turn has come, and that does not call for it, may be busy: its
    /// request is withdrawn after 5 minutes, if that is longer, and asks for nothing meanwhile.
    #[must_use]
    pub fn keep_place_for(mut self, duration: Duration) -> Self {
        self.keep_place_for = duration;
        self
    }

    /// The servers, for people; it holds no secret.
    pub(crate) fn shown(&self) -> String {
        let shown: Vec<String> = self.servers.iter().map(|one| format!("{}:{}", one.host(), one.port())).collect();
        shown.join(", ")
    }

    /// Opens a connection. Each try reads the files again, and so does each reconnect: they may have changed.
    ///
    /// # Errors
    ///
    /// Why it cannot be opened, for people, and how long to wait before the next try.
    pub(crate) async fn open(&self) -> Result<(Client, Arc<Failure>), (String, Duration)> {
        let failure = Arc::new(Failure::default());
        match self.options(&failure).connect(self.servers.as_slice()).await {
            Ok(client) => Ok((client, failure)),
            Err(error) => {
                failure.note(&error.to_string());
                Err((failure.why(), failure.pause(0)))
            }
        }
    }

    fn options(&self, failure: &Arc<Failure>) -> ConnectOptions {
        let (noting, pausing) = (failure.clone(), failure.clone());
        let mut options = match &self.login {
            Login::None => ConnectOptions::new(),
            Login::UserAndPassword(user, password) => {
                ConnectOptions::with_user_and_password(user.clone(), password.clone())
            }
            Login::Token(token) => ConnectOptions::with_token(token.clone()),
            Login::CredentialsFile(path) => signing(path, read_credentials),
            Login::NkeySeedFile(path) => signing(path, read_seed),
        };
        options = options
            .name(format!("nats-identify {}", self.client))
            .connection_timeout(CONNECT_WITHIN)
            .ping_interval(PING_EVERY)
            .subscription_capacity(REPLIES_MAX)
            .reconnect_delay_callback(move |tries| pausing.pause(tries))
            .event_callback(move |event| {
                match event {
                    Event::ClientError(error) => noting.note(&error.to_string()),
                    Event::ServerError(error) => noting.complain(&error.to_string()),
                    Event::Connected => noting.forget(),
                    _ => {}
                }
                std::future::ready(())
            });
        if let Some(path) = &self.tls_ca {
            options = options.add_root_certificates(path.clone());
        }
        if let Some((cert, key)) = &self.tls_cert {
            options = options.add_client_certificate(cert.clone(), key.clone());
        }
        if self.tls_first {
            options = options.tls_first();
        }
        if let Some(prefix) = &self.inbox_prefix {
            options = options.custom_inbox_prefix(prefix);
        }
        options.require_tls(self.wants_tls())
    }

    /// Whether a URL or an option asks for TLS. Then a server without it is sent nothing, above all no password.
    fn wants_tls(&self) -> bool {
        let is_asked = self.tls_ca.is_some() || self.tls_cert.is_some() || self.tls_first;
        is_asked || self.servers.iter().any(ServerAddr::tls_required)
    }
}

/// What signs a server's nonce, and the JWT that goes with it, where the key alone is not known to the server.
struct Signer {
    jwt: Option<String>,
    key: KeyPair,
}

impl Signer {
    fn sign(self, nonce: &[u8]) -> Option<Auth> {
        let mut auth = Auth::new();
        auth.signature = Some(self.key.sign(nonce).ok()?);
        auth.nkey = self.jwt.is_none().then(|| self.key.public_key());
        auth.jwt = self.jwt;
        Some(auth)
    }
}

/// Returns options that log in by this file. async-nats itself would read it once, and use a JWT for ever that an agent
/// has renewed.
fn signing(path: &Path, read: fn(&Path) -> Option<Signer>) -> ConnectOptions {
    let path = path.to_owned();
    ConnectOptions::with_auth_callback(move |nonce| {
        let auth = read(&path).and_then(|signer| signer.sign(&nonce));
        std::future::ready(auth.ok_or_else(|| AuthError::new(UNUSABLE_FILE)))
    })
}

/// Reads the file that nsc makes: the JWT and the seed are each the line after a title.
fn read_credentials(path: &Path) -> Option<Signer> {
    let text = std::fs::read_to_string(path).ok()?;
    let mut lines = text.lines().map(str::trim);
    let mut below = |title: &str| lines.by_ref().skip_while(|line| !line.contains(title)).nth(1);
    let (jwt, seed) = (below("BEGIN NATS USER JWT")?, below("BEGIN USER NKEY SEED")?);
    Some(Signer { jwt: Some(jwt.to_owned()), key: KeyPair::from_seed(seed).ok()? })
}

/// Reads the file that nk makes: a seed.
fn read_seed(path: &Path) -> Option<Signer> {
    let text = std::fs::read_to_string(path).ok()?;
    Some(Signer { jwt: None, key: KeyPair::from_seed(text.trim()).ok()? })
}

/// Why a connection cannot be opened, or was lost; async-nats reports it while it tries again.
#[derive(Default)]
pub(crate) struct Failure {
    why: Mutex<String>,
    complaint: Mutex<Option<String>>,
    inbox_refused: AtomicBool,
}

impl Failure {
    /// For people; it holds no secret.
    pub fn why(&self) -> String {
        let why = self.lock();
        match why.as_str() {
            "" => "the connection was lost".to_owned(),
            said if is_unsigned(said) => UNUSABLE_FILE.to_owned(),
            said if is_refused(said) => {
                "the server refuses the login; correct NATS_USER, NATS_TOKEN or the file of credentials".to_owned()
            }
            said => said.to_owned(),
        }
    }

    /// What the server said last over the connection, such as that a permission is missing; only once.
    pub fn take_complaint(&self) -> Option<String> {
        self.complaint.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Whether the server has refused the one subscription; only once.
    pub fn take_inbox_refused(&self) -> bool {
        self.inbox_refused.swap(false, Ordering::Relaxed)
    }

    fn note(&self, why: &str) {
        why.clone_into(&mut self.lock());
    }

    fn complain(&self, what: &str) {
        self.note(what); // the server may end the connection for it
        if what.to_lowercase().contains("permissions violation for subscription") {
            self.inbox_refused.store(true, Ordering::Relaxed);
        }
        *self.complaint.lock().unwrap_or_else(PoisonError::into_inner) = Some(what.to_owned());
    }

    fn forget(&self) {
        self.lock().clear();
    }

    /// How long to wait before the next try, after so many. The first one is made at once, also where the server ended
    /// the connection because its JWT had expired: the file may hold the next one.
    fn pause(&self, tries: usize) -> Duration {
        let why = self.lock();
        if tries == 1 {
            Duration::ZERO
        } else if is_refused(&why) || is_unsigned(&why) {
            TRY_REFUSED_EVERY
        } else {
            TRY_EVERY
        }
    }

    fn lock(&self) -> MutexGuard<'_, String> {
        self.why.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_refused(why: &str) -> bool {
    let why = why.to_lowercase();
    why.contains("authorization violation") || why.contains("authentication")
}

/// async-nats says so where the file of credentials could not be used: nothing else is asked to sign.
fn is_unsigned(why: &str) -> bool {
    why.contains("failed signing nonce")
}

/// Returns the address without credentials, and the credentials.
fn read_server(text: &str) -> Result<(ServerAddr, Login), SettingsError> {
    let (scheme, rest) = text.split_once("://").unwrap_or(("nats", text));
    let (secret, place) = match rest.rsplit_once('@') {
        Some((secret, place)) => (Some(secret), place),
        None => (None, rest),
    };
    if !cfg!(feature = "websockets") && matches!(scheme, "ws" | "wss") {
        return wrong("NATS_URL: ws:// and wss:// need the feature `websockets` of the crate nats-identify");
    }
    let address = ServerAddr::from_str(&format!("{scheme}://{place}"));
    let Some(address) = address.ok().filter(|one| !one.host().is_empty()) else {
        return wrong("NATS_URL: an address can never work; give nats://host:port, or several separated by commas");
    };
    let login = match secret.map(|secret| secret.split_once(':').ok_or(secret)) {
        None => Login::None,
        Some(Ok((user, password))) => Login::UserAndPassword(decoded(user)?, decoded(password)?),
        Some(Err(token)) => Login::Token(decoded(token)?),
    };
    Ok((address, login))
}

/// Replaces each `%XX` by its byte.
fn decoded(text: &str) -> Result<String, SettingsError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = after.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        let Some(value) = digits.and_then(|two| u8::from_str_radix(two, 16).ok()) else {
            return wrong("NATS_URL: a percent sign in the credentials must be written as %25");
        };
        bytes.push(value);
        rest = &after[2..];
    }
    let text = String::from_utf8(bytes);
    text.map_err(|_| SettingsError("NATS_URL: the credentials are no UTF-8".to_owned()))
}

fn read_login(get: &impl Fn(&str) -> Option<String>, of_url: Login) -> Result<Login, SettingsError> {
    let mut found: Vec<(&str, Login)> = Vec::new();
    if !matches!(of_url, Login::None) {
        found.push(("NATS_URL with credentials", of_url));
    }
    match (get("NATS_USER"), get("NATS_PASSWORD")) {
        (Some(user), Some(password)) => found.push(("NATS_USER", Login::UserAndPassword(user, password))),
        (None, None) => {}
        _ => return wrong("NATS_USER and NATS_PASSWORD belong together; set both or neither"),
    }
    if let Some(token) = get("NATS_TOKEN") {
        found.push(("NATS_TOKEN", Login::Token(token)));
    }
    if let Some(path) = get("NATS_CREDS_FILE").map(PathBuf::from) {
        readable(&path, "NATS_CREDS_FILE")?;
        found.push(("NATS_CREDS_FILE", Login::CredentialsFile(path)));
    }
    if let Some(path) = get("NATS_NKEY_SEED_FILE").map(PathBuf::from) {
        readable(&path, "NATS_NKEY_SEED_FILE")?;
        found.push(("NATS_NKEY_SEED_FILE", Login::NkeySeedFile(path)));
    }
    if found.len() > 1 {
        let names: Vec<&str> = found.iter().map(|(name, _)| *name).collect();
        return wrong(format!("{} are set together; keep one of them", names.join(" and ")));
    }
    Ok(found.pop().map_or(Login::None, |(_, login)| login))
}

fn readable(path: &Path, name: &str) -> Result<(), SettingsError> {
    match std::fs::File::open(path) {
        Ok(_) => Ok(()),
        Err(error) => wrong(format!("{name}: the file cannot be read ({})", error.kind())),
    }
}

fn yes_or_no(text: &str) -> Result<bool, SettingsError> {
    match text.trim().to_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Ok(true),
        "0" | "false" | "no" | "off" => Ok(false),
        _ => wrong("NATS_TLS_HANDSHAKE_FIRST: is neither yes nor no; give 1 or 0"),
    }
}

/// The name of this host, for people; empty where the system keeps none.
fn host_name() -> String {
    let of_environment = std::env::var("HOSTNAME").ok();
    let name = of_environment.or_else(|| std::fs::read_to_string("/etc/hostname").ok());
    client_name(name.unwrap_or_default().trim()).to_owned()
}

#[cfg(test)]
mod tests {
    use super::{Login, Settings};

    fn read(variables: &[(&str, &str)]) -> Result<Settings, String> {
        let get = |name: &str| {
            let found = variables.iter().find(|(one, _)| *one == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        Settings::from_variables(get).map_err(|error| error.to_string())
    }

    #[test]
    fn the_variables_of_the_python_library_are_read() {
        let settings = read(&[
            ("NATS_URL", "nats://a:4333, tls://b"),
            ("IDENTIFY_PREFIX", "bots.alpha"),
            ("NATS_USER", "shard"),
            ("NATS_PASSWORD", "p:@%"),
            ("NATS_TOKEN", ""),
            ("NATS_INBOX_PREFIX", "_INBOX_shard"),
            ("NATS_TLS_HANDSHAKE_FIRST", "yes"),
        ]);
        let settings = settings.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(settings.shown(), "a:4333, b:4222");
        assert_eq!(settings.subjects.info(), "bots.alpha.info");
        assert!(settings.wants_tls());
        assert!(
            matches!(&settings.login, Login::UserAndPassword(user, password) if user == "shard" && password == "p:@%")
        );
    }

    #[test]
    fn tls_is_asked_for_by_a_url_or_a_variable() {
        for (variables, is_asked) in [
            (vec![("NATS_URL", "nats://a,tls://b")], true),
            (vec![("NATS_URL", "nats://a"), ("NATS_TLS_HANDSHAKE_FIRST", "1")], true),
            (vec![("NATS_URL", "nats://a"), ("NATS_TLS_CA", "Cargo.toml")], true),
            (vec![("NATS_URL", "nats://a"), ("NATS_TLS_HANDSHAKE_FIRST", "0")], false),
        ] {
            let settings = read(&variables).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(settings.wants_tls(), is_asked, "{variables:?}");
        }
    }

    #[test]
    fn credentials_in_a_url_are_taken_out_of_it() {
        let settings = read(&[("NATS_URL", "nats://us%20er:p%40ss:@w@h:1")]).unwrap_or_else(|error| panic!("{error}"));
        assert!(
            matches!(&settings.login, Login::UserAndPassword(user, password) if user == "us er" && password == "p@ss:@w")
        );
        assert_eq!(settings.servers[0].as_url_str(), "nats://h:1");
        let settings = read(&[("NATS_URL", "tok%2Cen@h")]).unwrap_or_else(|error| panic!("{error}"));
        assert!(matches!(&settings.login, Login::Token(token) if token == "tok,en"));
    }

    #[test]
    fn servers_may_share_credentials_that_one_or_all_of_them_name() {
        for servers in ["nats://u:p@a,nats://u:p@b", "nats://u:p@a,nats://b", "nats://a,nats://%75:p@b,nats://u:p@c"] {
            let settings = Settings::new(servers).unwrap_or_else(|error| panic!("{error}"));
            assert!(
                matches!(&settings.login, Login::UserAndPassword(user, password) if user == "u" && password == "p")
            );
        }
    }

    #[test]
    fn what_can_never_work_is_refused_and_no_error_repeats_a_value() {
        for (variables, named) in [
            (vec![], "NATS_URL"),
            (vec![("NATS_URL", " , ")], "NATS_URL"),
            (vec![("NATS_URL", "http://s3cret")], "NATS_URL"),
            (vec![("NATS_URL", "nats://s3cret:s3cret:port")], "NATS_URL"),
            (vec![("NATS_URL", "nats://s3cret%:x@h")], "NATS_URL"),
            (vec![("NATS_URL", "nats://h"), ("IDENTIFY_PREFIX", "s3cret.*")], "IDENTIFY_PREFIX"),
            (vec![("NATS_URL", "nats://h"), ("NATS_USER", "s3cret")], "NATS_PASSWORD"),
            (vec![("NATS_URL", "nats://u:s3cret@h"), ("NATS_TOKEN", "s3cret")], "NATS_TOKEN"),
            (
                vec![("NATS_URL", "nats://a:s3cret@h,nats://b:s3cret2@i")],
                "NATS_URL: the servers have different credentials",
            ),
            (
                vec![("NATS_URL", "nats://s3cret:a@h,nats://s3cret:b@i")],
                "NATS_URL: the servers have different credentials",
            ),
            (
                vec![("NATS_URL", "nats://s3cret@h,nats://s3cret:b@i")],
                "NATS_URL: the servers have different credentials",
            ),
            (vec![("NATS_URL", "nats://h"), ("NATS_CREDS_FILE", "/none/s3cret")], "NATS_CREDS_FILE"),
            (vec![("NATS_URL", "nats://h"), ("NATS_TLS_CERT", "/none/s3cret")], "NATS_TLS_KEY"),
            (vec![("NATS_URL", "nats://h"), ("NATS_TLS_CA", "/none/s3cret")], "NATS_TLS_CA"),
            (vec![("NATS_URL", "nats://h"), ("NATS_INBOX_PREFIX", "s3cret.>")], "NATS_INBOX_PREFIX"),
            (vec![("NATS_URL", "nats://h"), ("NATS_TLS_HANDSHAKE_FIRST", "s3cret")], "NATS_TLS_HANDSHAKE_FIRST"),
        ] {
            match read(&variables) {
                Ok(_) => panic!("{variables:?} was taken"),
                Err(error) => assert!(error.contains(named) && !error.contains("s3cret"), "{error}"),
            }
        }
    }
}
