//! Transfers whose every byte is checked: data with numbered blocks, and its SHA-256 from the other end.

use std::io;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Bytes of a block. Each starts with its number, so that none can take another's place.
const BLOCK: usize = 64 * 1024;

/// The direction of a transfer, as seen from the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Upload,
    Download,
}

/// A transfer as it went.
pub(super) struct Transfer {
    pub(super) elapsed: Duration,
    /// Of what was sent.
    pub(super) sent: [u8; 32],
    /// Of what arrived.
    pub(super) arrived: [u8; 32],
}

/// Moves `blocks` blocks over a connection to [`serve`].
pub(super) async fn run(mut stream: TcpStream, direction: Direction, blocks: u32) -> io::Result<Transfer> {
    stream.set_nodelay(true)?;
    let start = Instant::now();
    let mut head = [0; 5];
    head[0] = u8::from(direction == Direction::Download);
    head[1..].copy_from_slice(&blocks.to_be_bytes());
    stream.write_all(&head).await?;
    let ours = match direction {
        Direction::Upload => send(&mut stream, blocks).await?,
        Direction::Download => receive(&mut stream, blocks).await?,
    };
    let mut theirs = [0; 32];
    stream.read_exact(&mut theirs).await?;
    let elapsed = start.elapsed();
    let (sent, arrived) = match direction {
        Direction::Upload => (ours, theirs),
        Direction::Download => (theirs, ours),
    };
    Ok(Transfer { elapsed, sent, arrived })
}

/// The far end of transfers, one at a time.
pub(super) async fn serve(listener: TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        if let Err(error) = answer(stream).await {
            tracing::debug!(%error, "a transfer ended early");
        }
    }
}

async fn answer(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let download = stream.read_u8().await? == 1;
    let blocks = stream.read_u32().await?;
    let digest =
        if download { send(&mut stream, blocks).await? } else { receive(&mut stream, blocks).await? };
    stream.write_all(&digest).await?;
    // The client has everything when it closes.
    stream.read(&mut [0]).await.map(drop)
}

async fn send(stream: &mut TcpStream, blocks: u32) -> io::Result<[u8; 32]> {
    let mut block = vec![0; BLOCK];
    getrandom::fill(&mut block).map_err(io::Error::other)?;
    let mut digest = Sha256::new();
    for number in 0..blocks {
        block[..4].copy_from_slice(&number.to_be_bytes());
        digest.update(&block);
        stream.write_all(&block).await?;
    }
    Ok(digest.finalize().into())
}

async fn receive(stream: &mut TcpStream, blocks: u32) -> io::Result<[u8; 32]> {
    let mut digest = Sha256::new();
    let mut left = u64::from(blocks) * BLOCK as u64;
    let mut buf = vec![0; BLOCK];
    while left > 0 {
        let room = usize::try_from(left).unwrap_or(usize::MAX).min(BLOCK);
        let len = stream.read(&mut buf[..room]).await?;
        if len == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        digest.update(&buf[..len]);
        left -= len as u64;
    }
    Ok(digest.finalize().into())
}

/// Blocks in `mib` MiB.
pub(super) fn blocks(mib: u32) -> u32 {
    mib * (1024 * 1024 / BLOCK as u32)
}
