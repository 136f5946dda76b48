//! Local programs and destinations for many connections at once: one thread for all of each.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::load::{DOWNLOAD, PATIENCE, PATTERN, REQUEST_LEN, UPLOAD, Way};

/// Bytes per read.
const CHUNK: usize = 64 * 1024;

/// Answers with what it was sent.
const ECHO: u8 = b'e';

/// A runtime of one thread.
pub(crate) fn runtime() -> io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// Starts a destination in a thread of its own.
pub(crate) fn destination() -> io::Result<SocketAddr> {
    let runtime = runtime()?;
    let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        runtime.block_on(async {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream));
            }
        });
    });
    Ok(address)
}

/// Serves the requests of one connection until it ends.
async fn serve(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    loop {
        match stream.read_u8().await? {
            ECHO => {
                let byte = stream.read_u8().await?;
                stream.write_u8(byte).await?;
            }
            kind => {
                let count = stream.read_u64().await?;
                match kind {
                    UPLOAD => {
                        receive(&mut stream, count).await?;
                        stream.write_u8(1).await?;
                    }
                    DOWNLOAD => send(&mut stream, count).await?,
                    _ => return Err(io::Error::other("no such request")),
                }
            }
        }
    }
}

/// Opens this many connections, each of which has been answered.
pub(crate) async fn open(address: SocketAddr, count: usize) -> io::Result<Vec<TcpStream>> {
    let mut streams = Vec::with_capacity(count);
    for _ in 0..count {
        streams.push(patiently(connect(address)).await?);
    }
    Ok(streams)
}

/// When the first and the last of several transfers was complete.
pub(crate) struct Finish {
    pub(crate) first: Duration,
    pub(crate) last: Duration,
}

/// Moves this many bytes over each connection, all at once.
pub(crate) async fn transfer(streams: Vec<TcpStream>, way: Way, bytes: u64) -> io::Result<Finish> {
    let mut transfers = JoinSet::new();
    let start = Instant::now();
    for mut stream in streams {
        transfers.spawn(async move {
            match way {
                Way::Up => {
                    stream.write_all(&request(UPLOAD, bytes)).await?;
                    send(&mut stream, bytes).await?;
                    stream.read_u8().await?;
                }
                Way::Down => {
                    stream.write_all(&request(DOWNLOAD, bytes)).await?;
                    receive(&mut stream, bytes).await?;
                }
            }
            Ok::<_, io::Error>(start.elapsed())
        });
    }
    let mut finish = Finish { first: Duration::MAX, last: Duration::ZERO };
    while let Some(took) = transfers.join_next().await {
        let took = took??;
        finish = Finish { first: finish.first.min(took), last: finish.last.max(took) };
    }
    Ok(finish)
}

/// Opens a connection, has one byte echoed, closes it, so many times in all by so many workers; returns how long it took.
pub(crate) async fn short(address: SocketAddr, count: usize, workers: usize) -> io::Result<Duration> {
    let mut all = JoinSet::new();
    let start = Instant::now();
    for _ in 0..workers {
        all.spawn(async move {
            for _ in 0..count / workers {
                patiently(connect(address)).await?;
            }
            Ok::<_, io::Error>(())
        });
    }
    while let Some(done) = all.join_next().await {
        done??;
    }
    Ok(start.elapsed())
}

async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    stream.write_all(&[ECHO, 7]).await?;
    match stream.read_u8().await? {
        7 => Ok(stream),
        _ => Err(io::Error::other("another byte came back")),
    }
}

async fn send(stream: &mut TcpStream, mut bytes: u64) -> io::Result<()> {
    while bytes > 0 {
        let part = usize::try_from(bytes).unwrap_or(usize::MAX).min(PATTERN.len());
        stream.write_all(&PATTERN[..part]).await?;
        bytes -= part as u64;
    }
    Ok(())
}

async fn receive(stream: &mut TcpStream, mut bytes: u64) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    let mut at = 0;
    while bytes > 0 {
        let most = usize::try_from(bytes).unwrap_or(usize::MAX).min(CHUNK).min(PATTERN.len() - at);
        let read = match patiently(stream.read(&mut chunk[..most])).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => read,
        };
        if chunk[..read] != PATTERN[at..at + read] {
            return Err(io::Error::other("other bytes arrived than were sent"));
        }
        at = (at + read) % PATTERN.len();
        bytes -= read as u64;
    }
    Ok(())
}

fn request(kind: u8, count: u64) -> [u8; REQUEST_LEN] {
    let mut request = [kind; REQUEST_LEN];
    request[1..].copy_from_slice(&count.to_be_bytes());
    request
}

async fn patiently<T>(step: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(PATIENCE, step).await?
}
