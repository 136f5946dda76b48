//! Readers that are slow or do not read at all.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ssm_loopback::{Direction, Verdict};
use ssm_portfwd::{Config, Notice};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::support::{Forward, SOON, Server, exchange, fast, loopback, old, pattern, read_all, read_exactly};

/// What a destination sends that its reader does not take: more than the socket buffers hold.
const UNREAD: usize = 24 * 1024 * 1024;

/// What is sent to a destination that reads late: more than the way to it holds.
const LATE: usize = 64 * 1024 * 1024;

#[tokio::test]
async fn an_upload_goes_on_when_its_destination_reads_late() {
    let go = Arc::new(Notify::new());
    let gate = Arc::clone(&go);
    let server = Server::start(move |mut stream| {
        let gate = Arc::clone(&gate);
        async move {
            gate.notified().await;
            let all = read_exactly(&mut stream, LATE).await;
            stream.write_all(&all[all.len() - 8..]).await?;
            assert!(all == pattern(1, LATE));
            stream.shutdown().await
        }
    })
    .await;
    let loopback = loopback().await;
    let forward = Forward::start(&loopback, server.port).await;
    let mut stream = forward.connect().await;
    let data = pattern(1, LATE);
    let (mut read, mut write) = stream.split();
    let mut written = 0;
    // Until nothing moves: everything between here and the destination is full.
    while let Ok(taken) = timeout(Duration::from_millis(300), write.write(&data[written..])).await {
        written += taken.unwrap();
        assert!(written < data.len(), "64 MB went nowhere");
    }
    go.notify_one();
    let (rest, answer) = tokio::join!(write.write_all(&data[written..]), read_all(&mut read));
    rest.unwrap();
    assert_eq!(answer.unwrap(), data[data.len() - 8..]);
}

/// As the one connection of a session without a multiplexer.
#[tokio::test]
async fn much_both_ways_at_once_does_not_stop_in_basic_mode() {
    const LEN: usize = 16 * 1024 * 1024;
    // It reads no more before it has written what it read.
    let (loopback, server) = (loopback().await, Server::echo().await);
    let forward = Forward::with(&loopback, server.port, old(), Config::default()).await;
    let mut stream = forward.connect().await;
    assert!(exchange(&mut stream, &pattern(4, LEN)).await == pattern(4, LEN));
}

#[tokio::test]
async fn item_50_upload_before_read_makes_progress() {
    // Both sides send before they read. Alone on a TCP connection that works as far as the buffers go; acknowledgements
    // must not wait behind what nobody reads.
    let server = Server::start(|mut stream| async move {
        stream.write_all(&pattern(2, 200_000)).await?;
        let all = read_exactly(&mut stream, 4_000_000).await;
        assert!(all == pattern(3, 4_000_000));
        stream.write_all(b"done").await?;
        stream.shutdown().await
    })
    .await;
    let loopback = loopback().await;
    let forward = Forward::start(&loopback, server.port).await;
    let mut stream = forward.connect().await;
    timeout(SOON, stream.write_all(&pattern(3, 4_000_000))).await.expect("the upload goes on").unwrap();
    let mut expected = pattern(2, 200_000);
    expected.extend_from_slice(b"done");
    assert!(read_all(&mut stream).await.unwrap() == expected);
}

/// More is unread than may be while an upload is not acknowledged: acknowledgements come the same way as what nobody reads. A
/// client that takes neither sends everything again and again, and ends with taking the connection for dead.
#[tokio::test]
async fn item_50_acknowledgements_are_taken_while_too_much_is_unread() {
    let server = Server::start(|mut stream| async move {
        if stream.read_u8().await? == b's' {
            stream.write_all(&pattern(7, UNREAD)).await?;
            return stream.shutdown().await;
        }
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.map(drop)
    })
    .await;
    let loopback = loopback().await;
    let sent = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&sent);
    let _far = loopback.rule(move |direction, header| {
        let is_stream = header.message_type.is_stream();
        match direction {
            Direction::ClientToAgent if is_stream => {
                count.fetch_add(1, Ordering::SeqCst);
                Verdict::Deliver
            }
            Direction::AgentToClient if !is_stream => Verdict::Delay(Duration::from_millis(300)),
            _ => Verdict::Deliver,
        }
    });
    // Nobody is reset for it.
    let config = Config { hold_up_limit: SOON, hard_limit: 2 * UNREAD, ..Config::default() };
    let forward = Forward::with(&loopback, server.port, fast(), config).await;
    let mut bulk = forward.connect().await;
    bulk.write_all(b"u").await.unwrap();
    let upload = tokio::spawn(async move { bulk.write_all(&pattern(8, LATE)).await });
    let mut stalled = forward.connect().await;
    stalled.write_all(b"s").await.unwrap();
    let quiet = async {
        let mut before = 0;
        while before != sent.load(Ordering::SeqCst) {
            before = sent.load(Ordering::SeqCst);
            // Longer than what is not acknowledged waits to be sent again.
            tokio::time::sleep(Duration::from_millis(2500)).await;
        }
    };
    timeout(Duration::from_secs(15), quiet).await.expect("what was sent is acknowledged");
    assert!(!upload.is_finished(), "the upload waits for the reader");
    assert!(read_all(&mut stalled).await.unwrap() == pattern(7, UNREAD));
    upload.abort();
}

