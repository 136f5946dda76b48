//! Wire codec of the AWS Systems Manager Session Manager data channel: bytes in, values out.
//!
//! After one text frame ([`body::OpenDataChannel`]) every WebSocket frame of a data channel is one binary message:
//! a fixed header, all integers big-endian, and a payload that runs to the end of the frame.
//!
//! | offset | size | field | content |
//! |---|---|---|---|
//! | 0 | 4 | header length | 116, the offset of the payload length (112 in messages the service itself makes) |
//! | 4 | 32 | message type | ASCII, padded with spaces (service: NULs) |
//! | 36 | 4 | schema version | 1 |
//! | 40 | 8 | created date | milliseconds since the Unix epoch |
//! | 48 | 8 | sequence number | from 0, for stream messages; 0 otherwise |
//! | 56 | 8 | flags | 3 on acknowledgements, 1 on the agent's first stream message |
//! | 64 | 16 | message id | a UUID with its halves swapped |
//! | 80 | 32 | payload digest | SHA-256 of the payload as sent |
//! | 112 | 4 | payload type | absent in service messages |
//! | 116 | 4 | payload length | bytes |
//! | 120 | n | payload | |
//!
//! The crate is pure: no IO, no clock, no randomness. Decoding never panics and allocates at most in proportion to
//! its input; payloads are slices of the received frame. What the messages mean and when to send them is the business
//! of `ssm-channel`, which is probably the crate you want.
//!
//! ```
//! use bytes::Bytes;
//! use ssm_proto::{Header, Message, MessageBuf, MessageId, MessageType, PayloadType, Strictness};
//!
//! let mut buf = MessageBuf::with_capacity(16);
//! buf.put_slice(b"hi");
//! let id = MessageId::from_random([7; 16]);
//! let header = Header::stream(MessageType::InputStreamData, PayloadType::Output, 7, id, 1_700_000_000_000);
//! let wire: Bytes = buf.finish(header);
//!
//! let message = Message::decode(wire, Strictness::Strict)?;
//! assert_eq!(message.header.sequence, 7);
//! assert_eq!(message.header.id, id);
//! assert_eq!(&message.payload[..], b"hi");
//! # Ok::<(), ssm_proto::DecodeError>(())
//! ```

#![warn(clippy::wildcard_enum_match_arm)]

mod buf;
mod error;
mod header;
mod json;
mod message;
mod message_id;
mod message_type;
mod payload_type;
mod secret;

pub mod body;

pub use buf::{HEADROOM, MessageBuf, Slab, TAILROOM};
pub use error::{BodyError, DecodeError};
pub use header::{Digest, Flags, HEADER_LEN, Header, Layout};
pub use message::{Message, Strictness};
pub use message_id::MessageId;
pub use message_type::MessageType;
pub use payload_type::PayloadType;
pub use secret::{Secret, Token};
pub use serde_json::value::RawValue;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
