//! `[db.NAME]`: what is looked for in an account, and how it is used.

use super::setting::{Settings, Value};

/// A database as the configuration has it.
#[derive(Debug)]
pub(crate) struct Database {
    /// What to look for; without it the name of the entry.
    pub(crate) selector: Option<(Selector, Value)>,
    /// One of [`ENGINES`].
    pub(crate) engine: Option<Value>,
    /// A [`Target`](ssm_resolve::Target).
    pub(crate) bastion: Option<Value>,
    pub(crate) user: Option<Value>,
    pub(crate) database: Option<Value>,
    /// The name, the ARN or the beginning of the name of a secret.
    pub(crate) secret: Option<Value>,
    /// Where it stands that a token of IAM takes the place of a password.
    pub(crate) iam: Option<Value>,
    /// A port, for profiles that none of `ports` is for.
    pub(crate) local_port: Option<Value>,
    /// The local port for profiles whose names end like this.
    pub(crate) ports: Vec<(String, Value)>,
    /// How the names of the profiles begin that this can be reached with.
    pub(crate) profile_filter: Option<Value>,
    pub(crate) settings: Settings,
}

/// What a database is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Selector {
    Cluster,
    Instance,
    Cache,
}

impl Selector {
    /// As a key of the configuration.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::Instance => "instance",
            Self::Cache => "cache",
        }
    }
}

/// As `--engine` has them.
const ENGINES: [&str; 4] = ["postgres", "mysql", "redis", "memcached"];

/// Refuses what `--engine` refuses.
pub(super) fn engine(text: &str) -> Result<(), String> {
    if ENGINES.contains(&text) { Ok(()) } else { Err(format!("the engines are {}", ENGINES.join(", "))) }
}

#[cfg(feature = "db")]
impl Database {
    /// The local port for a profile: that of the longest end of its name, else the one for all.
    pub(crate) fn port(&self, profile: Option<&str>) -> Option<u16> {
        let ends = self.ports.iter().filter(|(suffix, _)| profile.is_some_and(|name| name.ends_with(suffix)));
        let longest = ends.max_by_key(|(suffix, _)| suffix.len());
        longest.map(|(_, port)| port).or(self.local_port.as_ref()).map(Value::parse)
    }

    /// Whether the profile is to be chosen from those there are.
    pub(crate) fn chooses_profile(&self) -> bool {
        self.profile_filter.is_some() || !self.ports.is_empty()
    }

    /// Those of these profiles that this can be reached with. Without a filter of its own that is each that no filter of `others` is
    /// for; of all only those that a port is for, where there are such.
    pub(crate) fn profiles<'a>(
        &self,
        all: impl IntoIterator<Item = &'a str>,
        others: &[&Self],
    ) -> Vec<&'a str> {
        let begins = |name: &str, of: &Self| {
            of.profile_filter.as_ref().is_some_and(|filter| name.starts_with(&filter.text))
        };
        let is_own = |name: &&str| match self.profile_filter {
            Some(_) => begins(name, self),
            None => !others.iter().any(|other| begins(name, other)),
        };
        let has_port = |name: &&str| {
            self.ports.is_empty() || self.ports.iter().any(|(suffix, _)| name.ends_with(suffix.as_str()))
        };
        all.into_iter().filter(is_own).filter(has_port).collect()
    }
}

#[cfg(feature = "db")]
#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::File;

    fn parse(text: &str) -> File {
        File::parse(Path::new("/c"), text).unwrap()
    }

    #[test]
    fn the_longest_end_of_a_profile_decides_on_its_port() {
        let file = parse("[db.a]\nlocal-port = 1\nports = { eu = 2, dev-eu = 3, -eu = 4 }");
        let port = |profile| file.databases["a"].port(profile);
        assert_eq!(port(Some("corp-dev-eu")), Some(3));
        assert_eq!(port(Some("corp-eu")), Some(4));
        assert_eq!(port(Some("neu")), Some(2));
        assert_eq!((port(Some("corp-us")), port(None)), (Some(1), Some(1)));
        assert_eq!(parse("[db.a]").databases["a"].port(Some("x")), None);
    }

    #[test]
    fn a_database_without_a_filter_has_the_profiles_that_no_other_claims() {
        let file = parse(
            "[db.orders]\nprofile-filter = 'orders-'\nports = { dev = 1 }\n[db.rest]\nports = { dev = 2, prod = 3 }",
        );
        let all = ["default", "orders-dev", "orders-prod", "corp-dev", "corp-prod"];
        let (orders, rest) = (&file.databases["orders"], &file.databases["rest"]);
        assert_eq!(orders.profiles(all, &[rest]), ["orders-dev"]);
        assert_eq!(rest.profiles(all, &[orders]), ["corp-dev", "corp-prod"]);
        assert!(rest.chooses_profile() && !parse("[db.a]").databases["a"].chooses_profile());
    }
}
