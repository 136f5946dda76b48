//! Where a session writes to, and how that holds up what it receives.

use std::io;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use ssm_session::{ControlPlane, Reading, Session};

use crate::sink::Sink;

/// Output that may wait for its reader before no more is received.
const WAITING_MAX: usize = 128 * 1024;

/// While nothing is received, one message is taken this often, so that the connection is not given up.
const TRICKLE: Duration = Duration::from_secs(10);

/// Standard output and standard error of a session.
#[derive(Debug)]
pub(crate) struct Outputs {
    pub(crate) output: Sink,
    pub(crate) error: Sink,
    /// Nothing is received, except for one message at this time.
    stopped: Option<Instant>,
}

impl Outputs {
    pub(crate) fn new(output: Sink, error: Sink) -> Self {
        Self { output, error, stopped: None }
    }

    /// Before anything is received: takes the one message that is due.
    pub(crate) fn let_trickle<C: ControlPlane>(&self, session: &mut Session<C>, now: Instant) {
        if self.stopped.is_some_and(|next| next <= now) {
            session.set_reading(Reading::On);
        }
    }

    /// Behind each event: receives nothing more while too much waits.
    pub(crate) fn hold_up<C: ControlPlane>(&mut self, session: &mut Session<C>, now: Instant) {
        if self.waiting() >= WAITING_MAX {
            session.set_reading(Reading::Stopped);
            self.stopped = Some(now + TRICKLE);
        }
    }

    /// Writes what the outputs take. An error is that of the output, and is told once.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Poll::Ready(Err(error)) = self.error.poll_flush(cx) {
            tracing::debug!(%error, "standard error cannot be written to");
        }
        self.output.poll_flush(cx)
    }

    /// Behind that: receives again when there is room.
    pub(crate) fn go_on<C: ControlPlane>(&mut self, session: &mut Session<C>, cx: &mut Context<'_>) {
        if self.stopped.is_some() && self.waiting() < WAITING_MAX / 2 {
            self.stopped = None;
            session.set_reading(Reading::On);
            cx.waker().wake_by_ref();
        }
    }

    /// When the next message is to be taken although nothing is received.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.stopped
    }

    /// Writes everything. What is an error of the output and what is its end is for `failure` to say.
    pub(crate) fn poll_drain<E>(
        &mut self,
        cx: &mut Context<'_>,
        failure: impl FnOnce(io::Error) -> Option<E>,
    ) -> Poll<Result<(), E>> {
        let errors = self.error.poll_flush(cx);
        match ready!(self.output.poll_flush(cx)).err().and_then(failure) {
            Some(failure) => Poll::Ready(Err(failure)),
            None if errors.is_pending() => Poll::Pending,
            None => Poll::Ready(Ok(())),
        }
    }

    fn waiting(&self) -> usize {
        self.output.len() + self.error.len()
    }
}
