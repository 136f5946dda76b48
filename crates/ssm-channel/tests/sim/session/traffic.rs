//! Bytes that follow from a key and their place, so that a wrong, missing or doubled one is seen where it arrives.

/// What one end of a flow still has to send.
#[derive(Debug)]
pub(crate) struct Outflow {
    key: u64,
    at: u64,
    len: u64,
}

impl Outflow {
    pub(crate) fn new(key: u64, len: u64) -> Self {
        Self { key, at: 0, len }
    }

    pub(crate) fn left(&self) -> usize {
        (self.len - self.at) as usize
    }

    /// Appends the next `len` bytes.
    pub(crate) fn take(&mut self, len: usize, out: &mut Vec<u8>) {
        let len = len.min(self.left());
        out.extend((self.at..self.at + len as u64).map(|at| byte(self.key, at)));
        self.at += len as u64;
    }
}

/// What the other end has received.
#[derive(Debug)]
pub(crate) struct Inflow {
    key: u64,
    pub(crate) at: u64,
    len: u64,
}

impl Inflow {
    pub(crate) fn new(key: u64, len: u64) -> Self {
        Self { key, at: 0, len }
    }

    /// Bytes have arrived, and must be the next ones.
    pub(crate) fn accept(&mut self, bytes: &[u8]) {
        let end = self.at + bytes.len() as u64;
        assert!(end <= self.len, "flow {:x} got {end} bytes of {}", self.key, self.len);
        let wrong = bytes.iter().zip(self.at..).find(|(got, at)| **got != byte(self.key, *at));
        assert!(wrong.is_none(), "flow {:x} got a wrong byte at {:?}", self.key, wrong.map(|(_, at)| at));
        self.at = end;
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.at == self.len
    }
}

/// The two directions of a connection, or of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Up,
    Down,
    /// The error stream of a command.
    Aside,
}

/// The key of a flow.
pub(crate) fn key(connection: usize, way: Way) -> u64 {
    (connection as u64) << 2 | way as u64
}

fn byte(key: u64, at: u64) -> u8 {
    let mut word = (at >> 3).wrapping_add(key << 40).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word ^= word >> 27;
    word.to_le_bytes()[(at & 7) as usize]
}
