//! Questions to the user: on the terminal itself, as stdin and stdout may be the session's.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Read, Write};
use std::sync::Arc;

use rustix::process::{Signal, getpid, kill_process};
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};
use ssm_session::Secret;

use crate::output::{CLEAR, Lines, complain, is_quiet, set_question, visible};

const TERMINAL: &str = "/dev/tty";

/// Longest answer, in bytes.
const ANSWER_MAX: usize = 1024;

const CTRL_C: u8 = 0x03;
const CTRL_D: u8 = 0x04;
const BACKSPACES: [u8; 2] = [0x08, 0x7f];
const CTRL_U: u8 = 0x15;

/// Whether somebody sits there who can be asked whether to go on: neither a pipe nor a program.
pub(crate) fn can_ask() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal() && !is_quiet()
}

/// Asks a question that is answered with yes unless something else is typed.
pub(crate) async fn yes(question: &str) -> bool {
    let answer = line(&format!("{question} [Y/n]")).await.map(|answer| answer.to_ascii_lowercase());
    matches!(answer.as_deref(), Some("" | "y" | "yes"))
}

/// Asks a question that is answered with a line, which may be empty. `None` where nobody can be asked.
pub(crate) async fn line(question: &str) -> Option<String> {
    let question = visible(question, Lines::Joined).to_string();
    let asked = tokio::task::spawn_blocking(move || {
        let terminal = idle_terminal()?.0;
        write!(&terminal, "ssm: {question} ")?;
        // The terminal hands over whole lines.
        let mut line = [0; ANSWER_MAX];
        let len = (&terminal).read(&mut line)?;
        io::Result::Ok(String::from_utf8_lossy(&line[..len]).trim().to_owned())
    });
    asked.await.ok()?.ok()
}

/// Asks for something that is not shown as it is typed.
///
/// # Errors
///
/// When there is no terminal, a session has it, or the user leaves; in words.
pub(crate) async fn secret(prompt: &str) -> Result<Secret<String>, String> {
    let (terminal, modes) = idle_terminal().map_err(|error| match error.kind() {
        io::ErrorKind::ResourceBusy => {
            "the terminal belongs to a session; run another ssm command first, which asks".into()
        }
        _ => format!("there is no terminal to ask for it ({error}); run ssm on one first"),
    })?;
    let failed = |error: io::Error| format!("the terminal failed: {error}");
    // Back on every way out, also when this future is dropped.
    let hidden = Hidden::start(Arc::new(terminal), modes).map_err(failed)?;
    let prompt = format!("{} ", visible(prompt, Lines::Joined));
    // A status line may stand there.
    write!(&*hidden.terminal, "{CLEAR}{prompt}").map_err(failed)?;
    set_question(Some(prompt));
    let reading = Arc::clone(&hidden.terminal);
    let read = tokio::task::spawn_blocking(move || read_hidden(&*reading)).await;
    let _ = writeln!(&*hidden.terminal, "\r");
    drop(hidden);
    match read {
        Ok(Ok(Some(answer))) => Ok(answer),
        Ok(Ok(None)) => {
            // As if the terminal had sent it: nothing else ends commands.
            let _ = kill_process(getpid(), Signal::INT);
            Err("nothing was typed".into())
        }
        Ok(Err(error)) => Err(failed(error)),
        Err(_) => Err("nobody reads the terminal".into()),
    }
}

/// The terminal, unless something has changed its modes: a session, an editor, another question.
fn idle_terminal() -> io::Result<(File, Termios)> {
    let terminal = OpenOptions::new().read(true).write(true).open(TERMINAL)?;
    let modes = tcgetattr(&terminal)?;
    if modes.local_modes.contains(LocalModes::ICANON | LocalModes::ECHO) {
        Ok((terminal, modes))
    } else {
        Err(io::ErrorKind::ResourceBusy.into())
    }
}

/// A terminal that shows nothing of what is typed, and hands it over key by key. Dropping it brings the modes back.
struct Hidden {
    terminal: Arc<File>,
    modes: Termios,
}

impl Hidden {
    fn start(terminal: Arc<File>, modes: Termios) -> io::Result<Self> {
        let mut hidden = modes.clone();
        // No signals either: a process that is ended by Ctrl-C here would leave the terminal like this.
        hidden.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG);
        hidden.special_codes[SpecialCodeIndex::VMIN] = 1;
        hidden.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(&*terminal, OptionalActions::Drain, &hidden)?;
        Ok(Self { terminal, modes })
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        set_question(None);
        if let Err(error) = tcsetattr(&*self.terminal, OptionalActions::Drain, &self.modes) {
            complain(format_args!("the terminal is left without echo: {error}"));
        }
    }
}

/// What is typed up to Enter; `None` when the user leaves.
fn read_hidden(mut keys: impl Read) -> io::Result<Option<Secret<String>>> {
    let mut answer = Secret::new(String::new());
    let mut key = [0];
    loop {
        if keys.read(&mut key)? == 0 {
            return Ok(None);
        }
        let text = answer.expose_mut();
        match key[0] {
            b'\r' | b'\n' => return Ok(Some(answer)),
            CTRL_C => return Ok(None),
            CTRL_D if text.is_empty() => return Ok(None),
            CTRL_U => text.clear(),
            byte if BACKSPACES.contains(&byte) => drop(text.pop()),
            byte if byte.is_ascii_graphic() && text.len() < ANSWER_MAX => text.push(char::from(byte)),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_can_be_taken_back() {
        let read = |keys: &[u8]| read_hidden(keys).unwrap().map(|answer| answer.expose().clone());
        assert_eq!(read(b"123456\r").as_deref(), Some("123456"));
        assert_eq!(read(b"12x\x7f 3\n4").as_deref(), Some("123"));
        assert_eq!(read(b"99\x15123\n").as_deref(), Some("123"));
        assert_eq!(read(b"\n").as_deref(), Some(""));
        for leaving in ["12\x03", "\x04", "12"] {
            assert_eq!(read(leaving.as_bytes()), None, "{leaving:?}");
        }
        let long = read(&[&vec![b'1'; 1 << 20][..], b"\n"].concat()).unwrap();
        assert_eq!(long.len(), ANSWER_MAX);
    }
}
