//! What sessions are held to: numbers that flags, variables and the configuration can all say.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// How many sessions a destination can have.
pub(crate) const LANES: RangeInclusive<i64> = 1..=64;

/// What a data message can carry, in bytes.
pub(crate) const PAYLOAD_SIZES: RangeInclusive<i64> = 1024..=32_768;

/// A limit on data messages, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PacingArg {
    PerSecond(u32),
    Off,
}

impl FromStr for PacingArg {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match (text, text.parse()) {
            ("off", _) => Ok(Self::Off),
            (_, Ok(rate @ 1..=1_000_000)) => Ok(Self::PerSecond(rate)),
            _ => Err("pacing is a number of messages a second from 1 to 1000000, or off"),
        }
    }
}

impl fmt::Display for PacingArg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PerSecond(rate) => rate.fmt(f),
            Self::Off => f.write_str("off"),
        }
    }
}
