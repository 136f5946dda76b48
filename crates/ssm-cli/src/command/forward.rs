//! `ssm forward`

pub(super) mod child;
mod report;
mod status;
mod stdio;
mod tunnels;

use std::process::ExitCode;
use std::time::Duration;

use ssm_portfwd::LocalAddr;
use ssm_resolve::Target;
use ssm_session::Secret;

use crate::args::{DurationArg, ForwardArgs};
use crate::background::{self, Launched};
use crate::config::{Config, Flags, Value};
use crate::error::Error;
use crate::lookup;
use crate::menu::{self, Offer};
use crate::options::Source;
use crate::process::Signals;
use crate::registry::Entry;

use self::child::Running;
use self::report::Report;
use self::tunnels::{Started, Tunnels};

/// Time between two status lines.
const STATUS_INTERVAL: Duration = Duration::from_millis(500);

/// No forward is left.
const FAILURE: u8 = 255;

/// Runs the command.
pub(crate) async fn run(mut args: ForwardArgs, config: &Config) -> Result<ExitCode, Error> {
    if args.target.is_none() && !args.connection.attach {
        // The process that stays would ask again.
        let offer = if args.stays() { Offer::Nothing } else { Offer::of_forward(leads(&args)) };
        args.target = Some(menu::choose("ssm forward", offer, config, &args.connection).await?);
    }
    fill(&mut args, config)?;
    let args = &args;
    // What cannot be a target is told before anything is started.
    let _: Option<Target> = args.target.as_deref().map(str::parse).transpose()?;
    if args.connection.attach && (args.specs.len() > 1 || args.lanes() > 1) {
        return Err(Error::Usage("--attach has one session: give one -L, and no --lanes".into()));
    }
    #[cfg(feature = "aws")]
    if args.stays() && !args.detached {
        crate::sign_on::prepare(&args.connection).await;
    }
    let mut signals = Signals::take().map_err(Error::local("cannot watch for signals"))?;
    if args.stays() && !args.detached {
        let limit = args.wait.flatten().map(|DurationArg(limit)| limit);
        return background::launch(limit, &mut signals).await;
    }
    let target = tokio::select! {
        biased;
        target = lookup::session_target(args.target.as_deref(), &args.connection) => target?,
        _ = signals.next() => return Ok(ExitCode::SUCCESS),
    };
    #[cfg(feature = "metrics")]
    if let Some(address) = args.metrics {
        crate::metrics::serve(address).await?;
    }
    if let Some(destination) = &args.stdio {
        return stdio::run(args, destination, &target, &mut signals).await;
    }
    let source = Source::load(&args.connection, "ssm forward");
    carry(args, target, source, |_| Ok(Around::default()), &mut signals).await
}

