//! `cargo xtask fuzz`: builds the targets of `fuzz/` with the stable compiler and runs them.
//!
//! libFuzzer needs coverage counters, which a stable compiler emits when asked; cargo-fuzz adds a nightly compiler and the
//! address sanitizer, which code without `unsafe` does not need. The folder has the layout of cargo-fuzz, so its other
//! commands (`tmin`, `cmin`, `coverage`) work there too.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::process::{Failure, cargo, command, run as run_command, stdout};
use crate::workspace::Workspace;

/// Time of each target when nothing is said.
const DEFAULT_TIME: Duration = Duration::from_secs(60);

/// What cargo-fuzz passes, without a sanitizer.
const RUSTFLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares \
    -Ccodegen-units=1";

/// What to run, and for how long.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// All targets when `None`.
    target: Option<String>,
    time: Duration,
    /// Inputs to replay in place of fuzzing.
    files: Vec<PathBuf>,
}

impl Request {
    pub(crate) fn all(time: Duration) -> Self {
        Self { target: None, time, files: Vec::new() }
    }

    /// `[--seconds N | --minutes N] [TARGET [FILE...]]`
    ///
    /// # Errors
    /// On an unknown flag or a time that is no number.
    pub(crate) fn parse(args: &[String]) -> Result<Self, Failure> {
        let mut request = Self::all(DEFAULT_TIME);
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            if let "--seconds" | "--minutes" = arg.as_str() {
                let number = args.next().and_then(|number| number.parse::<u32>().ok());
                let number = number.ok_or_else(|| Failure::new(format!("{arg} needs a whole number")))?;
                let unit = Duration::from_secs(if arg == "--minutes" { 60 } else { 1 });
                request.time = unit * number;
            } else if arg.starts_with('-') {
                return Err(Failure::new(format!(
                    "unknown flag {arg}; fuzz takes --seconds N or --minutes N"
                )));
            } else if request.target.is_none() {
                request.target = Some(arg.clone());
            } else {
                request.files.push(PathBuf::from(arg));
            }
        }
        Ok(request)
    }
}

/// Builds, then runs one target after the other.
///
/// # Errors
/// When a target finds an input that fails; its path and the command that replays it are in the message.
pub(crate) fn run(workspace: &Workspace, request: Request) -> Result<(), Failure> {
    let known = targets(workspace)?;
    let chosen = match &request.target {
        Some(name) if known.contains(name) => vec![name.clone()],
        Some(name) => {
            return Err(Failure::new(format!("no fuzz target {name}; there are: {}", known.join(", "))));
        }
        None => known,
    };
    let programs = build(workspace, &chosen)?;
    for target in &chosen {
        let program = programs.join(target);
        if request.files.is_empty() {
            explore(workspace, &program, target, request.time)?;
        } else {
            let here = std::env::current_dir().map_err(|error| Failure::new(error.to_string()))?;
            run_command(command(&program, &here).args(&request.files))?;
        }
    }
    Ok(())
}

/// Compiles the targets and returns the folder of the programs.
fn build(workspace: &Workspace, targets: &[String]) -> Result<PathBuf, Failure> {
    let host = host(workspace)?;
    let target_dir = workspace.target.join("fuzz");
    let mut build = cargo(&workspace.fuzz_dir());
    // With `--target` the flags stay away from build scripts and procedural macros.
    build.args(["build", "--release", "--locked", "--target", &host, "--target-dir"]).arg(&target_dir);
    for target in targets {
        build.args(["--bin", target]);
    }
    run_command(build.env("RUSTFLAGS", RUSTFLAGS).env_remove("CARGO_ENCODED_RUSTFLAGS"))?;
    Ok(target_dir.join(host).join("release"))
}

/// Fuzzes from the committed seeds and the corpus of earlier runs. What libFuzzer says goes to a file beside the
/// programs; the numbers at its end are shown.
fn explore(workspace: &Workspace, program: &Path, target: &str, time: Duration) -> Result<(), Failure> {
    let fuzz = workspace.fuzz_dir();
    let corpus = fuzz.join("corpus").join(target);
    let artifacts = fuzz.join("artifacts").join(target);
    for folder in [&corpus, &artifacts] {
        fs::create_dir_all(folder)
            .map_err(|error| Failure::new(format!("cannot create {}: {error}", folder.display())))?;
    }
    let log = workspace.target.join("fuzz").join(format!("{target}.log"));
    let stderr = fs::File::create(&log)
        .map_err(|error| Failure::new(format!("cannot write {}: {error}", log.display())))?;
    let mut explore = command(program, &fuzz);
    explore.args([&corpus, &fuzz.join("seeds").join(target)]);
    explore.arg(format!("-artifact_prefix={}/", artifacts.display()));
    explore.arg(format!("-max_total_time={}", time.as_secs()));
    // An input that takes 5 s or 1 GiB is a finding.
    explore.args(["-print_final_stats=1", "-timeout=5", "-rss_limit_mb=1024"]);
    let result = run_command(explore.stderr(stderr));
    let said = fs::read(&log).unwrap_or_default();
    let said = String::from_utf8_lossy(&said);
    match result {
        Ok(()) => said.lines().filter(|line| line.starts_with("stat::")).for_each(|line| eprintln!("{line}")),
        Err(failure) => {
            eprintln!("{}", last_lines(&said, 60));
            return Err(Failure::new(format!(
                "{failure}; `cargo xtask fuzz {target} FILE` replays the input, which is in {}",
                artifacts.display()
            )));
        }
    }
    Ok(())
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// The names of `fuzz_targets/*.rs`, sorted.
fn targets(workspace: &Workspace) -> Result<Vec<String>, Failure> {
    let folder = workspace.fuzz_dir().join("fuzz_targets");
    let entries = fs::read_dir(&folder)
        .map_err(|error| Failure::new(format!("cannot read {}: {error}", folder.display())))?;
    let paths = entries.flatten().map(|entry| entry.path());
    let sources = paths.filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    let mut names: Vec<String> =
        sources.filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned())).collect();
    names.sort();
    Ok(names)
}

/// The triple of the machine, which cargo names folders by.
fn host(workspace: &Workspace) -> Result<String, Failure> {
    let version = stdout(command("rustc", &workspace.root).arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or_else(|| Failure::new("`rustc -vV` names no host"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Request, Failure> {
        Request::parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn a_request_has_a_time_a_target_and_files() {
        let request = parse("--seconds 5 smux a b").unwrap();
        assert_eq!(request.time, Duration::from_secs(5));
        assert_eq!(request.target.as_deref(), Some("smux"));
        assert_eq!(request.files, [PathBuf::from("a"), PathBuf::from("b")]);
    }

    #[test]
    fn a_time_is_in_seconds_or_minutes() {
        assert_eq!(parse("--minutes 5 smux").unwrap().time, Duration::from_secs(300));
        assert_eq!(parse("").unwrap().time, DEFAULT_TIME);
    }

    #[test]
    fn an_unknown_flag_is_refused() {
        assert!(parse("--hours 5").is_err());
        assert!(parse("--minutes").is_err());
        assert!(parse("--seconds soon").is_err());
    }
}
