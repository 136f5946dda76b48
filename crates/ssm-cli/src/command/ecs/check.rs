//! `ssm ecs check`: what a task needs so that commands can be run in its containers, as AWS's amazon-ecs-exec-checker has it.

use std::process::ExitCode;

use aws_sdk_ecs::types::{
    Cluster, ClusterField, Container, ContainerDefinition, LaunchType, ManagedAgent, ManagedAgentName,
    PidMode, Task, TaskDefinition,
};
use serde_json::json;
use ssm_session::{AwsControl, StreamHosts};

use super::Ecs;
use super::place::{Ask, Chosen, Wanted, choose_task};
use crate::args::EcsCheckArgs;
use crate::command::verdict::Verdict;
use crate::config::Config;
use crate::error::Error;
use crate::output::{Json, print};

/// The first platform of Fargate with the agent, of Windows and of all others.
const FARGATE: ([u32; 3], [u32; 3]) = ([1, 0, 0], [1, 4, 0]);

/// The first ECS agent that starts it.
const ECS_AGENT: [u32; 3] = [1, 50, 2];

/// What the agent in the container calls.
const ACTIONS: &str = "ssmmessages:CreateControlChannel, ssmmessages:CreateDataChannel, ssmmessages:OpenControlChannel \
                       and ssmmessages:OpenDataChannel";

/// Variables that the agent takes for its credentials.
const KEYS: [&str; 3] = ["AWS_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"];

/// Runs the command.
pub(super) async fn run(mut args: EcsCheckArgs, config: &Config) -> Result<ExitCode, Error> {
    let wanted = Wanted::take(&args.place, &mut args.connection, config)?;
    let ecs = Ecs::load(&args.connection).await?;
    let task = choose_task(&ecs, &wanted, Ask::new(&args.connection)).await?;
    let findings = findings(&ecs, &task.cluster, &task.id, wanted.container()).await?;
    let text = if args.json { as_json(&findings) } else { as_lines(&findings) };
    print(&text)?;
    let failed = findings.iter().any(|finding| finding.verdict == Verdict::Fail);
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// What speaks against commands in a container, in lines.
pub(super) async fn explain(ecs: &Ecs, chosen: &Chosen) -> Vec<String> {
    let Chosen { task, container } = chosen;
    match findings(ecs, &task.cluster, &task.id, Some(&container.name)).await {
        Ok(findings) => as_lines(&findings).lines().map(str::to_owned).collect(),
        Err(error) => vec![format!("what the task lacks cannot be told: {error}")],
    }
}

/// What a check has found, and what can be done about it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Finding {
    check: &'static str,
    verdict: Verdict,
    found: String,
    advice: Option<String>,
}

impl Finding {
    fn new(check: &'static str, verdict: Verdict, found: impl Into<String>) -> Self {
        Self { check, verdict, found: found.into(), advice: None }
    }

    fn advise(self, advice: impl Into<String>) -> Self {
        Self { advice: Some(advice.into()), ..self }
    }
}

fn as_lines(findings: &[Finding]) -> String {
    let width = findings.iter().map(|finding| finding.check.len()).max().unwrap_or(0);
    let lines = findings.iter().map(|Finding { check, verdict, found, advice }| {
        verdict.lines(check, width, found, advice.as_deref())
    });
    lines.collect()
}

fn as_json(findings: &[Finding]) -> String {
    let line = |Finding { check, verdict, found, advice }: &Finding| {
        let line =
            json!({ "check": check, "verdict": verdict.to_string(), "found": found, "advice": advice });
        format!("{}\n", Json(line))
    };
    findings.iter().map(line).collect()
}

