//! What fuzz targets reach that is behind a socket and a signature. Not in any other build.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::service::Service;
use crate::{Config, api, kms, query, server};

/// A service without a port.
pub struct Api(Arc<Service>);

impl Api {
    /// Nobody can connect to it.
    pub fn new(config: Config) -> Self {
        Self(Arc::new(Service::new(config, SocketAddr::from((Ipv4Addr::LOCALHOST, 1)))))
    }

    /// Serves the requests on this connection.
    pub async fn serve(&self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        server::serve_stream(stream, self.0.clone()).await;
    }

    /// Runs an operation of a JSON service as if its signature were right. Gives the answer or what is wrong.
    pub async fn call(&self, target: &str, body: &[u8]) -> Result<String, String> {
        let answer = match target.strip_prefix(kms::TARGET) {
            Some(operation) => kms::call(self.0.config.kms.as_ref(), &self.0.data_keys, operation, body),
            None => api::call(&self.0, target, body).await,
        };
        answer.map(|answer| answer.to_string()).map_err(|error| error.message)
    }

    /// The same for one of the query protocol.
    pub fn query(&self, form: &[u8]) -> String {
        query::call(&self.0.config, form).unwrap_or_else(|error| query::error(&error))
    }
}
