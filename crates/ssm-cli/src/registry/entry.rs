//! The socket of this process.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::places;

use super::{Answer, Request, SUFFIX, Tunnel, is_own, peer};

/// Questions answered at a time.
const CLIENTS_MAX: usize = 16;

/// Longest question.
const REQUEST_MAX: u64 = 256;

/// How long a question may take to arrive, and an answer to be taken.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long nothing is taken after an error.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Names tried: a process with the same number may run in another container.
const NAMES_MAX: usize = 16;

/// The entry of this process. Its socket is gone when it is dropped.
#[derive(Debug)]
pub(crate) struct Entry {
    id: String,
    path: PathBuf,
    stop: watch::Receiver<bool>,
    ended: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// What every answer needs.
struct Shared {
    id: String,
    status: Box<dyn Fn(&str) -> Tunnel + Send + Sync>,
    stop: watch::Sender<bool>,
    ended: watch::Receiver<bool>,
}

impl Entry {
    /// Makes the socket, and begins to remove those that were left behind. `status` is given the id and says how things are.
    ///
    /// # Errors
    ///
    /// When there is no folder for it or the socket cannot be made.
    pub(crate) fn open(status: impl Fn(&str) -> Tunnel + Send + Sync + 'static) -> io::Result<Self> {
        let (id, path, listener) = listen(&places::runtime_folder()?)?;
        let (stop, stopped) = watch::channel(false);
        let (ended, end) = watch::channel(false);
        let shared = Shared { id: id.clone(), status: Box::new(status), stop, ended: end };
        let task = tokio::spawn(serve(listener, Arc::new(shared)));
        tokio::spawn(peer::sweep());
        Ok(Self { id, path, stop: stopped, ended, task })
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Waits until somebody wants the tunnel to end; for ever without an entry. Cancel safe.
    pub(crate) async fn asked_to_stop(entry: &mut Option<Self>) {
        let asked = match entry {
            Some(entry) => is_set(&mut entry.stop).await,
            None => false,
        };
        if !asked {
            std::future::pending().await
        }
    }

    /// Tells those who wanted the end that it is reached.
    pub(crate) async fn close(mut self) {
        self.ended.send_replace(true);
        let _ = tokio::time::timeout(CLIENT_TIMEOUT, &mut self.task).await;
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.task.abort();
        // It may be gone already, and there is nobody to tell.
        let _ = fs::remove_file(&self.path);
    }
}

/// Makes a socket under a name that is free. It gets the name when it listens: one that refuses is taken for left over.
fn listen(folder: &Path) -> io::Result<(String, PathBuf, UnixListener)> {
    let process = std::process::id();
    for number in 0..NAMES_MAX {
        let id = if number == 0 { process.to_string() } else { format!("{process}-{number}") };
        let path = folder.join(format!("{id}{SUFFIX}"));
        if std::os::unix::net::UnixStream::connect(&path).is_ok() {
            continue;
        }
        let new = folder.join(format!(".{id}.new"));
        let _ = fs::remove_file(&new);
        let listener = UnixListener::bind(&new)?;
        fs::set_permissions(&new, fs::Permissions::from_mode(0o600))?;
        fs::rename(&new, &path)?;
        return Ok((id, path, listener));
    }
    Err(io::ErrorKind::AddrInUse.into())
}

async fn serve(listener: UnixListener, shared: Arc<Shared>) {
    let mut ended = shared.ended.clone();
    let mut clients = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if clients.len() < CLIENTS_MAX => match accepted {
                Ok((stream, _)) => drop(clients.spawn(answer(stream, Arc::clone(&shared)))),
                Err(error) => {
                    tracing::debug!(%error, "a question was not taken");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_answered) = clients.join_next() => {}
            _ = is_set(&mut ended) => break,
        }
    }
    clients.join_all().await;
}

async fn answer(mut stream: UnixStream, shared: Arc<Shared>) {
    if !is_own(&stream) {
        tracing::warn!("somebody else asked, and got no answer");
        return;
    }
    let Ok(Ok(request)) = tokio::time::timeout(CLIENT_TIMEOUT, request(&mut stream)).await else { return };
    let answer = match request {
        Some(Request::Status) => Answer::Status((shared.status)(&shared.id)),
        Some(Request::Stop) => {
            tracing::info!("asked to stop");
            shared.stop.send_replace(true);
            // An error means that the entry is gone, which is the end as well.
            is_set(&mut shared.ended.clone()).await;
            Answer::Stopped
        }
        None => Answer::Unknown,
    };
    let mut line = serde_json::to_string(&answer).expect("an answer has only text for keys");
    line.push('\n');
    let _ = tokio::time::timeout(CLIENT_TIMEOUT, stream.write_all(line.as_bytes())).await;
    if answer == Answer::Stopped {
        // The system closes it when this process is gone, which is what the other side waits for.
        std::mem::forget(stream);
    }
}

/// Waits until a flag is set; false when nobody can set it any more. Cancel safe.
async fn is_set(flag: &mut watch::Receiver<bool>) -> bool {
    flag.wait_for(|set| *set).await.is_ok()
}

async fn request(stream: &mut UnixStream) -> io::Result<Option<Request>> {
    let mut line = Vec::new();
    BufReader::new(stream.take(REQUEST_MAX)).read_until(b'\n', &mut line).await?;
    Ok(serde_json::from_slice(&line).ok())
}
