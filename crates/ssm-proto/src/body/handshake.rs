//! The handshake: request, response, completion, and the encryption challenge.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use crate::BodyError;
use crate::json::{self, Object};

/// Most actions a request or response may hold. Agents send one or two.
const MAX_ACTIONS: usize = 32;

/// What the agent asks of the client before a session starts (agent `datachannel.go` `buildHandshakeRequestPayload`).
#[derive(Debug, Clone)]
pub struct HandshakeRequest {
    /// Version of the agent, which decides what the session can do.
    pub agent_version: String,
    /// What to do, in order.
    pub actions: Vec<ClientAction>,
}

/// One action of a [`HandshakeRequest`].
#[derive(Debug, Clone)]
pub enum ClientAction {
    /// Be a client of this kind of session.
    SessionType {
        /// `Standard_Stream`, `InteractiveCommands`, `NonInteractiveCommands` or `Port`.
        session_type: String,
        /// Properties of the document as JSON; `None` for `null`, which is what shells send.
        properties: Option<Box<RawValue>>,
    },
    /// Make a data key and encrypt.
    KmsEncryption {
        /// The KMS key to make it with.
        key_id: String,
        /// Goes into the encryption context where it is present (agents from 3.3.808).
        challenge: Option<String>,
    },
    /// Any other action.
    Unknown {
        /// Its name.
        action_type: String,
        /// Its parameters as JSON.
        parameters: Option<Box<RawValue>>,
    },
}

/// The client's answer to a [`HandshakeRequest`] (plugin `streaming.go` `buildHandshakeResponse`).
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct HandshakeResponse {
    /// Version of the client, which decides what the agent does.
    pub client_version: String,
    /// One entry for each requested action, in order.
    #[serde(rename = "ProcessedClientActions")]
    pub processed: Vec<ProcessedAction>,
    /// The errors of all actions; `null` where there is none.
    #[serde(serialize_with = "null_when_empty")]
    pub errors: Vec<String>,
}

/// What became of one requested action.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ProcessedAction {
    /// Name of the action.
    pub action_type: String,
    /// Whether it was done.
    pub action_status: ActionStatus,
    /// What it yielded, as JSON.
    pub action_result: Option<Box<RawValue>>,
    /// Why it was not done; empty otherwise.
    pub error: String,
}

/// Whether an action was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActionStatus {
    /// 1.
    Success,
    /// 2.
    Failed,
    /// 3.
    Unsupported,
    /// Any other value. AWS's plugin answers an action it does not know with 0 (`streaming.go` `handleHandshakeRequest`).
    Unknown(i64),
}

/// The result of a KMS action (agent `model.go` `KMSEncryptionResponse`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KmsResult {
    /// The data key, encrypted by KMS.
    #[serde(rename = "KMSCipherTextKey", serialize_with = "as_base64")]
    pub ciphertext_key: Vec<u8>,
    /// Always `null` in what clients send.
    #[serde(rename = "KMSCipherTextHash")]
    ciphertext_hash: Option<()>,
    /// Present and true where the challenge of the request is in the encryption context.
    #[serde(rename = "ChallengeAcknowledgement", skip_serializing_if = "is_false")]
    pub challenge_acknowledged: bool,
}

/// The agent's last handshake message (agent `datachannel.go` `buildHandshakeCompletePayload`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandshakeComplete {
    /// How long the handshake took the agent.
    pub time_to_complete: Duration,
    /// Text for the user; often empty.
    pub customer_message: String,
}

/// The bytes both sides prove their keys with, encrypted (agent `datachannel.go` `sendEncryptionChallenge`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct EncryptionChallenge {
    /// Nonce, ciphertext and tag.
    #[serde(serialize_with = "as_base64")]
    pub challenge: Vec<u8>,
}

impl HandshakeRequest {
    /// The JSON object.
    pub fn encode(&self) -> Vec<u8> {
        json::to_vec(&RequestWire {
            agent_version: &self.agent_version,
            requested_client_actions: &self.actions,
        })
    }

