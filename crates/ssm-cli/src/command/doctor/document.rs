//! Documents that sessions are started with, what the account prefers, and the key that encrypts sessions.

use std::time::Duration;

use aws_sdk_kms::primitives::Blob;
use aws_sdk_ssm::types::{DocumentDescription, DocumentFormat, DocumentStatus, DocumentType};
use serde::Deserialize;

use super::account::Account;
use super::outcome::{Check, Finding, Outcome};
use super::permission::{NO_INSTANCE, NO_SUFFIX};
use super::refusal::Refusal;
use super::way::Service;

/// Where the preferences of an account are, and what a session without a document has.
const PREFERENCES: &str = "SSM-SessionManagerRunShell";

/// AWS's documents, and who uses them.
const DOCUMENTS: [(&str, &str); 5] = [
    ("AWS-StartSSHSession", "ssm proxy"),
    ("AWS-StartPortForwardingSession", "ssm forward to the machine itself"),
    ("AWS-StartPortForwardingSessionToRemoteHost", "ssm forward to other hosts"),
    ("AWS-StartInteractiveCommand", "commands on a terminal"),
    ("AWS-StartNonInteractiveCommand", "commands without a terminal"),
];

/// Bytes of a data key, as a session has it.
const KEY_LEN: i32 = 64;

/// Longest document that is read.
const DOCUMENT_MAX: usize = 64 * 1024;

/// The checks.
pub(super) fn checks<'a>(account: &'a Account<'a>, limit: Duration) -> Vec<Check<'a>> {
    let mut checks = vec![
        Check::new("preferences", limit, preferences(account)),
        Check::new("kms:GenerateDataKey", limit, key(account)),
        Check::new("documents", limit, documents(account)),
    ];
    if let Some(name) = account.case.document.as_deref() {
        checks.push(Check::new("document", limit, own_document(account, name)));
    }
    checks
}

/// What the account wants of its sessions (`inputs` of the preferences).
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Preferences {
    #[serde(rename = "kmsKeyId", deserialize_with = "unless_empty")]
    pub(super) kms_key: Option<String>,
    #[serde(deserialize_with = "unless_empty")]
    s3_bucket_name: Option<String>,
    #[serde(deserialize_with = "unless_empty")]
    cloud_watch_log_group_name: Option<String>,
    #[serde(deserialize_with = "unless_empty")]
    idle_session_timeout: Option<String>,
    #[serde(deserialize_with = "unless_empty")]
    max_session_duration: Option<String>,
    run_as_enabled: bool,
    #[serde(deserialize_with = "unless_empty")]
    run_as_default_user: Option<String>,
    shell_profile: Profiles,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Profiles {
    #[serde(deserialize_with = "unless_empty")]
    linux: Option<String>,
    #[serde(deserialize_with = "unless_empty")]
    windows: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    session_type: String,
    #[serde(default)]
    inputs: Preferences,
}

fn unless_empty<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    Ok(Option::deserialize(from)?.filter(|text: &String| !text.trim().is_empty()))
}

impl Preferences {
    /// Reads the preferences of the account; `None` when nobody has set any.
    pub(super) async fn find(ssm: &aws_sdk_ssm::Client) -> Result<Option<Self>, Refusal> {
        let call = ssm.get_document().name(PREFERENCES).document_format(DocumentFormat::Json);
        match call.send().await.map_err(|error| Refusal::of(&error)) {
            Ok(document) => Self::read(&document.content.unwrap_or_default()).map(Some),
            Err(Refusal::Answer { code, .. }) if code == "InvalidDocument" => Ok(None),
            Err(refusal) => Err(refusal),
        }
    }

    fn read(content: &str) -> Result<Self, Refusal> {
        let wrong = |text: String| Refusal::Answer { code: "a document that cannot be read".into(), text };
        if content.len() > DOCUMENT_MAX {
            return Err(wrong("it is too long".into()));
        }
        let body: Body = serde_json::from_str(content).map_err(|error| wrong(error.to_string()))?;
        match body.session_type.as_str() {
            "Standard_Stream" => Ok(body.inputs),
            other => Err(wrong(format!("its session type is {other}"))),
        }
    }

