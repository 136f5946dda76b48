//! `cargo xtask mutants`: changes the state machines a line at a time and sees whether a test notices.
//!
//! Takes hours, and is run by hand. What survives is killed by a test or explained in docs/testing.md.

use std::fs;

use crate::process::{Failure, run as run_command};
use crate::setup;
use crate::workspace::Workspace;

/// The crates it is for, when nothing is said.
const PACKAGES: [&str; 2] = ["ssm-proto", "ssm-channel"];

/// Random tests play less than usual: a mutation that matters fails soon.
const SHORTER: [(&str, &str); 2] = [("SSM_SIM_SEEDS", "250"), ("SSM_SIM_SESSIONS", "60")];

/// What to change.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Request {
    packages: Vec<String>,
    /// `K/N`: the K-th of N parts, from 0.
    shard: Option<String>,
    /// Only these source files, by glob.
    files: Vec<String>,
}

impl Request {
    /// `[-p CRATE]... [--shard K/N] [-f FILE]...`
    ///
    /// # Errors
    /// On an unknown flag or one without its value.
    pub(crate) fn parse(args: &[String]) -> Result<Self, Failure> {
        let mut request = Self { packages: Vec::new(), shard: None, files: Vec::new() };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let value = args.next().cloned().ok_or_else(|| Failure::new(format!("{arg} needs a value")));
            match arg.as_str() {
                "-p" => request.packages.push(value?),
                "--shard" => request.shard = Some(value?),
                "-f" => request.files.push(value?),
                _ => {
                    let usage = "mutants takes -p CRATE, --shard K/N and -f FILE";
                    return Err(Failure::new(format!("unknown flag {arg}; {usage}")));
                }
            }
        }
        if request.packages.is_empty() {
            request.packages = PACKAGES.map(str::to_owned).into();
        }
        Ok(request)
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
        let output = workspace.target.join("mutants").join(package);
        fs::create_dir_all(&output)
            .map_err(|error| Failure::new(format!("cannot create {}: {error}", output.display())))?;
        let mut mutants = crate::process::command(&program, &workspace.root);
        mutants
            .args(["mutants", "--package", package, "--jobs", "1", "--no-shuffle", "--output"])
            .arg(&output);
        // A mutation is compiled and run once: compiling is what takes long.
        let config = format!("--cargo-arg=--config=profile.dev.package.{package}.opt-level=1");
        mutants.args([&config, "--cargo-test-arg=--lib", "--cargo-test-arg=--tests", "--timeout=90"]);
        if let Some(shard) = &request.shard {
            mutants.args(["--shard", shard]);
        }
        for file in &request.files {
            mutants.args(["--file", file]);
        }
        mutants.envs(SHORTER);
        if let Err(failure) = run_command(&mut mutants) {
            eprintln!("xtask: {package}: {failure}");
            survived.push(package.as_str());
        }
    }
    if survived.is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!("mutations survived in {}; docs/testing.md explains some", survived.join(", "))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Request, Failure> {
        Request::parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn without_words_both_crates_are_changed() {
        assert_eq!(parse("").unwrap().packages, PACKAGES);
    }

    #[test]
    fn a_part_of_one_crate_can_be_chosen() {
        let request = parse("-p ssm-channel --shard 1/4 -f **/rtt.rs").unwrap();
        assert_eq!(request.packages, ["ssm-channel"]);
        assert_eq!((request.shard.as_deref(), request.files.len()), (Some("1/4"), 1));
        assert!(parse("-p").is_err() && parse("--jobs 2").is_err());
    }
}
