//! Running other programs: every command is echoed, and a failure names the command that failed.

use std::ffi::OsStr;
use std::fmt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::Duration;

/// Waits between the tries of [`retry`].
const BACKOFF: [Duration; 2] = [Duration::from_secs(3), Duration::from_secs(15)];

/// Why a task did not succeed, as a message for the person at the terminal.
#[derive(Debug)]
pub(crate) struct Failure(String);

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A command without terminal input, in `directory`.
pub(crate) fn command(program: impl AsRef<OsStr>, directory: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(directory).stdin(Stdio::null());
    command
}

/// The cargo that runs this task, in `directory`.
pub(crate) fn cargo(directory: &Path) -> Command {
    command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()), directory)
}

/// Runs to the end with inherited output.
pub(crate) fn run(command: &mut Command) -> Result<(), Failure> {
    let status = status(command)?;
    if status.success() { Ok(()) } else { Err(Failure::new(format!("`{}`: {status}", shown(command)))) }
}

/// The same for a program whose exit code says more than whether it failed.
pub(crate) fn status(command: &mut Command) -> Result<ExitStatus, Failure> {
    eprintln!("$ {}", shown(command));
    command.status().map_err(|error| cannot_start(command, &error))
}

/// Runs to the end and returns stdout; stderr is inherited.
pub(crate) fn stdout(command: &mut Command) -> Result<String, Failure> {
    let output = command.stderr(Stdio::inherit()).output().map_err(|error| cannot_start(command, &error))?;
    if !output.status.success() {
        return Err(Failure::new(format!("`{}`: {}", shown(command), output.status)));
    }
    String::from_utf8(output.stdout)
        .map_err(|_| Failure::new(format!("`{}`: its output is not UTF-8", shown(command))))
}

/// Runs a command that downloads: three tries, waiting longer each time.
pub(crate) fn retry(command: &mut Command) -> Result<(), Failure> {
    for wait in BACKOFF {
        match run(command) {
            Ok(()) => return Ok(()),
            Err(failure) => eprintln!("xtask: {failure}; next try in {} s", wait.as_secs()),
        }
        sleep(wait);
    }
    run(command)
}

fn cannot_start(command: &Command, error: &std::io::Error) -> Failure {
    Failure::new(format!("`{}` cannot be started: {error}", shown(command)))
}

/// Program and arguments; the environment is left out.
fn shown(command: &Command) -> String {
    let program = command.get_program();
    let name = Path::new(program).file_name().unwrap_or(program);
    let words = std::iter::once(name).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}
