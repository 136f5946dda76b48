//! `ssm ssh`, `ssm scp` and `ssm sftp`: OpenSSH, with this program as its ProxyCommand.
//!
//! The machine is looked up here, so that its host key can be kept under its id, and what the proxy needs to know stands in its
//! command line. Then OpenSSH takes the place of this process: terminal, signals and exit code are its own. Only with a key made for one login
//! this process stays, to remove it.

mod far;
mod key;
mod line;
mod proxy_command;

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use tokio::signal::unix::{SignalKind, signal};

use crate::args::{ChannelArgs, ConnectionArgs, Globals, OpenSsh, ScpArgs, SftpArgs, SshArgs, ThroughArgs};
use crate::command::forward::child::Running;
use crate::command::proxy::Place;
use crate::command::sh;
use crate::config::{Config, Flags};
use crate::error::Error;
use crate::process::{self, Signals};
use crate::{command::instance_connect, lookup};

use self::far::Far;
use self::key::LoginKey;
use self::line::Line;
pub(super) use self::proxy_command::{Key, ProxyCommand, Target};

/// What the user says of every machine of one command.
struct Wanted<'a> {
    through: ThroughArgs,
    config: &'a Config,
    globals: &'a Globals,
}

/// A machine that was found.
#[derive(Debug, PartialEq, Eq)]
struct Machine {
    /// What OpenSSH is given as its host: the name the user has for it, which `Host` in ~/.ssh/config may speak of, or else the id.
    host: String,
    /// What a session is started on; empty for a session that was started elsewhere.
    id: String,
    /// The user that an alias names.
    user: Option<String>,
    connection: ConnectionArgs,
    channel: ChannelArgs,
}

/// Runs `ssm ssh`.
pub(crate) async fn ssh(args: SshArgs, config: &Config, globals: &Globals) -> Result<ExitCode, Error> {
    let SshArgs { words, through } = args;
    let wanted = Wanted { through, config, globals };
    let line = Line::read(OpenSsh::Ssh, words);
    let mut command = Command::new(OpenSsh::Ssh.name());
    command.args(&line.options);
    // `ssh -V` and the like have no target, and what is wrong with anything else ssh says itself.
    let Some(text) = line.operands.first() else { return become_openssh(command, None).await };
    let text = text.to_str().ok_or_else(|| Error::Usage("the target is not UTF-8".into()))?;
    let text = text.strip_prefix("ssh://").map_or(text, |rest| rest.trim_end_matches('/'));
    let place = Place::parse(text, None)?;
    let machine = wanted.find(place.target).await?;
    let login_key = LoginKey::take(&wanted.through.key)?;
    wanted.lead(&mut command, Target::Written(&machine.id), &machine, login_key.as_ref())?;
    machine.name(&mut command);
    if let Some(port) = place.port {
        command.args(["-p", &port.to_string()]);
    }
    if let Some(user) = place.user.or(machine.user.as_deref()) {
        check_user(user)?;
        command.args(["-l", user]);
    }
    command.arg(&machine.host).args(&line.command);
    become_openssh(command, login_key).await
}

/// Runs `ssm scp`.
pub(crate) async fn scp(args: ScpArgs, config: &Config, globals: &Globals) -> Result<ExitCode, Error> {
    let ScpArgs { words, through } = args;
    let wanted = Wanted { through, config, globals };
    copy(OpenSsh::Scp, words, &wanted).await
}

/// Runs `ssm sftp`.
pub(crate) async fn sftp(args: SftpArgs, config: &Config, globals: &Globals) -> Result<ExitCode, Error> {
    let SftpArgs { words, through } = args;
    let wanted = Wanted { through, config, globals };
    copy(OpenSsh::Sftp, words, &wanted).await
}

async fn copy(program: OpenSsh, words: Vec<OsString>, wanted: &Wanted<'_>) -> Result<ExitCode, Error> {
    let line = Line::read(program, words);
    let mut command = Command::new(program.name());
    command.args(&line.options);
    let mut operands = Vec::new();
    for operand in &line.operands {
        operands.push((operand.as_os_str(), Far::parse(program, operand)?));
    }
    let mut machines: Vec<(&str, Machine)> = Vec::new();
    for far in operands.iter().filter_map(|(_, far)| far.as_ref()) {
        if !machines.iter().any(|(target, _)| *target == far.target) {
            machines.push((far.target, wanted.find(far.target).await?));
        }
    }
    let Some((_, first)) = machines.first() else {
        command.arg("--").args(&line.operands);
        return become_openssh(command, None).await;
    };
    let are_one = machines.iter().all(|(_, machine)| machine.id == first.id);
    let login_key = LoginKey::take(&wanted.through.key)?;
    if are_one {
        wanted.lead(&mut command, Target::Written(&first.id), first, login_key.as_ref())?;
        first.name(&mut command);
    } else {
        // One ProxyCommand for all of them: it learns from scp which one is meant.
        check_alike(&machines)?;
        wanted.lead(&mut command, Target::Host, first, login_key.as_ref())?;
    }
    command.arg("--");
    for (operand, far) in &operands {
        let Some(far) = far else {
            command.arg(operand);
            continue;
        };
        let (_, machine) = machines.iter().find(|(target, _)| *target == far.target).expect("each was found");
        let user = far.user.or(machine.user.as_deref());
        user.map(check_user).transpose()?;
        let host = if are_one { &first.host } else { &machine.id };
        command.arg(far.rewritten(user, host));
    }
    become_openssh(command, login_key).await
}

