//! What the service remembers: sessions, their states, and the tokens that open data channels.
//!
//! ```text
//! Connecting --both attached--> Connected <--client or agent lost / back--> Disconnected
//!      any --agent ends or TerminateSession--> Terminating --channel_closed sent--> Terminated
//! ```
//!
//! Time is an argument, so a token's expiry is tested without waiting.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, SystemTime};

use ssm_proto::Token;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::gateway::Command;
use crate::random;

/// Ended sessions that are remembered for DescribeSessions, the oldest forgotten first.
const HISTORY: usize = 256;
/// Unused tokens a session may have at once; the oldest gives way.
const TOKENS_PER_SESSION: usize = 32;

/// Which end of a session a token or socket belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Client,
    Agent,
}

/// `Session.Status` of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Connecting,
    Connected,
    Disconnected,
    Terminating,
    Terminated,
}

impl Status {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Connecting => "Connecting",
            Self::Connected => "Connected",
            Self::Disconnected => "Disconnected",
            Self::Terminating => "Terminating",
            Self::Terminated => "Terminated",
        }
    }
}

/// One session.
#[derive(Debug)]
pub(crate) struct Record {
    /// Order of starting; a page of DescribeSessions begins below one of these.
    pub(crate) number: u64,
    pub(crate) id: String,
    pub(crate) target: String,
    pub(crate) document: String,
    pub(crate) reason: Option<String>,
    pub(crate) started: SystemTime,
    pub(crate) ended: Option<SystemTime>,
    pub(crate) status: Status,
    /// Number of the cell its stream URL names.
    pub(crate) cell: u32,
    /// None once the session is ending: from then on nobody may attach.
    relay: Option<mpsc::Sender<Command>>,
    client: Presence,
    agent: Presence,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Presence {
    Absent,
    Attached,
}

/// What is told about a session when it starts.
pub(crate) struct NewSession {
    pub(crate) id: String,
    pub(crate) target: String,
    pub(crate) document: String,
    pub(crate) reason: Option<String>,
    pub(crate) relay: mpsc::Sender<Command>,
}

/// A token does not open the channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TokenError {
    #[error("unknown, used or expired token")]
    Refused,
    #[error("the session has ended")]
    Ended,
}

struct Grant {
    session: String,
    role: Role,
    expires: Instant,
    order: u64,
}

/// All sessions and tokens of a loopback.
#[derive(Default)]
pub(crate) struct SessionStore {
    sessions: BTreeMap<u64, Record>,
    numbers: HashMap<String, u64>,
    tokens: HashMap<String, Grant>,
    next: u64,
}

impl SessionStore {
    /// Remembers a new session.
    pub(crate) fn insert(&mut self, new: NewSession, now: SystemTime) {
        let number = self.next_number();
        self.numbers.insert(new.id.clone(), number);
        let record = Record {
            number,
            id: new.id,
            target: new.target,
            document: new.document,
            reason: new.reason,
            started: now,
            ended: None,
            status: Status::Connecting,
            cell: 0,
            relay: Some(new.relay),
            client: Presence::Absent,
            agent: Presence::Absent,
        };
        self.sessions.insert(number, record);
        self.forget_old();
    }

    /// A session, ended or not.
    pub(crate) fn find(&self, id: &str) -> Option<&Record> {
        self.sessions.get(self.numbers.get(id)?)
    }

    fn find_mut(&mut self, id: &str) -> Option<&mut Record> {
        self.sessions.get_mut(self.numbers.get(id)?)
    }

    /// Where to reach the relay of a session that has not ended.
    pub(crate) fn relay(&self, id: &str) -> Option<mpsc::Sender<Command>> {
        self.find(id)?.relay.clone()
    }

    /// All sessions, the newest first.
    pub(crate) fn newest_first(&self) -> impl Iterator<Item = &Record> {
        self.sessions.values().rev()
    }

