//! [`InstanceId`]: the one form of a target that is never looked up.

use std::fmt;
use std::str::FromStr;

use crate::text::visible;
use crate::{MAX_TARGET_LEN, ParseTargetError};

/// The id of an EC2 instance (`i-`) or of another managed machine (`mi-`), followed by at least 8
/// hexadecimal digits of either case. Kept as it was written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceId(String);

impl InstanceId {
    /// The id as the service knows it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for InstanceId {
    type Err = ParseTargetError;

    /// Accepts `^m?i-[[:xdigit:]]{8,}$` up to [`MAX_TARGET_LEN`].
    fn from_str(text: &str) -> Result<Self, ParseTargetError> {
        let digits = text.strip_prefix('m').unwrap_or(text).strip_prefix("i-");
        let is_id = digits.is_some_and(|digits| {
            digits.len() >= MIN_DIGITS && digits.bytes().all(|digit| digit.is_ascii_hexdigit())
        });
        if !is_id {
            return Err(ParseTargetError::InstanceId { shown: visible(text) });
        }
        if text.len() > MAX_TARGET_LEN {
            return Err(ParseTargetError::TooLong { shown: visible(text) });
        }
        Ok(Self(text.into()))
    }
}

impl AsRef<str> for InstanceId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Ids of EC2 had 8 digits at first and have 17.
const MIN_DIGITS: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_long_and_managed_ids_are_accepted_as_written() {
        for text in ["i-01234567", "i-0123456789abcdef0", "mi-0123456789abcdef0", "i-0123456789ABCDEF0"] {
            assert_eq!(text.parse::<InstanceId>().unwrap().as_str(), text);
        }
    }

    #[test]
    fn anything_else_is_refused() {
        let texts = [
            "i-0123456",
            "i-",
            "mi-",
            "i",
            "",
            "I-01234567",
            "MI-01234567",
            "mmi-01234567",
            "m-01234567",
            "i-0123456g",
            "i-01234567 ",
            " i-01234567",
            "i-01234567\n",
            "i--01234567",
            "i-٠١٢٣٤٥٦٧",
        ];
        for text in texts {
            let error = ParseTargetError::InstanceId { shown: visible(text) };
            assert_eq!(text.parse::<InstanceId>(), Err(error), "{text:?}");
        }
    }

    #[test]
    fn an_id_has_at_most_400_characters() {
        let longest = format!("i-{}", "0".repeat(398));
        assert!(longest.parse::<InstanceId>().is_ok());
        let error = (longest + "0").parse::<InstanceId>().unwrap_err();
        assert!(matches!(error, ParseTargetError::TooLong { .. }), "{error:?}");
    }
}
