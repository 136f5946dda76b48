//! The program with the programs of others: terminals, databases, web servers, ssh, the AWS CLI.
//!
//! Every test starts its own loopback and its own servers, on ports chosen when it runs, and ends them with itself.

#![cfg(all(feature = "aws", feature = "demo"))]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod aws_cli;
mod aws_profile;
mod browser;
mod crowd;
#[cfg(feature = "db")]
mod db;
#[cfg(feature = "lookup")]
mod doctor;
#[cfg(feature = "lookup")]
mod ecs;
#[cfg(feature = "lookup")]
mod fleet;
mod git;
mod iperf;
mod kms;
mod leftovers;
mod library;
mod nginx;
mod openssh;
#[cfg(feature = "lookup")]
mod picker;
mod postgres;
mod redis;
#[cfg(feature = "lookup")]
mod resolve;
mod shell;
mod soak;
mod ssh;
mod ssm_session;
mod support;
#[cfg(feature = "lookup")]
mod targets;
mod tunnel;
