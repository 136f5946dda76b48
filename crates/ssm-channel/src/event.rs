//! What a channel tells its caller.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use ssm_proto::body::PortProperties;
use ssm_proto::{PayloadType, Secret};

use crate::{ChannelError, HandshakeError, KeyRequest};

/// Something to put on the WebSocket.
#[derive(Debug)]
pub enum Transmit {
    /// A binary frame.
    Binary(Bytes),
    /// A text frame, which holds the token.
    Text(Secret<String>),
    /// A ping.
    Ping,
}

/// Something that happened.
#[derive(Debug)]
pub enum Event {
    /// The session has started. Comes once; after a start on [`Evidence::Assumed`] it comes again if the agent asks for a
    /// handshake after all, and then holds.
    Ready(Ready),
    /// The connection is up again after a loss; nothing was lost.
    Resumed,
    /// The next payload in order. Handshake payloads and unknown types are not passed on.
    Payload {
        /// What it is.
        kind: PayloadType,
        /// The bytes; shares storage with the frame they came in.
        payload: Bytes,
    },
    /// Connect again, with a new token, then call [`Channel::handle_connected`](crate::Channel::handle_connected) or, when
    /// it failed, [`Channel::handle_disconnected`](crate::Channel::handle_disconnected). The old connection is dead.
    Redial {
        /// 0 for the first attempt after a loss.
        attempt: u32,
    },
    /// The session is to be encrypted: get the data key and give it to [`Channel::install_key`](crate::Channel::install_key).
    /// A `Session` of `ssm-session` does that itself, and does not show this event.
    KeyRequired(KeyRequest),
    /// The session is over. The last event.
    Closed(CloseReason),
}

/// How a session started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready {
    /// What kind of session it is.
    pub kind: SessionKind,
    /// Properties of a port session; `None` for others.
    pub port: Option<PortProperties>,
    /// Version of the peer; empty when it never said.
    pub peer_version: String,
    /// Text of the agent for the user; often empty.
    pub customer_message: String,
    /// What the start rests on.
    pub evidence: Evidence,
    /// Whether payloads are encrypted with a KMS data key.
    pub encrypted: bool,
}

/// What told a client that the session had started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Evidence {
    /// A completed handshake.
    Handshake,
    /// Output without a handshake.
    FirstOutput,
    /// Silence: an agent that needs no handshake and has nothing to say yet.
    Assumed,
}

/// The kinds of session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SessionKind {
    /// A terminal.
    Shell,
    /// A command in a terminal.
    InteractiveCommands,
    /// A command without a terminal.
    NonInteractiveCommands,
    /// Bytes of a TCP destination.
    Port(PortMode),
}

/// How a port session carries connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PortMode {
    /// Many, multiplexed (smux v1).
    Mux {
        /// Whether this side has to send keep-alive frames, because the peer's version expects them.
        keep_alive: bool,
    },
    /// One at a time, with flags in between.
    Basic,
    /// One, and the session ends with it (ssh).
    Stream,
}

/// Why a session is over.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseReason {
    /// This side asked for it.
    Terminated,
    /// The service reported the end.
    AgentClosed {
        /// The exit code of the command, where the agent sent one.
        exit_code: Option<i32>,
        /// Text for the user; `None` for a normal end.
        detail: Option<String>,
    },
    /// A message was not acknowledged for too long.
    Undeliverable {
        /// Its sequence number.
        sequence: i64,
    },
    /// Reconnecting was tried for this long without success.
    ConnectionLost(Duration),
    /// As many attempts to reconnect as there may be have failed.
    NotReconnected {
        /// How many; none where a lost connection is not to be brought back.
        attempts: u32,
        /// Why there is no connection, in words of the driver that tried; a channel leaves it empty. Text of the network.
        cause: String,
    },
    /// The service no longer knows the session.
    ResumeRefused,
    /// The two sides did not agree to start.
    HandshakeFailed(HandshakeError),
    /// The peer broke the protocol.
    PeerMisbehaved(ChannelError),
}

/// In words, for a person. Text of the service is in it as it came.
impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Terminated => f.write_str("the session was ended from here"),
            Self::AgentClosed { detail: Some(detail), .. } => {
                write!(f, "the session was ended by the service: {detail}")
            }
            Self::AgentClosed { detail: None, .. } => f.write_str("the session was ended by the service"),
            Self::Undeliverable { .. } => {
                f.write_str("the session was given up: the agent acknowledged nothing for minutes")
            }
            Self::ConnectionLost(tried) => {
                write!(f, "the connection was lost and did not come back within {} s", tried.as_secs())
            }
            Self::NotReconnected { attempts, cause } => {
                f.write_str("the connection was lost and ")?;
                match attempts {
                    0 => f.write_str("is not to be brought back")?,
                    1 => f.write_str("the attempt to bring it back has failed")?,
                    _ => write!(f, "{attempts} attempts to bring it back have failed")?,
                }
                if cause.is_empty() { Ok(()) } else { write!(f, ": {cause}") }
            }
            Self::ResumeRefused => f.write_str("the connection was lost and the session cannot be resumed"),
            Self::HandshakeFailed(error) => write!(f, "the session did not start: {error}"),
            Self::PeerMisbehaved(error) => write!(f, "the session cannot go on: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_session_is_told_in_words() {
        let not_reconnected =
            |attempts, cause: &str| CloseReason::NotReconnected { attempts, cause: cause.into() };
        let closed = |detail: Option<&str>| CloseReason::AgentClosed {
            exit_code: None,
            detail: detail.map(Into::into),
        };
        for (reason, text) in [
            (CloseReason::Terminated, "the session was ended from here"),
            (closed(None), "the session was ended by the service"),
            (closed(Some("Session timed out")), "the session was ended by the service: Session timed out"),
            (
                CloseReason::Undeliverable { sequence: 3 },
                "the session was given up: the agent acknowledged nothing for minutes",
            ),
            (
                CloseReason::ConnectionLost(Duration::from_secs(600)),
                "the connection was lost and did not come back within 600 s",
            ),
            (not_reconnected(0, ""), "the connection was lost and is not to be brought back"),
            (
                not_reconnected(1, "refused"),
                "the connection was lost and the attempt to bring it back has failed: refused",
            ),
            (not_reconnected(2, ""), "the connection was lost and 2 attempts to bring it back have failed"),
            (CloseReason::ResumeRefused, "the connection was lost and the session cannot be resumed"),
            (
                CloseReason::HandshakeFailed(HandshakeError::Timeout),
                "the session did not start: handshake timed out",
            ),
            (
                CloseReason::PeerMisbehaved(ChannelError::Undecryptable),
                "the session cannot go on: peer sent what is not encrypted with the key of the session",
            ),
        ] {
            assert_eq!(reason.to_string(), text);
        }
    }
}
