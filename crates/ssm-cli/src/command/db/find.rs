//! Which database a name means.

use std::collections::BTreeSet;

use crate::config::Selector;

use super::database::{Database, Engine, Kind};

/// What is looked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    /// An id or a part of one; all of them when empty.
    pub(super) name: &'a str,
    pub(super) selector: Option<Selector>,
    pub(super) engine: Option<Engine>,
}

/// What a name means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Meant<'a> {
    One(&'a Database),
    Several(Vec<&'a Database>),
    /// Only such as are not available.
    Unavailable(Vec<&'a Database>),
    Nothing,
}

/// An id that is the name goes before all else, in whatever state. Otherwise those that are available count: clusters whose id
/// ends with the name, and instances and caches whose id contains it. A part of one that was found is the whole.
pub(super) fn find<'a>(all: &'a [Database], wanted: Wanted<'_>) -> Meant<'a> {
    let name = wanted.name.to_ascii_lowercase();
    let passes = |database: &&Database| wanted.passes(database);
    let candidates: Vec<&Database> = all.iter().filter(passes).collect();
    let exact: Vec<&Database> =
        candidates.iter().filter(|database| database.id.eq_ignore_ascii_case(&name)).copied().collect();
    // A cluster and an instance of it may have the same id.
    match exact.iter().find(|database| database.kind == Kind::Cluster).or_else(|| exact.first()) {
        Some(database) if exact.len() == 1 || database.kind == Kind::Cluster => return Meant::One(database),
        Some(_) => return Meant::Several(exact),
        None => {}
    }
    let matching = candidates.into_iter().filter(|database| matches(database, &name));
    let whole = matching.map(|database| whole(database, all, &wanted)).collect::<Vec<_>>();
    let mut seen = BTreeSet::new();
    let distinct =
        whole.into_iter().filter(|database| seen.insert((database.kind.name(), database.id.as_str())));
    let (available, others): (Vec<_>, Vec<_>) = distinct.partition(|database| database.is_available());
    match (available.as_slice(), others.is_empty()) {
        ([one], _) => Meant::One(one),
        ([], true) => Meant::Nothing,
        ([], false) => Meant::Unavailable(others),
        _ => Meant::Several(available),
    }
}

impl Wanted<'_> {
    fn passes(&self, database: &Database) -> bool {
        let kind = match self.selector {
            Some(Selector::Cluster) => database.kind == Kind::Cluster,
            Some(Selector::Instance) => database.kind == Kind::Instance,
            Some(Selector::Cache) => !matches!(database.kind, Kind::Cluster | Kind::Instance),
            None => true,
        };
        kind && self.engine.is_none_or(|engine| engine == database.engine)
    }
}

fn matches(database: &Database, name: &str) -> bool {
    let id = database.id.to_ascii_lowercase();
    match database.kind {
        Kind::Cluster => id.ends_with(name),
        Kind::Instance | Kind::ReplicationGroup | Kind::CacheCluster | Kind::ServerlessCache => {
            id.contains(name)
        }
    }
}

/// The cluster or group, unless only parts are looked for.
fn whole<'a>(database: &'a Database, all: &'a [Database], wanted: &Wanted<'_>) -> &'a Database {
    let Some(part_of) = &database.part_of else { return database };
    let mut others = all.iter().filter(|other| wanted.passes(other));
    let is_whole = |other: &&Database| {
        other.id == *part_of && matches!(other.kind, Kind::Cluster | Kind::ReplicationGroup)
    };
    others.find(is_whole).unwrap_or(database)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Database> {
        let database = |kind, id: &str, engine: &str, status: &str, part_of: Option<&str>| {
            let mut database = Database::new(id, kind, engine, status);
            database.part_of = part_of.map(Into::into);
            database
        };
        vec![
            database(Kind::Cluster, "prod-orders", "aurora-postgresql", "available", None),
            database(Kind::Instance, "prod-orders-1", "aurora-postgresql", "available", Some("prod-orders")),
            database(Kind::Instance, "prod-orders-2", "aurora-postgresql", "available", Some("prod-orders")),
            database(Kind::Cluster, "orders-archive", "aurora-mysql", "stopped", None),
            database(Kind::Instance, "billing-eu", "postgres", "available", None),
            database(Kind::Instance, "billing-us", "mysql", "available", None),
            database(Kind::Instance, "billing", "postgres", "modifying", None),
            database(Kind::ReplicationGroup, "sessions", "redis", "available", None),
            database(Kind::CacheCluster, "sessions-001", "redis", "available", Some("sessions")),
        ]
    }

    fn found(name: &str, selector: Option<Selector>, engine: Option<Engine>) -> String {
        let all = all();
        let ids = |found: Vec<&Database>| {
            found.iter().map(|database| database.id.as_str()).collect::<Vec<_>>().join(" ")
        };
        match find(&all, Wanted { name, selector, engine }) {
            Meant::One(database) => database.id.clone(),
            Meant::Several(several) => format!("several: {}", ids(several)),
            Meant::Unavailable(others) => format!("unavailable: {}", ids(others)),
            Meant::Nothing => "nothing".into(),
        }
    }

    #[test]
    fn an_exact_id_goes_before_all_else() {
        assert_eq!(found("billing", None, None), "billing");
        assert_eq!(found("BILLING-EU", None, None), "billing-eu");
        assert_eq!(found("prod-orders-2", None, None), "prod-orders-2");
        assert_eq!(found("orders-archive", None, None), "orders-archive");
    }

    #[test]
    fn a_part_of_a_cluster_is_the_cluster() {
        assert_eq!(found("orders", None, None), "prod-orders");
        assert_eq!(found("orders-", None, Some(Engine::Postgres)), "prod-orders");
        assert_eq!(found("sess", None, None), "sessions");
        assert_eq!(found("orders", Some(Selector::Instance), None), "several: prod-orders-1 prod-orders-2");
    }

    #[test]
    fn clusters_are_meant_by_their_end_and_others_by_any_part() {
        assert_eq!(found("prod", Some(Selector::Cluster), None), "nothing");
        assert_eq!(found("rs", Some(Selector::Cluster), None), "prod-orders");
        assert_eq!(found("ling-u", None, None), "billing-us");
    }

    #[test]
    fn several_are_told_unless_the_engine_decides() {
        assert_eq!(found("billing-", None, None), "several: billing-eu billing-us");
        assert_eq!(found("billing-", None, Some(Engine::MySql)), "billing-us");
        assert_eq!(found("", Some(Selector::Cache), None), "sessions");
    }

    #[test]
    fn what_is_not_available_is_told_as_such() {
        assert_eq!(found("archive", None, None), "unavailable: orders-archive");
        assert_eq!(found("nowhere", None, None), "nothing");
    }
}