    /// Sessions that have not ended.
    pub(crate) fn open_count(&self) -> usize {
        self.sessions.values().filter(|record| record.is_open()).count()
    }

    /// Makes a token that opens one end of a session, once, until `now + lifetime`. None when the session is unknown or
    /// ending.
    pub(crate) fn mint(&mut self, id: &str, role: Role, now: Instant, lifetime: Duration) -> Option<Token> {
        self.find(id).filter(|record| record.is_open())?;
        self.tokens.retain(|_, grant| grant.expires > now);
        let live = self.tokens.iter().filter(|(_, grant)| grant.session == id);
        if live.clone().count() >= TOKENS_PER_SESSION
            && let Some((oldest, _)) = live.min_by_key(|(_, grant)| grant.order)
        {
            let oldest = oldest.clone();
            self.tokens.remove(&oldest);
        }
        let token = random::text(random::BASE64_URL, 43);
        let order = self.next_number();
        let grant = Grant { session: id.to_owned(), role, expires: now + lifetime, order };
        self.tokens.insert(token.clone(), grant);
        Some(Token::new(token))
    }

    /// Uses a token up and says which end it opens.
    ///
    /// # Errors
    /// When it was not made for this session, is used or expired, or the session has ended. A token shown to the wrong
    /// session is used up too.
    pub(crate) fn redeem(&mut self, id: &str, token: &Token, now: Instant) -> Result<Role, TokenError> {
        let grant = self.tokens.remove(token.expose()).ok_or(TokenError::Refused)?;
        if grant.session != id || grant.expires <= now {
            return Err(TokenError::Refused);
        }
        match self.find(id) {
            Some(record) if record.is_open() => Ok(grant.role),
            _ => Err(TokenError::Ended),
        }
    }

    /// Moves the session to the next cell.
    pub(crate) fn rotate_cell(&mut self, id: &str) {
        if let Some(record) = self.find_mut(id) {
            record.cell += 1;
        }
    }

    /// A socket of this end is in use.
    pub(crate) fn attached(&mut self, id: &str, role: Role) {
        self.set_presence(id, role, Presence::Attached);
    }

    /// This end has no socket.
    pub(crate) fn detached(&mut self, id: &str, role: Role) {
        self.set_presence(id, role, Presence::Absent);
    }

    /// The session is about to end: no token is made for it and none is taken.
    pub(crate) fn ending(&mut self, id: &str) {
        self.tokens.retain(|_, grant| grant.session != id);
        if let Some(record) = self.find_mut(id).filter(|record| record.is_open()) {
            record.status = Status::Terminating;
            record.relay = None;
        }
    }

    /// The agent says that it is finishing. Its last output may still be on the way, so a client may yet come back.
    pub(crate) fn finishing(&mut self, id: &str) {
        if let Some(record) = self.find_mut(id).filter(|record| record.is_open()) {
            record.status = Status::Terminating;
        }
    }

    /// The session is over.
    pub(crate) fn ended(&mut self, id: &str, now: SystemTime) {
        self.ending(id);
        if let Some(record) = self.find_mut(id) {
            record.status = Status::Terminated;
            record.ended.get_or_insert(now);
        }
    }

    fn set_presence(&mut self, id: &str, role: Role, presence: Presence) {
        let Some(record) = self.find_mut(id).filter(|record| record.is_open()) else { return };
        match role {
            Role::Client => record.client = presence,
            Role::Agent => record.agent = presence,
        }
        record.status = match (record.client, record.agent, record.status) {
            (_, _, Status::Terminating) => Status::Terminating,
            (Presence::Attached, Presence::Attached, _) => Status::Connected,
            (_, _, Status::Connecting) => Status::Connecting,
            _ => Status::Disconnected,
        };
    }

    fn next_number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn forget_old(&mut self) {
        let over: Vec<u64> = self
            .sessions
            .values()
            .filter(|record| record.ended.is_some())
            .map(|record| record.number)
            .collect();
        for number in over.iter().take(over.len().saturating_sub(HISTORY)) {
            if let Some(record) = self.sessions.remove(number) {
                self.numbers.remove(&record.id);
            }
        }
    }
}

