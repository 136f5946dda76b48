//! [`Inventory`]: what the lookups need to be told about an account, and the questions they ask.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use crate::{LookupError, Matches, Name, SessionTarget, Tag};

/// The machines of an account in one region.
pub trait Inventory: Send + Sync {
    /// The EC2 instances that pass every filter, at most `limit` of them.
    ///
    /// Memory has to stay bounded however many there are.
    ///
    /// # Errors
    ///
    /// When the account could not be asked.
    fn instances(
        &self,
        filters: &[Filter],
        limit: usize,
    ) -> impl Future<Output = Result<Matches, LookupError>> + Send;

    /// The managed nodes that are online and call themselves `name`, at most `limit` of them.
    ///
    /// # Errors
    ///
    /// When the account could not be asked.
    fn nodes(&self, name: &str, limit: usize) -> impl Future<Output = Result<Matches, LookupError>> + Send;

    /// Those of `targets` that are online in Systems Manager; `None`, which is the default, where that is not known. Asked when
    /// several instances answer to a name: a session can only be started on those.
    ///
    /// # Errors
    ///
    /// When the account could not be asked; the lookup goes on as if nothing were known.
    fn online(
        &self,
        targets: &[SessionTarget],
    ) -> impl Future<Output = Result<Option<BTreeSet<SessionTarget>>, LookupError>> + Send {
        let _ = targets;
        async { Ok(None) }
    }
}

impl<I: Inventory> Inventory for Arc<I> {
    fn instances(
        &self,
        filters: &[Filter],
        limit: usize,
    ) -> impl Future<Output = Result<Matches, LookupError>> + Send {
        (**self).instances(filters, limit)
    }

    fn nodes(&self, name: &str, limit: usize) -> impl Future<Output = Result<Matches, LookupError>> + Send {
        (**self).nodes(name, limit)
    }

    fn online(
        &self,
        targets: &[SessionTarget],
    ) -> impl Future<Output = Result<Option<BTreeSet<SessionTarget>>, LookupError>> + Send {
        (**self).online(targets)
    }
}

/// One filter of DescribeInstances: an instance passes with any of the values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// Name, as EC2 documents it.
    pub name: String,
    /// Values; `*` and `?` stand for any characters.
    pub values: Vec<String>,
}

impl Filter {
    fn new(name: impl Into<String>, values: impl IntoIterator<Item = String>) -> Self {
        Self { name: name.into(), values: values.into_iter().collect() }
    }
}

/// Running instances with this tag.
pub(crate) fn tag(tag: &Tag) -> Vec<Filter> {
    running(Filter::new(format!("tag:{}", tag.key()), [tag.value().to_owned()]))
}

/// Running instances with this Name tag.
pub(crate) fn name(name: &Name) -> Vec<Filter> {
    running(Filter::new("tag:Name", [name.as_str().to_owned()]))
}

/// Running instances of this Auto Scaling group.
pub(crate) fn group(name: &Name) -> Vec<Filter> {
    running(Filter::new("tag:aws:autoscaling:groupName", [name.as_str().to_owned()]))
}

/// The lookups for addresses of one machine, to be made in this order until one finds something.
///
/// A public IPv4 address tells machines apart. A private one does not, where networks overlap: it counts only when there is no
/// public one. IPv6 addresses come last.
pub(crate) fn addresses(addresses: &[IpAddr]) -> Vec<Vec<Filter>> {
    let (mut public, mut private, mut v6): (Vec<Ipv4Addr>, Vec<Ipv4Addr>, Vec<Ipv6Addr>) = Default::default();
    for address in addresses {
        match address.to_canonical() {
            IpAddr::V4(address) if is_private(address) => private.push(address),
            IpAddr::V4(address) => public.push(address),
            IpAddr::V6(address) => v6.push(address),
        }
    }
    let mut lookups = Vec::new();
    if !public.is_empty() {
        lookups.push(running(Filter::new("ip-address", public.iter().map(ToString::to_string))));
    } else if !private.is_empty() {
        lookups.push(running(Filter::new("private-ip-address", private.iter().map(ToString::to_string))));
    }
    if !v6.is_empty() {
        let name = "network-interface.ipv6-addresses.ipv6-address";
        lookups.push(running(Filter::new(name, v6.iter().map(ToString::to_string))));
    }
    lookups
}