async fn findings(
    ecs: &Ecs,
    cluster: &str,
    id: &str,
    container: Option<&str>,
) -> Result<Vec<Finding>, Error> {
    let client = &ecs.client;
    let answer = client.describe_tasks().cluster(cluster).tasks(id).send().await;
    let answer = answer.map_err(|error| Error::Api(AwsControl::failure("ecs:DescribeTasks", id, error)))?;
    let Some(task) = answer.tasks().first() else {
        return Err(Error::Ecs(format!("there is no task {id} in cluster {cluster}")));
    };
    let definition = async {
        let call = client.describe_task_definition().set_task_definition(task.task_definition_arn.clone());
        let answer = call.send().await.map_err(|error| {
            AwsControl::failure("ecs:DescribeTaskDefinition", "the task's", error).to_string()
        })?;
        answer.task_definition.ok_or_else(|| "there is no task definition".to_owned())
    };
    let described = async {
        let call = client.describe_clusters().clusters(cluster).include(ClusterField::Configurations);
        let answer = call
            .send()
            .await
            .map_err(|error| AwsControl::failure("ecs:DescribeClusters", cluster, error).to_string())?;
        answer
            .clusters
            .and_then(|clusters| clusters.into_iter().next())
            .ok_or_else(|| "it is gone".to_owned())
    };
    let (definition, described, agent) = tokio::join!(definition, described, ecs_agent(ecs, cluster, task));
    let region = ecs.account.region();
    let mut findings = of_task(task, agent.as_deref(), container);
    match &definition {
        Ok(definition) => findings.extend(of_definition(task, definition, container)),
        Err(error) => findings.push(Finding::new("definition", Verdict::Skip, error)),
    }
    findings.push(match &described {
        Ok(cluster) => of_cluster(cluster),
        Err(error) => Finding::new("cluster", Verdict::Skip, error),
    });
    // As the task sees it, whatever way we go ourselves.
    let streams = StreamHosts { region: Some(region.into()), ..StreamHosts::default() };
    let url = streams.usual_url().unwrap_or_default();
    findings.push(Finding::new(
        "network",
        Verdict::Skip,
        format!(
            "not looked at: the task needs a way to {}, through the internet or a VPC endpoint for \
             com.amazonaws.{region}.ssmmessages",
            url.trim_start_matches("https://")
        ),
    ));
    Ok(findings)
}

/// The version of the ECS agent of the instance the task is on; none where there is no instance, or nobody says.
async fn ecs_agent(ecs: &Ecs, cluster: &str, task: &Task) -> Option<String> {
    let instance = task.container_instance_arn()?;
    let call = ecs.client.describe_container_instances().cluster(cluster).container_instances(instance);
    let answer = call.send().await.ok()?;
    Some(answer.container_instances().first()?.version_info()?.agent_version()?.to_owned())
}

/// What the task says of itself. `agent` is the version of the ECS agent on its instance.
fn of_task(task: &Task, agent: Option<&str>, container: Option<&str>) -> Vec<Finding> {
    let mut findings = vec![exec(task), state(task), platform(task, agent)];
    let containers = task.containers().iter().filter(|found| is_meant(found.name(), container));
    findings.extend(containers.map(|container| managed_agent(task, container)));
    findings
}

fn is_meant(name: Option<&str>, wanted: Option<&str>) -> bool {
    wanted.is_none_or(|wanted| name == Some(wanted))
}

fn exec(task: &Task) -> Finding {
    if task.enable_execute_command() {
        return Finding::new("exec", Verdict::Ok, "the task was started with ECS Exec");
    }
    let cluster = last(task.cluster_arn());
    let advice = match task.group().and_then(|group| group.strip_prefix("service:")) {
        Some(service) => format!(
            "aws ecs update-service --cluster {cluster} --service {service} --enable-execute-command --force-new-deployment"
        ),
        None => "start it again with --enable-execute-command: aws ecs run-task, or create-service".into(),
    };
    let found = "the task was started without ECS Exec, which cannot be added while it runs";
    Finding::new("exec", Verdict::Fail, found).advise(advice)
}

fn state(task: &Task) -> Finding {
    let state = task.last_status().unwrap_or("of no state");
    let found = format!("the task is {state}");
    match state {
        "RUNNING" => Finding::new("state", Verdict::Ok, found),
        "PROVISIONING" | "PENDING" | "ACTIVATING" => {
            Finding::new("state", Verdict::Warn, found).advise("wait until it is RUNNING")
        }
        _ => {
            let reason = task.stopped_reason().map(|reason| format!(": {reason}")).unwrap_or_default();
            Finding::new("state", Verdict::Fail, found + &reason).advise("take a task that runs")
        }
    }
}

