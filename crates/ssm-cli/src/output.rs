//! What this program says. It says it on stderr: stdout is for what the user asked for.

use std::fmt::{self, Display, Write as _};
use std::io::{self, IsTerminal, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::time::{self, Duration};

use ssm_shell::NoticeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

use crate::error::Error;

/// Longest text shown from elsewhere, in characters.
const SHOWN_MAX: usize = 4096;

static QUIET: AtomicBool = AtomicBool::new(false);
static STAMPED: AtomicBool = AtomicBool::new(false);
static QUESTION: Mutex<Option<String>> = Mutex::new(None);

/// Takes back what stands on the line of a terminal.
pub(crate) const CLEAR: &str = "\r\x1b[K";

/// From here on, says only why a command failed.
pub(crate) fn be_quiet() {
    QUIET.store(true, Ordering::Relaxed);
}

/// Whether only failures are said.
pub(crate) fn is_quiet() -> bool {
    QUIET.load(Ordering::Relaxed)
}

/// Whether a question stands on the terminal, with nothing but its answer to follow.
pub(crate) fn is_asking() -> bool {
    question().is_some()
}

/// From here on this question stands on the terminal, below all that is said; or none does.
#[cfg(feature = "aws")]
pub(crate) fn set_question(question: Option<String>) {
    *self::question() = question;
}

fn question() -> MutexGuard<'static, Option<String>> {
    QUESTION.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether anybody reads stdout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reader {
    There,
    /// It has seen enough, which is no failure: nothing more needs to be written.
    Gone,
}

/// Writes what the user asked for to stdout.
///
/// # Errors
///
/// When it cannot be written: the disk is full, for one.
pub(crate) fn print(text: impl AsRef<[u8]>) -> Result<Reader, Error> {
    let mut stdout = io::stdout().lock();
    printed(stdout.write_all(text.as_ref()).and_then(|()| stdout.flush()))
}

/// What came of writing to stdout.
///
/// # Errors
///
/// As [`print()`].
pub(crate) fn printed(written: io::Result<()>) -> Result<Reader, Error> {
    match written {
        Ok(()) => Ok(Reader::There),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Reader::Gone),
        Err(error) => Err(Error::local("cannot write to stdout")(error)),
    }
}

/// Writes to stdout for something that goes on whether that can be done or not. Says once that it cannot.
pub(crate) fn print_aside(text: impl AsRef<[u8]>) {
    static SAID: Once = Once::new();
    if let Err(error) = print(text) {
        SAID.call_once(|| complain(error));
    }
}

/// Says something the user may want to know, in one line.
pub(crate) fn say(text: impl Display) {
    if !is_quiet() {
        complain(text);
    }
}

/// Bytes as letters.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// From here on, every line begins with the time: stderr is a log.
pub(crate) fn stamp() {
    STAMPED.store(true, Ordering::Relaxed);
}

/// Says why something failed, in one line.
pub(crate) fn complain(text: impl Display) {
    let mut line = String::new();
    if STAMPED.load(Ordering::Relaxed) {
        // Writing to memory does not fail.
        let _ = SystemTime.format_time(&mut Writer::new(&mut line));
        line.push(' ');
    }
    line += &format!("ssm: {}\n", visible(&text.to_string(), Lines::Joined));
    if let Some(question) = question().as_ref().filter(|_| io::stderr().is_terminal()) {
        line = format!("{CLEAR}{line}{question}");
    }
    // In one write, so that lines of several programs do not mix. Nobody is left to tell when stderr is gone.
    let _ = NoticeWriter.write_all(line.as_bytes());
}

/// Answers a user who has asked in the middle of a terminal's work: on lines of its own.
pub(crate) fn answer(lines: &str) {
    let text = format!("\n{}\n", visible(lines, Lines::Kept));
    let _ = NoticeWriter.write_all(text.as_bytes());
}

/// What becomes of line feeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lines {
    /// Each becomes a space.
    Joined,
    /// They stay.
    Kept,
}

/// Text from elsewhere as a terminal can be shown it: characters that could do something are written out, and there is an end
/// to it.
pub(crate) fn visible(text: &str, lines: Lines) -> Visible<'_> {
    Visible { text, lines }
}

pub(crate) struct Visible<'a> {
    text: &'a str,
    lines: Lines,
}

