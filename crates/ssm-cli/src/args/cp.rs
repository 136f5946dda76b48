//! Arguments of `ssm cp`.

use std::ffi::OsString;

use clap::Args as ClapArgs;

use super::{CommandChannelArgs, ConnectionArgs};

/// Copy a file or a folder to a machine or from one
///
/// One of the two is TARGET:PATH, with a path as the machine's user has it; relative ones begin at home. What was interrupted goes on
/// where it stopped when the same is asked again.
#[derive(Debug, ClapArgs)]
pub(crate) struct CpArgs {
    /// What to copy: PATH or TARGET:PATH
    #[arg(value_name = "SRC")]
    pub(crate) source: OsString,
    /// Where to: PATH or TARGET:PATH; into it, when it is a folder
    #[arg(value_name = "DST")]
    pub(crate) destination: OsString,
    /// Folders with all that is in them; they are copied so without it as well
    #[arg(short, long)]
    pub(crate) recursive: bool,
    /// Print what the machine would be asked to run, for a session that is started elsewhere
    #[arg(long, hide = true)]
    pub(crate) print_script: bool,
    #[command(flatten)]
    pub(crate) channel: CommandChannelArgs,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}
