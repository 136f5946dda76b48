//! One file per subcommand, and what several of them do alike.

pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod cp;
#[cfg(feature = "db")]
pub(crate) mod db;
pub(crate) mod decode;
pub(crate) mod demo;
pub(crate) mod doctor;
pub(crate) mod down;
#[cfg(feature = "lookup")]
pub(crate) mod ecs;
pub(crate) mod exec;
pub(crate) mod forward;
mod group;
mod instance_connect;
pub(crate) mod list;
#[cfg(feature = "aws")]
pub(crate) mod login;
pub(crate) mod loopback;
pub(crate) mod man;
pub(crate) mod plugin;
pub(crate) mod proxy;
pub(crate) mod resolve;
pub(crate) mod sessions;
mod sh;
pub(crate) mod shell;
pub(crate) mod ssh;
pub(crate) mod ssh_config;
pub(crate) mod status;
mod target_end;
pub(crate) mod tunnels;
pub(crate) mod up;
mod verdict;

use std::time::Duration;

use ssm_portfwd::Notice;
use ssm_session::{CloseReason, Config, ControlPlane, Event, Session, StartSession};

use crate::control::Control;
use crate::error::Error;
use crate::options::Source;
use crate::output::say;
use crate::process::Signals;
use crate::reconnect;

/// How long ending may take once the user wants to leave.
const LEAVE: Duration = Duration::from_secs(2);

/// Opens a session and waits until it has started, unless a signal comes first ([`Error::Left`]). A session that is being opened
/// then is ended again, as far as that is possible in two seconds.
async fn open(
    source: &mut Source,
    request: &StartSession,
    config: Config,
    signals: &mut Signals,
) -> Result<Session<Control>, Error> {
    begin(open_only(source, request, config, signals).await?, signals).await
}

/// The same without waiting, for those who wait for something that comes later anyway.
async fn open_only(
    source: &mut Source,
    request: &StartSession,
    config: Config,
    signals: &mut Signals,
) -> Result<Session<Control>, Error> {
    source.open_unless(request, config, signals.next()).await?.map_err(Error::Left)
}

/// Waits until a session has started, unless a signal comes first.
async fn begin(mut session: Session<Control>, signals: &mut Signals) -> Result<Session<Control>, Error> {
    tokio::select! {
        started = started(&mut session) => started.map_err(Error::NotStarted)?,
        signal = signals.next() => {
            end(session).await;
            return Err(Error::Left(signal));
        }
    }
    Ok(session)
}

/// Waits until a session has said what it is. The event that says it is left for whoever drives the session.
async fn started(session: &mut Session<Control>) -> Result<(), CloseReason> {
    loop {
        let _ = session.writable().await;
        if session.ready().is_some() {
            return Ok(());
        }
        match session.next_event().await {
            Event::Closed(reason) => return Err(reason),
            Event::Redial { attempt: 1 } => {
                say("the service does not take the data channel yet; trying again")
            }
            _ => {}
        }
    }
}

/// Says with `-v` what happens to a session that carries stdin and stdout, and always what somebody has to know.
fn explain(notice: &Notice) {
    match notice {
        Notice::Redial { attempt, cause, api, .. } => reconnect::lost(*attempt, cause, *api),
        Notice::Resumed { after } => reconnect::back(Some(*after)),
        other => tracing::info!(notice = ?other, "session"),
    }
}

/// Ends a session that is not needed.
async fn end<C: ControlPlane>(session: Session<C>) {
    if let Ok(Err(error)) = tokio::time::timeout(LEAVE, session.terminate()).await {
        tracing::info!(%error, "the session is left to the service");
    }
}
