//! Connections for a program that wants no local port.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use ssm_loopback::Loopback;
use ssm_portfwd::{Config, Destination, Lanes, StartLimiter, Tunnel, TunnelError, TunnelStream};
use ssm_session::{CloseReason, ControlPlane};
use tokio::io::{AsyncReadExt, AsyncWriteExt, split};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::control::{Calls, Counting};
use crate::support::{
    SOON, Server, closed_port, fast, loopback, old, pattern, read_all, read_exactly, session,
};

#[tokio::test]
async fn several_streams_carry_bytes_both_ways() {
    let (loopback, server) = (loopback().await, Server::echo().await);
    let (tunnel, _task) = Tunnel::spawn(session(&loopback, server.port, fast()).await, Config::default());
    let mut tasks = tokio::task::JoinSet::new();
    for seed in 0..8 {
        let stream = tunnel.open().await.unwrap();
        tasks.spawn(async move {
            let data = pattern(seed, 1_000_000);
            let (mut read, mut write) = split(stream);
            let (written, back) = tokio::join!(write.write_all(&data), read_exactly(&mut read, data.len()));
            written.unwrap();
            assert!(back == data, "stream {seed}");
        });
    }
    tasks.join_all().await;
    assert_eq!(server.connections(), 8);
}

#[tokio::test]
async fn a_stream_that_was_shut_down_gets_the_whole_answer() {
    let server = Server::start(|mut stream| async move {
        assert_eq!(read_exactly(&mut stream, 7).await, b"request");
        stream.write_all(&pattern(1, 500_000)).await?;
        stream.shutdown().await
    })
    .await;
    let loopback = loopback().await;
    let (tunnel, _task) = Tunnel::spawn(session(&loopback, server.port, fast()).await, Config::default());
    let mut stream = tunnel.open().await.unwrap();
    stream.write_all(b"request").await.unwrap();
    stream.shutdown().await.unwrap();
    assert!(read_all(&mut stream).await.unwrap() == pattern(1, 500_000));
}

#[tokio::test]
async fn a_refused_stream_does_not_look_like_an_orderly_end() {
    let loopback = loopback().await;
    let port = closed_port().await;
    let (tunnel, _task) = Tunnel::spawn(session(&loopback, port, fast()).await, Config::default());
    let mut stream = tunnel.open().await.unwrap();
    let error = read_all(&mut stream).await.expect_err("no orderly end");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    assert!(matches!(cause(&error), TunnelError::Refused), "{error}");
}

#[tokio::test]
async fn the_session_ends_with_its_last_user() {
    let (loopback, server) = (loopback().await, Server::echo().await);
    let (tunnel, task) = Tunnel::spawn(session(&loopback, server.port, fast()).await, Config::default());
    let mut stream = tunnel.open().await.unwrap();
    drop(tunnel);
    stream.write_all(b"still here").await.unwrap();
    assert_eq!(read_exactly(&mut stream, 10).await, b"still here");
    drop(stream);
    assert_eq!(timeout(SOON, task).await.expect("it ends").unwrap().unwrap(), CloseReason::Terminated);
}

#[tokio::test]
async fn a_session_that_takes_no_more_connections_is_still_in_use() {
    let (loopback, server) = (loopback().await, Server::echo().await);
    // An agent without a multiplexer carries one.
    let (tunnel, task) = Tunnel::spawn(session(&loopback, server.port, old()).await, Config::default());
    let mut stream = tunnel.open().await.unwrap();
    stream.write_all(b"x").await.unwrap();
    assert_eq!(read_exactly(&mut stream, 1).await, b"x");
    drop(tunnel);
    stream.write_all(b"still here").await.unwrap();
    assert_eq!(read_exactly(&mut stream, 10).await, b"still here");
    drop(stream);
    assert_eq!(timeout(SOON, task).await.expect("it ends").unwrap().unwrap(), CloseReason::Terminated);
}

