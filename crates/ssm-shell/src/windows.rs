//! The console of a process on Windows: its mode and size, its keys, and what stands for signals there.

use std::io::{self, IsTerminal, Read};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::thread;
use std::time::Duration;

use bytes::{Buf, Bytes};
use crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use crossterm::terminal::{disable_raw_mode, enable_raw_mode};
use ssm_session::TerminalSize;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::signal::windows::{CtrlBreak, CtrlC, CtrlClose, CtrlLogoff, CtrlShutdown};
use tokio::signal::windows::{ctrl_break, ctrl_c, ctrl_close, ctrl_logoff, ctrl_shutdown};
use tokio::sync::futures::Notified;
use tokio::sync::{Notify, mpsc};

use crate::console::{Mode, Received};
use crate::keys::{self, Held, Key};

/// Reads that may wait to be taken.
const WAITING_MAX: usize = 16;

/// Bytes read at once from what is no console.
const READ_MAX: usize = 64 * 1024;

/// How long a console is listened to before it is looked whether anybody still wants its keys.
const LISTEN: Duration = Duration::from_millis(100);

/// Numbers of the signals that the events of a console stand for (plugin `control_signals_windows.go`).
const SIGINT: i32 = 2;
const SIGQUIT: i32 = 3;
const SIGTERM: i32 = 15;

/// Whether a session has the console, and whether it was made raw: so that a panic hook finds out.
static TAKEN: AtomicBool = AtomicBool::new(false);
static RAW: AtomicBool = AtomicBool::new(false);

/// A change of size that nobody has asked for yet. A console tells it among its keys, which another thread reads.
static RESIZED: Notify = Notify::const_new();

/// Keeps the console raw; dropping it restores what was before.
#[derive(Debug)]
pub struct RawMode(());

impl RawMode {
    /// Makes the console raw.
    ///
    /// # Errors
    ///
    /// When standard input is no console, or raw already.
    pub fn enable() -> io::Result<Self> {
        Self::enter(Mode::Raw)
    }

    pub(crate) fn enter(mode: Mode) -> io::Result<Self> {
        if TAKEN.swap(true, Ordering::AcqRel) {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "the terminal is in use by a session"));
        }
        let guard = Self(());
        guard.apply(mode)?;
        Ok(guard)
    }

    /// Only a raw console has Ctrl-C as a key; keys that wait are there in any mode.
    pub(crate) fn apply(&self, mode: Mode) -> io::Result<()> {
        let raw = mode == Mode::Raw;
        if RAW.swap(raw, Ordering::AcqRel) == raw {
            return Ok(());
        }
        if raw { enable_raw_mode() } else { disable_raw_mode() }
    }

    pub(crate) fn lend(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn reapply(&self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        restore_terminal();
    }
}

/// Gives the console back the mode it had before a session or a [`RawMode`] changed it; otherwise does nothing.
pub fn restore_terminal() {
    TAKEN.store(false, Ordering::Release);
    if RAW.swap(false, Ordering::AcqRel)
        && let Err(error) = disable_raw_mode()
    {
        tracing::debug!(%error, "the console was not restored");
    }
}

pub(crate) fn is_raw() -> bool {
    RAW.load(Ordering::Acquire)
}

/// There are no jobs.
pub(crate) fn has_job_control() -> bool {
    false
}

pub(crate) fn stop_job() -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Whether keys are read from standard input.
pub(crate) fn is_terminal() -> bool {
    io::stdin().is_terminal()
}

/// Whether output goes to a console that understands what programs send to a terminal.
pub(crate) fn is_output_terminal() -> bool {
    io::stdout().is_terminal() && crossterm::ansi_support::supports_ansi()
}

pub(crate) fn size() -> Option<TerminalSize> {
    let (cols, rows) = crossterm::terminal::size().ok()?;
    (cols > 0 && rows > 0).then(|| TerminalSize { cols: cols.into(), rows: rows.into() })
}

/// The events that end a process or interrupt it. They stay for the life of the process.
#[derive(Debug)]
pub(crate) struct Signals {
    interrupt: CtrlC,
    quit: CtrlBreak,
    close: CtrlClose,
    logoff: CtrlLogoff,
    shutdown: CtrlShutdown,
    resized: Pin<Box<Notified<'static>>>,
}

