//! Whole sessions: both channels, what runs on top of them at both ends, and everything that goes wrong in between.
//!
//! Where a [`Story`](crate::story::Story) compares payloads, a session compares the bytes of every connection, as the programs
//! at both ends see them. In each run:
//!
//! - bytes arrive exactly once, in order, and all of them, unless the session ends on purpose before;
//! - what is held is bounded: by the window, the reorder buffer, the limit of the multiplexer;
//! - something arrives at the latest when trouble has passed and the longest timer has run out;
//! - neither channel nor multiplexer does anything before a deadline that it did not announce;
//! - each side closes once, for the one reason that the plan leads to, and has nothing to do from then on.

mod agent;
mod client;
mod plan;
mod traffic;
mod watch;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use ssm_channel::{AgentState, CloseReason, DataKey, Handshake, HandshakeError, Input, Ready, Role};
use ssm_proto::body::{Acknowledge, ChannelClosed};
use ssm_proto::{Header, MessageBuf, MessageId, MessageType, PayloadType};

use self::agent::{CRASH, EXIT_CODE, MuxAgent, Program, SingleAgent};
use self::client::{MuxClient, SingleClient, Terminal};
pub(crate) use self::plan::Plan;
use self::plan::{Ending, Fault, Kind, PATIENCE, RECONNECT, Stray};
use crate::pair::{Fate, Pair, Reader};

/// One session under way.
pub(crate) struct Session {
    plan: Plan,
    pair: Pair,
    client: Option<Client>,
    agent: Option<Agent>,
    faults: VecDeque<(Instant, Fault)>,
    /// Nothing but trouble keeps bytes from arriving before this.
    troubled_until: Instant,
    /// When a side reads its WebSocket again.
    stuck_until: [Option<Instant>; 2],
    not_ready_until: Option<Instant>,
    ending: Stage,
    agent_ready_at: Option<Instant>,
    /// Connections that passed nothing any more, for good, without anybody being told.
    dead: u64,
    most: Most,
}

/// How far the end is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The session runs.
    Running,
    /// What ends it has happened, at this time.
    Begun(Instant),
    /// What the service told the client is under way.
    Told(Instant),
}

enum Client {
    Mux(Box<MuxClient>),
    Single(Box<SingleClient>),
    Terminal(Terminal),
}

enum Agent {
    Mux(Box<MuxAgent>),
    Single(Box<SingleAgent>),
    Program(Program),
}

/// The most that was held at a time.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Most {
    in_flight: usize,
    parked: usize,
}

/// What happened in all sessions.
#[derive(Debug, Default, Clone)]
pub(crate) struct Seen {
    messages: u64,
    bytes: u64,
    retransmissions: u64,
    duplicates: u64,
    reordered: u64,
    refused: u64,
    damaged: u64,
    unknown: u64,
    resumes: u64,
    pauses: u64,
    failed_dials: u64,
    dead: u64,
    larger_payloads: u64,
    virtual_seconds: u64,
    /// Sessions by kind, and by ending.
    kinds: [u64; 6],
    endings: [u64; 8],
    most: Most,
}

/// The longest that nothing may arrive beyond trouble itself: silence has to be noticed on both sides (20 s), the backoff of a
/// redial (8 s) passes, and a message may be lost several times after that, a second and more apart.
const STALL: Duration = Duration::from_secs(90);

/// The longest that an ending takes: to be noticed, to be waited for, to be told.
const LAST: Duration = Duration::from_secs(150);

/// Longer than any session.
const FOR_GOOD: Duration = Duration::from_secs(100_000);

/// No session takes so many steps.
const STEPS: u64 = 2_000_000;

/// How rarely a channel is written down and compared whole: the stories do so more often, and it takes long.
const AUDIT_EVERY: u32 = 512;

const SIDES: [Role; 2] = [Role::Client, Role::Agent];

