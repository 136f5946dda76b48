//! What a relay does to messages and sockets because of faults.

use ssm_proto::body::{ClientAction, HandshakeRequest};
use ssm_proto::{HEADER_LEN, MessageBuf};
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

use super::{Bytes, BytesMut, CloseCode, Direction, Header, Instant, Message, Relay, Role, Silence};
use crate::fault::{Broken, End, Fate, How, Part, TextBytes};

/// No prefix of this is UTF-8.
const RAW: &[u8] = b"\xff\xfe\x00 this is no text";
/// An action that no client knows.
const NOBODY_KNOWS: &str = "FoldOrigami";

impl Relay {
    /// Decides what becomes of a message while there are faults.
    pub(super) fn forward_faultily(&mut self, direction: Direction, header: &Header, message: Message) {
        let (from, to) = direction.ends();
        let fate = self.faults.judge(direction, header, message.len(), Instant::now());
        let Fate { lost, copies, delay, pause, too_long, broken, .. } = fate;
        if too_long {
            return self.dismiss(Role::Client, CloseCode::Size);
        }
        let takes_it = matches!(
            broken,
            Some(Broken::Session | Broken::Socket(How::Ended | How::Reset | How::Silent(_), _))
        );
        if !lost && !takes_it {
            if let Some(len) = fate.oversize {
                self.deliver_in_parts(to, Message::Binary(Bytes::from(vec![0; len])));
            }
            if fate.text == Some(TextBytes::Raw) {
                self.deliver(to, text(Bytes::from_static(RAW)));
            }
            let message = changed(message, header, &fate);
            for _ in 0..=copies {
                if delay.is_zero() {
                    self.deliver_in_parts(to, message.clone());
                } else {
                    self.hold_back(to, message.clone(), delay);
                }
            }
        }
        if pause {
            self.pause(from);
        }
        if let Some(broken) = broken {
            self.break_it(broken);
        }
    }

    /// Breaks what the clock says.
    pub(super) fn break_what_is_due(&mut self, now: Instant) {
        loop {
            let is_there = |end| match end {
                End::Client => self.client.socket.is_some(),
                End::Agent => self.agent.socket.is_some(),
            };
            let Some(broken) = self.faults.poll_due(now, is_there) else { return };
            self.break_it(broken);
        }
    }

    /// Ends silences that are over, whether or not their fault is still there.
    pub(super) fn end_silences(&mut self, now: Instant) {
        for role in [Role::Client, Role::Agent] {
            if self.peer(role).silence.end().is_some_and(|end| end <= now) {
                self.peer(role).silence = Silence::No;
            }
        }
    }

    fn break_it(&mut self, broken: Broken) {
        let (how, end) = match broken {
            Broken::Socket(how, end) => (how, end),
            Broken::Session => return self.vanish(),
        };
        let role = match end {
            End::Client => Role::Client,
            End::Agent => Role::Agent,
        };
        let Some(socket) = &self.peer(role).socket else { return };
        match how {
            How::Ended => self.detach(role),
            How::Reset => {
                if let Err(error) = socket.get_ref().set_zero_linger() {
                    tracing::debug!(%error, "the socket ends in order");
                }
                self.detach(role);
            }
            How::Silent(time) => {
                let until = time.map_or(Silence::ForGood, |time| Silence::Until(Instant::now() + time));
                self.peer(role).silence = until;
                self.again = true;
            }
            How::Close(code) => self.dismiss(role, code.into()),
        }
    }

    fn vanish(&mut self) {
        self.vanished = true;
        self.again = true;
    }

    /// As [`deliver`](Self::deliver), in WebSocket fragments where that is asked for.
    pub(super) fn deliver_in_parts(&mut self, to: Role, message: Message) {
        let direction = match to {
            Role::Agent => Direction::ClientToAgent,
            Role::Client => Direction::AgentToClient,
        };
        let len = self.faults.fragment(direction).filter(|_| self.peer(to).socket.is_some());
        let (Some(len), Message::Binary(bytes)) = (len, &message) else { return self.deliver(to, message) };
        let count = bytes.len().div_ceil(len).max(1);
        for part in 0..count {
            let data = if part == 0 { Data::Binary } else { Data::Continue };
            let bytes = bytes.slice(part * len..bytes.len().min((part + 1) * len));
            self.deliver(to, Message::Frame(Frame::message(bytes, OpCode::Data(data), part + 1 == count)));
        }
    }
}

fn changed(message: Message, header: &Header, fate: &Fate) -> Message {
    let Message::Binary(mut frame) = message else { return message };
    if fate.unknown_action
        && let Some(changed) = with_unknown_action(&frame, header)
    {
        frame = changed;
    }
    if let Some((part, bit)) = fate.flip {
        frame = flipped(frame, header, part, bit);
    }
    if fate.text.is_some_and(|bytes| bytes == TextBytes::Message) {
        text(frame)
    } else {
        Message::Binary(frame)
    }
}

/// A text frame with these bytes, whatever they are: tungstenite's own type takes UTF-8 alone.
fn text(bytes: Bytes) -> Message {
    Message::Frame(Frame::message(bytes, OpCode::Data(Data::Text), true))
}

/// The same request for one action more.
fn with_unknown_action(frame: &Bytes, header: &Header) -> Option<Bytes> {
    let mut request = HandshakeRequest::decode(frame.get(header.layout.payload_offset()..)?).ok()?;
    request.actions.push(ClientAction::Unknown { action_type: NOBODY_KNOWS.to_owned(), parameters: None });
    let payload = request.encode();
    let mut buf = MessageBuf::with_capacity(payload.len());
    buf.put_slice(&payload);
    Some(buf.finish(*header))
}

/// The frame with one bit flipped.
fn flipped(frame: Bytes, header: &Header, part: Part, bit: u32) -> Bytes {
    let start = header.layout.payload_offset();
    let range = match part {
        Part::Payload if frame.len() > start => start..frame.len(),
        Part::Payload => return frame,
        Part::Header => 0..start.min(HEADER_LEN).min(frame.len()),
    };
    let bit = bit as usize % (8 * range.len());
    let mut frame = BytesMut::from(frame);
    frame[range.start + bit / 8] ^= 1 << (bit % 8);
    frame.freeze()
}
