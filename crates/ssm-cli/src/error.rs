//! What a user is told when a command fails, and the exit code that goes with it.

#[cfg(feature = "lookup")]
use std::fmt::Display;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use ssm_portfwd::{ForwardError, ListenAddr};
use ssm_resolve::{ParseTargetError, ResolveError};
use ssm_session::{CloseReason, SessionError};
use ssm_shell::{CommandError, ExecError, ShellError};

use crate::config::ConfigError;
use crate::output::complain;
use crate::port_owner;
use crate::process::Signal;

/// Wrong usage.
const USAGE: u8 = 2;

/// Transport or service failure, as `ssh` has it.
pub(crate) const FAILURE: u8 = 255;

/// There is no such command, as a shell has it.
const NOT_FOUND: u8 = 127;

/// There is, and it cannot be run.
const NOT_RUNNABLE: u8 = 126;

/// The first port that needs no privilege.
const UNPRIVILEGED: u16 = 1024;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// What was asked for makes no sense.
    #[error("{0}")]
    Usage(String),
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// No such target can exist.
    #[error(transparent)]
    Target(#[from] ParseTargetError),
    /// No machine, or more than one.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// The command needs the AWS SDK and this program was built without it.
    #[cfg_attr(feature = "lookup", expect(dead_code, reason = "for builds without the AWS SDK"))]
    #[error(
        "this ssm was built without the AWS SDK, which {0} needs; build it with `cargo build --release -p ssm-cli`"
    )]
    NeedsAws(&'static str),
    /// The command needs the loopback and this program was built without it.
    #[cfg_attr(feature = "demo", expect(dead_code, reason = "for builds without the loopback"))]
    #[error(
        "this ssm was built without the loopback, which {0} needs; build it with `cargo build -p ssm-cli --features demo`"
    )]
    NeedsDemo(&'static str),
    /// The account cannot be used.
    #[cfg(feature = "aws")]
    #[error("cannot use AWS: {0}")]
    Account(ssm_session::ControlError),
    /// An operation of the API failed.
    #[cfg(feature = "aws")]
    #[error(transparent)]
    Api(ssm_session::ControlError),
    /// There is no session.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// A forward could not be set up.
    #[error("{}", not_set_up(.0))]
    Forward(#[from] ForwardError),
    /// The terminal could not be used.
    #[error(transparent)]
    Shell(#[from] ShellError),
    /// There can be no such command.
    #[error(transparent)]
    CommandLine(CommandError),
    /// A command did not come to its end.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// A command came to its end, and nobody says how.
    #[error("{0} sends no exit code; its property separateOutputStream has to be true")]
    NoExitCode(String),
    /// Run Command cannot be used.
    #[cfg(feature = "aws")]
    #[error("Run Command: {0}")]
    RunCommand(String),
    /// A copy was not made, and what was there is there still.
    #[error("{0}")]
    Copy(String),
    /// A copy was interrupted by a signal; this is the exit code for it.
    #[error("interrupted; the same command goes on where it stopped")]
    Interrupted(u8),
    /// The session was over before it began.
    #[error("{}", not_started(.0))]
    NotStarted(CloseReason),
    /// The session is over, and not because the user wanted it.
    #[error("{}", ending(.0))]
    Ended(CloseReason),
    /// The command that was to use the forwards does not run.
    #[error("cannot run {name}: {source}")]
    Command { name: String, source: io::Error },
    /// The forwards were not ready in time.
    #[error("not ready within {} s", .0.as_secs_f64())]
    NotReady(Duration),
    /// What was to be stopped goes on, or was never there.
    #[error("{0}")]
    NotStopped(String),
    /// There is no way to a database.
    #[cfg(feature = "db")]
    #[error("{0}")]
    Database(String),
    /// The doctor found something.
    #[error("{failed} of {all} checks failed")]
    Unwell { failed: usize, all: usize },
    /// Tunnels of a group could not be started.
    #[error("{0}")]
    NotUp(String),
    /// The user left before there was a session, and knows why.
    #[error("left")]
    Left(Signal),
    /// EC2 Instance Connect does not let a key in.
    #[cfg(feature = "aws")]
    #[error("the key is not let in: {0}")]
    KeyNotSent(String),
    /// Something of the user's is in the way, and was left as it is.
    #[error("{0}")]
    InTheWay(String),
    /// Nobody could be asked, or what was asked for is not there.
    #[cfg(feature = "lookup")]
    #[error(transparent)]
    Lookup(#[from] ssm_resolve::LookupError),
    /// ECS does not do it.
    #[cfg(feature = "lookup")]
    #[error("{0}")]
    Ecs(String),
    /// There is more to say than a line holds.
    #[cfg(feature = "lookup")]
    #[error("{}", .0.join("; "))]
    Lines(Vec<String>),
    /// Something local.
    #[error("{what}: {source}")]
    Local { what: &'static str, source: io::Error },
    /// The metrics cannot be served.
    #[cfg(feature = "metrics")]
    #[error("cannot serve metrics on {address}: {source}")]
    Metrics { address: std::net::SocketAddr, source: io::Error },
    /// What was to be shown did not come out right.
    #[cfg_attr(not(feature = "demo"), expect(dead_code, reason = "only the demo shows something"))]
    #[error("{0}")]
    Mismatch(String),
}

impl Error {
    /// Says it: in one line, but for lists.
    pub(crate) fn complain(&self) {
        match self {
            Self::Resolve(error) => error.to_string().lines().for_each(complain),
            Self::Left(_) => {}
            #[cfg(feature = "lookup")]
            Self::Lines(lines) => lines.iter().for_each(complain),
            error => complain(error),
        }
    }

    /// The exit code.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Usage(_)
            | Self::CommandLine(_)
            | Self::Config(_)
            | Self::Target(_)
            | Self::NeedsAws(_)
            | Self::NeedsDemo(_) => USAGE,
            Self::Command { source, .. } if source.kind() == io::ErrorKind::NotFound => NOT_FOUND,
            Self::Command { .. } => NOT_RUNNABLE,
            Self::Interrupted(code) => *code,
            Self::Copy(_) => 1,
            Self::Left(signal) => signal.exit_code(),
            Self::Mismatch(_) | Self::NotStopped(_) | Self::InTheWay(_) | Self::Unwell { .. } => 1,
            _ => FAILURE,
        })
    }

    /// Something to say, and what there is, each in a line.
    #[cfg(feature = "lookup")]
    pub(crate) fn listed(said: String, items: impl IntoIterator<Item: Display>) -> Self {
        let items = items.into_iter().map(|item| format!("  {item}"));
        Self::Lines([said].into_iter().chain(items).collect())
    }

    /// Names what was tried when the system refused it.
    pub(crate) fn local(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Local { what, source }
    }
}

fn not_started(reason: &CloseReason) -> String {
    match reason {
        CloseReason::ResumeRefused => "the service closed the data channel before the session had started: \
            the session may be over, or its token was used, wrong or too old"
            .into(),
        other => ending(other),
    }
}

/// Why a forward could not be set up, and what can be done about it.
pub(crate) fn not_set_up(error: &ForwardError) -> String {
    let ForwardError::Bind { listen, source } = error else { return error.to_string() };
    let advice = match listen {
        ListenAddr::Unix(path) => socket_advice(path, source.kind()).map(Into::into),
        ListenAddr::Loopback { port } => {
            let both = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
            port_advice(&both, *port, source.kind())
        }
        ListenAddr::Address(address) => port_advice(&[address.ip()], address.port(), source.kind()),
    };
    match advice {
        Some(advice) => format!("cannot listen on {listen}: {advice}"),
        None => error.to_string(),
    }
}

/// What can be done when a TCP port of these addresses cannot be had.
pub(crate) fn port_advice(addresses: &[IpAddr], port: u16, kind: io::ErrorKind) -> Option<String> {
    let advice = match kind {
        io::ErrorKind::AddrInUse => {
            return Some(match port_owner::find(addresses, port) {
                Some(owner) => {
                    format!("the port is in use by {owner}; end it, or take another port (0 finds one that is free)")
                }
                None => "the port is in use; end the program that has it, or take another one (0 finds one that is free)"
                    .into(),
            });
        }
        io::ErrorKind::PermissionDenied if port < UNPRIVILEGED => {
            "ports below 1024 are for root; take a higher one"
        }
        io::ErrorKind::AddrNotAvailable => {
            "this machine does not have that address; leave it out to listen on 127.0.0.1 and ::1"
        }
        _ => return None,
    };
    Some(advice.into())
}

fn socket_advice(path: &Path, kind: io::ErrorKind) -> Option<&'static str> {
    Some(match kind {
        io::ErrorKind::AddrInUse => match fs::symlink_metadata(path) {
            Ok(found) if found.file_type().is_socket() => {
                "another program listens there; end it, or take another path"
            }
            _ => "a file is in the way; remove it, or take another path",
        },
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => "there is no such folder; make it first",
        io::ErrorKind::PermissionDenied => {
            "you may not write in that folder; take one of your own, $XDG_RUNTIME_DIR for one"
        }
        io::ErrorKind::InvalidInput => "the path is too long for a UNIX socket; take one of up to 100 bytes",
        _ => return None,
    })
}

