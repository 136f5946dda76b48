//! What a user may want to know while a session runs.

#[cfg(unix)]
use std::io::{self, Write};

use ssm_session::Ready;

/// Something a user may want to know while a session runs.
///
/// The terminal is raw meanwhile, so that a newline alone does not return the carriage: [`NoticeWriter`] writes lines as they
/// should look.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// The session has started. A second one corrects the first, when that was only assumed.
    Ready(Ready),
    /// The connection is lost; attempts to connect again are counted from 0.
    Redial {
        /// The number of this attempt.
        attempt: u32,
    },
    /// The connection is up again, and nothing was lost.
    Resumed,
}

/// Standard error for lines of our own: they end in CR LF while the terminal is raw.
#[cfg(unix)]
#[derive(Debug, Clone, Copy, Default)]
pub struct NoticeWriter;

#[cfg(unix)]
impl Write for NoticeWriter {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        let mut stderr = io::stderr().lock();
        if !crate::terminal::is_raw() {
            return stderr.write(text);
        }
        stderr.write_all(&with_carriage_returns(text))?;
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

#[cfg(unix)]
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

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn lines_return_the_carriage_once() {
        assert_eq!(with_carriage_returns(b"a\nb\r\n\n"), b"a\r\nb\r\n\r\n");
        assert_eq!(with_carriage_returns(b""), b"");
    }
}
