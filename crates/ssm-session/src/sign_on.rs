//! Signing on with IAM Identity Center: the device flow of OAuth (RFC 8628) as the AWS CLI goes through it, with the token left
//! where the AWS CLI and the SDKs look for it.

use std::fmt;
use std::io;
use std::time::{Duration, Instant, SystemTime};

use aws_config::profile::ProfileSet;
use aws_config::{Region, SdkConfig};
use aws_sdk_ssooidc::Client;
use aws_sdk_ssooidc::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_ssooidc::operation::create_token::CreateTokenOutput;
use serde::{Deserialize, Serialize};
use ssm_proto::Secret;
use zeroize::Zeroize;

use crate::aws::{AwsOptions, load_config};
use crate::control::{ControlError, ControlErrorKind};
use crate::credentials::roles::{Roles, profiles};
use crate::credentials::store::{Store, read_time, written_time};
use crate::credentials::{EXPIRY_MARGIN, causes, find};
use crate::dial::DialError;

/// What is asked for when an `sso-session` names no scopes, as the AWS CLI has it.
const SCOPE: &str = "sso:account:access";

const DEVICE_GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";
const REFRESH_GRANT: &str = "refresh_token";

/// Time between two questions whether the user is done, unless the service says another one; and how much longer it becomes when
/// the service finds it too short (RFC 8628 section 3.5).
const INTERVAL: Duration = Duration::from_secs(5);
const INTERVAL_MAX: Duration = Duration::from_secs(60);

/// Longest time that a user has, whatever the service says.
const PATIENCE_MAX: Duration = Duration::from_secs(3600);

/// Where one signs on, and what for: an `sso-session` of the AWS configuration, or the older `sso_start_url` of a profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignOn {
    session: Option<String>,
    start_url: String,
    region: String,
    scopes: Vec<String>,
}

/// What there is of a sign-on on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignOnState {
    /// It was never begun here.
    Never,
    /// It is good until then, as far as can be seen from here.
    Until(SystemTime),
    /// It is over, and can be renewed without the user.
    Renewable,
    /// It is over.
    Over,
}

/// A sign-on that waits for the user.
#[derive(Debug)]
pub struct DeviceLogin {
    /// The page to open, with the code in it.
    pub url: String,
    /// The code that the page shows, or asks for.
    pub code: String,
    client: Client,
    sign_on: SignOn,
    registration: Registration,
    device_code: Secret<String>,
    interval: Duration,
    deadline: Instant,
}

/// A file of the AWS CLI.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Token {
    start_url: Option<String>,
    region: Option<String>,
    access_token: String,
    expires_at: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    client_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    client_secret: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    registration_expires_at: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refresh_token: Option<String>,
}

impl Drop for Token {
    fn drop(&mut self) {
        self.access_token.zeroize();
        self.client_secret.zeroize();
        self.refresh_token.zeroize();
    }
}

/// This program as the service knows it: good for months, so it is kept.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Registration {
    client_id: String,
    client_secret: String,
    expires_at: String,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.client_secret.zeroize();
    }
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registration").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

impl SignOn {
    /// The sign-on that a profile begins with, or the profile that the environment names; also when it is a role that is assumed
    /// from such a profile. `None` when it has none.
    ///
    /// # Errors
    ///
    /// When the AWS configuration cannot be read, or lacks something.
    pub async fn of_profile(profile: Option<&str>) -> Result<Option<Self>, ControlError> {
        Self::of(&configured(profile).await?)
    }

    /// The sign-on of an `[sso-session NAME]`.
    ///
    /// # Errors
    ///
    /// When there is none, or it lacks something.
    pub async fn of_session(name: &str) -> Result<Self, ControlError> {
        Self::named(&configured(None).await?, name)
    }

