//! Both roles of the handshake: what is asked, and what is answered.

use ssm_proto::BodyError;
use ssm_proto::body::{
    ActionStatus, ClientAction, HandshakeRequest, HandshakeResponse, KmsResult, PortProperties,
    ProcessedAction,
};

use crate::version;
use crate::{Challenge, Config, DataKey, HandshakeError, KeyRequest, KmsOffer, Offer, SessionKind};

const KMS_ENCRYPTION: &str = "KMSEncryption";

/// What a client makes of a request.
#[derive(Debug)]
pub(crate) struct Answer {
    /// What to send.
    pub(crate) response: HandshakeResponse,
    /// The session the agent offers; `None` if no action named one.
    pub(crate) kind: Option<SessionKind>,
    /// Properties of a port session.
    pub(crate) port: Option<PortProperties>,
    /// The first action that was not done. The agent ends the session after such an answer.
    pub(crate) error: Option<HandshakeError>,
}

/// The data key that a request asks for.
pub(crate) fn key_request(config: &Config, request: &HandshakeRequest) -> Option<KeyRequest> {
    request.actions.iter().find_map(|action| match action {
        ClientAction::KmsEncryption { key_id, challenge } => Some(KeyRequest {
            key_id: key_id.clone(),
            challenge: challenge.clone().filter(|_| config.challenge == Challenge::Acknowledged),
            ciphertext: Vec::new(),
        }),
        ClientAction::SessionType { .. } | ClientAction::Unknown { .. } => None,
    })
}