impl Session {
    pub(crate) fn new(seed: u64) -> Self {
        let plan = Plan::new(seed);
        let (client, agent) = plan.configs();
        let mut pair = Pair::new(seed, client, agent, plan.conditions);
        pair.records = false;
        for role in SIDES {
            pair.peer(role).reader = Reader::Application;
            pair.peer(role).audit_every = AUDIT_EVERY;
        }
        match plan.ending {
            Ending::NoKey => {
                pair.client.kms = Err::<DataKey, _>("AccessDeniedException".into());
            }
            Ending::NoHandshake => {
                pair.rule = Some(Box::new(|to, message| {
                    let asks = message.header.payload_type == Some(PayloadType::HandshakeRequest);
                    if to == Role::Client && asks { Fate::Lost } else { Fate::Pass }
                }));
            }
            _ => {}
        }
        let start = pair.start;
        Self {
            client: None,
            agent: None,
            faults: plan.faults.iter().map(|(at, fault)| (start + *at, *fault)).collect(),
            troubled_until: start,
            stuck_until: [None; 2],
            not_ready_until: None,
            ending: Stage::Running,
            agent_ready_at: None,
            dead: 0,
            most: Most::default(),
            plan,
            pair,
        }
    }

    /// Plays it to the end.
    ///
    /// # Panics
    ///
    /// When anything is not as it must be.
    pub(crate) fn run(mut self) -> Seen {
        self.pair.open(Role::Client);
        let mut progress = (0, self.pair.now);
        let mut steps = 0;
        loop {
            self.turn();
            self.assert_bounds();
            if self.pair.client.closed.is_some() {
                return self.end();
            }
            let step = [self.deadline(), Some(self.pair.now + STALL)].into_iter().flatten().min();
            self.pair.step(step.expect("there is one"));
            self.make_trouble();
            let received = self.received();
            if received != progress.0 || !self.is_owed() {
                progress = (received, self.pair.now);
            }
            let waited = self.pair.now.saturating_duration_since(progress.1.max(self.troubled_until));
            let limit = if self.ending == Stage::Running { STALL } else { LAST };
            assert!(waited < limit, "nothing arrived for {waited:?}: {}", self.describe());
            steps += 1;
            assert!(steps < STEPS, "it never ends: {}", self.describe());
        }
    }

    /// Both applications, the end if it is due, and whatever follows from one for the other.
    fn turn(&mut self) {
        let now = self.pair.now;
        let [client_stuck, agent_stuck] =
            self.stuck_until.map(|until| until.is_some_and(|until| until > now));
        if self.client.is_none() {
            self.start_client();
        }
        if self.agent.is_none() {
            self.start_agent();
        }
        match &mut self.client {
            Some(client) => client.turn(&mut self.pair, client_stuck),
            None => self.read_until_ready(Role::Client, client_stuck),
        }
        match &mut self.agent {
            Some(agent) => agent.turn(&mut self.pair, agent_stuck),
            None => self.read_until_ready(Role::Agent, agent_stuck),
        }
        let refuses = matches!(&self.agent, Some(Agent::Single(agent)) if agent.refuses);
        let not_ready = self.not_ready_until.is_some_and(|until| until > now);
        let input = if refuses || not_ready { Input::Refused } else { Input::Accepted };
        self.pair.agent.channel.set_input(input);
        self.lead_to_the_end();
    }

    fn start_client(&mut self) {
        let Some(ready) = self.pair.client.ready.first() else { return };
        let client = Client::new(&self.plan, ready, self.pair.now);
        self.client = Some(client);
    }

    fn start_agent(&mut self) {
        if self.pair.agent.ready.is_empty() {
            return;
        }
        self.agent_ready_at = Some(self.pair.now);
        self.pair.agent.channel.announce(self.pair.now, AgentState::Connected, "session");
        self.pair.drive(Role::Agent);
        self.agent = Some(Agent::new(&self.plan, self.pair.now));
    }

    /// Before there is an application the driver reads; what is for the application waits for it.
    fn read_until_ready(&mut self, role: Role, stuck: bool) {
        while !stuck && self.pair.peer(role).ready.is_empty() && self.pair.receive(role) {}
    }

    fn deadline(&self) -> Option<Instant> {
        let now = self.pair.now;
        let started = |peer: &crate::pair::Peer, runs: bool| (!runs && !peer.ready.is_empty()).then_some(now);
        let own = [
            self.client.as_ref().and_then(|client| client.deadline(now)),
            self.agent.as_ref().and_then(|agent| agent.deadline(now)),
            self.faults.front().map(|(at, _)| *at),
            self.not_ready_until.filter(|until| *until > now),
            self.ends_at().filter(|_| self.ending == Stage::Running).filter(|at| *at > now),
            started(&self.pair.client, self.client.is_some()),
            started(&self.pair.agent, self.agent.is_some()),
        ];
        let stuck = self.stuck_until.iter().flatten().filter(|until| **until > now).copied();
        own.into_iter().flatten().chain(stuck).min()
    }

