//! One file per subcommand, and what several of them do alike.

pub(crate) mod demo;
pub(crate) mod forward;
pub(crate) mod loopback;
pub(crate) mod plugin;
pub(crate) mod proxy;
pub(crate) mod shell;

use std::time::Duration;

use ssm_session::{Config, ControlPlane, Session, StartSession};

use crate::control::Control;
use crate::error::Error;
use crate::options::Source;
use crate::process::{Signal, Signals};

/// How long ending may take once the user wants to leave.
const LEAVE: Duration = Duration::from_secs(2);

/// What became of opening a session.
enum Opened {
    Session(Box<Session<Control>>),
    /// The user left first.
    Left(Signal),
}

/// Opens a session unless a signal comes first. A session that is being started then is ended again, as far as that is possible
/// in two seconds.
async fn open(
    source: &mut Source,
    request: &StartSession,
    config: Config,
    signals: &mut Signals,
) -> Result<Opened, Error> {
    let mut opening = std::pin::pin!(source.open(request, config));
    tokio::select! {
        session = &mut opening => session.map(|session| Opened::Session(Box::new(session))),
        signal = signals.next() => {
            if let Ok(Ok(session)) = tokio::time::timeout(LEAVE, opening).await {
                end(session).await;
            }
            Ok(Opened::Left(signal))
        }
    }
}

/// Ends a session that is not needed.
async fn end<C: ControlPlane>(session: Session<C>) {
    if let Ok(Err(error)) = tokio::time::timeout(LEAVE, session.terminate()).await {
        tracing::info!(%error, "the session is left to the service");
    }
}
