//! The machine a session would be started on.

use std::time::{Duration, SystemTime};

use aws_sdk_ssm::types::{
    ConnectionStatus, InstanceInformation, InstanceInformationStringFilter, PingStatus,
};
use ssm_session::AgentAbilities;

use super::account::Account;
use super::outcome::{Check, Finding, Outcome};
use super::refusal::Refusal;
use crate::output::Took;

/// Agents ping every five minutes.
const PING_LATE: Duration = Duration::from_secs(15 * 60);

/// What has to be right for an agent to be there.
const TO_BE_THERE: &str = "is it running, in this account and region? Its agent has to be started, its role needs \
    AmazonSSMManagedInstanceCore, and it has to reach ssm, ssmmessages and ec2messages at port 443";

/// The checks: one alone when there is no machine to look at.
pub(super) fn checks<'a>(account: &'a Account<'a>, limit: Duration) -> Vec<Check<'a>> {
    let mut checks = vec![Check::new("target", limit, target(account))];
    if account.case.target.is_some() {
        checks.push(Check::new("node", limit, node(account)));
        checks.push(Check::new("connection", limit, connection(account)));
        checks.push(Check::new("agent", limit, agent(account)));
        checks.push(Check::new("platform", limit, platform(account)));
    }
    checks
}

/// What Systems Manager knows of a node.
pub(super) async fn find(
    ssm: &aws_sdk_ssm::Client,
    id: &str,
) -> Result<Option<InstanceInformation>, Refusal> {
    let filter = InstanceInformationStringFilter::builder().key("InstanceIds").values(id).build();
    let filter = filter.map_err(|error| Refusal::Unreached(error.to_string()))?;
    let answer = ssm.describe_instance_information().filters(filter).send().await;
    let answer = match answer.map_err(|error| Refusal::of(&error)) {
        // The id is in the filter: a service that does not know it may say so.
        Err(Refusal::Answer { code, .. }) if code == "InvalidInstanceId" => return Ok(None),
        answer => answer?,
    };
    Ok(answer.instance_information_list.unwrap_or_default().into_iter().next())
}

async fn target(account: &Account<'_>) -> Finding {
    let Some(text) = account.case.target.as_deref() else {
        return Ok(Outcome::skip("no machine was named: `ssm doctor TARGET` looks at one"));
    };
    match account.target().await {
        Some(Ok(target)) if target == text => Ok(Outcome::ok(target).with("target", target)),
        Some(Ok(target)) => Ok(Outcome::ok(format!("{target}, which {text} is")).with("target", target)),
        Some(Err(outcome)) => Ok(outcome),
        None => Ok(Outcome::skip("no machine was named")),
    }
}

/// The id of the machine, for those behind the check that says why there is none.
async fn id<'a>(account: &'a Account<'_>) -> Result<&'a str, Outcome> {
    let unknown = || Outcome::skip("not known: there is no such machine, see target");
    account.target().await.ok_or_else(unknown)?.map_err(|_| unknown())
}

async fn record<'a>(account: &'a Account<'_>) -> Result<Option<&'a InstanceInformation>, Outcome> {
    let id = id(account).await?;
    if id.starts_with("ecs:") {
        return Err(Outcome::skip("a container is not listed, see connection"));
    }
    match account.node(id).await? {
        Ok(node) => Ok(node.as_ref()),
        Err(refusal) => Err(refusal.of_no_use("ssm:DescribeInstanceInformation")),
    }
}

async fn listed<'a>(account: &'a Account<'_>) -> Result<&'a InstanceInformation, Outcome> {
    record(account).await?.ok_or_else(|| Outcome::skip("not known, see node"))
}

async fn node(account: &Account<'_>) -> Finding {
    let Some(node) = record(account).await? else {
        let region = account.control().await?.region();
        return Ok(Outcome::fail(format!("Systems Manager has no such node in {region}"), TO_BE_THERE));
    };
    let pinged = node.last_ping_date_time().and_then(|at| SystemTime::try_from(*at).ok());
    let age = pinged.map(|at| SystemTime::now().duration_since(at).unwrap_or_default());
    let status = node.ping_status().map_or("unknown", PingStatus::as_str);
    let seen = age.map_or_else(|| "never seen".into(), |age| format!("last seen {} ago", Took(age)));
    let found = format!("{status}, {seen}");
    let outcome = match node.ping_status() {
        Some(PingStatus::Online) if age.is_some_and(|age| age > PING_LATE) => {
            Outcome::warn(found, "it should be seen every 5 min: it may be gone, or its network")
        }
        Some(PingStatus::Online) => Outcome::ok(found),
        _ => Outcome::fail(found, TO_BE_THERE),
    };
    Ok(outcome.with("ping", status).with("seen_s_ago", age.map(|age| age.as_secs())))
}

