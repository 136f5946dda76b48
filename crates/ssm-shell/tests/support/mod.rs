//! Sessions with a loopback.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ssm_loopback::{Config, Loopback};
use ssm_session::{
    ControlError, ControlPlane, Endpoint, Identity, Resumed, Session, SessionId, StartSession,
};

pub(crate) const SOON: Duration = Duration::from_secs(10);

/// How long a session may say nothing before it counts as started.
const ASSUME_READY: Duration = Duration::from_millis(1500);

/// A plain shell, whose prompt says nothing surprising.
pub(crate) fn sh() -> Config {
    // Shells do not read the start-up files of this machine's user, who may have anything there.
    let home = Some(env!("CARGO_TARGET_TMPDIR").into());
    Config { shell: Some("/bin/sh".into()), home, ..Config::default() }
}

/// Starts a session, and counts how often it is ended by API.
pub(crate) async fn open(
    loopback: &Loopback,
    request: &StartSession,
) -> (Session<impl ControlPlane + use<>>, Ends) {
    let ends = Ends::default();
    let control = Counted { control: loopback.control(), ends: ends.clone() };
    let mut config = ssm_session::Config::default();
    config.channel.assume_ready = Some(ASSUME_READY);
    let session = Session::start(control, request, config).await.unwrap();
    (session, ends)
}

/// Counts calls of `TerminateSession`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ends(Arc<AtomicUsize>);

impl Ends {
    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

struct Counted<C> {
    control: C,
    ends: Ends,
}

impl<C: ControlPlane> ControlPlane for Counted<C> {
    async fn start(&self, request: &StartSession) -> Result<Endpoint, ControlError> {
        self.control.start(request).await
    }

    async fn resume(&self, id: &SessionId) -> Result<Resumed, ControlError> {
        self.control.resume(id).await
    }

    async fn terminate(&self, id: &SessionId) -> Result<(), ControlError> {
        self.ends.0.fetch_add(1, Ordering::SeqCst);
        self.control.terminate(id).await
    }

    async fn identity(&self) -> Result<Option<Identity>, ControlError> {
        self.control.identity().await
    }
}
