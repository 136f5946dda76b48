//! From what the user wrote for a target to what a session is started on.

use std::collections::BTreeMap;

use ssm_resolve::{Aliases, Chain, Explanation, Match, More, ResolveError, Target};

use crate::args::ConnectionArgs;
#[cfg(feature = "lookup")]
use crate::cache;
use crate::error::Error;
#[cfg(feature = "lookup")]
use crate::{output::say, picker, table::Table};

/// What a session is started on; aliases have been followed. With `--attach` there may be no text, and it does not matter.
///
/// Where the name of several machines was written on a terminal, the user chooses.
pub(crate) async fn session_target(text: Option<&str>, connection: &ConnectionArgs) -> Result<String, Error> {
    let Some(text) = text else { return Ok(String::new()) };
    let target: Target = text.parse()?;
    // The session is there; which machine it is on is of no use.
    if connection.attach {
        return Ok(target.to_string());
    }
    let resolved = match explain(&target, None, connection).await?.result {
        Err(ResolveError::Ambiguous { matches, more, .. }) if can_choose() => {
            return Ok(choose(&target, &matches, more).await?.target.to_string());
        }
        result => result?,
    };
    if let Some(step) = &resolved.step {
        tracing::info!(%target, found = %resolved.found, step, "looked up");
    }
    Ok(resolved.target().to_string())
}

/// Searches for the machine; `alias` is what the user's name for it stands for. What needs no lookup needs no account either, nor
/// does what was found a moment ago.
///
/// # Errors
///
/// When an ARN is of another region than `--region` says, and when there is no account to look in.
pub(crate) async fn explain(
    target: &Target,
    alias: Option<Target>,
    connection: &ConnectionArgs,
) -> Result<Explanation, Error> {
    let meant = alias.as_ref().unwrap_or(target);
    check_region(meant, connection)?;
    let aliases = alias.clone().map(|alias| (target.to_string(), alias));
    let aliases = Aliases::new(BTreeMap::from_iter(aliases));
    if meant.session_target().is_some() {
        return Ok(Chain::new().then(aliases).explain(target).await);
    }
    #[cfg(feature = "lookup")]
    if let Some(known) = cache::known(meant, connection) {
        return Ok(Chain::new().then(aliases).then(known).explain(target).await);
    }
    let explanation = account(target, aliases, connection).await?.explain(target).await;
    #[cfg(feature = "lookup")]
    if let Ok(resolved) = &explanation.result {
        cache::keep(meant, resolved, connection);
    }
    Ok(explanation)
}

/// A session of a machine can only be started in its own region, which its ARN says.
fn check_region(target: &Target, connection: &ConnectionArgs) -> Result<(), Error> {
    match (target, &connection.region) {
        (Target::Arn(arn), Some(region)) if arn.region() != region => Err(Error::Usage(format!(
            "the ARN is of a machine in {}, and --region says {region}: leave --region out",
            arn.region()
        ))),
        _ => Ok(()),
    }
}

/// Whether the user can be asked which of several machines is meant.
pub(crate) fn can_choose() -> bool {
    #[cfg(feature = "lookup")]
    return picker::is_possible();
    #[cfg(not(feature = "lookup"))]
    false
}

/// Has the user choose one of several machines.
#[cfg(feature = "lookup")]
pub(crate) async fn choose(target: &Target, matches: &[Match], more: More) -> Result<Match, Error> {
    let mut table = Table::headless();
    for found in matches {
        let address = found.address.map(|address| address.to_string());
        let cells = [found.name.as_deref(), found.state.as_deref(), address.as_deref()];
        let [name, state, address] = cells.map(Option::unwrap_or_default);
        table.row([found.target.as_str(), name, state, address]);
    }
    let several = match more {
        More::No => format!("{} machines", matches.len()),
        More::Maybe => format!("the first {} machines", matches.len()),
    };
    let chosen = picker::choose(&format!("{target}, {several}:"), &table.lines()).await?;
    say(format_args!("going on with {}", matches[chosen]));
    Ok(matches[chosen].clone())
}

#[cfg(not(feature = "lookup"))]
#[expect(clippy::unused_async, reason = "the other one waits")]
pub(crate) async fn choose(target: &Target, matches: &[Match], more: More) -> Result<Match, Error> {
    let (target, matches) = (Box::new(target.clone()), matches.to_vec());
    Err(ResolveError::Ambiguous { target, matches, more }.into())
}

/// The machines of the account of these options.
#[cfg(feature = "lookup")]
pub(crate) fn inventory(
    account: &ssm_session::AwsControl,
    connection: &ConnectionArgs,
) -> ssm_resolve::AwsInventory {
    match &connection.endpoint_url {
        Some(url) => ssm_resolve::AwsInventory::with_ssm_endpoint(account.sdk_config(), url),
        None => ssm_resolve::AwsInventory::new(account.sdk_config()),
    }
}

/// The steps of the default order, in the account of these options.
#[cfg(feature = "lookup")]
async fn account(_: &Target, aliases: Aliases, connection: &ConnectionArgs) -> Result<Chain, Error> {
    use ssm_resolve::{AwsClusters, Containers, Dns, Several};

    let account = crate::options::account(connection).await?;
    let inventory = inventory(&account, connection);
    let chain = match Dns::system() {
        Ok(dns) => Chain::standard_with_dns(aliases, inventory, dns),
        Err(error) => {
            tracing::warn!(%error, "names are looked up without DNS");
            Chain::standard(aliases, inventory)
        }
    };
    let chain = chain.then(Containers::new(AwsClusters::new(account.sdk_config())));
    Ok(chain.several(if connection.first { Several::First } else { Several::Refuse }))
}

#[cfg(not(feature = "lookup"))]
#[expect(clippy::unused_async, reason = "the other one waits")]
async fn account(target: &Target, _: Aliases, _: &ConnectionArgs) -> Result<Chain, Error> {
    let shown = target.to_string();
    Err(Error::Target(ssm_resolve::ParseTargetError::LookupNeeded { shown }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arn_is_of_its_region() {
        let target: Target = "arn:aws:ec2:eu-west-1:123456789012:instance/i-01234567".parse().unwrap();
        let in_region = |region: Option<&str>| ConnectionArgs {
            region: region.map(Into::into),
            ..ConnectionArgs::default()
        };
        assert!(check_region(&target, &in_region(None)).is_ok());
        assert!(check_region(&target, &in_region(Some("eu-west-1"))).is_ok());
        let error = check_region(&target, &in_region(Some("us-east-1"))).unwrap_err().to_string();
        assert!(error.contains("eu-west-1") && error.contains("--region says us-east-1"), "{error}");
    }
}
