//! `ssm ssh`, `ssm scp`, `ssm sftp` and `ssm ssh-config`, whose words are partly ours and partly OpenSSH's.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use clap::{Args as ClapArgs, Command, CommandFactory};

use super::{Args, ChannelArgs, ConnectionArgs};

/// Log in to a machine with OpenSSH, over Session Manager
///
/// Options with one dash are ssh's own and go to it as they are, in front of the target or behind it, as does the command.
/// Options with two dashes are ours. It ends as ssh does. The host key is kept under the machine's id.
#[derive(Debug, ClapArgs)]
#[command(override_usage = "ssm ssh [OPTIONS] [SSH-OPTIONS] [USER@]TARGET[:PORT] [COMMAND]...")]
pub(crate) struct SshArgs {
    /// Options of ssh, [USER@]TARGET[:PORT], where TARGET is as for ssm shell, and the command
    #[arg(value_name = "SSH-WORDS", required = true)]
    pub(crate) words: Vec<OsString>,
    #[command(flatten)]
    pub(crate) through: ThroughArgs,
}

/// Copy files with OpenSSH, over Session Manager
///
/// As scp: [USER@]TARGET:PATH is on a machine, everything else here. Behind tag:KEY=VALUE, asg:GROUP, ecs:... and an ARN the path begins
/// behind the next colon, behind any other target behind the first one.
#[derive(Debug, ClapArgs)]
#[command(
    override_usage = "ssm scp [OPTIONS] [SCP-OPTIONS] [[USER@]TARGET:]SOURCE... [[USER@]TARGET:]DESTINATION"
)]
pub(crate) struct ScpArgs {
    /// Options of scp, sources and destination
    #[arg(value_name = "SCP-WORDS", required = true)]
    pub(crate) words: Vec<OsString>,
    #[command(flatten)]
    pub(crate) through: ThroughArgs,
}

/// Look at and copy files with OpenSSH's sftp, over Session Manager
#[derive(Debug, ClapArgs)]
#[command(override_usage = "ssm sftp [OPTIONS] [SFTP-OPTIONS] [USER@]TARGET[:PATH]")]
pub(crate) struct SftpArgs {
    /// Options of sftp and [USER@]TARGET[:PATH], read as by ssm scp
    #[arg(value_name = "SFTP-WORDS", required = true)]
    pub(crate) words: Vec<OsString>,
    #[command(flatten)]
    pub(crate) through: ThroughArgs,
}

/// The way of an OpenSSH program to its machines.
#[derive(Debug, ClapArgs)]
pub(crate) struct ThroughArgs {
    #[command(flatten)]
    pub(crate) key: KeyArgs,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
    #[command(flatten)]
    pub(crate) channel: ChannelArgs,
}

/// A key for one login.
#[derive(Debug, Clone, Default, ClapArgs)]
pub(crate) struct KeyArgs {
    /// Let a key in for a minute with EC2 Instance Connect: one made for this login, or that of --key
    #[arg(long, conflicts_with = "attach")]
    pub(crate) send_key: bool,
    /// Public key to send, in place of one made for this login
    #[arg(long, value_name = "FILE.pub", requires = "send_key")]
    pub(crate) key: Option<PathBuf>,
}

/// Write the lines of ~/.ssh/config that lead ssh through Session Manager
///
/// One for ids of machines and one for each alias of the configuration. What is given here of profile, region and the like stands in them. Without
/// --install and --remove they go to stdout.
#[derive(Debug, ClapArgs)]
pub(crate) struct SshConfigArgs {
    /// Write them into ~/.ssh/config, in front of what is there or in place of those that are there
    #[arg(long, conflicts_with = "remove")]
    pub(crate) install: bool,
    /// Take them out of ~/.ssh/config
    #[arg(long)]
    pub(crate) remove: bool,
    /// Another file than ~/.ssh/config
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) key: KeyArgs,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
    #[command(flatten)]
    pub(crate) channel: ChannelArgs,
}

/// What stands in front of the subcommand, for a process that is started to do a part of it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Globals {
    pub(crate) verbose: u8,
    pub(crate) quiet: bool,
    pub(crate) config: Option<PathBuf>,
    pub(crate) capture: Option<PathBuf>,
}

