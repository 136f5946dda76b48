//! A database as the account has it.

use std::fmt;

use crate::args::EngineArg;
use crate::error::Error;

/// A cluster, an instance or a cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Database {
    pub(super) id: String,
    pub(super) kind: Kind,
    pub(super) engine: Engine,
    /// As the service calls it.
    pub(super) engine_name: String,
    pub(super) status: String,
    pub(super) writer: Option<Endpoint>,
    pub(super) reader: Option<Endpoint>,
    /// The cluster or group that it is a part of.
    pub(super) part_of: Option<String>,
    /// The master user.
    pub(super) user: Option<String>,
    /// The one that it was made with.
    pub(super) schema: Option<String>,
    /// Where RDS keeps the password of the master user.
    pub(super) secret: Option<String>,
    /// Whether tokens of IAM are taken, where the service says it.
    pub(super) takes_iam: Option<bool>,
    /// Whether a cache is spoken to with TLS.
    pub(super) tls: bool,
    /// Whether its keys are on several nodes, to which clients are sent on.
    pub(super) sharded: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Cluster,
    Instance,
    ReplicationGroup,
    CacheCluster,
    ServerlessCache,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Engine {
    Postgres,
    MySql,
    Redis,
    Memcached,
    /// One that is forwarded to, and nothing more is known of.
    Other,
}

/// Where something listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(super) host: String,
    pub(super) port: u16,
}

/// Which of the endpoints is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Writer,
    Reader,
}

impl Database {
    pub(super) fn new(id: &str, kind: Kind, engine: &str, status: &str) -> Self {
        Self {
            id: id.to_owned(),
            kind,
            engine: Engine::named(engine),
            engine_name: engine.to_owned(),
            status: status.to_owned(),
            writer: None,
            reader: None,
            part_of: None,
            user: None,
            schema: None,
            secret: None,
            takes_iam: None,
            tls: false,
            sharded: false,
        }
    }

    pub(super) fn is_available(&self) -> bool {
        self.status == "available"
    }

    /// An endpoint as the service gives it: without a port, the usual one of the engine.
    pub(super) fn endpoint_at(&self, host: Option<&str>, port: Option<i32>) -> Option<Endpoint> {
        let host = host.filter(|host| !host.is_empty())?.to_owned();
        let port = port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0);
        Some(Endpoint { host, port: port.or_else(|| self.engine.usual_port())? })
    }

    /// Where to lead.
    ///
    /// # Errors
    ///
    /// When there is no such endpoint, or none that a machine could look up.
    pub(super) fn endpoint(&self, role: Role) -> Result<&Endpoint, Error> {
        let endpoint = match role {
            Role::Writer => &self.writer,
            Role::Reader => &self.reader,
        };
        let why = match (endpoint, role) {
            (Some(endpoint), _) if endpoint.is_plain() => return Ok(endpoint),
            (Some(_), _) => "the service gives it an address that is no host name",
            (None, Role::Writer) => "it has no endpoint (yet)",
            (None, Role::Reader) => "it has no endpoint for readers; leave --reader out",
        };
        Err(Error::Database(format!("{self} cannot be reached: {why}")))
    }
}

impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}  {}  {}", self.kind, self.id, self.engine_name, self.status)
    }
}

impl Kind {
    /// For programs.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::Instance => "instance",
            Self::ReplicationGroup => "replication-group",
            Self::CacheCluster => "cache-cluster",
            Self::ServerlessCache => "serverless-cache",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Engine {
    fn named(name: &str) -> Self {
        match name {
            "postgres" | "aurora-postgresql" => Self::Postgres,
            "mysql" | "mariadb" | "aurora-mysql" | "aurora" => Self::MySql,
            "redis" | "valkey" => Self::Redis,
            "memcached" => Self::Memcached,
            _ => Self::Other,
        }
    }

    pub(super) fn usual_port(self) -> Option<u16> {
        match self {
            Self::Postgres => Some(5432),
            Self::MySql => Some(3306),
            Self::Redis => Some(6379),
            Self::Memcached => Some(11211),
            Self::Other => None,
        }
    }

    /// Whether it is one of ElastiCache's.
    pub(super) fn is_cache(self) -> bool {
        matches!(self, Self::Redis | Self::Memcached)
    }
}

impl From<EngineArg> for Engine {
    fn from(engine: EngineArg) -> Self {
        match engine {
            EngineArg::Postgres => Self::Postgres,
            EngineArg::Mysql => Self::MySql,
            EngineArg::Redis => Self::Redis,
            EngineArg::Memcached => Self::Memcached,
        }
    }
}

impl Endpoint {
    /// Whether the host is a name or an address, of letters, digits, dots and hyphens.
    fn is_plain(&self) -> bool {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
        self.host.len() <= 253 && !self.host.starts_with('-') && self.host.bytes().all(plain)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_the_service_does_not_say_is_the_usual_one() {
        let port = |engine: &str, port| {
            let database = Database::new("d", Kind::Instance, engine, "available");
            database.endpoint_at(Some("h"), port).map(|endpoint| endpoint.port)
        };
        assert_eq!(port("aurora-postgresql", None), Some(5432));
        assert_eq!(port("mariadb", Some(0)), Some(3306));
        assert_eq!((port("valkey", None), port("postgres", Some(6543))), (Some(6379), Some(6543)));
        assert_eq!((port("oracle-ee", None), port("oracle-ee", Some(1521))), (None, Some(1521)));
        let database = Database::new("d", Kind::Instance, "postgres", "available");
        assert_eq!(database.endpoint_at(Some(""), None), None);
    }

    #[test]
    fn a_host_that_is_none_is_not_led_to() {
        let mut database = Database::new("d", Kind::Instance, "postgres", "available");
        for host in ["-oProxyCommand", "a b", "h\x1b[2J", "a/b", "h;id", "[::1]"] {
            database.writer = database.endpoint_at(Some(host), None);
            let told = database.endpoint(Role::Writer).unwrap_err().to_string();
            assert!(told.contains("no host name") && !told.contains(host), "{told}");
        }
        database.writer = database.endpoint_at(Some("d.cx7.eu-west-1.rds.amazonaws.com"), None);
        assert!(database.endpoint(Role::Writer).is_ok());
        assert!(database.endpoint(Role::Reader).unwrap_err().to_string().contains("leave --reader out"));
    }
}