/// RFC 1918 and the shared space of RFC 6598.
fn is_private(address: Ipv4Addr) -> bool {
    address.is_private() || matches!(address.octets(), [100, 64..=127, ..])
}

/// A session can only be started on a running instance.
fn running(filter: Filter) -> Vec<Filter> {
    vec![filter, Filter::new("instance-state-name", ["running".to_owned()])]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_running_instances_are_looked_up() {
        let state = Filter { name: "instance-state-name".into(), values: vec!["running".into()] };
        let name: Name = "web".parse().unwrap();
        let mut lookups = vec![tag(&Tag::new("a", "b").unwrap()), super::name(&name), group(&name)];
        lookups.extend(addresses(&["10.0.0.1".parse().unwrap(), "::1".parse().unwrap()]));
        lookups.extend(addresses(&["1.1.1.1".parse().unwrap()]));
        assert_eq!(lookups.len(), 6);
        for filters in lookups {
            assert_eq!(filters.len(), 2);
            assert_eq!(filters[1], state);
        }
    }

    #[test]
    fn a_tag_is_one_filter_with_its_wildcards() {
        assert_eq!(
            first(&tag(&Tag::new("Role", "web-*").unwrap())),
            ("tag:Role".into(), vec!["web-*".into()])
        );
        assert_eq!(first(&name(&"w?b".parse().unwrap())), ("tag:Name".into(), vec!["w?b".into()]));
        assert_eq!(
            first(&group(&"web".parse().unwrap())),
            ("tag:aws:autoscaling:groupName".into(), vec!["web".into()])
        );
    }

    #[test]
    fn private_addresses_are_those_of_rfc_1918_and_6598() {
        for address in [
            "10.0.0.0",
            "10.255.255.255",
            "172.16.0.0",
            "172.31.255.255",
            "192.168.0.1",
            "100.64.0.0",
            "100.127.255.255",
        ] {
            assert!(is_private(address.parse().unwrap()), "{address}");
        }
        for address in [
            "9.255.255.255",
            "11.0.0.0",
            "172.15.0.1",
            "172.32.0.0",
            "192.169.0.0",
            "100.63.0.1",
            "100.128.0.0",
            "127.0.0.1",
        ] {
            assert!(!is_private(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn a_public_address_hides_the_private_ones() {
        assert_eq!(
            lookups(&["10.0.0.1", "52.1.1.1", "192.168.0.1", "52.1.1.2"]),
            [("ip-address".into(), vec!["52.1.1.1".into(), "52.1.1.2".into()])]
        );
        assert_eq!(
            lookups(&["10.0.0.1", "192.168.0.1"]),
            [("private-ip-address".into(), vec!["10.0.0.1".into(), "192.168.0.1".into()])]
        );
    }

    #[test]
    fn ipv6_comes_last_and_mapped_ipv4_is_ipv4() {
        let v6 = "network-interface.ipv6-addresses.ipv6-address";
        assert_eq!(
            lookups(&["2001:db8:0::1", "::ffff:10.0.0.1"]),
            [
                ("private-ip-address".into(), vec!["10.0.0.1".into()]),
                (v6.into(), vec!["2001:db8::1".to_owned()]),
            ]
        );
        assert_eq!(lookups(&["2001:db8::1"]), [(v6.into(), vec!["2001:db8::1".to_owned()])]);
        assert_eq!(lookups(&[]), []);
    }

    fn first(filters: &[Filter]) -> (String, Vec<String>) {
        (filters[0].name.clone(), filters[0].values.clone())
    }

    fn lookups(texts: &[&str]) -> Vec<(String, Vec<String>)> {
        let parsed: Vec<IpAddr> = texts.iter().map(|text| text.parse().unwrap()).collect();
        addresses(&parsed).iter().map(|filters| first(filters)).collect()
    }
}
