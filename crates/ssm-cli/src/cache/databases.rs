//! Which databases accounts have, for completing them on a command line.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{NAMES_KEPT, NAMES_MAX, is_plain, scope};
use crate::args::ConnectionArgs;
use crate::output::unix_time;
use crate::places;
use crate::private_file;

/// Most accounts that are remembered, and the longest file of them, in bytes.
const ACCOUNTS_MAX: usize = 32;
const LEN_MAX: u64 = 4 * 1024 * 1024;

/// Remembers which databases an account has, in place of what was known.
pub(crate) fn keep_databases<'a>(ids: impl Iterator<Item = &'a str>, connection: &ConnectionArgs) {
    let Ok(path) = path() else { return };
    let mut known = Databases::read(&path);
    known.keep(scope(connection), ids, unix_time().as_secs());
    let saved = serde_json::to_vec(&known).map_err(io::Error::other);
    if let Err(error) = saved.and_then(|json| private_file::replace(&path, &json)) {
        tracing::debug!(%error, path = %path.display(), "nothing is remembered");
    }
}

/// Databases of an account that a command line can be completed with.
pub(crate) fn databases(connection: &ConnectionArgs) -> Vec<String> {
    let known = path().map(|path| Databases::read(&path)).unwrap_or_default();
    known.of(&scope(connection), unix_time().as_secs())
}

fn path() -> io::Result<PathBuf> {
    Ok(places::cache_folder()?.join("databases.json"))
}

/// Ids of databases by account.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Databases(BTreeMap<String, Listed>);

/// Those of one account, and when they were seen, in seconds since 1970.
#[derive(Debug, Serialize, Deserialize)]
struct Listed {
    seen: u64,
    ids: Vec<String>,
}

impl Databases {
    /// Nothing where there is no such file, or another one.
    fn read(path: &Path) -> Self {
        let json = private_file::read(path, LEN_MAX).unwrap_or_default();
        serde_json::from_slice(&json).unwrap_or_default()
    }

    fn keep<'a>(&mut self, scope: String, ids: impl Iterator<Item = &'a str>, now: u64) {
        let ids = ids.filter(|id| is_plain(id)).take(NAMES_MAX).map(Into::into).collect();
        self.0.insert(scope, Listed { seen: now, ids });
        while self.0.len() > ACCOUNTS_MAX {
            let oldest = self.0.iter().min_by_key(|(_, listed)| listed.seen).map(|(scope, _)| scope.clone());
            oldest.map(|scope| self.0.remove(&scope));
        }
    }

    fn of(&self, scope: &str, now: u64) -> Vec<String> {
        let listed =
            self.0.get(scope).filter(|listed| now.saturating_sub(listed.seen) < NAMES_KEPT.as_secs());
        // The file is read by a shell: whoever has written it, only plain names get there.
        let plain = listed.iter().flat_map(|listed| &listed.ids).filter(|id| is_plain(id));
        plain.take(NAMES_MAX).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn databases_are_kept_by_account_and_not_for_ever() {
        let mut known = Databases::default();
        known.keep("a".into(), ["orders", "$(id)"].into_iter(), 1_000);
        known.keep("b".into(), ["other"].into_iter(), 1_000);
        assert_eq!((known.of("a", 2_000), known.of("c", 2_000)), (vec!["orders".to_owned()], vec![]));
        assert_eq!(known.of("a", 1_000 + NAMES_KEPT.as_secs()), Vec::<String>::new());
        known.keep("a".into(), ["payments"].into_iter(), 3_000);
        assert_eq!(known.of("a", 3_000), ["payments"], "what is gone is forgotten");
        for account in 0..ACCOUNTS_MAX {
            known.keep(account.to_string(), std::iter::empty(), 4_000);
        }
        assert_eq!((known.0.len(), known.of("b", 4_000)), (ACCOUNTS_MAX, vec![]));
    }
}
