//! [`Target`]: which form a text has.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::ecs::ContainerPath;
use crate::text::{refuse_hostile, visible};
use crate::{Arn, ArnResource, EcsTarget, InstanceId, ParseTargetError, SessionTarget};

/// Longest text of a target in characters. StartSession takes no more (shape `SessionTarget`), and the longest tag EC2 has fits
/// (a key of 128, a value of 256).
pub const MAX_TARGET_LEN: usize = 400;

/// What a user wrote for a target.
///
/// A text is read in this order; the first form that fits is it:
///
/// | form | read as |
/// |---|---|
/// | `i-` or `mi-` and at least 8 hexadecimal digits | [`Target::Instance`] |
/// | `arn:...` | [`Target::Arn`] |
/// | `tag:KEY=VALUE`, split at the first `=` | [`Target::Tag`] |
/// | `ecs:CLUSTER_TASKID_RUNTIMEID` | [`Target::Ecs`] |
/// | `ecs:CLUSTER/SERVICE-OR-TASK[/CONTAINER]` | [`Target::Container`] |
/// | `asg:GROUP` | [`Target::Group`] |
/// | an IPv4 or IPv6 address, IPv6 also in brackets | [`Target::Address`] |
/// | `KEY:VALUE`, split at the first `:` | [`Target::Tag`] |
/// | anything else | [`Target::Name`] |
///
/// White space around the text does not count. A tag whose key is one of the prefixes is written `tag:ecs=x`. `i-` or `mi-` in
/// front of a digit, or of less than 8 hexadecimal digits, is taken for a mistyped id and refused.
///
/// [`Display`](fmt::Display) gives a text that reads as the same target.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Target {
    /// An EC2 instance or another managed machine by its id.
    Instance(InstanceId),
    /// An instance, or an ECS service, task or container, by its ARN.
    Arn(Arn),
    /// A container, as a session takes it.
    Ecs(EcsTarget),
    /// A container by the names of its cluster, service or task.
    Container(ContainerPath),
    /// An instance with this tag.
    Tag(Tag),
    /// An instance of this Auto Scaling group.
    Group(Name),
    /// An instance with this address.
    Address(IpAddr),
    /// An alias, a Name tag, a DNS name, a computer name, `CLUSTER/SERVICE-OR-TASK[/CONTAINER]`: the lookup decides.
    Name(Name),
}

impl Target {
    /// What a session can be started on, if that needs no lookup.
    pub fn session_target(&self) -> Option<SessionTarget> {
        match self {
            Self::Instance(id) => Some(id.clone().into()),
            Self::Ecs(target) => Some(target.clone().into()),
            Self::Arn(arn) => match arn.resource() {
                ArnResource::Instance(id) => Some(id.clone().into()),
                ArnResource::Task(_) | ArnResource::Service(_) | ArnResource::Container(_) => None,
            },
            Self::Container(_) | Self::Tag(_) | Self::Group(_) | Self::Address(_) | Self::Name(_) => None,
        }
    }
}

impl FromStr for Target {
    type Err = ParseTargetError;

