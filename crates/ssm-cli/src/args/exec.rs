//! Arguments of `ssm exec`.

use std::ffi::OsString;

use clap::{Args as ClapArgs, ValueEnum};

use super::{CommandChannelArgs, ConnectionArgs};

/// Run a command on a machine, or on many
///
/// stdin, stdout, stderr and the exit code are the command's, as with ssh; 255 is a failure of ours. The words are joined by
/// spaces and given to the machine's sh.
#[derive(Debug, ClapArgs)]
pub(crate) struct ExecArgs {
    /// Instance id (i-..., mi-...), tag:KEY=VALUE, asg:GROUP, address, name, container (ecs:CLUSTER_TASKID_RUNTIMEID), or alias
    #[arg(required_unless_present_any = ["attach", "targets"], conflicts_with = "targets")]
    pub(crate) target: Option<String>,
    /// The command and its words, behind --
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
    /// Give the command no input
    #[arg(short = 'n', long)]
    pub(crate) no_stdin: bool,
    /// Run it on each of these; a tag, a group or a name stands for every machine it fits
    ///
    /// Without input. Each line of output begins with its machine; the exit code is the largest.
    #[arg(long, value_name = "TARGET,...", value_delimiter = ',', conflicts_with = "attach")]
    pub(crate) targets: Vec<String>,
    /// Most machines at a time
    #[arg(long, value_name = "N", default_value_t = 10, requires = "targets", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) parallel: u16,
    /// Write each line of output, and each exit code, as a line of JSON
    #[arg(long, requires = "targets")]
    pub(crate) json: bool,
    /// How the machines are reached [default: session for up to 50, run-command above]
    #[arg(long, value_enum, requires = "targets")]
    pub(crate) via: Option<Via>,
    /// Session document with a parameter named command, in place of AWS-StartInteractiveCommand
    #[arg(long, value_name = "NAME", conflicts_with = "attach")]
    pub(crate) document: Option<String>,
    /// Print what the machine would be asked to run, for a session that is started elsewhere
    #[arg(long, hide = true)]
    pub(crate) print_script: bool,
    #[command(flatten)]
    pub(crate) channel: CommandChannelArgs,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}

/// How many machines are reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Via {
    /// A session for each
    Session,
    /// Systems Manager Run Command, whose output is cut after 24,000 characters
    RunCommand,
}
