//! From what the user wrote for a target to what a session is started on.

use ssm_resolve::{Aliases, Chain, Explanation, Target};
#[cfg(feature = "lookup")]
use ssm_resolve::{Match, More, ResolveError};

use crate::args::ConnectionArgs;
use crate::error::Error;
#[cfg(feature = "lookup")]
use crate::{output::say, picker, table::Table};

/// What a session is started on; aliases have been followed. With `--attach` there may be no text, and it does not matter.
pub(crate) async fn session_target(text: Option<&str>, connection: &ConnectionArgs) -> Result<String, Error> {
    let Some(text) = text else { return Ok(String::new()) };
    let target: Target = text.parse()?;
    // The session is there; which machine it is on is of no use.
    if connection.attach {
        return Ok(target.to_string());
    }
    let resolved = match explain(&target, Aliases::default(), connection).await?.result {
        #[cfg(feature = "lookup")]
        Err(ResolveError::Ambiguous { matches, more, .. }) if picker::is_possible() => {
            return choose(&target, &matches, more).await;
        }
        result => result?,
    };
    if let Some(step) = &resolved.step {
        tracing::info!(%target, found = %resolved.found, step, "looked up");
    }
    Ok(resolved.target().to_string())
}

/// Searches for the machine. What needs no lookup needs no account either.
pub(crate) async fn explain(
    target: &Target,
    aliases: Aliases,
    connection: &ConnectionArgs,
) -> Result<Explanation, Error> {
    let chain = match target.session_target() {
        Some(_) => Chain::new(),
        None => account(target, aliases, connection).await?,
    };
    Ok(chain.explain(target).await)
}

/// Has the user choose one of several machines.
#[cfg(feature = "lookup")]
async fn choose(target: &Target, matches: &[Match], more: More) -> Result<String, Error> {
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
    Ok(matches[chosen].target.to_string())
}

/// The steps of the default order, in the account of these options.
#[cfg(feature = "lookup")]
async fn account(_: &Target, aliases: Aliases, connection: &ConnectionArgs) -> Result<Chain, Error> {
    use ssm_resolve::{AwsClusters, AwsInventory, Containers, Dns, Several};

    let account = crate::options::account(connection).await?;
    let inventory = match &connection.endpoint_url {
        Some(url) => AwsInventory::with_ssm_endpoint(account.sdk_config(), url),
        None => AwsInventory::new(account.sdk_config()),
    };
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
