//! The 8-byte header, and the parser that finds headers and payload in a stream cut anywhere.
//!
//! Knows nothing of streams: whether a frame makes sense is for [`Mux`](crate::Mux) to say.

use std::fmt;

use bytes::{Buf, Bytes};

use crate::FrameError;

/// Bytes of a frame in front of its payload.
pub const HEADER_LEN: usize = 8;

/// The number of a stream. Streams of a client are 3, 5, 7 and so on; an id is used once per session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(u32);

impl From<u32> for StreamId {
    fn from(id: u32) -> Self {
        Self(id)
    }
}

impl From<StreamId> for u32 {
    fn from(id: StreamId) -> Self {
        id.0
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A frame that this side sends. UPD is missing on purpose: newer agents end the session over it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Frame {
    Syn(StreamId),
    Fin(StreamId),
    Psh(StreamId, u16),
    Nop,
}

impl Frame {
    /// The header on the wire. Numbers are little-endian (smux frame.go `rawHeader`).
    pub(crate) fn encode(self) -> [u8; HEADER_LEN] {
        let (command, length, StreamId(id)) = match self {
            Self::Syn(id) => (SYN, 0, id),
            Self::Fin(id) => (FIN, 0, id),
            Self::Psh(id, length) => (PSH, length, id),
            Self::Nop => (NOP, 0, StreamId(0)),
        };
        let [l0, l1] = length.to_le_bytes();
        let [i0, i1, i2, i3] = id.to_le_bytes();
        [VERSION, command, l0, l1, i0, i1, i2, i3]
    }
}

/// What the parser found next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    Syn(StreamId),
    Fin(StreamId),
    Nop,
    /// Some or all of the payload of a PSH frame, never empty.
    Data(StreamId, Bytes),
}

/// Cuts a byte stream into [`Piece`]s. Holds back at most seven bytes of an unfinished header.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    /// The first `held` bytes of a header that went over the end of an input.
    header: [u8; HEADER_LEN],
    held: usize,
    body: Body,
    /// Payload bytes of the current frame that are still to come.
    remaining: usize,
}

/// Whom the payload that comes next belongs to. Means nothing while none is to come.
#[derive(Debug, Clone, Copy, Default)]
enum Body {
    Stream(StreamId),
    #[default]
    Ignored,
}

impl Parser {
    /// Takes the next piece from the front of `input`; `None` when `input` is used up.
    #[inline]
    pub(crate) fn next(&mut self, input: &mut Bytes) -> Result<Option<Piece>, FrameError> {
        loop {
            if self.remaining > 0 {
                if input.is_empty() {
                    return Ok(None);
                }
                let part = input.split_to(self.remaining.min(input.len()));
                self.remaining -= part.len();
                match self.body {
                    Body::Stream(id) => return Ok(Some(Piece::Data(id, part))),
                    Body::Ignored => continue,
                }
            }
            let Some(header) = self.next_header(input) else { return Ok(None) };
            if let Some(piece) = self.begin(header)? {
                return Ok(Some(piece));
            }
        }
    }

    #[inline]
    fn next_header(&mut self, input: &mut Bytes) -> Option<[u8; HEADER_LEN]> {
        if self.held == 0
            && let Some(header) = input.first_chunk().copied()
        {
            input.advance(HEADER_LEN);
            return Some(header);
        }
        let taken = (HEADER_LEN - self.held).min(input.len());
        self.header[self.held..self.held + taken].copy_from_slice(&input[..taken]);
        input.advance(taken);
        self.held += taken;
        if self.held < HEADER_LEN {
            return None;
        }
        self.held = 0;
        Some(self.header)
    }

