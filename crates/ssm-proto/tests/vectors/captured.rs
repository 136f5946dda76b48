//! Reads the captured sessions.

use std::fs;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use ssm_proto::{Message, Strictness};

/// One captured frame.
#[derive(Deserialize)]
pub(crate) struct Frame {
    /// File it is from.
    #[serde(skip)]
    pub(crate) file: String,
    pub(crate) n: u32,
    pub(crate) dir: String,
    pub(crate) kind: Kind,
    pub(crate) note: Option<String>,
    b64: String,
    pub(crate) decoded: Option<Decoded>,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    Text,
    Binary,
}

/// The header fields of a frame, decoded by another program than ours.
#[derive(Deserialize)]
pub(crate) struct Decoded {
    pub(crate) header_length: usize,
    pub(crate) message_type: String,
    pub(crate) schema_version: u32,
    pub(crate) created_date: u64,
    pub(crate) sequence_number: i64,
    pub(crate) flags: u64,
    pub(crate) message_id: String,
    pub(crate) payload_digest_hex: String,
    pub(crate) payload_type: u32,
    pub(crate) payload_length: u32,
    pub(crate) payload_length_actual: usize,
    pub(crate) digest_ok: bool,
}

impl Frame {
    pub(crate) fn bytes(&self) -> Bytes {
        from_base64(&self.b64)
    }

    /// Whether AWS's plugin or agent made it.
    pub(crate) fn is_a_peers(&self) -> bool {
        self.dir.starts_with("client->") || self.dir.starts_with("agent->")
    }

    /// The message, for a binary frame.
    pub(crate) fn message(&self) -> Message {
        Message::decode(self.bytes(), Strictness::Strict)
            .unwrap_or_else(|error| panic!("{} frame {}: {error}", self.file, self.n))
    }
}

/// Every frame of every session, in order.
pub(crate) fn frames() -> Vec<Frame> {
    SESSIONS
        .iter()
        .flat_map(|file| {
            lines::<Frame>(file).into_iter().map(|frame| Frame { file: (*file).to_owned(), ..frame })
        })
        .collect()
}

/// The lines of a file of vectors.
pub(crate) fn lines<T: DeserializeOwned>(file: &str) -> Vec<T> {
    text(file).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

pub(crate) fn text(file: &str) -> String {
    fs::read_to_string(folder().join(file)).unwrap()
}

pub(crate) fn from_base64(text: &str) -> Bytes {
    STANDARD.decode(text).unwrap().into()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

const SESSIONS: [&str; 10] = [
    "interactive-command.jsonl",
    "noninteractive.jsonl",
    "port-basic-refused.jsonl",
    "port-basic.jsonl",
    "port-mux-refused.jsonl",
    "port-mux.jsonl",
    "shell-kms.jsonl",
    "shell-terminate-api.jsonl",
    "shell.jsonl",
    "ssh.jsonl",
];

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors")
}

#[test]
fn every_file_of_frames_is_read() {
    let mut found: Vec<_> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".jsonl") && name != "header-edge-cases.jsonl")
        .collect();
    found.sort();
    assert_eq!(found, SESSIONS);
    assert_eq!(frames().len(), 284);
}
