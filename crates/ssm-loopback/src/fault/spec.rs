//! Faults as users write them: `loss=5%,direction=up,class=data`.
//!
//! ```text
//! SPEC   = NAME "=" VALUE { "," OPTION "=" VALUE }
//! SHARE  = 5% | 0.5%                  so many messages out of a hundred, by chance
//! TIME   = 50ms | 5s | 2m
//! SIZE   = 1000 | 64KiB | 1MiB        bytes
//! WHEN   = TIME | 40 | SHARE          every so often, every so many messages, or by chance
//! ```
//!
//! [`TABLE`] has the faults, their values and the options each of them takes.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use ssm_proto::{Header, Layout, MessageType, PayloadType};

use super::Direction;

/// Something that goes wrong on purpose, parsed from its documented form ([`help`]).
#[derive(Debug, Clone, PartialEq)]
pub struct Fault {
    pub(crate) kind: Kind,
    pub(crate) scope: Scope,
    text: String,
}

/// What a fault does.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Kind {
    Loss(Share),
    Duplicate(Share),
    Reorder { share: Share, by: Duration },
    Delay { time: Duration, jitter: Duration },
    Bandwidth { per_second: u64 },
    Corrupt { share: Share, part: Part },
    Break { when: When, how: How, end: End },
    Pause(When),
    Rate { per_second: u32 },
    StartEarly,
    Header(Layout),
    Text { when: When, bytes: TextBytes },
    Oversize { when: When, len: usize },
    FrameLimit(usize),
    Fragment(usize),
    HandshakeAgain,
    HandshakeUnknown,
    Unready(Duration),
    Restart(When),
    Resume(Refusal),
    Upgrade(u16),
    TokenUsed,
    Cell(Cell),
    Dial(Dial),
    Destination(Destination),
    Seed(u64),
}

impl Kind {
    /// Whether it happens to relayed messages and their sockets. The others are the service's and the agents' own.
    pub(super) fn is_of_relay(&self) -> bool {
        match self {
            Self::Loss(_)
            | Self::Duplicate(_)
            | Self::Reorder { .. }
            | Self::Delay { .. }
            | Self::Bandwidth { .. }
            | Self::Corrupt { .. }
            | Self::Break { .. }
            | Self::Pause(_)
            | Self::Rate { .. }
            | Self::StartEarly
            | Self::Text { .. }
            | Self::Oversize { .. }
            | Self::FrameLimit(_)
            | Self::Fragment(_)
            | Self::HandshakeUnknown
            | Self::Restart(_) => true,
            Self::Header(_)
            | Self::HandshakeAgain
            | Self::Unready(_)
            | Self::Resume(_)
            | Self::Upgrade(_)
            | Self::TokenUsed
            | Self::Cell(_)
            | Self::Dial(_)
            | Self::Destination(_)
            | Self::Seed(_) => false,
        }
    }
}

/// What a fault applies to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Scope {
    pub(crate) direction: Option<Direction>,
    pub(crate) class: Option<Class>,
    pub(crate) times: Option<u32>,
    pub(crate) odds: Option<Share>,
    pub(crate) seed: Option<u64>,
}

/// A chance in parts per million.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Share(pub(crate) u32);

impl Share {
    pub(crate) const ALWAYS: Self = Self(1_000_000);
}

/// When something happens again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    Period { time: Duration, jitter: Duration },
    Messages(u64),
    Chance(Share),
}

/// Messages of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// Payloads of the user, and what belongs to them: exit codes, errors.
    Data,
    Acknowledge,
    Handshake,
    Size,
    Flag,
}

/// How a socket is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// The end of the TCP stream, without a closing frame: what libraries report as 1006.
    Ended,
    Reset,
    /// It stays open and nothing comes any more, for this long or for good.
    Silent(Option<Duration>),
    Close(u16),
}

/// Whose socket is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Client,
    Agent,
}

/// Where a bit is flipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// What the digest of a message covers.
    Payload,
    Header,
}

/// What a text frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TextBytes {
    /// The next message, as it is.
    Message,
    /// Bytes that are no UTF-8, in addition to the next message.
    Raw,
}

/// How ResumeSession is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    Denied,
    Throttled,
    Failed(u16),
}

/// What becomes of the cell in stream URLs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cell {
    /// Every resume moves the session; older URLs are refused.
    Rotate,
    /// So it does, and hands out the URL before the last.
    Stale,
}

