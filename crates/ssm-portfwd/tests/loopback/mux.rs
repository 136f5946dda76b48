//! Many connections over one session.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Write as _};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ssm_loopback::{Direction, Verdict};
use ssm_portfwd::Notice;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;

use crate::support::{
    Forward, SOON, Server, closed_port, echo, exchange, loopback, pattern, read_all, read_exactly,
};

#[tokio::test]
async fn bytes_arrive_unchanged_both_ways() {
    let (loopback, server) = (loopback().await, Server::echo().await);
    let forward = Forward::start(&loopback, server.port).await;
    let data = pattern(1, 5_000_003);
    assert!(exchange(&mut forward.connect().await, &data).await == data);
}

#[tokio::test]
async fn a_single_byte_comes_back_at_once() {
    let (loopback, server) = (loopback().await, Server::echo().await);
    let forward = Forward::start(&loopback, server.port).await;
    let mut stream = forward.connect().await;
    for byte in 0..100 {
        assert_eq!(exchange(&mut stream, &[byte]).await, [byte]);
    }
}

#[tokio::test]
async fn connections_do_not_mix() {
    let (loopback, server) = (loopback().await, Server::echo().await);
    let forward = Forward::start(&loopback, server.port).await;
    let mut tasks = tokio::task::JoinSet::new();
    for seed in 0..200 {
        let mut stream = forward.connect().await;
        tasks.spawn(async move {
            let data = pattern(seed, 20_000 + usize::from(seed));
            assert!(exchange(&mut stream, &data).await == data, "connection {seed}");
        });
    }
    tasks.join_all().await;
    assert_eq!(server.connections(), 200);
}

#[tokio::test]
async fn connections_one_after_another_leave_nothing_behind() {
    let (loopback, server) = (loopback().await, Server::echo().await);
    let mut forward = Forward::start(&loopback, server.port).await;
    for _ in 0..300 {
        assert_eq!(exchange(&mut forward.connect().await, b"hello").await, b"hello");
    }
    let mut closed = BTreeSet::new();
    while closed.len() < 300 {
        let notice = forward.until(|notice| matches!(notice, Notice::Closed { .. })).await;
        let Notice::Closed { connection, sent: 5, received: 5 } = notice else { panic!("{notice:?}") };
        assert!(closed.insert(connection));
    }
    assert_eq!(server.connections(), 300);
}

/// The gateway counts messages.
#[tokio::test]
async fn the_start_of_a_connection_is_no_message_of_its_own() {
    let (loopback, server) = (loopback().await, Server::echo().await);
    let mut forward = Forward::start(&loopback, server.port).await;
    exchange(&mut forward.connect().await, b"hello").await;
    let messages = Arc::<AtomicUsize>::default();
    let count = Arc::clone(&messages);
    let _counting = loopback.rule(move |direction, header| {
        if direction == Direction::ClientToAgent && header.message_type.is_stream() {
            count.fetch_add(1, Ordering::Relaxed);
        }
        Verdict::Deliver
    });
    for _ in 0..50 {
        // Without a pause in which the forward could see the connection before its first bytes.
        let mut stream = std::net::TcpStream::connect(forward.addr).unwrap();
        stream.write_all(b"hello").unwrap();
        stream.set_nonblocking(true).unwrap();
        let mut stream = TcpStream::from_std(stream).unwrap();
        assert_eq!(read_exactly(&mut stream, 5).await, b"hello");
    }
    for _ in 0..51 {
        forward.until(|notice| matches!(notice, Notice::Closed { .. })).await;
    }
    let messages = messages.load(Ordering::Relaxed);
    // Ends that are alone when their time is up are messages too.
    assert!((50..=100).contains(&messages), "{messages} messages for 50 connections");
}

#[tokio::test]
async fn the_end_of_the_destination_comes_after_its_last_byte() {
    let server = Server::start(|mut stream| async move {
        stream.write_all(&pattern(2, 3_000_000)).await?;
        stream.shutdown().await
    })
    .await;
    let loopback = loopback().await;
    let forward = Forward::start(&loopback, server.port).await;
    let mut stream = forward.connect().await;
    assert!(read_all(&mut stream).await.unwrap() == pattern(2, 3_000_000));
}

#[tokio::test]
async fn the_end_of_the_program_reaches_the_destination() {
    let (ends, mut ended) = mpsc::unbounded_channel();
    let server = Server::start(move |mut stream| {
        let ends = ends.clone();
        async move {
            let mut all = Vec::new();
            stream.read_to_end(&mut all).await?;
            ends.send(all).unwrap();
            Ok(())
        }
    })
    .await;
    let loopback = loopback().await;
    let forward = Forward::start(&loopback, server.port).await;
    let mut stream = forward.connect().await;
    stream.write_all(&pattern(3, 500_000)).await.unwrap();
    drop(stream);
    let all = timeout(SOON, ended.recv()).await.expect("the destination sees the end").unwrap();
    assert!(all == pattern(3, 500_000));
}