    fn from_str(text: &str) -> Result<Self, ParseTargetError> {
        let text = text.trim();
        refuse_hostile(text)?;
        if let Ok(id) = text.parse() {
            return Ok(Self::Instance(id));
        }
        if looks_like_an_id(text) {
            return Err(ParseTargetError::InstanceId { shown: visible(text) });
        }
        match text.split_once(':') {
            Some(("arn", _)) => text.parse().map(Self::Arn),
            Some(("tag", tag)) => Tag::split(tag, '=', text).map(Self::Tag),
            Some(("ecs", path)) if path.contains('/') => match ContainerPath::parse(path) {
                Some(path) => Ok(Self::Container(path)),
                None => Err(ParseTargetError::Ecs { shown: visible(text) }),
            },
            Some(("ecs", _)) => text.parse().map(Self::Ecs),
            Some(("asg", group)) => group.parse().map(Self::Group),
            _ => address_tag_or_name(text),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Instance(id) => id.fmt(f),
            Self::Arn(arn) => arn.fmt(f),
            Self::Ecs(target) => target.fmt(f),
            Self::Container(path) => path.fmt(f),
            Self::Tag(tag) => tag.fmt(f),
            Self::Group(name) => write!(f, "asg:{name}"),
            Self::Address(address) => address.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

impl From<SessionTarget> for Target {
    fn from(target: SessionTarget) -> Self {
        match target {
            SessionTarget::Instance(id) => Self::Instance(id),
            SessionTarget::Ecs(target) => Self::Ecs(target),
        }
    }
}

fn address_tag_or_name(text: &str) -> Result<Target, ParseTargetError> {
    let bracketed = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    if let Some(inner) = bracketed {
        let address = inner.parse().map(IpAddr::V6).map(Target::Address);
        return address.map_err(|_| ParseTargetError::Address { shown: visible(text) });
    }
    if let Ok(address) = text.parse() {
        return Ok(Target::Address(address));
    }
    if text.contains(':') {
        Tag::split(text, ':', text).map(Target::Tag)
    } else {
        text.parse().map(Target::Name)
    }
}

/// An id that was cut short or mistyped, rather than a machine somebody called `i-robot`.
fn looks_like_an_id(text: &str) -> bool {
    let rest = text.strip_prefix('m').unwrap_or(text).strip_prefix("i-");
    rest.is_some_and(|rest| {
        rest.starts_with(|first: char| first.is_ascii_digit())
            || rest.bytes().all(|digit| digit.is_ascii_hexdigit())
    })
}

/// A key and a value. In a lookup, `*` and `?` in the value stand for any characters, as EC2 has it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag {
    key: String,
    value: String,
}

impl Tag {
    /// The tag with this key and value.
    ///
    /// # Errors
    ///
    /// When the key is empty, when it has both `=` and `:` (no text could say where it ends), when either has a character that
    /// cannot be seen or white space at its ends, or when either is longer than EC2 allows (128 and 256 characters).
    pub fn new(key: impl Into<String>, value: impl Into<String>) -> Result<Self, ParseTargetError> {
        let tag = Self { key: key.into(), value: value.into() };
        let text = tag.to_string();
        match text.parse() {
            Ok(Target::Tag(read)) if read == tag => Ok(tag),
            Err(error) => Err(error),
            Ok(_) => Err(ParseTargetError::Tag { shown: visible(&text) }),
        }
    }

    /// The key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The value, wildcards and all.
    pub fn value(&self) -> &str {
        &self.value
    }

    fn split(tag: &str, separator: char, text: &str) -> Result<Self, ParseTargetError> {
        let Some((key, value)) = tag.split_once(separator).filter(|(key, _)| !key.is_empty()) else {
            return Err(ParseTargetError::Tag { shown: visible(text) });
        };
        if key.chars().count() > MAX_KEY_LEN || value.chars().count() > MAX_VALUE_LEN {
            return Err(ParseTargetError::TagTooLong { shown: visible(text) });
        }
        Ok(Self { key: key.into(), value: value.into() })
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A key with `=` can only have been written in front of a colon.
        if self.key.contains('=') {
            write!(f, "{}:{}", self.key, self.value)
        } else {
            write!(f, "tag:{}={}", self.key, self.value)
        }
    }
}

/// A name: printable, without white space around it, of at most [`MAX_TARGET_LEN`] characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

impl Name {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = ParseTargetError;

    fn from_str(text: &str) -> Result<Self, ParseTargetError> {
        let text = text.trim();
        refuse_hostile(text)?;
        Ok(Self(text.into()))
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Limits of EC2 (user guide, tag restrictions).
const MAX_KEY_LEN: usize = 128;
const MAX_VALUE_LEN: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Target, ParseTargetError> {
        text.parse()
    }

    fn tag(key: &str, value: &str) -> Target {
        Target::Tag(Tag { key: key.into(), value: value.into() })
    }

    fn name(text: &str) -> Target {
        Target::Name(Name(text.into()))
    }

    #[test]
    fn an_instance_id_is_a_target() {
        let target = parse("mi-0123456789ABCDEF0").unwrap();
        assert_eq!(target, Target::Instance("mi-0123456789ABCDEF0".parse().unwrap()));
        assert_eq!(target.to_string(), "mi-0123456789ABCDEF0");
        assert_eq!(parse("  i-01234567\r\n"), Ok(Target::Instance("i-01234567".parse().unwrap())));
    }

    #[test]
    fn a_mistyped_id_says_what_is_wrong_with_it() {
        for text in
            ["i-0123456", "mi-0", "i-", "mi-", "i-abc", "i-0123456789abcdefg", "i-0l234567", "i-01234567 x"]
        {
            let error = parse(text).unwrap_err();
            assert_eq!(error, ParseTargetError::InstanceId { shown: text.trim().into() });
        }
        let message = parse("i-0123456").unwrap_err().to_string();
        assert!(message.starts_with("'i-0123456' is not an instance id: at least 8 hex"), "{message}");
        assert!(message.contains("tag:Name=i-0123456"), "{message}");
    }

    #[test]
    fn a_machine_may_be_called_i_robot() {
        for text in ["i-robot", "mi-casa", "i", "mi", "I-0123456789abcdef0"] {
            assert_eq!(parse(text), Ok(name(text)));
        }
    }

    #[test]
    fn arns_come_before_keys() {
        let text = "arn:aws:ssm:eu-west-1:123456789012:managed-instance/mi-01234567";
        assert_eq!(parse(text), Ok(Target::Arn(text.parse().unwrap())));
        assert_eq!(parse("arn:web"), Err(ParseTargetError::Arn { shown: "arn:web".into() }));
    }

    #[test]
    fn a_container_is_a_target_as_written() {
        let text = "ecs:prod_8f01b4f0aa_8f01b4f0aa-3107182542";
        assert!(matches!(parse(text), Ok(Target::Ecs(target)) if target.as_str() == text), "{text}");
        let target = parse("ecs:prod/web/nginx").unwrap();
        assert!(matches!(&target, Target::Container(path) if path.container() == Some("nginx")));
        assert_eq!(target.session_target(), None);
    }

    #[test]
    fn an_incomplete_container_is_refused() {
        for text in ["ecs:", "ecs:a", "ecs:a_b", "ecs:/", "ecs:a/", "ecs:a/b/", "ecs:web"] {
            assert_eq!(parse(text), Err(ParseTargetError::Ecs { shown: text.into() }));
        }
    }

    #[test]
    fn tags_are_split_at_the_first_separator() {
        assert_eq!(parse("tag:Name=web"), Ok(tag("Name", "web")));
        assert_eq!(parse("tag:a=b=c"), Ok(tag("a", "b=c")));
        assert_eq!(parse("tag:aws:autoscaling:groupName=w"), Ok(tag("aws:autoscaling:groupName", "w")));
        assert_eq!(parse("tag:ecs=x"), Ok(tag("ecs", "x")));
        assert_eq!(parse("Name:web"), Ok(tag("Name", "web")));
        assert_eq!(parse("a:b:c"), Ok(tag("a", "b:c")));
        assert_eq!(parse("a=b:c"), Ok(tag("a=b", "c")));
        assert_eq!(parse("Name:web-*"), Ok(tag("Name", "web-*")));
        assert_eq!(parse("Größe:groß"), Ok(tag("Größe", "groß")));
        assert_eq!(parse("a:"), Ok(tag("a", "")));
        assert_eq!(parse("tag:a="), Ok(tag("a", "")));
    }

    #[test]
    fn a_tag_without_a_key_is_refused() {
        for text in [":web", ":", "tag:", "tag:web", "tag:=web", "tag:a:b"] {
            assert_eq!(parse(text), Err(ParseTargetError::Tag { shown: text.into() }));
        }
    }

    #[test]
    fn a_tag_that_no_text_can_say_is_refused() {
        assert!(Tag::new("Name", "web 1").is_ok());
        assert!(Tag::new("a=b", "c").is_ok());
        for (key, value) in [
            ("", "x"),
            ("a:b=c", "x"),
            ("tag=x", "\u{202e}"),
            ("a", "x "),
            (" a=b", "x"),
            ("a", "\n"),
            ("[a=", "b]"),
        ] {
            assert!(Tag::new(key, value).is_err(), "{key:?} {value:?}");
        }
        let error = Tag::new("k", "v".repeat(257)).unwrap_err();
        assert!(matches!(error, ParseTargetError::TagTooLong { .. }));
        assert!(Tag::new("k".repeat(129), "v").is_err());
    }

    #[test]
    fn addresses_come_before_keys() {
        for (text, address) in [
            ("10.0.0.1", "10.0.0.1"),
            ("::1", "::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("fe80::a:b", "fe80::a:b"),
        ] {
            assert_eq!(parse(text), Ok(Target::Address(address.parse().unwrap())));
        }
        for text in ["[10.0.0.1]", "[web]", "[]"] {
            assert_eq!(parse(text), Err(ParseTargetError::Address { shown: text.into() }));
        }
        assert_eq!(parse("10.0.0.256"), Ok(name("10.0.0.256")));
        assert_eq!(parse("010.0.0.1"), Ok(name("010.0.0.1")));
    }

    #[test]
    fn groups_and_names_need_a_lookup() {
        assert_eq!(parse("asg:web"), Ok(Target::Group(Name("web".into()))));
        for text in ["web-1", "db.internal", "my host", "prod/web/nginx", "münchen", "web-*", "tag", "a=b"] {
            assert_eq!(parse(text), Ok(name(text)));
            assert_eq!(parse(text).unwrap().session_target(), None);
        }
    }

    #[test]
    fn an_option_is_not_a_target() {
        for text in ["-", "--help", "-i-0123456789abcdef0", "-L8080:localhost:80", " -v"] {
            assert_eq!(parse(text), Err(ParseTargetError::LeadingDash { shown: text.trim().into() }));
        }
        assert!(parse("asg:-x").is_err());
    }

    #[test]
    fn characters_that_cannot_be_seen_are_refused_and_shown() {
        for (text, character, position) in [
            ("web\n1", '\n', 3),
            ("i-0123\x1b[2J4567", '\x1b', 6),
            ("\0", '\0', 0),
            ("i-01234567\x7f", '\x7f', 10),
            ("web\u{202e}1", '\u{202e}', 3),
            ("tag:Name=\u{200b}", '\u{200b}', 9),
        ] {
            let error = parse(text).unwrap_err();
            let shown = text.escape_default().to_string();
            assert_eq!(error, ParseTargetError::Character { character, position, shown });
        }
    }

    #[test]
    fn ten_kilobytes_are_refused_in_a_short_message() {
        for text in ["i-".to_owned() + &"0".repeat(10_240), "\x1b".repeat(10_240), "é".repeat(10_240)] {
            let error = parse(&text).unwrap_err();
            assert!(matches!(error, ParseTargetError::TooLong { .. }));
            assert!(error.to_string().len() < 700, "{error}");
        }
    }

    #[test]
    fn the_longest_tag_of_ec2_fits() {
        let text = format!("tag:{}={}", "k".repeat(128), "中".repeat(256));
        assert_eq!(parse(&text).unwrap().to_string(), text);
        assert!(parse(&"中".repeat(401)).is_err());
    }

    #[test]
    fn no_text_is_refused() {
        assert_eq!(parse(""), Err(ParseTargetError::Empty));
        assert_eq!(parse(" \t"), Err(ParseTargetError::Empty));
        assert_eq!(parse("asg:"), Err(ParseTargetError::Empty));
    }
}
