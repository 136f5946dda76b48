//! What can go wrong in a channel.

use std::fmt;

use ssm_proto::{BodyError, DecodeError, MessageBuf};

/// The peer or the gateway broke the protocol so that the channel cannot go on. Fatal: the channel is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChannelError {
    /// Too many frames in a row were no messages; the last one failed with this.
    Garbage(DecodeError),
    /// A handshake message has an unusable body.
    Handshake(BodyError),
    /// A payload of an encrypted session is not encrypted with its key.
    Undecryptable,
}

impl fmt::Display for ChannelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Garbage(error) => write!(f, "peer sends what is not this protocol: {error}"),
            Self::Handshake(error) => write!(f, "peer sent an unusable handshake: {error}"),
            Self::Undecryptable => f.write_str("peer sent what is not encrypted with the key of the session"),
        }
    }
}

impl std::error::Error for ChannelError {}

/// Why the two sides did not agree to start.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The peer did not say what it had to in time.
    Timeout,
    /// The agent asks for a session type this client cannot be.
    SessionType(String),
    /// The agent asks for an action this client does not know.
    UnsupportedAction(String),
    /// The agent asks for KMS encryption, which this build cannot do.
    EncryptionUnsupported,
    /// There is no data key, for this reason.
    NoDataKey(String),
    /// The session is in the clear, and [`Encryption::Required`](crate::Encryption::Required) says that it may not be.
    NotEncrypted,
    /// The client leaves out the random challenge that this agent requires (agent role).
    ChallengeIgnored,
    /// The client did not do what the agent asked (agent role).
    Refused {
        /// The action.
        action: String,
        /// What the client said about it.
        error: String,
    },
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout => f.write_str("handshake timed out"),
            Self::SessionType(name) => write!(f, "unknown session type {}", name.escape_debug()),
            Self::UnsupportedAction(name) => write!(f, "unsupported action {}", name.escape_debug()),
            Self::EncryptionUnsupported => {
                f.write_str("the session asks for KMS encryption, which this build does not have")
            }
            Self::NoDataKey(reason) => write!(f, "no key to encrypt the session with: {reason}"),
            Self::NotEncrypted => {
                f.write_str("it is not encrypted with a KMS key, and encryption is required here")
            }
            Self::ChallengeIgnored => {
                f.write_str("client does not support required encryption context random challenge")
            }
            Self::Refused { action, error } => {
                write!(f, "{} failed on the client: {}", action.escape_debug(), error.escape_debug())
            }
        }
    }
}

impl std::error::Error for HandshakeError {}

/// Why a payload was not taken.
#[derive(Debug)]
pub enum SendError {
    /// Not now: here it is back. Try again when there is [`Channel::room`](crate::Channel::room).
    Blocked(MessageBuf),
    /// The channel is closed.
    Closed,
    /// Empty payloads cannot be sent: the peers cannot read them.
    Empty,
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Blocked(_) => "the send window is full",
            Self::Closed => "the channel is closed",
            Self::Empty => "the payload is empty",
        })
    }
}

impl std::error::Error for SendError {}
