//! [`Containers`]: the step that finds containers of ECS, and its search for whoever wants to choose by levels.

use std::borrow::Cow;
use std::collections::BTreeSet;

use crate::clusters::{Clusters, Container, Listed, MAX_DESCRIBED, Task};
use crate::ecs::ContainerPath;
use crate::text::visible;
use crate::{
    Answer, ArnResource, EcsTarget, LookupError, LookupErrorKind, MAX_MATCHES, Match, Matches, More,
    Resolver, SessionTarget, Target,
};

/// How many names a lookup reads to find those that begin as it was written. ECS has no more clusters in an account.
const MAX_NAMES: usize = 10_000;

/// How many tasks are described where no service says which.
const MAX_TASKS: usize = 1_000;

/// How many services are looked into whose names begin alike.
const MAX_SERVICES: usize = 10;

/// How many names an error lists.
const MAX_SHOWN: usize = 20;

/// Containers of ECS by `ecs:CLUSTER/SERVICE-OR-TASK[/CONTAINER]`, the same as a bare name, or an ARN.
///
/// Each part is a name, the id of a task, or the beginning of one that no other has; tasks without a service go by the family of their
/// definition. Two API calls when cluster and service are written in full. A task of several containers is one machine for each.
#[derive(Debug, Clone)]
pub struct Containers<C> {
    clusters: C,
}

/// Which tasks of a cluster are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskName<'a> {
    /// All that run.
    Any,
    /// Those of a service.
    Service(&'a str),
    /// One, by its id.
    Task(&'a str),
    /// Those of a service, or one by its id.
    ServiceOrTask(&'a str),
}

/// What a search has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FoundTasks {
    /// These tasks, one at least, ordered by service and id.
    Tasks {
        /// The tasks.
        tasks: Vec<Task>,
        /// Whether there are more.
        more: More,
    },
    /// One of these clusters has to be named first. There are two at least.
    Clusters(Listed),
}

impl<C: Clusters> Containers<C> {
    /// Looks in these clusters.
    pub fn new(clusters: C) -> Self {
        Self { clusters }
    }

    /// Finds tasks. Without `cluster` it is the only one there is.
    ///
    /// # Errors
    ///
    /// Of kind [`LookupErrorKind::NotFound`] when there are none, with what there is in the message; and when the account could not be
    /// asked.
    pub async fn find(&self, cluster: Option<&str>, which: TaskName<'_>) -> Result<FoundTasks, LookupError> {
        let missing = match cluster {
            // Most often it is written in full, and need not be looked for.
            Some(name) => match self.tasks(name, which).await {
                Err(error) if error.kind() == LookupErrorKind::NoSuchCluster => Some(error),
                result => return result,
            },
            None => None,
        };
        let listed = match (self.clusters.clusters(MAX_NAMES).await, missing) {
            (Ok(listed), _) => listed,
            // Who may not list them knows their names.
            (Err(_), Some(missing)) => return Err(missing),
            (Err(error), None) => return Err(error),
        };
        let named = beginning(&listed, cluster.unwrap_or_default());
        match (&*named.names, cluster) {
            ([], None) => Err(not_found("there is no ECS cluster in this region of the account".into())),
            ([], Some(name)) => Err(no_cluster(name, &listed)),
            ([one], _) => self.tasks(one, which).await,
            _ => Ok(FoundTasks::Clusters(named)),
        }
    }

    async fn tasks(&self, cluster: &str, which: TaskName<'_>) -> Result<FoundTasks, LookupError> {
        let (name, may_be_service, may_be_task) = match which {
            TaskName::Any => {
                let ids = self.clusters.tasks(cluster, None, MAX_TASKS).await?;
                if ids.names.is_empty() {
                    return Err(not_found(format!("no task runs in cluster {}", visible(cluster))));
                }
                return self.described(cluster, ids).await;
            }
            TaskName::Service(name) => (name, true, false),
            TaskName::Task(name) => (name, false, true),
            TaskName::ServiceOrTask(name) => (name, true, true),
        };
        if may_be_task && is_task_id(name) {
            let tasks = self.clusters.describe(cluster, &[name.to_owned()]).await?;
            if !tasks.is_empty() {
                return Ok(FoundTasks::Tasks { tasks, more: More::No });
            }
        }
        if may_be_service {
            let ids = self.clusters.tasks(cluster, Some(name), MAX_MATCHES).await?;
            if !ids.names.is_empty() {
                return self.described(cluster, ids).await;
            }
        }
        let services = match may_be_service {
            true => self.clusters.services(cluster, MAX_NAMES).await?,
            false => Listed::default(),
        };
        let mut ids = self.of_services(cluster, &beginning(&services, name)).await?;
        if may_be_task && name.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-') {
            let all = self.clusters.tasks(cluster, None, MAX_NAMES).await?;
            ids.names.extend(beginning(&all, name).names);
            if all.more == More::Maybe {
                ids.more = More::Maybe;
            }
        }
        if !ids.names.is_empty() {
            return self.described(cluster, ids).await;
        }
        if may_be_service && let Some(found) = self.of_family(cluster, name).await? {
            return Ok(found);
        }
        Err(no_task(cluster, name, &services, may_be_service, may_be_task))
    }

    /// The tasks without a service go by the family of their definition, in full.
    async fn of_family(&self, cluster: &str, name: &str) -> Result<Option<FoundTasks>, LookupError> {
        let ids = self.clusters.tasks(cluster, None, MAX_TASKS).await?;
        if ids.names.is_empty() {
            return Ok(None);
        }
        let FoundTasks::Tasks { mut tasks, more } = self.described(cluster, ids).await? else {
            return Ok(None);
        };
        tasks.retain(|task| task.group.strip_prefix("family:") == Some(name));
        Ok((!tasks.is_empty()).then_some(FoundTasks::Tasks { tasks, more }))
    }

    async fn of_services(&self, cluster: &str, services: &Listed) -> Result<Listed, LookupError> {
        let mut ids = Listed { names: Vec::new(), more: services.more };
        for (index, service) in services.names.iter().enumerate() {
            if index == MAX_SERVICES || ids.names.len() >= MAX_MATCHES {
                ids.more = More::Maybe;
                break;
            }
            let of_service =
                self.clusters.tasks(cluster, Some(service), MAX_MATCHES - ids.names.len()).await?;
            ids.names.extend(of_service.names);
            if of_service.more == More::Maybe {
                ids.more = More::Maybe;
            }
        }
        Ok(ids)
    }

    async fn described(&self, cluster: &str, ids: Listed) -> Result<FoundTasks, LookupError> {
        let mut seen = BTreeSet::new();
        let names: Vec<String> = ids.names.into_iter().filter(|id| seen.insert(id.clone())).collect();
        let more = if names.len() > MAX_TASKS { More::Maybe } else { ids.more };
        let mut tasks = Vec::new();
        for some in names[..names.len().min(MAX_TASKS)].chunks(MAX_DESCRIBED) {
            tasks.extend(self.clusters.describe(cluster, some).await?);
        }
        if tasks.is_empty() {
            return Err(not_found(format!("the tasks of cluster {} have just ended", visible(cluster))));
        }
        tasks.sort_by(|one, other| (&one.group, &one.id).cmp(&(&other.group, &other.id)));
        Ok(FoundTasks::Tasks { tasks, more })
    }
}

