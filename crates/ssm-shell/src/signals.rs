//! The signals of a process that runs a session.
//!
//! Handlers of our own replace what was inherited: the AWS CLI starts its plugin with `SIGINT`, `SIGQUIT` and `SIGTSTP`
//! ignored. Only an ignored `SIGHUP` stays ignored, which is what `nohup` is for.

use std::fs;
use std::io;
use std::task::{Context, Poll};

use rustix::process::{Signal as Number, getpgrp, getsid, kill_current_process_group};
use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

use crate::console::Received;

/// The handlers. They stay for the life of the process, whatever becomes of this value.
#[derive(Debug)]
pub(crate) struct Signals(Vec<(Number, Stream)>);

impl Signals {
    pub(crate) fn install() -> io::Result<Self> {
        use Number as N;
        let numbers = [N::TERM, N::HUP, N::INT, N::QUIT, N::TSTP, N::WINCH, N::CONT];
        let ours = numbers.into_iter().filter(|number| *number != N::HUP || !is_ignored(N::HUP));
        let streams = ours.map(|number| Ok((number, signal(SignalKind::from_raw(number.as_raw()))?)));
        streams.collect::<io::Result<_>>().map(Self)
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Received> {
        for (number, stream) in &mut self.0 {
            if stream.poll_recv(cx) == Poll::Ready(Some(())) {
                return Poll::Ready(received(*number));
            }
        }
        Poll::Pending
    }
}

fn received(signal: Number) -> Received {
    let number = signal.as_raw();
    match signal {
        Number::INT => Received::Key { byte: 0x03, number },
        Number::QUIT => Received::Key { byte: 0x1c, number },
        Number::TSTP => Received::Key { byte: 0x1a, number },
        Number::WINCH => Received::Resized,
        Number::CONT => Received::Continued,
        _ => Received::End { number },
    }
}

/// Whether somebody waits for this job to stop. Nobody does when it is what the terminal was opened for.
pub(crate) fn has_job_control() -> bool {
    getsid(None).is_ok_and(|session| session != getpgrp())
}

/// Stops this job: every process that the shell has started with this one, such as the AWS CLI in front of its plugin. It cannot be
/// `SIGTSTP`, for which there is a handler here.
pub(crate) fn stop_job() -> io::Result<()> {
    Ok(kill_current_process_group(Number::STOP)?)
}

/// Whether this process was started with `signal` ignored. Where the system does not tell, it was not.
fn is_ignored(signal: Number) -> bool {
    ignored(&fs::read_to_string("/proc/self/status").unwrap_or_default(), signal)
}

fn ignored(status: &str, signal: Number) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask & (1 << (signal.as_raw() - 1)) != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ignored_signal_is_recognised() {
        let status = "Name:\tssm\nSigIgn:\t0000000000001001\nSigCgt:\t0000000000000004\n";
        assert!(ignored(status, Number::HUP));
        assert!(!ignored(status, Number::INT));
        assert!(!ignored("", Number::HUP));
    }

    #[test]
    fn item_73_keys_are_those_of_a_terminal() {
        let byte = |signal| match received(signal) {
            Received::Key { byte, .. } => Some(byte),
            _ => None,
        };
        assert_eq!(byte(Number::INT), Some(0x03));
        assert_eq!(byte(Number::QUIT), Some(0x1c));
        assert_eq!(byte(Number::TSTP), Some(0x1a));
        assert_eq!(received(Number::TERM), Received::End { number: 15 });
        assert_eq!(received(Number::HUP), Received::End { number: 1 });
    }
}
