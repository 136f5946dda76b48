//! `ssm ecs exec`

use std::process::ExitCode;

use aws_sdk_ecs::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_ecs::operation::execute_command::{ExecuteCommandError, ExecuteCommandOutput};
use ssm_session::{ControlPlane, Endpoint, Session, SessionId, Token, causes};

use super::place::{Ask, Chosen, Wanted, choose};
use super::{Ecs, check};
use crate::args::EcsExecArgs;
use crate::command::{self, LEAVE, sh, shell};
use crate::config::{Config, Flags};
use crate::control::Control;
use crate::error::Error;
use crate::options;
use crate::process::Signals;
use crate::remembered;

/// Every image that has a shell has this one.
const SHELL: &str = "/bin/sh";

/// Runs the command.
pub(super) async fn run(mut args: EcsExecArgs, config: &Config) -> Result<ExitCode, Error> {
    if args.connection.reason.is_some() {
        return Err(Error::Usage("ECS Exec has no place for a reason: leave out --reason".into()));
    }
    let flags = Flags::from(&mut args.connection).reconnect(&mut args.reconnect);
    let wanted = Wanted::take(&args.place, flags, config)?;
    let ecs = Ecs::load(&args.connection).await?;
    let chosen = choose(&ecs, &wanted, Ask::new(&args.connection)).await?;
    let command = command_line(&args.command);
    let mut signals = Signals::take().map_err(Error::local("cannot watch for signals"))?;
    let mut starting = std::pin::pin!(start(&ecs, &chosen, &command));
    let endpoint = tokio::select! {
        endpoint = &mut starting => endpoint?,
        signal = signals.next() => {
            if let Ok(Ok(endpoint)) = tokio::time::timeout(LEAVE, starting).await {
                terminate(&Control::Aws(ecs.account.clone()), &endpoint.session_id).await;
            }
            return Err(Error::Left(signal));
        }
    };
    // What it is started on is a part of what the key of an encrypted session is made for.
    let target = chosen.task.session_target(&chosen.container).ok().map(|target| target.to_string());
    let shown = target.as_deref().unwrap_or(&chosen.task.id);
    remembered::started(endpoint.session_id.as_str(), shown, &ecs.account);
    let config = ssm_session::Config { target, ..options::shell_config(args.reconnect) };
    let session = open(&ecs, endpoint, config, &mut signals).await?;
    // From here on the shell has handlers of its own.
    drop(signals);
    shell::carry(session, args.escape, args.idle_notice).await
}

/// Starts the command; when that is refused, tells what the task lacks.
async fn start(ecs: &Ecs, chosen: &Chosen, command: &str) -> Result<Endpoint, Error> {
    let Chosen { task, container } = chosen;
    let call = ecs.client.execute_command().cluster(&task.cluster).task(&task.id).container(&container.name);
    match call.command(command).interactive(true).send().await {
        Ok(answer) => endpoint(answer),
        Err(error) => {
            let refusal = Refusal::new(&error, chosen);
            let mut lines = vec![refusal.text];
            if refusal.asks_for_a_check {
                lines.extend(check::explain(ecs, chosen).await);
            }
            Err(Error::Lines(lines))
        }
    }
}

fn endpoint(answer: ExecuteCommandOutput) -> Result<Endpoint, Error> {
    let session = answer.session;
    let parts =
        session.and_then(|session| Some((session.session_id?, session.stream_url?, session.token_value?)));
    match parts {
        Some((id, stream_url, token)) => {
            Ok(Endpoint { session_id: SessionId::new(id), stream_url, token: Token::new(token) })
        }
        None => Err(Error::Ecs("ExecuteCommand answered without an id, a URL or a token".into())),
    }
}

/// Opens the session. It is resumed and ended through Systems Manager, as any other.
async fn open(
    ecs: &Ecs,
    endpoint: Endpoint,
    config: ssm_session::Config,
    signals: &mut Signals,
) -> Result<Session<Control>, Error> {
    let control = Control::Aws(ecs.account.clone());
    let id = endpoint.session_id.clone();
    let opened = tokio::select! {
        session = Session::open(control.clone(), endpoint, config) => session.map_err(Error::from),
        signal = signals.next() => {
            terminate(&control, &id).await;
            return Err(Error::Left(signal));
        }
    };
    match opened {
        Ok(session) => command::begin(session, signals).await,
        Err(error) => {
            terminate(&control, &id).await;
            Err(error)
        }
    }
}

async fn terminate(control: &Control, id: &SessionId) {
    if let Ok(Err(error)) = tokio::time::timeout(LEAVE, control.terminate(id)).await {
        tracing::info!(%error, "the session is left to the service");
    }
}

/// What the API says to a command it does not start.
struct Refusal {
    text: String,
    /// Whether the reason may be how the task was made.
    asks_for_a_check: bool,
}

impl Refusal {
    fn new(error: &SdkError<ExecuteCommandError>, chosen: &Chosen) -> Self {
        let said = error.message().unwrap_or_default();
        let Chosen { task, container } = chosen;
        let (text, asks_for_a_check) = match error.code() {
            Some("TargetNotConnectedException") => (
                format!(
                    "the agent in container {} is not connected to Systems Manager: {said}",
                    container.name
                ),
                true,
            ),
            Some("InvalidParameterException") => {
                (format!("container {} takes no commands: {said}", container.name), true)
            }
            Some("AccessDeniedException") => (
                format!(
                    "denied: your permissions do not allow ecs:ExecuteCommand on task {} of cluster {} ({said})",
                    task.id, task.cluster
                ),
                false,
            ),
            Some(code) => (format!("ecs:ExecuteCommand failed: {code} {said}"), false),
            None => (format!("ecs:ExecuteCommand was not answered: {}", causes(error)), false),
        };
        Self { text, asks_for_a_check }
    }
}

/// The line that `sh -c` is given in the container (agent `shell.go`). One word is such a line already.
fn command_line(words: &[String]) -> String {
    match words {
        [] => SHELL.into(),
        [line] => line.clone(),
        words => words.iter().map(|text| word(text)).collect::<Vec<_>>().join(" "),
    }
}

/// A word as a shell reads it back.
fn word(word: &str) -> String {
    if !word.is_empty() && sh::is_plain(word.as_bytes()) {
        return word.into();
    }
    // Quotes leave text what it is.
    String::from_utf8_lossy(&sh::quoted(word.as_bytes())).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(words: &[&str]) -> String {
        command_line(&words.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn one_word_is_a_line_and_several_are_words() {
        assert_eq!(line(&[]), "/bin/sh");
        assert_eq!(line(&["ls | wc -l"]), "ls | wc -l");
        assert_eq!(line(&["ls", "-l", "/a b", "it's", "$HOME", ""]), r#"ls -l '/a b' 'it'\''s' '$HOME' ''"#);
    }
}
