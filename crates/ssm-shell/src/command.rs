//! Commands as `ssh` runs them: input, output and errors apart, and an exit code, over a session that has none of that.
//!
//! The session is one of `AWS-StartInteractiveCommand`: a terminal and nothing else, which every agent has. A wrapper on the far
//! side makes the rest of it (`script.rs`); it speaks in lines of text (`frames.rs`, `batches.rs`). Sessions without a terminal
//! would not do: they have no input, and AWS's own document for them sends no exit code (agent `shell.go`).

mod batches;
mod frames;
mod script;

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use ssm_session::{
    CloseReason, ControlPlane, Event, MessageBuf, PayloadType, Session, SessionKind, StartSession,
};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::sync::{mpsc, oneshot};

use self::batches::Batches;
use self::frames::{Frame, Frames};
use crate::alarm::{Alarm, now};
use crate::outputs::Outputs;
use crate::shell::end;
use crate::sink::Sink;
use crate::{EndedBy, Notice};

/// Events taken, and messages sent, before the other steps of a turn have theirs.
const EVENTS_PER_TURN: usize = 64;
const SENDS_PER_TURN: usize = 64;

/// How long the far side may take to start the command.
const START: Duration = Duration::from_secs(60);

/// How long a command may take to heed a signal before it is killed, and how long that may take.
const HEED: Duration = Duration::from_secs(5);
const KILL: Duration = Duration::from_secs(2);

/// How long the service may take to say that the session is over once the command is.
const LEAVE: Duration = Duration::from_millis(500);

/// A command for the far side's `sh`.
#[derive(Debug, Clone)]
pub struct Command {
    /// `None` for that of a session that was started elsewhere.
    token: Option<String>,
    script: String,
}

/// Why there can be no such command.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// It holds a NUL.
    #[error("a command cannot hold a NUL byte")]
    Nul,
    /// It does not fit into a session's parameters.
    #[error(
        "the command is too long ({len} bytes, and {} are possible); give it on stdin: ssm exec TARGET -- sh -s < FILE",
        script::LINE_MAX
    )]
    TooLong {
        /// Its length, as it is sent.
        len: usize,
    },
    /// The system has no random numbers.
    #[error("no random numbers: {0}")]
    Randomness(String),
}

/// A signal for a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Signal {
    /// `SIGHUP`
    Hangup,
    /// `SIGINT`
    Interrupt,
    /// `SIGQUIT`
    Quit,
    /// `SIGKILL`
    Kill,
    /// `SIGPIPE`
    Pipe,
    /// `SIGTERM`
    Terminate,
}

