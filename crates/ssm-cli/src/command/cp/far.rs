//! The script on the far side, and what is said to it and by it.
//!
//! Data goes through its input and output. What it has to say comes on its standard error, in lines that begin with `ssm-cp`; it is
//! answered on its descriptor 3. Other lines on standard error are those of its programs, for the user.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use ssm_session::{ControlPlane, Session};
use ssm_shell::{Command, CommandIo, Completed, EndedBy, ExecError, Signal};
use tokio::io::{AsyncWrite, DuplexStream, duplex};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinError, JoinHandle};

use crate::command::{exec::SIGNALS, sh, shell};
use crate::error::Error;
use crate::output::complain;

const COMMON: &str = include_str!("common.sh");
const UPLOAD: &str = include_str!("upload.sh");
const DOWNLOAD: &str = include_str!("download.sh");

/// What the script's own lines begin with.
const MARK: &[u8] = b"ssm-cp ";

/// Longest line, and lines that may wait to be heard.
const LINE_MAX: usize = 8192;
const LINES: usize = 64;

/// How long an end before the end may take.
const STOP: Duration = Duration::from_secs(3);

/// Data that may wait between the session and the disk.
const ROOM: usize = 64 * 1024;

/// What is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Tree,
}

/// The script that takes `name` in at `path`, or into it.
pub(super) fn upload(path: &OsStr, name: &OsStr, kind: Kind) -> Vec<u8> {
    let kind = match kind {
        Kind::File => "file",
        Kind::Tree => "tree",
    };
    let (path, name) = (sh::quoted(path.as_bytes()), sh::quoted(name.as_bytes()));
    [b"D=", &path[..], b"\nN=", &name, b"\nK=", kind.as_bytes(), b"\n", COMMON.as_bytes(), UPLOAD.as_bytes()]
        .concat()
}

/// The script that gives out what is at `path`.
pub(super) fn download(path: &OsStr) -> Vec<u8> {
    [b"S=", &sh::quoted(path.as_bytes())[..], b"\n", COMMON.as_bytes(), DOWNLOAD.as_bytes()].concat()
}

/// A running script.
pub(super) struct Far {
    pub(super) input: Option<DuplexStream>,
    pub(super) input_len: Option<oneshot::Sender<u64>>,
    pub(super) output: DuplexStream,
    said: mpsc::Receiver<String>,
    /// What its programs say is of no interest.
    muted: Arc<AtomicBool>,
    /// What was said and not asked for yet.
    kept: Vec<String>,
    lines: mpsc::Sender<String>,
    pub(super) signals: mpsc::Sender<Signal>,
    /// Until its end was waited for.
    running: Option<JoinHandle<Result<Completed, ExecError>>>,
}

impl Far {
    pub(super) fn start<C: ControlPlane>(session: Session<C>, command: Command) -> Self {
        let (input, from) = duplex(ROOM);
        let (output, to) = duplex(ROOM);
        let muted = Arc::default();
        let (say, said) = mpsc::channel(LINES);
        let (lines, heard) = mpsc::channel(LINES);
        let (input_len, known) = oneshot::channel();
        let (signals, signalled) = mpsc::channel(SIGNALS);
        let io = CommandIo::streams(to, Mouth { line: Vec::new(), say, muted: Arc::clone(&muted) });
        let io = io.input(from).input_len(known).signals(signalled).lines(heard);
        let running = tokio::spawn(async move { ssm_shell::exec(session, &command, io, shell::tell).await });
        Self {
            input: Some(input),
            input_len: Some(input_len),
            output,
            said,
            muted,
            kept: Vec::new(),
            lines,
            signals,
            running: Some(running),
        }
    }

    /// Says something to the script.
    pub(super) async fn say(&self, line: impl Into<String>) {
        // That nobody listens any more shows when an answer is awaited.
        let _ = self.lines.send(line.into()).await;
    }

    /// Waits for the line that begins with `word`, and gives the words behind it.
    pub(super) async fn heard(&mut self, word: &str) -> Result<Vec<String>, Error> {
        let behind = |line: &str| {
            let mut words = line.split_ascii_whitespace();
            (words.next() == Some(word)).then(|| words.map(str::to_owned).collect())
        };
        loop {
            let found = self.kept.iter().position(|line| behind(line).is_some());
            if let Some(words) = found.and_then(|at| behind(&self.kept.remove(at))) {
                return Ok(words);
            }
            match self.said.recv().await {
                Some(line) => match line.strip_prefix("no ") {
                    Some(why) => return Err(Error::Copy(why.to_owned())),
                    None if self.kept.len() < LINES => self.kept.push(line),
                    None => return Err(unexpected(&line)),
                },
                None => return Err(self.ended().await),
            }
        }
    }

    /// Waits for the end, once everything is said.
    pub(super) async fn finish(mut self) -> Result<(), Error> {
        match self.completed().await? {
            Completed { code: 0, .. } => Ok(()),
            completed => Err(end(completed)),
        }
    }

    /// Ends it before its end.
    pub(super) async fn stop(self) {
        self.muted.store(true, Ordering::Relaxed);
        let _ = self.signals.try_send(Signal::Terminate);
        if let Some(running) = self.running {
            let _ = tokio::time::timeout(STOP, running).await;
        }
    }

    async fn completed(&mut self) -> Result<Completed, Error> {
        let running = self.running.take().expect("its end is waited for once");
        let failed = |error: JoinError| Error::Local { what: "a task failed", source: error.into() };
        Ok(running.await.map_err(failed)??)
    }

    async fn ended(&mut self) -> Error {
        match self.completed().await {
            Ok(completed) => end(completed),
            Err(error) => error,
        }
    }
}

fn end(completed: Completed) -> Error {
    match completed.ended_by {
        EndedBy::Signal(_) => Error::Interrupted(completed.code),
        _ => Error::Copy(format!("the far side ended too early, with exit code {}", completed.code)),
    }
}

pub(super) fn unexpected(line: &str) -> Error {
    Error::Copy(format!("the far side said something unexpected: {line}"))
}

/// Standard error of the script: its own lines go to us, all others to the user.
struct Mouth {
    line: Vec<u8>,
    say: mpsc::Sender<String>,
    muted: Arc<AtomicBool>,
}

impl Mouth {
    fn take(&mut self, bytes: &[u8]) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = LINE_MAX.saturating_sub(self.line.len());
            self.line.extend_from_slice(&part[..part.len().min(room)]);
            if part.ends_with(b"\n") {
                self.utter();
            }
        }
    }

    fn utter(&mut self) {
        let line = std::mem::take(&mut self.line);
        let line = line.strip_suffix(b"\n").unwrap_or(&line);
        match line.strip_prefix(MARK) {
            // Who says more than is listened to is not the script.
            Some(said) => drop(self.say.try_send(String::from_utf8_lossy(said).into_owned())),
            None if line.is_empty() || self.muted.load(Ordering::Relaxed) => {}
            None => complain(format_args!("far side: {}", String::from_utf8_lossy(line))),
        }
    }
}

impl Drop for Mouth {
    fn drop(&mut self) {
        self.utter();
    }
}

impl AsyncWrite for Mouth {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.take(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
