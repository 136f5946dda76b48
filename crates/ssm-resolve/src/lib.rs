//! What a user wrote for a target, read as something a session can be started on.
//!
//! [`Target`] is what the service accepts as it stands: the id of an instance, or of an ECS container.
//! Reading one asks nobody and opens nothing; text that would need a lookup is refused with an error
//! that says which forms work.
//!
//! ```
//! use ssm_resolve::Target;
//!
//! let target: Target = "i-0123456789abcdef0".parse()?;
//! assert!(matches!(&target, Target::Instance(_)));
//! assert_eq!(target.as_str(), "i-0123456789abcdef0");
//!
//! let error = "web-1".parse::<Target>().unwrap_err();
//! assert!(error.to_string().contains("give the instance id"));
//! # Ok::<(), ssm_resolve::ParseTargetError>(())
//! ```

mod error;
mod instance_id;
mod target;

pub use error::ParseTargetError;
pub use instance_id::InstanceId;
pub use target::{EcsTarget, MAX_TARGET_LEN, Target};