    /// Reads the JSON object.
    ///
    /// # Errors
    ///
    /// When it is not an object, an action has no type, or there are more than 32 actions.
    pub fn decode(payload: &[u8]) -> Result<Self, BodyError> {
        let object = Object::parse(payload)?;
        Ok(Self {
            agent_version: object.or_default("AgentVersion")?,
            actions: elements(&object, "RequestedClientActions", ClientAction::decode)?,
        })
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct RequestWire<'a> {
    agent_version: &'a str,
    requested_client_actions: &'a [ClientAction],
}

impl ClientAction {
    /// The name of the action.
    pub fn action_type(&self) -> &str {
        match self {
            Self::SessionType { .. } => "SessionType",
            Self::KmsEncryption { .. } => "KMSEncryption",
            Self::Unknown { action_type, .. } => action_type,
        }
    }

    fn decode(action: &Object<'_>) -> Result<Self, BodyError> {
        let action_type: String = action.required("ActionType")?;
        let parameters = action.object("ActionParameters").ok().flatten();
        Ok(match (action_type.as_str(), parameters) {
            ("SessionType", Some(parameters)) => Self::SessionType {
                session_type: parameters.required("SessionType")?,
                properties: parameters.raw("Properties").map(ToOwned::to_owned),
            },
            ("KMSEncryption", Some(parameters)) => Self::KmsEncryption {
                key_id: parameters.required("KMSKeyId")?,
                challenge: parameters.optional("Challenge")?,
            },
            _ => Self::Unknown {
                action_type,
                parameters: action.raw("ActionParameters").map(ToOwned::to_owned),
            },
        })
    }
}

impl Serialize for ClientAction {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct Action<'a, P> {
            action_type: &'a str,
            action_parameters: P,
        }
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct SessionType<'a> {
            session_type: &'a str,
            properties: &'a Option<Box<RawValue>>,
        }
        #[derive(Serialize)]
        struct Kms<'a> {
            #[serde(rename = "KMSKeyId")]
            key_id: &'a str,
            #[serde(rename = "Challenge", skip_serializing_if = "Option::is_none")]
            challenge: &'a Option<String>,
        }
        let action_type = self.action_type();
        match self {
            Self::SessionType { session_type, properties } => {
                Action { action_type, action_parameters: SessionType { session_type, properties } }
                    .serialize(serializer)
            }
            Self::KmsEncryption { key_id, challenge } => {
                Action { action_type, action_parameters: Kms { key_id, challenge } }.serialize(serializer)
            }
            Self::Unknown { parameters, .. } => {
                Action { action_type, action_parameters: parameters }.serialize(serializer)
            }
        }
    }
}

impl HandshakeResponse {
    /// The JSON object.
    pub fn encode(&self) -> Vec<u8> {
        json::to_vec(self)
    }

    /// Reads the JSON object.
    ///
    /// # Errors
    ///
    /// When it is not an object, an action has no type or status, or there are more than 32 actions.
    pub fn decode(payload: &[u8]) -> Result<Self, BodyError> {
        let object = Object::parse(payload)?;
        Ok(Self {
            client_version: object.or_default("ClientVersion")?,
            processed: elements(&object, "ProcessedClientActions", |action| {
                Ok(ProcessedAction {
                    action_type: action.required("ActionType")?,
                    action_status: ActionStatus::from(action.required::<i64>("ActionStatus")?),
                    action_result: action.raw("ActionResult").map(ToOwned::to_owned),
                    error: action.or_default("Error")?,
                })
            })?,
            errors: object.or_default("Errors")?,
        })
    }
}

impl From<i64> for ActionStatus {
    fn from(value: i64) -> Self {
        match value {
            1 => Self::Success,
            2 => Self::Failed,
            3 => Self::Unsupported,
            other => Self::Unknown(other),
        }
    }
}

impl From<ActionStatus> for i64 {
    fn from(status: ActionStatus) -> Self {
        match status {
            ActionStatus::Success => 1,
            ActionStatus::Failed => 2,
            ActionStatus::Unsupported => 3,
            ActionStatus::Unknown(other) => other,
        }
    }
}

impl Serialize for ActionStatus {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(i64::from(*self))
    }
}

