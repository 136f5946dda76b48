//! The SDK's HTTP client on our own connections, so that the API is reached the way data channels are.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::connection::{CaptureSmithyConnection, ConnectionMetadata};
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
    SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use http::Uri;
use http_body::{Body, Frame};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, Connection, capture_connection};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::time::Sleep;
use tower_service::Service;

use crate::credentials::find;
use crate::dial::DialError;
use crate::network::{Destination, Network};
use crate::service_endpoints::ServiceEndpoints;
use crate::stream::Stream;

/// How long a connection may take when the caller sets no limit.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long an answer may take when the caller sets no limit.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// Longest answer: the longest of AWS's are pages of some megabytes.
const ANSWER_MAX: u64 = 16 * 1024 * 1024;

/// How long a connection is kept for the next call: no longer than it takes to see that the network is gone, because the first call
/// after that is the one that resumes a session, and a connection that has died with the network answers nothing for a minute.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);

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

/// The same for the SDK's own providers of credentials, which know no endpoints but those of the environment and the AWS
/// configuration: what they send without a signature leads to `endpoints`.
pub(crate) fn for_providers(http: SharedHttpClient, endpoints: &ServiceEndpoints) -> SharedHttpClient {
    let url = |service| endpoints.find(service).map(ToOwned::to_owned);
    let elsewhere = Elsewhere { sso: url("sso"), sso_oidc: url("sso_oidc"), sts: url("sts") };
    http_client_fn(move |settings: &HttpConnectorSettings, components: &RuntimeComponents| {
        let (connector, elsewhere) = (http.http_connector(settings, components), elsewhere.clone());
        SharedHttpConnector::new(Redirecting { connector, elsewhere })
    })
}

#[derive(Debug)]
struct Redirecting {
    connector: SharedHttpConnector,
    elsewhere: Elsewhere,
}

/// Endpoints of one's own for the calls that providers of credentials make without a signature.
#[derive(Debug, Clone, Default)]
struct Elsewhere {
    sso: Option<String>,
    sso_oidc: Option<String>,
    sts: Option<String>,
}

impl Elsewhere {
    /// Which of them a request is for, by what it asks.
    fn of(&self, request: &HttpRequest) -> Option<&str> {
        let path = request.uri().split_once("://").map_or("", |(_, rest)| rest);
        let path = path.split('?').next().unwrap_or_default();
        let body = || request.body().bytes().unwrap_or_default();
        let is_post = request.method() == "POST";
        let endpoint = if path.ends_with("/federation/credentials") {
            &self.sso
        } else if is_post && path.ends_with("/token") {
            &self.sso_oidc
        } else if is_post && body().starts_with(b"Action=AssumeRoleWithWebIdentity&") {
            &self.sts
        } else {
            &None
        };
        endpoint.as_deref()
    }
}

impl HttpConnector for Redirecting {
    fn call(&self, mut request: HttpRequest) -> HttpConnectorFuture {
        if let Some(url) = self.elsewhere.of(&request) {
            let place = request.uri().split_once("://").and_then(|(_, rest)| rest.split_once('/'));
            let uri = format!("{}/{}", url.trim_end_matches('/'), place.map_or("", |(_, path)| path));
            request.headers_mut().remove("host");
            if let Err(error) = request.set_uri(uri.as_str()) {
                return HttpConnectorFuture::ready(Err(ConnectorError::user(error.into())));
            }
        }
        self.connector.call(request)
    }
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
            tell_attempt(&request);
            match tokio::time::timeout(limit, pool.request(request)).await {
                Ok(Ok(response)) => HttpResponse::try_from(response.map(|body| bounded(body, limit)))
                    .map_err(|error| ConnectorError::other(error.into(), None)),
                Ok(Err(error)) => Err(connector_error(error)),
                Err(elapsed) => Err(ConnectorError::timeout(elapsed.into())),
            }
        })
    }
}

/// An answer that has an end: in bytes, and in time, which begins anew behind its head.
fn bounded<B>(body: B, limit: Duration) -> SdkBody
where
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + Sync + Unpin + 'static,
{
    SdkBody::from_body_1_x(Bounded {
        body,
        left: ANSWER_MAX,
        limit,
        end: Box::pin(tokio::time::sleep(limit)),
    })
}

struct Bounded<B> {
    body: B,
    left: u64,
    limit: Duration,
    end: Pin<Box<Sleep>>,
}

impl<B: Body<Data = Bytes, Error: Into<BoxError>> + Unpin> Body for Bounded<B> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) else {
            ready!(self.end.as_mut().poll(cx));
            return Poll::Ready(Some(Err(format!(
                "the answer took longer than {} s",
                self.limit.as_secs_f64()
            )
            .into())));
        };
        let Some(frame) = frame else { return Poll::Ready(None) };
        let frame = frame.map_err(Into::into)?;
        let len = frame.data_ref().map_or(0, Bytes::len) as u64;
        match self.left.checked_sub(len) {
            Some(left) => self.left = left,
            None => {
                return Poll::Ready(Some(
                    Err(format!("the answer is longer than {ANSWER_MAX} bytes").into()),
                ));
            }
        }
        Poll::Ready(Some(Ok(frame)))
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

/// Tells when a call is made again. Which failures are worth it, such as throttling, and how long to wait is for the SDK to know.
fn tell_attempt(request: &http::Request<SdkBody>) {
    let words = request.headers().get("amz-sdk-request").and_then(|value| value.to_str().ok());
    if let Some(attempt) = words.filter(|words| !words.split(';').any(|word| word.trim() == "attempt=1")) {
        let host = request.uri().host().unwrap_or_default();
        tracing::info!(host, attempt, "the last call failed, or was throttled; asking again");
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

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;
    use crate::credentials::causes;

    /// An answer that gives the same part again and again, with nothing to wait for or for ever.
    struct Endless(Bytes);

    impl Body for Endless {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            if self.0.is_empty() { Poll::Pending } else { Poll::Ready(Some(Ok(Frame::data(self.0.clone())))) }
        }
    }

    async fn end_of(part: Bytes, limit: Duration) -> (u64, String) {
        let mut body = Box::pin(bounded(Endless(part), limit));
        let mut read = 0;
        loop {
            let frame = std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await.unwrap();
            match frame {
                Ok(frame) => read += frame.into_data().unwrap().len() as u64,
                Err(error) => return (read, causes(&*error)),
            }
        }
    }

    #[tokio::test]
    async fn an_answer_without_end_is_an_error_and_not_kept() {
        let (read, told) = end_of(vec![b'x'; 1 << 20].into(), Duration::from_secs(60)).await;
        assert_eq!(read, ANSWER_MAX);
        assert!(told.contains("longer than 16777216 bytes"), "{told}");
    }

    #[tokio::test]
    async fn an_answer_that_never_comes_is_an_error() {
        let (_, told) = end_of(Bytes::new(), Duration::from_millis(20)).await;
        assert!(told.contains("longer than 0.02 s"), "{told}");
    }
}
