//! What runs at the node: destinations behind a multiplexer or one at a time, a shell, a command.
//!
//! The quirks are those of AWS's agent, as the loopback has them (`ssm-loopback` `plugin`): no half-close, a flag for a failed
//! dial, input left unacknowledged before the first dial is done, a dial for the next bytes in basic mode, frames cut anywhere
//! into messages of 1,024 bytes.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ssm_channel::Role;
use ssm_proto::PayloadType;
use ssm_proto::body::{ControlFlag, ExitCode};
use ssm_smux::{Config, Event, Mux, Side, StreamId};

use super::plan::{Connection, Course, Kind, Plan, Profile};
use super::traffic::{Inflow, Outflow, Way, key};
use super::watch::{next_of, serve_mux};
use crate::pair::Pair;

/// What is left of the agent's error when its worker crashes (agent `document-worker`).
pub(crate) const CRASH: &str = "document process failed unexpectedly: exit status 1";

/// What a command exits with.
pub(crate) const EXIT_CODE: i32 = 7;

/// Why an agent's part is over: text for the service.
pub(crate) type Finish = &'static str;

/// Frames that wait to be cut into messages.
const PIPE: usize = 4 * 1024;

/// Most bytes that are read from a destination at a time.
const READ: usize = 3_000;

/// Input that may wait for a destination.
const INPUT: usize = 64 * 1024;

/// Spaces the reads of AWS's agent.
#[derive(Debug)]
struct Pace {
    profile: Profile,
    next: Option<Instant>,
}

impl Pace {
    fn new(profile: Profile) -> Self {
        Self { profile, next: None }
    }

    fn allows(&self, now: Instant) -> bool {
        self.next.is_none_or(|next| next <= now)
    }

    fn sent(&mut self, now: Instant) {
        if self.profile == Profile::Aws {
            self.next = Some(now + Duration::from_micros(1_356));
        }
    }
}

/// One destination.
#[derive(Debug)]
struct Destination {
    plan: Connection,
    /// When the dial is done.
    dialed_at: Instant,
    open: bool,
    outgoing: Outflow,
    incoming: Inflow,
    /// Bytes it has not taken.
    held: usize,
    slow_until: Option<Instant>,
    /// The client has closed its end.
    finished: bool,
}

impl Destination {
    fn new(plan: &Connection, index: usize, now: Instant) -> Self {
        Self {
            plan: plan.clone(),
            dialed_at: now + plan.dial,
            open: false,
            outgoing: Outflow::new(key(index, Way::Down), plan.down),
            incoming: Inflow::new(key(index, Way::Up), plan.up),
            held: 0,
            slow_until: None,
            finished: false,
        }
    }

    fn accept(&mut self, now: Instant, bytes: &[u8]) {
        self.incoming.accept(bytes);
        self.held += bytes.len();
        self.slow_until.get_or_insert(now + self.plan.slow_destination);
    }

    fn takes(&self, now: Instant) -> bool {
        self.open && self.slow_until.is_none_or(|until| until <= now)
    }

    /// Whether there is something to read from it.
    fn speaks(&self) -> bool {
        let asked = self.plan.course != Course::Reply || self.incoming.is_complete();
        self.open && asked && self.outgoing.left() > 0
    }

    /// Whether it hangs up.
    fn is_over(&self) -> bool {
        let ends = matches!(self.plan.course, Course::Reply | Course::Talk);
        self.open && ends && self.held == 0 && self.incoming.is_complete() && self.outgoing.left() == 0
    }
}

/// The multiplexer's other end.
pub(crate) struct MuxAgent {
    plans: Vec<Connection>,
    mux: Mux,
    streams: BTreeMap<StreamId, Destination>,
    /// Failed dials the client has not been told of.
    flags_due: usize,
    /// What goes out, before it is cut into messages.
    pipe: VecDeque<u8>,
    pace: Pace,
    limit: usize,
    /// Connections that were over as they should be.
    over: usize,
    pub(crate) finish: Option<Finish>,
}

