//! What a session has to do with this process beyond its streams: signals and the mode of the terminal. All of it is empty
//! when the session is run for somebody else.

use std::io;
use std::task::{Context, Poll};

use ssm_session::TerminalSize;

#[cfg(any(unix, windows))]
use crate::RawMode;
use crate::io::{InputKind, Owner};
#[cfg(unix)]
use crate::{signals, signals::Signals, terminal};
#[cfg(windows)]
use crate::{windows as signals, windows as terminal, windows::Signals};

/// Signals and terminal of this process.
#[derive(Debug, Default)]
pub(crate) struct Console {
    #[cfg(any(unix, windows))]
    signals: Option<Signals>,
    #[cfg(any(unix, windows))]
    raw_mode: Option<RawMode>,
}

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Received {
    /// The remote side should have it, as this byte (plugin `control_signals_unix.go`).
    Key { byte: u8, number: i32 },
    /// The process should end.
    End { number: i32 },
    /// The terminal has another size.
    Resized,
    /// The process runs again after it was stopped.
    Continued,
}

/// What is done with keys and output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Nothing is echoed and keys are kept as they are, for the session to read later; Ctrl-C still makes a signal.
    Quiet,
    /// Every key is a byte, and so is what is written.
    Raw,
    /// What is written still is, but Ctrl-C makes a signal: the remote side is gone.
    Leaving,
}

impl Console {
    /// Installs the signal handlers of the process and quiets its terminal.
    pub(crate) fn open(owner: Owner, input: InputKind) -> io::Result<Self> {
        #[cfg(any(unix, windows))]
        if owner == Owner::Process {
            // Handlers first, so that no signal finds the terminal changed and nobody to restore it.
            let signals = Some(Signals::install()?);
            let raw_mode = (input == InputKind::Terminal).then(|| RawMode::enter(Mode::Quiet)).transpose()?;
            return Ok(Self { signals, raw_mode });
        }
        let _ = (owner, input);
        Ok(Self::default())
    }

    /// The next thing a signal asks for. A change of size is read with [`size`](Self::size).
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Received> {
        #[cfg(any(unix, windows))]
        if let Some(signals) = &mut self.signals {
            let received = signals.poll(cx);
            if received == Poll::Ready(Received::Continued) {
                self.reapply();
            }
            return received;
        }
        let _ = cx;
        Poll::Pending
    }

    /// The size of the terminal, where the process has one.
    pub(crate) fn size(&self) -> Option<TerminalSize> {
        #[cfg(any(unix, windows))]
        if self.signals.is_some() {
            return terminal::size();
        }
        None
    }

    /// Changes the mode of the terminal.
    pub(crate) fn set_mode(&mut self, mode: Mode) -> io::Result<()> {
        #[cfg(any(unix, windows))]
        if let Some(raw_mode) = &self.raw_mode {
            return raw_mode.apply(mode);
        }
        let _ = mode;
        Ok(())
    }

    /// Whether programs on the remote side can change what the user's terminal shows.
    pub(crate) fn has_screen(&self) -> bool {
        #[cfg(any(unix, windows))]
        if self.signals.is_some() {
            return terminal::is_output_terminal();
        }
        false
    }

    /// Whether there is a shell to which the user would come back if this process stopped.
    pub(crate) fn can_stop(&self) -> bool {
        #[cfg(any(unix, windows))]
        if self.raw_mode.is_some() {
            return signals::has_job_control();
        }
        false
    }

    /// Gives the terminal its old mode back and stops this process, with all others of its job. [`Received::Continued`] tells
    /// that it runs again; until then the terminal is somebody else's.
    pub(crate) fn stop(&mut self) -> io::Result<()> {
        #[cfg(any(unix, windows))]
        if let Some(raw_mode) = &self.raw_mode {
            raw_mode.lend()?;
            return signals::stop_job().inspect_err(|_| self.reapply());
        }
        Ok(())
    }

    /// Gives the terminal its old mode back.
    pub(crate) fn restore(&mut self) {
        #[cfg(any(unix, windows))]
        drop(self.raw_mode.take());
    }

    /// The shell that stopped this process has set the terminal to its own liking.
    #[cfg(any(unix, windows))]
    fn reapply(&self) {
        if let Some(raw_mode) = &self.raw_mode
            && let Err(error) = raw_mode.reapply()
        {
            tracing::debug!(%error, "the terminal was not made raw again");
        }
    }
}
