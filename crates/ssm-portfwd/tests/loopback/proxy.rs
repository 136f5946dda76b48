//! SOCKS5 and HTTP CONNECT, with a session for each destination on demand.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ssm_loopback::Loopback;
use ssm_portfwd::{Config, ForwardError, Forwarder, ListenAddr, Notice, ProxyConfig, StartLimiter};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::control::{Calls, Counting};
use crate::support::{SOON, Server, closed_port, exchange, fast, loopback, pattern, read_all, read_exactly};

#[tokio::test]
async fn both_protocols_reach_their_destination() {
    let (loopback, server) = (loopback().await, Server::echo().await);
    let proxy = Proxied::start(&loopback, |_| {}).await;
    let data = pattern(1, 1_000_000);
    assert!(exchange(&mut proxy.socks(server.port).await, &data).await == data);
    assert!(exchange(&mut proxy.connect(server.port).await, &data).await == data);
    assert_eq!(server.connections(), 2);
    assert_eq!(proxy.calls.started(), 1, "one destination, one session");
    proxy.shut_down().await;
}

#[tokio::test]
async fn a_unix_socket_serves_as_a_port_does() {
    let (loopback, server) = (loopback().await, Server::echo().await);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("proxy");
    let proxy = Proxied::start_at(&ListenAddr::Unix(path.clone()), &loopback, |_| {}).await;
    let mut stream = UnixStream::connect(&path).await.unwrap();
    let request = format!("CONNECT localhost:{} HTTP/1.1\r\n\r\nearly", server.port);
    stream.write_all(request.as_bytes()).await.unwrap();
    assert_eq!(read_exactly(&mut stream, HTTP_ACCEPTED.len()).await, HTTP_ACCEPTED);
    assert_eq!(read_exactly(&mut stream, 5).await, b"early");
    proxy.shut_down().await;
    assert!(!path.exists());
}

#[tokio::test]
async fn starts_are_spaced() {
    let (loopback, first, second) = (loopback().await, Server::echo().await, Server::echo().await);
    let interval = Duration::from_millis(300);
    let limiter = StartLimiter::every(interval);
    let proxy = Proxied::start(&loopback, |config| config.limiter = limiter).await;
    let start = Instant::now();
    let (mut one, mut other) = tokio::join!(proxy.socks(first.port), proxy.socks(second.port));
    exchange(&mut one, b"x").await;
    exchange(&mut other, b"x").await;
    assert!(start.elapsed() >= interval, "{:?}", start.elapsed());
}

#[tokio::test]
async fn what_follows_the_request_at_once_is_carried() {
    let (loopback, server) = (loopback().await, Server::echo().await);
    let proxy = Proxied::start(&loopback, |_| {}).await;
    let mut stream = TcpStream::connect(proxy.addr.unwrap()).await.unwrap();
    let request = format!("CONNECT localhost:{} HTTP/1.1\r\n\r\nearly", server.port);
    stream.write_all(request.as_bytes()).await.unwrap();
    read_exactly(&mut stream, HTTP_ACCEPTED.len()).await;
    assert_eq!(read_exactly(&mut stream, 5).await, b"early");
}

#[tokio::test]
async fn concurrent_openers_of_one_destination_share_its_session() {
    let (loopback, server) = (loopback().await, Server::echo().await);
    let proxy = Proxied::start(&loopback, |_| {}).await;
    let mut tasks = tokio::task::JoinSet::new();
    for seed in 0..8 {
        let mut stream = proxy.ask_socks(server.port).await;
        tasks.spawn(async move {
            read_exactly(&mut stream, SOCKS_ANSWER).await;
            let data = pattern(seed, 10_000);
            assert!(exchange(&mut stream, &data).await == data);
        });
    }
    tasks.join_all().await;
    assert_eq!((proxy.calls.started(), server.connections()), (1, 8));
}

#[tokio::test]
async fn each_destination_has_a_session_of_its_own() {
    let (loopback, first, second) = (loopback().await, Server::echo().await, Server::echo().await);
    let proxy = Proxied::start(&loopback, |_| {}).await;
    for server in [&first, &second] {
        assert_eq!(exchange(&mut proxy.connect(server.port).await, b"hello").await, b"hello");
    }
    assert_eq!(proxy.calls.started(), 2);
    assert_eq!((first.connections(), second.connections()), (1, 1));
}