#[tokio::test]
async fn the_end_of_the_session_is_told_to_every_stream_and_every_open() {
    let (loopback, server) = (loopback().await, Server::echo().await);
    let (tunnel, task) = Tunnel::spawn(session(&loopback, server.port, fast()).await, Config::default());
    let mut stream = tunnel.open().await.unwrap();
    stream.write_all(b"here").await.unwrap();
    assert_eq!(read_exactly(&mut stream, 4).await, b"here");
    loopback.shutdown().await;
    let reason = timeout(SOON, task).await.expect("it ends").unwrap().unwrap();
    assert!(matches!(reason, CloseReason::AgentClosed { .. }), "{reason:?}");
    let is_reason = |error: &TunnelError| matches!(error, TunnelError::SessionOver(told) if *told == reason);

    let errors = [
        tunnel.open().await.unwrap_err(),
        read_all(&mut stream).await.unwrap_err(),
        stream.write_all(b"x").await.unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
        assert!(is_reason(cause(&error)), "{error}");
        assert_eq!(error.to_string(), reason.to_string());
    }
    assert!(tunnel.closed().is_some_and(|error| is_reason(&error)));
}

#[tokio::test]
async fn a_tunnel_without_a_session_says_why() {
    let (loopback, calls) = (loopback().await, Arc::<Calls>::default());
    calls.fail(true);
    let (tunnel, task) = Tunnel::spawn_lanes(lanes(&loopback, &calls, 80, 2), Config::default());
    let error = timeout(SOON, tunnel.open()).await.expect("it is told").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
    assert!(matches!(cause(&error), TunnelError::NotStarted(_)), "{error:?}");
    assert_eq!(error.to_string(), "cannot start a session: it is not connected");
    assert!(timeout(SOON, task).await.expect("it ends").unwrap().is_err());
}

#[tokio::test]
async fn a_tunnel_has_lanes_as_a_forward_has() {
    let (loopback, server, calls) = (loopback().await, Server::echo().await, Arc::<Calls>::default());
    let (tunnel, task) = Tunnel::spawn_lanes(lanes(&loopback, &calls, server.port, 2), Config::default());
    let mut streams = Vec::new();
    for number in 1..=3 {
        let mut stream = tunnel.open().await.unwrap();
        stream.write_all(b"hello").await.unwrap();
        assert_eq!(read_exactly(&mut stream, 5).await, b"hello");
        assert_eq!(calls.started(), number.min(2), "sessions for {number} streams");
        streams.push(stream);
    }
    drop((tunnel, streams));
    assert_eq!(timeout(SOON, task).await.expect("it ends").unwrap().unwrap(), CloseReason::Terminated);
}

#[tokio::test]
async fn a_lane_that_dies_takes_only_its_streams_and_is_replaced() {
    let (loopback, server, calls) = (loopback().await, Server::echo().await, Arc::<Calls>::default());
    let (tunnel, _task) = Tunnel::spawn_lanes(lanes(&loopback, &calls, server.port, 2), Config::default());
    let mut streams = [tunnel.open().await.unwrap(), tunnel.open().await.unwrap()];
    for stream in &mut streams {
        stream.write_all(b"a").await.unwrap();
        assert_eq!(read_exactly(stream, 1).await, b"a");
    }
    let first = calls.sessions()[0].clone();
    loopback.control().terminate(&first).await.unwrap();
    let error = read_all(&mut streams[0]).await.expect_err("its session is over");
    assert!(matches!(cause(&error), TunnelError::SessionOver(_)), "{error:?}");
    streams[1].write_all(b"b").await.unwrap();
    assert_eq!(read_exactly(&mut streams[1], 1).await, b"b");
    let mut third = tunnel.open().await.unwrap();
    third.write_all(b"c").await.unwrap();
    assert_eq!(read_exactly(&mut third, 1).await, b"c");
    assert_eq!(calls.started(), 3);
}

