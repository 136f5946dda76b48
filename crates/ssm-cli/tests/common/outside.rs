//! What lies between a client and AWS, in front of a loopback: TLS, lines and proxies, all of which can be gone.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// A certificate for these names; the one of its authority goes to a file.
pub(crate) fn acceptor(names: &[&str], authority: &Path) -> TlsAcceptor {
    TlsAcceptor::from(certified(&certificate(names), "an authority", authority))
}

/// What a certificate for these names says.
pub(crate) fn certificate(names: &[&str]) -> CertificateParams {
    CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap()
}

/// A server with this certificate, by an authority of this name, whose own certificate goes to a file.
pub(crate) fn certified(certificate: &CertificateParams, name: &str, authority: &Path) -> Arc<ServerConfig> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    std::fs::write(authority, issuer.pem()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = certificate.signed_by(&key, &issuer).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    Arc::new(config.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key).unwrap())
}

/// Carries what comes with TLS to a port of this machine. All lines end without a word when `cut` says so.
pub(crate) async fn relay(listener: TcpListener, acceptor: TlsAcceptor, to: u16, cut: Arc<Notify>) {
    let mut lines = JoinSet::new();
    loop {
        tokio::select! {
            () = cut.notified() => lines.shutdown().await,
            Ok((stream, _)) = listener.accept() => drop(lines.spawn(carry(acceptor.clone(), stream, to))),
        }
        while lines.try_join_next().is_some() {}
    }
}

async fn carry(acceptor: TlsAcceptor, stream: TcpStream, to: u16) {
    let Ok(mut stream) = acceptor.accept(stream).await else { return };
    let Ok(mut to) = TcpStream::connect(("127.0.0.1", to)).await else { return };
    let _ = copy_bidirectional(&mut stream, &mut to).await;
}

/// TLS for these names on a port of this machine, until it is dropped.
pub(crate) struct Secure {
    pub(crate) port: u16,
    _runtime: Runtime,
}

impl Secure {
    pub(crate) fn start(names: &[&str], authority: &Path, to: u16) -> Self {
        let (runtime, acceptor) = (runtime(), acceptor(names, authority));
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let port = listener.local_addr().unwrap().port();
        runtime.spawn(relay(listener, acceptor, to, Arc::default()));
        Self { port, _runtime: runtime }
    }
}

/// What a proxy speaks.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Manner {
    Connect,
    Socks,
}

/// A proxy that leads everybody to one place, while it is there.
pub(crate) struct Proxy {
    manner: Manner,
    port: u16,
    /// Keeps the port from others while the proxy is away. It does not listen.
    _place: TcpSocket,
    there: Option<Runtime>,
}

impl Proxy {
    /// One that is not there yet.
    pub(crate) fn new(manner: Manner) -> Self {
        let place = TcpSocket::new_v4().unwrap();
        place.set_reuseaddr(true).unwrap();
        place.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let port = place.local_addr().unwrap().port();
        Self { manner, port, _place: place, there: None }
    }

    /// Its URL, with `login` in front of the host.
    pub(crate) fn url(&self, login: &str) -> String {
        let scheme = match self.manner {
            Manner::Connect => "http",
            Manner::Socks => "socks5h",
        };
        format!("{scheme}://{login}127.0.0.1:{}", self.port)
    }

    /// Is there, and leads to this port of this machine; for hosts that begin like this it knows no way.
    pub(crate) fn lead(&mut self, to: u16, except: Option<&'static str>) {
        self.vanish();
        let (runtime, manner) = (runtime(), self.manner);
        let listener = runtime.block_on(TcpListener::bind(("127.0.0.1", self.port))).unwrap();
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let _ = match manner {
                        Manner::Connect => connect(stream, to, except).await,
                        Manner::Socks => socks(stream, to, except).await,
                    };
                });
            }
        });
        self.there = Some(runtime);
    }

    /// Is gone, and everything that went through it is cut.
    pub(crate) fn vanish(&mut self) {
        if let Some(runtime) = self.there.take() {
            runtime.shutdown_timeout(Duration::from_secs(30));
        }
    }
}

async fn connect(mut stream: TcpStream, to: u16, except: Option<&str>) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head);
    let host = head.strip_prefix("CONNECT ").expect("it is asked to connect");
    if except.is_some_and(|except| host.starts_with(except)) {
        return stream.write_all(b"HTTP/1.1 502 Bad Gateway\r\n\r\n").await;
    }
    stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
    lead(stream, to).await
}

async fn socks(mut stream: TcpStream, to: u16, except: Option<&str>) -> std::io::Result<()> {
    let mut greeting = [0; 2];
    stream.read_exact(&mut greeting).await?;
    stream.read_exact(&mut vec![0; greeting[1].into()]).await?;
    stream.write_all(&[5, 0]).await?;
    let mut request = [0; 5];
    stream.read_exact(&mut request).await?;
    assert_eq!(request[..4], [5, 1, 0, 3], "a name is to be connected to");
    let mut host = vec![0; usize::from(request[4]) + 2];
    stream.read_exact(&mut host).await?;
    let refused = except.is_some_and(|except| host.starts_with(except.as_bytes()));
    stream.write_all(&[5, if refused { 4 } else { 0 }, 0, 1, 0, 0, 0, 0, 0, 0]).await?;
    if refused { Ok(()) } else { lead(stream, to).await }
}

async fn lead(mut stream: TcpStream, to: u16) -> std::io::Result<()> {
    let mut to = TcpStream::connect(("127.0.0.1", to)).await?;
    copy_bidirectional(&mut stream, &mut to).await.map(drop)
}

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}
