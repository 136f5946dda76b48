//! The relay of one session: one task with both sockets in it.
//!
//! ```text
//!            poll_direction(ClientToAgent)
//!   client ───────── read ─► judge ─► feed ───────► agent
//!     ▲                                               │
//!     └───── feed ◄─ judge ◄─ read ───────────────────┘
//!            poll_direction(AgentToClient)
//! ```
//!
//! Each direction moves on its own: it reads only while its own destination has room, and never waits for the other
//! direction. There is no queue between the sockets, so a slow reader is felt by the sender through TCP, as it is through
//! the real service. Many frames are fed and flushed once a turn. Frames are forwarded as they came; only their header is
//! looked at.

mod faulty;

use std::collections::{BTreeMap, VecDeque};
use std::future::{Future as _, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt as _, StreamExt as _};
use ssm_proto::body::SessionState;
use ssm_proto::{Header, MessageType};
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::fault::{Direction, Injector, Verdict};
use crate::gateway::{Command, Socket, farewell};
use crate::service::Service;
use crate::service_message::{channel_closed, publication};
use crate::session_store::Role;

/// Frames moved in one direction before the other one and the flush get their turn.
const BATCH: usize = 64;
/// What is kept for a peer that is not there; the rest is dropped, and the ends send it again.
const PARKED_FRAMES: usize = 64;
const PARKED_BYTES: usize = 256 * 1024;
/// Frames that a rule may hold back at once; beyond it they go on undelayed.
const LATE_FRAMES: usize = 4096;
const LATE_BYTES: usize = 32 * 1024 * 1024;
/// Period of the rate limit.
const RATE_PERIOD: Duration = Duration::from_secs(1);
/// How long the last frames of an agent that has finished may take.
const DRAIN: Duration = Duration::from_secs(2);

/// Relays frames between the two ends of a session until it is over.
pub(crate) struct Relay {
    session_id: String,
    service: Arc<Service>,
    commands: mpsc::Receiver<Command>,
    client: Peer,
    agent: Peer,
    /// Time of the last stream message, for the idle timer.
    last_activity: Instant,
    /// When the session has lasted as long as it may.
    expires: Option<Instant>,
    /// The agent has finished: the session ends when its socket has, or at this time.
    finishing: Option<(Instant, String)>,
    /// The agent has closed its socket in order, which it does only at the end.
    agent_left: bool,
    meter: Meter,
    faults: Injector,
    /// The session went away with the machine: nobody is told.
    vanished: bool,
    timer: Pin<Box<Sleep>>,
    /// Something changed that the steps before this one should see.
    again: bool,
}

/// One end of the session.
struct Peer {
    role: Role,
    socket: Option<Box<Socket>>,
    /// Frames that came while there was no socket.
    parked: VecDeque<Message>,
    parked_bytes: usize,
    /// Frames held back by a rule, by the time they are due.
    late: BTreeMap<(Instant, u64), Message>,
    late_count: u64,
    late_bytes: usize,
    /// Something was fed since the last complete flush.
    unflushed: bool,
    /// A pause_publication was sent that no start_publication has taken back.
    paused: bool,
    /// The socket is there and dead.
    silence: Silence,
}

/// Whether a socket is left alone on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Silence {
    No,
    Until(Instant),
    ForGood,
}

/// Counts what a client sends.
struct Meter {
    since: Instant,
    count: u32,
    /// Periods in a row with too many messages.
    excess: u32,
}

/// How the relay of a session ended: the text for `channel_closed`.
struct End(String);

impl Relay {
    pub(crate) fn new(session_id: String, service: Arc<Service>, commands: mpsc::Receiver<Command>) -> Self {
        let now = Instant::now();
        let expires = service.config.max_duration.map(|duration| now + duration);
        let mut faults = Injector::new(service.faults.clone());
        faults.refresh(now);
        Self {
            session_id,
            service,
            commands,
            client: Peer::new(Role::Client),
            agent: Peer::new(Role::Agent),
            last_activity: now,
            expires,
            finishing: None,
            agent_left: false,
            meter: Meter { since: now, count: 0, excess: 0 },
            faults,
            vanished: false,
            timer: Box::pin(sleep_until(now)),
            again: false,
        }
    }

