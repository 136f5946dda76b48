//! Acknowledgements.

use crate::json::Object;
use crate::message_type::FIELD_LEN;
use crate::{BodyError, MessageBuf, MessageId, MessageType};

/// The payload of an `acknowledge` message. One acknowledges one message; receivers look at the sequence number only
/// (plugin `streaming.go` `ProcessAcknowledgedMessage`; agent `datachannel.go` `ProcessAcknowledgedMessage`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acknowledge {
    /// Type of the acknowledged message.
    pub message_type: MessageType,
    /// Id of the acknowledged message.
    pub message_id: MessageId,
    /// Sequence number of the acknowledged message.
    pub sequence: i64,
}

const TYPE: &str = r#"{"AcknowledgedMessageType":""#;
const ID: &str = r#"","AcknowledgedMessageId":""#;
const SEQUENCE: &str = r#"","AcknowledgedMessageSequenceNumber":"#;
const END: &str = r#","IsSequentialMessage":true}"#;

impl Acknowledge {
    /// Most bytes an encoded acknowledgement of a stream message takes: the names, an id, and 20 characters of number.
    pub const MAX_LEN: usize = TYPE.len() + ID.len() + SEQUENCE.len() + END.len() + 32 + 36 + 20;

    /// Appends the JSON object to `out`, which needs room for [`MAX_LEN`](Self::MAX_LEN) bytes.
    pub fn encode(&self, out: &mut MessageBuf) {
        let mut id = [0; 36];
        self.message_id.encode_text(&mut id);
        let mut digits = [0; 20];
        out.put_slice(TYPE.as_bytes());
        out.put_slice(self.message_type.name().as_bytes());
        out.put_slice(ID.as_bytes());
        out.put_slice(&id);
        out.put_slice(SEQUENCE.as_bytes());
        out.put_slice(decimal(self.sequence, &mut digits));
        out.put_slice(END.as_bytes());
    }

    /// Reads the JSON object.
    ///
    /// # Errors
    ///
    /// Only a missing or unusable sequence number is an error: receivers match on nothing else. A type or id that cannot
    /// be read is blank.
    pub fn decode(payload: &[u8]) -> Result<Self, BodyError> {
        if let Some(usual) = Self::decode_usual(payload) {
            return Ok(usual);
        }
        let object = Object::parse(payload)?;
        let sequence = object.required("AcknowledgedMessageSequenceNumber")?;
        let text = |name| object.or_default::<String>(name).unwrap_or_default();
        Ok(Self {
            message_type: MessageType::from_name(&text("AcknowledgedMessageType"))
                .unwrap_or(MessageType::Unknown([b' '; FIELD_LEN])),
            message_id: MessageId::parse(&text("AcknowledgedMessageId")).unwrap_or_default(),
            sequence,
        })
    }

    /// The form every known peer writes, without a JSON parser: there is one acknowledgement for every message.
    fn decode_usual(payload: &[u8]) -> Option<Self> {
        let rest = payload.strip_prefix(TYPE.as_bytes())?;
        let (message_type, rest) = [MessageType::InputStreamData, MessageType::OutputStreamData]
            .into_iter()
            .find_map(|known| Some((known, rest.strip_prefix(known.name().as_bytes())?)))?;
        let (id, rest) = rest.strip_prefix(ID.as_bytes())?.split_at_checked(36)?;
        let digits = rest.strip_prefix(SEQUENCE.as_bytes())?.strip_suffix(END.as_bytes())?;
        if !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        Some(Self {
            message_type,
            message_id: MessageId::parse(str::from_utf8(id).ok()?)?,
            sequence: str::from_utf8(digits).ok()?.parse().ok()?,
        })
    }
}

/// The decimal digits of `value`, at the end of `buf`.
fn decimal(value: i64, buf: &mut [u8; 20]) -> &[u8] {
    let mut rest = value.unsigned_abs();
    let mut at = buf.len();
    loop {
        at -= 1;
        buf[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        at -= 1;
        buf[at] = b'-';
    }
    &buf[at..]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acknowledge(sequence: i64) -> Acknowledge {
        Acknowledge {
            message_type: MessageType::OutputStreamData,
            message_id: MessageId::parse("dd01e56b-ff48-483e-a508-b5f073f31b16").unwrap(),
            sequence,
        }
    }

    #[test]
    fn the_longest_one_fills_what_is_set_aside_for_it() {
        let text = |sequence| {
            let mut buf = MessageBuf::with_capacity(Acknowledge::MAX_LEN);
            let message_type = MessageType::OutputStreamData;
            Acknowledge { message_type, message_id: MessageId::default(), sequence }.encode(&mut buf);
            String::from_utf8(buf.payload().to_vec()).unwrap()
        };
        let spare = 32 - MessageType::OutputStreamData.name().len();
        assert_eq!(text(i64::MIN).len() + spare, Acknowledge::MAX_LEN);
        assert!(Acknowledge::decode(text(7).replace(":7,", ":+7,").as_bytes()).is_err());
    }

    #[test]
    fn the_longest_fits() {
        for sequence in [0, 7, i64::MAX, i64::MIN] {
            let mut buf = MessageBuf::with_capacity(Acknowledge::MAX_LEN);
            acknowledge(sequence).encode(&mut buf);
            assert_eq!(Acknowledge::decode(buf.payload()), Ok(acknowledge(sequence)));
        }
    }

    #[test]
    fn another_order_and_case_is_understood() {
        let text = br#"{"isSequentialMessage":true,"acknowledgedMessageSequenceNumber":12,
            "AcknowledgedMessageId":"dd01e56b-ff48-483e-a508-b5f073f31b16",
            "AcknowledgedMessageType":"output_stream_data","Extra":[1]}"#;
        assert_eq!(Acknowledge::decode(text), Ok(acknowledge(12)));
    }

    #[test]
    fn an_unusable_type_or_id_does_not_matter() {
        let long = "t".repeat(33);
        for name in [&*format!("\"{long}\""), "7", "null"] {
            let text = format!(
                r#"{{"AcknowledgedMessageType":{name},"AcknowledgedMessageId":[],"AcknowledgedMessageSequenceNumber":5}}"#
            );
            let decoded = Acknowledge::decode(text.as_bytes()).unwrap();
            assert_eq!(decoded.sequence, 5);
            assert!(decoded.message_type.is_blank());
        }
    }

    #[test]
    fn without_a_number_it_acknowledges_nothing() {
        let missing = BodyError::Missing("AcknowledgedMessageSequenceNumber");
        assert_eq!(Acknowledge::decode(b"{}"), Err(missing));
        assert_eq!(Acknowledge::decode(b"[]"), Err(BodyError::Json));
    }
}