#[tokio::test]
async fn an_idle_session_ends_and_is_started_again_when_needed() {
    let (loopback, server) = (loopback().await, Server::echo().await);
    let mut proxy = Proxied::start(&loopback, |config| config.idle = Duration::from_millis(50)).await;
    let mut stream = proxy.socks(server.port).await;
    exchange(&mut stream, b"x").await;
    drop(stream);
    proxy.until(|notice| matches!(notice, Notice::LaneEnded { .. })).await;
    assert_eq!(exchange(&mut proxy.socks(server.port).await, b"again").await, b"again");
    assert_eq!(proxy.calls.started(), 2);
}

#[tokio::test]
async fn a_destination_in_use_is_not_idle() {
    let (loopback, server) = (loopback().await, Server::echo().await);
    let (idle, used) = (Duration::from_millis(20), Server::echo().await);
    let mut proxy = Proxied::start(&loopback, |config| config.idle = idle).await;
    let mut kept = proxy.socks(used.port).await;
    exchange(&mut kept, b"x").await;
    let mut left = proxy.socks(server.port).await;
    exchange(&mut left, b"x").await;
    drop(left);
    proxy.until(|notice| matches!(notice, Notice::LaneEnded { .. })).await;
    assert_eq!(exchange(&mut kept, b"still here").await, b"still here");
}

#[tokio::test]
async fn the_destination_that_was_idle_longest_gives_way() {
    let loopback = loopback().await;
    let servers = [Server::echo().await, Server::echo().await, Server::echo().await, Server::echo().await];
    let mut proxy = Proxied::start(&loopback, |config| config.destinations_max = 2).await;
    for server in &servers[..2] {
        let mut stream = proxy.socks(server.port).await;
        exchange(&mut stream, b"x").await;
        drop(stream);
        proxy.until(|notice| matches!(notice, Notice::Closed { .. })).await;
    }
    let mut third = proxy.socks(servers[2].port).await;
    exchange(&mut third, b"x").await;
    proxy.until(|notice| matches!(notice, Notice::LaneEnded { .. })).await;
    // The second is still there, the first is not.
    let mut second = proxy.socks(servers[1].port).await;
    exchange(&mut second, b"x").await;
    assert_eq!(proxy.calls.started(), 3);
    // Both that there may be are in use.
    let mut fourth = proxy.ask_socks(servers[3].port).await;
    let answer = read_all(&mut fourth).await.unwrap();
    assert_eq!(&answer[..4], [5, 0, 5, 4]);
    assert_eq!(servers[3].connections(), 0);
}

#[tokio::test]
async fn a_session_that_does_not_start_is_answered_in_the_protocol_of_the_client() {
    let loopback = loopback().await;
    let mut proxy = Proxied::start(&loopback, |_| {}).await;
    proxy.calls.fail(true);
    let mut stream = proxy.ask_connect(80).await;
    assert!(read_all(&mut stream).await.unwrap().starts_with(b"HTTP/1.1 502 "));
    let said = proxy.until(|notice| matches!(notice, Notice::LaneNotStarted { .. })).await;
    assert!(format!("{said:?}").contains("localhost:80"), "{said:?}");
    let mut stream = proxy.ask_socks(80).await;
    assert_eq!(&read_all(&mut stream).await.unwrap()[..4], [5, 0, 5, 4]);
    // One failure is not for ever.
    proxy.calls.fail(false);
    let server = Server::echo().await;
    assert_eq!(exchange(&mut proxy.socks(server.port).await, b"hello").await, b"hello");
}

#[tokio::test]
async fn a_destination_that_refuses_resets() {
    let loopback = loopback().await;
    let mut proxy = Proxied::start(&loopback, |_| {}).await;
    let mut stream = proxy.ask_connect(closed_port().await).await;
    // The agent says so only after the connection was made, which the client was told already.
    let error = read_all(&mut stream).await.expect_err("no end in order");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    proxy.until(|notice| matches!(notice, Notice::Refused { .. })).await;
}

#[tokio::test]
async fn a_name_that_only_the_target_knows_goes_there_unresolved() {
    let (loopback, server) = (loopback().await, Server::echo().await);
    let mut proxy = Proxied::start(&loopback, |_| {}).await;
    let mut stream = proxy.ask("no-such-name.invalid", server.port).await;
    let said = proxy.until(|notice| matches!(notice, Notice::Destination { .. })).await;
    assert!(format!("{said:?}").contains("no-such-name.invalid"), "{said:?}");
    proxy.until(|notice| matches!(notice, Notice::Refused { .. })).await;
    assert!(read_all(&mut stream).await.is_err());
}

