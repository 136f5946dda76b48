//! Every fault of the loopback, and what connections notice of it: time, or the documented end.

use std::sync::Arc;
use std::time::Duration;

use ssm_loopback::{Loopback, Profile};
use ssm_portfwd::{Config, Destination, Forwarder, Lanes, ListenAddr, Notice, StartLimiter, stream};
use ssm_session::{CloseReason, Session, StartSession};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex, split};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::support::{Forward, SOON, Server, exchange, fast, old, pattern, read_all, read_exactly};
use crate::trial::repeated;

/// Bytes of a connection, each way.
const LEN: usize = 150_000;
/// Connections at once.
const CONNECTIONS: u8 = 4;

macro_rules! survived {
    ($($name:ident: $faults:expr, $client:ident;)*) => {$(
        #[tokio::test]
        async fn $name() {
            let run = |faults: Vec<String>| async move { connections_survive(&faults, $client()).await };
            repeated("tunnel", &words(stringify!($name)), &$faults, run).await;
        }
    )*};
}

survived! {
    nothing_goes_wrong: [], searching;
    lost_messages_are_sent_again: ["loss=5%"], searching;
    lost_acknowledgements_are_made_up_for: ["loss=30%,class=ack"], searching;
    a_line_that_loses_a_third_is_slow_and_exact: ["loss=33%,class=data"], searching;
    duplicates_are_dropped: ["duplicate=20%"], searching;
    reordered_messages_are_put_in_order: ["reorder=20%,by=20ms"], searching;
    five_percent_lost_and_five_reordered: ["loss=5%", "reorder=5%"], searching;
    five_percent_lost_and_five_reordered_in_basic_mode: ["loss=5%", "reorder=5%"], basic;
    a_long_way_with_jitter: ["delay=40ms,jitter=20ms"], searching;
    a_narrow_line: ["bandwidth=512KiB/s"], searching;
    damaged_messages_are_sent_again: ["corrupt=5%"], searching;
    cuts_without_a_closing_frame: ["cut=60"], searching;
    cuts_by_chance: ["cut=1%"], searching;
    cuts_by_the_clock: ["cut=150ms,jitter=100ms"], searching;
    cuts_in_basic_mode: ["cut=60"], basic;
    the_goodbye_of_every_hour: ["close=1000,every=60"], searching;
    a_gateway_that_goes_away: ["close=1001,every=60"], searching;
    closes_of_other_codes: ["close=1011,every=80", "close=4000,every=90"], searching;
    resets: ["reset=60"], searching;
    an_agent_that_is_cut_off: ["cut=60,end=agent,times=4", "reset=1%,end=agent,times=4"], searching;
    half_open_silence_is_noticed: ["silence=100,times=2"], watchful;
    a_line_that_is_dead_for_a_moment: ["silence=50,for=100ms,times=4"], searching;
    pauses_that_nothing_ends: ["pause=10,direction=up"], searching;
    the_gateways_rate_limit: ["rate=300/s"], hasty;
    an_early_start_publication: ["start=early"], searching;
    service_messages_with_the_old_header: ["header=112", "pause=20,direction=up", "cut=60"], searching;
    service_messages_with_the_new_header: ["header=116", "pause=20,direction=up", "cut=60"], searching;
    messages_in_text_frames: ["text=50,direction=down"], searching;
    text_that_is_not_utf8: ["text=60,bytes=raw,direction=down"], searching;
    frames_up_to_the_limit: ["oversize=50,size=1MiB,times=3"], searching;
    frames_beyond_the_limit: ["oversize=60,direction=down"], searching;
    fragments: ["fragment=100"], searching;
    a_gateway_that_takes_small_frames_only: ["frame=3000"], searching;
    a_late_handshake: ["delay=1s,class=handshake"], searching;
    a_lost_handshake: ["loss=60%,class=handshake"], searching;
    a_doubled_handshake: ["duplicate=100%,class=handshake"], searching;
    a_repeated_handshake: ["handshake=again"], searching;
    an_agent_that_is_not_ready: ["unready=1s"], searching;
    throttled_and_failing_resumes: ["cut=80", "resume=429,times=1", "resume=503,odds=30%"], searching;
    refused_upgrades: ["cut=80,times=4", "upgrade=503,odds=30%,times=4"], started;
    tokens_that_are_used_up: ["cut=80", "token=used,odds=30%,times=4"], searching;
    cells_that_move: ["cut=60", "cell=rotate"], searching;
    urls_of_a_cell_that_has_expired: ["cut=80", "cell=stale,odds=30%,times=4"], searching;
    destinations_that_answer_late: ["dial=300ms"], searching;
    slow_destinations: ["destination=256KiB/s"], searching;
    everything_at_once: [
        "loss=2%", "duplicate=2%", "reorder=2%", "corrupt=1%", "delay=5ms,jitter=5ms", "cut=150", "pause=1%,direction=up",
        "close=1000,every=1s", "text=0.2%,bytes=raw,direction=down", "cell=rotate", "token=used,odds=20%",
    ], searching;
}

