//! The control plane on the AWS SDK.

use std::env;
use std::time::Duration;

use aws_config::identity::IdentityCache;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_ssm::Client;
use aws_sdk_ssm::error::{ProvideErrorMetadata, SdkError};
use ssm_proto::Token;

use crate::access_key::AccessKey;
use crate::api_client;
use crate::control::{ControlError, ControlErrorKind, ControlPlane, Resumed, SessionId};
use crate::credentials::{Chain, causes, find};
use crate::dial::DialError;
use crate::document::StartSession;
use crate::endpoint::Endpoint;
use crate::network::Network;
use crate::route::Route;
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
    /// URL of the Systems Manager API. Data channels may lead to its host, too.
    pub endpoint_url: Option<String>,
    /// Where data channels lead, in place of the host that the service names.
    pub ssmmessages_endpoint: Option<StreamEndpoint>,
    /// The way to the API and to data channels.
    pub network: Network,
}

/// [`ControlPlane`] on `aws-sdk-ssm`, with credentials from the SDK's usual chain.
#[derive(Debug, Clone)]
pub struct AwsControl {
    client: Client,
    config: SdkConfig,
    region: String,
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
        let http = api_client::http_client(options.network.clone());
        let timeouts = aws_config::timeout::TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).build();
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .http_client(http.clone())
            .timeout_config(timeouts);
        if let Some(profile) = &options.profile {
            loader = loader.profile_name(profile);
        }
        if let Some(region) = options.region {
            loader = loader.region(Region::new(region));
        }
        let config = loader.load().await;
        let Some(region) = config.region().map(ToString::to_string).filter(|region| !region.is_empty())
        else {
            return Err(ControlError::new(
                ControlErrorKind::Invalid,
                "no AWS region: give --region, set AWS_REGION, or set `region` in the profile",
            ));
        };
        let credentials = Chain::new(options.profile, &config, http);
        // The chain has a memory of its own, and forgets what the service does not take.
        let config = config
            .into_builder()
            .credentials_provider(SharedCredentialsProvider::new(credentials.clone()))
            .identity_cache(IdentityCache::no_cache())
            .build();
        let mut ssm = aws_sdk_ssm::config::Builder::from(&config);
        if let Some(url) = &options.endpoint_url {
            ssm = ssm.endpoint_url(url);
        }
        let api = options.endpoint_url.or_else(|| api_variable(|name| env::var(name).ok()));
        let streams = StreamHosts {
            region: Some(region.clone()),
            endpoint: options.ssmmessages_endpoint,
            trusted: Vec::new(),
        };
        let streams = api.into_iter().fold(streams, |streams, api| streams.trusting(&api));
        let route = Route { network: options.network, streams };
        Ok(Self { client: Client::from_conf(ssm.build()), config, region, route, credentials })
    }

    /// What was found, for clients of other services in the same account: they go the same way, with the same credentials. The
    /// endpoint of [`AwsOptions`] is not a part of it.
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

    fn route(&self) -> Route {
        self.route.clone()
    }
}

/// Where the environment puts the Systems Manager API.
fn api_variable(read: impl Fn(&str) -> Option<String>) -> Option<String> {
    if read("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return None;
    }
    let read = |name: &str| read(name).filter(|value| !value.is_empty());
    read("AWS_ENDPOINT_URL_SSM").or_else(|| read("AWS_ENDPOINT_URL"))
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
        let message = format!("the Systems Manager API was not reached: {error}");
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
        (_, "ThrottlingException" | "Throttling" | "TooManyRequestsException") => {
            (ControlErrorKind::Throttled, format!("{action} is throttled: {text}"))
        }
        (_, "ValidationException") => (ControlErrorKind::Invalid, format!("{action} was refused: {text}")),
        (SdkError::ServiceError(_), code) => {
            (ControlErrorKind::Service, format!("{action} failed: {code} {text}"))
        }
        (SdkError::ConstructionFailure(_), _) => {
            (ControlErrorKind::Invalid, format!("{action} cannot be called: {}", causes(&error)))
        }
        _ => (
            ControlErrorKind::Unreachable,
            format!("the Systems Manager API was not reached: {}", causes(&error)),
        ),
    };
    ControlError::new(kind, message)
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
    fn a_denial_names_the_action_and_the_resource_that_iam_names() {
        let text = "User: arn:aws:iam::1:user/u is not authorized to perform: ssm:StartSession on resource: \
            arn:aws:ssm:eu-west-1::document/X because no identity-based policy allows the ssm:StartSession action";
        assert_eq!(missing(text), Some(("ssm:StartSession", "arn:aws:ssm:eu-west-1::document/X")));
        assert_eq!(missing("no"), None);
        assert_eq!(missing("to perform: ssm:X"), None);
    }

    #[test]
    fn the_api_endpoint_is_read_as_the_sdk_reads_it() {
        let variable = |vars: &[(&str, &str)]| {
            api_variable(|name| vars.iter().find(|(var, _)| *var == name).map(|(_, value)| (*value).into()))
        };
        let both = [("AWS_ENDPOINT_URL", "http://all"), ("AWS_ENDPOINT_URL_SSM", "http://ssm")];
        assert_eq!(variable(&both).as_deref(), Some("http://ssm"));
        assert_eq!(variable(&both[..1]).as_deref(), Some("http://all"));
        assert_eq!(variable(&[both[0], ("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")]), None);
    }
}
