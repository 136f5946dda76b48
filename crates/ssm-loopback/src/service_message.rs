//! Messages that the service itself puts on a data channel. They are not sequenced and never acknowledged.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use ssm_proto::body::ChannelClosed;
use ssm_proto::{Header, Layout, MessageBuf, MessageId, MessageType, PayloadType};

use crate::random;

/// `start_publication` or `pause_publication`. Its payload is its own name and its digest is zero, as clients of the real
/// service report (mmm `datachannel/agent_message.go`).
pub(crate) fn publication(message_type: MessageType, layout: Layout) -> Bytes {
    let name = message_type.name().as_bytes();
    let mut header = header(message_type, layout);
    header.payload_len = name.len() as u32;
    payload(name).finish_verbatim(&header)
}

/// `channel_closed`: the session is over; `output` says why, and is empty for a normal end.
pub(crate) fn channel_closed(session_id: &str, destination: &str, output: &str, layout: Layout) -> Bytes {
    let header = header(MessageType::ChannelClosed, layout);
    let body = ChannelClosed {
        message_id: header.id.to_string(),
        created_date: header.created_ms.to_string(),
        destination_id: destination.to_owned(),
        session_id: session_id.to_owned(),
        message_type: MessageType::ChannelClosed.name().to_owned(),
        schema_version: 1,
        output: output.to_owned(),
    };
    payload(&body.encode()).finish(header)
}

fn header(message_type: MessageType, layout: Layout) -> Header {
    let id = MessageId::from_random(random::bytes());
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let header = Header::service(message_type, id, since_epoch.as_millis() as u64);
    match layout {
        Layout::Service => header,
        Layout::Standard => Header { layout, payload_type: Some(PayloadType::Unknown(0)), ..header },
    }
}

fn payload(bytes: &[u8]) -> MessageBuf {
    let mut buf = MessageBuf::with_capacity(bytes.len());
    buf.put_slice(bytes);
    buf
}

#[cfg(test)]
mod tests {
    use super::*;
    use ssm_proto::{Message, Strictness};

    #[test]
    fn item_104_channel_closed_has_the_old_header_and_a_right_digest() {
        let wire = channel_closed("s", "i-1", "idle", Layout::Service);
        assert_eq!(wire[..4], 112_u32.to_be_bytes());
        assert_eq!(wire[18..36], [0; 18]);
        let message = Message::decode(wire, Strictness::Strict).unwrap();
        let body = ChannelClosed::decode(&message.payload).unwrap();
        assert_eq!((body.session_id.as_str(), body.output.as_str()), ("s", "idle"));
        assert_eq!(body.message_id, message.header.id.to_string());
    }

    #[test]
    fn a_publication_message_carries_its_name_and_no_digest() {
        let wire = publication(MessageType::PausePublication, Layout::Service);
        let header = Header::decode(&wire).unwrap();
        assert_eq!((header.digest, header.payload_len), ([0; 32], 17));
        assert_eq!(&wire[116..], b"pause_publication");
    }

    #[test]
    fn item_104_the_new_header_is_available() {
        let wire = publication(MessageType::StartPublication, Layout::Standard);
        assert_eq!(Header::decode(&wire).unwrap().layout, Layout::Standard);
        assert_eq!(&wire[120..], b"start_publication");
    }
}
