//! `ssm shell`

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use clap::Args as ClapArgs;

use super::{ConnectionArgs, LimitArg, Parameter, ReconnectArg};

/// Open a terminal on a machine
///
/// Works with pipes as well: what stdin holds is typed, what the machine prints goes to stdout. On a terminal, ~? at the start of a
/// line tells what can be asked of ssm itself; ~. ends the session.
#[derive(Debug, ClapArgs)]
pub(crate) struct ShellArgs {
    /// Instance id (i-..., mi-...), tag:KEY=VALUE, asg:GROUP, address, name, container (ecs:CLUSTER/SERVICE-OR-TASK[/CONTAINER]), or alias
    ///
    /// Without one, on a terminal, there is a list to choose from.
    pub(crate) target: Option<String>,
    /// Run this in the terminal in place of a shell, as AWS-StartInteractiveCommand
    #[arg(long = "command", value_name = "COMMAND", conflicts_with_all = ["attach", "document"])]
    pub(crate) remote_command: Option<String>,
    /// Session document, in place of the account's default shell
    #[arg(long, value_name = "NAME", conflicts_with = "attach")]
    pub(crate) document: Option<String>,
    /// Parameter of the document
    #[arg(long = "parameter", value_name = "KEY=VALUE", requires = "document")]
    pub(crate) parameters: Vec<Parameter>,
    /// Type what this file holds before anything else; each of its lines ends with Enter
    #[arg(long, value_name = "FILE")]
    pub(crate) init: Option<PathBuf>,
    /// Character that begins an escape at the start of a line, as in ssh: one character, ^ and a letter, or none
    #[arg(short = 'e', long = "escape", value_name = "CHAR|none", default_value = "~")]
    pub(crate) escape: EscapeArg,
    /// Record what the session shows to this new file, as asciicast v2: asciinema plays it
    #[arg(long, value_name = "FILE")]
    pub(crate) record: Option<PathBuf>,
    /// Say so when nothing was typed or shown for this long, or off; the service ends a session after 20 minutes of it
    #[arg(long, value_name = "TIME|off", default_value = "15m")]
    pub(crate) idle_notice: LimitArg,
    /// Open the session only when it is encrypted with a KMS key, beyond TLS
    #[arg(long)]
    pub(crate) require_encryption: bool,
    /// How often a lost connection is tried to be brought back before this ends: a number, always or never [default: always on a terminal, otherwise for 10 minutes]
    #[arg(long, value_name = "N|always|never")]
    pub(crate) reconnect: Option<ReconnectArg>,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}

/// What begins an escape: one ASCII character, or nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EscapeArg(pub(crate) Option<u8>);

impl FromStr for EscapeArg {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match *text.as_bytes() {
            _ if text == "none" => Ok(Self(None)),
            [character @ b' '..=b'~'] => Ok(Self(Some(character))),
            [b'^', letter @ b'@'..=b'z'] => Ok(Self(Some(letter & 0x1f))),
            _ => Err("an escape is one ASCII character, ^ and a letter, or none"),
        }
    }
}

impl fmt::Display for EscapeArg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.write_str("none"),
            Some(control @ 0..0x20) => write!(f, "^{}", char::from(control + b'@')),
            Some(character) => write!(f, "{}", char::from(character)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_escape_is_written_as_for_ssh() {
        for (text, escape) in
            [("~", Some(b'~')), ("%", Some(b'%')), ("^", Some(b'^')), ("^B", Some(2)), ("none", None)]
        {
            let parsed: EscapeArg = text.parse().unwrap();
            assert_eq!((parsed.0, parsed.to_string().as_str()), (escape, text));
        }
        assert_eq!("^b".parse::<EscapeArg>(), "^B".parse());
        for wrong in ["", "ab", "ä", "^1", "\n"] {
            assert!(wrong.parse::<EscapeArg>().is_err(), "{wrong:?}");
        }
    }
}
