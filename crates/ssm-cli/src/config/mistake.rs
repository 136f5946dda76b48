//! What is wrong with the file, and where.

use std::fmt::{self, Display};
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

/// How alike two words have to be for one to be taken for the other; 1 is the same.
const ALIKE: f64 = 0.75;

/// A mistake in the configuration.
#[derive(Debug, thiserror::Error)]
pub(crate) struct Mistake {
    path: PathBuf,
    line: usize,
    /// Empty where the text is not TOML, so that there are no keys.
    key: String,
    what: String,
}

impl Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.path.display(), self.line)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.what)
    }
}

impl Mistake {
    /// Finds line and key of a place in the text.
    pub(super) fn at(path: &Path, text: &str, place: &Range<usize>, what: String) -> Self {
        let key = DeTable::parse(text).ok().and_then(|table| key_at(table.get_ref(), place));
        Self { path: path.into(), line: line_of(text, place.start), key: key.unwrap_or_default(), what }
    }

    /// What the parser says. Of a key that there is not, what was probably meant.
    pub(super) fn parse(path: &Path, text: &str, error: &toml::de::Error) -> Self {
        let what = unknown_key(error.message()).unwrap_or_else(|| error.message().replace('\n', ", "));
        Self::at(path, text, &error.span().unwrap_or_default(), what)
    }
}

/// The number of the line, from 1.
pub(super) fn line_of(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().iter().take(offset);
    before.filter(|byte| **byte == b'\n').count() + 1
}

/// The one of `words` that was probably meant.
pub(crate) fn meant<'a>(wrong: &str, words: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let likeness = |word: &'a str| (strsim::jaro_winkler(wrong, word), word);
    let alike = words.into_iter().map(likeness).filter(|(likeness, _)| *likeness > ALIKE);
    alike.max_by(|(one, _), (other, _)| one.total_cmp(other)).map(|(_, word)| word)
}

/// Serde's message about a key that a table does not have, in other words: "unknown field `a`, expected one of `b`, `c`".
fn unknown_key(message: &str) -> Option<String> {
    let (wrong, rest) = message.strip_prefix("unknown field `")?.split_once('`')?;
    let known: Vec<&str> = rest.split('`').skip(1).step_by(2).collect();
    Some(match meant(wrong, known.iter().copied()) {
        Some(word) => format!("there is no key {wrong}; did you mean {word}?"),
        None => format!("there is no key {wrong}; there are {}", known.join(", ")),
    })
}

/// The key whose name or value is at a place, with those of the tables around it.
fn key_at(table: &DeTable<'_>, place: &Range<usize>) -> Option<String> {
    let is_here = |span: Range<usize>| span.contains(&place.start);
    for (key, value) in table {
        let name = key.get_ref();
        // Outside of its braces a table is not where its header is.
        if let Some(inner) = inside(value.get_ref(), place) {
            return Some(format!("{name}{inner}"));
        }
        if is_here(key.span()) || is_here(value.span()) {
            return Some(name.to_string());
        }
    }
    None
}

fn inside(value: &DeValue<'_>, place: &Range<usize>) -> Option<String> {
    match value {
        DeValue::Table(table) => key_at(table, place).map(|key| format!(".{key}")),
        DeValue::Array(values) => values.iter().enumerate().find_map(|(index, value)| {
            let here = value.span().contains(&place.start).then(String::new);
            inside(value.get_ref(), place).or(here).map(|key| format!("[{index}]{key}"))
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str, marked: &str) -> String {
        let start = text.find(marked).unwrap();
        let place = start..start + marked.len();
        Mistake::at(Path::new("/c"), text, &place, "wrong".into()).to_string()
    }

    #[test]
    fn the_key_and_its_line_are_found() {
        let text = "[defaults]\nlanes = 1\n[alias.db]\nforwards = [\n  '1',\n  'x',\n]\n\
            [group.g]\ntunnels = ['db', { target = 'y' }]\n";
        assert_eq!(at(text, "lanes"), "/c:2: defaults.lanes: wrong");
        assert_eq!(at(text, "'x'"), "/c:6: alias.db.forwards[1]: wrong");
        assert_eq!(at(text, "'y'"), "/c:9: group.g.tunnels[1].target: wrong");
        assert_eq!(at("a = [\n", "["), "/c:1: wrong");
    }

    #[test]
    fn what_was_meant_is_suggested() {
        let message = |wrong| format!("unknown field `{wrong}`, expected one of `profile`, `region`");
        let told = |wrong| unknown_key(&message(wrong)).unwrap();
        assert_eq!(told("profil"), "there is no key profil; did you mean profile?");
        assert_eq!(told("zone"), "there is no key zone; there are profile, region");
        assert_eq!(unknown_key("invalid type"), None);
    }
}
