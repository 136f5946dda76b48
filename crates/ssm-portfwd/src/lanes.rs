//! Several sessions behind one entrance: lanes that are opened as connections need them and replaced when they die.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use ssm_session::{
    CloseReason, ControlError, ControlErrorKind, ControlPlane, Session, SessionError, StartSession, backoff,
};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::connection::Incoming;
use crate::lane::{Config, Lane};
use crate::ready::{ReadyList, ReadyWaker};
use crate::{Notice, TunnelError};

/// Time between two StartSession calls of one [`StartLimiter`], unless told otherwise.
const START_INTERVAL: Duration = Duration::from_millis(350);

/// How long the end of a session that is not needed may take.
const LEAVE: Duration = Duration::from_secs(2);

/// Spaces the `StartSession` calls of everything that shares it: the API throttles callers at about three a second.
#[derive(Debug, Clone)]
pub struct StartLimiter {
    interval: Duration,
    next: Arc<Mutex<Option<Instant>>>,
}

impl Default for StartLimiter {
    fn default() -> Self {
        Self::every(START_INTERVAL)
    }
}

impl StartLimiter {
    /// At least this much time between two calls. Default 350 ms.
    pub fn every(interval: Duration) -> Self {
        Self { interval, next: Arc::default() }
    }

    /// Waits for this caller's turn. Callers are served in the order in which they came. Cancel safe: a turn that was not
    /// awaited to the end is not used up.
    pub async fn turn(&self) {
        let mut next = self.next.lock().await;
        if let Some(at) = *next {
            tokio::time::sleep_until(at).await;
        }
        *next = Some(Instant::now() + self.interval);
    }
}

/// Where the sessions of one destination come from, and how many there may be.
pub struct Lanes<C> {
    first: Option<Session<C>>,
    start: Option<Start<C>>,
    max: usize,
    /// How often a session that cannot be started as of now is tried again; `None` for no limit.
    tries_max: Option<u32>,
}

type Starting<C> = Pin<Box<dyn Future<Output = Result<Session<C>, SessionError>> + Send>>;

/// Sets the flag once the service is asked.
type Start<C> = Box<dyn Fn(Arc<AtomicBool>) -> Starting<C> + Send>;

impl<C: ControlPlane> Lanes<C> {
    /// One session that is open already. There is no other when it ends.
    pub fn single(session: Session<C>) -> Self {
        Self { first: Some(session), start: None, max: 1, tries_max: Some(0) }
    }
}

impl<C: ControlPlane> Lanes<Arc<C>> {
    /// Up to `max` sessions for `request`, the first at once and the others when every lane has a connection. A lane that ends is
    /// replaced when a connection needs it; while that is not possible, because the target is not connected for one, the connection
    /// waits and it is tried again, as often as the channel of a session may [reconnect](ssm_session::ChannelConfig::reconnect_attempts).
    pub fn on_demand(
        control: Arc<C>,
        request: StartSession,
        config: ssm_session::Config,
        limiter: StartLimiter,
        max: usize,
    ) -> Self {
        let tries_max = config.channel.reconnect_attempts;
        let start = move |asked: Arc<AtomicBool>| -> Starting<Arc<C>> {
            let (control, request) = (Arc::clone(&control), request.clone());
            let (config, limiter) = (config.clone(), limiter.clone());
            Box::pin(async move {
                limiter.turn().await;
                asked.store(true, Ordering::Relaxed);
                Session::start(control, &request, config).await
            })
        };
        Self { first: None, start: Some(Box::new(start)), max: max.max(1), tries_max }
    }
}

impl<C> fmt::Debug for Lanes<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lanes").field("max", &self.max).finish_non_exhaustive()
    }
}

/// The lanes of one destination.
pub(crate) struct LaneSet<C> {
    start: Option<Start<C>>,
    max: usize,
    tries_max: Option<u32>,
    config: Config,
    members: Vec<Member<C>>,
    list: Arc<ReadyList>,
    keys: u64,
    notices: VecDeque<Notice>,
    /// Whether any session ever started: from then on the destination is known to work.
    worked: bool,
    closing: bool,
    /// Why nothing more is to come, while the service is being told.
    outcome: Option<Ended>,
}

