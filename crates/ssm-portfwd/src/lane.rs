//! One session with the connections it carries: the event loop.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use ssm_session::{
    CloseReason, ControlFlag, ControlPlane, Event, MessageBuf, PayloadType, PortMode, Reading, Ready,
    Session, SessionKind,
};
use tokio::time::Sleep;

use crate::connection::Incoming;
#[cfg(feature = "metrics")]
use crate::meter::Meter;
use crate::mux::MuxCarrier;
use crate::ready::ReadyList;
use crate::single::SingleCarrier;
use crate::traffic::{Counted, Traffic};
use crate::{Notice, TunnelError};

/// Frames read before the other steps of a turn get their chance.
const INBOUND_BUDGET: usize = 64;

/// How long what was received may take to be written once the session is over.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// While reading is stopped, one frame is read this often, so that pings are answered and the connection counts as alive.
const STOPPED_READ: Duration = Duration::from_secs(10);

/// Limits and times of a forward.
#[derive(Debug, Clone)]
pub struct Config {
    /// How long the end of a local direction is held back while an answer is awaited. Default 5 s.
    pub half_close_grace: Duration,
    /// Bytes that may wait for one connection before its own direction is no longer read. Default 256 KiB.
    pub stream_limit: usize,
    /// Bytes that may wait for all connections before no new data is taken. Default 4 MiB.
    pub receive_limit: usize,
    /// Bytes that may wait for all connections before the fullest is reset. Default 8 MiB.
    pub hard_limit: usize,
    /// How long reading may be stopped before the fullest connection is reset; `None` for ever. Default 10 min.
    pub stall_limit: Option<Duration>,
    /// How long a connection that is not read may hold up others, once `receive_limit` bytes wait; then it is reset. Default 5 s.
    pub hold_up_limit: Duration,
    /// Most connections at a time. Default 4,096.
    pub connections_max: usize,
    /// Where what is carried is counted.
    pub traffic: Traffic,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            half_close_grace: Duration::from_secs(5),
            stream_limit: 256 * 1024,
            receive_limit: 4 * 1024 * 1024,
            hard_limit: 8 * 1024 * 1024,
            stall_limit: Some(Duration::from_secs(600)),
            hold_up_limit: Duration::from_secs(5),
            connections_max: 4096,
            traffic: Traffic::default(),
        }
    }
}

/// One session, its carrier and its connections.
pub(crate) struct Lane<C> {
    session: Session<C>,
    carrier: Carrier,
    /// Connections that the carrier has not taken yet: the session has not started, or carries one at a time.
    waiting: VecDeque<Incoming>,
    shared: Shared,
    timer: Pin<Box<Sleep>>,
    /// Why the session ended, while what it brought is still being written.
    ended: Option<(CloseReason, Instant)>,
    stopped: Option<Stopped>,
    counted: Counted,
}

enum Carrier {
    /// The session has not said yet what it is.
    Unknown,
    Mux(Box<MuxCarrier>),
    Single(Box<SingleCarrier>),
}

/// Since when reading is stopped, and when a frame was read last.
struct Stopped {
    since: Instant,
    last_read: Instant,
}

/// What every carrier uses.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) list: Arc<ReadyList>,
    notices: VecDeque<Notice>,
    /// Why the session is over, once it is.
    over: Option<CloseReason>,
    #[cfg(feature = "metrics")]
    pub(crate) meter: Meter,
}

impl Shared {
    pub(crate) fn new(config: Config) -> Self {
        Self {
            config,
            list: Arc::default(),
            notices: VecDeque::new(),
            over: None,
            #[cfg(feature = "metrics")]
            meter: Meter::new(),
        }
    }

    pub(crate) fn poll_notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }

    pub(crate) fn notify(&mut self, notice: Notice) {
        #[cfg(feature = "metrics")]
        self.meter.notice(&notice);
        self.notices.push_back(notice);
    }

    /// What becomes of a connection whose destination had not ended.
    pub(crate) fn gone(&self) -> TunnelError {
        self.over.clone().map_or(TunnelError::Gone, TunnelError::SessionOver)
    }
}