#[tokio::test]
async fn shutting_down_ends_every_session() {
    let (loopback, first, second) = (loopback().await, Server::echo().await, Server::echo().await);
    let proxy = Proxied::start(&loopback, |_| {}).await;
    let mut streams = [proxy.socks(first.port).await, proxy.connect(second.port).await];
    for stream in &mut streams {
        exchange(stream, b"x").await;
    }
    let addr = proxy.addr.unwrap();
    proxy.shut_down().await;
    for stream in &mut streams {
        assert_eq!(stream.read(&mut [0]).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
    assert!(TcpStream::connect(addr).await.is_err());
}

const HTTP_ACCEPTED: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";

/// Bytes of the two answers to a SOCKS client.
const SOCKS_ANSWER: usize = 12;

/// A proxy whose sessions come from a control plane that counts.
struct Proxied {
    /// Where it listens; `None` for a UNIX socket.
    addr: Option<SocketAddr>,
    calls: Arc<Calls>,
    notices: mpsc::UnboundedReceiver<Notice>,
    shutdown: oneshot::Sender<()>,
    task: JoinHandle<Result<(), ForwardError>>,
}

impl Proxied {
    async fn start(loopback: &Loopback, change: impl FnOnce(&mut ProxyConfig)) -> Self {
        Self::start_at(&ListenAddr::Loopback { port: 0 }, loopback, change).await
    }

    async fn start_at(
        listen: &ListenAddr,
        loopback: &Loopback,
        change: impl FnOnce(&mut ProxyConfig),
    ) -> Self {
        let calls = Arc::<Calls>::default();
        let control = Counting { inner: loopback.control(), calls: Arc::clone(&calls) };
        let proxy = Forwarder::bind(listen).unwrap();
        let addr = proxy.local_addrs().first().copied();
        let (notices, received) = mpsc::unbounded_channel();
        let (shutdown, ending) = oneshot::channel::<()>();
        let mut config = ProxyConfig::new(loopback.target());
        config.session = fast();
        change(&mut config);
        let notice = move |notice| drop(notices.send(notice));
        let ending = async move { drop(ending.await) };
        let task =
            tokio::spawn(proxy.run_proxy(Arc::new(control), config, Config::default(), notice, ending));
        let mut proxy = Self { addr, calls, notices: received, shutdown, task };
        proxy.until(|notice| matches!(notice, Notice::Listening(_))).await;
        proxy
    }

    async fn until(&mut self, wanted: impl Fn(&Notice) -> bool) -> Notice {
        let found = async {
            loop {
                let notice = self.notices.recv().await.expect("the proxy goes on");
                if wanted(&notice) {
                    return notice;
                }
            }
        };
        timeout(SOON, found).await.expect("the notice comes")
    }

    /// Asks for a destination by SOCKS; the answer is not read.
    async fn ask(&self, host: &str, port: u16) -> TcpStream {
        let mut stream = TcpStream::connect(self.addr.unwrap()).await.unwrap();
        let len = u8::try_from(host.len()).unwrap();
        let request = [&[5, 1, 0, 5, 1, 0, 3, len], host.as_bytes(), &port.to_be_bytes()].concat();
        stream.write_all(&request).await.unwrap();
        stream
    }

    async fn ask_socks(&self, port: u16) -> TcpStream {
        self.ask("localhost", port).await
    }

    /// A connection by SOCKS.
    async fn socks(&self, port: u16) -> TcpStream {
        let mut stream = self.ask_socks(port).await;
        assert_eq!(&read_exactly(&mut stream, SOCKS_ANSWER).await[..4], [5, 0, 5, 0]);
        stream
    }

    async fn ask_connect(&self, port: u16) -> TcpStream {
        let mut stream = TcpStream::connect(self.addr.unwrap()).await.unwrap();
        let request = format!("CONNECT localhost:{port} HTTP/1.1\r\nHost: x\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    }

    /// A connection by HTTP CONNECT.
    async fn connect(&self, port: u16) -> TcpStream {
        let mut stream = self.ask_connect(port).await;
        assert_eq!(read_exactly(&mut stream, HTTP_ACCEPTED.len()).await, HTTP_ACCEPTED);
        stream
    }

    async fn shut_down(self) {
        drop(self.shutdown);
        timeout(SOON, self.task).await.expect("it ends").unwrap().unwrap();
    }
}
