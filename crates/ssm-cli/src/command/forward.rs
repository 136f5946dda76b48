//! `ssm forward`

use std::process::ExitCode;

use ssm_portfwd::{Config, Destination, ForwardError, Forwarder, Notice};
use ssm_session::{CloseReason, Session};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::args::ForwardArgs;
use crate::command::{self, Opened};
use crate::control::Control;
use crate::error::Error;
use crate::options::{self, Source};
use crate::output::say;
use crate::process::Signals;

/// Runs the command.
pub(crate) async fn run(args: &ForwardArgs) -> Result<ExitCode, Error> {
    let target = options::target(args.target.as_deref())?;
    if args.connection.attach && args.specs.len() > 1 {
        return Err(Error::Usage("--attach has one session, and each -L needs one: give one -L".into()));
    }
    let mut signals = Signals::take().map_err(Error::local("cannot watch for signals"))?;
    // All ports before the first session: a port that is taken is the likeliest failure, and this way it costs nothing.
    let mut forwards = Vec::new();
    for spec in &args.specs {
        if !spec.listen.is_loopback() {
            say(format_args!(
                "{} is open to other machines, and what connects there is not asked who it is",
                spec.listen
            ));
        }
        forwards.push((Forwarder::bind(&spec.listen)?, spec.destination.clone()));
    }
    let mut source = Source::load(&args.connection, "ssm forward").await?;
    let mut lanes = Lanes::new();
    for (forwarder, destination) in forwards {
        let request = destination.request(&target).reason(args.connection.reason.clone());
        let config = options::port_config(&args.channel);
        match command::open(&mut source, &request, config, &mut signals).await {
            Ok(Opened::Session(session)) => lanes.start(forwarder, *session, destination),
            Ok(Opened::Left(_)) => {
                lanes.end(&mut signals).await;
                return Ok(ExitCode::SUCCESS);
            }
            Err(error) => {
                lanes.end(&mut signals).await;
                return Err(error);
            }
        }
    }
    let ended = tokio::select! {
        ended = lanes.first_end() => Err(ended),
        _signal = signals.next() => Ok(ExitCode::SUCCESS),
    };
    lanes.end(&mut signals).await;
    ended
}

/// The forwards that run: one task for each session.
struct Lanes {
    tasks: JoinSet<Result<CloseReason, ForwardError>>,
    shutdown: watch::Sender<bool>,
}

impl Lanes {
    fn new() -> Self {
        Self { tasks: JoinSet::new(), shutdown: watch::Sender::new(false) }
    }

    fn start(&mut self, forwarder: Forwarder, session: Session<Control>, destination: Destination) {
        let mut shutdown = self.shutdown.subscribe();
        let shutdown = async move {
            // An error means that `Lanes` is gone, and everything with it.
            let _ = shutdown.wait_for(|ends| *ends).await;
        };
        let session_id = session.id().to_string();
        let notice = move |notice| tell(&notice, &destination, &session_id);
        self.tasks.spawn(forwarder.run(session, Config::default(), notice, shutdown));
    }

    /// Waits for the first forward that ends. Cancel safe.
    async fn first_end(&mut self) -> Error {
        match self.tasks.join_next().await {
            Some(Ok(Ok(reason))) => Error::Ended(reason),
            Some(Ok(Err(error))) => error.into(),
            Some(Err(error)) => std::panic::resume_unwind(error.into_panic()),
            None => Error::Ended(CloseReason::Terminated),
        }
    }

    /// Ends all of them, or leaves them to the service when another signal comes.
    async fn end(mut self, signals: &mut Signals) {
        self.shutdown.send_replace(true);
        tokio::select! {
            () = async { while self.tasks.join_next().await.is_some() {} } => {}
            _signal = signals.next() => {}
        }
    }
}

fn tell(notice: &Notice, destination: &Destination, session: &str) {
    match notice {
        Notice::Ready(ready) => {
            tracing::info!(?ready, session, "the session has started");
            if !ready.customer_message.is_empty() {
                say(&ready.customer_message);
            }
        }
        Notice::Listening(addrs) => {
            let addrs: Vec<String> = addrs.iter().map(ToString::to_string).collect();
            say(format_args!("listening on {}, leading to {destination}", addrs.join(" and ")));
        }
        Notice::Refused { connection } => {
            say(format_args!("connection {connection}: the target could not connect to {destination}"));
        }
        Notice::Overfull { connection } => {
            say(format_args!(
                "connection {connection} was reset: its program did not read, and too much waited for it"
            ));
        }
        Notice::Redial { attempt: 0 } => say("the connection was lost; connecting again"),
        Notice::Resumed => say("connected again, nothing was lost"),
        other => tracing::info!(notice = ?other, session, "forward"),
    }
}
