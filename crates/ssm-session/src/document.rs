//! Session documents and their parameters.

use std::collections::BTreeMap;

/// A `StartSession` request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartSession {
    /// `i-...`, `mi-...` or `ecs:...`.
    pub target: String,
    /// The session document; `None` for the account's default shell.
    pub document: Option<String>,
    /// Why, for the session history; up to 256 characters.
    pub reason: Option<String>,
    /// Parameters of the document. Every value is a list, of one element in all known documents.
    pub parameters: BTreeMap<String, Vec<String>>,
}

impl StartSession {
    /// The account's default shell.
    pub fn shell(target: impl Into<String>) -> Self {
        Self { target: target.into(), document: None, reason: None, parameters: BTreeMap::new() }
    }

    /// A session with this document.
    pub fn document(target: impl Into<String>, document: impl Into<String>) -> Self {
        Self { document: Some(document.into()), ..Self::shell(target) }
    }

    /// The plain stream to a port that `ssh` is carried over.
    pub fn ssh(target: impl Into<String>, port: u16) -> Self {
        Self::document(target, "AWS-StartSSHSession").parameter("portNumber", port.to_string())
    }

    /// Connections to a port of the target itself.
    pub fn port(target: impl Into<String>, port: u16) -> Self {
        Self::document(target, "AWS-StartPortForwardingSession")
            .parameter("portNumber", port.to_string())
            .parameter("localPortNumber", "0")
    }

    /// Connections to a port of a host as the target sees it.
    pub fn remote_host(target: impl Into<String>, host: impl Into<String>, port: u16) -> Self {
        Self::document(target, "AWS-StartPortForwardingSessionToRemoteHost")
            .parameter("host", host)
            .parameter("portNumber", port.to_string())
            .parameter("localPortNumber", "0")
    }

    /// A command in a terminal.
    pub fn interactive_command(target: impl Into<String>, command: impl Into<String>) -> Self {
        Self::document(target, "AWS-StartInteractiveCommand").parameter("command", command)
    }

    /// Sets a parameter to one value.
    #[must_use]
    pub fn parameter(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.parameters.insert(name.into(), vec![value.into()]);
        self
    }

    /// Sets the reason.
    #[must_use]
    pub fn reason(mut self, reason: Option<String>) -> Self {
        self.reason = reason;
        self
    }

    /// Whether the document is one of AWS's port documents, whose sessions always begin with a handshake.
    pub fn is_port(&self) -> bool {
        let document = self.document.as_deref().unwrap_or_default();
        document == "AWS-StartSSHSession" || document.starts_with("AWS-StartPortForwardingSession")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn item_11_every_parameter_is_a_list_of_texts() {
        let of = |request: StartSession| -> Vec<(String, Vec<String>)> {
            request.parameters.into_iter().collect()
        };
        let one = |name: &str, value: &str| (name.to_owned(), vec![value.to_owned()]);
        assert_eq!(of(StartSession::ssh("i-1", 22)), [one("portNumber", "22")]);
        let local = one("localPortNumber", "0");
        assert_eq!(of(StartSession::port("i-1", 80)), [local.clone(), one("portNumber", "80")]);
        let remote = [one("host", "db"), local, one("portNumber", "5432")];
        assert_eq!(of(StartSession::remote_host("i-1", "db", 5432)), remote);
        assert_eq!(of(StartSession::interactive_command("i-1", "ls")), [one("command", "ls")]);
        assert_eq!(of(StartSession::shell("i-1")), []);
    }
}