/// Where the bytes of a command come from and go to.
pub struct CommandIo {
    input: Option<Box<dyn AsyncRead + Send + Unpin>>,
    input_len: Option<oneshot::Receiver<u64>>,
    output: Sink,
    error: Sink,
    signals: Option<mpsc::Receiver<Signal>>,
    lines: Option<mpsc::Receiver<String>>,
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Completed {
    /// Its exit code, as a shell has it: 128 and the number of the signal that ended it. After a signal of ours, 128 and its
    /// number whatever the command made of it.
    pub code: u8,
    /// Who ended it; [`EndedBy::Session`] for a command that came to its end.
    pub ended_by: EndedBy,
}

/// Why a command was not run to its end. The session has been ended where it could be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExecError {
    /// The far side does not have what is needed.
    #[error(
        "the far side has no {0}; commands need sh, stty, base64 (or openssl), head, dd, mkdir, mkfifo and rm there"
    )]
    Missing(String),
    /// There is nowhere to put the fifos.
    #[error(
        "the far side has no folder to write in; commands need a little room in /dev/shm, $TMPDIR, /tmp or /var/tmp"
    )]
    NoFolder,
    /// The session ended, or said nothing of use, before the command was started.
    #[error("the far side did not start the command{}{}; a POSIX shell is needed there", if .said.is_empty() { "" } else { ": " }, .said)]
    NotStarted {
        /// What it said, if anything.
        said: String,
    },
    /// The session is no terminal.
    #[error(
        "the session has no terminal ({0:?}); commands need AWS-StartInteractiveCommand, or a document like it"
    )]
    NoTerminal(SessionKind),
    /// The session ended before the command did.
    #[error("the session ended before the command: {0}")]
    Ended(CloseReason),
    /// What arrived cannot be told apart from what another program wrote.
    #[error("something else wrote to the session's terminal, and the output cannot be told from it")]
    Garbled,
    /// The input cannot be read, or has ended before the [length](CommandIo::input_len) that was said.
    #[error("cannot read the input: {0}")]
    Input(#[source] io::Error),
    /// The output cannot be written. A reader that went away is no error but an end ([`EndedBy::OutputClosed`]).
    #[error("cannot write the output: {0}")]
    Output(#[source] io::Error),
}

impl Command {
    /// A command line for `sh -c`, any bytes but NUL.
    ///
    /// It is a parameter of the session: CloudTrail keeps it, and the machine's process list shows it. Secrets belong into the
    /// input.
    ///
    /// # Errors
    ///
    /// When it holds a NUL or is too long.
    pub fn new(line: impl AsRef<[u8]>) -> Result<Self, CommandError> {
        Self::with(line.as_ref(), false)
    }

    /// The same for a command whose output nobody waits for as it comes, like that of a file: it is passed on in blocks of up to 1
    /// MiB, which is faster. What it has written may wait until it writes more, or ends.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn bulk(line: impl AsRef<[u8]>) -> Result<Self, CommandError> {
        Self::with(line.as_ref(), true)
    }

    fn with(line: &[u8], bulk: bool) -> Result<Self, CommandError> {
        if line.contains(&0) {
            return Err(CommandError::Nul);
        }
        let len = script::quoted(line).len();
        if len > script::LINE_MAX {
            return Err(CommandError::TooLong { len });
        }
        let mut random = [0; frames::TOKEN_LEN / 2];
        getrandom::fill(&mut random).map_err(|error| CommandError::Randomness(error.to_string()))?;
        let token: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { script: script::script(&token, line, bulk), token: Some(token) })
    }

    /// The command of a session that was started elsewhere, with the [`request`](Self::request) of another value.
    pub fn attached() -> Self {
        Self { token: None, script: String::new() }
    }

    /// What to start the session with.
    pub fn request(&self, target: impl Into<String>) -> StartSession {
        StartSession::interactive_command(target, &self.script)
    }

    /// The script that the far side runs.
    pub fn script(&self) -> &str {
        &self.script
    }
}

impl Signal {
    /// Its number on Linux.
    pub fn number(self) -> u8 {
        match self {
            Self::Hangup => 1,
            Self::Interrupt => 2,
            Self::Quit => 3,
            Self::Kill => 9,
            Self::Pipe => 13,
            Self::Terminate => 15,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Hangup => "HUP",
            Self::Interrupt => "INT",
            Self::Quit => "QUIT",
            Self::Kill => "KILL",
            Self::Pipe => "PIPE",
            Self::Terminate => "TERM",
        }
    }
}

impl CommandIo {
    /// The standard streams of this process. None is made non-blocking, because other processes may share it.
    ///
    /// # Errors
    ///
    /// When the system has no threads or descriptors left.
    #[cfg(any(unix, windows))]
    pub fn stdio() -> io::Result<Self> {
        let (input, output, error) = crate::io::standard_streams()?;
        Ok(Self::streams(output, error).input(input))
    }

    /// Any streams, without input.
    pub fn streams(
        output: impl AsyncWrite + Send + Unpin + 'static,
        error: impl AsyncWrite + Send + Unpin + 'static,
    ) -> Self {
        Self {
            input: None,
            input_len: None,
            output: Sink::new(output),
            error: Sink::new(error),
            signals: None,
            lines: None,
        }
    }

    /// Where the input comes from. It is read as far as the command takes it.
    #[must_use]
    pub fn input(mut self, input: impl AsyncRead + Send + Unpin + 'static) -> Self {
        self.input = Some(Box::new(input));
        self
    }

    /// How many bytes the input will have at least, sent before the first of them: then they travel in larger batches and wait in
    /// smaller buffers. A signal or a line waits for the end of a batch, so that this is for an input that does not pause, like a file.
    #[must_use]
    pub fn input_len(mut self, len: oneshot::Receiver<u64>) -> Self {
        self.input_len = Some(len);
        self
    }

    /// Without input: the command's is at its end.
    #[must_use]
    pub fn no_input(mut self) -> Self {
        self.input = None;
        self
    }

    /// Where signals for the command come from. The first one ends it, and what goes on for 5 s then is killed; so it is at
    /// once by a second one.
    #[must_use]
    pub fn signals(mut self, signals: mpsc::Receiver<Signal>) -> Self {
        self.signals = Some(signals);
        self
    }

