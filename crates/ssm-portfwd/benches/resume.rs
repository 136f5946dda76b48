//! How long a tunnel takes from the loss of its connection to its return and the answer that was under way: `cargo xtask bench resume`.
//!
//! Service, gateway, agent, destination and client are one process with real sockets between them. The session is lost in the middle of
//! an exchange, again and again, in every way; what was sent comes back or the bench fails.

#[path = "../../ssm-loopback/tests/trial/losses.rs"]
mod losses;

use std::error::Error;
use std::net::Ipv4Addr;
use std::time::Instant;

use losses::{LOSSES, Samples, cuts};
use ssm_loopback::Loopback;
use ssm_portfwd::{Config, Destination, Forwarder, ListenAddr, Notice};
use ssm_session::Session;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};

type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let loopback = Loopback::start(ssm_loopback::Config::default()).await?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let request = Destination::Target { port: listener.local_addr()?.port() }.request(loopback.target());
    tokio::spawn(echo(listener));
    let session = Session::start(loopback.control(), &request, ssm_session::Config::default()).await?;
    let forwarder = Forwarder::bind(&ListenAddr::Loopback { port: 0 })?;
    let addr = forwarder.local_addrs()[0];
    let (counted, mut resumes) = watch::channel(0);
    let (listening, ready) = oneshot::channel::<()>();
    let mut listening = Some(listening);
    let notice = move |notice| match notice {
        Notice::Listening(_) => drop(listening.take()),
        Notice::Resumed { .. } => counted.send_modify(|count| *count += 1),
        _ => {}
    };
    tokio::spawn(forwarder.run(session, Config::default(), notice, std::future::pending()));
    let _ = ready.await;
    let mut stream = TcpStream::connect(addr).await?;
    stream.set_nodelay(true)?;
    let mut samples = vec![Samples::default(); LOSSES.len()];
    for round in 0..cuts() {
        let kind = round % LOSSES.len();
        // The first exchange shows that the connection works, the second one is interrupted.
        exchange(&mut stream, 2 * round).await?;
        let _loss = loopback.fault(LOSSES[kind])?;
        let start = Instant::now();
        exchange(&mut stream, 2 * round + 1).await?;
        losses::resumed(&mut resumes, round + 1).await?;
        samples[kind].push(start.elapsed());
    }
    losses::print("tunnel", &samples)
}

/// Sends a number and gets it back.
async fn exchange(stream: &mut TcpStream, number: usize) -> Result<(), Failure> {
    let sent = (number as u64).to_be_bytes();
    stream.write_all(&sent).await?;
    let mut received = [0; 8];
    stream.read_exact(&mut received).await?;
    if received == sent { Ok(()) } else { Err(format!("{sent:?} came back as {received:?}").into()) }
}

async fn echo(listener: TcpListener) -> std::io::Result<()> {
    loop {
        let (mut stream, _) = listener.accept().await?;
        tokio::spawn(async move {
            stream.set_nodelay(true)?;
            let (mut read, mut write) = stream.split();
            tokio::io::copy(&mut read, &mut write).await
        });
    }
}
