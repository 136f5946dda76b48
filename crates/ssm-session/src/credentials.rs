//! Who asks: the SDK's chain of credentials with a memory, and its errors in words.
//!
//! | module | what it does |
//! |---|---|
//! | `roles` | roles over roles, with a code where one wants it |
//! | `code` | who is asked for the code |
//! | `store` | files that are shared with the AWS CLI |

pub(crate) mod code;
pub(crate) mod roles;
pub(crate) mod store;

use std::error::Error as StdError;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_config::ecs::EcsCredentialsProvider;
use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::imds::credentials::ImdsCredentialsProvider;
use aws_config::meta::credentials::CredentialsProviderChain;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, future};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use tokio::sync::Mutex;

use self::code::CodePrompt;
use self::roles::{Means, Roles, profiles};
use crate::control::{ControlError, ControlErrorKind};
use crate::dial::DialError;
use crate::sign_on::{SignOn, SignOnState};

/// Credentials that expire within this are asked for anew.
pub(crate) const EXPIRY_MARGIN: Duration = Duration::from_secs(300);

/// The chain, which is gone through from its start each time, so that files that have changed are read again. It has a memory:
/// a single sign-on or an external program takes long to ask.
#[derive(Debug, Clone)]
pub(crate) struct Chain {
    setup: Arc<Setup>,
    known: Arc<Mutex<Known>>,
}

#[derive(Debug, Default)]
struct Known {
    credentials: Option<Credentials>,
    /// The access key that the service did not take: what is kept in files under it is not used either.
    refused: Option<String>,
}

#[derive(Debug)]
struct Setup {
    /// A profile that was asked for, which comes before keys in the environment.
    profile: Option<String>,
    http: SharedHttpClient,
    region: Option<Region>,
    /// For clients of our own: no credentials in it.
    config: SdkConfig,
    prompt: Option<CodePrompt>,
}

impl Chain {
    /// The chain for `profile`, or for what the environment says. `prompt` is asked for codes of a second factor.
    pub(crate) fn new(
        profile: Option<String>,
        config: &SdkConfig,
        http: SharedHttpClient,
        prompt: Option<CodePrompt>,
    ) -> Self {
        let (region, config) = (config.region().cloned(), config.clone());
        let setup = Setup { profile, http, region, config, prompt };
        Self { setup: Arc::new(setup), known: Arc::default() }
    }

    /// Credentials that are good for some minutes, if there are any.
    pub(crate) async fn fetch(&self) -> Result<Credentials, ControlError> {
        // Held while they are asked for, so that many who want them ask once.
        let mut known = self.known.lock().await;
        let lasts = |credentials: &Credentials, margin| {
            credentials.expiry().is_none_or(|at| at > SystemTime::now() + margin)
        };
        if let Some(credentials) = known.credentials.as_ref().filter(|known| lasts(known, EXPIRY_MARGIN)) {
            return Ok(credentials.clone());
        }
        match self.setup.look(known.refused.as_deref()).await {
            Ok(credentials) => Ok(known.credentials.insert(credentials).clone()),
            Err(error) => {
                let last = known.credentials.take().filter(|known| lasts(known, Duration::ZERO));
                let Some(last) = last else { return Err(error) };
                tracing::warn!(%error, "no new credentials; the last ones are still good");
                Ok(known.credentials.insert(last).clone())
            }
        }
    }

    /// Does not take the known ones again.
    pub(crate) async fn forget(&self) {
        let mut known = self.known.lock().await;
        let Some(credentials) = known.credentials.take() else { return };
        let refused = credentials.access_key_id();
        if let Some(roles) = self.setup.roles().await {
            roles.forget(refused);
        }
        known.refused = Some(refused.to_owned());
    }
}

impl ProvideCredentials for Chain {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async {
            self.fetch().await.map_err(CredentialsError::provider_error)
        })
    }
}

impl Setup {
    /// What providers are made with. It is new each time: one keeps the files that were read with it, and whoever renews credentials
    /// writes them there.
    fn provider(&self) -> ProviderConfig {
        ProviderConfig::without_region()
            .with_behavior_version(Some(BehaviorVersion::latest()))
            .with_region(self.region.clone())
            .with_use_fips(self.config.use_fips())
            .with_use_dual_stack(self.config.use_dual_stack())
            .with_http_client(self.http.clone())
    }

    async fn look(&self, refused: Option<&str>) -> Result<Credentials, ControlError> {
        let profile = self.profile.as_deref();
        if profile.is_none() {
            match EnvironmentVariableCredentialsProvider::new().provide_credentials().await {
                Err(CredentialsError::CredentialsNotLoaded(_)) => {}
                found => return found.map_err(|error| in_words(None, &error)),
            }
        }
        let mut roles = None;
        if let Some(profiles) = profiles(profile).await {
            // What the configuration lacks, the SDK says.
            if let Ok(Some(sign_on)) = SignOn::of(&profiles)
                && matches!(sign_on.state(), SignOnState::Never | SignOnState::Over)
            {
                return Err(signed_off(profile));
            }
            roles = Roles::of(&profiles);
        }
        let found = match roles {
            Some(roles) => {
                let prompt = self.prompt.as_ref();
                let provider = &self.provider();
                let means = Means { config: &self.config, provider, prompt, refused };
                match roles.assume(&means).await {
                    Ok(assumed) => return assumed,
                    Err(error) => Err(error),
                }
            }
            None => self.ask_sdk().await,
        };
        found.map_err(|error| in_words(profile, &error))
    }