    /// Runs until the session is over and both ends have been told.
    pub(crate) async fn run(mut self) {
        let End(output) = poll_fn(|cx| self.poll(cx)).await;
        self.service.store().ending(&self.session_id);
        // Sockets that were on their way here are closed with the queue.
        self.commands.close();
        if self.vanished {
            (self.client.socket, self.agent.socket) = (None, None);
        }
        let client = self.client.dismiss(&self.session_id, &output, &self.service);
        let agent = self.agent.dismiss(&self.session_id, &output, &self.service);
        tokio::join!(client, agent);
        self.service.session_ended(&self.session_id);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        self.again = false;
        let now = Instant::now();
        self.faults.refresh(now);
        if let Poll::Ready(end) = self.poll_commands(cx) {
            return Poll::Ready(end);
        }
        if !self.faults.is_idle() {
            self.break_what_is_due(now);
        }
        self.end_silences(now);
        if self.vanished {
            return Poll::Ready(End(String::new()));
        }
        self.release_late();
        self.poll_direction(cx, Direction::ClientToAgent);
        self.poll_direction(cx, Direction::AgentToClient);
        for role in [Role::Client, Role::Agent] {
            if self.peer(role).poll_flush(cx).is_err() {
                self.detach(role);
            }
        }
        if let Poll::Ready(end) = self.poll_deadlines(cx, now) {
            return Poll::Ready(end);
        }
        if self.again {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    fn poll_commands(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        loop {
            match ready!(self.commands.poll_recv(cx)) {
                Some(Command::Attach(role, socket)) => self.attach(role, socket),
                Some(Command::Terminate { output }) => return Poll::Ready(End(output)),
                Some(Command::Finish { output }) => self.finishing = Some((Instant::now() + DRAIN, output)),
                None => return Poll::Ready(End(String::new())),
            }
        }
    }

    /// Moves up to [`BATCH`] frames one way. The destination's room is looked at first: a frame that was read always has
    /// a place to go.
    fn poll_direction(&mut self, cx: &mut Context<'_>, direction: Direction) {
        let (from, to) = direction.ends();
        for _ in 0..BATCH {
            if !self.faults.is_idle() && self.faults.is_full(direction, Instant::now()) {
                return;
            }
            match self.peer(to).poll_ready(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => self.detach(to),
                Poll::Pending => return,
            }
            match self.peer(from).poll_next(cx) {
                Poll::Ready(Some(Ok(message))) => self.forward(direction, message),
                Poll::Ready(Some(Err(error))) => {
                    tracing::debug!(%error, ?from, "socket lost");
                    return self.detach(from);
                }
                Poll::Ready(None) => return self.detach(from),
                Poll::Pending => return,
            }
        }
        self.again = true;
    }

    /// Decides what becomes of one message from a socket.
    fn forward(&mut self, direction: Direction, message: Message) {
        let (from, to) = direction.ends();
        let frame: &[u8] = match &message {
            Message::Binary(frame) => frame,
            Message::Text(text) => text.as_bytes(),
            Message::Close(_) if from == Role::Agent => {
                self.agent_left = true;
                return self.agent.unflushed = true;
            }
            // Tungstenite has queued the answer to a ping or a close.
            _ => return self.peer(from).unflushed = true,
        };
        let Ok(header) = Header::decode(frame) else {
            // What is not a message is relayed all the same: judging it is the receiver's business.
            return self.deliver(to, message);
        };
        if header.message_type == MessageType::AgentSessionState && from == Role::Agent {
            return self.note_agent_state(frame, &header);
        }
        if header.message_type.is_stream() {
            self.last_activity = Instant::now();
            if from == Role::Client && self.exceeds_rate() {
                return self.detach(from);
            }
        }
        match self.service.rules.judge(direction, &header) {
            Verdict::Deliver if self.faults.is_idle() => self.deliver(to, message),
            Verdict::Deliver => self.forward_faultily(direction, &header, message),
            Verdict::Drop => {}
            Verdict::Duplicate => {
                self.deliver(to, message.clone());
                self.deliver(to, message);
            }
            Verdict::Delay(time) => self.hold_back(to, message, time),
            Verdict::Corrupt => self.deliver(to, corrupted(message)),
            Verdict::Cut => self.detach(from),
            Verdict::Pause => {
                self.deliver(to, message);
                self.pause(from);
            }
            Verdict::Bye => {
                self.deliver(to, message);
                self.say_bye();
            }
        }
    }

    /// Counts a message of the client. True when it is to be cut for sending too many.
    fn exceeds_rate(&mut self) -> bool {
        let Some(limit) = self.faults.rate().or(self.service.config.rate_limit) else { return false };
        let now = self.last_activity;
        if now - self.meter.since >= RATE_PERIOD {
            let excess = if self.meter.count > limit { self.meter.excess + 1 } else { 0 };
            self.meter = Meter { since: now, count: 0, excess };
            match excess {
                0 => {}
                1 => self.pause(Role::Client),
                _ => {
                    self.meter.excess = 0;
                    return true;
                }
            }
        }
        self.meter.count += 1;
        false
    }

    /// Feeds a frame to a peer, or parks it and asks the sender to pause.
    fn deliver(&mut self, to: Role, message: Message) {
        if self.peer(to).socket.is_some() {
            if self.peer(to).feed(message).is_err() {
                self.detach(to);
            }
            return;
        }
        self.peer(to).park(message);
        self.pause(to.other());
    }

    fn hold_back(&mut self, to: Role, message: Message, time: Duration) {
        if let Err(message) = self.peer(to).hold_back(message, Instant::now() + time) {
            self.deliver(to, message);
        }
    }

    fn release_late(&mut self) {
        for role in [Role::Client, Role::Agent] {
            if self.peer(role).late.is_empty() {
                continue;
            }
            let now = Instant::now();
            while let Some(message) = self.peer(role).release(now) {
                self.deliver_in_parts(role, message);
            }
        }
    }

    fn attach(&mut self, role: Role, socket: Box<Socket>) {
        self.agent_left &= role == Role::Client;
        let peer = self.peer(role);
        peer.socket = Some(socket);
        peer.paused = false;
        peer.silence = Silence::No;
        peer.parked_bytes = 0;
        let parked = std::mem::take(&mut peer.parked);
        self.service.store().attached(&self.session_id, role);
        let layout = self.service.layout();
        if role == Role::Client && self.faults.starts_early() {
            self.client.notify(publication(MessageType::StartPublication, layout));
        }
        for message in parked {
            self.deliver(role, message);
        }
        let other = self.peer(role.other());
        other.paused = false;
        other.notify(publication(MessageType::StartPublication, layout));
    }

    fn detach(&mut self, role: Role) {
        let peer = self.peer(role);
        peer.socket = None;
        peer.unflushed = false;
        self.service.store().detached(&self.session_id, role);
        if self.finishing.is_none() && !self.agent_left {
            self.pause(role.other());
        }
        self.again = true;
    }

    /// Tells a peer, once, that its counterpart is not there.
    fn pause(&mut self, role: Role) {
        let layout = self.service.layout();
        let peer = self.peer(role);
        if peer.socket.is_some() && peer.silence == Silence::No && !peer.paused {
            peer.paused = true;
            peer.notify(publication(MessageType::PausePublication, layout));
            self.again = true;
        }
    }

    fn say_bye(&mut self) {
        self.dismiss(Role::Client, CloseCode::Normal);
    }

    /// Closes a socket in order.
    fn dismiss(&mut self, role: Role, code: CloseCode) {
        if let Some(socket) = self.peer(role).socket.take() {
            let reason = if code == CloseCode::Normal { "Bye" } else { "" };
            let goodbye = farewell(*socket, None, code, reason.to_owned());
            let _ = self.service.tasks.spawn(goodbye);
            self.detach(role);
        }
    }

    /// `agent_session_state` is for the service alone.
    fn note_agent_state(&mut self, frame: &[u8], header: &Header) {
        let payload = frame.get(header.layout.payload_offset()..).unwrap_or_default();
        match SessionState::decode(payload) {
            Ok(state) if state.session_state == "Terminating" => {
                self.service.store().finishing(&self.session_id);
            }
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "agent_session_state is not readable"),
        }
    }

    /// `turn` is when this turn began: a direction that was full since then may be free by now, and nobody else would look again.
    fn poll_deadlines(&mut self, cx: &mut Context<'_>, turn: Instant) -> Poll<End> {
        let now = Instant::now();
        let idle = self.service.config.idle_timeout.map(|timeout| self.last_activity + timeout);
        if let Some((deadline, output)) = &mut self.finishing
            && (self.agent.socket.is_none() || *deadline <= now)
        {
            return Poll::Ready(End(std::mem::take(output)));
        }
        if self.expires.is_some_and(|deadline| deadline <= now) {
            return Poll::Ready(End("The session has reached its maximum duration.".to_owned()));
        }
        if idle.is_some_and(|deadline| deadline <= now) {
            return Poll::Ready(End("The session ended because of inactivity.".to_owned()));
        }
        let late = |peer: &Peer| peer.late.first_key_value().map(|((due, _), _)| *due);
        let finishing = self.finishing.as_ref().map(|(deadline, _)| *deadline);
        let faults = if self.faults.is_idle() { None } else { self.faults.deadline(turn) };
        let loud = [self.client.silence.end(), self.agent.silence.end()];
        let deadlines = [finishing, self.expires, idle, late(&self.client), late(&self.agent), faults];
        let deadlines = deadlines.into_iter().chain(loud);
        if let Some(next) = deadlines.flatten().min() {
            if self.timer.deadline() != next {
                self.timer.as_mut().reset(next);
            }
            self.again |= self.timer.as_mut().poll(cx).is_ready();
        }
        Poll::Pending
    }

    fn peer(&mut self, role: Role) -> &mut Peer {
        match role {
            Role::Client => &mut self.client,
            Role::Agent => &mut self.agent,
        }
    }
}

impl Peer {
    fn new(role: Role) -> Self {
        Self {
            role,
            socket: None,
            parked: VecDeque::new(),
            parked_bytes: 0,
            late: BTreeMap::new(),
            late_count: 0,
            late_bytes: 0,
            unflushed: false,
            paused: false,
            silence: Silence::No,
        }
    }

