//! Sessions without a multiplexer: one connection at a time.
//!
//! In basic mode the agent keeps one connection to the destination. It is not told of a new local connection: a flag closes the
//! old one, and the next byte opens another (agent `port_basic.go`). In stream mode the session ends with its connection.

use std::collections::VecDeque;
use std::task::Context;
use std::time::Instant;

use bytes::Bytes;
use ssm_session::{CloseReason, ControlFlag, ControlPlane, PayloadType, PortMode, Session};

use crate::Notice;
use crate::connection::{Chunk, Connection, Incoming, Input, Output};
use crate::half_close::{HalfClosed, LastBytes};
use crate::lane::{Config, Shared, send};

/// Chunks read in a turn before frames are read again.
const OUTBOUND_BUDGET: usize = 64;

/// The key of the one connection on the ready list.
const KEY: u64 = 0;

/// The one connection, and what came before it.
pub(crate) struct SingleCarrier {
    mode: PortMode,
    connection: Option<Connection>,
    last: LastBytes,
    half_closed: HalfClosed,
    /// Bytes of the destination that came before a connection did.
    early: VecDeque<Bytes>,
    early_len: usize,
    /// What still comes belongs to the connection before: the agent has not been asked for another yet.
    stale: bool,
    /// A flag has to be sent that closes the destination.
    disconnect: bool,
    session_over: bool,
    stream_limit: usize,
}

impl SingleCarrier {
    pub(crate) fn new(mode: PortMode, config: &Config) -> Self {
        Self {
            mode,
            connection: None,
            last: LastBytes::Outward,
            half_closed: HalfClosed::new(config.half_close_grace),
            early: VecDeque::new(),
            early_len: 0,
            stale: false,
            disconnect: false,
            session_over: false,
            stream_limit: config.stream_limit,
        }
    }

    /// Whether a connection can be taken.
    pub(crate) fn is_free(&self) -> bool {
        self.connection.is_none() && !self.disconnect && !self.session_over
    }

    /// Bytes that wait to be written.
    pub(crate) fn waiting_bytes(&self) -> usize {
        let pending = self.connection.as_ref().map_or(0, Connection::pending_len);
        if self.session_over { pending } else { pending + self.early_len }
    }

    pub(crate) fn add(&mut self, shared: &Shared, incoming: Incoming) {
        let mut connection = Connection::new(incoming, shared, KEY);
        self.early.drain(..).for_each(|bytes| connection.push(bytes));
        self.early_len = 0;
        self.last = LastBytes::Outward;
        connection.wake();
        self.connection = Some(connection);
    }

    /// A payload of the agent.
    pub(crate) fn handle_input(&mut self, payload: Bytes, now: Instant) {
        if self.stale || self.disconnect {
            return;
        }
        match &mut self.connection {
            Some(connection) if connection.output == Output::Open => {
                connection.push(payload);
                connection.wake();
                self.last = LastBytes::Inward;
                self.half_closed.heard(now, KEY);
            }
            Some(_) => {}
            None => {
                self.early_len += payload.len();
                self.early.push_back(payload);
            }
        }
    }

    /// The session is over: what waits is written, and then the connection ends. Only in stream mode, and only where nobody
    /// complains, does that mean that the destination has ended; otherwise the connection is reset.
    pub(crate) fn end(&mut self, reason: &CloseReason) {
        self.session_over = true;
        let Some(connection) = &mut self.connection else { return };
        match (self.mode, reason) {
            (PortMode::Stream, CloseReason::AgentClosed { detail: None, .. } | CloseReason::Terminated) => {
                connection.ending();
            }
            _ => connection.breaking(),
        }
        connection.wake();
    }

    /// Leaves the connection if it is still there, with a reset unless the destination has ended.
    pub(crate) fn leave_all(&mut self, shared: &mut Shared) {
        if let Some(connection) = self.connection.take() {
            let (sent, received) = connection.totals();
            let number = connection.number();
            match connection.output {
                Output::Ended => drop(connection),
                _ => connection.reset(shared.gone()),
            }
            shared.notify(Notice::Closed { connection: number, sent, received });
        }
    }

    pub(crate) fn turn<C: ControlPlane>(
        &mut self,
        session: &mut Session<C>,
        shared: &mut Shared,
        cx: &mut Context<'_>,
        now: Instant,
    ) {
        while shared.list.pop().is_some() {
            if let Some(connection) = &self.connection {
                connection.taken();
            }
        }
        if self.half_closed.expire(now).is_some() {
            self.finish(session, shared);
        }
        self.write(session, shared);
        self.outbound(session, shared, cx, now);
    }

    /// When [`turn`](Self::turn) has to be called at the latest.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.half_closed.deadline()
    }

    fn write<C: ControlPlane>(&mut self, session: &mut Session<C>, shared: &mut Shared) {
        let Some(connection) = &mut self.connection else { return };
        match connection.write_pending() {
            Ok(_) if connection.output == Output::Ended => self.finish(session, shared),
            Ok(_) if connection.output == Output::Broken => self.leave_all(shared),
            Ok(_) => {}
            Err(error) => {
                tracing::debug!(%error, "the local program is gone");
                self.finish(session, shared);
            }
        }
    }

    fn outbound<C: ControlPlane>(
        &mut self,
        session: &mut Session<C>,
        shared: &mut Shared,
        cx: &mut Context<'_>,
        now: Instant,
    ) {
        for _ in 0..OUTBOUND_BUDGET {
            if session.poll_writable(cx).is_pending() {
                return;
            }
            if std::mem::take(&mut self.disconnect) {
                let mut buf = session.buffer();
                buf.put_slice(&ControlFlag::DisconnectToPort.encode());
                send(session, PayloadType::Flag, buf);
                continue;
            }
            if !self.read(session, shared, now) {
                return;
            }
        }
        cx.waker().wake_by_ref();
    }

    /// Reads a chunk and sends it; false when there is none.
    fn read<C: ControlPlane>(&mut self, session: &mut Session<C>, shared: &mut Shared, now: Instant) -> bool {
        let Some(connection) = &mut self.connection else { return false };
        if connection.input != Input::Open || connection.pending_len() > self.stream_limit {
            return false;
        }
        let mut buf = session.buffer();
        match connection.read(&mut buf, session.payload_len()) {
            Chunk::Data(_) => {
                self.stale = false;
                self.last = LastBytes::Outward;
                send(session, PayloadType::Output, buf);
                true
            }
            Chunk::Nothing => {
                session.recycle(buf);
                false
            }
            Chunk::End => {
                session.recycle(buf);
                connection.input = Input::Ended;
                self.half_closed.hold(now, KEY, self.last);
                false
            }
            Chunk::Broken(error) => {
                session.recycle(buf);
                tracing::debug!(%error, "the local connection is broken");
                self.finish(session, shared);
                false
            }
        }
    }

    /// The connection is over: in stream mode so is the session; otherwise the agent is told to close the destination.
    fn finish<C: ControlPlane>(&mut self, session: &mut Session<C>, shared: &mut Shared) {
        let Some(connection) = self.connection.take() else { return };
        self.half_closed.forget(KEY);
        let number = connection.number();
        let (sent, received) = connection.totals();
        if !self.session_over {
            if self.mode == PortMode::Stream {
                session.close();
            } else {
                self.disconnect = true;
                self.stale = true;
            }
        }
        drop(connection);
        shared.notify(Notice::Closed { connection: number, sent, received });
    }
}
