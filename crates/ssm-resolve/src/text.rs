//! What a text may hold before anything looks at its form, and how any text is shown.

use crate::{MAX_TARGET_LEN, ParseTargetError};

/// Refuses what is no target of any form, whoever would look it up.
pub(crate) fn refuse_hostile(text: &str) -> Result<(), ParseTargetError> {
    if text.is_empty() {
        return Err(ParseTargetError::Empty);
    }
    // No character has more than four bytes: longer text need not be counted.
    let len = if text.len() > 4 * MAX_TARGET_LEN { text.len() } else { text.chars().count() };
    if len > MAX_TARGET_LEN {
        return Err(ParseTargetError::TooLong { shown: visible(text) });
    }
    if text.starts_with('-') {
        return Err(ParseTargetError::LeadingDash { shown: visible(text) });
    }
    match text.chars().enumerate().find(|(_, character)| !is_printable(*character)) {
        Some((position, character)) => {
            Err(ParseTargetError::Character { character, position, shown: visible(text) })
        }
        None => Ok(()),
    }
}

/// Makes any text fit to be shown on a terminal: the start of it, with what cannot be seen escaped.
pub(crate) fn visible(text: &str) -> String {
    let mut shown = String::new();
    for character in text.chars().take(SHOWN_CHARS) {
        if is_printable(character) {
            shown.push(character);
        } else {
            shown.extend(character.escape_default());
        }
    }
    if text.chars().nth(SHOWN_CHARS).is_some() {
        shown.push_str("...");
    }
    shown
}

/// What an error and its causes say. What the SDK shows of them has the whole answer in it, which may be a secret and paint the
/// terminal.
#[cfg(feature = "aws")]
pub(crate) fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        if words.last().is_none_or(|last| !last.contains(&text)) {
            words.push(text);
        }
        next = error.source();
    }
    words.join(": ")
}

/// Whether a character leaves a mark of its own. Controls, formats (bidirectional ones among them), spaces other than `' '`,
/// private use and what Unicode has not assigned do not; neither do marks that change the character in front of them, because
/// some of those cannot be seen.
fn is_printable(character: char) -> bool {
    match character {
        ' '..='~' => true,
        // Letters that Unicode has for absent letters.
        '\u{115f}' | '\u{1160}' | '\u{3164}' | '\u{ffa0}' | '\u{2800}' => false,
        _ => character.escape_debug().len() == 1,
    }
}

const SHOWN_CHARS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_made_visible() {
        assert_eq!(visible("a\x1b[31m\n"), "a\\u{1b}[31m\\n");
        assert_eq!(visible("\u{202e}é\\'\""), "\\u{202e}é\\'\"");
    }

    #[test]
    fn long_text_is_cut() {
        let shown = visible(&"x".repeat(10_000));
        assert_eq!(shown, "x".repeat(64) + "...");
    }

    #[test]
    fn letters_are_printable_and_what_hides_is_not() {
        for character in ['a', '~', ' ', 'é', 'ß', 'Ж', '中', 'ا', '–'] {
            assert!(is_printable(character), "{character:?}");
        }
        let hidden = [
            '\0',
            '\n',
            '\x1b',
            '\x7f',
            '\u{85}',
            '\u{a0}',
            '\u{ad}',
            '\u{34f}',
            '\u{61c}',
            '\u{115f}',
            '\u{180e}',
            '\u{200b}',
            '\u{200e}',
            '\u{2028}',
            '\u{202e}',
            '\u{2066}',
            '\u{3000}',
            '\u{3164}',
            '\u{e000}',
            '\u{fe0f}',
            '\u{feff}',
            '\u{fffe}',
            '\u{e0041}',
            '\u{10ffff}',
        ];
        for character in hidden {
            assert!(!is_printable(character), "{character:?}");
        }
    }
}
