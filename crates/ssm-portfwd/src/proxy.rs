//! SOCKS5 and HTTP CONNECT on one port, with sessions for each destination on demand.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use ssm_session::ControlPlane;
use tokio::time::Sleep;

use crate::connection::{Incoming, LocalEnd};
use crate::forwarder::{ConnectionNumbers, Forwarder};
use crate::lane::{Config, now};
use crate::lanes::{Ended, LaneSet, Lanes, StartLimiter};
use crate::listener::Listener;
use crate::negotiate::{NegotiateError, Request, negotiate};
use crate::ready::{ReadyList, ReadyWaker};
use crate::{Destination, ForwardError, Notice, TunnelError};

/// How long a client may take to say where it wants to go.
const NEGOTIATE_TIMEOUT: Duration = Duration::from_secs(10);

/// Clients that may be saying so at a time.
const NEGOTIATIONS_MAX: usize = 256;

/// Clients taken in a turn.
const ACCEPT_BUDGET: usize = 16;

/// Where the sessions of a [proxy](Forwarder::run_proxy) come from, and how many there may be.
#[derive(Debug, Clone)]
pub struct ProxyConfig {
    /// The node through which destinations are reached.
    pub target: String,
    /// Why, for the session history.
    pub reason: Option<String>,
    /// How sessions are driven.
    pub session: ssm_session::Config,
    /// Spaces the starts of sessions.
    pub limiter: StartLimiter,
    /// Most sessions for one destination. Default 1.
    pub lanes: usize,
    /// How long the sessions of a destination without connections are kept. Default 5 min.
    pub idle: Duration,
    /// Most destinations at a time; the one that was idle longest gives way. Default 32.
    pub destinations_max: usize,
}

impl ProxyConfig {
    /// The defaults, for this node.
    pub fn new(target: impl Into<String>) -> Self {
        Self {
            target: target.into(),
            reason: None,
            session: ssm_session::Config::default(),
            limiter: StartLimiter::default(),
            lanes: 1,
            idle: Duration::from_secs(300),
            destinations_max: 32,
        }
    }
}

impl Forwarder {
    /// Serves SOCKS5 and HTTP CONNECT, as `ssh -D` does, with sessions for each destination that a client names. When `shutdown` is
    /// ready the sessions are ended. `notice` is called from this future and must not block.
    ///
    /// # Errors
    ///
    /// When the addresses cannot be listened on.
    pub async fn run_proxy<C: ControlPlane>(
        self,
        control: Arc<C>,
        config: ProxyConfig,
        forward: Config,
        mut notice: impl FnMut(Notice),
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), ForwardError> {
        let addresses = self.bound.addresses().to_vec();
        let listeners =
            self.bound.listen().map_err(|source| ForwardError::Bind { listen: self.listen, source })?;
        notice(Notice::Listening(addresses));
        let mut server = Server {
            control,
            config,
            forward,
            listeners,
            negotiations: FuturesUnordered::new(),
            sites: BTreeMap::new(),
            leaving: Vec::new(),
            keys: 0,
            list: Arc::default(),
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            numbers: self.numbers,
            closing: false,
        };
        let mut shutdown = pin!(shutdown);
        poll_fn(|cx| {
            if !server.closing && shutdown.as_mut().poll(cx).is_ready() {
                server.close();
            }
            server.poll(cx, &mut notice)
        })
        .await;
        Ok(())
    }
}

type Negotiation = Pin<Box<dyn Future<Output = (u64, LocalEnd, Result<Request, NegotiateError>)> + Send>>;

struct Server<C> {
    control: Arc<C>,
    config: ProxyConfig,
    forward: Config,
    listeners: Vec<Listener>,
    negotiations: FuturesUnordered<Negotiation>,
    sites: BTreeMap<Destination, Site<C>>,
    /// Those whose sessions are being ended. Their destinations may have a new one already.
    leaving: Vec<Site<C>>,
    keys: u64,
    list: Arc<ReadyList>,
    timer: Pin<Box<Sleep>>,
    numbers: ConnectionNumbers,
    closing: bool,
}

/// A destination with its sessions.
struct Site<C> {
    key: u64,
    lanes: LaneSet<Arc<C>>,
    /// Since when it has no connection.
    idle_since: Option<Instant>,
    ready: Arc<ReadyWaker>,
    waker: Waker,
}

