//! `cargo xtask mutants`: changes the state machines a line at a time and sees whether a test notices.
//!
//! Takes hours, and is run by hand: compiling a change takes four fifths of its time, so most are tried with the quick tests only,
//! and what survives those once more with all of them. What survives both is killed by a test or explained in docs/testing.md.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::{Failure, command, status};
use crate::setup;
use crate::workspace::Workspace;

/// The crates it is for, when nothing is said.
const PACKAGES: [&str; 2] = ["ssm-proto", "ssm-channel"];

/// What to change.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Request {
    packages: Vec<String>,
    /// `K/N`: the K-th of N parts, from 0.
    shard: Option<String>,
    /// Only these source files, by glob.
    files: Vec<String>,
    /// Where it begins.
    first: Pass,
}

/// One way through the changes of a crate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pass {
    /// With all tests but those that move megabytes, and with few random ones: a mutation that matters fails soon.
    Quick,
    /// Over what is left of the last one, with all tests.
    Thorough,
}

impl Request {
    /// `[-p CRATE]... [--shard K/N] [-f FILE]... [--again]`
    ///
    /// # Errors
    /// On an unknown flag or one without its value.
    pub(crate) fn parse(args: &[String]) -> Result<Self, Failure> {
        let mut request = Self { packages: Vec::new(), shard: None, files: Vec::new(), first: Pass::Quick };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let mut value =
                || args.next().cloned().ok_or_else(|| Failure::new(format!("{arg} needs a value")));
            match arg.as_str() {
                "-p" => request.packages.push(value()?),
                "--shard" => request.shard = Some(value()?),
                "-f" => request.files.push(value()?),
                "--again" => request.first = Pass::Thorough,
                _ => {
                    let usage = "mutants takes -p CRATE, --shard K/N, -f FILE and --again";
                    return Err(Failure::new(format!("unknown flag {arg}; {usage}")));
                }
            }
        }
        if request.packages.is_empty() {
            request.packages = PACKAGES.map(str::to_owned).into();
        }
        Ok(request)
    }

    /// Where the lists of `package` go: each part has its own.
    fn output(&self, workspace: &Workspace, package: &str) -> PathBuf {
        let part = self.shard.iter().map(|shard| format!("-{}", shard.replace('/', "-of-")));
        workspace.target.join("mutants").join(package.to_owned() + &part.collect::<String>())
    }
}

/// Runs one package after the other, in a copy of the sources. The lists of what was caught and missed are in
/// `target/mutants/CRATE`.
///
/// # Errors
/// When a mutation survives.
pub(crate) fn run(workspace: &Workspace, request: &Request) -> Result<(), Failure> {
    let program = setup::cargo_mutants(workspace)?;
    let mut survived = Vec::new();
    for package in &request.packages {
        let output = request.output(workspace, package);
        fs::create_dir_all(&output)
            .map_err(|error| Failure::new(format!("cannot create {}: {error}", output.display())))?;
        let mut left = true;
        if request.first == Pass::Quick {
            left = survives(&mut mutants(workspace, &program, request, package, Pass::Quick), &output)?;
        }
        if left && survives(&mut mutants(workspace, &program, request, package, Pass::Thorough), &output)? {
            survived.push(package.as_str());
        }
    }
    if survived.is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!("mutations survived in {}; docs/testing.md explains some", survived.join(", "))))
}

fn mutants(workspace: &Workspace, program: &Path, request: &Request, package: &str, pass: Pass) -> Command {
    let mut mutants = command(program, &workspace.root);
    mutants
        .args(["mutants", "--package", package, "--jobs", "1", "--no-shuffle", "--output"])
        .arg(request.output(workspace, package));
    // Each is compiled for a run of seconds, and may leave something unused.
    mutants.arg(format!("--cargo-arg=--config=profile.dev.package.{package}.opt-level=1"));
    mutants.args(["--cargo-arg=--config=profile.dev.debug=false", "--cap-lints=true"]);
    mutants.env_remove("RUSTC_WORKSPACE_WRAPPER").env_remove("CLIPPY_ARGS");
    mutants.env("CARGO_TARGET_DIR", workspace.target.join("mutants/build"));
    mutants.args(["--cargo-test-arg=--lib", "--cargo-test-arg=--tests"]);
    if let Some(shard) = &request.shard {
        mutants.args(["--shard", shard]);
    }
    for file in &request.files {
        mutants.args(["--file", file]);
    }
    match pass {
        Pass::Quick => {
            mutants.env("SSM_SIM_SEEDS", "40").env("SSM_SIM_SESSIONS", "15");
            mutants.args(["--timeout=40", "--", "--", "--skip", "flow::"]);
        }
        Pass::Thorough => {
            mutants.env("SSM_SIM_SEEDS", "250").env("SSM_SIM_SESSIONS", "60");
            mutants.args(["--timeout=90", "--iterate"]);
        }
    }
    mutants
}

/// Runs a pass, and says whether a mutation survived or ran out of time in it.
fn survives(mutants: &mut Command, output: &Path) -> Result<bool, Failure> {
    match status(mutants)?.code() {
        Some(0) => Ok(false),
        Some(MISSED | TIMED_OUT) => Ok(true),
        _ => Err(Failure::new(format!("cargo-mutants did not do its work; see {}", output.display()))),
    }
}

/// Exit codes of cargo-mutants.
const MISSED: i32 = 2;
const TIMED_OUT: i32 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Request, Failure> {
        Request::parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn without_words_both_crates_are_changed() {
        let request = parse("").unwrap();
        assert_eq!((request.first, request.packages), (Pass::Quick, PACKAGES.map(str::to_owned).to_vec()));
    }

    #[test]
    fn a_part_of_one_crate_can_be_chosen() {
        let request = parse("-p ssm-channel --shard 1/4 --again -f **/rtt.rs").unwrap();
        assert_eq!(request.packages, ["ssm-channel"]);
        assert_eq!((request.shard.as_deref(), request.files.len()), (Some("1/4"), 1));
        assert_eq!(request.first, Pass::Thorough);
        assert!(parse("-p").is_err() && parse("--jobs 2").is_err());
    }
}
