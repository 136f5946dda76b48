//! [`Cache`]: what names stood for a short while ago. No clock and no file; [`CacheFile`](crate::CacheFile) has the file.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::{Match, Resolved, Target};

/// Most entries a cache keeps; the ones that expire first make room.
pub const MAX_CACHE_ENTRIES: usize = 1_000;

/// Results of earlier searches, each with the time it is good for.
///
/// Times are kept in whole seconds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cache {
    entries: BTreeMap<Key, Entry>,
}

/// The same name stands for another machine in another account, region or profile.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    scope: String,
    target: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    found: Match,
    step: Option<String>,
    /// Seconds since 1970.
    expires: u64,
}

/// The JSON form.
#[derive(Serialize, Deserialize)]
struct Stored {
    version: u32,
    entries: Vec<StoredEntry>,
}

#[derive(Serialize, Deserialize)]
struct StoredEntry {
    scope: String,
    target: String,
    found: Match,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    step: Option<String>,
    expires: u64,
}

impl Cache {
    /// The result of an earlier search in the same `scope`, if it is still good.
    ///
    /// `scope` is a text of the caller that says where was searched: profile, region, endpoint.
    pub fn lookup(&self, scope: &str, target: &Target, now: SystemTime) -> Option<Resolved> {
        let entry = self.entries.get(&Key { scope: scope.into(), target: target.to_string() })?;
        (entry.expires > seconds(now))
            .then(|| Resolved { found: entry.found.clone(), step: entry.step.clone() })
    }

    /// Keeps the result of a search for `ttl`, in place of an earlier one. What needs no lookup is not kept.
    pub fn insert(
        &mut self,
        scope: &str,
        target: &Target,
        resolved: &Resolved,
        now: SystemTime,
        ttl: Duration,
    ) {
        if target.session_target().is_some() {
            return;
        }
        let now = seconds(now);
        self.entries.retain(|_, entry| entry.expires > now);
        let key = Key { scope: scope.into(), target: target.to_string() };
        let expires = now.saturating_add(ttl.as_secs());
        self.entries
            .insert(key, Entry { found: resolved.found.clone(), step: resolved.step.clone(), expires });
        while self.entries.len() > MAX_CACHE_ENTRIES {
            let first =
                self.entries.iter().min_by_key(|(_, entry)| entry.expires).map(|(key, _)| key.clone());
            self.entries.remove(&first.expect("more entries than the limit"));
        }
    }

    /// Forgets a result, such as one that turned out to be wrong.
    pub fn remove(&mut self, scope: &str, target: &Target) {
        self.entries.remove(&Key { scope: scope.into(), target: target.to_string() });
    }

    /// Forgets every name of a machine that turned out to be the wrong one, in any scope. Gives how many there were.
    pub fn remove_machine(&mut self, target: &str) -> usize {
        let before = self.entries.len();
        self.entries.retain(|_, entry| entry.found.target.as_str() != target);
        before - self.entries.len()
    }

    /// What names are known in this scope: for completing them on a command line.
    pub fn names(&self, scope: &str, now: SystemTime) -> impl Iterator<Item = &str> {
        let now = seconds(now);
        let known = self.entries.iter().filter(move |(key, entry)| key.scope == scope && entry.expires > now);
        known.map(|(key, _)| key.target.as_str())
    }

    /// The JSON form.
    pub fn to_json(&self) -> String {
        let entries = self.entries.iter().map(|(key, entry)| StoredEntry {
            scope: key.scope.clone(),
            target: key.target.clone(),
            found: entry.found.clone(),
            step: entry.step.clone(),
            expires: entry.expires,
        });
        let stored = Stored { version: VERSION, entries: entries.collect() };
        serde_json::to_string(&stored).expect("strings and numbers only")
    }

