//! `ssm plugin`, and this program under the name `session-manager-plugin`: what the AWS CLI starts.
//!
//! The AWS CLI has started the session; its answer comes in an environment variable or in the arguments. Wrappers look for the
//! sentences printed here, so they are those of AWS's plugin and go to stdout as they do there. So is the exit code: 0 whatever
//! happened (plugin `main.go`), unless [`EXIT_CODES_VARIABLE`] asks for real ones.

mod arguments;
mod banner;
mod handover;
mod install;

use std::env;
use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::process::ExitCode;

use ssm_portfwd::{Forwarder, ListenAddr};
use ssm_session::{ChannelConfig, CloseReason, Config, PortMode, Ready, Route, Session, SessionKind};
use ssm_shell::Io;

use self::arguments::{Arguments, Request};
use self::banner::Banner;
use crate::args::{ConnectionArgs, PluginArgs, PluginCommand};
use crate::capture;
use crate::command::{self, end, shell};
use crate::control::Control;
use crate::error::Error;
use crate::network;
use crate::options;
use crate::output::{complain, print, print_aside};
use crate::process::{Signal, Signals};
use crate::stdio::{Input, Output};

/// Set to `1`, the exit code tells what happened: the remote code, 255 for a failure, 128 and more for a signal.
const EXIT_CODES_VARIABLE: &str = "SSM_PLUGIN_EXIT_CODES";

/// Runs `ssm plugin`.
pub(crate) async fn command(args: PluginArgs) -> Result<ExitCode, Error> {
    match &args.command {
        None => run(args.args).await,
        Some(PluginCommand::Install(args)) => install::install(args),
        Some(PluginCommand::Uninstall(args)) => install::uninstall(args),
        Some(PluginCommand::Status) => install::status().await,
    }
}

/// Runs the plugin with the arguments behind its name.
pub(crate) async fn run(words: Vec<OsString>) -> Result<ExitCode, Error> {
    handover::leave_variable_behind(&words);
    let words: Vec<String> = words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let code = match arguments::read(&words, handover::response) {
        Request::Say(text) => {
            print(text)?;
            ExitCode::SUCCESS
        }
        Request::Version => {
            print(format!("{}\n", ChannelConfig::client().version))?;
            ExitCode::SUCCESS
        }
        Request::Refuse(reason) => failed(&reason),
        Request::Start(arguments) => match start(*arguments).await {
            Ok(code) => code,
            Err(error) => failed(&error.to_string()),
        },
    };
    let real = env::var(EXIT_CODES_VARIABLE).is_ok_and(|value| value == "1");
    Ok(if real { code } else { ExitCode::SUCCESS })
}

/// Says that there is no session, where AWS's plugin says it, and also where people look when ssh swallows stdout.
fn failed(reason: &str) -> ExitCode {
    print_aside(format!("Cannot perform start session: {}\n", banner::line(reason)));
    if !io::stdout().is_terminal() {
        complain(format_args!("cannot start the session: {reason}"));
    }
    ExitCode::from(u8::MAX)
}

async fn start(arguments: Arguments) -> Result<ExitCode, Error> {
    let mut signals = Signals::take().map_err(Error::local("cannot watch for signals"))?;
    let mut route = network::route(&ConnectionArgs::default())?;
    for url in arguments.endpoint_url.iter().chain(&arguments.ecs_url) {
        route.streams = route.streams.trusting(url);
    }
    let control = control(&arguments, &route).await;
    let banner = Banner::new(arguments.endpoint.session_id.as_str());
    banner.starting();
    let mut channel = ChannelConfig::client();
    channel.reconnect = Some(options::UNATTENDED_RECONNECT);
    if arguments.is_port {
        channel.assume_ready = None;
    }
    // The service that started the session is not always Systems Manager, so its hosts are judged without a region.
    let config = Config {
        channel,
        route: Some(route),
        tap: capture::tap(),
        target: arguments.target.clone(),
        ..Config::default()
    };
    let opening = Session::open(control, arguments.endpoint, config);
    let session = tokio::select! {
        session = opening => session?,
        signal = signals.next() => return Ok(left(signal)),
    };
    let session = match command::begin(session, &mut signals).await {
        Ok(session) => session,
        Err(Error::Left(signal)) => return Ok(left(signal)),
        Err(Error::NotStarted(reason)) => return Ok(banner.ended(&reason)),
        Err(error) => return Err(error),
    };
    let ready = session.ready().cloned().expect("a session that has begun says what it is");
    match ready.kind {
        SessionKind::Port(PortMode::Stream) => stream(session, &banner, signals).await,
        SessionKind::Port(mode) => forward(session, &banner, signals, &ready, mode).await,
        _ => terminal(session, &banner).await,
    }
}

