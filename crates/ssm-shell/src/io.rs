//! Where the bytes of a session come from and go to.

use std::collections::VecDeque;
use std::fmt;
#[cfg(any(unix, windows))]
use std::io;
use std::time::Duration;

use ssm_session::TerminalSize;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::controls::Controls;
#[cfg(unix)]
use crate::reader::Reader;
use crate::recording::Recording;
use crate::resize;
use crate::sink::Sink;
#[cfg(unix)]
use crate::terminal::is_terminal;
#[cfg(windows)]
use crate::windows::{Reader, is_terminal};
#[cfg(any(unix, windows))]
use crate::writer::Writer;

/// Where the bytes of a session come from and go to.
pub struct Io {
    pub(crate) input: Box<dyn AsyncRead + Send + Unpin>,
    pub(crate) input_kind: InputKind,
    pub(crate) output: Sink,
    pub(crate) error: Sink,
    pub(crate) size: TerminalSize,
    pub(crate) controls: Option<Controls>,
    pub(crate) owner: Owner,
    /// What is typed before the user.
    pub(crate) initial: VecDeque<Box<dyn AsyncRead + Send + Unpin>>,
    pub(crate) escape: Option<u8>,
    pub(crate) idle: Option<Duration>,
    pub(crate) recording: Option<Recording>,
}

/// What begins an escape, unless another character is chosen.
#[cfg(any(unix, windows))]
const ESCAPE: u8 = b'~';

/// What the end of the input means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InputKind {
    /// The user is gone.
    Terminal,
    /// All has been said, and the answer is awaited.
    Stream,
}

/// Who the session is run for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    /// This process: its signals and its terminal count.
    #[cfg(any(unix, windows))]
    Process,
    /// Somebody behind the streams.
    Peer,
}

impl Io {
    /// The standard streams of this process: a terminal, pipes, files, or a mixture of them.
    ///
    /// [`run`](crate::run) then makes a terminal raw, tells the remote side its size (80x24 where there is none), and handles
    /// signals: `SIGINT`, `SIGQUIT` and `SIGTSTP` go to the remote side as Ctrl-C, Ctrl-\ and Ctrl-Z; `SIGTERM` and `SIGHUP`
    /// end the session, as `SIGINT` and `SIGQUIT` do before it has started. The handlers replace inherited ones (but not an
    /// ignored `SIGHUP`) and stay when `run` returns, so the process should then end.
    ///
    /// No stream is made non-blocking, because other processes may share it; three threads read and write them.
    ///
    /// # Errors
    ///
    /// When the system has no threads or descriptors left.
    #[cfg(any(unix, windows))]
    pub fn stdio() -> Result<Self, crate::ShellError> {
        let (reader, output, error) = standard_streams().map_err(crate::ShellError::Setup)?;
        let mut io = Self::streams(reader, output, error);
        io.owner = Owner::Process;
        if is_terminal() {
            io.input_kind = InputKind::Terminal;
            io.escape = Some(ESCAPE);
        }
        Ok(io)
    }

    /// Any streams, as for a terminal inside another program. Signals and the terminal of this process are left alone.
    ///
    /// The end of `input` is told to the remote side, and the session goes on; to end it at once, drop [`run`](crate::run).
    /// The size is 80x24 unless [`controlled`](Self::controlled) tells another.
    pub fn streams(
        input: impl AsyncRead + Send + Unpin + 'static,
        output: impl AsyncWrite + Send + Unpin + 'static,
        error: impl AsyncWrite + Send + Unpin + 'static,
    ) -> Self {
        Self {
            input: Box::new(input),
            input_kind: InputKind::Stream,
            output: Sink::new(output),
            error: Sink::new(error),
            size: resize::UNKNOWN,
            controls: None,
            owner: Owner::Peer,
            initial: VecDeque::new(),
            escape: None,
            idle: None,
            recording: None,
        }
    }

    /// The size of the terminal behind the streams, and a handle for its later sizes, for signals, and to end the session.
    #[must_use]
    pub fn controlled(mut self, size: TerminalSize) -> (Self, Controls) {
        let controls = Controls::default();
        self.size = size;
        self.controls = Some(controls.clone());
        (self, controls)
    }

    /// Input that is sent before any other, to its end; of several, in this order. The end of it is not told to the remote side.
    #[must_use]
    pub fn initial(mut self, input: impl AsyncRead + Send + Unpin + 'static) -> Self {
        self.initial.push_back(Box::new(input));
        self
    }

    /// The character that begins an [`Escape`](crate::Escape) at the start of a line; `None` for no escapes. Default `~` for
    /// [`stdio`](Self::stdio) on a terminal, otherwise none. Standard input that is no terminal has none in any case.
    ///
    /// With escapes, up to 256 KiB of input are read ahead of what can be sent, so that they are found while the connection is
    /// lost.
    #[must_use]
    pub fn escapes(mut self, character: Option<u8>) -> Self {
        let is_typed = self.owner == Owner::Peer || self.input_kind == InputKind::Terminal;
        self.escape = character.filter(|_| is_typed);
        self
    }

    /// Tells with [`Notice::Idle`](crate::Notice::Idle) that nothing was typed and nothing written for this long. Default `None`.
    #[must_use]
    pub fn idle_notice(mut self, after: Option<Duration>) -> Self {
        self.idle = after;
        self
    }

    /// Records what the session shows.
    #[must_use]
    pub fn recorded(mut self, recording: Recording) -> Self {
        self.recording = Some(recording);
        self
    }
}

#[cfg(unix)]
pub(crate) fn standard_streams() -> io::Result<(Reader, Writer, Writer)> {
    use rustix::stdio;

    use crate::reader::Descriptor;

    let reader = Reader::spawn(stdio::stdin())?;
    Ok((reader, Writer::spawn(Descriptor(stdio::stdout()))?, Writer::spawn(Descriptor(stdio::stderr()))?))
}

#[cfg(windows)]
pub(crate) fn standard_streams() -> io::Result<(Reader, Writer, Writer)> {
    Ok((Reader::spawn()?, Writer::spawn(io::stdout())?, Writer::spawn(io::stderr())?))
}

impl fmt::Debug for Io {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Io")
            .field("input_kind", &self.input_kind)
            .field("owner", &self.owner)
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}
