//! Containers of ECS: [`EcsTarget`] as a session takes it, [`ContainerPath`] as a person writes it.

use std::fmt;
use std::str::FromStr;

use crate::ParseTargetError;
use crate::text::{refuse_hostile, visible};

pub(crate) const PREFIX: &str = "ecs:";

/// The target string of a container, `ecs:<cluster name>_<task id>_<container runtime id>`, as the ECS
/// agent makes it (agent ecs_identity.go) and StartSession takes it. Kept as it was written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EcsTarget(String);

impl EcsTarget {
    /// The string of this container: the name of its cluster, the id of its task, and what its runtime calls it. On Fargate that is
    /// the id of the task again, a dash and a number.
    ///
    /// # Errors
    ///
    /// When one of them is empty or has a character that no such string has.
    pub fn new(cluster: &str, task: &str, runtime_id: &str) -> Result<Self, ParseTargetError> {
        format!("{PREFIX}{cluster}_{task}_{runtime_id}").parse()
    }

    /// The whole string, `ecs:` included.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for EcsTarget {
    type Err = ParseTargetError;

    /// Only the shape is checked. A cluster name may have underscores of its own.
    fn from_str(text: &str) -> Result<Self, ParseTargetError> {
        refuse_hostile(text)?;
        let parts = text.strip_prefix(PREFIX).map(|rest| rest.rsplitn(3, '_'));
        let is_complete = parts.is_some_and(|parts| parts.filter(|part| !part.is_empty()).count() == 3);
        let is_word =
            |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b":_-".contains(&byte));
        if !is_complete || !is_word(text) {
            return Err(ParseTargetError::Ecs { shown: visible(text) });
        }
        Ok(Self(text.into()))
    }
}

impl AsRef<str> for EcsTarget {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EcsTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A container by names that have to be looked up: `CLUSTER/SERVICE-OR-TASK[/CONTAINER]`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerPath {
    cluster: String,
    name: String,
    container: Option<String>,
}

impl ContainerPath {
    /// The cluster's name.
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// A service, or the id of a task.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The container's name; none when the task has only one.
    pub fn container(&self) -> Option<&str> {
        self.container.as_deref()
    }

    /// Reads `CLUSTER/NAME` and `CLUSTER/NAME/CONTAINER`, without the prefix.
    pub(crate) fn parse(path: &str) -> Option<Self> {
        let (cluster, rest) = path.split_once('/')?;
        let (name, container) = rest.split_once('/').map_or((rest, None), |(name, c)| (name, Some(c)));
        let words = [Some(cluster), Some(name), container];
        let all_names = words.into_iter().flatten().all(is_name);
        all_names.then(|| Self {
            cluster: cluster.into(),
            name: name.into(),
            container: container.map(Into::into),
        })
    }

    /// Reads `CLUSTER/NAME` and nothing longer.
    pub(crate) fn parse_short(path: &str) -> Option<Self> {
        Self::parse(path).filter(|path| path.container.is_none())
    }
}

impl fmt::Display for ContainerPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}/{}", self.cluster, self.name)?;
        match &self.container {
            Some(container) => write!(f, "/{container}"),
            None => Ok(()),
        }
    }
}

/// Names of clusters, services and containers: letters, digits, `-` and `_`.
fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_two_or_three_names() {
        let path = ContainerPath::parse("prod/web").unwrap();
        assert_eq!((path.cluster(), path.name(), path.container()), ("prod", "web", None));
        let path = ContainerPath::parse("prod/web/nginx").unwrap();
        assert_eq!(path.container(), Some("nginx"));
        assert_eq!(path.to_string(), "ecs:prod/web/nginx");
        for text in ["prod", "prod/", "/web", "prod/web/", "prod//nginx", "a/b/c/d", "a b/c", "a/b/c d", ""] {
            assert_eq!(ContainerPath::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_target_string_is_kept_as_written() {
        for text in
            ["ecs:prod_8f01b4f0aa_8f01b4f0aa-3107182542", "ecs:my_own_cluster_8f01b4f0aa_0123456789abcdef"]
        {
            assert_eq!(text.parse::<EcsTarget>().unwrap().as_str(), text);
        }
    }

    #[test]
    fn item_10_a_target_string_is_made_of_its_parts() {
        let target = EcsTarget::new("my_own", "8f01b4f0aa", "8f01b4f0aa-3107182542").unwrap();
        assert_eq!(target.as_str(), "ecs:my_own_8f01b4f0aa_8f01b4f0aa-3107182542");
        for (cluster, task, runtime_id) in [("", "t", "r"), ("c", "", "r"), ("c", "t", ""), ("c", "t", "r/1")]
        {
            assert!(EcsTarget::new(cluster, task, runtime_id).is_err(), "{cluster} {task} {runtime_id}");
        }
    }

    #[test]
    fn an_incomplete_target_string_is_refused() {
        for text in [
            "ecs:",
            "ecs:a",
            "ecs:a_b",
            "ecs:a_b_",
            "ecs:_b_c",
            "ecs:a__c",
            "ecs:a b_c_d",
            "ecs:é_b_c",
            "a_b_c",
        ] {
            assert_eq!(text.parse::<EcsTarget>(), Err(ParseTargetError::Ecs { shown: text.into() }));
        }
    }
}
