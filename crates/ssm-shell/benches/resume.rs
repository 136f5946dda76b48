//! How long a shell takes from the loss of its connection to its return and the answer that was under way: `cargo xtask bench resume`.
//!
//! Service, gateway, agent and client are one process with real sockets between them, the shell is a real one on a terminal. The session is
//! lost in the middle of an exchange, again and again, in every way; what was typed comes back or the bench fails.

#[path = "../../ssm-loopback/tests/trial/losses.rs"]
mod losses;

use std::error::Error;
use std::time::Instant;

use losses::{LOSSES, Samples, cuts};
use ssm_loopback::{Config, Loopback};
use ssm_session::{Session, StartSession, TerminalSize};
use ssm_shell::{Io, Notice};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::watch;

type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let loopback = Loopback::start(Config { shell: Some("/bin/sh".into()), ..Config::default() }).await?;
    let request = StartSession::shell(loopback.target());
    let session = Session::start(loopback.control(), &request, ssm_session::Config::default()).await?;
    let (mut input, session_input) = duplex(64 * 1024);
    let (mut output, session_output) = duplex(64 * 1024);
    let (io, _) = Io::streams(session_input, session_output, tokio::io::sink())
        .controlled(TerminalSize { cols: 80, rows: 24 });
    let (counted, mut resumes) = watch::channel(0);
    let notice = move |notice| {
        if matches!(notice, Notice::Resumed) {
            counted.send_modify(|count| *count += 1);
        }
    };
    tokio::spawn(ssm_shell::run(session, io, notice));
    input.write_all(b"stty raw -echo; echo be''gin; exec cat\r").await?;
    read_until(&mut output, b"begin\n").await?;
    let mut samples = vec![Samples::default(); LOSSES.len()];
    for round in 0..cuts() {
        let kind = round % LOSSES.len();
        // The first exchange shows that the connection works, the second one is interrupted.
        exchange(&mut input, &mut output, 2 * round).await?;
        let _loss = loopback.fault(LOSSES[kind])?;
        let start = Instant::now();
        exchange(&mut input, &mut output, 2 * round + 1).await?;
        losses::resumed(&mut resumes, round + 1).await?;
        samples[kind].push(start.elapsed());
    }
    losses::print("shell", &samples)
}

/// Types a number and gets it back.
async fn exchange(input: &mut DuplexStream, output: &mut DuplexStream, number: usize) -> Result<(), Failure> {
    let sent = format!("{number:08}");
    input.write_all(sent.as_bytes()).await?;
    let mut received = [0; 8];
    output.read_exact(&mut received).await?;
    if received == sent.as_bytes() {
        Ok(())
    } else {
        Err(format!("{sent:?} came back as {received:?}").into())
    }
}

async fn read_until(output: &mut DuplexStream, end: &[u8]) -> Result<(), Failure> {
    let mut seen = Vec::new();
    while !seen.ends_with(end) {
        seen.push(output.read_u8().await?);
    }
    Ok(())
}