    /// Reads the JSON form. A text that is no such form, or of another version, is an empty cache: nothing is lost but time.
    /// Entries over the limit are left out.
    pub fn from_json(json: &[u8]) -> Self {
        let stored = serde_json::from_slice(json).ok().filter(|stored: &Stored| stored.version == VERSION);
        let entries = stored.map(|stored| stored.entries).unwrap_or_default().into_iter().map(|stored| {
            let StoredEntry { scope, target, found, step, expires } = stored;
            (Key { scope, target }, Entry { found, step, expires })
        });
        Self { entries: entries.take(MAX_CACHE_ENTRIES).collect() }
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

const VERSION: u32 = 1;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SessionTarget;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_result_is_good_for_its_time_in_its_scope() {
        let mut cache = Cache::default();
        cache.insert("prod", &target("web"), &machine(1), at(0), MINUTE);
        assert_eq!(cache.lookup("prod", &target("web"), at(59)), Some(machine(1)));
        assert_eq!(cache.lookup("prod", &target("web"), at(60)), None);
        assert_eq!(cache.lookup("test", &target("web"), at(0)), None);
        assert_eq!(cache.lookup("prod", &target("db"), at(0)), None);
    }

    #[test]
    fn a_machine_is_forgotten_under_all_its_names() {
        let mut cache = Cache::default();
        for (scope, name, id) in [("a", "web", 1), ("b", "www", 1), ("a", "db", 2)] {
            cache.insert(scope, &target(name), &machine(id), at(0), MINUTE);
        }
        assert_eq!(cache.remove_machine(machine(1).target().as_str()), 2);
        assert_eq!(cache.names("a", at(0)).collect::<Vec<_>>(), ["db"]);
        assert_eq!(cache.remove_machine(machine(1).target().as_str()), 0);
    }

    #[test]
    fn a_later_result_replaces_an_earlier_one() {
        let mut cache = Cache::default();
        cache.insert("", &target("web"), &machine(1), at(0), MINUTE);
        cache.insert("", &target("web"), &machine(2), at(30), MINUTE);
        assert_eq!(cache.lookup("", &target("web"), at(80)), Some(machine(2)));
        cache.remove("", &target("web"));
        assert_eq!(cache.lookup("", &target("web"), at(80)), None);
    }

    #[test]
    fn two_ways_to_write_a_tag_share_an_entry() {
        let mut cache = Cache::default();
        cache.insert("", &target("Name:web"), &machine(1), at(0), MINUTE);
        assert_eq!(cache.lookup("", &target("tag:Name=web"), at(0)), Some(machine(1)));
        assert_eq!(cache.lookup("", &target("web"), at(0)), None);
    }

    #[test]
    fn ids_are_not_kept() {
        let mut cache = Cache::default();
        cache.insert("", &target("i-01234567"), &machine(1), at(0), MINUTE);
        assert_eq!(cache, Cache::default());
    }

    #[test]
    fn what_expires_first_makes_room() {
        let mut cache = Cache::default();
        for number in 0..=MAX_CACHE_ENTRIES {
            let ttl = MINUTE + Duration::from_secs(number as u64);
            cache.insert("", &target(&format!("web-{number}")), &machine(1), at(0), ttl);
        }
        assert_eq!(cache.entries.len(), MAX_CACHE_ENTRIES);
        assert_eq!(cache.lookup("", &target("web-0"), at(0)), None);
        assert!(cache.lookup("", &target("web-1"), at(0)).is_some());
        cache.insert("", &target("db"), &machine(1), at(100_000), MINUTE);
        assert_eq!(cache.entries.len(), 1, "what has expired goes first");
    }

    #[test]
    fn json_gives_the_same_cache() {
        let mut cache = Cache::default();
        cache.insert("prod", &target("münchen \"1\""), &machine(1), at(0), MINUTE);
        cache.insert("test", &target("tag:a=b"), &machine(2), at(0), MINUTE);
        assert_eq!(Cache::from_json(cache.to_json().as_bytes()), cache);
        assert_eq!(cache.names("test", at(0)).collect::<Vec<_>>(), ["tag:a=b"]);
        assert_eq!(cache.names("test", at(60)).count(), 0);
    }

    #[test]
    fn anything_else_is_an_empty_cache() {
        let version = Cache::default().to_json().replace("\"version\":1", "\"version\":2");
        let evil = r#"{"version":1,"entries":[{"scope":"","target":"web","found":{"target":"-oops"},"expires":99999999999}]}"#;
        for json in ["", "{}", "[1", "\0\u{ff}", &version, evil, &"[".repeat(100_000)] {
            assert_eq!(Cache::from_json(json.as_bytes()), Cache::default());
        }
    }

    fn target(text: &str) -> Target {
        text.parse().unwrap()
    }

    fn machine(number: u32) -> Resolved {
        let id: SessionTarget = format!("i-{number:08}").parse().unwrap();
        Resolved { found: Match { name: Some("web".into()), ..id.into() }, step: Some("tag".into()) }
    }

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_700_000_000 + seconds)
    }
}
