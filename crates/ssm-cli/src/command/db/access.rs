//! How programs are told of the database: a connection string, variables, words for arguments.

use std::fmt::Write as _;

use ssm_session::Secret;

use super::database::{Endpoint, Engine};

/// Everything that programs are told.
#[derive(Debug)]
pub(super) struct Access {
    pub(super) engine: Engine,
    /// Where the database is, behind the bastion.
    pub(super) endpoint: Endpoint,
    pub(super) user: Option<String>,
    pub(super) schema: Option<String>,
    pub(super) password: Option<Secret<String>>,
    /// Whether a cache is spoken to with TLS.
    pub(super) tls: bool,
    /// Whether the password is a token of IAM, which databases take over TLS only.
    pub(super) iam: bool,
}

/// Whether a text may hold the password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Password {
    Shown,
    Hidden,
}

/// What is not written as it is in a part of a URL.
const UNRESERVED: &[u8] = b"-._~";

impl Access {
    /// A URL for the local port; host and port alone for an engine that has none.
    pub(super) fn url(&self, port: u16, password: Password) -> Secret<String> {
        let (scheme, host) = match self.engine {
            Engine::Postgres => ("postgresql://", "localhost"),
            // For MySQL's own programs `localhost` is a socket.
            Engine::MySql => ("mysql://", "127.0.0.1"),
            Engine::Redis if self.tls => ("rediss://", "localhost"),
            Engine::Redis => ("redis://", "localhost"),
            Engine::Memcached | Engine::Other => ("", "localhost"),
        };
        let mut url = Secret::new(scheme.to_owned());
        let text = url.expose_mut();
        let password = self.password.as_ref().filter(|_| password == Password::Shown);
        if !scheme.is_empty() && (self.user.is_some() || password.is_some()) {
            encode(text, self.user.as_deref().unwrap_or_default());
            if let Some(password) = password {
                text.push(':');
                encode(text, password.expose());
            }
            text.push('@');
        }
        text.push_str(host);
        text.push(':');
        text.push_str(&port.to_string());
        if let (Engine::Postgres | Engine::MySql, Some(schema)) = (self.engine, self.schema()) {
            text.push('/');
            encode(text, schema);
        }
        if self.engine == Engine::Postgres && self.iam {
            text.push_str("?sslmode=require");
        }
        url
    }

    /// The database to use. PostgreSQL takes the name of the user for one otherwise, which is seldom there; RDS always has one that is
    /// called like this.
    pub(super) fn schema(&self) -> Option<&str> {
        match (&self.schema, self.engine) {
            (Some(schema), _) => Some(schema),
            (None, Engine::Postgres) => Some("postgres"),
            (None, _) => None,
        }
    }

    /// What a command finds in its environment. `read` gives what is there already.
    pub(super) fn variables(
        &self,
        port: u16,
        read: impl Fn(&str) -> Option<String>,
    ) -> Vec<(String, Secret<String>)> {
        let port_text = port.to_string();
        let user = self.user.as_deref();
        let password = self.password.as_ref().map(|password| password.expose().as_str());
        let url = self.url(port, Password::Hidden);
        let endpoint_port = self.endpoint.port.to_string();
        let mut variables = vec![
            ("SSM_DB_URL", Some(url.expose().as_str())),
            ("SSM_DB_HOST", Some(self.endpoint.host.as_str())),
            ("SSM_DB_PORT", Some(endpoint_port.as_str())),
        ];
        match self.engine {
            Engine::Postgres => {
                let mode = read("PGSSLMODE").filter(|mode| !mode.is_empty());
                // libpq connects to PGHOSTADDR, and looks for PGHOST in the certificate.
                let verifies = mode.as_deref() == Some("verify-full");
                let host = if verifies { self.endpoint.host.as_str() } else { "localhost" };
                variables.extend([
                    ("PGHOST", Some(host)),
                    ("PGHOSTADDR", Some("127.0.0.1")),
                    ("PGPORT", Some(port_text.as_str())),
                    ("PGUSER", user),
                    ("PGDATABASE", self.schema()),
                    ("PGPASSWORD", password),
                    ("PGSSLMODE", (self.iam && mode.is_none()).then_some("require")),
                ]);
            }
            Engine::MySql => variables.extend([
                ("MYSQL_HOST", Some("127.0.0.1")),
                ("MYSQL_TCP_PORT", Some(port_text.as_str())),
                ("MYSQL_USER", user),
                ("MYSQL_DATABASE", self.schema()),
                ("MYSQL_PWD", password),
                // A token goes to the server as it is, over TLS.
                ("LIBMYSQL_ENABLE_CLEARTEXT_PLUGIN", self.iam.then_some("1")),
            ]),
            Engine::Redis => variables.extend([
                ("REDIS_HOST", Some("127.0.0.1")),
                ("REDIS_PORT", Some(port_text.as_str())),
                ("REDISCLI_AUTH", password),
            ]),
            Engine::Memcached | Engine::Other => {}
        }
        let given = variables.into_iter().filter_map(|(name, value)| Some((name, value?)));
        given.map(|(name, value)| (name.to_owned(), Secret::new(value.to_owned()))).collect()
    }

