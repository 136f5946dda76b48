//! `ssm completions`

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::builder::PossibleValuesParser;
use clap::{Command, CommandFactory};
use clap_complete::Shell;

use crate::args::{Args, CompletionsArgs};
use crate::config::Config;
use crate::output::complain;

/// Commands with a target that may be an alias.
const WITH_TARGET: [&str; 7] = ["shell", "exec", "forward", "proxy", "resolve", "config", "doctor"];

/// Commands of OpenSSH with a target among their words.
const WITH_TARGET_IN_WORDS: [&str; 2] = ["ssh", "sftp"];

/// Commands with names of groups.
const WITH_GROUPS: [&str; 3] = ["up", "status", "down"];

/// Runs the command. A mistake in the configuration costs its names only: this is read by every new shell.
pub(crate) fn run(args: &CompletionsArgs, flag: Option<&Path>) -> ExitCode {
    let (aliases, groups) = match Config::load(flag) {
        Ok(config) => (config.file.aliases.into_keys().collect(), config.file.groups.into_keys().collect()),
        Err(error) => {
            complain(error);
            (Vec::new(), Vec::new())
        }
    };
    // A reader that has seen enough is no failure.
    let _ = io::stdout().write_all(&script(args.shell, &aliases, &groups));
    ExitCode::SUCCESS
}

/// The script, with these names in it: letters, digits and marks that mean nothing to a shell, as the configuration has it.
fn script(shell: Shell, aliases: &[String], groups: &[String]) -> Vec<u8> {
    let mut command = Args::command();
    for (subcommands, argument, names) in [
        (&WITH_TARGET[..], "target", aliases),
        (&WITH_TARGET_IN_WORDS[..], "words", aliases),
        (&WITH_GROUPS[..], "groups", groups),
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
            let script = String::from_utf8(script(*shell, &[], &[])).unwrap();
            for command in Args::command().get_subcommands().filter(|command| !command.is_hide_set()) {
                assert!(script.contains(command.get_name()), "{shell}: {}", command.get_name());
            }
        }
    }
}