    pub(crate) fn of(profiles: &ProfileSet) -> Result<Option<Self>, ControlError> {
        let roles = Roles::of(profiles);
        let name = match &roles {
            Some(roles) => match roles.base_profile() {
                Some(base) => base,
                None => return Ok(None),
            },
            None => profiles.selected_profile(),
        };
        let Some(profile) = profiles.get_profile(name) else { return Ok(None) };
        if profile.get("web_identity_token_file").is_some() {
            return Ok(None);
        }
        if let Some(session) = profile.get("sso_session") {
            return Self::named(profiles, session).map(Some);
        }
        let Some(start_url) = profile.get("sso_start_url") else { return Ok(None) };
        let Some(region) = profile.get("sso_region") else {
            return Err(invalid(format!("the profile {name} has sso_start_url and no sso_region")));
        };
        Ok(Some(Self {
            session: None,
            start_url: start_url.into(),
            region: region.into(),
            scopes: Vec::new(),
        }))
    }

    fn named(profiles: &ProfileSet, name: &str) -> Result<Self, ControlError> {
        let Some(session) = profiles.sso_session(name) else {
            return Err(invalid(format!("there is no [sso-session {name}] in ~/.aws/config")));
        };
        let (Some(start_url), Some(region)) = (session.get("sso_start_url"), session.get("sso_region"))
        else {
            return Err(invalid(format!("[sso-session {name}] takes sso_start_url and sso_region")));
        };
        let scopes = session.get("sso_registration_scopes").unwrap_or(SCOPE).split(',').map(str::trim);
        let scopes = scopes.filter(|scope| !scope.is_empty()).map(ToOwned::to_owned).collect();
        Ok(Self { session: Some(name.into()), start_url: start_url.into(), region: region.into(), scopes })
    }

    /// The name of the `sso-session`, or the start URL.
    pub fn name(&self) -> &str {
        self.session.as_deref().unwrap_or(&self.start_url)
    }

    /// What there is on this machine. Asks nobody.
    pub fn state(&self) -> SignOnState {
        let Some(token) = self.token() else { return SignOnState::Never };
        match read_time(&token.expires_at) {
            Some(until) if until > SystemTime::now() => SignOnState::Until(until),
            _ if token.registration().is_some()
                && token.refresh_token.is_some()
                && self.session.is_some() =>
            {
                SignOnState::Renewable
            }
            _ => SignOnState::Over,
        }
    }

    /// Renews it without the user, until then. `None` when that cannot be done: [`begin`](Self::begin) then.
    ///
    /// # Errors
    ///
    /// When the service is not reached.
    pub async fn renew(&self, options: &AwsOptions) -> Result<Option<SystemTime>, ControlError> {
        let Some(token) = self.token() else { return Ok(None) };
        let (Some(registration), Some(refresh)) = (token.registration(), token.refresh_token.clone()) else {
            return Ok(None);
        };
        let call = self.client(options).await.create_token();
        let call = call.client_id(&registration.client_id).client_secret(&registration.client_secret);
        match call.grant_type(REFRESH_GRANT).refresh_token(refresh).send().await {
            Ok(answer) => self.keep(&answer, &registration).map(Some),
            Err(error) if matches!(error, SdkError::ServiceError(_)) => {
                tracing::info!(error = causes(&error), "the sign-on is not renewed");
                Ok(None)
            }
            Err(error) => Err(self.failed(&error)),
        }
    }

    /// Begins it: what the user has to open.
    ///
    /// # Errors
    ///
    /// When the service is not reached or refuses.
    pub async fn begin(&self, options: &AwsOptions) -> Result<DeviceLogin, ControlError> {
        let client = self.client(options).await;
        let (registration, is_kept) = match self.registration() {
            Some(registration) => (registration, true),
            None => (self.register(&client).await?, false),
        };
        match self.authorize(client.clone(), registration).await {
            // The service has forgotten a client that it knew.
            Err(error) if is_kept && is_unknown_client(&error) => {
                let registration = self.register(&client).await?;
                self.authorize(client, registration).await.map_err(|error| self.failed(&error))
            }
            other => other.map_err(|error| self.failed(&error)),
        }
    }

    /// Forgets it on this machine. Whether there was something.
    ///
    /// # Errors
    ///
    /// When the token is there and cannot be removed.
    pub fn forget(&self) -> io::Result<bool> {
        Store::sign_ons().map_or(Ok(false), |store| store.remove(self.name()))
    }

