//! A network of its own: an authority, a server behind TLS, and proxies in front of it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::StreamExt;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};

/// An authority that no system knows.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    dir: tempfile::TempDir,
}

impl Authority {
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let mut params = CertificateParams::default();
        let name = format!("authority {}", NUMBER.fetch_add(1, Ordering::Relaxed));
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { issuer, dir }
    }

    /// A file with its certificate.
    pub(crate) fn bundle(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    fn acceptor(&self, name: &str) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// A server that answers this to whatever comes, and hangs up.
pub(crate) async fn answering(answer: Vec<u8>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            // Read before it is closed: a close with something unread is a reset.
            let _ = stream.read(&mut [0; 4096]).await;
            stream.write_all(&answer).await.unwrap();
        }
    });
    address
}

/// What a client did first.
pub(crate) struct Opened {
    /// Its `Host` header.
    pub(crate) host: String,
    pub(crate) first_frame: String,
}

/// A WebSocket server behind TLS that tells how it is opened.
pub(crate) struct StreamServer {
    address: SocketAddr,
    opened: mpsc::UnboundedReceiver<Opened>,
}

impl StreamServer {
    /// One whose certificate is for `name`.
    pub(crate) async fn start(authority: &Authority, name: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, acceptor) = (listener.local_addr().unwrap(), authority.acceptor(name));
        let (sender, opened) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, sender) = (acceptor.clone(), sender.clone());
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        serve(stream, sender).await;
                    }
                });
            }
        });
        Self { address, opened }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next client that has sent something.
    pub(crate) async fn opened(&mut self) -> Opened {
        self.opened.recv().await.unwrap()
    }

    pub(crate) fn is_untouched(&self) -> bool {
        self.opened.is_empty()
    }
}

#[expect(clippy::result_large_err, reason = "the type of the handshake's callback")]
async fn serve<S: AsyncRead + AsyncWrite + Unpin>(stream: S, sender: mpsc::UnboundedSender<Opened>) {
    let mut host = String::new();
    let note = |request: &Request, response: Response| -> Result<Response, ErrorResponse> {
        host = request.headers()["host"].to_str().unwrap().to_owned();
        Ok(response)
    };
    let mut socket = tokio_tungstenite::accept_hdr_async(stream, note).await.unwrap();
    let Some(Ok(first)) = socket.next().await else { return };
    let _ = sender.send(Opened { host, first_frame: first.into_text().unwrap().to_string() });
    while let Some(Ok(_)) = socket.next().await {}
}

/// A proxy that takes CONNECT and leads everybody to one place.
pub(crate) struct HttpProxy {
    scheme: &'static str,
    address: SocketAddr,
    destinations: Arc<Mutex<Vec<String>>>,
}

impl HttpProxy {
    /// One that wants `authorization`, and has TLS of its own with a certificate of `authority`.
    pub(crate) async fn start(
        to: SocketAddr,
        authorization: Option<&'static str>,
        authority: Option<&Authority>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let acceptor = authority.map(|authority| authority.acceptor("127.0.0.1"));
        let proxy = Self {
            scheme: if acceptor.is_some() { "https" } else { "http" },
            address: listener.local_addr().unwrap(),
            destinations: Arc::default(),
        };
        let destinations = Arc::clone(&proxy.destinations);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, destinations) = (acceptor.clone(), Arc::clone(&destinations));
                tokio::spawn(async move {
                    match acceptor {
                        Some(acceptor) => {
                            let stream = acceptor.accept(stream).await.unwrap();
                            connect(stream, to, authorization, &destinations).await;
                        }
                        None => connect(stream, to, authorization, &destinations).await,
                    }
                });
            }
        });
        proxy
    }

    /// One that answers this to everything, and hangs up.
    pub(crate) async fn refusing(answer: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                head(&mut stream).await;
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        Self { scheme: "http", address, destinations: Arc::default() }
    }

    /// Its URL, with `login` in front of the host.
    pub(crate) fn url(&self, login: &str) -> String {
        format!("{}://{login}{}", self.scheme, self.address)
    }

    /// Where it was asked to lead.
    pub(crate) fn destinations(&self) -> Vec<String> {
        self.destinations.lock().unwrap().clone()
    }
}

async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    to: SocketAddr,
    authorization: Option<&str>,
    destinations: &Mutex<Vec<String>>,
) {
    let head = head(&mut stream).await;
    let mut words = head.split_whitespace();
    assert_eq!(words.next(), Some("CONNECT"), "{head}");
    let destination = words.next().unwrap().to_owned();
    let given = head.lines().find_map(|line| line.strip_prefix("Proxy-Authorization: "));
    if authorization.is_some() && given != authorization {
        let answer = b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n";
        stream.write_all(answer).await.unwrap();
        return;
    }
    destinations.lock().unwrap().push(destination);
    stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.unwrap();
    let mut target = TcpStream::connect(to).await.unwrap();
    let _ = copy_bidirectional(&mut stream, &mut target).await;
}

async fn head<S: AsyncRead + Unpin>(stream: &mut S) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

/// A SOCKS5 proxy that leads everybody to one place.
pub(crate) struct SocksProxy {
    address: SocketAddr,
    destinations: Arc<Mutex<Vec<String>>>,
}

impl SocksProxy {
    /// One that wants `login`, and answers requests with `reply`.
    pub(crate) async fn start(
        to: SocketAddr,
        login: Option<(&'static str, &'static str)>,
        reply: u8,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Self { address: listener.local_addr().unwrap(), destinations: Arc::default() };
        let destinations = Arc::clone(&proxy.destinations);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let destinations = Arc::clone(&destinations);
                tokio::spawn(async move { socks(stream, to, login, reply, &destinations).await });
            }
        });
        proxy
    }

    pub(crate) fn url(&self, scheme: &str, login: &str) -> String {
        format!("{scheme}://{login}{}", self.address)
    }

    pub(crate) fn destinations(&self) -> Vec<String> {
        self.destinations.lock().unwrap().clone()
    }
}

async fn socks(
    mut stream: TcpStream,
    to: SocketAddr,
    login: Option<(&str, &str)>,
    reply: u8,
    destinations: &Mutex<Vec<String>>,
) {
    assert_eq!(stream.read_u8().await.unwrap(), 5);
    let methods = field(&mut stream).await;
    let method = if login.is_some() { 2 } else { 0 };
    if !methods.contains(&method) {
        stream.write_all(&[5, 0xff]).await.unwrap();
        return;
    }
    stream.write_all(&[5, method]).await.unwrap();
    if let Some((user, password)) = login {
        assert_eq!(stream.read_u8().await.unwrap(), 1);
        let given = (field(&mut stream).await, field(&mut stream).await);
        let known = given == (user.into(), password.into());
        stream.write_all(&[1, u8::from(!known)]).await.unwrap();
        if !known {
            return;
        }
    }
    let mut request = [0; 4];
    stream.read_exact(&mut request).await.unwrap();
    assert_eq!(request, [5, 1, 0, 3], "a name");
    let name = String::from_utf8(field(&mut stream).await).unwrap();
    let port = stream.read_u16().await.unwrap();
    destinations.lock().unwrap().push(format!("{name}:{port}"));
    stream.write_all(&[5, reply, 0, 3, 2, b'h', b'i', 0, 80]).await.unwrap();
    if reply == 0 {
        let mut target = TcpStream::connect(to).await.unwrap();
        let _ = copy_bidirectional(&mut stream, &mut target).await;
    }
}

async fn field(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = vec![0; stream.read_u8().await.unwrap().into()];
    stream.read_exact(&mut bytes).await.unwrap();
    bytes
}
