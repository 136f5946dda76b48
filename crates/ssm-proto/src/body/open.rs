//! The first frame of a data channel.

use serde::Serialize;

use crate::json::{self, Object};
use crate::{BodyError, Secret, Token};

/// The text frame that opens a data channel, from a client or an agent (plugin `src/service/service.go`
/// `OpenDataChannelInput`; agent `agent/session/service/model.go`).
#[derive(Debug, Clone)]
pub struct OpenDataChannel {
    /// A new UUID for each open.
    pub request_id: String,
    /// The token, used up by this frame.
    pub token: Token,
    /// Agents only: the node.
    pub client_instance_id: Option<String>,
    /// A UUID that a client keeps for the life of its process; empty or absent from some peers.
    pub client_id: Option<String>,
    /// Clients only: their version.
    pub client_version: Option<String>,
}

/// At least the bytes of the names and the punctuation around them.
const NAMES_LEN: usize = 192;

/// Bytes a byte of text takes at most in JSON.
const LONGEST_ESCAPE: usize = 6;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Wire<'a> {
    message_schema_version: &'a str,
    request_id: &'a str,
    token_value: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_instance_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_version: Option<&'a str>,
}

impl OpenDataChannel {
    /// The JSON text.
    pub fn encode(&self) -> Secret<String> {
        let wire = Wire {
            message_schema_version: "1.0",
            request_id: &self.request_id,
            token_value: self.token.expose(),
            client_instance_id: self.client_instance_id.as_deref(),
            client_id: self.client_id.as_deref(),
            client_version: self.client_version.as_deref(),
        };
        let texts = [
            Some(&self.request_id),
            Some(self.token.expose()),
            self.client_instance_id.as_ref(),
            self.client_id.as_ref(),
            self.client_version.as_ref(),
        ];
        let len: usize = texts.into_iter().flatten().map(String::len).sum();
        let json = json::to_vec_sized(&wire, NAMES_LEN + LONGEST_ESCAPE * len);
        Secret::new(String::from_utf8(json).expect("JSON is UTF-8"))
    }

    /// Reads the JSON text.
    ///
    /// # Errors
    ///
    /// When it is not an object, or has no token.
    pub fn decode(text: &str) -> Result<Self, BodyError> {
        let object = Object::parse(text.as_bytes())?;
        let token: String = object.required("TokenValue")?;
        if token.is_empty() {
            return Err(BodyError::Missing("TokenValue"));
        }
        Ok(Self {
            request_id: object.or_default("RequestId")?,
            token: Token::new(token),
            client_instance_id: object.optional("ClientInstanceId")?,
            client_id: object.optional("ClientId")?,
            client_version: object.optional("ClientVersion")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is moved leaves a copy behind.
    #[test]
    fn the_token_is_written_once_however_it_is_escaped() {
        let token = "\u{1}".repeat(500);
        let open = OpenDataChannel {
            request_id: "r".into(),
            token: Token::new(token),
            client_instance_id: None,
            client_id: None,
            client_version: None,
        };
        assert_eq!(open.encode().expose().capacity(), NAMES_LEN + LONGEST_ESCAPE * 501);
    }

    #[test]
    fn the_token_is_not_in_the_debug_output() {
        let open = OpenDataChannel::decode(r#"{"TokenValue":"hush","RequestId":"r"}"#).unwrap();
        assert!(!format!("{open:?}").contains("hush"));
        assert_eq!(
            open.encode().expose(),
            r#"{"MessageSchemaVersion":"1.0","RequestId":"r","TokenValue":"hush"}"#
        );
    }

    #[test]
    fn an_open_without_a_token_is_refused() {
        for text in [r#"{"RequestId":"r"}"#, r#"{"TokenValue":""}"#, r#"{"TokenValue":null}"#] {
            assert_eq!(OpenDataChannel::decode(text).err(), Some(BodyError::Missing("TokenValue")));
        }
    }
}
