//! Every kind of loss that the network and the service have, with a forward in front.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ssm_loopback::{Cells, Loopback, Verdict};
use ssm_portfwd::{Config, Destination, ForwardError, Forwarder, Lanes, ListenAddr, Notice, StartLimiter};
use ssm_session::{
    CloseReason, ControlError, ControlErrorKind, ControlPlane, Endpoint, Identity, Resumed, SessionId,
    StartSession, WallClock,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::support::{SOON, Server, exchange, fast, loopback};

#[tokio::test]
async fn a_connection_outlives_every_end_of_its_web_socket() {
    let loopback = loopback().await;
    let server = Server::echo().await;
    let mut forward = Wired::start(&loopback, server.port, fast()).await;
    let mut stream = forward.connect().await;
    for (mode, cause) in [
        // Unmasked closing frames: 1001 and 1000 `Bye`.
        (Mode::Injecting(b"\x88\x02\x03\xe9"), "the service closed it: 1001"),
        (Mode::Injecting(b"\x88\x05\x03\xe8Bye"), "the service closed it: 1000 Bye"),
        (Mode::Ended, ""),
        (Mode::Reset, ""),
    ] {
        assert_eq!(exchange(&mut stream, b"before").await, b"before");
        forward.wire.set(mode);
        let Notice::Redial { attempt: 0, cause: told, api: None, .. } = forward.lost().await else {
            panic!()
        };
        assert!(told.contains(cause) && !told.is_empty(), "{mode:?}: {told}");
        forward.wire.set(Mode::Through);
        assert_eq!(exchange(&mut stream, b"behind").await, b"behind");
        forward.until(|notice| matches!(notice, Notice::Resumed { .. })).await;
    }
    assert_eq!(forward.control.started(), 1);
    forward.shut_down().await;
}

#[tokio::test]
async fn a_connection_that_has_gone_silent_is_replaced_while_something_waits_for_an_answer() {
    let (loopback, server) = (loopback().await, Server::echo().await);
    let mut config = fast();
    config.channel.unanswered = Duration::from_millis(300);
    config.channel.silence = Duration::from_secs(2);
    let mut forward = Wired::start(&loopback, server.port, config).await;
    let mut stream = forward.connect().await;
    assert_eq!(exchange(&mut stream, b"before").await, b"before");
    forward.wire.set(Mode::Frozen);
    stream.write_all(b"behind").await.unwrap();
    let Notice::Redial { cause, .. } = forward.lost().await else { panic!() };
    assert!(cause.contains("nothing came for too long"), "{cause}");
    // What the dead connection has in its buffers is lost with it.
    forward.wire.set(Mode::Reset);
    forward.wire.set(Mode::Through);
    assert_eq!(crate::support::read_exactly(&mut stream, 6).await, b"behind");
    forward.shut_down().await;
}

#[tokio::test]
async fn a_machine_that_was_asleep_asks_for_a_sign_of_life_at_once() {
    let (loopback, server) = (loopback().await, Server::echo().await);
    let asleep = Arc::new(AtomicU64::new(0));
    let mut config = fast();
    let slept = Arc::clone(&asleep);
    config.wall_clock =
        WallClock::new(move || Duration::from_secs(1_000_000 + slept.load(Ordering::Relaxed)));
    let mut forward = Wired::start(&loopback, server.port, config).await;
    let mut stream = forward.connect().await;
    assert_eq!(exchange(&mut stream, b"before").await, b"before");
    forward.wire.set(Mode::Frozen);
    let woke = Instant::now();
    asleep.store(3600, Ordering::Relaxed);
    let Notice::Redial { cause, .. } = forward.lost().await else { panic!() };
    assert!(cause.contains("this machine was asleep"), "{cause}");
    // Pings alone would have taken 60 s and more.
    assert!(woke.elapsed() < Duration::from_secs(25), "{:?}", woke.elapsed());
    forward.wire.set(Mode::Reset);
    forward.wire.set(Mode::Through);
    assert_eq!(exchange(&mut stream, b"behind").await, b"behind");
    forward.shut_down().await;
}

#[tokio::test]
async fn a_sleep_that_the_connection_has_outlived_costs_nothing() {
    let (loopback, server) = (loopback().await, Server::echo().await);
    let asleep = Arc::new(AtomicU64::new(0));
    let mut config = fast();
    config.channel.silence = Duration::from_secs(2);
    config.channel.keep_alive = Duration::from_millis(500);
    let slept = Arc::clone(&asleep);
    config.wall_clock =
        WallClock::new(move || Duration::from_secs(1_000_000 + slept.load(Ordering::Relaxed)));
    let mut forward = Wired::start(&loopback, server.port, config).await;
    let mut stream = forward.connect().await;
    assert_eq!(exchange(&mut stream, b"before").await, b"before");
    asleep.store(3600, Ordering::Relaxed);
    assert!(timeout(Duration::from_secs(3), forward.lost()).await.is_err(), "it was given up");
    assert_eq!(exchange(&mut stream, b"behind").await, b"behind");
    forward.shut_down().await;
}

#[tokio::test]
async fn what_the_api_cannot_do_as_of_now_is_tried_until_it_can() {
    let config = ssm_loopback::Config { cells: Cells::RotateOnResume, ..ssm_loopback::Config::default() };
    let loopback = Loopback::start(config).await.unwrap();
    let server = Server::echo().await;
    let mut forward = Wired::start(&loopback, server.port, fast()).await;
    let mut stream = forward.connect().await;
    let kinds = [
        ControlErrorKind::Throttled,
        ControlErrorKind::Unreachable,
        ControlErrorKind::Credentials,
        ControlErrorKind::SignOn,
        ControlErrorKind::TargetNotConnected,
        ControlErrorKind::Service,
    ];
    for kind in kinds {
        assert_eq!(exchange(&mut stream, b"before").await, b"before");
        forward.control.answer([kind, kind].map(|kind| Err(ControlError::new(kind, "not as of now"))));
        forward.wire.set(Mode::Reset);
        forward.wire.set(Mode::Through);
        for expected in 0..=2 {
            let Notice::Redial { attempt, cause, api, .. } = forward.lost().await else { panic!() };
            assert_eq!(attempt, expected);
            assert_eq!(api, (attempt > 0).then_some(kind));
            assert_eq!(cause.contains("not as of now"), attempt > 0, "{cause}");
        }
        assert_eq!(exchange(&mut stream, b"behind").await, b"behind");
    }
    assert_eq!(forward.control.started(), 1);
    forward.shut_down().await;
}

#[tokio::test]
async fn a_session_that_is_not_resumed_is_replaced_behind_the_same_listener() {
    let (loopback, server) = (loopback().await, Server::echo().await);
    let mut forward = Wired::start(&loopback, server.port, fast()).await;
    let mut old = forward.connect().await;
    assert_eq!(exchange(&mut old, b"before").await, b"before");
    forward.control.answer([Ok(Resumed::SessionOver)]);
    forward.wire.set(Mode::Reset);
    forward.wire.set(Mode::Through);
    assert_eq!(old.read(&mut [0]).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    let ended = forward.until(|notice| matches!(notice, Notice::LaneEnded { .. })).await;
    assert!(matches!(ended, Notice::LaneEnded { reason: CloseReason::ResumeRefused }));
    assert_eq!(exchange(&mut forward.connect().await, b"behind").await, b"behind");
    assert_eq!(forward.control.started(), 2);
    forward.shut_down().await;
}

#[tokio::test]
async fn as_many_attempts_as_there_may_be_end_a_forward_with_the_reason() {
    for attempts in [0, 3] {
        let (loopback, server) = (loopback().await, Server::echo().await);
        let mut config = fast();
        config.channel.reconnect_attempts = Some(attempts);
        let forward = Wired::start(&loopback, server.port, config).await;
        let mut stream = forward.connect().await;
        assert_eq!(exchange(&mut stream, b"before").await, b"before");
        forward.wire.set(Mode::Reset);
        assert_eq!(stream.read(&mut [0]).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
        let reason = forward.ended().await.unwrap();
        let CloseReason::NotReconnected { attempts: told, cause } = &reason else { panic!("{reason:?}") };
        assert_eq!(*told, attempts);
        assert_eq!(cause.contains("the data channel is not open yet"), attempts > 0, "{cause}");
        assert!(!cause.is_empty() && reason.to_string().ends_with(cause.as_str()), "{reason}");
    }
}

#[tokio::test]
async fn who_leaves_while_there_is_no_connection_does_not_wait_for_one() {
    let (loopback, server) = (loopback().await, Server::echo().await);
    let mut forward = Wired::start(&loopback, server.port, fast()).await;
    let mut stream = forward.connect().await;
    assert_eq!(exchange(&mut stream, b"before").await, b"before");
    forward.control.hang();
    forward.wire.set(Mode::Reset);
    forward.lost().await;
    let left = Instant::now();
    assert_eq!(forward.shut_down().await, CloseReason::Terminated);
    assert!(left.elapsed() < Duration::from_millis(4500), "{:?}", left.elapsed());
}

#[tokio::test]
async fn an_hourly_close_between_requests_is_not_seen_by_connections() {
    let (loopback, server) = (loopback().await, Server::echo().await);
    let mut forward = Wired::start(&loopback, server.port, fast()).await;
    let mut stream = forward.connect().await;
    for _ in 0..3 {
        let mut once = true;
        let _rule = loopback.rule(move |_, _| match std::mem::take(&mut once) {
            true => Verdict::Bye,
            false => Verdict::Deliver,
        });
        assert_eq!(exchange(&mut stream, b"hello").await, b"hello");
        forward.until(|notice| matches!(notice, Notice::Resumed { .. })).await;
    }
    forward.shut_down().await;
}

/// What becomes of the bytes between client and gateway.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Mode {
    Through,
    /// Nothing arrives, and nobody says so.
    Frozen,
    /// The client is sent this, and what is there ends.
    Injecting(&'static [u8]),
    /// What is there ends without a word.
    Ended,
    /// What is there is reset, and what comes is reset.
    Reset,
}

/// A line that can break in every way.
struct Wire {
    port: u16,
    mode: watch::Sender<Mode>,
}

impl Wire {
    async fn to(port: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let wire =
            Self { port: listener.local_addr().unwrap().port(), mode: watch::Sender::new(Mode::Through) };
        let mode = wire.mode.subscribe();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, port, mode.clone()));
            }
        });
        wire
    }

    fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }
}

