//! Port forwarding over Session Manager: local connections carried by a session to a TCP destination.
//!
//! - [`Forwarder`] listens locally, as `ssh -L` does, or as a SOCKS5 and HTTP CONNECT proxy, as `ssh -D` does.
//! - [`Tunnel`] opens connections for a program that wants no local port: each is an `AsyncRead + AsyncWrite`.
//!   With the feature `tower`, `Connector` gives them to hyper and other HTTP clients.
//! - [`stream`] carries one pair of streams, as an ssh `ProxyCommand` does.
//!
//! One session is one task. On its way between a local socket and the WebSocket a byte crosses no queue and no lock:
//!
//! ```text
//! out: socket.read -> message buffer -> smux header in front -> channel header in front, digest -> WebSocket
//! in:  WebSocket -> digest checked -> smux header taken off -> slices of the frame written to the socket
//! ```
//!
//! Reading never depends on writing, so that acknowledgements arrive while a writer waits for them. A program that does not
//! read its connection makes bytes wait here; beyond 256 KiB its own direction is no longer read, beyond 4 MiB in all no
//! new data is taken from anybody, and beyond 8 MiB the fullest connection is reset, which its program sees as an error:
//! nothing is ever left out in silence.
//!
//! AWS's agent knows no half-close. After a program has ended its direction the end is held back until the destination has
//! ended its own or was quiet for a while ([`Config::half_close_grace`]).

mod connection;
#[cfg(feature = "tower")]
mod connector;
mod error;
mod forwarder;
mod half_close;
mod lane;
mod lanes;
mod listener;
#[cfg(feature = "metrics")]
mod meter;
mod mux;
mod negotiate;
mod notice;
mod pipe;
mod proxy;
mod ready;
mod single;
mod spec;
mod traffic;
mod tunnel;

#[cfg(feature = "tower")]
pub use connector::Connector;
pub use error::{ForwardError, ParseSpecError};
pub use forwarder::{ConnectionNumbers, Forwarder, stream};
pub use lane::Config;
pub use lanes::{Lanes, StartLimiter};
pub use listener::LocalAddr;
pub use notice::Notice;
pub use pipe::TunnelStream;
pub use proxy::ProxyConfig;
pub use spec::{Destination, ForwardSpec, ListenAddr};
pub use traffic::Traffic;
pub use tunnel::{Tunnel, TunnelError};

/// Compiles the example in the README of the workspace.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
