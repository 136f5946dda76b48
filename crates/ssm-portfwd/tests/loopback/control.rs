//! A control plane that counts, and fails when told to.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use ssm_session::{
    ControlError, ControlErrorKind, ControlPlane, Endpoint, Identity, Resumed, SessionId, StartSession,
};
use tokio::sync::OwnedMutexGuard;

/// The calls a [`Counting`] control plane has passed on.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    started: AtomicUsize,
    failing: AtomicBool,
    held: Arc<tokio::sync::Mutex<()>>,
    sessions: Mutex<Vec<SessionId>>,
}

impl Calls {
    pub(crate) fn started(&self) -> usize {
        self.started.load(Ordering::Relaxed)
    }

    /// The sessions in the order of their start.
    pub(crate) fn sessions(&self) -> Vec<SessionId> {
        self.sessions.lock().unwrap().clone()
    }

    /// From here on no session starts, or they start again.
    pub(crate) fn fail(&self, failing: bool) {
        self.failing.store(failing, Ordering::Relaxed);
    }

    /// No start is answered while the guard lives.
    pub(crate) async fn hold(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.held).lock_owned().await
    }
}

/// Counts the calls for `inner`.
pub(crate) struct Counting<C> {
    pub(crate) inner: C,
    pub(crate) calls: Arc<Calls>,
}

impl<C: ControlPlane> ControlPlane for Counting<C> {
    async fn start(&self, request: &StartSession) -> Result<Endpoint, ControlError> {
        self.calls.started.fetch_add(1, Ordering::Relaxed);
        drop(self.calls.held.lock().await);
        if self.calls.failing.load(Ordering::Relaxed) {
            return Err(ControlError::new(ControlErrorKind::TargetNotConnected, "it is not connected"));
        }
        let endpoint = self.inner.start(request).await?;
        self.calls.sessions.lock().unwrap().push(endpoint.session_id.clone());
        Ok(endpoint)
    }

    async fn resume(&self, id: &SessionId) -> Result<Resumed, ControlError> {
        self.inner.resume(id).await
    }

    async fn terminate(&self, id: &SessionId) -> Result<(), ControlError> {
        self.inner.terminate(id).await
    }

    async fn identity(&self) -> Result<Option<Identity>, ControlError> {
        self.inner.identity().await
    }
}
