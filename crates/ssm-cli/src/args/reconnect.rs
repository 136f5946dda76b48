//! How often a lost connection is tried to be brought back.

use std::fmt;
use std::str::FromStr;

/// As the user wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReconnectArg {
    /// This often, for each loss; at least once.
    Times(u32),
    /// Until it works, or nobody wants it any more.
    Always,
    /// Not at all: a lost connection ends the session.
    Never,
}

impl FromStr for ReconnectArg {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match (text, text.parse()) {
            ("always", _) => Ok(Self::Always),
            ("never", _) | (_, Ok(0)) => Ok(Self::Never),
            (_, Ok(times @ 1..=1_000_000)) => Ok(Self::Times(times)),
            _ => Err("it is a number of attempts from 0 to 1000000, always or never"),
        }
    }
}

impl fmt::Display for ReconnectArg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Times(times) => times.fmt(f),
            Self::Always => f.write_str("always"),
            Self::Never => f.write_str("never"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_or_a_word_is_read() {
        for (text, expected) in [
            ("always", ReconnectArg::Always),
            ("never", ReconnectArg::Never),
            ("0", ReconnectArg::Never),
            ("3", ReconnectArg::Times(3)),
        ] {
            assert_eq!(text.parse(), Ok(expected));
            assert_eq!(expected.to_string().parse(), Ok(expected));
        }
        for text in ["", "-1", "1000001", "forever", "3 "] {
            assert!(text.parse::<ReconnectArg>().is_err(), "{text}");
        }
    }
}
