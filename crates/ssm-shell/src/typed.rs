//! What is typed on a terminal: read ahead of what can be sent, so that an escape is found while the connection is lost or hangs.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use ssm_session::MessageBuf;
use tokio::io::{AsyncRead, ReadBuf};

use crate::escape::{Escape, Escapes};

/// What is typed may wait up to here for its turn; above it, nothing is read and no escape found.
const WAITING_MAX: usize = 256 * 1024;

/// Bytes read at once: what a terminal holds.
const READ_LEN: usize = 4096;

/// What was typed and is not sent, without the escapes.
pub(crate) struct Typed {
    escapes: Escapes,
    read: Box<[u8; READ_LEN]>,
    /// The part of `read` in which escapes are still to be looked for.
    unread: std::ops::Range<usize>,
    waiting: BytesMut,
    over: Option<io::Result<()>>,
}

impl Typed {
    pub(crate) fn new(escapes: Escapes) -> Self {
        Self { escapes, read: Box::new([0; READ_LEN]), unread: 0..0, waiting: BytesMut::new(), over: None }
    }

    /// Reads what there is. Ready with the next escape; pending when there is none yet, or no room.
    pub(crate) fn poll_escape(
        &mut self,
        cx: &mut Context<'_>,
        input: &mut (dyn AsyncRead + Send + Unpin),
    ) -> Poll<Escape> {
        loop {
            let mut unread = &self.read[self.unread.clone()];
            let escape = self.escapes.take(&mut unread, &mut self.waiting);
            self.unread.start = self.unread.end - unread.len();
            if let Some(escape) = escape {
                return Poll::Ready(escape);
            }
            if self.over.is_some() || self.is_full() {
                return Poll::Pending;
            }
            let mut buf = ReadBuf::new(&mut self.read[..]);
            match Pin::new(&mut *input).poll_read(cx, &mut buf) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => self.over = Some(Err(error)),
                Poll::Ready(Ok(())) => match buf.filled().len() {
                    0 => self.over = Some(Ok(())),
                    len => self.unread = 0..len,
                },
            }
        }
    }

    /// Whether there is no room for more, and [`poll_escape`](Self::poll_escape) wakes nobody.
    pub(crate) fn is_full(&self) -> bool {
        self.waiting.len() >= WAITING_MAX
    }

    /// Whether nothing more will be typed, and nothing waits.
    pub(crate) fn is_over(&self) -> bool {
        self.over.is_some() && self.waiting.is_empty()
    }

    /// Bytes that wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Moves what fits into a message.
    pub(crate) fn fill(&mut self, buf: &mut MessageBuf) {
        let len = self.waiting.len().min(buf.spare_len());
        buf.put_slice(&self.waiting[..len]);
        self.waiting.advance(len);
        if self.waiting.is_empty() {
            // A paste must not keep its memory for the rest of the session.
            self.waiting = BytesMut::new();
        }
    }

    /// How the input ended, once everything in front of its end was taken.
    pub(crate) fn take_end(&mut self) -> Option<io::Result<()>> {
        if self.waiting.is_empty() { self.over.take() } else { None }
    }
}

impl fmt::Debug for Typed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Typed").field("waiting", &self.waiting.len()).finish_non_exhaustive()
    }
}
