//! Ending sessions.

use std::process::ExitCode;

use ssm_session::{AwsControl, ControlErrorKind, ControlPlane, SessionId};

use super::listing::{self, Pages, Query};
use super::orphans;
use crate::args::{TerminateArgs, WhichArgs};
use crate::ask;
use crate::config::Config;
use crate::error::Error;
use crate::options;
use crate::output::{complain, say};
use crate::picker;
use crate::process::Signal;
use crate::remembered;

/// Ends those that are meant.
pub(super) async fn run(mut args: TerminateArgs, config: &Config) -> Result<ExitCode, Error> {
    if args.orphans {
        return orphans::end(args.yes, config).await;
    }
    let target = listing::of_target(args.target.as_deref(), &mut args.connection, config);
    let account = options::account(&args.connection).await?;
    let ids = if args.ids.is_empty() {
        let query = Query::new(&WhichArgs::default(), target.as_deref(), &args.connection, &account).await?;
        let sessions = Pages::new(&account, query).rest().await?;
        sessions.into_iter().filter_map(|session| session.session_id).collect()
    } else {
        args.ids
    };
    if ids.is_empty() {
        say("no sessions");
        return Ok(ExitCode::SUCCESS);
    }
    confirm(ids.len(), args.yes).await?;
    let mut going_on = 0;
    for id in &ids {
        going_on += usize::from(!end(&account, id).await);
    }
    outcome(ids.len(), going_on)
}

/// Ends one session, and says so. Gives whether it is over.
pub(super) async fn end(account: &AwsControl, id: &str) -> bool {
    match account.terminate(&SessionId::new(id)).await {
        Ok(()) => say(format_args!("session {id} has ended")),
        Err(error) => {
            complain(format_args!("session {id}: {error}"));
            if error.kind() != ControlErrorKind::NoSuchSession {
                return false;
            }
            remembered::forget(id);
            return false;
        }
    }
    remembered::forget(id);
    true
}

pub(super) fn outcome(all: usize, going_on: usize) -> Result<ExitCode, Error> {
    match going_on {
        0 => Ok(ExitCode::SUCCESS),
        _ => Err(Error::NotStopped(format!("{going_on} of {all} were not ended"))),
    }
}

/// Asks before more than one session is ended, where there is somebody to ask.
pub(super) async fn confirm(count: usize, yes: bool) -> Result<(), Error> {
    if yes || count < 2 || !picker::is_possible() {
        return Ok(());
    }
    let answer = ask::line(&format!("end {count} sessions? [y/N]")).await.unwrap_or_default();
    match answer.to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Error::Left(Signal::Interrupt)),
    }
}
