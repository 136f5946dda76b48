//! Which machine a user means: any text that names one, to what a session can be started on.
//!
//! Reading a text asks nobody: [`Target`] is the form it has, and an id needs nothing more. For the others a [`Chain`] asks one
//! [`Resolver`] after the other.
//!
//! | step | looks up |
//! |---|---|
//! | [`Aliases`] | names the user has given |
//! | [`InstanceTag`] | `tag:KEY=VALUE`, `asg:GROUP`, a name as Name tag |
//! | [`InstanceAddress`] | public, private and IPv6 addresses |
//! | `DnsAddress` (feature `dns`) | names with A or AAAA records, by the address |
//! | `DnsText` (feature `dns`) | names with a TXT record that is an instance id |
//! | [`ComputerName`] | what managed nodes call themselves |
//! | [`Containers`] | `ecs:CLUSTER/SERVICE-OR-TASK[/CONTAINER]`, a name of that form, ARNs of ECS |
//!
//! [`Chain::standard`] has the default order; any other, with steps of your own, is built with [`Chain::then`] and
//! [`Chain::alongside`]. The steps that look into an account do so through an [`Inventory`]: `AwsInventory` (feature `aws`), or one of
//! your own; [`Containers`] does through [`Clusters`] and `AwsClusters`. [`Cache`] remembers results between runs.
//!
//! ```
//! use std::borrow::Cow;
//!
//! use ssm_resolve::{Answer, Chain, LookupError, Matches, Resolver, SessionTarget, Target};
//!
//! /// `rack:7` is a machine of our own.
//! struct Rack;
//!
//! impl Resolver for Rack {
//!     fn step(&self) -> Cow<'_, str> {
//!         "rack".into()
//!     }
//!
//!     async fn resolve(&self, target: &Target) -> Result<Answer, LookupError> {
//!         match target {
//!             Target::Tag(tag) if tag.key() == "rack" && tag.value() == "7" => {
//!                 let id: SessionTarget = "mi-0123456789abcdef0".parse().expect("an id");
//!                 Ok(Answer::Found(Matches::from(id)))
//!             }
//!             Target::Tag(tag) if tag.key() == "rack" => Ok(Answer::Nothing),
//!             _ => Ok(Answer::NotMine),
//!         }
//!     }
//! }
//!
//! # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
//! # runtime.block_on(async {
//! let chain = Chain::new().then(Rack);
//! let resolved = chain.resolve(&"rack:7".parse()?).await?;
//! assert_eq!(resolved.target().as_str(), "mi-0123456789abcdef0");
//! assert_eq!(resolved.step.as_deref(), Some("rack"));
//!
//! let error = chain.resolve(&"rack:8".parse()?).await.unwrap_err();
//! assert_eq!(error.to_string(), "no machine found for 'tag:rack=8'\n  rack: nothing found");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod answer;
mod arn;
#[cfg(feature = "aws")]
mod aws;
#[cfg(feature = "aws")]
mod aws_clusters;
mod cache;
mod cache_file;
mod chain;
mod clusters;
mod containers;
#[cfg(feature = "dns")]
mod dns;
mod ecs;
mod error;
mod instance_id;
mod inventory;
mod lookup;
#[cfg(feature = "aws")]
mod node;
mod resolver;
mod search;
mod session_target;
mod standard;
mod target;
mod text;

pub use answer::{Answer, LookupError, LookupErrorKind, Match, Matches, More};
pub use arn::{Arn, ArnResource};
#[cfg(feature = "aws")]
pub use aws::AwsInventory;
#[cfg(feature = "aws")]
pub use aws_clusters::AwsClusters;
pub use cache::{Cache, MAX_CACHE_ENTRIES};
pub use cache_file::{CacheFile, MAX_CACHE_FILE_LEN};
pub use chain::{Chain, Several};
pub use clusters::{Clusters, Container, Exec, Listed, MAX_DESCRIBED, Task};
pub use containers::{Containers, FoundTasks, TaskName};
#[cfg(feature = "dns")]
pub use dns::{Dns, DnsAddress, DnsText, MAX_ADDRESSES};
pub use ecs::{ContainerPath, EcsTarget};
pub use error::ParseTargetError;
pub use instance_id::InstanceId;
pub use inventory::{Filter, Inventory};
pub use lookup::{Aliases, ComputerName, InstanceAddress, InstanceTag, MAX_MATCHES, is_computer_name};
#[cfg(feature = "aws")]
pub use node::{NODES_PAGE, Node, NodeFilter, NodePages};
pub use resolver::Resolver;
pub use search::{Attempt, Explanation, Outcome, ResolveError, Resolved};
pub use session_target::SessionTarget;
pub use target::{MAX_TARGET_LEN, Name, Tag, Target};
