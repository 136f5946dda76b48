//! How a session ended.

use ssm_session::CloseReason;

/// How a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// Why the session is over; its text, where there is one, is for the user.
    pub reason: CloseReason,
    /// Who ended it.
    pub ended_by: EndedBy,
    /// Exit code of the remote command, where the agent sent one: commands without a terminal whose document separates the
    /// output streams. -1 for a command that a signal has killed.
    pub code: Option<i32>,
    /// Bytes of output received.
    pub bytes_received: u64,
}

/// Who ended a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EndedBy {
    /// The other side, or the connection.
    Session,
    /// This process was sent a signal, with this number.
    Signal(i32),
    /// The user left with an escape.
    Escape,
    /// The program that runs the session, with [`Controls::end`](crate::Controls::end).
    Caller,
    /// The terminal was hung up.
    InputClosed,
    /// Nobody reads the output any more.
    OutputClosed,
}
