//! The tunnels that run on this machine for this user: each has a UNIX socket in the runtime folder, which answers what it does
//! and takes the order to end.
//!
//! One question a connection: a line of JSON, answered by a line of JSON. Nothing secret is asked or answered, and only this user
//! can open the folder. Each side asks the system who the other one is, should the folder ever be open to others.

mod entry;
mod peer;

use std::path::PathBuf;

use rustix::process::geteuid;
use tokio::net::UnixStream;

use serde::{Deserialize, Serialize};

pub(crate) use self::entry::Entry;
pub(crate) use self::peer::{Peer, PeerError, peers};

/// What the name of a socket ends in; in front of it is the id.
const SUFFIX: &str = ".sock";

/// Whether the other side is a process of this user, or of root, who can do everything anyway.
fn is_own(stream: &UnixStream) -> bool {
    stream.peer_cred().is_ok_and(|peer| peer.uid() == geteuid().as_raw() || peer.uid() == 0)
}

/// What can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Request {
    Status,
    /// Answered when the tunnel has ended its sessions.
    Stop,
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    Status(Tunnel),
    Stopped,
    /// The question is of another version.
    Unknown,
}

/// A running `ssm forward`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tunnel {
    /// What to call it: the number of its process.
    pub(crate) id: String,
    /// `GROUP/TUNNEL` of `ssm up`.
    #[serde(default)]
    pub(crate) name: Option<String>,
    pub(crate) target: String,
    /// When it was started, in seconds since 1970.
    pub(crate) since: u64,
    pub(crate) forwards: Vec<Forward>,
    /// Sessions that are open.
    pub(crate) sessions: usize,
    /// Times a session was brought back after its connection was lost.
    pub(crate) resumes: u64,
    /// Connections that are open.
    pub(crate) open: usize,
    /// Connections since the start.
    pub(crate) connections: u64,
    /// Bytes that went to destinations.
    pub(crate) sent: u64,
    /// Bytes that came back.
    pub(crate) received: u64,
    /// Where it writes what it has to say, if it is in the background.
    pub(crate) log: Option<PathBuf>,
}

/// One forward of a tunnel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Forward {
    /// The local addresses; none before it listens.
    pub(crate) listen: Vec<String>,
    /// The local port, where there is one.
    pub(crate) port: Option<u16>,
    pub(crate) destination: String,
    pub(crate) state: ForwardState,
}

/// Where a forward is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ForwardState {
    Starting,
    Ready,
    Ended,
}
