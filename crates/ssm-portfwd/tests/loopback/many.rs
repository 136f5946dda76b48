//! Many connections, at a time and one after another.

use ssm_portfwd::{Config, Notice};
use tokio::task::JoinSet;

use crate::support::{Forward, Server, exchange, fast, loopback};

#[tokio::test]
async fn a_thousand_connections_are_open_side_by_side() {
    const STREAMS: u64 = 1000;
    let (loopback, server) = (loopback().await, Server::echo().await);
    let mut forward = Forward::start(&loopback, server.port).await;
    let mut streams = Vec::new();
    for number in 0..STREAMS {
        let mut stream = forward.connect().await;
        assert_eq!(exchange(&mut stream, &number.to_be_bytes()).await, number.to_be_bytes());
        streams.push(stream);
    }
    assert_eq!(server.connections(), 1000);
    // The first one was idle while all others came.
    for (number, stream) in (0..STREAMS).zip(&mut streams) {
        assert_eq!(exchange(stream, &number.to_le_bytes()).await, number.to_le_bytes());
    }
    drop(streams);
    for _ in 0..STREAMS {
        let notice = forward.until(|notice| matches!(notice, Notice::Closed { .. })).await;
        assert!(matches!(notice, Notice::Closed { sent: 16, received: 16, .. }), "{notice:?}");
    }
}

#[tokio::test]
async fn five_thousand_short_connections_fail_nowhere() {
    const WORKERS: usize = 8;
    const EACH: u32 = 625;
    let (loopback, server) = (loopback().await, Server::echo().await);
    let mut forward = Forward::start(&loopback, server.port).await;
    let mut workers = JoinSet::new();
    for _ in 0..WORKERS {
        let addr = forward.addr;
        workers.spawn(async move {
            for number in 0..EACH {
                let mut stream = tokio::net::TcpStream::connect(addr).await.unwrap();
                assert_eq!(exchange(&mut stream, &number.to_be_bytes()).await, number.to_be_bytes());
            }
        });
    }
    workers.join_all().await;
    for _ in 0..WORKERS as u32 * EACH {
        let notice = forward.until(|notice| matches!(notice, Notice::Closed { .. })).await;
        assert!(matches!(notice, Notice::Closed { sent: 4, received: 4, .. }), "{notice:?}");
    }
    assert_eq!(server.connections(), 5000);
}

#[tokio::test]
async fn a_connection_too_many_waits_for_a_place() {
    let (loopback, server) = (loopback().await, Server::echo().await);
    let config = Config { connections_max: 2, ..Config::default() };
    let forward = Forward::with(&loopback, server.port, fast(), config).await;
    let mut clients = JoinSet::new();
    for number in 0..20_u8 {
        let mut stream = forward.connect().await;
        clients.spawn(async move { assert_eq!(exchange(&mut stream, &[number]).await, [number]) });
    }
    clients.join_all().await;
    assert_eq!(server.connections(), 20);
}
