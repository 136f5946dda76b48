//! Containers of ECS by name, against clusters in memory.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::sync::{Arc, Mutex};

use ssm_resolve::{
    Aliases, Chain, Clusters, Container, Containers, FoundTasks, Listed, LookupError, LookupErrorKind, More,
    ResolveError, Several, Target, Task, TaskName,
};

mod common;

const WEB: &str = "8f01b4f0aa6c4d1e9b7a3c5d2e4f6071";

#[tokio::test]
async fn names_in_full_cost_two_calls() {
    let ecs = ecs();
    let chain = Chain::new().then(Containers::new(ecs.clone()));
    for (text, id) in [
        ("ecs:prod/web/app", "ecs:prod_8f01b4f0aa6c4d1e9b7a3c5d2e4f6071_8f01b4f0aa6c4d1e9b7a3c5d2e4f6071-1"),
        ("prod/web/log", "ecs:prod_8f01b4f0aa6c4d1e9b7a3c5d2e4f6071_8f01b4f0aa6c4d1e9b7a3c5d2e4f6071-2"),
        ("arn:aws:ecs:eu-west-1:123456789012:service/test/one", "ecs:test_00aa_00aa-1"),
    ] {
        let resolved = chain.resolve(&target(text)).await.unwrap();
        assert_eq!(resolved.target().as_str(), id, "{text}");
        assert_eq!(resolved.step.as_deref(), Some("container of ECS"));
        assert_eq!(ecs.questions().len(), 2, "{text}");
    }
    let by_id = format!("ecs:prod/{WEB}/app");
    let arn = format!("arn:aws:ecs:eu-west-1:123456789012:container/prod/{WEB}/app-id");
    for text in [by_id, arn] {
        let resolved = chain.resolve(&target(&text)).await.unwrap();
        assert!(resolved.target().as_str().ends_with("-1"), "{text}");
        assert_eq!(ecs.questions(), [format!("describe prod {WEB}")], "{text}");
    }
}

#[tokio::test]
async fn a_beginning_is_enough_when_nothing_else_begins_so() {
    let chain = Chain::new().then(Containers::new(ecs()));
    for text in ["ecs:prod/we/a", "ecs:prod/8f01/app", "ecs:prod/8f/ap"] {
        let resolved = chain.resolve(&target(text)).await.unwrap();
        assert_eq!(resolved.found.name.as_deref(), Some("web/app"), "{text}");
    }
    // One cluster, one service and one container is what remains.
    for text in ["ecs:te/o", "ecs:test/00", "te/one/on"] {
        assert_eq!(
            chain.resolve(&target(text)).await.unwrap().target().as_str(),
            "ecs:test_00aa_00aa-1",
            "{text}"
        );
    }
}

#[tokio::test]
async fn a_task_without_a_service_goes_by_its_family() {
    let chain = Chain::new().then(Containers::new(ecs()));
    for text in ["ecs:prod/job", "ecs:prod/04"] {
        let resolved = chain.resolve(&target(text)).await.unwrap();
        assert_eq!(resolved.found.name.as_deref(), Some("job/job"), "{text}");
    }
    assert!(chain.resolve(&target("ecs:prod/jo")).await.is_err());
}

#[tokio::test]
async fn several_containers_are_listed() {
    let chain = Chain::new().then(Containers::new(ecs()));
    let error = chain.resolve(&target("ecs:prod/web")).await.unwrap_err();
    let ResolveError::Ambiguous { matches, more: More::No, .. } = &error else { panic!("{error}") };
    let names: Vec<_> = matches.iter().map(|found| found.name.as_deref().unwrap()).collect();
    assert_eq!(names, ["web/app", "web/log"]);
    // Two tasks of `worker`, and one of `worker-2`, whose name only begins so.
    let error = chain.resolve(&target("ecs:prod/worker")).await.unwrap_err();
    let ResolveError::Ambiguous { matches, .. } = &error else { panic!("{error}") };
    assert_eq!(matches.len(), 2, "{error}");
    let error = chain.resolve(&target("ecs:prod/work")).await.unwrap_err();
    let ResolveError::Ambiguous { matches, .. } = &error else { panic!("{error}") };
    assert_eq!(matches.len(), 3, "{error}");
    let first = Chain::new().then(Containers::new(ecs())).several(Several::First);
    assert!(first.resolve(&target("ecs:prod/work")).await.is_ok());
}

