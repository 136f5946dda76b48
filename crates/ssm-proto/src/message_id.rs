//! Message ids.

use std::fmt;

use uuid::Uuid;

/// The id of a message: a UUID, whose two halves travel in swapped order.
///
/// On the wire the bytes 8 to 15 of the UUID come first (plugin `messageparser.go` `putUuid`); as text it is the usual
/// lower-case hyphenated form.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct MessageId(Uuid);

impl MessageId {
    /// The id with these UUID bytes, in UUID order.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// A version 4 id made of 122 of these random bits.
    pub fn from_random(bytes: [u8; 16]) -> Self {
        Self(uuid::Builder::from_random_bytes(bytes).into_uuid())
    }

    /// The bytes in UUID order.
    pub fn into_bytes(self) -> [u8; 16] {
        self.0.into_bytes()
    }

    /// Reads the hyphenated form, or any other form of a UUID.
    pub fn parse(text: &str) -> Option<Self> {
        Uuid::try_parse(text).ok().map(Self)
    }

    pub(crate) fn from_wire(wire: [u8; 16]) -> Self {
        Self(Uuid::from_u128(u128::from_be_bytes(wire).rotate_left(64)))
    }

    pub(crate) fn to_wire(self) -> [u8; 16] {
        self.0.as_u128().rotate_left(64).to_be_bytes()
    }

    /// Writes the hyphenated form into `out`.
    pub(crate) fn encode_text(self, out: &mut [u8; 36]) {
        self.0.hyphenated().encode_lower(out);
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0.hyphenated(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn item_25_halves_are_swapped_on_the_wire() {
        let id = MessageId::parse("00112233-4455-6677-8899-aabbccddeeff").unwrap();
        assert_eq!(
            id.to_wire(),
            [0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff, 0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77]
        );
        assert_eq!(MessageId::from_wire(id.to_wire()), id);
        assert_eq!(id.into_bytes()[..3], [0, 0x11, 0x22]);
        assert_eq!(MessageId::from_bytes(id.into_bytes()), id);
        assert_eq!(format!("{id:?}"), "00112233-4455-6677-8899-aabbccddeeff");
    }

    #[test]
    fn a_random_id_is_of_version_4() {
        let id = MessageId::from_random([0xff; 16]);
        assert_eq!(id.to_string(), "ffffffff-ffff-4fff-bfff-ffffffffffff");
    }
}