#[tokio::test]
async fn an_aborted_tunnel_does_not_look_like_an_orderly_end() {
    let (loopback, server) = (loopback().await, Server::echo().await);
    let (tunnel, task) = Tunnel::spawn(session(&loopback, server.port, fast()).await, Config::default());
    let mut stream = tunnel.open().await.unwrap();
    stream.write_all(b"x").await.unwrap();
    assert_eq!(read_exactly(&mut stream, 1).await, b"x");
    task.abort();
    let error = read_all(&mut stream).await.expect_err("no orderly end");
    assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
    assert_eq!(tunnel.open().await.unwrap_err().kind(), ErrorKind::ConnectionAborted);
}

#[tokio::test]
async fn a_dropped_stream_closes_the_destination_behind_its_last_byte() {
    let (received, mut ends) = mpsc::unbounded_channel();
    let server = Server::start(move |mut stream| {
        let received = received.clone();
        async move {
            let all = read_all(&mut stream).await?;
            drop(received.send(all));
            Ok(())
        }
    })
    .await;
    // Without the drop being told apart from a shutdown, the end would be held back for this long.
    let config = Config { half_close_grace: Duration::from_secs(3600), ..Config::default() };
    let loopback = loopback().await;
    let (tunnel, _task) = Tunnel::spawn(session(&loopback, server.port, fast()).await, config);
    for seed in 0..4 {
        let mut stream = tunnel.open().await.unwrap();
        stream.write_all(&pattern(seed, 300_000)).await.unwrap();
        drop(stream);
        let all = timeout(SOON, ends.recv()).await.expect("the end comes").unwrap();
        assert!(all == pattern(seed, 300_000), "{} bytes", all.len());
    }
}

#[tokio::test]
async fn a_stream_dropped_in_the_middle_leaves_the_others_alone() {
    let (loopback, server) = (loopback().await, Server::echo().await);
    let (tunnel, _task) = Tunnel::spawn(session(&loopback, server.port, fast()).await, Config::default());
    let mut kept = tunnel.open().await.unwrap();
    for round in 0..20 {
        let mut dropped = tunnel.open().await.unwrap();
        dropped.write_all(&pattern(round, 200_000)).await.unwrap();
        read_exactly(&mut dropped, 1000 * usize::from(round)).await;
        drop(dropped);
        kept.write_all(&[round]).await.unwrap();
        assert_eq!(read_exactly(&mut kept, 1).await, [round]);
    }
}

#[tokio::test]
async fn a_destination_that_resets_does_not_keep_the_stream() {
    let server = Server::start(|mut stream| async move {
        read_exactly(&mut stream, 1).await;
        stream.set_zero_linger()
    })
    .await;
    let loopback = loopback().await;
    let (tunnel, _task) = Tunnel::spawn(session(&loopback, server.port, fast()).await, Config::default());
    let mut stream = tunnel.open().await.unwrap();
    stream.write_all(b"x").await.unwrap();
    // The multiplexer has one word for both ends of a destination; what matters is that there is one.
    assert_eq!(read_all(&mut stream).await.unwrap(), b"");
}

#[tokio::test]
async fn a_deadline_on_a_read_loses_nothing() {
    let (loopback, server) = (loopback().await, Server::echo().await);
    let (tunnel, _task) = Tunnel::spawn(session(&loopback, server.port, fast()).await, Config::default());
    let mut stream = tunnel.open().await.unwrap();
    let data = pattern(3, 200_000);
    let (mut read, mut write) = split(stream);
    let writing = async { write.write_all(&data).await.unwrap() };
    let reading = async {
        let (mut back, mut missed) = (Vec::new(), 0);
        while back.len() < data.len() {
            // Far shorter than the way there and back, so that most reads are given up.
            match timeout(Duration::from_micros(1), read.read_buf(&mut back)).await {
                Ok(taken) => assert_ne!(taken.unwrap(), 0),
                Err(_elapsed) => missed += 1,
            }
        }
        (back, missed)
    };
    let ((), (back, missed)) = timeout(SOON, async { tokio::join!(writing, reading) }).await.unwrap();
    assert!(back == data && missed > 0, "{missed} reads were given up");

    stream = read.unsplit(write);
    let silent = timeout(Duration::from_millis(1), stream.read_u8()).await;
    assert!(silent.is_err(), "nothing was sent");
    stream.write_u8(7).await.unwrap();
    assert_eq!(read_exactly(&mut stream, 1).await, [7]);
}

