//! The command that runs while the forwards do.

use std::ffi::{OsStr, OsString};
use std::io::IsTerminal;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitCode, ExitStatus};
use std::time::Duration;

use rustix::process::{Pid, Signal as Number, WaitId, WaitIdOptions, getpid, kill_process, waitid};
use ssm_portfwd::LocalAddr;
use tokio::process::{Child, Command};

use crate::error::Error;
use crate::options::ATTACH_VARIABLE;
use crate::process::Signal;

use super::Around;

/// How long the command may take to end once it was asked to.
const LEAVE: Duration = Duration::from_secs(2);

/// A running command. Dropping it kills it.
pub(in crate::command) struct Running(Child);

impl Running {
    /// Starts it, with the address of each forward in its arguments and variables.
    pub(super) fn start(words: &[OsString], addresses: &[LocalAddr], around: &Around) -> Result<Self, Error> {
        let (program, arguments) = words.split_first().expect("clap gives a command at least one word");
        let mut command = Command::new(program);
        let arguments = arguments.iter().map(|argument| filled(argument, addresses, &around.words));
        command.args(arguments);
        for (name, value) in &around.variables {
            command.env(name, value.expose());
        }
        for (number, address) in addresses.iter().enumerate() {
            let (host, port) = parts(address);
            let suffixes = [Some(format!("_{}", number + 1)), (number == 0).then(String::new)];
            for suffix in suffixes.into_iter().flatten() {
                command.env(format!("SSM_FORWARD_HOST{suffix}"), &host);
                if let Some(port) = port {
                    command.env(format!("SSM_FORWARD_PORT{suffix}"), port.to_string());
                }
            }
        }
        Self::spawn(command)
    }

    /// Starts a command that is ready to be started.
    pub(in crate::command) fn spawn(mut command: Command) -> Result<Self, Error> {
        // What opens a session is for this process.
        command.env_remove(ATTACH_VARIABLE);
        let spawned = command.kill_on_drop(true).spawn();
        let name = || command.as_std().get_program().to_string_lossy().into_owned();
        spawned.map(Self).map_err(|source| Error::Command { name: name(), source })
    }

    /// Waits for its end; for ever without one. Cancel safe.
    pub(in crate::command) async fn ended(running: &mut Option<Self>) -> Result<ExitCode, Error> {
        match running {
            Some(Self(child)) => {
                let status = child.wait().await.map_err(Error::local("cannot wait for the command"))?;
                Ok(exit_code(status))
            }
            None => std::future::pending().await,
        }
    }

    /// Passes on a signal that only this process has: those of a terminal's keys go to the command as well.
    pub(in crate::command) fn signal(&self, signal: Signal) {
        let number = match signal {
            Signal::Interrupt | Signal::Quit if std::io::stdin().is_terminal() => return,
            Signal::Interrupt => Number::INT,
            Signal::Quit => Number::QUIT,
            Signal::Hangup => Number::HUP,
            Signal::Terminate => Number::TERM,
        };
        self.kill(number);
    }

    /// Stops this process as long as the command is stopped, if it is: who has done that waits for a prompt. To be called when a
    /// child has changed.
    pub(in crate::command) fn follow_stop(&self) {
        let Some(pid) = self.pid() else { return };
        let stopped = waitid(WaitId::Pid(pid), WaitIdOptions::STOPPED | WaitIdOptions::NOHANG);
        if stopped.is_ok_and(|status| status.is_some_and(|status| status.stopped())) {
            let _ = kill_process(getpid(), Number::STOP);
            // From here on somebody has brought this process back.
            self.kill(Number::CONT);
        }
    }

    /// Asks it to end, if it runs, and waits a while for that.
    pub(super) async fn end(running: &mut Option<Self>) {
        if let Some(running) = running {
            running.kill(Number::TERM);
            let _ = tokio::time::timeout(LEAVE, running.0.wait()).await;
        }
    }

    fn kill(&self, number: Number) {
        if let Some(pid) = self.pid() {
            // It may have ended in this moment.
            let _ = kill_process(pid, number);
        }
    }

    /// `None` once it has ended.
    fn pid(&self) -> Option<Pid> {
        Pid::from_raw(self.0.id()?.try_into().ok()?)
    }
}

/// What a shell reports.
fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().or_else(|| Some(128 + status.signal()?));
    ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX))
}

/// Host and port; the path and no port for a UNIX socket.
fn parts(address: &LocalAddr) -> (String, Option<u16>) {
    match address {
        LocalAddr::Tcp(address) => (address.ip().to_string(), Some(address.port())),
        other @ LocalAddr::Unix(_) => (other.to_string(), None),
    }
}

/// An argument with its placeholders replaced. One that is not UTF-8 has none.
fn filled(argument: &OsStr, addresses: &[LocalAddr], words: &[(&str, String)]) -> OsString {
    let Some(text) = argument.to_str() else { return argument.to_owned() };
    let mut text = text.to_owned();
    for (number, address) in addresses.iter().enumerate() {
        let (host, port) = parts(address);
        let suffixes = [Some(format!("{}", number + 1)), (number == 0).then(String::new)];
        for suffix in suffixes.into_iter().flatten() {
            text = text.replace(&format!("{{host{suffix}}}"), &host);
            if let Some(port) = port {
                text = text.replace(&format!("{{port{suffix}}}"), &port.to_string());
            }
        }
    }
    for (name, word) in words {
        text = text.replace(&format!("{{{name}}}"), word);
    }
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_numbered() {
        let addresses = [
            LocalAddr::Tcp("127.0.0.1:5432".parse().unwrap()),
            LocalAddr::Tcp("[::1]:80".parse().unwrap()),
            LocalAddr::Unix("/run/s".into()),
        ];
        let words = [("user", "me".to_owned()), ("database", "{port}".to_owned())];
        let fill = |text: &str| filled(OsStr::new(text), &addresses, &words).into_string().unwrap();
        assert_eq!(fill("{user}@{host}/{database}"), "me@127.0.0.1/{port}");
        assert_eq!(fill("{host}:{port} {host1}:{port1}"), "127.0.0.1:5432 127.0.0.1:5432");
        assert_eq!(fill("http://[{host2}]:{port2}/"), "http://[::1]:80/");
        assert_eq!(fill("{host3} {port3} {port4} {} {x}"), "/run/s {port3} {port4} {} {x}");
    }

    #[test]
    fn a_signal_is_reported_as_a_shell_does() {
        let code = |raw| format!("{:?}", exit_code(ExitStatus::from_raw(raw)));
        assert_eq!(code(7 << 8), format!("{:?}", ExitCode::from(7)));
        assert_eq!(code(15), format!("{:?}", ExitCode::from(143)));
    }
}
