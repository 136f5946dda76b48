//! Which container is meant: what was written, and what is chosen where that is not enough.

use std::collections::BTreeMap;

use ssm_resolve::{
    ArnResource, Container, EcsTarget, FoundTasks, InstanceId, LookupError, More, Target, Task, TaskName,
};

use super::Ecs;
use crate::args::{ConnectionArgs, PartArgs, PlaceArgs};
use crate::config::{Config, Flags};
use crate::error::Error;
use crate::output::say;
use crate::picker;
use crate::table::Table;

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Wanted {
    cluster: Option<String>,
    service: Option<String>,
    task: Option<String>,
    /// A service, or a task.
    name: Option<String>,
    container: Option<String>,
    runtime_id: Option<String>,
}

/// A container of a task.
pub(super) struct Chosen {
    pub(super) task: Task,
    pub(super) container: Container,
}

impl Wanted {
    /// Reads the arguments; aliases and what holds for them come from the configuration.
    pub(super) fn take<'a>(
        args: &PlaceArgs,
        flags: impl Into<Flags<'a>>,
        config: &Config,
    ) -> Result<Self, Error> {
        let alias = config.fill(args.place.as_deref(), flags).map(|alias| alias.target.text.as_str());
        Self::read(alias.or(args.place.as_deref()), &args.parts)
    }

    pub(super) fn read(place: Option<&str>, parts: &PartArgs) -> Result<Self, Error> {
        let mut wanted = place.map(Self::parse).transpose()?.unwrap_or_default();
        for (flag, written, slot) in [
            ("--cluster", &parts.cluster, &mut wanted.cluster),
            ("--service", &parts.service, &mut wanted.service),
            ("--task", &parts.task, &mut wanted.task),
            ("--container", &parts.container, &mut wanted.container),
        ] {
            let Some(written) = written else { continue };
            let name = named(written).ok_or_else(|| {
                Error::Usage(format!("{flag} {written} is no name: letters, digits, - and _, or an ARN"))
            })?;
            if slot.as_ref().is_some_and(|there| there != name) {
                return Err(Error::Usage(format!("give {flag} once: behind the flag or in the target")));
            }
            *slot = Some(name.to_owned());
        }
        // The ARN of a task or a service has its cluster in it.
        let arn = [&parts.task, &parts.service].into_iter().flatten().find_map(|text| cluster_in(text));
        if wanted.cluster.is_none() {
            wanted.cluster = arn.map(Into::into);
        }
        if wanted.name.is_some() && (wanted.service.is_some() || wanted.task.is_some()) {
            return Err(Error::Usage(
                "give the service or task once: behind its flag or in the target".into(),
            ));
        }
        Ok(wanted)
    }

    /// Reads `[ecs:]CLUSTER[/NAME[/CONTAINER]]`, a target string or an ARN.
    fn parse(place: &str) -> Result<Self, Error> {
        let place = place.trim();
        if let Some(cluster) = place
            .strip_prefix("arn:")
            .and_then(|_| named(place))
            .filter(|_| place.rsplit(':').next().is_some_and(|resource| resource.starts_with("cluster/")))
        {
            return Ok(Self { cluster: Some(cluster.into()), ..Self::default() });
        }
        if !place.starts_with("arn:") {
            let path = place.strip_prefix("ecs:").unwrap_or(place);
            let is_other = place.parse::<EcsTarget>().is_ok() || place.parse::<InstanceId>().is_ok();
            if !path.contains('/') && named(path).is_some() && !is_other {
                return Ok(Self { cluster: Some(path.into()), ..Self::default() });
            }
        }
        match place.parse()? {
            Target::Ecs(target) => Ok(Self::of_target(&target)),
            Target::Container(path) => Ok(Self::of_path(&path.to_string())),
            Target::Name(name) => {
                let full = format!("ecs:{name}");
                match full.parse()? {
                    Target::Container(_) => Ok(Self::of_path(&full)),
                    _ => Err(not_ecs(place)),
                }
            }
            Target::Arn(arn) => Ok(match arn.resource() {
                ArnResource::Task(path) | ArnResource::Container(path) => Self {
                    cluster: Some(path.cluster().into()),
                    task: Some(path.name().into()),
                    container: path.container().map(Into::into),
                    ..Self::default()
                },
                ArnResource::Service(path) => Self {
                    cluster: Some(path.cluster().into()),
                    service: Some(path.name().into()),
                    ..Self::default()
                },
                _ => return Err(not_ecs(place)),
            }),
            _ => Err(not_ecs(place)),
        }
    }

    fn of_path(path: &str) -> Self {
        let mut parts = path.trim_start_matches("ecs:").split('/').map(Into::into);
        Self { cluster: parts.next(), name: parts.next(), container: parts.next(), ..Self::default() }
    }

    /// A cluster's name may have underscores of its own; an id has none.
    fn of_target(target: &EcsTarget) -> Self {
        let mut parts = target.as_str().trim_start_matches("ecs:").rsplitn(3, '_').map(Into::into);
        let (runtime_id, task, cluster) = (parts.next(), parts.next(), parts.next());
        Self { cluster, task, runtime_id, ..Self::default() }
    }

    fn tasks(&self) -> TaskName<'_> {
        match (&self.task, &self.service, &self.name) {
            (Some(task), ..) => TaskName::Task(task),
            (None, Some(service), _) => TaskName::Service(service),
            (None, None, Some(name)) => TaskName::ServiceOrTask(name),
            (None, None, None) => TaskName::Any,
        }
    }

    /// Whether nothing has to be told because everything was written.
    fn is_complete(&self) -> bool {
        self.cluster.is_some()
            && (self.task.is_some() || self.service.is_some() || self.name.is_some())
            && (self.container.is_some() || self.runtime_id.is_some())
    }

    /// The container, as it was written.
    pub(super) fn container(&self) -> Option<&str> {
        self.container.as_deref()
    }

    /// The containers of a task that may be meant.
    pub(super) fn containers<'a>(&self, task: &'a Task) -> Vec<&'a Container> {
        match &self.runtime_id {
            Some(id) => {
                let is_meant = |container: &&Container| container.runtime_id.as_ref() == Some(id);
                task.containers.iter().filter(is_meant).collect()
            }
            None => task.containers_named(self.container.as_deref()),
        }
    }
}

