//! Forwards and tunnels against the loopback, over real sockets.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod active;
mod basic;
mod conformance;
mod connector;
mod control;
mod fair;
mod faults;
mod forwarder;
mod lanes;
mod loss;
mod many;
mod metrics;
mod mux;
mod pressure;
mod proxy;
mod resume;
mod stream;
mod support;
#[path = "../../../ssm-loopback/tests/trial/mod.rs"]
mod trial;
mod tunnel;
