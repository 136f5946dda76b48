//! The SDK's HTTP client on our own connections, so that the API is reached the way data channels are.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use aws_smithy_runtime_api::client::connection::{CaptureSmithyConnection, ConnectionMetadata};
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector,
    http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use http::Uri;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, Connection, capture_connection};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tower_service::Service;

use crate::credentials::find;
use crate::dial::DialError;
use crate::network::{Destination, Network};
use crate::stream::Stream;

/// How long a connection may take when the caller sets no limit.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long an answer may take when the caller sets no limit.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a connection is kept for the next call.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// An HTTP client for the AWS SDK that connects through `network`.
pub(crate) fn http_client(network: Network) -> SharedHttpClient {
    // A handful at most: the SDK has one limit for its services and others for metadata.
    let known: Mutex<Vec<(Duration, Pool)>> = Mutex::default();
    http_client_fn(move |settings: &HttpConnectorSettings, _components| {
        let limit = settings.connect_timeout().unwrap_or(CONNECT_TIMEOUT);
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        let pool = match known.iter().find(|(of, _)| *of == limit) {
            Some((_, pool)) => pool.clone(),
            None => {
                let pool = pool(network.clone(), limit);
                known.push((limit, pool.clone()));
                pool
            }
        };
        let answer_timeout = settings.read_timeout().unwrap_or(ANSWER_TIMEOUT);
        SharedHttpConnector::new(Api { pool, answer_timeout })
    })
}

type Pool = Client<Connector, SdkBody>;

fn pool(network: Network, limit: Duration) -> Pool {
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_TIMEOUT)
        .build(Connector { network: Arc::new(network), limit })
}

struct Api {
    pool: Pool,
    answer_timeout: Duration,
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api").finish_non_exhaustive()
    }
}

impl HttpConnector for Api {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let (pool, limit) = (self.pool.clone(), self.answer_timeout);
        HttpConnectorFuture::new(async move {
            let mut request =
                request.try_into_http1x().map_err(|error| ConnectorError::user(error.into()))?;
            show_connection(&mut request);
            match tokio::time::timeout(limit, pool.request(request)).await {
                Ok(Ok(response)) => HttpResponse::try_from(response.map(SdkBody::from_body_1_x))
                    .map_err(|error| ConnectorError::other(error.into(), None)),
                Ok(Err(error)) => Err(connector_error(error)),
                Err(elapsed) => Err(ConnectorError::timeout(elapsed.into())),
            }
        })
    }
}

/// Shows the SDK which connection a request is sent on: after some failures it does not want to have it used again.
fn show_connection(request: &mut http::Request<SdkBody>) {
    let used = capture_connection(request);
    if let Some(slot) = request.extensions().get::<CaptureSmithyConnection>() {
        slot.set_connection_retriever(move || {
            used.connection_metadata().as_ref()?;
            let used = used.clone();
            let close = move || {
                if let Some(connection) = used.connection_metadata().as_ref() {
                    connection.poison();
                }
            };
            Some(ConnectionMetadata::builder().proxied(false).poison_fn(close).build())
        });
    }
}

/// Whether another try can help is for the SDK to know.
fn connector_error(error: hyper_util::client::legacy::Error) -> ConnectorError {
    match find::<DialError>(&error) {
        Some(DialError::Timeout { .. }) => ConnectorError::timeout(error.into()),
        Some(DialError::Connect { .. }) => ConnectorError::io(error.into()),
        Some(_) => ConnectorError::other(error.into(), None),
        None => ConnectorError::io(error.into()),
    }
}

#[derive(Clone)]
struct Connector {
    network: Arc<Network>,
    limit: Duration,
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = DialError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, DialError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), DialError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (network, limit) = (Arc::clone(&self.network), self.limit);
        Box::pin(async move {
            let secure = uri.scheme_str() == Some("https");
            let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
            let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
            let to = Destination { host, port, secure };
            match tokio::time::timeout(limit, network.connect(to)).await {
                Ok(connected) => connected.map(TokioIo::new),
                Err(_elapsed) => Err(DialError::Timeout { host: to.to_string(), limit }),
            }
        })
    }
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}
