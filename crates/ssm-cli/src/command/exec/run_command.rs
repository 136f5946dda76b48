//! One command on many machines by Run Command, which has no limit worth mentioning, no streaming, and an end to its output.

use std::collections::{BTreeSet, VecDeque};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_ssm::Client;
use aws_sdk_ssm::config::Builder;
use aws_sdk_ssm::error::ProvideErrorMetadata as _;
use aws_sdk_ssm::types::CommandInvocationStatus as Status;
use ssm_session::{causes, is_throttling};

use super::lines::{Form, Lines, Outcome, Printer, Stream};
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
    if let Some(url) = &args.connection.endpoint_url {
        config = config.endpoint_url(url);
    }
    let (printer, printed) = Printer::start(form).map_err(Error::local("cannot write"))?;
    let fleet = Fleet { client: Client::from_conf(config.build()), form, printer: printer.clone() };
    let mut waiting: VecDeque<Invocation> = VecDeque::new();
    let mut parts = targets.chunks(INSTANCES_MAX);
    // Each call counts for itself how many machines are at work.
    let calls_max = (usize::from(args.parallel) / INSTANCES_MAX).max(1);
    let mut tally = Tally::new(form, printer);
    loop {
        while commands(&waiting).len() < calls_max
            && let Some(part) = parts.next()
        {
            let command = match fleet.send(args, line, part).await {
                Ok(command) => command,
                Err(error) => {
                    fleet.cancel(&waiting).await;
                    return Err(error);
                }
            };
            waiting.extend(
                part.iter().map(|target| Invocation { command: command.clone(), target: target.clone() }),
            );
        }
        let Some(invocation) = waiting.pop_front() else { break };
        match fleet.outcome(&invocation).await? {
            Some(outcome) => tally.add(&invocation.target, &outcome),
            None => waiting.push_back(invocation),
        }
        if waiting.is_empty() {
            continue;
        }
        let pause = SPACING.max(ROUND / u32::try_from(waiting.len()).unwrap_or(u32::MAX));
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            signal = signals.next() => {
                tally.interrupted = Some(signal);
                fleet.cancel(&waiting).await;
                break;
            }
        }
    }
    drop(fleet);
    tally.end(printed, signals).await
}

struct Fleet {
    client: Client,
    form: Form,
    printer: Printer,
}

#[derive(Debug)]
struct Invocation {
    command: String,
    target: String,
}

/// The calls that have machines at work.
fn commands(waiting: &VecDeque<Invocation>) -> BTreeSet<&str> {
    waiting.iter().map(|invocation| invocation.command.as_str()).collect()
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
            .max_concurrency(usize::from(args.parallel).min(INSTANCES_MAX).to_string())
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
            // It takes a moment to get there, and there may be too many questions.
            Err(error)
                if error
                    .code()
                    .is_some_and(|code| code == "InvocationDoesNotExist" || is_throttling(code)) =>
            {
                return Ok(None);
            }
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
            let text = text.unwrap_or_default();
            Lines::new(&target, stream, self.form, &self.printer).write(text.as_bytes()).await;
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
        for command in commands(waiting) {
            if let Err(error) = self.client.cancel_command().command_id(command).send().await {
                say(format_args!("the command was not cancelled: {}", causes(&error)));
            }
        }
    }
}