    fn in_words(&self) -> Vec<String> {
        let said = [
            self.kms_key.as_ref().map(|key| format!("encrypted with {key}")),
            self.s3_bucket_name.as_ref().map(|bucket| format!("logged to the S3 bucket {bucket}")),
            self.cloud_watch_log_group_name.as_ref().map(|group| format!("logged to CloudWatch {group}")),
            self.idle_session_timeout.as_ref().map(|limit| format!("ended when idle for {limit} min")),
            self.max_session_duration.as_ref().map(|limit| format!("ended after {limit} min")),
            self.run_as_enabled.then(|| match &self.run_as_default_user {
                Some(user) => format!("run as {user}"),
                None => "run as the user that a tag of the caller names".into(),
            }),
            self.shell_profile.linux.as_ref().map(|_| "begun with a profile on Linux".into()),
            self.shell_profile.windows.as_ref().map(|_| "begun with a profile on Windows".into()),
        ];
        said.into_iter().flatten().collect()
    }
}

async fn preferences(account: &Account<'_>) -> Finding {
    let preferences = match account.preferences().await? {
        Ok(Some(preferences)) => preferences,
        Ok(None) => return Ok(Outcome::ok("none: sessions are not logged, and end when idle for 20 min")),
        Err(refusal) => return Ok(refusal.of_no_use(&format!("ssm:GetDocument on {PREFERENCES}"))),
    };
    let words = preferences.in_words();
    let found = if words.is_empty() {
        "all as by default".into()
    } else {
        format!("sessions are {}", words.join(", "))
    };
    let outcome = if preferences.run_as_enabled && preferences.run_as_default_user.is_none() {
        let advice = "without the tag SSMSessionRunAs on your user or role, shells do not start";
        Outcome::warn(found, advice)
    } else {
        Outcome::ok(found)
    };
    Ok(outcome
        .with("kms_key", preferences.kms_key.clone())
        .with("s3_bucket", preferences.s3_bucket_name.clone())
        .with("log_group", preferences.cloud_watch_log_group_name.clone())
        .with("idle_min", preferences.idle_session_timeout.clone())
        .with("max_min", preferences.max_session_duration.clone())
        .with("run_as", preferences.run_as_default_user.clone()))
}

/// Asks for a data key as a session does, without wanting one.
async fn key(account: &Account<'_>) -> Finding {
    const ACTION: &str = "kms:GenerateDataKey";
    let key = match account.preferences().await? {
        Ok(preferences) => preferences.as_ref().and_then(|preferences| preferences.kms_key.as_deref()),
        Err(_) => return Ok(Outcome::skip("not known whether it is needed, see preferences")),
    };
    let Some(key) = key else { return Ok(Outcome::skip("not needed: the account has no key for sessions")) };
    let control = account.ready(Service::Kms).await?;
    // Policies may go by the context (agent `blockcipher.go`): the names are those of a session, and so is the target.
    let target = account.target().await.and_then(Result::ok).unwrap_or(NO_INSTANCE);
    let call = aws_sdk_kms::Client::new(control.sdk_config())
        .generate_data_key()
        .key_id(key)
        .number_of_bytes(KEY_LEN)
        .encryption_context("aws:ssm:SessionId", format!("ssm-doctor-{NO_SUFFIX}"))
        .encryption_context("aws:ssm:TargetId", target)
        .dry_run(true);
    let refusal = match call.send().await {
        // Who does not know dry runs gives a key, which goes no further.
        Ok(answer) => {
            drop(answer.plaintext.map(Blob::into_inner).map(ssm_session::Secret::new));
            return Ok(Outcome::ok(format!("allowed on {key}")).with("key", key));
        }
        Err(error) => Refusal::of(&error),
    };
    let outcome = match refusal {
        Refusal::Answer { code, .. } if code == "DryRunOperationException" => {
            Outcome::ok(format!("allowed on {key}"))
        }
        Refusal::Denied(text) => Outcome::fail(
            format!("denied on {key}: {text}"),
            "shells and commands do not start: the key's policy or yours has to allow the action, and kms:Decrypt to the machine",
        ),
        Refusal::Answer { code, text } => Outcome::fail(
            format!("{key} cannot be used: {code}: {text}"),
            "shells and commands do not start: put the key right, or another one into the preferences",
        ),
        other => other.of_no_use(ACTION),
    };
    Ok(outcome.with("key", key))
}