struct Member<C> {
    key: u64,
    state: State<C>,
    ready: Arc<ReadyWaker>,
    waker: Waker,
}

enum State<C> {
    Starting {
        starting: Starting<C>,
        asked: Arc<AtomicBool>,
        waiting: Vec<Incoming>,
        /// How often it was tried before.
        failures: u32,
    },
    Open(Box<Lane<C>>),
    /// The session is over; the service is being told.
    Leaving(Pin<Box<dyn Future<Output = ()> + Send>>),
}

/// What became of a turn.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The last lane has ended, and no other can be started.
    Session(CloseReason),
    /// A lane could not be started, and no other is open.
    NotStarted(Arc<SessionError>),
}

impl<C: ControlPlane> LaneSet<C> {
    pub(crate) fn new(lanes: Lanes<C>, config: Config) -> Self {
        let mut set = Self {
            start: lanes.start,
            max: lanes.max,
            tries_max: lanes.tries_max,
            config,
            members: Vec::new(),
            list: Arc::default(),
            keys: 0,
            notices: VecDeque::new(),
            worked: false,
            closing: false,
            outcome: None,
        };
        match lanes.first {
            Some(session) => {
                let lane = Lane::new(session, set.config.clone());
                set.push(State::Open(Box::new(lane)));
            }
            None => set.grow(Vec::new()),
        }
        set
    }

    /// Whether any session has started.
    pub(crate) fn is_ready(&self) -> bool {
        self.members.iter().any(|member| matches!(&member.state, State::Open(lane) if lane.is_ready()))
    }

    /// Whether another connection can be taken.
    pub(crate) fn can_add(&self) -> bool {
        let max = self.config.connections_max;
        !self.closing && (self.can_grow() || self.members.iter().any(|member| member.load(max).is_some()))
    }

    /// Connections carried or waiting to be.
    pub(crate) fn load(&self) -> usize {
        self.members.iter().map(Member::carried).sum()
    }

    /// Sessions that are open or being opened.
    pub(crate) fn len(&self) -> usize {
        self.members.iter().filter(|member| !matches!(member.state, State::Leaving(_))).count()
    }

    /// Gives a connection to the lane with the least to carry, or to a new one when all have something to carry. Where none can
    /// carry it, it waits for the one that fewest wait for.
    pub(crate) fn add(&mut self, incoming: Incoming) {
        let can_grow = self.can_grow();
        match self.least_loaded() {
            Some((load, member)) if load == 0 || !can_grow => member.add(incoming),
            _ if can_grow => self.grow(vec![incoming]),
            _ => self.queue(incoming),
        }
    }

    fn queue(&mut self, incoming: Incoming) {
        let max = self.config.connections_max;
        let open = self.members.iter_mut().filter(|member| member.can_wait(max));
        match open.min_by_key(|member| member.carried()) {
            Some(member) => member.add(incoming),
            None => self.refuse(incoming, TunnelError::Gone),
        }
    }

    /// The lane for another connection. One that waits for a reader comes last: to hear the newcomer it would have to read on, until
    /// the connection that is not read has to be reset.
    fn least_loaded(&mut self) -> Option<(usize, &mut Member<C>)> {
        let max = self.config.connections_max;
        let open = self.members.iter_mut().filter_map(|member| Some((member.load(max)?, member)));
        open.min_by_key(|(load, member)| (member.is_behind(), *load))
    }

    fn refuse(&mut self, incoming: Incoming, why: TunnelError) {
        let connection = incoming.number;
        incoming.refuse(why);
        self.notices.push_back(Notice::Refused { connection });
        self.notices.push_back(Notice::Closed { connection, sent: 0, received: 0 });
    }

    /// Begins to end every session.
    pub(crate) fn close(&mut self) {
        self.closing = true;
        let mut unserved = Vec::new();
        self.members.retain_mut(|member| {
            if let State::Open(lane) = &mut member.state {
                lane.close();
            }
            if let State::Starting { waiting, asked, .. } = &mut member.state {
                unserved.append(waiting);
                if !asked.load(Ordering::Relaxed) {
                    return false;
                }
                member.abandon();
            }
            member.waker.wake_by_ref();
            true
        });
        let why = TunnelError::SessionOver(CloseReason::Terminated);
        unserved.into_iter().for_each(|incoming| self.refuse(incoming, why.clone()));
    }

