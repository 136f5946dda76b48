//! `PATH` or `TARGET:PATH`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;

use crate::command::target_end::{End, end_of_target};

/// Where something is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    Here(PathBuf),
    There { target: String, path: OsString },
}

impl Place {
    /// Reads a place, as scp does: what has a colon before any slash is on a machine. A target may have colons of its own.
    pub(super) fn parse(text: &OsStr) -> Self {
        let bytes = text.as_bytes();
        let End::At(at) = end_of_target(bytes) else { return Self::Here(text.into()) };
        let Ok(target) = std::str::from_utf8(&bytes[..at]) else { return Self::Here(text.into()) };
        Self::There { target: target.to_owned(), path: OsString::from_vec(bytes[at + 1..].to_vec()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_colon_behind_the_target_is_found() {
        for (text, target, path) in [
            ("i-0123456789abcdef0:/etc/hosts", "i-0123456789abcdef0", "/etc/hosts"),
            ("web-1:", "web-1", ""),
            ("tag:aws:autoscaling:groupName=w:/x", "tag:aws:autoscaling:groupName=w", "/x"),
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