#[tokio::test]
async fn a_reader_that_stops_for_a_while_gets_everything() {
    let server = source().await;
    let loopback = loopback().await;
    let mut forward = Forward::start(&loopback, server.port).await;
    let mut stream = forward.connect().await;
    let first = read_exactly(&mut stream, 1000).await;
    // Long enough for every buffer on the way to fill.
    let stalled = timeout(Duration::from_millis(500), forward.until(is_loss)).await;
    assert!(stalled.is_err(), "{stalled:?}");
    let mut all = first;
    all.extend(read_exactly(&mut stream, UNREAD - 1000).await);
    assert!(all == pattern(7, UNREAD));
}

#[tokio::test]
async fn item_93_a_stalled_reader_leaves_a_neighbour_alive() {
    let server = Server::start(|mut stream| async move {
        // The first byte says what to be.
        if stream.read_u8().await? == b's' {
            stream.write_all(&pattern(7, 2_000_000)).await?;
            return std::future::pending().await;
        }
        crate::support::echo(stream).await
    })
    .await;
    let loopback = loopback().await;
    let forward = Forward::start(&loopback, server.port).await;
    let mut stalled = forward.connect().await;
    stalled.write_all(b"s").await.unwrap();
    let mut live = forward.connect().await;
    live.write_all(b"e").await.unwrap();
    let mut bulk = forward.connect().await;
    bulk.write_all(b"e").await.unwrap();
    let upload = async {
        let data = pattern(8, 10_000_000);
        assert!(exchange(&mut bulk, &data).await == data);
    };
    let pings = async {
        let mut slowest = Duration::ZERO;
        for byte in 0..200 {
            let sent = Instant::now();
            assert_eq!(exchange(&mut live, &[byte]).await, [byte]);
            slowest = slowest.max(sent.elapsed());
        }
        slowest
    };
    let ((), slowest) = tokio::join!(upload, pings);
    assert!(slowest < Duration::from_secs(2), "an echo took {slowest:?} beside a stalled reader");
    assert!(read_exactly(&mut stalled, 2_000_000).await == pattern(7, 2_000_000));
}

#[tokio::test]
async fn a_reader_that_holds_up_an_upload_is_reset_and_told() {
    let server = Server::start(|mut stream| async move {
        if stream.read_u8().await? == b's' {
            let data = pattern(7, UNREAD);
            return stream.write_all(&data).await;
        }
        crate::support::echo(stream).await
    })
    .await;
    let loopback = loopback().await;
    let config = Config { receive_limit: 512 * 1024, hard_limit: 1024 * 1024, ..Config::default() };
    let mut forward = Forward::with(&loopback, server.port, fast(), config).await;
    let mut bulk = forward.connect().await;
    bulk.write_all(b"e").await.unwrap();
    let mut stalled = forward.connect().await;
    stalled.write_all(b"s").await.unwrap();
    let upload = async {
        let data = pattern(9, 20_000_000);
        assert!(exchange(&mut bulk, &data).await == data);
    };
    let (notice, ()) = tokio::join!(forward.until(is_loss), upload);
    assert!(matches!(notice, Notice::Overfull { connection: 2 }), "{notice:?}");
    let error = read_all(&mut stalled).await.expect_err("no orderly end");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_reader_that_holds_up_a_neighbour_is_reset_and_told() {
    let server = Server::start(|mut stream| async move {
        if stream.read_u8().await? == b's' {
            return stream.write_all(&pattern(7, UNREAD)).await;
        }
        crate::support::echo(stream).await
    })
    .await;
    let loopback = loopback().await;
    let config = Config { hold_up_limit: Duration::from_millis(200), ..Config::default() };
    let mut forward = Forward::with(&loopback, server.port, fast(), config).await;
    let mut stalled = forward.connect().await;
    stalled.write_all(b"s").await.unwrap();
    // Long enough for every buffer to fill. While nobody else wants anything, the reader may take its time.
    let told = timeout(Duration::from_secs(1), forward.until(is_loss)).await;
    assert!(told.is_err(), "{told:?}");
    let mut live = forward.connect().await;
    live.write_all(b"e").await.unwrap();
    for byte in 0..20 {
        assert_eq!(exchange(&mut live, &[byte]).await, [byte]);
    }
    let notice = forward.until(is_loss).await;
    assert!(matches!(notice, Notice::Overfull { connection: 1 }), "{notice:?}");
    assert_eq!(read_all(&mut stalled).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_reader_that_never_reads_is_reset_at_the_stall_limit() {
    let server = source().await;
    let loopback = loopback().await;
    let config = Config { stall_limit: Some(Duration::from_millis(200)), ..Config::default() };
    let mut forward = Forward::with(&loopback, server.port, fast(), config).await;
    let mut stream = forward.connect().await;
    forward.until(is_loss).await;
    assert_eq!(read_all(&mut stream).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

/// Sends [`UNREAD`] bytes to everybody.
async fn source() -> Server {
    Server::start(|mut stream| async move {
        stream.write_all(&pattern(7, UNREAD)).await?;
        stream.shutdown().await
    })
    .await
}

fn is_loss(notice: &Notice) -> bool {
    matches!(notice, Notice::Overfull { .. } | Notice::Refused { .. } | Notice::Closed { .. })
}
