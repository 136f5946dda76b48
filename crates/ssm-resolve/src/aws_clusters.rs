//! [`AwsClusters`]: ECS, asked through the AWS SDK.

use std::net::IpAddr;

use aws_config::SdkConfig;
use aws_sdk_ecs::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_ecs::types;

use crate::aws::explain;
use crate::clusters::{Clusters, Container, Exec, Listed, Task};
use crate::text::visible;
use crate::{LookupError, LookupErrorKind, More};

/// [`Clusters`] on ListClusters, ListServices, ListTasks and DescribeTasks, a page at a time.
///
/// The caller needs the IAM actions `ecs:ListTasks` and `ecs:DescribeTasks`; for names that are not written in full also
/// `ecs:ListClusters` and `ecs:ListServices`.
#[derive(Debug, Clone)]
pub struct AwsClusters {
    ecs: aws_sdk_ecs::Client,
}

/// The most the API gives.
const PAGE: i32 = 100;

impl AwsClusters {
    /// The account and region of this configuration. An endpoint may be set there, in the environment or in the profile.
    pub fn new(config: &SdkConfig) -> Self {
        Self::from_client(aws_sdk_ecs::Client::new(config))
    }

    /// What this client sees.
    pub fn from_client(ecs: aws_sdk_ecs::Client) -> Self {
        Self { ecs }
    }
}

impl Clusters for AwsClusters {
    async fn clusters(&self, limit: usize) -> Result<Listed, LookupError> {
        let mut pages = self.ecs.list_clusters().max_results(PAGE).into_paginator().send();
        let mut listed = Listed::default();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| explain("ecs:ListClusters", &error))?;
            if !add(&mut listed, page.cluster_arns(), limit) {
                break;
            }
        }
        Ok(listed)
    }

    async fn services(&self, cluster: &str, limit: usize) -> Result<Listed, LookupError> {
        let call = self.ecs.list_services().cluster(cluster).max_results(PAGE);
        let mut pages = call.into_paginator().send();
        let mut listed = Listed::default();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| of_cluster("ecs:ListServices", cluster, &error))?;
            if !add(&mut listed, page.service_arns(), limit) {
                break;
            }
        }
        Ok(listed)
    }

    async fn tasks(&self, cluster: &str, service: Option<&str>, limit: usize) -> Result<Listed, LookupError> {
        let call = self.ecs.list_tasks().cluster(cluster).set_service_name(service.map(Into::into));
        let mut pages = call.max_results(PAGE).into_paginator().send();
        let mut listed = Listed::default();
        while let Some(page) = pages.next().await {
            let page = match page {
                Ok(page) => page,
                Err(error) if error.code() == Some("ServiceNotFoundException") => break,
                Err(error) => return Err(of_cluster("ecs:ListTasks", cluster, &error)),
            };
            if !add(&mut listed, page.task_arns(), limit) {
                break;
            }
        }
        Ok(listed)
    }

    async fn describe(&self, cluster: &str, tasks: &[String]) -> Result<Vec<Task>, LookupError> {
        let call = self.ecs.describe_tasks().cluster(cluster).set_tasks(Some(tasks.to_vec()));
        let answer = call.send().await.map_err(|error| of_cluster("ecs:DescribeTasks", cluster, &error))?;
        Ok(answer.tasks().iter().map(task).collect())
    }
}

/// Adds names up to the limit; false when there are more.
fn add(listed: &mut Listed, arns: &[String], limit: usize) -> bool {
    for arn in arns {
        if listed.names.len() == limit {
            listed.more = More::Maybe;
            return false;
        }
        listed.names.push(last(Some(arn)));
    }
    true
}

/// The name or id in an ARN.
fn last(arn: Option<&str>) -> String {
    let arn = arn.unwrap_or_default();
    arn.rsplit('/').next().unwrap_or(arn).into()
}

fn task(task: &types::Task) -> Task {
    Task {
        cluster: last(task.cluster_arn()),
        id: last(task.task_arn()),
        group: task.group().unwrap_or_default().into(),
        state: task.last_status().unwrap_or_default().into(),
        stopped_reason: task.stopped_reason().filter(|reason| !reason.is_empty()).map(Into::into),
        exec: if task.enable_execute_command() { Exec::Enabled } else { Exec::Disabled },
        containers: task.containers().iter().map(container).collect(),
    }
}

fn container(container: &types::Container) -> Container {
    let address = container.network_interfaces().iter().find_map(|interface| {
        [interface.private_ipv4_address(), interface.ipv6_address()]
            .into_iter()
            .flatten()
            .find_map(|address| address.parse::<IpAddr>().ok())
    });
    Container {
        name: container.name().unwrap_or_default().into(),
        id: last(container.container_arn()),
        runtime_id: container.runtime_id().filter(|id| !id.is_empty()).map(Into::into),
        state: container.last_status().unwrap_or_default().into(),
        agent: container.managed_agents().iter().find_map(|agent| agent.last_status().map(Into::into)),
        address,
    }
}

fn of_cluster<E>(action: &str, cluster: &str, error: &SdkError<E>) -> LookupError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    if error.code() == Some("ClusterNotFoundException") {
        let message = format!("there is no ECS cluster {}", visible(cluster));
        return LookupError::new(LookupErrorKind::NoSuchCluster, message);
    }
    explain(action, error)
}