fn not_ecs(place: &str) -> Error {
    Error::Usage(format!(
        "'{place}' does not name a container: write CLUSTER[/SERVICE-OR-TASK[/CONTAINER]], or an ARN of ECS"
    ))
}

/// A name, or the last part of an ARN.
fn named(text: &str) -> Option<&str> {
    let name = if text.starts_with("arn:") { text.rsplit('/').next()? } else { text };
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (!name.is_empty() && name.len() <= 255 && !name.starts_with('-') && name.bytes().all(is_name))
        .then_some(name)
}

/// The cluster in the ARN of a task or service.
fn cluster_in(text: &str) -> Option<&str> {
    let mut parts = text.strip_prefix("arn:")?.rsplit(':').next()?.split('/').skip(1);
    let (cluster, _) = (parts.next()?, parts.next()?);
    Some(cluster)
}

/// Finds the tasks that are meant, in this cluster if one is given, and otherwise in the one that was written.
pub(super) async fn tasks_of(
    ecs: &Ecs,
    wanted: &Wanted,
    cluster: Option<&str>,
) -> Result<FoundTasks, LookupError> {
    ecs.containers.find(cluster.or(wanted.cluster.as_deref()), wanted.tasks()).await
}

/// Finds the one task that is meant, level by level.
pub(super) async fn choose_task(ecs: &Ecs, wanted: &Wanted, ask: Ask) -> Result<Task, Error> {
    let mut cluster = None;
    let (tasks, more) = loop {
        match tasks_of(ecs, wanted, cluster.as_deref()).await? {
            FoundTasks::Tasks { tasks, more } => break (tasks, more),
            FoundTasks::Clusters(clusters) => {
                let index = ask.one("cluster", &clusters.names, clusters.more).await?;
                cluster = Some(clusters.names[index].clone());
            }
        }
    };
    let tasks = group(tasks, ask, more).await?;
    task(tasks, ask, more).await
}

/// Finds the one container that is meant, level by level.
pub(super) async fn choose(ecs: &Ecs, wanted: &Wanted, ask: Ask) -> Result<Chosen, Error> {
    let task = choose_task(ecs, wanted, ask).await?;
    let containers = wanted.containers(&task);
    if containers.is_empty() {
        return Err(no_container(&task, wanted));
    }
    let mut table = Table::headless();
    for container in &containers {
        table.row([&*container.name, &container.state]);
    }
    let container = containers[ask.one("container", &table.lines(), More::No).await?].clone();
    if !wanted.is_complete() {
        say(format_args!("{}/{}/{}, task {}", task.cluster, task.group_name(), container.name, task.id));
    }
    Ok(Chosen { task, container })
}

/// The tasks of one service or family.
async fn group(tasks: Vec<Task>, ask: Ask, more: More) -> Result<Vec<Task>, Error> {
    let mut groups: BTreeMap<String, Vec<Task>> = BTreeMap::new();
    for task in tasks {
        groups.entry(task.group.clone()).or_default().push(task);
    }
    let mut table = Table::headless();
    for tasks in groups.values() {
        let kind = tasks[0].group.split(':').next().unwrap_or_default();
        let count = match tasks.len() {
            1 => "1 task".to_owned(),
            count => format!("{count} tasks"),
        };
        table.row([tasks[0].group_name(), kind, &count]);
    }
    let index = ask.one("service", &table.lines(), more).await?;
    Ok(groups.into_values().nth(index).unwrap_or_default())
}