impl MuxAgent {
    pub(crate) fn new(plan: &Plan, now: Instant) -> Self {
        let config = Config { receive_limit: plan.receive_limit, ..Config::default() };
        Self {
            plans: plan.connections.clone(),
            mux: Mux::new(Side::Server, config, now),
            streams: BTreeMap::new(),
            flags_due: 0,
            pipe: VecDeque::new(),
            pace: Pace::new(plan.agent),
            limit: plan.receive_limit,
            over: 0,
            finish: None,
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.over == self.plans.len() && self.pipe.is_empty() && self.mux.stream_count() == 0
    }

    pub(crate) fn turn(&mut self, pair: &mut Pair, stuck: bool) {
        let now = pair.now;
        serve_mux(&mut self.mux, now);
        while !stuck && self.mux.unconsumed() < self.limit && pair.receive(Role::Agent) {
            while let Some((kind, payload)) = pair.agent.inbox.pop_front() {
                self.handle(now, kind, payload);
            }
        }
        self.dial(now);
        self.write(now);
        self.send(pair);
        let config = pair.agent.channel.config();
        let parked = (config.reorder_max * pair.client.channel.payload_len()).min(config.reorder_bytes_max);
        assert!(self.mux.unconsumed() <= self.limit + parked + 64 * 1024, "{} held", self.mux.unconsumed());
    }

    pub(crate) fn deadline(&self, now: Instant) -> Option<Instant> {
        let dials = self.streams.values().filter(|to| !to.open).map(|to| to.dialed_at);
        let slow = self.streams.values().filter(|to| to.held > 0).filter_map(|to| to.slow_until);
        let own = [self.pace.next, self.mux.poll_timeout()].into_iter().flatten();
        next_of(now, dials.chain(slow).chain(own))
    }

    pub(crate) fn received(&self) -> u64 {
        let open = self.streams.values().map(|to| to.incoming.at).sum::<u64>();
        open + 1_000_000 * self.over as u64
    }

    fn handle(&mut self, now: Instant, kind: PayloadType, payload: Bytes) {
        match kind {
            PayloadType::Output => {
                self.mux.handle_input(payload).expect("the client's frames are good ones");
                self.handle_events(now);
            }
            PayloadType::Flag if ControlFlag::decode(&payload) == ControlFlag::TerminateSession => {
                self.finish = Some("");
            }
            PayloadType::Flag | PayloadType::Size => {}
            other => panic!("{other:?} of a client"),
        }
    }

    fn handle_events(&mut self, now: Instant) {
        while let Some(event) = self.mux.poll_event() {
            match event {
                Event::Opened { id } => {
                    let index = (u32::from(id) as usize - 3) / 2;
                    self.streams.insert(id, Destination::new(&self.plans[index], index, now));
                }
                Event::Data { id, data } => {
                    let to = self.streams.get_mut(&id).expect("data of a connection that is there");
                    to.accept(now, &data);
                }
                Event::Finished { id } => {
                    if let Some(to) = self.streams.get_mut(&id) {
                        to.finished = true;
                    }
                }
                Event::PeerSilent => panic!("nobody looks out for silence"),
            }
        }
    }

    fn dial(&mut self, now: Instant) {
        let due = |to: &Destination| !to.open && to.dialed_at <= now;
        let refused = |to: &Destination| due(to) && to.plan.course == Course::Refused;
        let failed: Vec<_> = self.streams.iter().filter(|(_, to)| refused(to)).map(|(id, _)| *id).collect();
        for id in failed {
            self.flags_due += 1;
            self.end(id);
        }
        self.streams.values_mut().filter(|to| due(to)).for_each(|to| to.open = true);
    }

    fn write(&mut self, now: Instant) {
        for (id, to) in &mut self.streams {
            if to.held > 0 && to.takes(now) {
                self.mux.consumed(*id, std::mem::take(&mut to.held));
            }
        }
        let over = |to: &Destination| to.is_over() || to.open && to.finished && to.held == 0;
        let ended: Vec<_> = self.streams.iter().filter(|(_, to)| over(to)).map(|(id, _)| *id).collect();
        for id in ended {
            let to = &self.streams[&id];
            // Whoever hangs up has been heard to the end.
            assert!(to.plan.course != Course::HangUp || to.incoming.is_complete(), "{id:?}: {to:?}");
            self.end(id);
        }
    }

    fn end(&mut self, id: StreamId) {
        self.streams.remove(&id);
        self.mux.forget(id);
        self.over += 1;
    }

    fn send(&mut self, pair: &mut Pair) {
        loop {
            while self.flags_due > 0 && pair.agent.channel.can_send() {
                let flag = ControlFlag::ConnectToPortError.encode();
                assert!(pair.send(Role::Agent, PayloadType::Flag, &flag));
                self.flags_due -= 1;
            }
            self.fill();
            if self.pipe.is_empty() || !self.pace.allows(pair.now) || !pair.agent.channel.can_send() {
                return;
            }
            let len = self.pipe.len().min(pair.agent.channel.payload_len());
            let payload: Vec<u8> = self.pipe.drain(..len).collect();
            assert!(pair.send(Role::Agent, PayloadType::Output, &payload));
            self.pace.sent(pair.now);
        }
    }

    /// Reads from destinations, and puts the end of a connection behind its last bytes and the flag that tells of a failed dial.
    fn fill(&mut self) {
        for (id, to) in &mut self.streams {
            if self.pipe.len() >= PIPE {
                return;
            }
            if to.speaks() && !to.finished {
                let len = to.outgoing.left().min(READ);
                let header = self.mux.push(*id, len).expect("it is open");
                let mut frame = header.to_vec();
                to.outgoing.take(len, &mut frame);
                self.pipe.extend(frame);
            }
        }
        let over: Vec<_> = self.streams.iter().filter(|(_, to)| to.is_over()).map(|(id, _)| *id).collect();
        over.into_iter().for_each(|id| self.end(id));
        while self.flags_due == 0
            && let Some(frame) = self.mux.poll_transmit()
        {
            self.pipe.extend(frame);
        }
    }
}

/// Basic mode, or the one connection of a stream.
pub(crate) struct SingleAgent {
    plans: Vec<Connection>,
    stream: bool,
    connection: Remote,
    /// Dials made.
    dials: usize,
    items: VecDeque<Item>,
    waiting: usize,
    pace: Pace,
    heard: u64,
    /// Whether input is left unacknowledged.
    pub(crate) refuses: bool,
    pub(crate) finish: Option<Finish>,
}

enum Remote {
    Open(Box<Destination>),
    Closed,
}

/// What the client wants, in order.
enum Item {
    Data(Bytes),
    Disconnect,
    Terminate,
}

impl SingleAgent {
    pub(crate) fn new(plan: &Plan, now: Instant) -> Self {
        Self {
            connection: Remote::Open(Box::new(Destination::new(&plan.connections[0], 0, now))),
            plans: plan.connections.clone(),
            stream: plan.kind == Kind::Stream,
            dials: 1,
            items: VecDeque::new(),
            waiting: 0,
            pace: Pace::new(plan.agent),
            heard: 0,
            refuses: true,
            finish: None,
        }
    }

