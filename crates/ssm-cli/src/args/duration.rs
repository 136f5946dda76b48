//! Times as users write them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A number of seconds, or a number with one of the units ms, s, m, h and d.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DurationArg(pub(crate) Duration);

/// A time, or `off` for one that never comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LimitArg(pub(crate) Option<Duration>);

/// A time of at least a second between two things that are done, or `off`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IntervalArg(pub(crate) Option<Duration>);

impl FromStr for DurationArg {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text)
            .map(Self)
            .ok_or("a time is a number of seconds, or a number with ms, s, m, h or d behind it")
    }
}

impl FromStr for LimitArg {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "off" => Ok(Self(None)),
            _ => text.parse().map(|DurationArg(time)| Self(Some(time))).map_err(
                |_| "a time is a number of seconds, a number with ms, s, m, h or d behind it, or off",
            ),
        }
    }
}

impl FromStr for IntervalArg {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse()? {
            LimitArg(Some(time)) if time < Duration::from_secs(1) => {
                Err("it has to be a second at least, or off")
            }
            LimitArg(time) => Ok(Self(time)),
        }
    }
}

impl fmt::Display for IntervalArg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(time) if time.subsec_millis() == 0 => write!(f, "{}s", time.as_secs()),
            Some(time) => write!(f, "{}ms", time.as_millis()),
            None => f.write_str("off"),
        }
    }
}

fn parse(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at(text.find(|char: char| !char.is_ascii_digit()).unwrap_or(text.len()));
    let number: u64 = number.parse().ok()?;
    let seconds = match unit {
        "ms" => return Some(Duration::from_millis(number)),
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 24 * 3600,
        _ => return None,
    };
    number.checked_mul(seconds).map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_is_read() {
        for (text, millis) in [
            ("0", 0),
            ("90", 90_000),
            ("90s", 90_000),
            ("250ms", 250),
            ("5m", 300_000),
            ("2h", 7_200_000),
            ("1d", 86_400_000),
        ] {
            assert_eq!(text.parse(), Ok(DurationArg(Duration::from_millis(millis))), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in ["", "m", "-1", "1.5s", "5 m", "5M", "off", "99999999999999999d", "99999999999999999999"]
        {
            assert!(text.parse::<DurationArg>().is_err(), "{text}");
        }
        assert_eq!("off".parse(), Ok(LimitArg(None)));
        assert!("never".parse::<LimitArg>().is_err());
        assert_eq!("off".parse(), Ok(IntervalArg(None)));
        assert_eq!("2m".parse::<IntervalArg>().unwrap().to_string(), "120s");
        assert_eq!("1500ms".parse::<IntervalArg>().unwrap().to_string(), "1500ms");
        assert!("999ms".parse::<IntervalArg>().is_err() && "0".parse::<IntervalArg>().is_err());
    }
}
