//! The real thing: `ssm forward` in a process of its own, and service, gateway and agent in another.

use std::error::Error;
use std::io::{self, BufRead as _, Write as _};
use std::net::SocketAddr;
use std::process::Command;
use std::thread;
use std::time::Duration;

use ssm_loopback::fault::{Odds, random};
use ssm_loopback::{Config, Loopback, Profile, RuleGuard, Verdict};
use ssm_portfwd::Destination;
use ssm_session::ControlPlane as _;
use tokio::sync::mpsc;

use crate::process::{Output, Process};

type Failure = Box<dyn Error + Send + Sync>;

/// The program under test, built with the same profile as this bench.
const SSM: &str = env!("CARGO_BIN_EXE_ssm");

/// What service, gateway, agent and the network to them are like.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setting {
    pub(crate) profile: &'static str,
    /// Largest payload of the agent's messages, in bytes; AWS's agent has its own.
    pub(crate) payload: usize,
    /// How much later each message arrives, each way.
    pub(crate) delay: Duration,
    /// Messages lost of a thousand, each way.
    pub(crate) loss: u32,
}

impl Setting {
    /// As fast as this machine.
    pub(crate) fn fast(payload: usize) -> Self {
        Self { profile: "fast", payload, delay: Duration::ZERO, loss: 0 }
    }

    /// With the pauses of AWS's agent.
    pub(crate) fn aws() -> Self {
        Self { profile: "aws", ..Self::fast(1024) }
    }

    fn words(self) -> [String; 4] {
        let Self { profile, payload, delay, loss } = self;
        [profile.to_owned(), payload.to_string(), delay.as_millis().to_string(), loss.to_string()]
    }

    fn parse(words: &[&str]) -> Result<Self, Failure> {
        let [profile, payload, delay, loss] = words else { return Err("not a setting".into()) };
        Ok(Self {
            profile: if *profile == "aws" { "aws" } else { "fast" },
            payload: payload.parse()?,
            delay: Duration::from_millis(delay.parse()?),
            loss: loss.parse()?,
        })
    }
}

/// Serves Session Manager. Prints what an AWS SDK needs; then, for each port on stdin, a started session as JSON.
pub(crate) fn serve(words: &[&str]) -> Result<(), Failure> {
    let setting = Setting::parse(words)?;
    let profile = if setting.profile == "aws" { Profile::Aws } else { Profile::Fast };
    let config = Config { profile, payload_len: setting.payload, ..Config::default() };
    let (ports, mut requests) = mpsc::unbounded_channel();
    thread::spawn(move || io::stdin().lock().lines().try_for_each(|line| ports.send(line)));
    // One thread, as in `ssm loopback`.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let loopback = Loopback::start(config).await?;
        let _network = network(&loopback, setting);
        let keys = [loopback.endpoint_url(), loopback.access_key(), loopback.secret_key().expose()];
        let mut stdout = io::stdout();
        writeln!(stdout, "{} {} {}", keys.join(" "), loopback.region(), loopback.target())?;
        let control = loopback.control();
        while let Some(port) = requests.recv().await {
            let request = Destination::Target { port: port?.parse()? }.request(loopback.target());
            let endpoint = control.start(&request).await?;
            writeln!(stdout, "{}", endpoint.to_json().expose())?;
        }
        Ok(())
    })
}

/// Delay and loss, where the setting has any.
fn network(loopback: &Loopback, setting: Setting) -> Option<RuleGuard> {
    let Setting { delay, loss, .. } = setting;
    let mut chance = random(1, Odds { drop: loss, ..Odds::default() });
    let rule = move |direction, header: &_| match chance(direction, header) {
        Verdict::Deliver if !delay.is_zero() => Verdict::Delay(delay),
        verdict => verdict,
    };
    (!delay.is_zero() || loss > 0).then(|| loopback.rule(rule))
}

/// Service, gateway and agent.
pub(crate) struct OtherSide {
    pub(crate) process: Process,
    /// URL, access key, secret key, region and target.
    keys: Vec<String>,
}

impl OtherSide {
    pub(crate) fn start(setting: Setting) -> io::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("other-side").args(setting.words());
        let mut process = Process::start(&mut command, Output::Stdout)?;
        let keys = process.line()?.split(' ').map(str::to_owned).collect();
        Ok(Self { process, keys })
    }

    /// A started session that leads to this port, as JSON.
    pub(crate) fn session(&mut self, destination: SocketAddr) -> io::Result<String> {
        writeln!(self.process.stdin(), "{}", destination.port())?;
        self.process.line()
    }

    /// `ssm forward` to this port, which starts its sessions with the AWS SDK.
    pub(crate) fn forward(&self, destination: SocketAddr, options: &[&str]) -> io::Result<Forward> {
        if cfg!(not(feature = "aws")) {
            return Err(io::Error::other("only a build with the AWS SDK starts sessions: cargo xtask bench"));
        }
        let [url, access_key, secret_key, region, target] = &self.keys[..] else {
            return Err(io::Error::other("the other side did not say where it is"));
        };
        let mut command = Command::new(SSM);
        command.args(["forward", target, "-L", &spec(destination)]).args(options);
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
