//! `ssm cp`
//!
//! The far side runs a script; data is its input or its output. What arrives is a part beside its destination until its digest is
//! that of the source, and is moved into place then. Folders travel as an archive.

mod date;
mod digest;
mod download;
mod far;
mod place;
mod progress;
mod tree;
mod upload;

use std::io::{self, Read};
use std::process::ExitCode;

use ssm_shell::Command;

use self::digest::Digest;
use self::far::Far;
use self::place::Place;
use self::upload::Source as Local;
use crate::args::CpArgs;
use crate::command::{self, exec::remote};
use crate::config::{Config, Flags};
use crate::error::Error;
use crate::lookup;
use crate::options::{self, Source};
use crate::output::print;
use crate::process::Signals;

/// Which way, with what is here.
enum Copy {
    Up(Local),
    Down(std::path::PathBuf),
}

/// Runs the command.
pub(crate) async fn run(mut args: CpArgs, config: &Config) -> Result<ExitCode, Error> {
    let (copy, target, path) = match (Place::parse(&args.source), Place::parse(&args.destination)) {
        (Place::Here(source), Place::There { target, path }) => {
            (Copy::Up(Local::find(&source)?), target, path)
        }
        (Place::There { target, path }, Place::Here(destination)) => (Copy::Down(destination), target, path),
        (Place::Here(_), Place::Here(_)) => {
            return Err(Error::Usage("neither is on a machine (TARGET:PATH); cp copies here".into()));
        }
        (Place::There { .. }, Place::There { .. }) => {
            return Err(Error::Usage("both are on machines; copy to here first".into()));
        }
    };
    if target.is_empty() && !args.connection.attach && !args.print_script {
        return Err(Error::Usage(
            "there is no target before the colon; write ./ before a path that begins with one".into(),
        ));
    }
    let flags = Flags::from(&mut args.connection).command(&mut args.channel);
    let alias = config.fill(Some(&target), flags);
    let target = alias.map_or(target, |alias| alias.target.text.clone());
    let line = match &copy {
        Copy::Up(source) => upload::script(source, &path),
        Copy::Down(_) => far::download(&path),
    };
    let command = if args.connection.attach {
        Command::attached()
    } else {
        Command::bulk(line).map_err(Error::CommandLine)?
    };
    if args.print_script {
        print(command.script())?;
        return Ok(ExitCode::SUCCESS);
    }
    // Until a session is started Ctrl-C ends the program, also while it asks somebody.
    let target = if target.is_empty() { None } else { Some(target.as_str()) };
    let target = lookup::session_target(target, &args.connection).await?;
    let mut source = Source::load(&args.connection, "ssm cp").await?;
    let mut signals = Signals::take().map_err(Error::local("cannot watch for signals"))?;
    let request = command.request(&target).reason(args.connection.reason.clone());
    let config = options::command_config(args.channel);
    let session = command::open_only(&mut source, &request, config, &mut signals).await?;
    let mut far = Far::start(session, command);
    let sender = far.signals.clone();
    let copying = async {
        let code = match copy {
            Copy::Up(source) => {
                let bar = progress::bar(&source.name.to_string_lossy(), source.size);
                let sent = upload::run(&mut far, source, &bar).await;
                bar.finish_and_clear();
                sent.map(|()| ExitCode::SUCCESS)
            }
            Copy::Down(destination) => download::run(&mut far, &path, &destination).await,
        };
        match code {
            Ok(code) => match far.finish().await {
                // A signal came when everything was in its place.
                Ok(()) | Err(Error::Interrupted(_)) => Ok(code),
                Err(error) => Err(error),
            },
            Err(error) => {
                far.stop().await;
                Err(error)
            }
        }
    };
    tokio::pin!(copying);
    loop {
        tokio::select! {
            code = &mut copying => return code,
            signal = signals.next() => {
                let _ = sender.try_send(remote(signal));
            }
        }
    }
}

/// Reads to the end and counts.
fn read_into(reader: &mut dyn Read, digest: &mut Digest) -> io::Result<u64> {
    let (mut buf, mut count) = (vec![0; 64 * 1024], 0);
    loop {
        match reader.read(&mut buf)? {
            0 => return Ok(count),
            len => {
                digest.update(&buf[..len]);
                count += len as u64;
            }
        }
    }
}