#[tokio::test]
async fn what_is_there_is_listed_when_nothing_is_found() {
    let chain = Chain::new().then(Containers::new(ecs()));
    for (text, said) in [
        ("ecs:x/web", "there is no ECS cluster x; there are: prod, prod-eu, test"),
        ("ecs:p/web", "the names of several clusters begin with 'p': prod, prod-eu"),
        (
            "ecs:prod/x",
            "cluster prod has no service or running task x; its services are: web, worker, worker-2, idle",
        ),
        ("ecs:prod/idle", "service idle of cluster prod has no running task"),
        ("ecs:prod/web/x", "has no container x; it has: app, log, aws-guardduty-agent-1"),
        (
            "arn:aws:ecs:eu-west-1:123456789012:task/prod/web",
            "no task of cluster prod runs whose id is, or begins with, web",
        ),
    ] {
        let error = chain.resolve(&target(text)).await.unwrap_err();
        assert_eq!(error.failure().unwrap().kind(), LookupErrorKind::NotFound, "{text}");
        assert!(!error.is_temporary() && error.to_string().contains(said), "{text}: {error}");
    }
}

#[tokio::test]
async fn levels_are_skipped_where_there_is_one() {
    let containers = Containers::new(ecs());
    let found = containers.find(None, TaskName::Any).await.unwrap();
    let FoundTasks::Clusters(clusters) = found else { panic!("{found:?}") };
    assert_eq!(clusters.names, ["prod", "prod-eu", "test"]);
    let one = Ecs { clusters: ecs().clusters.split_off(2), ..Ecs::default() };
    let found = Containers::new(one).find(None, TaskName::Any).await.unwrap();
    let FoundTasks::Tasks { tasks, more: More::No } = found else { panic!("{found:?}") };
    assert_eq!((tasks.len(), &*tasks[0].id), (1, "00aa"));
    let error = Containers::new(Ecs::default()).find(None, TaskName::Any).await.unwrap_err();
    assert_eq!(error.to_string(), "there is no ECS cluster in this region of the account");
}

#[tokio::test]
async fn who_may_not_list_clusters_learns_that_the_name_is_wrong() {
    let ecs = Ecs { secret: true, ..ecs() };
    let error = Containers::new(ecs).find(Some("pro"), TaskName::Any).await.unwrap_err();
    assert_eq!(error.to_string(), "no cluster pro");
}

#[tokio::test]
async fn a_name_with_a_slash_is_no_computer_name() {
    let account = common::Account::default();
    let chain = Chain::standard(Aliases::default(), account.clone()).then(Containers::new(ecs()));
    assert!(chain.resolve(&target("test/one")).await.is_ok());
    assert_eq!(account.questions(), ["tag:Name=test/one"]);
}

#[tokio::test]
async fn many_tasks_are_read_in_parts_up_to_a_bound() {
    let tasks = (0..5_000).map(|number| task("big", &format!("{number:04x}"), "service:all", &["app"]));
    let ecs = Ecs { clusters: vec![("big", vec!["all"], tasks.collect())], ..Ecs::default() };
    let containers = Containers::new(ecs.clone());
    let found = containers.find(Some("big"), TaskName::Any).await.unwrap();
    let FoundTasks::Tasks { tasks, more: More::Maybe } = found else { panic!("{found:?}") };
    assert_eq!((tasks.len(), ecs.questions().len()), (1_000, 11));
    let error = Chain::new().then(containers).resolve(&target("ecs:big/all")).await.unwrap_err();
    let ResolveError::Ambiguous { matches, more: More::Maybe, .. } = &error else { panic!("{error}") };
    assert_eq!(matches.len(), ssm_resolve::MAX_MATCHES);
}

