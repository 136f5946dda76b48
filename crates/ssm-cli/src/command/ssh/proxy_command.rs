//! [`ProxyCommand`]: how OpenSSH is told to start this program.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use crate::args::{ChannelArgs, ConnectionArgs, EndpointArg, Globals};
use crate::command::sh;

/// The value of ssh's option of that name. ssh replaces what begins with a percent sign and gives the rest to the shell of the
/// user.
#[derive(Debug)]
pub(in crate::command) struct ProxyCommand<'a> {
    pub(in crate::command) program: &'a Path,
    pub(in crate::command) globals: &'a Globals,
    pub(in crate::command) connection: &'a ConnectionArgs,
    pub(in crate::command) channel: &'a ChannelArgs,
    pub(in crate::command) key: Option<Key<'a>>,
    pub(in crate::command) target: Target<'a>,
}

/// A public key to send.
#[derive(Debug, Clone, Copy)]
pub(in crate::command) struct Key<'a> {
    pub(in crate::command) public: &'a Path,
    /// Whether ssh says for whom.
    pub(in crate::command) user: bool,
}

/// Which machine it leads to.
#[derive(Debug, Clone, Copy)]
pub(in crate::command) enum Target<'a> {
    /// This one; empty for the session that was started elsewhere.
    Written(&'a str),
    /// What ssh has for its host.
    Host,
}

impl ProxyCommand<'_> {
    pub(in crate::command) fn to_text(&self) -> OsString {
        let mut words = Words(Vec::new());
        words.word(self.program);
        let Globals { verbose, quiet, config, capture } = self.globals;
        if *verbose > 0 {
            words.word(format!("-{}", "v".repeat((*verbose).into())));
        }
        if *quiet {
            words.word("-q");
        }
        words.option("--config", config.as_ref());
        words.option("--capture", capture.as_ref());
        words.word("proxy");
        self.connection(&mut words);
        words.option("--payload-size", self.channel.payload_size.map(|size| size.to_string()).as_ref());
        words.option("--pacing", self.channel.pacing.map(|pacing| pacing.to_string()).as_ref());
        words.option("--keep-alive", self.channel.keep_alive.map(|interval| interval.to_string()).as_ref());
        words.option("--reconnect", self.channel.reconnect.map(|reconnect| reconnect.to_string()).as_ref());
        let mut user = "";
        if let Some(key) = self.key {
            words.word("--send-key");
            words.option("--key", Some(key.public));
            user = if key.user { "'%r'@" } else { "" };
        }
        match self.target {
            // It has no target to be named, and the first operand would be taken for one.
            Target::Written("") => words.token("attached"),
            Target::Written(target) => words.token_and_word(user, target),
            Target::Host => words.token(&format!("{user}%h")),
        }
        words.token("%p");
        OsString::from_vec(words.0)
    }

    fn connection(&self, words: &mut Words) {
        let ConnectionArgs {
            profile,
            region,
            endpoint_url,
            ssmmessages_endpoint_url,
            endpoints,
            fips,
            dual_stack,
            proxy,
            no_proxy,
            ca_bundle,
            first,
            no_cache,
            reason,
            attach,
        } = self.connection;
        words.option("--profile", profile.as_ref());
        words.option("--region", region.as_ref());
        words.option("--endpoint-url", endpoint_url.as_ref());
        words.option("--ssmmessages-endpoint-url", ssmmessages_endpoint_url.as_ref());
        for EndpointArg { service, url } in endpoints {
            words.option("--endpoint", Some(format!("{}={url}", service.name())));
        }
        words.option("--fips", fips.map(|fips| fips.to_string()));
        words.option("--dual-stack", dual_stack.map(|dual_stack| dual_stack.to_string()));
        // It has no password in it.
        words.option("--proxy", proxy.as_ref().map(ToString::to_string));
        words.option("--no-proxy", no_proxy.as_ref());
        words.option("--ca-bundle", ca_bundle.as_ref());
        words.option("--reason", reason.as_ref());
        for (flag, given) in [("--first", first), ("--no-cache", no_cache), ("--attach", attach)] {
            if *given {
                words.word(flag);
            }
        }
    }
}

