//! A client and an agent, a link between them, and a clock that jumps to whatever happens next.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ssm_channel::{
    Channel, CloseReason, Config, DATA_KEY_LEN, DataKey, Event, Handshake, KeyRequest, KmsOffer, Offer,
    Ready, Role, SendError, Stats, Transmit,
};
use ssm_proto::{
    Header, Message, MessageBuf, MessageId, MessageType, PayloadType, RawValue, Strictness, Token,
};

use crate::link::{Cargo, Conditions, Flight, Link};
use crate::model::Model;

/// One side: its channel, its WebSocket, and what its application did and saw.
pub(crate) struct Peer {
    pub(crate) role: Role,
    pub(crate) channel: Channel,
    pub(crate) online: bool,
    /// Number of the connection.
    pub(crate) connection: u32,
    /// The WebSocket takes nothing before this.
    pub(crate) busy_until: Option<Instant>,
    /// The connection passes nothing before this, and nobody was told.
    pub(crate) deaf_until: Option<Instant>,
    /// Attempts to connect fail before this.
    pub(crate) unreachable_until: Option<Instant>,
    dials_until: Option<Instant>,
    /// The service has forgotten the session: an attempt to connect is told so.
    pub(crate) forgotten: bool,
    /// Who reads the WebSocket.
    pub(crate) reader: Reader,
    /// Frames that nobody has read.
    pub(crate) unread: VecDeque<Flight>,
    /// Payloads for an application that reads by itself.
    pub(crate) inbox: VecDeque<(PayloadType, Bytes)>,
    /// What this side is to receive.
    pub(crate) inbound: Model,
    pub(crate) ready: Vec<Ready>,
    pub(crate) redials: Vec<(Instant, u32)>,
    pub(crate) resumed: u32,
    pub(crate) closed: Option<(Instant, CloseReason)>,
    /// What it asked KMS for.
    pub(crate) keys: Vec<KeyRequest>,
    /// What KMS answers.
    pub(crate) kms: Result<DataKey, String>,
    /// What it put on the wire, if the pair records.
    pub(crate) sent: Vec<(Instant, Message)>,
    pub(crate) opens: Vec<String>,
    pub(crate) pings: Vec<Instant>,
    timeouts_at_once: u32,
    audits: u32,
    /// One comparison of everything in so many.
    pub(crate) audit_every: u32,
}

/// Who takes frames from the WebSocket of a side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reader {
    /// They are handed to the channel as they arrive.
    Eager,
    /// The application, by [`Pair::receive`], when it has room for what is in them.
    Application,
}

/// A rule for frames, asked before the link: where it goes, and what it is.
pub(crate) type Rule = Box<dyn FnMut(Role, &Message) -> Fate>;

/// What becomes of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The link has it.
    Pass,
    /// It is gone.
    Lost,
}

/// How long an attempt to connect takes.
const DIAL: Duration = Duration::from_millis(40);

/// What the wall clocks show at the start.
const UNIX_START: Duration = Duration::from_secs(1_700_000_000);

/// Deadlines in a row without anything else happening in between; a state machine that needs more is busy.
const TIMEOUTS_AT_ONCE: u32 = 8;

/// Both sides and everything between.
pub(crate) struct Pair {
    pub(crate) now: Instant,
    pub(crate) start: Instant,
    pub(crate) client: Peer,
    pub(crate) agent: Peer,
    pub(crate) link: Link,
    pub(crate) rule: Option<Rule>,
    pub(crate) records: bool,
    tokens: u32,
}

impl Pair {
    pub(crate) fn new(seed: u64, client: Config, agent: Config, conditions: Conditions) -> Self {
        let start = crate::origin();
        Self {
            now: start,
            start,
            client: Peer::new(Role::Client, client, seed, start),
            agent: Peer::new(Role::Agent, agent, seed, start),
            link: Link::new(seed, conditions),
            rule: None,
            records: true,
            tokens: 0,
        }
    }

    /// A shell with a handshake and the default configurations, over a link that takes 10 ms each way. Connected.
    pub(crate) fn shell() -> Self {
        Self::connected(Config::client(), Config::agent("i-0", shell(Handshake::Required)))
    }

