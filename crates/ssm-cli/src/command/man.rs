//! `ssm man`

use std::fs;
use std::process::ExitCode;

use clap::CommandFactory;

use crate::args::{Args, ManArgs};
use crate::error::Error;

/// Runs the command.
pub(crate) fn run(args: &ManArgs) -> Result<ExitCode, Error> {
    let write = || {
        fs::create_dir_all(&args.folder)?;
        clap_mangen::generate_to(Args::command(), &args.folder)
    };
    write().map_err(Error::local("cannot write the manual pages"))?;
    Ok(ExitCode::SUCCESS)
}
