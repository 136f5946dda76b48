//! [`AwsInventory`]: an account, asked through the AWS SDK.

use std::collections::BTreeSet;
use std::net::IpAddr;

use aws_config::{ConfigLoader, SdkConfig};
use aws_sdk_ec2::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_ec2::types::{Filter as Ec2Filter, Instance};
use aws_sdk_ssm::types::{InstanceInformation, InstanceInformationStringFilter, PingStatus};
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};

use crate::inventory::{Filter, Inventory};
use crate::lookup::is_computer_name;
use crate::node::NODES_PAGE;
use crate::text::{causes, visible};
use crate::{InstanceId, LookupError, LookupErrorKind, Match, Matches, More, SessionTarget};

/// [`Inventory`] on EC2's DescribeInstances and Systems Manager's DescribeInstanceInformation, a page at a time.
///
/// The caller needs the IAM actions `ec2:DescribeInstances` and, for computer names, `ssm:DescribeInstanceInformation`.
#[derive(Debug, Clone)]
pub struct AwsInventory {
    pub(crate) ec2: aws_sdk_ec2::Client,
    pub(crate) ssm: aws_sdk_ssm::Client,
}

/// Instances in one answer: a tag or an address is one call, and a page of 5,000 instances is never held at once.
const EC2_PAGE: i32 = 200;

impl AwsInventory {
    /// What this loader finds in the environment and the profile, over rustls on ring.
    ///
    /// A program that has an [`SdkConfig`] uses [`AwsInventory::new`], and asks for credentials only once.
    pub async fn load(loader: ConfigLoader) -> Self {
        let http = Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
        Self::new(&loader.http_client(http).load().await)
    }

    /// The account and region of this configuration. Endpoints may be set there, in the environment or in the profile.
    pub fn new(config: &SdkConfig) -> Self {
        Self::from_clients(aws_sdk_ec2::Client::new(config), aws_sdk_ssm::Client::new(config))
    }

    /// As [`AwsInventory::new`], with the Systems Manager API at this URL.
    pub fn with_ssm_endpoint(config: &SdkConfig, url: &str) -> Self {
        let ssm = aws_sdk_ssm::config::Builder::from(config).endpoint_url(url).build();
        Self::from_clients(aws_sdk_ec2::Client::new(config), aws_sdk_ssm::Client::from_conf(ssm))
    }

    /// What these clients see.
    pub fn from_clients(ec2: aws_sdk_ec2::Client, ssm: aws_sdk_ssm::Client) -> Self {
        Self { ec2, ssm }
    }
}

impl Inventory for AwsInventory {
    async fn instances(&self, filters: &[Filter], limit: usize) -> Result<Matches, LookupError> {
        let filters = filters.iter().map(|filter| {
            Ec2Filter::builder().name(&filter.name).set_values(Some(filter.values.clone())).build()
        });
        let call = self.ec2.describe_instances().set_filters(Some(filters.collect())).max_results(EC2_PAGE);
        let mut pages = call.into_paginator().send();
        let mut matches = Matches::default();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| explain("ec2:DescribeInstances", &error))?;
            for instance in page.reservations().iter().flat_map(|reservation| reservation.instances()) {
                if matches.found.len() == limit {
                    matches.more = More::Maybe;
                    return Ok(matches);
                }
                matches.found.push(instance_match(instance)?);
            }
        }
        Ok(matches)
    }

    async fn nodes(&self, name: &str, limit: usize) -> Result<Matches, LookupError> {
        let online = InstanceInformationStringFilter::builder().key("PingStatus").values("Online").build();
        let online = online.map_err(|error| LookupError::new(LookupErrorKind::Invalid, error.to_string()))?;
        let call = self.ssm.describe_instance_information().filters(online).max_results(NODES_PAGE);
        let mut pages = call.into_paginator().send();
        let mut matches = Matches::default();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| explain("ssm:DescribeInstanceInformation", &error))?;
            let is_meant = |node: &&InstanceInformation| {
                node.computer_name().is_some_and(|computer_name| is_computer_name(computer_name, name))
            };
            for node in page.instance_information_list().iter().filter(is_meant) {
                if matches.found.len() == limit {
                    matches.more = More::Maybe;
                    return Ok(matches);
                }
                matches.found.push(node_match(node)?);
            }
        }
        Ok(matches)
    }

    async fn online(
        &self,
        targets: &[SessionTarget],
    ) -> Result<Option<BTreeSet<SessionTarget>>, LookupError> {
        let ids = targets.iter().map(|target| target.as_str().to_owned()).collect();
        let filter =
            InstanceInformationStringFilter::builder().key("InstanceIds").set_values(Some(ids)).build();
        let filter = filter.map_err(|error| LookupError::new(LookupErrorKind::Invalid, error.to_string()))?;
        let call = self.ssm.describe_instance_information().filters(filter).max_results(NODES_PAGE);
        let mut pages = call.into_paginator().send();
        let mut online = BTreeSet::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| explain("ssm:DescribeInstanceInformation", &error))?;
            for node in page.instance_information_list() {
                if node.ping_status() == Some(&PingStatus::Online) {
                    online.insert(id(node.instance_id())?);
                }
            }
        }
        Ok(Some(online))
    }
}

