//! Output of many machines, line by line.

use std::io::{self, Write};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};
use std::thread;

use serde_json::json;
use tokio::io::AsyncWrite;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::output::Json;

/// Longest line that is kept together.
const LINE_MAX: usize = 64 * 1024;

/// Output that is made into lines at once, and blocks of them that may wait.
const PART_MAX: usize = 4096;
const BLOCKS_MAX: usize = 16;

/// How lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// As they are, behind the name of their machine.
    Prefixed,
    Json,
}

/// Which output a line is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    Output,
    Error,
}

/// What became of the command on a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    Exit(u8),
    Failed(String),
}

/// Writes lines one after the other, by a thread of its own: a reader that stands still holds up those who have lines for it, and
/// neither sessions nor signals.
#[derive(Debug, Clone)]
pub(super) struct Printer {
    blocks: mpsc::UnboundedSender<Block>,
    /// Room for blocks that wait. Closed when nothing can be written any more.
    room: Arc<Semaphore>,
    failed: Arc<OnceLock<io::ErrorKind>>,
}

#[derive(Debug)]
struct Block {
    stream: Stream,
    text: Vec<u8>,
    /// Given back when it is written.
    _room: Option<OwnedSemaphorePermit>,
}

/// Ends when every printer is dropped and all is written.
pub(super) type Printed = oneshot::Receiver<()>;

impl Printer {
    /// `form` says where errors go: JSON is one stream.
    pub(super) fn start(form: Form) -> io::Result<(Self, Printed)> {
        let (blocks, mut waiting) = mpsc::unbounded_channel::<Block>();
        let (printing, printed) = oneshot::channel();
        let printer = Self { blocks, room: Arc::new(Semaphore::new(BLOCKS_MAX)), failed: Arc::default() };
        let (room, failed) = (Arc::clone(&printer.room), Arc::clone(&printer.failed));
        let print = move || {
            while let Some(Block { stream, text, .. }) = waiting.blocking_recv() {
                let written = match (form, stream) {
                    (Form::Prefixed, Stream::Error) => io::stderr().lock().write_all(&text),
                    _ => io::stdout().lock().write_all(&text).and_then(|()| io::stdout().lock().flush()),
                };
                if let Err(error) = written {
                    let _ = failed.set(error.kind());
                    break;
                }
            }
            room.close();
            drop(printing);
        };
        thread::Builder::new().name("printer".into()).spawn(print)?;
        Ok((printer, printed))
    }

    /// Takes a block whether there is room or not. What cannot be written is lost, with its reader.
    fn print(&self, stream: Stream, text: Vec<u8>, room: Option<OwnedSemaphorePermit>) {
        let _ = self.blocks.send(Block { stream, text, _room: room });
    }

    /// Writes what became of a machine's command, where lines are JSON.
    pub(super) fn tell(&self, target: &str, outcome: &Outcome) {
        let line = match outcome {
            Outcome::Exit(code) => json!({ "target": target, "exit_code": code }),
            Outcome::Failed(error) => json!({ "target": target, "exit_code": null, "error": error }),
        };
        self.print(Stream::Output, format!("{}\n", Json(line)).into_bytes(), None);
    }

    fn error(&self) -> io::Error {
        self.failed.get().copied().unwrap_or(io::ErrorKind::BrokenPipe).into()
    }

    /// Why nothing more can be written, once that is so.
    pub(super) fn failure(&self) -> Arc<OnceLock<io::ErrorKind>> {
        Arc::clone(&self.failed)
    }
}

/// One output of one machine in whole lines.
#[derive(Debug, Clone)]
pub(super) struct Lines {
    target: Arc<str>,
    stream: Stream,
    form: Form,
    /// The line that has no end yet.
    line: Arc<Mutex<Vec<u8>>>,
    printer: Printer,
}

impl Lines {
    pub(super) fn new(target: &Arc<str>, stream: Stream, form: Form, printer: &Printer) -> Self {
        Self { target: Arc::clone(target), stream, form, line: Arc::default(), printer: printer.clone() }
    }

    /// Something to write to.
    pub(super) fn writer(&self) -> LineWriter {
        LineWriter { lines: self.clone(), waiting: None }
    }