/// The end of a session in words. [`CloseReason::Terminated`] is what the user wanted and needs none.
pub(crate) fn ending(reason: &CloseReason) -> String {
    reason.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_and_failure_have_different_codes() {
        let code = |error: Error| format!("{:?}", error.exit_code());
        let of = |number: u8| format!("{:?}", ExitCode::from(number));
        assert_eq!(code(Error::Usage("x".into())), of(2));
        assert_eq!(code(Error::Target("web-1".parse::<ssm_resolve::SessionTarget>().unwrap_err())), of(2));
        assert_eq!(code(Error::Ended(CloseReason::ResumeRefused)), of(255));
        assert_eq!(code(Error::Local { what: "x", source: io::Error::other("y") }), of(255));
    }

    #[test]
    fn an_address_that_cannot_be_had_comes_with_advice() {
        let told = |listen: &str, kind: io::ErrorKind| {
            let listen = listen.parse().unwrap();
            not_set_up(&ForwardError::Bind { listen, source: kind.into() })
        };
        use io::ErrorKind::{
            AddrInUse, AddrNotAvailable, InvalidInput, NotFound, OutOfMemory, PermissionDenied,
        };
        for (listen, kind, advice) in [
            ("5432", AddrInUse, "cannot listen on localhost:5432: the port is in use"),
            ("80", PermissionDenied, "ports below 1024 are for root"),
            ("192.0.2.1:80", PermissionDenied, "cannot listen on 192.0.2.1:80: ports below 1024"),
            ("192.0.2.1:8080", AddrNotAvailable, "does not have that address"),
            ("/no/such/folder/s", NotFound, "make it first"),
            ("/no/such/folder/s", AddrInUse, "a file is in the way"),
            ("/s", PermissionDenied, "may not write in that folder"),
            ("/s", InvalidInput, "too long"),
            ("8080", PermissionDenied, "permission denied"),
            ("/s", OutOfMemory, "cannot listen on /s: out of memory"),
        ] {
            let told = told(listen, kind);
            assert!(told.contains(advice), "{listen} {kind:?}: {told}");
        }
    }

    #[test]
    fn a_command_that_does_not_run_is_told_as_by_a_shell() {
        let code = |kind: io::ErrorKind| {
            format!("{:?}", Error::Command { name: "x".into(), source: kind.into() }.exit_code())
        };
        assert_eq!(code(io::ErrorKind::NotFound), format!("{:?}", ExitCode::from(127)));
        assert_eq!(code(io::ErrorKind::PermissionDenied), format!("{:?}", ExitCode::from(126)));
    }

    #[test]
    fn the_text_of_the_service_is_passed_on() {
        let reason = CloseReason::AgentClosed { exit_code: None, detail: Some("idle for 20 minutes".into()) };
        assert_eq!(ending(&reason), "the session was ended by the service: idle for 20 minutes");
    }
}
