//! The program among enemies: gateways and services that want to do harm, other users of the machine, and whoever looks for secrets.

#![cfg(all(feature = "aws", feature = "demo", target_os = "linux"))]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../common/mod.rs"]
mod common;
mod gateway;
mod memory;
mod peer;
#[cfg(feature = "db")]
mod secrets;
mod terminal;
mod user;
