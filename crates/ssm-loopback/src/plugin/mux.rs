//! Port sessions with many connections: an smux server whose streams are TCP connections to the destination.
//!
//! There is no half-close: whichever side of a connection ends first ends all of it (agent `port_mux.go`
//! `handleDataTransfer`). A destination that does not read fills the 4 MiB that all streams share, and then nothing more is
//! read or acknowledged.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, IoSlice};
use std::ops::Bound;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::{Buf as _, BufMut as _, Bytes};
use ssm_proto::PayloadType;
use ssm_proto::body::ControlFlag;
use ssm_smux::{Config, Event, HEADER_LEN, Mux, Side, StreamId};
use tokio::net::TcpStream;

use super::Finish;
use super::destination::{Destination, Dial};
use super::pace::Pace;
use super::single::poll_read;
use crate::config::Profile;
use crate::wire::Wire;

/// What all streams together may hold (smux `DefaultConfig`, `MaxReceiveBuffer`).
const RECEIVE_LIMIT: usize = 4 * 1024 * 1024;
/// Slices below this are copied when they have to wait, so that they do not keep a whole read buffer.
const SMALL: usize = 4 * 1024;
/// Most slices given to one write.
const SLICES: usize = 64;
/// Messages before other work has its turn.
const BATCH: usize = 64;

/// The multiplexer of a session and its connections.
pub(crate) struct MuxPort {
    mux: Mux,
    destination: Destination,
    profile: Profile,
    streams: BTreeMap<StreamId, Stream>,
    /// The stream whose turn was last.
    last: Option<StreamId>,
    /// Failed dials the client has not been told of.
    flags_due: usize,
    pace: Pace,
    /// The end, when something has brought it about.
    over: Option<Finish>,
    wake: Option<Instant>,
}

struct Stream {
    connection: Connection,
    /// Data for the destination.
    pending: VecDeque<Bytes>,
    client: Client,
}

enum Connection {
    /// Another dial comes first: AWS's agent makes one at a time.
    Waiting,
    Dialing(Dial),
    Open(TcpStream),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Client {
    Open,
    /// The connection closes when what is pending has been written.
    Finished,
}

/// What became of a stream in its turn.
enum Outcome {
    Live,
    /// The destination ended it or broke.
    Closed,
    DialFailed,
    /// The client ended it and everything is written.
    Done,
}

impl MuxPort {
    /// Starts the multiplexer. Client versions up to 1.2.331.0 are expected to send keep-alives, and are sent some.
    pub(super) fn start(destination: Destination, keep_alive: bool, profile: Profile, wire: &Wire) -> Self {
        let config = Config { receive_limit: RECEIVE_LIMIT, ..Config::default() };
        let config = if keep_alive { config.with_keep_alive() } else { config };
        Self {
            mux: Mux::new(Side::Server, config, wire.now()),
            destination,
            profile,
            streams: BTreeMap::new(),
            last: None,
            flags_due: 0,
            pace: Pace::new(profile),
            over: None,
            wake: None,
        }
    }

    pub(super) fn handle(&mut self, kind: PayloadType, payload: Bytes) {
        match kind {
            PayloadType::Output => self.handle_input(payload),
            PayloadType::Flag if ControlFlag::decode(&payload) == ControlFlag::TerminateSession => {
                self.over = Some(Finish::silent());
            }
            _ => {}
        }
    }

    fn handle_input(&mut self, payload: Bytes) {
        let result = self.mux.handle_input(payload);
        self.handle_events();
        if let Err(error) = result {
            tracing::debug!(%error, "the multiplexer is dead");
            // Without a stream AWS's agent stays, acknowledges, and forwards nothing.
            if !self.streams.is_empty() {
                self.over = Some(Finish::silent());
            }
        }
    }

