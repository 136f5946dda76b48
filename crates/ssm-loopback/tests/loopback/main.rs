//! The loopback from outside: API, sessions, faults, over real sockets.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod api;
mod client;
mod conformance;
mod control;
mod port;
mod service;
mod shell;
