//! A look at the frames of a session, for captures.

use std::fmt;
use std::sync::Arc;

use ssm_channel::Transmit;
use ssm_proto::Token;
use ssm_proto::body::OpenDataChannel;
use tokio_tungstenite::tungstenite::Message;

use crate::control::SessionId;

/// What stands in the place of a token.
const REDACTED: &str = "REDACTED";

/// Sees every frame of a session's data channel, each way, in the order of the wire. Tokens are left out; payloads are as they
/// are, with all that was typed.
///
/// It is called from within the session, so it should not block.
#[derive(Clone)]
pub struct Tap(Arc<See>);

type See = dyn Fn(&SessionId, Way, Frame<'_>) + Send + Sync;

/// Which way a frame goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Way {
    /// To the service.
    Out,
    /// From the service.
    In,
}

/// What a WebSocket frame holds, once its parts are put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Frame<'a> {
    /// A message of the data channel.
    Binary(&'a [u8]),
    /// Text: what opens the data channel, with another word in the place of its token.
    Text(&'a str),
    /// A ping and what it carries.
    Ping(&'a [u8]),
    /// A pong and what it carries.
    Pong(&'a [u8]),
    /// The end of the connection, with a code where there is one.
    Close(Option<u16>),
}

impl Tap {
    /// Has `see` called with each frame.
    pub fn new(see: impl Fn(&SessionId, Way, Frame<'_>) + Send + Sync + 'static) -> Self {
        Self(Arc::new(see))
    }

    pub(crate) fn sent(&self, id: &SessionId, transmit: &Transmit) {
        match transmit {
            Transmit::Binary(bytes) => (self.0)(id, Way::Out, Frame::Binary(bytes)),
            Transmit::Text(text) => (self.0)(id, Way::Out, Frame::Text(&without_token(text.expose()))),
            Transmit::Ping => (self.0)(id, Way::Out, Frame::Ping(b"")),
        }
    }

    pub(crate) fn received(&self, id: &SessionId, message: &Message) {
        let frame = match message {
            Message::Binary(bytes) => Frame::Binary(bytes),
            Message::Text(text) => Frame::Text(text),
            Message::Ping(bytes) => Frame::Ping(bytes),
            Message::Pong(bytes) => Frame::Pong(bytes),
            Message::Close(close) => Frame::Close(close.as_ref().map(|close| close.code.into())),
            Message::Frame(_) => return,
        };
        (self.0)(id, Way::In, frame);
    }
}

/// The text that opens a data channel, without what opens it.
fn without_token(text: &str) -> String {
    match OpenDataChannel::decode(text) {
        Ok(open) => OpenDataChannel { token: Token::new(REDACTED.into()), ..open }.encode().expose().clone(),
        Err(_) => REDACTED.into(),
    }
}

impl fmt::Debug for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tap")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_never_seen() {
        let open = r#"{"MessageSchemaVersion":"1.0","RequestId":"r","TokenValue":"hush","ClientId":"c"}"#;
        assert_eq!(without_token(open), open.replace("hush", REDACTED));
        assert_eq!(without_token("hush"), REDACTED);
        let sparse = without_token(r#"{"tokenvalue":"hush"}"#);
        assert!(sparse.contains(REDACTED) && !sparse.contains("hush"), "{sparse}");
    }
}