    fn handle_events(&mut self) {
        while let Some(event) = self.mux.poll_event() {
            match event {
                Event::Opened { id } => {
                    let connection = Connection::Waiting;
                    let stream = Stream { connection, pending: VecDeque::new(), client: Client::Open };
                    self.streams.insert(id, stream);
                }
                Event::Data { id, data } => {
                    if let Some(stream) = self.streams.get_mut(&id) {
                        stream.pending.push_back(data);
                    }
                }
                Event::Finished { id } => {
                    if let Some(stream) = self.streams.get_mut(&id) {
                        stream.client = Client::Finished;
                    }
                }
                Event::PeerSilent => self.over = Some(Finish::silent()),
            }
        }
    }

    pub(super) fn has_room(&self) -> bool {
        self.mux.unconsumed() < RECEIVE_LIMIT
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        [self.wake, self.mux.poll_timeout()].into_iter().flatten().min()
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>, wire: &mut Wire) -> Poll<Finish> {
        self.wake = None;
        if self.mux.poll_timeout().is_some_and(|due| due <= wire.now()) {
            self.mux.handle_timeout(wire.now());
            self.handle_events();
        }
        if let Some(finish) = self.over.take() {
            return Poll::Ready(finish);
        }
        self.poll_dials(cx);
        self.poll_writes(cx);
        self.poll_reads(cx, wire);
        self.poll_control(cx, wire);
        Poll::Pending
    }

    fn poll_dials(&mut self, cx: &mut Context<'_>) {
        let mut failed = Vec::new();
        for (id, stream) in &mut self.streams {
            if matches!(stream.connection, Connection::Waiting) {
                stream.connection = Connection::Dialing(self.destination.dial());
            }
            let Connection::Dialing(dial) = &mut stream.connection else { continue };
            match dial.as_mut().poll(cx) {
                Poll::Ready(Ok(connected)) => stream.connection = Connection::Open(connected),
                Poll::Ready(Err(error)) => {
                    tracing::debug!(%error, "destination not reached");
                    failed.push(*id);
                }
                Poll::Pending if self.profile == Profile::Aws => break,
                Poll::Pending => {}
            }
        }
        for id in failed {
            self.settle(id, &Outcome::DialFailed);
        }
    }

    fn poll_writes(&mut self, cx: &mut Context<'_>) {
        let mut settled = Vec::new();
        for (id, stream) in &mut self.streams {
            let (written, outcome) = stream.poll_write(cx);
            if written > 0 {
                self.mux.consumed(*id, written);
            }
            if !matches!(outcome, Outcome::Live) {
                settled.push((*id, outcome));
            }
        }
        for (id, outcome) in settled {
            self.settle(id, &outcome);
        }
    }

    /// One message per connection and round, beginning behind the one that was last.
    fn poll_reads(&mut self, cx: &mut Context<'_>, wire: &mut Wire) {
        let (mut idle, mut sent) = (0, 0);
        while idle < self.streams.len() && self.may_send(cx, wire) {
            let Some(id) = self.next_stream() else { return };
            self.last = Some(id);
            match self.read(cx, wire, id) {
                Poll::Ready(Outcome::Live) => (idle, sent) = (0, sent + 1),
                Poll::Ready(outcome) => self.settle(id, &outcome),
                Poll::Pending => idle += 1,
            }
            if sent == BATCH {
                return cx.waker().wake_by_ref();
            }
        }
    }

    fn read(&mut self, cx: &mut Context<'_>, wire: &mut Wire, id: StreamId) -> Poll<Outcome> {
        let Some(Stream { connection: Connection::Open(socket), .. }) = self.streams.get(&id) else {
            return Poll::Pending;
        };
        if socket.poll_read_ready(cx).is_pending() {
            return Poll::Pending;
        }
        let mut buf = wire.buffer();
        let room = buf.spare_len().saturating_sub(HEADER_LEN);
        let read = poll_read(cx, socket, &mut buf.spare_mut().limit(room));
        match read {
            Poll::Ready(Ok(len)) if len > 0 => {
                let Ok(header) = self.mux.push(id, len) else {
                    wire.recycle(buf);
                    return Poll::Ready(Outcome::Closed);
                };
                buf.prepend(&header);
                wire.send(PayloadType::Output, buf);
                self.pace.sent(wire.now());
                Poll::Ready(Outcome::Live)
            }
            Poll::Ready(_) => {
                wire.recycle(buf);
                Poll::Ready(Outcome::Closed)
            }
            Poll::Pending => {
                wire.recycle(buf);
                Poll::Pending
            }
        }
    }

