//! The clock of a session's task, and what wakes it.

use std::pin::Pin;
use std::task::Context;
use std::time::{Duration, Instant};

use tokio::time::Sleep;

/// Wakes a task at the next of its deadlines.
#[derive(Debug)]
pub(crate) struct Alarm(Pin<Box<Sleep>>);

impl Alarm {
    pub(crate) fn new() -> Self {
        Self(Box::pin(tokio::time::sleep(Duration::ZERO)))
    }

    /// Wakes the task at the first of these that is still to come.
    pub(crate) fn set(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
        deadlines: impl IntoIterator<Item = Option<Instant>>,
    ) {
        let Some(next) = deadlines.into_iter().flatten().filter(|due| *due > now).min() else { return };
        if self.0.deadline() != next.into() {
            self.0.as_mut().reset(next.into());
        }
        if self.0.as_mut().poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
    }
}

/// The clock of the runtime, which the session uses too.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