/// A program of OpenSSH that is started with words of the user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OpenSsh {
    Ssh,
    Scp,
    Sftp,
}

impl OpenSsh {
    /// The program, and our subcommand.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ssh => "ssh",
            Self::Scp => "scp",
            Self::Sftp => "sftp",
        }
    }

    fn named(name: &OsStr) -> Option<Self> {
        [Self::Ssh, Self::Scp, Self::Sftp].into_iter().find(|program| name == program.name())
    }

    /// The options that have a value: those with a colon in the getopt string of OpenSSH 10 (`ssh.c`, `scp.c`, `sftp.c`). What
    /// became of a letter in other versions is the same, or nothing.
    fn valued(self) -> &'static [u8] {
        match self {
            Self::Ssh => b"bceilmopBDEFIJLOPQRSwW",
            Self::Scp => b"DFJMPSciloX",
            Self::Sftp => b"cDFilosSbBJPRX",
        }
    }
}

/// What a word is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An option with two dashes, or its value.
    Ours,
    /// An option of the program, or its value.
    Option,
    /// A target or a file.
    Operand,
    /// From here on it is what ssh runs over there.
    Command,
}

/// Tells the words of a program apart, as it does itself: ssh takes options on both sides of its target, and the others in front
/// of the first file only. Ours may stand wherever the program would take an option, and among files. `--` ends options, and is
/// kept where it begins a command.
pub(crate) fn kinds(
    program: OpenSsh,
    words: &[OsString],
    takes_value: impl Fn(&str) -> bool,
) -> Vec<(Kind, &OsString)> {
    let mut kinds = Vec::new();
    let mut rest = words.iter();
    let (mut operands, mut ended) = (0, false);
    while let Some(word) = rest.next() {
        let bytes = word.as_bytes();
        let is_command = program == OpenSsh::Ssh && operands > 0;
        if bytes == b"--" && !ended {
            if is_command {
                kinds.push((Kind::Command, word));
                kinds.extend(rest.map(|word| (Kind::Command, word)));
                return kinds;
            }
            ended = true;
        } else if bytes.starts_with(b"--") && bytes.len() > 2 && !ended {
            kinds.push((Kind::Ours, word));
            if word.to_str().is_some_and(&takes_value) {
                kinds.extend(rest.next().map(|value| (Kind::Ours, value)));
            }
        } else if bytes.starts_with(b"-")
            && bytes.len() > 1
            && !ended
            && (program == OpenSsh::Ssh || operands == 0)
        {
            kinds.push((Kind::Option, word));
            let valued = bytes[1..].iter().position(|letter| program.valued().contains(letter));
            if valued == Some(bytes.len() - 2) {
                kinds.extend(rest.next().map(|value| (Kind::Option, value)));
            }
        } else if is_command {
            kinds.push((Kind::Command, word));
            kinds.extend(rest.map(|word| (Kind::Command, word)));
            return kinds;
        } else {
            kinds.push((Kind::Operand, word));
            operands += 1;
            // Behind its target ssh looks for options once more.
            ended = ended && program != OpenSsh::Ssh;
        }
    }
    kinds
}

/// The command line as clap can read it: behind the name of an OpenSSH program our own words come first, then `--` and the rest.
/// Any other command line stays as it is.
pub(crate) fn sorted(words: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut words: Vec<OsString> = words.into_iter().collect();
    // Without building a description of everything for each run of every other command.
    if !words.iter().any(|word| OpenSsh::named(word).is_some()) {
        return words;
    }
    let command = Args::command();
    let Some((at, program)) = subcommand(&command, &words) else { return words };
    let ours = command.find_subcommand(program.name()).expect("every program has a subcommand");
    let takes_value = |word: &str| takes_value(&command, word) || takes_value(ours, word);
    let tail = words.split_off(at + 1);
    if tail.first().is_some_and(|first| first == "-h") {
        words.extend(tail);
        return words;
    }
    let kinds = kinds(program, &tail, takes_value);
    words.extend(kinds.iter().filter(|(kind, _)| *kind == Kind::Ours).map(|(_, word)| (*word).clone()));
    words.push("--".into());
    let mut ended = false;
    for (kind, word) in kinds.into_iter().filter(|(kind, _)| *kind != Kind::Ours) {
        // What begins with a dash and is a file was behind `--`.
        if kind == Kind::Operand && word.as_bytes().starts_with(b"-") && word.len() > 1 && !ended {
            words.push("--".into());
            ended = true;
        }
        words.push(word.clone());
    }
    words
}

