//! The real thing: `ssm forward` in a process of its own, and service, gateway and agent in another.

use std::error::Error;
use std::io::{self, BufRead as _, Write as _};
use std::net::SocketAddr;
use std::process::Command;
use std::thread;

use serde_json::json;
use ssm_loopback::{Config, Loopback, Profile};
use ssm_portfwd::Destination;
use ssm_session::ControlPlane as _;
use tokio::sync::mpsc;

use crate::process::{Output, Process};

type Failure = Box<dyn Error + Send + Sync>;

/// The program under test, built with the same profile as this bench.
const SSM: &str = env!("CARGO_BIN_EXE_ssm");

/// Serves Session Manager. Prints what an AWS SDK needs; then, for each port on stdin, a started session as JSON.
pub(crate) fn serve(profile: &str, payload: usize) -> Result<(), Failure> {
    let profile = if profile == "aws" { Profile::Aws } else { Profile::Fast };
    let config = Config { profile, payload_len: payload, ..Config::default() };
    let (ports, mut requests) = mpsc::unbounded_channel();
    thread::spawn(move || io::stdin().lock().lines().try_for_each(|line| ports.send(line)));
    // One thread, as in `ssm loopback`.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let loopback = Loopback::start(config).await?;
        let keys = [loopback.endpoint_url(), loopback.access_key(), loopback.secret_key().expose()];
        let mut stdout = io::stdout();
        writeln!(stdout, "{} {} {}", keys.join(" "), loopback.region(), loopback.target())?;
        let control = loopback.control();
        while let Some(port) = requests.recv().await {
            let request = Destination::Target { port: port?.parse()? }.request(loopback.target());
            let endpoint = control.start(&request).await?;
            let session = json!({
                "SessionId": endpoint.session_id.as_str(),
                "StreamUrl": endpoint.stream_url,
                "TokenValue": endpoint.token.expose(),
            });
            writeln!(stdout, "{session}")?;
        }
        Ok(())
    })
}

/// Service, gateway and agent.
pub(crate) struct OtherSide {
    pub(crate) process: Process,
    /// URL, access key, secret key, region and target.
    keys: Vec<String>,
}

impl OtherSide {
    pub(crate) fn start(profile: &str, payload: usize) -> io::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["other-side", profile, &payload.to_string()]);
        let mut process = Process::start(&mut command, Output::Stdout)?;
        let keys = process.line()?.split(' ').map(str::to_owned).collect();
        Ok(Self { process, keys })
    }

    /// A started session that leads to this port, as JSON.
    pub(crate) fn session(&mut self, destination: SocketAddr) -> io::Result<String> {
        writeln!(self.process.stdin(), "{}", destination.port())?;
        self.process.line()
    }

    /// `ssm forward` to this port, which starts its session with the AWS SDK.
    pub(crate) fn forward(&self, destination: SocketAddr) -> io::Result<Forward> {
        let [url, access_key, secret_key, region, target] = &self.keys[..] else {
            return Err(io::Error::other("the other side did not say where it is"));
        };
        let mut command = Command::new(SSM);
        command.args(["forward", target, "-L", &spec(destination)]);
        command.env("AWS_ENDPOINT_URL", url).env("AWS_REGION", region);
        command.env("AWS_ACCESS_KEY_ID", access_key).env("AWS_SECRET_ACCESS_KEY", secret_key);
        Forward::start(&mut command)
    }
}

/// A running `ssm forward`.
pub(crate) struct Forward {
    pub(crate) process: Process,
    pub(crate) entrance: SocketAddr,
}

impl Forward {
    /// `ssm forward` to this port over a started session.
    pub(crate) fn attach(destination: SocketAddr, session: &str, options: &[&str]) -> io::Result<Self> {
        let mut command = Command::new(SSM);
        command
            .args(["forward", "--attach", "-L", &spec(destination)])
            .args(options)
            .env("SSM_ATTACH", session);
        Self::start(&mut command)
    }

    fn start(command: &mut Command) -> io::Result<Self> {
        let mut process = Process::start(command, Output::Stderr)?;
        let entrance = loop {
            let line = process.line()?;
            let Some((_, addresses)) = line.split_once("listening on ") else { continue };
            let first = addresses.split([',', ' ']).next().unwrap_or_default();
            break first.parse().map_err(io::Error::other)?;
        };
        Ok(Self { process, entrance })
    }
}

fn spec(destination: SocketAddr) -> String {
    format!("0:{}", destination.port())
}
