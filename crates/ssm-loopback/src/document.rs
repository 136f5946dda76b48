//! Session documents: what StartSession names, and what becomes of its parameters.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::api::{ApiError, invalid};

/// The document of a StartSession without a name.
pub(crate) const DEFAULT: &str = "SSM-SessionManagerRunShell";

/// The `allowedPattern` of every port number in AWS's own documents; the only pattern that is enforced here.
const PORT_PATTERN: &str =
    "^([0-9]|[1-9][0-9]{1,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])$";

/// What kind of session the agent runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum SessionType {
    /// A shell on a terminal.
    #[serde(rename = "Standard_Stream")]
    StandardStream,
    /// A command on a terminal.
    InteractiveCommands,
    /// A command without a terminal.
    NonInteractiveCommands,
    /// A TCP connection or several.
    Port,
}

impl SessionType {
    /// The name in documents and handshakes.
    pub fn name(self) -> &'static str {
        match self {
            Self::StandardStream => "Standard_Stream",
            Self::InteractiveCommands => "InteractiveCommands",
            Self::NonInteractiveCommands => "NonInteractiveCommands",
            Self::Port => "Port",
        }
    }
}

/// A session document: a name and the body that AWS would store under it.
#[derive(Debug, Clone)]
pub struct Document {
    pub(crate) name: String,
    pub(crate) body: Body,
    /// The whole of it.
    pub(crate) content: Value,
}

/// The members of a document body that matter here; the rest is ignored.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Body {
    pub(crate) session_type: SessionType,
    #[serde(default)]
    parameters: BTreeMap<String, Parameter>,
    #[serde(default)]
    properties: Value,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Parameter {
    default: Option<String>,
    allowed_pattern: Option<String>,
}

/// The StartSession parameters do not fit the document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ParameterError {
    #[error("the document has no parameter {0}")]
    Unknown(String),
    #[error("parameter {0} is required")]
    Missing(String),
    #[error("parameter {0} takes exactly one value")]
    NotOne(String),
    #[error("parameter {0} must be a port number from 0 to 65535")]
    NotAPort(String),
}

impl Document {
    /// Reads a document in AWS's JSON form: `{"schemaVersion":"1.0","sessionType":..,"parameters":..,"properties":..}`.
    ///
    /// `{{ name }}` in the properties stands for the value of a parameter. Parameters have a `default` or are required.
    /// Of the patterns in `allowedPattern` only AWS's own for port numbers is enforced.
    ///
    /// # Errors
    /// When the body is not such a document; the message says where.
    pub fn from_json(name: impl Into<String>, body: &str) -> Result<Self, serde_json::Error> {
        let mut content: Value = serde_json::from_str(body)?;
        let body = serde_json::from_str(body)?;
        if let Value::Object(members) = &mut content {
            members.entry("schemaVersion").or_insert_with(|| "1.0".into());
        }
        Ok(Self { name: name.into(), body, content })
    }

    /// The name StartSession finds it under.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// The limits of a document's name.
pub(crate) fn check_name(field: &str, name: &str) -> Result<(), ApiError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_-.:/".contains(c);
    if (3..=128).contains(&name.len()) && name.chars().all(allowed) {
        return Ok(());
    }
    Err(invalid(field, "Member must satisfy regular expression pattern: ^[a-zA-Z0-9_\\-.:/]{3,128}$"))
}

impl Body {
    /// Names and defaults of the parameters.
    pub(crate) fn parameters(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.parameters.iter().map(|(name, parameter)| (name.as_str(), parameter.default.as_deref()))
    }

    /// The properties with every `{{ parameter }}` replaced, as the agent does it (agent `agent/framework/docparser`).
    pub(crate) fn properties(&self, given: &BTreeMap<String, Vec<String>>) -> Result<Value, ParameterError> {
        if let Some(name) = given.keys().find(|name| !self.parameters.contains_key(*name)) {
            return Err(ParameterError::Unknown(name.clone()));
        }
        let mut values = BTreeMap::new();
        for (name, parameter) in &self.parameters {
            values.insert(name.as_str(), parameter.value(name, given.get(name))?);
        }
        Ok(substitute(&self.properties, &values))
    }
}

impl Parameter {
    fn value<'a>(&'a self, name: &str, given: Option<&'a Vec<String>>) -> Result<&'a str, ParameterError> {
        let value = match given.map(Vec::as_slice) {
            None => self.default.as_deref().ok_or_else(|| ParameterError::Missing(name.to_owned()))?,
            Some([value]) => value,
            Some(_) => return Err(ParameterError::NotOne(name.to_owned())),
        };
        let is_port = || value.parse::<u16>().is_ok_and(|port| port.to_string() == value);
        if self.allowed_pattern.as_deref() == Some(PORT_PATTERN) && !is_port() {
            return Err(ParameterError::NotAPort(name.to_owned()));
        }
        Ok(value)
    }
}

