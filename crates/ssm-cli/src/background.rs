//! A command that goes on after the shell has its prompt back.
//!
//! This program starts itself once more, with the same arguments and `--detached` behind them. The new process keeps stdout and
//! stderr, so that what it says about its start looks as always; its stdin is a socket, on which it says when everything is
//! ready. Then it leaves the terminal, with a log in place of stdout and stderr, and the first process ends.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus};
use std::sync::OnceLock;
use std::time::Duration;

use rustix::process::{Pid, Signal as Number, kill_process, setsid};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::process::{Child, Command};

use crate::error::Error;
use crate::output;
use crate::places;
use crate::process::Signals;
use crate::registry;

/// The flag of the second process.
pub(crate) const DETACHED: &str = "--detached";

/// Said by the second process when it is ready.
const READY: u8 = b'r';

/// How long logs of tunnels that are over are kept.
const LOG_KEPT: Duration = Duration::from_secs(14 * 24 * 3600);

/// What the name of a log ends in; in front of it is the id of the tunnel.
const LOG_SUFFIX: &str = ".log";

/// Tells the second process the target that was found, so that it asks nobody again.
const TARGET_VARIABLE: &str = "SSM_BACKGROUND_TARGET";

static TARGET: OnceLock<String> = OnceLock::new();

/// Gives the second process the target that was found. To be called before [`launch`]; the first call counts.
#[cfg(feature = "lookup")]
pub(crate) fn hand_over(target: &str) {
    let _ = TARGET.set(target.to_owned());
}

/// The target that the first process has found.
#[cfg(feature = "lookup")]
pub(crate) fn handed_over() -> Option<String> {
    std::env::var(TARGET_VARIABLE).ok()
}

/// Starts the second process and waits until it is ready, which may take `timeout`; ends with its exit code when it fails.
pub(crate) async fn launch(timeout: Option<Duration>, signals: &mut Signals) -> Result<ExitCode, Error> {
    let start = Error::local("cannot go to the background");
    let (mut child, mut socket) = match spawn() {
        Ok(spawned) => spawned,
        Err(error) => return Err(start(error)),
    };
    let limit = async {
        match timeout {
            Some(timeout) => tokio::time::sleep(timeout).await,
            None => std::future::pending().await,
        }
    };
    let mut said = [0];
    tokio::select! {
        ready = socket.read(&mut said) => {
            if matches!(ready, Ok(1)) && said == [READY] {
                return Ok(ExitCode::SUCCESS);
            }
            let status = child.wait().await.map_err(Error::local("cannot wait for the background"))?;
            Ok(exit_code(status))
        }
        signal = signals.next() => {
            end(&mut child, signals).await;
            Ok(ExitCode::from(signal.exit_code()))
        }
        () = limit => {
            end(&mut child, signals).await;
            let timeout = timeout.unwrap_or_default();
            Err(Error::NotReady(timeout))
        }
    }
}

fn spawn() -> io::Result<(Child, UnixStream)> {
    let (ours, theirs) = StdUnixStream::pair()?;
    ours.set_nonblocking(true)?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(std::env::args_os().skip(1)).arg(DETACHED).stdin(OwnedFd::from(theirs));
    command.envs(TARGET.get().map(|target| (TARGET_VARIABLE, target)));
    Ok((command.spawn()?, UnixStream::from_std(ours)?))
}

/// Has the second process end its sessions; at another signal, ends it at once.
async fn end(child: &mut Child, signals: &mut Signals) {
    if let Some(pid) = child.id().and_then(|pid| Pid::from_raw(pid.try_into().ok()?)) {
        // It may have ended in this moment.
        let _ = kill_process(pid, Number::TERM);
    }
    tokio::select! {
        _ = child.wait() => {}
        _ = signals.next() => drop(child.kill().await),
    }
}

/// The code of the other process as one's own.
fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().or_else(|| Some(128 + status.signal()?));
    ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX))
}

/// The second process, before it is ready.
#[derive(Debug)]
pub(crate) struct Launched {
    parent: UnixStream,
    log: Log,
}

