//! What the wrapper says: lines that begin with a token, and base64 between them.
//!
//! | line | meaning |
//! |---|---|
//! | `TOKEN r` | the command starts; input may come |
//! | `TOKEN o`, `TOKEN e` | base64 of standard output or error follows |
//! | `TOKEN .` | and has ended |
//! | `TOKEN a` | a batch of input was passed on to the command |
//! | `TOKEN c` | the command reads no more input |
//! | `TOKEN x N` | the command ended with this exit code; the last line |
//! | `TOKEN m NAMES` | these programs are missing |
//! | `TOKEN f` | there is no folder to work in |
//!
//! Other lines are not ours: somebody else writes to the terminal. Between frames they are left out.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Longest line that is looked at. The wrapper's have 76 bytes, but for base64 where its program makes no lines, as that of macOS.
const LINE_MAX: usize = 4096;

/// How much of what was said before the start is kept, for an error message.
const SAID_MAX: usize = 1024;

/// Letters of a token.
pub(crate) const TOKEN_LEN: usize = 32;

/// Something the wrapper said.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Frame<'a> {
    Started,
    Output(&'a [u8]),
    Error(&'a [u8]),
    Acknowledged,
    InputClosed,
    Exit(u8),
    Missing(&'a str),
    NoFolder,
}

/// What stands between a frame's lines is not what the wrapper writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("something else wrote to the session's terminal")]
pub(crate) struct Garbled;

/// Reads what the wrapper says, in pieces of any size.
#[derive(Debug)]
pub(crate) struct Frames {
    token: Token,
    /// The start of a line whose end has not come.
    line: Vec<u8>,
    /// The line is too long to be one of the table: base64, or not ours.
    overlong: bool,
    body: Option<Stream>,
    /// Letters of base64 that wait for the rest of their group.
    letters: Vec<u8>,
    decoded: Vec<u8>,
    started: bool,
    said: Vec<u8>,
}

#[derive(Debug)]
enum Token {
    Known(Vec<u8>),
    /// That of the first line that says the start, whatever it is.
    First,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stream {
    Output,
    Error,
}

impl Frames {
    /// Reads lines that begin with `token`; with that of the first start that is said when there is none.
    pub(crate) fn new(token: Option<&str>) -> Self {
        let token = token.map_or(Token::First, |token| Token::Known(token.as_bytes().to_vec()));
        Self {
            token,
            line: Vec::new(),
            overlong: false,
            body: None,
            letters: Vec::new(),
            decoded: Vec::new(),
            started: false,
            said: Vec::new(),
        }
    }

    /// Whether the command has started.
    pub(crate) fn started(&self) -> bool {
        self.started
    }

    /// What was said in place of a start, for a person.
    pub(crate) fn said(&self) -> String {
        let line = if self.started { &[][..] } else { &self.line[..] };
        let said = [&self.said[..], line].concat();
        String::from_utf8_lossy(&said).trim().to_owned()
    }

    /// Takes in what was received. Data is handed on as soon as it can be decoded.
    pub(crate) fn push(&mut self, mut input: &[u8], mut frame: impl FnMut(Frame<'_>)) -> Result<(), Garbled> {
        while let Some(end) = input.iter().position(|byte| *byte == b'\n') {
            let (line, rest) = (&input[..end], &input[end + 1..]);
            input = rest;
            if self.line.is_empty() && !self.overlong {
                self.handle_line(line, &mut frame)?;
                continue;
            }
            self.extend_line(line);
            let whole = std::mem::take(&mut self.line);
            if !std::mem::take(&mut self.overlong) {
                self.handle_line(&whole, &mut frame)?;
            }
            // Its allocation is used again.
            self.line = whole;
            self.line.clear();
        }
        self.extend_line(input);
        self.flush(&mut frame)
    }

    fn extend_line(&mut self, part: &[u8]) {
        if !self.overlong && self.line.len() + part.len() <= LINE_MAX {
            self.line.extend_from_slice(part);
            return;
        }
        self.overlong = true;
        if self.body.is_some() {
            self.letters.extend_from_slice(&self.line);
            self.letters.extend_from_slice(part);
            // In front of the newline that follows.
            self.letters.pop_if(|letter| *letter == b'\r');
        }
        self.line.clear();
    }

    fn handle_line(&mut self, line: &[u8], frame: &mut impl FnMut(Frame<'_>)) -> Result<(), Garbled> {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if let Some(words) = self.ours(line) {
            return self.handle_words(words, frame);
        }
        if self.body.is_some() {
            self.letters.extend_from_slice(line);
            return Ok(());
        }
        if !self.started && self.said.len() < SAID_MAX {
            let len = line.len().min(SAID_MAX - self.said.len());
            self.said.extend_from_slice(&line[..len]);
            self.said.push(b'\n');
        }
        Ok(())
    }

    /// What is behind the token, if the line has it.
    fn ours<'a>(&mut self, line: &'a [u8]) -> Option<&'a [u8]> {
        match &self.token {
            Token::Known(token) => line.strip_prefix(&token[..])?.strip_prefix(b" "),
            Token::First => {
                let (token, words) = line.split_at_checked(TOKEN_LEN)?;
                let words = words.strip_prefix(b" ")?;
                let known =
                    token.iter().all(u8::is_ascii_hexdigit) && matches!(words, b"r" | b"f" | [b'm', ..]);
                known.then(|| self.token = Token::Known(token.to_vec()))?;
                Some(words)
            }
        }
    }

    fn handle_words(&mut self, words: &[u8], frame: &mut impl FnMut(Frame<'_>)) -> Result<(), Garbled> {
        self.flush(frame)?;
        if self.body.is_some() && (words != b"." || !self.letters.is_empty()) {
            return Err(Garbled);
        }
        self.body = None;
        match words {
            b"r" => {
                self.started = true;
                frame(Frame::Started);
            }
            b"o" => self.body = Some(Stream::Output),
            b"e" => self.body = Some(Stream::Error),
            b"." => {}
            b"a" => frame(Frame::Acknowledged),
            b"c" => frame(Frame::InputClosed),
            b"f" => frame(Frame::NoFolder),
            [b'm', b' ', names @ ..] => {
                frame(Frame::Missing(std::str::from_utf8(names).map_err(|_| Garbled)?))
            }
            [b'x', b' ', code @ ..] => {
                let code = std::str::from_utf8(code).ok().and_then(|code| code.parse().ok());
                frame(Frame::Exit(code.ok_or(Garbled)?));
            }
            _ => return Err(Garbled),
        }
        Ok(())
    }

    /// Decodes the groups that are complete.
    fn flush(&mut self, frame: &mut impl FnMut(Frame<'_>)) -> Result<(), Garbled> {
        let len = self.letters.len() / 4 * 4;
        let (Some(stream), 1..) = (self.body, len) else { return Ok(()) };
        self.decoded.clear();
        STANDARD.decode_vec(&self.letters[..len], &mut self.decoded).map_err(|_| Garbled)?;
        self.letters.drain(..len);
        frame(match stream {
            Stream::Output => Frame::Output(&self.decoded),
            Stream::Error => Frame::Error(&self.decoded),
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "00112233445566778899aabbccddeeff";

    #[derive(Debug, Default, PartialEq, Eq)]
    struct Seen {
        output: Vec<u8>,
        error: Vec<u8>,
        others: Vec<String>,
    }

    fn read(frames: &mut Frames, input: &[u8], part: usize) -> Result<Seen, Garbled> {
        let mut seen = Seen::default();
        for part in input.chunks(part) {
            frames.push(part, |frame| match frame {
                Frame::Output(bytes) => seen.output.extend_from_slice(bytes),
                Frame::Error(bytes) => seen.error.extend_from_slice(bytes),
                other => seen.others.push(format!("{other:?}")),
            })?;
        }
        Ok(seen)
    }

    fn said(lines: &[&str]) -> Vec<u8> {
        lines.concat().replace("TOKEN", TOKEN).into_bytes()
    }

    #[test]
    fn any_split_gives_the_same() {
        let input = said(&[
            "Last login: today\r\n",
            "TOKEN r\n",
            "TOKEN o\naGVsbG8g\nd29ybGQ=\nTOKEN .\n",
            "Broadcast message from root\n",
            "TOKEN e\r\nb25l\r\nIG1vcmU=\r\nTOKEN .\r\n",
            "TOKEN a\nTOKEN o\nIQ==\nTOKEN .\nTOKEN c\nTOKEN x 3\n",
        ]);
        let expected = Seen {
            output: b"hello world!".to_vec(),
            error: b"one more".to_vec(),
            others: ["Started", "Acknowledged", "InputClosed", "Exit(3)"].map(str::to_owned).to_vec(),
        };
        for part in 1..=input.len() {
            for token in [Some(TOKEN), None] {
                let mut frames = Frames::new(token);
                assert_eq!(read(&mut frames, &input, part).as_ref(), Ok(&expected), "{part}");
            }
        }
    }

    #[test]
    fn what_stands_in_a_frame_must_be_of_the_frame() {
        for lines in [
            &["TOKEN o\naGVsbG8g\nhello, world\n", "TOKEN .\n"][..],
            &["TOKEN o\naGVsbG8\n", "TOKEN .\n"],
            &["TOKEN o\naGVsbG8g\n", "TOKEN a\n"],
            &["TOKEN x three\n"],
            &["TOKEN x 256\n"],
            &["TOKEN y\n"],
        ] {
            assert_eq!(read(&mut Frames::new(Some(TOKEN)), &said(lines), 7), Err(Garbled), "{lines:?}");
        }
    }

    #[test]
    fn what_is_missing_is_told() {
        let mut frames = Frames::new(Some(TOKEN));
        let seen = read(&mut frames, &said(&["TOKEN m stty base64\n", "TOKEN f\n"]), 5).unwrap();
        assert_eq!(seen.others, ["Missing(\"stty base64\")", "NoFolder"]);
    }

    #[test]
    fn what_was_said_in_place_of_a_start_is_kept_within_a_bound() {
        let mut frames = Frames::new(Some(TOKEN));
        read(&mut frames, b"sh: not found\nPS C:\\> ", 4).unwrap();
        assert_eq!(frames.said(), "sh: not found\nPS C:\\>");
        for _ in 0..100 {
            read(&mut frames, &[b'x'; 10_000], 10_000).unwrap();
            read(&mut frames, b"y\n", 2).unwrap();
        }
        assert!(frames.said().len() < SAID_MAX + LINE_MAX);
    }

    #[test]
    fn a_line_without_end_is_not_kept() {
        let mut frames = Frames::new(Some(TOKEN));
        read(&mut frames, &said(&["TOKEN r\n"]), 100).unwrap();
        read(&mut frames, &vec![b'A'; 1 << 20], 1024).unwrap();
        assert!(frames.line.len() <= LINE_MAX);
        read(&mut frames, &said(&["\nTOKEN o\n"]), 100).unwrap();
        read(&mut frames, &vec![b'A'; 1 << 20], 1023).unwrap();
        assert!(frames.line.len() + frames.letters.len() <= LINE_MAX);
        assert_eq!(read(&mut frames, b"hello, world", 100), Err(Garbled));
    }

    #[test]
    fn base64_needs_no_lines() {
        let data: Vec<u8> = (0..50_000_u32).map(|at| (at / 251) as u8).collect();
        for end in ["\n", "\r\n"] {
            let body = format!("TOKEN r\nTOKEN o\n{}{end}TOKEN .{end}TOKEN x 0\n", STANDARD.encode(&data));
            for part in [1, 2, 1024, LINE_MAX, 65_536, 100_000] {
                let seen = read(&mut Frames::new(Some(TOKEN)), &said(&[&body]), part).unwrap();
                assert!(seen.output == data && seen.others == ["Started", "Exit(0)"], "{part}");
            }
        }
    }
}
