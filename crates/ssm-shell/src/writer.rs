//! Writing to a descriptor that must not be made non-blocking; see [`Reader`](crate::reader::Reader) for why.

use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use tokio::io::AsyncWrite;

use crate::reader::STACK_LEN;

/// Most bytes that wait for the thread; as many again may be on their way to the descriptor.
const WAITING_MAX: usize = 64 * 1024;

/// A descriptor written to by a thread. Flushed means that the descriptor has taken everything.
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
    failed: Option<Errno>,
    /// Wants to know when there is room, everything is written, or writing has failed.
    waker: Option<Waker>,
}

impl Writer {
    pub(crate) fn spawn(fd: impl AsFd + Send + 'static) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let writer = Self(Arc::clone(&shared));
        let thread = thread::Builder::new().name("output".into()).stack_size(STACK_LEN);
        thread.spawn(move || shared.write_until_closed(&fd))?;
        Ok(writer)
    }
}

impl AsyncWrite for Writer {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut state = self.0.lock();
        if let Some(errno) = state.failed {
            return Poll::Ready(Err(errno.into()));
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
        if let Some(errno) = state.failed {
            return Poll::Ready(Err(errno.into()));
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
    fn write_until_closed(&self, fd: &impl AsFd) {
        let mut bytes = Vec::new();
        while self.take(&mut bytes) {
            let written = write_all(fd, &bytes);
            bytes.clear();
            if let Err(errno) = written {
                let mut state = self.lock();
                state.failed = Some(errno);
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

fn write_all(fd: &impl AsFd, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::write(fd, bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::INTR) => {}
            // Another process can have made the file non-blocking.
            Err(Errno::AGAIN) => match poll(&mut [PollFd::new(fd, PollFlags::OUT)], None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            },
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
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