impl KmsResult {
    /// A result with this encrypted data key.
    pub fn new(ciphertext_key: Vec<u8>, challenge_acknowledged: bool) -> Self {
        Self { ciphertext_key, ciphertext_hash: None, challenge_acknowledged }
    }

    /// The value of [`ProcessedAction::action_result`].
    pub fn to_raw(&self) -> Box<RawValue> {
        let text = String::from_utf8(json::to_vec(self)).expect("JSON is UTF-8");
        RawValue::from_string(text).expect("a serialized object is JSON")
    }

    /// Reads the value of [`ProcessedAction::action_result`].
    ///
    /// # Errors
    ///
    /// When it is not an object or the key is missing or not base64.
    pub fn from_raw(raw: &RawValue) -> Result<Self, BodyError> {
        let object = Object::parse(raw.get().as_bytes())?;
        Ok(Self {
            ciphertext_key: from_base64(&object, "KMSCipherTextKey")?,
            ciphertext_hash: None,
            challenge_acknowledged: object.or_default("ChallengeAcknowledgement")?,
        })
    }
}

impl HandshakeComplete {
    /// The JSON object.
    pub fn encode(&self) -> Vec<u8> {
        #[derive(Serialize)]
        #[serde(rename_all = "PascalCase")]
        struct Wire<'a> {
            handshake_time_to_complete: i64,
            customer_message: &'a str,
        }
        json::to_vec(&Wire {
            handshake_time_to_complete: i64::try_from(self.time_to_complete.as_nanos()).unwrap_or(i64::MAX),
            customer_message: &self.customer_message,
        })
    }

    /// Reads the JSON object.
    ///
    /// # Errors
    ///
    /// When it is not an object or a member has another type.
    pub fn decode(payload: &[u8]) -> Result<Self, BodyError> {
        let object = Object::parse(payload)?;
        let nanos: i64 = object.or_default("HandshakeTimeToComplete")?;
        Ok(Self {
            time_to_complete: Duration::from_nanos(u64::try_from(nanos).unwrap_or(0)),
            customer_message: object.or_default("CustomerMessage")?,
        })
    }
}

impl EncryptionChallenge {
    /// The JSON object.
    pub fn encode(&self) -> Vec<u8> {
        json::to_vec(self)
    }

    /// Reads the JSON object.
    ///
    /// # Errors
    ///
    /// When it is not an object or the challenge is missing or not base64.
    pub fn decode(payload: &[u8]) -> Result<Self, BodyError> {
        Ok(Self { challenge: from_base64(&Object::parse(payload)?, "Challenge")? })
    }
}

fn elements<T>(
    object: &Object<'_>,
    name: &'static str,
    decode: impl Fn(&Object<'_>) -> Result<T, BodyError>,
) -> Result<Vec<T>, BodyError> {
    let raw = object.array(name)?;
    if raw.len() > MAX_ACTIONS {
        return Err(BodyError::Invalid(name));
    }
    raw.into_iter().map(|element| decode(&Object::parse(element.get().as_bytes())?)).collect()
}

fn from_base64(object: &Object<'_>, name: &'static str) -> Result<Vec<u8>, BodyError> {
    let text: String = object.required(name)?;
    STANDARD.decode(text).map_err(|_| BodyError::Invalid(name))
}

fn as_base64<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&STANDARD.encode(bytes))
}

fn null_when_empty<S: Serializer>(errors: &[String], serializer: S) -> Result<S::Ok, S::Error> {
    if errors.is_empty() { serializer.serialize_none() } else { errors.serialize(serializer) }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature serde asks for")]
fn is_false(value: &bool) -> bool {
    !value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_at_most_32_actions() {
        let request = |count: usize| {
            let action = r#"{"ActionType":"Other","ActionParameters":{}}"#;
            let actions = vec![action; count].join(",");
            let text = format!(r#"{{"AgentVersion":"3","RequestedClientActions":[{actions}]}}"#);
            HandshakeRequest::decode(text.as_bytes()).map(|request| request.actions.len())
        };
        assert_eq!(request(MAX_ACTIONS), Ok(32));
        assert_eq!(request(MAX_ACTIONS + 1), Err(BodyError::Invalid("RequestedClientActions")));
        assert!(request(2 * MAX_ACTIONS).is_err());
    }
}
