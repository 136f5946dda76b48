//! Escapes: what a user types at the start of a line for this side and not for the remote one, as `ssh` has them.
//!
//! ```text
//!            newline                 escape character
//!   Line ──────────────► LineStart ────────────────────► Held ── a letter of `Escape` ──► LineStart, nothing is sent
//!    ▲                      │  any other                   │
//!    └──────────────────────┴────────◄─────────────────────┘    the escape character again: it is sent once
//!                                                               any other: both are sent
//! ```
//!
//! Within a bracketed paste nothing is an escape, so that a text from elsewhere does nothing here.

use bytes::{BufMut, BytesMut};

/// What a user can ask of this side while a session runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Escape {
    /// `~.`: end the session.
    Leave,
    /// `~?`: which escapes there are.
    Help,
    /// `~^Z`: stop this process, and give the terminal back until it goes on.
    Suspend,
    /// `~#`: what else runs.
    List,
    /// `~s`: how the connection is.
    Statistics,
    /// `~-`: no more escapes in this session.
    Off,
}

impl Escape {
    fn of(byte: u8) -> Option<Self> {
        Some(match byte {
            b'.' => Self::Leave,
            b'?' => Self::Help,
            CTRL_Z => Self::Suspend,
            b'#' => Self::List,
            b's' => Self::Statistics,
            b'-' => Self::Off,
            _ => return None,
        })
    }
}

const CTRL_C: u8 = 0x03;
const CTRL_D: u8 = 0x04;
const CTRL_Z: u8 = 0x1a;
const ESC: u8 = 0x1b;

/// What a terminal puts around a paste, once a program has asked for it.
const PASTE_BEGINS: &[u8] = b"\x1b[200~";
const PASTE_ENDS: &[u8] = b"\x1b[201~";

/// Takes escapes out of what is typed.
#[derive(Debug)]
pub(crate) struct Escapes {
    character: u8,
    at: At,
    pasting: bool,
    /// Bytes of the mark that begins or ends a paste.
    mark: usize,
    off: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    LineStart,
    Line,
    /// The escape character is held back.
    Held,
}

impl Escapes {
    /// The session begins at the start of a line.
    pub(crate) fn new(character: u8) -> Self {
        Self { character, at: At::LineStart, pasting: false, mark: 0, off: false }
    }

    /// Moves what is for the remote side from `typed` to `out`, up to the next escape. `typed` is left empty when there is none.
    pub(crate) fn take(&mut self, typed: &mut &[u8], out: &mut BytesMut) -> Option<Escape> {
        if self.off {
            out.put_slice(std::mem::take(typed));
            return None;
        }
        while let Some((&byte, rest)) = typed.split_first() {
            *typed = rest;
            if let Some(escape) = self.step(byte, out) {
                self.off = escape == Escape::Off;
                return Some(escape);
            }
        }
        None
    }

    fn step(&mut self, byte: u8, out: &mut BytesMut) -> Option<Escape> {
        if self.at == At::Held {
            self.at = At::LineStart;
            if let Some(escape) = Escape::of(byte) {
                return Some(escape);
            }
            out.put_u8(self.character);
            if byte == self.character {
                self.at = At::Line;
                return None;
            }
        } else if self.at == At::LineStart && byte == self.character && !self.pasting {
            self.at = At::Held;
            return None;
        }
        out.put_u8(byte);
        self.follow_paste(byte);
        self.at = if !self.pasting && matches!(byte, b'\r' | b'\n') { At::LineStart } else { At::Line };
        None
    }

    fn follow_paste(&mut self, byte: u8) {
        // Terminals leave these out of a paste: its end was lost, and there must be a way out.
        if self.pasting && matches!(byte, CTRL_C | CTRL_D) {
            self.pasting = false;
        }
        let mark = if self.pasting { PASTE_ENDS } else { PASTE_BEGINS };
        self.mark = if byte == mark[self.mark] { self.mark + 1 } else { usize::from(byte == ESC) };
        if self.mark == mark.len() {
            (self.pasting, self.mark) = (!self.pasting, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What is sent, and the escapes, for input that comes in these parts.
    fn take<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> (Vec<u8>, Vec<Escape>) {
        let (mut escapes, mut out, mut found) = (Escapes::new(b'~'), BytesMut::new(), Vec::new());
        for mut part in parts {
            while let Some(escape) = escapes.take(&mut part, &mut out) {
                found.push(escape);
            }
            assert!(part.is_empty());
        }
        (out.to_vec(), found)
    }

    fn typed(text: &str) -> (String, Vec<Escape>) {
        let (sent, escapes) = take([text.as_bytes()]);
        (String::from_utf8(sent).unwrap(), escapes)
    }

    #[test]
    fn item_78_escapes_count_at_the_start_of_a_line_only() {
        assert_eq!(typed("~."), (String::new(), vec![Escape::Leave]));
        assert_eq!(typed("a\r~."), ("a\r".into(), vec![Escape::Leave]));
        assert_eq!(typed("a\n~?"), ("a\n".into(), vec![Escape::Help]));
        assert_eq!(typed("a~.\r"), ("a~.\r".into(), vec![]));
        assert_eq!(typed(" ~."), (" ~.".into(), vec![]));
    }

    #[test]
    fn each_escape_has_its_letter() {
        let all = "~?~#~s~\x1a~.";
        let escapes = vec![Escape::Help, Escape::List, Escape::Statistics, Escape::Suspend, Escape::Leave];
        assert_eq!(typed(all), (String::new(), escapes), "one escape may follow another");
    }

    #[test]
    fn the_character_doubled_is_sent_once() {
        assert_eq!(typed("~~."), ("~.".into(), vec![]));
        assert_eq!(typed("\r~~/file\r"), ("\r~/file\r".into(), vec![]));
    }

    #[test]
    fn what_is_no_escape_is_sent_whole() {
        assert_eq!(typed("~/bin\r~x"), ("~/bin\r~x".into(), vec![]));
        assert_eq!(typed("~\r~."), ("~\r".into(), vec![Escape::Leave]), "the newline begins a line");
    }

    #[test]
    fn after_the_last_one_there_are_none() {
        assert_eq!(typed("~-\r~.\r~~"), ("\r~.\r~~".into(), vec![Escape::Off]));
    }

    #[test]
    fn a_paste_does_nothing_here() {
        let paste = "\x1b[200~rm x\r~.\n~?\r\x1b[201~";
        assert_eq!(typed(&format!("\r{paste}")), (format!("\r{paste}"), vec![]));
        assert_eq!(typed(&format!("{paste}\r~.")), (format!("{paste}\r"), vec![Escape::Leave]));
        let endless = "\x1b[200~text";
        assert_eq!(typed(&format!("{endless}\x03\r~.")).1, vec![Escape::Leave]);
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same(
            input in proptest::collection::vec(prop::sample::select(b"~~~.?#s-\r\nab\x1a\x03\x1b[2001".to_vec()), 0..60),
            cuts in proptest::collection::vec(0_usize..60, 0..8),
        ) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(input.len())).collect();
            cuts.extend([0, input.len()]);
            cuts.sort_unstable();
            let parts = cuts.windows(2).map(|ends| &input[ends[0]..ends[1]]);
            prop_assert_eq!(take(parts), take([&input[..]]));
        }
    }
}
