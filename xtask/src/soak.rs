//! `cargo xtask soak`: the program under load for a long time, while the gateway cuts and loses.

use std::path::Path;

use crate::process::{Failure, cargo, run as run_command};
use crate::workspace::Workspace;

const USAGE: &str = "usage: cargo xtask soak [--minutes N] [--ssm PROGRAM]";

/// `[--minutes N] [--ssm PROGRAM]`; 30 minutes, with the program that the tests build.
pub(crate) fn run(workspace: &Workspace, args: &[String]) -> Result<(), Failure> {
    let (mut minutes, mut program) = (30_u32, None);
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let value = args.next().ok_or_else(|| Failure::new(USAGE))?;
        match arg.as_str() {
            "--minutes" => minutes = value.parse().map_err(|_| Failure::new(USAGE))?,
            "--ssm" => {
                let path = Path::new(value).canonicalize();
                program = Some(path.map_err(|error| Failure::new(format!("{value}: {error}")))?);
            }
            _ => return Err(Failure::new(USAGE)),
        }
    }
    let mut command = cargo(&workspace.root);
    command.args(["test", "--workspace", "--locked", "--test", "e2e", "--", "--nocapture", "--exact", TEST]);
    command.env("SSM_SOAK_SECONDS", (60 * u64::from(minutes)).to_string());
    if let Some(program) = program {
        command.env("SSM_TEST_PROGRAM", program);
    }
    run_command(&mut command)
}

const TEST: &str = "soak::everything_survives_a_gateway_that_cuts_and_loses";
