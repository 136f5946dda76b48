//! The ECS clusters of a loopback: what they are made of. Every container is this machine.

/// A cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cluster {
    /// Its name.
    pub name: String,
    /// Names of its services. One without a task among [`tasks`](Self::tasks) has none running.
    pub services: Vec<String>,
    /// Its tasks.
    pub tasks: Vec<Task>,
}

/// A task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// Its id, 32 hexadecimal digits.
    pub id: String,
    /// The family of its task definition, whose revision is always 1.
    pub family: String,
    /// The service it belongs to. Default none.
    pub service: Option<String>,
    /// `lastStatus`. Default `RUNNING`; one that is `STOPPED` is described but not listed.
    pub status: String,
    /// `stoppedReason`. Default none.
    pub stopped_reason: Option<String>,
    /// `enableExecuteCommand`. Default true.
    pub exec: bool,
    /// `launchType`. Default `FARGATE`.
    pub launch_type: String,
    /// `platformVersion`. Default `1.4.0`.
    pub platform_version: Option<String>,
    /// `taskRoleArn` of the task definition. Default a role.
    pub task_role: Option<String>,
    /// `pidMode` of the task definition. Default none.
    pub pid_mode: Option<String>,
    /// Its containers.
    pub containers: Vec<Container>,
}

/// A container of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Its name.
    pub name: String,
    /// `lastStatus`. Default `RUNNING`.
    pub status: String,
    /// `lastStatus` of the managed agent ExecuteCommandAgent. Default `RUNNING`; none for a container without one.
    pub agent: Option<String>,
    /// Why the agent was stopped. Default none.
    pub agent_reason: Option<String>,
    /// Whether sessions reach the agent. Default true.
    pub connected: bool,
    /// `readonlyRootFilesystem` of its definition. Default false.
    pub read_only: bool,
    /// `linuxParameters.initProcessEnabled` of its definition. Default true.
    pub init: bool,
    /// Names of environment variables of its definition. Default none.
    pub environment: Vec<String>,
}

impl Task {
    /// A running task on which commands can be run, of containers of these names.
    pub fn new(id: impl Into<String>, family: impl Into<String>, containers: &[&str]) -> Self {
        let family = family.into();
        Self {
            id: id.into(),
            service: None,
            status: "RUNNING".into(),
            stopped_reason: None,
            exec: true,
            launch_type: "FARGATE".into(),
            platform_version: Some("1.4.0".into()),
            task_role: Some(format!("arn:aws:iam::{ACCOUNT}:role/{family}")),
            pid_mode: None,
            containers: containers.iter().map(|name| Container::new(*name)).collect(),
            family,
        }
    }

    /// The same as a part of this service.
    #[must_use]
    pub fn of(mut self, service: impl Into<String>) -> Self {
        self.service = Some(service.into());
        self
    }

    /// What the runtime calls a container; on Fargate the id of the task and a number.
    pub(crate) fn runtime_id(&self, index: usize) -> String {
        format!("{}-{}", self.id, 3_107_182_542 + index as u64)
    }
}

impl Container {
    /// A running container on which commands can be run.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            status: "RUNNING".into(),
            agent: Some("RUNNING".into()),
            agent_reason: None,
            connected: true,
            read_only: false,
            init: true,
            environment: Vec::new(),
        }
    }

    /// Whether a session can be started on it.
    pub(crate) fn is_reachable(&self) -> bool {
        self.connected && self.status == "RUNNING" && self.agent.as_deref() == Some("RUNNING")
    }
}

impl Cluster {
    /// The target strings of the containers that sessions can be started on.
    pub(crate) fn targets(&self) -> impl Iterator<Item = String> {
        let tasks = self.tasks.iter().filter(|task| task.exec && task.status == "RUNNING");
        tasks.flat_map(move |task| {
            let reachable =
                task.containers.iter().enumerate().filter(|(_, container)| container.is_reachable());
            reachable
                .map(move |(index, _)| format!("ecs:{}_{}_{}", self.name, task.id, task.runtime_id(index)))
        })
    }
}

/// The account everything belongs to.
pub(crate) const ACCOUNT: &str = "000000000000";

/// A service of one task with two containers, one of two tasks, and a task that commands cannot be run on.
pub(crate) fn default_clusters() -> Vec<Cluster> {
    let job = Task { exec: false, ..Task::new("d4c5b6a7988990a1b2c3d4e5f60718ff", "job", &["job"]) };
    vec![Cluster {
        name: "loopback".into(),
        services: vec!["web".into(), "worker".into()],
        tasks: vec![
            Task::new("8f01b4f0aa6c4d1e9b7a3c5d2e4f6071", "web", &["app", "sidecar"]).of("web"),
            Task::new("a1b2c3d4e5f60718293a4b5c6d7e8f90", "worker", &["worker"]).of("worker"),
            Task::new("b2c3d4e5f60718293a4b5c6d7e8f90a1", "worker", &["worker"]).of("worker"),
            job,
        ],
    }]
}
