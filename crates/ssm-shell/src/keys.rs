//! Keys of a Windows console as the bytes that a terminal on Unix sends for them (plugin `shellsession_windows.go`, which has a
//! key in each message; xterm for what it leaves out).

/// A key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Key {
    Char(char),
    Enter,
    Tab,
    BackTab,
    Backspace,
    Escape,
    Null,
    Up,
    Down,
    Right,
    Left,
    Home,
    End,
    Insert,
    Delete,
    PageUp,
    PageDown,
    F(u8),
}

/// What is held down beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) control: bool,
    pub(crate) alt: bool,
}

const ESC: u8 = 0x1b;

/// The bytes of a key; none for one that stands for nothing.
pub(crate) fn encode(key: Key, mut held: Held) -> Vec<u8> {
    // AltGr, with which many keyboards have @ and {, is both.
    if matches!(key, Key::Char(_)) && held.control && held.alt {
        held = Held { control: false, alt: false };
    }
    let mut bytes = match key {
        Key::Char(char) if held.control => control(char),
        Key::Char(char) => char.to_string().into_bytes(),
        key => sequence(key).as_bytes().to_vec(),
    };
    if held.alt && !bytes.is_empty() {
        bytes.insert(0, ESC);
    }
    bytes
}

fn control(char: char) -> Vec<u8> {
    match char {
        'a'..='z' | '@'..='_' => vec![char as u8 & 0x1f],
        ' ' => vec![0],
        '/' => vec![0x1f],
        '?' => vec![0x7f],
        _ => char.to_string().into_bytes(),
    }
}

fn sequence(key: Key) -> &'static str {
    match key {
        Key::Enter => "\r",
        Key::Tab => "\t",
        Key::BackTab => "\x1b[Z",
        Key::Backspace => "\x7f",
        Key::Escape => "\x1b",
        Key::Null => "\0",
        Key::Up => "\x1bOA",
        Key::Down => "\x1bOB",
        Key::Right => "\x1bOC",
        Key::Left => "\x1bOD",
        Key::Home => "\x1b[H",
        Key::End => "\x1b[F",
        Key::Insert => "\x1b[2~",
        Key::Delete => "\x1b[3~",
        Key::PageUp => "\x1b[5~",
        Key::PageDown => "\x1b[6~",
        Key::F(1) => "\x1bOP",
        Key::F(2) => "\x1bOQ",
        Key::F(3) => "\x1bOR",
        Key::F(4) => "\x1bOS",
        Key::F(5) => "\x1b[15~",
        Key::F(6) => "\x1b[17~",
        Key::F(7) => "\x1b[18~",
        Key::F(8) => "\x1b[19~",
        Key::F(9) => "\x1b[20~",
        Key::F(10) => "\x1b[21~",
        Key::F(11) => "\x1b[23~",
        Key::F(12) => "\x1b[24~",
        Key::F(_) | Key::Char(_) => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Held = Held { control: false, alt: false };
    const CONTROL: Held = Held { control: true, alt: false };
    const ALT: Held = Held { control: false, alt: true };

    #[test]
    fn keys_are_those_of_the_plugin() {
        for (key, bytes) in [
            (Key::Char('ä'), "ä"),
            (Key::Enter, "\r"),
            (Key::Tab, "\t"),
            (Key::BackTab, "\x1b[Z"),
            (Key::Backspace, "\x7f"),
            (Key::Escape, "\x1b"),
            (Key::Null, "\0"),
            (Key::Up, "\x1bOA"),
            (Key::Down, "\x1bOB"),
            (Key::Right, "\x1bOC"),
            (Key::Left, "\x1bOD"),
            (Key::Home, "\x1b[H"),
            (Key::End, "\x1b[F"),
            (Key::Insert, "\x1b[2~"),
            (Key::Delete, "\x1b[3~"),
            (Key::PageUp, "\x1b[5~"),
            (Key::PageDown, "\x1b[6~"),
            (Key::F(4), "\x1bOS"),
            (Key::F(5), "\x1b[15~"),
            (Key::F(6), "\x1b[17~"),
            (Key::F(12), "\x1b[24~"),
            (Key::F(13), ""),
        ] {
            assert_eq!(encode(key, NOTHING), bytes.as_bytes(), "{key:?}");
        }
    }

    #[test]
    fn control_and_alt_are_as_on_unix() {
        assert_eq!(encode(Key::Char('c'), CONTROL), b"\x03");
        assert_eq!(encode(Key::Char('\\'), CONTROL), b"\x1c");
        assert_eq!(encode(Key::Char(' '), CONTROL), b"\0");
        assert_eq!(encode(Key::Char('x'), ALT), b"\x1bx");
        assert_eq!(encode(Key::Char('{'), Held { control: true, alt: true }), b"{", "AltGr");
    }
}
