//! A session that one process starts and another uses: only the first needs an account.
//!
//! `cargo run -p ssm-portfwd --example handed_over`
//!
//! What goes over is a URL and a token. Whoever has them has the session, so they go through a pipe; a file of mode 0600 would do as well,
//! an argument would not: every user of a machine can read those.

use std::error::Error;
use std::io::Read;
use std::net::Ipv4Addr;
use std::process::Stdio;
use std::{env, io};

use ssm_loopback::Loopback;
use ssm_portfwd::{Config, Destination, Tunnel};
use ssm_session::{ControlPlane, Endpoint, Secret, Session};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::process::Command;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    match env::args().nth(1).as_deref() {
        Some("attach") => attach().await,
        _ => hand_over().await,
    }
}

/// The process with an account: starts a session, and opens nothing.
async fn hand_over() -> Result<(), Box<dyn Error>> {
    // AWS in one process. With an account, `AwsControl` takes the place of `loopback.control()`.
    let loopback = Loopback::start(ssm_loopback::Config::default()).await?;
    let request = Destination::Target { port: greet().await? }.request(loopback.target());
    let endpoint = loopback.control().start(&request).await?;

    let mut other = Command::new(env::current_exe()?).arg("attach").stdin(Stdio::piped()).spawn()?;
    let mut pipe = other.stdin.take().ok_or("there is a pipe")?;
    pipe.write_all(endpoint.to_json().expose().as_bytes()).await?;
    drop(pipe);
    if other.wait().await?.success() { Ok(()) } else { Err("the other process failed".into()) }
}

/// The process without: uses the session it is given. The token opens it once, so there is no resume when its connection is lost.
async fn attach() -> Result<(), Box<dyn Error>> {
    // Wiped when it has been read.
    let mut json = Secret::new(String::new());
    io::stdin().read_to_string(json.expose_mut())?;
    let endpoint = Endpoint::from_json(json.expose())?;

    let session = Session::attach(endpoint, ssm_session::Config::default()).await?;
    let (tunnel, _ended) = Tunnel::spawn(session, Config::default());
    let mut greeting = String::new();
    tunnel.open().await?.read_to_string(&mut greeting).await?;
    println!("process {}: {greeting}", std::process::id());
    Ok(())
}

/// What runs on the instance.
async fn greet() -> io::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            stream.write_all(b"hello from the instance").await?;
        }
        io::Result::Ok(())
    });
    Ok(port)
}