    /// Checks a header and prepares for its payload.
    #[inline]
    fn begin(&mut self, header: [u8; HEADER_LEN]) -> Result<Option<Piece>, FrameError> {
        let [version, command, l0, l1, i0, i1, i2, i3] = header;
        if version != VERSION {
            return Err(FrameError::Version(version));
        }
        let length = u16::from_le_bytes([l0, l1]);
        let id = StreamId(u32::from_le_bytes([i0, i1, i2, i3]));
        let expect = |expected| {
            if length == expected { Ok(()) } else { Err(FrameError::Length { command, length }) }
        };
        match command {
            SYN => expect(0).map(|()| Some(Piece::Syn(id))),
            FIN => expect(0).map(|()| Some(Piece::Fin(id))),
            NOP => expect(0).map(|()| Some(Piece::Nop)),
            PSH => {
                self.body = Body::Stream(id);
                self.remaining = length.into();
                Ok(None)
            }
            // A window update means nothing in version 1, but the agent's smux skips over one.
            UPD => {
                expect(UPD_LEN)?;
                self.body = Body::Ignored;
                self.remaining = length.into();
                Ok(None)
            }
            _ => Err(FrameError::Command(command)),
        }
    }
}

const VERSION: u8 = 1;
const SYN: u8 = 0;
const FIN: u8 = 1;
const PSH: u8 = 2;
const NOP: u8 = 3;
const UPD: u8 = 4;
const UPD_LEN: u16 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(input: &[u8]) -> Result<Vec<Piece>, FrameError> {
        let mut parser = Parser::default();
        let mut input = Bytes::copy_from_slice(input);
        let mut found = Vec::new();
        while let Some(piece) = parser.next(&mut input)? {
            found.push(piece);
        }
        Ok(found)
    }

    #[test]
    fn item_94_headers_have_the_documented_bytes() {
        let id = StreamId(3);
        assert_eq!(Frame::Syn(id).encode(), [1, 0, 0, 0, 3, 0, 0, 0]);
        assert_eq!(Frame::Fin(id).encode(), [1, 1, 0, 0, 3, 0, 0, 0]);
        assert_eq!(Frame::Psh(id, 2).encode(), [1, 2, 2, 0, 3, 0, 0, 0]);
        assert_eq!(Frame::Psh(StreamId(0x0403_0201), 0x0605).encode(), [1, 2, 5, 6, 1, 2, 3, 4]);
        assert_eq!(Frame::Nop.encode(), [1, 3, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn a_header_cut_in_three_is_put_together() {
        let mut parser = Parser::default();
        for part in [&[1u8, 0, 0][..], &[0, 5], &[1, 0]] {
            assert_eq!(parser.next(&mut Bytes::copy_from_slice(part)), Ok(None));
        }
        let found = parser.next(&mut Bytes::from_static(&[0]));
        assert_eq!(found, Ok(Some(Piece::Syn(StreamId(0x0105)))));
    }

    #[test]
    fn item_96_a_window_update_of_eight_bytes_is_skipped() {
        let mut input = vec![1, 4, 8, 0, 3, 0, 0, 0];
        input.extend([0xff; 8]);
        input.extend(Frame::Nop.encode());
        assert_eq!(pieces(&input), Ok(vec![Piece::Nop]));
    }

    #[test]
    fn item_96_a_window_update_of_another_length_is_an_error() {
        let input = [1, 4, 0, 0, 3, 0, 0, 0];
        assert_eq!(pieces(&input), Err(FrameError::Length { command: 4, length: 0 }));
    }

    #[test]
    fn empty_data_is_nothing() {
        let mut input = Frame::Psh(StreamId(3), 0).encode().to_vec();
        input.extend(Frame::Fin(StreamId(3)).encode());
        assert_eq!(pieces(&input), Ok(vec![Piece::Fin(StreamId(3))]));
    }

    #[test]
    fn item_97_a_wrong_version_is_an_error() {
        assert_eq!(pieces(&[2, 0, 0, 0, 3, 0, 0, 0]), Err(FrameError::Version(2)));
    }

    #[test]
    fn item_97_an_unknown_command_is_an_error() {
        assert_eq!(pieces(&[1, 5, 0, 0, 3, 0, 0, 0]), Err(FrameError::Command(5)));
    }

    #[test]
    fn item_98_control_frames_with_a_length_are_errors() {
        for command in [SYN, FIN, NOP] {
            let error = FrameError::Length { command, length: 256 };
            assert_eq!(pieces(&[1, command, 0, 1, 3, 0, 0, 0]), Err(error));
        }
    }
}