    /// Lines that the command can read from its descriptor 3: a conversation beside the input. Control characters in them are spaces
    /// then, and of one longer than 4,000 bytes a terminal keeps the beginning.
    #[must_use]
    pub fn lines(mut self, lines: mpsc::Receiver<String>) -> Self {
        self.lines = Some(lines);
        self
    }
}

impl fmt::Debug for CommandIo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CommandIo").field("input", &self.input.is_some()).finish_non_exhaustive()
    }
}

/// Runs a command in a session that was started with its [`request`](Command::request), until it ends.
///
/// Everything it wrote is written before this returns. Dropping the future leaves the session to the service, and hangs up on
/// the command when the service ends it.
///
/// # Errors
///
/// When the command could not be started or its end not be waited for, or an input or output fails.
pub async fn exec<C: ControlPlane>(
    session: Session<C>,
    command: &Command,
    io: CommandIo,
    mut notice: impl FnMut(Notice),
) -> Result<Completed, ExecError> {
    let mut run = Run::new(session, command, io);
    let end = poll_fn(|cx| run.poll(cx, &mut notice)).await;
    run.finish(end).await
}

struct Run<C> {
    session: Session<C>,
    frames: Frames,
    batches: Batches,
    input: Option<Box<dyn AsyncRead + Send + Unpin>>,
    input_len: Option<oneshot::Receiver<u64>>,
    outputs: Outputs,
    signals: Option<mpsc::Receiver<Signal>>,
    lines: Option<mpsc::Receiver<String>>,
    /// What was sent to the command to end it, and when the next step is due.
    ending: Option<Ending>,
    /// When the far side is given up that does not start the command.
    start_by: Option<Instant>,
    alarm: Alarm,
}

#[derive(Debug, Clone, Copy)]
struct Ending {
    signal: Signal,
    ended_by: EndedBy,
    last: Signal,
    due: Instant,
}

/// Why the loop is left.
enum End {
    /// The wrapper has said its last word.
    Exit(u8),
    Closed(CloseReason),
    /// The command does not end in time after a signal.
    GivenUp,
    Failed(ExecError),
}

