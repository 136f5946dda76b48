//! Through what the outside is reached: proxies, TLS and whose certificates are trusted. The same for the API and for data
//! channels.

use std::env;
use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, UNIX_EPOCH};

use http::Uri;
use hyper_util::client::proxy::matcher::Matcher;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier};
use ssm_proto::Secret;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::connect;
use crate::dial::DialError;
use crate::proxy::Proxy;
use crate::stream::Stream;
use crate::stream_url::is_loopback;

/// Largest file of certificates that is read: those of all authorities in use are a quarter of a megabyte.
const CA_BUNDLE_MAX: u64 = 16 * 1024 * 1024;

/// Addresses of metadata and credentials services beside the link-local ones: `fd00:ec2::/32`.
const METADATA_PREFIX: [u16; 2] = [0xfd00, 0x0ec2];

/// What the user says about proxies and trust. Empty: no proxy, and the roots of the operating system.
#[derive(Clone, Default)]
pub struct NetworkOptions {
    /// Proxy for `https` and `wss`: `http://`, `https://`, `socks5://` (names are looked up here) or `socks5h://` (names are
    /// looked up by the proxy). It may hold a name and a password.
    pub https_proxy: Option<Secret<String>>,
    /// Proxy for `http`.
    pub http_proxy: Option<Secret<String>>,
    /// Proxy for what has none of its own.
    pub all_proxy: Option<Secret<String>>,
    /// What is reached without a proxy: domains with all below them, addresses, networks (`10.0.0.0/8`), with commas between
    /// them; `*` for everything. Loopback and link-local addresses always are.
    pub no_proxy: Option<String>,
    /// File of PEM certificates that are trusted in place of the system's.
    pub ca_bundle: Option<PathBuf>,
}

/// Why the options cannot be used. Shows nothing of a proxy's URL, which may hold a password.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// The URL of a proxy.
    #[error(
        "{variable} is no URL of a proxy: it is written http://[USER:PASSWORD@]HOST:PORT, or with https, socks5 or socks5h"
    )]
    Proxy {
        /// The environment variable it comes from.
        variable: &'static str,
    },
    /// The file of certificates.
    #[error("the certificates in {} cannot be used: {reason}", path.display())]
    CaBundle {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// The way out. By default direct, trusting the roots of the operating system.
#[derive(Clone, Default)]
pub struct Network {
    proxies: Option<Arc<Matcher>>,
    tls: Option<Arc<ClientConfig>>,
}

/// Where a connection is to lead.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Destination<'a> {
    pub(crate) host: &'a str,
    pub(crate) port: u16,
    /// Whether with TLS.
    pub(crate) secure: bool,
}

impl NetworkOptions {
    /// `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`, in capitals or else in small letters, and `AWS_CA_BUNDLE`.
    /// Empty ones are as good as none.
    pub fn from_env() -> Self {
        Self::from_vars(|name| env::var(name).ok())
    }

    fn from_vars(read: impl Fn(&str) -> Option<String>) -> Self {
        let read = |name: &str| read(name).filter(|value| !value.is_empty());
        let either = |name: &str| read(name).or_else(|| read(&name.to_ascii_lowercase()));
        Self {
            https_proxy: either("HTTPS_PROXY").map(Secret::new),
            http_proxy: either("HTTP_PROXY").map(Secret::new),
            all_proxy: either("ALL_PROXY").map(Secret::new),
            no_proxy: either("NO_PROXY"),
            ca_bundle: read("AWS_CA_BUNDLE").map(PathBuf::from),
        }
    }
}

impl fmt::Debug for NetworkOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NetworkOptions")
            .field("no_proxy", &self.no_proxy)
            .field("ca_bundle", &self.ca_bundle)
            .finish_non_exhaustive()
    }
}

