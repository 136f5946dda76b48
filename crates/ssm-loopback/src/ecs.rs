//! The ECS operations in their JSON 1.1 form, as far as ECS Exec needs them. Members are in lower camel case (botocore
//! `data/ecs/2014-11-13/service-2.json`).

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::api::{ApiError, parse};
use crate::clusters::{ACCOUNT, Cluster, Container, Task};
use crate::service::{Service, SessionRequest, StartError};

/// In front of the operation in an `X-Amz-Target` header.
pub(crate) const PREFIX: &str = "AmazonEC2ContainerServiceV20141113.";

/// The document behind ExecuteCommand.
const DOCUMENT: &str = "AmazonECS-ExecuteInteractiveCommand";
/// What the ids of its sessions begin with.
const OWNER: &str = "ecs-execute-command";
/// The cluster of a request that names none.
const DEFAULT: &str = "default";
/// Most names in an answer, and most tasks in a question.
const MAX: usize = 100;

/// When everything was created: in JSON, seconds since 1970.
const CREATED: f64 = 1_767_225_600.0;

/// Runs an operation.
pub(crate) fn call(service: &Arc<Service>, operation: &str, body: &[u8]) -> Result<Value, ApiError> {
    let ecs = Ecs {
        clusters: &service.config.clusters,
        region: &service.config.region,
        kms_key: service.config.kms.as_ref().map(|kms| &*kms.key_id),
    };
    match operation {
        "ListClusters" => ecs.list_clusters(&parse(body)?),
        "DescribeClusters" => Ok(ecs.describe_clusters(&parse(body)?)),
        "ListServices" => ecs.list_services(&parse(body)?),
        "ListTasks" => ecs.list_tasks(&parse(body)?),
        "DescribeTasks" => ecs.describe_tasks(&parse(body)?),
        "DescribeTaskDefinition" => ecs.describe_task_definition(&parse(body)?),
        "ExecuteCommand" => ecs.execute_command(service, &parse(body)?),
        _ => Err(ApiError::new(
            "UnknownOperationException",
            "the loopback does not know this operation: it serves what ECS Exec needs",
        )),
    }
}

struct Ecs<'a> {
    clusters: &'a [Cluster],
    region: &'a str,
    /// What sessions are encrypted with.
    kms_key: Option<&'a str>,
}

/// The members of all requests together.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Input {
    cluster: Option<String>,
    clusters: Vec<String>,
    include: Vec<String>,
    service_name: Option<String>,
    family: Option<String>,
    desired_status: Option<String>,
    tasks: Vec<String>,
    task: String,
    task_definition: String,
    container: Option<String>,
    command: String,
    interactive: bool,
    max_results: Option<i64>,
    next_token: Option<String>,
}

