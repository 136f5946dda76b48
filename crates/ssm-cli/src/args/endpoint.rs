//! `--endpoint SERVICE=URL` and `--proxy URL`.

use std::str::FromStr;

use ssm_session::{Network, NetworkOptions, Secret};

/// A service of AWS whose API can be somewhere else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Service {
    Ec2,
    Ec2InstanceConnect,
    Ecs,
    Elasticache,
    Kms,
    Rds,
    SecretsManager,
    Sso,
    SsoOidc,
    Sts,
}

impl Service {
    pub(crate) const ALL: [Self; 10] = [
        Self::Ec2,
        Self::Ec2InstanceConnect,
        Self::Ecs,
        Self::Elasticache,
        Self::Kms,
        Self::Rds,
        Self::SecretsManager,
        Self::Sso,
        Self::SsoOidc,
        Self::Sts,
    ];

    /// What it is called here. With underscores in capitals, the end of its variable `AWS_ENDPOINT_URL_...`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ec2 => "ec2",
            Self::Ec2InstanceConnect => "ec2-instance-connect",
            Self::Ecs => "ecs",
            Self::Elasticache => "elasticache",
            Self::Kms => "kms",
            Self::Rds => "rds",
            Self::SecretsManager => "secrets-manager",
            Self::Sso => "sso",
            Self::SsoOidc => "sso-oidc",
            Self::Sts => "sts",
        }
    }
}

impl FromStr for Service {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let name = text.to_ascii_lowercase().replace('_', "-");
        if let Some(service) = Self::ALL.into_iter().find(|service| service.name() == name) {
            return Ok(service);
        }
        Err(match name.as_str() {
            "ssm" => "for ssm there is --endpoint-url".into(),
            "ssmmessages" => "for ssmmessages there is --ssmmessages-endpoint-url".into(),
            _ => format!("there is no service {text}: it is one of {}", Self::ALL.map(Self::name).join(", ")),
        })
    }
}

/// `SERVICE=URL`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EndpointArg {
    pub(crate) service: Service,
    pub(crate) url: String,
}

impl FromStr for EndpointArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Some((service, url)) = text.split_once('=') else {
            return Err("an endpoint is written SERVICE=URL, as in sts=https://sts.example".into());
        };
        let service = service.parse()?;
        if !(url.starts_with("https://") || url.starts_with("http://")) {
            return Err("a URL begins with https:// or http://".into());
        }
        Ok(Self { service, url: url.into() })
    }
}

/// The URL of a proxy without a password in it, or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ProxyArg {
    Url(String),
    Off,
}

impl FromStr for ProxyArg {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "off" {
            return Ok(Self::Off);
        }
        if text.contains('@') {
            return Err(
                "a proxy with a password is not for a flag or a file, which others may see: set HTTPS_PROXY",
            );
        }
        let options =
            NetworkOptions { all_proxy: Some(Secret::new(text.into())), ..NetworkOptions::default() };
        match Network::new(&options) {
            Ok(_) if text.contains("://") => Ok(Self::Url(text.into())),
            _ => Err("a proxy is written http://HOST:PORT, or with https, socks5 or socks5h; or off"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_written_as_aws_writes_it() {
        for text in ["secrets-manager", "secrets_manager", "SECRETS_MANAGER"] {
            assert_eq!(text.parse(), Ok(Service::SecretsManager), "{text}");
        }
        let told = |text: &str| text.parse::<EndpointArg>().unwrap_err();
        assert!(told("ssm=http://h").contains("--endpoint-url"));
        assert!(told("ssmmessages=http://h").contains("--ssmmessages-endpoint-url"));
        assert!(told("s3=http://h").contains("ec2, ec2-instance-connect"));
        assert!(told("sts").contains("SERVICE=URL"));
        assert!(told("sts=sts.example").contains("https://"));
        let arg: EndpointArg = "sts=https://h/?a=b".parse().unwrap();
        assert_eq!((arg.service, arg.url.as_str()), (Service::Sts, "https://h/?a=b"));
    }

    #[test]
    fn a_proxy_is_a_url_without_a_password() {
        for text in ["http://h:3128", "https://h", "socks5://h", "socks5h://h:1"] {
            assert_eq!(text.parse(), Ok(ProxyArg::Url(text.into())));
        }
        assert_eq!("off".parse(), Ok(ProxyArg::Off));
        for text in ["", "h:3128", "ftp://h", "http://", "http://h:x"] {
            assert!(text.parse::<ProxyArg>().is_err(), "{text}");
        }
        let told = "http://me:hush@h".parse::<ProxyArg>().unwrap_err();
        assert!(told.contains("HTTPS_PROXY") && !told.contains("hush"), "{told}");
    }
}
