//! `ssm ssh-config`

mod block;
mod file;

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use directories::BaseDirs;

use self::file::Edited;
use crate::args::{Globals, SshConfigArgs};
use crate::command::instance_connect::{PublicKey, identity, public_path};
use crate::command::ssh::{Key, ProxyCommand, Target};
use crate::config::{Alias, Config};
use crate::error::Error;
use crate::output::{complain, print, say};
use crate::process;

/// Runs the command.
pub(crate) fn run(args: &SshConfigArgs, config: &Config, globals: &Globals) -> Result<ExitCode, Error> {
    if args.remove {
        let path = path(args)?;
        match file::edit(&path, block::without)? {
            Edited::Changed => say(format_args!("taken out of {}", path.display())),
            Edited::Unchanged => say(format_args!("{} has nothing of ssm", path.display())),
        }
        return Ok(ExitCode::SUCCESS);
    }
    let text = text(args, config, globals)?;
    if !args.install {
        print(&text)?;
        return Ok(ExitCode::SUCCESS);
    }
    let path = path(args)?;
    match file::edit(&path, |old| block::with(old, &text))? {
        Edited::Changed => {
            say(format_args!("written into {}; ssm ssh-config --remove takes it out", path.display()))
        }
        Edited::Unchanged => say(format_args!("{} is as it should be", path.display())),
    }
    Ok(ExitCode::SUCCESS)
}

fn path(args: &SshConfigArgs) -> Result<PathBuf, Error> {
    match &args.file {
        Some(file) => Ok(file.clone()),
        None => match BaseDirs::new() {
            Some(base) => Ok(base.home_dir().join(".ssh/config")),
            None => Err(Error::Usage("there is no home folder: name a file with --file".into())),
        },
    }
}

/// The block, with its marks.
fn text(args: &SshConfigArgs, config: &Config, globals: &Globals) -> Result<Vec<u8>, Error> {
    let program = process::own_path().map_err(Error::local("cannot find this program"))?;
    let key = key(args)?;
    let absolute = |path: &PathBuf| std::path::absolute(path);
    let globals = Globals {
        config: globals.config.as_ref().map(absolute).transpose().map_err(local)?,
        // Each login would find the file of the first one.
        capture: None,
        ..globals.clone()
    };
    let mut connection = args.connection.clone();
    connection.ca_bundle = connection.ca_bundle.as_ref().map(absolute).transpose().map_err(local)?;
    let mut lines = Lines {
        text: Vec::new(),
        proxy: ProxyCommand {
            program: &program,
            globals: &globals,
            connection: &connection,
            channel: &args.channel,
            key: None,
            target: Target::Host,
        },
        key: key.as_deref(),
    };
    lines.line(block::BEGIN_LINE);
    // No id has a dot, and hosts of other networks may begin as ids do.
    match lines.key {
        // EC2 Instance Connect is for i-... only.
        Some(_) => {
            lines.host("i-* !*.*", None, Target::Host, SendKey::Yes)?;
            lines.host("mi-* !*.*", None, Target::Host, SendKey::No)?;
        }
        None => lines.host("i-* mi-* !*.*", None, Target::Host, SendKey::No)?,
    }
    for (name, alias) in &config.file.aliases {
        let send_key = if alias.target.text.starts_with("mi-") { SendKey::No } else { SendKey::Yes };
        lines.host(name, Some(alias), Target::Written(name), send_key)?;
    }
    // What stands below, in front of its first Host, goes on being for all.
    lines.line("Host *");
    lines.line(block::END_LINE);
    Ok(lines.text)
}

fn local(source: io::Error) -> Error {
    Error::Local { what: "cannot tell where a file is", source }
}

/// The key that every login sends: ssh has to have it when it starts, so it is one that stays.
fn key(args: &SshConfigArgs) -> Result<Option<PathBuf>, Error> {
    match (&args.key.key, args.key.send_key) {
        (_, false) => Ok(None),
        (None, true) => Err(Error::Usage(
            "--send-key needs a key that stays: give its public one with --key FILE.pub".into(),
        )),
        (Some(file), true) => {
            PublicKey::read(file)?;
            std::path::absolute(public_path(file)).map(Some).map_err(local)
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SendKey {
    Yes,
    No,
}

struct Lines<'a> {
    text: Vec<u8>,
    proxy: ProxyCommand<'a>,
    key: Option<&'a Path>,
}

impl<'a> Lines<'a> {
    fn line(&mut self, line: impl AsRef<[u8]>) {
        self.text.extend_from_slice(line.as_ref());
        self.text.push(b'\n');
    }

    fn host(
        &mut self,
        pattern: &str,
        alias: Option<&Alias>,
        target: Target<'a>,
        send_key: SendKey,
    ) -> Result<(), Error> {
        self.line(format!("Host {pattern}"));
        if let Some(user) = alias.and_then(|alias| alias.user.as_ref()) {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._@+-".contains(&byte);
            match user.text.bytes().all(plain) {
                true => self.line(format!("    User {}", user.text)),
                false => complain(format_args!(
                    "{pattern}: the user is left out, which ssh would read as another one"
                )),
            }
        }
        // A machine that a name stands for may be replaced by another one; an id has one key.
        if let Some(id) = alias.map(|alias| &alias.target.text).filter(|target| is_id(target)) {
            self.line(format!("    HostKeyAlias {id}"));
        }
        let key = self.key.filter(|_| send_key == SendKey::Yes);
        if let Some(public) = key {
            let mut line = b"    IdentityFile ".to_vec();
            line.extend_from_slice(&quoted(&identity(public))?);
            self.line(line);
            self.line("    IdentitiesOnly yes");
        }
        let proxy = ProxyCommand { key: key.map(|public| Key { public, user: true }), target, ..self.proxy };
        let command = proxy.to_text();
        if command.as_bytes().iter().any(|byte| byte.is_ascii_control()) {
            return Err(Error::Usage(
                "a path or a value has a character that cannot stand in a configuration".into(),
            ));
        }
        self.line([b"    ProxyCommand ", command.as_bytes()].concat());
        Ok(())
    }
}

fn is_id(target: &str) -> bool {
    target.parse::<ssm_resolve::InstanceId>().is_ok()
}

/// A path as ssh reads one in its configuration.
fn quoted(path: &Path) -> Result<Vec<u8>, Error> {
    let bytes = path.as_os_str().as_bytes();
    if bytes.iter().any(|byte| byte.is_ascii_control() || b"\"\\".contains(byte)) {
        return Err(Error::Usage(format!(
            "the path {} has a character that cannot stand in a configuration",
            path.display()
        )));
    }
    let mut quoted = vec![b'"'];
    for byte in bytes {
        quoted.push(*byte);
        if *byte == b'%' {
            quoted.push(b'%');
        }
    }
    quoted.push(b'"');
    Ok(quoted)
}
