//! `ssm decode`

mod json;

use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};
use std::path::Path;
use std::process::ExitCode;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use ssm_proto::body::ControlFlag;
use ssm_proto::{Flags, Layout, Message, MessageType, PayloadType, Strictness};

use crate::args::DecodeArgs;
use crate::error::Error;
use crate::output::{Reader, complain, print};

/// Longest line of a capture, in bytes: that of the largest WebSocket frame, and what is around it.
const LINE_MAX: u64 = 32 * 1024 * 1024;

/// Bytes of a payload that are printed.
const SHOWN: usize = 160;

/// Runs the command.
pub(crate) fn run(args: &DecodeArgs) -> Result<ExitCode, Error> {
    let failed = |error: io::Error| Error::Usage(format!("cannot read {}: {error}", args.file.display()));
    let mut input: Box<dyn BufRead> = if args.file == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        Box::new(BufReader::new(File::open(&args.file).map_err(failed)?))
    };
    let shown = if args.full { usize::MAX } else { SHOWN };
    let mut decoder = Decoder { shown, began: None };
    let (mut line, mut number, mut unread) = (Vec::new(), 0_u64, 0_u64);
    loop {
        line.clear();
        if (&mut input).take(LINE_MAX).read_until(b'\n', &mut line).map_err(failed)? == 0 {
            break;
        }
        number += 1;
        let text = decoder.line(&line);
        if text.is_none() {
            unread += 1;
            complain(format_args!("line {number} is no frame of a capture"));
        }
        if let Some(text) = text
            && print(text)? == Reader::Gone
        {
            return Ok(ExitCode::SUCCESS);
        }
    }
    Ok(ExitCode::from(u8::from(unread > 0)))
}

/// A line of a capture. Captures of AWS's programs have some fields more.
#[derive(Debug, Deserialize)]
struct Line {
    #[serde(default)]
    n: u64,
    #[serde(default)]
    t: f64,
    dir: String,
    #[serde(default)]
    kind: String,
    b64: Option<String>,
    text: Option<String>,
    code: Option<u16>,
}

struct Decoder {
    /// Bytes of a payload that are printed.
    shown: usize,
    /// The time of the first frame.
    began: Option<f64>,
}

impl Decoder {
    /// A line of a capture as one for a person; `None` when it is none.
    fn line(&mut self, line: &[u8]) -> Option<String> {
        let line: Line = serde_json::from_slice(line).ok()?;
        let began = *self.began.get_or_insert(line.t);
        let bytes = match (line.b64, line.text) {
            (Some(b64), _) => Some(STANDARD.decode(b64).ok()?),
            (None, Some(text)) => Some(text.into_bytes()),
            (None, None) => None,
        };
        let mut shown = format!("{:>5}  +{:.6}  {:<16} ", line.n, line.t - began, visible(&line.dir));
        // Writing to memory does not fail.
        let _ = match (line.kind.as_str(), bytes) {
            ("text", Some(bytes)) => {
                shown.push_str("text  ");
                self.json(&bytes, &mut shown);
                Ok(())
            }
            ("binary", Some(bytes)) => self.message(bytes.into(), &mut shown),
            ("ping" | "pong", Some(bytes)) => {
                let written = write!(shown, "{}  ", line.kind);
                self.quoted(&bytes, &mut shown);
                written
            }
            ("close", _) => match line.code {
                Some(code) => write!(shown, "close  {code}"),
                None => write!(shown, "close"),
            },
            // Something beside the data channel: a key, for one.
            (kind, _) => write!(shown, "{}", visible(kind)),
        };
        shown.push('\n');
        Some(shown)
    }

    fn message(&self, frame: Bytes, out: &mut String) -> fmt::Result {
        let len = frame.len();
        let (message, doubt) = match Message::decode(frame.clone(), Strictness::Strict) {
            Ok(message) => (message, None),
            Err(error) => match Message::decode(frame.clone(), Strictness::Unchecked) {
                Ok(message) => (message, Some(error)),
                Err(error) => {
                    write!(out, "{len} bytes that are no message: {error}  ")?;
                    self.quoted(&frame, out);
                    return Ok(());
                }
            },
        };
        let header = &message.header;
        write!(out, "{}", visible(&header.message_type.to_string()))?;
        if header.message_type.is_stream() {
            write!(out, "  seq {}", header.sequence)?;
        }
        if header.flags != Flags::NONE {
            write!(out, "  flags {}", header.flags.0)?;
        }
        if header.layout == Layout::Service {
            out.push_str("  service header");
        }
        let kind = header.payload_type.filter(|_| header.message_type.is_stream());
        if let Some(kind) = kind {
            write!(out, "  {kind:?}")?;
        }
        write!(out, "  {} bytes", message.payload.len())?;
        if let Some(doubt) = doubt {
            write!(out, "  ({doubt})")?;
        }
        if !message.payload.is_empty() {
            out.push_str("  ");
            self.payload(header.message_type, kind, &message.payload, out)?;
        }
        Ok(())
    }

    fn payload(
        &self,
        message: MessageType,
        kind: Option<PayloadType>,
        payload: &[u8],
        out: &mut String,
    ) -> fmt::Result {
        let structured = !message.is_stream()
            || !matches!(
                kind,
                Some(PayloadType::Output | PayloadType::StdErr | PayloadType::ExitCode) | None
            );
        match kind {
            Some(PayloadType::Flag) => write!(out, "{:?}", ControlFlag::decode(payload))?,
            _ if structured => self.json(payload, out),
            _ => self.quoted(payload, out),
        }
        Ok(())
    }

