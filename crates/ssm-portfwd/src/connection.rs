//! One local connection: the next chunk from it, and what waits to be written to it.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::{Buf, BufMut, Bytes};
use ssm_session::MessageBuf;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::TunnelError;
use crate::lane::Shared;
#[cfg(feature = "metrics")]
use crate::meter::Life;
use crate::pipe::PipeEnd;
use crate::ready::ReadyWaker;

/// The local end of a connection.
pub(crate) enum LocalEnd {
    Tcp(TcpStream),
    Pipe(PipeEnd),
    Other(Pin<Box<dyn Io>>),
}

/// A local connection that was taken and is not carried yet.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) end: LocalEnd,
    /// The number in notices.
    pub(crate) number: u64,
    /// What the program has sent already.
    pub(crate) early: Bytes,
    /// What it is told once its destination can be reached: the answer of a proxy. Empty for none.
    pub(crate) accepted: Bytes,
    /// What it is told if the destination cannot be reached. Empty for a reset.
    pub(crate) refused: Bytes,
}

impl Incoming {
    /// A connection whose bytes are all its destination's.
    pub(crate) fn plain(end: LocalEnd, number: u64) -> Self {
        Self { end, number, early: Bytes::new(), accepted: Bytes::new(), refused: Bytes::new() }
    }

    /// The destination cannot be reached, for this reason.
    pub(crate) fn refuse(mut self, why: TunnelError) {
        if self.refused.is_empty() {
            return self.end.reset(why);
        }
        let mut cx = Context::from_waker(Waker::noop());
        // The socket is new, so the few bytes of the answer fit its buffer.
        let _ = self.end.as_io().poll_write(&mut cx, &self.refused);
        let _ = self.end.as_io().poll_shutdown(&mut cx);
    }
}

/// Most slices given to one write.
const SLICES: usize = 64;

/// A small slice would keep the whole read buffer alive that it was cut from.
const COPY_BELOW: usize = 4096;

/// A local connection with what waits for it.
#[derive(Debug)]
pub(crate) struct Connection {
    end: LocalEnd,
    ready: Arc<ReadyWaker>,
    waker: Waker,
    number: u64,
    /// What the program sent before the connection was carried.
    early: Bytes,
    pending: VecDeque<Bytes>,
    pending_len: usize,
    /// How many of the last slices in `pending` may still be parts of a read buffer.
    attached: usize,
    pub(crate) input: Input,
    pub(crate) output: Output,
    sent: u64,
    received: u64,
    #[cfg(feature = "metrics")]
    life: Life,
}

/// The direction from the local program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Input {
    /// There may be more.
    Open,
    /// The program has ended it.
    Ended,
    /// The far side no longer wants any; what comes is thrown away until the program ends it.
    Discarded,
}

/// The direction to the local program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Output {
    Open,
    /// The far side has ended it; what waits is still written.
    Ending,
    /// The program was told.
    Ended,
    /// The session is over before the far side has ended; what waits is still written.
    Breaking,
    /// All is written. The connection has to be reset, because an end in order would hide that there is more.
    Broken,
}

/// What reading gave.
#[derive(Debug)]
pub(crate) enum Chunk {
    /// This many bytes.
    Data(usize),
    /// The program has ended its direction.
    End,
    /// Nothing yet; the connection will be woken.
    Nothing,
    /// The connection is broken.
    Broken(io::Error),
}

impl Connection {
    pub(crate) fn new(incoming: Incoming, shared: &Shared, key: u64) -> Self {
        let Incoming { end, number, early, accepted, .. } = incoming;
        let ready = shared.list.waker(key);
        let mut connection = Self {
            end,
            early,
            waker: Waker::from(Arc::clone(&ready)),
            ready,
            number,
            pending: VecDeque::new(),
            pending_len: 0,
            attached: 0,
            input: Input::Open,
            output: Output::Open,
            sent: 0,
            received: 0,
            #[cfg(feature = "metrics")]
            life: shared.meter.connection(),
        };
        if !accepted.is_empty() {
            connection.enqueue(accepted);
        }
        connection
    }

    /// The number in notices.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Bytes taken from and given to the local program.
    pub(crate) fn totals(&self) -> (u64, u64) {
        (self.sent, self.received)
    }

    /// Bytes that wait to be written.
    pub(crate) fn pending_len(&self) -> usize {
        self.pending_len
    }

    /// The connection was taken from the ready list.
    pub(crate) fn taken(&self) {
        self.ready.taken();
    }

    /// Puts the connection on the ready list.
    pub(crate) fn wake(&self) {
        self.waker.wake_by_ref();
    }

    /// Reads up to `max` bytes behind what `buf` holds.
    pub(crate) fn read(&mut self, buf: &mut MessageBuf, max: usize) -> Chunk {
        if !self.early.is_empty() {
            let part = self.early.split_to(max.min(self.early.len()));
            buf.put_slice(&part);
            self.add_sent(part.len());
            return Chunk::Data(part.len());
        }
        let mut cx = Context::from_waker(&self.waker);
        let mut room = buf.spare_mut().limit(max);
        match tokio_util::io::poll_read_buf(self.end.as_io(), &mut cx, &mut room) {
            Poll::Pending => Chunk::Nothing,
            Poll::Ready(Ok(0)) => Chunk::End,
            Poll::Ready(Ok(read)) => {
                self.add_sent(read);
                Chunk::Data(read)
            }
            Poll::Ready(Err(error)) => Chunk::Broken(error),
        }
    }

