//! Connections that share one session: each gets its part, and who has little to say does not wait.

use std::io::{ErrorKind, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ssm_portfwd::{Config, Notice};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{Forward, Server, exchange, fast, loopback};

const UPLOADS: usize = 8;

/// What each upload has to send at least. It lies in socket buffers before any of it is carried, so no upload waits for its program.
const UPLOAD: usize = 160 * 1024;

/// What has arrived of all uploads when they are compared: half.
const ENOUGH: usize = UPLOADS * UPLOAD / 2;

const WINDOW: usize = 128 * 1024;

const MESSAGE: usize = 1024;

#[tokio::test]
async fn eight_uploads_get_the_same_beside_an_echo() {
    let arrived = Arc::<AtomicUsize>::default();
    let server = destination(&arrived).await;
    let loopback = loopback().await;
    let mut session = fast();
    session.channel.payload_len = MESSAGE;
    session.channel.payload_max = MESSAGE;
    session.channel.window_max = WINDOW;
    let mut forward = Forward::with(&loopback, server.port, session, Config::default()).await;
    let mut echo = forward.connect().await;
    echo.write_all(b"e").await.unwrap();
    assert_eq!(exchange(&mut echo, b"k").await, b"k");
    // Nothing is awaited here, so the forward finds all of them at once.
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
            sent.push(bytes as usize);
        }
    }
    drop(uploads);
    let (least, most) = (*sent.iter().min().unwrap(), *sent.iter().max().unwrap());
    assert!(most < UPLOAD, "{sent:?}: this compares uploads that are over");
    assert!(most - least <= 2 * MESSAGE, "{sent:?}");
    let longest = passed_by.iter().max().unwrap();
    assert!(*longest <= 3 * WINDOW, "{longest} bytes of uploads went by for an echo");
}

/// A connection with something to send, as much as the system takes.
fn upload(addr: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_nonblocking(true).unwrap();
    let mut sent = 0;
    loop {
        match stream.write(&[b'u'; 1 << 16]) {
            Ok(len) => sent += len,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(sent >= UPLOAD, "{sent} bytes fit the buffers of a connection");
    stream
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
