//! `ssm proxy`

use std::net::Ipv6Addr;
use std::process::ExitCode;

use ssm_portfwd::Notice;
use ssm_session::{CloseReason, StartSession};

use crate::args::{KeyArgs, ProxyArgs};
use crate::command;
use crate::command::instance_connect::{self, PublicKey};
use crate::config::{Config, Flags};
use crate::error::Error;
use crate::lookup;
use crate::options::{self, Source};
use crate::output::complain;
use crate::process::Signals;
use crate::stdio::{Input, Output};

/// Where `sshd` listens.
const SSH_PORT: u16 = 22;

/// Runs the command.
pub(crate) async fn run(mut args: ProxyArgs, config: &Config) -> Result<ExitCode, Error> {
    let place = match &args.target {
        Some(text) => Place::parse(text, args.port)?,
        None => Place { user: None, target: "", port: args.port },
    };
    let port = place.port.unwrap_or(SSH_PORT);
    let named = args.target.as_ref().map(|_| place.target);
    let flags = Flags::from(&mut args.connection).channel(&mut args.channel);
    let alias = config.fill(named, flags);
    let key = key(&args.key, place.user.or_else(|| Some(alias?.user.as_ref()?.text.as_str())))?;
    let found = alias.map(|alias| alias.target.text.as_str()).or(named);
    let target = lookup::session_target(found, &args.connection).await?;
    let mut source = Source::load(&args.connection, "ssm proxy").await?;
    let mut signals = Signals::take().map_err(Error::local("cannot watch for signals"))?;
    let input = Input::stdin().map_err(Error::local("cannot use stdin"))?;
    let output = Output::stdout().map_err(Error::local("cannot use stdout"))?;
    if let Some((user, key)) = key {
        tokio::select! {
            sent = instance_connect::send(&args.connection, &target, user, &key) => sent?,
            signal = signals.next() => return Err(Error::Left(signal)),
        }
    }
    let request = StartSession::ssh(target, port).reason(args.connection.reason.clone());
    let config = options::port_config(&args.channel);
    let session = command::open(&mut source, &request, config, &mut signals).await?;
    let mut left = None;
    let shutdown = async { left = Some(signals.next().await) };
    let reason = ssm_portfwd::stream(
        session,
        ssm_portfwd::Config::default(),
        input,
        output,
        |notice| tell(&notice, port),
        shutdown,
    )
    .await;
    match (left, reason) {
        (Some(signal), _) => Ok(ExitCode::from(signal.exit_code())),
        (None, CloseReason::Terminated | CloseReason::AgentClosed { detail: None, .. }) => {
            Ok(ExitCode::SUCCESS)
        }
        (None, reason) => Err(Error::Ended(reason)),
    }
}

/// The key to send, and for whom. ssh has the private one, so it cannot be made here.
fn key<'a>(args: &KeyArgs, user: Option<&'a str>) -> Result<Option<(&'a str, PublicKey)>, Error> {
    const FORM: &str = "as in `ProxyCommand ssm proxy --send-key --key FILE.pub %r@%h %p`";
    match (args.send_key, user, &args.key) {
        (false, ..) => Ok(None),
        (true, Some(user), Some(file)) => Ok(Some((user, PublicKey::read(file)?))),
        (true, None, _) => Err(Error::Usage(format!("--send-key needs to know whom to let in: {FORM}"))),
        (true, _, None) => {
            Err(Error::Usage(format!("--send-key needs the public key that ssh will log in with: {FORM}")))
        }
    }
}

/// What ssh would show between its own messages is left to `-v`.
fn tell(notice: &Notice, port: u16) {
    match notice {
        Notice::Refused { .. } => complain(format_args!("the target could not connect to its port {port}")),
        other => command::explain(other),
    }
}

/// What `%h`, `%h %p` or `%h:%p` say, with `%r@` in front or without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place<'a> {
    pub(super) user: Option<&'a str>,
    pub(super) target: &'a str,
    pub(super) port: Option<u16>,
}

impl<'a> Place<'a> {
    /// A port is what is behind the last colon if it is a number: the name of a container has a colon too. An IPv6 address in front
    /// of a port stands in brackets.
    pub(super) fn parse(text: &'a str, port: Option<u16>) -> Result<Self, Error> {
        let (user, text) = match text.rsplit_once('@') {
            Some((user, host)) => (Some(user).filter(|user| !user.is_empty()), host),
            None => (None, text),
        };
        let is_address = text.parse::<Ipv6Addr>().is_ok();
        let inner = text.rsplit_once(':').filter(|_| !is_address);
        let inner = inner.and_then(|(target, port)| Some((target, port.parse().ok()?)));
        match (inner, port) {
            (Some(_), Some(_)) => Err(Error::Usage("give the port once: TARGET:PORT or TARGET PORT".into())),
            (Some((_, 0)), None) | (None, Some(0)) => Err(Error::Usage("port 0 leads nowhere".into())),
            (Some((target, port)), None) => Ok(Self { user, target, port: Some(port) }),
            (None, port) => Ok(Self { user, target: text, port }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str, port: Option<u16>) -> Option<(&str, u16)> {
        Place::parse(text, port).ok().map(|place| (place.target, place.port.unwrap_or(SSH_PORT)))
    }

    #[test]
    fn every_form_of_ssh_config_is_read() {
        assert_eq!(place("i-0123456789abcdef0", None), Some(("i-0123456789abcdef0", 22)));
        assert_eq!(place("i-0123456789abcdef0", Some(2222)), Some(("i-0123456789abcdef0", 2222)));
        assert_eq!(place("i-0123456789abcdef0:2222", None), Some(("i-0123456789abcdef0", 2222)));
        assert_eq!(place("me@corp@i-0123456789abcdef0:22", None), Some(("i-0123456789abcdef0", 22)));
        assert_eq!(place("ecs:c_1_1-2", None), Some(("ecs:c_1_1-2", 22)));
        assert_eq!(place("ecs:c_1_1-2:2222", None), Some(("ecs:c_1_1-2", 2222)));
        assert_eq!(place("tag:Name=web:2222", None), Some(("tag:Name=web", 2222)));
        assert_eq!(place("2001:db8::1", None), Some(("2001:db8::1", 22)));
        assert_eq!(place("[2001:db8::1]:2222", None), Some(("[2001:db8::1]", 2222)));
    }

    #[test]
    fn the_user_is_what_is_in_front_of_the_last_at_sign() {
        let user = |text| Place::parse(text, None).unwrap().user;
        assert_eq!(user("ec2-user@tag:Name=web:22"), Some("ec2-user"));
        assert_eq!(user("me@corp@i-0123456789abcdef0"), Some("me@corp"));
        assert_eq!(user("i-0123456789abcdef0"), None);
        assert_eq!(user("@i-0123456789abcdef0"), None);
    }

    #[test]
    fn a_key_is_sent_for_somebody() {
        let args = KeyArgs { send_key: true, key: None };
        assert!(key(&args, None).unwrap_err().to_string().contains("whom"));
        assert!(key(&args, Some("me")).unwrap_err().to_string().contains("--key FILE.pub"));
        assert_eq!(key(&KeyArgs::default(), None).unwrap(), None);
    }

    #[test]
    fn two_ports_or_port_zero_are_refused() {
        assert_eq!(place("i-0123456789abcdef0:22", Some(22)), None);
        assert_eq!(place("i-0123456789abcdef0:0", None), None);
        assert_eq!(place("i-0123456789abcdef0", Some(0)), None);
    }
}
