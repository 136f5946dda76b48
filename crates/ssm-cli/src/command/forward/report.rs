//! What the forwards report, for people and for programs.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde_json::{Value, json};
use ssm_portfwd::{LocalAddr, Notice, Traffic};
use tokio::sync::watch;

use crate::args::ForwardArgs;
use crate::command::tunnels::unix_now;
use crate::error::ending;
use crate::output::{Bytes, say};
use crate::registry::{self, ForwardState, Tunnel};

use super::status::{Counts, Status};

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
    target: String,
    forwards: Vec<Forward>,
    output: Output,
    status: Option<Status>,
    traffic: Traffic,
    settled: watch::Sender<bool>,
    open: BTreeMap<u64, Connection>,
    connections: u64,
    lanes: usize,
    resumes: u64,
    started: Instant,
    /// The same in seconds since 1970.
    since: u64,
    log: Option<PathBuf>,
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
}

impl Report {
    pub(super) fn new(args: &ForwardArgs, target: &str, forwards: Vec<Forward>, traffic: Traffic) -> Self {
        // A command has the terminal to itself, and who goes to the background leaves it.
        let shows_status = args.command.is_empty() && !args.detached;
        Self(Arc::new(Mutex::new(State {
            target: target.to_owned(),
            forwards,
            output: if args.json { Output::Program } else { Output::Person },
            status: if shows_status { Status::new() } else { None },
            traffic,
            settled: watch::Sender::new(false),
            open: BTreeMap::new(),
            connections: 0,
            lanes: 0,
            resumes: 0,
            started: Instant::now(),
            since: unix_now(),
            log: None,
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

    /// Where a tunnel in the background writes.
    pub(super) fn set_log(&self, path: &Path) {
        self.state().log = Some(path.to_owned());
    }

    /// The terminal is about to be left.
    pub(super) fn in_background(&self, id: &str, log: &Path) {
        let state = self.state();
        say(format_args!("in the background as tunnel {id}; to end it: ssm tunnels stop {id}"));
        state.write(&json!({ "event": "background", "id": id, "log": log.to_string_lossy() }));
    }

    /// How everything is, for other processes.
    pub(super) fn tunnel(&self, id: &str) -> Tunnel {
        let state = self.state();
        Tunnel {
            id: id.to_owned(),
            target: state.target.clone(),
            since: state.since,
            forwards: state.forwards.iter().map(registry::Forward::from).collect(),
            sessions: state.lanes,
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
        tracing::debug!(?notice, forward = index + 1, "forward");
        self.clear();
        match notice {
            Notice::Ready(ready) => {
                self.lanes += 1;
                if !ready.customer_message.is_empty() {
                    say(&ready.customer_message);
                }
            }
            Notice::Listening(addresses) => self.listening(index, addresses),
            Notice::Opened { connection, peer } => {
                self.connections += 1;
                self.open.insert(*connection, Connection { since: Instant::now(), destination: None });
                let peer = peer.map(|peer| peer.to_string());
                self.event(index, json!({ "event": "opened", "connection": connection, "peer": peer }));
            }
            Notice::Destination { connection, destination } => {
                let destination = destination.to_string();
                self.event(
                    index,
                    json!({ "event": "destination", "connection": connection, "destination": destination }),
                );
                if let Some(open) = self.open.get_mut(connection) {
                    open.destination = Some(destination);
                }
            }
            Notice::Refused { connection } => self.refused(index, *connection),
            Notice::Overfull { connection } => {
                say(format_args!(
                    "connection {connection} was reset: its program did not read, and too much waited for it"
                ));
                self.event(index, json!({ "event": "overfull", "connection": connection }));
            }
            Notice::Closed { connection, sent, received } => {
                let open = self.open.remove(connection);
                let millis = open.map(|open| open.since.elapsed().as_millis());
                let millis = millis.and_then(|millis| u64::try_from(millis).ok());
                self.event(
                    index,
                    json!({
                        "event": "closed", "connection": connection,
                        "sent": sent, "received": received, "duration_ms": millis,
                    }),
                );
            }
            Notice::Redial { attempt } => {
                if *attempt == 0 {
                    say("the connection was lost; connecting again");
                }
                self.event(index, json!({ "event": "redial", "attempt": attempt }));
            }
            Notice::Resumed => {
                self.resumes += 1;
                say("connected again, nothing was lost");
                self.event(index, json!({ "event": "resumed" }));
            }
            Notice::LaneEnded { reason } => {
                self.lanes = self.lanes.saturating_sub(1);
                let reason = ending(reason);
                self.event(index, json!({ "event": "session_ended", "reason": reason }));
            }
            Notice::LaneNotStarted { error } => {
                say(error);
                self.event(index, json!({ "event": "session_not_started", "error": error }));
            }
            _ => {}
        }
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

    fn settle(&mut self) {
        if self.forwards.iter().all(|forward| forward.state != ForwardState::Starting) {
            self.settled.send_replace(true);
        }
    }

    fn refused(&mut self, index: usize, connection: u64) {
        let wanted = self.open.get(&connection).and_then(|open| open.destination.clone());
        let destination = wanted.unwrap_or_else(|| self.forwards[index].destination.clone());
        say(format_args!("connection {connection}: the target could not connect to {destination}"));
        self.event(
            index,
            json!({ "event": "refused", "connection": connection, "destination": destination }),
        );
    }

    /// Writes a line for programs about a forward.
    fn event(&self, index: usize, mut event: Value) {
        event["forward"] = (index + 1).into();
        self.write(&event);
    }

    fn write(&self, event: &Value) {
        if self.output == Output::Program {
            // A reader that is gone does not end the forwards.
            let _ = writeln!(std::io::stdout().lock(), "{event}");
        }
    }

    fn clear(&mut self) {
        if let Some(status) = &mut self.status {
            status.clear();
        }
    }

    fn draw(&mut self) {
        let counts = Counts { connections: self.open.len(), lanes: self.lanes, resumes: self.resumes };
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

fn port(addresses: &[LocalAddr]) -> Option<u16> {
    addresses.iter().find_map(LocalAddr::tcp).map(|address| address.port())
}