impl Network {
    /// The way out that `options` describe. Reads the certificates.
    ///
    /// # Errors
    ///
    /// When a proxy's URL or the certificates cannot be used.
    pub fn new(options: &NetworkOptions) -> Result<Self, NetworkError> {
        let mut proxies = Matcher::builder();
        let mut any = false;
        if let Some(url) = usable("HTTPS_PROXY", options.https_proxy.as_ref())? {
            (proxies, any) = (proxies.https(url), true);
        }
        if let Some(url) = usable("HTTP_PROXY", options.http_proxy.as_ref())? {
            (proxies, any) = (proxies.http(url), true);
        }
        if let Some(url) = usable("ALL_PROXY", options.all_proxy.as_ref())? {
            (proxies, any) = (proxies.all(url), true);
        }
        if let Some(rules) = &options.no_proxy {
            proxies = proxies.no(rules.as_str());
        }
        let tls = match &options.ca_bundle {
            Some(path) => {
                let refuse = |reason| NetworkError::CaBundle { path: path.clone(), reason };
                Some(Arc::new(client_config(read_bundle(path).map_err(refuse)?)))
            }
            None => None,
        };
        Ok(Self { proxies: any.then(|| Arc::new(proxies.build())), tls })
    }

    /// The same with this TLS configuration.
    pub fn with_tls(self, tls: Arc<ClientConfig>) -> Self {
        Self { tls: Some(tls), ..self }
    }

    /// Connects, through the proxy that is meant for the destination, with TLS where it is wanted.
    pub(crate) async fn connect(&self, to: Destination<'_>) -> Result<Stream, DialError> {
        let Some(proxy) = self.proxy(to) else {
            let tcp = open(to.host, to.port).await;
            let tcp = tcp.map_err(|source| DialError::Connect { host: to.to_string(), source })?;
            return Ok(if to.secure { Stream::Tls(self.secure(tcp, to).await?) } else { Stream::Plain(tcp) });
        };
        let refused = |reason| DialError::Proxy { proxy: proxy.to_string(), host: to.to_string(), reason };
        let at = proxy.place();
        let tcp = open(at.host, at.port).await;
        let mut tcp = tcp.map_err(|error| refused(format!("cannot connect to it: {error}")))?;
        if !at.secure {
            proxy.lead(&mut tcp, to).await.map_err(refused)?;
            return Ok(if to.secure { Stream::Tls(self.secure(tcp, to).await?) } else { Stream::Plain(tcp) });
        }
        let mut outer = self.secure(tcp, at).await?;
        proxy.lead(&mut outer, to).await.map_err(refused)?;
        Ok(if to.secure { Stream::Nested(self.secure(*outer, to).await?) } else { Stream::Tls(outer) })
    }

    pub(crate) async fn secure<S>(
        &self,
        stream: S,
        to: Destination<'_>,
    ) -> Result<Box<TlsStream<S>>, DialError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let failed = |reason: String| DialError::Tls { host: to.to_string(), reason };
        let name = ServerName::try_from(to.host.to_owned()).map_err(|error| failed(error.to_string()))?;
        let config = self.tls.as_ref().map_or_else(system_tls, Arc::clone);
        let connected = TlsConnector::from(config).connect(name, stream).await;
        connected.map(Box::new).map_err(|error| failed(in_words(&error)))
    }

    pub(crate) fn proxy(&self, to: Destination<'_>) -> Option<Proxy> {
        let proxies = self.proxies.as_ref().filter(|_| !is_near(to.host))?;
        let scheme = if to.secure { "https" } else { "http" };
        let uri: Uri = format!("{scheme}://{to}/").parse().ok()?;
        proxies.intercept(&uri).and_then(Proxy::new)
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network").field("proxies", &self.proxies).finish_non_exhaustive()
    }
}

impl fmt::Display for Destination<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// The URL of a proxy, if it is one. A proxy that cannot be read is an error: whoever names one does not want to go without.
fn usable(variable: &'static str, url: Option<&Secret<String>>) -> Result<Option<String>, NetworkError> {
    let Some(url) = url else { return Ok(None) };
    let matcher = Matcher::builder().all(url.expose().as_str()).build();
    let proxy = matcher.intercept(&Uri::from_static("https://ssm.amazonaws.com/")).and_then(Proxy::new);
    match proxy {
        Some(_) => Ok(Some(url.expose().clone())),
        None => Err(NetworkError::Proxy { variable }),
    }
}

