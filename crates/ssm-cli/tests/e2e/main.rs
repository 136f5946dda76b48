//! The program with the programs of others: terminals, databases, ssh, the AWS CLI, a client in JavaScript.
//!
//! Every test starts its own loopback and its own servers, on ports chosen when it runs, and ends them with itself.

#![cfg(all(feature = "aws", feature = "demo"))]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod aws_cli;
mod aws_profile;
mod leftovers;
mod openssh;
mod postgres;
mod shell;
mod ssm_session;
mod support;
mod tunnel;
