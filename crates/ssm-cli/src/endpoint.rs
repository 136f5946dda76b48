//! A started session as JSON: what StartSession answers, in the spelling of any AWS service.

use serde_json::Value;
use ssm_session::{Endpoint, SessionId, Token};

/// What is wrong with a started session. Names what is missing and shows nothing of what is there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EndpointError {
    #[error("it is not JSON")]
    Json,
    #[error("{0} is missing")]
    Missing(&'static str),
}

/// Reads `{"SessionId", "StreamUrl", "TokenValue"}`. ECS writes the keys with a small letter in front.
pub(crate) fn parse(json: &str) -> Result<Endpoint, EndpointError> {
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
    Ok(Endpoint { session_id: SessionId::new(take("SessionId")?), stream_url: take("StreamUrl")?, token })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_the_keys_is_read() {
        for json in [
            r#"{"SessionId":"s-1","StreamUrl":"wss://h/","TokenValue":"t"}"#,
            r#"{"sessionId":"s-1","streamUrl":"wss://h/","tokenValue":"t"}"#,
            r#"{"TokenValue":"t","Other":{"a":[1]},"StreamUrl":"wss://h/","SessionId":"s-1"}"#,
        ] {
            let endpoint = parse(json).unwrap();
            assert_eq!(endpoint.session_id.as_str(), "s-1");
            assert_eq!(endpoint.stream_url, "wss://h/");
            assert_eq!(endpoint.token.expose(), "t");
        }
    }

    #[test]
    fn what_is_missing_is_named_and_nothing_is_shown() {
        assert_eq!(parse("secret").unwrap_err(), EndpointError::Json);
        assert_eq!(parse("[]").unwrap_err(), EndpointError::Json);
        assert_eq!(parse("{}").unwrap_err(), EndpointError::Missing("TokenValue"));
        let error = parse(r#"{"TokenValue":"secret","SessionId":7}"#).unwrap_err();
        assert_eq!(error, EndpointError::Missing("SessionId"));
        assert!(!format!("{error} {error:?}").contains("secret"));
        assert_eq!(
            parse(r#"{"TokenValue":"t","SessionId":"s","StreamUrl":""}"#).unwrap_err(),
            EndpointError::Missing("StreamUrl")
        );
    }
}
