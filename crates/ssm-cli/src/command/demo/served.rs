//! The other side of the demo, on a thread of its own: what the client costs is then seen on its own core.

use std::net::Ipv4Addr;
use std::thread::{self, JoinHandle};

use ssm_loopback::{Config, Loopback, Profile};
use ssm_session::{
    ControlError, ControlErrorKind, ControlPlane, Endpoint, Identity, Resumed, SessionId, StartSession,
};
use tokio::net::TcpListener;
use tokio::runtime::{self, Handle};
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;

use super::transfer;
use crate::error::Error;

/// A loopback and the peer of transfers, until it is stopped or dropped.
pub(super) struct Served<C> {
    /// Starts sessions on it.
    pub(super) control: C,
    /// The machine to start them on.
    pub(super) target: String,
    /// Where the API is.
    pub(super) endpoint_url: String,
    /// The port of the peer.
    pub(super) port: u16,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

/// Starts it.
pub(super) async fn start(profile: Profile) -> Result<Served<impl ControlPlane + Clone>, Error> {
    let failed = Error::local("cannot start the loopback");
    let runtime = match runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Err(failed(error)),
    };
    let handle = runtime.handle().clone();
    let (stop, stopped) = oneshot::channel();
    let (started, starting) = oneshot::channel();
    let serve = async move {
        let begun = async {
            let loopback = Loopback::start(Config { profile, ..Config::default() }).await?;
            let peer = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
            let port = peer.local_addr()?.port();
            Ok((loopback, peer, port))
        };
        match begun.await {
            Err(error) => drop(started.send(Err(error))),
            Ok((loopback, peer, port)) => {
                let place = (loopback.target().to_owned(), loopback.endpoint_url().to_owned(), port);
                drop(started.send(Ok((loopback.control(), place))));
                tokio::select! {
                    () = transfer::serve(peer) => {}
                    _ = stopped => {}
                }
                loopback.shutdown().await;
            }
        }
    };
    let thread = thread::Builder::new().name("loopback".into()).spawn(move || runtime.block_on(serve));
    let thread = match thread {
        Ok(thread) => thread,
        Err(error) => return Err(failed(error)),
    };
    match starting.await {
        Ok(Ok((control, (target, endpoint_url, port)))) => {
            let control = OnItsThread { control, runtime: handle };
            Ok(Served { control, target, endpoint_url, port, stop, thread })
        }
        Ok(Err(error)) => Err(failed(error)),
        Err(_) => Err(failed(std::io::Error::other("its thread ended"))),
    }
}

impl<C> Served<C> {
    /// Ends every session and waits until nothing is left.
    pub(super) async fn stop(self) {
        let _ = self.stop.send(());
        let _ = spawn_blocking(|| self.thread.join()).await;
    }
}

/// Makes the calls on the loopback's thread, so that what they start runs there.
#[derive(Debug, Clone)]
struct OnItsThread<C> {
    control: C,
    runtime: Handle,
}

impl<C: ControlPlane + Clone> OnItsThread<C> {
    async fn call<T: Send + 'static, F>(&self, call: impl FnOnce(C) -> F) -> Result<T, ControlError>
    where
        F: Future<Output = Result<T, ControlError>> + Send + 'static,
    {
        let gone = |_| Err(ControlError::new(ControlErrorKind::Unreachable, "the loopback has ended"));
        self.runtime.spawn(call(self.control.clone())).await.unwrap_or_else(gone)
    }
}

impl<C: ControlPlane + Clone> ControlPlane for OnItsThread<C> {
    async fn start(&self, request: &StartSession) -> Result<Endpoint, ControlError> {
        let request = request.clone();
        self.call(|control| async move { control.start(&request).await }).await
    }

    async fn resume(&self, id: &SessionId) -> Result<Resumed, ControlError> {
        let id = id.clone();
        self.call(|control| async move { control.resume(&id).await }).await
    }

    async fn terminate(&self, id: &SessionId) -> Result<(), ControlError> {
        let id = id.clone();
        self.call(|control| async move { control.terminate(&id).await }).await
    }

    async fn identity(&self) -> Result<Option<Identity>, ControlError> {
        self.call(|control| async move { control.identity().await }).await
    }
}
