//! Stream multiplexer (smux v1) of Session Manager port sessions, without IO.
//!
//! A port session to an agent newer than 3.0.196.0 carries many TCP connections over one byte stream:
//! the concatenated payloads of its `Output` messages. This crate is the framing on that byte stream,
//! for both ends: [`Mux`] with [`Side::Client`] is the user's end, with [`Side::Server`] the agent's.
//! It takes bytes and the time and returns headers and events; sockets, messages and half-close
//! policy belong to the crates above it.
//!
//! # Wire format
//!
//! Every frame has a header of 8 bytes (xtaci/smux frame.go; plugin and agent use version 1):
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 1 | version, 1 |
//! | 1 | 1 | command |
//! | 2 | 2 | payload length, little-endian |
//! | 4 | 4 | stream id, little-endian |
//! | 8 | n | payload |
//!
//! | command | name | payload | meaning | sent | received |
//! |---|---|---|---|---|---|
//! | 0 | SYN | none | opens a stream; not answered | by the client | a second one is ignored |
//! | 1 | FIN | none | closes the stream in both directions | once by each side | a second one is ignored |
//! | 2 | PSH | 0 to 65,535 | data | up to [`Config::max_frame`] | skipped where the stream is not open |
//! | 3 | NOP | none | keeps the session from being idle | on request or by the clock | counts as a sign of life |
//! | 4 | UPD | 8 | window of version 2 | never | skipped if 8 bytes long |
//!
//! Anything else is a [`FrameError`], after which no frame can be found any more.
//!
//! Which stream may send next is decided by a [`Schedule`], which shares what goes out fairly.
//!
//! Version 1 has no window per stream. All that a receiver can do about a slow reader is to stop
//! reading the session; [`Mux::unconsumed`] counts what it holds.
//!
//! # Example
//!
//! A client opens a stream, sends a request and closes it; the server answers and closes as well.
//!
//! ```
//! use bytes::{Bytes, BytesMut};
//! use ssm_smux::{Config, Event, Mux, Side};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let now = std::time::Instant::now();
//! let mut client = Mux::new(Side::Client, Config::default(), now);
//! let mut server = Mux::new(Side::Server, Config::default(), now);
//!
//! // SYN, header, data and FIN in one message.
//! let id = client.open(now)?;
//! let mut message = BytesMut::from(&client.push(id, 4)?[..]);
//! message.extend_from_slice(b"ping");
//! client.finish(id);
//! message.extend_from_slice(&client.take_fin(id).expect("the stream was announced"));
//!
//! server.handle_input(message.freeze())?;
//! assert_eq!(server.poll_event(), Some(Event::Opened { id }));
//! assert_eq!(server.poll_event(), Some(Event::Data { id, data: Bytes::from_static(b"ping") }));
//! assert_eq!(server.poll_event(), Some(Event::Finished { id }));
//! assert_eq!(server.poll_event(), None);
//! server.consumed(id, 4);
//!
//! // Closing is mutual: both sides send a FIN, then the stream is gone.
//! server.finish(id);
//! while let Some(header) = server.poll_transmit() {
//!     client.handle_input(Bytes::copy_from_slice(&header))?;
//! }
//! assert_eq!(client.poll_event(), Some(Event::Finished { id }));
//! assert_eq!((client.stream_count(), server.stream_count()), (0, 0));
//! # Ok(())
//! # }
//! ```

mod config;
mod error;
mod frame;
mod mux;
mod schedule;
mod stream;

pub use config::{Config, KEEP_ALIVE_INTERVAL, KEEP_ALIVE_TIMEOUT};
pub use error::{FrameError, OpenError, WriteError};
pub use frame::{HEADER_LEN, StreamId};
pub use mux::{DataHeader, Event, Mux, Side};
pub use schedule::Schedule;
