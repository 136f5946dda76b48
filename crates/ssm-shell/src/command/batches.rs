//! What the wrapper is told: batches of input, and single lines.
//!
//! | line | meaning |
//! |---|---|
//! | `D N` | N lines of base64 follow, a batch of input |
//! | `E` | the input has ended |
//! | `C TEXT` | a line for descriptor 3 of the command |
//! | `S NAME` | a signal for the command |
//!
//! At most two batches are on the way: one that the command is fed and one behind it. They grow while they are full.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::BufMut;
use bytes::buf::Limit;

use super::Signal;

/// Input in one line: 960 letters, which terminals of macOS take as well.
const LINE_LEN: usize = 720;

/// Read from the input at once.
const READ_LEN: usize = 64 * 1024;

/// Batches that may be unacknowledged.
const WINDOW: u8 = 2;

/// How much input a batch can hold, at first and at last.
const BATCH_MIN: usize = 16 * 1024;
const BATCH_MAX: usize = 256 * 1024;

/// The state of the input.
#[derive(Debug)]
pub(crate) struct Batches {
    unacknowledged: u8,
    size: usize,
    /// Gathered for the next batch.
    input: Vec<u8>,
    state: State,
    /// What the wrapper is to be sent.
    text: Vec<u8>,
    /// How much of it was.
    sent: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// There will be no more, and this has not been said.
    Ending,
    /// That has been said, or the command wants no more.
    Ended,
}

impl Batches {
    pub(crate) fn new() -> Self {
        Self {
            unacknowledged: 0,
            size: BATCH_MIN,
            input: Vec::new(),
            state: State::Open,
            text: Vec::new(),
            sent: 0,
        }
    }

    /// A batch was passed on to the command.
    pub(crate) fn handle_acknowledged(&mut self) {
        self.unacknowledged = self.unacknowledged.saturating_sub(1);
        self.form();
    }

    /// The command reads no more input.
    pub(crate) fn handle_closed(&mut self) {
        self.state = State::Ended;
        self.input = Vec::new();
    }

    /// How much input is taken as of now.
    pub(crate) fn room(&self) -> usize {
        if self.state == State::Open { self.size - self.input.len() } else { 0 }
    }

    /// Whether input is wanted, or will be.
    pub(crate) fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// Where input is put, up to [`room`](Self::room). [`handle_filled`](Self::handle_filled) is to be called then.
    pub(crate) fn spare(&mut self) -> Limit<&mut Vec<u8>> {
        let room = self.room();
        self.input.reserve(room.min(READ_LEN));
        (&mut self.input).limit(room)
    }

    /// There is more input.
    pub(crate) fn handle_filled(&mut self) {
        self.form();
    }

    /// The input has ended.
    pub(crate) fn end(&mut self) {
        if self.state == State::Open {
            self.state = State::Ending;
            self.form();
        }
    }

    /// Passes a signal on.
    pub(crate) fn signal(&mut self, signal: Signal) {
        self.text.extend_from_slice(format!("S {}\n", signal.name()).as_bytes());
    }

    /// Passes a line on. A newline in it would begin another one, and the terminal makes something of other control characters.
    pub(crate) fn line(&mut self, line: &str) {
        let line = line.replace(char::is_control, " ");
        self.text.extend_from_slice(format!("C {line}\n").as_bytes());
    }

    /// What is to be sent.
    pub(crate) fn pending(&self) -> &[u8] {
        &self.text[self.sent..]
    }

    /// So much of it was sent.
    pub(crate) fn consume(&mut self, len: usize) {
        self.sent += len;
        if self.sent == self.text.len() {
            self.text.clear();
            self.sent = 0;
        }
    }

    /// Makes a batch: of whatever there is when the far side has nothing to do, of a full one otherwise.
    fn form(&mut self) {
        let full = self.input.len() >= self.size;
        let due =
            self.unacknowledged == 0 || (full || self.state == State::Ending) && self.unacknowledged < WINDOW;
        if due && !self.input.is_empty() {
            // Of what is always on the way in part, all would be kept.
            self.text.drain(..self.sent);
            self.sent = 0;
            let lines = self.input.len().div_ceil(LINE_LEN);
            self.text.extend_from_slice(format!("D {lines}\n").as_bytes());
            let mut letters = [0; LINE_LEN.div_ceil(3) * 4];
            for line in self.input.chunks(LINE_LEN) {
                let len = STANDARD.encode_slice(line, &mut letters).expect("there is room for a line");
                self.text.extend_from_slice(&letters[..len]);
                self.text.push(b'\n');
            }
            self.input.clear();
            self.unacknowledged += 1;
            if full {
                self.size = (self.size * 2).min(BATCH_MAX);
            }
        }
        if self.state == State::Ending && self.input.is_empty() {
            self.text.extend_from_slice(b"E\n");
            self.state = State::Ended;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(batches: &mut Batches, input: &[u8]) {
        batches.spare().put_slice(input);
        batches.handle_filled();
    }

    fn text(batches: &mut Batches) -> String {
        let text = String::from_utf8(batches.pending().to_vec()).unwrap();
        batches.consume(text.len());
        text
    }

    #[test]
    fn a_little_input_goes_out_at_once() {
        let mut batches = Batches::new();
        push(&mut batches, b"hello");
        batches.end();
        assert_eq!(text(&mut batches), "D 1\naGVsbG8=\nE\n");
        assert_eq!(batches.room(), 0);
    }

    #[test]
    fn what_comes_meanwhile_is_gathered() {
        let mut batches = Batches::new();
        push(&mut batches, b"a");
        push(&mut batches, b"b");
        push(&mut batches, b"c");
        assert_eq!(text(&mut batches), "D 1\nYQ==\n");
        batches.handle_acknowledged();
        assert_eq!(text(&mut batches), "D 1\nYmM=\n");
    }

    #[test]
    fn two_batches_are_on_the_way_and_no_more() {
        let mut batches = Batches::new();
        let mut taken = 0;
        while batches.room() > 0 {
            let room = batches.room();
            push(&mut batches, &vec![7; room]);
            taken += room;
        }
        assert_eq!(taken, BATCH_MIN + 2 * BATCH_MIN + 4 * BATCH_MIN);
        assert_eq!(text(&mut batches).matches('D').count(), 2);
        batches.handle_acknowledged();
        assert_eq!(text(&mut batches).matches('D').count(), 1);
    }

    #[test]
    fn no_line_is_longer_than_a_terminal_takes() {
        let mut batches = Batches::new();
        push(&mut batches, &[0xff; BATCH_MIN]);
        let text = text(&mut batches);
        assert!(text.lines().all(|line| line.len() < 1024));
        let (first, rest) = text.split_once('\n').unwrap();
        assert_eq!(first, format!("D {}", rest.lines().count()));
    }

    #[test]
    fn a_command_that_reads_no_more_is_sent_no_more() {
        let mut batches = Batches::new();
        push(&mut batches, b"a");
        push(&mut batches, b"b");
        batches.consume(batches.pending().len());
        batches.handle_closed();
        batches.handle_acknowledged();
        batches.end();
        assert_eq!((text(&mut batches).as_str(), batches.room()), ("", 0));
    }

    #[test]
    fn a_line_stays_one() {
        let mut batches = Batches::new();
        batches.line("a\nS KILL");
        batches.signal(Signal::Interrupt);
        assert_eq!(text(&mut batches), "C a S KILL\nS INT\n");
    }
}
