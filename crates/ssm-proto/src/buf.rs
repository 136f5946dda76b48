//! Outgoing payloads with room around them.

use bytes::buf::Limit;
use bytes::{Buf as _, BufMut, Bytes, BytesMut};
use sha2::{Digest as _, Sha256};

use crate::{HEADER_LEN, Header, Layout};

/// Bytes kept free in front of a payload: the message header, and 16 for what the layers in between add, which is two
/// multiplexer headers in port sessions and a nonce of 12 in encrypted ones (never both).
pub const HEADROOM: usize = HEADER_LEN + 16;

/// Bytes kept free behind a payload: an authentication tag, or one more multiplexer header.
pub const TAILROOM: usize = 16;

/// An outgoing payload with room in front for every header the lower layers add, so that nothing is copied when they do.
///
/// ```text
/// | headroom: header, then smux headers or nonce | payload | tailroom: tag or smux header |
///                                          start ^         ^ len
/// ```
#[derive(Debug)]
pub struct MessageBuf {
    buf: BytesMut,
    /// Offset of the first byte of payload.
    start: usize,
    /// Offset behind the last byte a reader may fill.
    limit: usize,
}

impl MessageBuf {
    /// A buffer for up to `payload` bytes, in an allocation of its own.
    pub fn with_capacity(payload: usize) -> Self {
        Self::over(BytesMut::with_capacity(HEADROOM + payload + TAILROOM), payload)
    }

    fn over(mut buf: BytesMut, payload: usize) -> Self {
        buf.resize(HEADROOM, 0);
        Self { buf, start: HEADROOM, limit: HEADROOM + payload }
    }

    /// The space that is left for payload, to read from a socket into. It does not grow.
    pub fn spare_mut(&mut self) -> Limit<&mut BytesMut> {
        let room = self.spare_len();
        (&mut self.buf).limit(room)
    }

    /// Bytes of payload that still fit.
    pub fn spare_len(&self) -> usize {
        self.limit.saturating_sub(self.buf.len())
    }

    /// Appends `bytes` to the payload.
    ///
    /// # Panics
    ///
    /// When they do not fit ([`spare_len`](Self::spare_len)).
    pub fn put_slice(&mut self, bytes: &[u8]) {
        assert!(bytes.len() <= self.spare_len(), "payload does not fit its buffer");
        self.buf.extend_from_slice(bytes);
    }

    /// Puts `header` in front of the payload, of which it becomes a part.
    ///
    /// # Panics
    ///
    /// When the headroom is used up: more than [`HEADROOM`] minus [`HEADER_LEN`] bytes in all.
    pub fn prepend(&mut self, header: &[u8]) {
        assert!(header.len() + HEADER_LEN <= self.start, "headroom is used up");
        self.start -= header.len();
        self.buf[self.start..][..header.len()].copy_from_slice(header);
    }

    /// Puts `trailer` behind the payload, of which it becomes a part. The capacity does not limit it.
    pub fn append(&mut self, trailer: &[u8]) {
        self.buf.extend_from_slice(trailer);
        self.limit = self.limit.max(self.buf.len());
    }

    /// The payload so far.
    pub fn payload(&self) -> &[u8] {
        &self.buf[self.start..]
    }

    /// The payload so far, to change in place.
    pub fn payload_mut(&mut self) -> &mut [u8] {
        &mut self.buf[self.start..]
    }

    /// Bytes of payload so far.
    pub fn len(&self) -> usize {
        self.buf.len() - self.start
    }

    /// Whether there is no payload yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Shortens the payload to `len` bytes, if it is longer.
    pub fn truncate(&mut self, len: usize) {
        self.buf.truncate(self.start + len);
    }

    /// Computes digest and length, writes `header` with them in front of the payload, and freezes the message.
    pub fn finish(self, mut header: Header) -> Bytes {
        header.digest = Sha256::digest(self.payload()).into();
        header.payload_len = u32::try_from(self.len()).unwrap_or(u32::MAX);
        self.freeze(&header)
    }