/// AWS's documents. What one is for does not work without it.
async fn documents(account: &Account<'_>) -> Finding {
    let ssm = account.ssm().await?;
    let (mut there, mut missing) = (Vec::new(), Vec::new());
    for (name, user) in DOCUMENTS {
        match look(&ssm, name).await {
            Ok(()) => there.push(name),
            Err(Trouble::Unknown(refusal)) => return Err(refusal.of_no_use("ssm:DescribeDocument")),
            Err(Trouble::Wrong(why)) => missing.push((name, why, user)),
        }
    }
    let outcome = match missing.as_slice() {
        [] => Outcome::ok(format!("all {} of AWS's that are used here are there", there.len())),
        missing => {
            let found: Vec<_> = missing.iter().map(|(name, why, _)| format!("{name} {why}")).collect();
            let users: Vec<_> = missing.iter().map(|(.., user)| *user).collect();
            Outcome::warn(found.join("; "), format!("without them there is no {}", users.join(", no ")))
        }
    };
    let missing: Vec<&str> = missing.iter().map(|(name, ..)| *name).collect();
    Ok(outcome.with("there", there).with("missing", missing))
}

/// The document that the alias names.
async fn own_document(account: &Account<'_>, name: &str) -> Finding {
    let ssm = account.ssm().await?;
    match look(&ssm, name).await {
        Ok(()) => Ok(Outcome::ok(format!("{name} is there"))),
        Err(Trouble::Unknown(refusal)) => Ok(refusal.of_no_use("ssm:DescribeDocument")),
        Err(Trouble::Wrong(why)) => Ok(Outcome::fail(
            format!("{name} {why}"),
            "the alias names it for its shell: put the name right, or make the document",
        )),
    }
}

/// Why a document is not one that a session can have.
enum Trouble {
    Unknown(Refusal),
    Wrong(String),
}

async fn look(ssm: &aws_sdk_ssm::Client, name: &str) -> Result<(), Trouble> {
    let found = match ssm.describe_document().name(name).send().await.map_err(|error| Refusal::of(&error)) {
        Ok(found) => found.document.unwrap_or_else(|| DocumentDescription::builder().build()),
        Err(Refusal::Answer { code, .. }) if code == "InvalidDocument" => {
            return Err(Trouble::Wrong("is not in this region".into()));
        }
        Err(refusal) => return Err(Trouble::Unknown(refusal)),
    };
    match (&found.document_type, &found.status) {
        (Some(DocumentType::Session), None | Some(DocumentStatus::Active)) => Ok(()),
        (Some(DocumentType::Session), Some(status)) => {
            Err(Trouble::Wrong(format!("is not active but {}", status.as_str())))
        }
        (kind, _) => {
            let kind = kind.as_ref().map_or("nothing known", DocumentType::as_str);
            Err(Trouble::Wrong(format!("is not for sessions but for {kind}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn preferences_are_told_in_words() {
        let content = r#"{"schemaVersion":"1.0","description":"d","sessionType":"Standard_Stream","inputs":{
            "s3BucketName":"b","s3KeyPrefix":"","s3EncryptionEnabled":true,"cloudWatchLogGroupName":"",
            "cloudWatchEncryptionEnabled":true,"cloudWatchStreamingEnabled":true,"idleSessionTimeout":"20",
            "maxSessionDuration":"","kmsKeyId":"alias/k","runAsEnabled":true,"runAsDefaultUser":"",
            "shellProfile":{"windows":"","linux":"exec bash"}}}"#;
        let preferences = Preferences::read(content).unwrap();
        assert_eq!(preferences.kms_key.as_deref(), Some("alias/k"));
        let words = [
            "encrypted with alias/k",
            "logged to the S3 bucket b",
            "ended when idle for 20 min",
            "run as the user that a tag of the caller names",
            "begun with a profile on Linux",
        ];
        assert_eq!(preferences.in_words(), words);
    }

    #[test]
    fn a_document_without_inputs_prefers_nothing() {
        let preferences = Preferences::read(r#"{"sessionType":"Standard_Stream"}"#).unwrap();
        assert!(preferences.in_words().is_empty() && preferences.kms_key.is_none());
        for wrong in ["", "[]", r#"{"sessionType":"Port"}"#, &"x".repeat(DOCUMENT_MAX + 1)] {
            assert!(Preferences::read(wrong).is_err());
        }
    }
}
