//! The size of a terminal.

use serde::Serialize;

use crate::BodyError;
use crate::json::{self, Object};

/// The payload of a size message (plugin `src/message/clientmessage.go` `SizeData`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub struct TerminalSize {
    /// Characters in a line.
    pub cols: u32,
    /// Lines.
    pub rows: u32,
}

impl TerminalSize {
    /// The JSON object.
    pub fn encode(&self) -> Vec<u8> {
        json::to_vec(self)
    }

    /// Reads the JSON object, its members in any order.
    ///
    /// # Errors
    ///
    /// When it is not an object or a member is not a number of 32 bits.
    pub fn decode(payload: &[u8]) -> Result<Self, BodyError> {
        let object = Object::parse(payload)?;
        Ok(Self { cols: object.or_default("cols")?, rows: object.or_default("rows")? })
    }
}
