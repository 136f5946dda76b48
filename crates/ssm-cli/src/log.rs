//! The log, on stderr.

use std::io::{self, Write};

use ssm_shell::NoticeWriter;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::prelude::*;

use crate::output::{Lines, visible};

/// Every crate of ours has this in front.
const OURS: &str = "ssm_";

/// Starts the log. Without `-v` only errors are logged: what a command has to say, it says.
pub(crate) fn start(verbose: u8) {
    let layer =
        tracing_subscriber::fmt::layer().with_writer(|| Visible).with_ansi(false).with_target(verbose > 1);
    let registry = tracing_subscriber::registry().with(layer.with_filter(filter(verbose)));
    // Fails when there is one already, which only tests can bring about.
    let _ = registry.try_init();
}

/// Each event is one line, whatever is in it: text from elsewhere neither paints the terminal nor makes a line of its own.
struct Visible;

impl Write for Visible {
    /// Is given whole events.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        NoticeWriter.write_all(format!("{}\n", visible(&text, Lines::Joined)).as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        NoticeWriter.flush()
    }
}

/// Other people's crates are never asked for more than `info`: at `debug` and `trace` they log tokens (tungstenite the upgrade
/// and every frame) and credentials (the SDK, hyper).
fn filter(verbose: u8) -> Targets {
    let ours = match verbose {
        0 => LevelFilter::ERROR,
        1 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    Targets::new().with_default(ours.min(LevelFilter::INFO)).with_target(OURS, ours)
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn crates_that_log_tokens_are_never_asked_to() {
        for verbose in 0..=9 {
            for name in [
                "tungstenite::handshake::client",
                "tokio_tungstenite",
                "rustls::client",
                "hyper::proto",
                "aws_sigv4::http_request",
                "aws_smithy_runtime",
                "aws_config",
            ] {
                for level in [Level::DEBUG, Level::TRACE] {
                    assert!(!filter(verbose).would_enable(name, &level), "{name} {level} at {verbose}");
                }
            }
        }
    }

    #[test]
    fn more_is_said_when_asked() {
        assert!(!filter(0).would_enable("ssm_session::session", &Level::WARN));
        assert!(filter(1).would_enable("ssm_session::session", &Level::DEBUG));
        assert!(!filter(1).would_enable("ssm_session::session", &Level::TRACE));
        assert!(filter(2).would_enable("ssm_channel", &Level::TRACE));
        assert!(filter(1).would_enable("rustls", &Level::INFO));
    }
}
