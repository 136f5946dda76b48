//! The arguments of the plugin (plugin `session.go`, `ValidateInputAndStartSession`; AWS CLI `sessionmanager.py`,
//! `executecommand.py`).

use serde_json::Value;
use ssm_session::{Endpoint, StartSession};

/// An argument that starts with this is the name of the environment variable that holds the session.
pub(super) const RESPONSE_VARIABLE: &str = "AWS_SSM_START_SESSION_RESPONSE";

/// What is asked for.
#[derive(Debug)]
pub(super) enum Request {
    /// Only a sentence.
    Say(String),
    /// The version.
    Version,
    /// Something that cannot be done, for this reason.
    Refuse(String),
    /// To carry this session.
    Start(Box<Arguments>),
}

/// A session and where it came from.
#[derive(Debug)]
#[cfg_attr(
    not(feature = "aws"),
    allow(dead_code, reason = "the account is for resuming, which needs the AWS SDK")
)]
pub(super) struct Arguments {
    pub(super) endpoint: Endpoint,
    pub(super) region: Option<String>,
    pub(super) profile: Option<String>,
    /// Where the session is resumed and ended.
    pub(super) endpoint_url: Option<String>,
    /// Where ECS started it, which is no place to resume it at.
    pub(super) ecs_url: Option<String>,
    /// Whether the document is one whose sessions always begin with a handshake.
    pub(super) is_port: bool,
    /// What the session was started on; the form with four arguments of old AWS CLIs does not say it.
    pub(super) target: Option<String>,
}

/// Reads the arguments behind the program's name: the session, region, operation, and from the AWS CLI since 1.16.12 also
/// profile, request and endpoint URL.
pub(super) fn read(words: &[String], variable: impl FnOnce(&str) -> Option<String>) -> Request {
    let word = |index: usize| words.get(index).map(String::as_str).filter(|word| !word.is_empty());
    match words {
        [] => Request::Say(INSTALLED.into()),
        [version] if version == "--version" => Request::Version,
        [operation] | [operation, _] => Request::Say(format!(
            "\nUnknown operation {}. \nUse session-manager-plugin --version to check the version.\n\n",
            super::banner::line(operation)
        )),
        [_, _, operation, ..] if operation != "StartSession" => Request::Say("Invalid Operation".into()),
        [response, ..] => {
            let response = match response.starts_with(RESPONSE_VARIABLE) {
                true => variable(response).unwrap_or_default(),
                false => response.clone(),
            };
            let is_ecs = is_of_ecs(&response);
            let url = |ecs: bool| word(5).filter(|url| (is_ecs || leads_to_ecs(url)) == ecs).map(Into::into);
            match Endpoint::from_json(&response) {
                Ok(endpoint) => Request::Start(Box::new(Arguments {
                    endpoint,
                    region: word(1).map(Into::into),
                    profile: word(3).map(Into::into),
                    endpoint_url: url(false),
                    ecs_url: url(true),
                    is_port: word(4).is_some_and(is_port),
                    target: word(4).and_then(target),
                })),
                // What the plugin has from Go's JSON, for the one mistake that says nothing of the session.
                Err(_) if response.trim().is_empty() => {
                    Request::Refuse("unexpected end of JSON input".into())
                }
                Err(error) => Request::Refuse(format!("the session cannot be read: {error}")),
            }
        }
    }
}

const INSTALLED: &str =
    "\nThe Session Manager plugin was installed successfully. Use the AWS CLI to start a session.\n\n";

/// Whether a session is one that ECS has started, whose keys begin with small letters. Then the URL is that of ECS, whatever it is.
fn is_of_ecs(response: &str) -> bool {
    let response: Value = serde_json::from_str(response).unwrap_or_default();
    response.get("sessionId").is_some()
}

/// Whether a URL leads to ECS, as `aws ecs execute-command` gives it: sessions are resumed elsewhere.
fn leads_to_ecs(url: &str) -> bool {
    let host = url.split_once("://").map_or(url, |(_, rest)| rest);
    let host = host.split(['/', ':', '?']).next().unwrap_or_default();
    host.split('.').any(|label| matches!(label, "ecs" | "ecs-fips"))
}

/// The target of a StartSession request.
fn target(request: &str) -> Option<String> {
    let request: Value = serde_json::from_str(request).ok()?;
    Some(request.get("Target")?.as_str()?.to_owned())
}

