//! Several sessions behind one entrance.

use std::io::ErrorKind;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ssm_loopback::{Direction, Loopback, Verdict};
use ssm_portfwd::{Config, Destination, ForwardError, Forwarder, Lanes, ListenAddr, Notice, StartLimiter};
use ssm_session::{CloseReason, ControlErrorKind, ControlPlane, PayloadType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::control::{Calls, Counting};
use crate::support::{SOON, Server, exchange, fast, loopback, old, pattern, read_exactly};

#[tokio::test]
async fn lanes_are_opened_when_all_others_have_a_connection() {
    let (loopback, server) = (loopback().await, Server::echo().await);
    let forward = Laned::start(&loopback, server.port, 3).await;
    assert_eq!(forward.calls.started(), 1, "one at first");
    let mut streams = Vec::new();
    for expected in [1, 2, 3, 3, 3] {
        let mut stream = forward.connect().await;
        assert_eq!(exchange(&mut stream, b"hello").await, b"hello");
        assert_eq!(forward.calls.started(), expected);
        streams.push(stream);
    }
    for stream in &mut streams {
        assert_eq!(exchange(stream, b"again").await, b"again");
    }
    assert_eq!(server.connections(), 5);
}

#[tokio::test]
async fn an_idle_lane_takes_the_next_connection() {
    let (loopback, server) = (loopback().await, Server::echo().await);
    let mut forward = Laned::start(&loopback, server.port, 4).await;
    for _ in 0..10 {
        let mut stream = forward.connect().await;
        assert_eq!(exchange(&mut stream, b"hello").await, b"hello");
        drop(stream);
        forward.until(|notice| matches!(notice, Notice::Closed { .. })).await;
    }
    assert_eq!(forward.calls.started(), 1);
}

#[tokio::test]
async fn a_connection_goes_to_the_lane_with_the_least_to_carry() {
    let (loopback, server) = (loopback().await, Server::echo().await);
    let mut forward = Laned::start(&loopback, server.port, 2).await;
    let mut streams = Vec::new();
    for _ in 0..6 {
        let mut stream = forward.connect().await;
        exchange(&mut stream, b"x").await;
        streams.push(stream);
    }
    // The lane of the first connection dies, and with it one half.
    forward.kill_lane(0, &loopback).await;
    let mut alive = 0;
    for mut stream in streams {
        let answered = stream.write_all(b"y").await.is_ok() && stream.read_u8().await.is_ok();
        alive += usize::from(answered);
    }
    assert_eq!(alive, 3, "each lane had three");
}

#[tokio::test]
async fn a_lane_that_dies_is_replaced_and_the_others_do_not_notice() {
    let (loopback, server) = (loopback().await, Server::echo().await);
    let mut forward = Laned::start(&loopback, server.port, 2).await;
    let (mut first, mut second) = (forward.connect().await, forward.connect().await);
    exchange(&mut first, b"x").await;
    exchange(&mut second, b"x").await;
    assert_eq!(forward.calls.started(), 2);
    forward.kill_lane(0, &loopback).await;
    assert_eq!(first.read(&mut [0]).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(exchange(&mut second, b"still here").await, b"still here");
    let mut third = forward.connect().await;
    assert_eq!(exchange(&mut third, b"new").await, b"new");
    assert_eq!(forward.calls.started(), 3);
}

#[tokio::test]
async fn the_only_lane_is_replaced_when_a_connection_needs_it() {
    let (loopback, server) = (loopback().await, Server::echo().await);
    let mut forward = Laned::start(&loopback, server.port, 1).await;
    let mut first = forward.connect().await;
    exchange(&mut first, b"x").await;
    forward.kill_lane(0, &loopback).await;
    assert_eq!(forward.calls.started(), 1, "nobody needs another one yet");
    let mut second = forward.connect().await;
    assert_eq!(exchange(&mut second, b"hello").await, b"hello");
    assert_eq!(forward.calls.started(), 2);
    // The machine reboots; the connection waits until it is there again.
    forward.kill_lane(1, &loopback).await;
    forward.calls.fail(true);
    let mut third = forward.connect().await;
    for expected in 1..=2 {
        let Notice::LaneDelayed { attempts, error, api, .. } =
            forward.until(|notice| matches!(notice, Notice::LaneDelayed { .. })).await
        else {
            panic!()
        };
        assert_eq!((attempts, api), (expected, Some(ControlErrorKind::TargetNotConnected)));
        assert!(error.contains("it is not connected"), "{error}");
    }
    forward.calls.fail(false);
    assert_eq!(exchange(&mut third, b"hello").await, b"hello");
}

#[tokio::test]
async fn without_further_tries_a_connection_is_reset_when_there_is_no_session_for_it() {
    let (loopback, server) = (loopback().await, Server::echo().await);
    let mut config = fast();
    config.channel.reconnect_attempts = Some(0);
    let listen = ListenAddr::Loopback { port: 0 };
    let mut forward = Laned::with(listen, &loopback, server.port, 1, config).await;
    exchange(&mut forward.connect().await, b"x").await;
    forward.kill_lane(0, &loopback).await;
    forward.calls.fail(true);
    let mut connection = forward.connect().await;
    assert_eq!(connection.read(&mut [0]).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    let Notice::LaneNotStarted { error } =
        forward.until(|notice| matches!(notice, Notice::LaneNotStarted { .. })).await
    else {
        panic!()
    };
    assert!(error.contains("it is not connected"), "{error}");
    forward.calls.fail(false);
    assert_eq!(exchange(&mut forward.connect().await, b"hello").await, b"hello");
}

#[tokio::test]
async fn connections_that_come_before_a_basic_session_wait_their_turn() {
    let (loopback, server) = (loopback().await, Server::echo().await);
    let listen = ListenAddr::Loopback { port: 0 };
    let forward = Laned::with(listen, &loopback, server.port, 1, old()).await;
    // The second and third are taken before the first session of the next lane says that it carries one at a time.
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(forward.connect().await);
    }
    for mut client in clients {
        assert_eq!(exchange(&mut client, b"hello").await, b"hello");
    }
    assert_eq!(server.connections(), 3);
    assert_eq!(forward.calls.started(), 1);
}

#[tokio::test]
async fn few_connections_are_taken_while_a_session_starts() {
    let (loopback, server) = (loopback().await, Server::echo().await);
    let listen = ListenAddr::Loopback { port: 0 };
    let config = Config { connections_max: 2, ..Config::default() };
    let mut forward = Laned::limited(listen, &loopback, server.port, 1, fast(), config).await;
    let mut first = forward.connect().await;
    assert_eq!(exchange(&mut first, b"x").await, b"x");
    drop(first);
    forward.until(|notice| matches!(notice, Notice::Closed { .. })).await;
    forward.kill_lane(0, &loopback).await;
    let hold = forward.calls.hold().await;
    let mut clients = Vec::new();
    for _ in 0..5 {
        clients.push(forward.connect().await);
    }
    let mut taken = 0;
    while let Ok(notice) = timeout(Duration::from_millis(100), forward.notices.recv()).await {
        taken += usize::from(matches!(notice, Some(Notice::Opened { .. })));
    }
    assert_eq!(taken, 2, "the others wait outside");
    drop(hold);
    for mut client in clients {
        assert_eq!(exchange(&mut client, b"hello").await, b"hello");
    }
}

#[tokio::test]
async fn a_lane_that_cannot_be_opened_leaves_the_connection_to_the_others() {
    let (loopback, server) = (loopback().await, Server::echo().await);
    let mut forward = Laned::start(&loopback, server.port, 2).await;
    let mut first = forward.connect().await;
    exchange(&mut first, b"x").await;
    forward.calls.fail(true);
    let mut second = forward.connect().await;
    assert_eq!(exchange(&mut second, b"hello").await, b"hello");
    forward.until(|notice| matches!(notice, Notice::LaneNotStarted { .. })).await;
    assert_eq!(exchange(&mut first, b"still here").await, b"still here");
}

#[tokio::test]
async fn a_first_session_that_does_not_start_is_an_error() {
    let loopback = loopback().await;
    let calls = Arc::<Calls>::default();
    calls.fail(true);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let forwarder = Forwarder::bind(&ListenAddr::Unix(path.clone())).unwrap();
    // A UNIX socket takes connections from the start; they wait for the session.
    let mut early = UnixStream::connect(&path).await.unwrap();
    let lanes = lanes(&loopback, 80, 2, &calls, fast());
    let run = forwarder.run_lanes(lanes, Config::default(), |_| {}, std::future::pending());
    let error = timeout(SOON, run).await.expect("it ends").unwrap_err();
    assert!(matches!(error, ForwardError::Session(_)), "{error}");
    assert!(error.to_string().contains("it is not connected"), "{error}");
    assert!(!matches!(early.read(&mut [0]).await, Ok(1..)));
    assert!(!path.exists());
}

#[tokio::test]
async fn every_session_is_ended_at_the_end() {
    let (loopback, server) = (loopback().await, Server::echo().await);
    let forward = Laned::start(&loopback, server.port, 3).await;
    let mut streams = Vec::new();
    for _ in 0..2 {
        let mut stream = forward.connect().await;
        exchange(&mut stream, b"x").await;
        streams.push(stream);
    }
    // A third session is being started for this one.
    let mut waiting = forward.connect().await;
    assert_eq!(forward.shut_down().await, CloseReason::Terminated);
    for stream in &mut streams {
        assert_eq!(stream.read(&mut [0]).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
    assert!(!matches!(waiting.read(&mut [0]).await, Ok(1..)));
}

#[tokio::test]
async fn a_lane_knows_the_payload_size_that_another_has_found() {
    let (loopback, server) = (loopback().await, Server::echo().await);
    let probes = Arc::<Mutex<Vec<u32>>>::default();
    let seen = Arc::clone(&probes);
    let _watching = loopback.rule(move |direction, header| {
        let flag = direction == Direction::ClientToAgent && header.payload_type == Some(PayloadType::Flag);
        if flag && header.payload_len > 4 {
            seen.lock().unwrap().push(header.payload_len);
        }
        Verdict::Deliver
    });
    let mut session = ssm_session::Config::default();
    session.channel.pacing = None;
    let listen = ListenAddr::Loopback { port: 0 };
    let forward = Laned::with(listen, &loopback, server.port, 2, session).await;
    let data = pattern(1, 2_000_000);
    let mut first = forward.connect().await;
    assert!(exchange(&mut first, &data).await == data);
    let mut second = forward.connect().await;
    assert!(exchange(&mut second, &data).await == data);
    assert_eq!(forward.calls.started(), 2);
    assert_eq!(*probes.lock().unwrap(), [2048, 4096, 8192, 16_384, 32_768, 32_768]);
}

#[tokio::test]
async fn busy_lanes_do_not_keep_others_from_connecting() {
    let server = Server::start(|mut stream| async move {
        let block = vec![7; 1 << 16];
        match stream.read_u8().await? {
            b'f' => loop {
                stream.write_all(&block).await?;
            },
            byte => stream.write_u8(byte).await,
        }
    })
    .await;
    let loopback = loopback().await;
    let forward = Laned::start(&loopback, server.port, 2).await;
    let mut floods = Vec::new();
    for _ in 0..2 {
        let mut flood = forward.connect().await;
        flood.write_all(b"f").await.unwrap();
        floods.push(tokio::spawn(async move { tokio::io::copy(&mut flood, &mut tokio::io::sink()).await }));
    }
    for _ in 0..50 {
        let mut stream = forward.connect().await;
        stream.write_all(b"a").await.unwrap();
        assert_eq!(read_exactly(&mut stream, 1).await, b"a");
    }
    forward.shut_down().await;
    for flood in floods {
        assert!(timeout(SOON, flood).await.unwrap().unwrap().is_err());
    }
}

#[cfg(unix)]
#[tokio::test]
async fn item_92_a_unix_socket_is_for_this_user_replaces_a_stale_one_and_goes_away() {
    use std::os::unix::fs::PermissionsExt as _;
    let (loopback, server) = (loopback().await, Server::echo().await);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("forward.sock");
    // What a run that was killed leaves behind.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let forward = Laned::on(ListenAddr::Unix(path.clone()), &loopback, server.port, 1).await;
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let mut stream = UnixStream::connect(&path).await.unwrap();
    stream.write_all(b"hello").await.unwrap();
    assert_eq!(read_exactly(&mut stream, 5).await, b"hello");
    let error = Forwarder::bind(&ListenAddr::Unix(path.clone())).unwrap_err();
    assert!(matches!(&error, ForwardError::Bind { .. }), "a socket in use is not taken away: {error}");
    forward.shut_down().await;
    assert!(!path.exists());
    std::fs::write(&path, "a file").unwrap();
    assert!(Forwarder::bind(&ListenAddr::Unix(path.clone())).is_err(), "a file is not replaced");
    assert_eq!(std::fs::read(&path).unwrap(), b"a file");
}

#[cfg(unix)]
#[tokio::test]
async fn a_socket_that_somebody_else_put_there_stays() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("forward.sock");
    let forwarder = Forwarder::bind(&ListenAddr::Unix(path.clone())).unwrap();
    std::fs::remove_file(&path).unwrap();
    let _other = std::os::unix::net::UnixListener::bind(&path).unwrap();
    drop(forwarder);
    assert!(path.exists());
}

/// A forward whose lanes come from a control plane that counts.
struct Laned {
    addr: Option<std::net::SocketAddr>,
    calls: Arc<Calls>,
    notices: mpsc::UnboundedReceiver<Notice>,
    shutdown: oneshot::Sender<()>,
    task: JoinHandle<Result<CloseReason, ForwardError>>,
}

impl Laned {
    async fn start(loopback: &Loopback, port: u16, max: usize) -> Self {
        Self::on(ListenAddr::Loopback { port: 0 }, loopback, port, max).await
    }

    async fn on(listen: ListenAddr, loopback: &Loopback, port: u16, max: usize) -> Self {
        Self::with(listen, loopback, port, max, fast()).await
    }

    async fn with(
        listen: ListenAddr,
        loopback: &Loopback,
        port: u16,
        max: usize,
        session: ssm_session::Config,
    ) -> Self {
        Self::limited(listen, loopback, port, max, session, Config::default()).await
    }

    async fn limited(
        listen: ListenAddr,
        loopback: &Loopback,
        port: u16,
        max: usize,
        session: ssm_session::Config,
        config: Config,
    ) -> Self {
        let calls = Arc::<Calls>::default();
        let forwarder = Forwarder::bind(&listen).unwrap();
        let addr = forwarder.local_addrs().first().copied();
        let (notices, received) = mpsc::unbounded_channel();
        let (shutdown, ending) = oneshot::channel::<()>();
        let lanes = lanes(loopback, port, max, &calls, session);
        let notice = move |notice| drop(notices.send(notice));
        let ending = async move { drop(ending.await) };
        let task = tokio::spawn(forwarder.run_lanes(lanes, config, notice, ending));
        let mut forward = Self { addr, calls, notices: received, shutdown, task };
        forward.until(|notice| matches!(notice, Notice::Listening(_))).await;
        forward
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.addr.unwrap()).await.unwrap()
    }

    async fn until(&mut self, wanted: impl Fn(&Notice) -> bool) -> Notice {
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

    /// Ends a session at the service, which ends it here; lanes count from 0 in the order of their start.
    async fn kill_lane(&mut self, number: usize, loopback: &Loopback) {
        loopback.control().terminate(&self.calls.sessions()[number]).await.unwrap();
        self.until(|notice| matches!(notice, Notice::LaneEnded { .. })).await;
    }

    async fn shut_down(self) -> CloseReason {
        drop(self.shutdown);
        timeout(SOON, self.task).await.expect("it ends").unwrap().unwrap()
    }
}

fn lanes(
    loopback: &Loopback,
    port: u16,
    max: usize,
    calls: &Arc<Calls>,
    session: ssm_session::Config,
) -> Lanes<Arc<impl ControlPlane + use<>>> {
    let control = Counting { inner: loopback.control(), calls: Arc::clone(calls) };
    let request = Destination::Target { port }.request(loopback.target());
    Lanes::on_demand(Arc::new(control), request, session, StartLimiter::default(), max)
}
