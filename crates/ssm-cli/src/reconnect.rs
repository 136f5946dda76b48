//! What is said of connections that are lost and brought back.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ssm_session::ControlErrorKind;

use crate::output::{Lines, Took, say, visible};

/// The last thing that was said of an outage and needs the user or takes its time: once is enough, whatever the number of sessions.
static SAID: Mutex<Option<ControlErrorKind>> = Mutex::new(None);

/// Says with `-v` that a connection is tried to be brought back, and otherwise what somebody has to know.
pub(crate) fn lost(attempt: u32, cause: &str, api: Option<ControlErrorKind>) {
    let why = visible(cause, Lines::Joined);
    if attempt == 0 {
        tracing::info!("the connection was lost: {why}");
    } else {
        tracing::info!("connecting again, for the {attempt}. time: {why}");
    }
    obstacle(cause, api);
}

/// Says, once for each outage and reason, why nothing can be had from the API where that does not pass by itself, or not soon.
pub(crate) fn obstacle(cause: &str, api: Option<ControlErrorKind>) {
    let Some((kind, advice)) = api.and_then(|kind| Some((kind, advice(kind)?))) else { return };
    let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
    if said.replace(kind) != Some(kind) {
        say(format_args!("{cause}; {advice}"));
    }
}

fn advice(kind: ControlErrorKind) -> Option<&'static str> {
    match kind {
        ControlErrorKind::Credentials => {
            Some("once they are renewed (`ssm login` for a single sign-on) this goes on by itself")
        }
        ControlErrorKind::SignOn => Some("after `ssm login` this goes on by itself"),
        ControlErrorKind::TargetNotConnected => Some("it is asked again until it is"),
        ControlErrorKind::Throttled => Some("it is asked again, less often"),
        _ => None,
    }
}

/// What was in the way is not any more.
pub(crate) fn started() {
    SAID.lock().unwrap_or_else(PoisonError::into_inner).take();
}

/// A connection is back.
pub(crate) fn back(after: Option<Duration>) {
    started();
    match after {
        Some(after) => tracing::info!("connected again after {}", Took(after)),
        None => tracing::info!("connected again"),
    }
}
