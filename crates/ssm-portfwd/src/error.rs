//! Why a forward could not be set up.

use std::io;
use std::sync::Arc;

use ssm_session::SessionError;

use crate::ListenAddr;

/// Why a forward could not be set up or went wrong locally.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ForwardError {
    /// The local address could not be taken.
    #[error("cannot listen on {listen}: {source}")]
    Bind {
        /// What was asked for.
        listen: ListenAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The first session could not be started.
    #[error(transparent)]
    Session(Arc<SessionError>),
}

/// What is wrong with a forward as the user wrote it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} is no forward: {reason}; write [bind:]port:host:hostport, port:hostport, port or /path:host:hostport, IPv6 addresses in brackets", .text.escape_debug())]
pub struct ParseSpecError {
    pub(crate) text: String,
    pub(crate) reason: &'static str,
}
