//! The control planes a command can have.

#[cfg(feature = "db")]
use std::sync::Arc;
#[cfg(feature = "aws")]
use std::time::Duration;

#[cfg(feature = "aws")]
use ssm_session::AwsControl;
use ssm_session::{
    Attached, ControlError, ControlPlane, DataKey, DataKeyRequest, Endpoint, Identity, Resumed, Route,
    SessionId, StartSession,
};

#[cfg(feature = "db")]
use crate::command::db::Gate;

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
            Self::Aws(aws) | Self::Handed(aws) => aws.start(request).await,
            #[cfg(feature = "db")]
            Self::Bastion(gate) => gate.start(request).await,
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
            Self::Aws(aws) | Self::Handed(aws) => aws.terminate(id).await,
            #[cfg(feature = "db")]
            Self::Bastion(gate) => gate.account().terminate(id).await,
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