    fn add_sent(&mut self, len: usize) {
        self.sent += len as u64;
        #[cfg(feature = "metrics")]
        self.life.sent(len);
    }

    /// Puts received bytes behind those that wait.
    pub(crate) fn push(&mut self, data: Bytes) {
        self.received += data.len() as u64;
        #[cfg(feature = "metrics")]
        self.life.received(data.len());
        self.enqueue(data);
    }

    fn enqueue(&mut self, data: Bytes) {
        self.pending_len += data.len();
        self.pending.push_back(data);
        self.attached += 1;
    }

    /// Writes what waits, as far as the program takes it, and tells it of the end behind the last byte. Returns how many bytes
    /// it took.
    pub(crate) fn write_pending(&mut self) -> io::Result<usize> {
        let mut written = 0;
        while self.pending_len > 0 {
            match self.poll_write() {
                Poll::Pending => {
                    self.detach_small();
                    return Ok(written);
                }
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(taken)) => {
                    self.advance(taken);
                    written += taken;
                }
                Poll::Ready(Err(error)) => return Err(error),
            }
        }
        self.poll_end()?;
        Ok(written)
    }

    fn poll_write(&mut self) -> Poll<io::Result<usize>> {
        let mut cx = Context::from_waker(&self.waker);
        let mut slices = [IoSlice::new(&[]); SLICES];
        let mut count = 0;
        for (slice, bytes) in slices.iter_mut().zip(&self.pending) {
            *slice = IoSlice::new(bytes);
            count += 1;
        }
        self.end.as_io().poll_write_vectored(&mut cx, &slices[..count])
    }

    /// Flushes, and tells the program of the end once everything is written.
    fn poll_end(&mut self) -> io::Result<()> {
        let mut cx = Context::from_waker(&self.waker);
        let Poll::Ready(flushed) = self.end.as_io().poll_flush(&mut cx) else { return Ok(()) };
        flushed?;
        match self.output {
            Output::Ending if self.end.as_io().poll_shutdown(&mut cx).is_ready() => {
                self.output = Output::Ended
            }
            Output::Breaking => self.output = Output::Broken,
            _ => {}
        }
        Ok(())
    }

    /// The far side has ended: what waits is written, then the program is told, and what it still sends is thrown away.
    pub(crate) fn ending(&mut self) {
        if self.output == Output::Open {
            self.output = Output::Ending;
        }
    }

    /// The session is over: what waits is written, and then the program has to learn that there was more.
    pub(crate) fn breaking(&mut self) {
        if self.output == Output::Open {
            self.output = Output::Breaking;
        }
    }

    /// Reads and throws away, until the program ends its direction; true once it has.
    pub(crate) fn discard(&mut self) -> bool {
        let mut scratch = MessageBuf::with_capacity(COPY_BELOW);
        loop {
            scratch.truncate(0);
            match self.read(&mut scratch, COPY_BELOW) {
                Chunk::Data(_) => {}
                Chunk::Nothing => return false,
                Chunk::End | Chunk::Broken(_) => return true,
            }
        }
    }

    /// Closes so that the program sees a reset, not an end.
    pub(crate) fn reset(self, why: TunnelError) {
        self.end.reset(why);
    }

    fn advance(&mut self, mut taken: usize) {
        self.pending_len -= taken;
        while taken > 0
            && let Some(first) = self.pending.front_mut()
        {
            let part = taken.min(first.len());
            first.advance(part);
            taken -= part;
            if first.is_empty() {
                self.pending.pop_front();
            }
        }
    }

    /// Copies small slices that have to wait, so that their read buffers can be reused.
    fn detach_small(&mut self) {
        for bytes in self.pending.iter_mut().rev().take(self.attached) {
            if bytes.len() < COPY_BELOW {
                *bytes = Bytes::copy_from_slice(bytes);
            }
        }
        self.attached = 0;
    }
}

impl LocalEnd {
    /// Closes so that the program sees a reset, not an end; a program in this process sees why.
    fn reset(self, why: TunnelError) {
        match &self {
            // Without it the program would take a failure for an orderly end; if it fails there is nothing better to do.
            Self::Tcp(stream) => drop(stream.set_zero_linger()),
            Self::Pipe(end) => end.fail(why),
            Self::Other(_) => {}
        }
    }

    pub(crate) fn as_io(&mut self) -> Pin<&mut dyn Io> {
        match self {
            Self::Tcp(stream) => Pin::<&mut TcpStream>::new(stream),
            Self::Pipe(end) => Pin::<&mut PipeEnd>::new(end),
            Self::Other(stream) => stream.as_mut(),
        }
    }
}

impl fmt::Debug for LocalEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(stream) => stream.fmt(f),
            Self::Pipe(end) => end.fmt(f),
            Self::Other(_) => f.write_str("Other"),
        }
    }
}

/// Both directions of a local end.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send {}

impl<T: AsyncRead + AsyncWrite + Send> Io for T {}
