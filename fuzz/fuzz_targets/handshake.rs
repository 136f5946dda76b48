//! Payload bodies: what one decode understands, encoding and decoding again does not change.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ssm_proto::MessageBuf;
use ssm_proto::body::{
    Acknowledge, ChannelClosed, ControlFlag, EncryptionChallenge, ExitCode, HandshakeComplete,
    HandshakeRequest, HandshakeResponse, KmsResult, OpenDataChannel, SessionState, TerminalSize,
};

/// Encodes `$value`, reads that, and expects the same encoding again.
macro_rules! assert_stable {
    ($body:ty, $payload:expr) => {
        if let Ok(value) = <$body>::decode($payload) {
            let once = value.encode();
            let again = <$body>::decode(&once).expect("our own encoding").encode();
            assert_eq!(once, again, stringify!($body));
        }
    };
}

fuzz_target!(|payload: &[u8]| {
    assert_stable!(HandshakeRequest, payload);
    assert_stable!(HandshakeResponse, payload);
    assert_stable!(HandshakeComplete, payload);
    assert_stable!(EncryptionChallenge, payload);
    assert_stable!(ChannelClosed, payload);
    assert_stable!(SessionState, payload);
    assert_stable!(TerminalSize, payload);

    if let Ok(response) = HandshakeResponse::decode(payload) {
        for raw in response.processed.iter().filter_map(|action| action.action_result.as_deref()) {
            if let Ok(result) = KmsResult::from_raw(raw) {
                assert_eq!(KmsResult::from_raw(&result.to_raw()), Ok(result));
            }
        }
    }
    if let Ok(open) = std::str::from_utf8(payload)
        .map_err(drop)
        .and_then(|text| OpenDataChannel::decode(text).map_err(drop))
    {
        let once = open.encode();
        let again = OpenDataChannel::decode(once.expose()).expect("our own encoding").encode();
        assert_eq!(once.expose(), again.expose());
    }
    if let Ok(acknowledge) = Acknowledge::decode(payload) {
        let mut buf = MessageBuf::with_capacity(Acknowledge::MAX_LEN);
        acknowledge.encode(&mut buf);
        let again = Acknowledge::decode(buf.payload()).expect("our own encoding");
        assert_eq!((again.sequence, again.message_id), (acknowledge.sequence, acknowledge.message_id));
    }
    if let Some(code) = ExitCode::decode(payload) {
        assert_eq!(ExitCode::decode(&code.encode()), Some(code));
    }
    let flag = ControlFlag::decode(payload);
    assert_eq!(ControlFlag::decode(&flag.encode()), flag);
});