    /// JSON on one line, without tokens; what is no JSON as it is.
    fn json(&self, bytes: &[u8], out: &mut String) {
        if !json::push(bytes, out) {
            self.quoted(bytes, out);
        }
    }

    /// Bytes in quotes, up to as many as are shown.
    fn quoted(&self, bytes: &[u8], out: &mut String) {
        let front = &bytes[..bytes.len().min(self.shown)];
        out.push('"');
        for chunk in front.utf8_chunks() {
            for char in chunk.valid().chars() {
                match char {
                    '"' | '\\' => out.extend(['\\', char]),
                    _ => push_visible(char, out),
                }
            }
            for byte in chunk.invalid() {
                // Writing to memory does not fail.
                let _ = write!(out, "\\x{byte:02x}");
            }
        }
        out.push_str(if front.len() < bytes.len() { "\"..." } else { "\"" });
    }
}

/// Text in which nothing does anything to a terminal.
fn visible(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut shown, char| {
        push_visible(char, &mut shown);
        shown
    })
}

/// Adds a character so that it does nothing to a terminal.
fn push_visible(char: char, out: &mut String) {
    match char {
        ' '..='~' => out.push(char),
        '\0'..='\x1f' | '\x7f' if !matches!(char, '\r' | '\n' | '\t') => {
            let _ = write!(out, "\\x{:02x}", u32::from(char));
        }
        _ if char.is_alphanumeric() => out.push(char),
        _ => out.extend(char.escape_default()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn decoder() -> Decoder {
        Decoder { shown: SHOWN, began: None }
    }

    fn vectors() -> Vec<(String, String)> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../ssm-proto/tests/vectors");
        let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let captures = files.filter(|path| {
            path.extension().is_some_and(|end| end == "jsonl") && !path.ends_with("header-edge-cases.jsonl")
        });
        captures.map(|path| (path.display().to_string(), fs::read_to_string(&path).unwrap())).collect()
    }

    #[test]
    fn captures_of_aws_programs_are_read_without_their_tokens() {
        let vectors = vectors();
        assert!(vectors.len() >= 8);
        for (name, text) in vectors {
            let mut decoder = decoder();
            for line in text.lines() {
                let shown = decoder.line(line.as_bytes()).unwrap_or_else(|| panic!("{name}: {line}"));
                assert!(shown.ends_with('\n') && shown.lines().count() == 1, "{name}: {shown:?}");
                assert!(shown.trim_end().chars().all(|char| !char.is_control()), "{name}: {shown:?}");
                let frame: Value = serde_json::from_str(line).unwrap();
                if let Some(token) = frame["text"].as_str().and_then(|text| {
                    serde_json::from_str::<Value>(text).ok()?["TokenValue"].as_str().map(String::from)
                }) {
                    assert!(!shown.contains(&token) && shown.contains("REDACTED"), "{name}: {shown}");
                }
            }
        }
    }

    #[test]
    fn a_line_says_what_the_frame_is() {
        let (_, shell) = vectors().into_iter().find(|(name, _)| name.ends_with("/shell.jsonl")).unwrap();
        let mut decoder = decoder();
        let shown: Vec<String> = shell.lines().filter_map(|line| decoder.line(line.as_bytes())).collect();
        let has = |words: &[&str]| shown.iter().any(|line| words.iter().all(|word| line.contains(word)));
        assert!(has(&["client->agent", "input_stream_data", "Size", r#"{"cols":"#]), "{shown:#?}");
        assert!(has(&["agent->client", "output_stream_data", "seq 0", "Output"]), "{shown:#?}");
        assert!(has(&["acknowledge", "AcknowledgedMessageSequenceNumber"]), "{shown:#?}");
        assert!(has(&["channel_closed"]), "{shown:#?}");
    }

    #[test]
    fn control_characters_are_written_out() {
        let quoted = |bytes: &[u8]| {
            let mut out = String::new();
            decoder().quoted(bytes, &mut out);
            out
        };
        assert_eq!(quoted(b"a\x1b[2J\r\n\"\\\xff\xc3\xa4"), r#""a\x1b[2J\r\n\"\\\xffä""#);
        assert_eq!(quoted(&[b'x'; 200]), format!("\"{}\"...", "x".repeat(SHOWN)));
        assert_eq!(visible("\u{202e}\u{9b}"), "\\u{202e}\\u{9b}");
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(frame in proptest::collection::vec(any::<u8>(), 0..300), text in ".{0,80}", header: bool) {
            let mut frame = frame;
            if header && frame.len() > 4 {
                frame[..4].copy_from_slice(&116_u32.to_be_bytes());
            }
            let _ = decoder().message(frame.clone().into(), &mut String::new());
            let _ = decoder().line(&frame);
            let line = json!({ "dir": text, "kind": "binary", "b64": STANDARD.encode(&frame), "t": 1e300 });
            let shown = decoder().line(line.to_string().as_bytes()).unwrap();
            prop_assert!(shown.trim_end().chars().all(|char| !char.is_control()));
            let line = json!({ "dir": "x", "kind": "text", "text": text });
            prop_assert!(decoder().line(line.to_string().as_bytes()).is_some());
        }
    }
}