fn platform(task: &Task, agent: Option<&str>) -> Finding {
    let on = task.launch_type().map_or("nothing it tells", LaunchType::as_str);
    let (name, version, needed) = match task.launch_type() {
        Some(LaunchType::Fargate) => {
            let is_windows =
                task.platform_family().is_some_and(|family| family.to_lowercase().contains("windows"));
            let needed = if is_windows { FARGATE.0 } else { FARGATE.1 };
            ("Fargate platform", task.platform_version(), needed)
        }
        Some(LaunchType::Ec2 | LaunchType::External) => ("ECS agent", agent, ECS_AGENT),
        _ => return Finding::new("platform", Verdict::Ok, format!("the task runs on {on}")),
    };
    let Some(version) = version else {
        return Finding::new("platform", Verdict::Skip, format!("the version of the {name} is not known"));
    };
    let found = format!("{name} {version}");
    let needed_text = needed.map(|part| part.to_string()).join(".");
    match numbers(version) {
        Some(numbers) if numbers < needed => Finding::new("platform", Verdict::Fail, found)
            .advise(format!("ECS Exec needs {name} {needed_text} or newer: start the task on one")),
        Some(_) => Finding::new("platform", Verdict::Ok, found),
        None => Finding::new("platform", Verdict::Skip, found + ": not a version that can be compared"),
    }
}

/// `1.4` is `1.4.0`.
fn numbers(version: &str) -> Option<[u32; 3]> {
    let mut numbers = [0; 3];
    for (index, part) in version.split('.').enumerate() {
        *numbers.get_mut(index)? = part.parse().ok()?;
    }
    Some(numbers)
}

fn managed_agent(task: &Task, container: &Container) -> Finding {
    let name = container.name().unwrap_or_default();
    let is_exec = |agent: &&ManagedAgent| agent.name() == Some(&ManagedAgentName::ExecuteCommandAgent);
    let agent = container.managed_agents().iter().find(is_exec);
    let state = container.last_status().unwrap_or("of no state");
    if state != "RUNNING" {
        let reason = container.reason().map(|reason| format!(": {reason}")).unwrap_or_default();
        return Finding::new("agent", Verdict::Fail, format!("container {name} is {state}{reason}"));
    }
    let Some(agent) = agent else {
        let found = format!("container {name} has no agent that runs commands");
        let advice = match task.enable_execute_command() {
            true => "containers that AWS adds have none; for others, start the task again",
            false => "it comes with ECS Exec",
        };
        return Finding::new("agent", Verdict::Fail, found).advise(advice);
    };
    let state = agent.last_status().unwrap_or("of no state");
    let found = format!("the agent in container {name} is {state}");
    match state {
        "RUNNING" => Finding::new("agent", Verdict::Ok, found),
        "PENDING" => {
            Finding::new("agent", Verdict::Warn, found).advise("wait: it starts after the container")
        }
        _ => {
            let reason = agent.reason().map(|reason| format!(": {reason}")).unwrap_or_default();
            Finding::new("agent", Verdict::Fail, found + &reason).advise(
                "most often its role, its network or a read-only file system was in the way: mend that and start the \
                 task again",
            )
        }
    }
}

/// What the task definition says.
fn of_definition(task: &Task, definition: &TaskDefinition, container: Option<&str>) -> Vec<Finding> {
    let mut findings = vec![role(task, definition)];
    for container in
        definition.container_definitions().iter().filter(|found| is_meant(found.name(), container))
    {
        findings.extend(of_container(container));
    }
    findings.push(match definition.pid_mode() {
        Some(PidMode::Task) => {
            Finding::new("pid-mode", Verdict::Warn, "the containers share their processes (pidMode task)")
                .advise("then commands can be run in one of the containers only")
        }
        Some(mode) => Finding::new("pid-mode", Verdict::Ok, format!("pidMode {}", mode.as_str())),
        None => Finding::new("pid-mode", Verdict::Ok, "each container has its own processes"),
    });
    findings
}

fn role(task: &Task, definition: &TaskDefinition) -> Finding {
    let overridden = task.overrides().and_then(|overrides| overrides.task_role_arn());
    let allow = format!("has to allow {ACTIONS}");
    match overridden.or_else(|| definition.task_role_arn()).filter(|role| !role.is_empty()) {
        Some(role) => Finding::new("role", Verdict::Ok, format!("{role}, whose policy {allow}")),
        None if matches!(task.launch_type(), Some(LaunchType::Ec2 | LaunchType::External)) => {
            Finding::new("role", Verdict::Warn, "the task has no role of its own")
                .advise(format!("the role of its instance {allow}"))
        }
        None => Finding::new("role", Verdict::Fail, "the task has no role")
            .advise(format!("give the task definition a taskRoleArn whose policy allows {ACTIONS}")),
    }
}

