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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_whose_fault_it_is() {
        let garbage = ChannelError::Garbage(DecodeError::Digest);
        let handshake = ChannelError::Handshake(BodyError::Missing("SessionType"));
        assert_eq!(
            garbage.to_string(),
            format!("peer sends what is not this protocol: {}", DecodeError::Digest)
        );
        assert!(handshake.to_string().starts_with("peer sent an unusable handshake: "), "{handshake}");
        assert!(ChannelError::Undecryptable.to_string().starts_with("peer sent what is not encrypted"));
        assert_eq!(SendError::Empty.to_string(), "the payload is empty");
        assert_eq!(SendError::Closed.to_string(), "the channel is closed");
        let blocked = SendError::Blocked(MessageBuf::with_capacity(0));
        assert_eq!(blocked.to_string(), "the send window is full");
    }

    /// They would be commands to the terminal it is printed on.
    #[test]
    fn text_of_the_peer_is_told_with_its_control_bytes_visible() {
        let hostile = "\x1b]0;title\x07".to_owned();
        for error in [
            HandshakeError::SessionType(hostile.clone()),
            HandshakeError::UnsupportedAction(hostile.clone()),
            HandshakeError::Refused { action: hostile.clone(), error: hostile },
        ] {
            let text = error.to_string();
            assert!(text.contains("\\u{1b}]0;title\\u{7}"), "{text}");
            assert!(!text.contains(char::is_control), "{text:?}");
        }
    }

    #[test]
    fn a_handshake_error_gives_its_reason() {
        let denied = HandshakeError::NoDataKey("kms:GenerateDataKey is denied".into()).to_string();
        assert_eq!(denied, "no key to encrypt the session with: kms:GenerateDataKey is denied");
        assert_eq!(HandshakeError::Timeout.to_string(), "handshake timed out");
        assert!(HandshakeError::NotEncrypted.to_string().contains("encryption is required here"));
        assert!(HandshakeError::EncryptionUnsupported.to_string().contains("this build"));
        // Agent `datachannel.go`, which says it to the client.
        let ignored = "client does not support required encryption context random challenge";
        assert_eq!(HandshakeError::ChallengeIgnored.to_string(), ignored);
    }
}