/// What becomes of the agent's connections to destinations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dial {
    Refused,
    Stuck,
    Late(Duration),
}

/// How destinations behave once they are connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Destination {
    Stuck,
    Slow { per_second: u64 },
}

/// A fault is not written as it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FaultError {
    /// There is no fault of this name.
    #[error("there is no fault {name:?}; there are {}", names())]
    Unknown {
        /// What was written.
        name: String,
    },
    /// A value cannot be read.
    #[error("{part:?} is not understood: {name} is {expected}")]
    Value {
        /// The part that is wrong.
        part: String,
        /// What it is the value of.
        name: &'static str,
        /// What it should be.
        expected: &'static str,
    },
    /// A fault does not have this option.
    #[error("{part:?}: {fault} has no such option; it has {}", options.join(", "))]
    Option {
        /// The part that is wrong.
        part: String,
        /// The fault.
        fault: &'static str,
        /// What options it has.
        options: &'static [&'static str],
    },
    /// An option is given twice.
    #[error("{part:?}: {name} is given twice")]
    Twice {
        /// The second of them.
        part: String,
        /// The option.
        name: &'static str,
    },
}

/// A fault, how its value is written, its options, and what it does.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) value: &'static str,
    pub(crate) options: &'static [&'static str],
    pub(crate) does: &'static str,
}

const MESSAGE: &[&str] = &["direction", "class", "times", "seed"];
const BREAK: &[&str] = &["end", "jitter", "direction", "class", "times", "seed"];
const CALL: &[&str] = &["odds", "times", "seed"];

/// Every fault.
pub(crate) const TABLE: &[Row] = &[
    Row { name: "loss", value: "SHARE", options: MESSAGE, does: "messages are lost" },
    Row { name: "duplicate", value: "SHARE", options: MESSAGE, does: "messages come twice" },
    Row {
        name: "reorder",
        value: "SHARE",
        options: &["by", "direction", "class", "times", "seed"],
        does: "messages are overtaken by those of the next moment (by=TIME at most, 10ms)",
    },
    Row {
        name: "delay",
        value: "TIME",
        options: &["jitter", "direction", "class", "times", "seed"],
        does: "messages are late, with jitter=TIME by up to that much more, and out of order then",
    },
    Row {
        name: "bandwidth",
        value: "SIZE/s",
        options: &["direction"],
        does: "no more than this is relayed, each way; the sender feels it",
    },
    Row {
        name: "corrupt",
        value: "SHARE",
        options: &["part", "direction", "class", "times", "seed"],
        does: "a bit is flipped in the payload of data, or anywhere in its header (part=header), which no digest covers",
    },
    Row {
        name: "cut",
        value: "WHEN",
        options: BREAK,
        does: "a socket ends without a closing frame (1006), the message with it",
    },
    Row { name: "reset", value: "WHEN", options: BREAK, does: "a socket is reset, the message is lost" },
    Row {
        name: "silence",
        value: "WHEN",
        options: &["for", "end", "jitter", "direction", "class", "times", "seed"],
        does: "a socket stays open and is dead, for good or for=TIME",
    },
    Row {
        name: "close",
        value: "CODE",
        options: &["every", "end", "jitter", "direction", "class", "times", "seed"],
        does: "a socket is closed in order, 1000 with Bye, every=WHEN (5s)",
    },
    Row {
        name: "pause",
        value: "WHEN",
        options: MESSAGE,
        does: "the sender is told to pause, and nothing tells it to go on",
    },
    Row {
        name: "rate",
        value: "COUNT/s",
        options: &[],
        does: "a client that sends more stream messages is paused, and cut when it goes on",
    },
    Row {
        name: "start",
        value: "early",
        options: &[],
        does: "start_publication is the first thing clients get",
    },
    Row {
        name: "header",
        value: "112 or 116",
        options: &[],
        does: "length of the header of the service's own messages",
    },
    Row {
        name: "text",
        value: "WHEN",
        options: &["bytes", "direction", "class", "times", "seed"],
        does: "a message comes as a text frame; bytes=raw sends bytes that are no UTF-8 before it",
    },
    Row {
        name: "oversize",
        value: "WHEN",
        options: &["size", "direction", "class", "times", "seed"],
        does: "a frame of size=SIZE (2MiB) without meaning comes before a message",
    },
    Row {
        name: "frame",
        value: "SIZE",
        options: &["times"],
        does: "a client is closed with 1009 for a longer message",
    },
    Row {
        name: "fragment",
        value: "SIZE",
        options: &["direction"],
        does: "messages come in WebSocket fragments of this length",
    },
    Row {
        name: "handshake",
        value: "again or unknown",
        options: &[],
        does: "the agent asks again once it is done, or for an action that nobody knows",
    },
    Row {
        name: "unready",
        value: "TIME",
        options: &[],
        does: "the agent leaves what comes unacknowledged for this long after the start",
    },
    Row {
        name: "restart",
        value: "WHEN",
        options: &["jitter", "direction", "class", "times", "seed"],
        does: "the agent's machine restarts: both sockets end and the session is gone",
    },
    Row {
        name: "resume",
        value: "403, 429, 500 or 503",
        options: CALL,
        does: "ResumeSession is refused with this status",
    },
    Row {
        name: "upgrade",
        value: "STATUS from 400 to 599",
        options: CALL,
        does: "the client's WebSocket upgrade is refused with this status",
    },
    Row {
        name: "token",
        value: "used",
        options: CALL,
        does: "ResumeSession hands out a token that is used up",
    },
    Row {
        name: "cell",
        value: "rotate or stale",
        options: CALL,
        does: "a resume moves the session and older URLs are refused; stale hands out an older one",
    },
    Row {
        name: "dial",
        value: "refused, stuck or TIME",
        options: CALL,
        does: "the agent's connections to destinations fail, never end, or take this much longer",
    },
    Row {
        name: "destination",
        value: "stuck or SIZE/s",
        options: CALL,
        does: "destinations neither read nor write, or slowly",
    },
    Row {
        name: "seed",
        value: "NUMBER",
        options: &[],
        does: "seed of all faults that have none of their own (0)",
    },
];