    /// When an ending that has a time of its own is due.
    fn ends_at(&self) -> Option<Instant> {
        match self.plan.ending {
            Ending::Refused(at) | Ending::Lost(at) | Ending::Mute(at) => Some(self.pair.start + at),
            _ => None,
        }
    }

    fn lead_to_the_end(&mut self) {
        let now = self.pair.now;
        if let Stage::Running = self.ending
            && self.end_is_due()
        {
            self.ending = Stage::Begun(now);
            self.begin_the_end();
        }
        // A message that nobody acknowledges takes one that was sent.
        if let (Ending::Mute(_), Stage::Begun(_)) = (self.plan.ending, self.ending)
            && self.pair.client.channel.is_drained()
            && self.pair.client.channel.can_send()
        {
            let (kind, payload): (_, &[u8]) = match self.plan.kind.is_port() {
                true => (PayloadType::Flag, &[0, 0, 0, 9]),
                false => (PayloadType::Size, br#"{"cols":80,"rows":24}"#),
            };
            self.pair.send(Role::Client, kind, payload);
        }
        if let Some(output) = self.closing_text() {
            self.tell_client(output);
        }
    }

    fn end_is_due(&self) -> bool {
        let running = self.client.is_some() && self.agent.is_some();
        match self.plan.ending {
            Ending::Terminate | Ending::AgentEnds => running && self.is_done() && self.faults.is_empty(),
            Ending::Crash => matches!(&self.agent, Some(agent) if agent.finish() == Some(CRASH)),
            Ending::Refused(_) | Ending::Lost(_) | Ending::Mute(_) => {
                running && self.ends_at().is_some_and(|at| at <= self.pair.now)
            }
            Ending::NoHandshake | Ending::NoKey => self.faults.is_empty(),
        }
    }

    fn begin_the_end(&mut self) {
        match self.plan.ending {
            Ending::Terminate => {
                self.pair.client.channel.terminate(self.pair.now);
                self.pair.drive(Role::Client);
            }
            Ending::Refused(_) => {
                self.pair.client.forgotten = true;
                self.pair.cut(Role::Client);
            }
            Ending::Lost(_) => {
                self.pair.client.unreachable_until = Some(self.pair.now + FOR_GOOD);
                self.pair.cut(Role::Client);
            }
            Ending::Mute(_) => {
                self.pair.rule = Some(Box::new(|to, message| {
                    let numbered = message.header.message_type.is_stream();
                    if to == Role::Agent && numbered { Fate::Lost } else { Fate::Pass }
                }));
            }
            Ending::AgentEnds | Ending::Crash | Ending::NoHandshake | Ending::NoKey => {}
        }
    }

    /// What the service tells the client when the agent is through with the session.
    fn closing_text(&self) -> Option<&'static str> {
        let finished = self.agent.as_ref().and_then(Agent::finish);
        let drained = self.pair.agent.channel.is_drained();
        match (self.plan.ending, &self.pair.agent.closed) {
            (Ending::NoKey, Some(_)) => Some("the key"),
            (Ending::AgentEnds | Ending::Crash, None) => {
                finished.filter(|_| drained && self.ending != Stage::Running)
            }
            _ => None,
        }
    }

    /// The service says that the session is over, once somebody hears it.
    fn tell_client(&mut self, output: &str) {
        let now = self.pair.now;
        if self.ending == Stage::Running {
            self.ending = Stage::Begun(now);
        }
        if let Stage::Begun(_) = self.ending
            && self.pair.client.online
            && !self.pair.client.is_deaf(now)
        {
            self.ending = Stage::Told(now);
            if self.pair.agent.closed.is_none() {
                self.pair.agent.channel.announce(now, AgentState::Terminating, "session");
                self.pair.drive(Role::Agent);
            }
            let closed = ChannelClosed { output: output.to_owned(), ..ChannelClosed::default() };
            self.pair.service(Role::Client, MessageType::ChannelClosed, &closed.encode());
        }
        // It was lost with its connection: the service repeats it on the next.
        if let Stage::Told(at) = self.ending
            && now > at
            && self.pair.client.unread.is_empty()
        {
            self.ending = Stage::Begun(at);
        }
    }

