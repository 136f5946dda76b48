//! What this machine has and what runs on it.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use tempfile::TempDir;

use super::process::SOON;

/// A program that `cargo xtask test` installs and tells where.
pub(crate) fn installed(variable: &str) -> PathBuf {
    match env::var_os(variable) {
        Some(path) if Path::new(&path).exists() => path.into(),
        _ => panic!("{variable} does not lead anywhere: run cargo xtask test"),
    }
}

/// A program that Debian has in a place of its own.
pub(crate) fn at(path: &str) -> PathBuf {
    let path = PathBuf::from(path);
    assert!(path.exists(), "{} is missing: run cargo xtask setup", path.display());
    path
}

/// The newest of PostgreSQL's folders with programs.
pub(crate) fn postgres_bin() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let bins = versions.map(|version| version.path().join("bin")).filter(|bin| bin.join("initdb").exists());
    bins.max().expect("PostgreSQL is missing: run cargo xtask setup")
}

/// A library that makes the processes it is loaded into look names up in a file.
pub(crate) fn nss_wrapper() -> PathBuf {
    let folders = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let mut libraries = folders.map(|folder| folder.path().join("libnss_wrapper.so"));
    libraries.find(|library| library.exists()).expect("libnss_wrapper.so is missing: run cargo xtask setup")
}

/// Who runs the servers that refuse to be run by root.
pub(crate) struct Account {
    pub(crate) name: String,
    uid: u32,
    gid: u32,
}

impl Account {
    /// The user of this test, or, where that is root, the one that PostgreSQL's package made.
    pub(crate) fn unprivileged() -> Self {
        let me = rustix::process::getuid();
        let passwd = fs::read_to_string("/etc/passwd").unwrap();
        let wanted =
            |name: &str, uid: u32| if me.is_root() { name == "postgres" } else { uid == me.as_raw() };
        let account = passwd.lines().find_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            let (name, uid, gid) = (fields[0], fields[2].parse().ok()?, fields[3].parse().ok()?);
            wanted(name, uid).then(|| Self { name: name.into(), uid, gid })
        });
        account.expect("there is no user to run servers as: run cargo xtask setup")
    }

    /// Makes `command` run as this user.
    pub(crate) fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        if rustix::process::getuid().is_root() {
            command.uid(self.uid).gid(self.gid);
        }
        command
    }

    /// A temporary folder that belongs to this user.
    pub(crate) fn folder(&self) -> TempDir {
        let folder = TempDir::new().unwrap();
        self.give(folder.path());
        folder
    }

    /// Makes `path` belong to this user.
    pub(crate) fn give(&self, path: &Path) {
        chown(path, Some(self.uid), Some(self.gid)).unwrap();
    }
}

/// A port nobody listens on, outside the range that connections take theirs from.
pub(crate) fn free_port() -> u16 {
    loop {
        let mut random = [0; 2];
        getrandom::fill(&mut random).unwrap();
        let port = 10_000 + u16::from_ne_bytes(random) % 22_000;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

/// A process as long as it lives: its id and when it was started.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Running {
    pub(crate) pid: u32,
    started: u64,
    pub(crate) name: String,
}

/// A process and everything it has started.
pub(crate) fn tree(root: u32) -> BTreeSet<Running> {
    let all: Vec<(Running, u32)> = processes().collect();
    let mut found: BTreeSet<Running> =
        all.iter().filter(|(process, _)| process.pid == root).map(|(process, _)| process.clone()).collect();
    loop {
        let pids: BTreeSet<u32> = found.iter().map(|process| process.pid).collect();
        let before = found.len();
        let children = all.iter().filter(|(_, parent)| pids.contains(parent));
        found.extend(children.map(|(process, _)| process.clone()));
        if found.len() == before {
            return found;
        }
    }
}

/// Waits until none of `processes` runs.
pub(crate) fn until_gone(gone: &BTreeSet<Running>) {
    let deadline = Instant::now() + SOON;
    loop {
        let left: Vec<Running> =
            processes().map(|(process, _)| process).filter(|process| gone.contains(process)).collect();
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "still running: {left:?}");
    }
}

/// Every process that is not a zombie, with its parent.
fn processes() -> impl Iterator<Item = (Running, u32)> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        // The name may hold anything, parentheses and spaces too.
        let (front, fields) = stat.rsplit_once(')')?;
        let name = front.split_once('(')?.1.to_owned();
        let fields: Vec<&str> = fields.split_whitespace().collect();
        if fields[0] == "Z" {
            return None;
        }
        Some((Running { pid, started: fields[19].parse().ok()?, name }, fields[1].parse().ok()?))
    })
}

/// The TCP ports that somebody listens on.
pub(crate) fn listening() -> BTreeSet<u16> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
    let lines = tables.iter().flat_map(|table| table.lines().skip(1));
    lines
        .filter_map(|line| {
            let mut fields = line.split_whitespace().skip(1);
            let (local, state) = (fields.next()?, fields.nth(1)?);
            let port = u16::from_str_radix(local.rsplit_once(':')?.1, 16).ok()?;
            (state == "0A").then_some(port)
        })
        .collect()
}
