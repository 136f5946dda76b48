//! [`Resolver`]: one way to look a target up.

use std::borrow::Cow;
use std::pin::Pin;
use std::sync::Arc;

use crate::{Answer, LookupError, Target};

/// One step of a [`Chain`](crate::Chain).
///
/// A target that already names a machine is never given to a step.
///
/// ```
/// use ssm_resolve::{Answer, LookupError, Resolver, Target};
///
/// /// Machines by the number on their label.
/// struct Label;
///
/// impl Resolver for Label {
///     fn step(&self) -> std::borrow::Cow<'_, str> {
///         "label".into()
///     }
///
///     async fn resolve(&self, target: &Target) -> Result<Answer, LookupError> {
///         match target {
///             Target::Name(name) if name.as_str() == "no7" => {
///                 Ok(Answer::Alias("tag:Name=web".parse().expect("a tag")))
///             }
///             _ => Ok(Answer::NotMine),
///         }
///     }
/// }
/// ```
pub trait Resolver: Send + Sync {
    /// What the step is called where the search is explained, in a few words.
    fn step(&self) -> Cow<'_, str>;

    /// Looks the target up. Dropping the future ends the lookup; a chain does so when an earlier step has answered.
    ///
    /// # Errors
    ///
    /// When nobody could be asked. That there is no such machine is [`Answer::Nothing`].
    fn resolve(&self, target: &Target) -> impl Future<Output = Result<Answer, LookupError>> + Send;
}

impl<R: Resolver> Resolver for Arc<R> {
    fn step(&self) -> Cow<'_, str> {
        (**self).step()
    }

    fn resolve(&self, target: &Target) -> impl Future<Output = Result<Answer, LookupError>> + Send {
        (**self).resolve(target)
    }
}

/// [`Resolver`] as a trait object.
pub(crate) trait DynResolver: Send + Sync {
    fn step(&self) -> Cow<'_, str>;
    fn resolve<'a>(&'a self, target: &'a Target) -> BoxFuture<'a>;
}

pub(crate) type BoxFuture<'a> = Pin<Box<dyn Future<Output = Result<Answer, LookupError>> + Send + 'a>>;

impl<R: Resolver> DynResolver for R {
    fn step(&self) -> Cow<'_, str> {
        Resolver::step(self)
    }

    fn resolve<'a>(&'a self, target: &'a Target) -> BoxFuture<'a> {
        Box::pin(Resolver::resolve(self, target))
    }
}