/// A cluster: name, services, tasks.
type Cluster = (&'static str, Vec<&'static str>, Vec<Task>);

/// Clusters in memory, and every question that was asked.
#[derive(Clone, Default)]
struct Ecs {
    clusters: Vec<Cluster>,
    /// Whether they are not listed.
    secret: bool,
    asked: Arc<Mutex<Vec<String>>>,
}

fn ecs() -> Ecs {
    let prod = vec![
        task("prod", WEB, "service:web", &["app", "log", "aws-guardduty-agent-1"]),
        task("prod", "01", "service:worker", &["app"]),
        task("prod", "02", "service:worker", &["app"]),
        task("prod", "03", "service:worker-2", &["app"]),
        task("prod", "04", "family:job", &["job"]),
    ];
    let test = vec![task("test", "00aa", "service:one", &["only"])];
    let clusters = vec![
        ("prod", vec!["web", "worker", "worker-2", "idle"], prod),
        ("prod-eu", vec![], vec![]),
        ("test", vec!["one"], test),
    ];
    Ecs { clusters, ..Ecs::default() }
}

fn task(cluster: &str, id: &str, group: &str, containers: &[&str]) -> Task {
    let containers = containers.iter().enumerate().map(|(index, name)| Container {
        name: (*name).into(),
        id: format!("{name}-id"),
        runtime_id: Some(format!("{id}-{}", index + 1)),
        state: "RUNNING".into(),
        ..Container::default()
    });
    Task {
        cluster: cluster.into(),
        id: id.into(),
        group: group.into(),
        state: "RUNNING".into(),
        containers: containers.collect(),
        ..Task::default()
    }
}

impl Ecs {
    fn questions(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }

    fn ask(&self, question: String) {
        self.asked.lock().unwrap().push(question);
    }

    fn cluster(&self, name: &str) -> Result<&Cluster, LookupError> {
        let found = self.clusters.iter().find(|cluster| cluster.0 == name);
        let missing = || LookupError::new(LookupErrorKind::NoSuchCluster, format!("no cluster {name}"));
        found.ok_or_else(missing)
    }
}

impl Clusters for Ecs {
    async fn clusters(&self, limit: usize) -> Result<Listed, LookupError> {
        self.ask("clusters".into());
        if self.secret {
            return Err(LookupError::new(LookupErrorKind::AccessDenied, "denied"));
        }
        Ok(limited(self.clusters.iter().map(|cluster| cluster.0), limit))
    }

    async fn services(&self, cluster: &str, limit: usize) -> Result<Listed, LookupError> {
        self.ask(format!("services {cluster}"));
        Ok(limited(self.cluster(cluster)?.1.iter().copied(), limit))
    }

    async fn tasks(&self, cluster: &str, service: Option<&str>, limit: usize) -> Result<Listed, LookupError> {
        self.ask(format!("tasks {cluster} {service:?}"));
        let group = service.map(|service| format!("service:{service}"));
        let tasks =
            self.cluster(cluster)?.2.iter().filter(|task| group.as_ref().is_none_or(|g| *g == task.group));
        Ok(limited(tasks.map(|task| &*task.id), limit))
    }

    async fn describe(&self, cluster: &str, tasks: &[String]) -> Result<Vec<Task>, LookupError> {
        self.ask(format!("describe {cluster} {}", tasks.join(" ")));
        assert!(tasks.len() <= ssm_resolve::MAX_DESCRIBED);
        Ok(self.cluster(cluster)?.2.iter().filter(|task| tasks.contains(&task.id)).cloned().collect())
    }
}

fn limited<'a>(mut names: impl Iterator<Item = &'a str>, limit: usize) -> Listed {
    let some = names.by_ref().take(limit).map(Into::into).collect();
    Listed { names: some, more: if names.next().is_some() { More::Maybe } else { More::No } }
}

fn target(text: &str) -> Target {
    text.parse().unwrap()
}
