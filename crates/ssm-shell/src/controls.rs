//! What a terminal does beside bytes, for a session on streams: its size, its signals, its end.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use ssm_session::TerminalSize;

/// Signals that may wait to be sent.
const KEYS_MAX: usize = 16;

/// Size, signals and end of a session that is run on streams ([`Io::controlled`](crate::Io::controlled)). Clones are handles to the
/// same session; dropping them does nothing.
///
/// None of the methods waits. What is asked for after the end is ignored.
#[derive(Debug, Clone, Default)]
pub struct Controls(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    size: Option<TerminalSize>,
    keys: VecDeque<u8>,
    over: bool,
    waker: Option<Waker>,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Control {
    Size(TerminalSize),
    Key(u8),
    End,
}

impl Controls {
    /// The terminal has another size. Of several in a row the last one counts.
    pub fn resize(&self, size: TerminalSize) {
        self.ask(|state| state.size = Some(size));
    }

    /// Ctrl-C, as from `SIGINT`. It goes ahead of input that is not sent yet. Beyond 16 that wait, another one changes nothing.
    pub fn interrupt(&self) {
        self.key(0x03);
    }

    /// Ctrl-\, as from `SIGQUIT`; see [`interrupt`](Self::interrupt).
    pub fn quit(&self) {
        self.key(0x1c);
    }

    /// Ctrl-Z, as from `SIGTSTP`; see [`interrupt`](Self::interrupt).
    pub fn suspend(&self) {
        self.key(0x1a);
    }

    /// Ends the session by API, as `SIGTERM` does for a process: [`EndedBy::Caller`](crate::EndedBy::Caller).
    pub fn end(&self) {
        self.ask(|state| state.over = true);
    }

    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Poll<Control> {
        let mut state = self.lock();
        if state.over {
            return Poll::Ready(Control::End);
        }
        if let Some(size) = state.size.take() {
            return Poll::Ready(Control::Size(size));
        }
        if let Some(key) = state.keys.pop_front() {
            return Poll::Ready(Control::Key(key));
        }
        state.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    fn key(&self, key: u8) {
        self.ask(|state| {
            if state.keys.len() < KEYS_MAX {
                state.keys.push_back(key);
            }
        });
    }

    fn ask(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
