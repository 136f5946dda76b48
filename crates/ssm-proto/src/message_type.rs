//! The 32-byte message type field.

use std::fmt;

/// Bytes of the field on the wire.
pub(crate) const FIELD_LEN: usize = 32;

/// What a message is, by the name in its header.
///
/// Names and directions: plugin `src/message/clientmessage.go`, agent `agent/session/contracts/model.go`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum MessageType {
    /// `input_stream_data`: client to agent, sequenced, acknowledged.
    InputStreamData,
    /// `output_stream_data`: agent to client, sequenced, acknowledged.
    OutputStreamData,
    /// `acknowledge`: either direction, neither sequenced nor acknowledged.
    Acknowledge,
    /// `channel_closed`: from the service; the session is over.
    ChannelClosed,
    /// `start_publication`: from the service; sending may go on.
    StartPublication,
    /// `pause_publication`: from the service; stop sending.
    PausePublication,
    /// `agent_session_state`: agent to service.
    AgentSessionState,
    /// `interactive_shell`: service to agent, on the control channel.
    InteractiveShell,
    /// Any other name, with its padding as it was received.
    Unknown([u8; FIELD_LEN]),
}

/// Every named type, beside the name on the wire.
const NAMES: [(MessageType, &str); 8] = [
    (MessageType::InputStreamData, "input_stream_data"),
    (MessageType::OutputStreamData, "output_stream_data"),
    (MessageType::Acknowledge, "acknowledge"),
    (MessageType::ChannelClosed, "channel_closed"),
    (MessageType::StartPublication, "start_publication"),
    (MessageType::PausePublication, "pause_publication"),
    (MessageType::AgentSessionState, "agent_session_state"),
    (MessageType::InteractiveShell, "interactive_shell"),
];

impl MessageType {
    /// The type with this name, or `None` when it is longer than the 32 bytes of the field.
    ///
    /// Names that are not one of the known ones become [`MessageType::Unknown`], padded with spaces.
    pub fn from_name(name: &str) -> Option<Self> {
        if let Some((known, _)) = NAMES.iter().find(|(_, known)| *known == name) {
            return Some(*known);
        }
        let mut field = [b' '; FIELD_LEN];
        field.get_mut(..name.len())?.copy_from_slice(name.as_bytes());
        Some(Self::Unknown(field))
    }

    /// The name without padding; empty for a type this crate does not know.
    pub fn name(&self) -> &'static str {
        NAMES.iter().find(|(known, _)| known == self).map_or("", |(_, name)| *name)
    }

    /// Whether messages of this type carry sequence numbers and are acknowledged.
    pub fn is_stream(&self) -> bool {
        matches!(self, Self::InputStreamData | Self::OutputStreamData)
    }

    /// Whether this is one of the publication messages, whose digest the service leaves wrong.
    pub fn is_publication(&self) -> bool {
        matches!(self, Self::StartPublication | Self::PausePublication)
    }

    /// Whether the field holds nothing but padding.
    pub fn is_blank(&self) -> bool {
        matches!(self, Self::Unknown(field) if trim(field).is_empty())
    }

    /// Reads the field. NULs are trimmed at both ends, then ASCII white space, as both AWS readers do (plugin
    /// `messageparser.go` `getString`), so that right-justified names of third-party clients are understood.
    pub(crate) fn decode(field: &[u8; FIELD_LEN]) -> Self {
        let trimmed = trim(field);
        NAMES
            .iter()
            .find(|(_, name)| name.as_bytes() == trimmed)
            .map_or(Self::Unknown(*field), |(known, _)| *known)
    }

    /// Writes the field, padded with `pad` behind the name.
    pub(crate) fn encode(&self, pad: u8, out: &mut [u8; FIELD_LEN]) {
        if let Self::Unknown(field) = self {
            *out = *field;
            return;
        }
        let name = self.name().as_bytes();
        out.fill(pad);
        out[..name.len()].copy_from_slice(name);
    }
}

impl fmt::Debug for MessageType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Self::Unknown(field) = self {
            return write!(f, "Unknown(\"{}\")", trim(field).escape_ascii());
        }
        f.write_str(self.name())
    }
}

impl fmt::Display for MessageType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Self::Unknown(field) = self {
            return write!(f, "{}", trim(field).escape_ascii());
        }
        f.write_str(self.name())
    }
}

fn trim(field: &[u8]) -> &[u8] {
    let without_nuls = trim_matching(field, |byte| byte == 0);
    trim_matching(without_nuls, |byte| matches!(byte, b' ' | b'\t'..=b'\r'))
}

fn trim_matching(mut bytes: &[u8], matches: impl Fn(u8) -> bool) -> &[u8] {
    while let [first, rest @ ..] = bytes
        && matches(*first)
    {
        bytes = rest;
    }
    while let [rest @ .., last] = bytes
        && matches(*last)
    {
        bytes = rest;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(text: &[u8]) -> [u8; FIELD_LEN] {
        let mut field = [b' '; FIELD_LEN];
        field[..text.len()].copy_from_slice(text);
        field
    }

    #[test]
    fn an_unknown_type_is_shown_without_its_padding() {
        let mut field = [b' '; FIELD_LEN];
        field[..4].copy_from_slice(b"a\x1b[m");
        assert_eq!(format!("{:?}", MessageType::Unknown(field)), "Unknown(\"a\\x1b[m\")");
        assert_eq!(format!("{:?}", MessageType::ChannelClosed), "channel_closed");
    }

    #[test]
    fn item_27_every_name_survives_both_paddings() {
        for (known, _) in NAMES {
            for pad in [b' ', 0] {
                let mut out = [0xff; FIELD_LEN];
                known.encode(pad, &mut out);
                assert_eq!(MessageType::decode(&out), known);
            }
        }
    }

    #[test]
    fn item_27_a_right_justified_name_is_understood() {
        let mut left_padded = [0; FIELD_LEN];
        left_padded[FIELD_LEN - 11..].copy_from_slice(b"acknowledge");
        assert_eq!(MessageType::decode(&left_padded), MessageType::Acknowledge);
    }

    #[test]
    fn nuls_before_spaces_stay_part_of_the_name() {
        let odd = field(b"acknowledge\0\0");
        assert_eq!(MessageType::decode(&odd), MessageType::Unknown(odd));
    }

    #[test]
    fn a_name_longer_than_the_field_is_refused() {
        assert_eq!(MessageType::from_name(&"t".repeat(33)), None);
        assert!(MessageType::from_name(&"t".repeat(32)).is_some());
    }

    #[test]
    fn control_bytes_of_an_unknown_type_are_escaped() {
        let odd = MessageType::Unknown(field(b"\x1b[31mred"));
        assert_eq!(odd.to_string(), "\\x1b[31mred");
    }
}
