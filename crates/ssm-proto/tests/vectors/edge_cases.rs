//! What AWS's two codecs do with 207 odd inputs (`header-edge-cases.jsonl`), and what ours does (`verdicts.tsv`).
//!
//! A line of `verdicts.tsv` has these columns, separated by tabs:
//!
//! - codec, operation and name of the case;
//! - `verdict`: for `serialize` and `ack`, the bytes we write beside theirs; for `deserialize`, [`Header::decode`] and
//!   the payload behind it beside their reader, which judges nothing;
//! - `strict`, `lenient`, `unchecked`: for `deserialize`, whether [`Message::decode`] accepts what their validation accepts;
//! - `reason`: why, where something is not the same.
//!
//! `same` is the same result, or an error on both sides; `stricter (why)` is an error of ours where they read on or panic;
//! `looser (why)` is the reverse, and occurs in one place: `unchecked` does what the agent does, not the plugin.

use bytes::Bytes;
use serde::Deserialize;
use ssm_proto::body::Acknowledge;
use ssm_proto::{
    DecodeError, Flags, Header, Layout, Message, MessageBuf, MessageId, MessageType, PayloadType, Strictness,
};

use crate::captured::{from_base64, hex, lines, text};

#[derive(Deserialize)]
struct Case {
    #[serde(rename = "impl")]
    codec: String,
    op: String,
    name: String,
    input: Option<Fields>,
    input_b64: Option<String>,
    result: Option<Fields>,
    result_b64: Option<String>,
    /// Where the payload is one byte over and over: the result without it.
    result_head_b64: Option<String>,
    panic: Option<String>,
    validate: Option<String>,
    validate_error: Option<String>,
}

#[derive(Deserialize)]
struct Fields {
    header_length: u32,
    message_type: String,
    schema_version: u32,
    created_date: u64,
    sequence_number: i64,
    flags: u64,
    message_id: Option<String>,
    payload_digest_hex: String,
    payload_type: u32,
    payload_length: u32,
    payload_b64: Option<String>,
    /// Byte and count.
    payload_repeat: Option<(u8, usize)>,
}

#[test]
fn item_28_every_case_has_its_verdict() {
    let cases: Vec<Case> = lines("header-edge-cases.jsonl");
    let committed = text("verdicts.tsv");
    let mut committed = committed.lines();
    assert_eq!(committed.next(), Some("codec\toperation\tname\tverdict\tstrict\tlenient\tunchecked\treason"));
    let mut wrong = Vec::new();
    for case in &cases {
        let found = format!("{}\t{}\t{}\t{}", case.codec, case.op, case.name, case.verdicts().join("\t"));
        let line = committed.next().unwrap_or_default();
        let (verdicts, reason) = line.rsplit_once('\t').unwrap_or_default();
        let all_same = !verdicts.contains("stricter") && !verdicts.contains("looser");
        if verdicts != found || reason.is_empty() != all_same {
            wrong.push(found);
        }
    }
    assert!(wrong.is_empty(), "no verdict, or another one, for:\n{}", wrong.join("\n"));
    assert_eq!(committed.next(), None, "a verdict without a case");
    assert_eq!(cases.len(), 207);
}

#[test]
fn only_unchecked_is_looser_and_only_than_the_plugin() {
    let committed = text("verdicts.tsv");
    for line in committed.lines().skip(1) {
        let columns: Vec<&str> = line.split('\t').collect();
        let looser: Vec<usize> = (3..7).filter(|at| columns[*at].starts_with("looser")).collect();
        assert!(looser.is_empty() || (looser == [6] && columns[0] == "session-manager-plugin"), "{line}");
    }
}

impl Case {
    /// The columns `verdict`, `strict`, `lenient` and `unchecked`.
    fn verdicts(&self) -> [String; 4] {
        let written = |same| {
            let verdict = if same { "same" } else { "different" };
            [verdict, "-", "-", "-"].map(str::to_owned)
        };
        match self.op.as_str() {
            "serialize" => written(self.written_by_us() == self.written_by_them()),
            "ack" => written(self.acknowledge_by_us() == self.written_by_them()),
            "deserialize" => [
                self.header_verdict(),
                self.message_verdict(Strictness::Strict),
                self.message_verdict(Strictness::Lenient),
                self.message_verdict(Strictness::Unchecked),
            ],
            other => panic!("unknown operation {other}"),
        }
    }

    fn written_by_them(&self) -> Option<Bytes> {
        if let Some(head) = &self.result_head_b64 {
            let payload = self.input.as_ref().unwrap().payload();
            return Some([from_base64(head), payload].concat().into());
        }
        self.result_b64.as_deref().map(from_base64)
    }

