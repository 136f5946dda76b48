//! A started session as plain data.

use std::fmt;

use serde_json::{Value, json};
use ssm_proto::{Secret, Token};

use crate::SessionId;

/// Where a session is reached, once: plain data that may be handed to another process or machine.
///
/// Whoever has it has the session. Hand it over on a pipe or in a file of mode 0600, never as an argument: those are shown to
/// every user of a machine.
#[derive(Clone)]
pub struct Endpoint {
    /// The session.
    pub session_id: SessionId,
    /// The WebSocket URL, to be used as it is. It may be pre-signed, so it is not shown in debug output.
    pub stream_url: String,
    /// Opens the URL once.
    pub token: Token,
}

/// What is wrong with a started session as JSON. Names what is missing and shows nothing of what is there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// It is no JSON object.
    #[error("it is not JSON")]
    Json,
    /// A member that is needed is not there, or is no text, or is empty.
    #[error("{0} is missing")]
    Missing(&'static str),
}

impl Endpoint {
    /// Reads what `StartSession` answers: `{"SessionId", "StreamUrl", "TokenValue"}`. ECS writes the keys with a small letter
    /// in front; others are left alone.
    ///
    /// # Errors
    ///
    /// When a member is missing.
    pub fn from_json(json: &str) -> Result<Self, EndpointError> {
        let Ok(Value::Object(mut members)) = serde_json::from_str(json) else {
            return Err(EndpointError::Json);
        };
        let mut take = |name: &'static str| {
            let member = members.iter_mut().find(|(key, _)| key.eq_ignore_ascii_case(name));
            match member.map(|(_, value)| value.take()) {
                Some(Value::String(text)) if !text.is_empty() => Ok(text),
                _ => Err(EndpointError::Missing(name)),
            }
        };
        let token = Token::new(take("TokenValue")?);
        Ok(Self { session_id: SessionId::new(take("SessionId")?), stream_url: take("StreamUrl")?, token })
    }

    /// Writes what [`from_json`](Self::from_json) reads, in one line. It holds the token.
    pub fn to_json(&self) -> Secret<String> {
        let members = json!({
            "SessionId": self.session_id.as_str(),
            "StreamUrl": self.stream_url,
            "TokenValue": self.token.expose(),
        });
        Secret::new(members.to_string())
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("session_id", &self.session_id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn item_2_every_spelling_of_the_keys_is_read() {
        for json in [
            r#"{"SessionId":"s-1","StreamUrl":"wss://h/","TokenValue":"t"}"#,
            r#"{"sessionId":"s-1","streamUrl":"wss://h/","tokenValue":"t"}"#,
            r#"{"SESSIONID":"s-1","streamurl":"wss://h/","tOKENvALUE":"t"}"#,
            r#"{"TokenValue":"t","Other":{"a":[1]},"StreamUrl":"wss://h/","SessionId":"s-1"}"#,
        ] {
            let endpoint = Endpoint::from_json(json).unwrap();
            assert_eq!(endpoint.session_id.as_str(), "s-1");
            assert_eq!(endpoint.stream_url, "wss://h/");
            assert_eq!(endpoint.token.expose(), "t");
        }
    }

    #[test]
    fn what_was_written_is_read() {
        let (session_id, token) = (SessionId::new("s-1"), Token::new("\"secret\"\n".into()));
        let endpoint = Endpoint { session_id, stream_url: "wss://h/?a=b".into(), token };
        let json = endpoint.to_json();
        assert!(!json.expose().contains('\n'), "one line");
        let read = Endpoint::from_json(json.expose()).unwrap();
        assert_eq!(
            (read.session_id, read.stream_url),
            (endpoint.session_id.clone(), endpoint.stream_url.clone())
        );
        assert_eq!(read.token.expose(), endpoint.token.expose());
        assert!(!format!("{endpoint:?} {json:?}").contains("secret"));
    }

    #[test]
    fn what_is_missing_is_named_and_nothing_is_shown() {
        let error = |json: &str| Endpoint::from_json(json).unwrap_err();
        assert_eq!(error("secret"), EndpointError::Json);
        assert_eq!(error("[]"), EndpointError::Json);
        assert_eq!(error("{}"), EndpointError::Missing("TokenValue"));
        let wrong = error(r#"{"TokenValue":"secret","SessionId":7}"#);
        assert_eq!(wrong, EndpointError::Missing("SessionId"));
        assert!(!format!("{wrong} {wrong:?}").contains("secret"));
        assert_eq!(
            error(r#"{"TokenValue":"t","SessionId":"s","StreamUrl":""}"#),
            EndpointError::Missing("StreamUrl")
        );
    }
}