    /// Whether every program has got all that it was to get.
    fn is_done(&self) -> bool {
        let channels = [&self.pair.client, &self.pair.agent];
        let delivered = channels.iter().all(|peer| peer.inbound.is_complete() && peer.channel.is_drained());
        let client = match &self.client {
            Some(Client::Mux(client)) => client.is_done(),
            Some(Client::Single(client)) => client.is_done(),
            Some(Client::Terminal(client)) => client.has_typed() && client.has_seen(),
            None => false,
        };
        let agent = match &self.agent {
            Some(Agent::Mux(agent)) => agent.is_done(),
            Some(Agent::Single(agent)) => agent.is_done(),
            Some(Agent::Program(agent)) => agent.is_done(),
            None => false,
        };
        delivered && client && agent
    }

    /// Whether something is to arrive.
    fn is_owed(&self) -> bool {
        match self.plan.ending {
            Ending::NoHandshake | Ending::NoKey if self.ending == Stage::Running => false,
            // Until then the session waits for its time.
            _ if self.ending == Stage::Running && self.faults.is_empty() => {
                self.ends_at().is_none_or(|at| at <= self.pair.now) || !self.is_done()
            }
            _ => true,
        }
    }

    fn received(&self) -> u64 {
        let messages = self.pair.client.inbound.delivered + self.pair.agent.inbound.delivered;
        let bytes =
            self.client.as_ref().map_or(0, Client::received) + self.agent.as_ref().map_or(0, Agent::received);
        messages + bytes
    }

    fn make_trouble(&mut self) {
        while let Some((at, fault)) = self.faults.front().copied()
            && at <= self.pair.now
        {
            // Whoever is away when a session is to start has none.
            if fault.lasts() && self.pair.agent.ready.is_empty() && self.ending == Stage::Running {
                if matches!(self.plan.ending, Ending::NoHandshake | Ending::NoKey) {
                    self.faults.pop_front();
                    continue;
                }
                let later = self.faults.iter_mut().filter(|(_, fault)| fault.lasts());
                later.for_each(|(at, _)| *at += Duration::from_millis(500));
                self.faults.make_contiguous().sort_by_key(|(at, _)| *at);
                continue;
            }
            self.faults.pop_front();
            let lasts = self.strike(fault);
            self.troubled_until = self.troubled_until.max(self.pair.now + lasts);
        }
    }

    /// Lets something go wrong, and returns for how long.
    fn strike(&mut self, fault: Fault) -> Duration {
        let now = self.pair.now;
        match fault {
            Fault::Arrival => self.pair.open(Role::Agent),
            Fault::Close(side) => self.close(side),
            Fault::Closed(side) => self.pair.close(side),
            Fault::Reset(side) => self.pair.cut(side),
            Fault::Rotation(delay) => {
                self.pair.link.conditions.delay = delay;
                SIDES.into_iter().for_each(|side| self.close(side));
            }
            Fault::HalfOpen(side, lasts) => {
                self.dead += u64::from(lasts.is_none() && self.pair.peer(side).online);
                self.pair.peer(side).deaf_until = Some(now + lasts.unwrap_or(FOR_GOOD));
                return lasts.unwrap_or_default();
            }
            Fault::Unreachable(side, lasts) => {
                self.pair.peer(side).unreachable_until = Some(now + lasts);
                self.pair.cut(side);
                return lasts;
            }
            Fault::Pause(side, start) => {
                self.pair.service(side, MessageType::PausePublication, b"pause_publication");
                if let Some(after) = start {
                    self.plan_fault(now + after, Fault::Start(side));
                    return after;
                }
            }
            Fault::Start(side) => {
                // What the gateway says is late on a connection that passes nothing for a time, not lost.
                let peer = self.pair.peer(side);
                peer.deaf_until = peer.deaf_until.filter(|until| *until > now + PATIENCE);
                self.pair.service(side, MessageType::StartPublication, b"start_publication");
            }
            Fault::NotReady(lasts) => {
                self.not_ready_until = Some(now + lasts);
                return lasts;
            }
            Fault::StuckReader(side, lasts) => {
                self.stuck_until[side as usize] = Some(now + lasts);
                return lasts;
            }
            Fault::StuckSocket(side, lasts) => {
                self.pair.peer(side).busy_until = Some(now + lasts);
                return lasts;
            }
            Fault::RepeatedHandshake => self.repeat_handshake(),
            Fault::Suspend(side, asleep) => self.pair.suspend(side, asleep),
            Fault::Stray(side, stray) => self.stray(side, stray),
        }
        Duration::ZERO
    }

