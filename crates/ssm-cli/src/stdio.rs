//! stdin and stdout as byte streams: pipes and sockets without a thread, the rest as well as can be.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::thread;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::sync::mpsc;

/// Bytes read at once by a thread, and the number of such reads that may wait.
const CHUNK: usize = 32 * 1024;
const CHUNKS: usize = 2;

/// stdin.
#[derive(Debug)]
pub(crate) enum Input {
    Pipe(pipe::Receiver),
    Socket(UnixStream),
    /// A terminal or a file, read by a thread: a terminal must not be made non-blocking, because others share it.
    Thread(Chunks),
}

/// stdout.
#[derive(Debug)]
pub(crate) enum Output {
    Pipe(pipe::Sender),
    Socket(UnixStream),
    /// A terminal or a file: writes wait.
    File(File),
}

/// What a thread has read.
#[derive(Debug)]
pub(crate) struct Chunks {
    receiver: mpsc::Receiver<io::Result<Bytes>>,
    chunk: Bytes,
}

impl Input {
    /// Takes stdin. Inside a runtime only.
    pub(crate) fn stdin() -> io::Result<Self> {
        let file = File::from(duplicate(io::stdin())?);
        let kind = file.metadata()?.file_type();
        Ok(if kind.is_fifo() {
            Self::Pipe(pipe::Receiver::from_file(file)?)
        } else if kind.is_socket() {
            Self::Socket(socket(file)?)
        } else {
            Self::Thread(read_in_thread(file)?)
        })
    }
}

impl Output {
    /// Takes stdout. Inside a runtime only.
    pub(crate) fn stdout() -> io::Result<Self> {
        let file = File::from(duplicate(io::stdout())?);
        let kind = file.metadata()?.file_type();
        Ok(if kind.is_fifo() {
            Self::Pipe(pipe::Sender::from_file(file)?)
        } else if kind.is_socket() {
            Self::Socket(socket(file)?)
        } else {
            Self::File(file)
        })
    }
}

fn duplicate(stream: impl AsFd) -> io::Result<OwnedFd> {
    stream.as_fd().try_clone_to_owned()
}

fn socket(file: File) -> io::Result<UnixStream> {
    let stream = StdUnixStream::from(OwnedFd::from(file));
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream)
}

fn read_in_thread(mut file: File) -> io::Result<Chunks> {
    let (sender, receiver) = mpsc::channel(CHUNKS);
    let read = move || {
        let mut buf = vec![0; CHUNK];
        loop {
            let chunk = match file.read(&mut buf) {
                Ok(0) => return,
                Ok(len) => Ok(Bytes::copy_from_slice(&buf[..len])),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Err(error),
            };
            let failed = chunk.is_err();
            if sender.blocking_send(chunk).is_err() || failed {
                return;
            }
        }
    };
    thread::Builder::new().name("stdin".into()).spawn(read)?;
    Ok(Chunks { receiver, chunk: Bytes::new() })
}

impl AsyncRead for Input {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Pipe(pipe) => Pin::new(pipe).poll_read(cx, buf),
            Self::Socket(socket) => Pin::new(socket).poll_read(cx, buf),
            Self::Thread(chunks) => chunks.poll_read(cx, buf),
        }
    }
}

impl Chunks {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.chunk.is_empty() {
            match ready!(self.receiver.poll_recv(cx)) {
                Some(chunk) => self.chunk = chunk?,
                None => return Poll::Ready(Ok(())),
            }
        }
        let len = self.chunk.len().min(buf.remaining());
        buf.put_slice(&self.chunk[..len]);
        self.chunk.advance(len);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Output {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Pipe(pipe) => Pin::new(pipe).poll_write(cx, buf),
            Self::Socket(socket) => Pin::new(socket).poll_write(cx, buf),
            Self::File(file) => Poll::Ready(file.write(buf)),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Pipe(pipe) => Pin::new(pipe).poll_shutdown(cx),
            Self::Socket(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::File(_) => Poll::Ready(Ok(())),
        }
    }
}