impl<C: ControlPlane> Lane<C> {
    pub(crate) fn new(session: Session<C>, config: Config) -> Self {
        Self {
            session,
            carrier: Carrier::Unknown,
            waiting: VecDeque::new(),
            shared: Shared::new(config),
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            ended: None,
            stopped: None,
            counted: Counted::default(),
        }
    }

    /// Whether the session has started.
    pub(crate) fn is_ready(&self) -> bool {
        !matches!(self.carrier, Carrier::Unknown)
    }

    /// Whether another connection can be carried, now or, as one of the first, once the session has started.
    pub(crate) fn can_add(&self) -> bool {
        match &self.carrier {
            Carrier::Unknown => self.can_wait(),
            Carrier::Mux(_) | Carrier::Single(_) => {
                self.ended.is_none() && self.waiting.is_empty() && self.carrier_is_free()
            }
        }
    }

    /// Whether another connection can wait until it can be carried.
    pub(crate) fn can_wait(&self) -> bool {
        self.ended.is_none() && self.waiting.len() < self.shared.config.connections_max
    }

    fn carrier_is_free(&self) -> bool {
        match &self.carrier {
            Carrier::Unknown => false,
            Carrier::Mux(mux) => mux.is_free(),
            Carrier::Single(single) => single.is_free(),
        }
    }

    /// Takes a connection. It waits until it can be carried.
    pub(crate) fn add(&mut self, incoming: Incoming) {
        self.waiting.push_back(incoming);
        self.seat();
    }

    /// Gives the carrier what it can carry; true if that was anything.
    fn seat(&mut self) -> bool {
        let before = self.waiting.len();
        while self.ended.is_none()
            && self.carrier_is_free()
            && let Some(incoming) = self.waiting.pop_front()
        {
            match &mut self.carrier {
                Carrier::Unknown => {}
                Carrier::Mux(mux) => mux.add(&mut self.shared, now(), incoming),
                Carrier::Single(single) => single.add(&self.shared, incoming),
            }
        }
        self.waiting.len() < before
    }

    /// Begins to end the session.
    pub(crate) fn close(&mut self) {
        self.session.close();
    }

    /// Tells the service of the end.
    pub(crate) async fn release(&mut self, reason: &CloseReason) {
        if let Err(error) = self.session.release(reason).await {
            tracing::warn!(%error, session = %self.session.id(), "the session was not ended at the service");
        }
    }

    /// The next thing to tell the user.
    pub(crate) fn poll_notice(&mut self) -> Option<Notice> {
        self.shared.poll_notice()
    }

    /// Connections carried or waiting to be.
    pub(crate) fn load(&self) -> usize {
        let carried = match &self.carrier {
            Carrier::Unknown => 0,
            Carrier::Mux(mux) => mux.len(),
            Carrier::Single(single) => usize::from(!single.is_free()),
        };
        carried + self.waiting.len()
    }

    /// Whether more waits for readers than may.
    pub(crate) fn is_behind(&self) -> bool {
        self.waiting_bytes() > self.shared.config.receive_limit
    }

    /// Connections that were never carried, when the session has ended.
    pub(crate) fn take_waiting(&mut self) -> VecDeque<Incoming> {
        std::mem::take(&mut self.waiting)
    }

