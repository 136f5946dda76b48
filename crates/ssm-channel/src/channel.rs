//! The channel: everything that happens to a session goes through here.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{BufMut as _, Bytes};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use ssm_proto::body::{
    Acknowledge, ChannelClosed, ControlFlag, EncryptionChallenge, ExitCode, HandshakeComplete,
    HandshakeRequest, HandshakeResponse, OpenDataChannel, SessionState,
};
use ssm_proto::{
    BodyError, DecodeError, Flags, Header, Message, MessageBuf, MessageId, MessageType, PayloadType, Secret,
    Slab, Token,
};

use crate::crypto::{self, Cipher, NONCE_LEN};
use crate::handshake::{self, Key, KeyProblem};
use crate::pace::Pacer;
use crate::recv_queue::{RecvQueue, Verdict};
use crate::redial::AtOnce;
use crate::rtt::Rtt;
use crate::send_queue::{SendQueue, Sent};
use crate::size::{KnownSizes, SizeDiscovery};
use crate::spread::Spread;
use crate::timer::{Timer, TimerTable};
use crate::version;
use crate::window::{Sample, Window};
use crate::{
    ChannelError, CloseReason, Config, DataKey, Encryption, Event, Evidence, Handshake, HandshakeError,
    Ready, Role, SendError, SessionKind, Stats, Transmit,
};

/// How long a size probe is given at least.
const PROBE_VERDICT: Duration = Duration::from_millis(500);

/// Most acknowledgements that wait for the socket. A message beyond them is not taken, so it comes again.
const ACKS_MAX: usize = 16_384;

/// Frames in a row that may be no messages before the peer counts as something else than a data channel.
const GARBAGE_MAX: u32 = 16;

/// Bytes of payload that are kept for repetition while a start is assumed.
const PROVISIONAL_MAX: usize = 64 * 1024;

/// Once the agent has acknowledged something, a handshake begins within this or never: so long it waits for the response
/// (agent `datachannel.go` `PerformHandshake`).
const HANDSHAKE_OVERDUE: Duration = Duration::from_secs(15);

/// While the gateway has paused a client, one message goes out this often, in case the start message was lost.
const PAUSE_PROBE: Duration = Duration::from_secs(1);

/// Messages that are repeated at once when nothing at all was acknowledged for a timeout.
const SILENT_RESENDS: usize = 8;

/// Messages that go out on a new connection before anything is acknowledged on it. Each acknowledgement lets two more go.
///
/// All that was in flight is sent again then. A gateway that closes on a burst of that size would close each new connection before
/// an acknowledgement comes back over it, for ever.
const REGAIN: usize = 8;
/// So many allowed at once is no limit any more.
const REGAINED: usize = 512;

/// The most that a wall clock may run ahead of the monotonic one before the machine counts as having been asleep.
const SUSPEND_JUMP: Duration = Duration::from_secs(5);

/// How long a connection that was asked for a sign of life has for it.
const SIGN_OF_LIFE: Duration = Duration::from_secs(5);

/// Largest windows between the oldest unacknowledged message and the next one: what the peer may have to hold back behind a gap.
const SPAN_WINDOWS: u64 = 2;

/// Messages that may go beyond [`Config::in_flight_max`] when they are few bytes that somebody waits for.
const IN_FLIGHT_RESERVE: usize = 64;

/// Random bytes of an agent's encryption challenge (agent `datachannel.go` `sendEncryptionChallenge`).
const CHALLENGE_LEN: usize = 64;

/// What AWS's agent has shown to the user of an encrypted session (agent `datachannel.go` `buildHandshakeCompletePayload`).
const ENCRYPTED_MESSAGE: &str = "This session is encrypted using AWS KMS.";

/// Reconnect delays: random up to this, doubled with each attempt, up to [`REDIAL_MAX`].
const REDIAL_BASE: Duration = Duration::from_millis(100);
const REDIAL_MAX: Duration = Duration::from_secs(8);

/// Reliability, handshake and resume of one data channel. Performs no IO and reads no clock; see the crate for the order of
/// calls.
#[derive(Debug)]
pub struct Channel {
    role: Role,
    config: Arc<Config>,
    rng: ChaCha8Rng,
    /// A monotonic instant and the time since the Unix epoch at it.
    clock: (Instant, Duration),
    /// Kept for the life of the channel, across connections.
    client_id: MessageId,

    phase: Phase,
    link: Link,
    /// Times connected.
    connections: u64,
    /// Attempts to connect since something was last heard from the peer.
    attempt: u32,
    /// Numbered messages that may go out before the next acknowledgement, on a connection that replaced another one.
    regain: Option<usize>,
    at_once: AtOnce,
    /// When the connection was made.
    connected_at: Option<Instant>,
    /// When the peer was first lost, until it is heard again. What the time to reconnect counts from.
    outage_since: Option<Instant>,
    /// How the session started.
    ready: Option<Ready>,
    /// What the handshake has agreed on so far.
    agreed: Option<Ready>,
    handshake_error: Option<HandshakeError>,
    handshake_started: Option<Instant>,
    exit_code: Option<i32>,
    keying: Keying,
    /// What encrypts the session, from the moment its key is known.
    cipher: Option<Cipher>,
    /// What was sent while the start was assumed, and is sent again if a handshake follows.
    provisional: Option<Provisional>,
    input: Input,

    send_queue: SendQueue,
    recv_queue: RecvQueue,
    rtt: Rtt,
    window: Window,
    pacer: Option<Pacer>,
    spread: Spread,
    size: SizeDiscovery,
    /// Nothing is sent before this message is acknowledged.
    barrier: Option<i64>,
    paused: bool,
    /// When a paused client may send its next message.
    pause_probe: Option<Instant>,
    /// Why `poll_transmit` gave nothing though something waits: not before this.
    held_until: Option<Instant>,
    last_ack: Option<Instant>,
    /// No timeout is served before this: the path is silent and only a few messages probe it.
    silent_until: Option<Instant>,
    /// Connected, unpaused time without progress, up to the last pause or loss.
    stalled: Duration,
    stalled_since: Option<Instant>,
    garbage: u32,

    opening: Option<Secret<String>>,
    acks: VecDeque<(i64, MessageId)>,
    /// Unsequenced messages of an agent.
    control: VecDeque<Bytes>,
    ping: bool,
    /// The number that the next message had when the interval under way began.
    active_at: i64,
    events: VecDeque<Event>,
    timers: TimerTable,
    slab: Slab,
    ack_slab: Slab,
    stats: Stats,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nothing is known of the session.
    Waiting,
    /// The handshake has begun.
    Handshaking,
    /// Payloads flow.
    Running,
    /// The terminate flag was sent under this number.
    Terminating {
        flag: i64,
    },
    Closed,
}

