//! The steps that ask DNS: [`DnsAddress`] and [`DnsText`], over one [`Dns`].

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RData;

use crate::inventory::Inventory;
use crate::lookup::by_address;
use crate::{Answer, InstanceId, LookupError, LookupErrorKind, Name, Resolver, SessionTarget, Target};

/// Most addresses a name may have. EC2 takes 200 values in a filter.
pub const MAX_ADDRESSES: usize = 200;

/// A client of DNS, for use inside a tokio runtime. Clones share it.
#[derive(Clone)]
pub struct Dns {
    resolver: Arc<TokioResolver>,
}

impl Dns {
    /// With the servers, search domains and hosts file of the system.
    ///
    /// # Errors
    ///
    /// When the system's configuration cannot be read.
    pub fn system() -> Result<Self, LookupError> {
        let mut builder = TokioResolver::builder_tokio()
            .map_err(|error| unusable(&format!("the system's DNS settings cannot be read: {error}")))?;
        builder.options_mut().ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        Self::build(builder)
    }

    /// With these servers, and the hosts file of the system. Each is asked up to twice, over UDP, then TCP for what is longer, and
    /// given `timeout` each time.
    ///
    /// # Errors
    ///
    /// When there is no server.
    pub fn with_servers(servers: &[SocketAddr], timeout: Duration) -> Result<Self, LookupError> {
        if servers.is_empty() {
            return Err(unusable("there is no DNS server"));
        }
        let name_servers = servers.iter().map(|server| {
            let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
                connection.port = server.port();
                connection
            });
            NameServerConfig::new(server.ip(), true, connections.into())
        });
        let config = ResolverConfig::from_parts(None, Vec::new(), name_servers.collect());
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        let options = builder.options_mut();
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        options.timeout = timeout;
        Self::build(builder)
    }

    fn build(builder: hickory_resolver::ResolverBuilder<TokioRuntimeProvider>) -> Result<Self, LookupError> {
        let resolver = builder.build().map_err(|error| unusable(&error.to_string()))?;
        Ok(Self { resolver: Arc::new(resolver) })
    }

    async fn addresses(&self, name: &Name) -> Result<Vec<IpAddr>, LookupError> {
        match self.resolver.lookup_ip(name.as_str()).await {
            Ok(lookup) => Ok(lookup.iter().collect()),
            Err(error) => nothing_or_failure(name, &error),
        }
    }

    async fn texts(&self, name: &Name) -> Result<Vec<String>, LookupError> {
        let lookup = match self.resolver.txt_lookup(name.as_str()).await {
            Ok(lookup) => lookup,
            Err(error) => return nothing_or_failure(name, &error),
        };
        let records = lookup.answers().iter().filter_map(|record| match &record.data {
            RData::TXT(text) => Some(String::from_utf8_lossy(&text.txt_data.concat()).into_owned()),
            _ => None,
        });
        Ok(records.collect())
    }
}

impl std::fmt::Debug for Dns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dns").finish_non_exhaustive()
    }
}

/// Running EC2 instances with an address that a DNS name has, by A and AAAA records.
#[derive(Debug, Clone)]
pub struct DnsAddress<I> {
    dns: Dns,
    inventory: I,
}

impl<I: Inventory> DnsAddress<I> {
    /// Asks `dns` for the addresses, then looks for them in this account.
    pub fn new(dns: Dns, inventory: I) -> Self {
        Self { dns, inventory }
    }
}

impl<I: Inventory> Resolver for DnsAddress<I> {
    fn step(&self) -> Cow<'_, str> {
        "DNS address".into()
    }

    async fn resolve(&self, target: &Target) -> Result<Answer, LookupError> {
        let Some(name) = dns_name(target) else { return Ok(Answer::NotMine) };
        let addresses = self.dns.addresses(name).await?;
        if addresses.len() > MAX_ADDRESSES {
            let message = format!("{} addresses, more than can be looked up", addresses.len());
            return Err(LookupError::new(LookupErrorKind::Invalid, message));
        }
        by_address(&self.inventory, &addresses).await
    }
}

/// The instance that a TXT record of a DNS name names: the first record that is an id starting with `i-`.
#[derive(Debug, Clone)]
pub struct DnsText {
    dns: Dns,
}

impl DnsText {
    /// Asks `dns`.
    pub fn new(dns: Dns) -> Self {
        Self { dns }
    }
}

impl Resolver for DnsText {
    fn step(&self) -> Cow<'_, str> {
        "DNS text".into()
    }

    async fn resolve(&self, target: &Target) -> Result<Answer, LookupError> {
        let Some(name) = dns_name(target) else { return Ok(Answer::NotMine) };
        let texts = self.dns.texts(name).await?;
        Ok(first_instance(&texts).map_or(Answer::Nothing, |id| Answer::Found(SessionTarget::from(id).into())))
    }
}

fn first_instance(texts: &[String]) -> Option<InstanceId> {
    texts.iter().filter(|text| text.starts_with("i-")).find_map(|text| text.parse().ok())
}

/// The name, if DNS could have it: labels of at most 63 letters, digits, `-` and `_`, 253 characters in all.
fn dns_name(target: &Target) -> Option<&Name> {
    let Target::Name(name) = target else { return None };
    let text = name.as_str().strip_suffix('.').unwrap_or(name.as_str());
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    (text.len() <= 253 && text.split('.').all(is_label)).then_some(name)
}

/// That there is no such name or record is an answer.
fn nothing_or_failure<T>(name: &Name, error: &NetError) -> Result<Vec<T>, LookupError> {
    if error.is_nx_domain() || error.is_no_records_found() {
        return Ok(Vec::new());
    }
    Err(LookupError::new(LookupErrorKind::Unreachable, format!("DNS gave no answer for {name}: {error}")))
}

fn unusable(message: &str) -> LookupError {
    LookupError::new(LookupErrorKind::Invalid, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_record_that_is_an_instance_counts() {
        let texts = ["v=spf1 -all", "mi-0123456789abcdef0", "i-1234567", "i-0123456789ABCDEF0", "i-01234567"];
        let texts = texts.map(ToOwned::to_owned);
        assert_eq!(first_instance(&texts).unwrap().as_str(), "i-0123456789ABCDEF0");
        assert_eq!(first_instance(&texts[..3]), None);
    }

    #[test]
    fn only_names_that_dns_could_have_are_asked_for() {
        for text in ["web", "web-1.corp.example.com", "web.example.com.", "_ssm.web", "10.0.0.256"] {
            assert!(dns_name(&text.parse().unwrap()).is_some(), "{text}");
        }
        let long_label = "a".repeat(64);
        let long_name = ["a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(63)].join(".");
        for text in [
            "my web",
            "prod/web/nginx",
            "web-*",
            "münchen",
            "a..b",
            ".",
            "tag:a=b",
            "10.0.0.1",
            &long_label,
            &long_name,
        ] {
            assert!(dns_name(&text.parse().unwrap()).is_none(), "{text}");
        }
    }
}
