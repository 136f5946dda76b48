//! What holds for every message, not only for those that were seen.

#![expect(clippy::unwrap_used, reason = "what does not decode fails its test")]

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::Value;
use serde_json::value::RawValue;
use ssm_proto::body::{
    Acknowledge, ActionStatus, ChannelClosed, ClientAction, ControlFlag, EncryptionChallenge, ExitCode,
    HandshakeComplete, HandshakeRequest, HandshakeResponse, KmsResult, OpenDataChannel, ProcessedAction,
    SessionState, TerminalSize,
};
use ssm_proto::{
    Flags, Header, Layout, Message, MessageBuf, MessageId, MessageType, PayloadType, Slab, Strictness, Token,
};

proptest! {
    #[test]
    fn a_message_survives_the_wire(header in header(), payload in payload(0..3000), mode in strictness()) {
        let wire = finished(header, &payload);
        prop_assert_eq!(wire.len(), header.layout.payload_offset() + payload.len());
        let message = Message::decode(wire.clone(), mode).unwrap();
        let digest = message.header.digest;
        prop_assert_eq!(message.header, Header { digest, payload_len: payload.len() as u32, ..header });
        prop_assert_eq!(&message.payload, &payload);

        let mut again = MessageBuf::with_capacity(payload.len());
        again.put_slice(&payload);
        prop_assert_eq!(again.finish_verbatim(&message.header), wire);
    }

    #[test]
    fn what_is_prepended_and_appended_is_payload(
        header in header(),
        payload in payload(0..100),
        first in payload(0..9),
        second in payload(0..9),
        trailer in payload(0..40),
        reclaimed in any::<bool>(),
    ) {
        let mut slab = Slab::default();
        let mut buf = slab.take(payload.len());
        buf.put_slice(&payload);
        if reclaimed {
            slab.reclaim(&mut buf);
        }
        buf.prepend(&first);
        buf.prepend(&second);
        buf.append(&trailer);
        let message = Message::decode(buf.finish(header), Strictness::Strict).unwrap();
        prop_assert_eq!(message.payload, [&second[..], &first, &payload, &trailer].concat());
    }

    #[test]
    fn messages_of_one_slab_do_not_touch(runs in prop::collection::vec((1..2000_usize, any::<u8>()), 1..80)) {
        let payloads: Vec<_> = runs.into_iter().map(|(len, byte)| vec![byte; len]).collect();
        let mut slab = Slab::default();
        let mut wires = Vec::new();
        for payload in &payloads {
            let mut buf = slab.take(2000);
            buf.put_slice(payload);
            slab.reclaim(&mut buf);
            wires.push(buf.finish(Header::control(MessageType::Acknowledge, MessageId::default(), 1)));
        }
        for (wire, payload) in wires.into_iter().zip(payloads) {
            prop_assert_eq!(Message::decode(wire, Strictness::Strict).unwrap().payload, payload);
        }
    }

    /// Where nothing is checked the rest is another message: unchecked, and in publication messages.
    #[test]
    fn item_28_a_truncated_message_is_an_error_or_another_message(
        header in header(),
        payload in payload(1..60),
        mode in strictness(),
    ) {
        let wire = finished(header, &payload);
        let whole = Message::decode(wire.clone(), mode).unwrap();
        let unchecked = mode == Strictness::Unchecked || header.message_type.is_publication();
        for keep in 0..wire.len() {
            let cut = Message::decode(wire.slice(..keep), mode);
            prop_assert_eq!(cut.is_ok(), unchecked && keep >= header.layout.payload_offset(), "{} bytes", keep);
            prop_assert_ne!(cut.as_ref(), Ok(&whole));
        }
    }

    /// The one field with bits to spare is the type: its padding may be spaces, NULs, or NULs behind spaces.
    #[test]
    fn item_29_a_flipped_bit_is_an_error_or_another_message(
        header in header(),
        payload in payload(0..60),
        mode in strictness(),
    ) {
        let wire = finished(header, &payload);
        let whole = Message::decode(wire.clone(), mode).unwrap();
        for bit in 0..wire.len() * 8 {
            let (byte, mask) = (bit / 8, 1 << (bit % 8));
            let mut flipped = wire.to_vec();
            flipped[byte] ^= mask;
            let Ok(message) = Message::decode(flipped.into(), mode) else { continue };
            let padding = (4..36).contains(&byte) && matches!(wire[byte], 0 | b' ');
            prop_assert!(message != whole || padding, "bit {bit} does not matter");
            let checked = mode != Strictness::Unchecked && !header.message_type.is_publication();
            let in_payload = byte >= header.layout.payload_offset();
            prop_assert!(!(checked && in_payload), "the digest does not cover bit {bit}");
        }
    }

    #[test]
    fn item_28_arbitrary_bytes_do_not_panic(bytes in payload(0..400), mode in strictness()) {
        decode_everything(&bytes, mode);
    }

    #[test]
    fn item_28_arbitrary_fields_behind_a_valid_length_do_not_panic(
        service in any::<bool>(),
        rest in payload(100..400),
        mode in strictness(),
    ) {
        let length: u32 = if service { 112 } else { 116 };
        let frame = [&length.to_be_bytes()[..], &rest].concat();
        decode_everything(&frame, mode);
    }

    #[test]
    fn arbitrary_json_does_not_panic(value in json(), mode in strictness()) {
        decode_everything(value.to_string().as_bytes(), mode);
    }

    /// Known names in unknown company: nearly every value is of the wrong type.
    #[test]
    fn known_keys_with_arbitrary_values_do_not_panic(
        members in prop::collection::vec((known_key(), json()), 0..8),
        mode in strictness(),
    ) {
        let object: serde_json::Map<_, _> = members.into_iter().collect();
        decode_everything(Value::Object(object).to_string().as_bytes(), mode);
    }

    #[test]
    fn unknown_types_and_payload_types_are_kept(field in unknown_field(), kind in 13_u32.., service in any::<bool>()) {
        let mut header = Header::stream(MessageType::Unknown(field), kind.into(), 0, MessageId::default(), 1);
        if service {
            header = Header { layout: Layout::Service, payload_type: None, ..header };
        }
        let message = Message::decode(finished(header, b"x"), Strictness::Strict).unwrap();
        prop_assert_eq!(message.header.message_type, MessageType::Unknown(field));
        prop_assert_eq!(message.header.payload_type.map(u32::from), (!service).then_some(kind));
    }

    #[test]
    fn an_acknowledgement_survives(acknowledge in acknowledge()) {
        let text = encoded(&acknowledge);
        prop_assert!(text.len() <= Acknowledge::MAX_LEN);
        prop_assert_eq!(Acknowledge::decode(&text), Ok(acknowledge));
        let value: Value = serde_json::from_slice(&text).unwrap();
        prop_assert_eq!(&value["AcknowledgedMessageSequenceNumber"], &serde_json::json!(acknowledge.sequence));
    }

    #[test]
    fn small_bodies_survive(cols: u32, rows: u32, flag: u32, code: i32) {
        let size = TerminalSize { cols, rows };
        prop_assert_eq!(TerminalSize::decode(&size.encode()), Ok(size));
        prop_assert_eq!(ControlFlag::decode(&flag.to_be_bytes()).encode(), flag.to_be_bytes());
        prop_assert_eq!(ExitCode::decode(&ExitCode(code).encode()), Some(ExitCode(code)));
    }

    #[test]
    fn text_bodies_survive(texts in prop::collection::vec(any::<String>(), 6), number: i64) {
        let [a, b, c, d, e, f] = <[String; 6]>::try_from(texts).unwrap();
        let closed = ChannelClosed {
            message_id: a.clone(),
            created_date: b.clone(),
            destination_id: c,
            session_id: d,
            message_type: e,
            schema_version: number,
            output: f,
        };
        prop_assert_eq!(ChannelClosed::decode(&closed.encode()), Ok(closed));
        let state = SessionState { schema_version: number, session_state: a.clone(), session_id: b };
        prop_assert_eq!(SessionState::decode(&state.encode()), Ok(state));

        let nanos = number.unsigned_abs() >> 1;
        let complete =
            HandshakeComplete { time_to_complete: Duration::from_nanos(nanos), customer_message: a };
        prop_assert_eq!(HandshakeComplete::decode(&complete.encode()), Ok(complete));
    }

    #[test]
    fn an_open_survives(request_id: String, token in ".+", instance: Option<String>, client: Option<String>) {
        let open = OpenDataChannel {
            request_id,
            token: Token::new(token),
            client_instance_id: instance,
            client_id: client.clone(),
            client_version: client,
        };
        let again = OpenDataChannel::decode(open.encode().expose()).unwrap();
        prop_assert_eq!(again.token.expose(), open.token.expose());
        prop_assert_eq!(String::clone(again.encode().expose()), String::clone(open.encode().expose()));
        prop_assert_eq!(again.request_id, open.request_id);
        prop_assert_eq!(again.client_instance_id, open.client_instance_id);
    }

    #[test]
    fn keys_and_challenges_survive(bytes in payload(0..200), acknowledged: bool) {
        let challenge = EncryptionChallenge { challenge: bytes.to_vec() };
        prop_assert_eq!(EncryptionChallenge::decode(&challenge.encode()), Ok(challenge));
        let result = KmsResult::new(bytes.to_vec(), acknowledged);
        prop_assert_eq!(KmsResult::from_raw(&result.to_raw()), Ok(result));
    }

    #[test]
    fn a_handshake_survives(request in handshake_request(), response in handshake_response()) {
        let again = HandshakeRequest::decode(&request.encode()).unwrap();
        prop_assert_eq!(format!("{again:?}"), format!("{request:?}"));
        let again = HandshakeResponse::decode(&response.encode()).unwrap();
        prop_assert_eq!(format!("{again:?}"), format!("{response:?}"));
    }

    /// As Go's readers do: order and case of keys mean nothing, and members nobody knows are passed over.
    #[test]
    fn keys_in_another_order_and_case_mean_the_same(
        acknowledge in acknowledge(),
        mut request in handshake_request(),
        response in handshake_response(),
        cols: u32,
        rows: u32,
        style in (any::<bool>(), any::<bool>()),
    ) {
        let again = Acknowledge::decode(&rewritten(&encoded(&acknowledge), style));
        prop_assert_eq!(again, Ok(acknowledge));

        let size = TerminalSize { cols, rows };
        prop_assert_eq!(TerminalSize::decode(&rewritten(&size.encode(), style)), Ok(size));

        // What is not known cannot be rewritten.
        request.actions.retain(|action| !matches!(action, ClientAction::Unknown { .. }));
        let again = HandshakeRequest::decode(&rewritten(&request.encode(), style)).unwrap();
        prop_assert_eq!(format!("{again:?}"), format!("{request:?}"));

        let again = HandshakeResponse::decode(&rewritten(&response.encode(), style)).unwrap();
        prop_assert_eq!(format!("{again:?}"), format!("{response:?}"));
    }
}