    /// A turn of the loop. Ready when the session is over and what it brought has been written.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<CloseReason> {
        self.shared.list.register(cx.waker());
        self.inbound(cx);
        let now = now();
        match &mut self.carrier {
            Carrier::Unknown => {}
            Carrier::Mux(mux) => mux.turn(&mut self.session, &mut self.shared, cx, now),
            Carrier::Single(single) => single.turn(&mut self.session, &mut self.shared, cx, now),
        }
        if self.seat() {
            cx.waker().wake_by_ref();
        }
        self.relieve(cx, now);
        self.regulate(cx, now);
        let _ = self.session.poll_flush(cx);
        let stats = self.session.stats();
        self.shared.config.traffic.count(&mut self.counted, &stats);
        if self.is_ready() {
            self.counted.changes(&stats, |notice| self.shared.notify(notice));
        }
        if let Some((reason, until)) = &self.ended
            && (self.waiting_bytes() == 0 || *until <= now)
        {
            match &mut self.carrier {
                Carrier::Unknown => {}
                Carrier::Mux(mux) => mux.leave_all(&mut self.shared),
                Carrier::Single(single) => single.leave_all(&mut self.shared),
            }
            return Poll::Ready(reason.clone());
        }
        self.poll_timer(cx, now);
        Poll::Pending
    }

    fn inbound(&mut self, cx: &mut Context<'_>) {
        for _ in 0..INBOUND_BUDGET {
            let Poll::Ready(event) = self.session.poll_event(cx) else { return };
            self.handle_event(event);
        }
        cx.waker().wake_by_ref();
    }

    fn handle_event(&mut self, event: Event) {
        match event {
            Event::Ready(ready) => self.start(ready),
            Event::Payload { kind: PayloadType::Output, payload } => match &mut self.carrier {
                Carrier::Unknown => {}
                Carrier::Mux(mux) => {
                    if let Err(error) = mux.handle_input(payload, now()) {
                        tracing::warn!(%error, "the agent's multiplexer cannot be understood; ending the session");
                        self.session.close();
                    }
                }
                Carrier::Single(single) => single.handle_input(payload, now()),
            },
            Event::Payload { kind: PayloadType::Flag, payload } => {
                if ControlFlag::decode(&payload) == ControlFlag::ConnectToPortError
                    && let Carrier::Mux(mux) = &mut self.carrier
                {
                    mux.refused();
                }
            }
            Event::Payload { kind, .. } => tracing::debug!(?kind, "ignored in a port session"),
            Event::Resumed => {
                let after = self.session.loss().map(|loss| now().saturating_duration_since(loss.since));
                self.shared.notify(Notice::Resumed { after: after.unwrap_or_default() });
            }
            Event::Redial { attempt } => {
                let (cause, delay, api) = match self.session.loss() {
                    Some(loss) => (loss.cause.clone(), now().saturating_duration_since(loss.at), loss.api),
                    None => Default::default(),
                };
                self.shared.notify(Notice::Redial { attempt, cause, delay, api });
            }
            // Port sessions are not encrypted.
            Event::KeyRequired(_) => {}
            Event::Closed(reason) => {
                match &mut self.carrier {
                    Carrier::Unknown => {}
                    Carrier::Mux(mux) => mux.end(),
                    Carrier::Single(single) => single.end(&reason),
                }
                self.shared.over = Some(reason.clone());
                self.ended = Some((reason, now() + DRAIN_TIMEOUT));
            }
        }
    }

    fn start(&mut self, ready: Ready) {
        let SessionKind::Port(mode) = ready.kind else {
            tracing::warn!(kind = ?ready.kind, "the document is not one for ports; ending the session");
            return self.session.close();
        };
        if self.is_ready() {
            return;
        }
        self.carrier = match mode {
            PortMode::Mux { keep_alive } => {
                Carrier::Mux(Box::new(MuxCarrier::new(&self.shared.config, keep_alive, now())))
            }
            PortMode::Basic | PortMode::Stream => {
                Carrier::Single(Box::new(SingleCarrier::new(mode, &self.shared.config)))
            }
        };
        self.shared.notify(Notice::Ready(ready));
        self.seat();
    }

    /// Resets the connection that is not read when others were held up by it for long enough.
    fn relieve(&mut self, cx: &mut Context<'_>, now: Instant) {
        if self.hold_up_due().is_some_and(|due| due <= now)
            && let Carrier::Mux(mux) = &mut self.carrier
        {
            mux.reset_fullest(&mut self.shared);
            cx.waker().wake_by_ref();
        }
    }

    fn hold_up_due(&self) -> Option<Instant> {
        let Carrier::Mux(mux) = &self.carrier else { return None };
        mux.held_up_since()?.checked_add(self.shared.config.hold_up_limit)
    }

    /// Stops reading frames while too much waits to be written and nothing of ours needs an acknowledgement.
    fn regulate(&mut self, cx: &mut Context<'_>, now: Instant) {
        if !self.is_behind() || !self.session.is_drained() || self.ended.is_some() {
            if self.stopped.take().is_some() {
                self.session.set_reading(Reading::On);
                cx.waker().wake_by_ref();
            }
            return;
        }
        self.session.set_reading(Reading::Stopped);
        let stopped = self.stopped.get_or_insert(Stopped { since: now, last_read: now });
        if now.saturating_duration_since(stopped.last_read) >= STOPPED_READ {
            stopped.last_read = now;
            self.session.set_reading(Reading::On);
            if let Poll::Ready(event) = self.session.poll_event(cx) {
                self.handle_event(event);
            }
            self.session.set_reading(Reading::Stopped);
        }
        let stalled = self.stopped.as_ref().map(|stopped| now.saturating_duration_since(stopped.since));
        if let (Some(stalled), Some(limit)) = (stalled, self.shared.config.stall_limit)
            && stalled >= limit
        {
            self.stopped = None;
            if let Carrier::Mux(mux) = &mut self.carrier {
                mux.reset_fullest(&mut self.shared);
            }
        }
    }

    fn waiting_bytes(&self) -> usize {
        match &self.carrier {
            Carrier::Unknown => 0,
            Carrier::Mux(mux) => mux.waiting_bytes(),
            Carrier::Single(single) => single.waiting_bytes(),
        }
    }

    /// Arms the one timer of the lane and serves the carrier when it fires.
    fn poll_timer(&mut self, cx: &mut Context<'_>, now: Instant) {
        let carrier = match &self.carrier {
            Carrier::Unknown => None,
            Carrier::Mux(mux) => mux.deadline(),
            Carrier::Single(single) => single.deadline(),
        };
        let stopped = self.stopped.as_ref().map(|stopped| stopped.last_read + STOPPED_READ);
        let ended = self.ended.as_ref().map(|(_, until)| *until);
        let Some(due) = [carrier, stopped, ended, self.hold_up_due()].into_iter().flatten().min() else {
            return;
        };
        if due <= now {
            return cx.waker().wake_by_ref();
        }
        if self.timer.deadline().into_std() != due {
            self.timer.as_mut().reset(due.into());
        }
        if self.timer.as_mut().poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
    }
}