/// Where the subcommand stands, if it is a program of OpenSSH.
fn subcommand(command: &Command, words: &[OsString]) -> Option<(usize, OpenSsh)> {
    let mut at = 1;
    while words.get(at)?.as_bytes().starts_with(b"-") {
        at += if words[at].to_str().is_some_and(|word| takes_value(command, word)) { 2 } else { 1 };
    }
    Some((at, OpenSsh::named(&words[at])?))
}

/// Whether `--option` has its value in the next word.
fn takes_value(command: &Command, word: &str) -> bool {
    let name = word.strip_prefix("--").unwrap_or(word);
    command.get_arguments().any(|argument| {
        argument.get_long() == Some(name)
            && argument.get_action().takes_values()
            && !argument.is_require_equals_set()
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::Command as Subcommand;

    fn sort(line: &str) -> String {
        let words = sorted(line.split(' ').map(OsString::from));
        words.iter().map(|word| word.to_str().unwrap()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn our_options_are_found_on_both_sides_of_the_target() {
        for (line, ordered) in [
            ("ssm ssh web", "ssm ssh -- web"),
            ("ssm ssh --profile corp -p 2222 web uptime", "ssm ssh --profile corp -- -p 2222 web uptime"),
            ("ssm ssh -vA web --region=eu-west-1 ls --all", "ssm ssh --region=eu-west-1 -- -vA web ls --all"),
            ("ssm -q --config f ssh -v me@web", "ssm -q --config f ssh -- -v me@web"),
            ("ssm --capture ssh shell ssh", "ssm --capture ssh shell ssh"),
            ("ssm ssh --capture f web", "ssm ssh --capture f -- web"),
            ("ssm ssh web -N -L 80:db:80 --send-key", "ssm ssh --send-key -- web -N -L 80:db:80"),
            ("ssm ssh web -- --profile x", "ssm ssh -- web -- --profile x"),
            ("ssm ssh -- web -v --first ls -l", "ssm ssh --first -- web -v ls -l"),
            ("ssm ssh -oUser=x -tl me web", "ssm ssh -- -oUser=x -tl me web"),
            ("ssm ssh --attach web", "ssm ssh --attach -- web"),
            ("ssm ssh -V", "ssm ssh -- -V"),
            ("ssm ssh -h", "ssm ssh -h"),
            ("ssm scp -P 22 a web:b --profile x", "ssm scp --profile x -- -P 22 a web:b"),
            ("ssm scp -r -- -a --b web:", "ssm scp -- -r -- -a --b web:"),
            ("ssm sftp -b - web", "ssm sftp -- -b - web"),
            ("ssm shell web --profile x", "ssm shell web --profile x"),
            ("ssm proxy -- ssh", "ssm proxy -- ssh"),
            ("ssm", "ssm"),
        ] {
            assert_eq!(sort(line), ordered, "{line}");
        }
    }

    #[test]
    fn what_is_sorted_is_read() {
        let read = |line: &str| Args::try_parse_from(sorted(line.split(' ').map(OsString::from)));
        let Ok(Args { command: Subcommand::Ssh(args), verbose: 0, .. }) =
            read("ssm ssh -v --profile corp me@web --send-key ls -l --color")
        else {
            panic!("not read as ssh");
        };
        assert_eq!(args.words, ["-v", "me@web", "ls", "-l", "--color"]);
        assert_eq!(args.through.connection.profile.as_deref(), Some("corp"));
        assert!(args.through.key.send_key);
        let Ok(Args { command: Subcommand::Scp(args), .. }) = read("ssm scp -- -a web:") else {
            panic!("not read as scp");
        };
        assert_eq!(args.words, ["--", "-a", "web:"]);
        for wrong in
            ["ssm ssh", "ssm ssh --no-such web", "ssm ssh --key k web", "ssm ssh --send-key --attach web"]
        {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
