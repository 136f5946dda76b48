//! The fixed header.

use crate::message_type::FIELD_LEN;
use crate::{DecodeError, MessageId, MessageType, PayloadType};

/// Bytes in front of the payload of a standard message: the 4-byte length field and the 116 bytes it counts.
pub const HEADER_LEN: usize = 120;

/// A SHA-256 digest.
pub type Digest = [u8; 32];

const TYPE: usize = 4;
const SCHEMA: usize = 36;
const CREATED: usize = 40;
const SEQUENCE: usize = 48;
const FLAGS: usize = 56;
const ID: usize = 64;
const DIGEST: usize = 80;
const PAYLOAD_TYPE: usize = 112;

/// Which of the two header forms a message has. They differ in the payload type field and in the padding of names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Layout {
    /// Header length 116: every message a client or an agent makes.
    Standard,
    /// Header length 112: messages the service makes. No payload type; names padded with NULs.
    Service,
}

impl Layout {
    /// Offset of the payload length, which is also the header length on the wire.
    pub const fn header_length(self) -> usize {
        match self {
            Self::Standard => 116,
            Self::Service => 112,
        }
    }

    /// Offset of the payload.
    pub const fn payload_offset(self) -> usize {
        self.header_length() + 4
    }
}

/// The flags field. Receivers ignore it; senders write what AWS's programs write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Flags(pub u64);

impl Flags {
    /// No flag: stream messages.
    pub const NONE: Self = Self(0);
    /// SYN: the agent's first stream message (agent `datachannel.go` `SendStreamDataMessage`).
    pub const SYN: Self = Self(1);
    /// SYN and FIN: acknowledgements and `agent_session_state`.
    pub const SYN_FIN: Self = Self(3);
}

/// The fixed header of a data channel message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// What the message is.
    pub message_type: MessageType,
    /// 1 in everything seen; readers ignore it.
    pub schema_version: u32,
    /// Milliseconds since the Unix epoch.
    pub created_ms: u64,
    /// Position in the sender's stream, from 0; 0 in messages that are not sequenced.
    pub sequence: i64,
    /// SYN and FIN bits.
    pub flags: Flags,
    /// Unique per message; a retransmission keeps it.
    pub id: MessageId,
    /// SHA-256 of the payload. [`MessageBuf::finish`](crate::MessageBuf::finish) computes it.
    pub digest: Digest,
    /// What the payload is; `None` in the service layout, `Some(Unknown(0))` where the field is not used.
    pub payload_type: Option<PayloadType>,
    /// Bytes of payload the header declares. [`MessageBuf::finish`](crate::MessageBuf::finish) sets it.
    pub payload_len: u32,
    /// Form of the header.
    pub layout: Layout,
}

impl Header {
    /// The header of a stream message without flags; digest and length are filled in when it is finished.
    pub fn stream(
        message_type: MessageType,
        payload_type: PayloadType,
        sequence: i64,
        id: MessageId,
        created_ms: u64,
    ) -> Self {
        Self {
            message_type,
            schema_version: 1,
            created_ms,
            sequence,
            flags: Flags::NONE,
            id,
            digest: [0; 32],
            payload_type: Some(payload_type),
            payload_len: 0,
            layout: Layout::Standard,
        }
    }

    /// The header of an acknowledgement or a session state: sequence 0, flags SYN and FIN, payload type 0 (plugin
    /// `messageparser.go` `SerializeClientMessageWithAcknowledgeContent`; agent `datachannel.go`).
    pub fn control(message_type: MessageType, id: MessageId, created_ms: u64) -> Self {
        Self {
            flags: Flags::SYN_FIN,
            ..Self::stream(message_type, PayloadType::Unknown(0), 0, id, created_ms)
        }
    }

    /// The header of a message the service makes.
    pub fn service(message_type: MessageType, id: MessageId, created_ms: u64) -> Self {
        Self {
            payload_type: None,
            layout: Layout::Service,
            ..Self::stream(message_type, PayloadType::Unknown(0), 0, id, created_ms)
        }
    }

    /// Reads the header at the start of `frame`. The payload starts at
    /// [`payload_offset`](Layout::payload_offset) of its layout.
    ///
    /// # Errors
    ///
    /// [`DecodeError::HeaderLength`] and [`DecodeError::Truncated`]. What the fields mean is not judged here.
    pub fn decode(frame: &[u8]) -> Result<Self, DecodeError> {
        let layout = match frame.first_chunk().map(|length| u32::from_be_bytes(*length)) {
            Some(116) => Layout::Standard,
            Some(112) => Layout::Service,
            Some(other) => return Err(DecodeError::HeaderLength(other)),
            None => return Err(DecodeError::Truncated { need: HEADER_LEN, have: frame.len() }),
        };
        let need = layout.payload_offset();
        let Some(head) = frame.get(..need) else {
            return Err(DecodeError::Truncated { need, have: frame.len() });
        };
        Ok(Self {
            message_type: MessageType::decode(&array::<FIELD_LEN>(head, TYPE)),
            schema_version: u32::from_be_bytes(array(head, SCHEMA)),
            created_ms: u64::from_be_bytes(array(head, CREATED)),
            sequence: i64::from_be_bytes(array(head, SEQUENCE)),
            flags: Flags(u64::from_be_bytes(array(head, FLAGS))),
            id: MessageId::from_wire(array(head, ID)),
            digest: array(head, DIGEST),
            payload_type: match layout {
                Layout::Standard => Some(u32::from_be_bytes(array(head, PAYLOAD_TYPE)).into()),
                Layout::Service => None,
            },
            payload_len: u32::from_be_bytes(array(head, layout.header_length())),
            layout,
        })
    }

    /// Writes the header to the start of `out` and returns how many bytes it takes: 120, or 116 in the service layout.
    pub fn encode(&self, out: &mut [u8; HEADER_LEN]) -> usize {
        let (header_length, pad) = match self.layout {
            Layout::Standard => (116_u32, b' '),
            Layout::Service => (112_u32, 0),
        };
        out[..TYPE].copy_from_slice(&header_length.to_be_bytes());
        let mut name = [0; FIELD_LEN];
        self.message_type.encode(pad, &mut name);
        out[TYPE..SCHEMA].copy_from_slice(&name);
        out[SCHEMA..CREATED].copy_from_slice(&self.schema_version.to_be_bytes());
        out[CREATED..SEQUENCE].copy_from_slice(&self.created_ms.to_be_bytes());
        out[SEQUENCE..FLAGS].copy_from_slice(&self.sequence.to_be_bytes());
        out[FLAGS..ID].copy_from_slice(&self.flags.0.to_be_bytes());
        out[ID..DIGEST].copy_from_slice(&self.id.to_wire());
        out[DIGEST..PAYLOAD_TYPE].copy_from_slice(&self.digest);
        if self.layout == Layout::Standard {
            let kind = self.payload_type.map_or(0, u32::from);
            out[PAYLOAD_TYPE..][..4].copy_from_slice(&kind.to_be_bytes());
        }
        out[self.layout.header_length()..][..4].copy_from_slice(&self.payload_len.to_be_bytes());
        self.layout.payload_offset()
    }
}

/// `N` bytes at `offset` of a header whose length was checked.
fn array<const N: usize>(head: &[u8], offset: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&head[offset..offset + N]);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_service_has_no_payload_type() {
        let header = Header::service(MessageType::ChannelClosed, MessageId::default(), 1);
        assert_eq!((header.payload_type, header.layout), (None, Layout::Service));
    }
}