/// What the command behind `--` finds besides addresses.
#[derive(Debug, Default)]
pub(super) struct Around {
    /// Variables.
    pub(super) variables: Vec<(String, Secret<String>)>,
    /// What stands for `{name}` in its arguments.
    pub(super) words: Vec<(&'static str, String)>,
}

/// Carries the forwards of `args` through `target`, on sessions of `source`. Once each listens or has failed `ready` is called
/// with where they do.
pub(super) async fn carry(
    args: &ForwardArgs,
    target: String,
    source: impl Future<Output = Result<Source, Error>>,
    ready: impl FnOnce(&[LocalAddr]) -> Result<Around, Error>,
    signals: &mut Signals,
) -> Result<ExitCode, Error> {
    let mut tunnels = Tunnels::new(args, target);
    let mut presence = Presence::take(args, &tunnels.report)?;
    let entrances = tunnels.bind()?;
    let mut source = tokio::select! {
        source = source => source?,
        _ = signals.next() => return Ok(ExitCode::SUCCESS),
    };
    for (index, entrance) in entrances {
        if tunnels.start(index, entrance, &mut source, signals).await? == Started::Left {
            return Ok(ExitCode::SUCCESS);
        }
    }
    let result = serve(&mut tunnels, args, ready, &mut presence, signals).await;
    tunnels.end(signals).await;
    if matches!(result, Ok(Left::Wanted)) {
        tunnels.report.summarize();
    }
    presence.close().await;
    Ok(match result? {
        Left::Wanted => ExitCode::SUCCESS,
        Left::Command(code) => code,
        Left::Failed => ExitCode::from(FAILURE),
    })
}

/// Takes from the configuration what the command line leaves open.
fn fill(args: &mut ForwardArgs, config: &Config) -> Result<(), Error> {
    let ForwardArgs { connection, channel, lanes, .. } = args;
    let flags = Flags::from(connection).channel(channel).lanes(lanes);
    let alias = config.fill(args.target.as_deref(), flags);
    if let Some(alias) = alias {
        if !leads(args) {
            args.specs = alias.forwards.iter().map(Value::parse).collect();
            args.proxies = alias.proxies.iter().map(Value::parse).collect();
        }
        args.target = Some(alias.target.text.clone());
    }
    if leads(args) {
        return Ok(());
    }
    Err(Error::Usage(
        "say what to forward: -L SPEC, -D PORT or -W HOST:PORT, or the name of an alias that has forwards"
            .into(),
    ))
}

/// Whether the command line says what to forward.
fn leads(args: &ForwardArgs) -> bool {
    !args.specs.is_empty() || !args.proxies.is_empty() || args.stdio.is_some()
}

/// Why the forwards are given up.
enum Left {
    /// The user wants it.
    Wanted,
    /// The command has ended, with this code.
    Command(ExitCode),
    /// Forwards that are needed could not be set up.
    Failed,
}

/// Carries until a signal, the end of the command, or the end of all forwards.
async fn serve(
    tunnels: &mut Tunnels<'_>,
    args: &ForwardArgs,
    ready: impl FnOnce(&[LocalAddr]) -> Result<Around, Error>,
    presence: &mut Presence,
    signals: &mut Signals,
) -> Result<Left, Error> {
    let mut child: Option<Running> = None;
    let mut settled = tunnels.report.settled();
    let mut ready = Some(ready);
    let mut ticks = tokio::time::interval(STATUS_INTERVAL);
    loop {
        tokio::select! {
            () = tunnels.one_ends() => {
                if args.all_are_needed() || tunnels.is_empty() {
                    Running::end(&mut child).await;
                    return Ok(Left::Failed);
                }
            }
            _ = settled.wait_for(|settled| *settled), if ready.is_some() => {
                let addresses = tunnels.report.addresses();
                if let Some(ready) = ready.take().filter(|_| !addresses.is_empty()) {
                    let around = ready(&addresses)?;
                    if !args.command.is_empty() {
                        child = Some(Running::start(&args.command, &addresses, &around)?);
                    }
                }
                presence.detach(&tunnels.report)?;
            }
            code = Running::ended(&mut child) => return code.map(Left::Command),
            signal = signals.next() => match &mut child {
                Some(child) => child.signal(signal),
                None => return Ok(Left::Wanted),
            },
            () = presence.unwanted() => {
                Running::end(&mut child).await;
                return Ok(Left::Wanted);
            }
            _ = ticks.tick() => tunnels.report.tick(),
        }
    }
}

/// How other processes see this one.
struct Presence {
    /// `None` where there is no place for it, which only a tunnel in the background cannot do without.
    entry: Option<Entry>,
    /// `None` in the foreground, and once the terminal is left.
    launched: Option<Launched>,
}

impl Presence {
    fn take(args: &ForwardArgs, report: &Report) -> Result<Self, Error> {
        let status = report.clone();
        let entry = match Entry::open(move |id| status.tunnel(id)) {
            Ok(entry) => entry,
            Err(source) if args.detached => {
                return Err(Error::Local { what: "cannot be found by ssm tunnels", source });
            }
            Err(error) => {
                tracing::warn!(%error, "ssm tunnels will not find this");
                return Ok(Self { entry: None, launched: None });
            }
        };
        let launched = if args.detached { Some(Launched::take(entry.id())?) } else { None };
        if let Some(launched) = &launched {
            report.set_log(launched.log_path());
        }
        Ok(Self { entry: Some(entry), launched })
    }

    /// Goes to the background, where that is wanted.
    fn detach(&mut self, report: &Report) -> Result<(), Error> {
        let (Some(entry), Some(launched)) = (&self.entry, self.launched.take()) else { return Ok(()) };
        report.in_background(entry.id(), launched.log_path());
        launched.detach().map_err(Error::local("cannot go to the background"))
    }

    /// Waits until another process wants the end, or is gone while it waits for the start. Cancel safe.
    async fn unwanted(&mut self) {
        tokio::select! {
            () = Entry::asked_to_stop(&mut self.entry) => {}
            () = Launched::abandoned(&mut self.launched) => {}
        }
    }

    /// Tells those who wanted the end that it is reached.
    async fn close(self) {
        if let Some(entry) = self.entry {
            entry.close().await;
        }
    }
}