/// Sends a payload that was announced as possible; it is the driver's mistake if it does not fit.
pub(crate) fn send<C: ControlPlane>(session: &mut Session<C>, kind: PayloadType, payload: MessageBuf) {
    if let Err(error) = session.send(kind, payload) {
        // Only a closed session refuses after poll_writable; its end is on the way as an event.
        tracing::debug!(%error, "a payload was not taken");
    }
}

/// The monotonic clock of the runtime, which tests can stop.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use ssm_loopback::Loopback;
    use ssm_session::StartSession;
    use tokio::io::{AsyncReadExt, duplex};
    use tokio::net::TcpListener;

    use super::*;
    use crate::connection::LocalEnd;

    /// A port has no stderr, no exit code, and nothing that has not been thought of yet.
    #[tokio::test]
    async fn item_85_only_output_is_written_to_sockets() {
        let loopback = Loopback::start(ssm_loopback::Config::default()).await.unwrap();
        let destination = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let request = StartSession::port(loopback.target(), destination.local_addr().unwrap().port());
        let mut config = ssm_session::Config::default();
        config.channel.version = "1.0.0.0".into();
        let session = Session::start(loopback.control(), &request, config).await.unwrap();
        let mut lane = Lane::new(session, Config::default());
        let (mut near, far) = duplex(64);
        lane.add(Incoming::plain(LocalEnd::Other(Box::pin(far)), 1));
        while !lane.is_ready() {
            turn(&mut lane).await;
        }
        let mut say = |kind, text: &'static str| {
            lane.handle_event(Event::Payload { kind, payload: Bytes::from_static(text.as_bytes()) });
        };
        let others =
            [PayloadType::Error, PayloadType::StdErr, PayloadType::ExitCode, PayloadType::Unknown(99)];
        others.into_iter().for_each(|kind| say(kind, "no"));
        say(PayloadType::Output, "yes");
        turn(&mut lane).await;
        let mut written = [0; 3];
        near.read_exact(&mut written).await.unwrap();
        assert_eq!(&written, b"yes");
    }

    /// A turn of the loop, once something has happened or a moment later.
    async fn turn<C: ControlPlane>(lane: &mut Lane<C>) {
        let moment =
            tokio::time::timeout(Duration::from_millis(20), std::future::poll_fn(|cx| lane.poll(cx)));
        assert!(moment.await.is_err(), "the session ends");
    }
}
