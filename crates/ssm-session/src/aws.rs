//! The control plane on the AWS SDK.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::ProvideCredentials;
use aws_sdk_ssm::Client;
use aws_sdk_ssm::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use ssm_proto::Token;

use crate::control::{ControlError, ControlErrorKind, ControlPlane, Resumed, SessionId};
use crate::document::StartSession;
use crate::endpoint::Endpoint;
use crate::sign::Identity;

/// How long connecting to the API may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// What the user may say about accounts and places; the rest comes from the environment and the AWS configuration files.
#[derive(Debug, Clone, Default)]
pub struct AwsOptions {
    /// Profile of the AWS configuration files.
    pub profile: Option<String>,
    /// Region.
    pub region: Option<String>,
    /// URL of the Systems Manager API.
    pub endpoint_url: Option<String>,
}

/// [`ControlPlane`] on `aws-sdk-ssm`, with credentials from the SDK's usual chain.
#[derive(Debug, Clone)]
pub struct AwsControl {
    client: Client,
    config: SdkConfig,
    region: String,
    /// What the last upgrade was signed with. The chain has no memory of its own, and a single sign-on or an external program
    /// takes long to ask.
    credentials: Arc<Mutex<Option<Credentials>>>,
}

/// Credentials that expire within this are asked for anew.
const EXPIRY_MARGIN: Duration = Duration::from_secs(300);

impl AwsControl {
    /// Finds region and credentials. Makes no API call; credentials that need the network are fetched with the first one.
    ///
    /// # Errors
    ///
    /// When no region is configured.
    pub async fn load(options: AwsOptions) -> Result<Self, ControlError> {
        let http = Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
        let timeouts = aws_config::timeout::TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).build();
        let mut loader =
            aws_config::defaults(BehaviorVersion::latest()).http_client(http).timeout_config(timeouts);
        if let Some(profile) = options.profile {
            loader = loader.profile_name(profile);
        }
        if let Some(region) = options.region {
            loader = loader.region(Region::new(region));
        }
        let config = loader.load().await;
        let Some(region) = config.region().map(ToString::to_string) else {
            return Err(ControlError::new(
                ControlErrorKind::Invalid,
                "no AWS region: give --region, set AWS_REGION, or set `region` in the profile",
            ));
        };
        let mut ssm = aws_sdk_ssm::config::Builder::from(&config);
        if let Some(url) = options.endpoint_url {
            ssm = ssm.endpoint_url(url);
        }
        let credentials = Arc::default();
        Ok(Self { client: Client::from_conf(ssm.build()), config, region, credentials })
    }

    /// What was found, for clients of other services in the same account. The endpoint of [`AwsOptions`] is not a part of it.
    pub fn sdk_config(&self) -> &SdkConfig {
        &self.config
    }

    /// The region in use.
    pub fn region(&self) -> &str {
        &self.region
    }
}

impl ControlPlane for AwsControl {
    async fn start(&self, request: &StartSession) -> Result<Endpoint, ControlError> {
        let mut call = self
            .client
            .start_session()
            .target(&request.target)
            .set_document_name(request.document.clone())
            .set_reason(request.reason.clone());
        for (name, values) in &request.parameters {
            call = call.parameters(name, values.clone());
        }
        let answer =
            call.send().await.map_err(|error| explain("ssm:StartSession", &request.target, error))?;
        match (answer.session_id, answer.stream_url, answer.token_value) {
            (Some(id), Some(stream_url), Some(token)) => {
                Ok(Endpoint { session_id: SessionId::new(id), stream_url, token: Token::new(token) })
            }
            _ => Err(ControlError::new(
                ControlErrorKind::Service,
                "StartSession answered without an id, a URL or a token",
            )),
        }
    }

    async fn resume(&self, id: &SessionId) -> Result<Resumed, ControlError> {
        let call = self.client.resume_session().session_id(id.as_str());
        let answer = call.send().await.map_err(|error| explain("ssm:ResumeSession", id.as_str(), error))?;
        Ok(match answer.token_value.filter(|token| !token.is_empty()) {
            Some(token) => Resumed::Endpoint(Endpoint {
                session_id: id.clone(),
                stream_url: answer.stream_url.unwrap_or_default(),
                token: Token::new(token),
            }),
            None => Resumed::SessionOver,
        })
    }

