//! Output that may wait for its reader.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::AsyncWrite;

/// Output and what it has not taken yet. What waits is copied: a slice of a frame would keep the whole buffer it was read into.
pub(crate) struct Sink {
    out: Box<dyn AsyncWrite + Send + Unpin>,
    waiting: BytesMut,
    /// Whatever is written from here on is thrown away.
    broken: bool,
}

impl fmt::Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sink").field("waiting", &self.waiting.len()).finish_non_exhaustive()
    }
}

impl Sink {
    pub(crate) fn new(out: impl AsyncWrite + Send + Unpin + 'static) -> Self {
        Self { out: Box::new(out), waiting: BytesMut::new(), broken: false }
    }

    /// Bytes that wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Adds bytes; the next [`poll_flush`](Self::poll_flush) writes them.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        if !self.broken {
            self.waiting.extend_from_slice(bytes);
        }
    }

    /// Throws away what waits.
    pub(crate) fn discard(&mut self) {
        self.waiting.clear();
    }

    /// Writes what waits and flushes it. An error is reported once.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.broken {
            return Poll::Ready(Ok(()));
        }
        let flushed = ready!(self.poll_write_all(cx));
        if flushed.is_err() {
            self.broken = true;
            self.waiting = BytesMut::new();
        }
        Poll::Ready(flushed)
    }

    fn poll_write_all(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.waiting.is_empty() {
            let written = ready!(Pin::new(&mut self.out).poll_write(cx, &self.waiting))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.waiting.advance(written);
        }
        Pin::new(&mut self.out).poll_flush(cx)
    }
}
