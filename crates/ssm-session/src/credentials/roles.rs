//! Roles that a profile stands for, each assumed with the credentials of the one before it.
//!
//! Written out although the SDK can do it: the SDK asks for no second factor and for no duration. Credentials that took a code are
//! kept where the AWS CLI keeps them, under the same name, so that each finds what the other was given.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use aws_config::ecs::EcsCredentialsProvider;
use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::imds::credentials::ImdsCredentialsProvider;
use aws_config::profile::{self, Profile, ProfileFileCredentialsProvider, ProfileSet};
use aws_config::provider_config::ProviderConfig;
use aws_config::{Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_runtime::env_config::file::EnvConfigFiles;
use aws_sdk_sts::Client;
use aws_sdk_sts::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sts::operation::assume_role::AssumeRoleError;
use aws_types::os_shim_internal::{Env, Fs};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::code::{CodePrompt, CodeRequest};
use super::store::{Store, read_time, written_time};
use super::{EXPIRY_MARGIN, causes, find};
use crate::control::{ControlError, ControlErrorKind};
use crate::dial::DialError;

/// How often a code is asked for before a role is given up.
const TRIES: u32 = 3;

/// Reads the AWS configuration files. `None` when they cannot be read, which the SDK says in its own words.
pub(crate) async fn profiles(selected: Option<&str>) -> Option<ProfileSet> {
    let selected = selected.map(|name| Cow::Owned(name.to_owned()));
    profile::load(&Fs::real(), &Env::real(), &EnvConfigFiles::default(), selected).await.ok()
}

/// The way from first credentials to those of a profile.
#[derive(Debug)]
pub(crate) struct Roles {
    base: Base,
    /// In the order in which they are assumed.
    roles: Vec<Role>,
}

/// Where the first credentials come from.
#[derive(Debug)]
enum Base {
    Keys(Credentials),
    /// This profile, which is no role.
    Profile(String),
    Environment,
    Container,
    Instance,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Role {
    arn: String,
    external_id: Option<String>,
    session_name: Option<String>,
    duration: Option<i32>,
    device: Option<String>,
}

/// What roles are assumed with.
#[derive(Debug)]
pub(crate) struct Means<'a> {
    /// Region, endpoints and the way out.
    pub(crate) config: &'a SdkConfig,
    pub(crate) provider: &'a ProviderConfig,
    pub(crate) prompt: Option<&'a CodePrompt>,
    /// An access key that the service did not take.
    pub(crate) refused: Option<&'a str>,
}

impl Roles {
    /// The roles of the selected profile. `None` when it is no role; and when the way is not one that can be gone, which the SDK
    /// says in its own words.
    pub(crate) fn of(profiles: &ProfileSet) -> Option<Self> {
        let (mut name, mut seen, mut roles) = (profiles.selected_profile(), Vec::new(), Vec::new());
        let base = loop {
            let profile = profiles.get_profile(name).filter(|_| !seen.contains(&name))?;
            seen.push(name);
            let keys = keys(profile);
            match (Role::of(profile), keys) {
                // A source with keys is its keys, as the AWS CLI has it.
                (_, Some(keys)) if !roles.is_empty() => break Base::Keys(keys),
                (None, _) => break Base::Profile(name.to_owned()),
                (Some(role), keys) => {
                    roles.push(role);
                    match (profile.get("source_profile"), profile.get("credential_source")) {
                        (Some(source), None) if source == name => break Base::Keys(keys?),
                        (Some(source), None) => name = source,
                        (None, Some(source)) => break Base::named(source)?,
                        _ => return None,
                    }
                }
            }
        };
        roles.reverse();
        (!roles.is_empty()).then_some(Self { base, roles })
    }

    /// The profile that the first credentials are from, if they are from one.
    pub(crate) fn base_profile(&self) -> Option<&str> {
        match &self.base {
            Base::Profile(name) => Some(name),
            _ => None,
        }
    }

    /// Keeps the credentials with this access key no longer: the service does not take them.
    pub(crate) fn forget(&self, access_key: &str) {
        let Some(store) = Store::roles() else { return };
        for role in self.roles.iter().filter(|role| role.device.is_some()) {
            let kept: Option<Kept> = store.read(&role.key());
            if kept.is_some_and(|kept| kept.credentials.access_key_id == access_key)
                && let Err(error) = store.remove(&role.key())
            {
                tracing::info!(%error, "what the service does not take stays");
            }
        }
    }

    /// The credentials of the last role, or the error of the first ones.
    pub(crate) async fn assume(
        &self,
        means: &Means<'_>,
    ) -> Result<Result<Credentials, ControlError>, CredentialsError> {
        // Kept ones need nothing of what comes before them.
        let kept = self.roles.iter().enumerate().rev();
        let kept = kept.filter_map(|(index, role)| Some((index + 1, role.kept(means.refused)?))).next();
        let (rest, mut credentials) = match kept {
            Some(kept) => kept,
            None => (0, self.base.credentials(means.provider).await?),
        };
        for role in &self.roles[rest..] {
            credentials = match role.assume(credentials, means).await {
                Ok(credentials) => credentials,
                Err(error) => return Ok(Err(error)),
            };
        }
        Ok(Ok(credentials))
    }
}

impl Base {
    fn named(source: &str) -> Option<Self> {
        Some(match source.to_ascii_lowercase().as_str() {
            "environment" => Self::Environment,
            "ecscontainer" => Self::Container,
            "ec2instancemetadata" => Self::Instance,
            _ => return None,
        })
    }

    async fn credentials(&self, provider: &ProviderConfig) -> Result<Credentials, CredentialsError> {
        match self {
            Self::Keys(keys) => Ok(keys.clone()),
            Self::Profile(name) => {
                let profile =
                    ProfileFileCredentialsProvider::builder().profile_name(name).configure(provider);
                profile.build().provide_credentials().await
            }
            Self::Environment => EnvironmentVariableCredentialsProvider::new().provide_credentials().await,
            Self::Container => {
                EcsCredentialsProvider::builder().configure(provider).build().provide_credentials().await
            }
            Self::Instance => {
                ImdsCredentialsProvider::builder().configure(provider).build().provide_credentials().await
            }
        }
    }
}

/// What a profile has of its own.
fn keys(profile: &Profile) -> Option<Credentials> {
    let (key, secret) = (profile.get("aws_access_key_id")?, profile.get("aws_secret_access_key")?);
    let token = profile.get("aws_session_token").map(ToOwned::to_owned);
    Some(Credentials::new(key, secret, token, None, "ProfileFile"))
}

/// A file of the AWS CLI: the answer of `AssumeRole`.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Kept {
    credentials: KeptCredentials,
    #[serde(default)]
    assumed_role_user: BTreeMap<String, Value>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct KeptCredentials {
    access_key_id: String,
    secret_access_key: String,
    session_token: String,
    expiration: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    account_id: Option<String>,
}

impl Role {
    /// A profile with a token of the platform is no link of a chain.
    fn of(profile: &Profile) -> Option<Self> {
        if profile.get("web_identity_token_file").is_some() {
            return None;
        }
        let text = |key| profile.get(key).map(ToOwned::to_owned);
        Some(Self {
            arn: text("role_arn")?,
            external_id: text("external_id"),
            session_name: text("role_session_name"),
            duration: profile.get("duration_seconds").and_then(|seconds| seconds.parse().ok()),
            device: text("mfa_serial"),
        })
    }

    /// What the AWS CLI takes the SHA-1 of (botocore `credentials.py` `_create_cache_key`): Python's `json.dumps` of the request.
    fn key(&self) -> String {
        let text = |text: &String| ascii(&Value::from(text.as_str()).to_string());
        let members = [
            ("DurationSeconds", self.duration.map(|seconds| seconds.to_string())),
            ("ExternalId", self.external_id.as_ref().map(text)),
            ("RoleArn", Some(text(&self.arn))),
            ("RoleSessionName", self.session_name.as_ref().map(text)),
            ("SerialNumber", self.device.as_ref().map(text)),
        ];
        let members = members.into_iter().filter_map(|(name, value)| Some(format!("\"{name}\": {}", value?)));
        format!("{{{}}}", members.collect::<Vec<_>>().join(", "))
    }

    /// Credentials that took a code and are good for some minutes yet.
    fn kept(&self, refused: Option<&str>) -> Option<Credentials> {
        self.device.as_ref()?;
        let Kept { credentials, .. } = Store::roles()?.read(&self.key())?;
        let until = read_time(&credentials.expiration)?;
        let fresh = until > SystemTime::now() + EXPIRY_MARGIN;
        (fresh && refused != Some(&credentials.access_key_id)).then(|| {
            let KeptCredentials { access_key_id, secret_access_key, session_token, .. } = credentials;
            tracing::debug!(role = self.arn, "credentials that were asked for before");
            Credentials::new(access_key_id, secret_access_key, Some(session_token), Some(until), "AssumeRole")
        })
    }

    async fn assume(&self, source: Credentials, means: &Means<'_>) -> Result<Credentials, ControlError> {
        let config = means.config.to_builder();
        let config = config.credentials_provider(SharedCredentialsProvider::new(source));
        // Any region gives credentials for all; the SDK wants to have one.
        let region = means.config.region().cloned().unwrap_or_else(|| Region::from_static("us-east-1"));
        let client = Client::new(&config.region(region).build());
        let mut again = false;
        for _ in 0..TRIES {
            let code = match &self.device {
                Some(device) => Some(self.ask(device, again, means.prompt).await?),
                None => None,
            };
            let call = client
                .assume_role()
                .role_arn(&self.arn)
                .role_session_name(self.session_name.clone().unwrap_or_else(default_session_name))
                .set_external_id(self.external_id.clone())
                .set_duration_seconds(self.duration)
                .set_serial_number(self.device.clone())
                .set_token_code(code.as_ref().map(|code| code.expose().trim().to_owned()));
            match call.send().await {
                Ok(answer) => return self.taken(answer),
                Err(error) if code.is_some() && is_wrong_code(&error) => again = true,
                Err(error) => return Err(self.refused(&error)),
            }
        }
        let message = format!("no code for {} was taken", self.arn);
        Err(ControlError::new(ControlErrorKind::Credentials, message))
    }

    async fn ask(
        &self,
        device: &str,
        again: bool,
        prompt: Option<&CodePrompt>,
    ) -> Result<ssm_proto::Secret<String>, ControlError> {
        let request = CodeRequest { device: device.to_owned(), role: self.arn.clone(), again };
        let code = match prompt {
            Some(prompt) => prompt.ask(request).await,
            None => Err("nobody can be asked for one".into()),
        };
        code.map_err(|why| {
            let message = format!("the role {} takes a code of the device {device}: {why}", self.arn);
            ControlError::new(ControlErrorKind::Credentials, message)
        })
    }

    /// Keeps what took a code.
    fn taken(
        &self,
        answer: aws_sdk_sts::operation::assume_role::AssumeRoleOutput,
    ) -> Result<Credentials, ControlError> {
        let Some(given) = answer.credentials else {
            let message = format!("AssumeRole answered without credentials for {}", self.arn);
            return Err(ControlError::new(ControlErrorKind::Service, message));
        };
        let until = SystemTime::try_from(given.expiration).ok();
        let user = answer.assumed_role_user;
        if let (Some(_), Some(until), Some(store)) = (&self.device, until, Store::roles()) {
            let account_id = user.as_ref().and_then(|user| user.arn.split(':').nth(4)).map(ToOwned::to_owned);
            let user = user.into_iter().flat_map(|user| {
                [("AssumedRoleId", user.assumed_role_id), ("Arn", user.arn)]
                    .map(|(name, text)| (name.to_owned(), Value::from(text)))
            });
            let kept = Kept {
                credentials: KeptCredentials {
                    access_key_id: given.access_key_id.clone(),
                    secret_access_key: given.secret_access_key.clone(),
                    session_token: given.session_token.clone(),
                    expiration: written_time(until),
                    account_id,
                },
                assumed_role_user: user.collect(),
            };
            if let Err(error) = store.write(&self.key(), &kept) {
                tracing::warn!(%error, "the credentials of the role are not kept; the next command asks again");
            }
        }
        let token = Some(given.session_token);
        Ok(Credentials::new(given.access_key_id, given.secret_access_key, token, until, "AssumeRole"))
    }

    fn refused(&self, error: &SdkError<AssumeRoleError>) -> ControlError {
        let role = &self.arn;
        if let Some(unreachable) = find::<DialError>(error) {
            let message = format!("the AWS credentials cannot be fetched: {unreachable}");
            return ControlError::new(ControlErrorKind::Unreachable, message);
        }
        let text = error.message().unwrap_or_default();
        let message = match error.code() {
            Some("ExpiredToken" | "ExpiredTokenException") => {
                format!("the AWS credentials that {role} is assumed with have expired: renew them ({text})")
            }
            Some("AccessDenied" | "AccessDeniedException") => {
                format!("denied: you may not do sts:AssumeRole on {role} ({text})")
            }
            Some(code) => format!("the role {role} cannot be assumed: {code} {text}"),
            None => format!("the role {role} cannot be assumed: {}", causes(error)),
        };
        ControlError::new(ControlErrorKind::Credentials, message)
    }
}

/// As STS says it: `MultiFactorAuthentication failed with invalid MFA one time pass code.`, and for what is no code at all a
/// failed validation of `tokenCode`.
fn is_wrong_code(error: &SdkError<AssumeRoleError>) -> bool {
    let text = error.message().unwrap_or_default();
    text.contains("invalid MFA one time pass code") || text.contains("tokenCode")
}

fn default_session_name() -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    format!("ssm-{}", now.as_secs())
}