#[tokio::test]
async fn an_open_that_is_given_up_leaves_nothing_behind() {
    let (loopback, server) = (loopback().await, Server::echo().await);
    let (tunnel, task) = Tunnel::spawn(session(&loopback, server.port, fast()).await, Config::default());
    for _ in 0..50 {
        drop(timeout(Duration::ZERO, tunnel.open()).await);
    }
    let mut stream = tunnel.open().await.unwrap();
    stream.write_all(b"x").await.unwrap();
    assert_eq!(read_exactly(&mut stream, 1).await, b"x");
    drop((tunnel, stream));
    assert_eq!(timeout(SOON, task).await.expect("it ends").unwrap().unwrap(), CloseReason::Terminated);
}

#[tokio::test]
async fn a_writer_waits_for_a_destination_that_does_not_read() {
    let (finished, mut unread) = mpsc::unbounded_channel();
    let server = Server::start(move |stream| {
        let finished = finished.clone();
        async move { finished.send(stream).map_err(std::io::Error::other) }
    })
    .await;
    let loopback = loopback().await;
    let (tunnel, _task) = Tunnel::spawn(session(&loopback, server.port, fast()).await, Config::default());
    let (_read, mut write) = split(tunnel.open().await.unwrap());
    let data = pattern(1, 64 * 1024 * 1024);
    let expected = data.clone();
    let writing = tokio::spawn(async move { write.write_all(&data).await.map(|()| write) });
    let mut socket = timeout(SOON, unread.recv()).await.expect("it connects").unwrap();
    // A peer that takes a little, and then nothing for a while.
    assert!(read_exactly(&mut socket, 1_000_000).await == expected[..1_000_000]);
    assert!(!writing.is_finished(), "64 MiB were taken by somebody who read one");
    assert!(read_exactly(&mut socket, expected.len() - 1_000_000).await == expected[1_000_000..]);
    drop(timeout(SOON, writing).await.expect("it ends").unwrap().unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_streams_one_after_another() {
    let (loopback, server) = (loopback().await, Server::echo().await);
    let (tunnel, _task) = Tunnel::spawn(session(&loopback, server.port, fast()).await, Config::default());
    for number in 0..2000_u32 {
        let mut stream = tunnel.open().await.unwrap();
        stream.write_u32(number).await.unwrap();
        assert_eq!(read_exactly(&mut stream, 4).await, number.to_be_bytes());
    }
    assert_eq!(server.connections(), 2000);
}

#[test]
fn a_stream_goes_wherever_a_task_goes() {
    fn is_a_task<T: Send + Sync + Unpin + 'static>() {}
    is_a_task::<Tunnel>();
    is_a_task::<TunnelStream>();
    fn future_is_send<T: Send>(_: impl Fn(&'static Tunnel) -> T) {}
    future_is_send(Tunnel::open);
}

/// What an error of a tunnel says of itself.
fn cause(error: &std::io::Error) -> &TunnelError {
    error.get_ref().and_then(|cause| cause.downcast_ref()).expect("a TunnelError")
}

fn lanes(
    loopback: &Loopback,
    calls: &Arc<Calls>,
    port: u16,
    max: usize,
) -> Lanes<Arc<impl ControlPlane + use<>>> {
    let control = Arc::new(Counting { inner: loopback.control(), calls: Arc::clone(calls) });
    let request = Destination::Target { port }.request(loopback.target());
    Lanes::on_demand(control, request, fast(), StartLimiter::default(), max)
}
