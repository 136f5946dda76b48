//! Codes of a second factor.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use ssm_proto::Secret;

/// Asks the user for a code of a device: an application on a telephone, or a token.
#[derive(Clone)]
pub struct CodePrompt(Arc<Ask>);

type Ask = dyn Fn(CodeRequest) -> Answer + Send + Sync;

type Answer = Pin<Box<dyn Future<Output = Result<Secret<String>, String>> + Send>>;

/// What a user is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CodeRequest {
    /// The device: the `mfa_serial` of a profile, an ARN or the number on a piece of hardware.
    pub device: String,
    /// The role that it is for.
    pub role: String,
    /// Whether the last code was not taken.
    pub again: bool,
}

impl CodePrompt {
    /// A prompt that does this. Its error says in words why nobody was asked.
    pub fn new<F>(ask: impl Fn(CodeRequest) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<Secret<String>, String>> + Send + 'static,
    {
        Self(Arc::new(move |request| Box::pin(ask(request))))
    }

    pub(crate) async fn ask(&self, request: CodeRequest) -> Result<Secret<String>, String> {
        (self.0)(request).await
    }
}

impl fmt::Debug for CodePrompt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CodePrompt(..)")
    }
}
