//! The control plane on the AWS SDK.

use std::time::Duration;

use aws_config::identity::IdentityCache;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_ssm::Client;
use aws_sdk_ssm::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use ssm_channel::{DATA_KEY_LEN, DataKey};
use ssm_proto::Token;
use zeroize::Zeroizing;

use crate::access_key::AccessKey;
use crate::api_client;
use crate::control::{ControlError, ControlErrorKind, ControlPlane, DataKeyRequest, Resumed, SessionId};
use crate::credentials::code::CodePrompt;
use crate::credentials::{Chain, causes, find};
use crate::dial::DialError;
use crate::document::StartSession;
use crate::endpoint::Endpoint;
use crate::network::Network;
use crate::route::Route;
use crate::service_endpoints::{ServiceEndpoints, endpoint, endpoint_of_its_own};
use crate::sign::Identity;
use crate::stream_url::{StreamEndpoint, StreamHosts};

/// How long connecting to the API may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// What the user may say about accounts and places; the rest comes from the environment and the AWS configuration files.
#[derive(Debug, Clone, Default)]
pub struct AwsOptions {
    /// Profile of the AWS configuration files.
    pub profile: Option<String>,
    /// Region.
    pub region: Option<String>,
    /// URL of the Systems Manager API, before what `endpoints` say of it. Data channels may lead to its host, too.
    pub endpoint_url: Option<String>,
    /// URLs of the APIs.
    pub endpoints: ServiceEndpoints,
    /// Where data channels lead, in place of the host that the service names.
    pub ssmmessages_endpoint: Option<StreamEndpoint>,
    /// Whether hosts with FIPS 140 cryptography are used, for the APIs and for data channels.
    pub fips: Option<bool>,
    /// Whether hosts that have IPv6 are used, for the APIs and for data channels.
    pub dual_stack: Option<bool>,
    /// Who is asked for the codes of a second factor. Without one, no role that takes one can be assumed.
    pub code_prompt: Option<CodePrompt>,
    /// The way to the API and to data channels.
    pub network: Network,
}

/// [`ControlPlane`] on `aws-sdk-ssm`, with credentials from the SDK's usual chain.
#[derive(Debug, Clone)]
pub struct AwsControl {
    client: Client,
    config: SdkConfig,
    region: String,
    profile: Option<String>,
    endpoint_url: Option<String>,
    route: Route,
    credentials: Chain,
}

impl AwsControl {
    /// Finds region and credentials. Makes no API call; credentials that need the network are fetched with the first one.
    ///
    /// # Errors
    ///
    /// When no region is configured.
    pub async fn load(options: AwsOptions) -> Result<Self, ControlError> {
        let (config, http) = load_config(&options).await;
        let (profile, endpoint_url) = (options.profile.clone(), options.endpoint_url.clone());
        let Some(region) = config.region().map(ToString::to_string).filter(|region| !region.is_empty())
        else {
            return Err(ControlError::new(
                ControlErrorKind::Invalid,
                "no AWS region: give --region, set AWS_REGION, or set `region` in the profile",
            ));
        };
        let endpoint_of_streams = match options.ssmmessages_endpoint {
            Some(endpoint) => Some(endpoint),
            None => stream_endpoint(&config)?,
        };
        let streams = StreamHosts {
            region: Some(region.clone()),
            endpoint: endpoint_of_streams,
            trusted: Vec::new(),
            fips: config.use_fips().unwrap_or_default(),
            dual_stack: config.use_dual_stack().unwrap_or_default(),
        };
        let streams =
            endpoint(&config, "SSM").into_iter().fold(streams, |streams, api| streams.trusting(&api));
        let route = Route { network: options.network, streams };
        let http = api_client::for_providers(http, &options.endpoints);
        let credentials = Chain::new(options.profile, &config, http, options.code_prompt);
        // The chain has a memory of its own, and forgets what the service does not take.
        let config = config
            .into_builder()
            .credentials_provider(SharedCredentialsProvider::new(credentials.clone()))
            .identity_cache(IdentityCache::no_cache())
            .build();
        let client = Client::new(&config);
        Ok(Self { client, config, region, profile, endpoint_url, route, credentials })
    }

