//! Shells and interactive commands: a process on a pseudo terminal.

use std::collections::VecDeque;
use std::future::Future as _;
use std::io;
use std::path::Path;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use pty_process::{Pty, Size};
use serde_json::Value;
use ssm_proto::PayloadType;
use ssm_proto::body::TerminalSize;
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::process::Child;

use super::pace::Pace;
use super::{Finish, reap};
use crate::config::{Config, Profile};
use crate::wire::Wire;

/// Input that may wait for the terminal.
const INPUT_LIMIT: usize = 64 * 1024;
/// What AWS's agent waits before it reads the terminal for the first time (agent `shell.go`).
const FIRST_READ: Duration = Duration::from_secs(1);
/// How long output is still looked for after the process has ended, while something else holds its terminal open.
const LAST_OUTPUT: Duration = Duration::from_millis(100);
/// Reads before other work has its turn.
const BATCH: usize = 32;

/// A process on a terminal.
pub(crate) struct Shell {
    pty: Pty,
    child: Child,
    profile: Profile,
    input: VecDeque<Bytes>,
    input_bytes: usize,
    pace: Pace,
    first_read: Option<Instant>,
    /// The start of a character whose end has not been read.
    carry: Vec<u8>,
    output: Output,
    /// When the process ended.
    exited: Option<Instant>,
    wake: Option<Instant>,
}

/// Whether the terminal can give more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Output {
    /// There was nothing to read at the last look.
    Quiet,
    /// There may be more, but the channel or the pace is in the way.
    Held,
    /// Every process has closed the terminal.
    Ended,
}

impl Shell {
    /// Starts the command of the document's properties, or a shell.
    pub(super) fn start(properties: &Value, config: &Config, now: Instant) -> Result<Self, Finish> {
        let spawned = spawn(commands(properties), config);
        let (pty, child) =
            spawned.map_err(|error| Finish::failed(format!("Unable to start shell: {error}")))?;
        let first_read = (config.profile == Profile::Aws).then(|| now + FIRST_READ);
        Ok(Self {
            pty,
            child,
            profile: config.profile,
            input: VecDeque::new(),
            input_bytes: 0,
            pace: Pace::new(config.profile),
            first_read,
            carry: Vec::new(),
            output: Output::Quiet,
            exited: None,
            wake: None,
        })
    }

    pub(super) fn handle(&mut self, kind: PayloadType, payload: Bytes) {
        match kind {
            PayloadType::Output => {
                self.input_bytes += payload.len();
                self.input.push_back(payload);
            }
            PayloadType::Size => {
                let Ok(size) = TerminalSize::decode(&payload) else { return };
                let side = |value: u32| u16::try_from(value).unwrap_or(u16::MAX);
                if let Err(error) = self.pty.resize(Size::new(side(size.rows), side(size.cols))) {
                    tracing::debug!(%error, "terminal not resized");
                }
            }
            _ => {}
        }
    }

    pub(super) fn has_room(&self) -> bool {
        self.input_bytes < INPUT_LIMIT
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.wake
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>, wire: &mut Wire) -> Poll<Finish> {
        self.wake = None;
        self.poll_child(cx, wire.now());
        self.poll_output(cx, wire);
        // The last: a terminal that is hung up and full is always ready to be written to and takes nothing, which uses up what a task
        // may do in one go.
        self.poll_input(cx);
        let Some(exited) = self.exited else { return Poll::Pending };
        match self.output {
            Output::Ended => Poll::Ready(Finish::announced()),
            Output::Held => Poll::Pending,
            Output::Quiet if exited + LAST_OUTPUT <= wire.now() => Poll::Ready(Finish::announced()),
            Output::Quiet => {
                self.wake = Some(exited + LAST_OUTPUT);
                Poll::Pending
            }
        }
    }

    fn poll_input(&mut self, cx: &mut Context<'_>) {
        if self.exited.is_some() || self.output == Output::Ended {
            // Nobody reads the terminal any more.
            self.input.clear();
            self.input_bytes = 0;
        }
        while let Some(chunk) = self.input.front_mut() {
            let written = match Pin::new(&mut self.pty).poll_write(cx, chunk) {
                Poll::Ready(Ok(written)) => written,
                Poll::Ready(Err(_)) => chunk.len(),
                Poll::Pending => return,
            };
            chunk.advance(written);
            self.input_bytes -= written;
            if chunk.is_empty() {
                self.input.pop_front();
            }
        }
    }

    fn poll_child(&mut self, cx: &mut Context<'_>, now: Instant) {
        if self.exited.is_none()
            && let Poll::Ready(status) = pin!(self.child.wait()).poll(cx)
        {
            tracing::debug!(?status, "shell ended");
            self.exited = Some(now);
        }
    }