async fn carry(mut client: TcpStream, port: u16, mut mode: watch::Receiver<Mode>) {
    if *mode.borrow_and_update() != Mode::Through {
        let _ = client.set_zero_linger();
        return;
    }
    let Ok(mut gateway) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await else { return };
    tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut client, &mut gateway) => return,
        changed = mode.changed() => if changed.is_err() { return },
    }
    let now = *mode.borrow_and_update();
    match now {
        Mode::Injecting(bytes) => drop(client.write_all(bytes).await),
        Mode::Frozen => drop(mode.changed().await),
        Mode::Reset | Mode::Through => drop(client.set_zero_linger()),
        Mode::Ended => {}
    }
}

/// The control plane of a loopback behind a [`Wire`], with answers of its own.
struct Odd {
    inner: Box<dyn Fn(Call) -> Answer + Send + Sync>,
    port: u16,
    starts: AtomicU64,
    hangs: AtomicBool,
    answers: Mutex<VecDeque<Result<Resumed, ControlError>>>,
}

/// A call of a control plane whose type cannot be named.
enum Call {
    Start(StartSession),
    Resume(SessionId),
    Terminate(SessionId),
}

type Answer = std::pin::Pin<Box<dyn Future<Output = Result<Option<Endpoint>, ControlError>> + Send>>;