    /// The message of the fields, or `None` where the API refuses it or has no way to say it.
    fn written_by_us(&self) -> Option<Bytes> {
        let fields = self.input.as_ref().unwrap();
        let header = Header {
            message_type: MessageType::from_name(&fields.message_type)?,
            schema_version: fields.schema_version,
            created_ms: fields.created_date,
            sequence: fields.sequence_number,
            flags: Flags(fields.flags),
            id: MessageId::parse(fields.message_id.as_deref()?)?,
            digest: [0xee; 32],
            payload_type: Some(PayloadType::from(fields.payload_type)),
            payload_len: fields.payload_length,
            layout: Layout::Standard,
        };
        let payload = fields.payload();
        let mut buf = MessageBuf::with_capacity(payload.len());
        buf.put_slice(&payload);
        buf.try_finish(header).ok()
    }

    /// An acknowledgement as in the case, with the id and date of theirs, which vary.
    fn acknowledge_by_us(&self) -> Option<Bytes> {
        assert_eq!(self.name, "acknowledge for sequence 7");
        let theirs = Header::decode(&self.written_by_them()?).ok()?;
        let acknowledge = Acknowledge {
            message_type: MessageType::OutputStreamData,
            message_id: MessageId::parse("dd01e56b-ff48-483e-a508-b5f073f31b16")?,
            sequence: 7,
        };
        let mut buf = MessageBuf::with_capacity(Acknowledge::MAX_LEN);
        acknowledge.encode(&mut buf);
        buf.try_finish(Header::control(MessageType::Acknowledge, theirs.id, theirs.created_ms)).ok()
    }

    fn header_verdict(&self) -> String {
        let wire = from_base64(self.input_b64.as_deref().unwrap());
        match (Header::decode(&wire), &self.result) {
            (Err(ours), _) if self.panic.is_some() => format!("stricter ({}, they panic)", why(ours)),
            (Err(_), None) => "same".into(),
            (Err(ours), Some(_)) => format!("stricter ({})", why(ours)),
            (Ok(_), None) => "looser".into(),
            (Ok(header), Some(theirs)) => compare(&header, &wire, theirs).into(),
        }
    }

    fn message_verdict(&self, strictness: Strictness) -> String {
        let wire = from_base64(self.input_b64.as_deref().unwrap());
        let accepted = self.validate.as_deref() == Some("ok");
        match Message::decode(wire, strictness) {
            Ok(message) if accepted => {
                assert_eq!(message.payload, self.result.as_ref().unwrap().payload(), "{}", self.name);
                "same".into()
            }
            Ok(_) => {
                assert_eq!(
                    self.validate_error.as_deref(),
                    Some("payload Hash is not valid"),
                    "{}",
                    self.name
                );
                "looser (digest)".into()
            }
            Err(ours) if accepted || self.panic.is_some() => format!("stricter ({})", why(ours)),
            Err(_) => "same".into(),
        }
    }
}

impl Fields {
    fn payload(&self) -> Bytes {
        match (&self.payload_b64, self.payload_repeat) {
            (Some(b64), _) => from_base64(b64),
            (None, Some((byte, count))) => vec![byte; count].into(),
            (None, None) => panic!("no payload"),
        }
    }
}

fn compare(header: &Header, wire: &Bytes, theirs: &Fields) -> &'static str {
    let same = header.layout.header_length() == theirs.header_length as usize
        && is_named(header.message_type, &theirs.message_type)
        && header.schema_version == theirs.schema_version
        && header.created_ms == theirs.created_date
        && header.sequence == theirs.sequence_number
        && header.flags.0 == theirs.flags
        && Some(header.id.to_string()) == theirs.message_id
        && hex(&header.digest) == theirs.payload_digest_hex
        && wire[header.layout.payload_offset()..] == theirs.payload();
    let type_and_length = (header.payload_type.map(u32::from), header.payload_len);
    if !same {
        "different"
    } else if type_and_length == (Some(theirs.payload_type), theirs.payload_length) {
        "same"
    } else if header.layout == Layout::Service {
        "stricter (service layout)"
    } else if type_and_length.0 == Some(theirs.payload_type) && theirs.payload().is_empty() {
        "stricter (length of nothing)"
    } else {
        "different"
    }
}

fn is_named(message_type: MessageType, theirs: &str) -> bool {
    match MessageType::from_name(theirs) {
        Some(MessageType::Unknown(_)) => {
            message_type.to_string() == theirs.as_bytes().escape_ascii().to_string()
        }
        known => Some(message_type) == known,
    }
}

fn why(error: DecodeError) -> &'static str {
    match error {
        DecodeError::Truncated { .. } => "truncated",
        DecodeError::HeaderLength(_) => "header length",
        DecodeError::BlankMessageType => "blank type",
        DecodeError::ZeroCreatedDate => "zero date",
        DecodeError::PayloadLength { .. } => "payload length",
        DecodeError::Sequence(_) => "sequence",
        DecodeError::Digest => "digest",
        other => panic!("{other}"),
    }
}
