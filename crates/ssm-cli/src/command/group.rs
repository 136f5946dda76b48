//! What `ssm up`, `ssm status` and `ssm down` share: which tunnels a group has, and which of them run.
//!
//! Each tunnel of a group is a process of its own, an `ssm forward --wait`, which has the name `GROUP/TUNNEL` in the registry.
//! One that cannot be had or comes to harm leaves the others alone, and `ssm tunnels` shows and stops each by itself.

use crate::config::{Config, Member, meant};
use crate::error::Error;
use crate::output::complain;
use crate::registry::{self, Peer, Tunnel};

use super::tunnels;

/// A tunnel as the configuration has it.
#[derive(Debug)]
pub(super) struct Planned<'a> {
    /// `GROUP/NAME` of an alias or a database, or `GROUP/#N` for the Nth of the group where it has none.
    pub(super) name: String,
    pub(super) member: &'a Member,
}

/// The tunnels of these groups, or of all.
///
/// # Errors
///
/// When there is no such group.
pub(super) fn planned<'a>(config: &'a Config, groups: &'a [String]) -> Result<Vec<Planned<'a>>, Error> {
    let configured = &config.file.groups;
    for group in groups {
        if !configured.contains_key(group) {
            return Err(Error::Usage(no_such_group(config, group)));
        }
    }
    let wanted = configured.iter().filter(|(group, _)| groups.is_empty() || groups.contains(group));
    let tunnels = wanted.flat_map(|(group, members)| {
        members.iter().enumerate().map(move |(index, member)| {
            let name = match member {
                Member::Alias(name) | Member::Database(name) => format!("{group}/{name}"),
                Member::Own(_) => format!("{group}/#{}", index + 1),
            };
            Planned { name, member }
        })
    });
    Ok(tunnels.collect())
}

fn no_such_group(config: &Config, group: &str) -> String {
    let names = || config.file.groups.keys().map(String::as_str);
    let file = config.path.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
    match meant(group, names()) {
        Some(word) => format!("there is no group {group} in {file}; did you mean {word}?"),
        None if names().next().is_none() => format!("there is no group {group}: {file} has none"),
        None => format!(
            "there is no group {group} in {file}; there are {}",
            names().collect::<Vec<_>>().join(", ")
        ),
    }
}

/// Those tunnels that belong to a group and run. Says which do not answer: they may be some.
///
/// # Errors
///
/// When the registry cannot be read.
pub(super) async fn running() -> Result<Vec<(Peer, String, Tunnel)>, Error> {
    let peers = registry::peers().map_err(Error::local("cannot look for tunnels"))?;
    let mut running = Vec::new();
    for (peer, answer) in tunnels::list(&peers).await {
        match answer {
            Ok(mut tunnel) => {
                if let Some(name) = tunnel.name.take() {
                    running.push((peer.clone(), name, tunnel));
                }
            }
            Err(error) => complain(format_args!("tunnel {}: {error}", peer.id)),
        }
    }
    Ok(running)
}

/// Whether a tunnel is of one of these groups, or of any when there are none.
pub(super) fn is_of(name: &str, groups: &[String]) -> bool {
    let group = name.split_once('/').map_or(name, |(group, _)| group);
    groups.is_empty() || groups.iter().any(|wanted| wanted == group)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tunnel_is_of_the_group_in_front_of_its_name() {
        let groups = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert!(is_of("dev/db", &[]) && is_of("dev/db", &groups(&["ops", "dev"])));
        assert!(!is_of("dev/db", &groups(&["db"])) && !is_of("device/db", &groups(&["dev"])));
    }
}
