//! `ssm exec`

mod lines;
mod many;
#[cfg(feature = "aws")]
mod run_command;
mod targets;

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::process::ExitCode;

use ssm_session::{ControlPlane, Session, SessionKind, StartSession};
use ssm_shell::{Command, CommandIo, Completed, EndedBy, ExecError, Io};
use tokio::sync::mpsc;

use crate::args::ExecArgs;
use crate::command::{self, shell};
use crate::config::{Config, Flags};
use crate::error::Error;
use crate::lookup;
use crate::options::{self, Source};
use crate::output::{print, say};
use crate::process::{Signal, Signals};

/// Signals that may wait for the command.
pub(super) const SIGNALS: usize = 4;

/// Runs the command.
pub(crate) async fn run(mut args: ExecArgs, config: &Config) -> Result<ExitCode, Error> {
    fill(&mut args, config);
    let line = joined(&args.command);
    let command = if args.connection.attach {
        Command::attached()
    } else {
        Command::new(&line).map_err(Error::CommandLine)?
    };
    if args.print_script {
        print(command.script())?;
        return Ok(ExitCode::SUCCESS);
    }
    if !args.targets.is_empty() {
        return many::run(&args, &line).await;
    }
    // Until a session is started Ctrl-C ends the program, also while it asks somebody.
    let target = lookup::session_target(args.target.as_deref(), &args.connection).await?;
    let mut source = Source::load(&args.connection, "ssm exec").await?;
    let mut signals = Signals::take().map_err(Error::local("cannot watch for signals"))?;
    let request = with_document(command.request(&target), &args);
    let io = CommandIo::stdio().map_err(Error::local("cannot set up the standard streams"))?;
    let io = if args.no_stdin { io.no_input() } else { io };
    let config = options::command_config(args.channel);
    let session = command::open_only(&mut source, &request, config, &mut signals).await?;
    match attended(session, &command, io, &mut signals).await {
        Ok(completed) => Ok(code(completed)),
        Err(ExecError::NoTerminal(SessionKind::NonInteractiveCommands)) => {
            without_terminal(&args, &line, target, &mut source, signals).await
        }
        Err(error) => Err(error.into()),
    }
}

/// Takes from the configuration what the command line leaves open.
fn fill(args: &mut ExecArgs, config: &Config) {
    let flags = Flags::from(&mut args.connection).command(&mut args.channel);
    if let Some(alias) = config.fill(args.target.as_deref(), flags) {
        args.target = Some(alias.target.text.clone());
    }
    for target in &mut args.targets {
        if let Some(alias) = config.alias(Some(target)) {
            *target = alias.target.text.clone();
        }
    }
}

/// The words as one line, as ssh makes it.
fn joined(words: &[OsString]) -> Vec<u8> {
    words.iter().map(|word| word.as_bytes()).collect::<Vec<_>>().join(&b' ')
}

fn with_document(request: StartSession, args: &ExecArgs) -> StartSession {
    let document = args.document.clone().or(request.document);
    StartSession { document, ..request }.reason(args.connection.reason.clone())
}

/// Runs the command and passes the signals of this process on to it.
pub(super) async fn attended<C: ControlPlane>(
    session: Session<C>,
    command: &Command,
    io: CommandIo,
    signals: &mut Signals,
) -> Result<Completed, ExecError> {
    let (sender, receiver) = mpsc::channel(SIGNALS);
    let running = ssm_shell::exec(session, command, io.signals(receiver), shell::tell);
    tokio::pin!(running);
    loop {
        tokio::select! {
            completed = &mut running => return completed,
            signal = signals.next() => {
                let _ = sender.try_send(remote(signal));
            }
        }
    }
}

/// The signal for the command.
pub(super) fn remote(signal: Signal) -> ssm_shell::Signal {
    match signal {
        Signal::Interrupt => ssm_shell::Signal::Interrupt,
        Signal::Quit => ssm_shell::Signal::Quit,
        Signal::Hangup => ssm_shell::Signal::Hangup,
        Signal::Terminate => ssm_shell::Signal::Terminate,
    }
}

fn code(completed: Completed) -> ExitCode {
    if let EndedBy::Signal(number) = completed.ended_by {
        say(format_args!("ended by signal {number}"));
    }
    ExitCode::from(completed.code)
}

/// The document gives no terminal: the agent runs the command itself, without input, and sends both outputs and the exit code if
/// the document separates them.
async fn without_terminal(
    args: &ExecArgs,
    line: &[u8],
    target: String,
    source: &mut Source,
    mut signals: Signals,
) -> Result<ExitCode, Error> {
    let document = args.document.clone().unwrap_or_default();
    let line = std::str::from_utf8(line).map_err(|_| {
        Error::Usage(format!("{document} gives no terminal, and takes a command in UTF-8 only"))
    })?;
    let line = format!("sh -c '{}'", line.replace('\'', r"'\''"));
    let request = StartSession::document(target, &document).parameter("command", line);
    let (request, config) =
        (request.reason(args.connection.reason.clone()), options::shell_config(args.channel.reconnect));
    let session = command::open_only(source, &request, config, &mut signals).await?;
    drop(signals);
    let exit = ssm_shell::run(session, Io::stdio()?, shell::tell).await?;
    if exit.code.is_none() && exit.ended_by == EndedBy::Session {
        return Err(Error::NoExitCode(document));
    }
    shell::exit_code(&exit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_joined_as_ssh_joins_them() {
        let words = ["echo", "a  b", "$HOME", "'x"].map(OsString::from);
        assert_eq!(joined(&words), b"echo a  b $HOME 'x");
    }
}
