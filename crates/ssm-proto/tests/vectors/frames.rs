//! Captured frames, as a whole.

use ssm_proto::{Flags, HEADER_LEN, Header, MessageBuf, MessageType};

use crate::captured::{Kind, frames, hex};

#[test]
fn every_frame_has_the_recorded_fields() {
    for frame in frames().iter().filter(|frame| frame.kind == Kind::Binary) {
        let message = frame.message();
        let header = &message.header;
        let recorded = frame.decoded.as_ref().unwrap();
        let at = format!("{} frame {}", frame.file, frame.n);
        assert!(recorded.digest_ok, "{at}");
        assert_eq!(header.layout.header_length(), recorded.header_length, "{at}");
        assert_eq!(header.message_type.name(), recorded.message_type, "{at}");
        assert_eq!(header.schema_version, recorded.schema_version, "{at}");
        assert_eq!(header.created_ms, recorded.created_date, "{at}");
        assert_eq!(header.sequence, recorded.sequence_number, "{at}");
        assert_eq!(header.flags.0, recorded.flags, "{at}");
        assert_eq!(header.id.to_string(), recorded.message_id, "{at}");
        assert_eq!(hex(&header.digest), recorded.payload_digest_hex, "{at}");
        assert_eq!(header.payload_type.map(u32::from), Some(recorded.payload_type), "{at}");
        assert_eq!(header.payload_len, recorded.payload_length, "{at}");
        assert_eq!(message.payload.len(), recorded.payload_length_actual, "{at}");
    }
}

#[test]
fn a_peers_frames_are_written_again_to_the_same_bytes() {
    let mut written = 0;
    for frame in frames().iter().filter(|frame| frame.kind == Kind::Binary && frame.is_a_peers()) {
        let wire = frame.bytes();
        let message = frame.message();
        let at = format!("{} frame {}", frame.file, frame.n);

        let mut head = [0; HEADER_LEN];
        assert_eq!(message.header.encode(&mut head), HEADER_LEN, "{at}");
        assert_eq!(head, wire[..HEADER_LEN], "{at}");

        let mut buf = MessageBuf::with_capacity(message.payload.len());
        buf.put_slice(&message.payload);
        let blank = Header { digest: [0; 32], payload_len: 0, ..message.header };
        assert_eq!(buf.finish(blank), wire, "{at}");
        written += 1;
    }
    assert_eq!(written, 216);
}

/// The flags are the one field with which a peer's message differs from what [`Header::stream`] and
/// [`Header::control`] make: the agent sets SYN on its first stream message.
#[test]
fn item_34_a_peers_headers_are_those_of_the_constructors() {
    for frame in frames().iter().filter(|frame| frame.kind == Kind::Binary && frame.is_a_peers()) {
        let Header { message_type, created_ms, sequence, id, digest, payload_type, payload_len, .. } =
            frame.message().header;
        let first_of_the_agent = message_type == MessageType::OutputStreamData && sequence == 0;
        let made = if message_type.is_stream() {
            let stream = Header::stream(message_type, payload_type.unwrap(), sequence, id, created_ms);
            Header { flags: if first_of_the_agent { Flags::SYN } else { Flags::NONE }, ..stream }
        } else {
            Header::control(message_type, id, created_ms)
        };
        assert_eq!(
            Header { digest, payload_len, ..made },
            frame.message().header,
            "{} frame {}",
            frame.file,
            frame.n
        );
    }
}