impl Signals {
    pub(crate) fn install() -> io::Result<Self> {
        Ok(Self {
            interrupt: ctrl_c()?,
            quit: ctrl_break()?,
            close: ctrl_close()?,
            logoff: ctrl_logoff()?,
            shutdown: ctrl_shutdown()?,
            resized: Box::pin(RESIZED.notified()),
        })
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Received> {
        if self.interrupt.poll_recv(cx).is_ready() {
            return Poll::Ready(Received::Key { byte: 0x03, number: SIGINT });
        }
        if self.quit.poll_recv(cx).is_ready() {
            return Poll::Ready(Received::Key { byte: 0x1c, number: SIGQUIT });
        }
        let ends = [self.close.poll_recv(cx), self.logoff.poll_recv(cx), self.shutdown.poll_recv(cx)];
        if ends.iter().any(Poll::is_ready) {
            return Poll::Ready(Received::End { number: SIGTERM });
        }
        ready!(self.resized.as_mut().poll(cx));
        self.resized.set(RESIZED.notified());
        Poll::Ready(Received::Resized)
    }
}

/// Standard input: the keys of a console, or the bytes of anything else.
#[derive(Debug)]
pub(crate) struct Reader {
    reads: mpsc::Receiver<io::Result<Bytes>>,
    rest: Bytes,
    /// Its end makes the thread stop.
    _alive: Arc<()>,
}

impl Reader {
    pub(crate) fn spawn() -> io::Result<Self> {
        let (sender, reads) = mpsc::channel(WAITING_MAX);
        let alive = Arc::new(());
        let wanted = Arc::downgrade(&alive);
        let read = move || {
            let mut input = if is_terminal() { Input::Console } else { Input::Bytes(vec![0; READ_MAX]) };
            while wanted.strong_count() > 0 {
                let Some(read) = input.read().transpose() else { continue };
                let last = !matches!(&read, Ok(bytes) if !bytes.is_empty());
                if sender.blocking_send(read).is_err() || last {
                    return;
                }
            }
        };
        thread::Builder::new().name("input".into()).spawn(read)?;
        Ok(Self { reads, rest: Bytes::new(), _alive: alive })
    }
}

enum Input {
    Console,
    Bytes(Vec<u8>),
}

impl Input {
    /// What comes next, no bytes at the end; `None` when there is nothing yet.
    fn read(&mut self) -> io::Result<Option<Bytes>> {
        match self {
            Self::Bytes(buf) => match io::stdin().lock().read(buf) {
                Ok(read) => Ok(Some(Bytes::copy_from_slice(&buf[..read]))),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(None),
                Err(error) => Err(error),
            },
            Self::Console if !event::poll(LISTEN)? => Ok(None),
            Self::Console => Ok(match event::read()? {
                Event::Key(key) => Some(bytes(key)).filter(|bytes| !bytes.is_empty()).map(Bytes::from),
                Event::Resize(..) => {
                    RESIZED.notify_one();
                    None
                }
                _ => None,
            }),
        }
    }
}

/// The bytes of a key that goes down.
fn bytes(event: KeyEvent) -> Vec<u8> {
    if event.kind == KeyEventKind::Release {
        return Vec::new();
    }
    let key = match event.code {
        KeyCode::Char(char) => Key::Char(char),
        KeyCode::Enter => Key::Enter,
        KeyCode::Tab => Key::Tab,
        KeyCode::BackTab => Key::BackTab,
        KeyCode::Backspace => Key::Backspace,
        KeyCode::Esc => Key::Escape,
        KeyCode::Null => Key::Null,
        KeyCode::Up => Key::Up,
        KeyCode::Down => Key::Down,
        KeyCode::Right => Key::Right,
        KeyCode::Left => Key::Left,
        KeyCode::Home => Key::Home,
        KeyCode::End => Key::End,
        KeyCode::Insert => Key::Insert,
        KeyCode::Delete => Key::Delete,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown => Key::PageDown,
        KeyCode::F(number) => Key::F(number),
        _ => return Vec::new(),
    };
    let held = Held {
        control: event.modifiers.contains(KeyModifiers::CONTROL),
        alt: event.modifiers.contains(KeyModifiers::ALT),
    };
    keys::encode(key, held)
}

impl AsyncRead for Reader {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.rest.is_empty() {
            this.rest = ready!(this.reads.poll_recv(cx)).transpose()?.unwrap_or_default();
        }
        let part = this.rest.len().min(buf.remaining());
        buf.put_slice(&this.rest[..part]);
        this.rest.advance(part);
        Poll::Ready(Ok(()))
    }
}
