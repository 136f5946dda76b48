//! A loopback, destinations behind it, and a running forward in front.

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ssm_loopback::Loopback;
use ssm_portfwd::{Config, Destination, ForwardError, Forwarder, ListenAddr, Notice};
use ssm_session::{CloseReason, ControlPlane, Session};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// How long anything may take. Only a failing test waits that long.
pub(crate) const SOON: Duration = Duration::from_secs(30);

pub(crate) async fn loopback() -> Loopback {
    Loopback::start(ssm_loopback::Config::default()).await.unwrap()
}

/// A client that sends as fast as it can, in large messages.
pub(crate) fn fast() -> ssm_session::Config {
    let mut config = ssm_session::Config::default();
    config.channel.pacing = None;
    config.channel.payload_len = 32 * 1024;
    config.channel.payload_max = 32 * 1024;
    config
}

/// A client from before multiplexing.
pub(crate) fn old() -> ssm_session::Config {
    let mut config = fast();
    config.channel.version = "1.0.0.0".into();
    config
}

/// A session to `port`.
pub(crate) async fn session(
    loopback: &Loopback,
    port: u16,
    config: ssm_session::Config,
) -> Session<impl ControlPlane + use<>> {
    let request = Destination::Target { port }.request(loopback.target());
    Session::start(loopback.control(), &request, config).await.unwrap()
}

/// A running forward.
pub(crate) struct Forward {
    pub(crate) addr: SocketAddr,
    pub(crate) notices: mpsc::UnboundedReceiver<Notice>,
    shutdown: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<CloseReason, ForwardError>>,
}

impl Forward {
    pub(crate) async fn start(loopback: &Loopback, port: u16) -> Self {
        Self::with(loopback, port, fast(), Config::default()).await
    }

    pub(crate) async fn with(
        loopback: &Loopback,
        port: u16,
        session_config: ssm_session::Config,
        config: Config,
    ) -> Self {
        let session = session(loopback, port, session_config).await;
        let forwarder = Forwarder::bind(&ListenAddr::Loopback { port: 0 }).unwrap();
        let addr = forwarder.local_addrs()[0];
        let (notices, received) = mpsc::unbounded_channel();
        let (shutdown, ending) = oneshot::channel::<()>();
        let notice = move |notice| drop(notices.send(notice));
        let ending = async move { drop(ending.await) };
        let task = tokio::spawn(forwarder.run(session, config, notice, ending));
        let mut forward = Self { addr, notices: received, shutdown: Some(shutdown), task };
        forward.until(|notice| matches!(notice, Notice::Listening(_))).await;
        forward
    }

    /// Waits for a notice.
    pub(crate) async fn until(&mut self, wanted: impl Fn(&Notice) -> bool) -> Notice {
        let found = async {
            loop {
                let notice = self.notices.recv().await.expect("the forward goes on");
                if wanted(&notice) {
                    return notice;
                }
            }
        };
        timeout(SOON, found).await.expect("the notice comes")
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.addr).await.unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    /// Asks it to end.
    pub(crate) fn end(&mut self) {
        drop(self.shutdown.take());
    }

    /// Asks it to end and waits for that.
    pub(crate) async fn shut_down(mut self) -> CloseReason {
        self.end();
        timeout(SOON, &mut self.task).await.expect("it ends").unwrap().unwrap()
    }

    /// Waits until it ends by itself.
    pub(crate) async fn ended(mut self) -> CloseReason {
        timeout(SOON, &mut self.task).await.expect("it ends").unwrap().unwrap()
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A TCP server.
pub(crate) struct Server {
    pub(crate) port: u16,
    connections: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Server {
    /// Serves every connection with `serve`. An error ends the connection it came from.
    pub(crate) async fn start<F, R>(serve: F) -> Self
    where
        F: Fn(TcpStream) -> R + Send + 'static,
        R: Future<Output = io::Result<()>> + Send + 'static,
    {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        Self::on(listener, serve)
    }

    pub(crate) fn on<F, R>(listener: TcpListener, serve: F) -> Self
    where
        F: Fn(TcpStream) -> R + Send + 'static,
        R: Future<Output = io::Result<()>> + Send + 'static,
    {
        let port = listener.local_addr().unwrap().port();
        let connections = Arc::<AtomicUsize>::default();
        let count = Arc::clone(&connections);
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                count.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(serve(stream));
            }
        });
        Self { port, connections, task }
    }

    /// Sends back what comes, until the other side ends.
    pub(crate) async fn echo() -> Self {
        Self::start(echo).await
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(crate) async fn echo(mut stream: TcpStream) -> io::Result<()> {
    let (mut read, mut write) = stream.split();
    tokio::io::copy(&mut read, &mut write).await?;
    write.shutdown().await
}

/// A port that nobody listens on.
pub(crate) async fn closed_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap().port()
}

/// Bytes of which every stretch of a few is found nowhere else near.
pub(crate) fn pattern(seed: u8, len: usize) -> Vec<u8> {
    /// A prime, so that no message boundary falls on the same byte twice.
    const PERIOD: usize = 100_003;
    let mut state = u64::from(seed) + 1;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    let mut bytes: Vec<u8> = std::iter::repeat_with(next).take(PERIOD.min(len)).collect();
    while bytes.len() < len {
        let more = bytes.len().min(len - bytes.len());
        bytes.extend_from_within(..more);
    }
    bytes
}

/// Reads to the end.
pub(crate) async fn read_all(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    timeout(SOON, stream.read_to_end(&mut all)).await.expect("the end comes")?;
    Ok(all)
}

/// Reads this many bytes.
pub(crate) async fn read_exactly(stream: &mut (impl tokio::io::AsyncRead + Unpin), len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    timeout(SOON, stream.read_exact(&mut bytes)).await.expect("the bytes come").expect("all of them");
    bytes
}

/// Sends `data` and reads as many bytes back, both at once.
pub(crate) async fn exchange(stream: &mut TcpStream, data: &[u8]) -> Vec<u8> {
    let (mut read, mut write) = stream.split();
    let (written, back) = tokio::join!(write.write_all(data), read_exactly(&mut read, data.len()));
    written.unwrap();
    back
}
