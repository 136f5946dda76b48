//! One command on many machines by Run Command, which has no limit worth mentioning, no streaming, and an end to its output.

use std::collections::VecDeque;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_ssm::Client;
use aws_sdk_ssm::config::Builder;
use aws_sdk_ssm::error::ProvideErrorMetadata as _;
use aws_sdk_ssm::types::CommandInvocationStatus as Status;
use ssm_session::causes;

use super::lines::{Form, Lines, Outcome, Stream};
use super::many::Tally;
use crate::args::ExecArgs;
use crate::error::Error;
use crate::options;
use crate::output::say;
use crate::process::Signals;

/// Most machines in one SendCommand (API model, `InstanceIds`).
const INSTANCES_MAX: usize = 50;

/// Longest comment (API model, `Comment`).
const COMMENT_MAX: usize = 100;

/// Time between two questions, and between two to the same machine at least.
const SPACING: Duration = Duration::from_millis(50);
const ROUND: Duration = Duration::from_millis(500);

/// What SendCommand keeps of an output (API reference, `GetCommandInvocation`).
const OUTPUT_MAX: usize = 24_000;

/// Sends the command and tells what came of it.
pub(super) async fn run(
    args: &ExecArgs,
    line: &[u8],
    targets: &[String],
    form: Form,
    signals: &mut Signals,
) -> Result<ExitCode, Error> {
    let line = std::str::from_utf8(line)
        .map_err(|_| Error::Usage("Run Command takes a command in UTF-8 only".into()))?;
    if args.document.is_some() {
        return Err(Error::Usage("--document is for sessions, and --via run-command has none".into()));
    }
    let account = options::account(&args.connection).await?;
    let mut config = Builder::from(account.sdk_config());
    config.set_endpoint_url(
        args.connection
            .endpoint_url
            .clone()
            .or_else(|| account.sdk_config().endpoint_url().map(str::to_owned)),
    );
    let fleet = Fleet { client: Client::from_conf(config.build()), form };
    let mut waiting = VecDeque::new();
    for part in targets.chunks(INSTANCES_MAX) {
        let command = fleet.send(args, line, part).await?;
        waiting.extend(
            part.iter().map(|target| Invocation { command: command.clone(), target: target.clone() }),
        );
    }
    let mut tally = Tally::new(form);
    while let Some(invocation) = waiting.pop_front() {
        match fleet.outcome(&invocation).await? {
            Some(outcome) => tally.add(&invocation.target, &outcome),
            None => waiting.push_back(invocation),
        }
        let pause = SPACING.max(ROUND / u32::try_from(waiting.len().max(1)).unwrap_or(u32::MAX));
        if waiting.is_empty() {
            break;
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            signal = signals.next() => {
                tally.interrupted = Some(signal);
                fleet.cancel(&waiting).await;
                break;
            }
        }
    }
    Ok(tally.code())
}

struct Fleet {
    client: Client,
    form: Form,
}

#[derive(Debug)]
struct Invocation {
    command: String,
    target: String,
}

impl Fleet {
    async fn send(&self, args: &ExecArgs, line: &str, targets: &[String]) -> Result<String, Error> {
        let comment =
            args.connection.reason.as_deref().map(|reason| reason.chars().take(COMMENT_MAX).collect());
        let sent = self
            .client
            .send_command()
            .document_name("AWS-RunShellScript")
            .set_instance_ids(Some(targets.to_vec()))
            .parameters("commands", vec![line.to_owned()])
            .max_concurrency(args.parallel.to_string())
            .max_errors("100%")
            .set_comment(comment)
            .send()
            .await
            .map_err(|error| Error::RunCommand(causes(&error)))?;
        let id = sent.command().and_then(|command| command.command_id());
        id.map(str::to_owned).ok_or_else(|| Error::RunCommand("the service gave the command no id".into()))
    }

    /// What came of it, once it is over; its output is written then.
    async fn outcome(&self, invocation: &Invocation) -> Result<Option<Outcome>, Error> {
        let asked = self.client.get_command_invocation();
        let answer = match asked.command_id(&invocation.command).instance_id(&invocation.target).send().await
        {
            Ok(answer) => answer,
            // It takes a moment to get there.
            Err(error) if error.code() == Some("InvocationDoesNotExist") => return Ok(None),
            Err(error) => return Err(Error::RunCommand(causes(&error))),
        };
        let Some(status) = answer.status() else { return Ok(None) };
        if matches!(status, Status::Pending | Status::InProgress | Status::Delayed | Status::Cancelling) {
            return Ok(None);
        }
        let target: Arc<str> = invocation.target.as_str().into();
        for (stream, text) in [
            (Stream::Output, answer.standard_output_content()),
            (Stream::Error, answer.standard_error_content()),
        ] {
            let (lines, text) = (Lines::new(&target, stream, self.form), text.unwrap_or_default());
            // A reader that has seen enough is no failure.
            let _ = lines.write(text.as_bytes()).and_then(|()| lines.finish());
            if text.chars().count() >= OUTPUT_MAX {
                say(format_args!(
                    "{target}: Run Command keeps no more than {OUTPUT_MAX} characters of output"
                ));
            }
        }
        Ok(Some(match (status, u8::try_from(answer.response_code())) {
            (Status::Success, _) => Outcome::Exit(0),
            (Status::Failed, Ok(code @ 1..)) => Outcome::Exit(code),
            (status, _) => Outcome::Failed(format!("Run Command says {}", status.as_str())),
        }))
    }

    /// Ends what goes on. That it could not be done is told by the machines, later.
    async fn cancel(&self, waiting: &VecDeque<Invocation>) {
        let mut commands: Vec<_> = waiting.iter().map(|invocation| &invocation.command).collect();
        commands.dedup();
        for command in commands {
            if let Err(error) = self.client.cancel_command().command_id(command).send().await {
                say(format_args!("the command was not cancelled: {}", causes(&error)));
            }
        }
    }
}
