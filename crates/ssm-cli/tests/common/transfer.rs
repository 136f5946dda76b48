//! Bytes that go to an echo and come back while something happens.

use std::io::{self, Read, Write};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use sha2::{Digest as _, Sha256};

/// Each way.
pub(crate) const LEN: usize = 3_000_000;

/// A transfer under way.
pub(crate) struct Transfer<W> {
    halfway: mpsc::Receiver<()>,
    rest: mpsc::Sender<()>,
    writer: JoinHandle<io::Result<W>>,
    reader: JoinHandle<Vec<u8>>,
    sent: Vec<u8>,
}

impl<W: Write + Send + 'static> Transfer<W> {
    /// Begins one with both halves of a connection. Who reads decides how long nothing may come. The last quarter waits.
    pub(crate) fn start(mut out: W, mut back: impl Read + Send + 'static) -> Self {
        let bytes = pattern();
        let sent = Sha256::digest(&bytes).to_vec();
        let (half, halfway) = mpsc::channel();
        let reader = thread::spawn(move || {
            let (mut digest, mut len, mut buf) = (Sha256::new(), 0, [0; 16 * 1024]);
            while len < LEN {
                let read = back.read(&mut buf).expect("it goes on");
                assert!(read > 0, "it ended after {len}");
                digest.update(&buf[..read]);
                if len < LEN / 2 && len + read >= LEN / 2 {
                    half.send(()).unwrap();
                }
                len += read;
            }
            digest.finalize().to_vec()
        });
        let (rest, wanted) = mpsc::channel();
        let writer = thread::spawn(move || {
            let (most, last) = bytes.split_at(LEN / 4 * 3);
            out.write_all(most)?;
            wanted.recv().expect("the rest is wanted");
            out.write_all(last).map(|()| out)
        });
        Self { halfway, rest, writer, reader, sent }
    }

    /// Waits until half of it is back.
    pub(crate) fn halfway(&self) {
        self.halfway.recv_timeout(Duration::from_secs(60)).expect("half of it comes");
    }

    /// Sends the rest as well: there is something under way after what has happened, however quick the rest was.
    pub(crate) fn rest(&self) {
        self.rest.send(()).expect("it is under way");
    }

    /// Waits for its end: all has arrived, each byte once.
    pub(crate) fn finish(self) {
        assert!(self.reader.join().unwrap() == self.sent, "other bytes");
        drop(self.writer.join().unwrap().unwrap());
    }
}

/// Bytes of which none repeats the ones before it.
fn pattern() -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(next).flatten().take(LEN).collect()
}
