//! This process: limits, secrecy, signals.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

/// Makes the process fit for tokens and many sockets. To be called first.
pub(crate) fn prepare() {
    // A token or a key in memory is no business of other processes of this user, nor of a core file.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    // Every connection is a file; the soft limit is often 1,024 for the sake of select(2), which nothing here uses.
    let limit = getrlimit(Resource::Nofile);
    let _ = AS_STARTED.set(limit);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

/// The limit on open files that this process was started with.
static AS_STARTED: OnceLock<Rlimit> = OnceLock::new();

/// Puts back the limits that this process was started with, for a program that takes its place: some do harm to themselves with a
/// high one.
pub(crate) fn restore_limits() {
    if let Some(limit) = AS_STARTED.get() {
        let _ = setrlimit(Resource::Nofile, *limit);
    }
}

/// The path of this program, by the name it was called by: a link is still there when what it leads to was replaced by an update.
///
/// # Errors
///
/// When the system does not tell.
pub(crate) fn own_path() -> io::Result<PathBuf> {
    let exe = env::current_exe()?;
    let called = env::args_os().next().unwrap_or_default();
    let path = env::var_os("PATH").unwrap_or_default();
    let mut candidates = candidates(&called, &path).into_iter();
    Ok(candidates.find(|candidate| is_same(candidate, &exe)).unwrap_or(exe))
}

/// Where a shell would look for a program.
fn candidates(called: &OsStr, path: &OsStr) -> Vec<PathBuf> {
    if Path::new(called).components().count() > 1 || Path::new(called).is_absolute() {
        return std::path::absolute(called).into_iter().collect();
    }
    let folders = env::split_paths(path).filter(|folder| folder.is_absolute());
    folders.map(|folder| folder.join(called)).collect()
}

/// The program of this name that a shell would run; `path` is written as `PATH` is.
pub(crate) fn find(program: &str, path: &OsStr) -> Option<PathBuf> {
    env::split_paths(path).map(|folder| folder.join(program)).find(|path| is_program(path))
}

/// Whether it is a file that can be run.
pub(crate) fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.is_file() && found.mode() & 0o111 != 0)
}

/// Whether two paths lead to one file.
pub(crate) fn is_same(one: &Path, other: &Path) -> bool {
    let file = |path: &Path| fs::metadata(path).map(|found| (found.dev(), found.ino())).ok();
    file(one).is_some_and(|one| Some(one) == file(other))
}

/// A signal that asks a command to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    Interrupt,
    Quit,
    Hangup,
    Terminate,
}

impl Signal {
    fn kind(self) -> SignalKind {
        match self {
            Self::Interrupt => SignalKind::interrupt(),
            Self::Quit => SignalKind::quit(),
            Self::Hangup => SignalKind::hangup(),
            Self::Terminate => SignalKind::terminate(),
        }
    }

    /// What a shell reports for a program that was ended by it.
    pub(crate) fn exit_code(self) -> u8 {
        let number = self.kind().as_raw_value();
        128 + u8::try_from(number).expect("signals that ask to end have numbers up to 15")
    }
}

/// The signals that ask to end, as they come. While this exists they do not end the process by themselves.
#[derive(Debug)]
pub(crate) struct Signals(Vec<(Signal, Stream)>);

impl Signals {
    /// Takes the signals over, also when they were ignored: the AWS CLI ignores them for itself and its child inherits that.
    /// Only an ignored SIGHUP stays ignored, which is what `nohup` is for.
    pub(crate) fn take() -> io::Result<Self> {
        let mut streams = Vec::new();
        for wanted in [Signal::Interrupt, Signal::Quit, Signal::Hangup, Signal::Terminate] {
            if wanted != Signal::Hangup || !is_ignored(wanted) {
                streams.push((wanted, signal(wanted.kind())?));
            }
        }
        Ok(Self(streams))
    }

    /// The next one. Cancel safe.
    pub(crate) async fn next(&mut self) -> Signal {
        std::future::poll_fn(|cx| {
            for (signal, stream) in &mut self.0 {
                if stream.poll_recv(cx).is_ready() {
                    return std::task::Poll::Ready(*signal);
                }
            }
            std::task::Poll::Pending
        })
        .await
    }
}

/// Whether this process was started with `signal` ignored. Where the system does not tell, it was not.
fn is_ignored(signal: Signal) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    ignored_mask(&status) & (1 << (signal.kind().as_raw_value() - 1)) != 0
}

fn ignored_mask(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_those_of_a_shell() {
        assert_eq!(Signal::Interrupt.exit_code(), 130);
        assert_eq!(Signal::Terminate.exit_code(), 143);
        assert_eq!(Signal::Hangup.exit_code(), 129);
    }

    #[test]
    fn a_program_is_looked_for_as_a_shell_does() {
        let found = |called: &str| candidates(OsStr::new(called), OsStr::new("/a:b::/c d"));
        assert_eq!(found("ssm"), [Path::new("/a/ssm"), Path::new("/c d/ssm")]);
        assert_eq!(found("/x/ssm"), [Path::new("/x/ssm")]);
        assert!(found("./ssm")[0].is_absolute());
        assert!(is_same(&own_path().unwrap(), &env::current_exe().unwrap()));
    }

    #[test]
    fn the_ignored_signals_are_read() {
        assert_eq!(ignored_mask("Name:\tssm\nSigIgn:\t0000000000001001\nSigCgt:\t0\n"), 0x1001);
        assert_eq!(ignored_mask(""), 0);
    }
}
