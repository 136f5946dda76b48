//! [`Arn`]: the names AWS prints for instances and tasks.

use std::fmt;
use std::str::FromStr;

use crate::ecs::ContainerPath;
use crate::text::{refuse_hostile, visible};
use crate::{InstanceId, ParseTargetError};

/// The ARN of something a session can be started on: `arn:PARTITION:SERVICE:REGION:ACCOUNT:RESOURCE`. Kept as it was written.
///
/// Region and account are what the ARN says. A session has to be started there; nothing here compares them with the account
/// in use.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Arn {
    text: String,
    partition: String,
    region: String,
    account: String,
    resource: ArnResource,
}

/// What an [`Arn`] names.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ArnResource {
    /// `ec2` `instance/i-...` or `ssm` `managed-instance/mi-...`.
    Instance(InstanceId),
    /// `ecs` `task/CLUSTER/ID`.
    Task(ContainerPath),
    /// `ecs` `service/CLUSTER/NAME`.
    Service(ContainerPath),
    /// `ecs` `container/CLUSTER/TASK/ID`, the last of which stands for the container.
    Container(ContainerPath),
}

impl Arn {
    /// The whole ARN.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// `aws`, `aws-cn`, `aws-us-gov`.
    pub fn partition(&self) -> &str {
        &self.partition
    }

    /// The region it is in.
    pub fn region(&self) -> &str {
        &self.region
    }

    /// The account it belongs to, twelve digits.
    pub fn account(&self) -> &str {
        &self.account
    }

    /// What it names.
    pub fn resource(&self) -> &ArnResource {
        &self.resource
    }
}

impl FromStr for Arn {
    type Err = ParseTargetError;

    fn from_str(text: &str) -> Result<Self, ParseTargetError> {
        refuse_hostile(text)?;
        parse(text).ok_or_else(|| ParseTargetError::Arn { shown: visible(text) })
    }
}

impl fmt::Display for Arn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(f)
    }
}

fn parse(text: &str) -> Option<Arn> {
    let mut parts = text.splitn(6, ':');
    let (prefix, partition, service) = (parts.next()?, parts.next()?, parts.next()?);
    let (region, account, resource) = (parts.next()?, parts.next()?, parts.next()?);
    let is_word =
        |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if prefix != "arn" || !is_word(partition) || !is_word(region) || !is_account(account) {
        return None;
    }
    let resource = match (service, resource.split_once('/')?) {
        ("ec2", ("instance", id)) | ("ssm", ("managed-instance", id)) => {
            ArnResource::Instance(id.parse().ok()?)
        }
        ("ecs", ("task", path)) => ArnResource::Task(ContainerPath::parse_short(path)?),
        ("ecs", ("service", path)) => ArnResource::Service(ContainerPath::parse_short(path)?),
        ("ecs", ("container", path)) => {
            ArnResource::Container(ContainerPath::parse(path).filter(|path| path.container().is_some())?)
        }
        _ => return None,
    };
    Some(Arn {
        text: text.into(),
        partition: partition.into(),
        region: region.into(),
        account: account.into(),
        resource,
    })
}

fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|digit| digit.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_and_managed_instances_are_read() {
        let arn: Arn = "arn:aws:ec2:eu-west-1:123456789012:instance/i-0123456789abcdef0".parse().unwrap();
        assert_eq!(*arn.resource(), ArnResource::Instance("i-0123456789abcdef0".parse().unwrap()));
        assert_eq!((arn.partition(), arn.region(), arn.account()), ("aws", "eu-west-1", "123456789012"));
        let arn: Arn =
            "arn:aws-cn:ssm:cn-north-1:123456789012:managed-instance/mi-0123456789abcdef0".parse().unwrap();
        assert_eq!(*arn.resource(), ArnResource::Instance("mi-0123456789abcdef0".parse().unwrap()));
        assert_eq!(arn.partition(), "aws-cn");
    }

    #[test]
    fn a_task_names_its_cluster() {
        let arn: Arn = "arn:aws:ecs:eu-west-1:123456789012:task/prod/8f01b4f0aa".parse().unwrap();
        let ArnResource::Task(path) = arn.resource() else { panic!("{arn:?}") };
        assert_eq!((path.cluster(), path.name(), path.container()), ("prod", "8f01b4f0aa", None));
    }

    #[test]
    fn services_and_containers_are_read() {
        let arn: Arn = "arn:aws:ecs:eu-west-1:123456789012:service/prod/web".parse().unwrap();
        let ArnResource::Service(path) = arn.resource() else { panic!("{arn:?}") };
        assert_eq!((path.cluster(), path.name(), path.container()), ("prod", "web", None));
        let text = "arn:aws:ecs:eu-west-1:123456789012:container/prod/8f01b4f0aa/5d2e4f60-71aa";
        let arn: Arn = text.parse().unwrap();
        let ArnResource::Container(path) = arn.resource() else { panic!("{arn:?}") };
        assert_eq!((path.name(), path.container()), ("8f01b4f0aa", Some("5d2e4f60-71aa")));
    }

    #[test]
    fn other_arns_are_refused() {
        for text in [
            "arn:",
            "arn:aws:ec2:eu-west-1:123456789012:instance",
            "arn:aws:ec2:eu-west-1:123456789012:instance/web",
            "arn:aws:ec2:eu-west-1:123456789012:volume/i-0123456789abcdef0",
            "arn:aws:ec2:eu-west-1:12345:instance/i-0123456789abcdef0",
            "arn:aws:ec2::123456789012:instance/i-0123456789abcdef0",
            "arn:aws:s3:::bucket/key",
            "arn:aws:ecs:eu-west-1:123456789012:task/8f01b4f0aa",
            "arn:aws:ecs:eu-west-1:123456789012:task/prod/",
            "arn:aws:ecs:eu-west-1:123456789012:cluster/prod",
        ] {
            assert_eq!(text.parse::<Arn>(), Err(ParseTargetError::Arn { shown: visible(text) }));
        }
    }
}
