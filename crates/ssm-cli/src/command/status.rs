//! `ssm status`

use std::collections::BTreeMap;
use std::process::ExitCode;

use serde_json::json;

use crate::args::StatusArgs;
use crate::config::{Alias, Config, Member};
use crate::error::Error;
use crate::output::{Json, print, say};
use crate::registry::{ForwardState, Tunnel};
use crate::table::Table;

use super::group::{self, Planned};

/// Runs the command.
pub(crate) async fn run(args: &StatusArgs, config: &Config) -> Result<ExitCode, Error> {
    let planned = group::planned(config, &args.groups)?;
    let running = group::running().await?;
    let of_groups = running.into_iter().filter(|(_, name, _)| group::is_of(name, &args.groups));
    let running: BTreeMap<String, Tunnel> = of_groups.map(|(_, name, tunnel)| (name, tunnel)).collect();
    let lines = lines(config, &planned, &running);
    if lines.is_empty() {
        say("no groups");
    }
    let text = if args.json { as_json(&lines) } else { as_table(&lines) };
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// A tunnel that is configured, runs, or both.
#[derive(Debug)]
struct Line<'a> {
    name: &'a str,
    target: &'a str,
    configured: bool,
    tunnel: Option<&'a Tunnel>,
}

fn lines<'a>(
    config: &'a Config,
    planned: &'a [Planned<'_>],
    running: &'a BTreeMap<String, Tunnel>,
) -> Vec<Line<'a>> {
    let target = |member: &'a Member| match member {
        Member::Alias(name) => config.alias(Some(name)).map_or("", |alias: &Alias| &alias.target.text),
        Member::Database(name) => name,
        Member::Own(own) => &own.target.text,
    };
    let mut lines: Vec<Line<'a>> = planned
        .iter()
        .map(|Planned { name, member }| Line {
            name,
            target: target(member),
            configured: true,
            tunnel: running.get(name),
        })
        .collect();
    let others = running.iter().filter(|(name, _)| !planned.iter().any(|planned| planned.name == **name));
    lines.extend(others.map(|(name, tunnel)| Line {
        name,
        target: &tunnel.target,
        configured: false,
        tunnel: Some(tunnel),
    }));
    lines
}

/// In a word: `partly` when some of its forwards are over.
fn state(tunnel: Option<&Tunnel>) -> &'static str {
    let Some(tunnel) = tunnel else { return "down" };
    let any = |state| tunnel.forwards.iter().any(|forward| forward.state == state);
    if any(ForwardState::Ended) {
        "partly"
    } else if any(ForwardState::Starting) {
        "starting"
    } else {
        "up"
    }
}

fn as_json(lines: &[Line<'_>]) -> String {
    let line = |line: &Line<'_>| {
        json!({
            "name": line.name,
            "state": state(line.tunnel),
            "target": line.target,
            "configured": line.configured,
            "tunnel": line.tunnel,
        })
    };
    lines.iter().map(|of| format!("{}\n", Json(line(of)))).collect()
}

fn as_table(lines: &[Line<'_>]) -> String {
    let mut table = Table::new(["TUNNEL", "STATE", "ID", "TARGET", "FORWARDS"]);
    for line in lines {
        let forwards = line.tunnel.map(forwards).unwrap_or_default();
        let id = line.tunnel.map(|tunnel| tunnel.id.clone()).unwrap_or_default();
        let state = match line.configured {
            true => state(line.tunnel).to_owned(),
            false => format!("{}, not configured", state(line.tunnel)),
        };
        table.row([line.name, &state, &id, line.target, &forwards]);
    }
    table.text()
}

/// Where it listens and where that leads.
pub(super) fn forwards(tunnel: &Tunnel) -> String {
    let each = tunnel.forwards.iter().map(|forward| match forward.state {
        ForwardState::Ready => format!("{} -> {}", forward.listen.join(" and "), forward.destination),
        ForwardState::Starting => format!("{} (starting)", forward.destination),
        ForwardState::Ended => format!("{} (ended)", forward.destination),
    });
    each.collect::<Vec<_>>().join(", ")
}
