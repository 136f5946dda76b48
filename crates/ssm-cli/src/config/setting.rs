//! What flags, variables and the configuration can all say.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

use ssm_resolve::Name;
use ssm_session::StreamEndpoint;

use super::VAULT_VARIABLE;
use crate::args::{IntervalArg, LANES, PAYLOAD_SIZES, PacingArg, ProxyArg, ReconnectArg, Service};

/// One of them. A flag of the same name goes before all else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Setting {
    Profile,
    Region,
    EndpointUrl,
    SsmmessagesEndpointUrl,
    Fips,
    DualStack,
    Proxy,
    NoProxy,
    CaBundle,
    Lanes,
    PayloadSize,
    Pacing,
    KeepAlive,
    Reconnect,
    Endpoint(Service),
}

impl Setting {
    pub(crate) const ALL: [Self; 24] = [
        Self::Profile,
        Self::Region,
        Self::EndpointUrl,
        Self::SsmmessagesEndpointUrl,
        Self::Fips,
        Self::DualStack,
        Self::Proxy,
        Self::NoProxy,
        Self::CaBundle,
        Self::Lanes,
        Self::PayloadSize,
        Self::Pacing,
        Self::KeepAlive,
        Self::Reconnect,
        Self::Endpoint(Service::Ec2),
        Self::Endpoint(Service::Ec2InstanceConnect),
        Self::Endpoint(Service::Ecs),
        Self::Endpoint(Service::Elasticache),
        Self::Endpoint(Service::Kms),
        Self::Endpoint(Service::Rds),
        Self::Endpoint(Service::SecretsManager),
        Self::Endpoint(Service::Sso),
        Self::Endpoint(Service::SsoOidc),
        Self::Endpoint(Service::Sts),
    ];

