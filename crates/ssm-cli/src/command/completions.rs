//! `ssm completions`

use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;

use clap::builder::PossibleValuesParser;
use clap::{Command, CommandFactory};
use clap_complete::Shell;

use crate::args::{Args, CompletionsArgs};
use crate::config::Config;
use crate::error::Error;
use crate::output::{complain, print};

/// Commands with a target: an alias, or a machine that was found or listed before.
const WITH_TARGET: [&str; 6] = ["shell", "exec", "forward", "proxy", "resolve", "doctor"];

/// Commands of OpenSSH with a target among their words.
const WITH_TARGET_IN_WORDS: [&str; 2] = ["ssh", "sftp"];

/// Commands with a target that is an alias, if it is to be of use.
const WITH_ALIAS: [&str; 1] = ["config"];

/// Commands with names of groups.
const WITH_GROUPS: [&str; 3] = ["up", "status", "down"];

/// Commands with a database.
const WITH_DATABASE: [&str; 1] = ["db"];

/// Runs the command. A mistake in the configuration costs its names only: this is read by every new shell.
pub(crate) fn run(args: &CompletionsArgs, flag: Option<&Path>) -> Result<ExitCode, Error> {
    let names = match Config::load(flag) {
        Ok(config) => Names {
            machines: machines(&config),
            databases: databases(&config),
            aliases: config.file.aliases.into_keys().collect(),
            groups: config.file.groups.into_keys().collect(),
        },
        Err(error) => {
            complain(error);
            Names::default()
        }
    };
    print(script(args.shell, &names))?;
    Ok(ExitCode::SUCCESS)
}

/// What a script has besides commands and flags.
#[derive(Debug, Default)]
struct Names {
    aliases: Vec<String>,
    machines: Vec<String>,
    databases: Vec<String>,
    groups: Vec<String>,
}

/// The account that commands without flags use.
#[cfg(feature = "lookup")]
fn connection(config: &Config) -> crate::args::ConnectionArgs {
    let mut connection = crate::args::ConnectionArgs::default();
    config.fill(None, &mut connection);
    connection
}

#[cfg(feature = "lookup")]
fn machines(config: &Config) -> Vec<String> {
    crate::cache::names(&connection(config))
}

/// Those of the configuration, and those that were found or listed.
#[cfg(feature = "db")]
fn databases(config: &Config) -> Vec<String> {
    let known = crate::cache::databases(&connection(config)).into_iter();
    known.chain(config.file.databases.keys().cloned()).collect::<BTreeSet<_>>().into_iter().collect()
}

#[cfg(not(feature = "db"))]
fn databases(_: &Config) -> Vec<String> {
    Vec::new()
}

#[cfg(not(feature = "lookup"))]
fn machines(_: &Config) -> Vec<String> {
    Vec::new()
}

/// The script, with these names in it: letters, digits and marks that mean nothing to a shell, as the configuration and the cache have it.
fn script(shell: Shell, names: &Names) -> Vec<u8> {
    let mut command = Args::command();
    let targets: BTreeSet<String> = names.aliases.iter().chain(&names.machines).cloned().collect();
    let targets: Vec<String> = targets.into_iter().collect();
    for (subcommands, argument, names) in [
        (&WITH_TARGET[..], "target", &targets),
        (&WITH_TARGET_IN_WORDS[..], "words", &targets),
        (&WITH_ALIAS[..], "target", &names.aliases),
        (&WITH_GROUPS[..], "groups", &names.groups),
        (&WITH_DATABASE[..], "database", &names.databases),
    ] {
        for subcommand in subcommands {
            if !names.is_empty() {
                command = command.mut_subcommand(subcommand, |command| named(command, argument, names));
            }
        }
    }
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "ssm", &mut script);
    script
}

fn named(command: Command, argument: &'static str, names: &[String]) -> Command {
    command.mut_arg(argument, |argument| argument.value_parser(PossibleValuesParser::new(names)))
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn every_shell_has_a_script_with_every_command() {
        for shell in Shell::value_variants() {
            let script = String::from_utf8(script(*shell, &Names::default())).unwrap();
            for command in Args::command().get_subcommands().filter(|command| !command.is_hide_set()) {
                assert!(script.contains(command.get_name()), "{shell}: {}", command.get_name());
            }
        }
    }
}
