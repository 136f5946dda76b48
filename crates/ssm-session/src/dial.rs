//! TCP, TLS and the WebSocket upgrade.

use std::io;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use http::{HeaderValue, Request, StatusCode, Uri};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, error::UrlError};
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream, client_async_tls_with_config};

use crate::sign::{self, Identity};

/// The WebSocket of a data channel.
pub(crate) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// How long connecting and upgrading may take together (plugin `websocketutil.go`: 45 s).
const DIAL_TIMEOUT: Duration = Duration::from_secs(45);

/// Read and write buffers of the WebSocket. A partial write moves what is left and every read clears its buffer, so larger ones
/// cost more than they save.
const BUFFER_LEN: usize = 32 * 1024;

/// Largest frame and message taken; space is reserved for what a frame declares.
const FRAME_MAX: usize = 1024 * 1024;

/// Why a data channel could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// The stream URL cannot be used.
    #[error("unusable stream URL: {0}")]
    Url(&'static str),
    /// No TCP connection.
    #[error("cannot connect to {host}: {source}")]
    Connect {
        /// Host and port.
        host: String,
        /// What the system says.
        source: io::Error,
    },
    /// No trusted TLS connection.
    #[error("no secure connection to {host}: {reason}")]
    Tls {
        /// Host and port.
        host: String,
        /// What is wrong.
        reason: String,
    },
    /// The server did not answer the upgrade with a WebSocket.
    #[error("{host} refused the upgrade: HTTP {status}")]
    Refused {
        /// Host and port.
        host: String,
        /// Its answer.
        status: StatusCode,
    },
    /// The server does not speak HTTP or WebSocket.
    #[error("{host} does not answer like a WebSocket server: {reason}")]
    Upgrade {
        /// Host and port.
        host: String,
        /// What is wrong.
        reason: String,
    },
    /// It took too long.
    #[error("{host} did not answer within {} s", DIAL_TIMEOUT.as_secs())]
    Timeout {
        /// Host and port.
        host: String,
    },
}

/// Opens the WebSocket at `url`, signed by `identity` if there is one and the URL is not signed already.
pub(crate) async fn dial(
    url: &str,
    identity: Option<&Identity>,
    tls: Option<&Arc<ClientConfig>>,
) -> Result<Socket, DialError> {
    let place = Place::parse(url)?;
    let request = place.request(identity)?;
    let host = place.to_string();
    match tokio::time::timeout(DIAL_TIMEOUT, place.open(request, tls)).await {
        Ok(opened) => opened,
        Err(_elapsed) => Err(DialError::Timeout { host }),
    }
}

/// Where a URL leads.
struct Place {
    uri: Uri,
    host: String,
    port: u16,
    secure: bool,
}

impl Place {
    fn parse(url: &str) -> Result<Self, DialError> {
        let uri: Uri = url.parse().map_err(|_| DialError::Url("it is no URL"))?;
        let host = uri.host().ok_or(DialError::Url("it has no host"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let (secure, port) = match uri.scheme_str() {
            Some("wss") => (true, 443),
            // The token and all data would be readable on the way.
            Some("ws") if is_loopback(&host) => (false, 80),
            Some("ws") => return Err(DialError::Url("ws:// is for loopback addresses only")),
            _ => return Err(DialError::Url("its scheme is not wss")),
        };
        let port = uri.port_u16().unwrap_or(port);
        Ok(Self { uri, host, port, secure })
    }

    fn request(&self, identity: Option<&Identity>) -> Result<Request<()>, DialError> {
        let mut request =
            (&self.uri).into_client_request().map_err(|_| DialError::Url("it is no WebSocket URL"))?;
        if let Some(identity) = identity.filter(|_| !sign::is_presigned(&self.uri)) {
            let host = request
                .headers()
                .get("host")
                .and_then(|host: &HeaderValue| host.to_str().ok())
                .unwrap_or_default();
            match identity.sign(&self.uri, host, SystemTime::now()) {
                Some(signed) => request.headers_mut().extend(signed),
                None => tracing::warn!("the upgrade could not be signed and goes out unsigned"),
            }
        }
        Ok(request)
    }

    async fn open(&self, request: Request<()>, tls: Option<&Arc<ClientConfig>>) -> Result<Socket, DialError> {
        let connect = |source| DialError::Connect { host: self.to_string(), source };
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await.map_err(connect)?;
        stream.set_nodelay(true).map_err(connect)?;
        let connector = if self.secure {
            Connector::Rustls(tls.map_or_else(system_tls, Arc::clone))
        } else {
            Connector::Plain
        };
        let opened =
            client_async_tls_with_config(request, stream, Some(web_socket_config()), Some(connector)).await;
        opened.map(|(socket, _response)| socket).map_err(|error| self.upgrade_error(error))
    }

    fn upgrade_error(&self, error: tungstenite::Error) -> DialError {
        let host = self.to_string();
        match error {
            tungstenite::Error::Http(response) => DialError::Refused { host, status: response.status() },
            tungstenite::Error::Tls(error) => DialError::Tls { host, reason: error.to_string() },
            tungstenite::Error::Io(error)
                if error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) =>
            {
                DialError::Tls { host, reason: error.to_string() }
            }
            tungstenite::Error::Url(UrlError::UnsupportedUrlScheme) => {
                DialError::Url("its scheme is not wss")
            }
            other => DialError::Upgrade { host, reason: other.to_string() },
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

fn web_socket_config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(BUFFER_LEN)
        .write_buffer_size(BUFFER_LEN)
        .max_write_buffer_size(4 * FRAME_MAX)
        .max_message_size(Some(FRAME_MAX))
        .max_frame_size(Some(FRAME_MAX))
}

/// TLS with the roots of the operating system, read once, when the first secure connection is made.
fn system_tls() -> Arc<ClientConfig> {
    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    let config = CONFIG.get_or_init(|| {
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::debug!(%error, "a root certificate was not read");
        }
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(found.certs);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring has cipher suites for TLS 1.2 and 1.3");
        Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
    });
    Arc::clone(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(url: &str) -> String {
        Place::parse(url).err().map_or_else(String::new, |error| error.to_string())
    }

    #[test]
    fn plain_connections_stay_on_this_machine() {
        assert_eq!(error("ws://127.0.0.1:8080/v1"), "");
        assert_eq!(error("ws://[::1]:8080/v1"), "");
        assert_eq!(error("ws://localhost:8080/v1"), "");
        assert_eq!(error("wss://ssmmessages.eu-west-1.amazonaws.com/v1"), "");
        assert!(error("ws://ssmmessages.eu-west-1.amazonaws.com/v1").contains("loopback"));
        assert!(error("ws://127.0.0.1.example.com/v1").contains("loopback"));
        assert!(error("https://h/").contains("wss"));
        assert!(error("/v1").contains("no host"));
        assert!(error("not a url").contains("no URL"));
    }
}
