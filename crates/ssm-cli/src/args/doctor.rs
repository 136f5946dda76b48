//! `ssm doctor`

use clap::Args as ClapArgs;

use super::ConnectionArgs;

/// Examine what sessions need: this machine, the way to AWS, the account, and a machine
///
/// Each line is `ok`, `warn`, `fail` or `skip`, and says what can be done. Fails, with exit code 1, when a check has failed. No
/// session is started.
#[derive(Debug, ClapArgs)]
pub(crate) struct DoctorArgs {
    /// The machine to examine, as for ssm shell
    pub(crate) target: Option<String>,
    /// Write each check to stdout, as a line of JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}
