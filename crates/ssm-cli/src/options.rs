//! What the user's options mean: which session, through which account, over which channel.

use std::env;
use std::io::{self, IsTerminal};
use std::sync::OnceLock;
use std::time::Duration;

use ssm_session::{
    ChannelConfig, Config, Endpoint, KnownSizes, Pacing, Route, Session, StartSession, TerminalSize,
};

use crate::args::{ChannelArgs, CommandChannelArgs, ConnectionArgs, IntervalArg, PacingArg, ReconnectArg};
use crate::capture;
use crate::control::Control;
use crate::error::Error;
use crate::network;

/// Holds a session for `--attach`: its token opens it, so it is never an argument.
pub(crate) const ATTACH_VARIABLE: &str = "SSM_ATTACH";

/// How long a lost session is tried to be brought back where no person waits for it and nobody says otherwise.
pub(crate) const UNATTENDED_RECONNECT: Duration = Duration::from_secs(600);

/// The terminal of a command, which nobody sees.
const COMMAND_TERMINAL: TerminalSize = TerminalSize { cols: 80, rows: 24 };

/// Messages that may go out at once, as a part of a second.
const BURST_PART: u32 = 9;

/// Where sessions come from.
#[derive(Debug)]
pub(crate) enum Source {
    /// The API starts them.
    Api(Box<Control>),
    /// This one was started elsewhere, and is reached this way.
    Attach(Option<Endpoint>, Box<Route>),
}

impl Source {
    /// Finds the account, or the session in the environment. `command` is for the message of a build that has no account.
    pub(crate) async fn load(connection: &ConnectionArgs, command: &'static str) -> Result<Self, Error> {
        if !connection.attach {
            return Ok(Self::Api(Box::new(api(connection, command).await?)));
        }
        let json = env::var(ATTACH_VARIABLE).map_err(|_| {
            Error::Usage(format!("--attach needs a session in the environment variable {ATTACH_VARIABLE}"))
        })?;
        let endpoint = Endpoint::from_json(&json)
            .map_err(|error| Error::Usage(format!("{ATTACH_VARIABLE} does not hold a session: {error}")))?;
        Ok(Self::Attach(Some(endpoint), Box::new(network::route(connection)?)))
    }

    /// Opens a session, unless `leave` comes first; the one that was started elsewhere once. That one is left to the service then:
    /// only its agent could end it, which does not listen before the handshake.
    pub(crate) async fn open_unless<L>(
        &mut self,
        request: &StartSession,
        config: Config,
        leave: impl Future<Output = L>,
    ) -> Result<Result<Session<Control>, L>, Error> {
        match self {
            Self::Api(control) => {
                Ok(Session::start_unless((**control).clone(), request, config, leave).await?)
            }
            Self::Attach(endpoint, route) => {
                let endpoint = endpoint.take();
                let endpoint =
                    endpoint.ok_or_else(|| Error::Usage("--attach has one session: give one -L".into()))?;
                let config = Config { route: Some(Route::clone(route)), ..config };
                tokio::select! {
                    session = Session::open(Control::Attached, endpoint, config) => Ok(Ok(session?)),
                    left = leave => Ok(Err(left)),
                }
            }
        }
    }
}

#[cfg(feature = "aws")]
async fn api(connection: &ConnectionArgs, _: &'static str) -> Result<Control, Error> {
    account(connection).await.map(Control::Aws)
}

/// The account these options mean. One that was asked for before is the same, with the credentials that it has.
///
/// On a terminal, offers to sign on when that is what is missing.
#[cfg(feature = "aws")]
pub(crate) async fn account(connection: &ConnectionArgs) -> Result<ssm_session::AwsControl, Error> {
    static KNOWN: tokio::sync::Mutex<Vec<(ConnectionArgs, ssm_session::AwsControl)>> =
        tokio::sync::Mutex::const_new(Vec::new());
    let mut known = KNOWN.lock().await;
    if let Some((_, account)) = known.iter().find(|(of, _)| of == connection) {
        return Ok(account.clone());
    }
    let options = aws(connection).await?;
    let account = ssm_session::AwsControl::load(options.clone()).await.map_err(Error::Account)?;
    crate::sign_on::offer(&account, connection, &options).await?;
    known.push((connection.clone(), account.clone()));
    Ok(account)
}

/// What flags, variables and the profile say of the way out.
#[cfg(feature = "aws")]
pub(crate) async fn network(connection: &ConnectionArgs) -> Result<ssm_session::NetworkOptions, Error> {
    let mut network = network::options(connection)?;
    if network.ca_bundle.is_none() {
        network.ca_bundle = ssm_session::profile_ca_bundle(connection.profile.as_deref()).await;
    }
    Ok(network)
}

/// What the flags say to the library.
#[cfg(feature = "aws")]
pub(crate) async fn aws(connection: &ConnectionArgs) -> Result<ssm_session::AwsOptions, Error> {
    let network = network(connection).await?;
    let none = ssm_session::ServiceEndpoints::default();
    let endpoints = connection.endpoints.iter();
    let endpoints = endpoints.fold(none, |all, one| all.with(one.service.name(), &one.url));
    Ok(ssm_session::AwsOptions {
        profile: connection.profile.clone(),
        region: connection.region.clone(),
        endpoint_url: connection.endpoint_url.clone(),
        endpoints,
        ssmmessages_endpoint: network::stream_endpoint(connection)?,
        fips: connection.fips,
        dual_stack: connection.dual_stack,
        code_prompt: Some(crate::sign_on::code_prompt()),
        network: network::network_of(&network)?,
    })
}