/// A command line for ssh and a shell.
struct Words(Vec<u8>);

impl Words {
    /// A word that neither ssh nor the shell makes anything of.
    fn word(&mut self, word: impl AsRef<OsStr>) {
        self.token_and_word("", word);
    }

    fn option(&mut self, name: &str, value: Option<impl AsRef<OsStr>>) {
        if let Some(value) = value {
            let mut word = OsString::from(name);
            word.push("=");
            word.push(value);
            self.word(word);
        }
    }

    /// A word that ssh replaces.
    fn token(&mut self, token: &str) {
        self.token_and_word(token, "");
    }

    fn token_and_word(&mut self, token: &str, word: impl AsRef<OsStr>) {
        if !self.0.is_empty() {
            self.0.push(b' ');
        }
        self.0.extend_from_slice(token.as_bytes());
        // Twice, it is one to ssh.
        let word: Vec<u8> = word.as_ref().as_bytes().iter().fold(Vec::new(), |mut word, &byte| {
            word.extend((byte == b'%').then_some(byte));
            word.push(byte);
            word
        });
        if sh::is_plain(&word) {
            self.0.extend_from_slice(&word);
        } else {
            self.0.extend_from_slice(&sh::quoted(&word));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn text(program: &str, connection: &ConnectionArgs, key: Option<Key<'_>>, target: Target<'_>) -> String {
        let globals = Globals { verbose: 2, quiet: false, config: Some("/c d".into()), capture: None };
        let channel = ChannelArgs {
            payload_size: Some(2048),
            pacing: Some(crate::args::PacingArg::Off),
            keep_alive: Some("2m".parse().unwrap()),
            ..ChannelArgs::default()
        };
        let program = Path::new(program);
        let command = ProxyCommand { program, globals: &globals, connection, channel: &channel, key, target };
        command.to_text().into_string().unwrap()
    }

    #[test]
    fn everything_that_was_said_is_passed_on() {
        let connection = ConnectionArgs {
            profile: Some("corp".into()),
            reason: Some("it's 100% needed".into()),
            endpoints: vec!["sts=https://sts.example".parse().unwrap()],
            fips: Some(false),
            proxy: Some("off".parse().unwrap()),
            ..ConnectionArgs::default()
        };
        let key = Key { public: Path::new("/run/k.pub"), user: true };
        assert_eq!(
            text("/usr/bin/ssm", &connection, Some(key), Target::Host),
            "/usr/bin/ssm -vv '--config=/c d' proxy --profile=corp --endpoint=sts=https://sts.example --fips=false --proxy=off '--reason=it'\\''s 100%% needed' --payload-size=2048 \
             --pacing=off --keep-alive=120s --send-key --key=/run/k.pub '%r'@%h %p"
        );
        let attach = ConnectionArgs { attach: true, ..ConnectionArgs::default() };
        let text = text("/ssm", &attach, None, Target::Written(""));
        assert!(text.contains(" --attach ") && text.ends_with(" attached %p"), "{text}");
    }

    #[test]
    fn a_shell_reads_every_word_as_it_was() {
        for odd in
            ["/a b/s'm", "/$(id)`id`", "/a\"b\\c", "/!#~*?[x]{a,b}", "/a\nb", "/größe", "-", "a;b|c&d<e>f"]
        {
            let connection = ConnectionArgs { profile: Some(odd.into()), ..ConnectionArgs::default() };
            let line = text(odd, &connection, None, Target::Written("i-01234567"));
            // As ssh does.
            let line = line.replace("%%", "\0").replace("%p", "22").replace('\0', "%");
            let shown = Command::new("sh").args(["-c", &format!("printf '%s\\0' {line}")]).output().unwrap();
            let words: Vec<&str> =
                std::str::from_utf8(&shown.stdout).unwrap().split_terminator('\0').collect();
            assert_eq!(words[0], odd);
            assert_eq!(words[4], format!("--profile={odd}"));
            assert_eq!(words[8..], ["i-01234567", "22"]);
        }
    }
}
