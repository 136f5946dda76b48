//! The loop of one session: moves bytes between an [`Io`] and a [`Session`], in one task.
//!
//! ```text
//!  signals ──────────┐
//!  size ─────────────┤
//!  input ── read ────┴──► Session::send             (of a terminal: Typed, which looks for escapes ahead of the session)
//!  output, error ◄─ Sink ◄─ Session::poll_event     (not read while too much waits in the sinks)
//!                    └────► Screen, Recording
//! ```

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use ssm_session::{
    CloseReason, ControlPlane, Event, Evidence, ExitCode, MessageBuf, PayloadType, Ready, Session,
    SessionKind,
};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::alarm::{Alarm, now};
use crate::console::{Console, Mode, Received};
use crate::controls::{Control, Controls};
use crate::end_of_input::EndOfInput;
use crate::escape::{Escape, Escapes};
use crate::io::InputKind;
use crate::notice::{Question, Statistics};
use crate::outputs::Outputs;
use crate::recording::Recording;
use crate::resize::Resize;
use crate::screen::Screen;
use crate::typed::Typed;
use crate::{EndedBy, Exit, Io, Notice, ShellError};

/// Events taken, and messages sent, before the other steps of a turn have theirs.
const EVENTS_PER_TURN: usize = 64;
const SENDS_PER_TURN: usize = 16;

/// Signals that may wait to be sent.
const KEYS_MAX: usize = 16;

/// Notices that wait for a program to leave the screen.
const HELD_MAX: usize = 16;

/// How long the terminal may take to be told that it is as it was.
const UNDO: Duration = Duration::from_millis(250);

/// How long a user who leaves waits for the service to hear of it.
const LEAVE: Duration = Duration::from_secs(2);

/// Runs a shell or command session until it ends.
///
/// Everything received before the end is written before this returns. A session that this side ends is ended by API. With
/// [`Io::stdio`] the terminal is raw from the start of the session on, except for commands without a terminal.
///
/// `notice` is called from within, so it should not block.
///
/// Dropping the future restores the terminal and leaves the session to the service, which ends it when it has been idle.
///
/// # Errors
///
/// When the terminal cannot be set up, an input or output fails, or the session turns out to forward a port.
///
/// # Panics
///
/// With [`Io::stdio`], outside a tokio runtime that has IO enabled.
pub async fn run<C: ControlPlane>(
    session: Session<C>,
    io: Io,
    mut notice: impl FnMut(Notice),
) -> Result<Exit, ShellError> {
    let console = match Console::open(io.owner, io.input_kind) {
        Ok(console) => console,
        Err(error) => {
            end(session).await;
            return Err(ShellError::Setup(error));
        }
    };
    let mut shell = Shell::new(session, io, console);
    let end = poll_fn(|cx| shell.poll(cx, &mut notice)).await;
    shell.finish(end, &mut notice).await
}

struct Shell<C> {
    session: Session<C>,
    console: Console,
    input: Box<dyn AsyncRead + Send + Unpin>,
    input_kind: InputKind,
    typing: Typing,
    /// What is sent first.
    initial: VecDeque<Box<dyn AsyncRead + Send + Unpin>>,
    /// What was read ahead, where escapes are looked for.
    typed: Option<Typed>,
    /// The last byte of input that was sent.
    last_typed: Option<u8>,
    /// Signals for the remote side.
    keys: VecDeque<u8>,
    resize: Resize,
    controls: Option<Controls>,
    /// The size is sent once more when the remote side has written something.
    size_in_doubt: bool,
    outputs: Outputs,
    /// What programs have made of the user's terminal, where there is one.
    screen: Option<Screen>,
    held: VecDeque<Notice>,
    job: Job,
    connection: Connection,
    activity: Activity,
    recording: Option<Recording>,
    code: Option<i32>,
    bytes_received: u64,
    alarm: Alarm,
}

