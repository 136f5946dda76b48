//! `cargo xtask check`: everything that can be said about the sources without running them.

use std::process::Command;

use crate::conformance;
use crate::layers;
use crate::process::{Failure, cargo, command, run as run_command};
use crate::setup;
use crate::steps::Steps;
use crate::workspace::Workspace;

/// The step that compiles the tests.
pub(crate) const CLIPPY: &str = "clippy";

/// The feature set of `cargo demo`.
const DEMO: &[&str] = &["--package", "ssm-cli", "--no-default-features", "--features", "demo"];

pub(crate) fn run(workspace: &Workspace) -> Result<(), Failure> {
    let mut steps = Steps::default();
    setup::cargo_deny(workspace)?;
    run_steps(workspace, &mut steps);
    steps.finish()
}

/// Every check as a step of its own.
pub(crate) fn run_steps(workspace: &Workspace, steps: &mut Steps) {
    steps.run("format", || format(workspace));
    steps.run("conformance", || conformance::check(workspace));
    steps.run("edges", || layers::check_edges(workspace));
    steps.run("trees", || layers::check_trees(workspace));
    steps.run("deny", || deny(workspace));
    steps.run(CLIPPY, || clippy(workspace));
    steps.run("clippy of the demo", || clippy_demo(workspace));
    steps.run("docs", || docs(workspace));
}

fn format(workspace: &Workspace) -> Result<(), Failure> {
    run_command(cargo(&workspace.root).args(["fmt", "--all", "--check"]))?;
    run_command(cargo(&workspace.fuzz_dir()).args(["fmt", "--check"]))
}

/// Lints while it compiles what [`test`](crate::test) runs, so that no dependency is compiled once for clippy and once for the
/// tests: aws-sdk-ec2 alone takes minutes and gigabytes.
fn clippy(workspace: &Workspace) -> Result<(), Failure> {
    let mut tests = cargo(&workspace.root);
    compile_by_clippy(&mut tests);
    run_command(tests.args(["test", "--workspace", "--all-targets", "--no-run", "--locked"]))
}

/// Makes clippy, which is a compiler with lints, compile our own crates. `cargo clippy` does the same for `cargo check`.
pub(crate) fn compile_by_clippy(cargo: &mut Command) {
    cargo.env("RUSTC_WORKSPACE_WRAPPER", "clippy-driver").env("CLIPPY_ARGS", "-Dwarnings");
}

/// Code that only exists, or is only unused, without the AWS SDK.
fn clippy_demo(workspace: &Workspace) -> Result<(), Failure> {
    let mut clippy = cargo(&workspace.root);
    run_command(clippy.arg("clippy").args(DEMO).args(["--locked", "--", "-D", "warnings"]))
}

/// Without the AWS SDK, which rustdoc would want compiled in a way of its own; so the docs of the two modules on it are not
/// checked. `--examples` makes cargo unify features as tests do.
fn docs(workspace: &Workspace) -> Result<(), Failure> {
    let mut doc = cargo(&workspace.root);
    doc.args(["doc", "--workspace", "--no-deps", "--locked", "--lib", "--bins", "--examples"]);
    doc.args(["--no-default-features", "--features", "ssm-cli/demo,ssm-cli/metrics,ssm-resolve/dns"]);
    run_command(doc.env("RUSTDOCFLAGS", "-D warnings"))
}

/// Both packages share one file of rules. An exception that nothing needs is an error in the main one.
fn deny(workspace: &Workspace) -> Result<(), Failure> {
    const MAIN: &[&str] =
        &["-D", "unmatched-skip", "-D", "license-not-encountered", "-A", "license-exception-not-encountered"];
    const FUZZ: &[&str] = &["-A", "unmatched-skip", "-A", "license-not-encountered"];
    let program = setup::cargo_deny(workspace)?;
    let config = workspace.root.join("deny.toml");
    for (directory, lints) in [(&workspace.root, MAIN), (&workspace.fuzz_dir(), FUZZ)] {
        let mut deny = command(&program, directory);
        deny.args(["--locked", "--config"]).arg(&config).arg("check").args(lints);
        run_command(deny.args(["bans", "licenses", "sources"]))?;
    }
    Ok(())
}
