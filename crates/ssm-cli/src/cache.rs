//! What names stood for a short while ago, kept between runs in the cache folder.
//!
//! Files for this user alone. `targets.json` is what a lookup is answered from, for [`TTL`]. `names.json` has the names that were
//! found or listed in the last weeks, for completing them on a command line, and `databases.json` those of databases; nothing is
//! started on what they say.

#[cfg(feature = "db")]
mod databases;

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use sha2::{Digest as _, Sha256};
use ssm_resolve::{
    Answer, Cache, CacheFile, LookupError, MAX_CACHE_ENTRIES, Match, Resolved, Resolver, Target,
};

#[cfg(feature = "db")]
pub(crate) use self::databases::{databases, keep_databases};
use crate::args::ConnectionArgs;
use crate::output::hex;
use crate::places;

/// How long a name stands for the machine it was found to be: a fleet that replaces its machines is a minute behind at most.
const TTL: Duration = Duration::from_secs(60);

/// How long a name is offered on a command line.
const NAMES_KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

/// Longest name that is offered on a command line.
const NAME_MAX: usize = 64;

/// Most names that are.
const NAMES_MAX: usize = 500;

/// What the account depends on, besides the flags.
const VARIABLES: [&str; 12] = [
    "AWS_PROFILE",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_ACCESS_KEY_ID",
    "AWS_ROLE_ARN",
    "AWS_CONFIG_FILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_EC2",
    "AWS_ENDPOINT_URL_ECS",
    "AWS_ENDPOINT_URL_SSM",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
];

/// What a lookup of a moment ago has found, as the one step of a chain.
#[derive(Debug)]
pub(crate) struct Known {
    target: Target,
    found: Match,
}

/// What this step is called.
pub(crate) const STEP: &str = "cache";

impl Resolver for Known {
    fn step(&self) -> Cow<'_, str> {
        STEP.into()
    }

    async fn resolve(&self, target: &Target) -> Result<Answer, LookupError> {
        Ok(if *target == self.target {
            Answer::from_matches(vec![self.found.clone()])
        } else {
            Answer::NotMine
        })
    }
}

/// What this target was found to be less than [`TTL`] ago, in the same account.
pub(crate) fn known(target: &Target, connection: &ConnectionArgs) -> Option<Known> {
    if connection.no_cache {
        return None;
    }
    let resolved = targets()?.load().lookup(&scope(connection), target, SystemTime::now())?;
    Some(Known { target: target.clone(), found: resolved.found })
}

/// Remembers what was found, with `--no-cache` too: that is what the next run wants to know.
pub(crate) fn keep(target: &Target, resolved: &Resolved, connection: &ConnectionArgs) {
    let now = SystemTime::now();
    let scope = scope(connection);
    for (file, kept) in [(targets(), TTL), (names_file(), NAMES_KEPT)] {
        let Some(file) = file else { return };
        let mut cache = file.load();
        cache.insert(&scope, target, resolved, now, kept);
        save(&file, &cache);
    }
}

/// Remembers names for the command line, as many as there is room for.
pub(crate) fn keep_names(machines: impl IntoIterator<Item = (String, Match)>, connection: &ConnectionArgs) {
    let Some(file) = names_file() else { return };
    let mut cache = file.load();
    let (scope, now) = (scope(connection), SystemTime::now());
    for (name, found) in machines.into_iter().filter(|(name, _)| is_plain(name)).take(MAX_CACHE_ENTRIES) {
        if let Ok(target @ Target::Name(_)) = name.parse() {
            cache.insert(&scope, &target, &Resolved::new(found, None), now, NAMES_KEPT);
        }
    }
    save(&file, &cache);
}

/// Forgets a machine that no session can be started on. Gives whether a name stood for it.
pub(crate) fn forget(target: &str) -> bool {
    let Some(file) = targets() else { return false };
    let mut cache = file.load();
    let forgotten = cache.remove_machine(target) > 0;
    if forgotten {
        save(&file, &cache);
    }
    forgotten
}

/// Names of machines that a command line can be completed with: letters, digits and marks that mean nothing to a shell.
pub(crate) fn names(connection: &ConnectionArgs) -> Vec<String> {
    let Some(file) = names_file() else { return Vec::new() };
    let (cache, scope) = (file.load(), scope(connection));
    let names = cache.names(&scope, SystemTime::now()).filter(|name| is_plain(name));
    names.take(NAMES_MAX).map(Into::into).collect()
}

fn is_plain(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte);
    !name.is_empty() && name.len() <= NAME_MAX && !name.starts_with('-') && name.bytes().all(plain)
}

fn targets() -> Option<CacheFile> {
    file("targets.json")
}

fn names_file() -> Option<CacheFile> {
    file("names.json")
}

/// Without a folder there is no cache, and nothing is lost but time.
fn file(name: &str) -> Option<CacheFile> {
    match places::cache_folder() {
        Ok(folder) => Some(CacheFile::new(folder.join(name))),
        Err(error) => {
            tracing::debug!(%error, "nothing is remembered");
            None
        }
    }
}

fn save(file: &CacheFile, cache: &Cache) {
    if let Err(error) = file.save(cache) {
        tracing::debug!(%error, path = %file.path().display(), "nothing is remembered");
    }
}

/// Where was searched: a name is another machine in another account. A digest, so that the file has neither keys nor URLs.
fn scope(connection: &ConnectionArgs) -> String {
    let mut digest = Sha256::new();
    let mut add = |part: &str| {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part.as_bytes());
    };
    for flag in [&connection.profile, &connection.region, &connection.endpoint_url] {
        add(flag.as_deref().unwrap_or_default());
    }
    for endpoint in &connection.endpoints {
        add(endpoint.service.name());
        add(&endpoint.url);
    }
    add(if connection.first { "first" } else { "" });
    for variable in VARIABLES {
        add(&std::env::var_os(variable).unwrap_or_default().to_string_lossy());
    }
    hex(&digest.finalize()[..16])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_told_apart() {
        let with = |profile: &str, region: &str, first| {
            scope(&ConnectionArgs {
                profile: Some(profile.into()),
                region: Some(region.into()),
                first,
                ..ConnectionArgs::default()
            })
        };
        let all = [with("a", "b", false), with("b", "a", false), with("ab", "", false), with("a", "b", true)];
        assert_eq!(all.iter().collect::<std::collections::BTreeSet<_>>().len(), 4, "{all:?}");
        assert_eq!(with("a", "b", false), all[0]);
    }

    #[test]
    fn only_names_that_mean_nothing_to_a_shell_are_offered() {
        for name in ["web-1", "prod/web", "db.internal", "a_b"] {
            assert!(is_plain(name), "{name}");
        }
        for name in ["", "-L", "$(id)", "a b", "a;b", "a'b", "a:b", "é", "a\nb", &"x".repeat(65)] {
            assert!(!is_plain(name), "{name}");
        }
    }
}
