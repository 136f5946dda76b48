//! The real xtaci/smux as the other end, in both roles: bytes, ends of streams and keep-alive.
//!
//! `xtaci/peer.go` says what travels on each stream. Needs Debian's `golang-go` and
//! `golang-github-xtaci-smux-dev`, and fails without them: these are the only tests that would notice
//! both sides of this crate being wrong in the same way.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{self, Receiver};
use std::time::Instant;

use bytes::Bytes;
use ssm_smux::{Config, Event, Mux, Side, StreamId};

#[test]
fn our_client_agrees_with_their_server() {
    let mut end = End::new(Side::Client, Peer::start("server"));
    for index in 0..STREAMS {
        let id = end.mux.open(end.now).unwrap();
        end.streams.insert(id, Stream::client(index));
    }
    end.run();
}

#[test]
fn our_server_agrees_with_their_client() {
    End::new(Side::Server, Peer::start("client")).run();
}

/// Our end of the session.
struct End {
    mux: Mux,
    peer: Peer,
    streams: BTreeMap<StreamId, Stream>,
    ended: usize,
    /// Messages sent so far, to vary what they look like.
    turn: usize,
    now: Instant,
}

impl End {
    #[expect(
        clippy::disallowed_methods,
        reason = "an instant can only be had from the clock; none is read again"
    )]
    fn new(side: Side, peer: Peer) -> Self {
        let now = Instant::now();
        let config = Config { max_frame: u16::MAX, ..Config::default() };
        let mux = Mux::new(side, config, now);
        Self { mux, peer, streams: BTreeMap::new(), ended: 0, turn: 0, now }
    }

    fn run(mut self) {
        while self.ended < STREAMS.into() || self.mux.stream_count() > 0 {
            let input = if self.streams.values().any(|stream| stream.to_send.len() > 0) {
                self.peer.output.try_recv().ok()
            } else {
                Some(self.peer.output.recv().expect("the peer goes on while streams are open"))
            };
            if let Some(input) = input {
                self.mux.handle_input(input).unwrap();
                while let Some(event) = self.mux.poll_event() {
                    self.handle(event);
                }
            }
            self.send_in_turn();
            while let Some(header) = self.mux.poll_transmit() {
                self.peer.send(&header);
            }
        }
        assert_eq!(self.mux.unconsumed(), 0);
        self.peer.finish();
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Opened { id } => {
                self.streams.insert(id, Stream::server());
            }
            Event::Data { id, data } => {
                self.streams.get_mut(&id).unwrap().receive(&data);
                self.mux.consumed(id, data.len());
            }
            Event::Finished { id } => {
                self.ended += 1;
                let stream = &self.streams[&id];
                assert_eq!((stream.expected.len(), stream.to_send.len()), (0, 0), "stream {id} ended early");
                self.mux.finish(id);
            }
            Event::PeerSilent => panic!("keep-alive is off"),
        }
    }

    /// One piece of data for each stream that has some, of changing length.
    fn send_in_turn(&mut self) {
        for (&id, stream) in &mut self.streams {
            self.turn += 1;
            if self.turn.is_multiple_of(10) {
                self.mux.queue_nop();
            }
            let len = LENGTHS[self.turn % LENGTHS.len()].min(stream.to_send.len());
            let mut message = Vec::new();
            if len > 0 {
                message.extend_from_slice(&self.mux.push(id, len).unwrap());
                message.extend(stream.to_send.by_ref().take(len));
            }
            if stream.closes_first() {
                self.mux.finish(id);
                message.extend(self.mux.take_fin(id).into_iter().flatten());
            }
            self.peer.send(&message);
        }
    }
}

/// One stream, with what is still to send and what must still come.
struct Stream {
    side: Side,
    index: Option<u8>,
    to_send: Noise,
    expected: Noise,
}

impl Stream {
    fn client(index: u8) -> Self {
        let expected = if index % 3 == 2 { Noise::none() } else { Noise::new(128 + index) };
        let to_send = Noise { prefix: Some(index), ..Noise::new(index) };
        Self { side: Side::Client, index: Some(index), to_send, expected }
    }