/// AWS's own documents, with the bodies that matter here.
pub(crate) fn built_in() -> Vec<Document> {
    let bodies = [
        (DEFAULT, r#"{"sessionType":"Standard_Stream"}"#.to_owned()),
        ("AWS-StartInteractiveCommand", command_body("InteractiveCommands")),
        ("AmazonECS-ExecuteInteractiveCommand", command_body("InteractiveCommands")),
        ("AWS-StartNonInteractiveCommand", command_body("NonInteractiveCommands")),
        (
            "AWS-StartSSHSession",
            port_body(r#""portNumber":{"default":"22","allowedPattern":PORT}"#, &["portNumber"], false),
        ),
        (
            "AWS-StartPortForwardingSession",
            port_body(
                r#""portNumber":{"default":"80","allowedPattern":PORT},
                   "localPortNumber":{"default":"0","allowedPattern":PORT}"#,
                &["portNumber", "localPortNumber"],
                true,
            ),
        ),
        (
            "AWS-StartPortForwardingSessionToRemoteHost",
            port_body(
                r#""host":{},"portNumber":{"default":"80","allowedPattern":PORT},
                   "localPortNumber":{"default":"0","allowedPattern":PORT}"#,
                &["portNumber", "localPortNumber", "host"],
                true,
            ),
        ),
    ];
    bodies
        .into_iter()
        .map(|(name, body)| Document::from_json(name, &body).expect("the built-in documents parse"))
        .collect()
}

fn command_body(session_type: &str) -> String {
    let command = r#"{"commands":"{{ command }}","runAsElevated":false}"#;
    format!(
        r#"{{"sessionType":"{session_type}","parameters":{{"command":{{}}}},
            "properties":{{"linux":{command},"macos":{command},"windows":{command}}}}}"#
    )
}

/// A port document whose properties carry the named parameters; only a tunnel has a `type`, which selects the
/// multiplexer or the single connection with redial (agent `agent/session/plugins/port/port.go`).
fn port_body(parameters: &str, properties: &[&str], tunnel: bool) -> String {
    let mut object: Vec<String> =
        properties.iter().map(|name| format!(r#""{name}":"{{{{ {name} }}}}""#)).collect();
    if tunnel {
        object.push(r#""type":"LocalPortForwarding""#.to_owned());
    }
    let parameters = parameters.replace("PORT}", &format!("\"{PORT_PATTERN}\"}}"));
    format!(r#"{{"sessionType":"Port","parameters":{{{parameters}}},"properties":{{{}}}}}"#, object.join(","))
}

fn substitute(value: &Value, values: &BTreeMap<&str, &str>) -> Value {
    match value {
        Value::String(text) => Value::String(substitute_text(text, values)),
        Value::Array(items) => Value::Array(items.iter().map(|item| substitute(item, values)).collect()),
        Value::Object(members) => {
            let members = members.iter().map(|(key, item)| (key.clone(), substitute(item, values)));
            Value::Object(members.collect::<Map<_, _>>())
        }
        other => other.clone(),
    }
}

/// One pass, so that a value which itself holds `{{ .. }}` stays as the user wrote it.
fn substitute_text(text: &str, values: &BTreeMap<&str, &str>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        out.push_str(before);
        let known = after.split_once("}}").and_then(|(name, tail)| Some((values.get(name.trim())?, tail)));
        match known {
            Some((value, tail)) => {
                out.push_str(value);
                rest = tail;
            }
            None => {
                out.push_str("{{");
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_port_document_fills_in_defaults_and_values() {
        let properties = properties(
            "AWS-StartPortForwardingSessionToRemoteHost",
            &[("host", "db"), ("portNumber", "5432")],
        );
        assert_eq!(
            properties,
            Ok(json!({"host":"db","localPortNumber":"0","portNumber":"5432","type":"LocalPortForwarding"}))
        );
    }

    #[test]
    fn an_ssh_session_has_no_type() {
        assert_eq!(properties("AWS-StartSSHSession", &[]), Ok(json!({"portNumber":"22"})));
    }

    #[test]
    fn a_command_is_taken_literally() {
        let properties =
            properties("AWS-StartInteractiveCommand", &[("command", "echo {{ command }} '$x'")]).unwrap();
        assert_eq!(properties["linux"]["commands"], "echo {{ command }} '$x'");
    }

    #[test]
    fn wrong_parameters_are_named() {
        let host = "AWS-StartPortForwardingSessionToRemoteHost";
        assert_eq!(properties(host, &[]), Err(ParameterError::Missing("host".into())));
        assert_eq!(properties(DEFAULT, &[("x", "y")]), Err(ParameterError::Unknown("x".into())));
        for port in ["65536", "-1", "022", "", "http"] {
            let result = properties("AWS-StartSSHSession", &[("portNumber", port)]);
            assert_eq!(result, Err(ParameterError::NotAPort("portNumber".into())), "{port}");
        }
    }

    #[test]
    fn two_values_for_one_parameter_are_refused() {
        let given = BTreeMap::from([("portNumber".to_owned(), vec!["1".to_owned(), "2".to_owned()])]);
        let result = named("AWS-StartSSHSession").body.properties(&given);
        assert_eq!(result, Err(ParameterError::NotOne("portNumber".into())));
    }

    fn properties(document: &str, given: &[(&str, &str)]) -> Result<Value, ParameterError> {
        let given = given.iter().map(|(key, value)| ((*key).to_owned(), vec![(*value).to_owned()])).collect();
        named(document).body.properties(&given)
    }

    fn named(name: &str) -> Document {
        built_in().into_iter().find(|document| document.name == name).unwrap()
    }
}
