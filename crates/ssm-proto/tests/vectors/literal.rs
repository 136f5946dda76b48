//! Two frames spelled out byte by byte.

use bytes::Bytes;
use ssm_proto::body::ChannelClosed;
use ssm_proto::{Header, Layout, Message, MessageBuf, MessageId, MessageType, PayloadType, Strictness};

use crate::captured::hex;

#[test]
fn item_23_24_a_standard_message_is_these_122_bytes() {
    let expected = [
        "00000074",
        "696e7075745f73747265616d5f64617461202020202020202020202020202020",
        "00000001",
        "0000018bcfe56800",
        "0000000000000007",
        "0000000000000000",
        "8899aabbccddeeff0011223344556677",
        "8f434346648f6b96df89dda901c5176b10a6d83961dd3c1ac88b59b2dc327aa4",
        "00000001",
        "00000002",
        "6869",
    ]
    .concat();
    let header = Header::stream(
        MessageType::InputStreamData,
        PayloadType::Output,
        7,
        MessageId::parse("00112233-4455-6677-8899-aabbccddeeff").unwrap(),
        1_700_000_000_000,
    );
    let wire = written(header, b"hi");
    assert_eq!(wire.len(), 122);
    assert_eq!(hex(&wire), expected);

    let message = Message::decode(wire, Strictness::Strict).unwrap();
    assert_eq!(message.header, Header { digest: message.header.digest, payload_len: 2, ..header });
    assert_eq!(&message.payload[..], b"hi");
}

#[test]
fn item_26_a_service_message_is_these_118_bytes() {
    let expected = [
        "00000070",
        "6368616e6e656c5f636c6f736564000000000000000000000000000000000000",
        "00000001",
        "0000018bcfe56800",
        "0000000000000000",
        "0000000000000000",
        "8899aabbccddeeff0011223344556677",
        "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
        "00000002",
        "7b7d",
    ]
    .concat();
    let id = MessageId::parse("00112233-4455-6677-8899-aabbccddeeff").unwrap();
    let header = Header::service(MessageType::ChannelClosed, id, 1_700_000_000_000);
    let wire = written(header, b"{}");
    assert_eq!(wire.len(), 118);
    assert_eq!(hex(&wire), expected);

    let message = Message::decode(wire, Strictness::Strict).unwrap();
    assert_eq!((message.header.layout, message.header.payload_type), (Layout::Service, None));
    assert_eq!(ChannelClosed::decode(&message.payload), Ok(ChannelClosed::default()));
}

fn written(header: Header, payload: &[u8]) -> Bytes {
    let mut buf = MessageBuf::with_capacity(payload.len());
    buf.put_slice(payload);
    buf.finish(header)
}
