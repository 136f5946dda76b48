//! The mode and the size of this process' terminal.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::stdio;
use rustix::termios::{
    InputModes, LocalModes, OptionalActions, SpecialCodeIndex, Termios, isatty, tcgetattr, tcgetwinsize,
    tcsetattr,
};
use ssm_session::TerminalSize;

use crate::console::Mode;

/// What the terminal was before this process changed it; `None` while it is unchanged. It belongs to the process, as the
/// terminal does, so that a panic hook finds it.
static CHANGED: Mutex<Option<Changed>> = Mutex::new(None);

struct Changed {
    original: Termios,
    mode: Mode,
    /// The terminal is as it was before, because others have it.
    lent: bool,
}

/// Keeps the terminal on standard input raw; dropping it restores what was before.
///
/// [`run`](crate::run) does this by itself.
#[derive(Debug)]
pub struct RawMode(());

impl RawMode {
    /// Makes the terminal raw.
    ///
    /// # Errors
    ///
    /// When standard input is no terminal, or raw already.
    pub fn enable() -> io::Result<Self> {
        Self::enter(Mode::Raw)
    }

    pub(crate) fn enter(mode: Mode) -> io::Result<Self> {
        let mut changed = lock();
        if changed.is_some() {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "the terminal is in use by a session"));
        }
        let original = tcgetattr(stdio::stdin())?;
        *changed = Some(Changed { original, mode, lent: false });
        drop(changed);
        let guard = Self(());
        guard.apply(mode)?;
        Ok(guard)
    }

    /// Changes what is done with keys and output; nothing after [`restore_terminal`].
    pub(crate) fn apply(&self, mode: Mode) -> io::Result<()> {
        let mut changed = lock();
        let Some(changed) = changed.as_mut() else { return Ok(()) };
        changed.mode = mode;
        // Neither waits for output, which may be held up for ever, nor discards what was typed ahead.
        tcsetattr(stdio::stdin(), OptionalActions::Now, &mode.of(&changed.original))?;
        Ok(())
    }

    /// Gives the terminal to others until [`reapply`](Self::reapply).
    pub(crate) fn lend(&self) -> io::Result<()> {
        let mut changed = lock();
        let Some(changed) = changed.as_mut() else { return Ok(()) };
        tcsetattr(stdio::stdin(), OptionalActions::Now, &changed.original)?;
        changed.lent = true;
        Ok(())
    }

    /// Sets the mode again, after others have had the terminal. What they made of it, where it was lent, is what it will be in the
    /// end.
    pub(crate) fn reapply(&self) -> io::Result<()> {
        let mode = match lock().as_mut() {
            Some(changed) => {
                if std::mem::take(&mut changed.lent) {
                    changed.original = tcgetattr(stdio::stdin())?;
                }
                changed.mode
            }
            None => return Ok(()),
        };
        self.apply(mode)
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        restore_terminal();
    }
}

impl Mode {
    fn of(self, original: &Termios) -> Termios {
        let mut termios = original.clone();
        match self {
            Self::Quiet => {
                termios.input_modes -= InputModes::ICRNL | InputModes::INLCR | InputModes::IXON;
                termios.local_modes -= LocalModes::ICANON | LocalModes::ECHO | LocalModes::ECHONL;
            }
            Self::Raw => termios.make_raw(),
            Self::Leaving => {
                termios.make_raw();
                termios.local_modes |= original.local_modes & LocalModes::ISIG;
            }
        }
        termios.special_codes[SpecialCodeIndex::VMIN] = 1;
        termios.special_codes[SpecialCodeIndex::VTIME] = 0;
        termios
    }
}

/// Gives the terminal back the mode it had before a session or a [`RawMode`] changed it; otherwise does nothing. For ends of the
/// process that drop nothing.
pub fn restore_terminal() {
    if let Some(Changed { original, lent: false, .. }) = lock().take()
        && let Err(error) = tcsetattr(stdio::stdin(), OptionalActions::Now, &original)
    {
        tracing::debug!(%error, "the terminal was not restored");
    }
}

/// Whether a newline alone does not return the carriage.
pub(crate) fn is_raw() -> bool {
    lock().as_ref().is_some_and(|changed| changed.mode != Mode::Quiet && !changed.lent)
}

/// Whether keys are read from standard input.
pub(crate) fn is_terminal() -> bool {
    isatty(stdio::stdin())
}

/// Whether what is shown can be undone: output goes to a terminal.
pub(crate) fn is_output_terminal() -> bool {
    isatty(stdio::stdout())
}

/// The size of the first of the standard streams that is a terminal and knows it.
pub(crate) fn size() -> Option<TerminalSize> {
    [stdio::stdout(), stdio::stdin(), stdio::stderr()].into_iter().find_map(|stream| {
        let size = tcgetwinsize(stream).ok()?;
        let known = size.ws_col > 0 && size.ws_row > 0;
        known.then(|| TerminalSize { cols: size.ws_col.into(), rows: size.ws_row.into() })
    })
}

fn lock() -> MutexGuard<'static, Option<Changed>> {
    CHANGED.lock().unwrap_or_else(PoisonError::into_inner)
}
