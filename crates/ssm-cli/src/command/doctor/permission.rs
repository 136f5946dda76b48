//! What IAM allows, as far as it shows without starting a session.
//!
//! IAM answers before the service looks at what is asked for. So each call is made for something that cannot be: a denial is one
//! of IAM, and any other error says that IAM had nothing against it.

use std::time::Duration;

use aws_sdk_ssm::types::SessionState;

use super::account::Account;
use super::outcome::{Check, Finding, Outcome};
use super::refusal::Refusal;

/// An instance that nobody has: it is written like one, and ids are random.
pub(super) const NO_INSTANCE: &str = "i-00000000000000000";

/// A document that nobody has.
const NO_DOCUMENT: &str = "ssm-doctor-asks-for-no-document";

/// The end of a session's id that no session has.
pub(super) const NO_SUFFIX: &str = "00000000000000000";

/// Shortest page of nodes that the API gives.
const NODES_MIN: i32 = 5;

/// The checks, each named after the action.
pub(super) fn checks<'a>(account: &'a Account<'a>, limit: Duration) -> Vec<Check<'a>> {
    vec![
        Check::new("ssm:StartSession", limit, start(account)),
        Check::new("ssmmessages:OpenDataChannel", limit, open()),
        Check::new("ssm:ResumeSession", limit, resume(account)),
        Check::new("ssm:TerminateSession", limit, terminate(account)),
        Check::new("ssm:DescribeSessions", limit, sessions(account)),
        Check::new("ssm:DescribeInstanceInformation", limit, nodes(account)),
        #[cfg(feature = "lookup")]
        Check::new("ec2:DescribeInstances", limit, instances(account)),
    ]
}

/// On the machine there is a document that there is not; without a machine, one that there is not.
async fn start(account: &Account<'_>) -> Finding {
    const ACTION: &str = "ssm:StartSession";
    let ssm = account.ssm().await?;
    let target = match account.target().await {
        Some(target) => {
            Some(target.map_err(|_| Outcome::skip("not known: there is no such machine, see target"))?)
        }
        None => None,
    };
    let call = ssm.start_session().target(target.unwrap_or(NO_INSTANCE));
    let call = call.set_document_name(target.map(|_| NO_DOCUMENT.into()));
    let refusal = match call.send().await {
        Ok(started) => {
            // Nobody should have such a document; whoever has gets its session ended.
            let _ = ssm.terminate_session().set_session_id(started.session_id).send().await;
            return Ok(Outcome::ok("allowed"));
        }
        Err(error) => Refusal::of(&error),
    };
    let resource = refusal.resource().unwrap_or_default();
    Ok(match (&refusal, target) {
        (Refusal::Answer { code, .. }, Some(target))
            if matches!(code.as_str(), "InvalidDocument" | "TargetNotConnected") =>
        {
            Outcome::ok(format!("allowed on {target}"))
        }
        (Refusal::Answer { code, .. }, None) if code == "TargetNotConnected" => Outcome::ok("allowed"),
        (Refusal::Denied(_), Some(target)) if resource.contains(":document/") => Outcome::warn(
            format!("not known for {target}: your permissions name the documents that sessions may have"),
            "name one of them with --document; whether it is allowed there shows with a session",
        ),
        (Refusal::Denied(_), None) if resource.contains(":document/") => Outcome::warn(
            format!("denied on {resource}, the document of a plain shell"),
            "name a document that your permissions have: `ssm shell --document`, or `document` of an alias",
        ),
        (Refusal::Denied(text), Some(target)) => Outcome::fail(
            format!("denied on {target}: {text}"),
            "ask for the action on this machine, and on the documents you use",
        ),
        (Refusal::Denied(text), None) => Outcome::warn(
            format!("denied on a machine that does not exist: {text}"),
            "your permissions may name the machines; `ssm doctor TARGET` asks for one of them",
        ),
        (Refusal::Unaccepted(why), _) if !is_told_by_identity(account).await => Outcome::fail(
            format!("the credentials are not accepted by Systems Manager: {why}"),
            "renew them; where STS takes them, the region may not be enabled for the account, or they may be of the \
             global endpoint of STS, which not every region takes",
        ),
        (Refusal::Answer { code, text }, _) if !refusal.is_throttled() => Outcome::fail(
            format!("it answers {code}, {text}"),
            "there is no session while it does: try again, and see endpoint-ssm for who answers there",
        ),
        (Refusal::Unreached(why), _) => Outcome::fail(
            format!("there is no answer: {why}"),
            "there is no session without one: try again, and see endpoint-ssm for the way there",
        ),
        (other, _) => other.of_no_use(ACTION),
    })
}

