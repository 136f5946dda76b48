//! The other side: service, gateway, agent and what runs behind it, in a process of its own.

use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;
use std::thread;

use ssm_loopback::{Config, Document, Loopback};
use ssm_session::{ControlPlane as _, StartSession};
use tokio::sync::mpsc;

use crate::Failure;

/// The program under test; unless it is said, the one that was built with this bench.
pub(crate) static SSM: OnceLock<String> = OnceLock::new();

/// What a command runs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Terminal,
    /// Pipes for its outputs, which are sent as they come.
    Pipes,
}

/// A document whose commands have no terminal.
const PIPES: &str = r#"{"sessionType":"NonInteractiveCommands","parameters":{"command":{"type":"String"}},
    "properties":{"linux":{"commands":"{{command}}","separateOutputStream":true}}}"#;

/// Serves Session Manager. For each command on stdin, prints a started session as JSON.
pub(crate) fn serve(payload: usize) -> Result<(), Failure> {
    let documents = vec![Document::from_json("Pipes", PIPES)?];
    let config = Config { payload_len: payload, documents, ..Config::default() };
    let (commands, mut requests) = mpsc::unbounded_channel();
    thread::spawn(move || io::stdin().lock().lines().try_for_each(|line| commands.send(line)));
    // One thread, as in `ssm loopback`.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let loopback = Loopback::start(config).await?;
        let control = loopback.control();
        while let Some(line) = requests.recv().await {
            let line = line?;
            let request = match line.strip_prefix("pipes ") {
                Some(command) => {
                    StartSession::document(loopback.target(), "Pipes").parameter("command", command)
                }
                None => StartSession::interactive_command(loopback.target(), line),
            };
            let endpoint = control.start(&request).await?;
            writeln!(io::stdout(), "{}", endpoint.to_json().expose())?;
        }
        Ok(())
    })
}

/// The process of it; ended when dropped.
pub(crate) struct OtherSide {
    child: Child,
    commands: ChildStdin,
    sessions: BufReader<ChildStdout>,
}

impl OtherSide {
    /// With messages of up to `payload` bytes from the agent.
    pub(crate) fn start(payload: usize) -> io::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("other-side").arg(payload.to_string()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let (Some(commands), Some(sessions)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::Error::other("a child without pipes"));
        };
        Ok(Self { child, commands, sessions: BufReader::new(sessions) })
    }

    /// `ssm shell` in a session that runs `command`.
    pub(crate) fn shell(&mut self, kind: Kind, command: &str) -> io::Result<Command> {
        let prefix = if kind == Kind::Pipes { "pipes " } else { "" };
        writeln!(self.commands, "{prefix}{command}")?;
        let mut session = String::new();
        self.sessions.read_line(&mut session)?;
        let mut shell = Command::new(SSM.get_or_init(|| env!("CARGO_BIN_EXE_ssm").into()));
        shell.args(["--quiet", "shell", "--attach"]).env("SSM_ATTACH", session.trim_end());
        Ok(shell)
    }
}

impl Drop for OtherSide {
    fn drop(&mut self) {
        // It may be gone already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
