//! `ssm sessions`

use std::process::ExitCode;

use crate::args::SessionsArgs;
use crate::config::Config;
use crate::error::Error;

#[cfg(feature = "aws")]
mod listing;
#[cfg(feature = "aws")]
mod orphans;
#[cfg(feature = "aws")]
mod terminate;

/// Runs the command.
#[cfg(not(feature = "aws"))]
#[expect(clippy::unused_async, reason = "the other one waits")]
pub(crate) async fn run(_: SessionsArgs, _: &Config) -> Result<ExitCode, Error> {
    Err(Error::NeedsAws("ssm sessions"))
}

/// Runs the command.
#[cfg(feature = "aws")]
pub(crate) async fn run(args: SessionsArgs, config: &Config) -> Result<ExitCode, Error> {
    use crate::args::SessionsCommand;
    use crate::process::Signals;

    let mut signals = Signals::take().map_err(Error::local("cannot watch for signals"))?;
    let command = async {
        match args.command {
            Some(SessionsCommand::Terminate(args)) => terminate::run(*args, config).await,
            Some(SessionsCommand::Orphans(args)) => orphans::run(&args, config).await,
            None => listing::run(args, config).await,
        }
    };
    tokio::select! {
        biased;
        done = command => done,
        signal = signals.next() => Err(Error::Left(signal)),
    }
}