    fn server() -> Self {
        Self { side: Side::Server, index: None, to_send: Noise::none(), expected: Noise::none() }
    }

    fn receive(&mut self, mut data: &[u8]) {
        if self.index.is_none() {
            let index = data[0];
            self.index = Some(index);
            self.expected = Noise::new(index);
            if index % 3 != 2 {
                self.to_send = Noise::new(128 + index);
            }
            data = &data[1..];
        }
        assert!(data.len() <= self.expected.len(), "more data than was sent");
        assert!(data.iter().eq(self.expected.by_ref().take(data.len()).collect::<Vec<u8>>().iter()));
    }

    /// Whether this side has to close, and all has been said.
    fn closes_first(&self) -> bool {
        let closer = match self.index {
            Some(index) if index % 3 == 0 => Side::Server,
            Some(_) => Side::Client,
            None => return false,
        };
        closer == self.side && self.to_send.len() == 0 && self.expected.len() == 0
    }
}

/// Bytes that repeat nowhere near, so that a lost or moved piece shows.
struct Noise {
    prefix: Option<u8>,
    state: u64,
    left: usize,
}

impl Noise {
    fn new(seed: u8) -> Self {
        Self { prefix: None, state: seed.into(), left: BULK }
    }

    fn none() -> Self {
        Self { prefix: None, state: 0, left: 0 }
    }

    fn len(&self) -> usize {
        self.left + usize::from(self.prefix.is_some())
    }
}

impl Iterator for Noise {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        if let Some(prefix) = self.prefix.take() {
            return Some(prefix);
        }
        self.left = self.left.checked_sub(1)?;
        self.state =
            self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        Some((self.state >> 56) as u8)
    }
}

/// The Go program. It gives up by itself after a minute, which ends `output`.
struct Peer {
    child: Child,
    input: Option<ChildStdin>,
    output: Receiver<Bytes>,
}

impl Peer {
    fn start(role: &str) -> Self {
        let mut child = Command::new(program())
            .args([role, &STREAMS.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take();
        let mut stdout = child.stdout.take().unwrap();
        let (sender, output) = mpsc::channel();
        std::thread::spawn(move || {
            let mut buffer = vec![0; 1024];
            while let Ok(len @ 1..) = stdout.read(&mut buffer) {
                if sender.send(Bytes::copy_from_slice(&buffer[..len])).is_err() {
                    break;
                }
            }
        });
        Self { child, input, output }
    }

    fn send(&mut self, bytes: &[u8]) {
        self.input.as_mut().unwrap().write_all(bytes).expect("the peer reads until it is closed");
    }

    /// Closes the session and asks the peer for its verdict.
    fn finish(mut self) {
        self.input = None;
        assert!(self.child.wait().unwrap().success(), "the peer was not content, see its message above");
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Builds the Go program, once.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let program = scratch.join("xtaci-peer");
        let built = Command::new("go")
            .args(["build", "-o"])
            .arg(&program)
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/xtaci/peer.go"))
            .env("GO111MODULE", "off")
            .env("GOPATH", "/usr/share/gocode")
            .env("GOCACHE", scratch.join("go-cache"))
            .env_remove("GOFLAGS")
            .output()
            .unwrap_or_else(|error| panic!("cannot run go: {error}; {INSTALL}"));
        let message = String::from_utf8_lossy(&built.stderr);
        assert!(built.status.success(), "cannot build the peer; {INSTALL}\n{message}");
        program
    })
}

const INSTALL: &str = "install the Debian packages golang-go and golang-github-xtaci-smux-dev";

const STREAMS: u8 = 9;

/// Bytes each way on a stream, as in peer.go.
const BULK: usize = 1 << 20;

/// The first is the payload of a 1,024-byte message, the last the longest that a frame can have.
const LENGTHS: [usize; 5] = [1008, 1, 32_768, 5000, 65_535];
