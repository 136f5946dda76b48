//! The forwards that run: one task for each.

use std::sync::Arc;
use std::time::Duration;

use ssm_portfwd::{
    Config, ConnectionNumbers, Destination, ForwardError, Forwarder, Lanes, ListenAddr, Notice, ProxyConfig,
    StartLimiter,
};
use ssm_session::CloseReason;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};

use crate::args::{ForwardArgs, LimitArg};
use crate::command;
use crate::control::Control;
use crate::error::{Error, ending, not_set_up};
use crate::options::{self, Source};
use crate::output::{complain, say};
use crate::process::Signals;

use super::report::{Forward, Report};

/// The forwards of a command, in the order in which they were written: first the ports, then the proxies.
pub(super) struct Tunnels<'a> {
    args: &'a ForwardArgs,
    target: String,
    config: Config,
    limiter: StartLimiter,
    numbers: ConnectionNumbers,
    pub(super) report: Report,
    tasks: JoinSet<Outcome>,
    shutdown: watch::Sender<bool>,
}

/// Local addresses that are taken.
pub(super) enum Entrance {
    Forward(Forwarder, Destination),
    Proxy(Forwarder),
}

/// What became of starting a forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Started {
    Runs,
    /// The user left first.
    Left,
}

/// Which forward ended and how.
type Outcome = (usize, Result<CloseReason, ForwardError>);

impl<'a> Tunnels<'a> {
    pub(super) fn new(args: &'a ForwardArgs, target: String) -> Self {
        let config = Config::default();
        let document = |destination: &Destination| destination.request(&target).document.unwrap_or_default();
        let ports = args
            .specs
            .iter()
            .map(|spec| Forward::new(spec.destination.to_string(), document(&spec.destination)));
        let proxies =
            args.proxies.iter().map(|_| Forward::new("SOCKS5 and HTTP CONNECT".into(), String::new()));
        let report = Report::new(args, &target, ports.chain(proxies).collect(), config.traffic.clone());
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

    /// Takes the local addresses of every forward. All of them before the first session: a port that is taken is the likeliest
    /// failure, and this way it costs nothing. Those that cannot be taken are told of, unless all are needed or none is left.
    pub(super) fn bind(&self) -> Result<Vec<(usize, Entrance)>, Error> {
        let ports = self.args.specs.iter().map(|spec| {
            let forwarder = bind(&spec.listen);
            forwarder.map(|forwarder| Entrance::Forward(forwarder, spec.destination.clone()))
        });
        let proxies = self.args.proxies.iter().map(|listen| bind(listen).map(Entrance::Proxy));
        let mut entrances = Vec::new();
        let mut failed = None;
        for (index, entrance) in ports.chain(proxies).enumerate() {
            match entrance {
                Ok(entrance) => entrances.push((index, entrance)),
                Err(error) if self.args.all_are_needed() => return Err(error.into()),
                Err(error) => {
                    self.report.ended(index, &not_set_up(&error));
                    if let Some(earlier) = failed.replace(error) {
                        complain(not_set_up(&earlier));
                    }
                }
            }
        }
        match failed {
            Some(error) if entrances.is_empty() => return Err(error.into()),
            Some(error) => complain(not_set_up(&error)),
            None => {}
        }
        Ok(entrances)
    }

    pub(super) async fn start(
        &mut self,
        index: usize,
        entrance: Entrance,
        source: &mut Source,
        signals: &mut Signals,
    ) -> Result<Started, Error> {
        match (entrance, source) {
            (Entrance::Forward(forwarder, destination), source) => {
                return self.start_forward(index, forwarder, &destination, source, signals).await;
            }
            (Entrance::Proxy(proxy), Source::Api(control)) => {
                self.start_proxy(index, proxy, Arc::new(Control::clone(control)));
            }
            (Entrance::Proxy(_), Source::Attach(..)) => {
                return Err(Error::Usage("-D starts sessions, which --attach cannot".into()));
            }
        }
        Ok(Started::Runs)
    }

    async fn start_forward(
        &mut self,
        index: usize,
        forwarder: Forwarder,
        destination: &Destination,
        source: &mut Source,
        signals: &mut Signals,
    ) -> Result<Started, Error> {
        let request = destination.request(&self.target).reason(self.args.connection.reason.clone());
        let forwarder = forwarder.numbered_by(&self.numbers);
        let (config, session) = (self.config.clone(), options::port_config(&self.args.channel));
        let (notice, shutdown) = (self.notice(index), self.shutdown());
        match source {
            Source::Api(control) => {
                let (control, limiter) = (Arc::new(Control::clone(control)), self.limiter.clone());
                let lanes = Lanes::on_demand(control, request, session, limiter, self.args.lanes().into());
                let run = forwarder.run_lanes(lanes, config, notice, shutdown);
                self.tasks.spawn(async move { (index, run.await) });
            }
            Source::Attach(..) => {
                let session = match command::open(source, &request, session, signals).await {
                    Err(Error::Left(_)) => return Ok(Started::Left),
                    opened => opened?,
                };
                let run = forwarder.run(session, config, notice, shutdown);
                self.tasks.spawn(async move { (index, run.await) });
            }
        }
        Ok(Started::Runs)
    }

    fn start_proxy(&mut self, index: usize, proxy: Forwarder, control: Arc<Control>) {
        let mut config = ProxyConfig::new(self.target.clone());
        config.reason.clone_from(&self.args.connection.reason);
        config.session = options::port_config(&self.args.channel);
        config.limiter = self.limiter.clone();
        config.lanes = self.args.lanes().into();
        if let Some(LimitArg(idle)) = self.args.proxy_idle {
            config.idle = idle.unwrap_or(Duration::MAX);
        }
        if let Some(max) = self.args.proxy_destinations {
            config.destinations_max = max.into();
        }
        let (notice, shutdown) = (self.notice(index), self.shutdown());
        let proxy = proxy.numbered_by(&self.numbers);
        let run = proxy.run_proxy(control, config, self.config.clone(), notice, shutdown);
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

    /// Waits until a forward ends, and says which and why. Cancel safe.
    pub(super) async fn one_ends(&mut self) {
        let ended = self.tasks.join_next().await;
        self.tell_end(ended);
    }

    /// Whether none is left.
    pub(super) fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    fn tell_end(&self, ended: Option<Result<Outcome, JoinError>>) {
        let (index, result) = match ended {
            Some(Ok(ended)) => ended,
            Some(Err(error)) => std::panic::resume_unwind(error.into_panic()),
            None => return,
        };
        let why = match result {
            Ok(reason) => ending(&reason),
            Err(error) => not_set_up(&error),
        };
        let forward = self.report.forward(index);
        self.report.ended(index, &why);
        self.report.notify(&format!("the forward to {} is over: {why}", forward.destination));
        let target = if self.target.is_empty() { "the target" } else { &self.target };
        complain(match forward.document.as_str() {
            "" => format!("{}: {why}", forward.destination),
            document => format!("forward to {} through {target} ({document}): {why}", forward.destination),
        });
    }

    /// Ends all of them, or leaves them to the service when another signal comes.
    pub(super) async fn end(&mut self, signals: &mut Signals) {
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

fn bind(listen: &ListenAddr) -> Result<Forwarder, ForwardError> {
    if !listen.is_loopback() {
        say(format_args!(
            "{listen} is open to other machines, and what connects there is not asked who it is"
        ));
    }
    Forwarder::bind(listen)
}