impl Ecs<'_> {
    fn list_clusters(&self, input: &Input) -> Result<Value, ApiError> {
        let arns = self.clusters.iter().map(|cluster| self.arn("cluster", &cluster.name)).collect();
        page("clusterArns", arns, input, MAX)
    }

    fn describe_clusters(&self, input: &Input) -> Value {
        let default = [DEFAULT.to_owned()];
        let wanted = if input.clusters.is_empty() { &default[..] } else { &input.clusters };
        let (mut found, mut failures) = (Vec::new(), Vec::new());
        let wants_configuration = input.include.iter().any(|field| field == "CONFIGURATIONS");
        let configuration = self
            .kms_key
            .filter(|_| wants_configuration)
            .map(|key| json!({ "executeCommandConfiguration": { "kmsKeyId": key, "logging": "DEFAULT" } }));
        for name in wanted {
            match self.clusters.iter().find(|cluster| cluster.name == last(name)) {
                Some(cluster) => found.push(json!({
                    "clusterArn": self.arn("cluster", &cluster.name),
                    "clusterName": cluster.name,
                    "configuration": configuration,
                    "status": "ACTIVE",
                    "registeredContainerInstancesCount": 0,
                    "runningTasksCount": cluster.tasks.iter().filter(|task| task.status == "RUNNING").count(),
                    "pendingTasksCount": cluster.tasks.iter().filter(|task| task.status == "PENDING").count(),
                    "activeServicesCount": cluster.services.len(),
                })),
                None => failures.push(json!({ "arn": self.arn("cluster", last(name)), "reason": "MISSING" })),
            }
        }
        json!({ "clusters": found, "failures": failures })
    }

    fn list_services(&self, input: &Input) -> Result<Value, ApiError> {
        let cluster = self.cluster(input)?;
        let arn = |name| self.arn("service", &format!("{}/{name}", cluster.name));
        page("serviceArns", cluster.services.iter().map(arn).collect(), input, 10)
    }

    fn list_tasks(&self, input: &Input) -> Result<Value, ApiError> {
        let cluster = self.cluster(input)?;
        let service = input.service_name.as_deref().map(last);
        if service.is_some_and(|service| cluster.services.iter().all(|name| name != service)) {
            return Err(ApiError::new("ServiceNotFoundException", "Service not found."));
        }
        let stopped = input.desired_status.as_deref() == Some("STOPPED");
        let tasks = cluster.tasks.iter().filter(|task| {
            (task.status == "STOPPED") == stopped
                && service.is_none_or(|service| task.service.as_deref() == Some(service))
                && input.family.as_ref().is_none_or(|family| *family == task.family)
        });
        page("taskArns", tasks.map(|task| self.task_arn(cluster, task)).collect(), input, MAX)
    }

    fn describe_tasks(&self, input: &Input) -> Result<Value, ApiError> {
        let cluster = self.cluster(input)?;
        if !(1..=MAX).contains(&input.tasks.len()) {
            return Err(invalid("Tasks must be between 1 and 100 in number."));
        }
        let (mut tasks, mut failures) = (Vec::new(), Vec::new());
        for id in &input.tasks {
            match cluster.tasks.iter().find(|task| task.id == last(id)) {
                Some(task) => tasks.push(self.task(cluster, task)),
                None => {
                    let arn = self.arn("task", &format!("{}/{}", cluster.name, last(id)));
                    failures.push(json!({ "arn": arn, "reason": "MISSING" }));
                }
            }
        }
        Ok(json!({ "tasks": tasks, "failures": failures }))
    }

    fn task(&self, cluster: &Cluster, task: &Task) -> Value {
        let group = match &task.service {
            Some(service) => format!("service:{service}"),
            None => format!("family:{}", task.family),
        };
        let containers = task.containers.iter().enumerate();
        json!({
            "taskArn": self.task_arn(cluster, task),
            "clusterArn": self.arn("cluster", &cluster.name),
            "taskDefinitionArn": self.arn("task-definition", &format!("{}:1", task.family)),
            "group": group,
            "lastStatus": task.status,
            "desiredStatus": if task.status == "STOPPED" { "STOPPED" } else { "RUNNING" },
            "stoppedReason": task.stopped_reason,
            "enableExecuteCommand": task.exec,
            "launchType": task.launch_type,
            "platformVersion": task.platform_version,
            "platformFamily": "Linux",
            "createdAt": CREATED,
            "startedAt": CREATED,
            "containers": containers.map(|(index, container)| self.container(cluster, task, index, container))
                .collect::<Vec<_>>(),
            "overrides": { "containerOverrides": [] },
        })
    }

    fn container(&self, cluster: &Cluster, task: &Task, index: usize, container: &Container) -> Value {
        let agents = container.agent.as_ref().filter(|_| task.exec).map(|status| {
            json!({
                "name": "ExecuteCommandAgent",
                "lastStatus": status,
                "reason": container.agent_reason,
                "lastStartedAt": CREATED,
            })
        });
        let has_started = container.status != "PENDING";
        json!({
            "containerArn": self.container_arn(cluster, task, index),
            "taskArn": self.task_arn(cluster, task),
            "name": container.name,
            "image": "loopback",
            "runtimeId": has_started.then(|| task.runtime_id(index)),
            "lastStatus": container.status,
            "networkInterfaces": [{ "privateIpv4Address": "127.0.0.1" }],
            "healthStatus": "UNKNOWN",
            "managedAgents": agents.into_iter().collect::<Vec<_>>(),
        })
    }

    fn describe_task_definition(&self, input: &Input) -> Result<Value, ApiError> {
        let name = last(&input.task_definition);
        let family = name.strip_suffix(":1").unwrap_or(name);
        let mut tasks = self.clusters.iter().flat_map(|cluster| &cluster.tasks);
        let task = tasks.find(|task| task.family == family);
        let task =
            task.ok_or_else(|| ApiError::new("ClientException", "Unable to describe task definition."))?;
        let definition = |container: &Container| {
            let environment = container.environment.iter().map(|name| json!({ "name": name, "value": "x" }));
            json!({
                "name": container.name,
                "image": "loopback",
                "essential": true,
                "environment": environment.collect::<Vec<_>>(),
                "readonlyRootFilesystem": container.read_only,
                "linuxParameters": { "initProcessEnabled": container.init },
            })
        };
        Ok(json!({ "taskDefinition": {
            "taskDefinitionArn": self.arn("task-definition", &format!("{family}:1")),
            "family": family,
            "revision": 1,
            "status": "ACTIVE",
            "taskRoleArn": task.task_role,
            "pidMode": task.pid_mode,
            "networkMode": "awsvpc",
            "containerDefinitions": task.containers.iter().map(definition).collect::<Vec<_>>(),
        }}))
    }

    fn execute_command(&self, service: &Arc<Service>, input: &Input) -> Result<Value, ApiError> {
        let cluster = self.cluster(input)?;
        if !input.interactive {
            return Err(invalid("Interactive is the only mode supported currently."));
        }
        if input.command.is_empty() {
            return Err(invalid("Command cannot be empty."));
        }
        let task = cluster.tasks.iter().find(|task| task.id == last(&input.task));
        let task = task.ok_or_else(|| invalid("The referenced task was not found."))?;
        let mut containers = task.containers.iter().enumerate();
        let found = match (&input.container, &*task.containers) {
            (Some(name), _) => containers.find(|(_, container)| container.name == *name),
            (None, [_]) => containers.next(),
            (None, _) => return Err(invalid("A container name has to be given: the task has several.")),
        };
        let (index, container) = found.ok_or_else(|| invalid("The container was not found in the task."))?;
        if !task.exec || container.agent.as_deref() != Some("RUNNING") {
            return Err(invalid(
                "The execute command failed because execute command was not enabled when the task was run or the \
                 execute command agent isn't running. Wait and try again or run a new task with execute command \
                 enabled and try again.",
            ));
        }
        let request = SessionRequest {
            target: format!("ecs:{}_{}_{}", cluster.name, task.id, task.runtime_id(index)),
            document: Some(DOCUMENT.to_owned()),
            parameters: [("command".to_owned(), vec![input.command.clone()])].into(),
            owner: Some(OWNER),
            ..SessionRequest::default()
        };
        let answer = service.start_session(request).map_err(start_error)?;
        let channel = answer.channel.ok_or_else(|| start_error(StartError::ShuttingDown))?;
        Ok(json!({
            "clusterArn": self.arn("cluster", &cluster.name),
            "containerArn": self.container_arn(cluster, task, index),
            "containerName": container.name,
            "interactive": true,
            "session": {
                "sessionId": answer.session_id,
                "streamUrl": channel.stream_url,
                "tokenValue": channel.token.expose(),
            },
            "taskArn": self.task_arn(cluster, task),
        }))
    }

    fn cluster(&self, input: &Input) -> Result<&Cluster, ApiError> {
        let name = last(input.cluster.as_deref().unwrap_or(DEFAULT));
        let found = self.clusters.iter().find(|cluster| cluster.name == name);
        found.ok_or_else(|| ApiError::new("ClusterNotFoundException", "Cluster not found."))
    }

    fn arn(&self, kind: &str, name: &str) -> String {
        format!("arn:aws:ecs:{}:{ACCOUNT}:{kind}/{name}", self.region)
    }

    fn task_arn(&self, cluster: &Cluster, task: &Task) -> String {
        self.arn("task", &format!("{}/{}", cluster.name, task.id))
    }

    fn container_arn(&self, cluster: &Cluster, task: &Task, index: usize) -> String {
        let start = task.id.get(..8).unwrap_or(&task.id);
        let id = format!("{start}-0000-4000-8000-{index:012}");
        self.arn("container", &format!("{}/{}/{id}", cluster.name, task.id))
    }
}

