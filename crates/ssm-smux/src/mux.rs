//! [`Mux`]: which streams there are, what goes out for them and what came in.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::ops::Deref;
use std::time::Instant;

use bytes::Bytes;

use crate::frame::{Frame, HEADER_LEN, Parser, Piece, StreamId};
use crate::stream::{Local, Peer, Stream};
use crate::{Config, FrameError, OpenError, WriteError};

/// Which end of the session this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Opens streams. The user's end of a port session.
    Client,
    /// Accepts streams. The agent's end.
    Server,
}

/// Something the owner of a [`Mux`] has to know, from [`Mux::poll_event`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The peer opened a stream. Server side only.
    Opened {
        /// The new stream.
        id: StreamId,
    },
    /// Bytes of a stream, in order. Give them back with [`Mux::consumed`] once they are written.
    Data {
        /// The stream they belong to.
        id: StreamId,
        /// A slice of what was passed to [`Mux::handle_input`], never empty, never joined.
        data: Bytes,
    },
    /// The peer closed the whole stream: no data follows, and what is still sent is thrown away at
    /// the other end. Answer with [`Mux::finish`] if that has not happened.
    Finished {
        /// The stream that ended.
        id: StreamId,
    },
    /// Not one byte came for [`Config::peer_timeout`]. AWS's programs end the session at this point
    /// (smux session.go `keepalive`). Comes once.
    PeerSilent,
}

/// The bytes in front of a piece of data, from [`Mux::push`]: its header, behind the SYN of the stream
/// when this is the first data. Dereferences to the 8 or 16 bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct DataHeader {
    bytes: [u8; 2 * HEADER_LEN],
    start: usize,
}

impl DataHeader {
    /// The most bytes there can be: a SYN and a header.
    pub const MAX_LEN: usize = 2 * HEADER_LEN;

    fn new(syn: Option<[u8; HEADER_LEN]>, psh: [u8; HEADER_LEN]) -> Self {
        let mut bytes = [0; 2 * HEADER_LEN];
        bytes[HEADER_LEN..].copy_from_slice(&psh);
        let Some(syn) = syn else { return Self { bytes, start: HEADER_LEN } };
        bytes[..HEADER_LEN].copy_from_slice(&syn);
        Self { bytes, start: 0 }
    }
}

impl Deref for DataHeader {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}

impl fmt::Debug for DataHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// Streams over one ordered byte stream. Makes and reads headers, never copies payload, performs no
/// IO and reads no clock.
///
/// The owner
/// 1. sends what [`push`](Self::push), [`take_fin`](Self::take_fin) and
///    [`poll_transmit`](Self::poll_transmit) return in the order of the calls;
/// 2. calls [`poll_event`](Self::poll_event) until `None` after every
///    [`handle_input`](Self::handle_input) and [`handle_timeout`](Self::handle_timeout), so that the
///    events held are never more than one input made;
/// 3. calls [`handle_timeout`](Self::handle_timeout) at [`poll_timeout`](Self::poll_timeout), and
///    [`poll_transmit`](Self::poll_transmit) until `None` whenever it can send;
/// 4. ends the session after a [`FrameError`]. Every later call that could fail returns it again.
#[derive(Debug)]
pub struct Mux {
    side: Side,
    config: Config,
    streams: BTreeMap<StreamId, Stream>,
    /// The id of the next stream of our own, while there is one.
    next_id: Option<u32>,

    /// Streams whose SYN waits for data, by deadline and thereby by id.
    held: VecDeque<(Instant, StreamId)>,
    /// SYN and FIN of live streams, each at most once.
    control: VecDeque<Frame>,
    /// Streams of the peer that were not accepted and get a FIN.
    refused: VecDeque<StreamId>,
    nop_wanted: bool,

    parser: Parser,
    events: VecDeque<Event>,
    unconsumed: usize,
    dead: Option<FrameError>,

    nop_at: Option<Instant>,
    silence_at: Option<Instant>,
    /// Whether anything came since the last look-out for a silent peer.
    heard: bool,
}