fn of_container(container: &ContainerDefinition) -> Vec<Finding> {
    let name = container.name().unwrap_or_default();
    let mut findings = Vec::new();
    findings.push(match container.readonly_root_filesystem() {
        Some(true) => Finding::new(
            "root",
            Verdict::Fail,
            format!("the root file system of container {name} is read-only"),
        )
        .advise("the agent has to write: set readonlyRootFilesystem to false"),
        _ => Finding::new("root", Verdict::Ok, format!("container {name} can be written to")),
    });
    let init = container.linux_parameters().and_then(|parameters| parameters.init_process_enabled());
    findings.push(match init {
        Some(true) => Finding::new("init", Verdict::Ok, format!("container {name} has an init process")),
        _ => Finding::new("init", Verdict::Warn, format!("container {name} has no init process"))
            .advise("what commands leave behind stays: set linuxParameters.initProcessEnabled to true"),
    });
    let variables = container.environment().iter().filter_map(|pair| pair.name());
    let variables = variables.chain(container.secrets().iter().map(|secret| secret.name()));
    let keys: Vec<&str> = variables.filter(|name| KEYS.contains(name)).collect();
    findings.push(match keys.is_empty() {
        true => Finding::new("keys", Verdict::Ok, format!("container {name} is given no access key")),
        false => {
            Finding::new("keys", Verdict::Warn, format!("container {name} is given {}", keys.join(", ")))
                .advise(format!(
                    "the agent uses that key in place of the role: its policy has to allow {ACTIONS}"
                ))
        }
    });
    findings
}

fn of_cluster(cluster: &Cluster) -> Finding {
    let exec =
        cluster.configuration().and_then(|configuration| configuration.execute_command_configuration());
    let key = exec.and_then(|exec| exec.kms_key_id());
    let logging = exec.and_then(|exec| exec.logging()).map_or("DEFAULT", |logging| logging.as_str());
    let found = match key {
        Some(key) => format!(
            "sessions are encrypted with {key}, for which you need kms:GenerateDataKey and the task's role \
             kms:Decrypt; logging is {logging}"
        ),
        None => format!("sessions are not encrypted with a KMS key; logging is {logging}"),
    };
    Finding::new("cluster", Verdict::Ok, found)
}

