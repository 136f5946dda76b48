//! What the demo shows: a shell where there is a terminal, and otherwise a command, a tunnel and its rates.

use std::io::{self, IsTerminal};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;

use ssm_loopback::Profile;
use ssm_portfwd::{Forwarder, ListenAddr};
use ssm_session::{CloseReason, Config, ControlPlane, Event, PayloadType, Session, StartSession};
use ssm_shell::Io;
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use super::served::{self, Served};
use super::transfer::{self, Direction};
use crate::args::{ChannelArgs, DemoArgs, PacingArg};
use crate::command::shell;
use crate::error::Error;
use crate::options;
use crate::output::{Lines, hex, print, say, visible};

/// Runs the command.
pub(crate) async fn run(args: &DemoArgs) -> Result<ExitCode, Error> {
    let served = served::start(args.agent.profile.into()).await?;
    let shown = if io::stdin().is_terminal() && io::stdout().is_terminal() {
        terminal(&served).await
    } else {
        script(&served, args).await
    };
    served.stop().await;
    shown
}

async fn terminal<C: ControlPlane + Clone>(served: &Served<C>) -> Result<ExitCode, Error> {
    say("a shell on this machine, through service, gateway and agent on loopback; `exit` ends it");
    let request = StartSession::shell(&served.target);
    let session = Session::start(served.control.clone(), &request, options::shell_config(None)).await?;
    let exit = ssm_shell::run(session, Io::stdio()?, shell::tell).await?;
    shell::exit_code(&exit)
}

async fn script<C: ControlPlane + Clone>(served: &Served<C>, args: &DemoArgs) -> Result<ExitCode, Error> {
    print(format!(
        "service   {} with gateway and agent (profile {}), all on this machine\n",
        served.endpoint_url, args.agent.profile
    ))?;
    command(served).await?;
    tunnel(served, args.agent.profile.into()).await?;
    print("done      everything matched\n")?;
    Ok(ExitCode::SUCCESS)
}

/// The agent runs a program, not a shell. The last line has to be worked out, so that it cannot come from the request.
const COMMAND: &str = "sh -c 'uname -sm; echo $((6 * 7))'";
const ANSWER: &str = "42";

async fn command<C: ControlPlane + Clone>(served: &Served<C>) -> Result<(), Error> {
    let request = StartSession::document(&served.target, "AWS-StartNonInteractiveCommand")
        .parameter("command", COMMAND);
    let mut session = Session::start(served.control.clone(), &request, Config::default()).await?;
    let mut output = Vec::new();
    let reason = loop {
        match session.next_event().await {
            Event::Payload { kind: PayloadType::Output | PayloadType::StdErr, payload } => {
                output.extend_from_slice(&payload);
            }
            Event::Closed(reason) => break reason,
            _ => {}
        }
    };
    let output = String::from_utf8_lossy(&output);
    if !matches!(reason, CloseReason::AgentClosed { detail: None, .. }) {
        return Err(Error::Ended(reason));
    }
    if output.lines().last() != Some(ANSWER) {
        return Err(Error::Mismatch(format!("`{COMMAND}` printed {output:?}")));
    }
    for line in output.lines() {
        print(format!("command   {}\n", visible(line, Lines::Joined)))?;
    }
    Ok(())
}

async fn tunnel<C: ControlPlane + Clone>(served: &Served<C>, profile: Profile) -> Result<(), Error> {
    let channel =
        ChannelArgs { payload_size: Some(32 * 1024), pacing: pacing(profile), ..ChannelArgs::default() };
    let request = StartSession::port(&served.target, served.port);
    let session = Session::start(served.control.clone(), &request, options::port_config(&channel)).await?;
    let forwarder = Forwarder::bind(&ListenAddr::Address(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))))?;
    let address = forwarder.local_addrs()[0];
    let (stop, stopped) = oneshot::channel::<()>();
    let (ready, listening) = oneshot::channel::<()>();
    let mut ready = Some(ready);
    let notice = move |notice| {
        if let ssm_portfwd::Notice::Listening(_) = notice
            && let Some(ready) = ready.take()
        {
            let _ = ready.send(());
        }
    };
    let shutdown = async {
        let _ = stopped.await;
    };
    let forward = forwarder.run(session, ssm_portfwd::Config::default(), notice, shutdown);
    let transfers = async {
        if listening.await.is_ok() {
            print(format!("tunnel    {address} to port {} of {}\n", served.port, served.target))?;
            for (direction, mib) in transfers(profile) {
                show(address, direction, mib).await?;
            }
        }
        let _ = stop.send(());
        Ok::<_, Error>(())
    };
    let (reason, shown) = tokio::join!(forward, transfers);
    shown?;
    match reason? {
        CloseReason::Terminated => Ok(()),
        reason => Err(Error::Ended(reason)),
    }
}

async fn show(address: SocketAddr, direction: Direction, mib: u32) -> Result<(), Error> {
    let stream = TcpStream::connect(address).await.map_err(Error::local("cannot connect to the tunnel"))?;
    let moved = transfer::run(stream, direction, transfer::blocks(mib)).await;
    let moved = moved.map_err(Error::local("the transfer broke off"))?;
    let name = match direction {
        Direction::Upload => "upload",
        Direction::Download => "download",
    };
    if moved.sent != moved.arrived {
        return Err(Error::Mismatch(format!(
            "{name}: SHA-256 {} was sent and {} arrived",
            hex(&moved.sent),
            hex(&moved.arrived)
        )));
    }
    print(format!(
        "{name:<9} {mib} MiB, SHA-256 equal ({}...), {:.1} MiB/s on loopback; AWS's agent bounds a real download to about 0.7 MiB/s\n",
        &hex(&moved.arrived)[..8],
        f64::from(mib) / moved.elapsed.as_secs_f64(),
    ))?;
    Ok(())
}

/// AWS's gateway cuts who sends too much; the loopback does not.
fn pacing(profile: Profile) -> Option<PacingArg> {
    match profile {
        Profile::Fast => Some(PacingArg::Off),
        Profile::Aws => None,
    }
}

/// What is moved, in MiB: a few seconds of it.
fn transfers(profile: Profile) -> [(Direction, u32); 2] {
    match profile {
        Profile::Fast => [(Direction::Upload, 128), (Direction::Download, 128)],
        Profile::Aws => [(Direction::Upload, 32), (Direction::Download, 2)],
    }
}
