//! Forwards as `ssh -L` writes them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use ssm_session::StartSession;

use crate::error::ParseSpecError;

/// One forward: where to listen, and where connections lead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForwardSpec {
    /// Where to listen.
    pub listen: ListenAddr,
    /// Where connections lead.
    pub destination: Destination,
}

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddr {
    /// 127.0.0.1, and ::1 where there is one.
    Loopback {
        /// The port; 0 for one that is free.
        port: u16,
    },
    /// One address.
    Address(SocketAddr),
    /// A UNIX socket, for this user alone.
    Unix(PathBuf),
}

/// Where connections lead, as the target sees it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Destination {
    /// A port of the target itself.
    Target {
        /// The port.
        port: u16,
    },
    /// A port of a host.
    Host {
        /// Name or address; names are looked up by the target.
        host: String,
        /// The port.
        port: u16,
    },
}

/// Longest host name taken: what DNS allows.
const HOST_MAX: usize = 255;

impl Destination {
    /// The request for a session on `target` that leads here.
    pub fn request(&self, target: &str) -> StartSession {
        match self {
            Self::Target { port } => StartSession::port(target, *port),
            Self::Host { host, port } => StartSession::remote_host(target, host, *port),
        }
    }
}

impl ListenAddr {
    /// Whether only programs on this machine can connect.
    pub fn is_loopback(&self) -> bool {
        match self {
            Self::Loopback { .. } | Self::Unix(_) => true,
            Self::Address(address) => address.ip().is_loopback(),
        }
    }
}

impl FromStr for ForwardSpec {
    type Err = ParseSpecError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).map_err(|reason| ParseSpecError { text: text.chars().take(300).collect(), reason })
    }
}

impl FromStr for ListenAddr {
    type Err = ParseSpecError;

    /// `[bind:]port`, as `ssh -D` has it, or the path of a UNIX socket.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if is_path(text) {
            return Ok(Self::Unix(text.into()));
        }
        let parsed = split(text).and_then(|fields| match fields.as_slice() {
            [port] => Ok(Self::Loopback { port: local_port(port)? }),
            [bind, port] => listen(bind, local_port(port)?),
            _ => Err("it has more than two fields"),
        });
        parsed.map_err(|reason| ParseSpecError { text: text.chars().take(300).collect(), reason })
    }
}

impl FromStr for Destination {
    type Err = ParseSpecError;

    /// `host:port`, as `ssh -W` has it; `port` for the target itself.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = split(text).and_then(|fields| behind(&fields));
        parsed.map_err(|reason| ParseSpecError { text: text.chars().take(300).collect(), reason })
    }
}

fn parse(text: &str) -> Result<ForwardSpec, &'static str> {
    if is_path(text) {
        let (path, rest) = text.split_once(':').ok_or("the socket leads nowhere")?;
        let listen = ListenAddr::Unix(path.into());
        return Ok(ForwardSpec { listen, destination: behind(&split(rest)?)? });
    }
    let fields = split(text)?;
    let (listen, destination) = match fields.as_slice() {
        [port] => {
            let port = remote_port(port)?;
            (ListenAddr::Loopback { port }, Destination::Target { port })
        }
        [local, remote] => (
            ListenAddr::Loopback { port: local_port(local)? },
            Destination::Target { port: remote_port(remote)? },
        ),
        [local, host, remote] => {
            (ListenAddr::Loopback { port: local_port(local)? }, destination(host, remote)?)
        }
        [bind, local, host, remote] => (listen(bind, local_port(local)?)?, destination(host, remote)?),
        _ => return Err("it has more than four fields"),
    };
    Ok(ForwardSpec { listen, destination })
}

fn is_path(text: &str) -> bool {
    text.starts_with('/') || text.starts_with("./")
}

fn behind(fields: &[&str]) -> Result<Destination, &'static str> {
    match fields {
        [port] => Ok(Destination::Target { port: remote_port(port)? }),
        [host, port] => destination(host, port),
        _ => Err("the destination is neither host:port nor port"),
    }
}

/// Splits at colons that are not inside brackets, and takes the brackets off.
fn split(text: &str) -> Result<Vec<&str>, &'static str> {
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let (field, behind) = if let Some(inner) = rest.strip_prefix('[') {
            let (field, behind) = inner.split_once(']').ok_or("a bracket is not closed")?;
            (field, behind)
        } else {
            rest.split_at(rest.find(':').unwrap_or(rest.len()))
        };
        fields.push(field);
        match behind.strip_prefix(':') {
            Some(next) => rest = next,
            None if behind.is_empty() => return Ok(fields),
            None => return Err("a closing bracket is not followed by a colon"),
        }
        if fields.len() > 4 {
            return Ok(fields);
        }
    }
}

fn local_port(text: &str) -> Result<u16, &'static str> {
    number(text).or_else(|| service(text)).ok_or("the local port is not a number up to 65535")
}

fn remote_port(text: &str) -> Result<u16, &'static str> {
    let port = number(text).or_else(|| service(text)).filter(|port| *port != 0);
    port.ok_or("the remote port is not a number from 1 to 65535")
}

fn number(text: &str) -> Option<u16> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// The TCP port of a service, where the system has a list of them.
fn service(name: &str) -> Option<u16> {
    if !name.starts_with(|first: char| first.is_ascii_alphabetic()) {
        return None;
    }
    find_service(&std::fs::read_to_string("/etc/services").ok()?, name)
}

/// Lines are `name port/protocol aliases # comment`.
fn find_service(table: &str, name: &str) -> Option<u16> {
    table.lines().find_map(|line| {
        let mut words = line.split('#').next()?.split_whitespace();
        let (first, port) = (words.next()?, words.next()?.strip_suffix("/tcp")?);
        (first == name || words.any(|alias| alias == name)).then(|| port.parse().ok())?
    })
}