async fn terminal(session: Session<Control>, banner: &Banner) -> Result<ExitCode, Error> {
    let exit = ssm_shell::run(session, Io::stdio()?, |notice| banner.shell_notice(notice)).await?;
    banner.ended(&exit.reason);
    Ok(shell::exit_code(&exit).unwrap_or_else(|_| ExitCode::from(u8::MAX)))
}

async fn stream(session: Session<Control>, banner: &Banner, mut signals: Signals) -> Result<ExitCode, Error> {
    let input = Input::stdin().map_err(Error::local("cannot use stdin"))?;
    let output = Output::stdout().map_err(Error::local("cannot use stdout"))?;
    let mut signal = None;
    let shutdown = async { signal = Some(signals.next().await) };
    let notice = |notice| command::explain(&notice);
    let reason =
        ssm_portfwd::stream(session, ssm_portfwd::Config::default(), input, output, notice, shutdown).await;
    // The end of stdin is no end that is told (plugin `standardstreamforwarding.go`, `handleReadError`): ssh has gone.
    if reason == CloseReason::Terminated && signal.is_none() {
        return Ok(ExitCode::SUCCESS);
    }
    let code = banner.ended(&reason);
    Ok(signal.map_or(code, left))
}

async fn forward(
    session: Session<Control>,
    banner: &Banner,
    mut signals: Signals,
    ready: &Ready,
    mode: PortMode,
) -> Result<ExitCode, Error> {
    let forwarder = match listen(ready) {
        Ok(forwarder) => forwarder,
        Err(error) => {
            end(session).await;
            return Err(error);
        }
    };
    let mut signal = None;
    let shutdown = async {
        signal = Some(signals.next().await);
        banner.terminating();
    };
    let mut accepted = false;
    let notice = |notice| banner.port_notice(notice, mode, &mut accepted);
    let reason = forwarder.run(session, ssm_portfwd::Config::default(), notice, shutdown).await?;
    let code = banner.ended(&reason);
    Ok(signal.map_or(code, left))
}

/// Takes the local port or socket that the document names (plugin `portsession.go`, `muxportforwarding.go`).
fn listen(ready: &Ready) -> Result<Forwarder, Error> {
    let properties = ready.port.clone().unwrap_or_default();
    let listen = if properties.local_connection_type == "unix" {
        ListenAddr::Unix(properties.local_unix_socket.into())
    } else {
        let port = match properties.local_port_number.as_str() {
            "" => 0,
            text => {
                text.parse().map_err(|_| Error::Usage(format!("localPortNumber {text} is not a port")))?
            }
        };
        ListenAddr::Loopback { port }
    };
    Ok(Forwarder::bind(&listen)?)
}

fn left(signal: Signal) -> ExitCode {
    ExitCode::from(signal.exit_code())
}

/// Who resumes and ends the session: the account that started it. Without one it runs until its connection is lost.
#[cfg(feature = "aws")]
async fn control(arguments: &Arguments, route: &Route) -> Control {
    let options = ssm_session::AwsOptions {
        profile: arguments.profile.clone(),
        region: arguments.region.clone(),
        endpoint_url: arguments.endpoint_url.clone(),
        ssmmessages_endpoint: route.streams.endpoint.clone(),
        network: route.network.clone(),
        ..ssm_session::AwsOptions::default()
    };
    match ssm_session::AwsControl::load(options).await {
        Ok(aws) => Control::Handed(aws),
        Err(error) => {
            tracing::warn!(%error, "the session cannot be resumed");
            Control::Attached
        }
    }
}

#[cfg(not(feature = "aws"))]
#[expect(clippy::unused_async, reason = "the other one waits")]
async fn control(_: &Arguments, _: &Route) -> Control {
    Control::Attached
}
