//! What a process has needed.

use std::fs;
use std::time::Duration;

/// Most memory a session may ever have, in KiB, whatever the other side does: docs/security.md promises it.
pub(crate) const BOUND: u64 = 64 * 1024;

/// The most memory that a process has had at once so far, in KiB; `None` when it has ended.
pub(crate) fn peak(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

/// Processor time that a process has had so far (proc(5), fields 14 and 15 of `stat`, in hundredths of a second).
pub(crate) fn worked(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}