    /// As [`finish`](Self::finish), but hands the buffer back when there is no payload. AWS's serializers refuse to write
    /// such a message, and no stream message may be one (agent `datachannel.go` `SendStreamDataMessage`).
    ///
    /// # Errors
    ///
    /// The buffer itself, when it is empty.
    pub fn try_finish(self, header: Header) -> Result<Bytes, Self> {
        if self.is_empty() { Err(self) } else { Ok(self.finish(header)) }
    }

    /// As [`finish`](Self::finish), with digest and length as `header` has them: for messages that are wrong on purpose,
    /// as the service's publication messages are.
    pub fn finish_verbatim(self, header: &Header) -> Bytes {
        self.freeze(header)
    }

    fn freeze(mut self, header: &Header) -> Bytes {
        let mut head = [0; HEADER_LEN];
        let len = header.encode(&mut head);
        debug_assert!(
            len == header.layout.payload_offset()
                && matches!(header.layout, Layout::Standard | Layout::Service)
        );
        let first = self.start - len;
        self.buf[first..self.start].copy_from_slice(&head[..len]);
        self.buf.advance(first);
        self.buf.freeze()
    }
}

/// Cuts message buffers from larger allocations, so that one allocation serves many small messages.
///
/// A slab is freed when the last message cut from it is dropped, which is when it has been acknowledged.
#[derive(Debug, Default)]
pub struct Slab {
    rest: BytesMut,
}

impl Slab {
    /// Bytes allocated at once: 64 KiB, or four messages where they are larger.
    fn size_for(need: usize) -> usize {
        (64 * 1024).max(4 * need)
    }

    /// A buffer for up to `payload` bytes. Give what it does not use back with [`reclaim`](Self::reclaim).
    pub fn take(&mut self, payload: usize) -> MessageBuf {
        let need = HEADROOM + payload + TAILROOM;
        if self.rest.capacity() < need {
            self.rest = BytesMut::with_capacity(Self::size_for(need));
        }
        MessageBuf::over(std::mem::take(&mut self.rest), payload)
    }

    /// Takes back a buffer that was not used after all.
    pub fn restore(&mut self, buf: MessageBuf) {
        self.rest = buf.buf;
        self.rest.clear();
    }

    /// Cuts `buf` to the length of its payload and keeps the rest of its allocation for the next message.
    pub fn reclaim(&mut self, buf: &mut MessageBuf) {
        let end = (buf.buf.len() + TAILROOM).min(buf.buf.capacity());
        self.rest = buf.buf.split_off(end);
        buf.limit = buf.buf.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MessageId, MessageType, PayloadType};

    fn header() -> Header {
        Header::stream(
            MessageType::InputStreamData,
            PayloadType::Output,
            0,
            MessageId::from_bytes([1; 16]),
            1,
        )
    }

    #[test]
    fn headers_are_put_in_front_without_moving_the_payload() {
        let mut buf = MessageBuf::with_capacity(8);
        buf.put_slice(b"payload!");
        let at = buf.payload().as_ptr();
        buf.prepend(b"12345678");
        buf.prepend(b"abcdefgh");
        let wire = buf.finish(header());
        assert_eq!(&wire[HEADER_LEN..], b"abcdefgh12345678payload!");
        assert_eq!(wire[HEADER_LEN + 16..].as_ptr(), at);
    }

    #[test]
    #[should_panic(expected = "headroom is used up")]
    fn too_much_headroom_is_a_misuse() {
        MessageBuf::with_capacity(0).prepend(&[0; 17]);
    }

    #[test]
    #[should_panic(expected = "headroom is used up")]
    fn far_too_much_headroom_is_a_misuse() {
        MessageBuf::with_capacity(0).prepend(&[0; 1000]);
    }