#[tokio::test]
async fn item_88_a_program_that_has_ended_its_direction_gets_the_whole_answer() {
    let gate = Arc::new(Semaphore::new(0));
    let server = Server::start(move |mut stream| {
        let gate = Arc::clone(&gate);
        async move {
            match &read_exactly(&mut stream, 7).await[..] {
                b"request" => drop(gate.acquire().await.unwrap()),
                _ => gate.add_permits(1),
            }
            for part in pattern(4, 2_000_000).chunks(100_000) {
                stream.write_all(part).await?;
            }
            stream.shutdown().await
        }
    })
    .await;
    let loopback = loopback().await;
    let forward = Forward::start(&loopback, server.port).await;
    let mut stream = forward.connect().await;
    stream.write_all(b"request").await.unwrap();
    stream.shutdown().await.unwrap();
    // The answer begins when the forward has carried what came after the end.
    forward.connect().await.write_all(b"go now!").await.unwrap();
    assert!(read_all(&mut stream).await.unwrap() == pattern(4, 2_000_000));
}

#[tokio::test]
async fn a_held_back_end_is_let_go_when_no_answer_comes() {
    let server = Server::start(|mut stream| async move {
        stream.read_to_end(&mut Vec::new()).await?;
        Ok(())
    })
    .await;
    let loopback = loopback().await;
    let config =
        ssm_portfwd::Config { half_close_grace: Duration::from_millis(50), ..ssm_portfwd::Config::default() };
    let forward = Forward::with(&loopback, server.port, crate::support::fast(), config).await;
    let mut stream = forward.connect().await;
    stream.write_all(b"no answer wanted").await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(read_all(&mut stream).await.unwrap(), b"");
}

#[tokio::test]
async fn item_87_a_refused_connection_is_reset_and_told_and_the_next_one_works() {
    let loopback = loopback().await;
    let port = closed_port().await;
    let mut forward = Forward::start(&loopback, port).await;
    for number in 1..=3 {
        let mut stream = forward.connect().await;
        let _ = stream.write_all(b"anybody?").await;
        let error = read_all(&mut stream).await.expect_err("no orderly end");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        let refused = forward.until(|notice| matches!(notice, Notice::Refused { .. })).await;
        assert!(matches!(refused, Notice::Refused { connection } if connection == number), "{refused:?}");
    }
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.unwrap();
    let _server = Server::on(listener, echo);
    assert_eq!(exchange(&mut forward.connect().await, b"there now").await, b"there now");
}

#[tokio::test]
async fn item_85_87_a_refusal_does_not_touch_its_neighbours() {
    let loopback = loopback().await;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let server = Server::on(listener, echo);
    let port = server.port;
    let mut forward = Forward::start(&loopback, port).await;
    let mut open = forward.connect().await;
    assert_eq!(exchange(&mut open, b"before").await, b"before");
    drop(server);
    // The listener goes with the task, which an abort ends a moment later.
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_ok() {}
    let mut refused = forward.connect().await;
    forward.until(|notice| matches!(notice, Notice::Refused { connection: 2 })).await;
    assert_eq!(read_all(&mut refused).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(exchange(&mut open, b"after").await, b"after");
}

#[tokio::test]
async fn a_program_that_breaks_off_ends_only_its_own_connection() {
    let (loopback, server) = (loopback().await, Server::echo().await);
    let mut forward = Forward::start(&loopback, server.port).await;
    let mut steady = forward.connect().await;
    let mut broken = forward.connect().await;
    assert_eq!(exchange(&mut broken, b"x").await, b"x");
    broken.set_zero_linger().unwrap();
    drop(broken);
    forward.until(|notice| matches!(notice, Notice::Closed { connection: 2, .. })).await;
    assert_eq!(exchange(&mut steady, b"steady").await, b"steady");
}

#[tokio::test]
async fn a_destination_that_speaks_first_is_heard() {
    let server = Server::start(|mut stream| async move {
        stream.write_all(b"220 welcome\r\n").await?;
        echo(stream).await
    })
    .await;
    let loopback = loopback().await;
    let forward = Forward::start(&loopback, server.port).await;
    let mut stream = forward.connect().await;
    assert_eq!(read_exactly(&mut stream, 13).await, b"220 welcome\r\n");
    assert_eq!(exchange(&mut stream, b"helo").await, b"helo");
}

#[tokio::test]
async fn small_messages_and_pacing_change_nothing_but_the_time() {
    let (loopback, server) = (loopback().await, Server::echo().await);
    let config = ssm_session::Config::default();
    let forward = Forward::with(&loopback, server.port, config, ssm_portfwd::Config::default()).await;
    let data = pattern(5, 300_000);
    assert!(exchange(&mut forward.connect().await, &data).await == data);
}