/// How far the key of an encrypted session is.
#[derive(Debug)]
enum Keying {
    /// Nothing is waited for.
    Idle,
    /// A client's key, before this request is answered.
    Making(HandshakeRequest),
    /// An agent's key, from a client of this version.
    Decrypting { client_version: String },
    /// The client's proof that it has the key too.
    Challenged { client_version: String, challenge: [u8; CHALLENGE_LEN] },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    Down,
    Up,
}

#[derive(Debug, Default)]
struct Provisional {
    payloads: Vec<(PayloadType, Bytes)>,
    bytes: usize,
}

/// Whether an agent takes input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Input {
    /// Input is delivered and acknowledged.
    Accepted,
    /// Input is left unacknowledged, so that the client repeats it: what the terminal or port is not ready for (agent
    /// `datachannel.go`, `ErrHandlerNotReady`).
    Refused,
}

/// What a channel takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Room {
    /// Anything.
    Open,
    /// The window is full of bulk data. A few bytes that somebody waits for may still go, as a stream's that has sent little.
    Reserve,
}

/// What an agent tells the service about its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AgentState {
    /// The data channel is open. To be announced before anything else.
    Connected,
    /// A shell or command has ended.
    Terminating,
}

impl Channel {
    /// A channel that is not connected yet.
    ///
    /// `seed` decides message ids and jitter; take it from the OS. `unix_now` is the time since the Unix epoch at `now`.
    pub fn new(role: Role, config: Arc<Config>, seed: [u8; 32], now: Instant, unix_now: Duration) -> Self {
        let mut rng = ChaCha8Rng::from_seed(seed);
        let client_id = random_id(&mut rng);
        Self {
            role,
            clock: (now, unix_now),
            client_id,
            phase: Phase::Waiting,
            link: Link::Down,
            connections: 0,
            attempt: 0,
            regain: None,
            at_once: AtOnce::new(now),
            connected_at: None,
            outage_since: None,
            ready: None,
            agreed: None,
            handshake_error: None,
            handshake_started: None,
            exit_code: None,
            keying: Keying::Idle,
            cipher: None,
            provisional: None,
            input: Input::Accepted,
            send_queue: SendQueue::default(),
            recv_queue: RecvQueue::new(config.reorder_max, config.reorder_bytes_max),
            rtt: Rtt::new(),
            window: Window::new(
                window_min(&config, config.payload_len),
                config.window_max.saturating_sub(config.window_reserve),
            ),
            pacer: config.pacing.map(Pacer::new),
            spread: Spread::default(),
            size: SizeDiscovery::new(config.payload_len, config.payload_len, KnownSizes::default()),
            barrier: None,
            paused: false,
            pause_probe: None,
            held_until: None,
            last_ack: None,
            silent_until: None,
            stalled: Duration::ZERO,
            stalled_since: None,
            garbage: 0,
            opening: None,
            acks: VecDeque::new(),
            control: VecDeque::new(),
            ping: false,
            active_at: 0,
            events: VecDeque::new(),
            timers: TimerTable::default(),
            slab: Slab::default(),
            ack_slab: Slab::default(),
            stats: Stats::default(),
            config,
            rng,
        }
    }

    /// A WebSocket is open, for the first time or again. `token` goes into the first frame.
    ///
    /// All counters and unacknowledged messages are kept; what was in flight is sent again.
    pub fn handle_connected(&mut self, now: Instant, token: Token) {
        if self.phase == Phase::Closed {
            return;
        }
        let first = self.connections == 0;
        self.connections += 1;
        self.link = Link::Up;
        self.paused = false;
        self.silent_until = None;
        self.opening = Some(self.open_text(token));
        self.connected_at = Some(now);
        self.timers.stop(Timer::Redial);
        self.timers.stop(Timer::Reconnect);
        self.timers.set_after(Timer::KeepAlive, now, self.config.keep_alive);
        self.timers.set_after(Timer::Silence, now, self.config.silence);
        self.send_queue.resend_all();
        self.window.reconnected();
        match self.role {
            Role::Client => self.expect_start(now),
            Role::Agent if first => self.start_agent(now),
            Role::Agent => {}
        }
        // AWS's agent knows no such restraint.
        self.regain = (self.role == Role::Client && !first).then_some(REGAIN);
        if !first {
            self.events.push_back(Event::Resumed);
        }
        self.watch_progress(now);
    }

    /// A binary frame, or a text frame taken as one, has arrived.
    ///
    /// # Errors
    ///
    /// When the peer broke the protocol for good. A frame that is merely damaged is dropped and counted; it comes again.
    pub fn handle_binary(&mut self, now: Instant, wire: Bytes) -> Result<(), ChannelError> {
        if self.phase == Phase::Closed {
            return Ok(());
        }
        self.heard(now);
        let message = match Message::decode(wire, self.config.strictness) {
            Ok(message) => message,
            Err(error) => return self.undecodable(error),
        };
        self.garbage = 0;
        match message.header.message_type {
            MessageType::Acknowledge => self.handle_acknowledge(now, &message.payload),
            MessageType::InputStreamData if self.role == Role::Agent => self.handle_stream(now, message)?,
            MessageType::OutputStreamData if self.role == Role::Client => self.handle_stream(now, message)?,
            MessageType::ChannelClosed => self.handle_channel_closed(&message.payload),
            MessageType::StartPublication => self.unpause(now),
            MessageType::PausePublication => self.pause(now),
            MessageType::InputStreamData
            | MessageType::OutputStreamData
            | MessageType::AgentSessionState
            | MessageType::InteractiveShell
            | MessageType::Unknown(_) => self.stats.unknown_messages += 1,
        }
        Ok(())
    }

    /// A ping or pong has arrived: the connection is alive.
    pub fn handle_pong(&mut self, now: Instant) {
        self.heard(now);
    }

    /// The wall clock, at every wake-up: keeps creation dates right, and doubts the connection when the machine was asleep, which
    /// is what this gives.
    pub fn handle_clock(&mut self, now: Instant, unix_now: Duration) -> bool {
        let slept = unix_now > self.unix(now) + SUSPEND_JUMP;
        self.clock = (now, unix_now);
        if slept {
            self.handle_doubt(now);
        }
        slept
    }

    /// The connection may have died unseen, as after a change of the network: it is asked for a sign of life, and counts as lost if
    /// there is none within 5 s.
    pub fn handle_doubt(&mut self, now: Instant) {
        if self.link == Link::Up && self.phase != Phase::Closed {
            self.ping = true;
            self.timers.set_within(Timer::Silence, now, SIGN_OF_LIFE);
        }
    }