    async fn client(&self, options: &AwsOptions) -> Client {
        let config: SdkConfig = load_config(options).await.0;
        Client::new(&config.into_builder().region(Region::new(self.region.clone())).build())
    }

    fn token(&self) -> Option<Token> {
        Store::sign_ons()?.read(self.name())
    }

    /// What a registration is kept for.
    fn registration_key(&self) -> String {
        let (url, region, scopes) = (&self.start_url, &self.region, &self.scopes);
        serde_json::json!({ "tool": "ssm", "startUrl": url, "region": region, "scopes": scopes }).to_string()
    }

    fn registration(&self) -> Option<Registration> {
        let kept: Registration = Store::sign_ons()?.read(&self.registration_key())?;
        let until = read_time(&kept.expires_at)?;
        (until > SystemTime::now() + PATIENCE_MAX).then_some(kept)
    }

    async fn register(&self, client: &Client) -> Result<Registration, ControlError> {
        let call = client.register_client().client_name("ssm").client_type("public");
        let scopes = (!self.scopes.is_empty()).then(|| self.scopes.clone());
        let answer = call.set_scopes(scopes).send().await.map_err(|error| self.failed(&error))?;
        let (Some(client_id), Some(client_secret)) = (answer.client_id, answer.client_secret) else {
            return Err(service("RegisterClient answered without a client"));
        };
        let until = u64::try_from(answer.client_secret_expires_at).unwrap_or_default();
        let expires_at = written_time(SystemTime::UNIX_EPOCH + Duration::from_secs(until));
        let registration = Registration { client_id, client_secret, expires_at };
        if let Some(store) = Store::sign_ons()
            && let Err(error) = store.write(&self.registration_key(), &registration)
        {
            tracing::warn!(%error, "the registration is not kept");
        }
        Ok(registration)
    }

    async fn authorize(
        &self,
        client: Client,
        registration: Registration,
    ) -> Result<DeviceLogin, SdkError<Refused>> {
        let call = client.start_device_authorization().start_url(&self.start_url);
        let call = call.client_id(&registration.client_id).client_secret(&registration.client_secret);
        let answer = call.send().await?;
        let url = answer.verification_uri_complete.or(answer.verification_uri).unwrap_or_default();
        Ok(DeviceLogin {
            url,
            code: answer.user_code.unwrap_or_default(),
            client,
            sign_on: self.clone(),
            registration,
            device_code: Secret::new(answer.device_code.unwrap_or_default()),
            interval: seconds(answer.interval).map_or(INTERVAL, |interval| interval.min(INTERVAL_MAX)),
            deadline: Instant::now() + seconds(answer.expires_in).unwrap_or(PATIENCE_MAX).min(PATIENCE_MAX),
        })
    }

    /// Keeps a token for everybody who asks for it on this machine.
    fn keep(
        &self,
        answer: &CreateTokenOutput,
        registration: &Registration,
    ) -> Result<SystemTime, ControlError> {
        let Some(access_token) = &answer.access_token else {
            return Err(service("CreateToken answered without a token"));
        };
        let until = SystemTime::now() + seconds(answer.expires_in).unwrap_or(EXPIRY_MARGIN);
        let token = Token {
            start_url: Some(self.start_url.clone()),
            region: Some(self.region.clone()),
            access_token: access_token.clone(),
            expires_at: written_time(until),
            client_id: Some(registration.client_id.clone()),
            client_secret: Some(registration.client_secret.clone()),
            registration_expires_at: Some(registration.expires_at.clone()),
            refresh_token: answer.refresh_token.clone(),
        };
        let written = match Store::sign_ons() {
            Some(store) => store.write(self.name(), &token),
            None => Err(io::Error::other("there is no home folder")),
        };
        written.map_err(|error| {
            let message = format!("the token cannot be kept in ~/.aws/sso/cache: {error}");
            ControlError::new(ControlErrorKind::Credentials, message)
        })?;
        Ok(until)
    }

