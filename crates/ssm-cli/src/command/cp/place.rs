//! `PATH` or `TARGET:PATH`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;

/// Where something is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    Here(PathBuf),
    There { target: String, path: OsString },
}

impl Place {
    /// Reads a place, as scp does: what has a colon before any slash is on a machine. The colon behind `tag:`, `asg:`, `ecs:` and
    /// those of an ARN or of an address in brackets are the target's.
    pub(super) fn parse(text: &OsStr) -> Self {
        let bytes = text.as_bytes();
        match split(bytes).and_then(|at| Some((std::str::from_utf8(&bytes[..at]).ok()?, &bytes[at + 1..]))) {
            Some((target, path)) => {
                Self::There { target: target.to_owned(), path: OsString::from_vec(path.to_vec()) }
            }
            None => Self::Here(PathBuf::from(text)),
        }
    }
}

/// Where the colon behind the target is.
fn split(text: &[u8]) -> Option<usize> {
    let find = |from: usize, byte: u8| {
        text[from..].iter().position(|found| *found == byte).map(|position| from + position)
    };
    if text.starts_with(b"[") {
        let end = find(0, b']')?;
        return (text.get(end + 1) == Some(&b':')).then_some(end + 1);
    }
    if text.starts_with(b"arn:") {
        // Six parts; the last one has slashes of its own.
        let resource = (0..5).try_fold(0, |from, _| Some(find(from, b':')? + 1))?;
        return find(resource, b':');
    }
    for prefix in [&b"tag:"[..], b"asg:", b"ecs:"] {
        if text.starts_with(prefix) {
            return find(prefix.len(), b':');
        }
    }
    find(0, b':').filter(|colon| find(0, b'/').is_none_or(|slash| *colon < slash))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_colon_behind_the_target_is_found() {
        for (text, target, path) in [
            ("i-0123456789abcdef0:/etc/hosts", "i-0123456789abcdef0", "/etc/hosts"),
            ("web-1:", "web-1", ""),
            ("web-1:a:b", "web-1", "a:b"),
            ("web-1:~/x", "web-1", "~/x"),
            ("tag:Name=web:/x", "tag:Name=web", "/x"),
            ("asg:group:x", "asg:group", "x"),
            ("ecs:cluster/service/app:/x", "ecs:cluster/service/app", "/x"),
            ("[2001:db8::1]:/x", "[2001:db8::1]", "/x"),
            (
                "arn:aws:ec2:eu-west-1:123456789012:instance/i-0123456789abcdef0:/x:y",
                "arn:aws:ec2:eu-west-1:123456789012:instance/i-0123456789abcdef0",
                "/x:y",
            ),
            (":/x", "", "/x"),
        ] {
            let expected = Place::There { target: target.into(), path: path.into() };
            assert_eq!(Place::parse(OsStr::new(text)), expected, "{text}");
        }
    }

    #[test]
    fn a_slash_before_the_colon_makes_it_a_path_of_ours() {
        for text in ["x", "./web-1:x", "/a:b", "", "-x", "[x]", "tag:Name=web"] {
            assert_eq!(Place::parse(OsStr::new(text)), Place::Here(text.into()), "{text}");
        }
    }
}