impl Task {
    /// The containers of this name or id, or else those whose names begin so; without a name, all. Those that AWS has added itself
    /// are meant only where no other can be.
    pub fn containers_named(&self, name: Option<&str>) -> Vec<&Container> {
        let name = name.unwrap_or_default();
        let exact = self.containers.iter().find(|container| container.name == name || container.id == name);
        if let Some(container) = exact {
            return vec![container];
        }
        let begin = self.containers.iter().filter(|container| container.name.starts_with(name));
        let (added, own): (Vec<_>, Vec<_>) = begin.partition(|container| container.is_added());
        if own.is_empty() { added } else { own }
    }

    /// What a session on one of its containers is started on.
    ///
    /// # Errors
    ///
    /// When the container has not started, or has ended.
    pub fn session_target(&self, container: &Container) -> Result<EcsTarget, LookupError> {
        let running = container.runtime_id.as_deref().filter(|_| container.state == RUNNING);
        let Some(runtime_id) = running else {
            return Err(not_found(format!(
                "container {} of task {} is not running: it is {}{}",
                visible(&container.name),
                visible(&self.id),
                visible(if container.state.is_empty() { "of no state" } else { &container.state }),
                self.stopped_reason
                    .as_deref()
                    .map(|reason| format!(" ({})", visible(reason)))
                    .unwrap_or_default(),
            )));
        };
        EcsTarget::new(&self.cluster, &self.id, runtime_id)
            .map_err(|error| LookupError::new(LookupErrorKind::Service, error.to_string()))
    }
}

