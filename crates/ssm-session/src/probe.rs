//! The way to a host, step by step, for whoever wants to know where it ends.
//!
//! A probe goes the way that the API and data channels go, through the same proxy and with the same trust, and takes the time of
//! each step. It sends no credentials and nothing that was not asked for.

mod issuer;

use std::fmt;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use http::Uri;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, ProtocolVersion, SignatureScheme};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::connect;
use crate::dial::DialError;
use crate::network::{Destination, Network, tls_builder};
use crate::stream::Stream;

/// Longest head of an answer that is read.
const HEAD_MAX: usize = 16 * 1024;

/// Most header fields of an answer.
const FIELDS_MAX: usize = 64;

/// What there is on the way to a host.
#[derive(Debug, Clone)]
pub struct Probe {
    /// The host and its port.
    pub host: String,
    /// The proxy in between, without user name and password.
    pub proxy: Option<String>,
    /// Addresses of the host; of the proxy, where there is one.
    pub addresses: Vec<IpAddr>,
    /// How long finding them took.
    pub lookup: Duration,
    /// How long connecting took; with what the proxy had to do, where there is one.
    pub connect: Duration,
    /// What TLS there is; `None` for `http`.
    pub tls: Option<ProbeTls>,
    /// What the host says to `GET /`; `None` when it says nothing that is HTTP.
    pub answer: Option<ProbeAnswer>,
}

/// TLS with a host whose certificate is trusted.
#[derive(Debug, Clone)]
pub struct ProbeTls {
    /// `TLS 1.3` or `TLS 1.2`.
    pub version: &'static str,
    /// Who has issued the certificate, as the certificate says it.
    pub issuer: Option<String>,
    /// How long the handshake took.
    pub took: Duration,
}

/// An answer to `GET /`.
#[derive(Debug, Clone)]
pub struct ProbeAnswer {
    /// The status. Which one does not matter: nothing was asked for.
    pub status: u16,
    /// The time the host has, in whole seconds.
    pub date: Option<SystemTime>,
    /// The time this machine had halfway between the question and the answer.
    pub asked: SystemTime,
    /// How long the answer took.
    pub took: Duration,
}

/// A step on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProbeStep {
    /// Reading the URL.
    Url,
    /// Finding the addresses of the host, or of the proxy.
    Lookup,
    /// Connecting.
    Connect,
    /// Having the proxy lead on.
    Proxy,
    /// TLS.
    Tls,
}

/// Where the way ends, and why.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct ProbeError {
    /// The step that cannot be made.
    pub step: ProbeStep,
    /// Why.
    pub error: DialError,
    /// The proxy in between, without user name and password.
    pub proxy: Option<String>,
    /// Addresses that were found before.
    pub addresses: Vec<IpAddr>,
    /// Who has issued the certificate that is not trusted, as the certificate says it.
    pub issuer: Option<String>,
}

impl Network {
    /// Goes to `http://HOST[:PORT]` or `https://HOST[:PORT]`, says `GET /` there and comes back. Each step may take `limit`.
    ///
    /// Cancel safe: dropping the future ends the connection.
    ///
    /// # Errors
    ///
    /// At the first step that cannot be made. A host that is reached and says nothing is no error.
    pub async fn probe(&self, url: &str, limit: Duration) -> Result<Probe, ProbeError> {
        let uri: Uri = url.parse().unwrap_or_default();
        let secure = uri.scheme_str() == Some("https");
        let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let to = Destination { host, port, secure };
        let mut walk = Walk { limit, addresses: Vec::new(), proxy: None };
        if host.is_empty() {
            let error = DialError::Url(crate::StreamUrlError::NoHost);
            return Err(walk.end(ProbeStep::Url, error));
        }
        self.walk(&mut walk, to).await
    }

    /// The proxy that is meant for a URL, without user name and password.
    pub fn proxy_for(&self, url: &str) -> Option<String> {
        let uri: Uri = url.parse().ok()?;
        let host = uri.host()?.trim_start_matches('[').trim_end_matches(']');
        let secure = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        self.proxy(Destination { host, port, secure }).map(|proxy| proxy.to_string())
    }