/// Whether a StartSession request asks for a port document. One that cannot be read asks for nothing in particular.
fn is_port(request: &str) -> bool {
    let request: Value = serde_json::from_str(request).unwrap_or_default();
    let document = request.get("DocumentName").and_then(Value::as_str);
    document.is_some_and(|document| StartSession::document("", document).is_port())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: &str = r#"{"SessionId":"s-1","StreamUrl":"wss://h/","TokenValue":"t"}"#;

    fn ask(words: &[&str]) -> Request {
        let words: Vec<String> = words.iter().map(ToString::to_string).collect();
        read(&words, |name| (name == "AWS_SSM_START_SESSION_RESPONSE_7").then(|| SESSION.into()))
    }

    fn said(words: &[&str]) -> String {
        match ask(words) {
            Request::Say(text) => text,
            other => panic!("{other:?}"),
        }
    }

    fn started(words: &[&str]) -> Arguments {
        match ask(words) {
            Request::Start(arguments) => *arguments,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn item_8_few_arguments_get_a_sentence() {
        assert!(said(&[]).starts_with("\nThe Session Manager plugin was installed successfully."));
        assert!(matches!(ask(&["--version"]), Request::Version));
        for words in [&["start"][..], &["start", "x"]] {
            assert_eq!(
                said(words),
                "\nUnknown operation start. \nUse session-manager-plugin --version to check the version.\n\n"
            );
        }
        assert_eq!(said(&[SESSION, "eu-west-1", "StopSession"]), "Invalid Operation");
    }

    #[test]
    fn item_8_the_session_comes_inline_or_in_a_variable() {
        for response in [SESSION, "AWS_SSM_START_SESSION_RESPONSE_7"] {
            let arguments = started(&[
                response,
                "eu-west-1",
                "StartSession",
                "",
                r#"{"Target":"i-1","DocumentName":"AWS-StartSSHSession"}"#,
                "https://ssm.eu-west-1.amazonaws.com",
            ]);
            assert_eq!(arguments.endpoint.session_id.as_str(), "s-1");
            assert_eq!(arguments.region.as_deref(), Some("eu-west-1"));
            assert_eq!(arguments.profile, None);
            assert_eq!(arguments.endpoint_url.as_deref(), Some("https://ssm.eu-west-1.amazonaws.com"));
            assert!(arguments.is_port);
        }
    }

    #[test]
    fn item_8_the_legacy_form_has_three_arguments() {
        let arguments = started(&[SESSION, "eu-west-1", "StartSession"]);
        assert_eq!((arguments.profile, arguments.endpoint_url, arguments.is_port), (None, None, false));
    }

    #[test]
    fn requests_that_make_no_sense_do_not_matter() {
        for request in ["", "{", "[]", "{}", r#"{"Target":7}"#, r#"{"DocumentName":[]}"#, "null"] {
            assert!(!started(&[SESSION, "r", "StartSession", "p", request]).is_port, "{request}");
        }
    }

    #[test]
    fn a_session_that_cannot_be_read_is_refused_without_showing_it() {
        for response in ["AWS_SSM_START_SESSION_RESPONSE_8", "secret", r#"{"TokenValue":"secret"}"#] {
            match ask(&[response, "r", "StartSession"]) {
                Request::Refuse(reason) => assert!(!reason.contains("secret"), "{reason}"),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn item_7_sessions_of_ecs_are_resumed_at_ssm() {
        for url in
            ["https://ecs.eu-west-1.amazonaws.com", "https://ecs-fips.us-east-1.amazonaws.com/", "ecs.x"]
        {
            let arguments = started(&[SESSION, "r", "StartSession", "", "{}", url]);
            assert_eq!((arguments.endpoint_url, arguments.ecs_url.as_deref()), (None, Some(url)));
        }
        let of_ecs = SESSION.replace("SessionId", "sessionId");
        let arguments = started(&[&of_ecs, "r", "StartSession", "", "{}", "http://127.0.0.1:4566"]);
        assert_eq!(arguments.endpoint_url, None);
        assert_eq!(arguments.ecs_url.as_deref(), Some("http://127.0.0.1:4566"));
        for url in
            ["https://ssm.eu-west-1.amazonaws.com", "http://127.0.0.1:4566", "https://ecsx.example.com"]
        {
            let arguments = started(&[SESSION, "r", "StartSession", "", "{}", url]);
            assert_eq!((arguments.endpoint_url.as_deref(), arguments.ecs_url), (Some(url), None));
        }
    }
}
