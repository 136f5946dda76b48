//! Connections that share one session: each gets its part, and who has little to say does not wait.

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use ssm_portfwd::Notice;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{Forward, Server, exchange, loopback};

const UPLOADS: usize = 8;

/// What all uploads together have sent when they are compared.
const ENOUGH: usize = 128 * 1024 * 1024;

#[tokio::test]
async fn eight_uploads_get_the_same_beside_an_echo() {
    let arrived = Arc::<AtomicUsize>::default();
    let server = destination(&arrived).await;
    let loopback = loopback().await;
    let mut forward = Forward::start(&loopback, server.port).await;
    let mut echo = forward.connect().await;
    echo.write_all(b"e").await.unwrap();
    assert_eq!(exchange(&mut echo, b"k").await, b"k");
    let uploads: Vec<_> = (0..UPLOADS).map(|_| upload(forward.addr)).collect();
    let mut passed_by = Vec::new();
    while arrived.load(Ordering::Relaxed) < ENOUGH {
        let before = arrived.load(Ordering::Relaxed);
        assert_eq!(exchange(&mut echo, b"k").await, b"k");
        passed_by.push(arrived.load(Ordering::Relaxed) - before);
    }
    forward.end();
    let mut sent = Vec::new();
    while sent.len() < UPLOADS {
        let notice = forward.until(|notice| matches!(notice, Notice::Closed { .. })).await;
        let Notice::Closed { connection, sent: bytes, .. } = notice else { unreachable!() };
        if connection > 1 {
            sent.push(bytes);
        }
    }
    drop(forward);
    uploads.into_iter().for_each(|upload| upload.join().unwrap());
    let (least, most) = (sent.iter().min().unwrap(), sent.iter().max().unwrap());
    assert!(*least >= most / 10 * 9, "{sent:?}");
    passed_by.sort_unstable();
    let typical = passed_by[passed_by.len() / 2];
    assert!(typical <= 5 * 1024 * 1024, "{typical} bytes of uploads went by for each echo");
}

/// Writes as much as the forward takes, from a thread of its own, so that there is always something to read.
fn upload(addr: SocketAddr) -> thread::JoinHandle<()> {
    let mut stream = std::net::TcpStream::connect(addr).unwrap();
    thread::spawn(move || {
        let block = vec![b'u'; 1 << 16];
        while stream.write_all(&block).is_ok() {}
    })
}

/// A connection whose first byte is `e` gets back what it sends; of others the bytes are counted.
async fn destination(arrived: &Arc<AtomicUsize>) -> Server {
    let arrived = Arc::clone(arrived);
    Server::start(move |mut stream| {
        let arrived = Arc::clone(&arrived);
        async move {
            if stream.read_u8().await? == b'e' {
                return crate::support::echo(stream).await;
            }
            let mut block = vec![0; 1 << 16];
            loop {
                match stream.read(&mut block).await? {
                    0 => return Ok(()),
                    len => drop(arrived.fetch_add(len, Ordering::Relaxed)),
                }
            }
        }
    })
    .await
}
