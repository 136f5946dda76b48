//! What a user may want to know while a session runs.

#[cfg(any(unix, windows))]
use std::io::{self, Write};
use std::time::Duration;

use ssm_session::{ControlErrorKind, ControlPlane, Ready, Session, Stats};

/// Something a user may want to know while a session runs.
///
/// The terminal is raw meanwhile, so that a newline alone does not return the carriage: [`NoticeWriter`] writes lines as they
/// should look.
///
/// With [`Io::stdio`](crate::Io::stdio), one about the connection or about idleness waits while a program has the terminal's other
/// screen (`vi`, `less`, `top`): it would stay in its picture.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// The session has started. A second one corrects the first, when that was only assumed.
    Ready(Ready),
    /// The connection is lost; attempts to connect again are counted from 0.
    Redial {
        /// The number of this attempt.
        attempt: u32,
        /// Why it was lost, or why the last attempt failed. Text of the network.
        cause: String,
        /// What kind of answer the API gave, where it was the API that failed.
        api: Option<ControlErrorKind>,
    },
    /// The connection is up again, and nothing was lost.
    Resumed,
    /// Nothing was typed and nothing written for this long; comes once each time. The service ends such sessions.
    Idle(Duration),
    /// The user wants to know something.
    Asked(Question),
    /// Nothing is recorded any more, for this reason.
    RecordingFailed(String),
}

impl Notice {
    /// What a session tells with its event.
    pub(crate) fn redial<C: ControlPlane>(session: &Session<C>, attempt: u32) -> Self {
        let (cause, api) = session.loss().map(|loss| (loss.cause.clone(), loss.api)).unwrap_or_default();
        Self::Redial { attempt, cause, api }
    }

    /// Whether a user has to do something before the connection can be back.
    pub(crate) fn needs_user(&self) -> bool {
        matches!(
            self,
            Self::Redial { api: Some(ControlErrorKind::Credentials | ControlErrorKind::SignOn), .. }
        )
    }
}

/// What a user asks with an escape. The answer belongs on the terminal, at once; a program that had all of the screen is made to
/// draw it again.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Question {
    /// Which escapes there are.
    Help,
    /// What else runs.
    List,
    /// How the connection is.
    Statistics(Box<Statistics>),
    /// Escapes count no more: a confirmation.
    Off,
    /// To stop this process, which has nobody to go back to: a refusal.
    Suspend,
}

/// How a session is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statistics {
    /// Since it has started.
    pub age: Duration,
    /// Since anything was typed or written.
    pub idle: Duration,
    /// Since when the connection is lost, if it is.
    pub lost: Option<Duration>,
    /// Bytes typed that are not sent yet.
    pub typed_ahead: usize,
    /// Counters of the channel.
    pub channel: Stats,
}

/// Standard error for lines of our own: they end in CR LF while the terminal is raw.
#[cfg(any(unix, windows))]
#[derive(Debug, Clone, Copy, Default)]
pub struct NoticeWriter;

#[cfg(any(unix, windows))]
impl Write for NoticeWriter {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        let mut stderr = io::stderr().lock();
        if !crate::is_raw() {
            return stderr.write(text);
        }
        stderr.write_all(&with_carriage_returns(text))?;
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

#[cfg(any(unix, windows))]
fn with_carriage_returns(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 2);
    for &byte in text {
        if byte == b'\n' && out.last() != Some(&b'\r') {
            out.push(b'\r');
        }
        out.push(byte);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_return_the_carriage_once() {
        assert_eq!(with_carriage_returns(b"a\nb\r\n\n"), b"a\r\nb\r\n\r\n");
        assert_eq!(with_carriage_returns(b""), b"");
    }
}
