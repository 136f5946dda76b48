//! `ssm up`

use std::collections::VecDeque;
use std::io::{self, IsTerminal};
use std::process::{ExitCode, ExitStatus, Stdio};

use rustix::process::{Pid, Signal as Number, kill_process};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::args::{DurationArg, UpArgs};
use crate::config::{Alias, Config, Member};
use crate::error::Error;
use crate::output::{complain, say};
use crate::process::{Signal, Signals};

use super::group::{self, Planned};
use super::status;

/// Tunnels that are started at a time: each asks the API for its sessions, which refuses who asks too often.
const STARTS_MAX: usize = 4;

/// Most of what a start says that is passed on, in bytes.
const SAID_MAX: u64 = 16 * 1024;

/// Runs the command.
pub(crate) async fn run(args: &UpArgs, config: &Config) -> Result<ExitCode, Error> {
    let planned = group::planned(config, &args.groups)?;
    if planned.is_empty() {
        say("no groups: see ssm config path");
        return Ok(ExitCode::SUCCESS);
    }
    let running = group::running().await?;
    let (there, missing): (Vec<&Planned<'_>>, Vec<_>) =
        planned.iter().partition(|planned| running.iter().any(|(_, name, _)| *name == planned.name));
    for planned in there {
        say(format_args!("{} runs already", planned.name));
    }
    // Each tunnel is in the background, where nobody can be asked.
    #[cfg(feature = "aws")]
    for planned in &missing {
        crate::sign_on::prepare(&config.connection_of(planned.member)).await;
    }
    let mut signals = Signals::take().map_err(Error::local("cannot watch for signals"))?;
    let commands = missing
        .into_iter()
        .map(|planned| Ok((planned.name.clone(), command(config, planned, args.timeout)?)));
    let commands: io::Result<VecDeque<_>> = commands.collect();
    let commands = commands.map_err(Error::local("cannot start tunnels"))?;
    let (failed, left) = start_all(commands, &mut signals).await;
    match (left, failed) {
        (Some(signal), _) => Ok(ExitCode::from(signal.exit_code())),
        (None, 0) => Ok(ExitCode::SUCCESS),
        (None, failed) => {
            let all = planned.len();
            Err(Error::NotUp(format!(
                "{failed} of {all} tunnels could not be started; ssm status shows the others"
            )))
        }
    }
}

/// Starts tunnels and tells what became of each, until all are started or a signal comes. Gives how many have failed, and
/// the signal.
async fn start_all(
    mut waiting: VecDeque<(String, Command)>,
    signals: &mut Signals,
) -> (usize, Option<Signal>) {
    let (leave, leaves) = watch::channel(None);
    let mut starting = JoinSet::new();
    let mut failed = 0;
    loop {
        while starting.len() < STARTS_MAX && leave.borrow().is_none() {
            let Some((name, command)) = waiting.pop_front() else { break };
            let leaves = leaves.clone();
            starting.spawn(async move { (name, start(command, leaves).await) });
        }
        tokio::select! {
            started = starting.join_next() => match started {
                Some(Ok((name, started))) => failed += usize::from(!tell(&name, started).await),
                Some(Err(error)) => std::panic::resume_unwind(error.into_panic()),
                None => break,
            },
            signal = signals.next() => drop(leave.send_replace(Some(signal))),
        }
    }
    let left = *leave.borrow();
    (failed, left)
}

/// The tunnel as a command. What an alias says is for that command to look up.
fn command(config: &Config, planned: &Planned<'_>, DurationArg(timeout): DurationArg) -> io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    if let Some(path) = &config.path {
        command.arg("--config").arg(path);
    }
    command.arg(match planned.member {
        Member::Database(_) => "db",
        Member::Alias(_) | Member::Own(_) => "forward",
    });
    command.arg("--name").arg(&planned.name).arg(format!("--wait={}ms", timeout.as_millis()));
    match planned.member {
        Member::Alias(name) | Member::Database(name) => command.arg(name),
        Member::Own(own) => own_arguments(&mut command, own),
    };
    Ok(command)
}

fn own_arguments<'a>(command: &'a mut Command, own: &Alias) -> &'a mut Command {
    for forward in &own.forwards {
        command.arg("-L").arg(&forward.text);
    }
    for proxy in &own.proxies {
        command.arg("-D").arg(&proxy.text);
    }
    for (setting, value) in own.settings.iter() {
        // In front of what an alias says, and behind what the user's variables say.
        if std::env::var_os(setting.variable()).is_none_or(|text| text.is_empty()) {
            command.env(setting.variable(), &value.text);
        }
    }
    command.arg(&own.target.text)
}

/// Runs the command until the tunnel is ready or has failed. Gives what it says.
async fn start(
    mut command: Command,
    mut leaves: watch::Receiver<Option<Signal>>,
) -> io::Result<(ExitStatus, String)> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    let mut said = Vec::new();
    let mut stderr = child.stderr.take().expect("it was asked for").take(SAID_MAX);
    let mut reading = std::pin::pin!(stderr.read_to_end(&mut said));
    let left = async {
        // An error means that nobody is left to leave.
        leaves.wait_for(Option::is_some).await.ok().and_then(|signal| *signal)
    };
    let read = tokio::select! {
        read = &mut reading => Some(read),
        signal = left => {
            pass_on(&child, signal);
            None
        }
    };
    match read {
        Some(read) => read?,
        None => reading.await?,
    };
    let status = child.wait().await?;
    Ok((status, String::from_utf8_lossy(&said).into_owned()))
}

/// Ends a start. The keys of a terminal have reached it as well.
fn pass_on(child: &Child, signal: Option<Signal>) {
    if matches!(signal, Some(Signal::Interrupt | Signal::Quit)) && io::stdin().is_terminal() {
        return;
    }
    if let Some(pid) = child.id().and_then(|pid| Pid::from_raw(pid.try_into().ok()?)) {
        // It may have ended in this moment.
        let _ = kill_process(pid, Number::TERM);
    }
}

/// Tells what became of a start. Whether it is up.
async fn tell(name: &str, started: io::Result<(ExitStatus, String)>) -> bool {
    match started {
        Ok((status, _)) if status.success() => {
            let running = group::running().await.unwrap_or_default();
            let forwards = running.iter().find(|(_, found, _)| found == name);
            let forwards = forwards.map(|(_, _, tunnel)| status::forwards(tunnel)).unwrap_or_default();
            say(format_args!("{name} is up: {forwards}"));
            true
        }
        Ok((status, said)) => {
            let why: Vec<&str> = said.lines().map(|line| line.trim_start_matches("ssm: ")).collect();
            match why.join("; ") {
                why if why.is_empty() => complain(format_args!("{name} was not started: {status}")),
                why => complain(format_args!("{name} was not started: {why}")),
            }
            false
        }
        Err(error) => {
            complain(format_args!("{name} was not started: {error}"));
            false
        }
    }
}
