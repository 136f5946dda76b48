//! Listening, and the end of a session.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use ssm_loopback::{Direction, Verdict};
use ssm_portfwd::{Config, Destination, ForwardError, Forwarder, ListenAddr, LocalAddr, Notice};
use ssm_session::{CloseReason, PortMode, Session, SessionKind};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::support::{Forward, SOON, Server, exchange, fast, loopback, pattern, read_all, session};

#[tokio::test]
async fn item_91_port_0_is_reported_and_both_loopback_addresses_work() {
    let (loopback, server) = (loopback().await, Server::echo().await);
    let forward = Forward::start(&loopback, server.port).await;
    let port = forward.addr.port();
    assert_ne!(port, 0);
    let has_v6 = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await.is_ok();
    let mut addrs = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, port))];
    addrs.extend(has_v6.then(|| SocketAddr::from((Ipv6Addr::LOCALHOST, port))));
    for addr in addrs {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        assert_eq!(exchange(&mut stream, b"hello").await, b"hello", "{addr}");
    }
}

#[tokio::test]
async fn a_taken_port_is_an_error_before_there_is_a_session() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = taken.local_addr().unwrap().port();
    for listen in [ListenAddr::Loopback { port }, ListenAddr::Address(taken.local_addr().unwrap())] {
        let error = Forwarder::bind(&listen).expect_err("the port is taken");
        assert!(matches!(error, ForwardError::Bind { .. }) && error.to_string().contains(&port.to_string()));
    }
}

#[tokio::test]
async fn a_connection_before_the_session_fails_at_once() {
    let forwarder = Forwarder::bind(&ListenAddr::Loopback { port: 0 }).unwrap();
    let error = TcpStream::connect(forwarder.local_addrs()[0]).await.expect_err("nobody listens yet");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn the_start_is_told_with_what_was_agreed() {
    let loopback = loopback().await;
    let session = session(&loopback, 1, fast()).await;
    let forwarder = Forwarder::bind(&ListenAddr::Loopback { port: 0 }).unwrap();
    let addrs = forwarder.local_addrs().to_vec();
    let (notices, mut received) = mpsc::unbounded_channel();
    let notice = move |notice| drop(notices.send(notice));
    let task = tokio::spawn(forwarder.run(session, Config::default(), notice, std::future::pending()));
    let Some(Notice::Ready(ready)) = received.recv().await else { panic!("no start") };
    assert!(matches!(ready.kind, SessionKind::Port(PortMode::Mux { .. })), "{ready:?}");
    let Some(Notice::Listening(listening)) = received.recv().await else { panic!("nobody listens") };
    assert_eq!(listening.iter().filter_map(LocalAddr::tcp).collect::<Vec<_>>(), addrs);
    task.abort();
}

#[tokio::test]
async fn shutting_down_ends_connections_session_and_listener() {
    let (loopback, server) = (loopback().await, Server::echo().await);
    let forward = Forward::start(&loopback, server.port).await;
    let mut stream = forward.connect().await;
    assert_eq!(exchange(&mut stream, b"x").await, b"x");
    let addr = forward.addr;
    assert_eq!(forward.shut_down().await, CloseReason::Terminated);
    // The destination has not ended, so its connection must not look as if it had.
    assert_eq!(read_all(&mut stream).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert!(TcpStream::connect(addr).await.is_err());
    loopback.shutdown().await;
}

#[tokio::test]
async fn what_was_received_is_still_written_when_the_session_ends() {
    let server = Server::start(|mut stream| async move {
        stream.write_all(&pattern(1, 1_000_000)).await?;
        stream.shutdown().await
    })
    .await;
    let loopback = loopback().await;
    let (ends, mut ended) = mpsc::unbounded_channel();
    // What the agent sends alone in the size of a header is the end of a stream.
    let _rule = loopback.rule(move |direction, header| {
        if direction == Direction::AgentToClient && header.message_type.is_stream() && header.payload_len == 8
        {
            let _ = ends.send(());
        }
        Verdict::Deliver
    });
    let forward = Forward::start(&loopback, server.port).await;
    let mut stream = forward.connect().await;
    // Nothing is read until all of it waits in the forward and in the sockets.
    timeout(SOON, ended.recv()).await.expect("the end is on its way");
    let (reason, all) = tokio::join!(forward.shut_down(), read_all(&mut stream));
    assert_eq!(reason, CloseReason::Terminated);
    assert!(all.unwrap() == pattern(1, 1_000_000));
}

#[tokio::test]
async fn a_service_that_goes_away_ends_a_forward_that_may_not_wait() {
    let (loopback, server) = (loopback().await, Server::echo().await);
    let mut config = fast();
    config.channel.reconnect = Some(std::time::Duration::from_millis(500));
    let forward = Forward::with(&loopback, server.port, config, Config::default()).await;
    loopback.shutdown().await;
    let reason = forward.ended().await;
    assert!(matches!(reason, CloseReason::AgentClosed { .. } | CloseReason::ConnectionLost(_)), "{reason:?}");
}

#[tokio::test]
async fn a_shell_is_not_taken_for_a_tunnel() {
    let loopback = loopback().await;
    let request = ssm_session::StartSession::shell(loopback.target());
    let session = Session::start(loopback.control(), &request, fast()).await.unwrap();
    let forwarder = Forwarder::bind(&ListenAddr::Loopback { port: 0 }).unwrap();
    let run = forwarder.run(session, Config::default(), |_| {}, std::future::pending());
    let ended = timeout(SOON, run).await.expect("it ends");
    assert!(ended.is_err() || matches!(ended, Ok(CloseReason::Terminated)), "{ended:?}");
}

#[tokio::test]
async fn a_host_behind_the_target_is_reached() {
    let (loopback, server) = (loopback().await, Server::echo().await);
    let destination = Destination::Host { host: "localhost".into(), port: server.port };
    let request = destination.request(loopback.target());
    let session = Session::start(loopback.control(), &request, fast()).await.unwrap();
    let forwarder = Forwarder::bind(&ListenAddr::Loopback { port: 0 }).unwrap();
    let addr = forwarder.local_addrs()[0];
    let (listening, started) = oneshot::channel();
    let mut listening = Some(listening);
    let notice = move |notice| {
        if matches!(notice, Notice::Listening(_)) {
            let _ = listening.take().unwrap().send(());
        }
    };
    let task = tokio::spawn(forwarder.run(session, Config::default(), notice, std::future::pending()));
    started.await.unwrap();
    assert_eq!(exchange(&mut TcpStream::connect(addr).await.unwrap(), b"host").await, b"host");
    task.abort();
}