    /// The same with a multiplexed port session.
    pub(crate) fn port() -> Self {
        let client = Config { assume_ready: None, ..Config::client() };
        Self::connected(client, Config::agent("i-0", port()))
    }

    pub(crate) fn connected(client: Config, agent: Config) -> Self {
        let conditions = Conditions { delay: Duration::from_millis(10), ..Conditions::default() };
        let mut pair = Self::new(1, client, agent, conditions);
        pair.connect();
        pair
    }

    /// Runs until both sides are ready.
    pub(crate) fn started(mut self) -> Self {
        self.run_until(|pair| pair.client.channel.can_send() && pair.agent.channel.can_send());
        self.settle();
        self
    }

    /// Connects both sides for the first time.
    pub(crate) fn connect(&mut self) {
        self.open(Role::Agent);
        self.open(Role::Client);
    }

    pub(crate) fn peer(&mut self, role: Role) -> &mut Peer {
        match role {
            Role::Client => &mut self.client,
            Role::Agent => &mut self.agent,
        }
    }

    /// A WebSocket of this side is open.
    pub(crate) fn open(&mut self, role: Role) {
        self.tokens += 1;
        let (now, token) = (self.now, Token::new(format!("token-{}", self.tokens)));
        let peer = self.peer(role);
        peer.online = true;
        peer.connection += 1;
        peer.busy_until = None;
        peer.deaf_until = None;
        peer.dials_until = None;
        peer.channel.handle_connected(now, token);
        self.drive(role);
    }

    /// The WebSocket of this side is closed by the gateway, and its driver notices when it has read all there is.
    pub(crate) fn close(&mut self, role: Role) {
        while self.receive(role) {}
        self.cut(role);
    }

    /// The WebSocket of this side breaks, and its driver notices.
    pub(crate) fn cut(&mut self, role: Role) {
        self.link.cut(role);
        let now = self.now;
        let peer = self.peer(role);
        peer.unread.clear();
        if peer.online {
            peer.online = false;
            peer.channel.handle_disconnected(now);
            self.drive(role);
        }
    }

    /// Sends one payload; false if the channel is blocked.
    pub(crate) fn send(&mut self, from: Role, kind: PayloadType, payload: &[u8]) -> bool {
        let now = self.now;
        let channel = &mut self.peer(from).channel;
        let mut buf = if payload.len() <= channel.payload_len() {
            channel.buffer()
        } else {
            MessageBuf::with_capacity(payload.len())
        };
        buf.put_slice(payload);
        match channel.send(now, kind, buf) {
            Ok(()) => {
                self.peer(other(from)).inbound.sent(kind, payload);
                self.drive(from);
                true
            }
            Err(SendError::Blocked(buf)) => {
                assert_eq!(buf.payload(), payload, "the payload comes back whole");
                self.peer(from).channel.recycle(buf);
                false
            }
            Err(error) => panic!("{from:?} cannot send: {error}"),
        }
    }

    /// Sends `payload` as output, which must not be blocked.
    pub(crate) fn output(&mut self, from: Role, payload: &[u8]) {
        assert!(self.send(from, PayloadType::Output, payload), "{from:?} is blocked");
    }

    /// Something of the service's own arrives at `to` at once.
    pub(crate) fn service(&mut self, to: Role, message_type: MessageType, payload: &[u8]) {
        let header = Header::service(message_type, MessageId::from_random([9; 16]), 1);
        self.stray(to, header, payload);
    }

    /// A message that neither side has sent arrives at `to` at once.
    pub(crate) fn stray(&mut self, to: Role, header: Header, payload: &[u8]) {
        let mut buf = MessageBuf::with_capacity(payload.len());
        buf.put_slice(payload);
        self.deliver(Flight { to, what: Cargo::Frame(buf.finish(header)) });
    }

    /// The machine of this side was asleep: its wall clock has run ahead.
    pub(crate) fn suspend(&mut self, role: Role, asleep: Duration) {
        let (now, awake) = (self.now, self.now.saturating_duration_since(self.start));
        self.peer(role).channel.handle_clock(now, UNIX_START + awake + asleep);
        self.drive(role);
    }

