//! [`ParseTargetError`], and how hostile text is shown in it.

use crate::MAX_TARGET_LEN;

/// Why a text is no target. Every message ends with the forms that are accepted.
///
/// The text is kept as printable ASCII of bounded length, so a message can be shown on a terminal
/// whatever the text was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseTargetError {
    /// There is no text at all.
    #[error("the target is empty; {FORMS}")]
    Empty,
    /// The service takes at most [`MAX_TARGET_LEN`] characters.
    #[error("target '{shown}' has {len} bytes, more than the {MAX_TARGET_LEN} a target can have; {FORMS}")]
    TooLong {
        /// Length of the text in bytes.
        len: usize,
        /// The start of it.
        shown: String,
    },
    /// The text starts with `-`: an option in the wrong place, most likely.
    #[error("target '{shown}' starts with '-' like an option; {FORMS}")]
    LeadingDash {
        /// The text.
        shown: String,
    },
    /// The text has a control character, or one that is not ASCII. No target has either.
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
    #[error("'{shown}' is not an instance id: at least 8 hexadecimal digits must follow i- or mi-; {FORMS}")]
    InstanceId {
        /// The text.
        shown: String,
    },
    /// It starts with `ecs:` and does not name a cluster, a task and a container.
    #[error("'{shown}' does not name a container; {FORMS}")]
    Ecs {
        /// The text.
        shown: String,
    },
    /// It may be a name, a tag or an address, which something would have to look up.
    #[error("cannot tell which instance '{shown}' is: lookup by name or tag is not built in; {FORMS}")]
    LookupNeeded {
        /// The text.
        shown: String,
    },
}

/// Makes any text fit to be shown: the start of it, with what is not printable ASCII escaped.
pub(crate) fn visible(text: &str) -> String {
    let mut shown: String = text.chars().take(SHOWN_CHARS).flat_map(char::escape_default).collect();
    if text.chars().nth(SHOWN_CHARS).is_some() {
        shown.push_str("...");
    }
    shown
}

const SHOWN_CHARS: usize = 48;

const FORMS: &str = "give the instance id: i-0123456789abcdef0, mi-0123456789abcdef0, \
                     or ecs:CLUSTER_TASKID_RUNTIMEID for a container";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_made_visible() {
        assert_eq!(visible("a\x1b[31m\n"), "a\\u{1b}[31m\\n");
        assert_eq!(visible("\u{202e}é"), "\\u{202e}\\u{e9}");
    }

    #[test]
    fn long_text_is_cut() {
        let shown = visible(&"x".repeat(10_000));
        assert_eq!(shown, "x".repeat(48) + "...");
    }

    #[test]
    fn the_position_of_a_bad_character_is_named() {
        let error = ParseTargetError::Character { character: '\x07', position: 2, shown: "i-\\u{7}".into() };
        assert!(
            error.to_string().starts_with("target 'i-\\u{7}' has the character U+0007 at position 2; give")
        );
    }
}
