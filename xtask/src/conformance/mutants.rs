//! A sample of mutations: each takes the behaviour of one item away, and the test of that item has to fail.
//!
//! They are made in a copy of the sources with a target folder of its own, one at a time.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::sample::{MUTANTS, Mutant};
use super::{Survey, Test, unreadable};
use crate::process::{Failure, cargo, command, stdout};
use crate::workspace::Workspace;

/// How long one test may take; a mutant may well hang.
const PATIENCE: Duration = Duration::from_secs(120);

/// What is wrong with the list: a text that is not there once, a test that is not there.
pub(super) fn mistakes(root: &Path, survey: &Survey) -> Vec<String> {
    let mut mistakes = Vec::new();
    for mutant in MUTANTS {
        let text = fs::read_to_string(root.join(mutant.file)).unwrap_or_default();
        let count = text.matches(mutant.from).count();
        if count != 1 {
            mistakes.push(format!(
                "the text to mutate for item {} is {count} times in {}",
                mutant.item, mutant.file
            ));
        }
        match survey.test(mutant.test) {
            Some(test) if test.items.contains(&mutant.item) => {}
            _ => mistakes.push(format!("{} is no test of item {}", mutant.test, mutant.item)),
        }
    }
    mistakes
}

/// Which mutations to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Choice {
    All,
    /// The first of the list.
    First(usize),
    /// Those of one item.
    Item(usize),
}

impl Choice {
    fn has(self, place: usize, mutant: &Mutant) -> bool {
        match self {
            Self::All => true,
            Self::First(number) => place < number,
            Self::Item(item) => mutant.item == item,
        }
    }
}

/// Makes mutations.
///
/// # Errors
/// When one survives, or does not compile.
pub(super) fn run(workspace: &Workspace, survey: &Survey, choice: Choice) -> Result<(), Failure> {
    let wrong = mistakes(&workspace.root, survey);
    if !wrong.is_empty() {
        return Err(Failure::new(wrong.join("\n")));
    }
    let chosen = MUTANTS.iter().enumerate().filter(|(place, mutant)| choice.has(*place, mutant));
    let chosen: Vec<&Mutant> = chosen.map(|(_, mutant)| mutant).collect();
    if chosen.is_empty() {
        return Err(Failure::new("there is no such mutation"));
    }
    let copy = Copy::of(workspace)?;
    let mut failed = Vec::new();
    for name in chosen.iter().map(|mutant| mutant.test).collect::<BTreeSet<_>>() {
        let Some(test) = survey.test(name) else { continue };
        match copy.outcome(test)? {
            Outcome::Passed => {}
            other => failed.push(format!("{name} without a mutation: {}", other.words())),
        }
    }
    if !failed.is_empty() {
        return Err(Failure::new(failed.join("\n")));
    }
    println!("without a mutation, all of them pass");
    for mutant in &chosen {
        let Some(test) = survey.test(mutant.test) else { continue };
        let start = Instant::now();
        let outcome = copy.mutated(mutant, || copy.outcome(test))?;
        let took = start.elapsed().as_secs_f64();
        let line = format!("item {:>3}  {:<8}  {took:>5.1} s  {}", mutant.item, outcome.words(), mutant.test);
        println!("{line}");
        if !matches!(outcome, Outcome::Failed | Outcome::Hung) {
            failed.push(format!("{line}: {} for {} in {}", mutant.to, mutant.from, mutant.file));
        }
    }
    println!("{} of {} mutants were noticed", chosen.len() - failed.len(), chosen.len());
    if failed.is_empty() { Ok(()) } else { Err(Failure::new(failed.join("\n"))) }
}

/// What came of one test.
#[derive(Clone, Copy)]
enum Outcome {
    Passed,
    Failed,
    Hung,
    NotCompiled,
    NotFound,
}

impl Outcome {
    fn words(self) -> &'static str {
        match self {
            Self::Passed => "survived",
            Self::Failed => "noticed",
            Self::Hung => "hung",
            Self::NotCompiled => "does not compile",
            Self::NotFound => "no such test",
        }
    }
}

/// A copy of the sources.
struct Copy {
    root: PathBuf,
    target: PathBuf,
}

