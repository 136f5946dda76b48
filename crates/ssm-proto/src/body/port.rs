//! Properties of a port session.

use serde_json::value::RawValue;

use crate::BodyError;
use crate::json::Object;

/// What the document of a port session says, as the agent repeats it in the handshake (plugin `portsession.go`
/// `PortParameters`; agent `port.go`). All values are strings; absent ones are empty.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PortProperties {
    /// The destination as the agent resolves it; empty for the node itself.
    pub host: String,
    /// Port of the destination.
    pub port_number: String,
    /// `LocalPortForwarding`, or anything else for a plain stream.
    pub forwarding_type: String,
    /// Port for the client to listen on; `0` or empty for any.
    pub local_port_number: String,
    /// Path of the socket for the client to listen on.
    pub local_unix_socket: String,
    /// `unix` where the socket is to be used.
    pub local_connection_type: String,
}

impl PortProperties {
    /// Reads the properties of a session type action.
    ///
    /// # Errors
    ///
    /// When they are not an object of strings.
    pub fn decode(properties: &RawValue) -> Result<Self, BodyError> {
        let object = Object::parse(properties.get().as_bytes())?;
        Ok(Self {
            host: object.or_default("host")?,
            port_number: object.or_default("portNumber")?,
            forwarding_type: object.or_default("type")?,
            local_port_number: object.or_default("localPortNumber")?,
            local_unix_socket: object.or_default("localUnixSocket")?,
            local_connection_type: object.or_default("localConnectionType")?,
        })
    }
}