/// Names, forms and meanings of all faults and options, as lines of at most 120 characters or so.
pub fn help() -> String {
    let mut text = String::from("Faults, as NAME=VALUE[,OPTION=VALUE]...:\n");
    for Row { name, value, does, .. } in TABLE {
        text.push_str(&format!("  {:<31} {does}\n", format!("{name}={value}")));
    }
    text.push_str(
        "SHARE is 5% or 0.5%; TIME 50ms, 5s or 2m; SIZE 1000, 64KiB or 1MiB in bytes; WHEN a TIME, a number of messages\n\
         (counted each way apart), or a SHARE of them.\n\
         Options where they have a meaning: direction=up|down|both, class=data|ack|handshake|size|flag|all, end=client|agent,\n\
         times=COUNT (at most, in a session), odds=SHARE (of the calls), seed=NUMBER. The same seed makes the same faults of\n\
         the same messages.",
    );
    text
}

fn names() -> String {
    TABLE.iter().map(|row| row.name).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Fault {
    type Err = FaultError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.split(',');
        let first = parts.next().unwrap_or_default();
        let (name, value) = first.split_once('=').unwrap_or((first, ""));
        let row = TABLE
            .iter()
            .find(|row| row.name == name)
            .ok_or_else(|| FaultError::Unknown { name: name.to_owned() })?;
        let mut options = Options { scope: Scope::default(), values: Vec::new() };
        for part in parts {
            options.take(row, part)?;
        }
        let main = Place { part: first, name: row.name, expected: row.value };
        let kind = options.kind(row.name, value, main)?;
        Ok(Self { kind, scope: options.scope, text: text.to_owned() })
    }
}

/// Where a value was read, for what is said when it is wrong.
#[derive(Clone, Copy)]
struct Place<'a> {
    part: &'a str,
    name: &'static str,
    expected: &'static str,
}

impl Place<'_> {
    fn wrong(self) -> FaultError {
        FaultError::Value { part: self.part.to_owned(), name: self.name, expected: self.expected }
    }
}

/// The options of one fault.
struct Options<'a> {
    scope: Scope,
    /// Those that only one or two faults have: name, value, the whole part.
    values: Vec<(&'static str, &'a str, &'a str)>,
}

