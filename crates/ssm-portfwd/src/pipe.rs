//! The pipe between a task of the user's and the one that carries its connection.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

use crate::TunnelError;

/// Bytes in the pipe, each way.
const PIPE_LEN: usize = 64 * 1024;

/// Both ends of a new connection.
pub(crate) fn pipe() -> (TunnelStream, PipeEnd) {
    let (near, far) = tokio::io::duplex(PIPE_LEN);
    let ends = Arc::<Ends>::default();
    (TunnelStream { pipe: near, ends: Arc::clone(&ends), is_shut_down: false }, PipeEnd { pipe: far, ends })
}

/// One connection to the destination of a [`Tunnel`](crate::Tunnel), as a socket would be: bytes both ways, of which up to 64 KiB each way
/// wait here. Reads and writes are cancel safe, so `tokio::time::timeout` puts a deadline on any of them.
///
/// Shutting it down ends the outward direction; the crate says how long the other one lives then. Dropping it closes
/// the connection when what was written has gone out; after a shutdown that can take
/// [`Config::half_close_grace`](crate::Config::half_close_grace).
///
/// # Errors
///
/// Reading ends in order only if the destination has ended. Otherwise there is an error behind the last byte whose source is a
/// [`TunnelError`]: of kind `ConnectionRefused` when the far side could not connect, `ConnectionReset` when too much
/// waited to be read, and `ConnectionAborted` when the session was over first.
#[derive(Debug)]
pub struct TunnelStream {
    pipe: DuplexStream,
    ends: Arc<Ends>,
    is_shut_down: bool,
}

/// The end of the task that carries the connection.
#[derive(Debug)]
pub(crate) struct PipeEnd {
    pipe: DuplexStream,
    ends: Arc<Ends>,
}

/// What each end says of itself besides bytes.
#[derive(Debug, Default)]
struct Ends {
    /// How the carrier has ended what the user reads. Not set by a carrier that is gone without a word, as when its task is aborted.
    carrier: OnceLock<Result<(), TunnelError>>,
    /// The user's end was dropped, rather than shut down.
    dropped: AtomicBool,
}

impl Ends {
    /// The error to report where the pipe has ended, unless it has ended in order.
    fn error(&self) -> Option<io::Error> {
        match self.carrier.get() {
            Some(Ok(())) => None,
            Some(Err(error)) => Some(error.clone().into()),
            None => Some(TunnelError::Gone.into()),
        }
    }
}

impl AsyncRead for TunnelStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.pipe).poll_read(cx, buf))?;
        let ended = buf.filled().len() == before && buf.remaining() > 0;
        match self.ends.error() {
            Some(error) if ended => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(())),
        }
    }
}

impl TunnelStream {
    /// A pipe that was not shut down only breaks because its other end is gone; why is more telling.
    fn explain<T>(&self, written: io::Result<T>) -> io::Result<T> {
        let why = |error| if self.is_shut_down { error } else { self.ends.error().unwrap_or(error) };
        written.map_err(why)
    }
}

impl AsyncWrite for TunnelStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.pipe).poll_write(cx, buf));
        Poll::Ready(self.explain(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.pipe).poll_write_vectored(cx, slices));
        Poll::Ready(self.explain(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.pipe.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.is_shut_down = true;
        Pin::new(&mut self.pipe).poll_shutdown(cx)
    }
}

impl Drop for TunnelStream {
    fn drop(&mut self) {
        self.ends.dropped.store(true, Ordering::Release);
    }
}

impl PipeEnd {
    /// Says to the user that what there is to read did not end in order.
    pub(crate) fn fail(&self, error: TunnelError) {
        // The first word holds: an end in order cannot be taken back.
        let _ = self.ends.carrier.set(Err(error));
    }
}

impl AsyncRead for PipeEnd {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.pipe).poll_read(cx, buf))?;
        let ended = buf.filled().len() == before && buf.remaining() > 0;
        if ended && self.ends.dropped.load(Ordering::Acquire) {
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "the stream was dropped",
            )));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for PipeEnd {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.pipe).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.pipe).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.pipe.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Before the end can be read.
        let _ = self.ends.carrier.set(Ok(()));
        Pin::new(&mut self.pipe).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn read_all(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.map(|_| all)
    }

    #[tokio::test]
    async fn an_end_in_order_is_one() {
        let (mut user, mut carrier) = pipe();
        carrier.write_all(b"all of it").await.unwrap();
        carrier.shutdown().await.unwrap();
        drop(carrier);
        assert_eq!(read_all(&mut user).await.unwrap(), b"all of it");
    }

    #[tokio::test]
    async fn an_error_comes_behind_the_last_byte() {
        let (mut user, mut carrier) = pipe();
        carrier.write_all(b"part").await.unwrap();
        carrier.fail(TunnelError::Overfull);
        drop(carrier);
        let mut part = [0; 4];
        user.read_exact(&mut part).await.unwrap();
        assert_eq!(&part, b"part");
        assert_eq!(user.read(&mut part).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert_eq!(user.write(b"x").await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    }

    #[tokio::test]
    async fn a_carrier_that_is_gone_without_a_word_is_an_error() {
        let (mut user, carrier) = pipe();
        drop(carrier);
        assert_eq!(user.write(b"x").await.unwrap_err().kind(), ErrorKind::ConnectionAborted);
        assert_eq!(read_all(&mut user).await.unwrap_err().kind(), ErrorKind::ConnectionAborted);
    }

    #[tokio::test]
    async fn writing_after_a_shutdown_is_the_writers_own_fault() {
        let (mut user, _carrier) = pipe();
        user.shutdown().await.unwrap();
        let error = user.write(b"x").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
        assert!(error.get_ref().is_none_or(|cause| !cause.is::<TunnelError>()), "{error}");
    }

    #[tokio::test]
    async fn a_drop_is_no_shutdown() {
        let (mut user, mut carrier) = pipe();
        user.write_all(b"last words").await.unwrap();
        user.shutdown().await.unwrap();
        assert_eq!(read_all(&mut carrier).await.unwrap(), b"last words");

        let (mut user, mut carrier) = pipe();
        user.write_all(b"last words").await.unwrap();
        drop(user);
        let mut words = [0; 10];
        carrier.read_exact(&mut words).await.unwrap();
        assert_eq!(&words, b"last words");
        assert_eq!(read_all(&mut carrier).await.unwrap_err().kind(), ErrorKind::ConnectionAborted);
    }

    #[tokio::test]
    async fn a_full_pipe_makes_the_writer_wait() {
        let (mut user, mut carrier) = pipe();
        let data = vec![7; PIPE_LEN + 1];
        let written = tokio::time::timeout(std::time::Duration::ZERO, user.write_all(&data)).await;
        assert!(written.is_err(), "more was taken than the pipe holds");
        let mut held = vec![0; PIPE_LEN];
        carrier.read_exact(&mut held).await.unwrap();
        assert!(held.iter().all(|byte| *byte == 7));
    }
}
