//! What one lookup says: [`Answer`], [`Match`], [`LookupError`].

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::text::visible;
use crate::{SessionTarget, Target};

/// What a [`Resolver`](crate::Resolver) says about a target.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Answer {
    /// These machines. Several are an error of the chain, unless it may take the first.
    Found(Matches),
    /// The name stands for this target, and only for a single machine of it. The search goes on for that target alone.
    Alias(Target),
    /// There is no such machine here.
    Nothing,
    /// This step does not look up such targets.
    NotMine,
}

impl Answer {
    /// [`Answer::Found`], or [`Answer::Nothing`] if there is none.
    pub fn from_matches(matches: impl Into<Matches>) -> Self {
        let matches = matches.into();
        if matches.found.is_empty() { Self::Nothing } else { Self::Found(matches) }
    }
}

/// The machines one lookup found, each once, in the order found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Matches {
    /// At most as many as the lookup was asked for.
    pub found: Vec<Match>,
    /// Whether there are more.
    pub more: More,
}

/// Whether a bounded list is the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum More {
    /// It is.
    #[default]
    No,
    /// There are more, or nobody has looked.
    Maybe,
}

impl From<Vec<Match>> for Matches {
    fn from(found: Vec<Match>) -> Self {
        Self { found, more: More::No }
    }
}

impl From<SessionTarget> for Matches {
    fn from(target: SessionTarget) -> Self {
        vec![Match::from(target)].into()
    }
}

/// One machine, with what tells it from others.
///
/// [`Display`](fmt::Display) is one line for a list: id, name, state, address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Match {
    /// What a session is started on.
    pub target: SessionTarget,
    /// The Name tag, or the computer name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `running` for EC2, `Online` for a managed node. Where several instances answer to a name and none is online in Systems
    /// Manager, `running, not online`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// The private address, or the public one if that is all there is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
}

impl From<SessionTarget> for Match {
    fn from(target: SessionTarget) -> Self {
        Self { target, name: None, state: None, address: None }
    }
}

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.target.fmt(f)?;
        for part in [&self.name, &self.state].into_iter().flatten() {
            write!(f, "  {}", visible(part))?;
        }
        match self.address {
            Some(address) => write!(f, "  {address}"),
            None => Ok(()),
        }
    }
}

/// Why a lookup gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct LookupError {
    kind: LookupErrorKind,
    message: String,
}

/// Classes of failed lookups, by what a caller can do about them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LookupErrorKind {
    /// The caller may not ask; the message names the IAM action.
    AccessDenied,
    /// There are no credentials, or they are expired or unusable.
    Credentials,
    /// Too many calls; worth another try later.
    Throttled,
    /// Nobody answered; worth another try.
    Unreachable,
    /// The one asked failed; worth another try.
    Service,
    /// The question makes no sense.
    Invalid,
    /// There is no ECS cluster of this name.
    NoSuchCluster,
    /// What the question takes for granted is not there; the message says what is.
    NotFound,
}

impl LookupError {
    /// An error of this kind; `message` is a fragment for a person, without secrets.
    pub fn new(kind: LookupErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// What kind of failure it is.
    pub fn kind(&self) -> LookupErrorKind {
        self.kind
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_match_is_one_line_that_cannot_paint_the_terminal() {
        let id: SessionTarget = "i-01234567".parse().unwrap();
        let mut found = Match::from(id);
        assert_eq!(found.to_string(), "i-01234567");
        found.name = Some("web\x1b[2J\n".into());
        found.state = Some("running".into());
        found.address = Some([10, 0, 0, 1].into());
        assert_eq!(found.to_string(), "i-01234567  web\\u{1b}[2J\\n  running  10.0.0.1");
    }
}
