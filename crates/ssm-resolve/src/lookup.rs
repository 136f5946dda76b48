//! The steps that ask an account: [`InstanceTag`], [`InstanceAddress`], [`ComputerName`]; and [`Aliases`].

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::inventory::{self, Filter, Inventory};
use crate::{Answer, LookupError, Matches, Resolver, SessionTarget, Target};

/// How many machines one lookup collects: enough to choose from on a screen.
pub const MAX_MATCHES: usize = 100;

/// Running EC2 instances by `tag:KEY=VALUE`, `asg:GROUP`, or a name that is their Name tag. One API call, more only when the
/// answer comes in pages.
#[derive(Debug, Clone)]
pub struct InstanceTag<I> {
    inventory: I,
}

impl<I: Inventory> InstanceTag<I> {
    /// Looks in this account.
    pub fn new(inventory: I) -> Self {
        Self { inventory }
    }
}

impl<I: Inventory> Resolver for InstanceTag<I> {
    fn step(&self) -> Cow<'_, str> {
        "tag of an instance".into()
    }

    async fn resolve(&self, target: &Target) -> Result<Answer, LookupError> {
        let filters = match target {
            Target::Tag(tag) => inventory::tag(tag),
            Target::Group(name) => inventory::group(name),
            Target::Name(name) => inventory::name(name),
            _ => return Ok(Answer::NotMine),
        };
        Ok(Answer::from_matches(instances(&self.inventory, &filters).await?))
    }
}

/// Running EC2 instances by a public, private or IPv6 address.
#[derive(Debug, Clone)]
pub struct InstanceAddress<I> {
    inventory: I,
}

impl<I: Inventory> InstanceAddress<I> {
    /// Looks in this account.
    pub fn new(inventory: I) -> Self {
        Self { inventory }
    }
}

impl<I: Inventory> Resolver for InstanceAddress<I> {
    fn step(&self) -> Cow<'_, str> {
        "address of an instance".into()
    }

    async fn resolve(&self, target: &Target) -> Result<Answer, LookupError> {
        match target {
            Target::Address(address) => by_address(&self.inventory, &[*address]).await,
            _ => Ok(Answer::NotMine),
        }
    }
}

/// The first of the lookups for these addresses that finds something.
pub(crate) async fn by_address<I: Inventory>(
    inventory: &I,
    addresses: &[IpAddr],
) -> Result<Answer, LookupError> {
    let lookups: Vec<Vec<Filter>> = inventory::addresses(addresses);
    for filters in lookups {
        let matches = instances(inventory, &filters).await?;
        if !matches.found.is_empty() {
            return Ok(Answer::Found(matches));
        }
    }
    Ok(Answer::Nothing)
}

/// The instances that pass every filter. Of several, those that are online; one is not worth a second call: starting a session says
/// as much.
async fn instances<I: Inventory>(inventory: &I, filters: &[Filter]) -> Result<Matches, LookupError> {
    let mut matches = inventory.instances(filters, MAX_MATCHES).await?;
    if matches.found.len() < 2 {
        return Ok(matches);
    }
    let targets: Vec<SessionTarget> = matches.found.iter().map(|found| found.target.clone()).collect();
    // Who may not list nodes may still start sessions.
    let Ok(Some(online)) = inventory.online(&targets).await else { return Ok(matches) };
    if targets.iter().any(|target| online.contains(target)) {
        matches.found.retain(|found| online.contains(&found.target));
    } else {
        for found in &mut matches.found {
            let state = found.state.as_deref().unwrap_or("running");
            found.state = Some(format!("{state}, not online"));
        }
    }
    Ok(matches)
}

/// Managed nodes that are online, EC2 or not, by the name they have given themselves.
///
/// The API cannot look for it: every node of the account is read, a page at a time.
#[derive(Debug, Clone)]
pub struct ComputerName<I> {
    inventory: I,
}

impl<I: Inventory> ComputerName<I> {
    /// Looks in this account.
    pub fn new(inventory: I) -> Self {
        Self { inventory }
    }
}

impl<I: Inventory> Resolver for ComputerName<I> {
    fn step(&self) -> Cow<'_, str> {
        "computer name of a managed node".into()
    }

    async fn resolve(&self, target: &Target) -> Result<Answer, LookupError> {
        match target {
            // No machine calls itself `cluster/service`.
            Target::Name(name) if !name.as_str().contains('/') => {
                Ok(Answer::from_matches(self.inventory.nodes(name.as_str(), MAX_MATCHES).await?))
            }
            _ => Ok(Answer::NotMine),
        }
    }
}

/// Whether a node that calls itself `computer_name` is meant by `wanted`: the same letters in either case, with or without the
/// domain.
pub fn is_computer_name(computer_name: &str, wanted: &str) -> bool {
    let host = computer_name.split('.').next().unwrap_or_default();
    computer_name.eq_ignore_ascii_case(wanted) || (!host.is_empty() && host.eq_ignore_ascii_case(wanted))
}

/// Names the user has given to targets.
#[derive(Debug, Clone, Default)]
pub struct Aliases {
    targets: BTreeMap<String, Target>,
}

impl Aliases {
    /// These names.
    pub fn new(targets: BTreeMap<String, Target>) -> Self {
        Self { targets }
    }
}

impl Resolver for Aliases {
    fn step(&self) -> Cow<'_, str> {
        "alias".into()
    }

    async fn resolve(&self, target: &Target) -> Result<Answer, LookupError> {
        Ok(match target {
            Target::Name(name) => {
                self.targets.get(name.as_str()).cloned().map_or(Answer::Nothing, Answer::Alias)
            }
            _ => Answer::NotMine,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn computer_names_are_compared_without_case_and_domain() {
        assert!(is_computer_name("WEB-1.corp.example.com", "web-1"));
        assert!(is_computer_name("web-1.corp", "WEB-1.CORP"));
        assert!(!is_computer_name("web-1.corp", "web-1.other"));
        assert!(!is_computer_name("web-10", "web-1"));
        assert!(!is_computer_name("", "web-1"));
        assert!(!is_computer_name(".corp", ""));
    }
}