impl Display for Visible<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for char in self.text.trim_end_matches(['\r', '\n']).chars().take(SHOWN_MAX) {
            match char {
                '\n' | '\r' | '\t' if self.lines == Lines::Kept => f.write_char(char)?,
                '\n' | '\t' => f.write_char(' ')?,
                _ if char.is_control() || turns_text(char) => write!(f, "{}", char.escape_default())?,
                _ => f.write_char(char)?,
            }
        }
        if self.text.chars().nth(SHOWN_MAX).is_some() { f.write_str("...") } else { Ok(()) }
    }
}

/// Whether a character makes what is around it look like something else: marks of writing direction, those without width, and tags.
fn turns_text(char: char) -> bool {
    matches!(
        char,
        '\u{ad}'
            | '\u{61c}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}'
    )
}

/// JSON for programs, in which a terminal that is shown it finds nothing to do either: serde leaves characters above ASCII as they are.
pub(crate) struct Json<T>(pub(crate) T);

impl<T: Display> Display for Json<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut units = [0; 2];
        for char in self.0.to_string().chars() {
            if char.is_control() || turns_text(char) {
                char.encode_utf16(&mut units).iter().try_for_each(|unit| write!(f, "\\u{unit:04x}"))?;
            } else {
                f.write_char(char)?;
            }
        }
        Ok(())
    }
}

/// A number of bytes for a person.
pub(crate) struct Bytes(pub(crate) u64);

impl Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut whole, mut tenths) = (self.0, 0);
        for unit in ["B", "KiB", "MiB", "GiB"] {
            if whole < 1024 || unit == "GiB" {
                return match (unit, whole) {
                    ("B", _) | (_, 100..) => write!(f, "{whole} {unit}"),
                    _ => write!(f, "{whole}.{tenths} {unit}"),
                };
            }
            tenths = whole % 1024 * 10 / 1024;
            whole /= 1024;
        }
        Ok(())
    }
}

/// A short time for a person.
pub(crate) struct Took(pub(crate) Duration);

impl Display for Took {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_secs() {
            0 => write!(f, "{} ms", self.0.as_millis()),
            1..60 => write!(f, "{:.1} s", self.0.as_secs_f64()),
            seconds => write!(f, "{} min {} s", seconds / 60, seconds % 60),
        }
    }
}

/// Time since 1970.
pub(crate) fn unix_time() -> Duration {
    time::SystemTime::now().duration_since(time::UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_written_out() {
        let text = "a\x1b[2Jb\u{9b}31mc\u{202e}d\x07";
        assert_eq!(visible(text, Lines::Joined).to_string(), "a\\u{1b}[2Jb\\u{9b}31mc\\u{202e}d\\u{7}");
    }

    #[test]
    fn what_hides_or_turns_text_is_written_out() {
        for char in
            ['\u{85}', '\u{ad}', '\u{61c}', '\u{180e}', '\u{2066}', '\u{206a}', '\u{fff9}', '\u{e0041}']
        {
            let shown = visible(&format!("a{char}b"), Lines::Joined).to_string();
            assert!(shown.starts_with("a\\u{") && shown.ends_with("}b"), "{shown}");
        }
        assert_eq!(visible("é中ا–", Lines::Joined).to_string(), "é中ا–");
    }

    #[test]
    fn json_stays_the_same_json() {
        let value = serde_json::json!({ "a\u{9b}": ["\u{202e}\u{e0041}\x1b\n", "é"] });
        let shown = Json(&value).to_string();
        assert_eq!(shown, r#"{"a\u009b":["\u202e\udb40\udc41\u001b\n","é"]}"#);
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
    }

    #[test]
    fn a_complaint_is_one_line() {
        assert_eq!(visible("a\nb\tc\n", Lines::Joined).to_string(), "a b c");
        assert_eq!(visible("a\nb\tc\n", Lines::Kept).to_string(), "a\nb\tc");
    }

    #[test]
    fn long_text_is_cut() {
        assert_eq!(visible(&"x".repeat(100_000), Lines::Joined).to_string().len(), SHOWN_MAX + 3);
    }

    #[test]
    fn bytes_are_for_people() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (150 << 20, "150 MiB"),
            (5 << 40, "5120 GiB"),
        ] {
            assert_eq!(Bytes(bytes).to_string(), text);
        }
    }

    #[test]
    fn times_are_for_people() {
        let took = |millis| Took(Duration::from_millis(millis)).to_string();
        assert_eq!([took(0), took(999), took(1234), took(61_000)], ["0 ms", "999 ms", "1.2 s", "1 min 1 s"]);
    }
}