    async fn roles(&self) -> Option<Roles> {
        Roles::of(&profiles(self.profile.as_deref()).await?)
    }

    async fn ask_sdk(&self) -> Result<Credentials, CredentialsError> {
        let provider = &self.provider();
        let Some(name) = &self.profile else {
            let chain = DefaultCredentialsChain::builder().configure(provider.clone());
            return chain.region(self.region.clone()).build().await.provide_credentials().await;
        };
        let profile =
            ProfileFileCredentialsProvider::builder().profile_name(name).configure(provider).build();
        match profile.provide_credentials().await {
            Err(error @ CredentialsError::CredentialsNotLoaded(_)) if !is_undefined(&causes(&error)) => {}
            found => return found,
        }
        let container = EcsCredentialsProvider::builder().configure(provider).build();
        let instance = ImdsCredentialsProvider::builder().configure(provider).build();
        let rest = CredentialsProviderChain::first_try("EcsContainer", container)
            .or_else("Ec2InstanceMetadata", instance);
        rest.provide_credentials().await
    }
}

/// The file of certificates that a profile of the AWS configuration names (`ca_bundle`), or the profile that the environment names:
/// the AWS CLI trusts it where `AWS_CA_BUNDLE` says nothing.
pub async fn profile_ca_bundle(profile: Option<&str>) -> Option<PathBuf> {
    profiles(profile).await?.get("ca_bundle").filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// That the user has to sign on.
fn signed_off(profile: Option<&str>) -> ControlError {
    let named = profile.map_or_else(String::new, |profile| format!(" --profile {profile}"));
    let message = format!(
        "the single sign-on is over, or was never begun: run `ssm login{named}` (or `aws sso login{named}`)"
    );
    ControlError::new(ControlErrorKind::SignOn, message)
}

/// What to do about credentials that are not to be had. The SDK's own types for it are not public, so its words are looked at.
fn in_words(profile: Option<&str>, error: &CredentialsError) -> ControlError {
    let causes = causes(error);
    let has = |words: &[&str]| words.iter().any(|word| causes.contains(word));
    let named = |prefix: &str| profile.map_or_else(String::new, |profile| format!("{prefix}{profile}"));
    if let Some(unreachable) = find::<DialError>(error) {
        let message = format!("the AWS credentials cannot be fetched: {unreachable}");
        return ControlError::new(ControlErrorKind::Unreachable, message);
    }
    if has(&["SSO token", "Session token not found or invalid"]) {
        return signed_off(profile);
    }
    let message = if is_undefined(&causes) {
        format!("there is no such profile in ~/.aws/config or ~/.aws/credentials: {causes}")
    } else if matches!(error, CredentialsError::CredentialsNotLoaded(_)) {
        none(profile)
    } else if has(&["credentials-login"]) {
        "the profile is one of `aws login`, which keeps its credentials to itself: have it write a profile with \
         `credential_process = aws configure export-credentials --profile NAME --format process`"
            .into()
    } else if has(&["ExpiredToken"]) {
        format!("the AWS credentials{} start from have expired: renew them", named(" that profile "))
    } else if has(&["AssumeRole", "AccessDenied"]) {
        format!("the role of the profile cannot be assumed: {causes}")
    } else {
        format!("no usable AWS credentials: {causes}")
    };
    ControlError::new(ControlErrorKind::Credentials, message)
}

fn none(profile: Option<&str>) -> String {
    let looked = match profile {
        Some(profile) => format!("the profile {profile} has none, and"),
        None => "no AWS_ACCESS_KEY_ID in the environment, none in the profile that AWS_PROFILE names or that is called default, no \
            AWS_WEB_IDENTITY_TOKEN_FILE, and"
            .into(),
    };
    format!(
        "no AWS credentials: {looked} neither a container nor an instance that gives any; name a profile with --profile, or run \
         `aws configure` or `ssm login`"
    )
}

fn is_undefined(causes: &str) -> bool {
    causes.contains("was not defined")
}

/// An error with all that led to it, in the words of each. What the SDK itself shows of an error has the whole answer in it, which may
/// be a secret.
pub fn causes(error: &(dyn StdError + 'static)) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        if words.last().is_none_or(|last| !last.contains(&text)) {
            words.push(text);
        }
        next = error.source();
    }
    words.join(": ")
}

/// The error of this type among an error's causes.
pub(crate) fn find<'a, E: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}
