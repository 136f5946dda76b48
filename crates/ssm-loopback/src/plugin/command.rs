//! Commands without a terminal.
//!
//! With `separateOutputStream` standard output and error are sent as they come and an exit code follows; without, both
//! go to a file that is sent after the end, and there is no exit code (agent `shell.go`).

use std::fs::{File, OpenOptions};
use std::future::Future as _;
use std::io::{self, Read, Seek};
use std::pin::pin;
use std::process::Stdio;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use ssm_proto::PayloadType;
use ssm_proto::body::ExitCode;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, ChildStderr, ChildStdout};

use super::pace::Pace;
use super::{Finish, exit_code, reap, signal_group};
use crate::config::Profile;
use crate::random;
use crate::wire::Wire;

/// How long AWS's agent takes to say why a command did not start.
const START_ERROR: Duration = Duration::from_secs(1);
/// Reads before other work has its turn.
const BATCH: usize = 32;

/// A command and what is left to send of it.
pub(crate) struct Command {
    child: Option<Child>,
    output: Output,
    /// The user's signal made it end, which AWS's agent reports as exit code 1.
    signal: Option<Signal>,
    code: Option<i32>,
    /// Why it did not start, and when to say so.
    start_error: Option<(Instant, String)>,
    pace: Pace,
    wake: Option<Instant>,
}

enum Output {
    Separate {
        stdout: Option<Pipe<ChildStdout>>,
        stderr: Option<Pipe<ChildStderr>>,
        code: ReportCode,
    },
    /// Both streams, in a file that has no name any more.
    Combined(File),
}

/// Whether the exit code has been sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ReportCode {
    Due,
    Sent,
}

struct Pipe<R> {
    reader: R,
    kind: PayloadType,
    /// Put in front of the first chunk, and of each that follows a line end.
    prefix: String,
    at_line_start: bool,
}

impl Command {
    pub(super) fn start(properties: &Value, profile: Profile, now: Instant) -> Result<Self, Finish> {
        let platform = if cfg!(target_os = "macos") { "macos" } else { "linux" };
        let properties = &properties[platform];
        let line = properties["commands"].as_str().unwrap_or_default();
        let separate = is_true(&properties["separateOutputStream"]);
        let prefix = |name: &str| properties[name].as_str().unwrap_or_default().to_owned();
        let prefixes = (prefix("stdOutSeparatorPrefix"), prefix("stdErrSeparatorPrefix"));
        let file = spool().map_err(|error| Finish::failed(format!("Unable to start command: {error}")))?;
        let (child, start_error) = match spawn(line, separate, &file) {
            Ok(child) => (Some(child), None),
            Err(error) => {
                let delay = if profile == Profile::Aws { START_ERROR } else { Duration::ZERO };
                (None, Some((now + delay, error)))
            }
        };
        let mut command = Self {
            output: Output::Combined(file),
            signal: None,
            code: start_error.as_ref().map(|_| 1),
            child,
            start_error,
            pace: Pace::new(profile),
            wake: None,
        };
        if separate {
            let child = command.child.as_mut();
            let (stdout, stderr) =
                child.map_or((None, None), |child| (child.stdout.take(), child.stderr.take()));
            command.output = Output::Separate {
                stdout: stdout.map(|reader| Pipe::new(reader, PayloadType::Output, prefixes.0)),
                stderr: stderr.map(|reader| Pipe::new(reader, PayloadType::StdErr, prefixes.1)),
                code: ReportCode::Due,
            };
        }
        Ok(command)
    }

