//! [`Target`]: which form a text has, and what is refused before anything looks at it.

use std::fmt;
use std::str::FromStr;

use crate::error::visible;
use crate::{InstanceId, ParseTargetError};

/// Longest target that the service takes, in characters (StartSession, shape `SessionTarget`).
pub const MAX_TARGET_LEN: usize = 400;

/// Something a session can be started on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Target {
    /// An EC2 instance or another managed machine.
    Instance(InstanceId),
    /// A container of an ECS task.
    Ecs(EcsTarget),
}

impl Target {
    /// The `Target` of a StartSession request.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Instance(id) => id.as_str(),
            Self::Ecs(target) => target.as_str(),
        }
    }
}

impl FromStr for Target {
    type Err = ParseTargetError;

    fn from_str(text: &str) -> Result<Self, ParseTargetError> {
        refuse_hostile(text)?;
        if text.starts_with(ECS_PREFIX) {
            text.parse().map(Self::Ecs)
        } else if text.starts_with("i-") || text.starts_with("mi-") {
            text.parse().map(Self::Instance)
        } else {
            Err(ParseTargetError::LookupNeeded { shown: visible(text) })
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

impl From<InstanceId> for Target {
    fn from(id: InstanceId) -> Self {
        Self::Instance(id)
    }
}

/// The target string of a container, `ecs:<cluster name>_<task id>_<container runtime id>`, as the ECS
/// agent makes it (agent ecs_identity.go) and StartSession takes it. Kept as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EcsTarget(String);

impl EcsTarget {
    /// The whole string, `ecs:` included.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for EcsTarget {
    type Err = ParseTargetError;

    /// Only the shape is checked. A cluster name may have underscores of its own.
    fn from_str(text: &str) -> Result<Self, ParseTargetError> {
        refuse_hostile(text)?;
        let parts = text.strip_prefix(ECS_PREFIX).map(|rest| rest.rsplitn(3, '_'));
        let is_complete = parts.is_some_and(|parts| parts.filter(|part| !part.is_empty()).count() == 3);
        if !is_complete || text.contains(' ') {
            return Err(ParseTargetError::Ecs { shown: visible(text) });
        }
        Ok(Self(text.into()))
    }
}

impl AsRef<str> for EcsTarget {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EcsTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Refuses what is no target of any form, whoever would look it up.
fn refuse_hostile(text: &str) -> Result<(), ParseTargetError> {
    if text.is_empty() {
        return Err(ParseTargetError::Empty);
    }
    if text.len() > MAX_TARGET_LEN {
        return Err(ParseTargetError::TooLong { len: text.len(), shown: visible(text) });
    }
    if text.starts_with('-') {
        return Err(ParseTargetError::LeadingDash { shown: visible(text) });
    }
    match text.chars().enumerate().find(|(_, character)| !matches!(character, ' '..='~')) {
        Some((position, character)) => {
            Err(ParseTargetError::Character { character, position, shown: visible(text) })
        }
        None => Ok(()),
    }
}

const ECS_PREFIX: &str = "ecs:";

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Target, ParseTargetError> {
        text.parse()
    }

    #[test]
    fn an_instance_id_is_a_target() {
        let target = parse("mi-0123456789abcdef0").unwrap();
        assert_eq!(target, Target::Instance("mi-0123456789abcdef0".parse().unwrap()));
        assert_eq!(target.to_string(), "mi-0123456789abcdef0");
    }

    #[test]
    fn a_container_is_a_target_as_written() {
        for text in
            ["ecs:prod_8f01b4f0aa_8f01b4f0aa-3107182542", "ecs:my_own_cluster_8f01b4f0aa_0123456789abcdef"]
        {
            assert!(matches!(parse(text), Ok(Target::Ecs(target)) if target.as_str() == text), "{text}");
        }
    }

    #[test]
    fn an_incomplete_container_is_refused() {
        for text in ["ecs:", "ecs:a", "ecs:a_b", "ecs:a_b_", "ecs:_b_c", "ecs:a__c", "ecs:a b_c_d"] {
            assert_eq!(parse(text), Err(ParseTargetError::Ecs { shown: text.into() }));
        }
    }

    #[test]
    fn a_mistyped_id_says_what_is_wrong_with_it() {
        let message = parse("i-0123456").unwrap_err().to_string();
        assert!(message.starts_with("'i-0123456' is not an instance id: at least 8 hex"), "{message}");
    }

    #[test]
    fn a_name_says_that_names_are_not_looked_up() {
        for text in ["web-1", "Name=web", "10.0.0.1", "db.internal", "I-0123456789abcdef0", "i", "my host"] {
            let error = parse(text).unwrap_err();
            assert_eq!(error, ParseTargetError::LookupNeeded { shown: text.into() });
            let message = error.to_string();
            assert!(
                message.contains("lookup by name or tag is not built in; give the instance id: i-"),
                "{message}"
            );
        }
    }

    #[test]
    fn an_option_is_not_a_target() {
        for text in ["-", "--help", "-i-0123456789abcdef0"] {
            assert_eq!(parse(text), Err(ParseTargetError::LeadingDash { shown: text.into() }));
        }
    }

    #[test]
    fn control_characters_are_refused_and_shown() {
        for (text, character, position) in [
            ("i-01234567\n", '\n', 10),
            ("i-0123\x1b[2J4567", '\x1b', 6),
            ("\0", '\0', 0),
            ("i-01234567\x7f", '\x7f', 10),
            ("i-٠١٢٣٤٥٦٧", '٠', 2),
            ("web\u{202e}1", '\u{202e}', 3),
        ] {
            let error = parse(text).unwrap_err();
            let shown = text.escape_default().to_string();
            assert_eq!(error, ParseTargetError::Character { character, position, shown });
        }
    }

    #[test]
    fn ten_kilobytes_are_refused_in_a_short_message() {
        for text in ["i-".to_owned() + &"0".repeat(10_240), "\x1b".repeat(10_240), "é".repeat(10_240)] {
            let error = parse(&text).unwrap_err();
            assert!(matches!(error, ParseTargetError::TooLong { len, .. } if len == text.len()));
            assert!(error.to_string().len() < 600);
        }
    }

    #[test]
    fn no_text_is_refused() {
        assert_eq!(parse(""), Err(ParseTargetError::Empty));
    }
}
