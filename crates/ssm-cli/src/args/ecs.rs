//! `ssm ecs`

use clap::{Args as ClapArgs, Subcommand};

use super::{ConnectionArgs, EscapeArg, ForwardArgs, LimitArg, ReconnectArg};

/// Shells in containers of ECS, and tunnels through them
///
/// A container is written CLUSTER/SERVICE-OR-TASK/CONTAINER: names, ids of tasks, or beginnings that no other has. What is left out
/// is skipped where there is one, and chosen from a list on a terminal where there are several.
#[derive(Debug, ClapArgs)]
pub(crate) struct EcsArgs {
    #[command(subcommand)]
    pub(crate) command: EcsCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum EcsCommand {
    Exec(EcsExecArgs),
    Forward(Box<EcsForwardArgs>),
    List(EcsListArgs),
    Check(EcsCheckArgs),
}

/// Run a command on a terminal in a container; a shell unless it is said
///
/// Works with pipes as well: what stdin holds is typed, what the container prints goes to stdout. When it does not work, what is
/// missing is told as by `ssm ecs check`.
#[derive(Debug, ClapArgs)]
#[command(mut_arg("attach", |arg| arg.hide(true)), mut_arg("reason", |arg| arg.hide(true)))]
pub(crate) struct EcsExecArgs {
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
    /// The command [default: /bin/sh]
    ///
    /// One word is a line for the shell of the container, as in `-- 'ls | wc -l'`; several are a program and its arguments.
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
    /// As for ssm shell
    #[arg(short = 'e', long = "escape", value_name = "CHAR|none", default_value = "~")]
    pub(crate) escape: EscapeArg,
    /// As for ssm shell
    #[arg(long, value_name = "TIME|off", default_value = "15m")]
    pub(crate) idle_notice: LimitArg,
    /// As for ssm shell
    #[arg(long, value_name = "N|always|never")]
    pub(crate) reconnect: Option<ReconnectArg>,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}

/// Carry local connections to a container, or to a host it can reach
///
/// As `ssm forward`, with the container written as for `ssm ecs exec`.
#[derive(Debug, ClapArgs)]
#[command(mut_arg("target", |arg| {
    // Nothing is forwarded without one of these.
    arg.required_unless_present_any(["specs", "proxies", "stdio"])
        .value_name("CLUSTER[/...]")
        .help("CLUSTER[/SERVICE-OR-TASK[/CONTAINER]], a task id or ARN in place of the service, or alias")
        .index(1)
}), mut_arg("command", |arg| arg.index(2)), mut_arg("attach", |arg| arg.hide(true)))]
pub(crate) struct EcsForwardArgs {
    #[command(flatten)]
    pub(crate) parts: PartArgs,
    #[command(flatten)]
    pub(crate) forward: ForwardArgs,
}

/// Show the containers that run
#[derive(Debug, ClapArgs)]
#[command(mut_arg("attach", |arg| arg.hide(true)), mut_arg("reason", |arg| arg.hide(true)))]
#[command(mut_arg("first", |arg| arg.hide(true)))]
pub(crate) struct EcsListArgs {
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
    /// Write each container to stdout, as a line of JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}

/// Tell what a task needs so that commands can be run in it, and what it lacks
///
/// The exit code is 1 when something is missing.
#[derive(Debug, ClapArgs)]
#[command(mut_arg("attach", |arg| arg.hide(true)), mut_arg("reason", |arg| arg.hide(true)))]
pub(crate) struct EcsCheckArgs {
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
    /// Write each check to stdout, as a line of JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}

/// Where a container is.
#[derive(Debug, Clone, Default, ClapArgs)]
pub(crate) struct PlaceArgs {
    /// CLUSTER[/SERVICE-OR-TASK[/CONTAINER]], an ARN, or alias
    #[arg(value_name = "CLUSTER[/...]")]
    pub(crate) place: Option<String>,
    #[command(flatten)]
    pub(crate) parts: PartArgs,
}

/// The same, part by part.
#[derive(Debug, Clone, Default, PartialEq, Eq, ClapArgs)]
pub(crate) struct PartArgs {
    /// Cluster: name, beginning or ARN
    #[arg(long, value_name = "NAME")]
    pub(crate) cluster: Option<String>,
    /// Service: name, beginning or ARN
    #[arg(long, value_name = "NAME", conflicts_with = "task")]
    pub(crate) service: Option<String>,
    /// Task: id, beginning or ARN
    #[arg(long, value_name = "ID")]
    pub(crate) task: Option<String>,
    /// Container: name or beginning
    #[arg(long, value_name = "NAME")]
    pub(crate) container: Option<String>,
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Args, Command};

    fn parse(line: &str) -> Option<EcsCommand> {
        match Args::try_parse_from(line.split(' ')) {
            Ok(Args { command: Command::Ecs(args), .. }) => Some(args.command),
            _ => None,
        }
    }

    #[test]
    fn nothing_has_to_be_named() {
        for line in ["exec", "exec prod", "forward -L 80", "forward prod/web -D 0", "list", "check --json"] {
            assert!(parse(&format!("ssm ecs {line}")).is_some(), "{line}");
        }
    }

    #[test]
    fn a_command_is_behind_two_dashes() {
        let Some(EcsCommand::Exec(args)) = parse("ssm ecs exec prod/web --container app -- ls -l") else {
            panic!("not read as exec");
        };
        assert_eq!(args.command, ["ls", "-l"]);
        assert_eq!(args.place.place.as_deref(), Some("prod/web"));
        assert!(parse("ssm ecs exec prod ls").is_none());
        assert!(parse("ssm ecs exec --service a --task b").is_none());
    }
}