async fn task(mut tasks: Vec<Task>, ask: Ask, more: More) -> Result<Task, Error> {
    let mut table = Table::headless();
    for task in &tasks {
        let address = task.containers.iter().find_map(|container| container.address);
        let address = address.map(|address| address.to_string()).unwrap_or_default();
        table.row([&*task.id, &task.state, &address]);
    }
    let index = ask.one("task", &table.lines(), more).await?;
    Ok(tasks.swap_remove(index))
}

fn no_container(task: &Task, wanted: &Wanted) -> Error {
    let wanted = wanted.container.as_deref().or(wanted.runtime_id.as_deref()).unwrap_or_default();
    let head = format!("task {} has no container {wanted}; it has:", task.id);
    Error::listed(head, task.containers.iter().map(|container| &container.name))
}

/// What to do where there are several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ask {
    /// Ask on a terminal, and otherwise tell what there is.
    User,
    /// Take the first one.
    Nobody,
}

impl Ask {
    pub(super) fn new(connection: &ConnectionArgs) -> Self {
        if connection.first { Self::Nobody } else { Self::User }
    }

    /// One of `items`, of which there is one at least.
    async fn one(self, what: &str, items: &[String], more: More) -> Result<usize, Error> {
        if items.len() == 1 || self == Self::Nobody {
            return Ok(0);
        }
        let several = match more {
            More::No => format!("{} {what}s", items.len()),
            More::Maybe => format!("the first {} {what}s", items.len()),
        };
        let said = format!("there are {several}; say which: --{what} NAME");
        picker::one_of(&format!("{several}:"), items, said).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(place: &str) -> [Option<String>; 6] {
        let Wanted { cluster, service, task, name, container, runtime_id } =
            Wanted::read(Some(place), &PartArgs::default())
                .unwrap_or_else(|error| panic!("{place}: {error}"));
        [cluster, service, task, name, container, runtime_id]
    }

    fn some(parts: [&str; 6]) -> [Option<String>; 6] {
        parts.map(|part| (!part.is_empty()).then(|| part.to_owned()))
    }

    #[test]
    fn every_form_is_read() {
        for (place, parts) in [
            ("prod", ["prod", "", "", "", "", ""]),
            ("my_own_prod", ["my_own_prod", "", "", "", "", ""]),
            ("ecs:prod", ["prod", "", "", "", "", ""]),
            ("prod/web", ["prod", "", "", "web", "", ""]),
            ("ecs:prod/web/app", ["prod", "", "", "web", "app", ""]),
            ("ecs:my_prod_8f01_8f01-31", ["my_prod", "", "8f01", "", "", "8f01-31"]),
            ("arn:aws:ecs:eu-west-1:123456789012:cluster/prod", ["prod", "", "", "", "", ""]),
            ("arn:aws:ecs:eu-west-1:123456789012:service/prod/web", ["prod", "web", "", "", "", ""]),
            ("arn:aws:ecs:eu-west-1:123456789012:task/prod/8f01", ["prod", "", "8f01", "", "", ""]),
            ("arn:aws:ecs:eu-west-1:123456789012:container/prod/8f01/5d", ["prod", "", "8f01", "", "5d", ""]),
        ] {
            assert_eq!(wanted(place), some(parts), "{place}");
        }
    }

    #[test]
    fn what_is_no_place_is_refused() {
        for place in
            ["", "a/b/c/d", "prod/", "i-0123456789abcdef0", "tag:a=b", "10.0.0.1", "a b", "-x", "prod\x1b"]
        {
            let error = Wanted::read(Some(place), &PartArgs::default()).unwrap_err();
            assert!(matches!(error, Error::Usage(_) | Error::Target(_)), "{place}: {error}");
        }
    }

    #[test]
    fn flags_and_target_are_one() {
        let arn = |kind: &str| Some(format!("arn:aws:ecs:eu-west-1:123456789012:{kind}"));
        let parts =
            PartArgs { task: arn("task/prod/8f01"), container: Some("app".into()), ..PartArgs::default() };
        let read = Wanted::read(None, &parts).unwrap();
        assert_eq!((read.cluster.as_deref(), read.task.as_deref()), (Some("prod"), Some("8f01")));
        assert!(read.is_complete());
        let cluster = PartArgs { cluster: arn("cluster/prod"), ..PartArgs::default() };
        assert!(Wanted::read(Some("prod/web"), &cluster).is_ok());
        assert!(Wanted::read(Some("test/web"), &cluster).is_err());
        let service = PartArgs { service: Some("web".into()), ..PartArgs::default() };
        assert!(Wanted::read(Some("prod"), &service).is_ok());
        assert!(Wanted::read(Some("prod/web"), &service).is_err());
        let hostile = PartArgs { container: Some("app\x1b".into()), ..PartArgs::default() };
        assert!(Wanted::read(Some("prod"), &hostile).is_err());
    }
}
