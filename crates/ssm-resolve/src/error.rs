//! [`ParseTargetError`]: why a text is no target.

use crate::MAX_TARGET_LEN;

/// Why a text is no target. Every message ends with the forms that are accepted.
///
/// The text is kept cut to a bounded length, with what cannot be seen escaped, so a message can be shown on a terminal whatever
/// the text was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseTargetError {
    /// There is no text at all.
    #[error("the target is empty; {FORMS}")]
    Empty,
    /// A target has at most [`MAX_TARGET_LEN`] characters.
    #[error("target '{shown}' has more than the {MAX_TARGET_LEN} characters a target can have; {FORMS}")]
    TooLong {
        /// The start of it.
        shown: String,
    },
    /// The text starts with `-`: an option in the wrong place, most likely.
    #[error("target '{shown}' starts with '-' like an option; {FORMS}")]
    LeadingDash {
        /// The text.
        shown: String,
    },
    /// The text has a character that cannot be seen. No target needs one.
    #[error("target '{shown}' has the character U+{:04X} at position {position}; {FORMS}", u32::from(*.character))]
    Character {
        /// The first such character.
        character: char,
        /// How many characters are in front of it.
        position: usize,
        /// The text.
        shown: String,
    },
    /// It starts like an instance id and is none.
    #[error(
        "'{shown}' is not an instance id: at least 8 hexadecimal digits must follow i- or mi- \
         (for a machine of that name: tag:Name={shown}); {FORMS}"
    )]
    InstanceId {
        /// The text.
        shown: String,
    },
    /// It starts with `arn:` and names neither an instance nor a part of ECS.
    #[error(
        "'{shown}' is not the ARN of an instance, a managed instance, or an ECS service, task or container; {FORMS}"
    )]
    Arn {
        /// The text.
        shown: String,
    },
    /// It starts with `ecs:` and does not name a container.
    #[error("'{shown}' does not name a container; {FORMS}")]
    Ecs {
        /// The text.
        shown: String,
    },
    /// There is no tag key, or no value where one must be.
    #[error("'{shown}' has no tag key, or no value; {FORMS}")]
    Tag {
        /// The text.
        shown: String,
    },
    /// EC2's tags have keys of at most 128 characters and values of at most 256.
    #[error("tag '{shown}' is longer than any tag of EC2: 128 characters for the key, 256 for the value")]
    TagTooLong {
        /// The start of it.
        shown: String,
    },
    /// It stands in brackets and is no IPv6 address.
    #[error("'{shown}' is not an IPv6 address in brackets; {FORMS}")]
    Address {
        /// The text.
        shown: String,
    },
    /// A target that something has to look up, where the id itself is needed.
    #[error("'{shown}' has to be looked up first, and this needs the id itself: {ID_FORMS}")]
    LookupNeeded {
        /// The text.
        shown: String,
    },
}

const FORMS: &str = "give an instance id (i-0123456789abcdef0, mi-0123456789abcdef0), tag:KEY=VALUE, asg:GROUP, \
                     an IP address, a name, or ecs:CLUSTER/SERVICE-OR-TASK[/CONTAINER] for a container";

const ID_FORMS: &str =
    "i-0123456789abcdef0, mi-0123456789abcdef0, or ecs:CLUSTER_TASKID_RUNTIMEID for a container";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_position_of_a_bad_character_is_named() {
        let error = ParseTargetError::Character { character: '\x07', position: 2, shown: "i-\\u{7}".into() };
        assert!(
            error.to_string().starts_with("target 'i-\\u{7}' has the character U+0007 at position 2; give")
        );
    }
}
