//! What the wrapper is told: batches of input, and single lines.
//!
//! | line | meaning |
//! |---|---|
//! | `D LINES BLOCK COUNT` | so many lines of base64 follow, which are COUNT blocks of BLOCK bytes with their newlines: a batch of input |
//! | `E` | the input has ended |
//! | `C TEXT` | a line for descriptor 3 of the command |
//! | `S NAME` | a signal for the command |
//!
//! At most two batches are on the way: one that the command is fed and one behind it. They grow while they are full, and are large
//! when the length of the input is known, because then one can begin before it is there. What they are in base64 is made as it is sent.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::BufMut;
use bytes::buf::Limit;

use super::Signal;

/// Input in one line: 960 letters, which terminals of macOS take as well.
const LINE_LEN: usize = 720;

/// Lines in a block. The far side reads a batch of whole blocks in pieces that stay in a processor's cache.
const BLOCK_LINES: usize = 32;

/// Read from the input at once.
const READ_LEN: usize = 32 * 1024;

/// Batches that may be unacknowledged.
const WINDOW: u8 = 2;

/// How much input a batch can hold, at first and at last: whole blocks.
const BATCH_MIN: usize = LINE_LEN * BLOCK_LINES;
const BATCH_MAX: usize = 16 * BATCH_MIN;

/// How much one of an input of known length can hold.
const PROMISED_MAX: usize = 20 * BATCH_MIN;

/// As long as more than this waits to be sent, no more is made.
const TEXT_LEN: usize = 32 * 1024;

/// The state of the input.
#[derive(Debug)]
pub(crate) struct Batches {
    unacknowledged: u8,
    size: usize,
    /// Gathered for the next batch, or what was read of the one that is being encoded.
    input: Vec<u8>,
    /// How much of that is encoded.
    encoded: usize,
    /// How much input of a batch is not encoded. When there is any, the batch was begun.
    left: usize,
    /// How much input will surely come of which no batch was begun.
    promised: u64,
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
            encoded: 0,
            left: 0,
            promised: 0,
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

    /// The command reads no more input. The wrapper waits for all of a batch that has begun, all the same.
    pub(crate) fn handle_closed(&mut self) {
        self.state = State::Ended;
        self.promised = 0;
        if self.left == 0 {
            self.input = Vec::new();
        }
        self.form();
    }

    /// At least this much input will come. To be said before any of it does.
    pub(crate) fn promise(&mut self, len: u64) {
        if self.state == State::Open {
            self.promised = len;
            self.form();
        }
    }

    /// How much input is taken as of now.
    pub(crate) fn room(&self) -> usize {
        let limit = match (self.state, self.left, self.promised) {
            (State::Ending | State::Ended, ..) => 0,
            (State::Open, 0, 0) => self.size,
            (State::Open, 0, promised) => READ_LEN.min(usize::try_from(promised).unwrap_or(READ_LEN)),
            (State::Open, left, _) => READ_LEN.min(left),
        };
        limit.saturating_sub(self.waiting())
    }

    /// Input that is not encoded.
    fn waiting(&self) -> usize {
        self.input.len() - self.encoded
    }

