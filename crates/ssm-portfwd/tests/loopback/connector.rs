//! The connector as an HTTP client uses it.

use std::error::Error;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use ssm_portfwd::{Config, Connector, Tunnel, TunnelError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::support::{SOON, Server, closed_port, fast, loopback, pattern, session};

#[tokio::test]
async fn concurrent_requests_have_connections_of_their_own() {
    const REQUESTS: u8 = 12;
    // Nobody is answered before everybody has asked, which one connection could not do.
    let all = Arc::new(Barrier::new(REQUESTS.into()));
    let server = Server::start(move |mut stream| {
        let all = Arc::clone(&all);
        async move {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await?);
            }
            let mut body = vec![0; 100_000];
            stream.read_exact(&mut body).await?;
            all.wait().await;
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\nConnection: close\r\n\r\n")
                .await?;
            stream.write_all(&body).await
        }
    })
    .await;
    let loopback = loopback().await;
    let (tunnel, _task) = Tunnel::spawn(session(&loopback, server.port, fast()).await, Config::default());
    let client = Client::builder(TokioExecutor::new()).build(Connector::new(tunnel));
    let mut requests = JoinSet::new();
    for seed in 0..REQUESTS {
        let body = Full::new(Bytes::from(pattern(seed, 100_000)));
        let request = http::Request::post("http://files.internal/").body(body).unwrap();
        let answer = client.request(request);
        requests.spawn(async move {
            let body = answer.await.unwrap().into_body().collect().await.unwrap().to_bytes();
            assert!(body == pattern(seed, 100_000), "request {seed}");
        });
    }
    timeout(SOON, requests.join_all()).await.expect("all are answered");
    assert_eq!(server.connections(), usize::from(REQUESTS));
}

#[tokio::test]
async fn a_client_is_told_what_is_wrong_with_its_tunnel() {
    let loopback = loopback().await;
    let port = closed_port().await;
    let (tunnel, task) = Tunnel::spawn(session(&loopback, port, fast()).await, Config::default());
    let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new()).build(Connector::new(tunnel));
    let get = || timeout(SOON, client.get("http://files.internal/".parse().unwrap()));

    let refused = get().await.expect("it is told").unwrap_err();
    assert!(matches!(cause(&refused), Some(TunnelError::Refused)), "{refused:?}");
    loopback.shutdown().await;
    timeout(SOON, task).await.expect("it ends").unwrap().unwrap();
    let over = get().await.expect("it is told").unwrap_err();
    assert!(matches!(cause(&over), Some(TunnelError::SessionOver(_))), "{over:?}");
}

/// What is at the bottom of an error.
fn cause<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a TunnelError> {
    let mut error = Some(error);
    while let Some(next) = error {
        if let Some(io) = next.downcast_ref::<io::Error>() {
            return io.get_ref()?.downcast_ref();
        }
        error = next.source();
    }
    None
}
