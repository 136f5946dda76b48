//! The agent's session state.

use serde::Serialize;

use crate::BodyError;
use crate::json::{self, Object};

/// The payload of `agent_session_state`, which the service consumes (agent `model.go` `AgentSessionStateContent`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct SessionState {
    /// 1.
    pub schema_version: i64,
    /// `Connected` or `Terminating`.
    pub session_state: String,
    /// The session.
    pub session_id: String,
}

impl SessionState {
    /// The JSON object.
    pub fn encode(&self) -> Vec<u8> {
        json::to_vec(self)
    }

    /// Reads the JSON object.
    ///
    /// # Errors
    ///
    /// When it is not an object or the state is missing.
    pub fn decode(payload: &[u8]) -> Result<Self, BodyError> {
        let object = Object::parse(payload)?;
        Ok(Self {
            schema_version: object.or_default("SchemaVersion")?,
            session_state: object.required("SessionState")?,
            session_id: object.or_default("SessionId")?,
        })
    }
}
