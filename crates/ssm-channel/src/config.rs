//! Every knob of a channel.

use std::time::Duration;

use ssm_proto::body::TerminalSize;
use ssm_proto::{RawValue, Strictness};

use crate::KnownSizes;

/// Which side of the data channel this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// The user's side: sends input, receives output.
    Client,
    /// The node's side: sends output, receives input.
    Agent,
}

/// Limits, timers and identity of a channel. [`Config::client`] and [`Config::agent`] have the defaults.
#[derive(Debug, Clone)]
pub struct Config {
    /// Version this side claims; the peer decides by it what it does. Client default `1.2.764.0`, the lowest that AWS
    /// supports; agent default `3.3.987.0`.
    pub version: String,
    /// The node id an agent opens its data channel with. Clients have none.
    pub instance_id: Option<String>,
    /// What an agent offers; `None` for a client.
    pub offer: Option<Offer>,
    /// Whether a client takes a session that is not encrypted with a KMS key. Default [`Encryption::AsAsked`].
    pub encryption: Encryption,
    /// Whether a client takes an agent's challenge into the encryption context. Default [`Challenge::Acknowledged`].
    pub challenge: Challenge,
    /// How strictly received frames are read. Clients verify digests; agents do not, as AWS's does not.
    pub strictness: Strictness,
    /// Payload of a data message to begin with, in bytes. Default 1,024, which every agent and gateway accepts.
    pub payload_len: usize,
    /// Largest payload that a port session tries to find out it may send, in bytes. Default 32 KiB for a client. With
    /// [`payload_len`](Self::payload_len) or less, nothing is tried.
    pub payload_max: usize,
    /// What the sessions whose configurations are clones of this one have found out about payload sizes: what one has found
    /// saves the others the search, and what failed in one is not tried by the others.
    pub known_sizes: KnownSizes,
    /// Finds larger payloads out in sessions with a terminal too, at the cost of messages that say this is its size. Default
    /// `None`: their payloads stay at [`payload_len`](Self::payload_len).
    pub terminal_probe: Option<TerminalSize>,
    /// How fast data messages may go out; `None` for no limit. Default 900 a second with bursts of 100.
    pub pacing: Option<Pacing>,
    /// Lower bound of the send window, in bytes of messages; four messages where those are larger. Default 64 KiB.
    pub window_min: usize,
    /// Upper bound of the send window, in bytes of messages. Default 4 MiB, what the agent's multiplexer holds.
    pub window_max: usize,
    /// The part of the send window's upper bound that bulk data leaves free, so that what a person waits for never waits for the
    /// acknowledgement of an upload: [`Room::Reserve`](crate::Room::Reserve). Default 64 KiB.
    pub window_reserve: usize,
    /// Most messages from the oldest unacknowledged one on, acknowledged or not. Default 4,096, below the 10,000 a peer can
    /// reorder.
    pub in_flight_max: usize,
    /// Most messages parked behind a gap. Default 8,192.
    pub reorder_max: usize,
    /// Most payload bytes parked behind a gap. Default 8 MiB.
    pub reorder_bytes_max: usize,
    /// Interval of WebSocket pings. Default 30 s.
    pub keep_alive: Duration,
    /// How long a port session may be without a message of a client before one without effect is sent, so that the service does
    /// not end it for being idle, which takes 20 min unless the account says otherwise. It takes up to twice as long. Default
    /// `None`: an idle session is left to the service.
    pub keep_active: Option<Duration>,
    /// How long nothing at all may arrive before the connection counts as dead. Default 90 s.
    pub silence: Duration,
    /// How long a client waits for a first message before it takes the session for a shell that needs no handshake; `None`
    /// where a handshake always comes, as in port sessions. Default 3 s.
    pub assume_ready: Option<Duration>,
    /// How long the handshake may take. Client default 60 s; agent default 15 s, as AWS's.
    pub handshake_timeout: Duration,
    /// How long the oldest message may stay unacknowledged while connected and not paused. Default 5 min.
    pub give_up: Duration,
    /// How long to try to reconnect before giving up, counted from the loss until the peer is heard again or a connection has
    /// held for an interval of pings; `None` for ever. Default `None`.
    pub reconnect: Option<Duration>,
    /// How often to try to reconnect after a loss before giving up, counted until the peer is heard again or a connection has held
    /// for an interval of pings; with 0 a lost connection ends the session. `None` for no limit. Default `None`.
    pub reconnect_attempts: Option<u32>,
    /// How long nothing at all may arrive while something of a client's is unacknowledged before the connection is asked for a sign
    /// of life, which has to come within 5 s. An idle connection has [`silence`](Self::silence). Default 10 s.
    pub unanswered: Duration,
    /// How long to wait for the acknowledgement of a terminate flag. Default 2 s.
    pub terminate_timeout: Duration,
}

