//! The sessions that this program has started and not ended, so that those of a run that was killed can be found and ended.
//!
//! Each is a file in the state folder, for this user alone, with what it takes to end it and to know whether its process lives. Nothing
//! in it opens a session.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, Once, OnceLock, PoisonError};

use rustix::process::{Pid, test_kill_process};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use ssm_session::{AwsControl, ControlErrorKind, ControlPlane as _, SessionId};

use crate::output::{hex, unix_time};
use crate::places;
use crate::private_file;

/// Most files that are read.
const FILES_MAX: usize = 1_000;

/// Longest one.
const LEN_MAX: u64 = 16 * 1024;

/// Longer than any session lasts, in seconds: the preferences of an account allow 24 hours at most.
const LONGEST: u64 = 2 * 24 * 3600;

/// Most sessions of killed runs that are ended by another run on its way.
const ENDED_MAX: usize = 16;

/// A session and the process that started it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Remembered {
    pub(crate) session: String,
    pub(crate) target: String,
    /// Where and as whom it was started.
    pub(crate) region: String,
    #[serde(default)]
    pub(crate) profile: Option<String>,
    #[serde(default)]
    pub(crate) endpoint_url: Option<String>,
    /// Seconds since 1970.
    pub(crate) since: u64,
    process: Process,
}

/// A process among those of all times and machines that share a home folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Process {
    pid: u32,
    /// When it was started, in clock ticks since the machine was: numbers of processes are used again.
    started: Option<u64>,
    /// Name of the machine; empty where the system does not tell.
    machine: String,
    /// The start of the machine and the space of process numbers, where the system tells.
    boot: Option<String>,
    space: Option<String>,
}

/// How it is with the process of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It runs.
    Running,
    /// It has gone, and left the session.
    Gone,
    /// It is one of another machine or container; nothing can be said.
    Elsewhere,
}

/// Where the sessions of this process are in their lives.
static OWN: Mutex<BTreeMap<String, Phase>> = Mutex::new(BTreeMap::new());

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// The service was asked to end it and has not answered, or not well.
    Ending,
}

/// A session was started. What cannot be written down is no reason not to have it.
pub(crate) fn started(session: &str, target: &str, account: &AwsControl) {
    let entry = Remembered {
        session: session.into(),
        target: target.into(),
        region: account.region().into(),
        profile: profile_of(account),
        endpoint_url: endpoint_of(account),
        since: unix_time().as_secs(),
        process: Process::this().clone(),
    };
    match write(&entry) {
        Ok(()) => drop(own().insert(session.into(), Phase::Open)),
        Err(error) => tracing::debug!(%error, "the session is not written down"),
    }
    end_left_behind(account);
}

/// Ends what killed runs have left in this account, once in a process, while this goes on: nobody can use it any more, and the account
/// counts it. What cannot be ended now is left to the next run.
fn end_left_behind(account: &AwsControl) {
    static ASKED: Once = Once::new();
    ASKED.call_once(|| {
        let left: Vec<Remembered> = all().unwrap_or_default().into_iter().filter(|entry| entry.is_left_in(account)).collect();
        if left.is_empty() {
            return;
        }
        let account = account.clone();
        tokio::spawn(async move {
            for Remembered { session, .. } in left.into_iter().take(ENDED_MAX) {
                match account.terminate(&SessionId::new(&session)).await {
                    Ok(()) => tracing::info!("session {session}, which a killed run had left, has ended"),
                    Err(error) if error.kind() == ControlErrorKind::NoSuchSession => {}
                    Err(error) => {
                        tracing::info!(%error, "session {session}, which a killed run has left, was not ended");
                        continue;
                    }
                }
                forget(&session);
            }
        });
    });
}

fn profile_of(account: &AwsControl) -> Option<String> {
    account
        .profile()
        .map(Into::into)
        .or_else(|| std::env::var("AWS_PROFILE").ok().filter(|name| !name.is_empty()))
}

fn endpoint_of(account: &AwsControl) -> Option<String> {
    account.endpoint_url().map(Into::into).or_else(endpoint_variable)
}

/// Where the environment puts the Systems Manager API: there the session is known.
fn endpoint_variable() -> Option<String> {
    let read = |name| std::env::var(name).ok().filter(|url| !url.is_empty());
    read("AWS_ENDPOINT_URL_SSM").or_else(|| read("AWS_ENDPOINT_URL"))
}

/// The service is asked to end a session.
pub(crate) fn ending(session: &str) {
    if let Some(phase) = own().get_mut(session) {
        *phase = Phase::Ending;
    }
}

/// A session is over.
pub(crate) fn ended(session: &str) {
    own().remove(session);
    forget(session);
}

/// This process ends. Of its sessions those stay that it could not end; the others are over, whoever ended them.
pub(crate) fn settle() {
    let own = std::mem::take(&mut *own());
    own.iter().filter(|(_, phase)| **phase == Phase::Open).for_each(|(session, _)| forget(session));
}

/// Removes what is written down about a session.
pub(crate) fn forget(session: &str) {
    if let Ok(path) = path(session) {
        // It may never have been written.
        let _ = fs::remove_file(path);
    }
}

/// Everything that is written down, the oldest first. A file that cannot be read is left out.
///
/// # Errors
///
/// When there is no folder.
pub(crate) fn all() -> io::Result<Vec<Remembered>> {
    let files = fs::read_dir(places::sessions_folder()?)?.flatten();
    let files = files.filter(|file| file.path().extension().is_some_and(|end| end == "json"));
    let mut all: Vec<Remembered> = files.take(FILES_MAX).filter_map(|file| read(&file.path()).ok()).collect();
    all.sort_by(|a, b| (a.since, &a.session).cmp(&(b.since, &b.session)));
    Ok(all)
}

