//! Output of many machines, line by line.

use std::io::{self, Write};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use serde_json::json;
use tokio::io::AsyncWrite;

use crate::output::Json;

/// Longest line that is kept together.
const LINE_MAX: usize = 64 * 1024;

/// How lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// As they are, behind the name of their machine.
    Prefixed,
    Json,
}

/// Which output a line is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    Output,
    Error,
}

/// What became of the command on a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    Exit(u8),
    Failed(String),
}

/// Writes one output of one machine in whole lines.
#[derive(Debug, Clone)]
pub(super) struct Lines {
    target: Arc<str>,
    stream: Stream,
    form: Form,
    line: Arc<Mutex<Vec<u8>>>,
}

impl Lines {
    pub(super) fn new(target: &Arc<str>, stream: Stream, form: Form) -> Self {
        Self { target: Arc::clone(target), stream, form, line: Arc::default() }
    }

    /// Takes output in.
    pub(super) fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            line.extend_from_slice(part);
            if part.ends_with(b"\n") || line.len() >= LINE_MAX {
                self.print(&line)?;
                line.clear();
            }
        }
        Ok(())
    }

    /// Writes the line that has no end.
    pub(super) fn finish(&self) -> io::Result<()> {
        let line = std::mem::take(&mut *self.line.lock().unwrap_or_else(PoisonError::into_inner));
        if line.is_empty() { Ok(()) } else { self.print(&line) }
    }

    fn print(&self, line: &[u8]) -> io::Result<()> {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = formatted(&self.target, self.stream, self.form, line);
        // In one write, so that lines of several machines do not mix.
        match (self.form, self.stream) {
            (Form::Prefixed, Stream::Error) => io::stderr().lock().write_all(&line),
            _ => io::stdout().lock().write_all(&line),
        }
    }
}

fn formatted(target: &str, stream: Stream, form: Form, line: &[u8]) -> Vec<u8> {
    match form {
        Form::Prefixed => [target.as_bytes(), b": ", line, b"\n"].concat(),
        Form::Json => {
            let stream = match stream {
                Stream::Output => "stdout",
                Stream::Error => "stderr",
            };
            let line = String::from_utf8_lossy(line);
            format!("{}\n", Json(json!({ "target": target, "stream": stream, "line": line }))).into_bytes()
        }
    }
}

/// Writes what became of a machine's command, where lines are JSON.
pub(super) fn tell(target: &str, outcome: &Outcome) -> io::Result<()> {
    let line = match outcome {
        Outcome::Exit(code) => json!({ "target": target, "exit_code": code }),
        Outcome::Failed(error) => json!({ "target": target, "exit_code": null, "error": error }),
    };
    writeln!(io::stdout().lock(), "{}", Json(line))
}

impl AsyncWrite for Lines {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(self.write(bytes).map(|()| bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(io::stdout().lock().flush())
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_begins_with_its_machine() {
        assert_eq!(formatted("web-1", Stream::Output, Form::Prefixed, b"a\xff"), b"web-1: a\xff\n");
    }

    #[test]
    fn json_is_one_line_of_text() {
        let line = formatted("web-1", Stream::Error, Form::Json, b"a\xff\"");
        let line = String::from_utf8(line).unwrap();
        assert_eq!(line, "{\"line\":\"a\u{fffd}\\\"\",\"stream\":\"stderr\",\"target\":\"web-1\"}\n");
    }
}