#[tokio::test]
async fn the_agent_of_aws_is_survived_at_five_percent_lost_and_reordered() {
    repeated(
        "tunnel",
        "profile aws: five percent lost and five reordered",
        &["loss=5%", "reorder=5%"],
        |faults| async move {
            let config = ssm_loopback::Config { profile: Profile::Aws, ..faulty(&faults) };
            let loopback = Loopback::start(config).await.unwrap();
            let server = Server::echo().await;
            let forward = Forward::with(&loopback, server.port, searching().session, Config::default()).await;
            let data = pattern(3, 60_000);
            assert!(exchange(&mut forward.connect().await, &data).await == data);
        },
    )
    .await;
}

#[tokio::test]
async fn a_stream_for_ssh_survives_losses_and_cuts() {
    repeated(
        "tunnel",
        "ssh stream: losses and cuts",
        &["loss=5%", "reorder=5%", "cut=100"],
        |faults| async move {
            let loopback = start(&[]).await;
            let server = Server::start(|mut stream| async move {
                for len in [1_000_000, 4] {
                    let data = read_exactly(&mut stream, len).await;
                    stream.write_all(&data).await?;
                }
                read_exactly(&mut stream, 3).await;
                stream.shutdown().await
            })
            .await;
            let faults: Vec<_> = faults.iter().map(|fault| loopback.fault(fault).unwrap()).collect();
            let request = StartSession::ssh(loopback.target(), server.port);
            let session = Session::start(loopback.control(), &request, searching().session).await.unwrap();
            let (near, far) = duplex(64 * 1024);
            let (input, output) = split(far);
            let run = tokio::spawn(stream(
                session,
                Config::default(),
                input,
                output,
                |_| {},
                std::future::pending(),
            ));
            let (mut read, mut write) = split(near);
            let data = pattern(1, 1_000_000);
            let (written, back) = tokio::join!(write.write_all(&data), read_exactly(&mut read, data.len()));
            written.unwrap();
            assert!(back == data);
            // Nobody repeats the end of a session to a client that is away at that moment. What was broken before is in front of
            // this answer.
            drop(faults);
            write.write_all(b"here").await.unwrap();
            assert_eq!(read_exactly(&mut read, 4).await, b"here");
            write.write_all(b"bye").await.unwrap();
            assert_eq!(read_all(&mut read).await.unwrap(), b"");
            let reason = timeout(SOON, run).await.expect("it ends").unwrap();
            assert!(matches!(reason, CloseReason::AgentClosed { detail: None, .. }), "{reason:?}");
        },
    )
    .await;
}

