//! The sockets of other processes.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::places;

use super::{Answer, Request, SUFFIX, Tunnel, is_own};

/// Longest answer.
const ANSWER_MAX: u64 = 1024 * 1024;

/// How long an answer may take.
const STATUS_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a tunnel may take to end: its sessions and its command have 2 s each, and a call to the service 5 s.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);

/// A tunnel that somebody started.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub(crate) id: String,
    path: PathBuf,
}

/// Why a tunnel did not answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PeerError {
    /// There is no process behind the entry, which was cleaned up.
    #[error("it is over")]
    Gone,
    /// It is there and says nothing.
    #[error("it does not answer: {0}")]
    Silent(io::Error),
    /// Another user is behind it.
    #[error("somebody else answers for it")]
    Foreign,
    /// It says something else.
    #[error("its answer cannot be read; it may be of another version")]
    Unreadable,
}

/// All that have an entry, in the order of their ids.
///
/// # Errors
///
/// When the folder of entries cannot be read.
pub(crate) fn peers() -> io::Result<Vec<Peer>> {
    let mut peers = Vec::new();
    for entry in fs::read_dir(places::runtime_folder()?)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        if let Some(id) = name.and_then(|name| name.strip_suffix(SUFFIX)) {
            peers.push(Peer { id: id.to_owned(), path });
        }
    }
    peers.sort_by(|one, other| (one.id.len(), &one.id).cmp(&(other.id.len(), &other.id)));
    Ok(peers)
}

/// Removes the entries that have no process any more.
pub(super) async fn sweep() {
    for peer in peers().unwrap_or_default() {
        let _ = tokio::time::timeout(STATUS_TIMEOUT, peer.connect()).await;
    }
}

impl Peer {
    /// How it is.
    ///
    /// # Errors
    ///
    /// When it does not say.
    pub(crate) async fn status(&self) -> Result<Tunnel, PeerError> {
        match self.ask(Request::Status, STATUS_TIMEOUT).await? {
            Some(Answer::Status(tunnel)) => Ok(tunnel),
            _ => Err(PeerError::Unreadable),
        }
    }

    /// Ends it, and waits until its process is gone.
    ///
    /// # Errors
    ///
    /// When it was over before, or does not end.
    pub(crate) async fn stop(&self) -> Result<(), PeerError> {
        match self.ask(Request::Stop, STOP_TIMEOUT).await? {
            // Without an answer it has ended for a reason of its own.
            Some(Answer::Stopped) | None => Ok(()),
            Some(_) => Err(PeerError::Unreadable),
        }
    }

    /// Connects, or removes what is left of it.
    async fn connect(&self) -> Result<UnixStream, PeerError> {
        match UnixStream::connect(&self.path).await {
            Err(error) if is_gone(&error) => {
                let _ = fs::remove_file(&self.path);
                Err(PeerError::Gone)
            }
            Ok(stream) if is_own(&stream) => Ok(stream),
            Ok(_) => Err(PeerError::Foreign),
            Err(error) => Err(PeerError::Silent(error)),
        }
    }

    /// Asks, and waits until the other side closes the connection.
    async fn ask(&self, request: Request, timeout: Duration) -> Result<Option<Answer>, PeerError> {
        let talk = async {
            let mut stream = self.connect().await?;
            let line = serde_json::to_string(&request).expect("a question is a word");
            stream.write_all(format!("{line}\n").as_bytes()).await.map_err(PeerError::Silent)?;
            let mut answer = Vec::new();
            stream.take(ANSWER_MAX).read_to_end(&mut answer).await.map_err(PeerError::Silent)?;
            if answer.is_empty() {
                return Ok(None);
            }
            serde_json::from_slice(&answer).map(Some).map_err(|_| PeerError::Unreadable)
        };
        match tokio::time::timeout(timeout, talk).await {
            Ok(answer) => answer,
            Err(_elapsed) => Err(PeerError::Silent(io::ErrorKind::TimedOut.into())),
        }
    }
}

/// Whether nobody is behind a socket.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound)
}
