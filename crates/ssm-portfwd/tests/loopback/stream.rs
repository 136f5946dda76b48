//! One pair of streams over a session, as ssh's ProxyCommand has it.

use std::future::pending;

use ssm_loopback::Loopback;
use ssm_portfwd::{Config, stream};
use ssm_session::{CloseReason, ControlPlane, Session, StartSession};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex, split};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::support::{SOON, Server, closed_port, echo, fast, loopback, pattern, read_all, read_exactly};

#[tokio::test]
async fn item_90_bytes_arrive_unchanged_both_ways_and_the_remote_end_is_the_end() {
    let server = Server::start(|mut stream| async move {
        let data = read_exactly(&mut stream, 4_000_000).await;
        stream.write_all(&data).await?;
        stream.shutdown().await
    })
    .await;
    let loopback = loopback().await;
    let (near, far) = duplex(64 * 1024);
    let (input, output) = split(far);
    let session = ssh(&loopback, server.port).await;
    let run = tokio::spawn(stream(session, Config::default(), input, output, |_| {}, pending()));
    let (mut read, mut write) = split(near);
    let data = pattern(1, 4_000_000);
    let (written, back) = tokio::join!(write.write_all(&data), read_all(&mut read));
    written.unwrap();
    assert!(back.unwrap() == data);
    let reason = timeout(SOON, run).await.expect("it ends").unwrap();
    assert!(matches!(reason, CloseReason::AgentClosed { detail: None, .. }), "{reason:?}");
}

#[tokio::test]
async fn an_input_that_ends_still_gets_the_answer() {
    let server = Server::start(|mut stream| async move {
        let mut request = [0; 7];
        stream.read_exact(&mut request).await?;
        stream.write_all(&pattern(2, 1_000_000)).await?;
        stream.shutdown().await
    })
    .await;
    let loopback = loopback().await;
    let session = ssh(&loopback, server.port).await;
    let (mut read, output) = duplex(64 * 1024);
    let run = tokio::spawn(stream(session, Config::default(), &b"request"[..], output, |_| {}, pending()));
    assert!(read_all(&mut read).await.unwrap() == pattern(2, 1_000_000));
    timeout(SOON, run).await.expect("it ends").unwrap();
}

#[tokio::test]
async fn item_79_a_lone_newline_stays_a_newline() {
    let (loopback, server) = (loopback().await, Server::start(echo).await);
    let session = ssh(&loopback, server.port).await;
    let (mut near, far) = duplex(1024);
    let (input, output) = split(far);
    let (stop, stopped) = oneshot::channel::<()>();
    let stopped = async move { drop(stopped.await) };
    let run = tokio::spawn(stream(session, Config::default(), input, output, |_| {}, stopped));
    for _ in 0..10 {
        near.write_all(b"\n").await.unwrap();
        assert_eq!(read_exactly(&mut near, 1).await, b"\n");
    }
    drop(stop);
    assert_eq!(timeout(SOON, run).await.expect("it ends").unwrap(), CloseReason::Terminated);
}

#[tokio::test]
async fn a_closed_port_ends_it_with_a_reason() {
    let loopback = loopback().await;
    let session = ssh(&loopback, closed_port().await).await;
    let (mut near, far) = duplex(1024);
    let (input, output) = split(far);
    let run = tokio::spawn(stream(session, Config::default(), input, output, |_| {}, pending()));
    assert_eq!(read_all(&mut near).await.unwrap(), b"");
    let reason = timeout(SOON, run).await.expect("it ends").unwrap();
    assert!(matches!(reason, CloseReason::AgentClosed { detail: Some(_), .. }), "{reason:?}");
}

async fn ssh(loopback: &Loopback, port: u16) -> Session<impl ControlPlane + use<>> {
    let request = StartSession::ssh(loopback.target(), port);
    Session::start(loopback.control(), &request, fast()).await.unwrap()
}