/// Whether it is said already that the credentials are no good.
async fn is_told_by_identity(account: &Account<'_>) -> bool {
    matches!(account.caller().await, Ok(Err(Refusal::Unaccepted(_))))
}

/// It takes a session.
#[expect(clippy::unused_async, reason = "the others ask AWS")]
async fn open() -> Finding {
    Ok(Outcome::skip(
        "cannot be asked for without a session; when shells stop at the start with a refused data channel, it is missing",
    ))
}

async fn resume(account: &Account<'_>) -> Finding {
    let ssm = account.ssm().await?;
    let answer = ssm.resume_session().session_id(own_session(account).await).send().await;
    Ok(by_own_session("ssm:ResumeSession", answer.map(drop).map_err(|error| Refusal::of(&error)))
        .unwrap_or_else(|why| {
            Outcome::warn(
                why,
                "sessions do not come back after a lost connection: ask for the action on your own sessions",
            )
        }))
}

async fn terminate(account: &Account<'_>) -> Finding {
    let ssm = account.ssm().await?;
    let answer = ssm.terminate_session().session_id(own_session(account).await).send().await;
    Ok(by_own_session("ssm:TerminateSession", answer.map(drop).map_err(|error| Refusal::of(&error))).unwrap_or_else(
        |why| Outcome::warn(why, "sessions that are not used stay until they are idle for long enough: ask for the action on your own sessions"),
    ))
}

/// A session of ours that there never was. Policies name one's own by the beginning of their ids.
async fn own_session(account: &Account<'_>) -> String {
    let name = match account.caller().await {
        Ok(Ok(caller)) => caller.name(),
        _ => "ssm-doctor",
    };
    format!("{name}-{NO_SUFFIX}")
}

/// What is said of a session that does not exist; the words of a denial are left to the caller.
fn by_own_session(action: &str, answer: Result<(), Refusal>) -> Result<Outcome, String> {
    match answer {
        Ok(()) => Ok(Outcome::ok("allowed on sessions of your own")),
        Err(Refusal::Answer { code, .. }) if code == "DoesNotExistException" => {
            Ok(Outcome::ok("allowed on sessions of your own"))
        }
        Err(Refusal::Denied(text)) => Err(format!(
            "denied, unless your permissions go by tags, which a session that does not exist has none of: {text}"
        )),
        Err(other) => Ok(other.of_no_use(action)),
    }
}

async fn sessions(account: &Account<'_>) -> Finding {
    let ssm = account.ssm().await?;
    let answer = ssm.describe_sessions().state(SessionState::Active).max_results(1).send().await;
    Ok(by_answer(
        "ssm:DescribeSessions",
        answer.map(drop).map_err(|error| Refusal::of(&error)),
        "sessions cannot be listed",
    ))
}

async fn nodes(account: &Account<'_>) -> Finding {
    let ssm = account.ssm().await?;
    let answer = ssm.describe_instance_information().max_results(NODES_MIN).send().await;
    Ok(by_answer(
        "ssm:DescribeInstanceInformation",
        answer.map(drop).map_err(|error| Refusal::of(&error)),
        "machines cannot be listed, nor found by their computer name",
    ))
}

#[cfg(feature = "lookup")]
async fn instances(account: &Account<'_>) -> Finding {
    let control = account.ready(super::way::Service::Ec2).await?;
    let ec2 = aws_sdk_ec2::Client::new(control.sdk_config());
    let answer =
        match ec2.describe_instances().dry_run(true).send().await.map_err(|error| Refusal::of(&error)) {
            Err(Refusal::Answer { code, .. }) if code == "DryRunOperation" => Ok(()),
            answer => answer.map(drop),
        };
    Ok(by_answer("ec2:DescribeInstances", answer, "machines are not found by name, tag or address"))
}

/// For actions that are allowed or not, whatever they are asked for.
fn by_answer(action: &str, answer: Result<(), Refusal>, without: &str) -> Outcome {
    match answer {
        Ok(()) => Outcome::ok("allowed"),
        Err(Refusal::Denied(text)) => {
            Outcome::warn(format!("denied: {text}"), format!("{without}: ask for the action"))
        }
        Err(other) => other.of_no_use(action),
    }
}