    /// Behind what is on its way.
    fn close(&mut self, side: Role) {
        let at = self.pair.link.last_arrival(side).unwrap_or(self.pair.now);
        self.plan_fault(at.max(self.pair.now), Fault::Closed(side));
    }

    fn plan_fault(&mut self, at: Instant, fault: Fault) {
        let place = self.faults.partition_point(|(other, _)| *other <= at);
        self.faults.insert(place, (at, fault));
    }

    /// Under a number of its own, so that it is no repetition of a message.
    fn repeat_handshake(&mut self) {
        let now = self.pair.now;
        let channel = &mut self.pair.agent.channel;
        // Before the session has begun a second request would be the first.
        if self.pair.client.ready.iter().any(|ready| ready.evidence == ssm_channel::Evidence::Handshake)
            && channel.can_send()
        {
            let mut buf = MessageBuf::with_capacity(64);
            buf.put_slice(br#"{"AgentVersion":"3.3.987.0","RequestedClientActions":[]}"#);
            channel.send(now, PayloadType::HandshakeRequest, buf).expect("there is room");
            self.pair.drive(Role::Agent);
        }
    }

    fn stray(&mut self, side: Role, stray: Stray) {
        let id = MessageId::from_random([5; 16]);
        let control = |message_type| Header::control(message_type, id, 1);
        match stray {
            Stray::UnknownType => {
                let mut name = [b' '; 32];
                name[..9].copy_from_slice(b"new_thing");
                self.pair.stray(side, control(MessageType::Unknown(name)), b"?");
            }
            Stray::AgentSessionState => {
                let body = br#"{"SchemaVersion":1,"SessionState":"Terminating","SessionId":"other"}"#;
                self.pair.stray(side, control(MessageType::AgentSessionState), body);
            }
            Stray::AcknowledgementOfTheFuture => {
                let mut buf = MessageBuf::with_capacity(Acknowledge::MAX_LEN);
                let message_type = MessageType::InputStreamData;
                Acknowledge { message_type, message_id: id, sequence: 1 << 40 }.encode(&mut buf);
                self.pair.stray(side, control(MessageType::Acknowledge), buf.payload());
            }
            Stray::NoMessage => {
                let mut header = control(MessageType::StartPublication);
                header.payload_len = 1;
                self.pair.stray(side, header, b"");
            }
        }
    }

    /// What each side holds, and that an agent gets nothing that it would discard.
    fn assert_bounds(&mut self) {
        for peer in [&self.pair.client, &self.pair.agent] {
            let (stats, config) = (peer.channel.stats(), peer.channel.config());
            let most = config.window_max + 2 * config.payload_max + 8 * 1024;
            assert!(stats.in_flight <= most, "{:?} holds {} bytes", peer.role, stats.in_flight);
            assert!(stats.parked <= config.reorder_max, "{:?} parks {}", peer.role, stats.parked);
            self.most.in_flight = self.most.in_flight.max(stats.in_flight);
            self.most.parked = self.most.parked.max(stats.parked);
        }
        // An agent discards what comes before it has noticed that the handshake is over. A terminal waits to be told of that; a
        // port, for an answer to its first flag.
        let ways = match self.plan.kind {
            Kind::Mux | Kind::Basic | Kind::Stream => 4,
            Kind::Shell(Handshake::Required) | Kind::Encrypted | Kind::Command => 2,
            Kind::Shell(Handshake::Skipped) => 0,
        };
        if let Some(ready_at) = self.agent_ready_at
            && self.agent.as_ref().is_some_and(|agent| agent.received() > 0)
        {
            let soonest = ready_at + ways * self.plan.delay_min();
            assert!(self.pair.now >= soonest, "input came before the agent was ready for it");
            self.agent_ready_at = None;
        }
    }

    /// Each side has closed for the reason it should, and is quiet.
    fn end(mut self) -> Seen {
        let expected = self.expected();
        let reason = self.pair.client.closed.clone().map(|(_, reason)| reason);
        let lawful = |reason: &CloseReason| match (&expected, reason) {
            (CloseReason::Undeliverable { .. }, CloseReason::Undeliverable { .. }) => true,
            (expected, reason) => expected == reason,
        };
        assert!(reason.as_ref().is_some_and(lawful), "{reason:?} in place of {expected:?}");
        if matches!(self.plan.ending, Ending::Terminate | Ending::AgentEnds) {
            let peers = [&self.pair.client, &self.pair.agent];
            let complete =
                peers.iter().all(|peer| peer.inbound.missing() <= usize::from(peer.role == Role::Agent));
            assert!(complete, "ended before everything had arrived: {}", self.describe());
        }
        // The service ends the other half.
        let closed = ChannelClosed::default().encode();
        self.stuck_until = [None; 2];
        let until = self.pair.now + LAST;
        while self.pair.agent.closed.is_none() {
            if self.pair.agent.online && !self.pair.agent.is_deaf(self.pair.now) {
                self.pair.service(Role::Agent, MessageType::ChannelClosed, &closed);
                while self.pair.receive(Role::Agent) {}
            } else {
                assert!(self.pair.step(until), "the agent stays: {}", self.describe());
            }
        }
        self.pair.run_for(Duration::from_secs(30));
        for role in SIDES {
            let peer = self.pair.peer(role);
            assert_eq!(peer.channel.poll_timeout(), None, "{role:?} is closed and waits for something");
            assert!(peer.channel.is_closed());
        }
        self.seen()
    }

    fn expected(&self) -> CloseReason {
        match self.plan.ending {
            Ending::Terminate => CloseReason::Terminated,
            Ending::AgentEnds => CloseReason::AgentClosed {
                exit_code: (self.plan.kind == Kind::Command).then_some(EXIT_CODE),
                detail: None,
            },
            Ending::Crash => CloseReason::AgentClosed { exit_code: None, detail: Some(CRASH.into()) },
            Ending::Refused(_) => CloseReason::ResumeRefused,
            Ending::Lost(_) => CloseReason::ConnectionLost(RECONNECT),
            Ending::Mute(_) => CloseReason::Undeliverable { sequence: 0 },
            Ending::NoHandshake => CloseReason::HandshakeFailed(HandshakeError::Timeout),
            Ending::NoKey => {
                CloseReason::HandshakeFailed(HandshakeError::NoDataKey("AccessDeniedException".into()))
            }
        }
    }

    fn seen(&self) -> Seen {
        let mut seen = Seen { most: self.most, dead: self.dead, ..Seen::default() };
        for peer in [&self.pair.client, &self.pair.agent] {
            let stats = peer.channel.stats();
            seen.messages += stats.messages_sent;
            seen.bytes += stats.bytes_sent;
            seen.retransmissions += stats.retransmissions;
            seen.duplicates += stats.duplicates_received;
            seen.reordered += stats.out_of_order_received;
            seen.refused += stats.refused;
            seen.damaged += stats.undecodable_frames;
            seen.unknown += stats.unknown_messages;
            seen.resumes += stats.resumes;
            seen.pauses += stats.pauses;
        }
        if let Some(Client::Mux(client)) = &self.client {
            seen.failed_dials = client.refusals;
        }
        let client = &self.pair.client.channel;
        seen.larger_payloads = u64::from(client.payload_len() > client.config().payload_len);
        seen.virtual_seconds = self.pair.now.saturating_duration_since(self.pair.start).as_secs();
        seen.kinds[kind_index(self.plan.kind)] = 1;
        seen.endings[ending_index(self.plan.ending)] = 1;
        seen
    }

    fn describe(&self) -> String {
        let (client, agent) = (&self.pair.client, &self.pair.agent);
        format!(
            "{:?} after the start, {:?}\nclient {:?}\nagent {:?}\nmissing {} at the agent, {} at the client",
            self.pair.now.saturating_duration_since(self.pair.start),
            self.ending,
            client.channel.stats(),
            agent.channel.stats(),
            agent.inbound.missing(),
            client.inbound.missing(),
        )
    }
}

impl Client {
    fn new(plan: &Plan, ready: &Ready, now: Instant) -> Self {
        match plan.kind {
            Kind::Mux => Self::Mux(Box::new(MuxClient::new(plan, ready, now))),
            Kind::Basic | Kind::Stream => Self::Single(Box::new(SingleClient::new(plan, ready, now))),
            Kind::Shell(_) | Kind::Encrypted | Kind::Command => Self::Terminal(Terminal::new(plan, now)),
        }
    }

