//! JSON as Go's `encoding/json` reads and writes it: keys match whatever their case, and `<`, `>` and `&` are escaped.

use std::fmt;
use std::io::{self, Write};

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::ser::{CompactFormatter, Formatter};
use serde_json::value::RawValue;

use crate::BodyError;

/// Most members an object of the protocol may have. The largest known one has nine.
const MAX_MEMBERS: usize = 256;

/// Serializes `value` with Go's escapes.
pub(crate) fn to_vec<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    to_vec_sized(value, 256)
}

/// As [`to_vec`], into `capacity` bytes: what fits leaves no copy behind in a smaller allocation.
pub(crate) fn to_vec_sized<T: Serialize + ?Sized>(value: &T, capacity: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(capacity);
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, GoFormatter(CompactFormatter));
    value.serialize(&mut serializer).expect("bodies have string keys and go to memory");
    out
}

struct GoFormatter(CompactFormatter);

impl Formatter for GoFormatter {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(['<', '>', '&', '\u{2028}', '\u{2029}']) {
            let (plain, escaped) = rest.split_at(at);
            self.0.write_string_fragment(writer, plain)?;
            let mut chars = escaped.chars();
            if let Some(char) = chars.next() {
                write!(writer, "\\u{:04x}", u32::from(char))?;
            }
            rest = chars.as_str();
        }
        self.0.write_string_fragment(writer, rest)
    }
}

/// The members of a JSON object, in order, not yet parsed.
pub(crate) struct Object<'a>(Vec<(String, &'a RawValue)>);

impl<'a> Object<'a> {
    /// Reads an object and nothing but an object.
    pub(crate) fn parse(text: &'a [u8]) -> Result<Self, BodyError> {
        serde_json::from_slice(text).map_err(|_| BodyError::Json)
    }

    /// The member with this name, whatever its case; the last of several. A `null` counts as absent.
    pub(crate) fn raw(&self, name: &str) -> Option<&'a RawValue> {
        let mut latest_first = self.0.iter().rev();
        latest_first
            .find(|(key, raw)| key.eq_ignore_ascii_case(name) && raw.get() != "null")
            .map(|(_, raw)| *raw)
    }

    /// The member as a `T`, or `None` when it is absent.
    pub(crate) fn optional<T: DeserializeOwned>(&self, name: &'static str) -> Result<Option<T>, BodyError> {
        self.raw(name)
            .map(|raw| serde_json::from_str(raw.get()).map_err(|_| BodyError::Invalid(name)))
            .transpose()
    }

    /// The member as a `T`, or its default when it is absent, as Go's zero values are.
    pub(crate) fn or_default<T: DeserializeOwned + Default>(
        &self,
        name: &'static str,
    ) -> Result<T, BodyError> {
        Ok(self.optional(name)?.unwrap_or_default())
    }

    /// The member as a `T`.
    pub(crate) fn required<T: DeserializeOwned>(&self, name: &'static str) -> Result<T, BodyError> {
        self.optional(name)?.ok_or(BodyError::Missing(name))
    }

    /// The member as an object.
    pub(crate) fn object(&self, name: &'static str) -> Result<Option<Self>, BodyError> {
        self.raw(name)
            .map(|raw| Self::parse(raw.get().as_bytes()).map_err(|_| BodyError::Invalid(name)))
            .transpose()
    }

    /// The elements of the member, which must be an array; none when it is absent.
    pub(crate) fn array(&self, name: &'static str) -> Result<Vec<&'a RawValue>, BodyError> {
        let Some(raw) = self.raw(name) else { return Ok(Vec::new()) };
        serde_json::from_str(raw.get()).map_err(|_| BodyError::Invalid(name))
    }
}

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    if members.len() == MAX_MEMBERS {
                        return Err(serde::de::Error::custom("too many members"));
                    }
                    members.push(member);
                }
                Ok(Object(members))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_match_whatever_their_case_and_the_last_wins() {
        let text = br#"{"sessionid":"a","SessionId":"b","SESSIONID":"c","SessionId":null,"X":null}"#;
        let object = Object::parse(text).unwrap();
        assert_eq!(object.required::<String>("SessionId"), Ok("c".into()));
        assert_eq!(object.required::<String>("X"), Err(BodyError::Missing("X")));
    }

    #[test]
    fn html_characters_are_escaped_as_go_does() {
        assert_eq!(to_vec("a<b>&\"\u{2028}é\n"), "\"a\\u003cb\\u003e\\u0026\\\"\\u2028é\\n\"".as_bytes());
    }

    #[test]
    fn deep_nesting_is_an_error() {
        let deep = format!("{{\"a\":{}", "[".repeat(10_000));
        assert!(Object::parse(deep.as_bytes()).is_err());
    }
}
