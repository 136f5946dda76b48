//! Connections through a session for a program that wants no local port.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use ssm_session::{CloseReason, ControlPlane, Session};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::connection::{Incoming, LocalEnd, PipeEnd};
use crate::lane::{Config, Lane};

/// Bytes in the pipe between a [`TunnelStream`] and the session's task, each way.
const PIPE_LEN: usize = 64 * 1024;

/// Connections that may wait for the session's task.
const QUEUE_LEN: usize = 16;

/// A session in a task of its own, which opens connections to the destination.
///
/// Cloning is cheap. When the last clone is dropped and every stream has ended, the session is ended.
#[derive(Debug, Clone)]
pub struct Tunnel {
    opens: mpsc::Sender<PipeEnd>,
    state: watch::Receiver<State>,
}

#[derive(Debug, Clone)]
enum State {
    Starting,
    Ready,
    Closed(CloseReason),
}

impl Tunnel {
    /// Runs `session` in a task. The handle gives why it ended.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn spawn<C: ControlPlane>(session: Session<C>, config: Config) -> (Self, JoinHandle<CloseReason>) {
        let (opens, requests) = mpsc::channel(QUEUE_LEN);
        let (report, state) = watch::channel(State::Starting);
        let task = tokio::spawn(run(session, config, requests, report));
        (Self { opens, state }, task)
    }

    /// Opens one more connection to the destination, waiting until the session has started.
    ///
    /// The far side connects when it hears of the stream; a destination that refuses shows as a reset of the stream.
    /// Cancel safe.
    ///
    /// # Errors
    ///
    /// `ConnectionAborted` when the session is over.
    pub async fn open(&self) -> io::Result<TunnelStream> {
        let mut state = self.state.clone();
        let started =
            state.wait_for(|state| !matches!(state, State::Starting)).await.map(|state| state.clone());
        if !matches!(started, Ok(State::Ready)) {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        let (near, pipe) = tokio::io::duplex(PIPE_LEN);
        let broken = Arc::<AtomicBool>::default();
        match self.opens.send(PipeEnd { pipe, broken: Arc::clone(&broken) }).await {
            Ok(()) => Ok(TunnelStream { pipe: near, broken }),
            Err(_gone) => Err(io::ErrorKind::ConnectionAborted.into()),
        }
    }

    /// Why the session ended, if it has.
    pub fn closed(&self) -> Option<CloseReason> {
        match &*self.state.borrow() {
            State::Closed(reason) => Some(reason.clone()),
            State::Starting | State::Ready => None,
        }
    }
}

/// One connection to the destination of a [`Tunnel`]. Shutting it down ends the outward direction; see the crate on how long
/// the other one lives then. Dropping it closes the connection.
///
/// Reading gives `ConnectionReset` where a socket would: after a refusal, and when the session was over before the far side had
/// ended.
#[derive(Debug)]
pub struct TunnelStream {
    pipe: DuplexStream,
    broken: Arc<AtomicBool>,
}

impl AsyncRead for TunnelStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.pipe).poll_read(cx, buf))?;
        let ended = buf.filled().len() == before && buf.remaining() > 0;
        if ended && self.broken.load(Ordering::Acquire) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for TunnelStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.pipe).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_shutdown(cx)
    }
}

async fn run<C: ControlPlane>(
    session: Session<C>,
    config: Config,
    mut requests: mpsc::Receiver<PipeEnd>,
    report: watch::Sender<State>,
) -> CloseReason {
    let mut lane = Lane::new(session, config);
    let mut open = true;
    let mut number = 0;
    let reason = poll_fn(|cx| {
        let polled = lane.poll(cx);
        std::iter::from_fn(|| lane.poll_notice()).for_each(|notice| tracing::debug!(?notice));
        if lane.is_ready() {
            report.send_if_modified(|state| {
                let starting = matches!(state, State::Starting);
                if starting {
                    *state = State::Ready;
                }
                starting
            });
        }
        while open && lane.can_add() {
            match requests.poll_recv(cx) {
                Poll::Ready(Some(end)) => {
                    number += 1;
                    lane.add(Incoming::plain(LocalEnd::Pipe(end), number));
                    cx.waker().wake_by_ref();
                }
                Poll::Ready(None) => open = false,
                Poll::Pending => break,
            }
        }
        if !open && lane.load() == 0 {
            lane.close();
        }
        polled
    })
    .await;
    lane.release(&reason).await;
    report.send_replace(State::Closed(reason.clone()));
    reason
}