/// What a client thinks of sessions in the clear.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encryption {
    /// The agent decides, by the preferences of the account. TLS protects the data channel in any case.
    AsAsked,
    /// A session that is not encrypted with a KMS key does not start, and nothing is sent in it. Port sessions never are.
    Required,
}

/// What a client does about the random challenge that agents from 3.3.808 offer for the encryption context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Challenge {
    /// It goes into the context, and the agent is told so.
    Acknowledged,
    /// It is left out, as AWS's plugin 1.2.677 does.
    Ignored,
}

/// A token bucket over data messages. The gateway pauses, then cuts, a client that sends more than about 1,000 a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pacing {
    /// Messages a second; at least 1.
    pub per_second: u32,
    /// Messages that may go out at once after a quiet time.
    pub burst: u32,
}

/// The session an agent offers.
#[derive(Debug, Clone)]
pub struct Offer {
    /// `Standard_Stream`, `InteractiveCommands`, `NonInteractiveCommands` or `Port`.
    pub session_type: String,
    /// Properties of the document; `None` for the `null` that shells send.
    pub properties: Option<Box<RawValue>>,
    /// Whether a handshake comes first. AWS's agent skips it for shells and interactive commands without encryption (agent
    /// `sessionplugin.go` `executeSessionPlugin`).
    pub handshake: Handshake,
    /// The KMS key of the session, which needs [`Handshake::Required`]; `None` for one in the clear.
    pub kms: Option<KmsOffer>,
}

/// Encryption as an agent asks for it.
#[derive(Debug, Clone)]
pub struct KmsOffer {
    /// The KMS key.
    pub key_id: String,
    /// The random challenge of agents from 3.3.808, for the encryption context: base64 of 16 bytes.
    pub challenge: Option<String>,
    /// Whether a client that leaves the challenge out is refused (agent configuration `Kms.RequireKMSChallengeResponse`).
    pub require_challenge: bool,
}

/// Whether an agent starts with a handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Handshake {
    /// Request, response, completion.
    Required,
    /// Output starts at once.
    Skipped,
}

impl Config {
    /// The defaults of a client.
    pub fn client() -> Self {
        Self {
            version: "1.2.764.0".into(),
            instance_id: None,
            offer: None,
            encryption: Encryption::AsAsked,
            challenge: Challenge::Acknowledged,
            strictness: Strictness::Lenient,
            payload_len: 1024,
            payload_max: 32 * 1024,
            known_sizes: KnownSizes::default(),
            terminal_probe: None,
            pacing: Some(Pacing { per_second: 900, burst: 100 }),
            window_min: 64 * 1024,
            window_max: 4 * 1024 * 1024,
            window_reserve: 64 * 1024,
            in_flight_max: 4096,
            reorder_max: 8192,
            reorder_bytes_max: 8 * 1024 * 1024,
            keep_alive: Duration::from_secs(30),
            keep_active: None,
            silence: Duration::from_secs(90),
            assume_ready: Some(Duration::from_secs(3)),
            handshake_timeout: Duration::from_secs(60),
            give_up: Duration::from_secs(300),
            reconnect: None,
            reconnect_attempts: None,
            unanswered: Duration::from_secs(10),
            terminate_timeout: Duration::from_secs(2),
        }
    }

    /// The defaults of an agent on node `instance_id` that offers `offer`.
    pub fn agent(instance_id: &str, offer: Offer) -> Self {
        Self {
            version: "3.3.987.0".into(),
            instance_id: Some(instance_id.into()),
            offer: Some(offer),
            strictness: Strictness::Unchecked,
            pacing: None,
            keep_alive: Duration::from_secs(54),
            silence: Duration::from_secs(114),
            assume_ready: None,
            handshake_timeout: Duration::from_secs(15),
            ..Self::client()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The agent's multiplexer holds 4 MiB, and its reorder buffer 10,000 messages.
    #[test]
    fn a_client_sends_no_more_than_an_agent_can_hold() {
        let config = Config::client();
        assert_eq!(
            (config.window_min, config.window_max, config.window_reserve),
            (65_536, 4_194_304, 65_536)
        );
        assert!(config.in_flight_max < 10_000 && config.window_max <= config.reorder_bytes_max / 2);
        assert_eq!((config.payload_len, config.payload_max), (1_024, 32_768));
    }
}
