//! Items of the protocol's checklist that no capture shows: the stand-in for the service in them writes digests as they should be.

use bytes::Bytes;
use ssm_proto::{
    DecodeError, HEADER_LEN, Header, Layout, Message, MessageBuf, MessageId, MessageType, PayloadType,
    Strictness,
};

const MODES: [Strictness; 3] = [Strictness::Strict, Strictness::Lenient, Strictness::Unchecked];

fn id() -> MessageId {
    MessageId::from_random([1; 16])
}

fn finished(header: Header, payload: &[u8]) -> Vec<u8> {
    let mut buf = MessageBuf::with_capacity(payload.len());
    buf.put_slice(payload);
    buf.finish(header).to_vec()
}

fn decode(wire: &[u8], strictness: Strictness) -> Result<Message, DecodeError> {
    Message::decode(Bytes::copy_from_slice(wire), strictness)
}

/// As the encoder of AWS's plugin has it (`clientmessage.go`), whatever is sent.
#[test]
fn item_24_the_fixed_fields_are_the_same_in_every_message() {
    let stream =
        Header::stream(MessageType::InputStreamData, PayloadType::Output, 3, id(), 1_700_000_000_123);
    let control = Header::control(MessageType::Acknowledge, id(), 1_700_000_000_123);
    for (header, name) in [(stream, "input_stream_data"), (control, "acknowledge")] {
        let wire = finished(header, b"x");
        assert_eq!(wire[..4], 116_u32.to_be_bytes());
        assert_eq!(wire[4..36], *format!("{name:<32}").as_bytes(), "spaces behind the name");
        assert_eq!(wire[36..40], 1_u32.to_be_bytes());
        assert_eq!(wire[40..48], 1_700_000_000_123_u64.to_be_bytes(), "milliseconds");
        assert_eq!(wire.len(), HEADER_LEN + 1);
    }
}

#[test]
fn item_26_27_the_header_length_says_where_the_payload_is_whatever_the_padding() {
    for (layout, offset) in [(Layout::Standard, 120), (Layout::Service, 116)] {
        for pad in [b' ', 0] {
            for message_type in [MessageType::ChannelClosed, MessageType::OutputStreamData] {
                let mut header = Header::service(message_type, id(), 1);
                if layout == Layout::Standard {
                    header = Header { layout, payload_type: Some(PayloadType::Output), ..header };
                }
                let mut wire = finished(header, b"payload");
                let name = message_type.name().len();
                wire[4 + name..36].fill(pad);
                assert_eq!(wire[offset..], *b"payload");
                for mode in MODES {
                    let message = decode(&wire, mode).unwrap();
                    assert_eq!(
                        (message.header.message_type, &message.payload[..]),
                        (message_type, &b"payload"[..])
                    );
                    assert_eq!(message.header.payload_len, 7);
                }
            }
        }
    }
}

/// As clients of the real service report (mmm `datachannel/agent_message.go`).
#[test]
fn item_29_30_the_digest_counts_for_all_but_publication_messages() {
    for (message_type, counts) in [
        (MessageType::StartPublication, false),
        (MessageType::PausePublication, false),
        (MessageType::OutputStreamData, true),
        (MessageType::Acknowledge, true),
        (MessageType::ChannelClosed, true),
    ] {
        for layout in [Layout::Service, Layout::Standard] {
            let payload_type = (layout == Layout::Standard).then_some(PayloadType::Output);
            let header = Header { layout, payload_type, ..Header::service(message_type, id(), 1) };
            let mut wire = finished(header, message_type.name().as_bytes());
            for digest in [0, 0xee] {
                wire[80..112].fill(digest);
                for mode in [Strictness::Strict, Strictness::Lenient] {
                    let verdict = decode(&wire, mode).map(drop);
                    let expected = if counts { Err(DecodeError::Digest) } else { Ok(()) };
                    assert_eq!(verdict, expected, "{message_type} {layout:?} {mode:?}");
                }
            }
        }
    }
}

#[test]
fn item_31_the_rest_of_the_frame_is_the_payload_unless_asked_otherwise() {
    let header = Header::stream(MessageType::OutputStreamData, PayloadType::Output, 3, id(), 1);
    let mut wire = finished(header, b"payload");
    for declared in [0, 6, 8, u32::MAX] {
        wire[116..120].copy_from_slice(&u32::to_be_bytes(declared));
        for mode in [Strictness::Lenient, Strictness::Unchecked] {
            assert_eq!(&decode(&wire, mode).unwrap().payload[..], b"payload", "{declared}");
        }
        assert_eq!(decode(&wire, Strictness::Strict), Err(DecodeError::PayloadLength { declared, have: 7 }));
    }
}

/// Big-endian: the plugin's own flags are in the captures, and have their value in the last byte.
#[test]
fn item_86_a_flag_has_its_value_in_the_last_of_four_bytes() {
    use ssm_proto::body::ControlFlag;
    for (flag, byte) in [
        (ControlFlag::DisconnectToPort, 1),
        (ControlFlag::TerminateSession, 2),
        (ControlFlag::ConnectToPortError, 3),
    ] {
        assert_eq!(flag.encode(), [0, 0, 0, byte]);
        assert_eq!(ControlFlag::decode(&[0, 0, 0, byte]), flag);
        assert_ne!(ControlFlag::decode(&[byte, 0, 0, 0]), flag);
    }
}
