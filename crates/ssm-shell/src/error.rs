//! Why a session could not be run to its end.

use std::io;

use ssm_session::SessionKind;

/// Why a session could not be run to its end. The session has been ended where it could be, and the terminal restored.
///
/// An end that the session itself reports, also one by a lost connection, is an [`Exit`](crate::Exit).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShellError {
    /// The standard streams or signals cannot be set up.
    #[error("cannot set up the terminal: {0}")]
    Setup(#[source] io::Error),
    /// Input cannot be read.
    #[error("cannot read the input: {0}")]
    Input(#[source] io::Error),
    /// Output cannot be written. A reader that went away is no error but an end ([`EndedBy`](crate::EndedBy)).
    #[error("cannot write the output: {0}")]
    Output(#[source] io::Error),
    /// The session forwards a port.
    #[error("the session is no shell and no command ({0:?}); use another document")]
    NotAShell(SessionKind),
}
