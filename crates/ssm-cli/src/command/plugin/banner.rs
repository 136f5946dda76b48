//! The sentences that wrappers of AWS's plugin look for, byte for byte.

use std::process::ExitCode;

use ssm_portfwd::{LocalAddr, Notice};
use ssm_session::{CloseReason, PortMode};

use crate::command::{self, shell};
use crate::error::ending;
use crate::output::{Lines, print_aside as print, visible};

/// Text from elsewhere, on one line.
pub(super) fn line(text: &str) -> impl std::fmt::Display + '_ {
    visible(text, Lines::Joined)
}

/// What is said about one session.
pub(super) struct Banner {
    session: String,
}

impl Banner {
    pub(super) fn new(session: &str) -> Self {
        Self { session: line(session).to_string() }
    }

    /// Plugin `session.go`, `Execute`.
    pub(super) fn starting(&self) {
        print(format!("\nStarting session with SessionId: {}\n", self.session));
    }

    /// Plugin `muxportforwarding.go`, `handleControlSignals`.
    pub(super) fn terminating(&self) {
        print("Terminate signal received, exiting.\n");
    }

    /// Plugin `streaming.go` `HandleChannelClosedMessage`, `sessionhandler.go` `ResumeSessionHandler`. Returns the exit code
    /// that tells how it went.
    pub(super) fn ended(&self, reason: &CloseReason) -> ExitCode {
        print(self.ending(reason));
        match reason {
            CloseReason::Terminated | CloseReason::AgentClosed { detail: None, .. } => ExitCode::SUCCESS,
            _ => ExitCode::from(u8::MAX),
        }
    }

    fn ending(&self, reason: &CloseReason) -> String {
        let id = &self.session;
        match reason {
            CloseReason::Terminated | CloseReason::AgentClosed { detail: None, .. } => {
                format!("\n\nExiting session with sessionId: {id}.\n\n")
            }
            CloseReason::AgentClosed { detail: Some(detail), .. } => {
                format!("\n\nSessionId: {id} : {}\n\n", visible(detail, Lines::Kept))
            }
            CloseReason::ResumeRefused => format!("Session: {id} timed out.\n"),
            other => format!("\n\nSessionId: {id} : {}\n\n", line(&ending(other))),
        }
    }

    /// Plugin `streaming.go`, `handleHandshakeComplete`, for what the agent has to say.
    pub(super) fn shell_notice(&self, notice: ssm_shell::Notice) {
        match notice {
            ssm_shell::Notice::Ready(ready) => customer_message(&ready.customer_message),
            other => shell::tell(other),
        }
    }

    /// Plugin `muxportforwarding.go` `handleClientConnections`, `basicportforwarding.go` `startLocalConn`.
    pub(super) fn port_notice(&self, notice: Notice, mode: PortMode, accepted: &mut bool) {
        let id = &self.session;
        let is_mux = matches!(mode, PortMode::Mux { .. });
        match notice {
            Notice::Ready(ready) => customer_message(&ready.customer_message),
            Notice::Listening(addrs) => {
                match addrs.first() {
                    Some(LocalAddr::Unix(path)) => {
                        let path = path.display().to_string();
                        print(format!("Unix socket {} opened for sessionId {id}.\n", line(&path)));
                    }
                    Some(LocalAddr::Tcp(addr)) => {
                        print(format!("Port {} opened for sessionId {id}.\n", addr.port()));
                    }
                    None => {}
                }
                if is_mux {
                    print("Waiting for connections...\n");
                }
            }
            Notice::Opened { .. } if !*accepted => {
                *accepted = true;
                print(match is_mux {
                    true => format!("\nConnection accepted for session [{id}]\n"),
                    false => format!("Connection accepted for session {id}.\n"),
                });
            }
            Notice::Refused { .. } => {
                print("\nConnection to destination port failed, check SSM Agent logs.\n");
            }
            other => command::explain(&other),
        }
    }
}

fn customer_message(text: &str) {
    if !text.is_empty() {
        print(format!("{}\n", visible(text, Lines::Kept)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ending(detail: Option<&str>) -> String {
        let reason = CloseReason::AgentClosed { exit_code: None, detail: detail.map(Into::into) };
        Banner::new("s-1").ending(&reason)
    }

    #[test]
    fn item_5_75_the_end_is_told_as_wrappers_expect_it() {
        assert_eq!(ending(None), "\n\nExiting session with sessionId: s-1.\n\n");
        assert_eq!(ending(Some("idle\nfor long")), "\n\nSessionId: s-1 : idle\nfor long\n\n");
        assert_eq!(Banner::new("s-1").ending(&CloseReason::ResumeRefused), "Session: s-1 timed out.\n");
    }

    #[test]
    fn the_terminal_is_not_at_the_mercy_of_the_service() {
        assert_eq!(ending(Some("\x1b[2J")), "\n\nSessionId: s-1 : \\u{1b}[2J\n\n");
        assert_eq!(Banner::new("s\x1b[1").session, "s\\u{1b}[1");
    }
}
