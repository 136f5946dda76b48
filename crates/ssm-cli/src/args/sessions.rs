//! The arguments of `ssm sessions`.

use clap::{Args as ClapArgs, Subcommand};

use super::ConnectionArgs;

/// List sessions, or end them
///
/// Those of the caller that are open, unless a flag says otherwise.
#[derive(Debug, ClapArgs)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct SessionsArgs {
    #[command(flatten)]
    pub(crate) which: WhichArgs,
    /// Write each session to stdout as it comes, as a line of JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
    #[command(subcommand)]
    pub(crate) command: Option<SessionsCommand>,
}

/// Which sessions.
#[derive(Debug, Clone, Default, ClapArgs)]
pub(crate) struct WhichArgs {
    /// Of everybody in the account and region
    #[arg(long, conflicts_with = "owner")]
    pub(crate) all: bool,
    /// Of this user or role, by ARN
    #[arg(long, value_name = "ARN")]
    pub(crate) owner: Option<String>,
    /// Those that are over: of the last 30 days
    #[arg(long)]
    pub(crate) history: bool,
    /// On this machine, as for ssm shell
    #[arg(long, value_name = "TARGET")]
    pub(crate) target: Option<String>,
    /// With this status: Connected, Connecting, Disconnected, Terminated, Terminating or Failed
    #[arg(long, ignore_case = true, value_parser = ["Connected", "Connecting", "Disconnected", "Terminated", "Terminating", "Failed"])]
    pub(crate) status: Option<String>,
    /// Started since: 90s, 5m, 2h, 1d ago, or a time such as 2026-01-31T08:00:00Z
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SessionsCommand {
    Terminate(Box<TerminateArgs>),
    Orphans(OrphansArgs),
}

/// End sessions
#[derive(Debug, ClapArgs)]
pub(crate) struct TerminateArgs {
    /// Their ids, as `ssm sessions` shows them
    #[arg(value_name = "ID", required_unless_present_any = ["mine", "target", "orphans"], conflicts_with_all = ["mine", "target", "orphans"])]
    pub(crate) ids: Vec<String>,
    /// Every open one of the caller, on whichever computer it was started
    #[arg(long)]
    pub(crate) mine: bool,
    /// Every open one of the caller on this machine, as for ssm shell
    #[arg(long, value_name = "TARGET", conflicts_with = "mine")]
    pub(crate) target: Option<String>,
    /// Those that an ssm on this computer has started and left behind
    #[arg(long, conflicts_with_all = ["mine", "target"])]
    pub(crate) orphans: bool,
    /// Do not ask
    #[arg(short, long)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}

/// List the sessions that an ssm on this computer has started and left behind, as one that was killed does
///
/// `ssm sessions terminate --orphans` ends them.
#[derive(Debug, ClapArgs)]
pub(crate) struct OrphansArgs {
    /// Write each one to stdout, as a line of JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use crate::args::Args;

    #[test]
    fn what_is_to_be_ended_is_said_once() {
        let parse = |line: &str| Args::try_parse_from(line.split(' ')).is_ok();
        for right in ["a-1 b-2", "--mine", "--target web --yes", "--orphans"] {
            assert!(parse(&format!("ssm sessions terminate {right}")), "{right}");
        }
        for wrong in ["--yes", "a-1 --mine", "--mine --target web", "--orphans --mine"] {
            assert!(!parse(&format!("ssm sessions terminate {wrong}")), "{wrong}");
        }
        assert!(parse("ssm sessions --all --history --status failed") && parse("ssm sessions orphans"));
        assert!(!parse("ssm sessions --all --owner x") && !parse("ssm sessions --all orphans"));
    }
}