/// Whether this process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Job {
    Runs,
    /// It stops when everything is written.
    Stops,
    /// It is stopped, or about to be; the terminal is not ours.
    Stopped,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Connection {
    Up,
    Lost { since: Instant },
}

/// When something was last typed or written.
#[derive(Debug)]
struct Activity {
    started: Instant,
    last: Instant,
    /// How long nothing may happen before that is told.
    limit: Option<Duration>,
    told: bool,
}

impl Activity {
    fn due(&self) -> Option<Instant> {
        self.limit.filter(|_| !self.told).map(|limit| self.last + limit)
    }
}

/// What becomes of the input.
#[derive(Debug)]
enum Typing {
    /// It waits for the session to start.
    Waiting,
    /// It waits for the acknowledgement of the size: an agent discards what comes right behind the handshake (agent
    /// `datachannel.go` marks it complete only after it has said so).
    Behind,
    /// It is sent.
    Open,
    Ended(EndOfInput),
    /// It is not read.
    Unwanted,
}

/// Why the loop is left.
enum End {
    Closed(CloseReason),
    Here(EndedBy),
    Failed(ShellError),
}

impl<C: ControlPlane> Shell<C> {
    fn new(session: Session<C>, io: Io, console: Console) -> Self {
        let now = now();
        Self {
            session,
            resize: Resize::new(console.size().unwrap_or(io.size)),
            screen: console.has_screen().then(Screen::default),
            console,
            input: io.input,
            input_kind: io.input_kind,
            typing: Typing::Waiting,
            initial: io.initial,
            typed: io.escape.map(|character| Typed::new(Escapes::new(character))),
            last_typed: None,
            keys: VecDeque::new(),
            controls: io.controls,
            size_in_doubt: false,
            outputs: Outputs::new(io.output, io.error),
            held: VecDeque::new(),
            job: Job::Runs,
            connection: Connection::Up,
            activity: Activity { started: now, last: now, limit: io.idle, told: false },
            recording: io.recording,
            code: None,
            bytes_received: 0,
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
        self.take_controls(cx)?;
        self.take_events(cx, notice)?;
        self.take_escapes(cx, notice)?;
        self.write_output(cx, notice)?;
        self.send_size(cx);
        self.send_input(cx)?;
        self.tell_idle(notice);
        self.tell_recording(notice);
        let _ = self.session.poll_flush(cx);
        self.set_alarm(cx);
        Ok(())
    }

    fn take_signals(&mut self, cx: &mut Context<'_>) -> Result<(), End> {
        while let Poll::Ready(received) = self.console.poll(cx) {
            match received {
                Received::End { number } => return Err(End::Here(EndedBy::Signal(number))),
                // There is no remote side yet that could heed it.
                Received::Key { byte: 0x03 | 0x1c, number } if self.session.ready().is_none() => {
                    return Err(End::Here(EndedBy::Signal(number)));
                }
                Received::Key { byte, .. } if self.keys.len() < KEYS_MAX => self.keys.push_back(byte),
                Received::Key { .. } => {}
                Received::Resized => self.look_at_size(),
                Received::Continued => {
                    self.look_at_size();
                    self.go_on();
                }
            }
        }
        Ok(())
    }

    fn look_at_size(&mut self) {
        if let Some(size) = self.console.size() {
            self.resize.set(size);
        }
    }

    fn take_controls(&mut self, cx: &mut Context<'_>) -> Result<(), End> {
        while let Some(controls) = &self.controls
            && let Poll::Ready(control) = controls.poll(cx)
        {
            match control {
                Control::Size(size) => self.resize.set(size),
                Control::Key(byte) if self.keys.len() < KEYS_MAX => self.keys.push_back(byte),
                Control::Key(_) => {}
                Control::End => return Err(End::Here(EndedBy::Caller)),
            }
        }
        Ok(())
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
                notice(Notice::Ready(ready.clone()));
                self.start(&ready)?;
            }
            Event::Payload { kind, payload } => self.receive(kind, &payload),
            Event::Redial { attempt } => {
                if self.connection == Connection::Up {
                    self.connection = Connection::Lost { since: now() };
                }
                self.tell(Notice::redial(&self.session, attempt), notice);
            }
            Event::Resumed => {
                self.connection = Connection::Up;
                self.tell(Notice::Resumed, notice);
            }
            // The session's own matter.
            Event::KeyRequired(_) => {}
            Event::Closed(reason) => return Err(End::Closed(reason)),
        }
        Ok(())
    }

    /// The session has started, or it is something else than was assumed.
    fn start(&mut self, ready: &Ready) -> Result<(), End> {
        let now = now();
        if matches!(self.typing, Typing::Waiting) {
            self.activity = Activity { started: now, last: now, ..self.activity };
        }
        if let Some(recording) = &mut self.recording {
            recording.start(now, self.resize.current());
        }
        match ready.kind {
            SessionKind::Port(_) => return Err(End::Failed(ShellError::NotAShell(ready.kind))),
            // Its output has bare newlines, and its agent looks for nothing in the input but signals.
            SessionKind::NonInteractiveCommands => {
                self.typing = Typing::Unwanted;
                self.console.restore();
            }
            SessionKind::Shell | SessionKind::InteractiveCommands => {
                let handshake = ready.evidence == Evidence::Handshake;
                self.size_in_doubt = handshake;
                if matches!(self.typing, Typing::Waiting) {
                    self.typing = if handshake { Typing::Behind } else { Typing::Open };
                }
                self.console.set_mode(Mode::Raw).map_err(|error| End::Failed(ShellError::Setup(error)))?;
            }
        }
        Ok(())
    }

    fn receive(&mut self, kind: PayloadType, payload: &[u8]) {
        match kind {
            PayloadType::Output => self.outputs.output.push(payload),
            PayloadType::StdErr => self.outputs.error.push(payload),
            PayloadType::ExitCode => match ExitCode::decode(payload) {
                Some(code) => return self.code = Some(code.0),
                None => return tracing::warn!("the exit code cannot be read"),
            },
            _ => return,
        }
        self.bytes_received += payload.len() as u64;
        if let Some(screen) = &mut self.screen {
            screen.write(payload);
        }
        if let Some(recording) = &mut self.recording {
            recording.show(now(), payload);
        }
        self.be_active();
        if let Typing::Ended(end) = &mut self.typing {
            end.heard(now());
        }
        if std::mem::take(&mut self.size_in_doubt) {
            self.resize.repeat();
        }
    }

    /// Writes what the outputs take, and stops or goes on receiving accordingly.
    fn write_output(&mut self, cx: &mut Context<'_>, notice: &mut impl FnMut(Notice)) -> Result<(), End> {
        if self.job == Job::Stopped {
            return Ok(());
        }
        match self.outputs.poll_flush(cx) {
            Poll::Pending => {}
            Poll::Ready(Ok(())) => self.all_is_shown(notice),
            Poll::Ready(Err(error)) => {
                return Err(match output_error(error) {
                    Some(error) => End::Failed(error),
                    None => End::Here(EndedBy::OutputClosed),
                });
            }
        }
        self.outputs.go_on(&mut self.session, cx);
        Ok(())
    }

    /// The terminal shows everything that was received.
    fn all_is_shown(&mut self, notice: &mut impl FnMut(Notice)) {
        if self.job == Job::Stops {
            self.job = Job::Stopped;
            if let Err(error) = self.console.stop() {
                tracing::warn!(%error, "this process cannot be stopped");
                self.go_on();
            }
        }
        if !self.screen.as_ref().is_some_and(Screen::alternate) {
            self.held.drain(..).for_each(notice);
        }
    }

    /// This process runs again, or was about to stop and does not.
    fn go_on(&mut self) {
        if std::mem::replace(&mut self.job, Job::Runs) == Job::Stopped
            && let Some(screen) = &self.screen
        {
            self.outputs.output.push(&screen.enter());
        }
        self.resize.redraw();
    }

    /// Tells something, unless a program has the screen.
    fn tell(&mut self, what: Notice, notice: &mut impl FnMut(Notice)) {
        if what.needs_user() || !self.screen.as_ref().is_some_and(Screen::alternate) {
            return notice(what);
        }
        // Only the first attempt is for a user.
        if self.held.len() < HELD_MAX && !matches!(what, Notice::Redial { attempt: 1.., .. }) {
            self.held.push_back(what);
        }
    }

    /// Something was typed or written.
    fn be_active(&mut self) {
        self.activity.last = now();
        if std::mem::take(&mut self.activity.told) {
            self.held.retain(|held| !matches!(held, Notice::Idle(_)));
        }
    }

    fn tell_idle(&mut self, notice: &mut impl FnMut(Notice)) {
        if let Some(limit) = self.activity.limit
            && self.session.ready().is_some()
            && self.activity.due().is_some_and(|due| due <= now())
        {
            self.activity.told = true;
            self.tell(Notice::Idle(limit), notice);
        }
    }

    fn tell_recording(&mut self, notice: &mut impl FnMut(Notice)) {
        if let Some(error) = self.recording.as_mut().and_then(Recording::take_failure) {
            self.recording = None;
            notice(Notice::RecordingFailed(error.to_string()));
        }
    }

    fn take_escapes(&mut self, cx: &mut Context<'_>, notice: &mut impl FnMut(Notice)) -> Result<(), End> {
        while matches!(self.typing, Typing::Behind | Typing::Open)
            && self.job == Job::Runs
            && let Some(typed) = &mut self.typed
        {
            let Poll::Ready(escape) = typed.poll_escape(cx, &mut *self.input) else {
                // Also when nothing can be sent, and nobody would read on.
                let hung_up = self.input_kind == InputKind::Terminal && typed.is_over();
                return if hung_up { Err(End::Here(EndedBy::InputClosed)) } else { Ok(()) };
            };
            let question = match escape {
                Escape::Leave => return Err(End::Here(EndedBy::Escape)),
                Escape::Suspend if self.console.can_stop() => {
                    self.job = Job::Stops;
                    if let Some(screen) = &self.screen {
                        self.outputs.output.push(&screen.leave());
                    }
                    continue;
                }
                Escape::Suspend => Question::Suspend,
                Escape::Help => Question::Help,
                Escape::List => Question::List,
                Escape::Off => Question::Off,
                Escape::Statistics => Question::Statistics(Box::new(self.statistics())),
            };
            notice(Notice::Asked(question));
            if self.screen.as_ref().is_some_and(Screen::alternate) {
                self.resize.redraw();
            }
        }
        Ok(())
    }

    fn statistics(&self) -> Statistics {
        let now = now();
        Statistics {
            age: now.saturating_duration_since(self.activity.started),
            idle: now.saturating_duration_since(self.activity.last),
            lost: match self.connection {
                Connection::Up => None,
                Connection::Lost { since } => Some(now.saturating_duration_since(since)),
            },
            typed_ahead: self.typed.as_ref().map_or(0, Typed::len),
            channel: self.session.stats(),
        }
    }

    fn send_size(&mut self, cx: &mut Context<'_>) {
        if matches!(self.typing, Typing::Waiting | Typing::Unwanted) {
            return;
        }
        let now = now();
        if self.resize.due(now).is_some_and(|due| due <= now)
            && self.session.poll_writable(cx).is_ready()
            && let Some(size) = self.resize.take(now)
        {
            if let Some(recording) = &mut self.recording {
                recording.resize(now, self.resize.current());
            }
            let size = size.encode();
            let mut message = MessageBuf::with_capacity(size.len());
            message.put_slice(&size);
            self.send(PayloadType::Size, message);
        }
    }

    fn send_input(&mut self, cx: &mut Context<'_>) -> Result<(), End> {
        for _ in 0..SENDS_PER_TURN {
            if self.session.poll_writable(cx).is_pending() {
                return Ok(());
            }
            let Some(message) = self.next_input(cx)? else { return Ok(()) };
            self.be_active();
            self.send(PayloadType::Output, message);
        }
        cx.waker().wake_by_ref();
        Ok(())
    }

    /// The next message of input: signals, what is read, the end.
    fn next_input(&mut self, cx: &mut Context<'_>) -> Result<Option<MessageBuf>, End> {
        if let Some(byte) = self.keys.pop_front() {
            return Ok(Some(message(&[byte])));
        }
        if matches!(self.typing, Typing::Behind) && self.resize.was_sent() && self.session.is_drained() {
            self.typing = Typing::Open;
        }
        if matches!(self.typing, Typing::Open)
            && let Some(typed) = self.read(cx)?
        {
            return Ok(Some(typed));
        }
        let Typing::Ended(end) = &mut self.typing else { return Ok(None) };
        Ok(end.take(now()).map(message))
    }

    /// Reads into a message, while there is something to read.
    fn read(&mut self, cx: &mut Context<'_>) -> Result<Option<MessageBuf>, End> {
        let mut buf = self.session.buffer();
        while let Some(initial) = self.initial.front_mut() {
            match poll_read(cx, initial, &mut buf) {
                Poll::Ready(Ok(1..)) => {
                    self.last_typed = buf.payload().last().copied();
                    return Ok(Some(buf));
                }
                Poll::Ready(Ok(0)) => drop(self.initial.pop_front()),
                Poll::Ready(Err(error)) => return Err(End::Failed(ShellError::Input(error))),
                Poll::Pending => {
                    self.session.recycle(buf);
                    return Ok(None);
                }
            }
        }
        let read = self.poll_input(cx, &mut buf);
        let end = match (read, self.input_kind) {
            (Poll::Ready(Ok(1..)), _) => {
                self.last_typed = buf.payload().last().copied();
                return Ok(Some(buf));
            }
            (Poll::Pending, _) => Ok(None),
            (Poll::Ready(Ok(0)), InputKind::Stream) => {
                self.typing = Typing::Ended(EndOfInput::new(now(), self.last_typed));
                Ok(None)
            }
            (Poll::Ready(Err(error)), InputKind::Stream) => Err(End::Failed(ShellError::Input(error))),
            (Poll::Ready(_), InputKind::Terminal) => Err(End::Here(EndedBy::InputClosed)),
        };
        self.session.recycle(buf);
        end
    }

    fn poll_input(&mut self, cx: &mut Context<'_>, buf: &mut MessageBuf) -> Poll<io::Result<usize>> {
        let Some(typed) = &mut self.typed else { return poll_read(cx, &mut self.input, buf) };
        let was_full = typed.is_full();
        typed.fill(buf);
        if was_full && !typed.is_full() {
            cx.waker().wake_by_ref();
        }
        match buf.len() {
            0 => typed.take_end().map_or(Poll::Pending, |end| Poll::Ready(end.map(|()| 0))),
            len => Poll::Ready(Ok(len)),
        }
    }

    fn send(&mut self, kind: PayloadType, message: MessageBuf) {
        if let Err(error) = self.session.send(kind, message) {
            // It was writable, so it has been closed; the event that says so is on its way.
            tracing::debug!(%error, "input is not sent");
        }
    }

    /// Wakes up for what is due later. What is due and still waits, waits for the session or the outputs.
    fn set_alarm(&mut self, cx: &mut Context<'_>) {
        let now = now();
        let end_of_input = match &self.typing {
            Typing::Ended(end) => Some(end.due()),
            _ => None,
        };
        let deadlines = [self.resize.due(now), end_of_input, self.outputs.due(), self.activity.due()];
        self.alarm.set(cx, now, deadlines);
    }

    /// Leaves everything as it should be, whatever ended the session.
    async fn finish(mut self, end: End, notice: &mut impl FnMut(Notice)) -> Result<Exit, ShellError> {
        // What is typed from here on is for the program that reads next.
        self.input = Box::new(tokio::io::empty());
        let failure = if let End::Closed(_) = end { self.drain().await.err() } else { None };
        if !matches!(end, End::Failed(_)) && failure.is_none() {
            self.undo_screen().await;
        }
        self.console.restore();
        self.end_recording(&end);
        self.tell_recording(notice);
        let Self { mut session, code, bytes_received, .. } = self;
        let (reason, ended_by) = match end {
            End::Closed(reason) => {
                if let Err(error) = session.release(&reason).await {
                    tracing::info!(%error, "the service was not told that the session is over");
                }
                (reason, EndedBy::Session)
            }
            End::Here(EndedBy::Escape) => {
                if tokio::time::timeout(LEAVE, self::end(session)).await.is_err() {
                    tracing::info!("the session is left to the service");
                }
                (CloseReason::Terminated, EndedBy::Escape)
            }
            End::Here(ended_by) => {
                self::end(session).await;
                (CloseReason::Terminated, ended_by)
            }
            End::Failed(error) => {
                self::end(session).await;
                return Err(error);
            }
        };
        failure.map_or(Ok(Exit { reason, ended_by, code, bytes_received }), Err)
    }

    /// Switches off what programs have left switched on, on a terminal that goes on to be used.
    async fn undo_screen(&mut self) {
        let undo = self.screen.as_ref().map(Screen::leave).unwrap_or_default();
        if undo.is_empty() || self.job == Job::Stopped {
            return;
        }
        // Whatever has to be shown was; a terminal that stands still is not waited for.
        self.outputs.output.discard();
        self.outputs.output.push(&undo);
        let _ = tokio::time::timeout(UNDO, poll_fn(|cx| self.outputs.output.poll_flush(cx))).await;
    }

    fn end_recording(&mut self, end: &End) {
        let Some(recording) = &mut self.recording else { return };
        let reason = match (end, self.code) {
            (_, Some(code)) => format!("exit code {code}"),
            (End::Closed(reason), None) => reason.to_string(),
            (End::Here(_), None) => "ended here".to_owned(),
            (End::Failed(error), None) => error.to_string(),
        };
        recording.end(now(), &reason);
    }

    /// Writes what is left, unless a signal says that nobody waits for it.
    async fn drain(&mut self) -> Result<(), ShellError> {
        if let Err(error) = self.console.set_mode(Mode::Leaving) {
            tracing::debug!(%error, "the terminal makes no signals");
        }
        poll_fn(|cx| {
            while let Poll::Ready(received) = self.console.poll(cx) {
                if matches!(received, Received::End { .. } | Received::Key { .. }) {
                    return Poll::Ready(Ok(()));
                }
            }
            self.outputs.poll_drain(cx, output_error)
        })
        .await
    }
}

fn poll_read(
    cx: &mut Context<'_>,
    input: &mut (impl AsyncRead + Unpin),
    buf: &mut MessageBuf,
) -> Poll<io::Result<usize>> {
    let mut spare = buf.spare_mut();
    pin!(input.read_buf(&mut spare)).poll(cx)
}

/// Ends a session that this side wants no more.
pub(crate) async fn end<C: ControlPlane>(session: Session<C>) {
    if let Err(error) = session.terminate().await {
        tracing::warn!(%error, "the session was not ended; it ends when it has been idle");
    }
}

/// What an error of the output amounts to; `None` for a reader that went away.
fn output_error(error: io::Error) -> Option<ShellError> {
    // A terminal that was hung up answers EIO.
    #[cfg(unix)]
    if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) {
        return None;
    }
    (error.kind() != io::ErrorKind::BrokenPipe).then_some(ShellError::Output(error))
}

fn message(bytes: &[u8]) -> MessageBuf {
    let mut message = MessageBuf::with_capacity(bytes.len());
    message.put_slice(bytes);
    message
}
