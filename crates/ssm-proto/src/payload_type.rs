//! What the payload of a stream message is.

/// The payload type field of a message, unknown values preserved.
///
/// Values: plugin `src/message/clientmessage.go`; agent `agent/session/contracts/model.go`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PayloadType {
    /// 1: bytes of the terminal, the command or the port.
    Output,
    /// 2: defined by AWS, never produced.
    Error,
    /// 3: [`body::TerminalSize`](crate::body::TerminalSize).
    Size,
    /// 4: defined by AWS, never produced.
    Parameter,
    /// 5: [`body::HandshakeRequest`](crate::body::HandshakeRequest).
    HandshakeRequest,
    /// 6: [`body::HandshakeResponse`](crate::body::HandshakeResponse).
    HandshakeResponse,
    /// 7: [`body::HandshakeComplete`](crate::body::HandshakeComplete).
    HandshakeComplete,
    /// 8: [`body::EncryptionChallenge`](crate::body::EncryptionChallenge), from the agent.
    EncChallengeRequest,
    /// 9: [`body::EncryptionChallenge`](crate::body::EncryptionChallenge), from the client.
    EncChallengeResponse,
    /// 10: [`body::ControlFlag`](crate::body::ControlFlag).
    Flag,
    /// 11: standard error of a command.
    StdErr,
    /// 12: [`body::ExitCode`](crate::body::ExitCode).
    ExitCode,
    /// Any other value.
    Unknown(u32),
}

impl From<u32> for PayloadType {
    fn from(value: u32) -> Self {
        match value {
            1 => Self::Output,
            2 => Self::Error,
            3 => Self::Size,
            4 => Self::Parameter,
            5 => Self::HandshakeRequest,
            6 => Self::HandshakeResponse,
            7 => Self::HandshakeComplete,
            8 => Self::EncChallengeRequest,
            9 => Self::EncChallengeResponse,
            10 => Self::Flag,
            11 => Self::StdErr,
            12 => Self::ExitCode,
            other => Self::Unknown(other),
        }
    }
}

impl From<PayloadType> for u32 {
    fn from(kind: PayloadType) -> Self {
        match kind {
            PayloadType::Output => 1,
            PayloadType::Error => 2,
            PayloadType::Size => 3,
            PayloadType::Parameter => 4,
            PayloadType::HandshakeRequest => 5,
            PayloadType::HandshakeResponse => 6,
            PayloadType::HandshakeComplete => 7,
            PayloadType::EncChallengeRequest => 8,
            PayloadType::EncChallengeResponse => 9,
            PayloadType::Flag => 10,
            PayloadType::StdErr => 11,
            PayloadType::ExitCode => 12,
            PayloadType::Unknown(other) => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_kept() {
        for value in (0..20).chain([u32::MAX]) {
            assert_eq!(u32::from(PayloadType::from(value)), value);
        }
    }
}
