//! `ssm down`

use std::process::ExitCode;

use crate::args::{DownArgs, StopArgs};
use crate::error::Error;
use crate::registry::Peer;

use super::{group, tunnels};

/// Runs the command. The configuration is not asked: what a group had when it was started is known by name.
pub(crate) async fn run(args: &DownArgs) -> Result<ExitCode, Error> {
    let running = group::running().await?;
    let wanted = running.into_iter().filter(|(_, name, _)| group::is_of(name, &args.groups));
    let wanted: Vec<Peer> = wanted.map(|(peer, ..)| peer).collect();
    tunnels::stop(&wanted, &StopArgs { ids: Vec::new(), all: true }).await
}
