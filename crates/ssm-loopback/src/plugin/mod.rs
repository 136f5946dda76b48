//! What runs behind the agent: a terminal, a command, or a TCP destination.
//!
//! A plugin takes payloads that came in order, and is polled for output. It never holds more input than it has
//! [room](Plugin::has_room) for: above that the agent stops reading, as AWS's does when a write to the terminal or
//! destination blocks.

mod command;
mod destination;
mod mux;
mod pace;
mod shell;
mod single;
mod slow;

use std::process::ExitStatus;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ssm_channel::{PortMode, Ready, SessionKind};
use ssm_proto::PayloadType;
use tokio::process::Child;
use tokio::time::timeout;

use crate::config::Config;
use crate::service::SessionStart;
use crate::wire::Wire;
use command::Command;
use destination::Destination;
use mux::MuxPort;
use shell::Shell;
use single::SinglePort;

/// How long a child may take to end after its terminal has hung up.
const CHILD_GRACE: Duration = Duration::from_secs(1);

/// The plugin of one session.
pub(crate) enum Plugin {
    Shell(Shell),
    Command(Command),
    Single(SinglePort),
    Mux(MuxPort),
}

/// How a plugin ended.
#[derive(Debug)]
pub(crate) struct Finish {
    /// Text for `channel_closed`; empty for a normal end.
    pub(crate) output: String,
    pub(crate) announcement: Announcement,
}

/// Whether the service is told before the channel closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Announcement {
    /// `agent_session_state` Terminating: shells and commands.
    Terminating,
    /// Port sessions, and what never started.
    Nothing,
}

impl Finish {
    fn failed(output: impl Into<String>) -> Self {
        Self { output: output.into(), announcement: Announcement::Nothing }
    }

    fn silent() -> Self {
        Self::failed("")
    }

    fn announced() -> Self {
        Self { output: String::new(), announcement: Announcement::Terminating }
    }
}

impl Plugin {
    /// Starts what the session is for.
    ///
    /// # Errors
    /// When that cannot be; the session ends with the text.
    pub(crate) fn start(
        ready: &Ready,
        start: &SessionStart,
        config: &Config,
        wire: &mut Wire,
    ) -> Result<Self, Finish> {
        match ready.kind {
            SessionKind::Shell | SessionKind::InteractiveCommands => {
                Shell::start(&start.properties, config, wire.now()).map(Self::Shell)
            }
            SessionKind::NonInteractiveCommands => {
                Command::start(&start.properties, config.profile, wire.now()).map(Self::Command)
            }
            SessionKind::Port(mode) => {
                let port = ready.port.clone().unwrap_or_default();
                let destination = Destination::new(&port)?.known_to(wire.endpoint().clone());
                match mode {
                    PortMode::Mux { keep_alive } => {
                        Ok(Self::Mux(MuxPort::start(destination, keep_alive, config.profile, wire)))
                    }
                    PortMode::Basic | PortMode::Stream => {
                        Ok(Self::Single(SinglePort::start(destination, mode, config.profile)))
                    }
                }
            }
        }
    }

    /// Takes the next payload. What it sets off happens in [`poll`](Self::poll).
    pub(crate) fn handle(&mut self, kind: PayloadType, payload: Bytes) {
        match self {
            Self::Shell(shell) => shell.handle(kind, payload),
            Self::Command(command) => command.handle(kind, &payload),
            Self::Single(port) => port.handle(kind, payload),
            Self::Mux(port) => port.handle(kind, payload),
        }
    }

    /// Whether another payload may come.
    pub(crate) fn has_room(&self) -> bool {
        match self {
            Self::Shell(shell) => shell.has_room(),
            Self::Command(_) => true,
            Self::Single(port) => port.has_room(),
            Self::Mux(port) => port.has_room(),
        }
    }

    /// Whether payloads are acknowledged as of now. A destination has to be reached first (agent `port.go`, `ErrHandlerNotReady`).
    pub(crate) fn is_ready(&self) -> bool {
        match self {
            Self::Single(port) => port.is_ready(),
            Self::Shell(_) | Self::Command(_) | Self::Mux(_) => true,
        }
    }

    /// Moves bytes both ways, as far as they go. Ready when the session is over on this side.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, wire: &mut Wire) -> Poll<Finish> {
        match self {
            Self::Shell(shell) => shell.poll(cx, wire),
            Self::Command(command) => command.poll(cx, wire),
            Self::Single(port) => port.poll(cx, wire),
            Self::Mux(port) => port.poll(cx, wire),
        }
    }

    /// When it wants to be polled at the latest.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Shell(shell) => shell.deadline(),
            Self::Command(command) => command.deadline(),
            Self::Single(port) => port.deadline(),
            Self::Mux(port) => port.deadline(),
        }
    }

    /// Ends what still runs: the session was closed from the other side.
    pub(crate) async fn stop(self) {
        match self {
            Self::Shell(shell) => shell.stop().await,
            Self::Command(command) => command.stop().await,
            Self::Single(_) | Self::Mux(_) => {}
        }
    }
}

/// Waits for a child that was told to end, and kills its process group if it does not.
async fn reap(mut child: Child) {
    if timeout(CHILD_GRACE, child.wait()).await.is_ok() {
        return;
    }
    signal_group(&child, rustix::process::Signal::KILL);
    if let Err(error) = child.kill().await {
        tracing::warn!(%error, "a child process could not be killed");
    }
}

/// Sends a signal to a child and to what it has started. Every child here leads a process group.
fn signal_group(child: &Child, signal: rustix::process::Signal) {
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw);
    if let Some(pid) = pid
        && let Err(error) = rustix::process::kill_process_group(pid, signal)
    {
        tracing::debug!(%error, "signal not sent");
    }
}

/// The exit code as Go reports it: -1 for a process that a signal ended.
fn exit_code(status: ExitStatus) -> i32 {
    status.code().unwrap_or(-1)
}
