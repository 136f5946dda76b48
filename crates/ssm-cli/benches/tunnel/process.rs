//! Child processes, and what they use.

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

/// A child whose lines are read from one of its outputs; killed when dropped.
pub(crate) struct Process {
    child: Child,
    lines: BufReader<Box<dyn io::Read>>,
    stdin: ChildStdin,
}

/// Where a child prints what has to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Output {
    Stdout,
    Stderr,
}

impl Process {
    pub(crate) fn start(command: &mut Command, output: Output) -> io::Result<Self> {
        command.stdin(Stdio::piped());
        match output {
            Output::Stdout => command.stdout(Stdio::piped()),
            Output::Stderr => command.stderr(Stdio::piped()),
        };
        let mut child = command.spawn()?;
        let source: Option<Box<dyn io::Read>> = match output {
            Output::Stdout => child.stdout.take().map(|pipe| Box::new(pipe) as _),
            Output::Stderr => child.stderr.take().map(|pipe| Box::new(pipe) as _),
        };
        let (Some(source), Some(stdin)) = (source, child.stdin.take()) else {
            return Err(io::Error::other("a child without pipes"));
        };
        Ok(Self { child, lines: BufReader::new(source), stdin })
    }

    /// The next line, without its end.
    pub(crate) fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.lines.read_line(&mut line)? == 0 {
            let status = self.child.wait()?;
            return Err(io::Error::other(format!("a child ended early: {status}")));
        }
        Ok(line.trim_end().to_owned())
    }

    /// Where the child reads.
    pub(crate) fn stdin(&mut self) -> &mut ChildStdin {
        &mut self.stdin
    }

    /// Processor time used so far, in steps of 10 ms.
    pub(crate) fn cpu(&self) -> io::Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The name in parentheses may hold anything; user and system time are the 14th and 15th field of all.
        let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
        let ticks: u64 =
            fields.split(' ').skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
        Ok(Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second()))
    }

    /// Most memory held so far, in KiB.
    pub(crate) fn peak_rss(&self) -> io::Result<u64> {
        self.status("VmHWM:")
    }

    /// Memory held, in KiB.
    pub(crate) fn rss(&self) -> io::Result<u64> {
        self.status("VmRSS:")
    }

    fn status(&self, name: &str) -> io::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok())
            .ok_or_else(|| io::Error::other(format!("no {name} in /proc")))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may be gone already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
