//! [`Clusters`]: what the lookup of containers needs to be told about ECS.

use std::net::IpAddr;
use std::sync::Arc;

use crate::{LookupError, More};

/// The ECS clusters of an account in one region.
///
/// Clusters, services and tasks go by their names and ids, the last part of their ARNs. That a cluster does not exist is an error of
/// kind [`LookupErrorKind::NoSuchCluster`](crate::LookupErrorKind::NoSuchCluster); a service that does not exist has no tasks, and
/// a task that does not exist is left out.
pub trait Clusters: Send + Sync {
    /// The names of the clusters, at most `limit` of them.
    ///
    /// # Errors
    ///
    /// When the account could not be asked.
    fn clusters(&self, limit: usize) -> impl Future<Output = Result<Listed, LookupError>> + Send;

    /// The names of the services of a cluster, at most `limit` of them.
    ///
    /// # Errors
    ///
    /// When there is no such cluster, or the account could not be asked.
    fn services(
        &self,
        cluster: &str,
        limit: usize,
    ) -> impl Future<Output = Result<Listed, LookupError>> + Send;

    /// The ids of the tasks of a cluster that are meant to run, or of one of its services, at most `limit` of them.
    ///
    /// # Errors
    ///
    /// When there is no such cluster, or the account could not be asked.
    fn tasks(
        &self,
        cluster: &str,
        service: Option<&str>,
        limit: usize,
    ) -> impl Future<Output = Result<Listed, LookupError>> + Send;

    /// What is known about these tasks of a cluster, at most [`MAX_DESCRIBED`] of them.
    ///
    /// # Errors
    ///
    /// When there is no such cluster, or the account could not be asked.
    fn describe(
        &self,
        cluster: &str,
        tasks: &[String],
    ) -> impl Future<Output = Result<Vec<Task>, LookupError>> + Send;
}

/// How many tasks DescribeTasks takes at once.
pub const MAX_DESCRIBED: usize = 100;

impl<C: Clusters> Clusters for Arc<C> {
    fn clusters(&self, limit: usize) -> impl Future<Output = Result<Listed, LookupError>> + Send {
        (**self).clusters(limit)
    }

    fn services(
        &self,
        cluster: &str,
        limit: usize,
    ) -> impl Future<Output = Result<Listed, LookupError>> + Send {
        (**self).services(cluster, limit)
    }

    fn tasks(
        &self,
        cluster: &str,
        service: Option<&str>,
        limit: usize,
    ) -> impl Future<Output = Result<Listed, LookupError>> + Send {
        (**self).tasks(cluster, service, limit)
    }

    fn describe(
        &self,
        cluster: &str,
        tasks: &[String],
    ) -> impl Future<Output = Result<Vec<Task>, LookupError>> + Send {
        (**self).describe(cluster, tasks)
    }
}

/// Names, up to a bound.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Listed {
    /// The names.
    pub names: Vec<String>,
    /// Whether there are more.
    pub more: More,
}

impl From<Vec<String>> for Listed {
    fn from(names: Vec<String>) -> Self {
        Self { names, more: More::No }
    }
}

/// A task of ECS.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Task {
    /// The name of its cluster.
    pub cluster: String,
    /// Its id.
    pub id: String,
    /// `service:NAME` or `family:NAME`.
    pub group: String,
    /// `PENDING`, `RUNNING`, `STOPPED` and those between them.
    pub state: String,
    /// Why it was stopped.
    pub stopped_reason: Option<String>,
    /// Whether commands may be run in its containers.
    pub exec: Exec,
    /// Its containers.
    pub containers: Vec<Container>,
}

/// Whether a task was started with ECS Exec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Exec {
    /// It was not, and cannot be given it.
    #[default]
    Disabled,
    /// It was.
    Enabled,
}

/// A container of a task.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Container {
    /// Its name in the task definition.
    pub name: String,
    /// Its id, the last part of its ARN.
    pub id: String,
    /// What the container runtime calls it; none before it has started.
    pub runtime_id: Option<String>,
    /// `PENDING`, `RUNNING` or `STOPPED`.
    pub state: String,
    /// The state of the agent that runs commands in it; none where there is no such agent.
    pub agent: Option<String>,
    /// Its private address, where it has a network of its own.
    pub address: Option<IpAddr>,
}

impl Task {
    /// The service it belongs to, or else the family of its definition.
    pub fn group_name(&self) -> &str {
        self.group.split_once(':').map_or(&*self.group, |(_, name)| name)
    }
}

impl Container {
    /// Whether AWS has put it beside those of the task definition: GuardDuty and Service Connect do.
    pub fn is_added(&self) -> bool {
        ["aws-guardduty-agent", "ecs-service-connect-"].iter().any(|prefix| self.name.starts_with(prefix))
    }
}