/// JSON without characters beyond ASCII, as Python writes it.
fn ascii(json: &str) -> String {
    let mut units = [0; 2];
    let escape = |char: char| match char.is_ascii() {
        true => char.to_string(),
        false => char.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")).collect(),
    };
    json.chars().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use aws_runtime::env_config::file::EnvConfigFileKind;

    use super::*;

    async fn roles(selected: &'static str, config: &str) -> Option<Roles> {
        let files = EnvConfigFiles::builder().with_contents(EnvConfigFileKind::Config, config).build();
        let profiles = profile::load(&Fs::real(), &Env::real(), &files, Some(selected.into())).await.unwrap();
        Roles::of(&profiles)
    }

    const CHAIN: &str = "[profile base]\naws_access_key_id=K\naws_secret_access_key=s\n\
        [profile one]\nrole_arn=R1\nsource_profile=base\nmfa_serial=M\nduration_seconds=900\n\
        [profile two]\nrole_arn=R2\nsource_profile=one\nexternal_id=x\n\
        [profile self]\nrole_arn=R3\nsource_profile=self\naws_access_key_id=K\naws_secret_access_key=s\n\
        [profile on]\nrole_arn=R4\ncredential_source=Ec2InstanceMetadata\n\
        [profile web]\nrole_arn=R5\nweb_identity_token_file=/t\n\
        [profile behind]\nrole_arn=R6\nsource_profile=web\n\
        [profile loop]\nrole_arn=R7\nsource_profile=pool\n[profile pool]\nrole_arn=R8\nsource_profile=loop\n\
        [profile both]\nrole_arn=R9\nsource_profile=base\ncredential_source=Environment\n";

    #[tokio::test]
    async fn the_way_to_a_role_is_found() {
        let two = roles("two", CHAIN).await.unwrap();
        let names: Vec<_> = two.roles.iter().map(|role| role.arn.as_str()).collect();
        assert_eq!(names, ["R1", "R2"]);
        assert_eq!((two.roles[0].device.as_deref(), two.roles[0].duration), (Some("M"), Some(900)));
        assert!(matches!(&two.base, Base::Keys(keys) if keys.access_key_id() == "K"));
        assert!(matches!(roles("self", CHAIN).await.unwrap().base, Base::Keys(_)));
        assert!(matches!(roles("on", CHAIN).await.unwrap().base, Base::Instance));
        assert_eq!(roles("behind", CHAIN).await.unwrap().base_profile(), Some("web"));
    }

    #[tokio::test]
    async fn what_is_no_role_and_what_leads_nowhere_is_left_to_the_sdk() {
        for name in ["base", "web", "loop", "both", "nowhere"] {
            assert!(roles(name, CHAIN).await.is_none(), "{name}");
        }
    }

    #[test]
    fn a_role_is_kept_under_the_name_that_the_aws_cli_gives_it() {
        let mut role = Role {
            arn: "arn:aws:iam::123456789012:role/R".into(),
            external_id: Some("a\"b\u{e9}\u{1f600}".into()),
            session_name: None,
            duration: Some(900),
            device: Some("arn:aws:iam::123456789012:mfa/u".into()),
        };
        // python3 -c 'import json; print(json.dumps({...}, sort_keys=True))'
        assert_eq!(
            role.key(),
            r#"{"DurationSeconds": 900, "ExternalId": "a\"b\u00e9\ud83d\ude00", "RoleArn": "arn:aws:iam::123456789012:role/R", "SerialNumber": "arn:aws:iam::123456789012:mfa/u"}"#
        );
        role.external_id = None;
        role.duration = None;
        role.session_name = Some("s".into());
        assert_eq!(
            role.key(),
            r#"{"RoleArn": "arn:aws:iam::123456789012:role/R", "RoleSessionName": "s", "SerialNumber": "arn:aws:iam::123456789012:mfa/u"}"#
        );
    }
}
