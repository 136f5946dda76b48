//! Why a session could not be opened.

use crate::{ControlError, DialError};

/// Why a session could not be opened. A session that is open reports its end as an event.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The API did not start the session.
    #[error("cannot start a session: {0}")]
    Control(#[from] ControlError),
    /// The data channel could not be opened.
    #[error("cannot open the data channel: {0}")]
    Dial(#[from] DialError),
    /// The operating system gave no randomness.
    #[error("no randomness from the operating system: {0}")]
    Randomness(getrandom::Error),
}
