//! What can be wrong with received bytes.

use std::fmt;

/// Why a frame is not a message. Small, `Copy` and free of text from the peer.
///
/// The frame cannot be trusted: drop it without an acknowledgement, so that the sender repeats it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecodeError {
    /// The frame ends before its header does.
    Truncated {
        /// Bytes a header of the announced layout takes.
        need: usize,
        /// Bytes the frame has.
        have: usize,
    },
    /// The header length is neither 112 nor 116.
    HeaderLength(u32),
    /// The message type is blank.
    BlankMessageType,
    /// The creation date is zero, which no sender produces.
    ZeroCreatedDate,
    /// The declared payload length is not that of the frame.
    PayloadLength {
        /// Bytes the header declares.
        declared: u32,
        /// Bytes behind the header.
        have: usize,
    },
    /// A stream message has a negative sequence number.
    Sequence(i64),
    /// The payload does not have the SHA-256 digest the header declares.
    Digest,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Truncated { need, have } => {
                write!(f, "frame of {have} bytes is shorter than its header of {need}")
            }
            Self::HeaderLength(length) => write!(f, "header length {length} is neither 112 nor 116"),
            Self::BlankMessageType => f.write_str("message type is blank"),
            Self::ZeroCreatedDate => f.write_str("creation date is zero"),
            Self::PayloadLength { declared, have } => {
                write!(f, "payload length {declared} is declared, {have} bytes are there")
            }
            Self::Sequence(sequence) => write!(f, "sequence number {sequence} is negative"),
            Self::Digest => f.write_str("payload digest does not match"),
        }
    }
}

impl std::error::Error for DecodeError {}

/// Why the payload of a message is not the body its type announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BodyError {
    /// Not well-formed JSON, or JSON of another shape.
    Json,
    /// A required field is missing.
    Missing(&'static str),
    /// A field holds a value of the wrong type or out of range.
    Invalid(&'static str),
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Json => f.write_str("body is not the expected JSON object"),
            Self::Missing(field) => write!(f, "field {field} is missing"),
            Self::Invalid(field) => write!(f, "field {field} has an unusable value"),
        }
    }
}

impl std::error::Error for BodyError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_what_is_wrong() {
        let short = DecodeError::Truncated { need: 120, have: 7 };
        assert_eq!(short.to_string(), "frame of 7 bytes is shorter than its header of 120");
        assert_eq!(BodyError::Missing("Challenge").to_string(), "field Challenge is missing");
    }
}
