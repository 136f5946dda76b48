//! Which process has a TCP port. Linux tells of those of this user, and root of all.

use std::fmt;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
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

/// The process that is in the way of listening on a port of one of these addresses, where that can be found out.
pub(crate) fn find(wanted: &[IpAddr], port: u16) -> Option<Owner> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
    let inode = tables.iter().find_map(|table| listening(table, wanted, port))?;
    let processes = fs::read_dir("/proc").ok()?.flatten();
    processes.into_iter().find_map(|process| {
        let pid = process.file_name().to_str()?.parse().ok()?;
        has_socket(&process.path(), inode).then(|| Owner { pid, name: name(&process.path()) })
    })
}

/// The inode of the socket that is in the way, in a table of `/proc/net`.
fn listening(table: &str, wanted: &[IpAddr], port: u16) -> Option<u64> {
    /// `TCP_LISTEN` of the kernel.
    const LISTEN: &str = "0A";
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (local, local_port) = fields.get(1)?.rsplit_once(':')?;
        let is_meant = u16::from_str_radix(local_port, 16).ok()? == port && *fields.get(3)? == LISTEN;
        let local = address(local).filter(|_| is_meant)?;
        wanted.iter().any(|wanted| collide(local, *wanted)).then(|| fields.get(9)?.parse().ok())?
    })
}

/// An address as the kernel writes it: words of 32 bits in the order of this machine.
fn address(text: &str) -> Option<IpAddr> {
    let mut bytes = [0; 16];
    let words = text.as_bytes().chunks(8).zip(bytes.chunks_mut(4));
    for (word, bytes) in words {
        let word = u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok()?;
        bytes.copy_from_slice(&word.to_ne_bytes());
    }
    match text.len() {
        8 => Some(Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]).into()),
        32 => Some(Ipv6Addr::from(bytes).to_canonical()),
        _ => None,
    }
}

/// Whether only one of two sockets can listen on a port of these addresses. That of all IPv6 addresses takes those of IPv4 along.
fn collide(one: IpAddr, other: IpAddr) -> bool {
    let takes = |all: IpAddr, one: IpAddr| all.is_unspecified() && (all.is_ipv6() || one.is_ipv4());
    one == other || takes(one, other) || takes(other, one)
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
    use std::net::TcpListener;

    use super::*;

    const TABLE: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
        0: 0100007F:1538 0100007F:9C40 01 00000000:00000000 00:00000000 00000000   999        0 1 1 0 20 4 30 10 -1\n   \
        1: 0100000A:1538 00000000:0000 0A 00000000:00000000 00:00000000 00000000   999        0 12 1 0 100 0 0 10 0\n   \
        2: 0100007F:1538 00000000:0000 0A 00000000:00000000 00:00000000 00000000   999        0 31337 1 0 100 0 0 10 0\n   \
        3: 00000000:1539 00000000:0000 0A 00000000:00000000 00:00000000 00000000   999        0 77 1 0 100 0 0 10 0\n";

    const TABLE_OF_IPV6: &str = "  sl  local_address remote_address st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
        0: 00000000000000000000000001000000:1538 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000   999        0 6 1 0 100 0 0 10 0\n   \
        1: 0000000000000000FFFF00000200000A:1538 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000   999        0 46 1 0 100 0 0 10 0\n";

    #[cfg(target_endian = "little")]
    #[test]
    fn only_who_listens_on_the_address_has_its_port() {
        let of = |table: &str, address: &str, port: u16| listening(table, &[address.parse().unwrap()], port);
        assert_eq!(of(TABLE, "127.0.0.1", 0x1538), Some(31337));
        assert_eq!(of(TABLE, "10.0.0.1", 0x1538), Some(12));
        assert_eq!(of(TABLE, "127.0.0.2", 0x1538), None);
        assert_eq!(of(TABLE, "0.0.0.0", 0x1538), Some(12));
        assert_eq!(of(TABLE, "127.0.0.2", 0x1539), Some(77));
        assert_eq!(of(TABLE, "::1", 0x1539), None);
        assert_eq!(of(TABLE, "127.0.0.1", 0x9c40), None);
        assert_eq!(of(TABLE_OF_IPV6, "::1", 0x1538), Some(6));
        assert_eq!(of(TABLE_OF_IPV6, "10.0.0.2", 0x1538), Some(46));
        assert_eq!(of(TABLE_OF_IPV6, "10.0.0.1", 0x1538), None);
        assert_eq!(of(TABLE_OF_IPV6, "::", 0x1538), Some(6));
        for odd in ["x\n0: y\n", "x\n0: é0100007F:1538 0 0A", "x\n0: :1538 0 0A 0 0 0 0 0 0 1", ""] {
            assert_eq!(of(odd, "127.0.0.1", 0x1538), None);
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_port_of_this_process_is_its_own() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let owner = find(&[address.ip()], address.port()).unwrap();
        assert_eq!(owner.pid, std::process::id());
        assert!(owner.to_string().ends_with(&format!("(process {})", std::process::id())), "{owner}");
    }
}
