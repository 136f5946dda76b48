//! What a user is told when a command fails, and the exit code that goes with it.

use std::io;
use std::process::ExitCode;

use ssm_portfwd::ForwardError;
use ssm_resolve::ParseTargetError;
use ssm_session::{CloseReason, SessionError};
use ssm_shell::ShellError;

/// Wrong usage.
const USAGE: u8 = 2;

/// Transport or service failure, as `ssh` has it.
const FAILURE: u8 = 255;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// What was asked for makes no sense.
    #[error("{0}")]
    Usage(String),
    /// No such target can exist.
    #[error(transparent)]
    Target(#[from] ParseTargetError),
    /// The command needs the AWS SDK and this program was built without it.
    #[cfg_attr(feature = "aws", expect(dead_code, reason = "for builds without the AWS SDK"))]
    #[error(
        "this ssm was built without the AWS SDK, which {0} needs; build it with `cargo build --release -p ssm-cli`"
    )]
    NeedsAws(&'static str),
    /// The command needs the loopback and this program was built without it.
    #[cfg_attr(feature = "demo", expect(dead_code, reason = "for builds without the loopback"))]
    #[error(
        "this ssm was built without the loopback, which {0} needs; build it with `cargo build -p ssm-cli --features demo`"
    )]
    NeedsDemo(&'static str),
    /// The account cannot be used.
    #[cfg(feature = "aws")]
    #[error("cannot use AWS: {0}")]
    Account(ssm_session::ControlError),
    /// There is no session.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// A forward could not be set up.
    #[error(transparent)]
    Forward(#[from] ForwardError),
    /// The terminal could not be used.
    #[error(transparent)]
    Shell(#[from] ShellError),
    /// The session was over before it began.
    #[error("{}", not_started(.0))]
    NotStarted(CloseReason),
    /// The session is over, and not because the user wanted it.
    #[error("{}", ending(.0))]
    Ended(CloseReason),
    /// Something local.
    #[error("{what}: {source}")]
    Local { what: &'static str, source: io::Error },
    /// What was to be shown did not come out right.
    #[cfg_attr(not(feature = "demo"), expect(dead_code, reason = "only the demo shows something"))]
    #[error("{0}")]
    Mismatch(String),
}

impl Error {
    /// The exit code.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Usage(_) | Self::Target(_) | Self::NeedsAws(_) | Self::NeedsDemo(_) => USAGE,
            Self::Mismatch(_) => 1,
            _ => FAILURE,
        })
    }

    /// Names what was tried when the system refused it.
    pub(crate) fn local(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Local { what, source }
    }
}

fn not_started(reason: &CloseReason) -> String {
    match reason {
        CloseReason::ResumeRefused => "the service closed the data channel before the session had started: \
            the session may be over, or its token was used, wrong or too old"
            .into(),
        other => ending(other),
    }
}

/// The end of a session in words. [`CloseReason::Terminated`] is what the user wanted and needs none.
pub(crate) fn ending(reason: &CloseReason) -> String {
    reason.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_and_failure_have_different_codes() {
        let code = |error: Error| format!("{:?}", error.exit_code());
        let of = |number: u8| format!("{:?}", ExitCode::from(number));
        assert_eq!(code(Error::Usage("x".into())), of(2));
        assert_eq!(code(Error::Target("web-1".parse::<ssm_resolve::Target>().unwrap_err())), of(2));
        assert_eq!(code(Error::Ended(CloseReason::ResumeRefused)), of(255));
        assert_eq!(code(Error::Local { what: "x", source: io::Error::other("y") }), of(255));
    }

    #[test]
    fn the_text_of_the_service_is_passed_on() {
        let reason = CloseReason::AgentClosed { exit_code: None, detail: Some("idle for 20 minutes".into()) };
        assert_eq!(ending(&reason), "the session was ended by the service: idle for 20 minutes");
    }
}
