//! Received stream messages: which one is next, and those that came too early.

use std::collections::BTreeMap;

use bytes::Bytes;
use ssm_proto::Message;

/// The receiving half of the reliability layer.
#[derive(Debug)]
pub(crate) struct RecvQueue {
    expected: i64,
    parked: BTreeMap<i64, Message>,
    parked_bytes: usize,
    max: usize,
    max_bytes: usize,
}

/// What to do with a message.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// It is the next one: acknowledge and deliver it, then [`RecvQueue::next_parked`].
    InOrder(Message),
    /// It was there before: acknowledge it again, because the first acknowledgement may be lost. (AWS's plugin does not,
    /// and its sessions stall; AWS's agent does: `datachannel.go` `handleStreamDataMessage`.)
    Duplicate,
    /// It is kept for later: acknowledge it.
    Parked,
    /// There is no room: leave it unacknowledged, so that it comes again.
    Refused,
}

/// A small payload would keep the whole read buffer alive that it is a slice of.
const COPY_BELOW: usize = 4096;

impl RecvQueue {
    pub(crate) fn new(max: usize, max_bytes: usize) -> Self {
        Self { expected: 0, parked: BTreeMap::new(), parked_bytes: 0, max, max_bytes }
    }

    /// Judges a message. An in-order one counts as taken.
    pub(crate) fn accept(&mut self, mut message: Message) -> Verdict {
        let sequence = message.header.sequence;
        if sequence == self.expected {
            self.expected += 1;
            return Verdict::InOrder(message);
        }
        if self.has(sequence) {
            return Verdict::Duplicate;
        }
        let far = i64::try_from(self.max).unwrap_or(i64::MAX);
        if sequence - self.expected > far || self.parked_bytes + message.payload.len() > self.max_bytes {
            return Verdict::Refused;
        }
        if message.payload.len() < COPY_BELOW {
            message.payload = Bytes::copy_from_slice(&message.payload);
        }
        self.parked_bytes += message.payload.len();
        self.parked.insert(sequence, message);
        Verdict::Parked
    }

    /// Whether this message was taken before.
    pub(crate) fn has(&self, sequence: i64) -> bool {
        sequence < self.expected || self.parked.contains_key(&sequence)
    }

    /// The next message, if it was parked. It was acknowledged when it came.
    pub(crate) fn next_parked(&mut self) -> Option<Message> {
        let message = self.parked.remove(&self.expected)?;
        self.expected += 1;
        self.parked_bytes -= message.payload.len();
        Some(message)
    }

    /// Messages behind a gap.
    pub(crate) fn parked(&self) -> usize {
        self.parked.len()
    }
}

#[cfg(test)]
mod tests {
    use ssm_proto::{Header, MessageId, MessageType, PayloadType};

    use super::*;

    fn message(sequence: i64, len: usize) -> Message {
        let id = MessageId::from_bytes([0; 16]);
        Message {
            header: Header::stream(MessageType::OutputStreamData, PayloadType::Output, sequence, id, 1),
            payload: Bytes::from(vec![0; len]),
        }
    }

    #[test]
    fn early_messages_wait_for_the_gap() {
        let mut queue = RecvQueue::new(10, 1000);
        assert!(matches!(queue.accept(message(2, 1)), Verdict::Parked));
        assert!(matches!(queue.accept(message(1, 1)), Verdict::Parked));
        assert!(matches!(queue.accept(message(1, 1)), Verdict::Duplicate));
        assert!(queue.next_parked().is_none());
        assert!(matches!(queue.accept(message(0, 1)), Verdict::InOrder(_)));
        assert_eq!(queue.next_parked().unwrap().header.sequence, 1);
        assert_eq!(queue.next_parked().unwrap().header.sequence, 2);
        assert!(queue.next_parked().is_none());
        assert!(matches!(queue.accept(message(2, 1)), Verdict::Duplicate));
        assert_eq!((queue.expected, queue.parked(), queue.parked_bytes), (3, 0, 0));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let mut queue = RecvQueue::new(10, 100);
        assert!(matches!(queue.accept(message(11, 1)), Verdict::Refused));
        assert!(matches!(queue.accept(message(i64::MAX, 1)), Verdict::Refused));
        assert!(matches!(queue.accept(message(10, 90)), Verdict::Parked));
        assert!(matches!(queue.accept(message(9, 11)), Verdict::Refused));
        assert!(matches!(queue.accept(message(9, 10)), Verdict::Parked));
    }

    #[test]
    fn a_small_message_that_waits_does_not_keep_its_frame_alive_and_a_large_one_is_not_copied() {
        for (len, is_copied) in [(COPY_BELOW - 1, true), (COPY_BELOW, false), (COPY_BELOW + 1, false)] {
            let mut queue = RecvQueue::new(10, 10_000);
            let early = message(1, len);
            let frame = early.payload.clone();
            assert!(matches!(queue.accept(early), Verdict::Parked));
            queue.accept(message(0, 1));
            let parked = queue.next_parked().unwrap().payload;
            assert_eq!(parked, frame);
            assert_eq!(parked.as_ptr() != frame.as_ptr(), is_copied, "{len} bytes");
        }
    }
}