    /// Hands over what has arrived, or leaves it in the socket.
    pub(crate) fn deliver(&mut self, flight: Flight) {
        let now = self.now;
        let peer = self.peer(flight.to);
        if !peer.online || peer.is_deaf(now) {
            return;
        }
        match peer.reader {
            Reader::Eager => self.hand_over(flight),
            Reader::Application => peer.unread.push_back(flight),
        }
    }

    /// An application reads a frame. False if there is none.
    pub(crate) fn receive(&mut self, role: Role) -> bool {
        let Some(flight) = self.peer(role).unread.pop_front() else { return false };
        self.hand_over(flight);
        true
    }

    fn hand_over(&mut self, flight: Flight) {
        let now = self.now;
        let peer = self.peer(flight.to);
        peer.timeouts_at_once = 0;
        match flight.what {
            Cargo::Frame(wire) => {
                if let Err(error) = peer.channel.handle_binary(now, wire) {
                    assert!(peer.channel.is_closed(), "fatal and not closed: {error}");
                }
            }
            Cargo::Pong(connection) if connection == peer.connection => peer.channel.handle_pong(now),
            Cargo::Pong(_) => {}
        }
        self.drive(flight.to);
    }

    /// Moves what one channel has to say, until it has nothing to say.
    pub(crate) fn drive(&mut self, role: Role) {
        let mut again = true;
        while std::mem::take(&mut again) {
            let now = self.now;
            while self.peer(role).takes(now) {
                let Some(transmit) = self.peer(role).channel.poll_transmit(now) else { break };
                self.transmit(role, transmit);
            }
            while let Some(event) = self.peer(role).channel.poll_event() {
                self.event(role, event);
                again = true;
            }
        }
        self.assert_quiet(role);
    }

    /// The next moment at which something happens: an arrival, a deadline, a socket, a connection.
    pub(crate) fn next(&self) -> Option<Instant> {
        let peers = [&self.client, &self.agent];
        let own = peers.into_iter().flat_map(|peer| {
            [peer.channel.poll_timeout(), peer.busy_until.filter(|_| peer.online), peer.dials_until]
        });
        own.chain([self.link.next_arrival()]).flatten().min()
    }

    /// Lets what happens next happen, but nothing later than `until`. False if nothing does.
    pub(crate) fn step(&mut self, until: Instant) -> bool {
        let Some(next) = self.next().filter(|next| *next <= until) else {
            self.idle_until(until);
            return false;
        };
        self.idle_until(next);
        while let Some(flight) = self.link.arrived(self.now) {
            self.deliver(flight);
        }
        for role in [Role::Client, Role::Agent] {
            self.serve(role);
        }
        true
    }

    /// Runs for so long.
    pub(crate) fn run_for(&mut self, time: Duration) {
        let until = self.now + time;
        while self.step(until) {}
    }

    /// Runs until `done`, at most for ten minutes.
    pub(crate) fn run_until(&mut self, done: impl Fn(&Self) -> bool) {
        let until = self.now + Duration::from_secs(600);
        while !done(self) {
            assert!(self.step(until), "it never happens");
        }
    }

    /// Runs until everything has arrived and is acknowledged.
    pub(crate) fn settle(&mut self) {
        self.run_until(|pair| {
            let peers = [&pair.client, &pair.agent];
            peers.iter().all(|peer| peer.inbound.is_complete() && peer.channel.is_drained())
        });
    }

    /// Stream messages that went out with this number.
    pub(crate) fn sent_as(&self, from: Role, sequence: i64) -> Vec<&(Instant, Message)> {
        let peer = if from == Role::Client { &self.client } else { &self.agent };
        let wanted = |message: &Message| message.header.message_type.is_stream();
        peer.sent.iter().filter(|(_, m)| wanted(m) && m.header.sequence == sequence).collect()
    }

    fn transmit(&mut self, role: Role, transmit: Transmit) {
        let now = self.now;
        let peer = self.peer(role);
        match transmit {
            Transmit::Text(text) => peer.opens.push(text.expose().clone()),
            Transmit::Ping => {
                peer.pings.push(now);
                let (connection, deaf) = (peer.connection, peer.is_deaf(now));
                if !deaf {
                    self.link.launch(now, role, Cargo::Pong(connection));
                }
            }
            Transmit::Binary(wire) => {
                assert_eq!(peer.opens.len(), peer.connection as usize, "the token comes first");
                self.transmit_frame(role, wire);
            }
        }
    }

