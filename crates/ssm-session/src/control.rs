//! The calls that leave the data channel.

use std::fmt;
use std::sync::Arc;

use ssm_channel::DataKey;

use crate::document::StartSession;
use crate::endpoint::Endpoint;
use crate::route::Route;
use crate::sign::Identity;

/// The AWS API as far as a session needs it. Implemented on the AWS SDK (`AwsControl`, feature `aws`) and
/// by the loopback.
///
/// Each call finds fresh credentials for itself: a session can outlive those it was started with.
pub trait ControlPlane: Send + Sync + 'static {
    /// `StartSession`.
    fn start(&self, request: &StartSession) -> impl Future<Output = Result<Endpoint, ControlError>> + Send;

    /// `ResumeSession`: a new token for a session whose connection was lost.
    fn resume(&self, id: &SessionId) -> impl Future<Output = Result<Resumed, ControlError>> + Send;

    /// `TerminateSession`.
    fn terminate(&self, id: &SessionId) -> impl Future<Output = Result<(), ControlError>> + Send;

    /// Who signs the WebSocket upgrade; `None` for an unsigned one.
    fn identity(&self) -> impl Future<Output = Result<Option<Identity>, ControlError>> + Send;

    /// KMS `GenerateDataKey`: the key of an encrypted session. Those without KMS have none to give.
    fn data_key(
        &self,
        request: &DataKeyRequest,
    ) -> impl Future<Output = Result<DataKey, ControlError>> + Send {
        let key = request.key_id.clone();
        async move {
            let message = format!("there is no account here to ask for one, with the KMS key {key}");
            Err(ControlError::new(ControlErrorKind::Unsupported, message))
        }
    }

    /// The way to the data channels of its sessions, unless [`Config::route`](crate::Config::route) says another one.
    fn route(&self) -> Route {
        Route::default()
    }
}

impl<C: ControlPlane> ControlPlane for Arc<C> {
    async fn start(&self, request: &StartSession) -> Result<Endpoint, ControlError> {
        (**self).start(request).await
    }

    async fn resume(&self, id: &SessionId) -> Result<Resumed, ControlError> {
        (**self).resume(id).await
    }

    async fn terminate(&self, id: &SessionId) -> Result<(), ControlError> {
        (**self).terminate(id).await
    }

    async fn identity(&self) -> Result<Option<Identity>, ControlError> {
        (**self).identity().await
    }

    async fn data_key(&self, request: &DataKeyRequest) -> Result<DataKey, ControlError> {
        (**self).data_key(request).await
    }

    fn route(&self) -> Route {
        (**self).route()
    }
}

/// A data key that a session wants: 64 bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataKeyRequest {
    /// The KMS key to make it with: an ARN, an id or an alias.
    pub key_id: String,
    /// The encryption context, by name.
    pub context: Vec<(&'static str, String)>,
}

/// The control plane of a session that was started elsewhere: it can be neither resumed nor ended by API.
#[derive(Debug, Clone, Copy, Default)]
pub struct Attached;

impl ControlPlane for Attached {
    async fn start(&self, _: &StartSession) -> Result<Endpoint, ControlError> {
        Err(ControlError::new(ControlErrorKind::Unsupported, "an attached session cannot start another one"))
    }

    async fn resume(&self, _: &SessionId) -> Result<Resumed, ControlError> {
        Ok(Resumed::SessionOver)
    }

    async fn terminate(&self, _: &SessionId) -> Result<(), ControlError> {
        Ok(())
    }

    async fn identity(&self) -> Result<Option<Identity>, ControlError> {
        Ok(None)
    }
}

/// The id of a session, `OWNER-SUFFIX`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(String);

impl SessionId {
    /// The id with this text.
    pub fn new(id: impl Into<String>) -> Self {
        Self(id.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The answer to `ResumeSession`.
#[derive(Debug, Clone)]
pub enum Resumed {
    /// Connect here.
    Endpoint(Endpoint),
    /// An answer without a token: the session is over (plugin `sessionhandler.go` `GetResumeSessionParams`).
    SessionOver,
}

/// What the API answered, or why it did not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ControlError {
    kind: ControlErrorKind,
    message: String,
}

/// Classes of API failures, by what a caller can do about them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ControlErrorKind {
    /// The target is not connected to Systems Manager.
    TargetNotConnected,
    /// The document does not exist or does not take these parameters.
    InvalidDocument,
    /// The session does not exist.
    NoSuchSession,
    /// The caller may not do this.
    AccessDenied,
    /// There are no credentials, or they are expired or unusable.
    Credentials,
    /// The credentials are from a single sign-on that is over, or was never begun: the user has to sign on.
    SignOn,
    /// Too many calls; worth another try later.
    Throttled,
    /// The API was not reached; worth another try.
    Unreachable,
    /// The service failed; worth another try.
    Service,
    /// The request is wrong.
    Invalid,
    /// This control plane does not have the call.
    Unsupported,
}

impl ControlError {
    /// An error of this kind; `message` is a fragment for a person, without secrets.
    pub fn new(kind: ControlErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// What kind of failure it is.
    pub fn kind(&self) -> ControlErrorKind {
        self.kind
    }

    /// Whether the same call may work later, without anybody changing what is asked for.
    pub fn is_passing(&self) -> bool {
        matches!(
            self.kind,
            ControlErrorKind::TargetNotConnected
                | ControlErrorKind::Credentials
                | ControlErrorKind::SignOn
                | ControlErrorKind::Throttled
                | ControlErrorKind::Unreachable
                | ControlErrorKind::Service
        )
    }

    /// Whether trying to resume again cannot help.
    pub fn ends_session(&self) -> bool {
        matches!(
            self.kind,
            ControlErrorKind::NoSuchSession
                | ControlErrorKind::AccessDenied
                | ControlErrorKind::Invalid
                | ControlErrorKind::Unsupported
        )
    }
}