/// Calls every decoder there is.
fn decode_everything(bytes: &[u8], mode: Strictness) {
    let _ = Header::decode(bytes);
    let _ = Message::decode(Bytes::copy_from_slice(bytes), mode);
    let _ = Acknowledge::decode(bytes);
    let _ = ChannelClosed::decode(bytes);
    let _ = ControlFlag::decode(bytes);
    let _ = EncryptionChallenge::decode(bytes);
    let _ = ExitCode::decode(bytes);
    let _ = HandshakeComplete::decode(bytes);
    let _ = HandshakeRequest::decode(bytes);
    let _ = SessionState::decode(bytes);
    let _ = TerminalSize::decode(bytes);
    if let Ok(response) = HandshakeResponse::decode(bytes) {
        for raw in response.processed.iter().filter_map(|action| action.action_result.as_ref()) {
            let _ = KmsResult::from_raw(raw);
        }
    }
    if let Ok(text) = str::from_utf8(bytes) {
        let _ = OpenDataChannel::decode(text);
        let _ = MessageType::from_name(text);
        let _ = MessageId::parse(text);
    }
}

fn finished(header: Header, payload: &[u8]) -> Bytes {
    let mut buf = MessageBuf::with_capacity(payload.len());
    buf.put_slice(payload);
    buf.finish(header)
}

