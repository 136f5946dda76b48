//! The knobs of a [`Mux`](crate::Mux), with the values AWS's own programs use where there are any.

use std::time::Duration;

/// How often a NOP goes out where keep-alive is on (smux mux.go `DefaultConfig`).
pub const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// How often a silent peer is looked for where keep-alive is on (smux mux.go `DefaultConfig`).
pub const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(30);

/// Limits and times of one [`Mux`](crate::Mux).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Longest payload of a frame we send, in bytes. Default 32,768, as plugin and agent have it; the
    /// type is the limit of the wire. Received frames may always have 65,535.
    pub max_frame: u16,
    /// Most streams at a time. Default 4,096. A stream that the peer opens above it is refused with a
    /// FIN, where AWS's agent would stop reading the whole session (its backlog is 1,024).
    pub max_streams: usize,
    /// How long a SYN may wait so that it can travel in front of the stream's first data. Default
    /// 1 ms; zero sends it at once, alone, as the plugin does most of the time.
    pub syn_delay: Duration,
    /// Time between NOPs, or none. Default none.
    ///
    /// A client needs them when the agent is 3.1.1511.0 or older, an agent when the client is
    /// 1.2.331.0 or older (plugin muxportforwarding.go `initialize`, agent port_mux.go `initialize`):
    /// such a peer drops a session that is silent for 30 s. Elsewhere they only keep a session open
    /// that the service would end as idle.
    pub nop_interval: Option<Duration>,
    /// Period of the look-out for a silent peer, or none. Default none. A whole period without a
    /// byte gives [`Event::PeerSilent`](crate::Event::PeerSilent), so the silence that is noticed
    /// lasts between one and two periods.
    pub peer_timeout: Option<Duration>,
    /// Number of [`unconsumed`](crate::Mux::unconsumed) bytes at which the owner stops reading.
    /// Default 4 MiB. Nothing is refused above it: it keeps the peer from being called silent while
    /// it is us who do not listen.
    pub receive_limit: usize,
}

impl Config {
    /// Keep-alive in both directions, with the times of AWS's programs.
    pub fn with_keep_alive(self) -> Self {
        Self { nop_interval: Some(KEEP_ALIVE_INTERVAL), peer_timeout: Some(KEEP_ALIVE_TIMEOUT), ..self }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_frame: 32 * 1024,
            max_streams: 4096,
            syn_delay: Duration::from_millis(1),
            nop_interval: None,
            peer_timeout: None,
            receive_limit: 4 * 1024 * 1024,
        }
    }
}
