//! TCP servers that tunnels lead to.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use super::process::SOON;

/// A server on 127.0.0.1 with a thread for each connection.
pub(crate) struct Server {
    addr: SocketAddr,
    connections: Arc<AtomicUsize>,
    over: Arc<AtomicBool>,
}

impl Server {
    /// Serves every connection with `serve`. An error ends the connection it came from.
    pub(crate) fn start(serve: impl Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let addr = listener.local_addr().unwrap();
        let (connections, over) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let (count, ended) = (Arc::clone(&connections), Arc::clone(&over));
        let serve = Arc::new(serve);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if ended.load(Ordering::Acquire) {
                    return;
                }
                count.fetch_add(1, Ordering::AcqRel);
                let serve = Arc::clone(&serve);
                thread::spawn(move || {
                    let stream = stream.unwrap();
                    stream.set_nodelay(true).unwrap();
                    serve(stream)
                });
            }
        });
        Self { addr, connections, over }
    }

    /// Sends back what comes, until the other side ends.
    pub(crate) fn echo() -> Self {
        Self::start(|mut stream| {
            let mut input = stream.try_clone()?;
            let mut chunk = vec![0; 64 * 1024];
            loop {
                match input.read(&mut chunk)? {
                    0 => return stream.shutdown(Shutdown::Both),
                    read => stream.write_all(&chunk[..read])?,
                }
            }
        })
    }

    pub(crate) fn port(&self) -> u16 {
        self.addr.port()
    }

    /// How many connections came.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Acquire)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Release);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.addr);
    }
}

/// Connects; reads and writes that take too long fail.
pub(crate) fn connect(addr: impl Into<SocketAddr>) -> TcpStream {
    let stream = TcpStream::connect_timeout(&addr.into(), SOON).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.set_write_timeout(Some(SOON)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}