impl Copy {
    /// Makes the copy, or brings one that is there up to date: what has not changed need not be compiled again.
    fn of(workspace: &Workspace) -> Result<Self, Failure> {
        let folder = workspace.target.join("mutate");
        let copy = Self { root: folder.join("sources"), target: folder.join("target") };
        for name in ["Cargo.toml", "Cargo.lock"] {
            bring(&workspace.root.join(name), &copy.root.join(name))?;
        }
        for name in ["crates", "xtask"] {
            mirror(&workspace.root.join(name), &copy.root.join(name))?;
        }
        Ok(copy)
    }

    fn mutated<T>(&self, mutant: &Mutant, then: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
        let path = self.root.join(mutant.file);
        let text = fs::read_to_string(&path).map_err(|error| unreadable(&path, &error))?;
        write(&path, text.replacen(mutant.from, mutant.to, 1).as_bytes())?;
        let outcome = then();
        write(&path, text.as_bytes())?;
        outcome
    }

    fn outcome(&self, test: &Test) -> Result<Outcome, Failure> {
        let Some(program) = self.program(test) else { return Ok(Outcome::NotCompiled) };
        let folder = self.root.join("crates").join(test.package());
        let log = self.root.with_file_name("output");
        let output = fs::File::create(&log).map_err(|error| unreadable(&log, &error))?;
        let mut command = command(program, &folder);
        command.args([&test.name, "--test-threads=1"]).stdout(output).stderr(Stdio::null());
        let Some(passed) = watch(&mut command)? else { return Ok(Outcome::Hung) };
        // What a test prints need not be text.
        let said = fs::read(&log).map_err(|error| unreadable(&log, &error))?;
        Ok(match passed {
            _ if !String::from_utf8_lossy(&said).contains("running 1 test\n") => Outcome::NotFound,
            true => Outcome::Passed,
            false => Outcome::Failed,
        })
    }

    /// The program that has the test in it, freshly compiled.
    fn program(&self, test: &Test) -> Option<PathBuf> {
        let package = test.package();
        let mut build = cargo(&self.root);
        // A mutation may leave something unused.
        build
            .env_remove("RUSTC_WORKSPACE_WRAPPER")
            .env_remove("CLIPPY_ARGS")
            .env("RUSTFLAGS", "--cap-lints=allow");
        build.env("CARGO_TARGET_DIR", &self.target);
        build.args([
            "test",
            "--quiet",
            "--locked",
            "--no-run",
            "--message-format=json",
            "--package",
            &package,
        ]);
        match test.integration() {
            Some(name) => build.args(["--test", &name]),
            None => build.arg("--lib"),
        };
        let messages = stdout(&mut build).ok()?;
        let mut artifacts = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        artifacts.find_map(|artifact| Some(PathBuf::from(artifact["executable"].as_str()?)))
    }
}

/// Whether a program succeeds; `None` when it takes too long, which is the end of it.
fn watch(command: &mut Command) -> Result<Option<bool>, Failure> {
    let failed = |error: std::io::Error| Failure::new(format!("the test cannot be run: {error}"));
    let mut child = command.spawn().map_err(failed)?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().map_err(failed)? {
            return Ok(Some(status.success()));
        }
        if Instant::now() > deadline {
            child.kill().and_then(|()| child.wait()).map_err(failed)?;
            return Ok(None);
        }
        sleep(Duration::from_millis(20));
    }
}

/// Makes `to` a copy of the folder `from`.
fn mirror(from: &Path, to: &Path) -> Result<(), Failure> {
    let names = |folder: &Path| -> Result<BTreeSet<_>, Failure> {
        let entries = fs::read_dir(folder).map_err(|error| unreadable(folder, &error))?;
        Ok(entries.filter_map(Result::ok).map(|entry| entry.file_name()).collect())
    };
    fs::create_dir_all(to).map_err(|error| unreadable(to, &error))?;
    let wanted = names(from)?;
    for surplus in names(to)?.difference(&wanted) {
        let path = to.join(surplus);
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.map_err(|error| unreadable(&path, &error))?;
    }
    for name in wanted {
        let (from, to) = (from.join(&name), to.join(&name));
        if from.is_dir() { mirror(&from, &to)? } else { bring(&from, &to)? }
    }
    Ok(())
}

/// Copies a file, unless the copy is the same.
fn bring(from: &Path, to: &Path) -> Result<(), Failure> {
    let bytes = fs::read(from).map_err(|error| unreadable(from, &error))?;
    if fs::read(to).is_ok_and(|there| there == bytes) {
        return Ok(());
    }
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).map_err(|error| unreadable(folder, &error))?;
    }
    write(to, &bytes)
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    fs::write(path, bytes).map_err(|error| unreadable(path, &error))
}
