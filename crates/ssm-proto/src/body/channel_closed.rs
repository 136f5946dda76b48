//! The end of a session.

use serde::Serialize;

use crate::BodyError;
use crate::json::{self, Object};

/// The payload of `channel_closed` (agent `model.go` `ChannelClosed`, plugin `clientmessage.go` `ChannelClosed`).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ChannelClosed {
    /// Id of the message, as text.
    pub message_id: String,
    /// When it was made, in the service's own text form.
    pub created_date: String,
    /// The node or client it goes to.
    pub destination_id: String,
    /// The session that ended.
    pub session_id: String,
    /// `channel_closed`.
    pub message_type: String,
    /// 1.
    pub schema_version: i64,
    /// Why, for a person; empty for a normal end.
    pub output: String,
}

impl ChannelClosed {
    /// The JSON object.
    pub fn encode(&self) -> Vec<u8> {
        json::to_vec(self)
    }

    /// Reads the JSON object; members that are absent are empty.
    ///
    /// # Errors
    ///
    /// When it is not an object or a member has another type.
    pub fn decode(payload: &[u8]) -> Result<Self, BodyError> {
        let object = Object::parse(payload)?;
        Ok(Self {
            message_id: object.or_default("MessageId")?,
            created_date: object.or_default("CreatedDate")?,
            destination_id: object.or_default("DestinationId")?,
            session_id: object.or_default("SessionId")?,
            message_type: object.or_default("MessageType")?,
            schema_version: object.or_default("SchemaVersion")?,
            output: object.or_default("Output")?,
        })
    }
}
