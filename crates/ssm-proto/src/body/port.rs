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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_are_read_and_unknown_ones_are_not() {
        let text =
            r#"{"host":"h","portNumber":"80","type":"LocalPortForwarding","localPortNumber":"1","other":[]}"#;
        let properties = PortProperties::decode(&RawValue::from_string(text.into()).unwrap()).unwrap();
        let expected = PortProperties {
            host: "h".into(),
            port_number: "80".into(),
            forwarding_type: "LocalPortForwarding".into(),
            local_port_number: "1".into(),
            ..PortProperties::default()
        };
        assert_eq!(properties, expected);
        assert!(PortProperties::decode(&RawValue::from_string("[]".into()).unwrap()).is_err());
    }
}
