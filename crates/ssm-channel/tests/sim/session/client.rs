//! What runs at the client's end: local connections through the multiplexer or one at a time, or somebody at a terminal.
//!
//! It does what `ssm-portfwd` and `ssm-shell` do, on virtual time: it reads the session while there is room for what may come,
//! gives the channel what it takes, and no more.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ssm_channel::{PortMode, Ready, Role, SessionKind};
use ssm_proto::PayloadType;
use ssm_proto::body::{ControlFlag, ExitCode};
use ssm_smux::{Config, Event, HEADER_LEN, Mux, Schedule, Side, StreamId};

use super::plan::{Connection, Course, Kind, Plan};
use super::traffic::{Inflow, Outflow, Way, key};
use super::watch::{next_of, serve_mux};
use crate::pair::Pair;

/// Most bytes a program hands over at a time.
const CHUNK: usize = 16 * 1024;

/// The connections of a multiplexed session.
pub(crate) struct MuxClient {
    plans: Vec<Connection>,
    mux: Mux,
    schedule: Schedule,
    live: BTreeMap<StreamId, Local>,
    /// Plans whose connection has been opened.
    opened: usize,
    start: Instant,
    limit: usize,
    /// Failed dials that a flag has told of.
    pub(crate) refusals: u64,
}

/// A local connection.
struct Local {
    plan: Connection,
    outgoing: Outflow,
    incoming: Inflow,
    /// Bytes that the program has not taken.
    held: usize,
    /// It takes nothing before this.
    slow_until: Option<Instant>,
}

impl Local {
    fn new(plan: &Connection, index: usize) -> Self {
        Self {
            plan: plan.clone(),
            outgoing: Outflow::new(key(index, Way::Up), plan.up),
            incoming: Inflow::new(key(index, Way::Down), plan.down),
            held: 0,
            slow_until: None,
        }
    }

    fn accept(&mut self, now: Instant, bytes: &[u8]) {
        self.incoming.accept(bytes);
        self.held += bytes.len();
        self.slow_until.get_or_insert(now + self.plan.slow_program);
    }

    fn is_slow(&self, now: Instant) -> bool {
        self.slow_until.is_some_and(|until| until > now)
    }
}