    /// Input is only looked through for the first Ctrl-C or Ctrl-\.
    pub(super) fn handle(&mut self, kind: PayloadType, payload: &[u8]) {
        if kind != PayloadType::Output || self.signal.is_some() {
            return;
        }
        self.signal = payload.iter().find_map(|byte| match byte {
            0x03 => Some(Signal::INT),
            0x1c => Some(Signal::QUIT),
            _ => None,
        });
        if let (Some(signal), Some(child)) = (self.signal, &self.child) {
            signal_group(child, signal);
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.wake
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>, wire: &mut Wire) -> Poll<Finish> {
        self.wake = None;
        self.poll_child(cx);
        let ended = self.child.is_none();
        let sent = match &mut self.output {
            Output::Separate { stdout, stderr, code } => {
                let out = poll_pipe(cx, wire, stdout);
                let err = poll_pipe(cx, wire, stderr);
                if out.is_pending() || err.is_pending() || !ended {
                    return Poll::Pending;
                }
                poll_code(cx, wire, code, self.code)
            }
            Output::Combined(file) if ended => poll_file(cx, wire, file, &mut self.pace, &mut self.wake),
            Output::Combined(_) => Poll::Pending,
        };
        if sent.is_pending() || self.poll_start_error(cx, wire).is_pending() {
            return Poll::Pending;
        }
        Poll::Ready(Finish::announced())
    }

    fn poll_child(&mut self, cx: &mut Context<'_>) {
        let Some(child) = &mut self.child else { return };
        let Poll::Ready(status) = pin!(child.wait()).poll(cx) else { return };
        let code = status.map_or(-1, exit_code);
        self.code = Some(if self.signal.is_some() && code < 0 { 1 } else { code });
        self.child = None;
        // The child wrote through a copy of this handle, which shares its position.
        if let Output::Combined(file) = &mut self.output
            && let Err(error) = file.rewind()
        {
            tracing::warn!(%error, "output of the command cannot be read");
        }
    }

    fn poll_start_error(&mut self, cx: &mut Context<'_>, wire: &mut Wire) -> Poll<()> {
        let Some((due, text)) = &self.start_error else { return Poll::Ready(()) };
        if *due > wire.now() {
            self.wake = Some(*due);
            return Poll::Pending;
        }
        if !wire.can_send(cx) {
            return Poll::Pending;
        }
        wire.send_bytes(PayloadType::StdErr, text.as_bytes());
        self.start_error = None;
        Poll::Ready(())
    }

    pub(super) async fn stop(self) {
        if let Some(child) = self.child {
            signal_group(&child, Signal::KILL);
            reap(child).await;
        }
    }
}

fn poll_code(cx: &mut Context<'_>, wire: &mut Wire, report: &mut ReportCode, code: Option<i32>) -> Poll<()> {
    if *report == ReportCode::Due {
        if !wire.can_send(cx) {
            return Poll::Pending;
        }
        wire.send_bytes(PayloadType::ExitCode, &ExitCode(code.unwrap_or(-1)).encode());
        *report = ReportCode::Sent;
    }
    Poll::Ready(())
}

/// Sends what a pipe has, without a pause. Ready at its end.
fn poll_pipe<R: AsyncRead + Unpin>(
    cx: &mut Context<'_>,
    wire: &mut Wire,
    slot: &mut Option<Pipe<R>>,
) -> Poll<()> {
    while let Some(pipe) = slot {
        if !wire.can_send(cx) {
            return Poll::Pending;
        }
        let mut buf = wire.buffer();
        if pipe.at_line_start && pipe.prefix.len() < buf.spare_len() {
            buf.put_slice(pipe.prefix.as_bytes());
        }
        let mut spare = buf.spare_mut();
        let read = pin!(pipe.reader.read_buf(&mut spare)).poll(cx);
        match read {
            Poll::Ready(Ok(len)) if len > 0 => {
                pipe.at_line_start = buf.payload().ends_with(b"\n");
                wire.send(pipe.kind, buf);
            }
            Poll::Ready(_) => {
                wire.recycle(buf);
                *slot = None;
            }
            Poll::Pending => {
                wire.recycle(buf);
                return Poll::Pending;
            }
        }
    }
    Poll::Ready(())
}

/// Sends the rest of the file. Ready at its end.
fn poll_file(
    cx: &mut Context<'_>,
    wire: &mut Wire,
    file: &mut File,
    pace: &mut Pace,
    wake: &mut Option<Instant>,
) -> Poll<()> {
    for _ in 0..BATCH {
        if let Some(until) = pace.wait(wire.now()) {
            *wake = Some(until);
            return Poll::Pending;
        }
        if !wire.can_send(cx) {
            return Poll::Pending;
        }
        let mut buf = wire.buffer();
        let mut chunk = [0; 1024];
        let room = chunk.len().min(buf.spare_len());
        let len = file.read(&mut chunk[..room]).unwrap_or(0);
        if len == 0 {
            wire.recycle(buf);
            return Poll::Ready(());
        }
        buf.put_slice(&chunk[..len]);
        wire.send(PayloadType::Output, buf);
        pace.sent(wire.now());
    }
    cx.waker().wake_by_ref();
    Poll::Pending
}

impl<R> Pipe<R> {
    fn new(reader: R, kind: PayloadType, prefix: String) -> Self {
        Self { reader, kind, prefix, at_line_start: true }
    }
}

/// A file for the output of a command, which nothing else can open.
fn spool() -> io::Result<File> {
    let name = format!("ssm-loopback-{}", random::text(random::SUFFIX, 26));
    let path = std::env::temp_dir().join(name);
    let file = OpenOptions::new().read(true).append(true).create_new(true).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

fn spawn(line: &str, separate: bool, spool: &File) -> Result<Child, String> {
    let words = split_words(line).ok_or("Unable to start command: quotes are not closed")?;
    let (program, arguments) = words.split_first().ok_or("Unable to start command: it is empty")?;
    let mut command = tokio::process::Command::new(program);
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true).process_group(0);
    command.env_remove("AWS_SSM_START_SESSION_RESPONSE");
    if separate {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
    } else {
        let file =
            |_| -> Result<Stdio, String> { Ok(spool.try_clone().map_err(|error| error.to_string())?.into()) };
        command.stdout(file(())?).stderr(file(())?);
    }
    command.spawn().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => format!("fork/exec {program}: no such file or directory"),
        _ => format!("fork/exec {program}: {error}"),
    })
}

/// Splits a command line as a shell does, with quotes and backslashes and nothing else. None when a quote stays open.
fn split_words(line: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            c if c.is_ascii_whitespace() => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next()? {
                        '\'' => break,
                        c => word.push(c),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next()? {
                        '"' => break,
                        '\\' => match chars.next()? {
                            c @ ('"' | '\\' | '$' | '`') => word.push(c),
                            c => word.extend(['\\', c]),
                        },
                        c => word.push(c),
                    }
                }
            }
            '\\' => word.get_or_insert_default().push(chars.next()?),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Some(words)
}

fn is_true(value: &Value) -> bool {
    value.as_bool() == Some(true) || value.as_str() == Some("true")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_as_a_shell_does() {
        let cases = [
            ("ls -l  /tmp", Some(vec!["ls", "-l", "/tmp"])),
            (r#"sh -c 'echo "a b"; exit 3'"#, Some(vec!["sh", "-c", r#"echo "a b"; exit 3"#])),
            (r#"echo "a \"b\" \n" c\ d '' "#, Some(vec!["echo", r#"a "b" \n"#, "c d", ""])),
            ("", Some(vec![])),
            ("echo 'open", None),
            (r"echo \", None),
        ];
        for (line, expected) in cases {
            let expected: Option<Vec<String>> =
                expected.map(|words: Vec<&str>| words.into_iter().map(str::to_owned).collect());
            assert_eq!(split_words(line), expected, "{line}");
        }
    }
}