/// Whether no proxy can know the host: this machine, and what only this machine's network has.
fn is_near(host: &str) -> bool {
    let link_local = match host.parse() {
        Ok(IpAddr::V4(address)) => address.is_link_local(),
        Ok(IpAddr::V6(address)) => {
            address.is_unicast_link_local() || address.segments().starts_with(&METADATA_PREFIX)
        }
        Err(_) => false,
    };
    link_local || is_loopback(host)
}

async fn open(host: &str, port: u16) -> io::Result<TcpStream> {
    let stream = connect::connect(&connect::addresses(host, port).await?).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// What went wrong with TLS, and what can be done about an authority that is not known.
fn in_words(error: &io::Error) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            "its certificate is from an authority that is not trusted; if that is your network's, set AWS_CA_BUNDLE to a file \
             with the authority's certificate"
                .into()
        }
        Some(rustls::Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. })) => {
            format!("its certificate has expired, on {}, if the clock of this machine is right", date(*not_after))
        }
        Some(rustls::Error::InvalidCertificate(CertificateError::NotValidYetContext { not_before, .. })) => {
            format!("its certificate begins on {}, if the clock of this machine is right", date(*not_before))
        }
        Some(rustls::Error::InvalidMessage(_)) => "it does not answer with TLS".into(),
        Some(
            rustls::Error::PeerIncompatible(
                rustls::PeerIncompatible::ServerDoesNotSupportTls12Or13
                | rustls::PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
            )
            | rustls::Error::AlertReceived(rustls::AlertDescription::ProtocolVersion),
        ) => "it speaks only versions of TLS before 1.2, which are not safe".into(),
        Some(other) => other.to_string(),
        None if error.kind() == io::ErrorKind::UnexpectedEof => "it hung up while TLS was set up".into(),
        None => error.to_string(),
    }
}

fn date(time: UnixTime) -> String {
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(time.as_secs()))
}

fn read_bundle(path: &Path) -> Result<RootCertStore, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_reader_iter(BufReader::new(file.take(CA_BUNDLE_MAX))) {
        let certificate = certificate.map_err(|_| "it is not PEM".to_string())?;
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    if roots.is_empty() { Err("it holds no certificate in PEM".into()) } else { Ok(roots) }
}

/// TLS with the roots of the operating system, read when the first connection is made.
fn system_tls() -> Arc<ClientConfig> {
    Arc::clone(&system().0)
}

/// How many certificates the operating system has for authorities that can be trusted. Reads them.
pub fn system_roots() -> usize {
    system().1
}

fn system() -> &'static (Arc<ClientConfig>, usize) {
    static SYSTEM: OnceLock<(Arc<ClientConfig>, usize)> = OnceLock::new();
    SYSTEM.get_or_init(|| {
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::debug!(%error, "a root certificate was not read");
        }
        let mut roots = RootCertStore::empty();
        let (taken, _unreadable) = roots.add_parsable_certificates(found.certs);
        (Arc::new(client_config(roots)), taken)
    })
}

fn client_config(roots: RootCertStore) -> ClientConfig {
    tls_builder().with_root_certificates(roots).with_no_client_auth()
}