impl Record {
    /// Whether clients and agents may still attach.
    pub(crate) fn is_open(&self) -> bool {
        self.relay.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFETIME: Duration = Duration::from_secs(60);

    #[test]
    fn a_token_opens_its_end_once() {
        let (mut store, now) = store();
        let token = store.mint("s", Role::Agent, now, LIFETIME).unwrap();
        assert_eq!(store.redeem("s", &token, now), Ok(Role::Agent));
        assert_eq!(store.redeem("s", &token, now), Err(TokenError::Refused));
    }

    #[test]
    fn a_token_expires() {
        let (mut store, now) = store();
        let token = store.mint("s", Role::Client, now, LIFETIME).unwrap();
        assert_eq!(store.redeem("s", &token, now + LIFETIME), Err(TokenError::Refused));
    }

    #[test]
    fn a_token_of_another_session_is_refused() {
        let (mut store, now) = store();
        insert(&mut store, "t");
        let token = store.mint("t", Role::Client, now, LIFETIME).unwrap();
        assert_eq!(store.redeem("s", &token, now), Err(TokenError::Refused));
    }

    #[test]
    fn an_ending_session_mints_and_takes_nothing() {
        let (mut store, now) = store();
        let token = store.mint("s", Role::Client, now, LIFETIME).unwrap();
        store.ending("s");
        assert!(store.mint("s", Role::Client, now, LIFETIME).is_none());
        assert_eq!(store.redeem("s", &token, now), Err(TokenError::Refused));
        assert!(store.relay("s").is_none());
    }

    #[test]
    fn unused_tokens_are_bounded() {
        let (mut store, now) = store();
        let first = store.mint("s", Role::Client, now, LIFETIME).unwrap();
        for _ in 0..TOKENS_PER_SESSION {
            let _token = store.mint("s", Role::Client, now, LIFETIME);
        }
        assert_eq!(store.tokens.len(), TOKENS_PER_SESSION);
        assert_eq!(store.redeem("s", &first, now), Err(TokenError::Refused));
    }

    #[test]
    fn the_status_follows_the_sockets() {
        let (mut store, _) = store();
        let status = |store: &SessionStore| store.find("s").unwrap().status;
        store.attached("s", Role::Agent);
        assert_eq!(status(&store), Status::Connecting);
        store.attached("s", Role::Client);
        assert_eq!(status(&store), Status::Connected);
        store.detached("s", Role::Client);
        assert_eq!(status(&store), Status::Disconnected);
        store.attached("s", Role::Client);
        assert_eq!(status(&store), Status::Connected);
        store.ending("s");
        store.detached("s", Role::Agent);
        assert_eq!(status(&store), Status::Terminating);
        store.ended("s", SystemTime::UNIX_EPOCH);
        assert_eq!(status(&store), Status::Terminated);
    }

    #[test]
    fn old_sessions_are_forgotten_but_never_open_ones() {
        let (mut store, _) = store();
        for number in 0..HISTORY + 10 {
            let id = format!("old-{number}");
            insert(&mut store, &id);
            store.ended(&id, SystemTime::UNIX_EPOCH);
        }
        insert(&mut store, "new");
        assert_eq!(store.newest_first().count(), HISTORY + 2);
        assert!(store.find("s").is_some() && store.find("old-0").is_none());
    }

    fn store() -> (SessionStore, Instant) {
        let mut store = SessionStore::default();
        insert(&mut store, "s");
        (store, Instant::now())
    }

    fn insert(store: &mut SessionStore, id: &str) {
        let new = NewSession {
            id: id.to_owned(),
            target: "i-0123456789abcdef0".to_owned(),
            document: "d".to_owned(),
            reason: None,
            relay: mpsc::channel(1).0,
        };
        store.insert(new, SystemTime::UNIX_EPOCH);
    }
}