impl Remembered {
    /// Whether it was started so long ago that it is over, whatever anybody knows of it.
    pub(crate) fn is_old(&self) -> bool {
        unix_time().as_secs().saturating_sub(self.since) > LONGEST
    }

    /// Whether it was started as `account` is used now, by a process that is gone.
    fn is_left_in(&self, account: &AwsControl) -> bool {
        let own = self.region == account.region()
            && self.profile == profile_of(account)
            && self.endpoint_url == endpoint_of(account);
        own && self.fate() == Fate::Gone
    }

    /// How it is with its process.
    pub(crate) fn fate(&self) -> Fate {
        self.process.fate(Process::this(), |pid| {
            let number = Pid::from_raw(pid.try_into().ok()?)?;
            // One of another user, which has the number by now, is not to be signalled.
            match test_kill_process(number) {
                Ok(()) if !is_defunct(pid) => Some(start_of(pid)),
                _ => None,
            }
        })
    }
}

impl Process {
    /// The one that runs this.
    fn this() -> &'static Self {
        static THIS: OnceLock<Process> = OnceLock::new();
        THIS.get_or_init(Self::read)
    }

    fn read() -> Self {
        let text = |path: &str| fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
        let pid = std::process::id();
        Self {
            pid,
            started: start_of(pid),
            machine: text("/proc/sys/kernel/hostname").unwrap_or_default(),
            boot: text("/proc/sys/kernel/random/boot_id"),
            space: fs::read_link("/proc/self/ns/pid").ok().map(|link| link.to_string_lossy().into_owned()),
        }
    }

    /// `running` says of a number whether there is such a process, and when it was started if that can be seen.
    fn fate(&self, here: &Self, running: impl Fn(u32) -> Option<Option<u64>>) -> Fate {
        if self.machine != here.machine {
            return Fate::Elsewhere;
        }
        if self.boot != here.boot {
            return Fate::Gone;
        }
        if self.space != here.space {
            return Fate::Elsewhere;
        }
        match (running(self.pid), self.started) {
            (None, _) => Fate::Gone,
            (Some(Some(now)), Some(then)) if now != then => Fate::Gone,
            (Some(_), _) => Fate::Running,
        }
    }
}

/// When a process was started (proc(5), field 22 of `stat`).
fn start_of(pid: u32) -> Option<u64> {
    field_of(pid, 22)?.parse().ok()
}

/// Whether it has ended and nobody has asked how: in many containers nobody ever does.
fn is_defunct(pid: u32) -> bool {
    field_of(pid, 3).is_some_and(|state| state == "Z")
}

/// A field of `stat` behind the name of the process, which is the second (proc(5)).
fn field_of(pid: u32, number: usize) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold anything, parentheses and spaces too.
    stat.rsplit_once(')')?.1.split_whitespace().nth(number - 3).map(ToOwned::to_owned)
}

/// Where a session is written down: ids have characters that file names may not have.
fn path(session: &str) -> io::Result<PathBuf> {
    let name = hex(&Sha256::digest(session.as_bytes())[..16]);
    Ok(places::sessions_folder()?.join(name + ".json"))
}

fn write(entry: &Remembered) -> io::Result<()> {
    let json = serde_json::to_vec(entry).map_err(io::Error::other)?;
    private_file::replace(&path(&entry.session)?, &json)
}

fn read(path: &Path) -> io::Result<Remembered> {
    serde_json::from_slice(&private_file::read(path, LEN_MAX)?).map_err(io::Error::other)
}

fn own() -> MutexGuard<'static, BTreeMap<String, Phase>> {
    OWN.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32, started: Option<u64>, machine: &str, boot: &str, space: &str) -> Process {
        Process { pid, started, machine: machine.into(), boot: Some(boot.into()), space: Some(space.into()) }
    }

    #[test]
    fn a_process_is_gone_when_its_number_is_somebody_elses() {
        let here = process(1, Some(5), "m", "b", "s");
        let of = |process: Process, found: Option<Option<u64>>| process.fate(&here, |_| found);
        assert_eq!(of(process(7, Some(9), "m", "b", "s"), Some(Some(9))), Fate::Running);
        assert_eq!(of(process(7, Some(9), "m", "b", "s"), Some(Some(10))), Fate::Gone);
        assert_eq!(of(process(7, Some(9), "m", "b", "s"), None), Fate::Gone);
        assert_eq!(of(process(7, None, "m", "b", "s"), Some(None)), Fate::Running);
        assert_eq!(of(process(7, Some(9), "m", "before", "s"), Some(Some(9))), Fate::Gone);
        assert_eq!(of(process(7, Some(9), "m", "b", "container"), None), Fate::Elsewhere);
        assert_eq!(of(process(7, Some(9), "other", "b", "s"), None), Fate::Elsewhere);
    }

    #[cfg(target_os = "linux")]
    fn of(process: Process) -> Remembered {
        Remembered {
            session: "s".into(),
            target: "t".into(),
            region: "r".into(),
            profile: None,
            endpoint_url: None,
            since: 0,
            process,
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_runs() {
        assert!(start_of(std::process::id()).is_some());
        assert_eq!(of(Process::this().clone()).fate(), Fate::Running);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_process_that_has_ended_is_gone_though_nobody_has_asked_for_it() {
        let mut child =
            std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        let pid = child.id();
        let entry = of(Process { pid, started: start_of(pid), ..Process::this().clone() });
        assert_eq!(entry.fate(), Fate::Running);
        drop(child.stdin.take());
        let end = rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT;
        let which = rustix::process::WaitId::Pid(Pid::from_raw(pid.cast_signed()).unwrap());
        rustix::process::waitid(which, end).unwrap();
        assert_eq!(entry.fate(), Fate::Gone);
        child.wait().unwrap();
    }
}
