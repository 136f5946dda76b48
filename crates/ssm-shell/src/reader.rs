//! Reading a descriptor that must not be made non-blocking.
//!
//! That mode belongs to the open file, which this process shares with others: the shell that started it, and whoever has the
//! other end of `2>&1` or of a pipe used by several commands. So a thread of its own reads. It reads only what it is asked for,
//! so that what the session does not want stays for the program that reads next.

use std::io::{self, PipeWriter, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::sync::mpsc::{Sender, channel};
use std::task::{Context, Poll, ready};
use std::thread;

use bytes::{Buf, Bytes};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::mpsc;

use crate::writer::STACK_LEN;

/// Most bytes read at once.
const READ_MAX: usize = 64 * 1024;

/// A descriptor read by a thread, when and as far as it is asked for.
#[derive(Debug)]
pub(crate) struct Reader {
    /// How much to read. At most one request is under way.
    requests: Sender<usize>,
    answers: mpsc::Receiver<io::Result<Bytes>>,
    asked: bool,
    rest: Bytes,
    /// Its end makes the thread stop waiting.
    _alive: PipeWriter,
}

impl Reader {
    pub(crate) fn spawn(fd: impl AsFd + Send + 'static) -> io::Result<Self> {
        let (stop, alive) = io::pipe()?;
        let (requests, requested) = channel::<usize>();
        let (answer, answers) = mpsc::channel(1);
        thread::Builder::new().name("input".into()).stack_size(STACK_LEN).spawn(move || {
            let mut buf = Vec::new();
            while let Ok(len) = requested.recv() {
                let Some(read) = read(fd.as_fd(), stop.as_fd(), len, &mut buf).transpose() else { return };
                if answer.try_send(read).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { requests, answers, asked: false, rest: Bytes::new(), _alive: alive })
    }
}

impl AsyncRead for Reader {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.rest.is_empty() {
            if !this.asked && this.requests.send(buf.remaining().min(READ_MAX)).is_err() {
                return Poll::Ready(Ok(()));
            }
            this.asked = true;
            let answer = ready!(this.answers.poll_recv(cx));
            this.asked = false;
            this.rest = answer.transpose()?.unwrap_or_default();
        }
        let part = this.rest.len().min(buf.remaining());
        buf.put_slice(&this.rest[..part]);
        this.rest.advance(part);
        Poll::Ready(Ok(()))
    }
}

/// Reads up to `len` bytes, no bytes at the end of the input; `None` when `stop` is closed.
fn read(
    fd: BorrowedFd<'_>,
    stop: BorrowedFd<'_>,
    len: usize,
    buf: &mut Vec<u8>,
) -> io::Result<Option<Bytes>> {
    buf.resize(len, 0);
    loop {
        let mut fds = [PollFd::new(&fd, PollFlags::IN), PollFd::new(&stop, PollFlags::IN)];
        match poll(&mut fds, None) {
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        if !fds[1].revents().is_empty() {
            return Ok(None);
        }
        match rustix::io::read(fd, &mut buf[..]) {
            Ok(read) => return Ok(Some(Bytes::copy_from_slice(&buf[..read]))),
            // Another process can have made the file non-blocking, and taken what was there.
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// A descriptor to write to, unbuffered.
#[derive(Debug)]
pub(crate) struct Descriptor<F>(pub(crate) F);

impl<F: AsFd> Write for Descriptor<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match rustix::io::write(&self.0, bytes) {
                Ok(written) => return Ok(written),
                Err(Errno::INTR) => {}
                // Another process can have made the file non-blocking.
                Err(Errno::AGAIN) => match poll(&mut [PollFd::new(&self.0, PollFlags::OUT)], None) {
                    Ok(_) | Err(Errno::INTR) => {}
                    Err(errno) => return Err(errno.into()),
                },
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[tokio::test]
    async fn a_pipe_is_read_to_its_end() {
        let (from, mut to) = io::pipe().unwrap();
        let mut reader = Reader::spawn(from).unwrap();
        let mut byte = [0];
        to.write_all(b"x").unwrap();
        reader.read_exact(&mut byte).await.unwrap();
        assert_eq!(&byte, b"x");
        to.write_all(b"the rest").unwrap();
        drop(to);
        let mut rest = Vec::new();
        reader.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"the rest");
    }

    #[tokio::test]
    async fn nothing_is_read_that_was_not_asked_for() {
        let (from, mut to) = io::pipe().unwrap();
        to.write_all(b"mine, yours").unwrap();
        let mut reader = Reader::spawn(from.try_clone().unwrap()).unwrap();
        let mut mine = [0; 4];
        reader.read_exact(&mut mine).await.unwrap();
        drop((reader, to));
        assert_eq!(io::read_to_string(from).unwrap(), ", yours");
    }

    #[tokio::test]
    async fn an_unreadable_descriptor_is_an_error() {
        let directory = std::fs::File::open("/").unwrap();
        let error = Reader::spawn(directory).unwrap().read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::IsADirectory);
    }

    #[tokio::test]
    async fn the_null_device_ends_at_once() {
        let null = std::fs::File::open("/dev/null").unwrap();
        let mut nothing = Vec::new();
        Reader::spawn(null).unwrap().read_to_end(&mut nothing).await.unwrap();
        assert_eq!(nothing, b"");
    }
}
