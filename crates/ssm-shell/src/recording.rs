//! A recording of what a session shows: asciicast v2, which asciinema plays.
//!
//! ```text
//! {"version":2,"width":80,"height":24,"timestamp":1764329000}
//! [0.000412,"o","$ "]
//! [1.204411,"r","100x30"]
//! [2.900018,"m","the session has ended"]
//! ```

use std::fmt::{self, Write as _};
use std::io::{self, Write};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use ssm_session::TerminalSize;

/// Where a session is recorded: what it shows and when, and the sizes of its terminal, but not what is typed.
///
/// Each event is one `write` of one line, so what was shown until a crash is there. When the first one fails the rest is not
/// recorded, which is a [`Notice`](crate::Notice), and the session goes on.
pub struct Recording {
    out: Option<Box<dyn Write + Send>>,
    title: Option<String>,
    started: Option<Instant>,
    size: Option<TerminalSize>,
    /// The beginning of a character whose end is in the next message.
    unfinished: Vec<u8>,
    failed: Option<io::Error>,
}

impl Recording {
    /// Records to `out`, which is written to from within [`run`](crate::run): a file.
    pub fn new(out: impl Write + Send + 'static) -> Self {
        Self {
            out: Some(Box::new(out)),
            title: None,
            started: None,
            size: None,
            unfinished: Vec::new(),
            failed: None,
        }
    }

    /// What it shows, for its header. Default nothing.
    #[must_use]
    pub fn titled(mut self, title: impl Into<String>) -> Self {
        self.title = Some(title.into());
        self
    }