    /// What stands for words in braces in the arguments of a command.
    pub(super) fn words(&self) -> Vec<(&'static str, String)> {
        let words = [("user", self.user.as_deref()), ("database", self.schema())];
        words.into_iter().filter_map(|(name, word)| Some((name, word?.to_owned()))).collect()
    }
}

fn encode(url: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || UNRESERVED.contains(&byte) {
            url.push(byte.into());
        } else {
            // Writing to memory does not fail.
            let _ = write!(url, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(engine: Engine) -> Access {
        Access {
            engine,
            endpoint: Endpoint { host: "orders.cx7.eu-west-1.rds.amazonaws.com".into(), port: 5432 },
            user: Some("app user".into()),
            schema: Some("or/ders".into()),
            password: Some(Secret::new("p@ss:wörd".into())),
            tls: true,
            iam: false,
        }
    }

    fn variable(access: &Access, name: &str, environment: &[(&str, &str)]) -> Option<String> {
        let read = |name: &str| {
            environment.iter().find(|(found, _)| *found == name).map(|(_, value)| (*value).into())
        };
        let variables = access.variables(15432, read);
        variables.iter().find(|(found, _)| found == name).map(|(_, value)| value.expose().clone())
    }

    #[test]
    fn every_engine_has_its_connection_string() {
        let url = |access: &Access, password| access.url(15432, password).expose().clone();
        let mut database = access(Engine::Postgres);
        assert_eq!(url(&database, Password::Hidden), "postgresql://app%20user@localhost:15432/or%2Fders");
        assert_eq!(
            url(&database, Password::Shown),
            "postgresql://app%20user:p%40ss%3Aw%C3%B6rd@localhost:15432/or%2Fders"
        );
        (database.schema, database.iam) = (None, true);
        assert_eq!(
            url(&database, Password::Hidden),
            "postgresql://app%20user@localhost:15432/postgres?sslmode=require"
        );
        let mut database = access(Engine::MySql);
        assert_eq!(url(&database, Password::Hidden), "mysql://app%20user@127.0.0.1:15432/or%2Fders");
        database.schema = None;
        assert_eq!(url(&database, Password::Hidden), "mysql://app%20user@127.0.0.1:15432");
        let mut cache = Access { user: None, ..access(Engine::Redis) };
        assert_eq!(url(&cache, Password::Hidden), "rediss://localhost:15432");
        cache.tls = false;
        assert_eq!(url(&cache, Password::Shown), "redis://:p%40ss%3Aw%C3%B6rd@localhost:15432");
        assert_eq!(url(&access(Engine::Other), Password::Shown), "localhost:15432");
    }

    #[test]
    fn who_verifies_the_name_of_the_server_gets_the_real_one() {
        let database = access(Engine::Postgres);
        assert_eq!(variable(&database, "PGHOST", &[]).as_deref(), Some("localhost"));
        assert_eq!(variable(&database, "PGHOST", &[("PGSSLMODE", "require")]).as_deref(), Some("localhost"));
        let verified = variable(&database, "PGHOST", &[("PGSSLMODE", "verify-full")]);
        assert_eq!(verified.as_deref(), Some("orders.cx7.eu-west-1.rds.amazonaws.com"));
        assert_eq!(variable(&database, "PGHOSTADDR", &[]).as_deref(), Some("127.0.0.1"));
    }

    #[test]
    fn a_token_of_iam_goes_over_tls_unless_the_user_says_how() {
        let database = Access { iam: true, ..access(Engine::Postgres) };
        assert_eq!(variable(&database, "PGSSLMODE", &[]).as_deref(), Some("require"));
        assert_eq!(variable(&database, "PGSSLMODE", &[("PGSSLMODE", "verify-full")]), None);
        assert_eq!(variable(&access(Engine::Postgres), "PGSSLMODE", &[]), None);
        let database = Access { iam: true, ..access(Engine::MySql) };
        assert_eq!(variable(&database, "LIBMYSQL_ENABLE_CLEARTEXT_PLUGIN", &[]).as_deref(), Some("1"));
    }

    #[test]
    fn the_password_is_in_one_variable_only() {
        for (engine, name) in
            [(Engine::Postgres, "PGPASSWORD"), (Engine::MySql, "MYSQL_PWD"), (Engine::Redis, "REDISCLI_AUTH")]
        {
            let variables = access(engine).variables(1, |_| None);
            let with = variables
                .iter()
                .filter(|(_, value)| value.expose().contains("rd") && value.expose().contains("p@ss"));
            assert_eq!(with.map(|(name, _)| name.as_str()).collect::<Vec<_>>(), [name]);
            assert!(!format!("{variables:?}").contains("p@ss"));
            assert!(access(engine).words().iter().all(|(_, word)| !word.contains("p@ss")));
        }
    }
}
