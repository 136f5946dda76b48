//! `cargo xtask bench`: the benches by short name.

use crate::process::{Failure, cargo, run as run_command};
use crate::workspace::Workspace;

/// Name, package, bench target.
const BENCHES: &[(&str, &str, &str)] =
    &[("codec", "ssm-proto", "codec"), ("pair", "ssm-channel", "pair"), ("frames", "ssm-smux", "frames")];

/// `[NAME] [-- ARGS...]`; the arguments go to criterion.
pub(crate) fn run(workspace: &Workspace, args: &[String]) -> Result<(), Failure> {
    let (names, passed) = match args.iter().position(|arg| arg == "--") {
        Some(at) => (&args[..at], &args[at + 1..]),
        None => (args, &[][..]),
    };
    let known = BENCHES.iter().map(|(name, ..)| *name).collect::<Vec<_>>().join(", ");
    if let Some(unknown) = names.iter().find(|name| !BENCHES.iter().any(|(known, ..)| known == name)) {
        return Err(Failure::new(format!("no bench {unknown}; there are: {known}")));
    }
    for (name, package, bench) in BENCHES {
        if names.is_empty() || names.iter().any(|chosen| chosen == name) {
            let mut command = cargo(&workspace.root);
            command.args(["bench", "--locked", "--package", package, "--bench", bench, "--"]);
            run_command(command.args(passed))?;
        }
    }
    Ok(())
}
