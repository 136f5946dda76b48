//! What programs on the remote side have switched on in this terminal, read from what they write.
//!
//! A program that ends switches it off again. When the session ends first, or this process is stopped, nobody does: the shell
//! that comes next would have its prompt on the wrong screen, with a hidden cursor, and get a report for each move of the mouse.

use std::mem;

/// Numbers in one sequence, and digits of one, that are looked at.
const NUMBERS_MAX: usize = 16;
const NUMBER_MAX: u32 = 10_000;

const ESC: u8 = 0x1b;

/// A mode of a terminal that outlives the program that set it.
#[derive(Debug, Clone, Copy)]
struct Mode {
    /// As in `ESC [ ? NUMBER h` and `l`.
    number: u32,
    /// Whether a terminal begins with it.
    on: bool,
}

/// The other screen comes first, so that it is entered before and left behind all else.
const MODES: [Mode; 16] = [
    Mode { number: 1049, on: false },
    Mode { number: 1047, on: false },
    Mode { number: 47, on: false },
    // Arrow keys for programs.
    Mode { number: 1, on: false },
    // The cursor.
    Mode { number: 25, on: true },
    // The mouse: what is reported, and how.
    Mode { number: 9, on: false },
    Mode { number: 1000, on: false },
    Mode { number: 1001, on: false },
    Mode { number: 1002, on: false },
    Mode { number: 1003, on: false },
    Mode { number: 1005, on: false },
    Mode { number: 1006, on: false },
    Mode { number: 1015, on: false },
    Mode { number: 1016, on: false },
    // The window comes to the front, or goes.
    Mode { number: 1004, on: false },
    // Marks around a paste.
    Mode { number: 2004, on: false },
];

/// How many of [`MODES`] are another screen.
const SCREENS: usize = 3;

/// The modes of a terminal, as far as they were changed by what was written to it.
#[derive(Debug, Default)]
pub(crate) struct Screen {
    /// Which of [`MODES`] differ from how a terminal begins.
    changed: [bool; MODES.len()],
    /// Keys of the number pad for programs.
    keypad: bool,
    at: At,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum At {
    #[default]
    Text,
    Escape,
    /// Behind `ESC [`.
    Control,
    /// Behind `ESC [ ?`.
    Private {
        numbers: Vec<u32>,
        number: u32,
    },
    /// Behind `ESC [ !`.
    Soft,
}

impl Screen {
    /// Something is written to the terminal.
    pub(crate) fn write(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.at == At::Text {
                // `contains` looks at many bytes at once, `position` at each.
                if !bytes.contains(&ESC) {
                    return;
                }
                let Some(escape) = bytes.iter().position(|byte| *byte == ESC) else { return };
                bytes = &bytes[escape..];
            }
            self.step(bytes[0]);
            bytes = &bytes[1..];
        }
    }

    /// Whether a program has the screen to itself: what is written beside it would stay in its picture.
    pub(crate) fn alternate(&self) -> bool {
        self.changed[..SCREENS].contains(&true)
    }

    /// What makes the terminal as it began.
    pub(crate) fn leave(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for mode in self.modes().rev() {
            mode.set(!mode.on, &mut out);
        }
        if self.keypad {
            out.extend_from_slice(b"\x1b>");
        }
        if !out.is_empty() {
            out.extend_from_slice(b"\x1b[m");
        }
        out
    }

    /// What makes it as it is again, behind [`leave`](Self::leave). What was on the other screen is gone.
    pub(crate) fn enter(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for mode in self.modes() {
            mode.set(mode.on, &mut out);
        }
        if self.keypad {
            out.extend_from_slice(b"\x1b=");
        }
        out
    }

    /// Those that were changed, as they are.
    fn modes(&self) -> impl DoubleEndedIterator<Item = Mode> {
        let changed = MODES.iter().zip(self.changed).filter(|(_, changed)| *changed);
        changed.map(|(mode, _)| Mode { on: !mode.on, ..*mode })
    }

