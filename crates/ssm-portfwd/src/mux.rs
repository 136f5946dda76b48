//! Many connections over one session, multiplexed.

use std::collections::BTreeMap;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ssm_session::{ControlPlane, MessageBuf, PayloadType, Room, Session};
use ssm_smux::{Event, FrameError, HEADER_LEN, Mux, Schedule, Side, StreamId};

use crate::connection::{Chunk, Connection, Incoming, Input, Output};
use crate::half_close::{HalfClosed, LastBytes};
use crate::lane::{Config, Shared, send};
use crate::{Notice, TunnelError};

/// Chunks read from local connections in a turn before frames are read again, and bytes of them.
const OUTBOUND_BUDGET: usize = 64;
const OUTBOUND_BYTES: usize = 256 * 1024;

/// Frames of the multiplexer's own that have their place behind the data of a message.
const CONTROL_BEHIND_DATA: usize = 8;

/// A connection that got bytes this shortly before reading stopped was in the middle of something.
const RECENT: Duration = Duration::from_millis(100);

/// The multiplexer and its connections.
pub(crate) struct MuxCarrier {
    mux: Mux,
    streams: BTreeMap<u64, Stream>,
    /// Whose turn it is among the streams that may have something to read.
    schedule: Schedule,
    /// Streams that got bytes or an end since they were last written.
    dirty: Vec<u64>,
    half_closed: HalfClosed,
    /// Refusals announced by flag whose streams have not been ended yet.
    refusals: usize,
    /// Bytes that wait to be written, of all connections.
    waiting: usize,
    connections_max: usize,
    stream_limit: usize,
    receive_limit: usize,
    /// Some streams are not read because too much waits.
    throttled: bool,
    /// One of them could be read, but for what waits for others.
    held_up: bool,
}

struct Stream {
    id: StreamId,
    connection: Connection,
    last: LastBytes,
    /// When bytes last came for it.
    heard: Instant,
    /// When its program last took bytes, or had none to take.
    taken: Instant,
    /// Whether anything was ever received.
    answered: bool,
    /// Whether the agent could not connect for it.
    refused: bool,
}

impl MuxCarrier {
    pub(crate) fn new(config: &Config, keep_alive: bool, now: Instant) -> Self {
        let mux = ssm_smux::Config {
            max_streams: config.connections_max,
            receive_limit: config.receive_limit,
            ..ssm_smux::Config::default()
        };
        let mux = if keep_alive { mux.with_keep_alive() } else { mux };
        Self {
            mux: Mux::new(Side::Client, mux, now),
            streams: BTreeMap::new(),
            schedule: Schedule::new(1024),
            dirty: Vec::new(),
            half_closed: HalfClosed::new(config.half_close_grace),
            refusals: 0,
            waiting: 0,
            connections_max: config.connections_max,
            stream_limit: config.stream_limit,
            receive_limit: config.receive_limit,
            throttled: false,
            held_up: false,
        }
    }

    /// Number of connections.
    pub(crate) fn len(&self) -> usize {
        self.streams.len()
    }

    /// Whether another connection fits. One that is over counts until the agent has been told.
    pub(crate) fn is_free(&self) -> bool {
        self.mux.stream_count() < self.connections_max
    }

