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

impl SessionError {
    /// Whether another try may work later: the network or the service is not there as of now, the target is not connected, or
    /// there are no credentials that are good.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Control(error) => error.is_passing(),
            Self::Dial(DialError::Url(_)) | Self::Randomness(_) => false,
            Self::Dial(_) => true,
        }
    }
}
