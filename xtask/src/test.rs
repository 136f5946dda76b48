//! `cargo xtask test`: what a change has to pass.

use std::time::Duration;

use crate::process::{Failure, cargo, run as run_command};
use crate::steps::Steps;
use crate::workspace::Workspace;
use crate::{check, fuzz, setup, sim};

/// Time of each fuzz target: long enough to replay the seeds and find what is near them.
const SHORT_FUZZ: Duration = Duration::from_secs(8);

/// Simulated sessions: half a minute on two cores, and as long to compile them.
const SESSIONS: u64 = 20_000;

/// Whether the fuzz targets run at the end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fuzzing {
    Short,
    Skip,
}

/// Setup, then every check and test; one failure does not hide the next.
pub(crate) fn run(workspace: &Workspace, fuzzing: Fuzzing) -> Result<(), Failure> {
    let mut steps = Steps::default();
    let mut tools = None;
    steps.run("setup", || setup::run(workspace).map(|found| tools = Some(found)));
    let Some(tools) = tools else {
        return steps.finish();
    };
    check::run_steps(workspace, &mut steps);
    let compiled = steps.passed(check::CLIPPY);
    steps.run("tests", || {
        let mut tests = cargo(&workspace.root);
        // A lint that fails must not keep the tests from running: then they are compiled without lints.
        if compiled {
            check::compile_by_clippy(&mut tests);
        }
        tools.export(&mut tests);
        run_command(tests.args(["test", "--workspace", "--locked", "--no-fail-fast"]))
    });
    steps.run("sim", || sim::run(workspace, &sim::Request::new(SESSIONS)));
    match fuzzing {
        Fuzzing::Short => steps.run("fuzz", || fuzz::run(workspace, fuzz::Request::all(SHORT_FUZZ))),
        Fuzzing::Skip => eprintln!("\n=== fuzz: left out by --no-fuzz"),
    }
    steps.finish()
}