    /// As a key of the configuration and, behind `--`, as a flag.
    pub(crate) fn name(self) -> &'static str {
        self.names().0
    }

    /// The variable that says it.
    pub(crate) fn variable(self) -> &'static str {
        self.names().1
    }

    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Profile => ("profile", "SSM_PROFILE"),
            Self::Region => ("region", "SSM_REGION"),
            Self::EndpointUrl => ("endpoint-url", "SSM_ENDPOINT_URL"),
            Self::SsmmessagesEndpointUrl => ("ssmmessages-endpoint-url", "SSM_SSMMESSAGES_ENDPOINT_URL"),
            Self::Fips => ("fips", "SSM_FIPS"),
            Self::DualStack => ("dual-stack", "SSM_DUAL_STACK"),
            Self::Proxy => ("proxy", "SSM_PROXY"),
            Self::NoProxy => ("no-proxy", "SSM_NO_PROXY"),
            Self::CaBundle => ("ca-bundle", "SSM_CA_BUNDLE"),
            Self::Lanes => ("lanes", "SSM_LANES"),
            Self::PayloadSize => ("payload-size", "SSM_PAYLOAD_SIZE"),
            Self::Pacing => ("pacing", "SSM_PACING"),
            Self::KeepAlive => ("keep-alive", "SSM_KEEP_ALIVE"),
            Self::Reconnect => ("reconnect", "SSM_RECONNECT"),
            Self::Endpoint(service) => match service {
                Service::Ec2 => ("endpoints.ec2", "SSM_ENDPOINTS_EC2"),
                Service::Ec2InstanceConnect => {
                    ("endpoints.ec2-instance-connect", "SSM_ENDPOINTS_EC2_INSTANCE_CONNECT")
                }
                Service::Ecs => ("endpoints.ecs", "SSM_ENDPOINTS_ECS"),
                Service::Elasticache => ("endpoints.elasticache", "SSM_ENDPOINTS_ELASTICACHE"),
                Service::Kms => ("endpoints.kms", "SSM_ENDPOINTS_KMS"),
                Service::Rds => ("endpoints.rds", "SSM_ENDPOINTS_RDS"),
                Service::SecretsManager => ("endpoints.secrets-manager", "SSM_ENDPOINTS_SECRETS_MANAGER"),
                Service::Sso => ("endpoints.sso", "SSM_ENDPOINTS_SSO"),
                Service::SsoOidc => ("endpoints.sso-oidc", "SSM_ENDPOINTS_SSO_OIDC"),
                Service::Sts => ("endpoints.sts", "SSM_ENDPOINTS_STS"),
            },
        }
    }

    /// Variables that the AWS SDK reads for it when nothing here says it, the first that is set.
    pub(crate) fn aws_variables(self) -> &'static [&'static str] {
        match self {
            Self::Profile => &[VAULT_VARIABLE, "AWS_PROFILE"],
            Self::Region => &["AWS_REGION", "AWS_DEFAULT_REGION"],
            Self::EndpointUrl => &["AWS_ENDPOINT_URL_SSM", "AWS_ENDPOINT_URL"],
            Self::SsmmessagesEndpointUrl => &["AWS_ENDPOINT_URL_SSMMESSAGES"],
            Self::Fips => &["AWS_USE_FIPS_ENDPOINT"],
            Self::DualStack => &["AWS_USE_DUALSTACK_ENDPOINT"],
            Self::Proxy => &["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"],
            Self::NoProxy => &["NO_PROXY", "no_proxy"],
            Self::CaBundle => &["AWS_CA_BUNDLE"],
            Self::Lanes | Self::PayloadSize | Self::Pacing | Self::KeepAlive | Self::Reconnect => &[],
            Self::Endpoint(service) => match service {
                Service::Ec2 => &["AWS_ENDPOINT_URL_EC2"],
                Service::Ec2InstanceConnect => &["AWS_ENDPOINT_URL_EC2_INSTANCE_CONNECT"],
                Service::Ecs => &["AWS_ENDPOINT_URL_ECS"],
                Service::Elasticache => &["AWS_ENDPOINT_URL_ELASTICACHE"],
                Service::Kms => &["AWS_ENDPOINT_URL_KMS"],
                Service::Rds => &["AWS_ENDPOINT_URL_RDS"],
                Service::SecretsManager => &["AWS_ENDPOINT_URL_SECRETS_MANAGER"],
                Service::Sso => &["AWS_ENDPOINT_URL_SSO"],
                Service::SsoOidc => &["AWS_ENDPOINT_URL_SSO_OIDC"],
                Service::Sts => &["AWS_ENDPOINT_URL_STS"],
            },
        }
    }

    /// What holds when nobody says anything; `None` where that is for the configuration of AWS to say.
    pub(crate) fn default(self) -> Option<&'static str> {
        match self {
            Self::Lanes => Some("1"),
            Self::PayloadSize => Some("1024 to 32768"),
            Self::Pacing => Some("900"),
            Self::KeepAlive => Some("off"),
            Self::Reconnect => Some("by command"),
            _ => None,
        }
    }

    /// Whether it says which account and where: a session that was started elsewhere has both.
    pub(crate) fn is_of_account(self) -> bool {
        matches!(self, Self::Profile | Self::Region | Self::EndpointUrl | Self::Endpoint(_))
    }

    /// Whether it is for one service alone, which few say anything of.
    pub(crate) fn is_of_service(self) -> bool {
        matches!(self, Self::Endpoint(_))
    }

    /// Refuses what the flag of this name refuses.
    pub(crate) fn check(self, text: &str) -> Result<(), String> {
        match self {
            Self::Profile => printable(text),
            Self::Region if text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') => {
                printable(text)
            }
            Self::Region => Err("a region has only letters, digits and '-'".into()),
            Self::EndpointUrl | Self::Endpoint(_) => url(text),
            Self::SsmmessagesEndpointUrl => url(text)
                .and_then(|()| StreamEndpoint::parse(text).map(drop).map_err(|error| error.to_string())),
            Self::Fips | Self::DualStack => match text {
                "true" | "false" => Ok(()),
                _ => Err("it has to be true or false".into()),
            },
            Self::Proxy => ProxyArg::from_str(text).map(drop).map_err(Into::into),
            Self::NoProxy | Self::CaBundle => printable(text),
            Self::Lanes => number(text, LANES),
            Self::PayloadSize => number(text, PAYLOAD_SIZES),
            Self::Pacing => PacingArg::from_str(text).map(drop).map_err(Into::into),
            Self::KeepAlive => IntervalArg::from_str(text).map(drop).map_err(Into::into),
            Self::Reconnect => ReconnectArg::from_str(text).map(drop).map_err(Into::into),
        }
    }
}

/// Whether a text can be a name: seen in full, on one line, and no flag.
pub(super) fn printable(text: &str) -> Result<(), String> {
    match text.parse::<Name>() {
        Ok(name) if name.as_str() == text => Ok(()),
        _ => Err(
            "it has to be 1 to 400 characters that can be seen, with no '-' in front and no space around them"
                .into(),
        ),
    }
}

fn url(text: &str) -> Result<(), String> {
    printable(text)?;
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    match rest {
        Some(rest) if rest.contains('@') => {
            Err("a URL with a password is not for a file or a variable".into())
        }
        Some(rest) if !rest.is_empty() && !rest.starts_with('/') => Ok(()),
        _ => Err("a URL begins with https:// or http:// and a host".into()),
    }
}

fn number(text: &str, range: RangeInclusive<i64>) -> Result<(), String> {
    match text.parse() {
        Ok(number) if range.contains(&number) => Ok(()),
        _ => Err(format!("it has to be a number from {} to {}", range.start(), range.end())),
    }
}

/// Who says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The flag of that name.
    Flag(Setting),
    Variable(&'static str),
    File {
        path: PathBuf,
        line: usize,
    },
}

