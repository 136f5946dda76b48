//! Where the APIs of AWS are: what the user says, before what the environment and the AWS configuration say.

use std::collections::BTreeMap;

use aws_config::SdkConfig;
use aws_types::service_config::{LoadServiceConfig, ServiceConfigKey};

/// The names of the setting (AWS SDKs and Tools Reference Guide, "Service-specific endpoints").
const VARIABLE: &str = "AWS_ENDPOINT_URL";
const KEY: &str = "endpoint_url";

/// No service has this name.
const NO_SERVICE: &str = "none of them";

/// URLs of APIs by the service: what stands behind `AWS_ENDPOINT_URL_` in the name of its variable, in small letters (`ssm`,
/// `sts`, `secrets_manager`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServiceEndpoints(BTreeMap<String, String>);

impl ServiceEndpoints {
    /// Takes `url` for `service`.
    #[must_use]
    pub fn with(mut self, service: &str, url: impl Into<String>) -> Self {
        self.0.insert(normal(service), url.into());
        self
    }

    /// The URL for a service.
    pub fn find(&self, service: &str) -> Option<&str> {
        self.0.get(&normal(service)).map(String::as_str)
    }

    /// `config` with these before its own.
    pub(crate) fn applied_to(&self, config: SdkConfig) -> SdkConfig {
        if self.0.is_empty() {
            return config;
        }
        let said = Said { urls: self.0.clone(), config: config.clone() };
        config.into_builder().service_config(said).build()
    }
}

/// The URL that `config` has for the API of a service, whoever says it.
pub(crate) fn endpoint(config: &SdkConfig, service: &str) -> Option<String> {
    let found = config.service_config().and_then(|services| services.load_config(key(service)?));
    found.or_else(|| config.endpoint_url().map(ToOwned::to_owned)).filter(|url| !url.is_empty())
}

/// The same, when it is for this service and not for all of them.
pub(crate) fn endpoint_of_its_own(config: &SdkConfig, service: &str) -> Option<String> {
    endpoint(config, service).filter(|url| endpoint(config, NO_SERVICE).as_ref() != Some(url))
}

#[derive(Debug)]
struct Said {
    urls: BTreeMap<String, String>,
    config: SdkConfig,
}

impl LoadServiceConfig for Said {
    fn load_config(&self, key: ServiceConfigKey<'_>) -> Option<String> {
        if key.env() == VARIABLE
            && let Some(url) = self.urls.get(&normal(key.service_id()))
        {
            return Some(url.clone());
        }
        self.config.service_config()?.load_config(key)
    }
}

fn key(service: &str) -> Option<ServiceConfigKey<'_>> {
    ServiceConfigKey::builder().service_id(service).env(VARIABLE).profile(KEY).build().ok()
}

/// `Secrets Manager`, `secrets-manager` and `SECRETS_MANAGER` are one service.
fn normal(service: &str) -> String {
    service.to_ascii_lowercase().replace([' ', '-'], "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the environment and the configuration files have it.
    #[derive(Debug)]
    struct Elsewhere;

    impl LoadServiceConfig for Elsewhere {
        fn load_config(&self, key: ServiceConfigKey<'_>) -> Option<String> {
            match key.service_id() {
                "EC2" => Some("http://ec2".into()),
                _ => Some("http://all".into()),
            }
        }
    }

    #[test]
    fn what_the_user_says_comes_first() {
        let config = SdkConfig::builder().service_config(Elsewhere).build();
        let said = ServiceEndpoints::default().with("secrets-manager", "http://sm");
        assert_eq!(said.find("Secrets Manager"), Some("http://sm"));
        let config = said.applied_to(config);
        let found = |service| endpoint(&config, service);
        assert_eq!(found("Secrets Manager").as_deref(), Some("http://sm"));
        assert_eq!(found("EC2").as_deref(), Some("http://ec2"));
        assert_eq!(found("STS").as_deref(), Some("http://all"));
        assert_eq!(endpoint_of_its_own(&config, "EC2").as_deref(), Some("http://ec2"));
        assert_eq!(endpoint_of_its_own(&config, "ssmmessages"), None);
    }

    #[test]
    fn without_any_nothing_changes() {
        let config = ServiceEndpoints::default().applied_to(SdkConfig::builder().build());
        assert_eq!(endpoint(&config, "SSM"), None);
    }
}
