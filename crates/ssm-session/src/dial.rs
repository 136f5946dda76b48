//! The WebSocket upgrade.

use std::io;
use std::time::{Duration, SystemTime};

use http::{HeaderValue, Request, StatusCode};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, error::UrlError};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use crate::network::Destination;
use crate::route::Route;
use crate::sign::{self, Identity};
use crate::stream::Stream;
use crate::stream_url::{StreamUrl, StreamUrlError};

/// The WebSocket of a data channel.
pub(crate) type Socket = WebSocketStream<Stream>;

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
    Url(#[from] StreamUrlError),
    /// No TCP connection.
    #[error("cannot connect to {host}: {source}")]
    Connect {
        /// Host and port.
        host: String,
        /// What the system says.
        source: io::Error,
    },
    /// The proxy on the way does not lead there.
    #[error("no way to {host} through the proxy {proxy}: {reason}")]
    Proxy {
        /// The proxy, without user name and password.
        proxy: String,
        /// Host and port.
        host: String,
        /// What is wrong.
        reason: String,
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
    #[error("{host} did not answer within {} s", limit.as_secs_f64())]
    Timeout {
        /// Host and port.
        host: String,
        /// How long was waited.
        limit: Duration,
    },
}

/// Opens the WebSocket at `url`, signed by `identity` if there is one and the URL is not signed already.
pub(crate) async fn dial(url: &str, identity: Option<&Identity>, route: &Route) -> Result<Socket, DialError> {
    let url = route.streams.resolve(url)?;
    let to = Destination { host: &url.host, port: url.port, secure: url.secure };
    let request = request(&url, identity)?;
    let opening = async {
        let stream = route.network.connect(to).await?;
        let opened = client_async_with_config(request, stream, Some(web_socket_config())).await;
        opened.map(|(socket, _response)| socket).map_err(|error| upgrade_error(to, error))
    };
    match tokio::time::timeout(DIAL_TIMEOUT, opening).await {
        Ok(opened) => opened,
        Err(_elapsed) => Err(DialError::Timeout { host: to.to_string(), limit: DIAL_TIMEOUT }),
    }
}

fn request(url: &StreamUrl, identity: Option<&Identity>) -> Result<Request<()>, StreamUrlError> {
    let mut request = (&url.uri).into_client_request().map_err(|_| StreamUrlError::Syntax)?;
    if let Some(identity) = identity.filter(|_| !sign::is_presigned(&url.uri)) {
        let host = request
            .headers()
            .get("host")
            .and_then(|host: &HeaderValue| host.to_str().ok())
            .unwrap_or_default();
        match identity.sign(&url.uri, host, SystemTime::now()) {
            Some(signed) => request.headers_mut().extend(signed),
            None => tracing::warn!("the upgrade could not be signed and goes out unsigned"),
        }
    }
    Ok(request)
}

fn upgrade_error(to: Destination<'_>, error: tungstenite::Error) -> DialError {
    let host = to.to_string();
    match error {
        tungstenite::Error::Http(response) => DialError::Refused { host, status: response.status() },
        tungstenite::Error::Url(UrlError::UnsupportedUrlScheme) => DialError::Url(StreamUrlError::Scheme),
        other => DialError::Upgrade { host, reason: other.to_string() },
    }
}

fn web_socket_config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(BUFFER_LEN)
        .write_buffer_size(BUFFER_LEN)
        .max_write_buffer_size(4 * FRAME_MAX)
        .max_message_size(Some(FRAME_MAX))
        .max_frame_size(Some(FRAME_MAX))
}