/// TLS 1.2 and 1.3.
pub(crate) fn tls_builder() -> ConfigBuilder<ClientConfig, WantsVerifier> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has cipher suites for TLS 1.2 and 1.3")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(vars: &[(&str, &str)]) -> Result<Network, NetworkError> {
        let read = |name: &str| vars.iter().find(|(var, _)| *var == name).map(|(_, value)| (*value).into());
        Network::new(&NetworkOptions::from_vars(read))
    }

    fn proxy(vars: &[(&str, &str)], host: &str) -> String {
        let to = Destination { host, port: 443, secure: true };
        network(vars).unwrap().proxy(to).map_or_else(String::new, |proxy| proxy.to_string())
    }

    #[test]
    fn variables_are_read_in_both_cases() {
        let host = "ssm.eu-west-1.amazonaws.com";
        assert_eq!(proxy(&[], host), "");
        assert_eq!(proxy(&[("HTTPS_PROXY", "http://p:3128")], host), "http://p:3128");
        assert_eq!(proxy(&[("https_proxy", "http://p:3128")], host), "http://p:3128");
        assert_eq!(proxy(&[("HTTPS_PROXY", ""), ("https_proxy", "p:3128")], host), "http://p:3128");
        assert_eq!(proxy(&[("HTTPS_PROXY", "https://p")], host), "https://p:443");
        assert_eq!(proxy(&[("all_proxy", "socks5h://p")], host), "socks5h://p:1080");
        assert_eq!(proxy(&[("HTTP_PROXY", "http://p:3128")], host), "");
        assert_eq!(proxy(&[("ALL_PROXY", "http://a:1"), ("HTTPS_PROXY", "http://b:2")], host), "http://b:2");
    }

    #[test]
    fn no_proxy_names_domains_addresses_and_networks() {
        let is_direct = |rules: &str, host: &str| {
            proxy(&[("HTTPS_PROXY", "http://p:3128"), ("no_proxy", rules)], host).is_empty()
        };
        assert!(is_direct("*", "a.example"));
        assert!(is_direct("x.example, amazonaws.com", "ssm.eu-west-1.amazonaws.com"));
        assert!(is_direct(".amazonaws.com", "ssm.eu-west-1.amazonaws.com"));
        assert!(is_direct("ssm.eu-west-1.amazonaws.com", "ssm.eu-west-1.amazonaws.com"));
        assert!(!is_direct("amazonaws.com", "notamazonaws.com"));
        assert!(is_direct("10.0.0.0/8", "10.1.2.3"));
        assert!(!is_direct("10.0.0.0/8", "11.1.2.3"));
        assert!(is_direct("2001:db8::/32", "2001:db8::1"));
        assert!(!is_direct("", "a.example"));
    }

    #[test]
    fn this_machine_and_its_metadata_are_reached_directly() {
        for host in
            ["127.0.0.1", "::1", "localhost", "169.254.169.254", "169.254.170.2", "fd00:ec2::254", "fe80::1"]
        {
            assert_eq!(proxy(&[("ALL_PROXY", "http://p:3128")], host), "", "{host}");
        }
        assert_ne!(proxy(&[("ALL_PROXY", "http://p:3128")], "fd00:ec3::1"), "");
    }

    #[test]
    fn a_proxy_that_cannot_be_read_is_an_error_without_its_password() {
        for url in [
            "ftp://user:hush@p:1",
            "http://user:hush@",
            "socks4://user:hush@p",
            "http://user:hush@p:x",
            "://hush",
        ] {
            let error = network(&[("HTTPS_PROXY", url)]).unwrap_err();
            assert!(error.to_string().contains("HTTPS_PROXY"), "{url}: {error}");
            assert!(!format!("{error} {error:?}").contains("hush"), "{url}: {error:?}");
        }
    }

    #[test]
    fn debug_output_hides_the_password() {
        let options = NetworkOptions {
            all_proxy: Some(Secret::new("http://u:hush@p:1".into())),
            ..NetworkOptions::default()
        };
        let network = Network::new(&options).unwrap();
        let proxy = network.proxy(Destination { host: "h", port: 1, secure: true });
        assert!(!format!("{options:?} {network:?} {proxy:?}").contains("hush"));
    }

    #[test]
    fn certificates_that_cannot_be_used_are_named() {
        let error = network(&[("AWS_CA_BUNDLE", "/nonexistent/ca.pem")]).unwrap_err().to_string();
        assert!(error.contains("/nonexistent/ca.pem"), "{error}");
        let error = network(&[("AWS_CA_BUNDLE", "/dev/null")]).unwrap_err().to_string();
        assert!(error.contains("no certificate"), "{error}");
    }
}