#[cfg(not(feature = "aws"))]
#[expect(clippy::unused_async, reason = "the other one waits")]
async fn api(_: &ConnectionArgs, command: &'static str) -> Result<Control, Error> {
    Err(Error::NeedsAws(command))
}

/// The channel of a port session.
pub(crate) fn port_config(args: &ChannelArgs) -> Config {
    let mut channel = ChannelConfig::client();
    // Port sessions begin with a handshake.
    channel.assume_ready = None;
    channel.known_sizes = known_sizes();
    if let Some(size) = args.payload_size {
        channel.payload_len = size.into();
        channel.payload_max = size.into();
    }
    pace(args.pacing, &mut channel);
    channel.keep_active = args.keep_alive.and_then(|IntervalArg(interval)| interval);
    apply(args.reconnect.unwrap_or(ReconnectArg::Always), &mut channel);
    Config { channel, tap: capture::tap(), ..Config::default() }
}

/// What all port sessions of this process find out about payload sizes.
fn known_sizes() -> KnownSizes {
    static KNOWN: OnceLock<KnownSizes> = OnceLock::new();
    KNOWN.get_or_init(KnownSizes::default).clone()
}

/// The channel of a terminal. A person can leave it; a program behind a pipe cannot, and is left after a while.
pub(crate) fn shell_config(reconnect: Option<ReconnectArg>) -> Config {
    let person = io::stdin().is_terminal().then_some(ReconnectArg::Always);
    terminal_config(reconnect.or(person))
}

fn terminal_config(reconnect: Option<ReconnectArg>) -> Config {
    let mut channel = ChannelConfig::client();
    match reconnect {
        Some(reconnect) => apply(reconnect, &mut channel),
        None => channel.reconnect = Some(UNATTENDED_RECONNECT),
    }
    Config { channel, tap: capture::tap(), ..Config::default() }
}

fn pace(pacing: Option<PacingArg>, channel: &mut ChannelConfig) {
    match pacing {
        Some(PacingArg::Off) => channel.pacing = None,
        Some(PacingArg::PerSecond(per_second)) => {
            channel.pacing = Some(Pacing { per_second, burst: (per_second / BURST_PART).max(1) });
        }
        None => {}
    }
}

fn apply(reconnect: ReconnectArg, channel: &mut ChannelConfig) {
    channel.reconnect = None;
    channel.reconnect_attempts = match reconnect {
        ReconnectArg::Times(times) => Some(times),
        ReconnectArg::Always => None,
        ReconnectArg::Never => Some(0),
    };
}

/// The channel of a command, which can have much input: its messages grow.
pub(crate) fn command_config(args: CommandChannelArgs) -> Config {
    let mut config = terminal_config(args.reconnect);
    pace(args.pacing, &mut config.channel);
    config.channel.terminal_probe = Some(COMMAND_TERMINAL);
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knobs_reach_the_channel() {
        let keep_alive = Some(IntervalArg(Some(Duration::from_secs(120))));
        let args = ChannelArgs {
            payload_size: Some(8192),
            pacing: Some(PacingArg::PerSecond(450)),
            keep_alive,
            reconnect: Some(ReconnectArg::Times(3)),
        };
        let channel = port_config(&args).channel;
        assert_eq!(channel.payload_len, 8192);
        assert_eq!(channel.reconnect_attempts, Some(3));
        assert_eq!(channel.pacing, Some(Pacing { per_second: 450, burst: 50 }));
        assert_eq!(channel.keep_active, Some(Duration::from_secs(120)));
        let off = ChannelArgs { pacing: Some(PacingArg::Off), ..ChannelArgs::default() };
        assert_eq!(port_config(&off).channel.pacing, None);
        assert_eq!(port_config(&ChannelArgs::default()).channel.payload_len, 1024);
        let off = CommandChannelArgs { pacing: Some(PacingArg::Off), ..CommandChannelArgs::default() };
        assert_eq!(command_config(off).channel.pacing, None);
        let usual = command_config(CommandChannelArgs::default()).channel.pacing;
        assert_eq!(usual, Some(Pacing { per_second: 900, burst: 100 }));
    }

    #[test]
    fn a_tunnel_waits_for_ever_and_a_command_for_ten_minutes_unless_told() {
        let tunnel = port_config(&ChannelArgs::default()).channel;
        assert_eq!((tunnel.reconnect, tunnel.reconnect_attempts), (None, None));
        let command = |reconnect| {
            let args = CommandChannelArgs { reconnect, ..CommandChannelArgs::default() };
            let channel = command_config(args).channel;
            (channel.reconnect, channel.reconnect_attempts)
        };
        assert_eq!(command(None), (Some(Duration::from_secs(600)), None));
        assert_eq!(command(Some(ReconnectArg::Always)), (None, None));
        assert_eq!(command(Some(ReconnectArg::Never)), (None, Some(0)));
        assert_eq!(command(Some(ReconnectArg::Times(7))), (None, Some(7)));
    }
}
