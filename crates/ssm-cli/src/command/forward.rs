//! `ssm forward`

mod child;
mod report;
mod status;
mod stdio;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use ssm_portfwd::{
    Config, ConnectionNumbers, Destination, ForwardError, Forwarder, Lanes, ListenAddr, Notice, Proxy,
    ProxyConfig, StartLimiter,
};
use ssm_session::CloseReason;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};

use crate::args::{ForwardArgs, LimitArg};
use crate::command::{self, Opened};
use crate::control::Control;
use crate::error::{Error, ending};
use crate::options::{self, Source};
use crate::output::{complain, say};
use crate::process::Signals;

use self::child::Running;
use self::report::{Forward, Report};

/// Time between two status lines.
const STATUS_INTERVAL: Duration = Duration::from_millis(500);

/// No forward is left.
const FAILURE: u8 = 255;

/// Runs the command.
pub(crate) async fn run(args: &ForwardArgs) -> Result<ExitCode, Error> {
    let target = options::target(args.target.as_deref())?;
    if args.connection.attach && (args.specs.len() > 1 || args.lanes > 1) {
        return Err(Error::Usage("--attach has one session: give one -L, and no --lanes".into()));
    }
    let mut signals = Signals::take().map_err(Error::local("cannot watch for signals"))?;
    if let Some(destination) = &args.stdio {
        return stdio::run(args, destination, &target, &mut signals).await;
    }
    // All ports before the first session: a port that is taken is the likeliest failure, and this way it costs nothing.
    let mut entrances = Vec::new();
    for spec in &args.specs {
        warn_if_open(&spec.listen);
        entrances.push(Entrance::Forward(Forwarder::bind(&spec.listen)?, spec.destination.clone()));
    }
    for listen in &args.proxies {
        warn_if_open(listen);
        entrances.push(Entrance::Proxy(Proxy::bind(listen)?));
    }
    let mut source = Source::load(&args.connection, "ssm forward").await?;
    let mut tunnels = Tunnels::new(args, target);
    for entrance in entrances {
        if tunnels.start(entrance, &mut source, &mut signals).await? == Started::Left {
            return Ok(ExitCode::SUCCESS);
        }
    }
    let result = tunnels.serve(args, &mut signals).await;
    let wanted = matches!(result, Ok(Left::Signal));
    tunnels.end(&mut signals).await;
    if wanted {
        tunnels.report.summarize();
    }
    Ok(match result? {
        Left::Signal => ExitCode::SUCCESS,
        Left::Command(code) => code,
        Left::Failed => ExitCode::from(FAILURE),
    })
}

fn warn_if_open(listen: &ListenAddr) {
    if !listen.is_loopback() {
        say(format_args!(
            "{listen} is open to other machines, and what connects there is not asked who it is"
        ));
    }
}

/// A local address that is taken.
enum Entrance {
    Forward(Forwarder, Destination),
    Proxy(Proxy),
}

/// What became of starting a forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Started {
    Runs,
    /// The user left first.
    Left,
}

/// Why the forwards are given up.
enum Left {
    Signal,
    /// The command has ended, with this code.
    Command(ExitCode),
    /// Forwards that are needed could not be set up.
    Failed,
}

/// Which forward ended and how.
type Outcome = (usize, Result<CloseReason, ForwardError>);

/// The forwards that run: one task for each.
struct Tunnels<'a> {
    args: &'a ForwardArgs,
    target: String,
    config: Config,
    limiter: StartLimiter,
    numbers: ConnectionNumbers,
    report: Report,
    tasks: JoinSet<Outcome>,
    shutdown: watch::Sender<bool>,
}

impl<'a> Tunnels<'a> {
    fn new(args: &'a ForwardArgs, target: String) -> Self {
        let config = Config::default();
        let report = Report::new(args, config.traffic.clone());
        Self {
            args,
            target,
            config,
            limiter: match args.start_rate {
                Some(rate) => StartLimiter::every(Duration::from_secs(1) / u32::from(rate)),
                None => StartLimiter::default(),
            },
            numbers: ConnectionNumbers::default(),
            report,
            tasks: JoinSet::new(),
            shutdown: watch::Sender::new(false),
        }
    }

