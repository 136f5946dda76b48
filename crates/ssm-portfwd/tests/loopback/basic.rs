//! Agents or clients without multiplexing: one connection at a time.

use std::sync::atomic::{AtomicUsize, Ordering};

use ssm_portfwd::{Config, Notice};
use tokio::io::AsyncWriteExt;

use crate::support::{Forward, Server, echo, exchange, loopback, old, pattern, read_exactly};

#[tokio::test]
async fn bytes_arrive_unchanged_both_ways() {
    let (loopback, server) = (loopback().await, Server::echo().await);
    let forward = Forward::with(&loopback, server.port, old(), Config::default()).await;
    let data = pattern(1, 3_000_003);
    assert!(exchange(&mut forward.connect().await, &data).await == data);
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn item_83_connections_one_after_another_each_get_their_own_destination() {
    let (loopback, server) = (loopback().await, Server::echo().await);
    let mut forward = Forward::with(&loopback, server.port, old(), Config::default()).await;
    for seed in 0..20 {
        let mut stream = forward.connect().await;
        let data = pattern(seed, 50_000);
        assert!(exchange(&mut stream, &data).await == data, "connection {seed}");
        drop(stream);
        forward.until(|notice| matches!(notice, Notice::Closed { .. })).await;
    }
    assert_eq!(server.connections(), 20);
}

#[tokio::test]
async fn a_second_connection_waits_for_the_first_to_end() {
    let (loopback, server) = (loopback().await, Server::echo().await);
    let forward = Forward::with(&loopback, server.port, old(), Config::default()).await;
    let mut first = forward.connect().await;
    assert_eq!(exchange(&mut first, b"first").await, b"first");
    let mut second = forward.connect().await;
    second.write_all(b"second").await.unwrap();
    assert_eq!(exchange(&mut first, b"still first").await, b"still first");
    drop(first);
    assert_eq!(read_exactly(&mut second, 6).await, b"second");
}

#[tokio::test]
async fn nothing_of_an_old_connection_reaches_a_new_one() {
    let connections = AtomicUsize::new(0);
    let server = Server::start(move |mut stream| {
        let first = connections.fetch_add(1, Ordering::Relaxed) == 0;
        async move {
            if !first {
                return echo(stream).await;
            }
            loop {
                // Much of it is on the way when the program leaves.
                stream.write_all(&[b'a'; 100_000]).await?;
            }
        }
    })
    .await;
    let loopback = loopback().await;
    let forward = Forward::with(&loopback, server.port, old(), Config::default()).await;
    let mut first = forward.connect().await;
    assert_eq!(read_exactly(&mut first, 1000).await, [b'a'; 1000]);
    drop(first);
    assert_eq!(exchange(&mut forward.connect().await, b"new").await, b"new");
}

#[tokio::test]
async fn a_destination_that_speaks_first_is_heard() {
    let server = Server::start(|mut stream| async move {
        stream.write_all(b"220 welcome\r\n").await?;
        echo(stream).await
    })
    .await;
    let loopback = loopback().await;
    let forward = Forward::with(&loopback, server.port, old(), Config::default()).await;
    assert_eq!(read_exactly(&mut forward.connect().await, 13).await, b"220 welcome\r\n");
}