    #[test]
    fn a_reclaimed_buffer_is_full_and_keeps_its_tailroom() {
        let mut slab = Slab::default();
        let mut buf = slab.take(64);
        buf.put_slice(b"payload");
        slab.reclaim(&mut buf);
        assert_eq!(buf.spare_len(), 0);
        let at = buf.payload().as_ptr();
        buf.append(&[7; TAILROOM]);
        assert_eq!(buf.payload().as_ptr(), at);
        assert_eq!(buf.len(), 7 + TAILROOM);
    }

    #[test]
    fn a_payload_is_changed_in_place_and_shortened() {
        let mut buf = MessageBuf::with_capacity(8);
        buf.put_slice(b"payload");
        buf.payload_mut()[0] = b'P';
        buf.truncate(9);
        assert_eq!(buf.payload(), b"Payload");
        buf.truncate(3);
        assert_eq!(buf.payload(), b"Pay");
    }

    #[test]
    fn what_was_not_used_is_taken_again() {
        let mut slab = Slab::default();
        let buf = slab.take(64);
        let at = buf.payload().as_ptr();
        slab.restore(buf);
        assert_eq!(slab.take(64).payload().as_ptr(), at);
    }

    #[test]
    fn a_slab_holds_64_kib_or_four_messages() {
        assert_eq!([1, 16_384, 16_385, 100_000].map(Slab::size_for), [65_536, 65_536, 65_540, 400_000]);
    }

    /// Until the slab is used up, and for the first message of each.
    #[test]
    fn a_message_never_outgrows_its_part_of_a_slab() {
        let mut slab = Slab::default();
        for len in (0..3_000).step_by(7).chain([70_000, 1]) {
            let mut buf = slab.take(len);
            let at = buf.payload().as_ptr();
            buf.put_slice(&vec![1; len]);
            buf.append(&[2; TAILROOM]);
            assert_eq!(buf.payload().as_ptr(), at, "{len} bytes were moved");
            buf.truncate(len);
            slab.reclaim(&mut buf);
        }
    }

    #[test]
    fn a_reader_cannot_fill_more_than_was_asked_for() {
        let mut buf = MessageBuf::with_capacity(10);
        assert_eq!(buf.spare_mut().remaining_mut(), 10);
        buf.spare_mut().put_slice(b"0123456789");
        assert_eq!(buf.spare_len(), 0);
        assert_eq!(buf.spare_mut().remaining_mut(), 0);
    }

    #[test]
    fn one_slab_serves_many_small_messages() {
        let mut slab = Slab::default();
        let mut first = slab.take(1024);
        first.put_slice(b"x");
        slab.reclaim(&mut first);
        let base = first.payload().as_ptr() as usize;
        let mut messages = vec![first];
        for _ in 0..50 {
            let mut buf = slab.take(1024);
            buf.put_slice(b"y");
            slab.reclaim(&mut buf);
            let offset = buf.payload().as_ptr() as usize - base;
            assert!(offset < 64 * 1024, "a message left the slab");
            messages.push(buf);
        }
        for message in messages {
            assert_eq!(message.finish(header()).len(), HEADER_LEN + 1);
        }
    }

    #[test]
    fn a_buffer_that_was_not_used_is_the_next_one() {
        let mut slab = Slab::default();
        let mut used = slab.take(64);
        slab.reclaim(&mut used);
        let unused = slab.take(64);
        let at = unused.payload().as_ptr();
        slab.restore(unused);
        let next = slab.take(64);
        assert_eq!((next.payload().as_ptr(), next.len()), (at, 0));
    }

    #[test]
    fn the_last_buffer_of_an_allocation_has_its_tailroom_too() {
        for payload in 900..1_100 {
            let mut slab = Slab::default();
            for number in 0..64 {
                let mut buf = slab.take(payload);
                buf.put_slice(&vec![7; payload]);
                slab.reclaim(&mut buf);
                let at = buf.payload().as_ptr();
                buf.append(&[0; TAILROOM]);
                assert_eq!(buf.payload().as_ptr(), at, "buffer {number} of {payload} bytes");
            }
        }
    }
}