/// What became of the key that a request asks for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Key<'a> {
    /// There is one, and the session is encrypted from here on.
    Installed(&'a DataKey),
    /// There is none, for this reason.
    Missing(&'a str),
    /// This build cannot encrypt.
    Unsupported,
}

/// Answers every requested action, in order (plugin `streaming.go` `handleHandshakeRequest`). An unknown action is answered
/// with status 3, where AWS's plugin answers 0 and puts the 3 into the result.
pub(crate) fn answer(config: &Config, request: &HandshakeRequest, key: Key<'_>) -> Answer {
    let mut answer = Answer {
        response: HandshakeResponse {
            client_version: config.version.clone(),
            processed: Vec::with_capacity(request.actions.len()),
            errors: Vec::new(),
        },
        kind: None,
        port: None,
        error: None,
    };
    for action in &request.actions {
        let (status, result, error) = match answer.process(config, &request.agent_version, action, key) {
            Ok(result) => (ActionStatus::Success, result.map(|result| result.to_raw()), String::new()),
            Err((status, text, error)) => {
                answer.response.errors.push(text.clone());
                answer.error.get_or_insert(error);
                (status, None, text)
            }
        };
        answer.response.processed.push(ProcessedAction {
            action_type: action.action_type().into(),
            action_status: status,
            action_result: result,
            error,
        });
    }
    answer
}

impl Answer {
    fn process(
        &mut self,
        config: &Config,
        agent_version: &str,
        action: &ClientAction,
        key: Key<'_>,
    ) -> Result<Option<KmsResult>, (ActionStatus, String, HandshakeError)> {
        match action {
            ClientAction::SessionType { session_type, properties } => {
                let unknown = || {
                    let text =
                        format!("Failed to process action SessionType: Unknown session type {session_type}");
                    (ActionStatus::Failed, text, HandshakeError::SessionType(session_type.clone()))
                };
                let port = properties.as_ref().and_then(|properties| PortProperties::decode(properties).ok());
                let kind = kind(session_type, || {
                    let port = port.as_ref()?;
                    Some(version::client_port_mode(port, agent_version, &config.version))
                });
                self.kind = Some(kind.ok_or_else(unknown)?);
                self.port = port.filter(|_| matches!(self.kind, Some(SessionKind::Port(_))));
                Ok(None)
            }
            ClientAction::KmsEncryption { challenge, .. } => match key {
                Key::Installed(key) => {
                    let acknowledged = challenge.is_some() && config.challenge == Challenge::Acknowledged;
                    Ok(Some(KmsResult::new(key.ciphertext().to_vec(), acknowledged)))
                }
                Key::Missing(reason) => Err((
                    ActionStatus::Failed,
                    format!("Failed to process action {KMS_ENCRYPTION}: {reason}"),
                    HandshakeError::NoDataKey(reason.into()),
                )),
                Key::Unsupported => Err((
                    ActionStatus::Unsupported,
                    format!(
                        "Failed to process action {KMS_ENCRYPTION}: this client does not support encryption"
                    ),
                    HandshakeError::EncryptionUnsupported,
                )),
            },
            ClientAction::Unknown { action_type, .. } => Err((
                ActionStatus::Unsupported,
                format!("Unsupported action {action_type}"),
                HandshakeError::UnsupportedAction(action_type.clone()),
            )),
        }
    }
}

/// What an agent asks for its offer.
pub(crate) fn request(version: &str, offer: &Offer) -> HandshakeRequest {
    let session = ClientAction::SessionType {
        session_type: offer.session_type.clone(),
        properties: offer.properties.clone(),
    };
    let encryption = offer.kms.iter().map(|kms| ClientAction::KmsEncryption {
        key_id: kms.key_id.clone(),
        challenge: kms.challenge.clone(),
    });
    HandshakeRequest {
        agent_version: version.into(),
        actions: std::iter::once(session).chain(encryption).collect(),
    }
}

/// What an agent makes of a response: an action that was not done ends the session (agent `datachannel.go`
/// `handleHandshakeResponse`).
pub(crate) fn check(response: &HandshakeResponse) -> Result<(), HandshakeError> {
    match response.processed.iter().find(|action| action.action_status != ActionStatus::Success) {
        None => Ok(()),
        Some(refused) => {
            Err(HandshakeError::Refused { action: refused.action_type.clone(), error: refused.error.clone() })
        }
    }
}

/// The key that an agent has decrypted before it goes on (agent `datachannel.go` `finalizeKMSEncryption`).
pub(crate) fn key_of(offer: &KmsOffer, response: &HandshakeResponse) -> Result<KeyRequest, KeyProblem> {
    let action = response.processed.iter().find(|action| action.action_type == KMS_ENCRYPTION);
    let result = action.and_then(|action| action.action_result.as_deref());
    let result = KmsResult::from_raw(result.ok_or(KeyProblem::Body(BodyError::Missing("ActionResult")))?)
        .map_err(KeyProblem::Body)?;
    if offer.require_challenge && !result.challenge_acknowledged {
        return Err(KeyProblem::Refused(HandshakeError::ChallengeIgnored));
    }
    Ok(KeyRequest {
        key_id: offer.key_id.clone(),
        challenge: offer.challenge.clone().filter(|_| result.challenge_acknowledged),
        ciphertext: result.ciphertext_key,
    })
}

/// Why a response holds no key.
#[derive(Debug)]
pub(crate) enum KeyProblem {
    Body(BodyError),
    Refused(HandshakeError),
}

/// The session an agent runs for its offer with a client of this version.
pub(crate) fn agent_kind(
    offer: &Offer,
    client_version: &str,
) -> (Option<SessionKind>, Option<PortProperties>) {
    let port = offer.properties.as_ref().and_then(|properties| PortProperties::decode(properties).ok());
    let kind = kind(&offer.session_type, || Some(version::agent_port_mode(port.as_ref()?, client_version)));
    (kind, port.filter(|_| matches!(kind, Some(SessionKind::Port(_)))))
}

fn kind(session_type: &str, port_mode: impl FnOnce() -> Option<crate::PortMode>) -> Option<SessionKind> {
    match session_type {
        "Standard_Stream" => Some(SessionKind::Shell),
        "InteractiveCommands" => Some(SessionKind::InteractiveCommands),
        "NonInteractiveCommands" => Some(SessionKind::NonInteractiveCommands),
        "Port" => port_mode().map(SessionKind::Port),
        _ => None,
    }
}