impl Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(Setting::Endpoint(_)) => f.write_str("--endpoint"),
            Self::Flag(setting) => write!(f, "--{}", setting.name()),
            Self::Variable(name) => f.write_str(name),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
        }
    }
}

/// What somebody said, and who.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Value {
    pub(crate) text: String,
    pub(crate) origin: Origin,
}

impl Value {
    /// As what it was checked to be.
    ///
    /// # Panics
    ///
    /// When it was not checked.
    pub(crate) fn parse<T: FromStr>(&self) -> T {
        self.text.parse().ok().expect("what is configured is checked when it is read")
    }
}

/// Settings, each checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Settings(BTreeMap<Setting, Value>);

impl Settings {
    /// What this says of a setting.
    pub(crate) fn find(&self, setting: Setting) -> Option<&Value> {
        self.0.get(&setting)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Setting, &Value)> {
        self.0.iter().map(|(setting, value)| (*setting, value))
    }

    /// Takes a value up, unless it is already said.
    ///
    /// # Errors
    ///
    /// When it is not one that the setting can have.
    pub(crate) fn add(&mut self, setting: Setting, text: String, origin: Origin) -> Result<(), String> {
        setting.check(&text)?;
        self.0.entry(setting).or_insert(Value { text, origin });
        Ok(())
    }

    /// Takes up what is not said from those behind.
    pub(crate) fn or(mut self, others: &Self) -> Self {
        for (setting, value) in others.iter() {
            self.0.entry(setting).or_insert_with(|| value.clone());
        }
        self
    }

    /// The same, with nothing said of one of them.
    pub(crate) fn without(mut self, setting: Setting) -> Self {
        self.0.remove(&setting);
        self
    }

    /// What the variables say; an empty one says nothing.
    ///
    /// # Errors
    ///
    /// When one has a value that its setting cannot have; says which and why.
    pub(crate) fn from_variables(read: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let mut settings = Self::default();
        for setting in Setting::ALL {
            let variable = setting.variable();
            if let Some(text) = read(variable).filter(|text| !text.is_empty()) {
                let origin = Origin::Variable(variable);
                settings.add(setting, text, origin).map_err(|why| format!("{variable}: {why}"))?;
            }
        }
        Ok(settings)
    }
}

impl FromIterator<(Setting, Value)> for Settings {
    /// Of values that are checked.
    fn from_iter<I: IntoIterator<Item = (Setting, Value)>>(values: I) -> Self {
        Self(values.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(values: &[(&str, &str)]) -> Result<Settings, String> {
        Settings::from_variables(|name| {
            let value = values.iter().find(|(found, _)| *found == name);
            value.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn a_variable_is_named_after_its_flag() {
        for setting in Setting::ALL {
            let expected = format!("SSM_{}", setting.name().replace(['-', '.'], "_").to_uppercase());
            assert_eq!(setting.variable(), expected);
        }
    }

    #[test]
    fn what_is_said_first_holds() {
        let first = variables(&[("SSM_REGION", "eu-west-1"), ("SSM_LANES", "")]).unwrap();
        let second = variables(&[("SSM_REGION", "us-east-1"), ("SSM_LANES", "4")]).unwrap();
        let both = first.or(&second);
        assert_eq!(both.find(Setting::Region).unwrap().text, "eu-west-1");
        assert_eq!(both.find(Setting::Lanes).unwrap().parse::<u16>(), 4);
        assert_eq!(both.find(Setting::Profile), None);
    }

    #[test]
    fn a_wrong_variable_is_named() {
        for (name, value, why) in [
            ("SSM_LANES", "65", "from 1 to 64"),
            ("SSM_LANES", "four", "from 1 to 64"),
            ("SSM_PAYLOAD_SIZE", "1023", "from 1024 to 32768"),
            ("SSM_PACING", "fast", "or off"),
            ("SSM_KEEP_ALIVE", "10ms", "a second at least"),
            ("SSM_RECONNECT", "often", "always or never"),
            ("SSM_REGION", "eu west", "only letters"),
            ("SSM_PROFILE", "-x", "no '-' in front"),
            ("SSM_PROFILE", "a\x1b[2Jb", "that can be seen"),
            ("SSM_PROFILE", " a", "no space around"),
            ("SSM_ENDPOINT_URL", "ftp://h", "https://"),
            ("SSM_ENDPOINT_URL", "https://", "and a host"),
            ("SSM_ENDPOINT_URL", "https://me:secret@h", "with a password"),
            ("SSM_ENDPOINTS_STS", "sts.example", "https://"),
            ("SSM_SSMMESSAGES_ENDPOINT_URL", "https://h/path", "no path"),
            ("SSM_FIPS", "1", "true or false"),
            ("SSM_PROXY", "http://me:secret@h", "HTTPS_PROXY"),
        ] {
            let told = variables(&[(name, value)]).unwrap_err();
            assert!(told.starts_with(name) && told.contains(why), "{told}");
            assert!(!told.contains("secret"), "{told}");
        }
    }
}