/// The log of a tunnel. Of one that was never ready nothing stays.
#[derive(Debug)]
struct Log {
    file: File,
    path: PathBuf,
    kept: bool,
}

impl Drop for Log {
    fn drop(&mut self) {
        if !self.kept {
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Launched {
    /// Takes stdin, and makes the log of the tunnel `id`. Inside a runtime only.
    ///
    /// # Errors
    ///
    /// When this process was not started by [`launch`], or there is no place for a log.
    pub(crate) fn take(id: &str) -> Result<Self, Error> {
        let usage = || Error::Usage(format!("{DETACHED} is for ssm alone: write --background"));
        let stdin = io::stdin().as_fd().try_clone_to_owned().map_err(|_| usage())?;
        let is_socket = File::from(stdin.try_clone().map_err(|_| usage())?).metadata();
        if !is_socket.is_ok_and(|stdin| stdin.file_type().is_socket()) {
            return Err(usage());
        }
        let parent = StdUnixStream::from(stdin);
        let parent = parent.set_nonblocking(true).and_then(|()| UnixStream::from_std(parent));
        let parent = parent.map_err(Error::local("cannot go to the background"))?;
        let log = log(id).map_err(Error::local("cannot make a log for the background"))?;
        Ok(Self { parent, log })
    }

    pub(crate) fn log_path(&self) -> &Path {
        &self.log.path
    }

    /// Waits until the first process is gone, for which there is nobody to be ready. Cancel safe.
    pub(crate) async fn abandoned(launched: &mut Option<Self>) {
        let Some(Self { parent, .. }) = launched else { return std::future::pending().await };
        // Nothing is ever said in this direction.
        while matches!(parent.read(&mut [0]).await, Ok(1..)) {}
    }

    /// Leaves the terminal and tells the first process that everything is ready.
    ///
    /// # Errors
    ///
    /// When the system refuses.
    pub(crate) fn detach(mut self) -> io::Result<()> {
        setsid()?;
        output::stamp();
        dup2_stdout(&self.log.file)?;
        dup2_stderr(&self.log.file)?;
        self.log.kept = true;
        let null = File::open("/dev/null")?;
        // Last: when the first process ends, nothing here may hold the terminal or a pipe any more.
        self.parent.into_std()?.write_all(&[READY])?;
        Ok(dup2_stdin(null)?)
    }
}

/// Makes the log of a tunnel, for this user alone, and removes those of tunnels that were over long ago.
fn log(id: &str) -> io::Result<Log> {
    let folder = places::state_folder()?;
    let running = registry::peers()?;
    remove_old(&folder, LOG_KEPT, |id| running.iter().any(|peer| peer.id == id))?;
    let path = folder.join(format!("{id}{LOG_SUFFIX}"));
    // Of a process that had this number before: whoever reads it goes on with what is in it.
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = OpenOptions::new().create_new(true).append(true).mode(0o600).open(&path)?;
    Ok(Log { file, path, kept: false })
}

fn remove_old(folder: &Path, kept: Duration, is_running: impl Fn(&str) -> bool) -> io::Result<()> {
    for entry in fs::read_dir(folder)?.flatten() {
        let path = entry.path();
        let id = path.file_name().and_then(|name| name.to_str()?.strip_suffix(LOG_SUFFIX));
        let age = entry.metadata().and_then(|log| log.modified()).ok().and_then(|time| time.elapsed().ok());
        if let (Some(id), Some(age)) = (id, age)
            && age >= kept
            && !is_running(id)
        {
            // Another process may have removed it in this moment.
            let _ = fs::remove_file(&path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn old_logs_of_tunnels_that_are_over_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        for (name, age) in [("1.log", 20), ("2.log", 20), ("3.log", 1), ("other", 20)] {
            let file = File::create(folder.path().join(name)).unwrap();
            let day = Duration::from_secs(24 * 3600);
            file.set_modified(SystemTime::now() - day * age).unwrap();
        }
        remove_old(folder.path(), LOG_KEPT, |id| id == "2").unwrap();
        let left = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let mut left: Vec<_> = left.map(|name| name.into_string().unwrap()).collect();
        left.sort();
        assert_eq!(left, ["2.log", "3.log", "other"]);
    }
}