async fn connection(account: &Account<'_>) -> Finding {
    let (id, ssm) = (id(account).await?, account.ssm().await?);
    let answer = ssm.get_connection_status().target(id).send().await;
    let status = match answer.map_err(|error| Refusal::of(&error)) {
        Ok(answer) => answer.status,
        Err(refusal) => return Ok(refusal.of_no_use("ssm:GetConnectionStatus")),
    };
    Ok(match status {
        Some(ConnectionStatus::Connected) => Outcome::ok("its agent waits for sessions"),
        _ => Outcome::fail("its agent does not wait for sessions", TO_BE_THERE),
    })
}

async fn agent(account: &Account<'_>) -> Finding {
    let node = listed(account).await?;
    let Some(version) = node.agent_version() else {
        return Ok(Outcome::skip("not known: it has said no version"));
    };
    let outcome = judge(version);
    Ok(outcome.with("version", version).with("latest", node.is_latest_version()))
}

/// What an agent of this version can do, and what it cannot.
fn judge(version: &str) -> Outcome {
    let abilities = AgentAbilities::of(version);
    let all = [
        (abilities.multiplexes, "several connections in a session"),
        (abilities.reaches_hosts, "other hosts behind it"),
        (abilities.runs_commands, "commands without a terminal"),
        (abilities.separates_output, "exit codes and stderr of those"),
        (abilities.heeds_terminate_flag, "tunnels that end at once"),
    ];
    let of = |wanted| all.iter().filter(move |(can, _)| *can == wanted).map(|(_, what)| *what);
    let (can, cannot): (Vec<&str>, Vec<&str>) = (of(true).collect(), of(false).collect());
    let outcome = match (can.is_empty(), cannot.is_empty()) {
        (_, true) => Outcome::ok(format!("{version}: {}", can.join(", "))),
        (false, false) => Outcome::warn(
            format!("{version}: {}; not {}", can.join(", "), cannot.join(", ")),
            "update the agent: `aws ssm send-command --document-name AWS-UpdateSSMAgent`",
        ),
        (true, false) => Outcome::warn(
            format!("{version}: none of {}", cannot.join(", ")),
            "update the agent: `aws ssm send-command --document-name AWS-UpdateSSMAgent`",
        ),
    };
    outcome.with("can", can).with("cannot", cannot).with("keep_alives", abilities.expects_keep_alives)
}

async fn platform(account: &Account<'_>) -> Finding {
    let node = listed(account).await?;
    let name = [node.platform_name(), node.platform_version()];
    let kind = node.platform_type().map(aws_sdk_ssm::types::PlatformType::as_str);
    let name = name.into_iter().flatten().collect::<Vec<_>>().join(" ");
    let said =
        [Some(name.as_str()).filter(|name| !name.is_empty()), kind, node.ip_address(), node.computer_name()];
    let said: Vec<&str> = said.into_iter().flatten().collect();
    if said.is_empty() {
        return Ok(Outcome::skip("not known: it has said nothing of itself"));
    }
    let outcome = Outcome::ok(said.join(", ")).with("name", name).with("type", kind);
    Ok(outcome.with("address", node.ip_address()).with("computer", node.computer_name()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::verdict::Verdict;

    #[test]
    fn an_old_agent_is_told_what_it_lacks() {
        assert_eq!(judge("3.3.987.0").verdict, Verdict::Ok);
        let old = judge("3.0.1000.0");
        assert_eq!(old.verdict, Verdict::Warn);
        assert!(old.found.starts_with("3.0.1000.0: several connections in a session, "), "{}", old.found);
        assert!(
            old.found.ends_with(
                "not other hosts behind it, commands without a terminal, exit codes and stderr of those"
            ),
            "{}",
            old.found
        );
        assert!(judge("unknown").found.starts_with("unknown: none of several"));
    }
}