impl MuxClient {
    pub(crate) fn new(plan: &Plan, ready: &Ready, now: Instant) -> Self {
        let SessionKind::Port(PortMode::Mux { keep_alive }) = ready.kind else {
            panic!("{:?} is not multiplexed", ready.kind)
        };
        let config = Config { receive_limit: plan.receive_limit, ..Config::default() };
        let config = if keep_alive { config.with_keep_alive() } else { config };
        Self {
            plans: plan.connections.clone(),
            mux: Mux::new(Side::Client, config, now),
            schedule: Schedule::new(1024),
            live: BTreeMap::new(),
            opened: 0,
            start: now,
            limit: plan.receive_limit,
            refusals: 0,
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.opened == self.plans.len() && self.mux.stream_count() == 0
    }

    pub(crate) fn turn(&mut self, pair: &mut Pair, stuck: bool) {
        serve_mux(&mut self.mux, pair.now);
        self.handle_events(pair.now);
        self.open(pair.now);
        let limit = self.limit;
        while !stuck && self.mux.unconsumed() < limit && pair.receive(Role::Client) {
            while let Some((kind, payload)) = pair.client.inbox.pop_front() {
                self.handle(pair.now, kind, payload);
            }
        }
        self.consume(pair.now);
        self.send(pair);
        let config = pair.client.channel.config();
        let parked = (config.reorder_max * pair.agent.channel.payload_len()).min(config.reorder_bytes_max);
        assert!(self.mux.unconsumed() <= limit + parked + 64 * 1024, "{} held", self.mux.unconsumed());
    }

    pub(crate) fn deadline(&self, now: Instant) -> Option<Instant> {
        let opens = self.plans.get(self.opened).map(|plan| self.start + plan.opens);
        let slow = self.live.values().filter(|local| local.held > 0).filter_map(|local| local.slow_until);
        next_of(now, slow.chain(opens).chain(self.mux.poll_timeout()))
    }

    pub(crate) fn received(&self) -> u64 {
        let open = self.live.values().map(|local| local.incoming.at).sum::<u64>();
        open + 1_000 * (self.opened - self.live.len()) as u64
    }

    fn open(&mut self, now: Instant) {
        while let Some(plan) = self.plans.get(self.opened).filter(|plan| self.start + plan.opens <= now) {
            let id = self.mux.open(now).expect("there is room");
            self.live.insert(id, Local::new(plan, self.opened));
            self.schedule.ready(id);
            self.opened += 1;
        }
    }

    fn handle(&mut self, now: Instant, kind: PayloadType, payload: Bytes) {
        match kind {
            PayloadType::Output => {
                self.mux.handle_input(payload).expect("the agent's frames are good ones");
                self.handle_events(now);
            }
            PayloadType::Flag => {
                assert_eq!(ControlFlag::decode(&payload), ControlFlag::ConnectToPortError);
                self.refusals += 1;
            }
            other => panic!("{other:?} in a port session"),
        }
    }

    fn handle_events(&mut self, now: Instant) {
        while let Some(event) = self.mux.poll_event() {
            match event {
                Event::Data { id, data } => {
                    let local = self.live.get_mut(&id).expect("data of a connection that is there");
                    local.accept(now, &data);
                    if local.plan.course == Course::Abort {
                        self.mux.forget(id);
                        self.end(id);
                    }
                }
                Event::Finished { id } => {
                    let Some(local) = self.live.get(&id) else { continue };
                    match local.plan.course {
                        Course::Reply | Course::Talk => {
                            assert_eq!(local.outgoing.left(), 0, "{id:?} ended before it had everything");
                            assert!(local.incoming.is_complete(), "{id:?} ended in the middle");
                        }
                        Course::Refused => assert_eq!(local.incoming.at, 0),
                        Course::HangUp | Course::Abort => {}
                    }
                    self.mux.finish(id);
                    self.end(id);
                }
                Event::Opened { id } => panic!("an agent opened {id:?}"),
                Event::PeerSilent => {}
            }
        }
    }

    fn end(&mut self, id: StreamId) {
        self.live.remove(&id);
        self.schedule.forget(id);
        self.mux.consumed(id, usize::MAX);
    }

    fn consume(&mut self, now: Instant) {
        for (id, local) in &mut self.live {
            if local.held > 0 && !local.is_slow(now) {
                self.mux.consumed(*id, std::mem::take(&mut local.held));
            }
        }
    }

    /// One message per connection in its turn, and the multiplexer's own frames behind them.
    fn send(&mut self, pair: &mut Pair) {
        while pair.client.channel.can_send()
            && let Some(id) = self.schedule.next()
        {
            let room = pair.client.channel.payload_len() - self.mux.data_overhead(id) - HEADER_LEN;
            let Some(local) = self.live.get_mut(&id) else { continue };
            let len = local.outgoing.left().min(room).min(CHUNK);
            let Ok(header) = self.mux.push(id, len) else {
                self.schedule.forget(id);
                continue;
            };
            let mut payload = header.to_vec();
            local.outgoing.take(len, &mut payload);
            let over = local.outgoing.left() == 0;
            if over && local.plan.course == Course::HangUp {
                self.mux.finish(id);
                payload.extend(self.mux.take_fin(id).into_iter().flatten());
                self.end(id);
            } else if over {
                self.schedule.forget(id);
            } else {
                self.schedule.sent(id, payload.len());
            }
            assert!(pair.send(Role::Client, PayloadType::Output, &payload));
        }
        while pair.client.channel.can_send() && self.mux.control_len() > 0 {
            let most = pair.client.channel.payload_len() / HEADER_LEN;
            let frames = std::iter::from_fn(|| self.mux.poll_transmit()).take(most);
            let payload = frames.flatten().collect::<Vec<u8>>();
            assert!(pair.send(Role::Client, PayloadType::Output, &payload));
        }
    }
}

/// One connection at a time, or the only one.
pub(crate) struct SingleClient {
    plans: Vec<Connection>,
    mode: PortMode,
    current: Option<Local>,
    /// Plans whose connection is over.
    over: usize,
    /// When the next one may come.
    next_at: Instant,
    /// What came before there was a connection.
    early: Vec<u8>,
    /// A flag has to go out that closes the destination.
    disconnect: bool,
    /// The program of a stream is gone.
    pub(crate) hung_up: bool,
}

impl SingleClient {
    pub(crate) fn new(plan: &Plan, ready: &Ready, now: Instant) -> Self {
        let SessionKind::Port(mode @ (PortMode::Basic | PortMode::Stream)) = ready.kind else {
            panic!("{:?} has more than one connection", ready.kind)
        };
        Self {
            next_at: now + plan.connections[0].opens,
            plans: plan.connections.clone(),
            mode,
            current: None,
            over: 0,
            early: Vec::new(),
            disconnect: false,
            hung_up: false,
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.over == self.plans.len() && !self.disconnect
    }

    pub(crate) fn turn(&mut self, pair: &mut Pair, stuck: bool) {
        let now = pair.now;
        if self.current.is_none() && !self.disconnect && self.next_at <= now {
            self.open(now);
        }
        let room = |this: &Self| match &this.current {
            Some(local) => local.held == 0 || !local.is_slow(now),
            None => this.early.len() < CHUNK,
        };
        while !stuck && room(self) && pair.receive(Role::Client) {
            while let Some((kind, payload)) = pair.client.inbox.pop_front() {
                assert_eq!(kind, PayloadType::Output, "in a port session");
                match &mut self.current {
                    Some(local) => local.accept(now, &payload),
                    None => self.early.extend_from_slice(&payload),
                }
            }
        }
        if let Some(local) = self.current.as_mut().filter(|local| !local.is_slow(now)) {
            local.held = 0;
        }
        self.send(pair);
    }

    pub(crate) fn deadline(&self, now: Instant) -> Option<Instant> {
        let opens = (self.over < self.plans.len()).then_some(self.next_at);
        let slow = self.current.as_ref().and_then(|local| local.slow_until);
        next_of(now, opens.into_iter().chain(slow))
    }

    pub(crate) fn received(&self) -> u64 {
        1_000_000 * self.over as u64 + self.current.as_ref().map_or(0, |local| local.incoming.at)
    }

    fn open(&mut self, now: Instant) {
        let Some(plan) = self.plans.get(self.over) else { return };
        let mut local = Local::new(plan, self.over);
        if !self.early.is_empty() {
            local.accept(now, &std::mem::take(&mut self.early));
        }
        self.current = Some(local);
    }

    fn send(&mut self, pair: &mut Pair) {
        while pair.client.channel.can_send() {
            if std::mem::take(&mut self.disconnect) {
                let flag = ControlFlag::DisconnectToPort.encode();
                assert!(pair.send(Role::Client, PayloadType::Flag, &flag));
                continue;
            }
            let Some(local) = &mut self.current else { return };
            let len = local.outgoing.left().min(pair.client.channel.payload_len()).min(CHUNK);
            if len > 0 {
                let mut payload = Vec::with_capacity(len);
                local.outgoing.take(len, &mut payload);
                assert!(pair.send(Role::Client, PayloadType::Output, &payload));
            } else if local.incoming.is_complete() && local.held == 0 {
                self.current = None;
                self.over += 1;
                self.disconnect = self.mode == PortMode::Basic;
                self.hung_up = self.mode == PortMode::Stream;
                let opens = self.plans.get(self.over).map_or(Duration::ZERO, |plan| plan.opens);
                self.next_at = pair.now + opens;
            } else {
                return;
            }
        }
    }
}

/// Somebody who types, and looks at what comes.
pub(crate) struct Terminal {
    outgoing: Outflow,
    incoming: Inflow,
    aside: Inflow,
    pub(crate) exit_code: Option<i32>,
    /// The next key is pressed at this time.
    next_at: Instant,
    keys: u32,
    slow_until: Option<Instant>,
    slow: Duration,
}

/// Between one key and the next, most of the time.
const BETWEEN_KEYS: Duration = Duration::from_millis(60);

impl Terminal {
    pub(crate) fn new(plan: &Plan, now: Instant) -> Self {
        let one = &plan.connections[0];
        let aside = if plan.kind == Kind::Command { one.down / 8 } else { 0 };
        Self {
            outgoing: Outflow::new(key(0, Way::Up), one.up),
            incoming: Inflow::new(key(0, Way::Down), one.down),
            aside: Inflow::new(key(0, Way::Aside), aside),
            exit_code: None,
            next_at: now + one.opens,
            keys: 0,
            slow_until: None,
            slow: one.slow_program,
        }
    }