    /// The connection is gone, or an attempt to make one failed. An [`Event::Redial`] follows in its time.
    pub fn handle_disconnected(&mut self, now: Instant) {
        if self.phase == Phase::Closed {
            return;
        }
        if self.link == Link::Up {
            let acknowledged = self.connected_at <= self.last_ack;
            if acknowledged || self.send_queue.count() > 0 {
                self.size.cut(acknowledged);
            }
            self.shorten_probe();
        }
        self.link = Link::Down;
        self.opening = None;
        self.ping = false;
        self.held_until = None;
        for timer in [Timer::KeepAlive, Timer::Silence, Timer::Unanswered, Timer::AssumeReady] {
            self.timers.stop(timer);
        }
        if let Some(attempts) = self.config.reconnect_attempts.filter(|most| self.attempt >= *most) {
            return self.close(if matches!(self.phase, Phase::Terminating { .. }) {
                CloseReason::Terminated
            } else {
                CloseReason::NotReconnected { attempts, cause: String::new() }
            });
        }
        self.watch_progress(now);
        let delay = self.redial_delay(now);
        self.timers.set_after(Timer::Redial, now, delay);
        let since = *self.outage_since.get_or_insert(now);
        if let Some(budget) = self.config.reconnect {
            self.timers.set_after(Timer::Reconnect, since, budget);
        }
    }

    /// The service refuses to resume the session: it is over.
    pub fn handle_resume_refused(&mut self) {
        self.close(CloseReason::ResumeRefused);
    }

