//! The service as a control plane, without HTTP in between.

use std::sync::Arc;

use aws_credential_types::Credentials;
use ssm_session::{
    ControlError, ControlErrorKind, ControlPlane, DataKey, DataKeyRequest, Endpoint, Identity, Resumed,
    SessionId, StartSession,
};

use crate::fault::Refusal;
use crate::service::{ChannelAnswer, ResumeError, Service, SessionRequest, StartError, UnknownSession};

/// Calls the service directly. The data channel is a WebSocket over TCP all the same, with a signed upgrade.
#[derive(Clone)]
pub(crate) struct DirectControl(pub(crate) Arc<Service>);

impl ControlPlane for DirectControl {
    async fn start(&self, request: &StartSession) -> Result<Endpoint, ControlError> {
        let request = SessionRequest {
            target: request.target.clone(),
            document: request.document.clone(),
            parameters: request.parameters.clone(),
            reason: request.reason.clone(),
            owner: None,
        };
        let answer = self.0.start_session(request).map_err(start_error)?;
        let ended = || ControlError::new(ControlErrorKind::Service, "the session ended as it started");
        answer.channel.map(|channel| endpoint(answer.session_id, channel)).ok_or_else(ended)
    }

    async fn resume(&self, id: &SessionId) -> Result<Resumed, ControlError> {
        let answer = self.0.resume_session(id.as_str()).map_err(resume_error)?;
        Ok(match answer.channel {
            Some(channel) => Resumed::Endpoint(endpoint(answer.session_id, channel)),
            None => Resumed::SessionOver,
        })
    }

    async fn terminate(&self, id: &SessionId) -> Result<(), ControlError> {
        self.0.terminate_session(id.as_str()).await.map_err(unknown_session)
    }

    async fn data_key(&self, request: &DataKeyRequest) -> Result<DataKey, ControlError> {
        let own = self.0.config.kms.as_ref().is_some_and(|kms| kms.key_id == request.key_id);
        if !own {
            let message = format!("Key '{}' does not exist", request.key_id);
            return Err(ControlError::new(ControlErrorKind::Invalid, message));
        }
        let context = request.context.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
        let (plaintext, ciphertext) = self.0.data_keys.generate(context.collect());
        DataKey::new(plaintext.expose(), ciphertext)
            .map_err(|error| ControlError::new(ControlErrorKind::Service, error.to_string()))
    }

    async fn identity(&self) -> Result<Option<Identity>, ControlError> {
        let keys = &self.0.keys;
        let secret = keys.secret_key.expose().as_str();
        let credentials = Credentials::new(&keys.access_key, secret, None, None, "loopback");
        Ok(Some(Identity::new(credentials, &self.0.config.region)))
    }
}

fn endpoint(session_id: String, channel: ChannelAnswer) -> Endpoint {
    Endpoint { session_id: SessionId::new(session_id), stream_url: channel.stream_url, token: channel.token }
}

fn start_error(error: StartError) -> ControlError {
    let kind = match &error {
        StartError::TargetNotConnected(_) => ControlErrorKind::TargetNotConnected,
        StartError::InvalidDocument(_) | StartError::Parameters(_) => ControlErrorKind::InvalidDocument,
        StartError::TooMany => ControlErrorKind::Throttled,
        StartError::ShuttingDown => ControlErrorKind::Service,
    };
    ControlError::new(kind, error.to_string())
}

fn resume_error(error: ResumeError) -> ControlError {
    let kind = match &error {
        ResumeError::Unknown(_) => ControlErrorKind::NoSuchSession,
        ResumeError::Refused(Refusal::Denied) => ControlErrorKind::AccessDenied,
        ResumeError::Refused(Refusal::Throttled) => ControlErrorKind::Throttled,
        ResumeError::Refused(Refusal::Failed(_)) => ControlErrorKind::Service,
    };
    ControlError::new(kind, error.to_string())
}

fn unknown_session(error: UnknownSession) -> ControlError {
    ControlError::new(ControlErrorKind::NoSuchSession, error.to_string())
}
