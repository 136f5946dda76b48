//! `ssm forward -W`

use std::process::ExitCode;

use ssm_portfwd::{Config, Destination, Notice};
use ssm_session::CloseReason;

use crate::args::ForwardArgs;
use crate::command;
use crate::error::Error;
use crate::options::{self, Source};
use crate::output::complain;
use crate::process::Signals;
use crate::stdio::{Input, Output};

use super::FAILURE;

/// Carries stdin to `destination` and what comes back to stdout, until the destination has ended.
pub(super) async fn run(
    args: &ForwardArgs,
    destination: &Destination,
    target: &str,
    signals: &mut Signals,
) -> Result<ExitCode, Error> {
    let input = Input::stdin().map_err(Error::local("cannot use stdin"))?;
    let output = Output::stdout().map_err(Error::local("cannot use stdout"))?;
    let mut source = tokio::select! {
        source = Source::load(&args.connection, "ssm forward") => source?,
        signal = signals.next() => return Err(Error::Left(signal)),
    };
    let request = destination.request(target).reason(args.connection.reason.clone());
    let config = options::port_config(&args.channel);
    let session = command::open(&mut source, &request, config, signals).await?;
    let mut left = None;
    let mut refused = false;
    let shutdown = async { left = Some(signals.next().await) };
    let notice = |notice| match notice {
        Notice::Refused { .. } => {
            refused = true;
            complain(format_args!("the target could not connect to {destination}"));
        }
        other => command::explain(&other),
    };
    let reason = ssm_portfwd::stream(session, Config::default(), input, output, notice, shutdown).await;
    match (left, reason) {
        (Some(signal), _) => Ok(ExitCode::from(signal.exit_code())),
        _ if refused => Ok(ExitCode::from(FAILURE)),
        (None, CloseReason::Terminated | CloseReason::AgentClosed { detail: None, .. }) => {
            Ok(ExitCode::SUCCESS)
        }
        (None, reason) => Err(Error::Ended(reason)),
    }
}