fn encoded(acknowledge: &Acknowledge) -> Vec<u8> {
    let mut out = MessageBuf::with_capacity(Acknowledge::MAX_LEN);
    acknowledge.encode(&mut out);
    out.payload().to_vec()
}

fn strictness() -> impl Strategy<Value = Strictness> {
    prop::sample::select(vec![Strictness::Strict, Strictness::Lenient, Strictness::Unchecked])
}

fn payload(len: Range<usize>) -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), len).prop_map(Bytes::from)
}

/// Any header that a reader accepts, without digest and length.
fn header() -> impl Strategy<Value = Header> {
    let numbers = (any::<u32>(), 1_u64.., 0_i64.., any::<u64>());
    (message_type(), any::<Option<u32>>(), numbers, any::<[u8; 16]>()).prop_map(
        |(message_type, kind, (schema_version, created_ms, sequence, flags), id)| Header {
            message_type,
            schema_version,
            created_ms,
            sequence,
            flags: Flags(flags),
            id: MessageId::from_bytes(id),
            digest: [0; 32],
            payload_type: kind.map(PayloadType::from),
            payload_len: 0,
            layout: if kind.is_some() { Layout::Standard } else { Layout::Service },
        },
    )
}

fn message_type() -> impl Strategy<Value = MessageType> {
    prop_oneof![
        4 => prop::sample::select(vec![
            MessageType::InputStreamData,
            MessageType::OutputStreamData,
            MessageType::Acknowledge,
            MessageType::ChannelClosed,
            MessageType::StartPublication,
            MessageType::PausePublication,
            MessageType::AgentSessionState,
            MessageType::InteractiveShell,
        ]),
        1 => unknown_field().prop_map(MessageType::Unknown),
    ]
}

