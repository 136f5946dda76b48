//! Which machine, when the command line names none: aliases and machines that are online, to choose from.

use crate::args::ConnectionArgs;
use crate::config::Config;
use crate::error::Error;

/// What there is to choose from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Offer {
    /// Aliases, and machines that are online.
    Machines,
    /// Aliases with forwards.
    Forwards,
    /// Nothing: there has to be a target.
    Nothing,
}

impl Offer {
    /// For a forward that knows where to lead, or that does not.
    pub(crate) fn of_forward(leads: bool) -> Self {
        if leads { Self::Machines } else { Self::Forwards }
    }
}

/// Lets the user choose: a name to be read as if it stood on the command line.
///
/// # Errors
///
/// [`Error::Usage`] where nobody can be asked, and when there is nothing to choose from.
#[cfg(feature = "lookup")]
pub(crate) async fn choose(
    command: &str,
    offer: Offer,
    config: &Config,
    connection: &ConnectionArgs,
) -> Result<String, Error> {
    use crate::picker;
    use crate::process::Signals;
    use crate::table::Table;

    if offer == Offer::Nothing || !picker::is_possible() {
        return Err(missing(command));
    }
    let aliases = config.file.aliases.iter().filter(|(_, alias)| {
        offer == Offer::Machines || !alias.forwards.is_empty() || !alias.proxies.is_empty()
    });
    let mut names = Vec::new();
    let mut table = Table::headless();
    for (name, alias) in aliases {
        table.row([name.as_str(), "alias of", &alias.target.text, ""]);
        names.push(name.clone());
    }
    if offer == Offer::Machines {
        let mut signals = Signals::take().map_err(Error::local("cannot watch for signals"))?;
        let nodes = tokio::select! {
            biased;
            nodes = online(config, connection) => nodes,
            signal = signals.next() => return Err(Error::Left(signal)),
        };
        match nodes {
            Ok(nodes) => nodes.iter().for_each(|node| {
                let name = node.name.as_deref().or(node.computer_name.as_deref());
                let cells = [name, node.platform.as_deref(), node.address.as_deref()];
                let [name, platform, address] = cells.map(Option::unwrap_or_default);
                table.row([node.target.as_str(), name, platform, address]);
                names.push(node.target.to_string());
            }),
            // The aliases are there all the same.
            Err(error) if !names.is_empty() => error.complain(),
            Err(error) => return Err(error),
        }
    }
    if names.is_empty() {
        let what = if offer == Offer::Machines { "machine is online" } else { "alias has forwards" };
        return Err(Error::Usage(format!("no {what}: name a target, {command} TARGET")));
    }
    let chosen = picker::choose(&format!("{command}:"), &table.lines()).await?;
    Ok(names.swap_remove(chosen))
}

/// Machines that are online, as many as anybody wants to choose from.
#[cfg(feature = "lookup")]
async fn online(config: &Config, connection: &ConnectionArgs) -> Result<Vec<ssm_resolve::Node>, Error> {
    use ssm_resolve::NodeFilter;

    use crate::lookup;
    use crate::output::say;
    use crate::progress::Progress;

    let mut connection = connection.clone();
    config.fill(None, &mut connection);
    let account = crate::options::account(&connection).await?;
    let online = NodeFilter { key: "PingStatus".into(), values: vec!["Online".into()] };
    let mut pages = lookup::inventory(&account, &connection).node_pages(&[online])?;
    let progress = Progress::start("machines");
    let mut nodes = Vec::new();
    while let Some(page) = pages.next_page().await {
        nodes.extend(page?);
        progress.set(nodes.len());
        if nodes.len() >= OFFERED {
            drop(progress);
            say(format_args!("these are the first {} machines; ssm list has them all", nodes.len()));
            break;
        }
    }
    Ok(nodes)
}

/// Most machines to choose from.
#[cfg(feature = "lookup")]
const OFFERED: usize = 2_000;

#[cfg(not(feature = "lookup"))]
#[expect(clippy::unused_async, reason = "the other one waits")]
pub(crate) async fn choose(command: &str, _: Offer, _: &Config, _: &ConnectionArgs) -> Result<String, Error> {
    Err(missing(command))
}

fn missing(command: &str) -> Error {
    Error::Usage(format!("name a target: {command} TARGET; {command} --help says what it can be"))
}
