//! `ssm ecs list`

use std::process::ExitCode;

use serde_json::json;
use ssm_resolve::{Container, Exec, FoundTasks, Listed, LookupErrorKind, More, Task};

use super::Ecs;
use super::place::{Wanted, tasks_of};
use crate::args::EcsListArgs;
use crate::config::Config;
use crate::error::Error;
use crate::output::{Json, print, say};
use crate::table::Table;

/// Runs the command.
pub(super) async fn run(mut args: EcsListArgs, config: &Config) -> Result<ExitCode, Error> {
    let wanted = Wanted::take(&args.place, &mut args.connection, config)?;
    let ecs = Ecs::load(&args.connection).await?;
    let (found, more) = match tasks_of(&ecs, &wanted, None).await? {
        FoundTasks::Tasks { tasks, more } => (tasks, more),
        FoundTasks::Clusters(clusters) => of_clusters(&ecs, &wanted, clusters).await?,
    };
    let rows = found.iter().flat_map(|task| wanted.containers(task).into_iter().map(move |c| (task, c)));
    let text = if args.json { as_json(rows) } else { as_table(rows) };
    print(&text)?;
    if more == More::Maybe {
        say("there are more: name a cluster, a service or a task");
    }
    Ok(ExitCode::SUCCESS)
}

/// What is meant in any of these clusters.
async fn of_clusters(ecs: &Ecs, wanted: &Wanted, clusters: Listed) -> Result<(Vec<Task>, More), Error> {
    let (mut found, mut more) = (Vec::new(), clusters.more);
    for cluster in &clusters.names {
        match tasks_of(ecs, wanted, Some(cluster)).await {
            Ok(FoundTasks::Tasks { tasks, more: unread }) => {
                found.extend(tasks);
                more = if unread == More::Maybe { unread } else { more };
            }
            Ok(FoundTasks::Clusters(_)) => {}
            // Where nothing runs there is nothing to show.
            Err(error) if error.kind() == LookupErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok((found, more))
}

fn as_table<'a>(rows: impl Iterator<Item = (&'a Task, &'a Container)>) -> String {
    let mut table = Table::new(["CLUSTER", "SERVICE", "TASK", "CONTAINER", "STATE", "EXEC", "ADDRESS"]);
    for (task, container) in rows {
        let address = container.address.map(|address| address.to_string()).unwrap_or_default();
        let exec = exec(task, container).to_ascii_lowercase();
        table.row([
            &task.cluster,
            task.group_name(),
            &task.id,
            &container.name,
            &container.state.to_ascii_lowercase(),
            &exec,
            &address,
        ]);
    }
    table.text()
}

fn as_json<'a>(rows: impl Iterator<Item = (&'a Task, &'a Container)>) -> String {
    let line = |(task, container): (&Task, &Container)| {
        let target = task.session_target(container).ok().map(|target| target.to_string());
        let line = json!({
            "cluster": task.cluster,
            "group": task.group,
            "task": task.id,
            "container": container.name,
            "state": container.state,
            "exec": exec(task, container),
            "address": container.address,
            "target": target,
        });
        format!("{}\n", Json(line))
    };
    rows.map(line).collect()
}

/// The state of what runs commands.
fn exec<'a>(task: &Task, container: &'a Container) -> &'a str {
    match (task.exec, &container.agent) {
        (Exec::Disabled, _) => "DISABLED",
        (Exec::Enabled, Some(agent)) => agent,
        (Exec::Enabled, None) => "ENABLED",
    }
}
