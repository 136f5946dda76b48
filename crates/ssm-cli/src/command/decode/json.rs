//! JSON as it is shown: on one line, without tokens, and without what would do something to a terminal.
//!
//! It is written while it is read. A tree of what a line holds would need many times its length: `[0,0,0,...]`.

use std::fmt::{self, Write as _};

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::push_visible;

const REDACTED: &str = "REDACTED";

/// Adds JSON to `out`. Says `false` of what is none, and adds nothing.
pub(super) fn push(bytes: &[u8], out: &mut String) -> bool {
    let len = out.len();
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let is_json = Shown(out).deserialize(&mut reader).and_then(|()| reader.end()).is_ok();
    if !is_json {
        out.truncate(len);
    }
    is_json
}

/// Writes the value that comes.
struct Shown<'a>(&'a mut String);

impl<'de> DeserializeSeed<'de> for Shown<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Shown<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.0.push_str("null");
        Ok(())
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.write(value)
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.write(value)
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.write(value)
    }

    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        self.write(value)
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        string(text, self.0);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        self.0.push('[');
        let mut is_first = true;
        loop {
            let len = self.0.len();
            if !std::mem::take(&mut is_first) {
                self.0.push(',');
            }
            if items.next_element_seed(Shown(self.0))?.is_none() {
                self.0.truncate(len);
                break;
            }
        }
        self.0.push(']');
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        self.0.push('{');
        let mut is_first = true;
        while let Some(name) = fields.next_key::<String>()? {
            if !std::mem::take(&mut is_first) {
                self.0.push(',');
            }
            string(&name, self.0);
            self.0.push(':');
            if opens_a_channel(&name) {
                fields.next_value::<IgnoredAny>()?;
                string(REDACTED, self.0);
            } else {
                fields.next_value_seed(Shown(self.0))?;
            }
        }
        self.0.push('}');
        Ok(())
    }
}

impl Shown<'_> {
    fn write<E>(self, value: impl fmt::Debug) -> Result<(), E> {
        // Writing to memory does not fail.
        let _ = write!(self.0, "{value:?}");
        Ok(())
    }
}

/// Whether a field opens a data channel, wherever it is.
fn opens_a_channel(name: &str) -> bool {
    ["tokenvalue", "token"].iter().any(|token| name.eq_ignore_ascii_case(token))
}

fn string(text: &str, out: &mut String) {
    out.push('"');
    for char in text.chars() {
        match char {
            '"' | '\\' => out.extend(['\\', char]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\0'..='\x1f' => {
                let _ = write!(out, "\\u{:04x}", u32::from(char));
            }
            _ => push_visible(char, out),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(json: &str) -> Option<String> {
        let mut out = "before ".to_owned();
        let is_json = push(json.as_bytes(), &mut out);
        let shown = out.strip_prefix("before ").unwrap().to_owned();
        assert!(is_json || shown.is_empty(), "{shown}");
        is_json.then_some(shown)
    }

    #[test]
    fn json_stays_the_same_json() {
        for json in [
            r#"{"b":[1,-2,1.5,true,null,"x"],"a":{},"c":[],"b":[[],[{}]]}"#,
            r#""a\n\r\t\"\\\u0001é""#,
            "18446744073709551615",
            "1e300",
            "1.0",
        ] {
            assert_eq!(shown(json).as_deref(), Some(json));
        }
        assert_eq!(shown("\"\u{7f}\u{202e}\"").as_deref(), Some(r#""\x7f\u{202e}""#));
    }

    #[test]
    fn what_is_no_json_is_not_shown_as_such() {
        for text in ["", "[1,2", "[1,]", "{\"a\"}", "{} {}", &"[".repeat(100_000)] {
            assert_eq!(shown(text), None, "{text:.10}");
        }
    }

    #[test]
    fn tokens_are_found_at_any_depth() {
        let json = r#"{"a":[{"TokenValue":"hush"}],"token":{"b":"hush"},"tokenvalue":7,"tokens":1}"#;
        let expected =
            r#"{"a":[{"TokenValue":"REDACTED"}],"token":"REDACTED","tokenvalue":"REDACTED","tokens":1}"#;
        assert_eq!(shown(json).as_deref(), Some(expected));
    }
}