    /// What was found, for clients of other services in the same account: they go the same way, to the endpoints of
    /// [`AwsOptions`], with the same credentials.
    pub fn sdk_config(&self) -> &SdkConfig {
        &self.config
    }

    /// The credentials in use, as far as they can be shown. Fetches them.
    ///
    /// # Errors
    ///
    /// When there are none.
    pub async fn access_key(&self) -> Result<AccessKey, ControlError> {
        Ok(AccessKey::of(&self.credentials.fetch().await?))
    }

    /// The client that sessions are started with, for other calls of Systems Manager.
    pub fn ssm(&self) -> &Client {
        &self.client
    }

    /// What it means that a call of such a client failed, and what to do about it. `action` is that of IAM, `ssm:DescribeSessions`
    /// for one.
    pub fn failure<E>(action: &str, resource: &str, error: SdkError<E>) -> ControlError
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        explain(action, resource, error)
    }

    /// The region in use.
    pub fn region(&self) -> &str {
        &self.region
    }

    /// The profile of [`AwsOptions`].
    pub fn profile(&self) -> Option<&str> {
        self.profile.as_deref()
    }

    /// The URL of [`AwsOptions`].
    pub fn endpoint_url(&self) -> Option<&str> {
        self.endpoint_url.as_deref()
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
        let answer = match call.send().await {
            Ok(answer) => answer,
            Err(error) => return Err(self.failed("ssm:StartSession", &request.target, error).await),
        };
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
        let answer = match call.send().await {
            Ok(answer) => answer,
            Err(error) => return Err(self.failed("ssm:ResumeSession", id.as_str(), error).await),
        };
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
        match call.send().await {
            Ok(_) => Ok(()),
            Err(error) => Err(self.failed("ssm:TerminateSession", id.as_str(), error).await),
        }
    }

    async fn identity(&self) -> Result<Option<Identity>, ControlError> {
        Ok(Some(Identity::new(self.credentials.fetch().await?, self.region.clone())))
    }

    async fn data_key(&self, request: &DataKeyRequest) -> Result<DataKey, ControlError> {
        let call = aws_sdk_kms::Client::new(&self.config)
            .generate_data_key()
            .key_id(&request.key_id)
            .number_of_bytes(DATA_KEY_LEN as i32)
            .set_encryption_context(Some(
                request.context.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
            ));
        let answer = match call.send().await {
            Ok(answer) => answer,
            Err(error) => return Err(self.failed("kms:GenerateDataKey", &request.key_id, error).await),
        };
        let (Some(plaintext), Some(ciphertext)) = (answer.plaintext, answer.ciphertext_blob) else {
            let message = "GenerateDataKey answered without a key";
            return Err(ControlError::new(ControlErrorKind::Service, message));
        };
        let plaintext = Zeroizing::new(plaintext.into_inner());
        DataKey::new(&plaintext, ciphertext.into_inner())
            .map_err(|error| ControlError::new(ControlErrorKind::Service, error.to_string()))
    }

    fn route(&self) -> Route {
        self.route.clone()
    }
}

/// Region, endpoints and the way out, without credentials.
pub(crate) async fn load_config(options: &AwsOptions) -> (SdkConfig, SharedHttpClient) {
    let http = api_client::http_client(options.network.clone());
    let timeouts = aws_config::timeout::TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).build();
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http.clone())
        .timeout_config(timeouts)
        .no_credentials();
    if let Some(profile) = &options.profile {
        loader = loader.profile_name(profile);
    }
    if let Some(region) = &options.region {
        loader = loader.region(Region::new(region.clone()));
    }
    if let Some(fips) = options.fips {
        loader = loader.use_fips(fips);
    }
    if let Some(dual_stack) = options.dual_stack {
        loader = loader.use_dual_stack(dual_stack);
    }
    let endpoints = options.endpoints.clone();
    let endpoints = match &options.endpoint_url {
        Some(url) => endpoints.with("ssm", url),
        None => endpoints,
    };
    (endpoints.applied_to(loader.load().await), http)
}

/// Where the AWS configuration puts data channels.
fn stream_endpoint(config: &SdkConfig) -> Result<Option<StreamEndpoint>, ControlError> {
    let Some(url) = endpoint_of_its_own(config, "ssmmessages") else { return Ok(None) };
    StreamEndpoint::parse(&url).map(Some).map_err(|error| {
        let message = format!("the endpoint of ssmmessages in the AWS configuration cannot be used: {error}");
        ControlError::new(ControlErrorKind::Invalid, message)
    })
}