impl<C: ControlPlane> Run<C> {
    fn new(session: Session<C>, command: &Command, io: CommandIo) -> Self {
        let CommandIo { input, input_len, output, error, signals, lines } = io;
        let mut batches = Batches::new();
        if input.is_none() {
            batches.end();
        }
        Self {
            session,
            frames: Frames::new(command.token.as_deref()),
            batches,
            input,
            input_len,
            outputs: Outputs::new(output, error),
            signals,
            lines,
            ending: None,
            start_by: Some(now() + START),
            alarm: Alarm::new(),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>, notice: &mut impl FnMut(Notice)) -> Poll<End> {
        match self.turn(cx, notice) {
            Ok(()) => Poll::Pending,
            Err(end) => Poll::Ready(end),
        }
    }

    fn turn(&mut self, cx: &mut Context<'_>, notice: &mut impl FnMut(Notice)) -> Result<(), End> {
        self.take_signals(cx)?;
        self.take_lines(cx);
        self.take_events(cx, notice)?;
        self.write_output(cx)?;
        self.read_input(cx)?;
        self.send(cx);
        let _ = self.session.poll_flush(cx);
        self.serve_deadlines(cx)
    }

    fn take_signals(&mut self, cx: &mut Context<'_>) -> Result<(), End> {
        while let Some(signals) = &mut self.signals {
            match signals.poll_recv(cx) {
                Poll::Ready(Some(signal)) => self.end_by(signal, EndedBy::Signal(signal.number().into()))?,
                Poll::Ready(None) => self.signals = None,
                Poll::Pending => break,
            }
        }
        Ok(())
    }

    /// Ends the command: by this signal, or for good when it has had one.
    fn end_by(&mut self, signal: Signal, ended_by: EndedBy) -> Result<(), End> {
        let now = now();
        let started = self.frames.started();
        let (last, due) = match &self.ending {
            None => (signal, now + HEED),
            Some(_) => (Signal::Kill, now + KILL),
        };
        let first = self.ending.map_or((signal, ended_by), |ending| (ending.signal, ending.ended_by));
        self.ending = Some(Ending { signal: first.0, ended_by: first.1, last, due });
        // Without a connection it would not hear of it.
        if !started || !self.session.is_connected() {
            return Err(End::GivenUp);
        }
        self.batches.signal(last);
        Ok(())
    }

    fn take_lines(&mut self, cx: &mut Context<'_>) {
        while self.frames.started()
            && self.batches.has_room_for_lines()
            && let Some(lines) = &mut self.lines
        {
            match lines.poll_recv(cx) {
                Poll::Ready(Some(line)) => self.batches.line(&line),
                Poll::Ready(None) => self.lines = None,
                Poll::Pending => return,
            }
        }
    }

    fn take_events(&mut self, cx: &mut Context<'_>, notice: &mut impl FnMut(Notice)) -> Result<(), End> {
        let now = now();
        self.outputs.let_trickle(&mut self.session, now);
        for _ in 0..EVENTS_PER_TURN {
            let Poll::Ready(event) = self.session.poll_event(cx) else { return Ok(()) };
            self.handle(event, notice)?;
            self.outputs.hold_up(&mut self.session, now);
        }
        cx.waker().wake_by_ref();
        Ok(())
    }

    fn handle(&mut self, event: Event, notice: &mut impl FnMut(Notice)) -> Result<(), End> {
        match event {
            Event::Ready(ready) => {
                let kind = ready.kind;
                notice(Notice::Ready(ready));
                if !matches!(kind, SessionKind::Shell | SessionKind::InteractiveCommands) {
                    return Err(End::Failed(ExecError::NoTerminal(kind)));
                }
            }
            Event::Payload { kind: PayloadType::Output, payload } => self.receive(&payload)?,
            Event::Payload { .. } | Event::KeyRequired(_) => {}
            Event::Redial { attempt } => notice(Notice::redial(&self.session, attempt)),
            Event::Resumed => notice(Notice::Resumed),
            Event::Closed(reason) => return Err(End::Closed(reason)),
        }
        Ok(())
    }

    fn receive(&mut self, payload: &[u8]) -> Result<(), End> {
        let Self { frames, batches, outputs, start_by, .. } = self;
        let (mut code, mut failed) = (None, None);
        let read = frames.push(payload, |frame| match frame {
            Frame::Started => *start_by = None,
            Frame::Output(bytes) => outputs.output.push(bytes),
            Frame::Error(bytes) => outputs.error.push(bytes),
            Frame::Acknowledged => batches.handle_acknowledged(),
            Frame::InputClosed => batches.handle_closed(),
            Frame::Exit(exit) => code = Some(exit),
            Frame::Missing(names) => failed = Some(ExecError::Missing(names.trim().replace(' ', ", "))),
            Frame::NoFolder => failed = Some(ExecError::NoFolder),
        });
        if let Some(error) = failed {
            return Err(End::Failed(error));
        }
        if let Some(code) = code {
            return Err(End::Exit(code));
        }
        read.map_err(|_garbled| End::Failed(ExecError::Garbled))
    }

    /// Writes what the outputs take, and stops or goes on receiving accordingly.
    fn write_output(&mut self, cx: &mut Context<'_>) -> Result<(), End> {
        if let Poll::Ready(Err(error)) = self.outputs.poll_flush(cx) {
            match output_error(error) {
                Some(error) => return Err(End::Failed(error)),
                None => self.end_by(Signal::Pipe, EndedBy::OutputClosed)?,
            }
        }
        self.outputs.go_on(&mut self.session, cx);
        Ok(())
    }

    fn read_input(&mut self, cx: &mut Context<'_>) -> Result<(), End> {
        if !self.frames.started() {
            return Ok(());
        }
        if !self.batches.is_open() {
            // Whoever writes it learns that nobody reads it any more.
            self.input = None;
        }
        if let Some(len) = &mut self.input_len
            && let Poll::Ready(said) = pin!(len).poll(cx)
        {
            self.input_len = None;
            self.batches.promise(said.unwrap_or(0));
        }
        while let (Some(input), 1..) = (&mut self.input, self.batches.room()) {
            let mut room = self.batches.spare();
            match pin!(input.read_buf(&mut room)).poll(cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Err(error)) => return Err(End::Failed(ExecError::Input(error))),
                Poll::Ready(Ok(0)) => {
                    self.batches.end();
                    self.input = None;
                    if self.batches.is_short() {
                        let short =
                            io::Error::new(io::ErrorKind::UnexpectedEof, "it is shorter than was said");
                        return Err(End::Failed(ExecError::Input(short)));
                    }
                }
                Poll::Ready(Ok(_)) => self.batches.handle_filled(),
            }
        }
        Ok(())
    }