    fn turn(&mut self, pair: &mut Pair, stuck: bool) {
        match self {
            Self::Mux(client) => client.turn(pair, stuck),
            Self::Single(client) => client.turn(pair, stuck),
            Self::Terminal(client) => client.turn(pair, stuck),
        }
    }

    fn deadline(&self, now: Instant) -> Option<Instant> {
        match self {
            Self::Mux(client) => client.deadline(now),
            Self::Single(client) => client.deadline(now),
            Self::Terminal(client) => client.deadline(now),
        }
    }

    fn received(&self) -> u64 {
        match self {
            Self::Mux(client) => client.received(),
            Self::Single(client) => client.received(),
            Self::Terminal(client) => client.received(),
        }
    }
}

impl Agent {
    fn new(plan: &Plan, now: Instant) -> Self {
        match plan.kind {
            Kind::Mux => Self::Mux(Box::new(MuxAgent::new(plan, now))),
            Kind::Basic | Kind::Stream => Self::Single(Box::new(SingleAgent::new(plan, now))),
            Kind::Shell(_) | Kind::Encrypted | Kind::Command => {
                Self::Program(Program::new(plan, plan.ending == Ending::AgentEnds))
            }
        }
    }

    fn turn(&mut self, pair: &mut Pair, stuck: bool) {
        match self {
            Self::Mux(agent) => agent.turn(pair, stuck),
            Self::Single(agent) => agent.turn(pair, stuck),
            Self::Program(agent) => agent.turn(pair, stuck),
        }
    }