    async fn terminate(&self, id: &SessionId) -> Result<(), ControlError> {
        let call = self.client.terminate_session().session_id(id.as_str());
        call.send().await.map_err(|error| explain("ssm:TerminateSession", id.as_str(), error))?;
        Ok(())
    }

    async fn identity(&self) -> Result<Option<Identity>, ControlError> {
        if let Some(credentials) = self.cached() {
            return Ok(Some(Identity::new(credentials, self.region.clone())));
        }
        let Some(provider) = self.config.credentials_provider() else { return Ok(None) };
        match provider.provide_credentials().await {
            Ok(credentials) => {
                *self.credentials.lock().unwrap_or_else(PoisonError::into_inner) = Some(credentials.clone());
                Ok(Some(Identity::new(credentials, self.region.clone())))
            }
            Err(error) => Err(ControlError::new(
                ControlErrorKind::Credentials,
                format!("no usable AWS credentials: {}", DisplayErrorContext(error)),
            )),
        }
    }
}

impl AwsControl {
    fn cached(&self) -> Option<Credentials> {
        let cached = self.credentials.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        let fresh = cached.expiry().is_none_or(|at| at > SystemTime::now() + EXPIRY_MARGIN);
        fresh.then_some(cached)
    }
}

/// The kind of a failure, and a message with what to do about it.
fn explain<E>(action: &str, resource: &str, error: SdkError<E>) -> ControlError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let text = error.message().unwrap_or_default().to_owned();
    let (kind, message) = match (&error, error.code().unwrap_or_default()) {
        (_, "TargetNotConnected") => (
            ControlErrorKind::TargetNotConnected,
            format!(
                "{resource} is not connected to Systems Manager: is it running, with the agent started and allowed by its role? ({text})"
            ),
        ),
        (_, "InvalidDocument" | "InvalidDocumentVersion") => {
            (ControlErrorKind::InvalidDocument, format!("the session document cannot be used: {text}"))
        }
        (_, "DoesNotExistException") => {
            (ControlErrorKind::NoSuchSession, format!("session {resource} does not exist"))
        }
        (_, "AccessDeniedException" | "AccessDenied" | "UnauthorizedOperation") => {
            (ControlErrorKind::AccessDenied, format!("{action} on {resource} is denied: {text}"))
        }
        (_, "ExpiredTokenException" | "ExpiredToken" | "RequestExpired") => {
            (ControlErrorKind::Credentials, format!("the AWS credentials have expired: {text}"))
        }
        (
            _,
            "UnrecognizedClientException"
            | "InvalidClientTokenId"
            | "InvalidSignatureException"
            | "MissingAuthenticationTokenException"
            | "IncompleteSignature",
        ) => (ControlErrorKind::Credentials, format!("the AWS credentials are not accepted: {text}")),
        (_, "ThrottlingException" | "Throttling" | "TooManyRequestsException") => {
            (ControlErrorKind::Throttled, format!("{action} is throttled: {text}"))
        }
        (_, "ValidationException") => (ControlErrorKind::Invalid, format!("{action} was refused: {text}")),
        (SdkError::ServiceError(_), code) => {
            (ControlErrorKind::Service, format!("{action} failed: {code} {text}"))
        }
        (SdkError::ConstructionFailure(_), _) => {
            (ControlErrorKind::Invalid, format!("{action} cannot be called: {}", DisplayErrorContext(&error)))
        }
        (SdkError::DispatchFailure(failure), _) if !failure.is_io() && !failure.is_timeout() => {
            let cause = DisplayErrorContext(&error).to_string();
            let kind = if cause.contains("redential") {
                ControlErrorKind::Credentials
            } else {
                ControlErrorKind::Unreachable
            };
            (kind, format!("{action} was not sent: {cause}"))
        }
        _ => (
            ControlErrorKind::Unreachable,
            format!("the Systems Manager API was not reached: {}", DisplayErrorContext(&error)),
        ),
    };
    ControlError::new(kind, message)
}