    fn send(&mut self, cx: &mut Context<'_>) {
        if !self.frames.started() {
            return;
        }
        for _ in 0..SENDS_PER_TURN {
            if self.batches.pending().is_empty() || self.session.poll_writable(cx).is_pending() {
                return;
            }
            let pending = self.batches.pending();
            let len = pending.len().min(self.session.payload_len());
            let mut message: MessageBuf = self.session.buffer();
            message.put_slice(&pending[..len]);
            match self.session.send(PayloadType::Output, message) {
                Ok(()) => self.consume(len, cx),
                // It was writable, so it has been closed; the event that says so is on its way.
                Err(error) => return tracing::debug!(%error, "input is not sent"),
            }
        }
        cx.waker().wake_by_ref();
    }

    /// So much was sent, which makes room for input or lines at times.
    fn consume(&mut self, len: usize, cx: &Context<'_>) {
        let room = |batches: &Batches| (batches.room() > 0, batches.has_room_for_lines());
        let before = room(&self.batches);
        self.batches.consume(len);
        if room(&self.batches) != before {
            cx.waker().wake_by_ref();
        }
    }

    fn serve_deadlines(&mut self, cx: &mut Context<'_>) -> Result<(), End> {
        let now = now();
        if self.start_by.is_some_and(|by| by <= now) {
            return Err(End::Failed(ExecError::NotStarted { said: self.frames.said() }));
        }
        if let Some(ending) = self.ending.filter(|ending| ending.due <= now) {
            if ending.last == Signal::Kill {
                return Err(End::GivenUp);
            }
            self.end_by(Signal::Kill, ending.ended_by)?;
            cx.waker().wake_by_ref();
        }
        let deadlines = [self.start_by, self.outputs.due(), self.ending.map(|ending| ending.due)];
        self.alarm.set(cx, now, deadlines);
        Ok(())
    }

    /// Leaves everything as it should be, whatever ended the command.
    async fn finish(mut self, ended: End) -> Result<Completed, ExecError> {
        self.input = None;
        let written = if self.ending.is_none() { self.drain().await } else { Ok(()) };
        let ending = self.ending;
        let started = self.frames.started();
        let said = self.frames.said();
        match ended {
            End::Exit(code) => {
                leave(self.session).await;
                written?;
                Ok(ending.map_or(Completed { code, ended_by: EndedBy::Session }, Ending::completed))
            }
            End::Closed(reason) => {
                if let Err(error) = self.session.release(&reason).await {
                    tracing::info!(%error, "the service was not told that the session is over");
                }
                match ending {
                    Some(ending) => Ok(ending.completed()),
                    None if started || !matches!(reason, CloseReason::AgentClosed { detail: None, .. }) => {
                        Err(ExecError::Ended(reason))
                    }
                    None => Err(ExecError::NotStarted { said }),
                }
            }
            End::GivenUp => {
                end(self.session).await;
                Ok(ending.expect("a command is given up only after a signal").completed())
            }
            End::Failed(error) => {
                end(self.session).await;
                Err(error)
            }
        }
    }

    /// Writes what is left, unless a signal says that nobody waits for it.
    async fn drain(&mut self) -> Result<(), ExecError> {
        poll_fn(|cx| {
            if let Some(signals) = &mut self.signals
                && let Poll::Ready(Some(signal)) = signals.poll_recv(cx)
            {
                let ended_by = EndedBy::Signal(signal.number().into());
                self.ending = Some(Ending { signal, ended_by, last: signal, due: now() });
                return Poll::Ready(Ok(()));
            }
            self.outputs.poll_drain(cx, output_error)
        })
        .await
    }
}

impl Ending {
    fn completed(self) -> Completed {
        Completed { code: 128 + self.signal.number(), ended_by: self.ended_by }
    }
}

/// The command is over, and the far side ends the session by itself.
async fn leave<C: ControlPlane>(mut session: Session<C>) {
    let closed = async {
        loop {
            if let Event::Closed(reason) = session.next_event().await {
                return reason;
            }
        }
    };
    match tokio::time::timeout(LEAVE, closed).await {
        Ok(reason) => {
            let _ = session.release(&reason).await;
        }
        Err(_elapsed) => end(session).await,
    }
}

/// What an error of the output amounts to; `None` for a reader that went away.
fn output_error(error: io::Error) -> Option<ExecError> {
    (error.kind() != io::ErrorKind::BrokenPipe).then_some(ExecError::Output(error))
}
