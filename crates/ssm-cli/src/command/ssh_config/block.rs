//! Our block in a configuration of ssh, between marks. All else is left byte for byte.

use std::ops::Range;

/// What a block begins with; behind it may stand anything.
const BEGIN: &str = "# BEGIN ssm ssh-config";

/// What it ends with.
const END: &str = "# END ssm ssh-config";

/// The first line.
pub(super) const BEGIN_LINE: &str = "# BEGIN ssm ssh-config: what stands in here is replaced by `ssm ssh-config --install` and taken out by --remove";

/// The last line.
pub(super) const END_LINE: &str = END;

/// Why a text is left alone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}; put it right by hand, or remove the lines from {BEGIN} to {END}")]
pub(super) struct Mistake {
    line: usize,
    what: &'static str,
}

/// The text with this block in it: in place of the one that is there, else in front of everything, because ssh takes the first
/// value it finds and general ones stand last.
pub(super) fn with(text: &[u8], block: &[u8]) -> Result<Vec<u8>, Mistake> {
    let place = find(text)?.unwrap_or(0..0);
    Ok([&text[..place.start], block, &text[place.end..]].concat())
}

/// The text without the block.
pub(super) fn without(text: &[u8]) -> Result<Vec<u8>, Mistake> {
    let place = find(text)?.unwrap_or(0..0);
    Ok([&text[..place.start], &text[place.end..]].concat())
}

/// Where the block is, its marks included.
fn find(text: &[u8]) -> Result<Option<Range<usize>>, Mistake> {
    let (mut begin, mut found, mut at) = (None, None, 0);
    for (number, line) in text.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let mistake = |what| Err(Mistake { line: number + 1, what });
        let trimmed = line.trim_ascii();
        let end = at + line.len();
        if trimmed.starts_with(BEGIN.as_bytes()) {
            match (begin, &found) {
                (Some(_), _) => return mistake("a second block of ssm begins inside the first"),
                (None, Some(_)) => return mistake("there is a second block of ssm"),
                (None, None) => begin = Some((at, number + 1)),
            }
        } else if trimmed == END.as_bytes() {
            match begin.take() {
                Some((start, _)) => found = Some(start..end),
                None => return mistake("a block of ssm ends that has not begun"),
            }
        }
        at = end;
    }
    match begin {
        Some((_, line)) => Err(Mistake { line, what: "the block of ssm that begins here does not end" }),
        None => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(body: &str) -> Vec<u8> {
        format!("{BEGIN_LINE}\n{body}\n{END_LINE}\n").into_bytes()
    }

    #[test]
    fn installing_twice_is_installing_once_and_removing_leaves_nothing() {
        for text in [
            &b""[..],
            b"Host *\n  User me\n",
            b"no line feed at the end",
            b"\xff\r\n# BEGIN ssm\r\n",
            b"\n\n",
        ] {
            let (first, second) = (block("Host a"), block("Host b\nHost c"));
            let once = with(text, &first).unwrap();
            assert_eq!(once, [&first, text].concat());
            assert_eq!(with(&once, &first).unwrap(), once);
            let replaced = with(&once, &second).unwrap();
            assert_eq!(replaced, [&second, text].concat());
            assert_eq!(without(&replaced).unwrap(), text);
            assert_eq!(without(text).unwrap(), text);
        }
    }

    #[test]
    fn a_block_stays_where_the_user_has_put_it() {
        let text = [b"Host x\n".as_slice(), &block("Host a"), b"Host *\r\n"].concat();
        let replaced = with(&text, &block("Host b")).unwrap();
        assert_eq!(replaced, [b"Host x\n".as_slice(), &block("Host b"), b"Host *\r\n"].concat());
        let edited = b"  # BEGIN ssm ssh-config mine\r\nHost a\r\n# END ssm ssh-config\r\nHost *";
        assert_eq!(without(edited).unwrap(), b"Host *");
    }

    #[test]
    fn marks_that_do_not_fit_are_left_to_the_user() {
        let (begin, end) = (format!("{BEGIN}\n"), format!("{END}\n"));
        for (text, line) in [
            (format!("x\n{begin}y\n"), 2),
            (format!("x\n{end}"), 2),
            (format!("{begin}{begin}{end}"), 2),
            (format!("{begin}{end}{begin}{end}"), 3),
            (format!("{begin}{end}{end}"), 3),
        ] {
            assert_eq!(with(text.as_bytes(), b"").unwrap_err().line, line, "{text}");
            assert_eq!(without(text.as_bytes()).unwrap_err().line, line, "{text}");
        }
    }
}
