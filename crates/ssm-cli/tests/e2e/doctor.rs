//! `ssm doctor` with AWS as others wrote it: moto plays STS, EC2, KMS and the documents of Systems Manager.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::support::moto::Moto;
use crate::support::process::{Process, run};
use crate::support::system::installed;

#[test]
fn who_asks_what_is_preferred_and_the_key_are_found_out() {
    let moto = Moto::start();
    let aws = |args: &[&str]| run(moto.command(installed("SSM_TEST_AWS")).args(args));
    let key = aws(&["kms", "create-key", "--query", "KeyMetadata.KeyId", "--output", "text"]);
    aws(&["kms", "create-alias", "--alias-name", "alias/sessions", "--target-key-id", key.trim()]);
    let content = r#"{"schemaVersion":"1.0","description":"d","sessionType":"Standard_Stream","inputs":{
        "kmsKeyId":"alias/sessions","s3BucketName":"","idleSessionTimeout":"20","runAsEnabled":false}}"#;
    let preferences = ["--name", "SSM-SessionManagerRunShell", "--document-type", "Session"];
    aws(&[&["ssm", "create-document", "--content", content][..], &preferences[..]].concat());

    let (code, found) = examine(&moto);
    let failed: Vec<_> = found.values().filter(|line| line["verdict"] == "fail").collect();
    // moto starts no sessions.
    assert!(failed.len() == 1 && failed[0]["check"] == "ssm:StartSession", "{failed:?}");
    assert_eq!(code, Some(1));
    assert_eq!(found["identity"]["facts"]["arn"], "arn:aws:sts::123456789012:user/moto");
    assert_eq!(found["identity"]["facts"]["account"], "123456789012");
    assert_eq!(
        found["preferences"]["found"],
        "sessions are encrypted with alias/sessions, ended when idle for 20 min"
    );
    assert_eq!(found["kms:GenerateDataKey"]["found"], "allowed on alias/sessions");
    assert_eq!(found["endpoint-kms"]["verdict"], "ok");
    assert_eq!(found["clock"]["verdict"], "ok");
    assert_eq!(found["ec2:DescribeInstances"]["found"], "allowed");
    // moto has only documents that somebody has made.
    let missing = found["documents"]["facts"]["missing"].as_array().unwrap();
    assert_eq!((missing.len(), &missing[0]), (5, &Value::from("AWS-StartSSHSession")));

    aws(&["kms", "delete-alias", "--alias-name", "alias/sessions"]);
    let (code, found) = examine(&moto);
    assert_eq!(code, Some(1));
    assert_eq!(found["kms:GenerateDataKey"]["verdict"], "fail");
    let why = found["kms:GenerateDataKey"]["found"].as_str().unwrap();
    assert!(why.starts_with("alias/sessions cannot be used: NotFoundException: "), "{why}");
}

fn examine(moto: &Moto) -> (Option<i32>, BTreeMap<String, Value>) {
    let mut process = Process::spawn(moto.ssm(&["doctor", "--json"]).env("AWS_MAX_ATTEMPTS", "1"));
    let code = process.wait().code();
    let lines = process.stdout();
    let lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    (code, lines.map(|line| (line["check"].as_str().unwrap().to_owned(), line)).collect())
}