/// A type field that holds some name, none of the known ones.
fn unknown_field() -> impl Strategy<Value = [u8; 32]> {
    ("[!-~]{1,32}", any::<bool>()).prop_filter_map("a known name", |(name, nuls)| {
        let mut field = if nuls { [0; 32] } else { [b' '; 32] };
        field[..name.len()].copy_from_slice(name.as_bytes());
        let unknown = matches!(MessageType::from_name(&name), Some(MessageType::Unknown(_)));
        unknown.then_some(field)
    })
}

fn acknowledge() -> impl Strategy<Value = Acknowledge> {
    (any::<bool>(), any::<[u8; 16]>(), any::<i64>()).prop_map(|(input, id, sequence)| Acknowledge {
        message_type: if input { MessageType::InputStreamData } else { MessageType::OutputStreamData },
        message_id: MessageId::from_bytes(id),
        sequence,
    })
}

fn handshake_request() -> impl Strategy<Value = HandshakeRequest> {
    let action = prop_oneof![
        (any::<String>(), optional_raw())
            .prop_map(|(session_type, properties)| ClientAction::SessionType { session_type, properties }),
        (any::<String>(), any::<Option<String>>())
            .prop_map(|(key_id, challenge)| ClientAction::KmsEncryption { key_id, challenge }),
        ("[a-z]{1,12}", optional_raw())
            .prop_map(|(action_type, parameters)| ClientAction::Unknown { action_type, parameters }),
    ];
    (any::<String>(), prop::collection::vec(action, 0..4))
        .prop_map(|(agent_version, actions)| HandshakeRequest { agent_version, actions })
}

fn handshake_response() -> impl Strategy<Value = HandshakeResponse> {
    let action = (any::<String>(), any::<i64>(), optional_raw(), any::<String>()).prop_map(
        |(action_type, status, action_result, error)| ProcessedAction {
            action_type,
            action_status: ActionStatus::from(status),
            action_result,
            error,
        },
    );
    let texts = prop::collection::vec(any::<String>(), 0..3);
    (any::<String>(), prop::collection::vec(action, 0..4), texts).prop_map(
        |(client_version, processed, errors)| HandshakeResponse { client_version, processed, errors },
    )
}

fn optional_raw() -> impl Strategy<Value = Option<Box<RawValue>>> {
    json().prop_map(|value| {
        let raw = serde_json::value::to_raw_value(&value).unwrap();
        (raw.get() != "null").then_some(raw)
    })
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        prop::sample::select(vec![0.5, -1.5, 1e20]).prop_map(Into::into),
        any::<String>().prop_map(Into::into),
    ];
    leaf.prop_recursive(3, 20, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Into::into),
            prop::collection::btree_map(prop_oneof![known_key(), any::<String>()], inner, 0..5)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn known_key() -> impl Strategy<Value = String> {
    prop::sample::select(KEYS.to_vec()).prop_map(str::to_owned)
}

/// The same object with keys of another case and order, more space, and one member more in each object.
fn rewritten(text: &[u8], style: (bool, bool)) -> Vec<u8> {
    rewrite(&serde_json::from_slice(text).unwrap(), style).into_bytes()
}

fn rewrite(value: &Value, style @ (upper, reversed): (bool, bool)) -> String {
    match value {
        Value::Object(members) => {
            let member = |(key, value): (&String, &Value)| {
                let opaque = key == "Properties" || key == "ActionResult";
                let key = if upper { key.to_uppercase() } else { key.to_lowercase() };
                let value = if opaque { value.to_string() } else { rewrite(value, style) };
                format!("\"{key}\" :\t{value}")
            };
            let mut members: Vec<String> = members.iter().map(member).collect();
            members.push("\"Unheard-Of\" : [{}, 1e9]".into());
            if reversed {
                members.reverse();
            }
            format!("{{ {} }}\n", members.join(" , "))
        }
        Value::Array(elements) => {
            let elements: Vec<String> = elements.iter().map(|element| rewrite(element, style)).collect();
            format!("[ {} ]", elements.join(" ,\r\n"))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.to_string(),
    }
}

const KEYS: [&str; 26] = [
    "AcknowledgedMessageType",
    "AcknowledgedMessageId",
    "AcknowledgedMessageSequenceNumber",
    "AgentVersion",
    "RequestedClientActions",
    "ActionType",
    "ActionParameters",
    "SessionType",
    "Properties",
    "KMSKeyId",
    "Challenge",
    "ClientVersion",
    "ProcessedClientActions",
    "ActionStatus",
    "ActionResult",
    "Errors",
    "HandshakeTimeToComplete",
    "CustomerMessage",
    "KMSCipherTextKey",
    "ChallengeAcknowledgement",
    "SessionState",
    "SchemaVersion",
    "Output",
    "TokenValue",
    "cols",
    "rows",
];
