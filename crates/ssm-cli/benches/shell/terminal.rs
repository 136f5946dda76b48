//! A program on a pseudo terminal that this process types into and reads.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// How long anything may take.
const SOON: Timespec = Timespec { tv_sec: 20, tv_nsec: 0 };

/// The terminal and the program; it is killed when dropped.
pub(crate) struct Terminal {
    pty: File,
    pub(crate) child: Child,
    buf: Vec<u8>,
}

impl Terminal {
    /// Runs a command for `sh`.
    pub(crate) fn bare(command: &str) -> io::Result<Self> {
        let mut shell = Command::new("sh");
        Self::start(shell.args(["-c", command]))
    }

    pub(crate) fn start(command: &Command) -> io::Result<Self> {
        let (pty, pts) = pty_process::blocking::open().map_err(io::Error::other)?;
        pty.resize(pty_process::Size::new(24, 80)).map_err(io::Error::other)?;
        let mut on_pty = pty_process::blocking::Command::new(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            if let Some(value) = value {
                on_pty = on_pty.env(name, value);
            }
        }
        let child = on_pty.spawn(pts).map_err(io::Error::other)?;
        Ok(Self { pty: File::from(OwnedFd::from(pty)), child, buf: vec![0; 64 * 1024] })
    }

    pub(crate) fn keys(&mut self, keys: &[u8]) -> io::Result<()> {
        self.pty.write_all(keys)
    }

    /// What the terminal has to show, at least a byte.
    pub(crate) fn read(&mut self) -> io::Result<&[u8]> {
        if poll(&mut [PollFd::new(&self.pty, PollFlags::IN)], Some(&SOON))? == 0 {
            return Err(io::Error::other("the terminal shows nothing"));
        }
        match self.pty.read(&mut self.buf)? {
            0 => Err(io::Error::other("the program has ended")),
            len => Ok(&self.buf[..len]),
        }
    }

    /// Reads until `text` was shown.
    pub(crate) fn until(&mut self, text: &[u8]) -> io::Result<()> {
        let mut seen = Vec::new();
        loop {
            seen.extend_from_slice(self.read()?);
            if seen.windows(text.len()).any(|window| window == text) {
                return Ok(());
            }
            // What may be the beginning of it is in the tail.
            seen.drain(..seen.len().saturating_sub(text.len()));
        }
    }
}

/// Processor time that a process has used so far, in steps of 10 ms.
pub(crate) fn cpu(child: &Child) -> io::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", child.id()))?;
    // The name in parentheses may hold anything; user and system time are the 14th and 15th field of all.
    let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
    let ticks: u64 = fields.split(' ').skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Ok(Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second()))
}

/// Most memory that a process has held so far, in MiB.
pub(crate) fn peak_rss(child: &Child) -> io::Result<f64> {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib: Option<f64> = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
    kib.map(|kib| kib / 1024.0).ok_or_else(|| io::Error::other("no VmHWM in /proc"))
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
