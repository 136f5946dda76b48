//! The arguments of `ssm list`.

use std::str::FromStr;

use clap::{Args as ClapArgs, ValueEnum};

use super::ConnectionArgs;

/// List the machines that Systems Manager manages
///
/// With the names that EC2 has for them. Filters of different keys must all hold; of several values one has to.
#[derive(Debug, ClapArgs)]
pub(crate) struct ListArgs {
    /// Only those a session can be started on
    #[arg(long)]
    pub(crate) online: bool,
    /// Only those with this system
    #[arg(long, value_enum, ignore_case = true)]
    pub(crate) platform: Option<PlatformArg>,
    /// Only those with this tag
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) tag: Vec<FilterArg>,
    /// Only those with this property: KEY=VALUE[,VALUE...]
    ///
    /// name, state or address, where * and ? stand for any characters; or a filter of Systems Manager: PingStatus, PlatformTypes, AgentVersion,
    /// InstanceIds, ResourceType, IamRole, ActivationIds, AssociationStatus, tag-key, tag:KEY. May be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) filter: Vec<FilterArg>,
    /// Write each machine to stdout as it comes, as a line of JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}

/// A system, by the API's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PlatformArg {
    Linux,
    Windows,
    Macos,
}

impl PlatformArg {
    /// As Systems Manager writes it (shape `PlatformType`).
    #[cfg(feature = "lookup")]
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Linux => "Linux",
            Self::Windows => "Windows",
            Self::Macos => "MacOS",
        }
    }
}

/// `KEY=VALUE`, split at the first `=`; neither is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FilterArg {
    pub(crate) key: String,
    pub(crate) value: String,
}

impl FromStr for FilterArg {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('=') {
            Some((key, value)) if !key.is_empty() && !value.is_empty() => {
                Ok(Self { key: key.into(), value: value.into() })
            }
            _ => Err("a filter is written KEY=VALUE"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_has_a_key_and_a_value() {
        assert_eq!("a=b=c".parse(), Ok(FilterArg { key: "a".into(), value: "b=c".into() }));
        for wrong in ["", "a", "=b", "a="] {
            assert!(wrong.parse::<FilterArg>().is_err(), "{wrong}");
        }
    }
}
