//! HTTP through a session, with hyper: no local port, and the connections are kept and shared as usual.
//!
//! `cargo run -p ssm-portfwd --features tower --example http`

use std::convert::Infallible;
use std::error::Error;
use std::net::Ipv4Addr;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, server};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use ssm_loopback::Loopback;
use ssm_portfwd::{Config, Connector, Destination, Tunnel};
use ssm_session::Session;
use tokio::net::TcpListener;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let port = serve().await?;
    // AWS in one process. With an account, `AwsControl` takes the place of `loopback.control()`.
    let loopback = Loopback::start(ssm_loopback::Config::default()).await?;
    let request = Destination::Target { port }.request(loopback.target());
    let session = Session::start(loopback.control(), &request, ssm_session::Config::default()).await?;

    let (tunnel, ended) = Tunnel::spawn(session, Config::default());
    let client: Client<_, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build(Connector::new(tunnel));
    for page in ["index", "about"] {
        let answer = client.get(format!("http://wiki.internal/{page}").parse()?).await?;
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        println!("{status}: {}", String::from_utf8_lossy(&body));
    }

    // The session ends when nobody can open connections and none is left.
    drop(client);
    println!("{}", ended.await??);
    Ok(())
}

/// What runs on the instance: it says which page of which site was asked for.
async fn serve() -> std::io::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let connection = server::conn::http1::Builder::new();
            tokio::spawn(connection.serve_connection(TokioIo::new(stream), service_fn(answer)));
        }
    });
    Ok(port)
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let host = request.headers().get("host").and_then(|host| host.to_str().ok()).unwrap_or("nobody");
    let text = format!("{} of {host}", request.uri().path());
    Ok(Response::new(Full::from(text)))
}
