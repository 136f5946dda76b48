//! [`SessionTarget`]: what StartSession takes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::ecs;
use crate::text::visible;
use crate::{EcsTarget, InstanceId, ParseTargetError, Target};

/// Something a session can be started on as it stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
#[non_exhaustive]
pub enum SessionTarget {
    /// An EC2 instance or another managed machine.
    Instance(InstanceId),
    /// A container of an ECS task.
    Ecs(EcsTarget),
}

impl SessionTarget {
    /// The `Target` of a StartSession request.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Instance(id) => id.as_str(),
            Self::Ecs(target) => target.as_str(),
        }
    }
}

impl FromStr for SessionTarget {
    type Err = ParseTargetError;

    /// Reads any [`Target`] that needs no lookup.
    ///
    /// # Errors
    ///
    /// [`ParseTargetError::LookupNeeded`] for a target that does, and what reading a [`Target`] refuses.
    fn from_str(text: &str) -> Result<Self, ParseTargetError> {
        let target: Target = text.parse()?;
        target.session_target().ok_or_else(|| ParseTargetError::LookupNeeded { shown: visible(text.trim()) })
    }
}

impl fmt::Display for SessionTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl AsRef<str> for SessionTarget {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl From<InstanceId> for SessionTarget {
    fn from(id: InstanceId) -> Self {
        Self::Instance(id)
    }
}

impl From<EcsTarget> for SessionTarget {
    fn from(target: EcsTarget) -> Self {
        Self::Ecs(target)
    }
}

impl From<SessionTarget> for String {
    fn from(target: SessionTarget) -> Self {
        target.as_str().into()
    }
}

impl TryFrom<String> for SessionTarget {
    type Error = ParseTargetError;

    /// Stricter than [`FromStr`]: only what [`SessionTarget::as_str`] gives.
    fn try_from(text: String) -> Result<Self, ParseTargetError> {
        if text.starts_with(ecs::PREFIX) {
            text.parse().map(Self::Ecs)
        } else {
            text.parse().map(Self::Instance)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_needs_no_lookup_is_a_session_target() {
        for (text, expected) in [
            ("mi-0123456789ABCDEF0", "mi-0123456789ABCDEF0"),
            (" i-01234567\n", "i-01234567"),
            ("ecs:prod_8f01_8f01-31", "ecs:prod_8f01_8f01-31"),
            ("arn:aws:ec2:eu-west-1:123456789012:instance/i-01234567", "i-01234567"),
        ] {
            assert_eq!(text.parse::<SessionTarget>().unwrap().as_str(), expected);
        }
    }

    #[test]
    fn what_needs_a_lookup_says_so() {
        for text in ["web-1", "Name:web", "tag:Name=web", "10.0.0.1", "asg:web", "ecs:prod/web"] {
            let error = text.parse::<SessionTarget>().unwrap_err();
            assert_eq!(error, ParseTargetError::LookupNeeded { shown: text.into() });
            assert!(error.to_string().contains("needs the id itself: i-"), "{error}");
        }
    }

    #[test]
    fn json_is_the_text() {
        let target: SessionTarget = "i-01234567".parse().unwrap();
        let json = serde_json::to_string(&target).unwrap();
        assert_eq!(json, r#""i-01234567""#);
        assert_eq!(serde_json::from_str::<SessionTarget>(&json).unwrap(), target);
        assert!(serde_json::from_str::<SessionTarget>(r#""web""#).is_err());
    }
}