/// Every option, with how its value is written.
const OPTIONS: &[(&str, &str)] = &[
    ("direction", "up, down or both"),
    ("class", "data, ack, handshake, size, flag or all"),
    ("times", "a number from 1 on"),
    ("odds", "a SHARE, as 50%"),
    ("seed", "a number"),
    ("end", "client or agent"),
    ("every", "a TIME as 5s, a number of messages, or a SHARE as 1%"),
    ("jitter", "a TIME, as 50ms or 5s"),
    ("by", "a TIME, as 50ms or 5s"),
    ("for", "a TIME, as 50ms or 5s"),
    ("part", "payload or header"),
    ("bytes", "message or raw"),
    ("size", "a SIZE up to 64MiB, as 1000, 64KiB or 1MiB"),
];

impl<'a> Options<'a> {
    fn take(&mut self, row: &'static Row, part: &'a str) -> Result<(), FaultError> {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let known = OPTIONS.iter().find(|(known, _)| *known == name && row.options.contains(known));
        let Some(&(name, expected)) = known else {
            let part = part.to_owned();
            return Err(FaultError::Option { part, fault: row.name, options: row.options });
        };
        if self.values.iter().any(|(seen, ..)| *seen == name) {
            return Err(FaultError::Twice { part: part.to_owned(), name });
        }
        self.values.push((name, value, part));
        let wrong = || Place { part, name, expected }.wrong();
        match name {
            "direction" => {
                self.scope.direction = match value {
                    "up" => Some(Direction::ClientToAgent),
                    "down" => Some(Direction::AgentToClient),
                    "both" => None,
                    _ => return Err(wrong()),
                }
            }
            "class" => {
                self.scope.class = match value {
                    "data" => Some(Class::Data),
                    "ack" => Some(Class::Acknowledge),
                    "handshake" => Some(Class::Handshake),
                    "size" => Some(Class::Size),
                    "flag" => Some(Class::Flag),
                    "all" => None,
                    _ => return Err(wrong()),
                }
            }
            "times" => {
                self.scope.times = Some(value.parse().ok().filter(|times| *times > 0).ok_or_else(wrong)?);
            }
            "odds" => self.scope.odds = Some(share(value).ok_or_else(wrong)?),
            "seed" => self.scope.seed = Some(value.parse().map_err(|_| wrong())?),
            _ => {}
        }
        Ok(())
    }

