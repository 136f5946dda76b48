//! `cargo xtask bench`: the benches by short name.

use crate::process::{Failure, cargo, run as run_command};
use crate::workspace::Workspace;

struct Bench {
    name: &'static str,
    package: &'static str,
    /// For `cargo bench`, in addition.
    features: &'static [&'static str],
}

const BENCHES: &[Bench] = &[
    Bench { name: "codec", package: "ssm-proto", features: &[] },
    Bench { name: "pair", package: "ssm-channel", features: &[] },
    Bench { name: "frames", package: "ssm-smux", features: &[] },
    Bench { name: "resume", package: "ssm-portfwd", features: &[] },
    Bench { name: "resume", package: "ssm-shell", features: &[] },
    // With what starts sessions, which lanes need, and without what looks targets up, which takes minutes to build.
    Bench { name: "tunnel", package: "ssm-cli", features: TUNNEL },
    Bench { name: "command", package: "ssm-cli", features: TUNNEL },
    Bench { name: "shell", package: "ssm-cli", features: &["--no-default-features", "--features", "demo"] },
];

const TUNNEL: &[&str] = &["--no-default-features", "--features", "aws,demo"];

/// `[NAME...] [-- ARGS...]`; the arguments go to the benches.
pub(crate) fn run(workspace: &Workspace, args: &[String]) -> Result<(), Failure> {
    let (names, passed) = match args.iter().position(|arg| arg == "--") {
        Some(at) => (&args[..at], &args[at + 1..]),
        None => (args, &[][..]),
    };
    let mut known: Vec<&str> = BENCHES.iter().map(|bench| bench.name).collect();
    known.dedup();
    let known = known.join(", ");
    if let Some(unknown) = names.iter().find(|name| !BENCHES.iter().any(|bench| bench.name == *name)) {
        return Err(Failure::new(format!("no bench {unknown}; there are: {known}")));
    }
    for Bench { name, package, features } in BENCHES {
        if names.is_empty() || names.iter().any(|chosen| chosen == name) {
            let mut command = cargo(&workspace.root);
            command.args(["bench", "--locked", "--package", package]).args(*features);
            run_command(command.args(["--bench", name, "--"]).args(passed))?;
        }
    }
    Ok(())
}
