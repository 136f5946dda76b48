//! What a loopback is made of.

use std::path::PathBuf;
use std::time::Duration;

use ssm_proto::Layout;

use crate::clusters::{self, Cluster};
use crate::document::Document;
use crate::fault::Fault;
use crate::kms::Kms;

/// How a [`Loopback`](crate::Loopback) behaves. Every field has a default; change those you need.
#[derive(Debug, Clone)]
pub struct Config {
    /// The port on 127.0.0.1. Default 0: one that is free.
    pub port: u16,
    /// Region that requests must be signed for. Default `us-east-1`.
    pub region: String,
    /// Managed nodes, all of which are this machine. The first is [`target`](crate::Loopback::target). Default: one,
    /// `i-0123456789abcdef0`.
    pub targets: Vec<String>,
    /// ECS clusters, whose containers are all this machine. Default: one, `loopback`, with the services `web` and `worker` and a
    /// task that commands cannot be run on.
    pub clusters: Vec<Cluster>,
    /// How long the nodes are not connected from the start, as machines that boot. Default: not at all.
    pub connected_after: Duration,
    /// Who starts sessions; session ids begin with it. Default `loopback`.
    pub owner: String,
    /// Documents in addition to AWS's own; one with the same name replaces it. Default none.
    pub documents: Vec<Document>,
    /// How fast and how faithful the agent is. Default [`Profile::Fast`].
    pub profile: Profile,
    /// Largest payload of a message from an agent of [`Profile::Fast`], in bytes; AWS's sends 1,024. Default 32 KiB.
    pub payload_len: usize,
    /// Encryption of shells and commands with a KMS key. Default none.
    pub kms: Option<Kms>,
    /// The version the agent reports, which clients choose features by. Default `3.3.987.0`.
    pub agent_version: String,
    /// The shell of shell sessions and commands. Default: `bash` where there is one, else `sh`.
    pub shell: Option<PathBuf>,
    /// The home directory of what runs in a terminal, and where it starts. Default: that of this process.
    pub home: Option<PathBuf>,
    /// Whether a WebSocket upgrade without a SigV4 signature is let in to show its token. Default
    /// [`Upgrade::SignedOrToken`].
    pub upgrade: Upgrade,
    /// Whether resuming moves a session to another cell, as the service does at times. Default [`Cells::Fixed`].
    pub cells: Cells,
    /// Header of the messages the service makes itself. Default [`Layout::Service`], which real ones have.
    pub service_layout: Layout,
    /// Stream messages a client may send in a second. One that sends more is told to pause, and is cut when it does so in
    /// the next second too; the real gateway is said to do so above 1,000. Default no limit.
    pub rate_limit: Option<u32>,
    /// Ends a session after this long without a stream message. Default never.
    pub idle_timeout: Option<Duration>,
    /// Ends a session this long after its start. Default never.
    pub max_duration: Option<Duration>,
    /// How long a token can be used. Default 60 s.
    pub token_lifetime: Duration,
    /// What goes wrong from the start, for good; [`Loopback::fault`](crate::Loopback::fault) adds to it. Default nothing.
    pub faults: Vec<Fault>,
    /// Sessions that may run at once; a StartSession beyond it is answered with `ThrottlingException`. Default 256.
    pub max_sessions: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            port: 0,
            region: "us-east-1".to_owned(),
            targets: vec!["i-0123456789abcdef0".to_owned()],
            clusters: clusters::default_clusters(),
            connected_after: Duration::ZERO,
            owner: "loopback".to_owned(),
            documents: Vec::new(),
            profile: Profile::default(),
            payload_len: 32 * 1024,
            kms: None,
            agent_version: "3.3.987.0".to_owned(),
            shell: None,
            home: None,
            upgrade: Upgrade::default(),
            cells: Cells::default(),
            service_layout: Layout::Service,
            rate_limit: None,
            idle_timeout: None,
            max_duration: None,
            token_lifetime: Duration::from_secs(60),
            faults: Vec::new(),
            max_sessions: 256,
        }
    }
}

/// How fast and how faithful the agent is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Profile {
    /// Reads of up to [`Config::payload_len`] and no pauses: shows what the client can do.
    #[default]
    Fast,
    /// As AWS's agent: reads of at most 1,024 bytes with a pause behind each, the one-second wait before a terminal's first
    /// output, the version gates.
    Aws,
}

/// Which WebSocket upgrades are let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Upgrade {
    /// A signature that is present must be right; without one the token decides.
    #[default]
    SignedOrToken,
    /// Only signed ones, apart from those of the loopback's own agent; others get a 403.
    SignedOnly,
}

/// What the `cell-number` in a stream URL does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Cells {
    /// It stays.
    #[default]
    Fixed,
    /// Every ResumeSession hands out a new one, and URLs with an older one are refused.
    RotateOnResume,
}