    /// Writes all of it.
    #[cfg(feature = "aws")]
    pub(super) async fn write(&self, bytes: &[u8]) {
        for part in bytes.chunks(PART_MAX) {
            let Ok(room) = Arc::clone(&self.printer.room).acquire_owned().await else { return };
            self.take(part, room);
        }
        self.finish();
    }

    /// Writes the line that has no end.
    pub(super) fn finish(&self) {
        let line = std::mem::take(&mut *self.line());
        if !line.is_empty() {
            self.printer.print(self.stream, self.formatted(&line), None);
        }
    }

    /// Takes output in, and hands over the lines that are whole.
    fn take(&self, bytes: &[u8], room: OwnedSemaphorePermit) {
        let mut line = self.line();
        let mut block = Vec::new();
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            line.extend_from_slice(part);
            if part.ends_with(b"\n") || line.len() >= LINE_MAX {
                block.extend(self.formatted(&line));
                line.clear();
            }
        }
        if !block.is_empty() {
            self.printer.print(self.stream, block, Some(room));
        }
    }

    fn formatted(&self, line: &[u8]) -> Vec<u8> {
        formatted(&self.target, self.stream, self.form, line.strip_suffix(b"\n").unwrap_or(line))
    }

    fn line(&self) -> MutexGuard<'_, Vec<u8>> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Room = Pin<Box<dyn Future<Output = Result<OwnedSemaphorePermit, AcquireError>> + Send>>;

/// Writes to [`Lines`].
pub(super) struct LineWriter {
    lines: Lines,
    /// For room.
    waiting: Option<Room>,
}

impl AsyncWrite for LineWriter {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let room = Arc::clone(&self.lines.printer.room);
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(room.acquire_owned()));
        let room = ready!(waiting.as_mut().poll(cx));
        self.waiting = None;
        let room = room.map_err(|_closed| self.lines.printer.error())?;
        let bytes = &bytes[..bytes.len().min(PART_MAX)];
        self.lines.take(bytes, room);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn formatted(target: &str, stream: Stream, form: Form, line: &[u8]) -> Vec<u8> {
    match form {
        Form::Prefixed => [target.as_bytes(), b": ", line, b"\n"].concat(),
        Form::Json => {
            let stream = match stream {
                Stream::Output => "stdout",
                Stream::Error => "stderr",
            };
            let line = String::from_utf8_lossy(line);
            format!("{}\n", Json(json!({ "target": target, "stream": stream, "line": line }))).into_bytes()
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    #[test]
    fn a_line_begins_with_its_machine() {
        assert_eq!(formatted("web-1", Stream::Output, Form::Prefixed, b"a\xff"), b"web-1: a\xff\n");
    }

    #[tokio::test]
    async fn output_waits_for_room_and_not_for_ever_behind_a_reader_that_is_gone() {
        let (blocks, mut waiting) = mpsc::unbounded_channel();
        let printer = Printer { blocks, room: Arc::new(Semaphore::new(1)), failed: Arc::default() };
        let lines = Lines::new(&"x".into(), Stream::Output, Form::Prefixed, &printer);
        let mut writer = lines.writer();
        assert_eq!(writer.write(b"a\nb").await.unwrap(), 3);
        assert!(waits(&mut writer).await, "one block waits");
        lines.finish();
        assert_eq!(waiting.recv().await.unwrap().text, b"x: a\n");
        assert_eq!(writer.write(b"c\n").await.unwrap(), 2, "and there is room again");
        let _ = printer.failed.set(io::ErrorKind::BrokenPipe);
        printer.room.close();
        assert_eq!(writer.write(b"d\n").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        let rest: Vec<_> = [waiting.recv().await.unwrap().text, waiting.recv().await.unwrap().text].concat();
        assert_eq!(rest, b"x: b\nx: c\n");
    }

    /// Whether a write waits.
    async fn waits(writer: &mut LineWriter) -> bool {
        std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut *writer).poll_write(cx, b"c\n").is_pending()))
            .await
    }

    #[test]
    fn json_is_one_line_of_text() {
        let line = formatted("web-1", Stream::Error, Form::Json, b"a\xff\"");
        let line = String::from_utf8(line).unwrap();
        assert_eq!(line, "{\"line\":\"a\u{fffd}\\\"\",\"stream\":\"stderr\",\"target\":\"web-1\"}\n");
    }
}