    fn transmit_frame(&mut self, role: Role, wire: Bytes) {
        let now = self.now;
        let mut fate = Fate::Pass;
        if self.records || self.rule.is_some() {
            let message =
                Message::decode(wire.clone(), Strictness::Strict).expect("a channel sends messages");
            if let Some(rule) = &mut self.rule {
                fate = rule(other(role), &message);
            }
            if self.records {
                self.peer(role).sent.push((now, message));
            }
        }
        if self.peer(role).is_deaf(now) {
            fate = Fate::Lost;
        }
        match fate {
            Fate::Pass => {
                let busy = self.link.send(now, other(role), wire);
                self.peer(role).busy_until = (!busy.is_zero()).then_some(now + busy);
            }
            Fate::Lost => {}
        }
    }

    fn event(&mut self, role: Role, event: Event) {
        let now = self.now;
        let peer = self.peer(role);
        assert!(peer.closed.is_none(), "an event after the last one: {event:?}");
        match event {
            Event::Ready(ready) => peer.ready.push(ready),
            Event::Resumed => peer.resumed += 1,
            Event::Payload { kind, payload } => {
                peer.inbound.received(kind, &payload);
                if peer.reader == Reader::Application {
                    peer.inbox.push_back((kind, payload));
                }
            }
            Event::Redial { attempt } => {
                peer.redials.push((now, attempt));
                peer.online = false;
                peer.unread.clear();
                peer.dials_until = Some(now + DIAL);
            }
            Event::KeyRequired(request) => {
                let key = match role {
                    Role::Client => peer.kms.clone(),
                    Role::Agent if request.ciphertext == SEALED_KEY => peer.kms.clone(),
                    Role::Agent => Err("InvalidCiphertextException".into()),
                };
                peer.keys.push(request);
                peer.channel.install_key(now, key);
            }
            Event::Closed(reason) => peer.closed = Some((now, reason)),
        }
    }

    /// Timers, sockets and dials of one side that are due.
    fn serve(&mut self, role: Role) {
        let now = self.now;
        let peer = self.peer(role);
        if peer.busy_until.is_some_and(|at| at <= now) {
            peer.busy_until = None;
        }
        if peer.dials_until.is_some_and(|at| at <= now) {
            peer.dials_until = None;
            if peer.unreachable_until.is_some_and(|at| at > now) {
                peer.channel.handle_disconnected(now);
            } else if peer.forgotten {
                peer.channel.handle_resume_refused();
            } else if !peer.channel.is_closed() {
                self.open(role);
            }
        }
        let peer = self.peer(role);
        if peer.channel.poll_timeout().is_some_and(|at| at <= now) {
            peer.timeouts_at_once += 1;
            assert!(peer.timeouts_at_once <= TIMEOUTS_AT_ONCE, "{role:?} is busy: always due");
            peer.channel.handle_timeout(now);
        }
        self.drive(role);
    }

    /// Lets time pass in which nothing happens, and sees that nothing does.
    fn idle_until(&mut self, at: Instant) {
        if at <= self.now {
            return;
        }
        let before = at - Duration::from_nanos(1);
        for role in [Role::Client, Role::Agent] {
            self.peer(role).timeouts_at_once = 0;
            if before > self.now {
                self.assert_nothing_is_due(role, before);
            }
        }
        self.now = at;
    }

    /// Nothing is ever due that `poll_timeout` did not announce, and a timeout served early changes nothing.
    fn assert_nothing_is_due(&mut self, role: Role, at: Instant) {
        let peer = self.peer(role);
        let announced = peer.channel.poll_timeout();
        assert!(announced.is_none_or(|announced| announced > at), "{role:?} was due before");
        let depth = peer.depth();
        let before = peer.snapshot(depth);
        peer.channel.handle_timeout(at);
        assert_eq!(peer.channel.poll_timeout(), announced, "{role:?} moved a deadline early");
        if peer.takes(at) {
            let early = peer.channel.poll_transmit(at);
            assert!(early.is_none(), "{role:?} had this to send unannounced: {early:?}");
        }
        let early = peer.channel.poll_event();
        assert!(early.is_none(), "{role:?} had this to say unannounced: {early:?}");
        assert!(before == peer.snapshot(depth), "{role:?} changed without a reason");
    }