/// Whether one command line of the proxy is right for all machines.
fn check_alike(machines: &[(&str, Machine)]) -> Result<(), Error> {
    let (_, first) = &machines[0];
    for (target, machine) in machines {
        if machine.connection != first.connection || machine.channel != first.channel {
            return Err(Error::Usage(format!(
                "{target} is reached another way than {} (account, region or endpoint): copy in two steps",
                machines[0].0
            )));
        }
        if !sh::is_plain(machine.id.as_bytes()) || machine.id.contains(':') {
            return Err(Error::Usage(format!(
                "{target} can only be copied from or to alone: copy in two steps"
            )));
        }
    }
    Ok(())
}

impl Wanted<'_> {
    async fn find(&self, target: &str) -> Result<Machine, Error> {
        let (mut connection, mut channel) = (self.through.connection.clone(), self.through.channel.clone());
        let flags = Flags::from(&mut connection).channel(&mut channel);
        let alias = self.config.fill(Some(target), flags);
        let user = alias.and_then(|alias| Some(alias.user.as_ref()?.text.clone()));
        let found = alias.map_or(target, |alias| alias.target.text.as_str());
        let id = lookup::session_target(Some(found), &connection).await?;
        if self.through.key.send_key {
            instance_connect::check(&id)?;
        }
        let is_name = |text: &str| {
            text.starts_with(|first: char| first.is_ascii_alphanumeric())
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        };
        let host = [target, &id].into_iter().find(|text| is_name(text)).unwrap_or("machine").to_owned();
        let id = if connection.attach { String::new() } else { id };
        Ok(Machine { host, id, user, connection, channel })
    }

    /// Adds what leads OpenSSH through this program. Behind the options of the user: OpenSSH takes the first of several.
    fn lead(
        &self,
        command: &mut Command,
        target: Target<'_>,
        machine: &Machine,
        key: Option<&LoginKey>,
    ) -> Result<(), Error> {
        let proxy = ProxyCommand {
            program: &process::own_path().map_err(Error::local("cannot find this program"))?,
            globals: self.globals,
            connection: &machine.connection,
            channel: &machine.channel,
            key: key.map(|key| Key { public: key.public(), user: true }),
            target,
        };
        option(command, "ProxyCommand", proxy.to_text());
        if let Some(key) = key {
            command.arg("-i").arg(key.identity());
            option(command, "IdentitiesOnly", "yes");
        }
        Ok(())
    }
}

impl Machine {
    /// Tells OpenSSH who its host is. The host key is kept under the id, whatever the machine is called.
    fn name(&self, command: &mut Command) {
        if !self.id.is_empty() {
            option(command, "HostName", &self.id);
            option(command, "HostKeyAlias", &self.id);
        }
    }
}

fn option(command: &mut Command, name: &str, value: impl AsRef<OsStr>) {
    let mut option = OsString::from(name);
    option.push("=");
    option.push(value);
    command.arg("-o").arg(option);
}

/// Refuses what a shell could take for more than a name: ssh writes the user into the ProxyCommand, and before 9.6 it did so
/// whatever it was (`ssh.c`, `valid_ruser`).
fn check_user(user: &str) -> Result<(), Error> {
    let harmful = |char: char| char.is_control() || char.is_whitespace() || "'`\"\\;&<>|(){}$".contains(char);
    // A domain of Windows stands in front of a backslash.
    let plain = user.replacen('\\', "", 1);
    if user.starts_with('-') || user.ends_with('\\') || plain.contains(harmful) {
        return Err(Error::Usage("the user has a character that a name cannot have".into()));
    }
    Ok(())
}

/// Puts OpenSSH in the place of this process; only a failure comes back. With a key to remove it is a child instead.
async fn become_openssh(mut command: Command, key: Option<LoginKey>) -> Result<ExitCode, Error> {
    process::restore_limits();
    if !key.as_ref().is_some_and(LoginKey::is_made) {
        let source = command.exec();
        return Err(Error::Command { name: command.get_program().to_string_lossy().into_owned(), source });
    }
    let mut signals = Signals::take().map_err(Error::local("cannot watch for signals"))?;
    let mut children = signal(SignalKind::child()).map_err(Error::local("cannot watch for signals"))?;
    let mut running = Some(Running::spawn(command.into())?);
    let code = loop {
        tokio::select! {
            code = Running::ended(&mut running) => break code,
            signal = signals.next() => {
                if let Some(running) = &running {
                    running.signal(signal);
                }
            }
            // ssh's `~^Z` stops ssh alone.
            _ = children.recv() => {
                if let Some(running) = &running {
                    running.follow_stop();
                }
            }
        }
    };
    drop(key);
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_a_name_to_a_shell() {
        for user in ["ec2-user", "me@corp", "me.too_1", "CORP\\me", "größe"] {
            assert!(check_user(user).is_ok(), "{user}");
        }
        for user in
            ["-oProxyCommand=x", "a;b", "$(id)", "`id`", "a b", "a'b", "a\nb", "a\\", "a\\b\\c", "a|b"]
        {
            assert!(check_user(user).is_err(), "{user}");
        }
    }
}
