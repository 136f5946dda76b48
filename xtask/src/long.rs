//! `cargo xtask long`: commands and copies that are too large for `cargo xtask test`, against `ssm loopback`.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::example::Example;
use crate::process::{Failure, cargo, command, run as run_command};
use crate::steps::Steps;
use crate::workspace::Workspace;

const FILES: usize = 10_000;
const LARGE: u64 = 1 << 30;
const OUTPUT: u64 = 100_000_000;

/// How long half of a large copy may take.
const HALF: Duration = Duration::from_secs(900);

/// `[--ssm PROGRAM]`; without, a release build of the default features is made.
pub(crate) fn run(workspace: &Workspace, args: &[String]) -> Result<(), Failure> {
    let program = match args {
        [] => build(workspace)?,
        [flag, program] if flag == "--ssm" => PathBuf::from(program),
        _ => return Err(Failure::new("usage: cargo xtask long [--ssm PROGRAM]")),
    };
    let folder = workspace.target.join("long");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).map_err(failed)?;
    let loopback = Loopback::start(program.canonicalize().map_err(failed)?, &folder)?;
    let mut steps = Steps::default();
    steps.run("100 MB of output", || loopback.output(&folder));
    steps.run("100 MB of input", || loopback.input(&folder));
    steps.run("10,000 files", || loopback.files(&folder));
    steps.run("1 GiB up", || loopback.large(&folder, "up"));
    steps.run("1 GiB down", || loopback.large(&folder, "down"));
    drop(loopback);
    steps.run("clean", || fs::remove_dir_all(&folder).map_err(failed));
    steps.finish()
}

fn build(workspace: &Workspace) -> Result<PathBuf, Failure> {
    run_command(cargo(&workspace.root).args(["build", "--locked", "--release", "--package", "ssm-cli"]))?;
    Ok(workspace.target.join("release/ssm"))
}

/// A running `ssm loopback`.
struct Loopback {
    process: Child,
    program: PathBuf,
    folder: PathBuf,
    example: Example,
}

impl Loopback {
    fn start(program: PathBuf, folder: &Path) -> Result<Self, Failure> {
        let mut command = clean(&program, folder);
        let process = command.arg("loopback").stderr(Stdio::piped()).spawn().map_err(failed)?;
        let mut loopback = Self { process, program, folder: folder.to_owned(), example: Example::default() };
        let stderr = loopback.process.stderr.take();
        let mut stderr = BufReader::new(stderr.ok_or_else(|| Failure::new("ssm loopback has no stderr"))?);
        let mut said = String::new();
        while stderr.read_line(&mut said).map_err(failed)? > 0 {
            if let Some(example) = Example::find(&said) {
                loopback.example = example;
                return Ok(loopback);
            }
        }
        Err(Failure::new("ssm loopback has not started"))
    }

    fn ssm(&self, words: &[&str]) -> Command {
        let mut ssm = clean(&self.program, &self.folder);
        ssm.args(words).envs(self.example.variables.iter().cloned());
        ssm
    }

    fn there(&self, path: &Path) -> String {
        format!("{}:{}", self.example.target, path.display())
    }

    fn copy(&self, from: &str, to: &str) -> Result<(), Failure> {
        run_command(&mut self.ssm(&["cp", from, to]))
    }

    fn output(&self, folder: &Path) -> Result<(), Failure> {
        let (from, to) = (folder.join("output"), folder.join("output.copy"));
        random_file(&from, OUTPUT)?;
        let line = format!("cat {}", from.display());
        let mut exec = self.ssm(&["exec", "-n", &self.example.target, "--", &line]);
        timed(OUTPUT, || run_command(exec.stdout(File::create(&to).map_err(failed)?)))?;
        same(&from, &to)
    }

    fn input(&self, folder: &Path) -> Result<(), Failure> {
        let (from, to) = (folder.join("output"), folder.join("input.copy"));
        let line = format!("cat > {}", to.display());
        let mut exec = self.ssm(&["exec", &self.example.target, "--", &line]);
        timed(OUTPUT, || run_command(exec.stdin(File::open(&from).map_err(failed)?)))?;
        same(&from, &to)
    }

    fn files(&self, folder: &Path) -> Result<(), Failure> {
        let (from, there, back) =
            (folder.join("files"), folder.join("files.there"), folder.join("files.back"));
        for number in 0..FILES {
            let inside = from.join(format!("{:02}", number % 100));
            fs::create_dir_all(&inside).map_err(failed)?;
            fs::write(inside.join(format!("file {number}")), number.to_string().repeat(number % 800))
                .map_err(failed)?;
        }
        self.copy(&from.display().to_string(), &self.there(&there))?;
        self.copy(&self.there(&there), &back.display().to_string())?;
        run_command(command("diff", folder).arg("-r").args([&from, &back]))
    }

    /// Interrupts the copy at half and asks for it again.
    fn large(&self, folder: &Path, way: &str) -> Result<(), Failure> {
        let (from, to) = (folder.join("large"), folder.join(format!("large.{way}")));
        if !from.exists() {
            random_file(&from, LARGE)?;
        }
        let (here, there) = match way {
            "up" => (from.display().to_string(), self.there(&to)),
            _ => (self.there(&from), to.display().to_string()),
        };
        let part = folder.join(format!(".large.{way}.ssm-part"));
        let mut child = self.ssm(&["cp", &here, &there]).spawn().map_err(failed)?;
        let start = Instant::now();
        while fs::metadata(&part).map_or(0, |found| found.len()) < LARGE / 2 {
            if start.elapsed() > HALF || child.try_wait().map_err(failed)?.is_some() {
                return Err(Failure::new("the copy did not come to its half"));
            }
            sleep(Duration::from_millis(20));
        }
        eprintln!("half of it took {:.1} s", start.elapsed().as_secs_f64());
        run_command(command("kill", folder).args(["-INT", &child.id().to_string()]))?;
        let status = child.wait().map_err(failed)?;
        if status.code() != Some(130) {
            return Err(Failure::new(format!("interrupted: {status}")));
        }
        let left = LARGE - fs::metadata(&part).map_err(failed)?.len();
        timed(left, || self.copy(&here, &there))?;
        same(&from, &to)
    }
}

impl Drop for Loopback {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A program that finds nothing of whoever runs this.
fn clean(program: &Path, home: &Path) -> Command {
    let mut command = command(program, home);
    command.env_clear().env("HOME", home).env("TMPDIR", home);
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command
}

fn timed(bytes: u64, work: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
    let start = Instant::now();
    work()?;
    let took = start.elapsed().as_secs_f64();
    eprintln!("{:.1} MiB/s", bytes as f64 / f64::from(1 << 20) / took);
    Ok(())
}

fn same(one: &Path, other: &Path) -> Result<(), Failure> {
    run_command(command("cmp", Path::new("/")).args([one, other]))
}

/// Bytes that no compression helps with, the same each time.
fn random_file(path: &Path, len: u64) -> Result<(), Failure> {
    let write = || -> io::Result<()> {
        let mut file = io::BufWriter::new(File::create(path)?);
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..len / 8 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            file.write_all(&state.to_le_bytes())?;
        }
        file.flush()
    };
    write().map_err(failed)
}

fn failed(error: io::Error) -> Failure {
    Failure::new(error.to_string())
}