    fn poll_output(&mut self, cx: &mut Context<'_>, wire: &mut Wire) {
        for _ in 0..BATCH {
            if self.output == Output::Ended {
                return;
            }
            self.output = Output::Held;
            let wait = self.first_read.max(self.pace.wait(wire.now())).filter(|until| *until > wire.now());
            if wait.is_some() {
                self.wake = wait;
                return;
            }
            if !wire.can_send(cx) {
                return;
            }
            self.output = self.read(cx, wire);
            if self.output != Output::Held {
                return;
            }
        }
        cx.waker().wake_by_ref();
    }

    /// Reads and sends once. [`Output::Held`] stands for success: there may be more.
    fn read(&mut self, cx: &mut Context<'_>, wire: &mut Wire) -> Output {
        let mut buf = wire.buffer();
        buf.put_slice(&self.carry);
        let mut spare = buf.spare_mut();
        let read = pin!(self.pty.read_buf(&mut spare)).poll(cx);
        match read {
            Poll::Ready(Ok(len)) if len > 0 => {}
            Poll::Ready(_) => {
                wire.recycle(buf);
                return Output::Ended;
            }
            Poll::Pending => {
                wire.recycle(buf);
                return Output::Quiet;
            }
        }
        self.carry.clear();
        if self.profile == Profile::Aws {
            let cut = unfinished(buf.payload());
            let end = buf.len() - cut;
            self.carry.extend_from_slice(&buf.payload()[end..]);
            buf.truncate(end);
        }
        if buf.is_empty() {
            wire.recycle(buf);
        } else {
            wire.send(PayloadType::Output, buf);
            self.pace.sent(wire.now());
        }
        Output::Held
    }

    /// Hangs the terminal up, which ends an interactive shell and its jobs, and makes sure of the process.
    pub(super) async fn stop(self) {
        drop(self.pty);
        reap(self.child).await;
    }
}

/// How many bytes at the end are not, or not yet, a character: at most 3, which AWS's agent keeps for the next message
/// (agent `shell.go` `processStdoutData`).
fn unfinished(bytes: &[u8]) -> usize {
    let tail = &bytes[bytes.len().saturating_sub(4)..];
    // A cut character begins with its leading byte; what stands before it is complete or hopeless.
    let lead = tail.iter().rposition(|byte| byte & 0xc0 != 0x80).unwrap_or(0);
    let last = &tail[lead..];
    if std::str::from_utf8(last).is_err() { last.len().min(3) } else { 0 }
}

/// The command of this platform in a document's properties.
fn commands(properties: &Value) -> Option<&str> {
    let platform = if cfg!(target_os = "macos") { "macos" } else { "linux" };
    properties[platform]["commands"].as_str().filter(|commands| !commands.trim().is_empty())
}

fn spawn(commands: Option<&str>, config: &Config) -> io::Result<(Pty, Child)> {
    let (pty, pts) = pty_process::open().map_err(io::Error::other)?;
    pty.resize(Size::new(24, 80)).map_err(io::Error::other)?;
    let default = if Path::new("/bin/bash").exists() { "/bin/bash" } else { "/bin/sh" };
    let mut command = match commands {
        Some(commands) => pty_process::Command::new("/bin/sh").args(["-c", commands]),
        None => pty_process::Command::new(config.shell.as_deref().unwrap_or_else(|| Path::new(default))),
    };
    command =
        command.env("TERM", "xterm-256color").env_remove("AWS_SSM_START_SESSION_RESPONSE").kill_on_drop(true);
    if std::env::var_os("LANG").is_none() {
        command = command.env("LANG", "C.UTF-8");
    }
    if let Some(home) = config.home.clone().or_else(std::env::home_dir).filter(|home| home.is_dir()) {
        command = command.env("HOME", &home).current_dir(home);
    }
    let child = command.spawn(pts).map_err(io::Error::other)?;
    Ok((pty, child))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_character_is_cut_where_it_begins() {
        for (bytes, expected) in [
            (&b""[..], 0),
            (b"abc", 0),
            ("aé".as_bytes(), 0),
            (b"a\xc3", 1),
            (b"\xe2\x82", 2),
            (b"ab\xf0\x9f\x98", 3),
            ("😀".as_bytes(), 0),
            (b"a\xff", 1),
            (b"\x80", 1),
            (b"a\xffb", 0),
        ] {
            assert_eq!(unfinished(bytes), expected, "{bytes:?}");
        }
    }
}
