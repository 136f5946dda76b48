//! Frames: whatever decodes can be written again and reads the same; strictness only ever refuses more.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use ssm_proto::{HEADER_LEN, Header, Message, MessageBuf, Strictness};

fuzz_target!(|frame: &[u8]| {
    if let Ok(header) = Header::decode(frame) {
        let mut again = [0; HEADER_LEN];
        let len = header.encode(&mut again);
        assert_eq!(Header::decode(&again[..len]), Ok(header));
    }

    let decode = |strictness| Message::decode(Bytes::copy_from_slice(frame), strictness);
    let unchecked = decode(Strictness::Unchecked);
    let lenient = decode(Strictness::Lenient);
    let strict = decode(Strictness::Strict);
    assert!(lenient.is_err() || lenient == unchecked);
    assert!(strict.is_err() || strict == lenient);

    let Ok(message) = unchecked else { return };
    let mut buf = MessageBuf::with_capacity(message.payload.len());
    buf.put_slice(&message.payload);
    let verbatim = buf.finish_verbatim(&message.header);
    assert_eq!(Message::decode(verbatim, Strictness::Unchecked), Ok(message.clone()));

    let mut buf = MessageBuf::with_capacity(message.payload.len());
    buf.put_slice(&message.payload);
    let repaired = Message::decode(buf.finish(message.header), Strictness::Strict).expect("it was finished");
    assert_eq!(repaired.payload, message.payload);
});
