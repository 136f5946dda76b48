//! The local program and the destination: plain sockets and threads, so that they take as little of the machine as they can.
//!
//! A connection begins with a request: one byte that says what to do, and a count. What is transferred is random bytes over and over, and
//! every receiver compares.

use std::fmt;
use std::io::{self, Read, Write};
use std::iter;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::MIB;

/// What is transferred, repeated. Its length has no factor in common with that of a message, so that a message in the wrong place shows.
pub(crate) static PATTERN: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
    let bytes = iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    });
    bytes.take(CHUNK).collect()
});

/// Bytes per read and write; a prime.
const CHUNK: usize = 262_139;

/// Longest wait for anything: a bench that hangs should say so.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) const UPLOAD: u8 = b'U';
pub(crate) const DOWNLOAD: u8 = b'D';
const ECHO: u8 = b'E';
pub(crate) const REQUEST_LEN: usize = 9;

/// Which way bytes go, as the user sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Up,
    Down,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Up => "up",
            Self::Down => "down",
        })
    }
}

/// Starts a destination in threads of its own.
pub(crate) fn destination() -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || serve(stream));
        }
    });
    Ok(address)
}

/// Serves the requests of one connection until it ends.
fn serve(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut chunk = vec![0; CHUNK];
    loop {
        let mut request = [0; REQUEST_LEN];
        stream.read_exact(&mut request)?;
        let [kind, count @ ..] = request;
        let count = u64::from_be_bytes(count);
        match kind {
            UPLOAD => {
                receive(&mut stream, &mut chunk, count)?;
                stream.write_all(&[1])?;
            }
            DOWNLOAD => send(&mut stream, count)?,
            ECHO => {
                for _ in 0..count {
                    stream.read_exact(&mut chunk[..1])?;
                    stream.write_all(&chunk[..1])?;
                }
            }
            _ => return Err(io::Error::other("no such request")),
        }
    }
}

/// Connects to a destination, or to what carries connections there, and waits until it has answered.
pub(crate) fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    echo(&mut stream, 1)?;
    Ok(stream)
}

/// Moves `bytes` one way and returns how long it took until the last byte was at the other end.
pub(crate) fn transfer(stream: &mut TcpStream, way: Way, bytes: u64) -> io::Result<Duration> {
    let mut chunk = vec![0; CHUNK];
    let start = Instant::now();
    match way {
        Way::Up => {
            request(stream, UPLOAD, bytes)?;
            send(stream, bytes)?;
            stream.read_exact(&mut chunk[..1])?;
        }
        Way::Down => {
            request(stream, DOWNLOAD, bytes)?;
            receive(stream, &mut chunk, bytes)?;
        }
    }
    Ok(start.elapsed())
}

/// Sends one byte and waits for its return, `rounds` times; returns how long each round took.
pub(crate) fn echo(stream: &mut TcpStream, rounds: u64) -> io::Result<Vec<Duration>> {
    request(stream, ECHO, rounds)?;
    let mut byte = [7];
    let times = (0..rounds).map(|_| {
        let start = Instant::now();
        stream.write_all(&byte)?;
        stream.read_exact(&mut byte)?;
        Ok(start.elapsed())
    });
    times.collect()
}

/// An upload that goes on beside something else.
pub(crate) struct Upload {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<io::Result<u64>>,
    began: Instant,
}

impl Upload {
    /// Starts one over a connection of its own, at this many MiB/s or as fast as it goes.
    pub(crate) fn start(address: SocketAddr, rate: Option<u32>) -> io::Result<Self> {
        let mut stream = connect(address)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let began = Instant::now();
        let thread = thread::spawn(move || {
            request(&mut stream, UPLOAD, u64::MAX)?;
            let mut sent = 0;
            while !stopped.load(Ordering::Relaxed) {
                if let Some(rate) = rate {
                    let due = Duration::from_secs_f64(sent as f64 / MIB / f64::from(rate));
                    thread::sleep(due.saturating_sub(began.elapsed()));
                }
                stream.write_all(&PATTERN)?;
                sent += PATTERN.len() as u64;
            }
            Ok(sent)
        });
        Ok(Self { stop, thread, began })
    }

    /// Ends it and returns its rate in MiB/s.
    pub(crate) fn stop(self) -> io::Result<f64> {
        self.stop.store(true, Ordering::Relaxed);
        let took = self.began.elapsed();
        let sent = self.thread.join().map_err(|_| io::Error::other("the upload panicked"))??;
        Ok(sent as f64 / MIB / took.as_secs_f64())
    }
}

/// Connects, asks for one byte, and returns when it came.
pub(crate) fn first_byte(address: SocketAddr) -> io::Result<Instant> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    request(&mut stream, DOWNLOAD, 1)?;
    stream.read_exact(&mut [0])?;
    Ok(Instant::now())
}

fn request(stream: &mut TcpStream, kind: u8, count: u64) -> io::Result<()> {
    let mut request = [kind; REQUEST_LEN];
    request[1..].copy_from_slice(&count.to_be_bytes());
    stream.write_all(&request)
}

fn send(stream: &mut TcpStream, mut bytes: u64) -> io::Result<()> {
    while bytes > 0 {
        let part = part(bytes, CHUNK);
        stream.write_all(&PATTERN[..part])?;
        bytes -= part as u64;
    }
    Ok(())
}

fn receive(stream: &mut TcpStream, chunk: &mut [u8], mut bytes: u64) -> io::Result<()> {
    let mut at = 0;
    while bytes > 0 {
        let most = part(bytes, CHUNK - at);
        let read = match stream.read(&mut chunk[..most])? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => read,
        };
        if chunk[..read] != PATTERN[at..at + read] {
            return Err(io::Error::other("other bytes arrived than were sent"));
        }
        at = (at + read) % CHUNK;
        bytes -= read as u64;
    }
    Ok(())
}

fn part(bytes: u64, most: usize) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX).min(most)
}