    /// Flags of failed dials first: the FIN of a failed stream comes behind its flag.
    fn poll_control(&mut self, cx: &mut Context<'_>, wire: &mut Wire) {
        while self.flags_due > 0 {
            if !wire.can_send(cx) {
                return;
            }
            wire.send_bytes(PayloadType::Flag, &ControlFlag::ConnectToPortError.encode());
            self.flags_due -= 1;
        }
        while self.may_send(cx, wire) {
            let mut buf = wire.buffer();
            while buf.spare_len() >= HEADER_LEN
                && let Some(frame) = self.mux.poll_transmit()
            {
                buf.put_slice(&frame);
            }
            if buf.is_empty() {
                return wire.recycle(buf);
            }
            wire.send(PayloadType::Output, buf);
            self.pace.sent(wire.now());
        }
    }

    fn may_send(&mut self, cx: &mut Context<'_>, wire: &mut Wire) -> bool {
        if let Some(until) = self.pace.wait(wire.now()) {
            self.wake = Some(until);
            return false;
        }
        wire.can_send(cx)
    }

    fn next_stream(&self) -> Option<StreamId> {
        let behind = self.last.map_or(Bound::Unbounded, Bound::Excluded);
        let next = self.streams.range((behind, Bound::Unbounded)).next();
        next.or_else(|| self.streams.first_key_value()).map(|(id, _)| *id)
    }

    fn settle(&mut self, id: StreamId, outcome: &Outcome) {
        match outcome {
            Outcome::Live => return,
            Outcome::DialFailed => {
                self.flags_due += 1;
                self.mux.forget(id);
            }
            Outcome::Closed => self.mux.forget(id),
            Outcome::Done => self.mux.finish(id),
        }
        self.streams.remove(&id);
    }
}

impl Stream {
    /// Writes what is pending; returns how much was.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> (usize, Outcome) {
        let Connection::Open(socket) = &self.connection else { return (0, Outcome::Live) };
        let mut total = 0;
        while !self.pending.is_empty() {
            match poll_write_all(cx, socket, &mut self.pending) {
                Poll::Ready(Ok(written)) => total += written,
                Poll::Ready(Err(_)) => return (total, Outcome::Closed),
                Poll::Pending => {
                    self.detach_small();
                    return (total, Outcome::Live);
                }
            }
        }
        match self.client {
            Client::Open => (total, Outcome::Live),
            Client::Finished => (total, Outcome::Done),
        }
    }

    /// Copies a small slice that has to wait. Only the last one can be new, and the first one newly cut.
    fn detach_small(&mut self) {
        let last = self.pending.len() - 1;
        for index in [0, last] {
            let data = &mut self.pending[index];
            if data.len() < SMALL {
                *data = Bytes::copy_from_slice(data);
            }
        }
    }
}

/// Writes as much as the socket takes with one call, and advances `pending`.
fn poll_write_all(
    cx: &mut Context<'_>,
    stream: &TcpStream,
    pending: &mut VecDeque<Bytes>,
) -> Poll<io::Result<usize>> {
    loop {
        ready!(stream.poll_write_ready(cx))?;
        let mut slices = [IoSlice::new(&[]); SLICES];
        for (slice, bytes) in slices.iter_mut().zip(&*pending) {
            *slice = IoSlice::new(bytes);
        }
        match stream.try_write_vectored(&slices[..SLICES.min(pending.len())]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Ok(written) => {
                advance(pending, written);
                return Poll::Ready(Ok(written));
            }
            Err(error) => return Poll::Ready(Err(error)),
        }
    }
}

fn advance(pending: &mut VecDeque<Bytes>, mut written: usize) {
    while let Some(first) = pending.front_mut() {
        let part = written.min(first.len());
        first.advance(part);
        written -= part;
        if !first.is_empty() {
            return;
        }
        pending.pop_front();
    }
}