impl Odd {
    fn new(loopback: &Loopback, port: u16) -> Self {
        let control = loopback.control();
        let inner = move |call: Call| -> Answer {
            let control = control.clone();
            Box::pin(async move {
                match call {
                    Call::Start(request) => control.start(&request).await.map(Some),
                    Call::Resume(id) => match control.resume(&id).await? {
                        Resumed::Endpoint(endpoint) => Ok(Some(endpoint)),
                        Resumed::SessionOver => Ok(None),
                    },
                    Call::Terminate(id) => control.terminate(&id).await.map(|()| None),
                }
            })
        };
        Self {
            inner: Box::new(inner),
            port,
            starts: AtomicU64::new(0),
            hangs: AtomicBool::new(false),
            answers: Mutex::default(),
        }
    }

    fn started(&self) -> u64 {
        self.starts.load(Ordering::Relaxed)
    }

    /// The next answers to `ResumeSession`.
    fn answer(&self, answers: impl IntoIterator<Item = Result<Resumed, ControlError>>) {
        self.answers.lock().unwrap().extend(answers);
    }

    /// Nothing is answered from here on.
    fn hang(&self) {
        self.hangs.store(true, Ordering::Relaxed);
    }

    async fn call(&self, call: Call) -> Result<Option<Endpoint>, ControlError> {
        if self.hangs.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        Ok((self.inner)(call).await?.map(|endpoint| {
            let behind = endpoint.stream_url.split_once("/v1/").expect("a path").1;
            let stream_url = format!("ws://127.0.0.1:{}/v1/{behind}", self.port);
            Endpoint { stream_url, ..endpoint }
        }))
    }
}