    /// After `poll_*` gave nothing a second round changes nothing.
    fn assert_quiet(&mut self, role: Role) {
        let now = self.now;
        let peer = self.peer(role);
        let depth = peer.depth();
        let before = peer.snapshot(depth);
        if peer.takes(now) {
            assert!(peer.channel.poll_transmit(now).is_none());
        }
        assert!(peer.channel.poll_event().is_none());
        assert!(before == peer.snapshot(depth), "{role:?} changed in a second round");
    }
}

impl Peer {
    fn new(role: Role, config: Config, seed: u64, now: Instant) -> Self {
        let mut bytes = [role as u8; 32];
        bytes[..8].copy_from_slice(&seed.to_be_bytes());
        Self {
            role,
            channel: Channel::new(role, Arc::new(config), bytes, now, UNIX_START),
            online: false,
            connection: 0,
            busy_until: None,
            deaf_until: None,
            unreachable_until: None,
            dials_until: None,
            forgotten: false,
            reader: Reader::Eager,
            unread: VecDeque::new(),
            inbox: VecDeque::new(),
            inbound: Model::default(),
            ready: Vec::new(),
            redials: Vec::new(),
            resumed: 0,
            closed: None,
            keys: Vec::new(),
            kms: Ok(data_key(7)),
            sent: Vec::new(),
            opens: Vec::new(),
            pings: Vec::new(),
            timeouts_at_once: 0,
            audits: 0,
            audit_every: 32,
        }
    }

    /// Whether the WebSocket takes another frame.
    fn takes(&self, now: Instant) -> bool {
        self.online && self.busy_until.is_none_or(|at| at <= now)
    }

    pub(crate) fn is_deaf(&self, now: Instant) -> bool {
        self.deaf_until.is_some_and(|at| at > now)
    }

    /// How closely to look this time. Writing a channel down takes long, the more so the more it holds.
    fn depth(&mut self) -> Depth {
        self.audits += 1;
        let stats = self.channel.stats();
        let small = stats.in_flight < 4096 && stats.parked == 0;
        if self.audits.is_multiple_of(self.audit_every) && small { Depth::Everything } else { Depth::Gauges }
    }

    fn snapshot(&self, depth: Depth) -> (Stats, Option<Instant>, String) {
        let whole = match depth {
            Depth::Everything => format!("{:?}", self.channel),
            Depth::Gauges => String::new(),
        };
        (self.channel.stats(), self.channel.poll_timeout(), whole)
    }
}

/// How much of a channel to compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Depth {
    Gauges,
    Everything,
}

/// The side across.
pub(crate) fn other(role: Role) -> Role {
    match role {
        Role::Client => Role::Agent,
        Role::Agent => Role::Client,
    }
}

/// A shell.
pub(crate) fn shell(handshake: Handshake) -> Offer {
    Offer { session_type: "Standard_Stream".into(), properties: None, handshake, kms: None }
}

/// A shell that is encrypted.
pub(crate) fn encrypted() -> Offer {
    let kms = KmsOffer {
        key_id: "alias/sessions".into(),
        challenge: Some("G/wm8ke9lkLkA8D4mXKO2w==".into()),
        require_challenge: true,
    };
    Offer { kms: Some(kms), ..shell(Handshake::Required) }
}

/// How KMS has encrypted the data key of every session.
pub(crate) const SEALED_KEY: &[u8] = b"sealed";

/// A data key of its own for each number.
pub(crate) fn data_key(number: u8) -> DataKey {
    DataKey::new(&[number; DATA_KEY_LEN], SEALED_KEY.to_vec()).expect("it is long enough")
}

/// A port session for the multiplexer.
pub(crate) fn port() -> Offer {
    let properties = r#"{"portNumber":"80","type":"LocalPortForwarding"}"#.to_owned();
    Offer {
        session_type: "Port".into(),
        properties: Some(RawValue::from_string(properties).expect("it is JSON")),
        handshake: Handshake::Required,
        kms: None,
    }
}