impl<C: ControlPlane> Server<C> {
    fn close(&mut self) {
        self.closing = true;
        self.listeners.clear();
        self.negotiations.clear();
        for destination in self.sites.keys().cloned().collect::<Vec<_>>() {
            self.leave(&destination);
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>, notice: &mut impl FnMut(Notice)) -> Poll<()> {
        self.list.register(cx.waker());
        self.accept(cx, notice);
        while let Poll::Ready(Some((number, end, result))) = self.negotiations.poll_next_unpin(cx) {
            match result {
                Ok(request) => self.serve(number, end, request, notice),
                Err(error) => {
                    tracing::info!(%error, connection = number, "a proxy client is not served");
                    notice(Notice::Closed { connection: number, sent: 0, received: 0 });
                }
            }
        }
        self.poll_sites(notice);
        self.expire(cx);
        if self.closing && self.leaving.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    }

    fn accept(&mut self, cx: &mut Context<'_>, notice: &mut impl FnMut(Notice)) {
        let mut budget = ACCEPT_BUDGET;
        for listener in &mut self.listeners {
            while self.negotiations.len() < NEGOTIATIONS_MAX {
                if budget == 0 {
                    return cx.waker().wake_by_ref();
                }
                budget -= 1;
                match listener.poll_accept(cx) {
                    Poll::Pending => break,
                    Poll::Ready((end, peer)) => {
                        let connection = self.numbers.next();
                        notice(Notice::Opened { connection, peer });
                        self.negotiations.push(Box::pin(ask(connection, end)));
                    }
                }
            }
        }
    }

    fn serve(&mut self, number: u64, end: LocalEnd, request: Request, notice: &mut impl FnMut(Notice)) {
        let Request { destination, early, accepted, refused } = request;
        let incoming = Incoming { end, number, early, accepted, refused };
        notice(Notice::Destination { connection: number, destination: destination.clone() });
        if let Some(site) = self.sites.get_mut(&destination) {
            site.idle_since = None;
            site.lanes.add(incoming);
            return site.waker.wake_by_ref();
        }
        if !self.make_room() {
            tracing::warn!(%destination, "too many destinations at a time");
            incoming.refuse(TunnelError::Gone);
            notice(Notice::Refused { connection: number });
            return notice(Notice::Closed { connection: number, sent: 0, received: 0 });
        }
        let mut start = destination.request(&self.config.target);
        start.reason.clone_from(&self.config.reason);
        let lanes = Lanes::on_demand(
            Arc::clone(&self.control),
            start,
            self.config.session.clone(),
            self.config.limiter.clone(),
            self.config.lanes,
        );
        self.keys += 1;
        let ready = self.list.waker(self.keys);
        let waker = Waker::from(Arc::clone(&ready));
        let mut lanes = LaneSet::new(lanes, self.forward.clone());
        lanes.add(incoming);
        waker.wake_by_ref();
        let site = Site { key: self.keys, lanes, idle_since: None, ready, waker };
        self.sites.insert(destination, site);
    }

    /// Whether another destination fits; the one that was idle longest gives way.
    fn make_room(&mut self) -> bool {
        if self.sites.len() < self.config.destinations_max {
            return true;
        }
        let idle = self.sites.iter().filter_map(|(destination, site)| Some((site.idle_since?, destination)));
        match idle.min().map(|(_, destination)| destination.clone()) {
            Some(destination) => {
                self.leave(&destination);
                true
            }
            None => false,
        }
    }

    /// Begins to end the sessions of a destination.
    fn leave(&mut self, destination: &Destination) {
        if let Some(mut site) = self.sites.remove(destination) {
            site.lanes.close();
            site.waker.wake_by_ref();
            self.leaving.push(site);
        }
    }

    fn poll_sites(&mut self, notice: &mut impl FnMut(Notice)) {
        for _ in 0..self.list.len() {
            let Some(key) = self.list.pop() else { break };
            if let Some(index) = self.leaving.iter().position(|site| site.key == key) {
                if self.leaving[index].poll(notice).is_ready() {
                    self.leaving.swap_remove(index);
                }
                continue;
            }
            let Some((destination, site)) = self.sites.iter_mut().find(|(_, site)| site.key == key) else {
                continue;
            };
            if let Poll::Ready(ended) = site.poll(notice) {
                if let Ended::NotStarted(error) = ended {
                    notice(Notice::LaneNotStarted { error: format!("{destination}: {error}") });
                }
                let destination = destination.clone();
                self.sites.remove(&destination);
            }
        }
    }

    /// Ends the sessions that were idle for long enough, and arms the timer for the next.
    fn expire(&mut self, cx: &mut Context<'_>) {
        let idle = self.config.idle;
        let now = now();
        let over = |site: &Site<C>| {
            site.idle_since.is_some_and(|since| now.saturating_duration_since(since) >= idle)
        };
        let expired = self.sites.iter().filter(|(_, site)| over(site)).map(|(destination, _)| destination);
        for destination in expired.cloned().collect::<Vec<_>>() {
            self.leave(&destination);
        }
        let next = self.sites.values().filter_map(|site| site.idle_since).min();
        let Some(due) = next.and_then(|since| since.checked_add(idle)) else { return };
        if self.timer.deadline().into_std() != due {
            self.timer.as_mut().reset(due.into());
        }
        if self.timer.as_mut().poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
    }
}

impl<C: ControlPlane> Site<C> {
    /// A turn of its lanes. Ready when it has none and can have none.
    fn poll(&mut self, notice: &mut impl FnMut(Notice)) -> Poll<Ended> {
        self.ready.taken();
        let polled = self.lanes.poll(&mut Context::from_waker(&self.waker));
        std::iter::from_fn(|| self.lanes.poll_notice()).for_each(notice);
        self.idle_since = match self.lanes.load() {
            0 => Some(self.idle_since.unwrap_or_else(now)),
            _ => None,
        };
        polled
    }
}

/// Asks a new client where it wants to go.
async fn ask(number: u64, mut end: LocalEnd) -> (u64, LocalEnd, Result<Request, NegotiateError>) {
    let result = match tokio::time::timeout(NEGOTIATE_TIMEOUT, negotiate(&mut end.as_io())).await {
        Ok(result) => result,
        Err(_elapsed) => Err(NegotiateError::Io(io::ErrorKind::TimedOut.into())),
    };
    (number, end, result)
}
