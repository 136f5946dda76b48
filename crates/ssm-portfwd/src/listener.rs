//! Local addresses to listen on.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket};
#[cfg(unix)]
use tokio::net::{UnixListener, UnixSocket, UnixStream};
use tokio::time::Sleep;

use crate::connection::LocalEnd;
use crate::{ForwardError, ListenAddr};

/// Connections the system keeps for us until they are taken.
const BACKLOG: u32 = 1024;

/// How long nothing is taken after an error.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Attempts to find a port that is free on both loopback addresses.
const PAIR_ATTEMPTS: usize = 16;

/// Local addresses that are taken but, where the system allows it, do not listen yet.
///
/// Taking them before a session is started makes a port that is in use an early error; listening only afterwards makes a
/// connection fail at once, and not hang, while there is no session.
#[derive(Debug)]
pub(crate) struct Bound {
    sockets: Vec<Socket>,
    addresses: Vec<LocalAddr>,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpSocket),
    #[cfg(unix)]
    Unix(UnixListener, SocketFile),
}

/// An address that is listened on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LocalAddr {
    /// A TCP address, with the port the system chose where 0 was asked for.
    Tcp(SocketAddr),
    /// The path of a UNIX socket.
    Unix(PathBuf),
}

/// Removes the file of a UNIX socket when dropped, unless somebody has put another one there.
#[cfg(unix)]
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    id: Option<FileId>,
}

/// Device and inode.
#[cfg(unix)]
type FileId = (u64, u64);

/// What listens.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: Listening,
    /// Until when nothing is taken after an error.
    pause: Option<Pin<Box<Sleep>>>,
}

#[derive(Debug)]
enum Listening {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(UnixListener, SocketFile),
}

impl Bound {
    /// Takes the addresses of `listen`.
    pub(crate) fn new(listen: &ListenAddr) -> Result<Self, ForwardError> {
        let bound = match listen {
            ListenAddr::Loopback { port } => bind_loopback(*port),
            ListenAddr::Address(address) => bind(*address).and_then(|socket| Self::tcp(vec![socket])),
            ListenAddr::Unix(path) => bind_unix(path),
        };
        bound.map_err(|source| ForwardError::Bind { listen: listen.clone(), source })
    }

    pub(crate) fn addresses(&self) -> &[LocalAddr] {
        &self.addresses
    }

    /// Begins to listen.
    pub(crate) fn listen(self) -> io::Result<Vec<Listener>> {
        let listen = |socket| match socket {
            Socket::Tcp(socket) => socket.listen(BACKLOG).map(Listening::Tcp),
            #[cfg(unix)]
            Socket::Unix(listener, file) => Ok(Listening::Unix(listener, file)),
        };
        let sockets = self.sockets.into_iter();
        sockets.map(|socket| Ok(Listener { socket: listen(socket)?, pause: None })).collect()
    }

    fn tcp(sockets: Vec<TcpSocket>) -> io::Result<Self> {
        let addresses = sockets
            .iter()
            .map(|socket| socket.local_addr().map(LocalAddr::Tcp))
            .collect::<io::Result<_>>()?;
        Ok(Self { sockets: sockets.into_iter().map(Socket::Tcp).collect(), addresses })
    }
}

impl Listener {
    /// The next connection, and who connected.
    ///
    /// An error, of a connection that was gone before it was taken or of a limit of the system, does not end a listener. Where
    /// the limit is on open files the connection stays in the queue, so it is left there for a while.
    pub(crate) fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<(LocalEnd, Option<SocketAddr>)> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(cx));
            self.pause = None;
        }
        match ready!(self.socket.poll_accept(cx)) {
            Ok(accepted) => Poll::Ready(accepted),
            Err(error) => {
                tracing::warn!(%error, "a connection was not taken");
                let pause = self.pause.insert(Box::pin(tokio::time::sleep(ACCEPT_PAUSE)));
                ready!(pause.as_mut().poll(cx));
                Poll::Pending
            }
        }
    }
}

impl Listening {
    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(LocalEnd, Option<SocketAddr>)>> {
        match self {
            Self::Tcp(listener) => listener.poll_accept(cx).map_ok(|(stream, peer)| {
                // It fails when the connection is gone already, which reading it will show.
                let _ = stream.set_nodelay(true);
                (LocalEnd::Tcp(stream), Some(peer))
            }),
            #[cfg(unix)]
            Self::Unix(listener, _file) => listener.poll_accept(cx).map_ok(|(stream, _peer)| {
                let stream: UnixStream = stream;
                (LocalEnd::Other(Box::pin(stream)), None)
            }),
        }
    }
}

impl LocalAddr {
    /// The address, if it is a TCP address.
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }
}

#[cfg(unix)]
impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.id == file_id(&self.path) {
            // It may be gone already, and there is nobody to tell.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl std::fmt::Display for LocalAddr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // On Windows this would let others listen on the same port.
    #[cfg(not(windows))]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// Both loopback addresses on the same port, or only IPv4's where there is no IPv6.
fn bind_loopback(port: u16) -> io::Result<Bound> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        let v4 = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
        let chosen = v4.local_addr()?.port();
        match bind(SocketAddr::from((Ipv6Addr::LOCALHOST, chosen))) {
            Ok(v6) => return Bound::tcp(vec![v4, v6]),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                if port != 0 || attempt == PAIR_ATTEMPTS {
                    return Err(error);
                }
            }
            Err(_no_ipv6) => return Bound::tcp(vec![v4]),
        }
    }
}

/// A socket for this user alone. What an earlier run left behind at the path is replaced; anything else is not touched.
#[cfg(unix)]
fn bind_unix(path: &Path) -> io::Result<Bound> {
    use std::fs::{File, Permissions};
    use std::os::fd::AsFd as _;
    use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};

    let private = || Permissions::from_mode(0o600);
    if std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket())
        && std::os::unix::net::UnixStream::connect(path)
            .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    {
        std::fs::remove_file(path)?;
    }
    let socket = UnixSocket::new_stream()?;
    // Linux makes the file with the mode that the socket has (`unix_bind_bsd`), so it is never open to others.
    let _ = File::from(socket.as_fd().try_clone_to_owned()?).set_permissions(private());
    socket.bind(path)?;
    let file = SocketFile { path: path.to_owned(), id: file_id(path) };
    // Elsewhere it is closed before anybody can connect.
    std::fs::set_permissions(path, private())?;
    let listener = socket.listen(BACKLOG)?;
    Ok(Bound {
        sockets: vec![Socket::Unix(listener, file)],
        addresses: vec![LocalAddr::Unix(path.to_owned())],
    })
}

#[cfg(unix)]
fn file_id(path: &Path) -> Option<FileId> {
    use std::os::unix::fs::MetadataExt as _;
    let metadata = std::fs::symlink_metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

#[cfg(not(unix))]
fn bind_unix(_path: &Path) -> io::Result<Bound> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "UNIX sockets are not available here"))
}
