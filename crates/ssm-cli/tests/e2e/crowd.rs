//! Many connections of one lane, and destinations that misbehave next to them.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sha2::{Digest as _, Sha256};

use crate::support::server::{Server, connect};
use crate::support::{FAST, Forward, Loopback};
use crate::tunnel::exchange;

/// What is sent to a reader that starts late: more than the way to it holds.
const LATE: usize = 32 * 1024 * 1024;

#[test]
fn a_thousand_open_connections_all_echo() {
    raise_file_limit();
    let (loopback, server) = (Loopback::start(), Server::echo());
    let forward = loopback.forward(server.port(), FAST);
    let mut streams: Vec<TcpStream> = (0..1000).map(|_| connect(forward.local)).collect();
    for round in 0..2_usize {
        let data = |number: usize| format!("connection {number}, round {round};").repeat(40);
        // All have something on its way before the first is read.
        for (number, stream) in streams.iter_mut().enumerate() {
            stream.write_all(data(number).as_bytes()).unwrap();
        }
        for (number, stream) in streams.iter_mut().enumerate().rev() {
            let expected = data(number);
            let mut back = vec![0; expected.len()];
            stream.read_exact(&mut back).unwrap();
            assert!(back == expected.as_bytes(), "connection {number}, round {round}");
        }
    }
    assert_eq!(server.connections(), 1000);
}

#[test]
fn five_thousand_short_connections_of_one_lane_all_get_their_answer() {
    let (loopback, server) = (Loopback::start(), Server::echo());
    let forward = loopback.forward(server.port(), FAST);
    thread::scope(|scope| {
        for worker in 0..8_u8 {
            scope.spawn(move || {
                for round in 0..625_u16 {
                    let data = [worker, round.to_be_bytes()[0], round.to_be_bytes()[1]];
                    assert_eq!(exchange(&mut connect(forward.local), &data), data);
                }
            });
        }
    });
    assert_eq!(server.connections(), 5000);
    let said = forward.stop();
    assert!(said.contains("ssm: 5000 connections, ") && !said.contains("connection "), "{said}");
}

#[test]
fn bulk_both_ways_at_once_comes_back_unchanged() {
    const LEN: usize = 8 * 1024 * 1024;
    let (loopback, server) = (Loopback::start(), Server::echo());
    for lanes in ["1", "4"] {
        let forward = loopback.forward(server.port(), &[FAST, &["--lanes", lanes]].concat());
        thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| {
                    let mut data = vec![0; LEN];
                    getrandom::fill(&mut data).unwrap();
                    assert!(exchange(&mut connect(forward.local), &data) == data, "{lanes} lanes");
                });
            }
        });
    }
}

#[test]
fn an_upload_to_a_reader_that_starts_late_leaves_other_lanes_alone_and_is_whole() {
    let (loopback, server) = (Loopback::start(), Odd::start());
    // In its own lane it does hold up the others: the multiplexer of AWS's agent has one buffer for all that is not read.
    let forward = loopback.forward(server.port(), &[FAST, &["--lanes", "2"]].concat());
    let mut late = open(&forward, b'L');
    let mut data = vec![0; LATE];
    getrandom::fill(&mut data).unwrap();
    let digest = Sha256::digest(&data);
    let mut upload = late.try_clone().unwrap();
    let upload = thread::spawn(move || upload.write_all(&data));
    let mut echo = open(&forward, b'E');
    for round in 0..200_u8 {
        assert_eq!(exchange(&mut echo, &[round; 100]), [round; 100]);
    }
    server.begin_to_read();
    let mut seen = [0; 32];
    late.read_exact(&mut seen).unwrap();
    upload.join().unwrap().unwrap();
    assert_eq!(seen[..], digest[..]);
}

#[test]
fn a_destination_that_resets_leaves_or_half_closes_ends_its_own_connection_only() {
    let (loopback, server) = (Loopback::start(), Odd::start());
    let forward = loopback.forward(server.port(), FAST);
    let mut echo = open(&forward, b'E');
    for _ in 0..5 {
        // To the program it is an end or a reset: smux has one word for both.
        let ended = open(&forward, b'R').read_to_end(&mut Vec::new());
        assert!(ended.map_or_else(|error| error.kind() == ErrorKind::ConnectionReset, |len| len == 0));

        // What is still being sent goes nowhere; the program sees the end where it looks for an answer.
        let mut left = open(&forward, b'C');
        left.write_all(&[0; 1_000_000]).unwrap();
        assert_eq!(left.read(&mut [0]).unwrap(), 0);

        let mut answer = Vec::new();
        open(&forward, b'H').read_to_end(&mut answer).unwrap();
        assert!(answer == [b'h'; 1_000_000], "{} bytes", answer.len());

        assert_eq!(exchange(&mut echo, b"still here"), b"still here");
    }
}

/// Connects and says how the destination is to behave.
fn open(forward: &Forward, behaviour: u8) -> TcpStream {
    let mut stream = connect(forward.local);
    stream.write_all(&[behaviour]).unwrap();
    stream
}

/// A server that behaves as the first byte of a connection tells it.
struct Odd {
    server: Server,
    gate: Arc<(Mutex<bool>, Condvar)>,
}

impl Odd {
    fn start() -> Self {
        let gate = Arc::<(Mutex<bool>, Condvar)>::default();
        let wait = Arc::clone(&gate);
        let server = Server::start(move |mut stream| {
            let mut behaviour = [0];
            stream.read_exact(&mut behaviour)?;
            match behaviour[0] {
                b'E' => io::copy(&mut &stream, &mut &stream).map(drop),
                b'L' => {
                    drop(wait.1.wait_while(wait.0.lock().unwrap(), |open| !*open).unwrap());
                    let mut all = vec![0; LATE];
                    stream.read_exact(&mut all)?;
                    stream.write_all(&Sha256::digest(&all))
                }
                b'R' => Ok(set_socket_linger(&stream, Some(Duration::ZERO))?),
                b'C' => Ok(()),
                b'H' => {
                    stream.write_all(&[b'h'; 1_000_000])?;
                    stream.shutdown(Shutdown::Write)?;
                    io::copy(&mut stream, &mut io::sink()).map(drop)
                }
                other => panic!("told to do {other}"),
            }
        });
        Self { server, gate }
    }

    fn port(&self) -> u16 {
        self.server.port()
    }

    /// Lets those who read late begin.
    fn begin_to_read(&self) {
        *self.gate.0.lock().unwrap() = true;
        self.gate.1.notify_all();
    }
}

/// Every connection is a file, twice here; the soft limit is often 1,024.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).unwrap();
}