    /// Whether a frame can be fed. An absent peer has room: its frames are parked or dropped.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        match &mut self.socket {
            Some(socket) if self.silence == Silence::No => socket.poll_ready_unpin(cx),
            _ => Poll::Ready(Ok(())),
        }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Message, Error>>> {
        match &mut self.socket {
            Some(socket) if self.silence == Silence::No => socket.poll_next_unpin(cx),
            _ => Poll::Pending,
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Result<(), Error> {
        if let Some(socket) = self.socket.as_mut().filter(|_| self.unflushed && self.silence == Silence::No)
            && let Poll::Ready(result) = socket.poll_flush_unpin(cx)
        {
            self.unflushed = false;
            result?;
        }
        Ok(())
    }

    /// Puts a frame into the socket's write buffer, which takes any number; [`poll_ready`](Self::poll_ready) bounds it.
    fn feed(&mut self, message: Message) -> Result<(), Error> {
        let Some(socket) = self.socket.as_mut().filter(|_| self.silence == Silence::No) else {
            return Ok(());
        };
        self.unflushed = true;
        socket.start_send_unpin(message)
    }

    /// Feeds a message of the service. A socket that fails here fails again at the next read or write, which reports it.
    fn notify(&mut self, message: Bytes) {
        if let Err(error) = self.feed(Message::Binary(message)) {
            tracing::debug!(%error, role = ?self.role, "service message not sent");
        }
    }

    fn park(&mut self, message: Message) {
        let bytes = self.parked_bytes + message.len();
        if self.parked.len() < PARKED_FRAMES && bytes <= PARKED_BYTES {
            self.parked_bytes = bytes;
            self.parked.push_back(message);
        }
    }

    /// Keeps a message until it is due; one that there is no room for is given back.
    fn hold_back(&mut self, message: Message, due: Instant) -> Result<(), Message> {
        let bytes = self.late_bytes + message.len();
        if self.late.len() >= LATE_FRAMES || bytes > LATE_BYTES {
            return Err(message);
        }
        self.late_bytes = bytes;
        self.late_count += 1;
        self.late.insert((due, self.late_count), message);
        Ok(())
    }

    /// The next message that is due by now.
    fn release(&mut self, now: Instant) -> Option<Message> {
        let message = self.late.first_entry().filter(|entry| entry.key().0 <= now)?.remove();
        self.late_bytes -= message.len();
        Some(message)
    }

    /// Sends `channel_closed` and closes the socket.
    async fn dismiss(&mut self, session_id: &str, output: &str, service: &Service) {
        let Some(socket) = self.socket.take() else { return };
        let destination = match self.role {
            Role::Client => session_id.to_owned(),
            Role::Agent => {
                service.store().find(session_id).map(|record| record.target.clone()).unwrap_or_default()
            }
        };
        let last = channel_closed(session_id, &destination, output, service.layout());
        farewell(*socket, Some(last), CloseCode::Normal, String::new()).await;
    }
}

impl Silence {
    fn end(self) -> Option<Instant> {
        match self {
            Self::Until(at) => Some(at),
            Self::No | Self::ForGood => None,
        }
    }
}

impl Direction {
    fn ends(self) -> (Role, Role) {
        match self {
            Self::ClientToAgent => (Role::Client, Role::Agent),
            Self::AgentToClient => (Role::Agent, Role::Client),
        }
    }
}

impl Role {
    fn other(self) -> Self {
        match self {
            Self::Client => Self::Agent,
            Self::Agent => Self::Client,
        }
    }
}

/// The message with the lowest bit of its last byte flipped. Text is left alone: it might stop being text.
fn corrupted(message: Message) -> Message {
    match message {
        Message::Binary(frame) => {
            let mut frame = BytesMut::from(frame);
            if let Some(last) = frame.last_mut() {
                *last ^= 1;
            }
            Message::Binary(frame.freeze())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests;