    pub(crate) fn has_typed(&self) -> bool {
        self.outgoing.left() == 0
    }

    pub(crate) fn has_seen(&self) -> bool {
        self.incoming.is_complete() && self.aside.is_complete()
    }

    pub(crate) fn turn(&mut self, pair: &mut Pair, stuck: bool) {
        let now = pair.now;
        while !stuck && self.slow_until.is_none_or(|until| until <= now) && pair.receive(Role::Client) {
            while let Some((kind, payload)) = pair.client.inbox.pop_front() {
                self.slow_until.get_or_insert(now + self.slow);
                match kind {
                    PayloadType::Output => self.incoming.accept(&payload),
                    PayloadType::StdErr => self.aside.accept(&payload),
                    PayloadType::ExitCode => {
                        self.exit_code = ExitCode::decode(&payload).map(|code| code.0);
                    }
                    other => panic!("{other:?} at a terminal"),
                }
            }
        }
        while self.next_at <= now && pair.client.channel.can_send() && self.outgoing.left() > 0 {
            self.press(pair);
        }
    }

    pub(crate) fn deadline(&self, now: Instant) -> Option<Instant> {
        let types = (self.outgoing.left() > 0).then_some(self.next_at);
        next_of(now, types.into_iter().chain(self.slow_until))
    }

    pub(crate) fn received(&self) -> u64 {
        self.incoming.at + self.aside.at
    }

    /// A key, a paste, or another size of the window.
    fn press(&mut self, pair: &mut Pair) {
        self.keys += 1;
        if self.keys.is_multiple_of(8) {
            let size = format!(r#"{{"cols":{},"rows":24}}"#, 80 + self.keys);
            assert!(pair.send(Role::Client, PayloadType::Size, size.as_bytes()));
            return;
        }
        let len = if self.keys.is_multiple_of(3) { 4_000 } else { 1 };
        let mut payload = Vec::new();
        self.outgoing.take(len.min(pair.client.channel.payload_len()), &mut payload);
        assert!(pair.send(Role::Client, PayloadType::Output, &payload));
        if !self.keys.is_multiple_of(5) {
            self.next_at = pair.now + BETWEEN_KEYS;
        }
    }
}