const RUNNING: &str = "RUNNING";

impl<C: Clusters> Resolver for Containers<C> {
    fn step(&self) -> Cow<'_, str> {
        "container of ECS".into()
    }

    async fn resolve(&self, target: &Target) -> Result<Answer, LookupError> {
        let Some((path, kind)) = asked(target) else { return Ok(Answer::NotMine) };
        let which = match kind {
            Kind::Task => TaskName::Task(path.name()),
            Kind::Service => TaskName::Service(path.name()),
            Kind::Either => TaskName::ServiceOrTask(path.name()),
        };
        match self.find(Some(path.cluster()), which).await? {
            FoundTasks::Tasks { tasks, more } => Ok(Answer::Found(matches(&tasks, path.container(), more)?)),
            FoundTasks::Clusters(clusters) => Err(not_found(format!(
                "the names of several clusters begin with '{}': {}",
                path.cluster(),
                list(&clusters)
            ))),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Task,
    Service,
    Either,
}

fn asked(target: &Target) -> Option<(Cow<'_, ContainerPath>, Kind)> {
    match target {
        Target::Container(path) => Some((Cow::Borrowed(path), Kind::Either)),
        Target::Name(name) => Some((Cow::Owned(ContainerPath::parse(name.as_str())?), Kind::Either)),
        Target::Arn(arn) => match arn.resource() {
            ArnResource::Task(path) | ArnResource::Container(path) => Some((Cow::Borrowed(path), Kind::Task)),
            ArnResource::Service(path) => Some((Cow::Borrowed(path), Kind::Service)),
            ArnResource::Instance(_) => None,
        },
        _ => None,
    }
}

/// The running containers that are meant: a machine each.
fn matches(tasks: &[Task], container: Option<&str>, more: More) -> Result<Matches, LookupError> {
    let mut matches = Matches { found: Vec::new(), more };
    let mut reason = None;
    for task in tasks {
        for container in task.containers_named(container) {
            match task.session_target(container) {
                Ok(_) if matches.found.len() == MAX_MATCHES => matches.more = More::Maybe,
                Ok(target) => matches.found.push(Match {
                    target: SessionTarget::Ecs(target),
                    name: Some(format!("{}/{}", task.group_name(), container.name)),
                    state: Some(container.state.clone()),
                    address: container.address,
                }),
                Err(error) => reason = Some(error),
            }
        }
    }
    match (matches.found.is_empty(), reason) {
        (false, _) => Ok(matches),
        (true, Some(reason)) => Err(reason),
        (true, None) => Err(no_container(&tasks[0], container.unwrap_or_default())),
    }
}

/// The name that is written, or else those that begin so.
fn beginning(listed: &Listed, written: &str) -> Listed {
    if let Some(name) = listed.names.iter().find(|name| *name == written) {
        return vec![name.clone()].into();
    }
    let names = listed.names.iter().filter(|name| name.starts_with(written)).cloned().collect();
    Listed { names, more: listed.more }
}

/// Ids are 32 hexadecimal digits; those of old are UUIDs.
fn is_task_id(text: &str) -> bool {
    let digits = text.bytes().filter(u8::is_ascii_hexdigit).count();
    let dashes = text.bytes().filter(|byte| *byte == b'-').count();
    digits == 32 && (dashes == 0 || dashes == 4) && text.len() == digits + dashes
}

fn not_found(message: String) -> LookupError {
    LookupError::new(LookupErrorKind::NotFound, message)
}

fn no_cluster(name: &str, there: &Listed) -> LookupError {
    not_found(match there.names.is_empty() {
        true => {
            format!("there is no ECS cluster {}: there is none in this region of the account", visible(name))
        }
        false => format!("there is no ECS cluster {}; there are: {}", visible(name), list(there)),
    })
}

fn no_task(
    cluster: &str,
    name: &str,
    services: &Listed,
    may_be_service: bool,
    may_be_task: bool,
) -> LookupError {
    let (cluster, shown) = (visible(cluster), visible(name));
    not_found(match &*beginning(services, name).names {
        [service, ..] => format!("service {} of cluster {cluster} has no running task", visible(service)),
        [] if !may_be_service => {
            format!("no task of cluster {cluster} runs whose id is, or begins with, {shown}")
        }
        [] => {
            let what = if may_be_task { "service or running task" } else { "service" };
            let there = match services.names.is_empty() {
                true => "it has no services".to_owned(),
                false => format!("its services are: {}", list(services)),
            };
            format!("cluster {cluster} has no {what} {shown}; {there}")
        }
    })
}

/// There is no such container in the task, whose names the message has.
fn no_container(task: &Task, name: &str) -> LookupError {
    let names: Vec<String> = task.containers.iter().map(|container| container.name.clone()).collect();
    let (id, name, there) = (visible(&task.id), visible(name), list(&names.into()));
    not_found(format!("task {id} has no container {name}; it has: {there}"))
}

fn list(listed: &Listed) -> String {
    let mut names: Vec<String> = listed.names.iter().take(MAX_SHOWN).map(|name| visible(name)).collect();
    if listed.names.len() > MAX_SHOWN || listed.more == More::Maybe {
        names.push("...".into());
    }
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Listed {
        names.iter().map(ToString::to_string).collect::<Vec<_>>().into()
    }

    fn task(containers: &[&str]) -> Task {
        let containers = containers.iter().map(|name| Container {
            name: (*name).into(),
            id: format!("{name}-id"),
            runtime_id: Some("8f01-31".into()),
            state: RUNNING.into(),
            ..Container::default()
        });
        Task {
            cluster: "prod".into(),
            id: "8f01".into(),
            group: "service:web".into(),
            containers: containers.collect(),
            ..Task::default()
        }
    }

    fn named(task: &Task, name: Option<&str>) -> Vec<String> {
        task.containers_named(name).iter().map(|container| container.name.clone()).collect()
    }

    #[test]
    fn a_name_in_full_hides_those_that_begin_so() {
        let listed = names(&["web", "web-2", "db"]);
        assert_eq!(beginning(&listed, "web"), names(&["web"]));
        assert_eq!(beginning(&listed, "we"), names(&["web", "web-2"]));
        assert_eq!(beginning(&listed, "x"), names(&[]));
    }

    #[test]
    fn ids_of_tasks_are_told_from_names() {
        for id in ["8f01b4f0aa6c4d1e9b7a3c5d2e4f6071", "8f01b4f0-aa6c-4d1e-9b7a-3c5d2e4f6071"] {
            assert!(is_task_id(id), "{id}");
        }
        for name in ["web", "8f01b4f0", "", "8f01b4f0aa6c4d1e9b7a3c5d2e4f607g", &"a".repeat(33)] {
            assert!(!is_task_id(name), "{name}");
        }
    }

    #[test]
    fn containers_of_aws_are_meant_only_by_name() {
        let busy = task(&["app", "aws-guardduty-agent-x1", "ecs-service-connect-y2"]);
        assert_eq!(named(&busy, None), ["app"]);
        assert_eq!(named(&busy, Some("a")), ["app"]);
        assert_eq!(named(&busy, Some("aws-g")), ["aws-guardduty-agent-x1"]);
        assert_eq!(named(&task(&["ecs-service-connect-y2"]), None), ["ecs-service-connect-y2"]);
    }

    #[test]
    fn a_container_goes_by_name_id_or_beginning() {
        let task = task(&["app", "app-2"]);
        assert_eq!(named(&task, Some("app")), ["app"]);
        assert_eq!(named(&task, Some("app-2-id")), ["app-2"]);
        assert_eq!(named(&task, Some("ap")), ["app", "app-2"]);
        assert_eq!(named(&task, Some("x")), [""; 0]);
    }

    #[test]
    fn a_container_that_does_not_run_says_why() {
        let mut task = task(&["app"]);
        assert_eq!(task.session_target(&task.containers[0]).unwrap().as_str(), "ecs:prod_8f01_8f01-31");
        task.containers[0].state = "STOPPED".into();
        task.stopped_reason = Some("Essential container in task exited".into());
        let error = matches(&[task.clone()], None, More::No).unwrap_err();
        assert_eq!(error.kind(), LookupErrorKind::NotFound);
        assert_eq!(
            error.to_string(),
            "container app of task 8f01 is not running: it is STOPPED (Essential container in task exited)"
        );
        let error = matches(&[task], Some("x"), More::No).unwrap_err();
        assert_eq!(error.to_string(), "task 8f01 has no container x; it has: app");
    }

    #[test]
    fn a_match_says_where_it_is() {
        let matches = matches(&[task(&["app", "log"])], None, More::No).unwrap();
        let shown: Vec<String> = matches.found.iter().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            ["ecs:prod_8f01_8f01-31  web/app  RUNNING", "ecs:prod_8f01_8f01-31  web/log  RUNNING"]
        );
    }
}