    /// The time announced by [`poll_timeout`](Self::poll_timeout) has come. Calling it early does nothing.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.held_until.is_some_and(|until| until <= now) {
            self.held_until = None;
        }
        for timer in Timer::ALL {
            if self.timers.expire(timer, now) {
                self.handle_timer(timer, now);
            }
        }
        self.handle_retransmit(now);
    }

    /// Bytes of payload a data message takes as of now: [`Config::payload_len`], or more once a port session has found that it
    /// can be.
    pub fn payload_len(&self) -> usize {
        self.size.current()
    }

    /// A buffer for one payload of up to [`payload_len`](Self::payload_len) bytes, to give to [`send`](Self::send).
    pub fn buffer(&mut self) -> MessageBuf {
        self.slab.take(self.size.current())
    }

    /// Takes back a buffer that was not used.
    pub fn recycle(&mut self, buf: MessageBuf) {
        self.slab.restore(buf);
    }

    /// Sends a payload. It is kept until the peer has acknowledged it.
    ///
    /// # Errors
    ///
    /// [`SendError::Blocked`] while there is no [`room`](Self::room), with the payload.
    pub fn send(
        &mut self,
        now: Instant,
        kind: PayloadType,
        mut payload: MessageBuf,
    ) -> Result<(), SendError> {
        if matches!(self.phase, Phase::Closed | Phase::Terminating { .. }) {
            return Err(SendError::Closed);
        }
        if payload.is_empty() {
            return Err(SendError::Empty);
        }
        if self.room().is_none() {
            return Err(SendError::Blocked(payload));
        }
        if let Some(provisional) = &mut self.provisional {
            provisional.keep(kind, payload.payload());
        }
        // What overtakes a disconnect flag stalls the agent for ever (agent port_basic.go: an acknowledged message whose
        // write to the closed connection fails is never retried).
        let disconnects = kind == PayloadType::Flag
            && ControlFlag::decode(payload.payload()) == ControlFlag::DisconnectToPort;
        self.slab.reclaim(&mut payload);
        if kind == PayloadType::Output {
            self.probe_size(now, payload.len());
        }
        let sequence = self.enqueue(now, kind, payload);
        if disconnects {
            self.barrier = Some(sequence);
        }
        Ok(())
    }

    /// The answer to [`Event::KeyRequired`]: the data key, or why there is none, in words for the user and the agent. Without one
    /// the session does not start.
    pub fn install_key(&mut self, now: Instant, key: Result<DataKey, String>) {
        if self.phase != Phase::Handshaking {
            return;
        }
        match (std::mem::replace(&mut self.keying, Keying::Idle), key) {
            (Keying::Making(request), Ok(key)) => {
                self.cipher = self.new_cipher(&key);
                let key = if self.cipher.is_some() { Key::Installed(&key) } else { Key::Unsupported };
                self.answer_request(now, &request, key);
            }
            (Keying::Making(request), Err(reason)) => {
                self.answer_request(now, &request, Key::Missing(&reason));
            }
            (Keying::Decrypting { client_version }, Ok(key)) => match self.new_cipher(&key) {
                Some(cipher) => self.send_challenge(now, client_version, cipher),
                None => self.close(CloseReason::HandshakeFailed(HandshakeError::EncryptionUnsupported)),
            },
            (Keying::Decrypting { .. }, Err(reason)) => {
                self.close(CloseReason::HandshakeFailed(HandshakeError::NoDataKey(reason)));
            }
            (other @ (Keying::Idle | Keying::Challenged { .. }), _) => self.keying = other,
        }
    }

    /// Ends the session: by a flag in port sessions, whose agent is given 2 s to acknowledge it; otherwise, and without a
    /// connection, at once, and the caller has to tell the service. [`Event::Closed`] follows.
    pub fn terminate(&mut self, now: Instant) {
        match (self.phase, &self.ready) {
            (Phase::Closed | Phase::Terminating { .. }, _) => {}
            (Phase::Running, Some(ready))
                if self.link == Link::Up && self.role == Role::Client && ready.heeds_terminate_flag() =>
            {
                let flag =
                    self.enqueue_bytes(now, PayloadType::Flag, &ControlFlag::TerminateSession.encode());
                self.phase = Phase::Terminating { flag };
                self.timers.set_after(Timer::Terminate, now, self.config.terminate_timeout);
            }
            _ => self.close(CloseReason::Terminated),
        }
    }

    /// Whether an agent takes input from now on. A channel begins with [`Input::Accepted`]. What was acknowledged before is
    /// still delivered.
    pub fn set_input(&mut self, input: Input) {
        self.input = input;
    }

    /// Tells the service the state of an agent's session.
    pub fn announce(&mut self, now: Instant, state: AgentState, session_id: &str) {
        let name = match state {
            AgentState::Connected => "Connected",
            AgentState::Terminating => "Terminating",
        };
        let body =
            SessionState { schema_version: 1, session_state: name.into(), session_id: session_id.into() };
        let header =
            Header::control(MessageType::AgentSessionState, random_id(&mut self.rng), self.created_ms(now));
        self.control.push_back(buffer_of(&body.encode()).finish(header));
    }

    /// The next thing to put on the WebSocket. Acknowledgements come first. Ask only when the socket takes it.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Transmit> {
        if self.link == Link::Down {
            return None;
        }
        if let Some(text) = self.opening.take() {
            return Some(Transmit::Text(text));
        }
        if let Some((sequence, id)) = self.acks.pop_front() {
            return Some(Transmit::Binary(self.acknowledgement(now, sequence, id)));
        }
        if let Some(message) = self.control.pop_front() {
            return Some(Transmit::Binary(message));
        }
        if std::mem::take(&mut self.ping) {
            return Some(Transmit::Ping);
        }
        self.transmit_stream(now).map(Transmit::Binary)
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) at the latest.
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.timers.next(), self.held_until, self.retransmit_deadline()].into_iter().flatten().min()
    }

    /// Whether there is room for bulk data, [`Room::Open`].
    pub fn can_send(&self) -> bool {
        self.room() == Some(Room::Open)
    }

    /// What [`send`](Self::send) takes as of now, if anything. Poll the transmits first: at most one message waits for the socket.
    pub fn room(&self) -> Option<Room> {
        let open = self.phase == Phase::Running
            && self.barrier.is_none()
            && !self.send_queue.has_unsent()
            && self.provisional.as_ref().is_none_or(|provisional| provisional.bytes < PROVISIONAL_MAX);
        if !open {
            return None;
        }
        [Room::Open, Room::Reserve].into_iter().find(|room| self.is_within_limits(*room))
    }

    /// Whether everything that was sent has been acknowledged.
    pub fn is_drained(&self) -> bool {
        self.send_queue.count() == 0
    }

    /// Whether the session is over.
    pub fn is_closed(&self) -> bool {
        self.phase == Phase::Closed
    }

    /// How the session started, once it has.
    pub fn ready(&self) -> Option<&Ready> {
        self.ready.as_ref()
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Counters and gauges.
    pub fn stats(&self) -> Stats {
        Stats {
            rtt: self.rtt.smoothed(),
            window: self.window.size(),
            in_flight: self.send_queue.bytes(),
            parked: self.recv_queue.parked(),
            payload_len: self.size.current(),
            resumes: self.connections.saturating_sub(1),
            ..self.stats
        }
    }

    fn is_within_limits(&self, room: Room) -> bool {
        let (bytes, messages) = match room {
            Room::Open => (0, 0),
            Room::Reserve => (self.config.window_reserve, IN_FLIGHT_RESERVE),
        };
        self.send_queue.bytes() < self.window.size() + bytes
            && self.send_queue.span() < self.config.in_flight_max + messages
            && self.send_queue.span_bytes() < SPAN_WINDOWS * self.config.window_max as u64
            && !self.size.blocks(self.send_queue.next_sequence(), room)
    }

    fn handle_acknowledge(&mut self, now: Instant, payload: &[u8]) {
        self.stats.acknowledgements_received += 1;
        self.unpause(now);
        self.outage_over();
        self.regain = self.regain.map(|left| left + 2).filter(|left| *left < REGAINED);
        let Ok(acknowledge) = Acknowledge::decode(payload) else {
            self.stats.undecodable_frames += 1;
            return;
        };
        let sequence = acknowledge.sequence;
        let (oldest, in_flight) = (self.send_queue.oldest(), self.send_queue.bytes());
        let Some(acknowledged) = self.send_queue.acknowledge(sequence) else { return };
        self.last_ack = Some(now);
        self.silent_until = None;
        if self.provisional.is_some() && !self.timers.is_set(Timer::Handshake) {
            self.timers.set_after(Timer::Handshake, now, HANDSHAKE_OVERDUE);
        }
        if oldest == Some(sequence) {
            self.head_acknowledged(now);
        }
        self.window.acknowledged(now, acknowledged.len, acknowledged.sent_at);
        match acknowledged.sent {
            Some(Sent::Once(sent, delivered)) => {
                self.rtt.sample(now.saturating_duration_since(sent));
                self.window.sample(now, Sample { sent, delivered, in_flight });
            }
            Some(Sent::Again(at)) => self.rtt.ambiguous(now.saturating_duration_since(at)),
            None => {}
        }
        if self.size.acknowledged(sequence) {
            self.timers.stop(Timer::Probe);
            self.window.set_min(window_min(&self.config, self.size.current()));
        }
        if self.barrier == Some(sequence) {
            self.barrier = None;
        }
        if self.phase == (Phase::Terminating { flag: sequence }) {
            self.close(CloseReason::Terminated);
        }
    }

    fn handle_stream(&mut self, now: Instant, message: Message) -> Result<(), ChannelError> {
        self.unpause(now);
        self.outage_over();
        let Header { sequence, id, payload_type, .. } = message.header;
        let unwanted = self.refuses(payload_type) && !self.recv_queue.has(sequence);
        if self.acks.len() >= ACKS_MAX || unwanted {
            self.stats.refused += 1;
            return Ok(());
        }
        match self.recv_queue.accept(message) {
            Verdict::InOrder(message) => {
                self.acks.push_back((sequence, id));
                self.deliver(now, message)?;
                while let Some(message) = self.recv_queue.next_parked() {
                    self.deliver(now, message)?;
                }
            }
            Verdict::Parked => {
                self.stats.out_of_order_received += 1;
                self.acks.push_back((sequence, id));
            }
            Verdict::Duplicate => {
                self.stats.duplicates_received += 1;
                self.acks.push_back((sequence, id));
            }
            Verdict::Refused => self.stats.refused += 1,
        }
        Ok(())
    }

    /// A message in its turn, whether it came in order or was parked: both are treated alike.
    fn deliver(&mut self, now: Instant, message: Message) -> Result<(), ChannelError> {
        let kind = message.header.payload_type.unwrap_or(PayloadType::Unknown(0));
        let payload = self.decrypted(kind, message.payload)?;
        self.stats.messages_received += 1;
        self.stats.bytes_received += payload.len() as u64;
        match (self.role, kind) {
            (Role::Client, PayloadType::HandshakeRequest) => self.handle_request(now, &payload),
            (Role::Client, PayloadType::EncChallengeRequest) => self.handle_challenge(now, &payload),
            (Role::Client, PayloadType::HandshakeComplete) => self.handle_complete(now, &payload),
            (
                Role::Client,
                PayloadType::Output | PayloadType::StdErr | PayloadType::ExitCode | PayloadType::Flag,
            ) => {
                self.deliver_output(now, kind, payload);
                Ok(())
            }
            (Role::Agent, PayloadType::HandshakeResponse) => self.handle_response(now, &payload),
            (Role::Agent, PayloadType::EncChallengeResponse) => self.handle_proof(now, &payload),
            (Role::Agent, PayloadType::Output | PayloadType::Size | PayloadType::Flag) => {
                // Before the handshake is complete an agent acknowledges and discards input (agent datachannel.go
                // processStreamDataMessage).
                if self.phase == Phase::Running {
                    self.events.push_back(Event::Payload { kind, payload });
                }
                Ok(())
            }
            _ => {
                self.stats.unknown_messages += 1;
                Ok(())
            }
        }
    }

    fn deliver_output(&mut self, now: Instant, kind: PayloadType, payload: Bytes) {
        if self.phase == Phase::Waiting && kind != PayloadType::Flag {
            let kind = if kind == PayloadType::Output {
                SessionKind::Shell
            } else {
                SessionKind::NonInteractiveCommands
            };
            self.start(now, Ready::without_handshake(kind, Evidence::FirstOutput));
        }
        if self.phase == Phase::Closed {
            return;
        }
        if self.phase == Phase::Running {
            self.provisional = None;
        }
        if kind == PayloadType::ExitCode {
            self.exit_code = ExitCode::decode(&payload).map(|code| code.0).or(self.exit_code);
        }
        self.events.push_back(Event::Payload { kind, payload });
    }

    /// The client's part: answers once. A repeated request is a duplicate and was acknowledged again; a second answer would
    /// block the agent for ever (agent `datachannel.go`, unbuffered response channel).
    fn handle_request(&mut self, now: Instant, payload: &[u8]) -> Result<(), ChannelError> {
        if self.handshake_started.is_some() {
            self.stats.unknown_messages += 1;
            return Ok(());
        }
        let request = HandshakeRequest::decode(payload).map_err(|error| self.misbehaved(error))?;
        self.handshake_started = Some(now);
        self.phase = Phase::Handshaking;
        self.timers.stop(Timer::AssumeReady);
        self.timers.set_after(Timer::Handshake, now, self.config.handshake_timeout);
        match handshake::key_request(&self.config, &request) {
            Some(wanted) if crypto::IS_SUPPORTED => {
                self.keying = Keying::Making(request);
                self.events.push_back(Event::KeyRequired(wanted));
            }
            _ => self.answer_request(now, &request, Key::Unsupported),
        }
        Ok(())
    }

    fn answer_request(&mut self, now: Instant, request: &HandshakeRequest, key: Key<'_>) {
        let answer = handshake::answer(&self.config, request, key);
        self.handshake_error = answer.error;
        self.agreed = answer.kind.map(|kind| Ready {
            kind,
            port: answer.port,
            peer_version: request.agent_version.clone(),
            customer_message: String::new(),
            evidence: Evidence::Handshake,
            encrypted: self.cipher.is_some(),
        });
        self.enqueue_bytes(now, PayloadType::HandshakeResponse, &answer.response.encode());
    }

    /// The client's part: shows that it has both halves of the key (plugin `streaming.go` `handleEncryptionChallengeRequest`).
    fn handle_challenge(&mut self, now: Instant, payload: &[u8]) -> Result<(), ChannelError> {
        let challenge = EncryptionChallenge::decode(payload).map_err(|error| self.misbehaved(error))?;
        let Some(cipher) = self.cipher.as_mut().filter(|_| self.phase == Phase::Handshaking) else {
            self.stats.unknown_messages += 1;
            return Ok(());
        };
        let Ok(plain) = cipher.open(&challenge.challenge) else { return Err(self.undecryptable()) };
        let proof = EncryptionChallenge { challenge: sealed(cipher, &plain) };
        self.enqueue_bytes(now, PayloadType::EncChallengeResponse, &proof.encode());
        Ok(())
    }

    fn handle_complete(&mut self, now: Instant, payload: &[u8]) -> Result<(), ChannelError> {
        let complete = HandshakeComplete::decode(payload).map_err(|error| self.misbehaved(error))?;
        if self.phase != Phase::Handshaking {
            self.stats.unknown_messages += 1;
            return Ok(());
        }
        if let Some(error) = self.handshake_error.take() {
            self.close(CloseReason::HandshakeFailed(error));
            return Ok(());
        }
        let Some(mut ready) = self.agreed.take() else {
            return Err(self.misbehaved(BodyError::Missing("SessionType")));
        };
        ready.customer_message = complete.customer_message;
        let port = matches!(ready.kind, SessionKind::Port(_));
        self.start(now, ready);
        if port {
            // The agent marks the handshake complete only after it has written this message, and discards what arrives in
            // between (agent datachannel.go); a flag without effect finds out when that is over.
            let probe = self.enqueue_bytes(now, PayloadType::Flag, &ControlFlag::Ignored.encode());
            self.barrier = Some(probe);
        }
        // What was typed for a terminal is not meant for a port.
        let provisional = self.provisional.take().filter(|_| !port).unwrap_or_default();
        for (kind, payload) in provisional.payloads {
            self.enqueue_bytes(now, kind, &payload);
        }
        Ok(())
    }

    /// The agent's part.
    fn handle_response(&mut self, now: Instant, payload: &[u8]) -> Result<(), ChannelError> {
        if self.phase != Phase::Handshaking {
            self.stats.unknown_messages += 1;
            return Ok(());
        }
        let response = HandshakeResponse::decode(payload).map_err(|error| self.misbehaved(error))?;
        if !matches!(self.keying, Keying::Idle) {
            self.stats.unknown_messages += 1;
            return Ok(());
        }
        if let Err(error) = handshake::check(&response) {
            self.close(CloseReason::HandshakeFailed(error));
            return Ok(());
        }
        let Some(kms) = self.config.offer.as_ref().and_then(|offer| offer.kms.as_ref()) else {
            self.complete(now, response.client_version, String::new());
            return Ok(());
        };
        match handshake::key_of(kms, &response) {
            Ok(wanted) => {
                self.keying = Keying::Decrypting { client_version: response.client_version };
                self.events.push_back(Event::KeyRequired(wanted));
            }
            Err(KeyProblem::Refused(error)) => self.close(CloseReason::HandshakeFailed(error)),
            Err(KeyProblem::Body(error)) => return Err(self.misbehaved(error)),
        }
        Ok(())
    }

    /// The agent's part: sees whether the client has the key.
    fn send_challenge(&mut self, now: Instant, client_version: String, mut cipher: Cipher) {
        let mut challenge = [0; CHALLENGE_LEN];
        self.rng.fill_bytes(&mut challenge);
        let body = EncryptionChallenge { challenge: sealed(&mut cipher, &challenge) };
        self.cipher = Some(cipher);
        self.keying = Keying::Challenged { client_version, challenge };
        self.timers.set_after(Timer::Handshake, now, self.config.handshake_timeout);
        self.enqueue_bytes(now, PayloadType::EncChallengeRequest, &body.encode());
    }

    /// A wrong proof is not answered, and the handshake runs out of time (agent `datachannel.go` `handleEncryptionChallengeResponse`).
    fn handle_proof(&mut self, now: Instant, payload: &[u8]) -> Result<(), ChannelError> {
        let proof = EncryptionChallenge::decode(payload).map_err(|error| self.misbehaved(error))?;
        let plain = self.cipher.as_ref().and_then(|cipher| cipher.open(&proof.challenge).ok());
        match std::mem::replace(&mut self.keying, Keying::Idle) {
            Keying::Challenged { client_version, challenge } if plain.as_deref() == Some(&challenge[..]) => {
                self.complete(now, client_version, ENCRYPTED_MESSAGE.into());
            }
            other @ (Keying::Challenged { .. }
            | Keying::Idle
            | Keying::Making(_)
            | Keying::Decrypting { .. }) => {
                self.stats.unknown_messages += 1;
                self.keying = other;
            }
        }
        Ok(())
    }

    fn complete(&mut self, now: Instant, client_version: String, customer_message: String) {
        let elapsed =
            self.handshake_started.map_or(Duration::ZERO, |start| now.saturating_duration_since(start));
        let complete = HandshakeComplete { time_to_complete: elapsed, customer_message };
        self.enqueue_bytes(now, PayloadType::HandshakeComplete, &complete.encode());
        self.start_offer(now, client_version, Evidence::Handshake);
    }

    fn new_cipher(&mut self, key: &DataKey) -> Option<Cipher> {
        let mut nonce = [0; NONCE_LEN];
        self.rng.fill_bytes(&mut nonce);
        Cipher::new(self.role, key, nonce)
    }

    /// The payload in the clear, whether or not it came so. One that should be encrypted and is not ends the session: the peer
    /// would repeat it for ever.
    fn decrypted(&mut self, kind: PayloadType, payload: Bytes) -> Result<Bytes, ChannelError> {
        match &self.cipher {
            Some(cipher) if crypto::is_encrypted(kind, self.role == Role::Client) => {
                cipher.open(&payload).map_err(|_| self.undecryptable())
            }
            _ => Ok(payload),
        }
    }

    fn undecryptable(&mut self) -> ChannelError {
        self.close(CloseReason::PeerMisbehaved(ChannelError::Undecryptable));
        ChannelError::Undecryptable
    }

    fn handle_channel_closed(&mut self, payload: &[u8]) {
        let closed = ChannelClosed::decode(payload).unwrap_or_default();
        let detail = (!closed.output.is_empty()).then_some(closed.output);
        let reason = match (self.phase, self.handshake_error.take()) {
            (Phase::Terminating { .. }, _) => CloseReason::Terminated,
            (_, Some(error)) => CloseReason::HandshakeFailed(error),
            (_, None) => CloseReason::AgentClosed { exit_code: self.exit_code, detail },
        };
        self.close(reason);
    }

    fn handle_timer(&mut self, timer: Timer, now: Instant) {
        match timer {
            Timer::KeepAlive => {
                self.ping = true;
                self.timers.set_after(Timer::KeepAlive, now, self.config.keep_alive);
            }
            Timer::KeepActive => self.keep_active(now),
            Timer::Silence => self.handle_disconnected(now),
            Timer::Unanswered if self.is_drained() => {}
            Timer::Unanswered => self.handle_doubt(now),
            // Stopped by whatever else starts the session.
            Timer::AssumeReady => {
                self.provisional = Some(Provisional::default());
                self.start(now, Ready::without_handshake(SessionKind::Shell, Evidence::Assumed));
            }
            Timer::Handshake if !matches!(self.phase, Phase::Waiting | Phase::Handshaking) => {
                self.confirm_assumed_start(now);
            }
            Timer::Handshake => {
                let error = self.handshake_error.take().unwrap_or(HandshakeError::Timeout);
                self.close(CloseReason::HandshakeFailed(error));
            }
            Timer::Redial => {
                self.events.push_back(Event::Redial { attempt: self.attempt });
                self.attempt = self.attempt.saturating_add(1);
            }
            Timer::Reconnect => {
                let budget = self.config.reconnect.unwrap_or_default();
                self.close(CloseReason::ConnectionLost(budget));
            }
            Timer::GiveUp => {
                let sequence = self.send_queue.oldest().unwrap_or_default();
                self.close(CloseReason::Undeliverable { sequence });
            }
            Timer::Probe => self.shorten_probe(),
            Timer::Terminate => self.close(CloseReason::Terminated),
        }
    }

    /// The agent is there and has asked for no handshake: it will not, so there is nothing left to repeat.
    fn confirm_assumed_start(&mut self, now: Instant) {
        match self.link {
            Link::Up => self.provisional = None,
            Link::Down => self.timers.set_after(Timer::Handshake, now, HANDSHAKE_OVERDUE),
        }
    }

    fn handle_retransmit(&mut self, now: Instant) {
        if self.retransmit_deadline().is_none_or(|at| at > now) {
            return;
        }
        let timeout = self.rtt.timeout(0);
        let silent = self.last_ack.is_none_or(|at| now.saturating_duration_since(at) >= timeout);
        if silent {
            self.window.halve();
            self.send_queue.expire(now, &self.rtt, SILENT_RESENDS);
            self.silent_until = Some(now + timeout);
        } else {
            self.silent_until = None;
            self.send_queue.expire(now, &self.rtt, usize::MAX);
        }
        // What was sent on the new connection is lost, or its acknowledgement is.
        self.regain = self.regain.map(|left| left.max(SILENT_RESENDS));
    }

    fn retransmit_deadline(&self) -> Option<Instant> {
        let suspended = self.paused && self.role == Role::Agent;
        if self.link == Link::Down || self.phase == Phase::Closed || suspended {
            return None;
        }
        let deadline = self.send_queue.deadline(&self.rtt)?;
        Some(self.silent_until.map_or(deadline, |until| until.max(deadline)))
    }

    /// The next numbered message, as far as pacing and pause allow.
    fn transmit_stream(&mut self, now: Instant) -> Option<Bytes> {
        if self.phase == Phase::Closed || !self.send_queue.has_pending() || self.regain == Some(0) {
            return None;
        }
        let paced = self.pacer.as_mut().and_then(|pacer| pacer.next(now));
        let paused = match (self.paused, self.role) {
            (false, _) => None,
            (true, Role::Client) => self.pause_probe.filter(|at| *at > now),
            (true, Role::Agent) => return None,
        };
        if let Some(until) = paced.max(paused).max(self.spread.next(now)) {
            self.held_until = Some(until);
            return None;
        }
        self.held_until = None;
        let mark = self.window.mark(now, self.send_queue.is_idle());
        let outgoing = self.send_queue.transmit(now, mark)?;
        self.regain = self.regain.map(|left| left - 1);
        if self.size.transmitted(outgoing.sequence) {
            self.timers.set_after(Timer::Probe, now, PROBE_VERDICT.max(2 * self.rtt.timeout(0)));
        }
        if let Some(pacer) = &mut self.pacer {
            pacer.sent(now);
        }
        self.spread.sent(now, outgoing.wire.len(), self.window.size(), self.window.rtt());
        if self.paused {
            self.pause_probe = Some(now + PAUSE_PROBE);
        }
        if self.role == Role::Client && !self.timers.is_set(Timer::Unanswered) {
            self.timers.set_after(Timer::Unanswered, now, self.config.unanswered);
        }
        if outgoing.again {
            self.stats.retransmissions += 1;
        } else {
            self.stats.messages_sent += 1;
            self.stats.bytes_sent += (outgoing.wire.len() - ssm_proto::HEADER_LEN) as u64;
        }
        self.watch_progress(now);
        Some(outgoing.wire)
    }

    /// Puts a size probe in front of a data message of `len` bytes, when it is time for one.
    fn probe_size(&mut self, now: Instant, len: usize) {
        let sequence = self.send_queue.next_sequence();
        let Some(size) = self.size.sending(len, sequence) else { return };
        let Some((kind, body, padding)) = self.probe() else { return };
        let mut padded = MessageBuf::with_capacity(size);
        padded.put_slice(&body);
        padded.spare_mut().put_bytes(padding, size.saturating_sub(body.len()));
        self.enqueue(now, kind, padded);
        self.size.probing(sequence, size);
    }

    /// The size under test is not taken: the probe goes on without its padding, under its own number and id.
    fn shorten_probe(&mut self) {
        self.timers.stop(Timer::Probe);
        let Some(sequence) = self.size.failed() else { return };
        let header = self.send_queue.wire(sequence).and_then(|wire| Header::decode(wire).ok());
        if let (Some(header), Some((_, body, _))) = (header, self.probe()) {
            self.send_queue.replace(sequence, buffer_of(&body).finish(header));
        }
    }

    /// What is padded to try a size out in the session that is running.
    fn probe(&self) -> Option<(PayloadType, Vec<u8>, u8)> {
        self.size_probe(self.ready.as_ref()?.kind)
    }

    /// What is padded to try a size out, and with what: a flag that the agent knows nothing of, or the terminal's size, which is
    /// JSON and may have white space behind it (agent `shell_unix.go` `InputStreamMessageHandler`).
    fn size_probe(&self, kind: SessionKind) -> Option<(PayloadType, Vec<u8>, u8)> {
        match (self.role, kind, self.config.terminal_probe) {
            (Role::Client, SessionKind::Port(_), _) => {
                Some((PayloadType::Flag, ControlFlag::Ignored.encode().to_vec(), 0))
            }
            (Role::Client, SessionKind::Shell | SessionKind::InteractiveCommands, Some(size)) => {
                Some((PayloadType::Size, size.encode(), b' '))
            }
            _ => None,
        }
    }

    fn acknowledgement(&mut self, now: Instant, sequence: i64, message_id: MessageId) -> Bytes {
        let message_type = match self.role {
            Role::Client => MessageType::OutputStreamData,
            Role::Agent => MessageType::InputStreamData,
        };
        let mut buf = self.ack_slab.take(Acknowledge::MAX_LEN);
        Acknowledge { message_type, message_id, sequence }.encode(&mut buf);
        self.ack_slab.reclaim(&mut buf);
        self.stats.acknowledgements_sent += 1;
        let id = random_id(&mut self.rng);
        buf.finish(Header::control(MessageType::Acknowledge, id, self.created_ms(now)))
    }

    fn enqueue(&mut self, now: Instant, kind: PayloadType, mut payload: MessageBuf) -> i64 {
        let sequence = self.send_queue.next_sequence();
        if let Some(cipher) = &mut self.cipher
            && crypto::is_encrypted(kind, self.role == Role::Agent)
        {
            cipher.seal(&mut payload);
        }
        let message_type = match self.role {
            Role::Client => MessageType::InputStreamData,
            Role::Agent => MessageType::OutputStreamData,
        };
        let id = random_id(&mut self.rng);
        let mut header = Header::stream(message_type, kind, sequence, id, self.created_ms(now));
        if self.role == Role::Agent && sequence == 0 {
            header.flags = Flags::SYN;
        }
        self.send_queue.push(payload.finish(header));
        sequence
    }

    fn enqueue_bytes(&mut self, now: Instant, kind: PayloadType, payload: &[u8]) -> i64 {
        self.enqueue(now, kind, buffer_of(payload))
    }

    fn open_text(&mut self, token: Token) -> Secret<String> {
        let client = self.role == Role::Client;
        let open = OpenDataChannel {
            request_id: random_id(&mut self.rng).to_string(),
            token,
            client_instance_id: self.config.instance_id.clone(),
            client_id: Some(if client { self.client_id.to_string() } else { String::new() }),
            client_version: client.then(|| self.config.version.clone()),
        };
        open.encode()
    }

    fn expect_start(&mut self, now: Instant) {
        if self.phase != Phase::Waiting {
            return;
        }
        match self.config.assume_ready.filter(|_| self.config.encryption == Encryption::AsAsked) {
            Some(after) => self.timers.set_after(Timer::AssumeReady, now, after),
            None => self.timers.set_after(Timer::Handshake, now, self.config.handshake_timeout),
        }
    }

    fn start_agent(&mut self, now: Instant) {
        let Some(offer) = &self.config.offer else { return };
        match offer.handshake {
            Handshake::Skipped => self.start_offer(now, String::new(), Evidence::FirstOutput),
            Handshake::Required => {
                let request = handshake::request(&self.config.version, offer).encode();
                self.phase = Phase::Handshaking;
                self.handshake_started = Some(now);
                self.timers.set_after(Timer::Handshake, now, self.config.handshake_timeout);
                self.enqueue_bytes(now, PayloadType::HandshakeRequest, &request);
            }
        }
    }

    fn start_offer(&mut self, now: Instant, client_version: String, evidence: Evidence) {
        let Some(offer) = &self.config.offer else { return };
        let (kind, port) = handshake::agent_kind(offer, &client_version);
        match kind {
            Some(kind) => {
                let ready =
                    Ready { port, peer_version: client_version, ..Ready::without_handshake(kind, evidence) };
                self.start(now, Ready { encrypted: self.cipher.is_some(), ..ready });
            }
            None => {
                let error = HandshakeError::SessionType(offer.session_type.clone());
                self.close(CloseReason::HandshakeFailed(error));
            }
        }
    }

    fn start(&mut self, now: Instant, ready: Ready) {
        let in_the_clear = !ready.encrypted && !matches!(ready.kind, SessionKind::Port(_));
        if self.role == Role::Client && in_the_clear && self.config.encryption == Encryption::Required {
            self.close(CloseReason::HandshakeFailed(HandshakeError::NotEncrypted));
            return;
        }
        self.phase = Phase::Running;
        self.timers.stop(Timer::Handshake);
        self.timers.stop(Timer::AssumeReady);
        if self.size_probe(ready.kind).is_some() {
            let Config { payload_len, payload_max, known_sizes, .. } = &*self.config;
            self.size = SizeDiscovery::new(*payload_len, *payload_max, known_sizes.clone());
        }
        self.ready = Some(ready.clone());
        if self.role == Role::Client && matches!(ready.kind, SessionKind::Port(_)) {
            self.watch_activity(now);
        }
        self.events.push_back(Event::Ready(ready));
        self.watch_progress(now);
    }

    /// Begins another interval in which a message should go out.
    fn watch_activity(&mut self, now: Instant) {
        if let Some(interval) = self.config.keep_active {
            self.active_at = self.send_queue.next_sequence();
            self.timers.set_after(Timer::KeepActive, now, interval);
        }
    }

    /// The gateway counts messages of the stream, and pings are none; a flag of this value is acknowledged and ignored (agent
    /// `port_basic.go`, `port_mux.go`).
    fn keep_active(&mut self, now: Instant) {
        let is_quiet = self.send_queue.next_sequence() == self.active_at;
        if is_quiet && self.phase == Phase::Running && self.link == Link::Up && self.is_drained() {
            self.enqueue_bytes(now, PayloadType::Flag, &ControlFlag::Ignored.encode());
        }
        self.watch_activity(now);
    }

    fn close(&mut self, reason: CloseReason) {
        if self.phase == Phase::Closed {
            return;
        }
        self.phase = Phase::Closed;
        self.timers = TimerTable::default();
        self.held_until = None;
        self.events.push_back(Event::Closed(reason));
    }

    fn misbehaved(&mut self, error: BodyError) -> ChannelError {
        let error = ChannelError::Handshake(error);
        self.close(CloseReason::PeerMisbehaved(error));
        error
    }

    fn undecodable(&mut self, error: DecodeError) -> Result<(), ChannelError> {
        self.stats.undecodable_frames += 1;
        self.garbage += 1;
        if self.garbage < GARBAGE_MAX {
            return Ok(());
        }
        let error = ChannelError::Garbage(error);
        self.close(CloseReason::PeerMisbehaved(error));
        Err(error)
    }

    fn refuses(&self, payload_type: Option<PayloadType>) -> bool {
        self.input == Input::Refused && payload_type != Some(PayloadType::HandshakeResponse)
    }

    fn pause(&mut self, now: Instant) {
        self.stats.pauses += 1;
        if !self.paused {
            self.paused = true;
            if let Some(pacer) = &mut self.pacer {
                pacer.slow_down(now);
            }
            self.pause_probe = Some(now + PAUSE_PROBE);
            self.watch_progress(now);
        }
    }

    fn unpause(&mut self, now: Instant) {
        if self.paused {
            self.paused = false;
            self.held_until = None;
            self.watch_progress(now);
        }
    }

    fn heard(&mut self, now: Instant) {
        if self.link == Link::Down || self.phase == Phase::Closed {
            return;
        }
        self.timers.set_after(Timer::Silence, now, self.config.silence);
        if self.timers.is_set(Timer::Unanswered) {
            self.timers.set_after(Timer::Unanswered, now, self.config.unanswered);
        }
        // In an idle session the peer has nothing to say; a connection that answers pings has held all the same.
        let held = self.connected_at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        if held >= self.config.keep_alive {
            self.outage_over();
        }
    }

    /// The peer was heard, not just the gateway, or the connection has held: the next loss is a first one.
    fn outage_over(&mut self) {
        self.attempt = 0;
        self.outage_since = None;
    }

    /// The oldest message of ours was acknowledged.
    fn head_acknowledged(&mut self, now: Instant) {
        self.stalled = Duration::ZERO;
        self.stalled_since = None;
        self.timers.stop(Timer::GiveUp);
        self.watch_progress(now);
    }

    /// Runs the give-up clock while something of ours is unacknowledged on a connection that is up and not paused.
    fn watch_progress(&mut self, now: Instant) {
        let runs = self.link == Link::Up
            && !self.paused
            && self.send_queue.count() > 0
            && self.phase != Phase::Closed;
        match (runs, self.stalled_since) {
            (true, None) => {
                self.stalled_since = Some(now);
                let left = self.config.give_up.saturating_sub(self.stalled);
                self.timers.set_after(Timer::GiveUp, now, left);
            }
            (false, Some(since)) => {
                self.stalled += now.saturating_duration_since(since);
                self.stalled_since = None;
                self.timers.stop(Timer::GiveUp);
            }
            (true, Some(_)) | (false, None) => {}
        }
    }

    /// Nothing at first, unless there was a first loss too often; then random with a bound that doubles (full jitter).
    fn redial_delay(&mut self, now: Instant) -> Duration {
        if self.attempt == 0 && self.at_once.take(now) {
            return Duration::ZERO;
        }
        let bound = (REDIAL_BASE * (1 << self.attempt.clamp(1, 10))).min(REDIAL_MAX);
        bound.mul_f64(f64::from(self.rng.next_u32()) / f64::from(u32::MAX))
    }

    fn unix(&self, now: Instant) -> Duration {
        let (at, unix) = self.clock;
        unix + now.saturating_duration_since(at)
    }

    fn created_ms(&self, now: Instant) -> u64 {
        u64::try_from(self.unix(now).as_millis()).unwrap_or(u64::MAX).max(1)
    }
}

