//! The `ssm` command: shells, tunnels and ssh to private machines through AWS Session Manager.

mod args;
#[cfg(feature = "aws")]
mod ask;
mod background;
#[cfg(feature = "lookup")]
mod cache;
mod capture;
#[cfg(feature = "db")]
mod clipboard;
mod command;
mod config;
mod control;
mod error;
mod log;
mod lookup;
mod menu;
#[cfg(feature = "metrics")]
mod metrics;
mod network;
mod notify;
mod options;
mod output;
#[cfg(feature = "aws")]
#[cfg_attr(not(feature = "lookup"), expect(dead_code, reason = "what is chosen from was looked up"))]
mod picker;
mod places;
mod port_owner;
mod private_file;
mod process;
#[cfg(feature = "db")]
mod profiles;
#[cfg(feature = "aws")]
mod progress;
mod reconnect;
mod registry;
#[cfg(feature = "aws")]
mod remembered;
#[cfg(feature = "aws")]
mod sign_on;
mod stdio;
mod table;
mod version;

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use tokio::runtime;

use crate::args::{Args, Command, Globals};
use crate::command::plugin;
use crate::config::Config;
use crate::error::Error;
use crate::output::{Lines, visible};

/// What `-v` is for the plugin: 1 or 2.
const VERBOSE_VARIABLE: &str = "SSM_PLUGIN_VERBOSE";

/// What `--capture` is for the plugin.
const CAPTURE_VARIABLE: &str = "SSM_PLUGIN_CAPTURE";

fn main() -> ExitCode {
    process::prepare();
    ssm_shell::install_panic_hook();
    let mut words = env::args_os();
    let name = words.next().unwrap_or_default();
    let result = if is_plugin(&name) {
        run_plugin(words.collect())
    } else {
        parsed(args::sorted(env::args_os())).and_then(run)
    };
    result.unwrap_or_else(|error| {
        error.complain();
        error.exit_code()
    })
}

/// What the user typed, or a script for him: what is wrong is repeated, and does nothing to a terminal.
fn parsed(words: Vec<OsString>) -> Result<Args, Error> {
    Args::try_parse_from(&words).or_else(|error| {
        let shown = words.iter().map(|word| visible(&word.to_string_lossy(), Lines::Joined).to_string());
        let error = Args::try_parse_from(shown).err().unwrap_or(error);
        let written = error.print();
        if !error.use_stderr() {
            output::printed(written)?;
        }
        std::process::exit(error.exit_code())
    })
}

/// Whether the program was started as the AWS CLI's plugin, whatever the folder.
fn is_plugin(name: &OsStr) -> bool {
    Path::new(name).file_stem() == Some(OsStr::new("session-manager-plugin"))
}

/// As the plugin there is no `-v`: the AWS CLI writes the arguments.
fn run_plugin(words: Vec<OsString>) -> Result<ExitCode, Error> {
    let verbose = env::var(VERBOSE_VARIABLE).ok().and_then(|count| count.parse().ok());
    log::start(verbose.unwrap_or(0));
    if let Some(path) = env::var_os(CAPTURE_VARIABLE) {
        capture::start(path.into())?;
    }
    block_on(plugin::run(words))
}

fn run(args: Args) -> Result<ExitCode, Error> {
    if args.quiet {
        output::be_quiet();
    }
    log::start(args.verbose);
    let globals = Globals {
        verbose: args.verbose,
        quiet: args.quiet,
        config: args.config.clone(),
        capture: args.capture.clone(),
    };
    if let Some(path) = args.capture {
        capture::start(path)?;
    }
    let config_flag = args.config;
    // For those commands that have a use for it: a mistake in it is no reason not to stop a tunnel.
    let config = || Config::load(config_flag.as_deref());
    block_on(async {
        match args.command {
            Command::Shell(args) => command::shell::run(args, &config()?).await,
            Command::Exec(args) => command::exec::run(args, &config()?).await,
            Command::Cp(args) => command::cp::run(args, &config()?).await,
            Command::Forward(args) => command::forward::run(args, &config()?).await,
            #[cfg(feature = "db")]
            Command::Db(args) => command::db::run(*args, &config()?).await,
            Command::Tunnels(args) => command::tunnels::run(&args).await,
            Command::Up(args) => command::up::run(&args, &config()?).await,
            Command::Status(args) => command::status::run(&args, &config()?).await,
            Command::Down(args) => command::down::run(&args).await,
            #[cfg(feature = "lookup")]
            Command::Ecs(args) => command::ecs::run(args, &config()?).await,
            Command::Config(args) => command::config::run(&args, config_flag.as_deref()),
            Command::Proxy(args) => command::proxy::run(args, &config()?).await,
            Command::Ssh(args) => command::ssh::ssh(args, &config()?, &globals).await,
            Command::Scp(args) => command::ssh::scp(args, &config()?, &globals).await,
            Command::Sftp(args) => command::ssh::sftp(args, &config()?, &globals).await,
            Command::SshConfig(args) => command::ssh_config::run(&args, &config()?, &globals),
            Command::Resolve(args) => command::resolve::run(args, &config()?).await,
            Command::Decode(args) => command::decode::run(&args),
            #[cfg(feature = "aws")]
            Command::Login(args) => command::login::run(args, &config()?).await,
            #[cfg(feature = "aws")]
            Command::Logout(args) => command::login::forget(&args, &config()?).await,
            Command::Plugin(args) => plugin::command(args).await,
            Command::Doctor(args) => command::doctor::run(args, config_flag.as_deref()).await,
            Command::List(args) => command::list::run(args, &config()?).await,
            Command::Sessions(args) => command::sessions::run(args, &config()?).await,
            Command::Completions(args) => command::completions::run(&args, config_flag.as_deref()),
            Command::Man(args) => command::man::run(&args),
            Command::Loopback(args) => command::loopback::run(&args).await,
            Command::Demo(args) => command::demo::run(&args).await,
        }
    })
}

/// Runs a command on this thread: a session is one task, and a byte that changes threads is late.
fn block_on(command: impl Future<Output = Result<ExitCode, Error>>) -> Result<ExitCode, Error> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(Error::local("cannot start"))?;
    let result = runtime.block_on(command);
    #[cfg(feature = "aws")]
    remembered::settle();
    // A name that is still being looked up must not keep the user waiting.
    runtime.shutdown_background();
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_decides_who_we_are() {
        for name in [
            "session-manager-plugin",
            "/usr/local/bin/session-manager-plugin",
            "./session-manager-plugin.exe",
        ] {
            assert!(is_plugin(OsStr::new(name)), "{name}");
        }
        for name in ["ssm", "", "/opt/session-manager-plugin/ssm"] {
            assert!(!is_plugin(OsStr::new(name)), "{name}");
        }
    }
}