    /// The next thing to tell the user.
    pub(crate) fn poll_notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }

    /// A turn of every lane that was woken. Ready when nothing is open any more: after [`close`](Self::close), or when no other lane
    /// can be started.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        self.list.register(cx.waker());
        // Only those that were woken before: a lane that wakes itself has its next turn when the task has had its own.
        for _ in 0..self.list.len() {
            let Some(key) = self.list.pop() else { break };
            let Some(index) = self.members.iter().position(|member| member.key == key) else { continue };
            self.members[index].ready.taken();
            self.poll_member(index);
        }
        if self.closing && self.members.is_empty() {
            return Poll::Ready(self.outcome.take().unwrap_or(Ended::Session(CloseReason::Terminated)));
        }
        Poll::Pending
    }

    fn poll_member(&mut self, index: usize) {
        let waker = self.members[index].waker.clone();
        let mut cx = Context::from_waker(&waker);
        match &mut self.members[index].state {
            State::Starting { starting, .. } => {
                if let Poll::Ready(started) = starting.as_mut().poll(&mut cx) {
                    self.started(index, started);
                }
            }
            State::Open(lane) => {
                let polled = lane.poll(&mut cx);
                self.notices.extend(std::iter::from_fn(|| lane.poll_notice()));
                self.worked |= lane.is_ready();
                if let Poll::Ready(reason) = polled {
                    self.ended(index, reason);
                }
            }
            State::Leaving(leaving) => {
                if leaving.as_mut().poll(&mut cx).is_ready() {
                    self.members.swap_remove(index);
                }
            }
        }
    }

    fn started(&mut self, index: usize, started: Result<Session<C>, SessionError>) {
        let State::Starting { waiting, failures, .. } = &mut self.members[index].state else { return };
        let (waiting, failures) = (std::mem::take(waiting), *failures + 1);
        match started {
            Ok(session) => {
                let mut lane = Lane::new(session, self.config.clone());
                waiting.into_iter().for_each(|incoming| lane.add(incoming));
                self.members[index].state = State::Open(Box::new(lane));
                self.members[index].waker.wake_by_ref();
            }
            Err(error) => {
                self.members.swap_remove(index);
                if self.tries_again(&error, failures, waiting.len()) {
                    return self.delay(&error, failures, waiting);
                }
                let error = Arc::new(error);
                // The connections may still be carried by the lanes there are.
                for incoming in waiting {
                    match self.least_loaded() {
                        Some((_, member)) => member.add(incoming),
                        None => self.refuse(incoming, TunnelError::NotStarted(Arc::clone(&error))),
                    }
                }
                if self.len() == 0 && !self.worked {
                    self.closing = true;
                    self.outcome = Some(Ended::NotStarted(error));
                } else {
                    self.notices.push_back(Notice::LaneNotStarted { error: error.to_string() });
                }
            }
        }
    }

    fn ended(&mut self, index: usize, reason: CloseReason) {
        let leaving: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(async {});
        let member = &mut self.members[index];
        let State::Open(mut lane) = std::mem::replace(&mut member.state, State::Leaving(leaving)) else {
            return;
        };
        let unserved = lane.take_waiting();
        let told = reason.clone();
        member.state = State::Leaving(Box::pin(async move { lane.release(&told).await }));
        member.waker.wake_by_ref();
        let why = TunnelError::SessionOver(reason.clone());
        unserved.into_iter().for_each(|incoming| self.refuse(incoming, why.clone()));
        self.notices.push_back(Notice::LaneEnded { reason: reason.clone() });
        if self.closing {
            return;
        }
        let given_up = matches!(reason, CloseReason::NotReconnected { .. } | CloseReason::ConnectionLost(_));
        if self.len() == 0 && (self.start.is_none() || !self.worked || given_up) {
            self.closing = true;
            self.outcome = Some(Ended::Session(reason));
        }
    }

    /// Whether a session that was not started is worth another try: it would be later, and nothing else can carry what waits for
    /// it. A destination that has never worked is told of at once, unless it is only that there were too many calls.
    fn tries_again(&mut self, error: &SessionError, failures: u32, waiting: usize) -> bool {
        let throttled = api_kind(error) == Some(ControlErrorKind::Throttled);
        let wanted = if self.worked { waiting > 0 } else { throttled };
        wanted
            && !self.closing
            && error.is_passing()
            && self.tries_max.is_none_or(|max| failures <= max)
            && self.least_loaded().is_none()
    }

    /// Tries once more, later, and tells of it.
    fn delay(&mut self, error: &SessionError, failures: u32, waiting: Vec<Incoming>) {
        let Some(start) = &self.start else { return };
        let delay = backoff(failures);
        let asked = Arc::default();
        let start = start(Arc::clone(&asked));
        let starting = Box::pin(async move {
            tokio::time::sleep(delay).await;
            start.await
        });
        self.push(State::Starting { starting, asked, waiting, failures });
        self.notices.push_back(Notice::LaneDelayed {
            attempts: failures,
            error: error.to_string(),
            api: api_kind(error),
            delay,
        });
    }

    fn can_grow(&self) -> bool {
        self.start.is_some() && !self.closing && self.len() < self.max
    }

    fn grow(&mut self, waiting: Vec<Incoming>) {
        if let Some(start) = &self.start {
            let asked = Arc::default();
            let starting = start(Arc::clone(&asked));
            self.push(State::Starting { starting, asked, waiting, failures: 0 });
        }
    }

    fn push(&mut self, state: State<C>) {
        self.keys += 1;
        let ready = self.list.waker(self.keys);
        let waker = Waker::from(Arc::clone(&ready));
        waker.wake_by_ref();
        self.members.push(Member { key: self.keys, state, ready, waker });
    }
}