    /// Bytes that wait to be written.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.waiting
    }

    pub(crate) fn add(&mut self, shared: &mut Shared, now: Instant, incoming: Incoming) {
        let id = match self.mux.open(now) {
            Ok(id) => id,
            Err(error) => {
                tracing::warn!(%error, connection = incoming.number, "a connection cannot be carried");
                let connection = incoming.number;
                incoming.refuse(shared.gone());
                shared.notify(Notice::Refused { connection });
                return shared.notify(Notice::Closed { connection, sent: 0, received: 0 });
            }
        };
        let key = key(id);
        let connection = Connection::new(incoming, shared, key);
        self.waiting += connection.pending_len();
        let stream = Stream {
            id,
            connection,
            last: LastBytes::Outward,
            heard: now,
            taken: now,
            answered: false,
            refused: false,
        };
        self.streams.insert(key, stream);
        self.schedule.ready(id);
        self.dirty.push(key);
    }

    /// A payload of the agent.
    pub(crate) fn handle_input(&mut self, payload: Bytes, now: Instant) -> Result<(), FrameError> {
        let result = self.mux.handle_input(payload);
        while let Some(event) = self.mux.poll_event() {
            match event {
                Event::Data { id, data } => self.handle_data(id, data, now),
                Event::Finished { id } => self.handle_finished(id),
                Event::Opened { id } => self.mux.forget(id),
                Event::PeerSilent => tracing::warn!("the agent's multiplexer is silent"),
            }
        }
        result
    }

    /// The agent could not connect for some stream; its end says for which.
    pub(crate) fn refused(&mut self) {
        self.refusals += 1;
    }

    /// The session is over: what waits is written, and then every connection that has not ended is reset.
    pub(crate) fn end(&mut self) {
        for (key, stream) in &mut self.streams {
            stream.connection.breaking();
            self.dirty.push(*key);
        }
    }

    /// Leaves every connection that is left; those whose destination has not ended are reset.
    pub(crate) fn leave_all(&mut self, shared: &mut Shared) {
        while let Some((key, stream)) = self.streams.first_key_value() {
            let ended = stream.connection.output == Output::Ended;
            let leave = if ended { Leave::Close } else { Leave::Reset(shared.gone()) };
            self.remove(shared, *key, leave);
        }
    }

    pub(crate) fn turn<C: ControlPlane>(
        &mut self,
        session: &mut Session<C>,
        shared: &mut Shared,
        cx: &mut Context<'_>,
        now: Instant,
    ) {
        self.mux.handle_timeout(now);
        while let Some(key) = self.half_closed.expire(now) {
            self.let_go(key);
        }
        self.take_woken(shared);
        while let Some(key) = self.dirty.pop() {
            self.write(shared, key, now);
        }
        if self.waiting > shared.config.hard_limit {
            self.reset_fullest(shared);
        }
        self.unthrottle();
        self.outbound(session, shared, cx, now);
    }

    /// When [`turn`](Self::turn) has to be called at the latest.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        [self.mux.poll_timeout(), self.half_closed.deadline()].into_iter().flatten().min()
    }

    /// Resets the connection that the most bytes wait for.
    pub(crate) fn reset_fullest(&mut self, shared: &mut Shared) {
        if let Some((key, stream)) = self.fullest() {
            shared.notify(Notice::Overfull { connection: stream.connection.number() });
            self.remove(shared, key, Leave::Reset(TunnelError::Overfull));
        }
    }

    fn fullest(&self) -> Option<(u64, &Stream)> {
        let (key, stream) = self.streams.iter().max_by_key(|(_, stream)| stream.connection.pending_len())?;
        Some((*key, stream))
    }

    /// Since when the program of the fullest connection has taken nothing, if others cannot go on for that reason.
    pub(crate) fn held_up_since(&self) -> Option<Instant> {
        if self.waiting <= self.receive_limit {
            return None;
        }
        let (_, fullest) = self.fullest()?;
        let others = self.held_up || self.streams.values().any(|stream| stream.misses_bytes(fullest.heard));
        others.then_some(fullest.taken)
    }

    fn handle_data(&mut self, id: StreamId, data: Bytes, now: Instant) {
        let key = key(id);
        let Some(stream) = self.streams.get_mut(&key) else { return self.mux.consumed(id, data.len()) };
        if stream.connection.output != Output::Open {
            return self.mux.consumed(id, data.len());
        }
        self.waiting += data.len();
        stream.answered = true;
        stream.last = LastBytes::Inward;
        stream.heard = now;
        if stream.connection.pending_len() == 0 {
            stream.taken = now;
        }
        stream.connection.push(data);
        self.half_closed.heard(now, key);
        self.dirty.push(key);
    }

    /// The agent has closed the destination, in both directions.
    fn handle_finished(&mut self, id: StreamId) {
        let key = key(id);
        self.mux.finish(id);
        self.half_closed.forget(key);
        if let Some(stream) = self.streams.get_mut(&key) {
            if !stream.answered && self.refusals > 0 {
                self.refusals -= 1;
                stream.refused = true;
            }
            stream.connection.ending();
            self.dirty.push(key);
        }
    }

    /// The time of a half-closed connection is up: the agent is told, which ends the other direction too.
    fn let_go(&mut self, key: u64) {
        if let Some(stream) = self.streams.get_mut(&key) {
            self.mux.finish(stream.id);
            stream.connection.ending();
            self.dirty.push(key);
        }
    }

    fn take_woken(&mut self, shared: &Shared) {
        while let Some(key) = shared.list.pop() {
            let Some(stream) = self.streams.get_mut(&key) else { continue };
            stream.connection.taken();
            self.dirty.push(key);
            self.schedule.ready(stream.id);
        }
    }

    fn write(&mut self, shared: &mut Shared, key: u64, now: Instant) {
        let Some(stream) = self.streams.get_mut(&key) else { return };
        if stream.refused {
            shared.notify(Notice::Refused { connection: stream.connection.number() });
            return self.remove(shared, key, Leave::Reset(TunnelError::Refused));
        }
        match stream.connection.write_pending() {
            Ok(written) => {
                self.waiting -= written;
                self.mux.consumed(stream.id, written);
                if written > 0 {
                    stream.taken = now;
                }
            }
            Err(error) => {
                tracing::debug!(%error, connection = stream.connection.number(), "the local program is gone");
                return self.remove(shared, key, Leave::Reset(TunnelError::Gone));
            }
        }
        match stream.connection.output {
            Output::Ended => self.linger(shared, key, now),
            Output::Broken => {
                let gone = shared.gone();
                self.remove(shared, key, Leave::Reset(gone));
            }
            Output::Open | Output::Ending | Output::Breaking => {}
        }
    }

    /// Both directions of the destination are over. Closing at once could take unread bytes from the program, so its own end
    /// is awaited, for a while.
    fn linger(&mut self, shared: &mut Shared, key: u64, now: Instant) {
        let Some(stream) = self.streams.get_mut(&key) else { return };
        match stream.connection.input {
            Input::Ended => return self.remove(shared, key, Leave::Close),
            Input::Open => {
                stream.connection.input = Input::Discarded;
                if let Some(oldest) = self.half_closed.hold(now, key, LastBytes::Outward) {
                    self.let_go(oldest);
                }
            }
            Input::Discarded if !self.half_closed.holds(key) => {
                return self.remove(shared, key, Leave::Close);
            }
            Input::Discarded => {}
        }
        if self.streams.get_mut(&key).is_some_and(|stream| stream.connection.discard()) {
            self.remove(shared, key, Leave::Close);
        }
    }

    fn outbound<C: ControlPlane>(
        &mut self,
        session: &mut Session<C>,
        shared: &mut Shared,
        cx: &mut Context<'_>,
        now: Instant,
    ) {
        self.schedule.set_quantum(session.payload_len());
        let mut bytes = 0;
        for _ in 0..OUTBOUND_BUDGET {
            let Poll::Ready(room) = session.poll_room(cx) else { return };
            self.take_woken(shared);
            let next = match room {
                Room::Open => self.schedule.next(),
                Room::Reserve => self.schedule.next_sparse(),
            };
            match next {
                Some(id) => bytes += self.read(session, shared, id, room, now),
                None if self.send_control(session) => {}
                None => return,
            }
            if bytes >= OUTBOUND_BYTES {
                break;
            }
        }
        cx.waker().wake_by_ref();
    }

    /// Sends the multiplexer's own frames alone, as many as fit one message; false when there were none.
    fn send_control<C: ControlPlane>(&mut self, session: &mut Session<C>) -> bool {
        if self.mux.control_len() == 0 {
            return false;
        }
        let mut buf = session.buffer();
        self.put_control(&mut buf, session.payload_len());
        send(session, PayloadType::Output, buf);
        true
    }

    /// Puts the multiplexer's own frames behind what `buf` holds, as many as fit `payload_len`.
    fn put_control(&mut self, buf: &mut MessageBuf, payload_len: usize) {
        while buf.len() + HEADER_LEN <= payload_len.max(HEADER_LEN)
            && let Some(header) = self.mux.poll_transmit()
        {
            buf.append(&header);
        }
    }

    /// Reads one chunk of one stream and sends it, with frames of the multiplexer behind it. Returns its length. A stream that
    /// gave one stands in line again.
    fn read<C: ControlPlane>(
        &mut self,
        session: &mut Session<C>,
        shared: &mut Shared,
        id: StreamId,
        room: Room,
        now: Instant,
    ) -> usize {
        let key = key(id);
        let Some(stream) = self.streams.get_mut(&key) else { return 0 };
        if stream.connection.input != Input::Open {
            return 0;
        }
        let full = stream.connection.pending_len() > self.stream_limit;
        if full || self.waiting > self.receive_limit {
            self.throttled = true;
            self.held_up |= !full;
            return 0;
        }
        let mut buf = session.buffer();
        let control = HEADER_LEN * self.mux.control_len().min(CONTROL_BEHIND_DATA);
        let fits = session.payload_len().saturating_sub(self.mux.data_overhead(id) + control).max(1);
        let most = match room {
            Room::Open => fits,
            Room::Reserve => fits.min(Schedule::SPARSE_LEN),
        };
        match stream.connection.read(&mut buf, most) {
            Chunk::Data(len) => match self.mux.push(id, len) {
                Ok(header) => {
                    buf.prepend(&header);
                    stream.last = LastBytes::Outward;
                    self.put_control(&mut buf, session.payload_len());
                    self.schedule.sent(id, buf.len());
                    send(session, PayloadType::Output, buf);
                    return len;
                }
                Err(error) => {
                    tracing::debug!(%error, connection = stream.connection.number(), "the far side takes no more");
                    stream.connection.input = Input::Discarded;
                    session.recycle(buf);
                }
            },
            Chunk::Nothing => session.recycle(buf),
            Chunk::End => {
                session.recycle(buf);
                stream.connection.input = Input::Ended;
                let last = stream.last;
                if let Some(oldest) = self.half_closed.hold(now, key, last) {
                    self.let_go(oldest);
                }
            }
            Chunk::Broken(error) => {
                session.recycle(buf);
                tracing::debug!(%error, connection = stream.connection.number(), "the local connection is broken");
                self.remove(shared, key, Leave::Reset(TunnelError::Gone));
            }
        }
        0
    }

    /// Lets streams be read again when little enough waits.
    fn unthrottle(&mut self) {
        if !self.throttled || self.waiting > self.receive_limit {
            return;
        }
        self.throttled = false;
        self.held_up = false;
        for stream in self.streams.values() {
            if stream.connection.pending_len() > self.stream_limit {
                self.throttled = true;
            } else {
                self.schedule.ready(stream.id);
            }
        }
    }

    fn remove(&mut self, shared: &mut Shared, key: u64, leave: Leave) {
        let Some(stream) = self.streams.remove(&key) else { return };
        self.half_closed.forget(key);
        self.waiting -= stream.connection.pending_len();
        self.mux.forget(stream.id);
        self.schedule.forget(stream.id);
        let connection = stream.connection.number();
        let (sent, received) = stream.connection.totals();
        match leave {
            Leave::Reset(why) => stream.connection.reset(why),
            Leave::Close => drop(stream),
        }
        shared.notify(Notice::Closed { connection, sent, received });
    }
}

