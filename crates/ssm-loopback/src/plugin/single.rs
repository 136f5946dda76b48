//! Port sessions with one connection at a time: basic mode, and the stream that carries ssh.
//!
//! The quirks are those of AWS's agent (`port_basic.go`): it dials when the session starts; in basic mode the end of the
//! remote side is not told to the client, and the next data dials again; a failed dial ends the session without a reason.

use std::collections::VecDeque;
use std::io;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::{Buf, BufMut, Bytes};
use ssm_channel::PortMode;
use ssm_proto::PayloadType;
use ssm_proto::body::ControlFlag;
use tokio::net::TcpStream;

use super::Finish;
use super::destination::{Destination, Dial};
use super::pace::Pace;
use crate::config::Profile;
use crate::wire::Wire;

/// Input that may wait for the destination. AWS's agent writes each message before it takes the next.
const INPUT_LIMIT: usize = 256 * 1024;
/// Reads before other work has its turn.
const BATCH: usize = 32;
/// What is left of the agent's error when its worker crashes, as it does when a dial fails.
const CRASH: &str = "document process failed unexpectedly: exit status 1 , \
                     check [ssm-document-worker]/[ssm-session-worker] log for crash reason";

/// The connection of a session, and what waits for it.
pub(crate) struct SinglePort {
    destination: Destination,
    mode: PortMode,
    connection: Connection,
    /// The destination has been reached once.
    reached: bool,
    input: VecDeque<Item>,
    input_bytes: usize,
    pace: Pace,
    wake: Option<Instant>,
}

enum Connection {
    Dialing(Dial),
    Open(TcpStream),
    /// The remote side or a flag ended the last one; data makes the next.
    Closed,
}

/// What the client wants done, in order.
enum Item {
    Data(Bytes),
    Disconnect,
    Terminate,
}

impl SinglePort {
    pub(super) fn start(destination: Destination, mode: PortMode, profile: Profile) -> Self {
        Self {
            connection: Connection::Dialing(destination.dial()),
            destination,
            mode,
            reached: false,
            input: VecDeque::new(),
            input_bytes: 0,
            pace: Pace::new(profile),
            wake: None,
        }
    }

    pub(super) fn handle(&mut self, kind: PayloadType, payload: Bytes) {
        let item = match kind {
            PayloadType::Output => Item::Data(payload),
            PayloadType::Flag => match ControlFlag::decode(&payload) {
                ControlFlag::DisconnectToPort => Item::Disconnect,
                ControlFlag::TerminateSession => Item::Terminate,
                _ => return,
            },
            _ => return,
        };
        if let Item::Data(data) = &item {
            self.input_bytes += data.len();
        }
        self.input.push_back(item);
    }

    pub(super) fn has_room(&self) -> bool {
        self.input_bytes < INPUT_LIMIT && self.input.len() < INPUT_LIMIT / 64
    }

    pub(super) fn is_ready(&self) -> bool {
        self.reached
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.wake
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>, wire: &mut Wire) -> Poll<Finish> {
        self.wake = None;
        loop {
            match &mut self.connection {
                Connection::Dialing(dial) => match ready!(dial.as_mut().poll(cx)) {
                    Ok(stream) => {
                        self.connection = Connection::Open(stream);
                        self.reached = true;
                    }
                    Err(error) => {
                        tracing::debug!(%error, "destination not reached");
                        return Poll::Ready(Finish::failed(CRASH));
                    }
                },
                Connection::Open(_) => {
                    if let Poll::Ready(finish) = self.poll_input(cx) {
                        return Poll::Ready(finish);
                    }
                    if let Poll::Ready(finish) = self.poll_output(cx, wire) {
                        return Poll::Ready(finish);
                    }
                    if matches!(self.connection, Connection::Open(_)) {
                        return Poll::Pending;
                    }
                }
                Connection::Closed => match self.input.front() {
                    Some(Item::Data(_)) => self.connection = Connection::Dialing(self.destination.dial()),
                    Some(Item::Disconnect) => drop(self.input.pop_front()),
                    Some(Item::Terminate) => return Poll::Ready(Finish::silent()),
                    None => return Poll::Pending,
                },
            }
        }
    }

    /// Writes to the destination. Pending when all is written or it takes no more, or the connection is closed.
    fn poll_input(&mut self, cx: &mut Context<'_>) -> Poll<Finish> {
        while let Connection::Open(stream) = &mut self.connection {
            let Some(item) = self.input.front_mut() else { return Poll::Pending };
            match item {
                Item::Data(data) => match ready!(poll_write(cx, stream, data)) {
                    Ok(written) => {
                        self.input_bytes -= written;
                        if data.is_empty() {
                            self.input.pop_front();
                        }
                    }
                    Err(error) => match self.connection_ended(Err(error)) {
                        Some(finish) => return Poll::Ready(finish),
                        None => return Poll::Pending,
                    },
                },
                Item::Disconnect => {
                    self.input.pop_front();
                    if self.mode == PortMode::Stream {
                        return Poll::Ready(Finish::silent());
                    }
                    self.connection = Connection::Closed;
                }
                Item::Terminate => return Poll::Ready(Finish::silent()),
            }
        }
        Poll::Pending
    }

    fn poll_output(&mut self, cx: &mut Context<'_>, wire: &mut Wire) -> Poll<Finish> {
        for _ in 0..BATCH {
            let Connection::Open(stream) = &self.connection else { return Poll::Pending };
            if let Some(until) = self.pace.wait(wire.now()) {
                self.wake = Some(until);
                return Poll::Pending;
            }
            if !wire.can_send(cx) {
                return Poll::Pending;
            }
            let mut buf = wire.buffer();
            let read = poll_read(cx, stream, &mut buf.spare_mut());
            match read {
                Poll::Ready(Ok(len)) if len > 0 => {
                    wire.send(PayloadType::Output, buf);
                    self.pace.sent(wire.now());
                }
                Poll::Ready(end) => {
                    wire.recycle(buf);
                    return match self.connection_ended(end.map(drop)) {
                        Some(finish) => Poll::Ready(finish),
                        None => Poll::Pending,
                    };
                }
                Poll::Pending => {
                    wire.recycle(buf);
                    return Poll::Pending;
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// A stream ends the session with its connection; basic mode waits for data that wants another one.
    fn connection_ended(&mut self, end: io::Result<()>) -> Option<Finish> {
        if let Err(error) = &end {
            tracing::debug!(%error, "connection to the destination lost");
        }
        self.connection = Connection::Closed;
        (self.mode == PortMode::Stream).then(Finish::silent)
    }
}

/// Writes as much as the socket takes and advances `data`.
fn poll_write(cx: &mut Context<'_>, stream: &TcpStream, data: &mut Bytes) -> Poll<io::Result<usize>> {
    loop {
        ready!(stream.poll_write_ready(cx))?;
        match stream.try_write(data) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Ok(written) => {
                data.advance(written);
                return Poll::Ready(Ok(written));
            }
            Err(error) => return Poll::Ready(Err(error)),
        }
    }
}

/// Reads once. 0 is the end of the stream.
pub(super) fn poll_read(
    cx: &mut Context<'_>,
    stream: &TcpStream,
    buf: &mut impl BufMut,
) -> Poll<io::Result<usize>> {
    loop {
        ready!(stream.poll_read_ready(cx))?;
        match stream.try_read_buf(buf) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            result => return Poll::Ready(result),
        }
    }
}
