//! Connections for a program that wants no local port.

use std::io::ErrorKind;

use ssm_portfwd::{Config, Tunnel};
use ssm_session::CloseReason;
use tokio::io::{AsyncWriteExt, split};
use tokio::time::timeout;

use crate::support::{SOON, Server, closed_port, fast, loopback, pattern, read_all, read_exactly, session};

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
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
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
    assert_eq!(timeout(SOON, task).await.expect("it ends").unwrap(), CloseReason::Terminated);
}

#[tokio::test]
async fn nothing_opens_after_the_end() {
    let (loopback, server) = (loopback().await, Server::echo().await);
    let (tunnel, task) = Tunnel::spawn(session(&loopback, server.port, fast()).await, Config::default());
    let mut stream = tunnel.open().await.unwrap();
    loopback.shutdown().await;
    let reason = timeout(SOON, task).await.expect("it ends").unwrap();
    assert!(matches!(reason, CloseReason::AgentClosed { .. }), "{reason:?}");
    assert_eq!(tunnel.closed(), Some(reason));
    assert_eq!(tunnel.open().await.unwrap_err().kind(), ErrorKind::ConnectionAborted);
    let _ = stream.write_all(b"x").await;
    assert_eq!(read_all(&mut stream).await.unwrap_or_default(), b"");
}
