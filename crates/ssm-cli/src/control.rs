//! The control planes a command can have.

#[cfg(feature = "db")]
use std::sync::Arc;
#[cfg(feature = "aws")]
use std::time::Duration;

use ssm_session::{
    Attached, ControlError, ControlPlane, DataKey, DataKeyRequest, Endpoint, Identity, Resumed, Route,
    SessionId, StartSession,
};
#[cfg(feature = "aws")]
use ssm_session::{AwsControl, ControlErrorKind};

#[cfg(feature = "db")]
use crate::command::db::Gate;
#[cfg(feature = "aws")]
use crate::remembered;

/// How long credentials are looked for that are not needed: without any, the SDK asks the metadata service of a machine that may
/// not be in AWS at all.
#[cfg(feature = "aws")]
const OPTIONAL_IDENTITY: Duration = Duration::from_secs(3);

/// Who starts, resumes and ends sessions.
#[derive(Debug, Clone)]
pub(crate) enum Control {
    /// The AWS SDK.
    #[cfg(feature = "aws")]
    Aws(AwsControl),
    /// The AWS SDK, for a session that somebody else started: it opens without credentials of ours, and is not signed then.
    #[cfg(feature = "aws")]
    Handed(AwsControl),
    /// The AWS SDK, through a bastion that may be another one when it is gone.
    #[cfg(feature = "db")]
    Bastion(Arc<Gate>),
    /// Nobody.
    Attached,
}

impl ControlPlane for Control {
    async fn start(&self, request: &StartSession) -> Result<Endpoint, ControlError> {
        match self {
            #[cfg(feature = "aws")]
            Self::Aws(aws) => match aws.start(request).await {
                Ok(endpoint) => {
                    remembered::started(endpoint.session_id.as_str(), &request.target, aws);
                    Ok(endpoint)
                }
                Err(error) => Err(not_started(&request.target, error)),
            },
            #[cfg(feature = "aws")]
            Self::Handed(aws) => aws.start(request).await,
            #[cfg(feature = "db")]
            Self::Bastion(gate) => {
                let endpoint = gate.start(request).await?;
                remembered::started(endpoint.session_id.as_str(), &gate.bastion(), gate.account());
                Ok(endpoint)
            }
            Self::Attached => Attached.start(request).await,
        }
    }

    async fn resume(&self, id: &SessionId) -> Result<Resumed, ControlError> {
        match self {
            #[cfg(feature = "aws")]
            Self::Aws(aws) | Self::Handed(aws) => aws.resume(id).await,
            #[cfg(feature = "db")]
            Self::Bastion(gate) => gate.account().resume(id).await,
            Self::Attached => Attached.resume(id).await,
        }
    }

    async fn terminate(&self, id: &SessionId) -> Result<(), ControlError> {
        match self {
            #[cfg(feature = "aws")]
            Self::Aws(aws) => end(aws, id).await,
            #[cfg(feature = "aws")]
            Self::Handed(aws) => aws.terminate(id).await,
            #[cfg(feature = "db")]
            Self::Bastion(gate) => end(gate.account(), id).await,
            Self::Attached => Attached.terminate(id).await,
        }
    }

    async fn identity(&self) -> Result<Option<Identity>, ControlError> {
        match self {
            #[cfg(feature = "aws")]
            Self::Aws(aws) => aws.identity().await,
            #[cfg(feature = "db")]
            Self::Bastion(gate) => gate.account().identity().await,
            #[cfg(feature = "aws")]
            Self::Handed(aws) => {
                tokio::time::timeout(OPTIONAL_IDENTITY, aws.identity()).await.unwrap_or(Ok(None))
            }
            Self::Attached => Attached.identity().await,
        }
    }

    async fn data_key(&self, request: &DataKeyRequest) -> Result<DataKey, ControlError> {
        match self {
            #[cfg(feature = "aws")]
            Self::Aws(aws) | Self::Handed(aws) => aws.data_key(request).await,
            #[cfg(feature = "db")]
            Self::Bastion(gate) => gate.account().data_key(request).await,
            Self::Attached => Attached.data_key(request).await,
        }
    }

    fn route(&self) -> Route {
        match self {
            #[cfg(feature = "aws")]
            Self::Aws(aws) | Self::Handed(aws) => aws.route(),
            #[cfg(feature = "db")]
            Self::Bastion(gate) => gate.account().route(),
            Self::Attached => Attached.route(),
        }
    }
}

/// A name that stood for a machine that cannot be reached is looked up again next time.
#[cfg(feature = "aws")]
fn not_started(target: &str, error: ControlError) -> ControlError {
    #[cfg(feature = "lookup")]
    if error.kind() == ControlErrorKind::TargetNotConnected && crate::cache::forget(target) {
        let message = format!("{error}; what was known of its name is forgotten: another try looks it up");
        return ControlError::new(error.kind(), message);
    }
    tracing::debug!(target, %error, "not started");
    error
}

/// Ends a session of this process, which is remembered until the service has answered.
#[cfg(feature = "aws")]
async fn end(aws: &AwsControl, id: &SessionId) -> Result<(), ControlError> {
    remembered::ending(id.as_str());
    let ended = aws.terminate(id).await;
    let gone = |error: &ControlError| error.kind() == ControlErrorKind::NoSuchSession;
    if ended.as_ref().err().is_none_or(gone) {
        remembered::ended(id.as_str());
    }
    ended
}
