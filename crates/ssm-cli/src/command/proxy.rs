//! `ssm proxy`

use std::net::Ipv6Addr;
use std::process::ExitCode;

use ssm_portfwd::Notice;
use ssm_session::{CloseReason, StartSession};

use crate::args::ProxyArgs;
use crate::command::{self, Opened};
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
        None => Place { target: "", port: args.port.unwrap_or(SSH_PORT) },
    };
    let named = args.target.as_ref().map(|_| place.target);
    let flags = Flags { connection: &mut args.connection, channel: Some(&mut args.channel), lanes: None };
    let alias = config.fill(named, flags).map(|alias| alias.target.text.as_str());
    let target = lookup::session_target(alias.or(named), &args.connection).await?;
    let mut signals = Signals::take().map_err(Error::local("cannot watch for signals"))?;
    let input = Input::stdin().map_err(Error::local("cannot use stdin"))?;
    let output = Output::stdout().map_err(Error::local("cannot use stdout"))?;
    let mut source = Source::load(&args.connection, "ssm proxy").await?;
    let request = StartSession::ssh(target, place.port).reason(args.connection.reason.clone());
    let config = options::port_config(&args.channel);
    let session = match command::open(&mut source, &request, config, &mut signals).await? {
        Opened::Session(session) => *session,
        Opened::Left(signal) => return Ok(ExitCode::from(signal.exit_code())),
    };
    let mut left = None;
    let shutdown = async { left = Some(signals.next().await) };
    let reason = ssm_portfwd::stream(
        session,
        ssm_portfwd::Config::default(),
        input,
        output,
        |notice| tell(&notice, place.port),
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

/// What ssh would show between its own messages is left to `-v`.
fn tell(notice: &Notice, port: u16) {
    match notice {
        Notice::Refused { .. } => complain(format_args!("the target could not connect to its port {port}")),
        other => tracing::info!(notice = ?other, "proxy"),
    }
}

/// What `%h`, `%h %p` or `%h:%p` say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place<'a> {
    target: &'a str,
    port: u16,
}

impl<'a> Place<'a> {
    /// A port is what is behind the last colon if it is a number: the name of a container has a colon too. An IPv6 address in front
    /// of a port stands in brackets.
    fn parse(text: &'a str, port: Option<u16>) -> Result<Self, Error> {
        let text = text.rsplit_once('@').map_or(text, |(_user, host)| host);
        let is_address = text.parse::<Ipv6Addr>().is_ok();
        let inner = text.rsplit_once(':').filter(|_| !is_address);
        let inner = inner.and_then(|(target, port)| Some((target, port.parse().ok()?)));
        match (inner, port) {
            (Some(_), Some(_)) => Err(Error::Usage("give the port once: TARGET:PORT or TARGET PORT".into())),
            (Some((_, 0)), None) | (None, Some(0)) => Err(Error::Usage("port 0 leads nowhere".into())),
            (Some((target, port)), None) => Ok(Self { target, port }),
            (None, port) => Ok(Self { target: text, port: port.unwrap_or(SSH_PORT) }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str, port: Option<u16>) -> Option<(&str, u16)> {
        Place::parse(text, port).ok().map(|place| (place.target, place.port))
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
    fn two_ports_or_port_zero_are_refused() {
        assert_eq!(place("i-0123456789abcdef0:22", Some(22)), None);
        assert_eq!(place("i-0123456789abcdef0:0", None), None);
        assert_eq!(place("i-0123456789abcdef0", Some(0)), None);
    }
}