fn start_error(error: StartError) -> ApiError {
    match error {
        StartError::TargetNotConnected(_) => ApiError::new(
            "TargetNotConnectedException",
            "The execute command failed due to an internal error. Try again later.",
        ),
        error => ApiError::new("ServerException", error.to_string()),
    }
}

fn invalid(message: &str) -> ApiError {
    ApiError::new("InvalidParameterException", message)
}

/// The name or id in an ARN, and what is none as it is.
fn last(arn: &str) -> &str {
    arn.rsplit('/').next().unwrap_or(arn)
}

/// A part of `arns` under this name, with the token for the next one.
fn page(member: &str, mut arns: Vec<String>, input: &Input, default: usize) -> Result<Value, ApiError> {
    let size = match input.max_results {
        None => default,
        Some(size) => match usize::try_from(size) {
            Ok(size @ 1..=MAX) => size,
            _ => return Err(invalid("maxResults must be between 1 and 100.")),
        },
    };
    let skip: usize = match &input.next_token {
        None => 0,
        Some(token) => token.parse().map_err(|_| invalid("Invalid token."))?,
    };
    let mut rest = arns.split_off(skip.min(arns.len()));
    let more = rest.len() > size;
    rest.truncate(size);
    let mut answer = json!({ member: rest });
    if more {
        answer["nextToken"] = json!((skip + size).to_string());
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ecs(clusters: &[Cluster]) -> Ecs<'_> {
        Ecs { clusters, region: "us-east-1", kms_key: None }
    }

    fn input(json: &str) -> Input {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn names_come_in_pages() {
        let clusters: Vec<Cluster> =
            ["a", "b", "c"].map(|name| Cluster { name: name.into(), ..Cluster::default() }).into();
        let first = ecs(&clusters).list_clusters(&input(r#"{"maxResults":2}"#)).unwrap();
        assert_eq!(first["clusterArns"].as_array().unwrap().len(), 2);
        let token = first["nextToken"].as_str().unwrap();
        let next = input(&format!(r#"{{"maxResults":2,"nextToken":"{token}"}}"#));
        let second = ecs(&clusters).list_clusters(&next).unwrap();
        assert_eq!(second, json!({ "clusterArns": ["arn:aws:ecs:us-east-1:000000000000:cluster/c"] }));
    }

    #[test]
    fn what_does_not_exist_has_the_error_of_aws() {
        let clusters = crate::clusters::default_clusters();
        let code = |result: Result<Value, ApiError>| result.unwrap_err().code;
        let ecs = ecs(&clusters);
        assert_eq!(code(ecs.list_tasks(&input("{}"))), "ClusterNotFoundException");
        let unknown = input(r#"{"cluster":"loopback","serviceName":"x"}"#);
        assert_eq!(code(ecs.list_tasks(&unknown)), "ServiceNotFoundException");
        assert_eq!(
            code(ecs.describe_tasks(&input(r#"{"cluster":"loopback"}"#))),
            "InvalidParameterException"
        );
        let absent = ecs.describe_tasks(&input(r#"{"cluster":"loopback","tasks":["x"]}"#)).unwrap();
        assert_eq!(absent["failures"][0]["reason"], "MISSING");
    }
}
