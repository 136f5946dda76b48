//! Connections through sessions for a program that wants no local port.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};

use ssm_session::{CloseReason, ControlPlane, Session, SessionError};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::ConnectionNumbers;
use crate::connection::{Incoming, LocalEnd};
use crate::lane::Config;
use crate::lanes::{Ended, LaneSet, Lanes};
use crate::pipe::{PipeEnd, TunnelStream, pipe};

/// Connections that may wait for the tunnel's task.
const QUEUE_LEN: usize = 16;

/// Sessions in a task of their own, which opens connections to their destination.
///
/// It is a [`Forwarder`](crate::Forwarder) with calls of [`open`](Self::open) where that one has a listener: what carries the connections is
/// the same. Cloning is cheap. When the last clone is dropped and every stream has ended, the sessions are ended.
#[derive(Debug, Clone)]
pub struct Tunnel {
    opens: mpsc::Sender<PipeEnd>,
    state: watch::Receiver<State>,
}

/// Why a tunnel, or one of its streams, is at an end. It is the source of their `io::Error`s.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum TunnelError {
    /// The far side could not connect to the destination. `ConnectionRefused`.
    #[error("the far side could not connect to the destination")]
    Refused,
    /// The stream was not read, and too much waited for it ([`Config::hard_limit`]). `ConnectionReset`.
    #[error("the stream was reset because too much waited to be read")]
    Overfull,
    /// The session is over. `ConnectionAborted`.
    #[error("{0}")]
    SessionOver(CloseReason),
    /// There is no session, and none could be started. `ConnectionAborted`.
    #[error("{0}")]
    NotStarted(Arc<SessionError>),
    /// The task was aborted, or takes no more connections. `ConnectionAborted`.
    #[error("the tunnel is gone")]
    Gone,
}

impl From<TunnelError> for io::Error {
    fn from(error: TunnelError) -> Self {
        let kind = match error {
            TunnelError::Refused => io::ErrorKind::ConnectionRefused,
            TunnelError::Overfull => io::ErrorKind::ConnectionReset,
            TunnelError::SessionOver(_) | TunnelError::NotStarted(_) | TunnelError::Gone => {
                io::ErrorKind::ConnectionAborted
            }
        };
        Self::new(kind, error)
    }
}

#[derive(Debug, Clone)]
enum State {
    Starting,
    Ready,
    Closed(TunnelError),
}

impl Tunnel {
    /// [`spawn_lanes`](Self::spawn_lanes) with one session that is open already, until it ends.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn spawn<C: ControlPlane>(
        session: Session<C>,
        config: Config,
    ) -> (Self, JoinHandle<Result<CloseReason, Arc<SessionError>>>) {
        Self::spawn_lanes(Lanes::single(session), config)
    }

    /// Runs `lanes` in a task. The handle gives why the last session ended, or why there was none. Aborting it leaves the sessions
    /// to the service.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn spawn_lanes<C: ControlPlane>(
        lanes: Lanes<C>,
        config: Config,
    ) -> (Self, JoinHandle<Result<CloseReason, Arc<SessionError>>>) {
        let (opens, requests) = mpsc::channel(QUEUE_LEN);
        let (report, state) = watch::channel(State::Starting);
        let lanes = LaneSet::new(lanes, config);
        let entrance = Entrance { requests, numbers: ConnectionNumbers::default(), users: Users::Some };
        let task = tokio::spawn(run(lanes, entrance, report));
        (Self { opens, state }, task)
    }

    /// Opens one more connection to the destination, waiting until a session has started.
    ///
    /// The far side connects when it hears of the stream; a destination that refuses shows as an error of the stream.
    /// Cancel safe.
    ///
    /// # Errors
    ///
    /// `ConnectionAborted` with a [`TunnelError`] that says why, when the tunnel is over or could not be started.
    pub async fn open(&self) -> io::Result<TunnelStream> {
        let mut state = self.state.clone();
        // An error means that the task is gone, which sending finds out as well.
        let _ = state.wait_for(|state| !matches!(state, State::Starting)).await;
        let (stream, end) = pipe();
        match self.opens.send(end).await {
            Ok(()) => Ok(stream),
            Err(_gone) => Err(self.closed().unwrap_or(TunnelError::Gone).into()),
        }
    }

    /// Why the tunnel is over, if it is.
    pub fn closed(&self) -> Option<TunnelError> {
        match &*self.state.borrow() {
            State::Closed(error) => Some(error.clone()),
            State::Starting | State::Ready => None,
        }
    }
}

/// Where the connections of a tunnel come from.
struct Entrance {
    requests: mpsc::Receiver<PipeEnd>,
    numbers: ConnectionNumbers,
    users: Users,
}

/// Who can still open connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Users {
    Some,
    /// Every clone of the tunnel was dropped.
    None,
    /// And the sessions were told.
    Told,
}

impl Entrance {
    /// Takes what was asked for.
    fn accept<C: ControlPlane>(&mut self, lanes: &mut LaneSet<C>, cx: &mut Context<'_>) {
        while self.users == Users::Some && lanes.can_add() {
            match self.requests.poll_recv(cx) {
                Poll::Ready(Some(end)) => {
                    lanes.add(Incoming::plain(LocalEnd::Pipe(end), self.numbers.next()));
                }
                Poll::Ready(None) => self.users = Users::None,
                Poll::Pending => break,
            }
        }
        if self.users == Users::None && lanes.load() == 0 {
            self.users = Users::Told;
            lanes.close();
        }
    }

    /// Tells those who still wait.
    async fn close(mut self, why: &TunnelError) {
        self.requests.close();
        while let Some(end) = self.requests.recv().await {
            end.fail(why.clone());
        }
    }
}

async fn run<C: ControlPlane>(
    mut lanes: LaneSet<C>,
    mut entrance: Entrance,
    report: watch::Sender<State>,
) -> Result<CloseReason, Arc<SessionError>> {
    let ended = poll_fn(|cx| {
        let polled = lanes.poll(cx);
        std::iter::from_fn(|| lanes.poll_notice()).for_each(|notice| tracing::debug!(?notice));
        if lanes.is_ready() {
            report.send_if_modified(|state| {
                let starting = matches!(state, State::Starting);
                if starting {
                    *state = State::Ready;
                }
                starting
            });
        }
        entrance.accept(&mut lanes, cx);
        polled
    })
    .await;
    let (why, result) = match ended {
        Ended::Session(reason) => (TunnelError::SessionOver(reason.clone()), Ok(reason)),
        Ended::NotStarted(error) => (TunnelError::NotStarted(Arc::clone(&error)), Err(error)),
    };
    report.send_replace(State::Closed(why.clone()));
    entrance.close(&why).await;
    result
}