    async fn walk(&self, walk: &mut Walk, to: Destination<'_>) -> Result<Probe, ProbeError> {
        let proxy = self.proxy(to);
        walk.proxy = proxy.as_ref().map(ToString::to_string);
        let first = proxy.as_ref().map_or(to, |proxy| proxy.place());
        let begin = Instant::now();
        let found = walk.step(ProbeStep::Lookup, first, find(first)).await?;
        walk.addresses = found.iter().map(SocketAddr::ip).collect();
        let lookup = begin.elapsed();
        let begin = Instant::now();
        let tcp = walk.step(ProbeStep::Connect, first, open(first, &found)).await?;
        let mut stream = Stream::Plain(tcp);
        if let Some(proxy) = &proxy {
            if first.secure {
                stream = self.secured(walk, stream, first).await?;
            }
            let led = async {
                let led = match &mut stream {
                    Stream::Plain(tcp) => proxy.lead(tcp, to).await,
                    Stream::Tls(tls) => proxy.lead(tls, to).await,
                    Stream::Nested(tls) => proxy.lead(tls, to).await,
                };
                led.map_err(|reason| DialError::Proxy {
                    proxy: proxy.to_string(),
                    host: to.to_string(),
                    reason,
                })
            };
            walk.step(ProbeStep::Proxy, to, led).await?;
        }
        let connect = begin.elapsed();
        let begin = Instant::now();
        let tls = if to.secure {
            stream = self.secured(walk, stream, to).await?;
            describe(&stream).map(|(version, issuer)| ProbeTls { version, issuer, took: begin.elapsed() })
        } else {
            None
        };
        let answer = timeout(walk.limit, ask(&mut stream, to)).await.ok().flatten();
        let (proxy, addresses) = (walk.proxy.take(), std::mem::take(&mut walk.addresses));
        Ok(Probe { host: to.to_string(), proxy, addresses, lookup, connect, tls, answer })
    }

    async fn secured(&self, walk: &Walk, stream: Stream, to: Destination<'_>) -> Result<Stream, ProbeError> {
        let secured = async {
            Ok(match stream {
                Stream::Plain(tcp) => Stream::Tls(self.secure(tcp, to).await?),
                Stream::Tls(tls) => Stream::Nested(self.secure(*tls, to).await?),
                nested @ Stream::Nested(_) => nested,
            })
        };
        match walk.step(ProbeStep::Tls, to, secured).await {
            Err(error) if matches!(error.error, DialError::Tls { .. }) => {
                Err(ProbeError { issuer: self.shown(walk, to).await, ..error })
            }
            secured => secured,
        }
    }

    /// Who has issued the certificate that a host shows. For one that is not trusted: nothing is sent, and nothing believed.
    async fn shown(&self, walk: &Walk, to: Destination<'_>) -> Option<String> {
        if self.proxy(to).is_some_and(|proxy| proxy.place().secure) {
            // Its certificate would be the one that is seen.
            return None;
        }
        let onlooker = Arc::new(Onlooker::default());
        let config = tls_builder()
            .dangerous()
            .with_custom_certificate_verifier(onlooker.clone())
            .with_no_client_auth();
        let looking = self.clone().with_tls(Arc::new(config));
        let _ = timeout(walk.limit, looking.connect(to)).await;
        onlooker.issuer()
    }
}

/// What is known when the way ends.
struct Walk {
    limit: Duration,
    addresses: Vec<IpAddr>,
    proxy: Option<String>,
}

impl Walk {
    async fn step<T>(
        &self,
        step: ProbeStep,
        to: Destination<'_>,
        made: impl Future<Output = Result<T, DialError>>,
    ) -> Result<T, ProbeError> {
        let made = timeout(self.limit, made).await;
        let made =
            made.unwrap_or_else(|_| Err(DialError::Timeout { host: to.to_string(), limit: self.limit }));
        made.map_err(|error| self.end(step, error))
    }

    fn end(&self, step: ProbeStep, error: DialError) -> ProbeError {
        ProbeError { step, error, proxy: self.proxy.clone(), addresses: self.addresses.clone(), issuer: None }
    }
}

async fn find(to: Destination<'_>) -> Result<Vec<SocketAddr>, DialError> {
    let found = connect::addresses(to.host, to.port).await;
    found.map_err(|source| DialError::Connect { host: to.to_string(), source })
}

async fn open(to: Destination<'_>, addresses: &[SocketAddr]) -> Result<TcpStream, DialError> {
    let opened = connect::connect(addresses).await;
    opened.map_err(|source| DialError::Connect { host: to.to_string(), source })
}