    /// Whether every connection was heard to its end.
    pub(crate) fn is_done(&self) -> bool {
        let heard: u64 = self.plans.iter().map(|plan| plan.up).sum();
        self.heard == heard && self.items.is_empty()
    }

    pub(crate) fn turn(&mut self, pair: &mut Pair, stuck: bool) {
        let now = pair.now;
        while !stuck && self.waiting < INPUT && pair.receive(Role::Agent) {
            while let Some((kind, payload)) = pair.agent.inbox.pop_front() {
                self.handle(kind, payload);
            }
        }
        while self.finish.is_none() && self.go_on(pair, now) {}
    }

    pub(crate) fn deadline(&self, now: Instant) -> Option<Instant> {
        let Remote::Open(to) = &self.connection else { return None };
        let dialed = (!to.open).then_some(to.dialed_at);
        next_of(now, [dialed, to.slow_until, self.pace.next].into_iter().flatten())
    }

    pub(crate) fn received(&self) -> u64 {
        self.heard
    }

    fn handle(&mut self, kind: PayloadType, payload: Bytes) {
        let item = match (kind, ControlFlag::decode(&payload)) {
            (PayloadType::Output, _) => Item::Data(payload),
            (PayloadType::Flag, ControlFlag::DisconnectToPort) => Item::Disconnect,
            (PayloadType::Flag, ControlFlag::TerminateSession) => Item::Terminate,
            _ => return,
        };
        if let Item::Data(data) = &item {
            self.waiting += data.len();
        }
        self.items.push_back(item);
    }