    /// The session has started, on a terminal of this size. Later calls do nothing.
    pub(crate) fn start(&mut self, now: Instant, size: TerminalSize) {
        if self.started.is_some() {
            return;
        }
        (self.started, self.size) = (Some(now), Some(size));
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let TerminalSize { cols, rows } = size;
        let mut line = format!(r#"{{"version":2,"width":{cols},"height":{rows},"timestamp":{unix}"#);
        if let Some(title) = &self.title {
            line.push_str(r#","title":"#);
            push_quoted(&mut line, title);
        }
        line.push_str("}\n");
        self.put(&line);
    }

    /// The session has shown something.
    pub(crate) fn show(&mut self, now: Instant, bytes: &[u8]) {
        if self.out.is_none() {
            return;
        }
        let joined;
        let mut bytes = bytes;
        if !self.unfinished.is_empty() {
            joined = [&self.unfinished[..], bytes].concat();
            bytes = &joined;
        }
        let end = bytes.len() - unfinished(bytes);
        let text = String::from_utf8_lossy(&bytes[..end]).into_owned();
        self.unfinished = bytes[end..].to_vec();
        self.event(now, 'o', &text);
    }

    /// The terminal has this size.
    pub(crate) fn resize(&mut self, now: Instant, size: TerminalSize) {
        if self.size.replace(size) == Some(size) {
            return;
        }
        self.event(now, 'r', &format!("{}x{}", size.cols, size.rows));
    }

    /// It is over, for this reason. Version 2 of the format has no event for that; a marker is shown where it stands.
    pub(crate) fn end(&mut self, now: Instant, reason: &str) {
        if !self.unfinished.is_empty() {
            let text = String::from_utf8_lossy(&std::mem::take(&mut self.unfinished)).into_owned();
            self.event(now, 'o', &text);
        }
        self.event(now, 'm', reason);
        if let Some(out) = &mut self.out
            && let Err(error) = out.flush()
        {
            self.fail(error);
        }
    }

    /// Why nothing more is recorded, once.
    pub(crate) fn take_failure(&mut self) -> Option<io::Error> {
        self.failed.take()
    }

    fn event(&mut self, now: Instant, code: char, text: &str) {
        let Some(started) = self.started.filter(|_| !text.is_empty()) else { return };
        let since = now.saturating_duration_since(started);
        let mut line = format!(r#"[{}.{:06},"{code}","#, since.as_secs(), since.subsec_micros());
        push_quoted(&mut line, text);
        line.push_str("]\n");
        self.put(&line);
    }

    fn put(&mut self, line: &str) {
        if let Some(out) = &mut self.out
            && let Err(error) = out.write_all(line.as_bytes())
        {
            self.fail(error);
        }
    }

    fn fail(&mut self, error: io::Error) {
        self.out = None;
        self.failed = Some(error);
    }
}

impl fmt::Debug for Recording {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recording").field("goes_on", &self.out.is_some()).finish_non_exhaustive()
    }
}

/// How many bytes at the end are the beginning of a character: at most 3.
fn unfinished(bytes: &[u8]) -> usize {
    let tail = &bytes[bytes.len().saturating_sub(3)..];
    let Some(lead) = tail.iter().rposition(|byte| byte & 0xc0 != 0x80) else { return 0 };
    match std::str::from_utf8(&tail[lead..]) {
        Err(error) if error.error_len().is_none() => tail.len() - lead,
        _ => 0,
    }
}

/// Adds `text` as a JSON string.
fn push_quoted(line: &mut String, text: &str) {
    line.reserve(text.len() + 2);
    line.push('"');
    for char in text.chars() {
        match char {
            '"' => line.push_str("\\\""),
            '\\' => line.push_str("\\\\"),
            '\r' => line.push_str("\\r"),
            '\n' => line.push_str("\\n"),
            '\0'..='\x1f' | '\x7f' => {
                // Writing to memory does not fail.
                let _ = write!(line, "\\u{:04x}", u32::from(char));
            }
            _ => line.push(char),
        }
    }
    line.push('"');
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::*;

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    const SIZE: TerminalSize = TerminalSize { cols: 80, rows: 24 };

    /// What is recorded, line by line.
    fn recorded(record: impl FnOnce(&mut Recording, Instant)) -> Vec<Value> {
        let memory = Memory::default();
        let start = Instant::now();
        let mut recording = Recording::new(memory.clone()).titled("a \"quoted\" title");
        recording.start(start, SIZE);
        record(&mut recording, start);
        let bytes = memory.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn each_line_is_what_the_format_says() {
        let lines = recorded(|recording, start| {
            recording.start(start, SIZE);
            recording.show(start + Duration::from_millis(1500), b"\x1b[1m\"a\\b\"\x00\x7f\r\n\xc3\xa4");
            recording.resize(start + Duration::from_millis(1900), SIZE);
            recording.resize(start + Duration::from_secs(2), TerminalSize { cols: 100, rows: 30 });
            recording.end(start + Duration::from_micros(3_000_007), "over");
        });
        assert_eq!(lines.len(), 4, "{lines:?}");
        let header = &lines[0];
        assert_eq!(
            (&header["version"], &header["width"], &header["height"]),
            (&json!(2), &json!(80), &json!(24))
        );
        assert_eq!(header["title"], json!("a \"quoted\" title"));
        assert!(header["timestamp"].as_u64().unwrap() > 1_700_000_000);
        assert_eq!(lines[1], json!([1.5, "o", "\x1b[1m\"a\\b\"\0\x7f\r\nä"]));
        assert_eq!(lines[2], json!([2.0, "r", "100x30"]));
        assert_eq!(lines[3], json!([3.000_007, "m", "over"]));
    }

    #[test]
    fn characters_are_put_together_from_their_parts() {
        let text = "aä€😀z";
        let lines = recorded(|recording, start| {
            text.as_bytes().iter().for_each(|byte| recording.show(start, &[*byte]));
            recording.show(start, b"\xff\xf0\x9f");
            recording.end(start, "over");
        });
        let shown: String =
            lines[1..].iter().filter(|line| line[1] == "o").map(|line| line[2].as_str().unwrap()).collect();
        assert_eq!(shown, "aä€😀z\u{fffd}\u{fffd}");
    }

    #[test]
    fn a_full_disk_is_told_once() {
        struct Full(usize);
        impl Write for Full {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0 = self.0.checked_sub(bytes.len()).ok_or(io::ErrorKind::StorageFull)?;
                Ok(bytes.len())
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let now = Instant::now();
        let mut recording = Recording::new(Full(100));
        recording.start(now, SIZE);
        assert!(recording.take_failure().is_none());
        recording.show(now, &[b'x'; 200]);
        assert_eq!(recording.take_failure().unwrap().kind(), io::ErrorKind::StorageFull);
        recording.show(now, b"x");
        recording.end(now, "over");
        assert!(recording.take_failure().is_none());
    }
}