    fn failed<E>(&self, error: &SdkError<E>) -> ControlError
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        if let Some(unreachable) = find::<DialError>(error) {
            let message = format!("IAM Identity Center was not reached: {unreachable}");
            return ControlError::new(ControlErrorKind::Unreachable, message);
        }
        let name = self.name();
        let message = match (error.code(), error.message()) {
            (Some(code), text) => {
                format!("IAM Identity Center refuses the sign-on {name}: {code} {}", text.unwrap_or_default())
            }
            (None, _) => format!("IAM Identity Center does not answer for {name}: {}", causes(error)),
        };
        ControlError::new(ControlErrorKind::Credentials, message)
    }
}

/// What `StartDeviceAuthorization` refuses with.
type Refused = aws_sdk_ssooidc::operation::start_device_authorization::StartDeviceAuthorizationError;

fn is_unknown_client(error: &SdkError<Refused>) -> bool {
    matches!(error.code(), Some("InvalidClientException" | "UnauthorizedClientException"))
}

impl DeviceLogin {
    /// Waits for the user, and keeps the token; until when it is good. Cancel safe: nothing is kept before the end.
    ///
    /// # Errors
    ///
    /// When the user refuses or takes too long, or the service fails.
    pub async fn finish(mut self) -> Result<SystemTime, ControlError> {
        let over = |message: &str| {
            Err(ControlError::new(ControlErrorKind::Credentials, format!("not signed on: {message}")))
        };
        while Instant::now() < self.deadline {
            tokio::time::sleep(self.interval).await;
            let call = self.client.create_token().grant_type(DEVICE_GRANT);
            let call = call.client_id(&self.registration.client_id);
            let call = call.client_secret(&self.registration.client_secret);
            let error = match call.device_code(self.device_code.expose()).send().await {
                Ok(answer) => return self.sign_on.keep(&answer, &self.registration),
                Err(error) => error,
            };
            match error.code() {
                Some("AuthorizationPendingException") => {}
                Some("SlowDownException") => {
                    self.interval = (self.interval + INTERVAL).min(INTERVAL_MAX);
                    tracing::debug!(seconds = self.interval.as_secs(), "asked to ask less often");
                }
                Some("ExpiredTokenException") => return over("the code was not used in time"),
                Some("AccessDeniedException") => return over("access was denied in the browser"),
                // A question that is lost is asked again; the code is still good.
                None if find::<DialError>(&error).is_some() => {
                    tracing::info!(error = causes(&error), "not reached; asking again");
                }
                _ => return Err(self.sign_on.failed(&error)),
            }
        }
        over("the code was not used in time")
    }
}

impl Token {
    /// The client that may renew it, while it is known.
    fn registration(&self) -> Option<Registration> {
        let expires_at = self.registration_expires_at.clone()?;
        let known = read_time(&expires_at)? > SystemTime::now();
        let (client_id, client_secret) = (self.client_id.clone()?, self.client_secret.clone()?);
        known.then_some(Registration { client_id, client_secret, expires_at })
    }
}

async fn configured(profile: Option<&str>) -> Result<ProfileSet, ControlError> {
    let profiles = profiles(profile).await;
    let profiles = profiles.ok_or_else(|| invalid("~/.aws/config cannot be read".into()))?;
    let selected = profiles.selected_profile();
    match profile {
        Some(_) if profiles.get_profile(selected).is_none() => Err(ControlError::new(
            ControlErrorKind::Credentials,
            format!("there is no such profile in ~/.aws/config or ~/.aws/credentials: {selected}"),
        )),
        _ => Ok(profiles),
    }
}

/// Seconds as the service counts them, if it says any.
fn seconds(number: i32) -> Option<Duration> {
    u64::try_from(number).ok().filter(|seconds| *seconds > 0).map(Duration::from_secs)
}

fn invalid(message: String) -> ControlError {
    ControlError::new(ControlErrorKind::Invalid, message)
}

fn service(message: &str) -> ControlError {
    ControlError::new(ControlErrorKind::Service, message)
}
