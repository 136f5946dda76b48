//! Local listeners in front of sessions.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use ssm_session::{CloseReason, ControlPlane, Session};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::connection::{Incoming, LocalEnd};
use crate::lane::{Config, Lane};
use crate::lanes::{Ended, LaneSet, Lanes};
use crate::listener::{Bound, Listener, LocalAddr};
use crate::{ForwardError, ListenAddr, Notice};

/// Connections taken in a turn.
const ACCEPT_BUDGET: usize = 16;

/// Local addresses whose connections are carried: to [one destination](Self::run_lanes), or to where
/// [each client](Self::run_proxy) wants to go.
#[derive(Debug)]
pub struct Forwarder {
    pub(crate) bound: Bound,
    pub(crate) listen: ListenAddr,
    pub(crate) numbers: ConnectionNumbers,
}

/// Numbers connections, from 1, over all forwards that share it.
#[derive(Debug, Clone, Default)]
pub struct ConnectionNumbers(Arc<AtomicU64>);

impl ConnectionNumbers {
    pub(crate) fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }
}

impl Forwarder {
    /// Takes the addresses of `listen`; TCP ports do not listen yet.
    ///
    /// # Errors
    ///
    /// When one is in use or not an address of this machine.
    pub fn bind(listen: &ListenAddr) -> Result<Self, ForwardError> {
        Ok(Self { bound: Bound::new(listen)?, listen: listen.clone(), numbers: ConnectionNumbers::default() })
    }

    /// Numbers connections together with other forwards.
    #[must_use]
    pub fn numbered_by(mut self, numbers: &ConnectionNumbers) -> Self {
        self.numbers = numbers.clone();
        self
    }

    /// The TCP addresses, with the port the system chose where 0 was asked for; none for a UNIX socket.
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.bound.addresses().iter().filter_map(LocalAddr::tcp).collect()
    }

    /// [`run_lanes`](Self::run_lanes) with one session that is open already, until it ends.
    ///
    /// # Errors
    ///
    /// When the addresses cannot be listened on.
    pub async fn run<C: ControlPlane>(
        self,
        session: Session<C>,
        config: Config,
        notice: impl FnMut(Notice),
        shutdown: impl Future<Output = ()>,
    ) -> Result<CloseReason, ForwardError> {
        self.run_lanes(Lanes::single(session), config, notice, shutdown).await
    }

    /// Carries connections over the sessions of `lanes`, listening from when the first has started. When `shutdown` is ready the
    /// sessions are ended, which takes 2 s at most.
    ///
    /// Gives why the last session ended, where no other can be started; a forward that can start sessions goes on until
    /// `shutdown`. `notice` is called from this future and must not block.
    ///
    /// # Errors
    ///
    /// When the first session cannot be started, or the addresses cannot be listened on.
    pub async fn run_lanes<C: ControlPlane>(
        self,
        lanes: Lanes<C>,
        config: Config,
        mut notice: impl FnMut(Notice),
        shutdown: impl Future<Output = ()>,
    ) -> Result<CloseReason, ForwardError> {
        let addresses = self.bound.addresses().to_vec();
        let mut lanes = LaneSet::new(lanes, config);
        let mut bound = Some(self.bound);
        let mut listeners = Vec::new();
        let mut failed = None;
        let mut shutdown = pin!(shutdown);
        let mut shutting_down = false;
        let ended = poll_fn(|cx| {
            if !shutting_down && shutdown.as_mut().poll(cx).is_ready() {
                shutting_down = true;
                listeners.clear();
                lanes.close();
            }
            let polled = lanes.poll(cx);
            std::iter::from_fn(|| lanes.poll_notice()).for_each(&mut notice);
            if lanes.is_ready()
                && !shutting_down
                && let Some(bound) = bound.take()
            {
                match bound.listen() {
                    Ok(listening) => {
                        listeners = listening;
                        notice(Notice::Listening(addresses.clone()));
                    }
                    Err(error) => {
                        failed = Some(error);
                        lanes.close();
                    }
                }
                cx.waker().wake_by_ref();
            }
            accept(&mut listeners, &mut lanes, &self.numbers, &mut notice, cx);
            polled
        })
        .await;
        drop(listeners);
        match (failed, ended) {
            (Some(source), _) => Err(ForwardError::Bind { listen: self.listen, source }),
            (None, Ended::Session(reason)) => Ok(reason),
            (None, Ended::NotStarted(error)) => Err(ForwardError::Session(error)),
        }
    }
}

/// Carries one pair of streams over a session, as an ssh `ProxyCommand` does: `input` to the destination until it ends, and the
/// destination to `output` until it or the session ends. Local failures end the session.
pub async fn stream<C: ControlPlane>(
    session: Session<C>,
    config: Config,
    input: impl AsyncRead + Send + 'static,
    output: impl AsyncWrite + Send + 'static,
    mut notice: impl FnMut(Notice),
    shutdown: impl Future<Output = ()>,
) -> CloseReason {
    let mut lane = Lane::new(session, config);
    let end = LocalEnd::Other(Box::pin(tokio::io::join(input, output)));
    lane.add(Incoming::plain(end, 1));
    let mut shutdown = pin!(shutdown);
    let mut closing = false;
    let reason = poll_fn(|cx: &mut Context<'_>| {
        if !closing && shutdown.as_mut().poll(cx).is_ready() {
            closing = true;
            lane.close();
        }
        let polled = lane.poll(cx);
        while let Some(said) = lane.poll_notice() {
            if matches!(said, Notice::Closed { .. }) && !closing && polled.is_pending() {
                closing = true;
                lane.close();
                cx.waker().wake_by_ref();
            }
            notice(said);
        }
        polled
    })
    .await;
    lane.release(&reason).await;
    reason
}

/// Takes new connections, as many as a turn allows.
fn accept<C: ControlPlane>(
    listeners: &mut [Listener],
    lanes: &mut LaneSet<C>,
    numbers: &ConnectionNumbers,
    notice: &mut impl FnMut(Notice),
    cx: &mut Context<'_>,
) {
    let mut budget = ACCEPT_BUDGET;
    for listener in listeners {
        while lanes.can_add() {
            if budget == 0 {
                return cx.waker().wake_by_ref();
            }
            budget -= 1;
            match listener.poll_accept(cx) {
                Poll::Pending => break,
                Poll::Ready((end, peer)) => {
                    let connection = numbers.next();
                    notice(Notice::Opened { connection, peer });
                    lanes.add(Incoming::plain(end, connection));
                }
            }
        }
    }
}
