//! Items of the protocol's checklist that are told by counting messages, or by nothing happening.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ssm_loopback::{Direction, Verdict};
use ssm_portfwd::{Config, Forwarder, ListenAddr, Notice, stream};
use ssm_session::{CloseReason, PayloadType, Session, StartSession};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex, split};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::support::{Forward, SOON, Server, exchange, fast, loopback, old, read_all, read_exactly};

/// The first flag of a session has no effect: with it the client finds out when the agent listens.
#[tokio::test]
async fn item_83_the_end_of_a_connection_is_one_flag() {
    let (loopback, server) = (loopback().await, Server::echo().await);
    let flags = Arc::new(Mutex::new(BTreeSet::new()));
    let count = Arc::clone(&flags);
    let _counting = loopback.rule(move |direction, header| {
        if direction == Direction::ClientToAgent && header.payload_type == Some(PayloadType::Flag) {
            // What is repeated has its old number.
            count.lock().unwrap().insert(header.sequence);
        }
        Verdict::Deliver
    });
    let mut forward = Forward::with(&loopback, server.port, old(), Config::default()).await;
    for connection in 1..=4 {
        let mut stream = forward.connect().await;
        assert_eq!(exchange(&mut stream, b"hello").await, b"hello");
        assert_eq!(flags.lock().unwrap().len(), connection, "before the end of connection {connection}");
        drop(stream);
        forward.until(|notice| matches!(notice, Notice::Closed { .. })).await;
    }
    assert_eq!(server.connections(), 4);
}

/// In basic mode the agent dials when the session starts, and some services speak first.
#[tokio::test]
async fn item_84_what_came_before_there_was_a_connection_is_kept() {
    let server = Server::start(|mut stream| async move {
        stream.write_all(b"220 welcome\r\n").await?;
        crate::support::echo(stream).await
    });
    let (loopback, server) = (loopback().await, server.await);
    let (passed, mut seen) = mpsc::unbounded_channel();
    let mut greeted = false;
    let _watching = loopback.rule(move |direction, header| {
        greeted |= direction == Direction::AgentToClient && header.payload_type == Some(PayloadType::Output);
        let acknowledges = direction == Direction::ClientToAgent && !header.message_type.is_stream();
        if greeted && acknowledges {
            let _ = passed.send(());
        }
        Verdict::Deliver
    });
    let forward = Forward::with(&loopback, server.port, old(), Config::default()).await;
    timeout(SOON, seen.recv()).await.expect("the client has it").unwrap();
    let mut stream = forward.connect().await;
    assert_eq!(read_exactly(&mut stream, 13).await, b"220 welcome\r\n");
    assert_eq!(exchange(&mut stream, b"helo").await, b"helo");
}

/// A service that reads to the end would wait for ever: a plain stream has no end of one direction.
#[tokio::test]
async fn item_90_the_end_of_the_input_ends_the_session() {
    let server =
        Server::start(|mut stream| async move { stream.read_to_end(&mut Vec::new()).await.map(drop) });
    let (loopback, server) = (loopback().await, server.await);
    let request = StartSession::ssh(loopback.target(), server.port);
    let session = Session::start(loopback.control(), &request, fast()).await.unwrap();
    let (mut read, output) = duplex(1024);
    let config = Config { half_close_grace: Duration::from_millis(50), ..Config::default() };
    let run =
        tokio::spawn(stream(session, config, &b"all there is"[..], output, |_| {}, std::future::pending()));
    let reason = timeout(SOON, run).await.expect("it ends").unwrap();
    assert_eq!(reason, CloseReason::Terminated);
    assert_eq!(read_all(&mut read).await.unwrap(), b"");
}

/// Behind a listener, too: a plain stream is one connection.
#[tokio::test]
async fn item_90_the_end_of_a_connection_is_the_end_of_its_stream() {
    let (loopback, server) = (loopback().await, Server::echo().await);
    let request = StartSession::ssh(loopback.target(), server.port);
    let session = Session::start(loopback.control(), &request, fast()).await.unwrap();
    let forwarder = Forwarder::bind(&ListenAddr::Loopback { port: 0 }).unwrap();
    let address = forwarder.local_addrs()[0];
    let (notify, mut notices) = mpsc::unbounded_channel();
    let notice = move |notice| drop(notify.send(notice));
    let run = tokio::spawn(forwarder.run(session, Config::default(), notice, std::future::pending()));
    while !matches!(notices.recv().await.unwrap(), Notice::Listening(_)) {}
    let mut stream = TcpStream::connect(address).await.unwrap();
    assert_eq!(exchange(&mut stream, b"hello").await, b"hello");
    drop(stream);
    let reason = timeout(SOON, run).await.expect("it ends").unwrap().unwrap();
    assert_eq!(reason, CloseReason::Terminated);
}

#[tokio::test]
async fn item_90_nothing_is_added_to_what_the_destination_says() {
    let server = Server::start(|mut stream| async move {
        stream.write_all(b"\nSSH-2.0-x\r\n\0\xff\n").await?;
        stream.shutdown().await
    });
    let (loopback, server) = (loopback().await, server.await);
    let request = StartSession::ssh(loopback.target(), server.port);
    let session = Session::start(loopback.control(), &request, fast()).await.unwrap();
    let (mut near, far) = duplex(1024);
    let (input, output) = split(far);
    let run = tokio::spawn(stream(session, Config::default(), input, output, |_| {}, std::future::pending()));
    assert_eq!(read_all(&mut near).await.unwrap(), b"\nSSH-2.0-x\r\n\0\xff\n");
    timeout(SOON, run).await.expect("it ends").unwrap();
}

#[tokio::test]
async fn item_91_without_an_address_nobody_else_gets_in() {
    let forwarder = Forwarder::bind(&ListenAddr::Loopback { port: 0 }).unwrap();
    let addresses = forwarder.local_addrs();
    assert!(!addresses.is_empty());
    for address in addresses {
        assert!(address.ip().is_loopback() && address.port() != 0, "{address}");
    }
}
