//! Local listeners in front of a session.

use std::future::poll_fn;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::task::{Context, Poll};

use ssm_session::{CloseReason, ControlPlane, Session};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket};

use crate::connection::LocalEnd;
use crate::lane::{Config, Lane};
use crate::{ForwardError, ListenAddr, Notice};

/// Connections the system keeps for us until they are taken.
const BACKLOG: u32 = 1024;

/// Connections taken in a turn.
const ACCEPT_BUDGET: usize = 16;

/// Attempts to find a port that is free on both loopback addresses.
const PAIR_ATTEMPTS: usize = 16;

/// Local addresses that are taken but do not listen yet.
///
/// Taking them before the session is started makes a port that is in use an early error; listening only afterwards makes a
/// connection fail at once, and not hang, while there is no session.
#[derive(Debug)]
pub struct Forwarder {
    sockets: Vec<TcpSocket>,
    addresses: Vec<SocketAddr>,
}

impl Forwarder {
    /// Takes the addresses of `listen`.
    ///
    /// # Errors
    ///
    /// When one is in use or not an address of this machine.
    pub fn bind(listen: &ListenAddr) -> Result<Self, ForwardError> {
        let sockets = match listen {
            ListenAddr::Loopback { port } => bind_loopback(*port),
            ListenAddr::Address(address) => bind(*address).map(|socket| vec![socket]),
        };
        let with_addresses = sockets.and_then(|sockets| {
            let addresses = sockets.iter().map(TcpSocket::local_addr).collect::<io::Result<_>>()?;
            Ok(Self { sockets, addresses })
        });
        with_addresses.map_err(|source| ForwardError::Bind { listen: *listen, source })
    }

    /// The addresses, with the port the system chose where 0 was asked for.
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Carries connections over `session` until it ends, listening from when it has started. When `shutdown` is ready the session
    /// is ended, which takes 2 s at most.
    ///
    /// `notice` is called from this future and must not block.
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
        let mut lane = Lane::new(session, config, notice);
        let mut sockets = Some(self.sockets);
        let mut listeners = Vec::new();
        let mut failed = None;
        let mut shutdown = pin!(shutdown);
        let mut shutting_down = false;
        let reason = poll_fn(|cx| {
            if !shutting_down && shutdown.as_mut().poll(cx).is_ready() {
                shutting_down = true;
                listeners.clear();
                lane.close();
            }
            let polled = lane.poll(cx);
            if lane.is_ready()
                && !shutting_down
                && let Some(sockets) = sockets.take()
            {
                match sockets.into_iter().map(|socket| socket.listen(BACKLOG)).collect::<io::Result<Vec<_>>>()
                {
                    Ok(listening) => {
                        listeners = listening;
                        lane.notify(Notice::Listening(self.addresses.clone()));
                    }
                    Err(error) => {
                        failed = Some(error);
                        lane.close();
                    }
                }
                cx.waker().wake_by_ref();
            }
            if accept(&listeners, &mut lane, cx) {
                cx.waker().wake_by_ref();
            }
            polled
        })
        .await;
        lane.release(&reason).await;
        match failed {
            Some(source) => {
                let address = self
                    .addresses
                    .first()
                    .copied()
                    .unwrap_or_else(|| SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
                Err(ForwardError::Bind { listen: ListenAddr::Address(address), source })
            }
            None => Ok(reason),
        }
    }
}

/// Carries one pair of streams over a session, as an ssh `ProxyCommand` does: `input` to the destination until it ends, and the
/// destination to `output` until the session ends.
///
/// # Errors
///
/// None after the session was opened; local failures end the session.
pub async fn stream<C: ControlPlane>(
    session: Session<C>,
    config: Config,
    input: impl AsyncRead + Send + 'static,
    output: impl AsyncWrite + Send + 'static,
    notice: impl FnMut(Notice),
    shutdown: impl Future<Output = ()>,
) -> CloseReason {
    let mut lane = Lane::new(session, config, notice);
    lane.add(LocalEnd::Other(Box::pin(tokio::io::join(input, output))));
    let mut shutdown = pin!(shutdown);
    let mut shutting_down = false;
    let reason = poll_fn(|cx| {
        if !shutting_down && shutdown.as_mut().poll(cx).is_ready() {
            shutting_down = true;
            lane.close();
        }
        lane.poll(cx)
    })
    .await;
    lane.release(&reason).await;
    reason
}

/// Takes new connections; true if any was taken.
fn accept<C: ControlPlane, N: FnMut(Notice)>(
    listeners: &[TcpListener],
    lane: &mut Lane<C, N>,
    cx: &mut Context<'_>,
) -> bool {
    let mut accepted = 0;
    for listener in listeners {
        while accepted < ACCEPT_BUDGET && lane.can_add() {
            let Poll::Ready(result) = listener.poll_accept(cx) else { break };
            match result {
                Ok((stream, _)) => {
                    accepted += 1;
                    if let Err(error) = stream.set_nodelay(true) {
                        tracing::debug!(%error, "a connection was gone before it was taken");
                    } else {
                        lane.add(LocalEnd::Tcp(stream));
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection was not taken");
                    accepted += 1;
                }
            }
        }
    }
    accepted > 0
}

fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// Both loopback addresses on the same port, or only IPv4's where there is no IPv6.
fn bind_loopback(port: u16) -> io::Result<Vec<TcpSocket>> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        let v4 = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
        let chosen = v4.local_addr()?.port();
        match bind(SocketAddr::from((Ipv6Addr::LOCALHOST, chosen))) {
            Ok(v6) => return Ok(vec![v4, v6]),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                if port != 0 || attempt == PAIR_ATTEMPTS {
                    return Err(error);
                }
            }
            Err(_no_ipv6) => return Ok(vec![v4]),
        }
    }
}
