//! The same hops, message sizes and digests as a session, and no protocol: what the machine would allow.
//!
//! ```text
//! local program -TCP-> client -WebSocket-> gateway <-WebSocket- agent -TCP-> destination
//! ```
//!
//! Every message has a SHA-256 in front, computed by its sender and checked by its receiver. Nothing is acknowledged, numbered,
//! kept or multiplexed. As in a session, the client is one process with one thread and all the others are another.

use std::error::Error;
use std::io::{self, IoSlice, Write as _};
use std::net::{Ipv4Addr, SocketAddr};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt as _;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{WebSocketStream, accept_async_with_config, client_async_with_config};

type Failure = Box<dyn Error + Send + Sync>;
type Socket = WebSocketStream<TcpStream>;

/// Bytes in front of a payload, as many as a data message has; the digest is in them.
const HEADER: usize = 120;
const DIGEST: usize = 32;

/// Messages moved before what was moved is flushed.
const BATCH: usize = 64;

/// Listens for local programs and carries each to the gateway over a WebSocket of its own. Prints the address.
pub(crate) fn client(gateway: SocketAddr, payload: usize) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        announce(listener.local_addr()?)?;
        loop {
            let (local, _) = listener.accept().await?;
            let (writing, reading) = connect(gateway).await?.split();
            carry(local, reading, writing, payload).await?;
        }
    })
}

/// Serves as gateway and agent for one client after the other. Prints the address of the gateway.
pub(crate) fn server(destination: SocketAddr, payload: usize) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let gateway = listener.local_addr()?;
        announce(gateway)?;
        loop {
            let client = accept(&listener).await?;
            let (agent, near) = tokio::try_join!(connect(gateway), accept(&listener))?;
            let relay = tokio::spawn(relay(client, near));
            let remote = TcpStream::connect(destination).await?;
            let (writing, reading) = agent.split();
            let agent = tokio::spawn(carry(remote, reading, writing, payload));
            let _ = tokio::try_join!(relay, agent)?;
        }
    })
}

fn announce(address: SocketAddr) -> io::Result<()> {
    let mut stdout = io::stdout();
    writeln!(stdout, "{address}")?;
    stdout.flush()
}

async fn connect(gateway: SocketAddr) -> Result<Socket, Failure> {
    let stream = TcpStream::connect(gateway).await?;
    stream.set_nodelay(true)?;
    let (socket, _) =
        client_async_with_config(format!("ws://{gateway}/"), stream, Some(socket_config())).await?;
    Ok(socket)
}

async fn accept(listener: &TcpListener) -> Result<Socket, Failure> {
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok(accept_async_with_config(stream, Some(socket_config())).await?)
}

fn socket_config() -> WebSocketConfig {
    WebSocketConfig::default().read_buffer_size(32 * 1024).write_buffer_size(32 * 1024)
}

/// Both directions between a TCP connection and a WebSocket, until either ends.
async fn carry(
    tcp: TcpStream,
    reading: SplitStream<Socket>,
    writing: SplitSink<Socket, Message>,
    payload: usize,
) -> Result<(), Failure> {
    tcp.set_nodelay(true)?;
    let (from, to) = tcp.into_split();
    tokio::select! {
        ended = outward(from, writing, payload) => ended,
        ended = inward(reading, to) => ended,
    }
}

/// One read, one digest, one message; what is there at once goes out with one flush.
async fn outward(
    from: OwnedReadHalf,
    mut to: SplitSink<Socket, Message>,
    payload: usize,
) -> Result<(), Failure> {
    let mut slab = BytesMut::new();
    loop {
        from.readable().await?;
        for _ in 0..BATCH {
            if slab.capacity() < HEADER + payload {
                slab = BytesMut::with_capacity((64 * 1024).max(4 * (HEADER + payload)));
            }
            slab.resize(HEADER, 0);
            match from.try_read_buf(&mut (&mut slab).limit(payload)) {
                Ok(0) => return Ok(()),
                Ok(_) => {
                    let digest = Sha256::digest(&slab[HEADER..]);
                    slab[..DIGEST].copy_from_slice(&digest);
                    to.feed(Message::Binary(slab.split().freeze())).await?;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        to.flush().await?;
    }
}

/// One message, one check; what is there at once is written with one call.
async fn inward(mut from: SplitStream<Socket>, mut to: OwnedWriteHalf) -> Result<(), Failure> {
    let mut pending = Vec::with_capacity(BATCH);
    while let Some(message) = from.next().await {
        pending.push(checked(message?)?);
        while pending.len() < BATCH
            && let Some(Some(message)) = from.next().now_or_never()
        {
            pending.push(checked(message?)?);
        }
        write_all(&mut to, &mut pending).await?;
    }
    Ok(())
}

fn checked(message: Message) -> Result<Bytes, Failure> {
    let mut frame = message.into_data();
    if frame.len() < HEADER {
        return Err("a message without a header".into());
    }
    let payload = frame.split_off(HEADER);
    if Sha256::digest(&payload)[..] != frame[..DIGEST] {
        return Err("a message whose digest is wrong".into());
    }
    Ok(payload)
}

async fn write_all(to: &mut OwnedWriteHalf, pending: &mut Vec<Bytes>) -> io::Result<()> {
    let mut first = 0;
    while first < pending.len() {
        let mut slices = [IoSlice::new(&[]); BATCH];
        for (slice, bytes) in slices.iter_mut().zip(&pending[first..]) {
            *slice = IoSlice::new(bytes);
        }
        let mut written = to.write_vectored(&slices[..pending.len() - first]).await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        while first < pending.len() && written >= pending[first].len() {
            written -= pending[first].len();
            first += 1;
        }
        if written > 0 {
            pending[first].advance(written);
        }
    }
    pending.clear();
    Ok(())
}

/// The gateway: frames from one WebSocket to the other, both ways.
async fn relay(client: Socket, agent: Socket) -> Result<(), Failure> {
    let (to_client, from_client) = client.split();
    let (to_agent, from_agent) = agent.split();
    tokio::select! {
        ended = forward(from_client, to_agent) => ended,
        ended = forward(from_agent, to_client) => ended,
    }
}

async fn forward(mut from: SplitStream<Socket>, mut to: SplitSink<Socket, Message>) -> Result<(), Failure> {
    while let Some(message) = from.next().await {
        to.feed(message?).await?;
        for _ in 1..BATCH {
            let Some(Some(message)) = from.next().now_or_never() else { break };
            to.feed(message?).await?;
        }
        to.flush().await?;
    }
    Ok(())
}
