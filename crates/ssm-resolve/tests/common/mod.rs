//! An account that exists only in memory.

use std::sync::{Arc, Mutex};

use ssm_resolve::{
    Filter, Inventory, LookupError, LookupErrorKind, Match, Matches, More, SessionTarget, is_computer_name,
};

/// What an instance has, as pairs of a filter's name and a value.
pub(crate) type Instance = (&'static str, &'static [(&'static str, &'static str)]);

/// Instances, managed nodes, and every question that was asked.
#[derive(Clone, Default)]
pub(crate) struct Account {
    pub(crate) instances: Vec<Instance>,
    pub(crate) nodes: Vec<(&'static str, &'static str)>,
    /// Answers every question with this.
    pub(crate) broken: Option<(LookupErrorKind, &'static str)>,
    pub(crate) asked: Arc<Mutex<Vec<String>>>,
}

impl Account {
    pub(crate) fn questions(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }

    fn ask(&self, question: String) -> Result<(), LookupError> {
        self.asked.lock().unwrap().push(question);
        match self.broken {
            Some((kind, message)) => Err(LookupError::new(kind, message)),
            None => Ok(()),
        }
    }
}

impl Inventory for Account {
    async fn instances(&self, filters: &[Filter], limit: usize) -> Result<Matches, LookupError> {
        self.ask(filters[0].name.clone() + "=" + &filters[0].values.join(","))?;
        let passes = |instance: &Instance| {
            filters.iter().all(|filter| {
                instance
                    .1
                    .iter()
                    .any(|(name, value)| *name == filter.name && filter.values.iter().any(|v| v == value))
            })
        };
        Ok(limited(self.instances.iter().filter(|instance| passes(instance)).map(|(id, _)| *id), limit))
    }

    async fn nodes(&self, name: &str, limit: usize) -> Result<Matches, LookupError> {
        self.ask(format!("node {name}"))?;
        Ok(limited(
            self.nodes.iter().filter(|(_, own)| is_computer_name(own, name)).map(|(id, _)| *id),
            limit,
        ))
    }
}

fn limited<'a>(mut ids: impl Iterator<Item = &'a str>, limit: usize) -> Matches {
    let found: Vec<Match> =
        ids.by_ref().take(limit).map(|id| id.parse::<SessionTarget>().unwrap().into()).collect();
    let more = if ids.next().is_some() { More::Maybe } else { More::No };
    Matches { found, more }
}