    fn deadline(&self, now: Instant) -> Option<Instant> {
        match self {
            Self::Mux(agent) => agent.deadline(now),
            Self::Single(agent) => agent.deadline(now),
            Self::Program(agent) => agent.deadline(now),
        }
    }

    fn received(&self) -> u64 {
        match self {
            Self::Mux(agent) => agent.received(),
            Self::Single(agent) => agent.received(),
            Self::Program(agent) => agent.received(),
        }
    }

    fn finish(&self) -> Option<&'static str> {
        match self {
            Self::Mux(agent) => agent.finish,
            Self::Single(agent) => agent.finish,
            Self::Program(agent) => agent.finish,
        }
    }
}

fn kind_index(kind: Kind) -> usize {
    match kind {
        Kind::Mux => 0,
        Kind::Basic => 1,
        Kind::Stream => 2,
        Kind::Shell(_) => 3,
        Kind::Encrypted => 4,
        Kind::Command => 5,
    }
}

fn ending_index(ending: Ending) -> usize {
    match ending {
        Ending::Terminate => 0,
        Ending::AgentEnds => 1,
        Ending::Crash => 2,
        Ending::Refused(_) => 3,
        Ending::Lost(_) => 4,
        Ending::Mute(_) => 5,
        Ending::NoHandshake => 6,
        Ending::NoKey => 7,
    }
}

impl Seen {
    pub(crate) fn add(&mut self, other: &Self) {
        let sums = [
            (&mut self.messages, other.messages),
            (&mut self.bytes, other.bytes),
            (&mut self.retransmissions, other.retransmissions),
            (&mut self.duplicates, other.duplicates),
            (&mut self.reordered, other.reordered),
            (&mut self.refused, other.refused),
            (&mut self.damaged, other.damaged),
            (&mut self.unknown, other.unknown),
            (&mut self.resumes, other.resumes),
            (&mut self.pauses, other.pauses),
            (&mut self.failed_dials, other.failed_dials),
            (&mut self.dead, other.dead),
            (&mut self.larger_payloads, other.larger_payloads),
            (&mut self.virtual_seconds, other.virtual_seconds),
        ];
        sums.into_iter().for_each(|(sum, one)| *sum += one);
        self.kinds.iter_mut().zip(other.kinds).for_each(|(sum, one)| *sum += one);
        self.endings.iter_mut().zip(other.endings).for_each(|(sum, one)| *sum += one);
        self.most.in_flight = self.most.in_flight.max(other.most.in_flight);
        self.most.parked = self.most.parked.max(other.most.parked);
    }

    /// Sessions in which nothing goes wrong prove nothing.
    pub(crate) fn assert_everything_happened(&self) {
        let faults = [
            self.retransmissions,
            self.duplicates,
            self.reordered,
            self.refused,
            self.damaged,
            self.unknown,
            self.resumes,
            self.pauses,
            self.failed_dials,
            self.dead,
            self.larger_payloads,
        ];
        let all = faults.iter().chain(&self.kinds).chain(&self.endings);
        assert!(all.into_iter().all(|count| *count > 3), "{self:?}");
    }
}