fn instance_match(instance: &Instance) -> Result<Match, LookupError> {
    let name = instance.tags().iter().find(|tag| tag.key() == Some("Name")).and_then(|tag| tag.value());
    let state = instance.state().and_then(|state| state.name());
    let addresses = [instance.private_ip_address(), instance.public_ip_address(), instance.ipv6_address()];
    Ok(Match {
        target: id(instance.instance_id())?,
        name: name.map(Into::into),
        state: state.map(|state| state.as_str().into()),
        address: addresses.into_iter().flatten().find_map(|address| address.parse::<IpAddr>().ok()),
    })
}

fn node_match(node: &InstanceInformation) -> Result<Match, LookupError> {
    Ok(Match {
        target: id(node.instance_id())?,
        name: node.computer_name().map(Into::into),
        state: node.ping_status().map(|status| status.as_str().into()),
        address: node.ip_address().and_then(|address| address.parse().ok()),
    })
}

pub(crate) fn id(text: Option<&str>) -> Result<SessionTarget, LookupError> {
    let text = text.unwrap_or_default();
    text.parse::<InstanceId>().map(SessionTarget::from).map_err(|_| {
        LookupError::new(
            LookupErrorKind::Service,
            format!("the service answered with the id '{}'", visible(text)),
        )
    })
}

/// The kind of a failure, and what to do about it.
pub(crate) fn explain<E>(action: &str, error: &SdkError<E>) -> LookupError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let text = error.message().unwrap_or_default();
    let (kind, message) = match (error, error.code().unwrap_or_default()) {
        (
            _,
            "UnauthorizedOperation"
            | "AccessDenied"
            | "AccessDeniedException"
            | "AuthFailure.UnauthorizedOperation",
        ) => (
            LookupErrorKind::AccessDenied,
            format!("{action} is denied: the caller's IAM policy has to allow {action} on * ({text})"),
        ),
        (_, "ExpiredToken" | "ExpiredTokenException" | "RequestExpired") => {
            (LookupErrorKind::Credentials, format!("the AWS credentials have expired: {text}"))
        }
        (
            _,
            "AuthFailure"
            | "InvalidClientTokenId"
            | "UnrecognizedClientException"
            | "InvalidSignatureException"
            | "SignatureDoesNotMatch"
            | "MissingAuthenticationToken"
            | "MissingAuthenticationTokenException"
            | "IncompleteSignature",
        ) => (LookupErrorKind::Credentials, format!("the AWS credentials are not accepted: {text}")),
        (_, "RequestLimitExceeded" | "Throttling" | "ThrottlingException" | "TooManyRequestsException") => {
            (LookupErrorKind::Throttled, format!("{action} is throttled; try again later ({text})"))
        }
        (SdkError::ServiceError(failure), "") => {
            (LookupErrorKind::Service, format!("{action} failed with HTTP {}", failure.raw().status()))
        }
        (SdkError::ServiceError(_), code) => {
            (LookupErrorKind::Service, format!("{action} failed: {code} {text}"))
        }
        (SdkError::DispatchFailure(failure), _) if !failure.is_io() && !failure.is_timeout() => {
            let cause = causes(error);
            let kind = if cause.contains("redential") {
                LookupErrorKind::Credentials
            } else {
                LookupErrorKind::Unreachable
            };
            (kind, format!("{action} was not sent: {cause}"))
        }
        (SdkError::ConstructionFailure(_), _) => {
            (LookupErrorKind::Invalid, format!("{action} cannot be called: {}", causes(error)))
        }
        _ => (LookupErrorKind::Unreachable, format!("{action} was not answered: {}", causes(error))),
    };
    LookupError::new(kind, message)
}
