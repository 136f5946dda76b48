//! Writing to an output that must not be made non-blocking, because other processes share it.

use std::io::{self, Write};
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;

use tokio::io::AsyncWrite;

/// The stack of a thread that only reads or writes.
pub(crate) const STACK_LEN: usize = 64 * 1024;

/// Most bytes that wait for the thread; as many again may be on their way to the output.
const WAITING_MAX: usize = 64 * 1024;

/// An output written to by a thread. Flushed means that the output has taken everything.
#[derive(Debug)]
pub(crate) struct Writer(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// There is something to write, or nothing ever again.
    work: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<u8>,
    writing: bool,
    closed: bool,
    failed: Option<Failure>,
    /// Wants to know when there is room, everything is written, or writing has failed.
    waker: Option<Waker>,
}

/// An error that every later call has as well.
#[derive(Debug, Clone, Copy)]
enum Failure {
    Os(i32),
    Kind(io::ErrorKind),
}

impl Failure {
    fn new(error: &io::Error) -> Self {
        error.raw_os_error().map_or_else(|| Self::Kind(error.kind()), Self::Os)
    }

    fn error(self) -> io::Error {
        match self {
            Self::Os(code) => io::Error::from_raw_os_error(code),
            Self::Kind(kind) => kind.into(),
        }
    }
}

impl Writer {
    /// Writes to `out`, which has to write everything it is given or wait.
    pub(crate) fn spawn(mut out: impl Write + Send + 'static) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let writer = Self(Arc::clone(&shared));
        let thread = thread::Builder::new().name("output".into()).stack_size(STACK_LEN);
        thread.spawn(move || shared.write_until_closed(&mut out))?;
        Ok(writer)
    }
}

impl AsyncWrite for Writer {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut state = self.0.lock();
        if let Some(failure) = state.failed {
            return Poll::Ready(Err(failure.error()));
        }
        let len = bytes.len().min(WAITING_MAX - state.waiting.len());
        if len == 0 && !bytes.is_empty() {
            state.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        state.waiting.extend_from_slice(&bytes[..len]);
        self.0.work.notify_one();
        Poll::Ready(Ok(len))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.0.lock();
        if let Some(failure) = state.failed {
            return Poll::Ready(Err(failure.error()));
        }
        if state.waiting.is_empty() && !state.writing {
            return Poll::Ready(Ok(()));
        }
        state.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.work.notify_one();
    }
}

impl Shared {
    fn write_until_closed(&self, out: &mut impl Write) {
        let mut bytes = Vec::new();
        while self.take(&mut bytes) {
            let written = out.write_all(&bytes).and_then(|()| out.flush());
            bytes.clear();
            if let Err(error) = written {
                let mut state = self.lock();
                state.failed = Some(Failure::new(&error));
                state.wake();
                return;
            }
        }
    }

    /// Waits for bytes and takes them all; false when none will come.
    fn take(&self, bytes: &mut Vec<u8>) -> bool {
        let mut state = self.lock();
        state.writing = false;
        if state.waiting.is_empty() {
            state.wake();
        }
        while state.waiting.is_empty() {
            if state.closed {
                return false;
            }
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        std::mem::swap(bytes, &mut state.waiting);
        state.writing = true;
        state.wake();
        true
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::time::Duration;

    use tokio::io::AsyncWriteExt as _;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn flushed_means_written() {
        let (mut from, to) = io::pipe().unwrap();
        let mut writer = Writer::spawn(to).unwrap();
        writer.write_all(b"all of this").await.unwrap();
        writer.flush().await.unwrap();
        let mut read = [0; 11];
        from.read_exact(&mut read).unwrap();
        assert_eq!(&read, b"all of this");
    }

    #[tokio::test]
    async fn what_is_dropped_unflushed_is_still_written() {
        let (from, to) = io::pipe().unwrap();
        let mut writer = Writer::spawn(to).unwrap();
        writer.write_all(b"late").await.unwrap();
        drop(writer);
        assert_eq!(io::read_to_string(from).unwrap(), "late");
    }

    #[tokio::test]
    async fn a_reader_that_stands_still_stops_the_writer() {
        let (mut from, to) = io::pipe().unwrap();
        let mut writer = Writer::spawn(to).unwrap();
        let sent: Vec<u8> = (0..400_000u32).flat_map(u32::to_le_bytes).collect();
        let write = writer.write_all(&sent);
        tokio::pin!(write);
        assert!(timeout(Duration::from_millis(50), &mut write).await.is_err(), "1.6 MB fit nowhere");
        let len = sent.len();
        let reading = thread::spawn(move || {
            let mut read = vec![0; len];
            from.read_exact(&mut read).map(|()| read)
        });
        write.await.unwrap();
        writer.flush().await.unwrap();
        assert!(reading.join().unwrap().unwrap() == sent);
    }

    #[tokio::test]
    async fn a_reader_that_goes_away_is_reported() {
        let (from, to) = io::pipe().unwrap();
        let mut writer = Writer::spawn(to).unwrap();
        drop(from);
        writer.write_all(b"x").await.unwrap();
        let error = writer.flush().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
