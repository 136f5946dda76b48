//! The reliability layer of a Session Manager data channel, for both of its sides, without IO.
//!
//! A [`Channel`] numbers, acknowledges, reorders, repeats, paces and bounds the messages of one session; it does the
//! handshake, notices dead connections, says when to dial again, and carries its whole state from one WebSocket to the
//! next. It opens no socket, reads no clock and draws no randomness: bytes, time and a seed come in as arguments, and
//! bytes and deadlines go out. Driving one over a real WebSocket is the business of `ssm-session`, which is probably
//! the crate you want.
//!
//! # The contract
//!
//! There are four families of methods:
//!
//! - `handle_*` tells the channel what happened: a connection, a frame, a loss, a deadline.
//! - Commands ([`send`](Channel::send), [`terminate`](Channel::terminate), ...) are what the application wants.
//! - `poll_*` says what the caller has to do. After every call of the first two families, call
//!   [`poll_transmit`](Channel::poll_transmit) and [`poll_event`](Channel::poll_event) until both give `None`, then
//!   wait no longer than [`poll_timeout`](Channel::poll_timeout) before calling
//!   [`handle_timeout`](Channel::handle_timeout). Nothing is ever due that `poll_timeout` did not announce.
//! - Getters change nothing.
//!
//! A [`ChannelError`] is fatal: the channel is closed and has said so in its last event. A [`SendError::Blocked`] gives
//! the payload back; nothing that was accepted is ever dropped, doubled or reordered.
//!
//! ```
//! use std::sync::Arc;
//! use std::time::{Duration, Instant};
//! use ssm_channel::{Channel, Config, Event, Handshake, Offer, Role, Transmit};
//! use ssm_proto::{PayloadType, Token};
//!
//! // Two channels, a shell session, and nothing in between.
//! let now = Instant::now();
//! let unix = Duration::from_secs(1_700_000_000);
//! let offer = Offer { session_type: "Standard_Stream".into(), properties: None, handshake: Handshake::Required, kms: None };
//! let mut client = Channel::new(Role::Client, Arc::new(Config::client()), [1; 32], now, unix);
//! let mut agent = Channel::new(Role::Agent, Arc::new(Config::agent("i-0123", offer)), [2; 32], now, unix);
//! client.handle_connected(now, Token::new("for the client".into()));
//! agent.handle_connected(now, Token::new("for the agent".into()));
//!
//! fn carry(now: Instant, from: &mut Channel, to: &mut Channel) -> bool {
//!     let mut moved = false;
//!     while let Some(transmit) = from.poll_transmit(now) {
//!         if let Transmit::Binary(frame) = transmit {
//!             to.handle_binary(now, frame).unwrap();
//!             moved = true;
//!         }
//!     }
//!     moved
//! }
//! while carry(now, &mut agent, &mut client) | carry(now, &mut client, &mut agent) {}
//! assert!(matches!(client.poll_event(), Some(Event::Ready(_))));
//!
//! let mut typed = client.buffer();
//! typed.put_slice(b"exit\r");
//! client.send(now, PayloadType::Output, typed).unwrap();
//! carry(now, &mut client, &mut agent);
//! assert!(matches!(agent.poll_event(), Some(Event::Ready(_))));
//! assert!(matches!(agent.poll_event(), Some(Event::Payload { payload, .. }) if &payload[..] == b"exit\r"));
//! ```

#![warn(clippy::wildcard_enum_match_arm)]

mod channel;
mod config;
mod crypto;
mod error;
mod event;
mod handshake;
mod pace;
mod recv_queue;
mod redial;
mod rtt;
mod send_queue;
mod size;
mod spread;
mod stats;
mod timer;
mod version;
mod window;

pub use channel::{AgentState, Channel, Input, Room};
pub use config::{Challenge, Config, Encryption, Handshake, KmsOffer, Offer, Pacing, Role};
pub use crypto::{DATA_KEY_LEN, DataKey, DataKeyLength, KeyRequest};
pub use error::{ChannelError, HandshakeError, SendError};
pub use event::{CloseReason, Event, Evidence, PortMode, Ready, SessionKind, Transmit};
pub use size::KnownSizes;
pub use stats::Stats;
pub use version::AgentAbilities;