impl Mux {
    /// A multiplexer without streams. Keep-alive, where the configuration has it on, counts from `now`.
    pub fn new(side: Side, config: Config, now: Instant) -> Self {
        Self {
            side,
            nop_at: config.nop_interval.map(|interval| now + interval),
            silence_at: config.peer_timeout.map(|timeout| now + timeout),
            config,
            streams: BTreeMap::new(),
            next_id: Some(FIRST_ID),
            held: VecDeque::new(),
            control: VecDeque::new(),
            refused: VecDeque::new(),
            nop_wanted: false,
            parser: Parser::default(),
            events: VecDeque::new(),
            unconsumed: 0,
            dead: None,
            heard: false,
        }
    }

    /// Opens a stream. Its SYN leaves with the first data, or alone after [`Config::syn_delay`]; there
    /// is no answer to it, so data may be pushed at once.
    ///
    /// The agent dials the destination when the SYN arrives, whether or not data follows.
    ///
    /// # Errors
    /// When there is no room or no id for another stream, on the server side, and after a
    /// [`FrameError`].
    pub fn open(&mut self, now: Instant) -> Result<StreamId, OpenError> {
        if let Some(error) = self.dead {
            return Err(OpenError::Dead(error));
        }
        if self.side == Side::Server {
            return Err(OpenError::ServerSide);
        }
        if self.streams.len() >= self.config.max_streams {
            return Err(OpenError::TooManyStreams);
        }
        let number = self.next_id.ok_or(OpenError::IdsExhausted)?;
        self.next_id = number.checked_add(ID_STEP);
        let id = StreamId::from(number);
        self.streams.insert(id, Stream::outgoing());
        if self.config.syn_delay.is_zero() {
            self.control.push_back(Frame::Syn(id));
        } else {
            self.held.push_back((now + self.config.syn_delay, id));
        }
        Ok(id)
    }

    /// Returns the bytes to send right in front of `len` bytes of data: a PSH header, and in front of
    /// it the SYN if that has not gone out.
    ///
    /// # Errors
    /// When the stream is not open in this direction, when `len` is more than
    /// [`Config::max_frame`], and after a [`FrameError`].
    #[inline]
    pub fn push(&mut self, id: StreamId, len: usize) -> Result<DataHeader, WriteError> {
        if let Some(error) = self.dead {
            return Err(WriteError::Dead(error));
        }
        let max = self.config.max_frame;
        let length = u16::try_from(len).ok().filter(|length| *length <= max);
        let length = length.ok_or(WriteError::TooLong { max })?;
        let stream = self.streams.get_mut(&id).ok_or(WriteError::UnknownStream)?;
        if stream.peer == Peer::Finished {
            return Err(WriteError::PeerFinished);
        }
        let syn = match stream.local {
            Local::Open => None,
            Local::Unannounced => {
                stream.local = Local::Open;
                self.withdraw_syn(id);
                Some(Frame::Syn(id).encode())
            }
            Local::Finishing | Local::Finished => return Err(WriteError::Finished),
        };
        Ok(DataHeader::new(syn, Frame::Psh(id, length).encode()))
    }

    /// How many bytes [`push`](Self::push) will put in front of the next data of this stream: 8, or 16
    /// while the SYN has not gone out.
    pub fn data_overhead(&self, id: StreamId) -> usize {
        match self.streams.get(&id) {
            Some(stream) if stream.local == Local::Unannounced => DataHeader::MAX_LEN,
            _ => HEADER_LEN,
        }
    }

