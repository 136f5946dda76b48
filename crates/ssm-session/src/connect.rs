//! TCP to a host with several addresses, of which some may be dead.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long an address is waited for before the next one is tried as well (RFC 8305, section 5).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// Most addresses of a host that are tried and told of.
const ADDRESSES_MAX: usize = 16;

/// The addresses of a host, in the order in which they are to be tried.
///
/// # Errors
///
/// The name is not known.
pub(crate) async fn addresses(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    Ok(tokio::net::lookup_host((host, port)).await?.take(ADDRESSES_MAX).collect())
}

/// Connects to the address that answers first. An address that does not answer holds the next one up for 250 ms, not for
/// the minutes that the system takes to give it up.
///
/// Safe to cancel: every attempt is given up.
///
/// # Errors
///
/// That of the last attempt to fail, when all have.
pub(crate) async fn connect(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut addresses = addresses.iter();
    let mut attempts = FuturesUnordered::new();
    let mut error = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    loop {
        let next = addresses.next();
        attempts.extend(next.map(|address| TcpStream::connect(*address)));
        let ended = match next {
            Some(_) => timeout(ATTEMPT_DELAY, attempts.next()).await,
            None => Ok(attempts.next().await),
        };
        match ended {
            Ok(Some(Ok(stream))) => return Ok(stream),
            Ok(Some(Err(failed))) => error = failed,
            Ok(None) => return Err(error),
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use tokio::net::{TcpListener, TcpSocket};
    use tokio::time::Instant;

    use super::*;

    /// An address that answers.
    async fn alive() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    /// An address that answers nothing: its queue is full.
    async fn silent() -> (TcpListener, Vec<TcpStream>, SocketAddr) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let mut queue = Vec::new();
        while let Ok(stream) = timeout(ATTEMPT_DELAY, TcpStream::connect(address)).await {
            queue.push(stream.unwrap());
        }
        (listener, queue, address)
    }

    /// An address where nobody listens.
    async fn refusing() -> SocketAddr {
        alive().await.1
    }

    #[tokio::test]
    async fn an_address_that_does_not_answer_holds_nothing_up() {
        let (_listener, _queue, silent) = silent().await;
        let (_other, alive) = alive().await;
        let began = Instant::now();
        let stream = connect(&[silent, silent, alive]).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), alive);
        assert!(began.elapsed() >= 2 * ATTEMPT_DELAY);
    }

    #[tokio::test]
    async fn an_address_that_refuses_is_not_waited_for() {
        let (_listener, _queue, silent) = silent().await;
        let (_other, alive) = alive().await;
        let refusing = refusing().await;
        // Only the silent one is, and once.
        for addresses in [&[refusing, refusing, alive][..], &[refusing, silent, refusing, alive]] {
            assert_eq!(connect(addresses).await.unwrap().peer_addr().unwrap(), alive);
        }
    }

    #[tokio::test]
    async fn the_error_is_that_of_an_attempt() {
        let refusing = refusing().await;
        let unreachable = SocketAddr::from((Ipv6Addr::from([0xff; 16]), 1));
        let error = connect(&[unreachable, refusing]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(connect(&[]).await.unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[tokio::test]
    async fn the_addresses_of_a_host_are_bounded_and_a_name_nobody_knows_is_an_error() {
        let found = addresses("127.0.0.1", 7).await.unwrap();
        assert_eq!(found, [SocketAddr::from((Ipv4Addr::LOCALHOST, 7))]);
        assert!(addresses("no such name", 7).await.is_err());
    }
}
