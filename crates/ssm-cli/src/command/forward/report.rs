//! What the forwards report, for people and for programs.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use ssm_portfwd::{LocalAddr, Notice, Traffic};
use ssm_session::Ready;
use tokio::sync::watch;

use crate::args::ForwardArgs;
use crate::error::ending;
use crate::notify::Notifier;
use crate::output::{Bytes, Json, Lines, Took, complain, print_aside, say, unix_time, visible};
use crate::reconnect;
use crate::registry::{self, ForwardState, Tunnel};

use super::status::{Counts, Status};

/// Which attempt to connect again is worth a notification: what is mended at once, as every hour when the service closes the
/// connection, is nobody's concern.
const NOTIFIED_ATTEMPT: u32 = 2;

/// Shared by all forwards. Cloning is cheap.
#[derive(Debug, Clone)]
pub(super) struct Report(Arc<Mutex<State>>);

/// One forward as it is talked about.
#[derive(Debug, Clone)]
pub(super) struct Forward {
    pub(super) destination: String,
    /// The session document; empty where there is none before a client asks.
    pub(super) document: String,
    addresses: Vec<LocalAddr>,
    state: ForwardState,
}

impl Forward {
    pub(super) fn new(destination: String, document: String) -> Self {
        Self { destination, document, addresses: Vec::new(), state: ForwardState::Starting }
    }
}

#[derive(Debug)]
struct State {
    name: Option<String>,
    target: String,
    forwards: Vec<Forward>,
    output: Output,
    status: Option<Status>,
    traffic: Traffic,
    settled: watch::Sender<bool>,
    open: BTreeMap<u64, Connection>,
    connections: u64,
    sessions: usize,
    resumes: u64,
    started: Instant,
    /// The same in seconds since 1970.
    since: u64,
    log: Option<PathBuf>,
    desktop: Option<Desktop>,
}

/// What the desktop is told.
#[derive(Debug)]
struct Desktop {
    notifier: Notifier,
    /// Whether it was told of a connection that is lost.
    lost: bool,
}

/// Who reads the events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Output {
    Person,
    Program,
}

#[derive(Debug)]
struct Connection {
    since: Instant,
    /// Where a client of a proxy wanted to go.
    destination: Option<String>,
    /// Why it ends, where that is known to be a failure.
    failure: Option<&'static str>,
}

impl Connection {
    fn new() -> Self {
        Self { since: Instant::now(), destination: None, failure: None }
    }
}

impl Report {
    pub(super) fn new(args: &ForwardArgs, target: &str, forwards: Vec<Forward>, traffic: Traffic) -> Self {
        // A command has the terminal to itself, and who goes to the background leaves it.
        let shows_status = args.command.is_empty() && !args.detached;
        Self(Arc::new(Mutex::new(State {
            name: args.name.clone(),
            target: target.to_owned(),
            forwards,
            output: if args.json { Output::Program } else { Output::Person },
            status: if shows_status { Status::new() } else { None },
            traffic,
            settled: watch::Sender::new(false),
            open: BTreeMap::new(),
            connections: 0,
            sessions: 0,
            resumes: 0,
            started: Instant::now(),
            since: unix_time().as_secs(),
            log: None,
            desktop: if args.notify { desktop() } else { None },
        })))
    }

    pub(super) fn forward(&self, index: usize) -> Forward {
        self.state().forwards[index].clone()
    }

    /// Whether each forward listens or is over.
    pub(super) fn settled(&self) -> watch::Receiver<bool> {
        self.state().settled.subscribe()
    }

    /// Where each forward listens: the first address of each.
    pub(super) fn addresses(&self) -> Vec<LocalAddr> {
        self.state().forwards.iter().filter_map(|forward| forward.addresses.first().cloned()).collect()
    }

    /// Something happened.
    pub(super) fn handle(&self, index: usize, notice: &Notice) {
        self.state().handle(index, notice);
    }

    /// A forward is over.
    pub(super) fn ended(&self, index: usize, why: &str) {
        let mut state = self.state();
        state.clear();
        state.event(index, json!({ "event": "ended", "reason": why }));
        state.forwards[index].state = ForwardState::Ended;
        state.settle();
    }

    /// Tells the desktop, where that is wanted.
    pub(super) fn notify(&self, text: &str) {
        self.state().notify(text);
    }

    /// Where a tunnel in the background writes.
    pub(super) fn set_log(&self, path: &Path) {
        self.state().log = Some(path.to_owned());
    }

    /// The terminal is about to be left.
    pub(super) fn in_background(&self, id: &str, log: &Path) {
        let state = self.state();
        say(format_args!("in the background as tunnel {id}; to end it: ssm tunnels stop {id}"));
        state.write(json!({ "event": "background", "id": id, "log": log.to_string_lossy() }));
    }

