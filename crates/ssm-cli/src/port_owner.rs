//! Which process has a TCP port. Linux tells of those of this user, and root of all.

use std::fmt;
use std::fs;
use std::path::Path;

/// A process that listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owner {
    pid: u32,
    name: String,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (process {})", self.name, self.pid)
    }
}

/// The process that listens on a local port, where that can be found out.
pub(crate) fn find(port: u16) -> Option<Owner> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
    let inode = tables.iter().find_map(|table| listening(table, port))?;
    let processes = fs::read_dir("/proc").ok()?.flatten();
    processes.into_iter().find_map(|process| {
        let pid = process.file_name().to_str()?.parse().ok()?;
        has_socket(&process.path(), inode).then(|| Owner { pid, name: name(&process.path()) })
    })
}

/// The inode of the socket that listens on a port, in a table of `/proc/net`.
fn listening(table: &str, port: u16) -> Option<u64> {
    /// `TCP_LISTEN` of the kernel.
    const LISTEN: &str = "0A";
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let local = fields.get(1)?.rsplit_once(':')?.1;
        let is_meant = u16::from_str_radix(local, 16).ok()? == port && *fields.get(3)? == LISTEN;
        is_meant.then(|| fields.get(9)?.parse().ok())?
    })
}

fn has_socket(process: &Path, inode: u64) -> bool {
    let Ok(files) = fs::read_dir(process.join("fd")) else { return false };
    let socket = format!("socket:[{inode}]");
    files
        .flatten()
        .any(|file| fs::read_link(file.path()).is_ok_and(|link| link.as_os_str() == socket.as_str()))
}

fn name(process: &Path) -> String {
    let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
    match name.trim() {
        "" => "a program".into(),
        name => name.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;

    const TABLE: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
        0: 0100007F:1538 0100007F:9C40 01 00000000:00000000 00:00000000 00000000   999        0 1 1 0 20 4 30 10 -1\n   \
        1: 0100007F:1538 00000000:0000 0A 00000000:00000000 00:00000000 00000000   999        0 31337 1 0 100 0 0 10 0\n";

    #[test]
    fn only_who_listens_has_a_port() {
        assert_eq!(listening(TABLE, 0x1538), Some(31337));
        assert_eq!(listening(TABLE, 0x9c40), None);
        assert_eq!(listening("x\n0: y\n", 1), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_port_of_this_process_is_its_own() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let owner = find(listener.local_addr().unwrap().port()).unwrap();
        assert_eq!(owner.pid, std::process::id());
        assert!(owner.to_string().ends_with(&format!("(process {})", std::process::id())), "{owner}");
    }
}