impl Provisional {
    fn keep(&mut self, kind: PayloadType, payload: &[u8]) {
        self.bytes += payload.len();
        self.payloads.push((kind, Bytes::copy_from_slice(payload)));
    }
}

impl Ready {
    fn without_handshake(kind: SessionKind, evidence: Evidence) -> Self {
        Self {
            kind,
            port: None,
            peer_version: String::new(),
            customer_message: String::new(),
            evidence,
            encrypted: false,
        }
    }

    /// Whether the session ends by a flag (plugin `basicportforwarding.go`: agents above 2.3.722.0; with a multiplexer
    /// always).
    fn heeds_terminate_flag(&self) -> bool {
        matches!(self.kind, SessionKind::Port(_)) && version::heeds_terminate_flag(&self.peer_version)
    }
}

/// The smallest send window: four messages, where those are larger than what is configured.
fn window_min(config: &Config, payload_len: usize) -> usize {
    config.window_min.max(4 * (payload_len + ssm_proto::HEADROOM))
}

fn random_id(rng: &mut ChaCha8Rng) -> MessageId {
    let mut bytes = [0; 16];
    rng.fill_bytes(&mut bytes);
    MessageId::from_random(bytes)
}

fn sealed(cipher: &mut Cipher, payload: &[u8]) -> Vec<u8> {
    let mut buf = buffer_of(payload);
    cipher.seal(&mut buf);
    buf.payload().to_vec()
}

fn buffer_of(payload: &[u8]) -> MessageBuf {
    let mut buf = MessageBuf::with_capacity(payload.len());
    buf.put_slice(payload);
    buf
}