impl AwsControl {
    /// [`explain`], and another look for credentials next time if these are not good.
    async fn failed<E>(&self, action: &str, resource: &str, error: SdkError<E>) -> ControlError
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let error = explain(action, resource, error);
        if error.kind() == ControlErrorKind::Credentials {
            self.credentials.forget().await;
        }
        error
    }
}

/// The kind of a failure, and a message with what to do about it.
fn explain<E>(action: &str, resource: &str, error: SdkError<E>) -> ControlError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    if let Some(error) = find::<ControlError>(&error) {
        return error.clone();
    }
    if let Some(error) = find::<DialError>(&error) {
        let message = format!("{} was not reached: {error}", api(action));
        return ControlError::new(ControlErrorKind::Unreachable, message);
    }
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
            let (action, resource) = missing(&text).unwrap_or((action, resource));
            let message = format!("denied: your permissions do not allow {action} on {resource} ({text})");
            (ControlErrorKind::AccessDenied, message)
        }
        (_, "ExpiredTokenException" | "ExpiredToken" | "RequestExpired") => {
            (ControlErrorKind::Credentials, format!("the AWS credentials have expired: renew them ({text})"))
        }
        (
            _,
            "UnrecognizedClientException"
            | "InvalidClientTokenId"
            | "InvalidSignatureException"
            | "MissingAuthenticationTokenException"
            | "IncompleteSignature",
        ) => (ControlErrorKind::Credentials, format!("the AWS credentials are not accepted: {text}")),
        (
            _,
            "NotFoundException"
            | "DisabledException"
            | "KMSInvalidStateException"
            | "InvalidKeyUsageException",
        ) => (ControlErrorKind::Invalid, format!("the KMS key {resource} cannot be used: {text}")),
        (_, code) if is_throttling(code) => {
            (ControlErrorKind::Throttled, format!("{action} is throttled: {text}"))
        }
        (_, "ValidationException") => (ControlErrorKind::Invalid, format!("{action} was refused: {text}")),
        (SdkError::ServiceError(_), code) => {
            (ControlErrorKind::Service, format!("{action} failed: {code} {text}"))
        }
        (SdkError::ConstructionFailure(_), _) => {
            (ControlErrorKind::Invalid, format!("{action} cannot be called: {}", causes(&error)))
        }
        _ => (ControlErrorKind::Unreachable, format!("{} was not reached: {}", api(action), causes(&error))),
    };
    ControlError::new(kind, message)
}

/// Whether an error of Systems Manager with this code says that there were too many calls, so that the same call may be answered
/// later.
pub fn is_throttling(code: &str) -> bool {
    matches!(code, "ThrottlingException" | "Throttling" | "TooManyRequestsException")
}

/// The API that an action of IAM belongs to.
fn api(action: &str) -> String {
    match action.split_once(':') {
        Some(("ssm", _)) | None => "the Systems Manager API".into(),
        Some((service, _)) => format!("the API of {}", service.to_uppercase()),
    }
}

/// The action and the resource that IAM names in `... is not authorized to perform: ACTION on resource: RESOURCE because ...`.
fn missing(text: &str) -> Option<(&str, &str)> {
    let mut words = text.split_once("to perform: ")?.1.split_whitespace();
    let action = words.next()?;
    match (words.next(), words.next()) {
        (Some("on"), Some("resource:")) => Some((action, words.next()?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_api_that_is_not_reached_is_named() {
        assert_eq!(api("ssm:StartSession"), "the Systems Manager API");
        assert_eq!(api("ecs:DescribeTasks"), "the API of ECS");
    }

    #[test]
    fn a_denial_names_the_action_and_the_resource_that_iam_names() {
        let text = "User: arn:aws:iam::1:user/u is not authorized to perform: ssm:StartSession on resource: \
            arn:aws:ssm:eu-west-1::document/X because no identity-based policy allows the ssm:StartSession action";
        assert_eq!(missing(text), Some(("ssm:StartSession", "arn:aws:ssm:eu-west-1::document/X")));
        assert_eq!(missing("no"), None);
        assert_eq!(missing("to perform: ssm:X"), None);
    }
}
