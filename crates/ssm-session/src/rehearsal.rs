//! Requests that are made and not sent, to learn where they would have gone.
//!
//! The SDK decides that by region, partition, FIPS, dual stack, variables and profile. It is asked in place of doing so again.

use std::sync::{Arc, Mutex, PoisonError};

use aws_config::SdkConfig;
use aws_config::retry::RetryConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::result::ConnectorError;
use http::Uri;

/// Where the requests of a client would go.
#[derive(Debug, Clone, Default)]
pub struct Rehearsal(Arc<Mutex<Option<String>>>);

impl Rehearsal {
    /// A configuration like this one whose clients send nothing: every call fails, and what it would have been sent to is kept.
    pub fn new(config: &SdkConfig) -> (Self, SdkConfig) {
        let rehearsal = Self::default();
        let stage = rehearsal.clone();
        let client =
            http_client_fn(move |_: &HttpConnectorSettings, _| SharedHttpConnector::new(stage.clone()));
        let nobody = Credentials::new("AKIDREHEARSAL", "none", None, None, "rehearsal");
        let config = config
            .to_builder()
            .http_client(client)
            .credentials_provider(SharedCredentialsProvider::new(nobody))
            .retry_config(RetryConfig::disabled())
            .build();
        (rehearsal, config)
    }

    /// `https://HOST[:PORT]` of the last call.
    pub fn url(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl HttpConnector for Rehearsal {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let uri: Uri = request.uri().parse().unwrap_or_default();
        if let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) {
            // Whoever writes a password into an endpoint does not want to see it again.
            let place = authority.as_str().rsplit('@').next().unwrap_or_default();
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(format!("{scheme}://{place}"));
        }
        HttpConnectorFuture::ready(Err(ConnectorError::user("nothing is sent".into())))
    }
}
