//! A decoded message.

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use crate::{DecodeError, Header};

/// How much of what a header declares must be true.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Strictness {
    /// Payload length and digest must match.
    Strict,
    /// The digest must match; the payload is the rest of the frame whatever its declared length, as in AWS's plugin
    /// (`messageparser.go` `DeserializeClientMessage`).
    Lenient,
    /// Neither is checked, as in AWS's agent (`agentmessage.go` `Validate`), which serves clients that write other
    /// digests.
    Unchecked,
}

/// A message: its header, and its payload as a slice of the frame it came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The header as received.
    pub header: Header,
    /// The bytes behind the header; shares storage with the frame.
    pub payload: Bytes,
}

impl Message {
    /// Reads one WebSocket frame.
    ///
    /// The digest of publication messages is never checked, because the service leaves it wrong; neither is that of a
    /// payload that is empty and declared so.
    ///
    /// # Errors
    ///
    /// A [`DecodeError`] that says which field is at fault. A frame with an error must not be acknowledged.
    pub fn decode(mut wire: Bytes, strictness: Strictness) -> Result<Self, DecodeError> {
        let header = Header::decode(&wire)?;
        let payload = wire.split_off(header.layout.payload_offset());
        let message = Self { header, payload };
        message.validate(strictness)?;
        Ok(message)
    }

    fn validate(&self, strictness: Strictness) -> Result<(), DecodeError> {
        let Header { message_type, created_ms, sequence, payload_len, digest, .. } = self.header;
        if message_type.is_publication() {
            return Ok(());
        }
        if message_type.is_blank() {
            return Err(DecodeError::BlankMessageType);
        }
        if created_ms == 0 {
            return Err(DecodeError::ZeroCreatedDate);
        }
        if message_type.is_stream() && sequence < 0 {
            return Err(DecodeError::Sequence(sequence));
        }
        let have = self.payload.len();
        if strictness == Strictness::Strict && payload_len as usize != have {
            return Err(DecodeError::PayloadLength { declared: payload_len, have });
        }
        if strictness != Strictness::Unchecked
            && (have != 0 || payload_len != 0)
            && Sha256::digest(&self.payload).as_slice() != digest
        {
            return Err(DecodeError::Digest);
        }
        Ok(())
    }
}