    fn step(&mut self, byte: u8) {
        self.at = match (mem::take(&mut self.at), byte) {
            (_, ESC) => At::Escape,
            (At::Escape, b'[') => At::Control,
            (At::Escape, b'c') => {
                *self = Self::default();
                At::Text
            }
            (At::Escape, b'=' | b'>') => {
                self.keypad = byte == b'=';
                At::Text
            }
            (At::Control, b'?') => At::Private { numbers: Vec::new(), number: 0 },
            (At::Control, b'!') => At::Soft,
            (At::Private { numbers, number }, b'0'..=b'9') => {
                At::Private { numbers, number: (number * 10 + u32::from(byte - b'0')).min(NUMBER_MAX) }
            }
            (At::Private { mut numbers, number }, b';') if numbers.len() < NUMBERS_MAX => {
                numbers.push(number);
                At::Private { numbers, number: 0 }
            }
            (At::Private { mut numbers, number }, b'h' | b'l') => {
                numbers.push(number);
                self.set(&numbers, byte == b'h');
                At::Text
            }
            (At::Soft, b'p') => {
                self.keypad = false;
                self.set(&[1], false);
                self.set(&[25], true);
                At::Text
            }
            _ => At::Text,
        };
    }

    fn set(&mut self, numbers: &[u32], on: bool) {
        for (mode, changed) in MODES.iter().zip(&mut self.changed) {
            if numbers.contains(&mode.number) {
                *changed = mode.on != on;
            }
        }
    }
}

impl Mode {
    fn set(self, on: bool, out: &mut Vec<u8>) {
        out.extend_from_slice(format!("\x1b[?{}{}", self.number, if on { 'h' } else { 'l' }).as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn screen(written: &[u8]) -> Screen {
        let mut screen = Screen::default();
        screen.write(written);
        screen
    }

    fn text(bytes: Vec<u8>) -> String {
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn an_editor_is_undone_and_done_again() {
        let vim =
            screen(b"\x1b[?1049h\x1b[22;0;0t\x1b[?1h\x1b=\x1b[?2004h\x1b[?25l\x1b[?1002;1006hHello\x1b[1;1H");
        assert!(vim.alternate());
        let left = text(vim.leave());
        assert_eq!(left, "\x1b[?2004l\x1b[?1006l\x1b[?1002l\x1b[?25h\x1b[?1l\x1b[?1049l\x1b>\x1b[m");
        let entered = text(vim.enter());
        assert_eq!(entered, "\x1b[?1049h\x1b[?1h\x1b[?25l\x1b[?1002h\x1b[?1006h\x1b[?2004h\x1b=");
        assert_eq!(text(screen(entered.as_bytes()).leave()), left);
    }

    #[test]
    fn a_program_that_ends_leaves_nothing_to_undo() {
        let written = b"\x1b[?1049h\x1b[?25l\x1b[?1000h text \x1b[?1000l\x1b[?25h\x1b[?1049l";
        assert_eq!(screen(written).leave(), b"");
        assert_eq!(screen(b"\x1b[?1049h\x1b[?1000h\x1b=\x1bc").leave(), b"", "reset");
        assert_eq!(screen(b"plain \x1b[31mtext\x1b[m\r\n").leave(), b"");
        assert_eq!(screen(b"\x1b[?25l\x1b[?1h\x1b=\x1b[!p").leave(), b"", "soft reset");
    }

    #[test]
    fn odd_sequences_change_nothing() {
        for odd in
            [&b"\x1b[?99999999999999h"[..], b"\x1b[?10 49h", b"\x1b[1049h", b"?1049h", b"\x1b[?\x1b[1049h"]
        {
            assert!(!screen(odd).alternate(), "{odd:?}");
        }
        let mut long = b"\x1b[?".to_vec();
        long.extend(std::iter::repeat_n(&b"1049;"[..], 1000).flatten());
        long.push(b'h');
        assert!(!screen(&long).alternate());
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same(
            written in proptest::collection::vec(prop::sample::select(b"\x1b\x1b[?!;1049257hlcp=x".to_vec()), 0..80),
            at in 0_usize..80,
        ) {
            let (front, rest) = written.split_at(at.min(written.len()));
            let mut parts = Screen::default();
            parts.write(front);
            parts.write(rest);
            prop_assert_eq!(parts.leave(), screen(&written).leave());
        }
    }
}