    /// The value of an option as `read` reads it, or `default`.
    fn value<T>(
        &self,
        name: &'static str,
        default: T,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, FaultError> {
        let Some((_, value, part)) = self.values.iter().find(|(seen, ..)| *seen == name) else {
            return Ok(default);
        };
        let expected = OPTIONS.iter().find(|(known, _)| *known == name).map_or("", |(_, expected)| expected);
        read(value).ok_or_else(|| Place { part, name, expected }.wrong())
    }

    fn kind(&self, name: &str, value: &str, main: Place<'_>) -> Result<Kind, FaultError> {
        let wrong = || main.wrong();
        let when = |value: &str| {
            let jitter = self.value("jitter", Duration::ZERO, time)?;
            when(value, jitter).ok_or_else(wrong)
        };
        let end = || {
            self.value("end", End::Client, |value| match value {
                "client" => Some(End::Client),
                "agent" => Some(End::Agent),
                _ => None,
            })
        };
        Ok(match name {
            "loss" => Kind::Loss(share(value).ok_or_else(wrong)?),
            "duplicate" => Kind::Duplicate(share(value).ok_or_else(wrong)?),
            "reorder" => Kind::Reorder {
                share: share(value).ok_or_else(wrong)?,
                by: self.value("by", Duration::from_millis(10), time)?,
            },
            "delay" => Kind::Delay {
                time: time(value).ok_or_else(wrong)?,
                jitter: self.value("jitter", Duration::ZERO, time)?,
            },
            "bandwidth" => Kind::Bandwidth { per_second: rate(value).ok_or_else(wrong)? },
            "corrupt" => Kind::Corrupt {
                share: share(value).ok_or_else(wrong)?,
                part: self.value("part", Part::Payload, |value| match value {
                    "payload" => Some(Part::Payload),
                    "header" => Some(Part::Header),
                    _ => None,
                })?,
            },
            "cut" => Kind::Break { when: when(value)?, how: How::Ended, end: end()? },
            "reset" => Kind::Break { when: when(value)?, how: How::Reset, end: end()? },
            "silence" => {
                let time = self.value("for", None, |value| time(value).map(Some))?;
                Kind::Break { when: when(value)?, how: How::Silent(time), end: end()? }
            }
            "close" => {
                let how = match value.parse().map_err(|_| wrong())? {
                    1006 => How::Ended,
                    // What may be sent (RFC 6455 section 7.4).
                    code @ (1000..=1003 | 1007..=1014 | 3000..=4999) => How::Close(code),
                    _ => return Err(wrong()),
                };
                let jitter = self.value("jitter", Duration::ZERO, time)?;
                let every = When::Period { time: Duration::from_secs(5), jitter };
                let when = self.value("every", every, |value| self::when(value, jitter))?;
                Kind::Break { when, how, end: end()? }
            }
            "pause" => Kind::Pause(when(value)?),
            "rate" => {
                let per_second = value.strip_suffix("/s").and_then(|count| count.parse().ok());
                Kind::Rate { per_second: per_second.ok_or_else(wrong)? }
            }
            "start" if value == "early" => Kind::StartEarly,
            "header" if value == "112" => Kind::Header(Layout::Service),
            "header" if value == "116" => Kind::Header(Layout::Standard),
            "text" => Kind::Text {
                when: when(value)?,
                bytes: self.value("bytes", TextBytes::Message, |value| match value {
                    "message" => Some(TextBytes::Message),
                    "raw" => Some(TextBytes::Raw),
                    _ => None,
                })?,
            },
            "oversize" => Kind::Oversize {
                when: when(value)?,
                len: self.value("size", 2 * 1024 * 1024, |value| {
                    size(value)
                        .filter(|size| *size <= 64 * 1024 * 1024)
                        .and_then(|size| usize::try_from(size).ok())
                })?,
            },
            "frame" => Kind::FrameLimit(length(value).ok_or_else(wrong)?),
            "fragment" => Kind::Fragment(length(value).ok_or_else(wrong)?),
            "handshake" if value == "again" => Kind::HandshakeAgain,
            "handshake" if value == "unknown" => Kind::HandshakeUnknown,
            "unready" => Kind::Unready(time(value).ok_or_else(wrong)?),
            "restart" => Kind::Restart(when(value)?),
            "resume" => Kind::Resume(match value {
                "403" => Refusal::Denied,
                "429" => Refusal::Throttled,
                "500" => Refusal::Failed(500),
                "503" => Refusal::Failed(503),
                _ => return Err(wrong()),
            }),
            "upgrade" => {
                let status = value.parse().ok().filter(|status| (400..=599).contains(status));
                Kind::Upgrade(status.ok_or_else(wrong)?)
            }
            "token" if value == "used" => Kind::TokenUsed,
            "cell" if value == "rotate" => Kind::Cell(Cell::Rotate),
            "cell" if value == "stale" => Kind::Cell(Cell::Stale),
            "dial" => Kind::Dial(match value {
                "refused" => Dial::Refused,
                "stuck" => Dial::Stuck,
                _ => Dial::Late(time(value).ok_or_else(wrong)?),
            }),
            "destination" if value == "stuck" => Kind::Destination(Destination::Stuck),
            "destination" => {
                Kind::Destination(Destination::Slow { per_second: rate(value).ok_or_else(wrong)? })
            }
            "seed" => Kind::Seed(value.parse().map_err(|_| wrong())?),
            _ => return Err(wrong()),
        })
    }
}

impl Scope {
    pub(crate) fn covers(&self, direction: Direction, header: &Header) -> bool {
        self.direction.is_none_or(|only| only == direction)
            && self.class.is_none_or(|class| class.has(header))
    }
}

impl Class {
    fn has(self, header: &Header) -> bool {
        if header.message_type == MessageType::Acknowledge {
            return self == Self::Acknowledge;
        }
        let class = match header.payload_type {
            Some(
                PayloadType::HandshakeRequest
                | PayloadType::HandshakeResponse
                | PayloadType::HandshakeComplete
                | PayloadType::EncChallengeRequest
                | PayloadType::EncChallengeResponse,
            ) => Self::Handshake,
            Some(PayloadType::Size) => Self::Size,
            Some(PayloadType::Flag) => Self::Flag,
            _ => Self::Data,
        };
        header.message_type.is_stream() && class == self
    }
}

fn share(text: &str) -> Option<Share> {
    let percent: f64 = text.strip_suffix('%')?.parse().ok()?;
    (0.0..=100.0).contains(&percent).then(|| Share((percent * 10_000.0).round() as u32))
}

fn time(text: &str) -> Option<Duration> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u32 = digits.parse().ok()?;
    Some(match &text[digits.len()..] {
        "ms" => Duration::from_millis(number.into()),
        "s" => Duration::from_secs(number.into()),
        "m" => Duration::from_secs(60 * u64::from(number)),
        _ => return None,
    })
}

