//! Control flags and exit codes.

/// The payload of a flag message: a big-endian `u32`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ControlFlag {
    /// 0: acknowledged and ignored, whatever padding follows (agent `port_basic.go`, `port_mux.go`).
    Ignored,
    /// 1, client to agent: close the connection to the destination.
    DisconnectToPort,
    /// 2, client to agent: end the session.
    TerminateSession,
    /// 3, agent to client: a connection to the destination failed.
    ConnectToPortError,
    /// Any other value; agents ignore it.
    Unknown(u32),
}

impl ControlFlag {
    /// The four bytes.
    pub fn encode(self) -> [u8; 4] {
        let value: u32 = match self {
            Self::Ignored => 0,
            Self::DisconnectToPort => 1,
            Self::TerminateSession => 2,
            Self::ConnectToPortError => 3,
            Self::Unknown(value) => value,
        };
        value.to_be_bytes()
    }

    /// Reads the first four bytes; fewer count as 0 and more are ignored, as the agent does.
    pub fn decode(payload: &[u8]) -> Self {
        match payload.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes)) {
            0 => Self::Ignored,
            1 => Self::DisconnectToPort,
            2 => Self::TerminateSession,
            3 => Self::ConnectToPortError,
            other => Self::Unknown(other),
        }
    }
}

/// The payload of an exit code message: the text `EXIT_CODE: n` (agent `shell.go`).
///
/// Exit codes of Windows are unsigned; those above [`i32::MAX`] are held as the `i32` with the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ExitCode(pub i32);

const EXIT_CODE: &str = "EXIT_CODE: ";

impl ExitCode {
    /// The text.
    pub fn encode(self) -> Vec<u8> {
        format!("{EXIT_CODE}{}", self.0).into_bytes()
    }

    /// Reads the text, which must be exactly of the form `EXIT_CODE: -?[0-9]+`.
    pub fn decode(payload: &[u8]) -> Option<Self> {
        let digits = payload.strip_prefix(EXIT_CODE.as_bytes())?;
        let unsigned = digits.strip_prefix(b"-").unwrap_or(digits);
        if !unsigned.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let code: i64 = str::from_utf8(digits).ok()?.parse().ok()?;
        i32::try_from(code).or_else(|_| u32::try_from(code).map(u32::cast_signed)).map(Self).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn item_86_padding_behind_a_flag_is_ignored() {
        assert_eq!(ControlFlag::decode(&[0; 1024]), ControlFlag::Ignored);
        assert_eq!(ControlFlag::decode(&[0, 0, 0, 2, 9, 9]), ControlFlag::TerminateSession);
        assert_eq!(ControlFlag::decode(&[0, 0, 2]), ControlFlag::Ignored);
    }

    #[test]
    fn flags_survive_a_round_trip() {
        for value in 0..6_u32 {
            assert_eq!(ControlFlag::decode(&value.to_be_bytes()).encode(), value.to_be_bytes());
        }
    }

    #[test]
    fn item_74_only_the_exact_text_is_an_exit_code() {
        assert_eq!(ExitCode::decode(b"EXIT_CODE: 3"), Some(ExitCode(3)));
        assert_eq!(ExitCode::decode(b"EXIT_CODE: -1"), Some(ExitCode(-1)));
        assert_eq!(ExitCode::decode(b"EXIT_CODE: 3221225786"), Some(ExitCode(-1_073_741_510)));
        for other in [
            &b"EXIT_CODE: "[..],
            b"EXIT_CODE: +3",
            b"EXIT_CODE: 3\n",
            b"EXIT_CODE:3",
            b"EXIT_CODE: 4294967296",
            b"EXIT_CODE: -2147483649",
            b"EXIT_CODE: -",
        ] {
            assert_eq!(ExitCode::decode(other), None, "{}", other.escape_ascii());
        }
    }
}
