//! Which connections may have something to do.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Wake, Waker};

use futures_util::task::AtomicWaker;

/// The connections that were woken, so that a turn of the loop costs what is ready and not what is open.
#[derive(Debug, Default)]
pub(crate) struct ReadyList {
    woken: Mutex<VecDeque<u64>>,
    task: AtomicWaker,
}

impl ReadyList {
    /// Wakes from now on wake this task.
    pub(crate) fn register(&self, waker: &Waker) {
        self.task.register(waker);
    }

    /// The next connection that was woken.
    pub(crate) fn pop(&self) -> Option<u64> {
        self.woken.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    /// How many were woken.
    pub(crate) fn len(&self) -> usize {
        self.woken.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// A waker that puts `key` on the list.
    pub(crate) fn waker(self: &Arc<Self>, key: u64) -> Arc<ReadyWaker> {
        Arc::new(ReadyWaker { key, listed: AtomicBool::new(false), list: Arc::clone(self) })
    }
}

/// Puts one connection on the list when its socket is ready.
#[derive(Debug)]
pub(crate) struct ReadyWaker {
    key: u64,
    listed: AtomicBool,
    list: Arc<ReadyList>,
}

impl ReadyWaker {
    /// The connection was taken from the list; it may be put there again.
    pub(crate) fn taken(&self) {
        self.listed.store(false, Ordering::Release);
    }
}

impl Wake for ReadyWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.listed.swap(true, Ordering::AcqRel) {
            return;
        }
        self.list.woken.lock().unwrap_or_else(PoisonError::into_inner).push_back(self.key);
        self.list.task.wake();
    }
}