fn when(text: &str, jitter: Duration) -> Option<When> {
    if let Ok(messages) = text.parse() {
        return (messages > 0).then_some(When::Messages(messages));
    }
    if let Some(share) = share(text) {
        return Some(When::Chance(share));
    }
    let time = time(text).filter(|time| !time.is_zero())?;
    Some(When::Period { time, jitter })
}

fn size(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().ok()?;
    let unit = match &text[digits.len()..] {
        "" => 1,
        "KiB" => 1024,
        "MiB" => 1024 * 1024,
        _ => return None,
    };
    number.checked_mul(unit).filter(|size| *size > 0)
}

fn length(text: &str) -> Option<usize> {
    size(text).and_then(|size| usize::try_from(size).ok())
}

fn rate(text: &str) -> Option<u64> {
    text.strip_suffix("/s").and_then(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Fault {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn refused(text: &str) -> String {
        text.parse::<Fault>().expect_err(text).to_string()
    }

    #[test]
    fn a_fault_is_read_with_its_options() {
        let fault = read("loss=0.5%,direction=up,class=data,times=3,seed=7");
        assert_eq!(fault.kind, Kind::Loss(Share(5_000)));
        assert_eq!(fault.scope.direction, Some(Direction::ClientToAgent));
        assert_eq!(fault.scope.class, Some(Class::Data));
        assert_eq!((fault.scope.times, fault.scope.seed), (Some(3), Some(7)));
        assert_eq!(fault.to_string(), "loss=0.5%,direction=up,class=data,times=3,seed=7");
        let every = |time| When::Period { time: Duration::from_secs(time), jitter: Duration::ZERO };
        let broken = |when, how| Kind::Break { when, how, end: End::Client };
        assert_eq!(read("cut=5s").kind, broken(every(5), How::Ended));
        assert_eq!(read("reset=40").kind, broken(When::Messages(40), How::Reset));
        assert_eq!(read("close=1000").kind, broken(every(5), How::Close(1000)));
        assert_eq!(read("close=1006,every=1%").kind, broken(When::Chance(Share(10_000)), How::Ended));
        assert_eq!(read("rate=1000/s").kind, Kind::Rate { per_second: 1000 });
        assert_eq!(read("bandwidth=2MiB/s").kind, Kind::Bandwidth { per_second: 2 * 1024 * 1024 });
    }

    #[test]
    fn the_error_names_the_part_that_is_wrong_and_what_there_is() {
        assert!(refused("lost=5%").starts_with("there is no fault \"lost\"; there are loss, duplicate, "));
        assert_eq!(refused("loss=5"), "\"loss=5\" is not understood: loss is SHARE");
        assert_eq!(
            refused("loss=5%,direction=left"),
            "\"direction=left\" is not understood: direction is up, down or both"
        );
        assert_eq!(
            refused("loss=5%,how=hard"),
            "\"how=hard\": loss has no such option; it has direction, class, times, seed"
        );
        assert_eq!(refused("loss=1%,seed=1,seed=2"), "\"seed=2\": seed is given twice");
        for bad in
            ["", "cut", "cut=0", "cut=0s", "loss=101%", "close=1005", "close=999", "resume=404", "x\u{1b}=1"]
        {
            assert!(!refused(bad).contains('\u{1b}'), "{bad:?}");
        }
    }

    #[test]
    fn item_109_every_fault_of_the_help_can_be_written() {
        let help = help();
        for Row { name, value, options, .. } in TABLE {
            assert!(help.contains(&format!("{name}={value}")), "{name}");
            assert!(options.iter().all(|option| OPTIONS.iter().any(|(known, _)| known == option)), "{name}");
            let value = match *value {
                "SHARE" => "5%",
                "TIME" => "50ms",
                "WHEN" => "40",
                "SIZE" => "64KiB",
                "SIZE/s" => "64KiB/s",
                "COUNT/s" => "1000/s",
                "CODE" => "1001",
                "NUMBER" => "7",
                "STATUS from 400 to 599" => "503",
                "early" | "used" => value,
                other => other.split([',', ' ']).next().unwrap_or_default(),
            };
            read(&format!("{name}={value}"));
        }
    }
}