fn describe(stream: &Stream) -> Option<(&'static str, Option<String>)> {
    let connection = match stream {
        Stream::Plain(_) => return None,
        Stream::Tls(tls) => tls.get_ref().1,
        Stream::Nested(tls) => tls.get_ref().1,
    };
    let version = match connection.protocol_version() {
        Some(ProtocolVersion::TLSv1_2) => "TLS 1.2",
        Some(ProtocolVersion::TLSv1_3) => "TLS 1.3",
        _ => "TLS",
    };
    let shown = connection.peer_certificates().and_then(<[_]>::first);
    Some((version, shown.and_then(|certificate| issuer::of(certificate))))
}

/// Asks for nothing, and listens to the head of the answer.
async fn ask(stream: &mut Stream, to: Destination<'_>) -> Option<ProbeAnswer> {
    let usual = if to.secure { 443 } else { 80 };
    let host = if to.port == usual && !to.host.contains(':') { to.host.to_owned() } else { to.to_string() };
    let agent = concat!("ssm/", env!("CARGO_PKG_VERSION"));
    let question =
        format!("GET / HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {agent}\r\nConnection: close\r\n\r\n");
    let (begin, before) = (Instant::now(), SystemTime::now());
    stream.write_all(question.as_bytes()).await.ok()?;
    stream.flush().await.ok()?;
    let mut head = Vec::new();
    while head.len() < HEAD_MAX {
        let mut piece = [0; 1024];
        match stream.read(&mut piece).await {
            Ok(len @ 1..) => head.extend_from_slice(&piece[..len]),
            Ok(0) | Err(_) => return None,
        }
        let took = begin.elapsed();
        if let Some((status, date)) = read(&head)? {
            return Some(ProbeAnswer { status, date, asked: before + took / 2, took });
        }
    }
    None
}

/// Status and date of an answer; the inner `None` while it is not all there, the outer one when it is no answer.
#[expect(clippy::option_option, reason = "what is no answer will never be one")]
fn read(head: &[u8]) -> Option<Option<(u16, Option<SystemTime>)>> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut answer = httparse::Response::new(&mut fields);
    if answer.parse(head).ok()?.is_partial() {
        return Some(None);
    }
    let date = answer.headers.iter().find(|field| field.name.eq_ignore_ascii_case("date"));
    let date = date.and_then(|field| std::str::from_utf8(field.value).ok());
    let date = date.and_then(|text| httpdate::parse_http_date(text.trim()).ok());
    Some(Some((answer.code?, date)))
}

/// Looks at the certificate that is shown, and trusts none.
#[derive(Default)]
struct Onlooker {
    shown: Mutex<Option<CertificateDer<'static>>>,
}

impl Onlooker {
    fn issuer(&self) -> Option<String> {
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        shown.as_ref().and_then(|certificate| issuer::of(certificate))
    }
}

impl fmt::Debug for Onlooker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Onlooker").finish_non_exhaustive()
    }
}

const NEVER: rustls::Error =
    rustls::Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure);

impl ServerCertVerifier for Onlooker {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = Some(end_entity.clone().into_owned());
        Err(NEVER)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(NEVER)
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(NEVER)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_once_its_head_is_there() {
        let head = b"HTTP/1.1 404 Not Found\r\ndate: Thu, 01 Jan 1970 00:01:00 GMT\r\nX: y\r\n\r\nbody";
        let minute = Some(SystemTime::UNIX_EPOCH + Duration::from_secs(60));
        assert_eq!(read(head), Some(Some((404, minute))));
        for end in 1..head.len() - 6 {
            assert_eq!(read(&head[..end]), Some(None), "{end}");
        }
        assert_eq!(read(b"HTTP/1.1 200 OK\r\nDate: yesterday\r\n\r\n"), Some(Some((200, None))));
        assert_eq!(read(b"SSH-2.0-OpenSSH_9.2\r\n"), None);
    }

    #[test]
    fn the_proxy_of_a_url_has_no_password() {
        let options = crate::NetworkOptions {
            https_proxy: Some(ssm_proto::Secret::new("http://me:hush@p:3128".into())),
            ..crate::NetworkOptions::default()
        };
        let network = Network::new(&options).unwrap();
        assert_eq!(network.proxy_for("https://ssm.amazonaws.com").as_deref(), Some("http://p:3128"));
        assert_eq!(network.proxy_for("http://ssm.amazonaws.com"), None);
        assert_eq!(network.proxy_for("https://127.0.0.1"), None);
        assert_eq!(network.proxy_for("x"), None);
    }
}
