//! Forwards and tunnels against the loopback, over real sockets.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod basic;
mod forwarder;
mod mux;
mod pressure;
mod resume;
mod stream;
mod support;
mod tunnel;