impl ControlPlane for Odd {
    async fn start(&self, request: &StartSession) -> Result<Endpoint, ControlError> {
        self.starts.fetch_add(1, Ordering::Relaxed);
        let started = self.call(Call::Start(request.clone())).await?;
        Ok(started.expect("a session that starts has a channel"))
    }

    async fn resume(&self, id: &SessionId) -> Result<Resumed, ControlError> {
        let answer = self.answers.lock().unwrap().pop_front();
        if let Some(answer) = answer {
            return answer;
        }
        let resumed = self.call(Call::Resume(id.clone())).await?;
        Ok(resumed.map_or(Resumed::SessionOver, Resumed::Endpoint))
    }

    async fn terminate(&self, id: &SessionId) -> Result<(), ControlError> {
        self.call(Call::Terminate(id.clone())).await.map(drop)
    }

    async fn identity(&self) -> Result<Option<Identity>, ControlError> {
        Ok(None)
    }
}

/// A forward whose data channel goes through a wire.
struct Wired {
    wire: Wire,
    control: Arc<Odd>,
    port: u16,
    notices: mpsc::UnboundedReceiver<Notice>,
    shutdown: oneshot::Sender<()>,
    task: JoinHandle<Result<CloseReason, ForwardError>>,
}

impl Wired {
    async fn start(loopback: &Loopback, port: u16, config: ssm_session::Config) -> Self {
        let gateway = loopback.endpoint_url().rsplit_once(':').unwrap().1.parse().unwrap();
        let wire = Wire::to(gateway).await;
        let control = Arc::new(Odd::new(loopback, wire.port));
        let request = Destination::Target { port }.request(loopback.target());
        let limiter = StartLimiter::every(Duration::ZERO);
        let lanes = Lanes::on_demand(Arc::clone(&control), request, config, limiter, 1);
        let forwarder = Forwarder::bind(&ListenAddr::Loopback { port: 0 }).unwrap();
        let port = forwarder.local_addrs()[0].port();
        let (told, notices) = mpsc::unbounded_channel();
        let (shutdown, shut_down) = oneshot::channel();
        let run =
            forwarder.run_lanes(lanes, Config::default(), move |notice| drop(told.send(notice)), async {
                drop(shut_down.await)
            });
        let mut forward = Self { wire, control, port, notices, shutdown, task: tokio::spawn(run) };
        forward.until(|notice| matches!(notice, Notice::Listening(_))).await;
        forward
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).await.unwrap()
    }

    async fn until(&mut self, wanted: impl Fn(&Notice) -> bool) -> Notice {
        let search = async {
            loop {
                let notice = self.notices.recv().await.expect("the forward runs");
                if wanted(&notice) {
                    return notice;
                }
            }
        };
        timeout(SOON, search).await.expect("the notice comes")
    }

    async fn lost(&mut self) -> Notice {
        self.until(|notice| matches!(notice, Notice::Redial { .. })).await
    }

    async fn ended(self) -> Result<CloseReason, ForwardError> {
        timeout(SOON, self.task).await.expect("it ends").unwrap()
    }

    async fn shut_down(self) -> CloseReason {
        self.shutdown.send(()).unwrap();
        timeout(SOON, self.task).await.expect("it ends").unwrap().unwrap()
    }
}
