//! `TARGET:PATH`: a target may have colons of its own.

/// Where a target ends.
pub(super) enum End {
    At(usize),
    /// It is a target and has no end.
    Missing,
    /// It is none.
    Local,
}

pub(super) fn end_of_target(text: &[u8]) -> End {
    // What is behind the mark, from where on a colon begins the path.
    let marked = |mark: &[u8], until: Option<u8>| {
        if !text.starts_with(mark) {
            return None;
        }
        let from = match until {
            Some(byte) => position(&text[mark.len()..], &[byte]).map(|at| mark.len() + at + 1),
            None => Some(mark.len()),
        };
        let end = from.and_then(|from| Some(from + position(&text[from..], b":")?));
        Some(end.map_or(End::Missing, End::At))
    };
    let found = marked(b"[", Some(b']'))
        .or_else(|| marked(b"tag:", Some(b'=')))
        .or_else(|| marked(b"asg:", None))
        .or_else(|| marked(b"ecs:", None))
        .or_else(|| marked(b"arn:", Some(b'/')));
    found.unwrap_or_else(|| match position(text, b":/") {
        Some(at) if text[at] == b':' => End::At(at),
        _ => End::Local,
    })
}

/// Where the first of these bytes is.
pub(super) fn position(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.iter().position(|byte| wanted.contains(byte))
}
