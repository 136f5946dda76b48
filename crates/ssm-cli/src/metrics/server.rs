//! The text of the recorder over HTTP.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use super::recorder::Recorder;

/// Where the metrics are.
pub(super) const PATH: &str = "/metrics";

/// Of the exposition format.
const FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Clients at a time; further ones wait to be accepted.
const CLIENTS: usize = 16;

/// How long a client may take for everything.
const CLIENT_LIMIT: Duration = Duration::from_secs(10);

/// Serves for ever.
pub(super) async fn serve(listener: TcpListener, recorder: Recorder) {
    let clients = Arc::new(Semaphore::new(CLIENTS));
    loop {
        let Ok(place) = Arc::clone(&clients).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let client = client(stream, recorder.clone());
                tokio::spawn(async move {
                    let _ = timeout(CLIENT_LIMIT, client).await;
                    drop(place);
                });
            }
            Err(error) => {
                // Out of file descriptors, most likely: some will come back.
                tracing::warn!(%error, "cannot serve metrics");
                sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn client(stream: TcpStream, recorder: Recorder) {
    let answer =
        service_fn(move |request| std::future::ready(Ok::<_, Infallible>(answer(&recorder, &request))));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).keep_alive(false);
    if let Err(error) = http.serve_connection(TokioIo::new(stream), answer).await {
        tracing::debug!(%error, "a client of the metrics");
    }
}

fn answer(recorder: &Recorder, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let (status, header, text) = match (request.uri().path(), request.method()) {
        (PATH, &Method::GET | &Method::HEAD) => (StatusCode::OK, (CONTENT_TYPE, FORMAT), recorder.render()),
        (PATH, _) => {
            (StatusCode::METHOD_NOT_ALLOWED, (ALLOW, "GET, HEAD"), "this is to be read only\n".into())
        }
        _ => (StatusCode::NOT_FOUND, (CONTENT_TYPE, "text/plain"), format!("the metrics are at {PATH}\n")),
    };
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    let (name, value) = header;
    response.headers_mut().insert(name, HeaderValue::from_static(value));
    response
}
