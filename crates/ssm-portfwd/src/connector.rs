//! Connections of a tunnel for HTTP clients.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::Uri;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use tower_service::Service;

use crate::{Tunnel, TunnelStream};

/// Gives an HTTP client the connections of a [`Tunnel`]: a `Service` that hyper-util's `client::legacy::Client` takes as its
/// connector, and that TLS connectors such as hyper-rustls can be put around.
///
/// Every connection leads to the destination of the tunnel, whatever host and port a URI names; they go into the request as they
/// are. It needs no `poll_ready`, and a call that is given up leaves nothing behind.
#[derive(Debug, Clone)]
pub struct Connector {
    tunnel: Tunnel,
}

impl Connector {
    /// Connections of this tunnel.
    pub fn new(tunnel: Tunnel) -> Self {
        Self { tunnel }
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<TunnelStream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.tunnel.closed() {
            Some(error) => Poll::Ready(Err(error.into())),
            None => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let tunnel = self.tunnel.clone();
        Box::pin(async move { tunnel.open().await.map(TokioIo::new) })
    }
}

impl Connection for TunnelStream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}