fn listen(bind: &str, port: u16) -> Result<ListenAddr, &'static str> {
    Ok(match bind {
        "" | "localhost" => ListenAddr::Loopback { port },
        "*" => ListenAddr::Address(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))),
        address => {
            let address: IpAddr = address.parse().map_err(|_| "the bind address is no IP address")?;
            ListenAddr::Address(SocketAddr::from((address, port)))
        }
    })
}

pub(crate) fn destination(host: &str, port: &str) -> Result<Destination, &'static str> {
    let port = remote_port(port)?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':');
    if host.is_empty() {
        return Err("the host is empty");
    }
    if host.len() > HOST_MAX || host.starts_with('-') || !host.bytes().all(plain) {
        return Err("the host is neither a name nor an address");
    }
    if host.contains(':') && host.parse::<Ipv6Addr>().is_err() {
        return Err("the host is no IPv6 address");
    }
    Ok(Destination::Host { host: host.into(), port })
}

impl fmt::Display for ListenAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loopback { port } => write!(f, "localhost:{port}"),
            Self::Address(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Target { port } => write!(f, "port {port} of the target"),
            Self::Host { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Host { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(text: &str) -> String {
        match text.parse::<ForwardSpec>() {
            Ok(spec) => format!("{} -> {}", spec.listen, spec.destination),
            Err(error) => format!("error: {}", error.reason),
        }
    }

    #[test]
    fn every_form_of_ssh_is_read() {
        assert_eq!(spec("5432:db.internal:5432"), "localhost:5432 -> db.internal:5432");
        assert_eq!(spec("0:10.0.0.7:80"), "localhost:0 -> 10.0.0.7:80");
        assert_eq!(spec("127.0.0.2:8080:web:80"), "127.0.0.2:8080 -> web:80");
        assert_eq!(spec("*:8080:web:80"), "0.0.0.0:8080 -> web:80");
        assert_eq!(spec(":8080:web:80"), "localhost:8080 -> web:80");
        assert_eq!(spec("[::1]:8080:[fd00::7]:80"), "[::1]:8080 -> [fd00::7]:80");
        assert_eq!(spec("8080:[fd00::7]:80"), "localhost:8080 -> [fd00::7]:80");
        assert_eq!(spec("8080:80"), "localhost:8080 -> port 80 of the target");
        assert_eq!(spec("80"), "localhost:80 -> port 80 of the target");
    }

    #[test]
    fn sockets_are_paths_up_to_the_first_colon() {
        assert_eq!(spec("/run/db.sock:db.internal:5432"), "/run/db.sock -> db.internal:5432");
        assert_eq!(spec("./s:[fd00::7]:80"), "./s -> [fd00::7]:80");
        assert_eq!(spec("/s:80"), "/s -> port 80 of the target");
        assert!(spec("/s").contains("leads nowhere"));
        assert!(spec("/s:a:b:c").contains("the destination"));
    }

    #[test]
    fn listeners_and_destinations_stand_alone() {
        let listen = |text: &str| text.parse::<ListenAddr>().map(|listen| listen.to_string()).ok();
        assert_eq!(listen("1080").as_deref(), Some("localhost:1080"));
        assert_eq!(listen("[::1]:1080").as_deref(), Some("[::1]:1080"));
        assert_eq!(listen("/run/proxy.sock").as_deref(), Some("/run/proxy.sock"));
        assert_eq!(listen("a:1080"), None);
        assert_eq!(listen("1:2:3"), None);
        let destination = |text: &str| text.parse::<Destination>().map(|to| to.to_string()).ok();
        assert_eq!(destination("db:5432").as_deref(), Some("db:5432"));
        assert_eq!(destination("[fd00::7]:22").as_deref(), Some("[fd00::7]:22"));
        assert_eq!(destination("22").as_deref(), Some("port 22 of the target"));
        assert_eq!(destination("db:0"), None);
    }

    #[test]
    fn services_have_names_and_aliases() {
        let table = "# names\ndomain 53/udp\nhttp\t80/tcp www # World Wide Web\nhttp 80/udp\nbad x/tcp\n";
        assert_eq!(find_service(table, "http"), Some(80));
        assert_eq!(find_service(table, "www"), Some(80));
        assert_eq!(find_service(table, "World"), None);
        assert_eq!(find_service(table, "domain"), None);
        assert_eq!(find_service(table, "bad"), None);
    }

    #[test]
    fn mistakes_are_named() {
        for (text, reason) in [
            ("", "the remote port"),
            ("0", "the remote port"),
            ("80:web:65536", "the remote port"),
            ("x:web:80", "the local port"),
            ("+1:web:80", "the local port"),
            ("80::80", "the host is empty"),
            ("80:-oProxyCommand:80", "the host is neither"),
            ("80:a b:80", "the host is neither"),
            ("80:[fd00::zz]:80", "the host is no IPv6"),
            ("80:[fd00:1]:80", "the host is no IPv6"),
            ("host:80:web:80", "the bind address"),
            ("a:b:c:d:e:f", "it has more than four"),
            ("[::1:80:web:80", "a bracket"),
            ("[::1]80:web:80", "a closing bracket"),
        ] {
            assert!(spec(text).contains(reason), "{text}: {}", spec(text));
        }
    }

    #[test]
    fn an_error_shows_control_bytes_and_stays_short() {
        let error = format!("\x1b[2J{}", "9".repeat(10_000)).parse::<ForwardSpec>().unwrap_err().to_string();
        assert!(error.len() < 600 && !error.contains('\x1b'), "{error}");
    }
}