    /// How everything is, for other processes.
    pub(super) fn tunnel(&self, id: &str) -> Tunnel {
        let state = self.state();
        Tunnel {
            id: id.to_owned(),
            name: state.name.clone(),
            target: state.target.clone(),
            since: state.since,
            forwards: state.forwards.iter().map(registry::Forward::from).collect(),
            sessions: state.sessions,
            resumes: state.resumes,
            open: state.open.len(),
            connections: state.connections,
            sent: state.traffic.sent(),
            received: state.traffic.received(),
            log: state.log.clone(),
        }
    }

    /// Time for another status line.
    pub(super) fn tick(&self) {
        self.state().draw();
    }

    /// Says what there was in all.
    pub(super) fn summarize(&self) {
        let mut state = self.state();
        state.clear();
        say(format_args!(
            "{} connections, {} sent, {} received, resumed {} times, in {} s",
            state.connections,
            Bytes(state.traffic.sent()),
            Bytes(state.traffic.received()),
            state.resumes,
            state.started.elapsed().as_secs(),
        ));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn handle(&mut self, index: usize, notice: &Notice) {
        self.clear();
        match notice {
            Notice::Ready(ready) => self.session_started(index, ready),
            Notice::Listening(addresses) => self.listening(index, addresses),
            Notice::Opened { connection, peer } => {
                let peer = peer.map(|peer| peer.to_string());
                explain(index, format_args!("connection {connection} opened{}", By(peer.as_deref())));
                self.connections += 1;
                self.open.insert(*connection, Connection::new());
                self.event(index, json!({ "event": "opened", "connection": connection, "peer": peer }));
            }
            Notice::Destination { connection, destination } => {
                let destination = destination.to_string();
                explain(index, format_args!("connection {connection} wants to go to {destination}"));
                self.event(
                    index,
                    json!({ "event": "destination", "connection": connection, "destination": destination }),
                );
                if let Some(open) = self.open.get_mut(connection) {
                    open.destination = Some(destination);
                }
            }
            Notice::Refused { connection } => self.refused(index, *connection),
            Notice::Overfull { connection } => self.overfull(index, *connection),
            Notice::Closed { connection, sent, received } => {
                self.closed(index, *connection, *sent, *received);
            }
            Notice::Redial { attempt, cause, delay, api } => {
                self.redial(index, *attempt, cause, *delay);
                reconnect::obstacle(cause, *api);
            }
            Notice::Resumed { after } => {
                self.resumes += 1;
                reconnect::back(Some(*after));
                say(format_args!("connected again after {}, nothing was lost", Took(*after)));
                self.event(index, json!({ "event": "resumed", "after_ms": millis(*after) }));
                self.is_back();
            }
            Notice::PayloadSize { bytes } => {
                let size = Bytes(*bytes as u64);
                explain(index, format_args!("data messages carry up to {size} from here on"));
                self.event(index, json!({ "event": "payload_size", "bytes": bytes }));
            }
            Notice::Paused => {
                explain(index, "the gateway asked to pause; data waits until it says to go on");
                self.event(index, json!({ "event": "paused" }));
            }
            Notice::LaneEnded { reason } => {
                self.sessions = self.sessions.saturating_sub(1);
                let reason = ending(reason);
                explain(index, format_args!("a session is over ({} open): {reason}", self.sessions));
                self.event(index, json!({ "event": "session_ended", "reason": reason }));
            }
            Notice::LaneDelayed { attempts, error, api, delay } => {
                let why = visible(error, Lines::Joined);
                explain(index, format_args!("no session yet, another try in {}: {why}", Took(*delay)));
                reconnect::obstacle(error, *api);
                let delay = millis(*delay);
                self.event(
                    index,
                    json!({ "event": "session_delayed", "attempts": attempts, "error": error, "delay_ms": delay }),
                );
            }
            Notice::LaneNotStarted { error } => {
                say(error);
                self.event(index, json!({ "event": "session_not_started", "error": error }));
            }
            other => tracing::debug!(notice = ?other, forward = index + 1, "forward"),
        }
    }

    fn session_started(&mut self, index: usize, ready: &Ready) {
        self.sessions += 1;
        reconnect::started();
        let agent = &ready.peer_version;
        let version = visible(agent, Lines::Joined);
        explain(index, format_args!("a session has started ({} open), agent {version}", self.sessions));
        self.event(index, json!({ "event": "session_started", "agent": agent, "sessions": self.sessions }));
        if !ready.customer_message.is_empty() {
            say(&ready.customer_message);
        }
        self.is_back();
    }

    fn closed(&mut self, index: usize, connection: u64, sent: u64, received: u64) {
        let open = self.open.remove(&connection).unwrap_or_else(Connection::new);
        let duration = open.since.elapsed();
        explain(
            index,
            format_args!(
                "connection {connection} closed after {}: {} sent, {} received",
                Took(duration),
                Bytes(sent),
                Bytes(received),
            ),
        );
        self.event(
            index,
            json!({
                "event": "closed", "connection": connection, "sent": sent, "received": received,
                "duration_ms": millis(duration), "failure": open.failure,
            }),
        );
    }

    fn redial(&mut self, index: usize, attempt: u32, cause: &str, delay: Duration) {
        let why = visible(cause, Lines::Joined);
        if attempt == 0 {
            say(format_args!("the connection was lost ({why}); connecting again"));
        } else {
            let delay = Took(delay);
            explain(index, format_args!("connecting again, for the {attempt}. time, after {delay}: {why}"));
        }
        if attempt >= NOTIFIED_ATTEMPT
            && self.desktop.as_mut().is_some_and(|desktop| !mem::replace(&mut desktop.lost, true))
        {
            self.notify(&format!("the connection was lost ({why}); connecting again"));
        }
        let delay = millis(delay);
        self.event(
            index,
            json!({ "event": "redial", "attempt": attempt, "cause": cause, "delay_ms": delay }),
        );
    }

    /// The connection works. Tells the desktop, if that knows otherwise.
    fn is_back(&mut self) {
        if self.desktop.as_mut().is_some_and(|desktop| mem::take(&mut desktop.lost)) {
            self.notify("connected again");
        }
    }

    fn notify(&self, text: &str) {
        if let Some(desktop) = &self.desktop {
            desktop.notifier.show(&format!("ssm: {}", self.name.as_deref().unwrap_or(&self.target)), text);
        }
    }

    fn overfull(&mut self, index: usize, connection: u64) {
        say(format_args!(
            "connection {connection} was reset: its program did not read, and too much waited for it"
        ));
        self.fail(connection, "overfull");
        self.event(index, json!({ "event": "overfull", "connection": connection }));
    }

    fn listening(&mut self, index: usize, addresses: &[LocalAddr]) {
        let forward = &mut self.forwards[index];
        forward.addresses = addresses.to_vec();
        forward.state = ForwardState::Ready;
        let texts: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        let destination = forward.destination.clone();
        let port = port(addresses);
        match forward.document.as_str() {
            "" => say(format_args!("listening on {} for {destination}", texts.join(" and "))),
            _ => say(format_args!("listening on {}, leading to {destination}", texts.join(" and "))),
        }
        self.event(
            index,
            json!({ "event": "ready", "listen": texts, "port": port, "destination": destination }),
        );
        self.settle();
    }

    /// Keeps why a connection is about to be closed.
    fn fail(&mut self, connection: u64, failure: &'static str) {
        if let Some(open) = self.open.get_mut(&connection) {
            open.failure = Some(failure);
        }
    }

    fn settle(&mut self) {
        if self.forwards.iter().all(|forward| forward.state != ForwardState::Starting) {
            self.settled.send_replace(true);
        }
    }

    fn refused(&mut self, index: usize, connection: u64) {
        let wanted = self.open.get(&connection).and_then(|open| open.destination.clone());
        let destination = wanted.unwrap_or_else(|| self.forwards[index].destination.clone());
        say(format_args!("connection {connection}: the target could not connect to {destination}"));
        self.fail(connection, "refused");
        self.event(
            index,
            json!({ "event": "refused", "connection": connection, "destination": destination }),
        );
    }

    /// Writes a line for programs about a forward.
    fn event(&self, index: usize, mut event: Value) {
        event["forward"] = (index + 1).into();
        self.write(event);
    }

    fn write(&self, mut event: Value) {
        if self.output == Output::Program {
            event["time_ms"] = millis(unix_time()).into();
            print_aside(format!("{}\n", Json(event)));
        }
    }

    fn clear(&mut self) {
        if let Some(status) = &mut self.status {
            status.clear();
        }
    }

    fn draw(&mut self) {
        let counts = Counts {
            connections: self.open.len(),
            lanes: self.sessions,
            resumes: self.resumes,
            payload_len: self.traffic.payload_len(),
            rtt: self.traffic.rtt(),
        };
        if let Some(status) = &mut self.status {
            status.draw(counts, &self.traffic);
        }
    }
}

impl From<&Forward> for registry::Forward {
    fn from(forward: &Forward) -> Self {
        Self {
            listen: forward.addresses.iter().map(ToString::to_string).collect(),
            port: port(&forward.addresses),
            destination: forward.destination.clone(),
            state: forward.state,
        }
    }
}

fn desktop() -> Option<Desktop> {
    match Notifier::new() {
        Ok(notifier) => Some(Desktop { notifier, lost: false }),
        Err(why) => {
            complain(why);
            None
        }
    }
}

fn port(addresses: &[LocalAddr]) -> Option<u16> {
    addresses.iter().find_map(LocalAddr::tcp).map(|address| address.port())
}

/// Says with `-v` what happens.
fn explain(index: usize, text: impl Display) {
    tracing::info!(forward = index + 1, "{text}");
}

/// Who connected, behind "opened".
struct By<'a>(Option<&'a str>);

impl Display for By<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(peer) => write!(f, " by {peer}"),
            None => Ok(()),
        }
    }
}

fn millis(time: Duration) -> u64 {
    time.as_millis().try_into().unwrap_or(u64::MAX)
}