/// What kind of answer the API gave, if it gave one.
fn api_kind(error: &SessionError) -> Option<ControlErrorKind> {
    match error {
        SessionError::Control(error) => Some(ControlError::kind(error)),
        _ => None,
    }
}

impl<C: ControlPlane> Member<C> {
    /// How many connections it has.
    fn carried(&self) -> usize {
        match &self.state {
            State::Starting { waiting, .. } => waiting.len(),
            State::Open(lane) => lane.load(),
            State::Leaving(_) => 0,
        }
    }

    /// How many connections it has, if it can carry another one. At most `max` wait for a session to start.
    fn load(&self, max: usize) -> Option<usize> {
        match &self.state {
            State::Starting { waiting, .. } if waiting.len() < max => Some(waiting.len()),
            State::Open(lane) if lane.can_add() => Some(lane.load()),
            State::Starting { .. } | State::Open(_) | State::Leaving(_) => None,
        }
    }

    fn can_wait(&self, max: usize) -> bool {
        match &self.state {
            State::Starting { waiting, .. } => waiting.len() < max,
            State::Open(lane) => lane.can_wait(),
            State::Leaving(_) => false,
        }
    }

    fn is_behind(&self) -> bool {
        matches!(&self.state, State::Open(lane) if lane.is_behind())
    }

    fn add(&mut self, incoming: Incoming) {
        match &mut self.state {
            State::Starting { waiting, .. } => waiting.push(incoming),
            State::Open(lane) => {
                lane.add(incoming);
                self.waker.wake_by_ref();
            }
            State::Leaving(_) => incoming.refuse(TunnelError::Gone),
        }
    }

    /// A session that the service may have begun to start is awaited and ended, so that it is not left over.
    fn abandon(&mut self) {
        let leaving: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(async {});
        let State::Starting { starting, .. } = std::mem::replace(&mut self.state, State::Leaving(leaving))
        else {
            return;
        };
        let end = async move {
            if let Ok(session) = starting.await {
                session.terminate().await?;
            }
            Ok::<_, SessionError>(())
        };
        self.state = State::Leaving(Box::pin(async move {
            let _ = tokio::time::timeout(LEAVE, end).await;
        }));
    }
}