    async fn start(
        &mut self,
        entrance: Entrance,
        source: &mut Source,
        signals: &mut Signals,
    ) -> Result<Started, Error> {
        match entrance {
            Entrance::Forward(forwarder, destination) => {
                let mut request = destination.request(&self.target);
                request.reason.clone_from(&self.args.connection.reason);
                let document = request.document.clone().unwrap_or_default();
                let index = self.report.add(Forward::new(destination.to_string(), document));
                let forwarder = forwarder.numbered_by(&self.numbers);
                let (config, session) = (self.config.clone(), options::port_config(&self.args.channel));
                let (notice, shutdown) = (self.notice(index), self.shutdown());
                match source {
                    Source::Api(control) => {
                        let (control, limiter) = (Arc::new(Control::clone(control)), self.limiter.clone());
                        let max = self.args.lanes.into();
                        let lanes = Lanes::on_demand(control, request, session, limiter, max);
                        let run = forwarder.run_lanes(lanes, config, notice, shutdown);
                        self.tasks.spawn(async move { (index, run.await) });
                    }
                    Source::Attach(_) => {
                        let session = match command::open(source, &request, session, signals).await? {
                            Opened::Session(session) => *session,
                            Opened::Left(_) => return Ok(Started::Left),
                        };
                        let run = forwarder.run(session, config, notice, shutdown);
                        self.tasks.spawn(async move { (index, run.await) });
                    }
                }
            }
            Entrance::Proxy(proxy) => {
                let Source::Api(control) = source else {
                    return Err(Error::Usage("-D starts sessions, which --attach cannot".into()));
                };
                self.start_proxy(proxy, Arc::new(Control::clone(control)));
            }
        }
        Ok(Started::Runs)
    }

    fn start_proxy(&mut self, proxy: Proxy, control: Arc<Control>) {
        let index = self.report.add(Forward::new("SOCKS5 and HTTP CONNECT".into(), String::new()));
        let mut config = ProxyConfig::new(self.target.clone());
        config.reason.clone_from(&self.args.connection.reason);
        config.session = options::port_config(&self.args.channel);
        config.limiter = self.limiter.clone();
        config.lanes = self.args.lanes.into();
        if let Some(LimitArg(idle)) = self.args.proxy_idle {
            config.idle = idle.unwrap_or(Duration::MAX);
        }
        if let Some(max) = self.args.proxy_destinations {
            config.destinations_max = max.into();
        }
        let (notice, shutdown) = (self.notice(index), self.shutdown());
        let proxy = proxy.numbered_by(&self.numbers);
        let run = proxy.run(control, config, self.config.clone(), notice, shutdown);
        self.tasks.spawn(async move { (index, run.await.map(|()| CloseReason::Terminated)) });
    }

    fn notice(&self, index: usize) -> impl FnMut(Notice) + Send + use<> {
        let report = self.report.clone();
        move |notice| report.handle(index, &notice)
    }

    fn shutdown(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut shutdown = self.shutdown.subscribe();
        async move {
            // An error means that `Tunnels` is gone, and everything with it.
            let _ = shutdown.wait_for(|ends| *ends).await;
        }
    }

    /// Carries until a signal, the end of the command, or the end of all forwards.
    async fn serve(&mut self, args: &ForwardArgs, signals: &mut Signals) -> Result<Left, Error> {
        let all_are_needed = args.exit_on_forward_failure || !args.command.is_empty();
        let mut child: Option<Running> = None;
        let mut all_listen = self.report.all_listen();
        let mut ticks = tokio::time::interval(STATUS_INTERVAL);
        loop {
            tokio::select! {
                ended = self.tasks.join_next() => {
                    self.tell_end(ended);
                    if all_are_needed || self.tasks.is_empty() {
                        if let Some(child) = &mut child {
                            child.end().await;
                        }
                        return Ok(Left::Failed);
                    }
                }
                _ = all_listen.wait_for(|all| *all), if child.is_none() && !args.command.is_empty() => {
                    child = Some(Running::start(&args.command, &self.report.addresses())?);
                }
                code = Running::ended(&mut child) => return code.map(Left::Command),
                signal = signals.next() => match &mut child {
                    Some(child) => child.signal(signal),
                    None => return Ok(Left::Signal),
                },
                _ = ticks.tick() => self.report.tick(),
            }
        }
    }

    /// Says which forward ended and why.
    fn tell_end(&self, ended: Option<Result<Outcome, JoinError>>) {
        let (index, result) = match ended {
            Some(Ok(ended)) => ended,
            Some(Err(error)) => std::panic::resume_unwind(error.into_panic()),
            None => return,
        };
        let why = match result {
            Ok(reason) => ending(&reason),
            Err(error) => error.to_string(),
        };
        let forward = self.report.forward(index);
        self.report.ended(index, &why);
        let target = if self.target.is_empty() { "the target" } else { &self.target };
        complain(match forward.document.as_str() {
            "" => format!("{}: {why}", forward.destination),
            document => format!("forward to {} through {target} ({document}): {why}", forward.destination),
        });
    }

    /// Ends all of them, or leaves them to the service when another signal comes.
    async fn end(&mut self, signals: &mut Signals) {
        self.shutdown.send_replace(true);
        let ended = async {
            while let Some(ended) = self.tasks.join_next().await {
                if let Ok((index, Ok(reason))) = ended {
                    self.report.ended(index, &ending(&reason));
                }
            }
        };
        tokio::select! {
            () = ended => {}
            _signal = signals.next() => {}
        }
    }
}