    /// Closes the stream: queues a FIN, once. Data that arrives from now on is thrown away, as the peer
    /// closes its end altogether when it sees the FIN (agent port_mux.go `handleDataTransfer`).
    /// [`Event::Finished`] still comes. Nothing happens for an unknown stream.
    ///
    /// The id stays known until the peer has sent its FIN and all data was given back.
    pub fn finish(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        match stream.local {
            Local::Unannounced => {
                self.withdraw_syn(id);
                self.control.push_back(Frame::Syn(id));
            }
            Local::Open => {}
            Local::Finishing | Local::Finished => return,
        }
        self.control.push_back(Frame::Fin(id));
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.local = Local::Finishing;
        }
    }

    /// Takes a queued FIN out of its turn, so that it can travel behind the stream's last data. `None`
    /// when there is none, or when the SYN has not gone out before it.
    pub fn take_fin(&mut self, id: StreamId) -> Option<[u8; HEADER_LEN]> {
        let fin = self.control.iter().rposition(|frame| *frame == Frame::Fin(id))?;
        if self.control.range(..fin).any(|frame| *frame == Frame::Syn(id)) {
            return None;
        }
        self.control.remove(fin);
        self.fin_sent(id);
        Some(Frame::Fin(id).encode())
    }

    /// Closes the stream like [`finish`](Self::finish) and drops all interest in it: its events are
    /// removed, its unconsumed bytes count as given back, and it is gone as soon as the FIN has left.
    /// A stream whose SYN has not left is gone at once and the peer never hears of it.
    pub fn forget(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        self.unconsumed -= stream.unconsumed;
        stream.unconsumed = 0;
        stream.peer = Peer::Ignored;
        self.events.retain(|event| event.stream() != Some(id));
        match stream.local {
            Local::Unannounced => {
                self.withdraw_syn(id);
                self.streams.remove(&id);
            }
            Local::Open => self.finish(id),
            Local::Finishing => {}
            Local::Finished => self.remove_if_done(id),
        }
    }

    /// Gives back `len` bytes of [`Event::Data`]: they are written or dropped, and no longer held. More
    /// than the stream has is taken as all.
    pub fn consumed(&mut self, id: StreamId, len: usize) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let len = len.min(stream.unconsumed);
        stream.unconsumed -= len;
        self.unconsumed -= len;
        if stream.is_done() {
            self.streams.remove(&id);
        }
    }

    /// Asks for a NOP, which keeps the session from being idle. Several requests before it leaves are
    /// one.
    pub fn queue_nop(&mut self) {
        self.nop_wanted = true;
    }

    /// Takes the next part of the byte stream, cut anywhere.
    ///
    /// Data for streams that are unknown or closed is skipped without an error, as are a second SYN or
    /// FIN. Nothing is copied and nothing is held back but an unfinished header.
    ///
    /// # Errors
    /// At the first frame that is not valid, and in every call after that. Events of the frames in
    /// front of it stand.
    pub fn handle_input(&mut self, mut input: Bytes) -> Result<(), FrameError> {
        if let Some(error) = self.dead {
            return Err(error);
        }
        self.heard |= !input.is_empty();
        loop {
            match self.parser.next(&mut input) {
                Ok(Some(piece)) => self.handle_piece(piece),
                Ok(None) => return Ok(()),
                Err(error) => {
                    self.dead = Some(error);
                    return Err(error);
                }
            }
        }
    }

    /// Serves every deadline that is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(&(due, id)) = self.held.front()
            && due <= now
        {
            self.held.pop_front();
            self.control.push_back(Frame::Syn(id));
        }
        if self.nop_at.is_some_and(|due| due <= now) {
            self.nop_wanted = true;
            self.nop_at = self.config.nop_interval.map(|interval| now + interval);
        }
        if self.silence_at.is_some_and(|due| due <= now) {
            let silent = !self.heard && self.unconsumed < self.config.receive_limit;
            self.heard = false;
            self.silence_at = self.config.peer_timeout.filter(|_| !silent).map(|timeout| now + timeout);
            if silent {
                self.events.push_back(Event::PeerSilent);
            }
        }
    }

    /// The next header that leaves without data: SYN, FIN or NOP.
    pub fn poll_transmit(&mut self) -> Option<[u8; HEADER_LEN]> {
        if self.dead.is_some() {
            return None;
        }
        if let Some(frame) = self.control.pop_front() {
            match frame {
                Frame::Syn(id) => self.syn_sent(id),
                Frame::Fin(id) => self.fin_sent(id),
                Frame::Psh(..) | Frame::Nop => {}
            }
            return Some(frame.encode());
        }
        if let Some(id) = self.refused.pop_front() {
            return Some(Frame::Fin(id).encode());
        }
        std::mem::take(&mut self.nop_wanted).then(|| Frame::Nop.encode())
    }

    /// How many headers [`poll_transmit`](Self::poll_transmit) would give, so that room can be left for them behind data.
    pub fn control_len(&self) -> usize {
        if self.dead.is_some() {
            return 0;
        }
        self.control.len() + self.refused.len() + usize::from(self.nop_wanted)
    }

    /// What happened next, in the order in which it came over the wire.
    #[inline]
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout); `None` while nothing waits for time.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.dead.is_some() {
            return None;
        }
        let syn_at = self.held.front().map(|(due, _)| *due);
        [syn_at, self.nop_at, self.silence_at].into_iter().flatten().min()
    }

    /// Bytes handed out and not yet given back, of all streams. The owner stops reading above a limit
    /// of its own: version 1 has no window per stream.
    pub fn unconsumed(&self) -> usize {
        self.unconsumed
    }

    /// Bytes handed out and not yet given back, of one stream; 0 for an unknown one.
    pub fn unconsumed_of(&self, id: StreamId) -> usize {
        self.streams.get(&id).map_or(0, |stream| stream.unconsumed)
    }

    /// How many streams count against [`Config::max_streams`].
    pub fn stream_count(&self) -> usize {
        self.streams.len()
    }

    #[inline]
    fn handle_piece(&mut self, piece: Piece) {
        match piece {
            Piece::Data(id, data) => self.handle_data(id, data),
            Piece::Syn(id) => self.handle_syn(id),
            Piece::Fin(id) => self.handle_fin(id),
            Piece::Nop => {}
        }
    }

    #[inline]
    fn handle_data(&mut self, id: StreamId, data: Bytes) {
        if let Some(stream) = self.streams.get_mut(&id)
            && stream.receives()
        {
            stream.unconsumed += data.len();
            self.unconsumed += data.len();
            self.events.push_back(Event::Data { id, data });
        }
    }

    /// The parity of the id is not looked at, as the agent does not either (smux session.go `recvLoop`).
    fn handle_syn(&mut self, id: StreamId) {
        if self.streams.contains_key(&id) {
            return;
        }
        if self.side == Side::Server && self.streams.len() < self.config.max_streams {
            self.streams.insert(id, Stream::incoming());
            self.events.push_back(Event::Opened { id });
        } else if self.refused.len() < MAX_REFUSED {
            self.refused.push_back(id);
        }
    }

    fn handle_fin(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.get_mut(&id)
            && stream.peer == Peer::Open
        {
            stream.peer = Peer::Finished;
            self.events.push_back(Event::Finished { id });
            self.remove_if_done(id);
        }
    }

    /// Takes the SYN of an unannounced stream from wherever it waits.
    fn withdraw_syn(&mut self, id: StreamId) {
        if let Ok(index) = self.held.binary_search_by_key(&id, |(_, id)| *id) {
            self.held.remove(index);
        } else if let Some(index) = self.control.iter().position(|frame| *frame == Frame::Syn(id)) {
            self.control.remove(index);
        }
    }

    fn syn_sent(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.get_mut(&id)
            && stream.local == Local::Unannounced
        {
            stream.local = Local::Open;
        }
    }

    fn fin_sent(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.local = Local::Finished;
            self.remove_if_done(id);
        }
    }

    fn remove_if_done(&mut self, id: StreamId) {
        if self.streams.get(&id).is_some_and(Stream::is_done) {
            self.streams.remove(&id);
        }
    }
}

impl Event {
    fn stream(&self) -> Option<StreamId> {
        match self {
            Self::Opened { id } | Self::Data { id, .. } | Self::Finished { id } => Some(*id),
            Self::PeerSilent => None,
        }
    }
}

/// smux counts from 1 and adds 2 before the first use (smux session.go `OpenStream`).
const FIRST_ID: u32 = 3;
const ID_STEP: u32 = 2;

/// Refusals that wait to be sent. A peer that opens more streams in the meantime gets no answer to them.
const MAX_REFUSED: usize = 1024;

#[cfg(test)]
mod tests;
