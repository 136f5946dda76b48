//! [`Far`]: what scp and sftp call a file on another machine.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use crate::args::OpenSsh;
use crate::command::target_end::{End, end_of_target, position};
use crate::error::Error;

/// `[USER@]TARGET:PATH`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Far<'a> {
    pub(super) user: Option<&'a str>,
    pub(super) target: &'a str,
    /// With the colon in front; empty where sftp has none.
    path: &'a OsStr,
}

impl<'a> Far<'a> {
    /// Reads it as scp does: what has no colon, or a slash in front of it, is a file here. Some targets have colons of their own, so
    /// that the one in front of the path is the next one behind what marks them. sftp takes a target without a path, too.
    pub(super) fn parse(program: OpenSsh, operand: &'a OsStr) -> Result<Option<Self>, Error> {
        let bytes = operand.as_bytes();
        let head = &bytes[..position(bytes, b":/").unwrap_or(bytes.len())];
        let start = head.iter().rposition(|byte| *byte == b'@').map_or(0, |at| at + 1);
        let rest = &bytes[start..];
        let split = match end_of_target(rest) {
            End::At(at) => at,
            End::Missing if program == OpenSsh::Sftp => rest.len(),
            End::Missing => {
                let shown = operand.to_string_lossy();
                return Err(Error::Usage(format!(
                    "{shown} has no path: write TARGET:PATH, or {shown}: for the home folder"
                )));
            }
            End::Local if program == OpenSsh::Sftp => rest.len(),
            End::Local => return Ok(None),
        };
        let text = |bytes: &'a [u8]| {
            std::str::from_utf8(bytes).map_err(|_| Error::Usage("the target is not UTF-8".into()))
        };
        let user = text(&bytes[..start.saturating_sub(1)])?;
        let target = text(&rest[..split])?;
        if target.is_empty() {
            return Ok(None);
        }
        let user = Some(user).filter(|user| !user.is_empty());
        Ok(Some(Self { user, target, path: OsStr::from_bytes(&rest[split..]) }))
    }

    /// The same with another user and host.
    pub(super) fn rewritten(&self, user: Option<&str>, host: &str) -> OsString {
        let mut text = OsString::new();
        if let Some(user) = user {
            text.push(user);
            text.push("@");
        }
        text.push(host);
        text.push(self.path);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<(Option<&str>, &str, &str)> {
        let far = Far::parse(OpenSsh::Scp, OsStr::new(text)).unwrap()?;
        Some((far.user, far.target, far.path.to_str().unwrap()))
    }

    #[test]
    fn a_path_begins_behind_the_target() {
        for (text, user, target, path) in [
            ("web:file", None, "web", ":file"),
            ("me@i-0123456789abcdef0:/a:b", Some("me"), "i-0123456789abcdef0", ":/a:b"),
            ("me@corp@web:", Some("me@corp"), "web", ":"),
            ("web:a@b:c", None, "web", ":a@b:c"),
            ("tag:Name=web:/tmp/x", None, "tag:Name=web", ":/tmp/x"),
            ("me@tag:aws:autoscaling:groupName=w:x", Some("me"), "tag:aws:autoscaling:groupName=w", ":x"),
            ("asg:web:x", None, "asg:web", ":x"),
            ("ecs:c_1_1-2:x", None, "ecs:c_1_1-2", ":x"),
            ("ecs:prod/web/nginx:x", None, "ecs:prod/web/nginx", ":x"),
            ("[2001:db8::1]:x", None, "[2001:db8::1]", ":x"),
            (
                "arn:aws:ec2:eu-west-1:123456789012:instance/i-01234567:x",
                None,
                "arn:aws:ec2:eu-west-1:123456789012:instance/i-01234567",
                ":x",
            ),
        ] {
            assert_eq!(read(text), Some((user, target, path)), "{text}");
        }
    }

    #[test]
    fn a_file_here_is_left_alone() {
        for text in ["file", "./web:x", "/a:b", "a/b:c", ":x", ".", "a@b", "./tag:a=b:c"] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn a_target_without_a_path_is_for_sftp() {
        for text in ["tag:Name=web", "asg:web", "ecs:c_1_1-2", "[::1]"] {
            let wrong = Far::parse(OpenSsh::Scp, OsStr::new(text)).unwrap_err().to_string();
            assert!(wrong.contains("home folder"), "{wrong}");
            let far = Far::parse(OpenSsh::Sftp, OsStr::new(text)).unwrap().unwrap();
            assert_eq!((far.target, far.path), (text, OsStr::new("")));
        }
        let far = Far::parse(OpenSsh::Sftp, OsStr::new("me@web")).unwrap().unwrap();
        assert_eq!((far.user, far.target), (Some("me"), "web"));
    }

    #[test]
    fn a_path_need_not_be_text() {
        let text = OsStr::from_bytes(b"web:\xff");
        let far = Far::parse(OpenSsh::Scp, text).unwrap().unwrap();
        assert_eq!(far.rewritten(Some("me"), "i-01234567").as_bytes(), b"me@i-01234567:\xff");
        assert!(Far::parse(OpenSsh::Scp, OsStr::from_bytes(b"\xff:x")).is_err());
    }
}
