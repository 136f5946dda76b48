//! The HTTP server on 127.0.0.1: API calls and WebSocket upgrades on one port.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use ssm_proto::MessageId;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::handshake::server::create_response_with_body;

use crate::api::{self, ApiError};
use crate::config::Upgrade;
use crate::service::{AGENT_HEADER, Service};
use crate::sigv4::{SignatureError, SignedRequest, query_pairs};
use crate::{ecs, gateway, kms, query, random};

/// Largest API request. The biggest parameter AWS allows is 64 KiB.
const BODY_LIMIT: usize = 256 * 1024;
/// Most bytes a request head may take.
const HEAD_LIMIT: usize = 64 * 1024;
/// How long a request head or body may take to arrive.
const READ_LIMIT: Duration = Duration::from_secs(60);
/// HTTP connections at once; further ones wait to be accepted. Upgraded ones no longer count.
const CONNECTIONS: usize = 1024;
const JSON: &str = "application/x-amz-json-1.1";
/// What the query protocol is sent as; its answers are XML.
const FORM: &[u8] = b"application/x-www-form-urlencoded";

/// Accepts connections for ever. Dropping the future drops them all, except those that were upgraded.
pub(crate) async fn serve(listener: TcpListener, service: Arc<Service>) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        if connections.len() >= CONNECTIONS {
            connections.join_next().await;
        }
        match listener.accept().await {
            Ok((stream, _)) => {
                connections.spawn(serve_connection(stream, service.clone()));
            }
            Err(error) => {
                // Out of file descriptors, most likely: some will come back.
                tracing::warn!(%error, "cannot accept a connection");
                sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn serve_connection(stream: TcpStream, service: Arc<Service>) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY not set");
    }
    serve_stream(stream, service).await;
}

/// Serves what is on one connection, to its end.
pub(crate) async fn serve_stream<S>(stream: S, service: Arc<Service>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let handler = service_fn(move |request| answer(service.clone(), request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(READ_LIMIT)
        .max_buf_size(HEAD_LIMIT)
        .serve_connection(TokioIo::new(stream), handler)
        .with_upgrades();
    if let Err(error) = connection.await {
        tracing::debug!(%error, "HTTP connection ended");
    }
}

type Answer = Response<Full<Bytes>>;

async fn answer(service: Arc<Service>, request: Request<Incoming>) -> Result<Answer, Infallible> {
    let path = request.uri().path();
    let result = match (request.method(), path.strip_prefix("/v1/data-channel/")) {
        (&Method::POST, None) if path == "/" => call(&service, request).await,
        (&Method::GET, Some(id)) if !id.is_empty() => {
            let id = id.to_owned();
            upgrade(&service, &id, request)
        }
        _ => Err(ApiError {
            status: StatusCode::NOT_FOUND,
            ..ApiError::new("UnknownOperationException", "there is nothing at this path")
        }),
    };
    Ok(result.unwrap_or_else(error_response))
}

/// One API call: signature first, then the operation.
async fn call(service: &Arc<Service>, request: Request<Incoming>) -> Result<Answer, ApiError> {
    let (head, body) = request.into_parts();
    let body = match timeout(READ_LIMIT, Limited::new(body, BODY_LIMIT).collect()).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            return Err(ApiError {
                status: StatusCode::PAYLOAD_TOO_LARGE,
                ..ApiError::new("RequestEntityTooLargeException", "a request is at most 256 KiB")
            });
        }
        Ok(Err(_)) | Err(_) => {
            return Err(ApiError::new("SerializationException", "the request body did not arrive"));
        }
    };
    let signed = SignedRequest { method: &head.method, uri: &head.uri, headers: &head.headers, body: &body };
    if head.headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(FORM)) {
        let verified = service.verifier("sts").verify(&signed).map_err(ApiError::from);
        return Ok(xml_response(verified.and_then(|()| query::call(&service.config, &body))));
    }
    let target = head.headers.get("x-amz-target").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let name = if target.starts_with(ecs::PREFIX) { "ecs" } else { "ssm" };
    let answer = match target.strip_prefix(kms::TARGET) {
        Some(operation) => {
            service.verifier("kms").verify(&signed)?;
            kms::call(service.config.kms.as_ref(), &service.data_keys, operation, &body)?
        }
        None => {
            service.verifier(name).verify(&signed)?;
            api::call(service, target, &body).await?
        }
    };
    Ok(json_response(StatusCode::OK, &answer))
}

/// One WebSocket upgrade: a signature that is there must be right; the token comes in the first frame.
fn upgrade(
    service: &Arc<Service>,
    session_id: &str,
    mut request: Request<Incoming>,
) -> Result<Answer, ApiError> {
    let signed =
        SignedRequest { method: request.method(), uri: request.uri(), headers: request.headers(), body: &[] };
    if signed.is_signed() || service.config.upgrade == Upgrade::SignedOnly {
        service.verifier("ssmmessages").verify(&signed)?;
    }
    check_channel(service, session_id, request.uri().query())?;
    if !request.headers().contains_key(AGENT_HEADER)
        && let Some(status) = service.faults.upgrade()
    {
        return Err(ApiError {
            status: StatusCode::from_u16(status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE),
            ..ApiError::new("FaultException", "a fault refuses the upgrade")
        });
    }
    let response = create_response_with_body(&request, Full::default)
        .map_err(|error| ApiError::new("BadRequestException", error.to_string()))?;
    let opened = gateway::open(service.clone(), session_id.to_owned(), hyper::upgrade::on(&mut request));
    service
        .tasks
        .spawn(opened)
        .map(|_| response)
        .ok_or_else(|| ApiError::new("InternalServerError", "the loopback is shutting down"))
}

fn check_channel(service: &Service, session_id: &str, query: Option<&str>) -> Result<(), ApiError> {
    let store = service.store();
    let record = store.find(session_id).ok_or_else(|| ApiError {
        status: StatusCode::NOT_FOUND,
        ..ApiError::new("ChannelNotFoundException", "there is no such data channel")
    })?;
    if service.cells_expire() {
        let cell = Service::cell_number(record.cell);
        if !query_pairs(query).any(|(name, value)| name == "cell-number" && value == cell) {
            return Err(ApiError::new(
                "BadRequestException",
                "the cell-number of this stream URL has expired",
            ));
        }
    }
    Ok(())
}

impl From<SignatureError> for ApiError {
    fn from(error: SignatureError) -> Self {
        Self { status: StatusCode::FORBIDDEN, ..Self::new(error.code(), error.to_string()) }
    }
}

fn error_response(error: ApiError) -> Answer {
    tracing::debug!(code = error.code, message = error.message, "request refused");
    json_response(error.status, &json!({ "__type": error.code, "message": error.message }))
}

fn xml_response(answer: Result<String, ApiError>) -> Answer {
    let (status, xml) = match answer {
        Ok(xml) => (StatusCode::OK, xml),
        Err(error) => (error.status, query::error(&error)),
    };
    let mut response = Response::new(Full::new(Bytes::from(xml)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/xml"));
    response
}

fn json_response(status: StatusCode, body: &Value) -> Answer {
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(JSON));
    let request_id = MessageId::from_random(random::bytes()).to_string();
    if let Ok(request_id) = HeaderValue::from_str(&request_id) {
        response.headers_mut().insert("x-amzn-requestid", request_id);
    }
    response
}
