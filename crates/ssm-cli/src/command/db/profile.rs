//! The profile of a `[db.NAME]`: the environment it stands for decides on the local port.

use std::env;

use crate::args::DbArgs;
use crate::config::{Config, Database as Entry};
use crate::error::Error;
use crate::output::say;
use crate::picker;
use crate::profiles;

/// The name of the profile in use, if it has one. Where the entry says which ones there may be and nobody has named any, it is one of
/// those.
///
/// # Errors
///
/// When there is none, or there are several and nobody to choose.
pub(super) async fn choose(
    args: &mut DbArgs,
    entry: &Entry,
    config: &Config,
) -> Result<Option<String>, Error> {
    let variable = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
    let named = args.connection.profile.clone();
    // aws-vault has put the keys of a profile into the environment, and says of which.
    if let Some(named) = named.or_else(|| variable("AWS_VAULT")).or_else(|| variable("AWS_PROFILE")) {
        return Ok(Some(named));
    }
    if !entry.chooses_profile() || variable("AWS_ACCESS_KEY_ID").is_some() {
        return Ok(None);
    }
    let all = profiles::names();
    let others: Vec<&Entry> =
        config.file.databases.values().filter(|other| !std::ptr::eq(*other, entry)).collect();
    let fitting: Vec<String> =
        entry.profiles(all.iter().map(String::as_str), &others).into_iter().map(str::to_owned).collect();
    let chosen = match fitting.as_slice() {
        [] => {
            return Err(Error::Usage(format!(
                "none of the {} profiles of the AWS configuration fits this database's profile-filter and ports; give one with --profile",
                all.len()
            )));
        }
        [one] => one,
        several => {
            let said = format!("{} profiles fit this database; give one with --profile:", several.len());
            &several[picker::one_of("profile", several, said).await?]
        }
    };
    say(format_args!("profile {chosen}"));
    args.connection.profile = Some(chosen.clone());
    Ok(Some(chosen.clone()))
}