    /// One step; false when nothing is left to do now.
    fn go_on(&mut self, pair: &mut Pair, now: Instant) -> bool {
        let Remote::Open(to) = &mut self.connection else {
            match self.items.front() {
                Some(Item::Data(_)) => {
                    let plan = &self.plans[self.dials];
                    let to = Destination::new(plan, self.dials, now);
                    self.connection = Remote::Open(Box::new(to));
                    self.dials += 1;
                }
                Some(Item::Disconnect) => drop(self.items.pop_front()),
                Some(Item::Terminate) => self.finish = Some(""),
                None => return false,
            }
            return true;
        };
        if !to.open {
            if to.dialed_at > now {
                return false;
            }
            to.open = true;
            self.refuses = false;
            if to.plan.course == Course::Refused {
                self.finish = Some(CRASH);
            }
            return true;
        }
        if to.takes(now) {
            to.held = 0;
            match self.items.pop_front() {
                Some(Item::Data(data)) => {
                    to.accept(now, &data);
                    self.waiting -= data.len();
                    self.heard += data.len() as u64;
                    return true;
                }
                Some(Item::Disconnect) => {
                    assert!(to.incoming.is_complete(), "closed before it was heard to the end");
                    self.connection = Remote::Closed;
                    return true;
                }
                Some(Item::Terminate) => {
                    assert!(to.incoming.is_complete(), "ended before it was heard to the end");
                    self.finish = Some("");
                    return true;
                }
                None => {}
            }
        }
        if to.speaks() && self.pace.allows(now) && pair.agent.channel.can_send() {
            let mut payload = Vec::new();
            to.outgoing.take(pair.agent.channel.payload_len(), &mut payload);
            assert!(pair.send(Role::Agent, PayloadType::Output, &payload));
            self.pace.sent(now);
            return true;
        }
        if to.is_over() {
            self.connection = Remote::Closed;
            self.finish = self.stream.then_some("");
            return true;
        }
        false
    }
}

/// A shell or a command.
pub(crate) struct Program {
    command: bool,
    outgoing: Outflow,
    aside: Outflow,
    incoming: Inflow,
    pace: Pace,
    /// Whether it exits by itself when it is done.
    exits: bool,
    pub(crate) finish: Option<Finish>,
}

impl Program {
    pub(crate) fn new(plan: &Plan, exits: bool) -> Self {
        let one = &plan.connections[0];
        let command = plan.kind == Kind::Command;
        Self {
            command,
            outgoing: Outflow::new(key(0, Way::Down), one.down),
            aside: Outflow::new(key(0, Way::Aside), if command { one.down / 8 } else { 0 }),
            incoming: Inflow::new(key(0, Way::Up), one.up),
            pace: Pace::new(plan.agent),
            exits,
            finish: None,
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.incoming.is_complete() && self.outgoing.left() + self.aside.left() == 0
    }

    pub(crate) fn turn(&mut self, pair: &mut Pair, stuck: bool) {
        while !stuck && pair.receive(Role::Agent) {
            while let Some((kind, payload)) = pair.agent.inbox.pop_front() {
                if kind == PayloadType::Output {
                    self.incoming.accept(&payload);
                }
            }
        }
        while self.pace.allows(pair.now) && self.finish.is_none() && pair.agent.channel.can_send() {
            let len = pair.agent.channel.payload_len();
            let mut payload = Vec::new();
            let kind = if self.aside.left() > self.outgoing.left() / 8 {
                self.aside.take(len, &mut payload);
                PayloadType::StdErr
            } else {
                self.outgoing.take(len, &mut payload);
                PayloadType::Output
            };
            if payload.is_empty() {
                break;
            }
            assert!(pair.send(Role::Agent, kind, &payload));
            self.pace.sent(pair.now);
        }
        if self.exits && self.is_done() && self.finish.is_none() && pair.agent.channel.can_send() {
            if self.command {
                assert!(pair.send(Role::Agent, PayloadType::ExitCode, &ExitCode(EXIT_CODE).encode()));
            }
            self.finish = Some("");
        }
    }

    pub(crate) fn deadline(&self, now: Instant) -> Option<Instant> {
        next_of(now, self.pace.next.into_iter())
    }

    pub(crate) fn received(&self) -> u64 {
        self.incoming.at
    }
}
