//! `ssm plugin`

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand};

/// Be the session-manager-plugin: what the AWS CLI starts
///
/// A copy of or a link to this program under the name session-manager-plugin behaves the same.
#[derive(Debug, ClapArgs)]
#[command(args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
pub(crate) struct PluginArgs {
    #[command(subcommand)]
    pub(crate) command: Option<PluginCommand>,
    /// As the AWS CLI writes them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) args: Vec<OsString>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PluginCommand {
    Install(InstallArgs),
    Uninstall(UninstallArgs),
    /// Show which session-manager-plugin the AWS CLI finds
    ///
    /// Exit code 0 when it is this program, 1 when it is another one or none.
    Status,
}

/// Put a link under the name session-manager-plugin where the AWS CLI finds it
#[derive(Debug, ClapArgs)]
pub(crate) struct InstallArgs {
    /// Folder for the link [default: ~/.local/bin if it is in PATH, else the first folder of PATH that is yours]
    #[arg(long)]
    pub(crate) dir: Option<PathBuf>,
    /// Put another plugin that is there aside; `ssm plugin uninstall` puts it back
    #[arg(long)]
    pub(crate) force: bool,
}

/// Take the link away, and put back what was put aside for it
#[derive(Debug, ClapArgs)]
pub(crate) struct UninstallArgs {
    /// Folder of the link [default: where PATH leads to this program]
    #[arg(long)]
    pub(crate) dir: Option<PathBuf>,
}
