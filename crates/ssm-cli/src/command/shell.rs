//! `ssm shell`

use std::borrow::Cow;
use std::io::{self, IsTerminal};
use std::process::ExitCode;

use ssm_session::{CloseReason, SessionKind, StartSession};
use ssm_shell::{EndedBy, Exit, Io, Notice};

use crate::args::ShellArgs;
use crate::command::{self, Opened};
use crate::config::{Config, Flags};
use crate::error::{Error, ending};
use crate::lookup;
use crate::options::{self, Source};
use crate::output::{complain, say};
use crate::process::Signals;

/// Runs the command.
pub(crate) async fn run(mut args: ShellArgs, config: &Config) -> Result<ExitCode, Error> {
    fill(&mut args, config);
    let args = &args;
    let target = lookup::session_target(args.target.as_deref(), &args.connection).await?;
    let request = request(args, target);
    let mut signals = Signals::take().map_err(Error::local("cannot watch for signals"))?;
    let mut source = Source::load(&args.connection, "ssm shell").await?;
    let session = match command::open(&mut source, &request, options::shell_config(), &mut signals).await? {
        Opened::Session(session) => *session,
        Opened::Left(signal) => return Ok(ExitCode::from(signal.exit_code())),
    };
    // From here on the shell has handlers of its own.
    drop(signals);
    let kind = session.ready().map(|ready| ready.kind);
    let takes_keys = matches!(kind, Some(SessionKind::Shell | SessionKind::InteractiveCommands));
    if takes_keys && !io::stdin().is_terminal() {
        say("stdin is not a terminal: what it holds is typed, and at its end Ctrl-D");
    }
    let exit = ssm_shell::run(session, Io::stdio()?, tell).await?;
    tell_end(&exit);
    exit_code(&exit)
}

/// Takes from the configuration what the command line leaves open.
fn fill(args: &mut ShellArgs, config: &Config) {
    let flags = Flags { connection: &mut args.connection, channel: None, lanes: None };
    if let Some(alias) = config.fill(args.target.as_deref(), flags) {
        args.target = Some(alias.target.text.clone());
        if args.document.is_none() {
            args.document = alias.document.as_ref().map(|document| document.text.clone());
        }
    }
}

/// Says that a signal ended it, and leaves the line of the remote prompt for whatever comes next.
fn tell_end(exit: &Exit) {
    let normal =
        matches!(exit.reason, CloseReason::Terminated | CloseReason::AgentClosed { detail: None, .. });
    let signal = match exit.ended_by {
        EndedBy::Signal(number) => Some(number),
        _ => None,
    };
    if (signal.is_some() || !normal) && io::stdout().is_terminal() && io::stderr().is_terminal() {
        eprintln!();
    }
    if let Some(number) = signal {
        say(format_args!("ended by {}", signal_name(number)));
    }
}

fn signal_name(number: i32) -> Cow<'static, str> {
    match number {
        SIGHUP => "SIGHUP".into(),
        2 => "SIGINT".into(),
        3 => "SIGQUIT".into(),
        15 => "SIGTERM".into(),
        other => format!("signal {other}").into(),
    }
}

fn request(args: &ShellArgs, target: String) -> StartSession {
    let request = match &args.document {
        Some(document) => StartSession::document(target, document),
        None => StartSession::shell(target),
    };
    let request = args
        .parameters
        .iter()
        .fold(request, |request, parameter| request.parameter(&parameter.key, &parameter.value));
    request.reason(args.connection.reason.clone())
}

/// Tells the user what happens besides the shell's own output.
pub(crate) fn tell(notice: Notice) {
    match notice {
        Notice::Ready(ready) => {
            tracing::info!(?ready, "the session has started");
            if !ready.customer_message.is_empty() {
                say(&ready.customer_message);
            }
        }
        Notice::Redial { attempt: 0 } => say("the connection was lost; connecting again"),
        Notice::Resumed => say("connected again"),
        other => tracing::info!(notice = ?other, "shell"),
    }
}

/// The remote exit code where there is one, that of a shell for a signal, and 0 for a normal end.
pub(crate) fn exit_code(exit: &Exit) -> Result<ExitCode, Error> {
    let code = match (exit.code, exit.ended_by, &exit.reason) {
        (Some(code), _, reason) => {
            if let CloseReason::AgentClosed { detail: Some(_), .. } = reason {
                complain(ending(reason));
            }
            code
        }
        (None, EndedBy::Signal(number), _) => BY_SIGNAL + number,
        (None, EndedBy::InputClosed, _) => BY_SIGNAL + SIGHUP,
        (None, EndedBy::OutputClosed, _) => BY_SIGNAL + SIGPIPE,
        (None, _, CloseReason::Terminated | CloseReason::AgentClosed { detail: None, .. }) => 0,
        (None, _, reason) => return Err(Error::Ended(reason.clone())),
    };
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)))
}

/// What a shell adds to the number of the signal that ended a program.
const BY_SIGNAL: i32 = 128;
const SIGHUP: i32 = 1;
const SIGPIPE: i32 = 13;

#[cfg(test)]
mod tests {
    use super::*;

    fn code(code: Option<i32>, detail: Option<&str>) -> Option<String> {
        shown(code, detail, EndedBy::Session)
    }

    fn shown(code: Option<i32>, detail: Option<&str>, ended_by: EndedBy) -> Option<String> {
        let reason = CloseReason::AgentClosed { exit_code: code, detail: detail.map(Into::into) };
        let exit = Exit { reason, ended_by, code, bytes_received: 0 };
        exit_code(&exit).ok().map(|code| format!("{code:?}"))
    }

    #[test]
    fn an_end_from_outside_looks_as_for_any_program() {
        assert_eq!(shown(None, None, EndedBy::Signal(15)), Some(format!("{:?}", ExitCode::from(143))));
        assert_eq!(shown(None, None, EndedBy::OutputClosed), Some(format!("{:?}", ExitCode::from(141))));
    }

    #[test]
    fn the_remote_exit_code_is_ours() {
        assert_eq!(code(Some(3), None), Some(format!("{:?}", ExitCode::from(3))));
        assert_eq!(code(None, None), Some(format!("{:?}", ExitCode::SUCCESS)));
        assert_eq!(code(Some(-1), None), Some(format!("{:?}", ExitCode::from(255))));
        assert_eq!(code(None, Some("idle for 20 minutes")), None);
    }
}