#[tokio::test]
async fn the_default_pace_never_meets_the_gateways_limit() {
    repeated("tunnel", "default pacing below the rate limit", &["rate=1000/s"], |faults| async move {
        let (loopback, server) = (start(&faults).await, Server::echo().await);
        let mut session = ssm_session::Config::default();
        session.channel.payload_max = 1024;
        let mut forward = Forward::with(&loopback, server.port, session, Config::default()).await;
        let data = pattern(1, 2_000_000);
        assert!(exchange(&mut forward.connect().await, &data).await == data);
        while let Ok(notice) = forward.notices.try_recv() {
            assert!(!matches!(notice, Notice::Paused | Notice::Redial { .. }), "{notice:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_forbidden_resume_ends_the_forward_with_its_reason() {
    repeated("tunnel", "ResumeSession 403: ends, says why", &["cut=40,times=1", "resume=403"], ends_refused)
        .await;
}

#[tokio::test]
async fn a_restarted_machine_ends_the_forward_with_its_reason() {
    repeated("tunnel", "agent restarts: ends, says why", &["restart=40,times=1"], ends_refused).await;
}

#[tokio::test]
async fn a_restarted_machine_costs_lanes_their_connections_and_the_next_one_works() {
    repeated(
        "tunnel",
        "agent restarts: a new session behind the same listener",
        &["restart=40,times=1"],
        |faults| async move {
            let (loopback, server) = (start(&faults).await, Server::echo().await);
            let forwarder = Forwarder::bind(&ListenAddr::Loopback { port: 0 }).unwrap();
            let addr = forwarder.local_addrs()[0];
            let request = Destination::Target { port: server.port }.request(loopback.target());
            let control = Arc::new(loopback.control());
            let lanes = Lanes::on_demand(control, request, searching().session, StartLimiter::default(), 1);
            let (listening, ready) = oneshot::channel::<()>();
            let mut listening = Some(listening);
            let notice = move |notice| {
                if matches!(notice, Notice::Listening(_)) {
                    drop(listening.take());
                }
            };
            let task =
                tokio::spawn(forwarder.run_lanes(lanes, Config::default(), notice, std::future::pending()));
            let _ = ready.await;
            let mut first = TcpStream::connect(addr).await.unwrap();
            let broken = async {
                // Each session restarts at its fortieth message.
                while first.write_all(&[1; 5_000]).await.is_ok()
                    && first.read(&mut [0; 5_000]).await.is_ok_and(|len| len > 0)
                {}
            };
            timeout(SOON, broken).await.expect("the connection is reset, not hung");
            let mut second = TcpStream::connect(addr).await.unwrap();
            assert_eq!(exchange(&mut second, b"hello").await, b"hello");
            task.abort();
        },
    )
    .await;
}

#[tokio::test]
async fn an_action_that_nobody_knows_ends_the_session_cleanly() {
    repeated(
        "tunnel",
        "unknown handshake action: ends, says why",
        &["handshake=unknown"],
        |faults| async move {
            let (loopback, server) = (start(&faults).await, Server::echo().await);
            let request = Destination::Target { port: server.port }.request(loopback.target());
            let session = Session::start(loopback.control(), &request, searching().session).await.unwrap();
            let forwarder = Forwarder::bind(&ListenAddr::Loopback { port: 0 }).unwrap();
            let run = forwarder.run(session, Config::default(), |_| {}, std::future::pending());
            let reason = timeout(SOON, run).await.expect("it ends").unwrap();
            assert!(reason.to_string().contains("FoldOrigami"), "{reason}");
        },
    )
    .await;
}

#[tokio::test]
async fn a_destination_that_refuses_costs_one_connection() {
    repeated(
        "tunnel",
        "a refused dial: that connection alone is closed",
        &["dial=refused,times=1"],
        |faults| async move {
            let (loopback, server) = (start(&faults).await, Server::echo().await);
            let mut forward =
                Forward::with(&loopback, server.port, searching().session, Config::default()).await;
            let mut refused = forward.connect().await;
            refused.write_all(b"anybody?").await.unwrap();
            let end = timeout(SOON, refused.read(&mut [0])).await.expect("it is closed");
            assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
            forward.until(|notice| matches!(notice, Notice::Refused { .. })).await;
            assert_eq!(exchange(&mut forward.connect().await, b"hello").await, b"hello");
        },
    )
    .await;
}

#[tokio::test]
async fn a_stuck_destination_holds_up_nobody_else() {
    repeated(
        "tunnel",
        "a stuck destination holds up nobody else",
        &["destination=stuck,times=1"],
        |faults| async move {
            let (loopback, server) = (start(&faults).await, Server::echo().await);
            let forward = Forward::with(&loopback, server.port, searching().session, Config::default()).await;
            let mut stuck = forward.connect().await;
            stuck.write_all(&pattern(1, 100_000)).await.unwrap();
            for seed in 0..3 {
                let data = pattern(seed, LEN);
                assert!(exchange(&mut forward.connect().await, &data).await == data);
            }
            assert!(timeout(Duration::from_millis(50), stuck.read(&mut [0])).await.is_err(), "it is open");
        },
    )
    .await;
}

#[tokio::test]
async fn bits_that_no_digest_covers_end_in_an_error_and_never_in_a_panic() {
    repeated(
        "tunnel",
        "bit flips in headers: no panic, no hang",
        &["corrupt=2%,part=header"],
        |faults| async move {
            let (loopback, server) = (start(&faults).await, Server::echo().await);
            let request = Destination::Target { port: server.port }.request(loopback.target());
            let Ok(session) = Session::start(loopback.control(), &request, searching().session).await else {
                return;
            };
            let forwarder = Forwarder::bind(&ListenAddr::Loopback { port: 0 }).unwrap();
            let addr = forwarder.local_addrs()[0];
            let (shutdown, ending) = oneshot::channel::<()>();
            let run = forwarder.run(session, Config::default(), |_| {}, async move { drop(ending.await) });
            let run = tokio::spawn(run);
            let work = async {
                let Ok(mut stream) = TcpStream::connect(addr).await else { return };
                let (mut read, mut write) = stream.split();
                let data = pattern(1, LEN);
                let _ = tokio::join!(write.write_all(&data), async {
                    while read.read(&mut [0; 4096]).await.is_ok_and(|len| len > 0) {}
                });
            };
            // What the flipped number of a message takes away is missing for good: nothing but its end can be expected.
            let _ = timeout(Duration::from_secs(2), work).await;
            drop(shutdown);
            let ended = timeout(SOON, run).await.expect("it can still be ended");
            assert!(ended.is_ok(), "it panicked");
        },
    )
    .await;
}

/// A client and what it is to connect with.
struct Client {
    session: ssm_session::Config,
    /// Connections that may be open at once.
    at_once: u8,
    /// Faults begin once the session has started.
    late: bool,
}

/// As `ssm` is, without its pace: begins with 1,024 bytes and finds out what more may be sent.
fn searching() -> Client {
    let mut session = ssm_session::Config::default();
    session.channel.pacing = None;
    Client { session, at_once: CONNECTIONS, late: false }
}

/// With faults that would keep the session from starting.
fn started() -> Client {
    Client { late: true, ..searching() }
}

fn basic() -> Client {
    Client { session: old(), at_once: 1, late: false }
}

/// Takes half a second of silence for the end of the connection.
fn watchful() -> Client {
    let mut client = searching();
    client.session.channel.keep_alive = Duration::from_millis(200);
    client.session.channel.silence = Duration::from_millis(500);
    client
}

/// Small messages as fast as they go.
fn hasty() -> Client {
    let mut client = Client { session: fast(), ..searching() };
    client.session.channel.payload_len = 1024;
    client.session.channel.payload_max = 1024;
    client
}

fn faulty(faults: &[String]) -> ssm_loopback::Config {
    let faults = faults.iter().map(|fault| fault.parse().unwrap()).collect();
    ssm_loopback::Config { faults, ..ssm_loopback::Config::default() }
}

async fn start(faults: &[String]) -> Loopback {
    Loopback::start(faulty(faults)).await.unwrap()
}

async fn connections_survive(faults: &[String], client: Client) {
    let now = if client.late { &[][..] } else { faults };
    let (loopback, server) = (start(now).await, Server::echo().await);
    let forward = Forward::with(&loopback, server.port, client.session, Config::default()).await;
    let _late: Vec<_> =
        if client.late { faults } else { &[] }.iter().map(|fault| loopback.fault(fault).unwrap()).collect();
    for first in (0..CONNECTIONS).step_by(client.at_once.into()) {
        let mut tasks = tokio::task::JoinSet::new();
        for seed in first..first + client.at_once {
            let mut stream = forward.connect().await;
            tasks.spawn(async move {
                let data = pattern(seed, LEN);
                assert!(exchange(&mut stream, &data).await == data, "connection {seed}");
            });
        }
        tasks.join_all().await;
    }
    assert_eq!(server.connections(), usize::from(CONNECTIONS), "each was made once");
}

async fn ends_refused(faults: Vec<String>) {
    let (loopback, server) = (start(&faults).await, Server::echo().await);
    let forward = Forward::with(&loopback, server.port, searching().session, Config::default()).await;
    let mut stream = forward.connect().await;
    let broken = async {
        while stream.write_all(&[1; 5_000]).await.is_ok()
            && stream.read(&mut [0; 5_000]).await.is_ok_and(|len| len > 0)
        {}
    };
    timeout(SOON, broken).await.expect("the connection ends, it does not hang");
    assert_eq!(forward.ended().await, CloseReason::ResumeRefused);
}

/// `a_name` as it is read.
fn words(name: &str) -> String {
    name.replace('_', " ")
}