impl Stream {
    /// Whether its program has taken everything and more is likely to be on its way: an answer, or the rest of what was coming when
    /// reading stopped.
    fn misses_bytes(&self, stopped: Instant) -> bool {
        self.connection.pending_len() == 0
            && self.connection.output == Output::Open
            && (self.last == LastBytes::Outward || self.heard + RECENT > stopped)
    }
}

/// How a local connection is left.
#[derive(Debug)]
enum Leave {
    Close,
    Reset(TunnelError),
}

fn key(id: StreamId) -> u64 {
    u64::from(u32::from(id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::LocalEnd;

    #[test]
    fn a_connection_that_cannot_be_carried_is_told_as_one_that_has_ended() {
        let now = crate::lane::now();
        let mut shared = Shared::new(Config::default());
        let mut carrier = MuxCarrier::new(&shared.config, false, now);
        carrier.handle_input(Bytes::from_static(b"this is no multiplexer"), now).unwrap_err();
        let (_program, end) = tokio::io::duplex(16);
        carrier.add(&mut shared, now, Incoming::plain(LocalEnd::Other(Box::pin(end)), 7));
        assert_eq!(carrier.len(), 0);
        assert!(matches!(shared.poll_notice(), Some(Notice::Refused { connection: 7 })));
        assert!(matches!(shared.poll_notice(), Some(Notice::Closed { connection: 7, sent: 0, received: 0 })));
    }
}