    /// Whether input is wanted, or will be.
    pub(crate) fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// Where input is put, up to [`room`](Self::room). [`handle_filled`](Self::handle_filled) is to be called then.
    pub(crate) fn spare(&mut self) -> Limit<&mut Vec<u8>> {
        let room = self.room();
        if room > 0 {
            self.input.drain(..self.encoded);
            self.encoded = 0;
        }
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
            self.promised = 0;
            self.form();
        }
    }

    /// Whether it has ended within a batch that was begun, so that the command cannot be given what it is to be given.
    pub(crate) fn is_short(&self) -> bool {
        self.state == State::Ending && self.left > self.waiting()
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
        let text = if self.left > 0 { &mut self.behind } else { &mut self.text };
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

    fn form(&mut self) {
        if self.left == 0 {
            self.begin();
        }
        self.encode();
        if self.state == State::Ending && self.input.is_empty() && self.left == 0 {
            self.say("E\n");
            self.state = State::Ended;
        }
    }

    /// Begins a batch: of what will come if that is known; else of whatever there is when the far side has nothing to do, and of a full
    /// one otherwise.
    fn begin(&mut self) {
        let full = self.input.len() >= self.size;
        let len = match usize::try_from(self.promised).unwrap_or(usize::MAX).min(PROMISED_MAX) {
            0 if self.unacknowledged > 0 && !full && self.state == State::Open => 0,
            0 => self.input.len(),
            promised => promised,
        };
        if len == 0 || self.unacknowledged >= WINDOW {
            return;
        }
        if full {
            self.size = (self.size * 2).min(BATCH_MAX);
        }
        let lines = len.div_ceil(LINE_LEN);
        // A line is a multiple of three bytes, so that only the last one is filled up.
        let bytes = len.div_ceil(3) * 4 + lines;
        let blocks = if len.is_multiple_of(BATCH_MIN) { len / BATCH_MIN } else { 1 };
        self.say(&format!("D {lines} {} {blocks}\n", bytes / blocks));
        self.left = len;
        self.promised = self.promised.saturating_sub(len as u64);
        self.unacknowledged += 1;
    }

    /// Goes on with a batch when little is left to be sent.
    fn encode(&mut self) {
        if self.pending().len() <= TEXT_LEN / 2 {
            self.text.drain(..self.sent);
            self.sent = 0;
        }
        if self.left == 0 {
            return;
        }
        let mut letters = [0; LINE_LEN.div_ceil(3) * 4];
        while self.left > 0 {
            let len = LINE_LEN.min(self.left);
            let line = match self.input[self.encoded..].get(..len) {
                Some(line) => line,
                // The command reads nothing of it.
                None if self.state == State::Ended => &[0; LINE_LEN][..len],
                None => return,
            };
            if self.text.len() >= TEXT_LEN {
                return;
            }
            let written = STANDARD.encode_slice(line, &mut letters).expect("there is room for a line");
            self.text.extend_from_slice(&letters[..written]);
            self.text.push(b'\n');
            self.encoded = (self.encoded + len).min(self.input.len());
            self.left -= len;
        }
        self.encoded = 0;
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

    /// All that is to be sent as of now.
    fn rest(batches: &mut Batches) -> String {
        let mut sent = String::new();
        while !batches.pending().is_empty() {
            sent += &text(batches);
        }
        sent
    }

    #[test]
    fn a_little_input_goes_out_at_once() {
        let mut batches = Batches::new();
        push(&mut batches, b"hello");
        batches.end();
        assert_eq!(text(&mut batches), "D 1 9 1\naGVsbG8=\nE\n");
        assert_eq!(batches.room(), 0);
    }

    #[test]
    fn what_comes_meanwhile_is_gathered() {
        let mut batches = Batches::new();
        push(&mut batches, b"a");
        push(&mut batches, b"b");
        push(&mut batches, b"c");
        assert_eq!(text(&mut batches), "D 1 5 1\nYQ==\n");
        batches.handle_acknowledged();
        assert_eq!(text(&mut batches), "D 1 5 1\nYmM=\n");
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
        assert_eq!(
            (first, rest.lines().count()),
            (format!("D {lines} {} 16", rest.len() / 16).as_str(), lines)
        );
        let bytes: Vec<u8> = rest.lines().flat_map(|line| STANDARD.decode(line).unwrap()).collect();
        assert_eq!(bytes, [7; BATCH_MAX]);
    }

    /// All that is sent for an input of known length that comes in parts of this length.
    fn sent_of(batches: &mut Batches, input: &[u8], part: usize) -> String {
        let (mut sent, mut given) = (String::new(), 0);
        loop {
            let len = batches.room().min(part).min(input.len() - given);
            push(batches, &input[given..given + len]);
            given += len;
            let said = text(batches);
            if len == 0 && said.is_empty() {
                return sent;
            }
            sent += &said;
            // Acknowledged as it begins, so that the next one can.
            for _ in said.lines().filter(|line| line.starts_with("D ")) {
                batches.handle_acknowledged();
            }
        }
    }

    #[test]
    fn a_batch_of_known_length_begins_before_its_input() {
        let mut batches = Batches::new();
        let input: Vec<u8> = (0..PROMISED_MAX + 1000).map(|at| (at % 251) as u8).collect();
        batches.promise(input.len() as u64);
        let first = format!("D {} {} 20\n", PROMISED_MAX / LINE_LEN, (LINE_LEN / 3 * 4 + 1) * BLOCK_LINES);
        assert_eq!(text(&mut batches), first);
        for part in [1, 719, 5000, usize::MAX] {
            let mut batches = Batches::new();
            batches.promise(input.len() as u64);
            let mut sent = sent_of(&mut batches, &input, part);
            assert!(batches.input.capacity() <= 2 * READ_LEN, "{}", batches.input.capacity());
            batches.end();
            sent += &text(&mut batches);
            let (heads, lines): (Vec<&str>, Vec<&str>) =
                sent.lines().partition(|line| line.starts_with("D ") || *line == "E");
            assert_eq!(heads, [first.trim_end(), "D 2 1338 1", "E"], "{part}");
            let bytes: Vec<u8> = lines.iter().flat_map(|line| STANDARD.decode(line).unwrap()).collect();
            assert!(bytes == input, "{part}");
        }
    }

    #[test]
    fn input_behind_what_was_promised_goes_as_ever() {
        let mut batches = Batches::new();
        batches.promise(3);
        push(&mut batches, b"abc");
        assert_eq!(text(&mut batches), "D 1 5 1\nYWJj\n");
        push(&mut batches, b"d");
        batches.end();
        assert_eq!(text(&mut batches), "D 1 5 1\nZA==\nE\n");
    }

    #[test]
    fn an_input_that_is_shorter_than_promised_is_noticed() {
        let mut batches = Batches::new();
        batches.promise(1000);
        push(&mut batches, &[7; 999]);
        assert!(!batches.is_short());
        batches.end();
        assert!(batches.is_short());
        // Unless no batch counts on it.
        let mut batches = Batches { unacknowledged: WINDOW, ..Batches::new() };
        batches.promise(1000);
        push(&mut batches, b"abc");
        batches.end();
        batches.handle_acknowledged();
        assert_eq!((text(&mut batches).as_str(), batches.is_short()), ("D 1 5 1\nYWJj\nE\n", false));
    }

    #[test]
    fn a_batch_that_the_command_will_not_read_is_sent_to_its_end() {
        let mut batches = Batches::new();
        batches.promise(300_000);
        push(&mut batches, &[7; 1000]);
        let mut sent = text(&mut batches);
        batches.signal(Signal::Interrupt);
        batches.handle_closed();
        sent += &rest(&mut batches);
        let (first, rest) = sent.split_once('\n').unwrap();
        let bytes = 300_000_usize.div_ceil(3) * 4 + 300_000_usize.div_ceil(LINE_LEN);
        assert_eq!(first, format!("D {} {bytes} 1", 300_000_usize.div_ceil(LINE_LEN)));
        assert_eq!((rest.len(), &rest[bytes..], batches.room()), (bytes + 6, "S INT\n", 0));
        batches.promise(1000);
        assert_eq!(text(&mut batches), "");
    }

    #[test]
    fn nothing_comes_between_the_lines_of_a_batch() {
        let (mut batches, lines) = large();
        batches.line("x");
        batches.signal(Signal::Interrupt);
        batches.end();
        let sent = rest(&mut batches);
        let last: Vec<&str> = sent.lines().skip(1 + lines).collect();
        assert_eq!(last, ["C x", "S INT", "E"]);
    }

    #[test]
    fn a_batch_that_has_begun_is_sent_to_its_end() {
        let (mut batches, lines) = large();
        batches.handle_closed();
        let sent = rest(&mut batches);
        assert_eq!((sent.lines().count(), batches.room()), (1 + lines, 0));
    }

    #[test]
    fn lines_wait_while_much_is_to_be_sent() {
        let (mut batches, _) = large();
        assert!(!batches.has_room_for_lines());
        rest(&mut batches);
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
        assert_eq!(first, format!("D {} {} 1", rest.lines().count(), rest.len()));
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
