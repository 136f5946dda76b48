//! Destinations that are slow or stuck because of a fault: a pair of sockets and a pump before the real one.

use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep_until};

use crate::fault::Destination;
use crate::service::AgentEndpoint;

/// Bytes moved at a time.
const CHUNK: usize = 4 * 1024;

/// How often a connection that is stuck is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// A connection that behaves like this, with `destination` behind it.
pub(super) async fn put_before(
    destination: TcpStream,
    behaviour: Destination,
    endpoint: &AgentEndpoint,
) -> io::Result<TcpStream> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let (near, accepted) = tokio::join!(TcpStream::connect(listener.local_addr()?), listener.accept());
    let (near, (far, _)) = (near?, accepted?);
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    endpoint.spawn(async move {
        match behaviour {
            Destination::Stuck => stuck(&far, &destination).await,
            Destination::Slow { per_second } => {
                let ((from_agent, to_agent), (from_there, to_there)) =
                    (far.into_split(), destination.into_split());
                tokio::join!(pump(from_agent, to_there, per_second), pump(from_there, to_agent, per_second));
            }
        }
    });
    Ok(near)
}

/// Holds both and looks at neither until one of them has gone.
async fn stuck(far: &TcpStream, destination: &TcpStream) {
    let gone = |stream: &TcpStream| {
        // While bytes wait, a peer that has ended cannot be told from one that has not.
        matches!(stream.peek(&mut [0]).now_or_never(), Some(Ok(0) | Err(_)))
    };
    let mut tick = tokio::time::interval(LOOK);
    loop {
        tick.tick().await;
        if gone(far) || gone(destination) {
            return;
        }
    }
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, per_second: u64) {
    let mut chunk = vec![0; CHUNK];
    let mut due = Instant::now();
    loop {
        let Ok(len) = from.read(&mut chunk).await else { return };
        if len == 0 || to.write_all(&chunk[..len]).await.is_err() {
            // The other direction learns of it by its own read or write.
            let _ = to.shutdown().await;
            return;
        }
        due = due.max(Instant::now()) + Duration::from_secs(1).mul_f64(len as f64 / per_second as f64);
        sleep_until(due).await;
    }
}
