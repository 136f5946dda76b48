//! What the wrapper is told: batches of input, and single lines.
//!
//! | line | meaning |
//! |---|---|
//! | `D N` | N lines of base64 follow, a batch of input |
//! | `E` | the input has ended |
//! | `C TEXT` | a line for descriptor 3 of the command |
//! | `S NAME` | a signal for the command |
//!
//! At most two batches are on the way: one that the command is fed and one behind it. They grow while they are full. What they are in
//! base64 is made as it is sent.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::BufMut;
use bytes::buf::Limit;

use super::Signal;

/// Input in one line: 960 letters, which terminals of macOS take as well.
const LINE_LEN: usize = 720;

/// Read from the input at once.
const READ_LEN: usize = 32 * 1024;

/// Batches that may be unacknowledged.
const WINDOW: u8 = 2;

/// How much input a batch can hold, at first and at last.
const BATCH_MIN: usize = 16 * 1024;
const BATCH_MAX: usize = 256 * 1024;

/// As long as more than this waits to be sent, no more is made.
const TEXT_LEN: usize = 32 * 1024;

/// The state of the input.
#[derive(Debug)]
pub(crate) struct Batches {
    unacknowledged: u8,
    size: usize,
    /// Gathered for the next batch, or the batch that `encoded` is about.
    input: Vec<u8>,
    /// How much of a batch is in `text`, until all of it is.
    encoded: Option<usize>,
    state: State,
    /// What the wrapper is to be sent.
    text: Vec<u8>,
    /// How much of it was.
    sent: usize,
    /// What it is to be sent behind the batch.
    behind: Vec<u8>,
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
            encoded: None,
            state: State::Open,
            text: Vec::new(),
            sent: 0,
            behind: Vec::new(),
        }
    }

    /// A batch was passed on to the command.
    pub(crate) fn handle_acknowledged(&mut self) {
        self.unacknowledged = self.unacknowledged.saturating_sub(1);
        self.form();
    }

    /// The command reads no more input. The wrapper waits for every line of a batch that has begun, all the same.
    pub(crate) fn handle_closed(&mut self) {
        self.state = State::Ended;
        if self.encoded.is_none() {
            self.input = Vec::new();
        }
    }

    /// How much input is taken as of now.
    pub(crate) fn room(&self) -> usize {
        if self.state == State::Open && self.encoded.is_none() { self.size - self.input.len() } else { 0 }
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
        self.say(&format!("S {}\n", signal.name()));
    }

    /// Whether another line is taken as of now.
    pub(crate) fn has_room_for_lines(&self) -> bool {
        self.pending().len() + self.behind.len() < TEXT_LEN
    }

    /// Passes a line on. A newline in it would begin another one, and the terminal makes something of other control characters.
    pub(crate) fn line(&mut self, line: &str) {
        let line = line.replace(char::is_control, " ");
        self.say(&format!("C {line}\n"));
    }

    fn say(&mut self, line: &str) {
        let text = if self.encoded.is_some() { &mut self.behind } else { &mut self.text };
        text.extend_from_slice(line.as_bytes());
    }

    /// What is to be sent.
    pub(crate) fn pending(&self) -> &[u8] {
        &self.text[self.sent..]
    }

    /// So much of it was sent.
    pub(crate) fn consume(&mut self, len: usize) {
        self.sent += len;
        self.form();
    }

    /// Makes a batch: of whatever there is when the far side has nothing to do, of a full one otherwise.
    fn form(&mut self) {
        let full = self.input.len() >= self.size;
        let due =
            self.unacknowledged == 0 || (full || self.state == State::Ending) && self.unacknowledged < WINDOW;
        if due && self.encoded.is_none() && !self.input.is_empty() {
            let lines = self.input.len().div_ceil(LINE_LEN);
            self.say(&format!("D {lines}\n"));
            self.encoded = Some(0);
            self.unacknowledged += 1;
            if full {
                self.size = (self.size * 2).min(BATCH_MAX);
            }
        }
        self.encode();
        if self.state == State::Ending && self.input.is_empty() {
            self.say("E\n");
            self.state = State::Ended;
        }
    }

    /// Goes on with a batch when little is left to be sent.
    fn encode(&mut self) {
        if self.pending().len() <= TEXT_LEN / 2 {
            self.text.drain(..self.sent);
            self.sent = 0;
        }
        let Some(encoded) = &mut self.encoded else { return };
        let mut letters = [0; LINE_LEN.div_ceil(3) * 4];
        for line in self.input[*encoded..].chunks(LINE_LEN) {
            if self.text.len() >= TEXT_LEN {
                return;
            }
            let len = STANDARD.encode_slice(line, &mut letters).expect("there is room for a line");
            self.text.extend_from_slice(&letters[..len]);
            self.text.push(b'\n');
            *encoded += line.len();
        }
        self.encoded = None;
        self.input.clear();
        self.text.append(&mut self.behind);
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
        let (mut taken, mut sent) = (0, String::new());
        while batches.room() > 0 {
            let room = batches.room();
            push(&mut batches, &vec![7; room]);
            taken += room;
            sent += &text(&mut batches);
        }
        assert_eq!(taken, BATCH_MIN + 2 * BATCH_MIN + 4 * BATCH_MIN);
        assert_eq!(sent.matches('D').count(), 2);
        batches.handle_acknowledged();
        assert_eq!(text(&mut batches).matches('D').count(), 1);
    }

    /// With a batch of the full size that has just begun.
    fn large() -> (Batches, usize) {
        let mut batches = Batches { size: BATCH_MAX, ..Batches::new() };
        push(&mut batches, &[7; BATCH_MAX]);
        (batches, BATCH_MAX.div_ceil(LINE_LEN))
    }

    #[test]
    fn a_batch_is_encoded_as_it_is_sent() {
        let (mut batches, lines) = large();
        assert_eq!(batches.room(), 0);
        let mut sent = Vec::new();
        while !batches.pending().is_empty() {
            assert!(batches.pending().len() < TEXT_LEN + 1024);
            let len = batches.pending().len().min(1000);
            sent.extend_from_slice(&batches.pending()[..len]);
            batches.consume(len);
        }
        assert_eq!(batches.room(), BATCH_MAX);
        let sent = String::from_utf8(sent).unwrap();
        let (first, rest) = sent.split_once('\n').unwrap();
        assert_eq!((first, rest.lines().count()), (format!("D {lines}").as_str(), lines));
        let bytes: Vec<u8> = rest.lines().flat_map(|line| STANDARD.decode(line).unwrap()).collect();
        assert_eq!(bytes, [7; BATCH_MAX]);
    }

    #[test]
    fn nothing_comes_between_the_lines_of_a_batch() {
        let (mut batches, lines) = large();
        batches.line("x");
        batches.signal(Signal::Interrupt);
        batches.end();
        let mut sent = String::new();
        while !batches.pending().is_empty() {
            sent += &text(&mut batches);
        }
        let last: Vec<&str> = sent.lines().skip(1 + lines).collect();
        assert_eq!(last, ["C x", "S INT", "E"]);
    }

    #[test]
    fn a_batch_that_has_begun_is_sent_to_its_end() {
        let (mut batches, lines) = large();
        batches.handle_closed();
        let mut sent = String::new();
        while !batches.pending().is_empty() {
            sent += &text(&mut batches);
        }
        assert_eq!((sent.lines().count(), batches.room()), (1 + lines, 0));
    }

    #[test]
    fn lines_wait_while_much_is_to_be_sent() {
        let (mut batches, _) = large();
        assert!(!batches.has_room_for_lines());
        while !batches.pending().is_empty() {
            text(&mut batches);
        }
        assert!(batches.has_room_for_lines());
        while batches.has_room_for_lines() {
            batches.line("x");
        }
        assert!(batches.pending().len() < TEXT_LEN + 1024);
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