fn last(arn: Option<&str>) -> &str {
    arn.and_then(|arn| arn.rsplit('/').next()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use aws_sdk_ecs::types::{
        ClusterConfiguration, ExecuteCommandConfiguration, KeyValuePair, LinuxParameters, Secret,
        TaskOverride,
    };

    use super::*;

    fn verdicts(findings: &[Finding]) -> Vec<(&'static str, Verdict)> {
        findings.iter().map(|finding| (finding.check, finding.verdict)).collect()
    }

    fn agent(state: &str) -> ManagedAgent {
        ManagedAgent::builder().name(ManagedAgentName::ExecuteCommandAgent).last_status(state).build()
    }

    fn container(agent: ManagedAgent) -> Container {
        Container::builder().name("app").last_status("RUNNING").managed_agents(agent).build()
    }

    fn task() -> aws_sdk_ecs::types::builders::TaskBuilder {
        Task::builder()
            .cluster_arn("arn:aws:ecs:eu-west-1:123456789012:cluster/prod")
            .group("service:web")
            .last_status("RUNNING")
            .enable_execute_command(true)
            .launch_type(LaunchType::Fargate)
            .platform_version("1.4.0")
    }

    #[test]
    fn a_task_that_is_ready_has_nothing_to_mend() {
        let task = task().containers(container(agent("RUNNING"))).build();
        assert!(of_task(&task, None, None).iter().all(|finding| finding.verdict == Verdict::Ok));
        assert_eq!(of_task(&task, None, Some("other")).len(), 3);
    }

    #[test]
    fn each_lack_of_a_task_is_a_failure_with_advice() {
        let task = task()
            .enable_execute_command(false)
            .last_status("DEPROVISIONING")
            .stopped_reason("Scaling activity")
            .platform_version("1.3.0")
            .containers(container(agent("STOPPED")))
            .build();
        let findings = of_task(&task, None, None);
        assert!(findings.iter().all(|finding| finding.verdict == Verdict::Fail && finding.advice.is_some()));
        assert!(findings[0].advice.as_deref().unwrap().contains("--cluster prod --service web --enable"));
        assert_eq!(findings[1].found, "the task is DEPROVISIONING: Scaling activity");
    }

    #[test]
    fn what_is_on_its_way_is_waited_for() {
        let task = task().last_status("PENDING").containers(container(agent("PENDING"))).build();
        let expected = [
            ("exec", Verdict::Ok),
            ("state", Verdict::Warn),
            ("platform", Verdict::Ok),
            ("agent", Verdict::Warn),
        ];
        assert_eq!(verdicts(&of_task(&task, None, None)), expected);
    }

    #[test]
    fn versions_are_compared_by_their_numbers() {
        let of = |launch: LaunchType, platform: &str, family: &str, agent: Option<&str>| {
            let task = task().launch_type(launch).platform_version(platform).platform_family(family).build();
            super::platform(&task, agent).verdict
        };
        assert_eq!(of(LaunchType::Fargate, "1.10.0", "Linux", None), Verdict::Ok);
        assert_eq!(of(LaunchType::Fargate, "1.4", "Linux", None), Verdict::Ok);
        assert_eq!(of(LaunchType::Fargate, "1.3.9", "Linux", None), Verdict::Fail);
        assert_eq!(of(LaunchType::Fargate, "1.0.0", "WINDOWS_SERVER_2022_CORE", None), Verdict::Ok);
        assert_eq!(of(LaunchType::Fargate, "LATEST", "Linux", None), Verdict::Skip);
        assert_eq!(of(LaunchType::Ec2, "", "Linux", Some("1.50.1")), Verdict::Fail);
        assert_eq!(of(LaunchType::Ec2, "", "Linux", Some("1.90.0")), Verdict::Ok);
        assert_eq!(of(LaunchType::Ec2, "", "Linux", None), Verdict::Skip);
    }

    #[test]
    fn what_a_definition_has_in_the_way_is_told() {
        let parameters = LinuxParameters::builder().init_process_enabled(true).build();
        let good = ContainerDefinition::builder().name("app").linux_parameters(parameters).build();
        assert!(of_container(&good).iter().all(|finding| finding.verdict == Verdict::Ok));
        let secret = Secret::builder().name("AWS_SECRET_ACCESS_KEY").value_from("arn").build().unwrap();
        let bad = ContainerDefinition::builder()
            .name("app")
            .readonly_root_filesystem(true)
            .environment(KeyValuePair::builder().name("AWS_ACCESS_KEY_ID").value("secret").build())
            .secrets(secret)
            .build();
        let findings = of_container(&bad);
        let expected = [("root", Verdict::Fail), ("init", Verdict::Warn), ("keys", Verdict::Warn)];
        assert_eq!(verdicts(&findings), expected);
        assert_eq!(findings[2].found, "container app is given AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY");
        let definition =
            TaskDefinition::builder().pid_mode(PidMode::Task).container_definitions(good).build();
        let findings = of_definition(&task().build(), &definition, None);
        assert_eq!(findings[0].verdict, Verdict::Fail, "no role");
        assert_eq!(findings.last().unwrap().verdict, Verdict::Warn);
        let overridden = task().overrides(TaskOverride::builder().task_role_arn("arn").build()).build();
        assert_eq!(role(&overridden, &definition).verdict, Verdict::Ok);
        let ec2 = task().launch_type(LaunchType::Ec2).build();
        assert_eq!(role(&ec2, &definition).verdict, Verdict::Warn);
    }

    #[test]
    fn the_key_of_a_cluster_is_named() {
        let exec = ExecuteCommandConfiguration::builder().kms_key_id("arn:aws:kms:k").build();
        let configuration = ClusterConfiguration::builder().execute_command_configuration(exec).build();
        let found = of_cluster(&Cluster::builder().configuration(configuration).build()).found;
        assert!(
            found.contains("encrypted with arn:aws:kms:k") && found.contains("kms:GenerateDataKey"),
            "{found}"
        );
        assert!(of_cluster(&Cluster::builder().build()).found.contains("not encrypted"));
    }
}
