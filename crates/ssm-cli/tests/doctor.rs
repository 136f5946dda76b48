//! `ssm doctor` against the loopback, and against services and networks with something wrong.
//!
//! Nothing here leaves this machine. What the foreign services answer has the shapes of botocore's models.

#![cfg(feature = "aws")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

use rcgen::CertificateParams;
use serde_json::{Value, json};
use ssm_loopback::{Config, Document};

use crate::common::fake_aws::{Asked, FakeAws, Front};
use crate::common::outside::{certificate, certified};
use crate::common::{Here, OnTerminal, closed_port, screen, ssm};

const TARGET: &str = "i-0123456789abcdef0";

/// Nobody's.
const SECRET: &str = "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEYhush";

#[test]
fn a_machine_that_is_well_is_told_so() {
    let here = Here::start();
    let secret = here.loopback().secret_key().expose().clone();
    let key = here.loopback().access_key().to_owned();
    let report = Report::of(&mut here.ssm(&["doctor", TARGET]));
    assert_eq!(report.code, 0, "{report:?}");
    for check in [
        "ssm",
        "config",
        "folders",
        "network",
        "region",
        "credentials",
        "endpoint-ssm",
        "endpoint-sts",
        "clock",
        "identity",
        "ssm:StartSession",
        "ssm:ResumeSession",
        "ssm:TerminateSession",
        "ssm:DescribeSessions",
        "ssm:DescribeInstanceInformation",
        "preferences",
        "documents",
        "target",
        "node",
        "connection",
        "agent",
        "platform",
    ] {
        assert_eq!(report.verdict(check), "ok", "{check}: {report:?}");
    }
    assert_eq!(report.facts("region"), &json!({ "region": "us-east-1", "from": "AWS_REGION" }));
    assert_eq!(report.facts("identity")["account"], "000000000000");
    assert_eq!(report.facts("endpoint-ssm")["url"], here.loopback().endpoint_url());
    assert!(report.facts("clock")["ahead_s"].as_f64().unwrap().abs() < 30.0);
    assert!(report.found("credentials").ends_with(", from the environment"));
    assert!(report.found("agent").starts_with("3.3.987.0: several connections in a session, other hosts"));
    assert!(!report.stdout.contains(&secret) && !report.stdout.contains(&key), "{}", report.stdout);
}

#[test]
fn lines_are_for_people_and_end_with_a_sum() {
    let here = Here::start();
    let outcome = common::Program::start(here.ssm(&["doctor", TARGET]).env("PATH", "/nonexistent")).wait();
    assert!(outcome.status.success(), "{outcome:?}");
    let names: Vec<&str> = outcome
        .stdout
        .lines()
        .filter(|line| !line.starts_with(' '))
        .map(|line| line[6..].split(' ').next().unwrap())
        .collect();
    assert_eq!(names[..4], ["ssm", "config", "folders", "open-files"]);
    assert_eq!(names[names.len() - 4..], ["node", "connection", "agent", "platform"]);
    let ssh = "\nwarn  ssh                              there is no ssh on PATH\n";
    assert!(outcome.stdout.contains(ssh), "{}", outcome.stdout);
    assert!(outcome.stdout.contains("  -> install OpenSSH for `ssm proxy`\n"), "{}", outcome.stdout);
    // The loopback is no EC2, which is the other one.
    let warnings = if cfg!(feature = "lookup") { 2 } else { 1 };
    let said = format!("ssm: nothing has failed in {} checks; warnings: {warnings}\n", names.len());
    assert_eq!(outcome.stderr, said);
}

#[test]
fn a_terminal_shows_what_is_waited_for_until_it_is_there() {
    let (release, held) = std::sync::mpsc::channel::<()>();
    let held = Mutex::new(held);
    let fake = Fake::start(move |call, request| {
        if call == "GetCallerIdentity" {
            let _ = held.lock().unwrap().recv();
        }
        healthy(call, request)
    });
    let terminal = OnTerminal::with_stdout(&fake.ssm(&["doctor"]), 200);
    terminal.until(|written| written.contains("waiting for identity").then_some(()));
    drop(release);
    let outcome = terminal.wait();
    assert!(outcome.status.success(), "{outcome:?}");
    let screen = screen(&outcome.stderr);
    assert!(screen.iter().any(|line| line.starts_with("ok    identity  ")), "{screen:?}");
    assert!(!screen.iter().any(|line| line.contains("waiting for")), "{screen:?}");
}

#[test]
fn without_credentials_the_way_and_the_clock_are_still_looked_at() {
    let fake = Fake::start(healthy);
    let report = Report::of(fake.ssm(&["doctor", TARGET]).env_remove("AWS_ACCESS_KEY_ID"));
    assert_eq!(report.code, 1);
    assert_eq!(report.failed(), ["credentials"], "{report:?}");
    assert!(report.found("credentials").contains("AWS_ACCESS_KEY_ID"), "{report:?}");
    for check in ["endpoint-ssm", "clock"] {
        assert_eq!(report.verdict(check), "ok", "{report:?}");
    }
    for check in ["identity", "ssm:StartSession", "preferences", "node"] {
        assert_eq!(report.found(check), "not known: there are no credentials");
    }
    let report = Report::of(fake.ssm(&["doctor"]).env_remove("AWS_REGION"));
    assert_eq!(report.failed(), ["region"], "{report:?}");
    assert_eq!(report.found("credentials"), "not known: there is no account, see region");
}

#[test]
fn a_mistake_in_the_configuration_is_a_finding() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    fs::write(&path, "[defaults]\nprofil = 'x'\n").unwrap();
    let fake = Fake::start(healthy);
    let report = Report::of(&mut fake.ssm(&["--config", path.to_str().unwrap(), "doctor"]));
    assert_eq!(report.failed(), ["config"], "{report:?}");
    assert!(report.found("config").contains(":2: defaults.profil: "), "{report:?}");
    fs::write(&path, format!("[alias.db]\ntarget = '{TARGET}'\nregion = 'eu-central-1'\ndocument = 'Own'\n"))
        .unwrap();
    let report = Report::of(&mut fake.ssm(&["--config", path.to_str().unwrap(), "doctor", "db"]));
    assert_eq!(report.failed(), ["document"], "{report:?}");
    assert_eq!(report.found("document"), "Own is not in this region");
    assert!(report.found("config").ends_with("config.toml, with 1 alias and 0 groups"), "{report:?}");
    assert_eq!(report.facts("region")["from"], format!("{}:3", path.display()));
    assert_eq!(report.facts("target")["target"], TARGET);
}

#[test]
fn a_clock_that_is_wrong_is_told_by_how_much() {
    for (offset, verdict, found) in
        [(-90, "warn", "1 min "), (600, "fail", "9 min 59 s behind"), (-900, "fail", " ahead of")]
    {
        let fake = Fake::start(healthy).at(offset);
        let report = Report::of(&mut fake.ssm(&["doctor"]));
        assert_eq!(report.verdict("clock"), verdict, "{report:?}");
        let close =
            report.found("clock").contains(found) || report.found("clock").contains("10 min 0 s behind");
        assert!(close, "{report:?}");
    }
}

#[test]
fn who_opens_tls_is_named() {
    let fake = Fake::secure(healthy, good());
    let report = Report::of(&mut fake.ssm(&["doctor"]));
    assert_eq!(report.code, 0, "{report:?}");
    let facts = report.facts("endpoint-ssm");
    assert_eq!((&facts["tls"], &facts["issuer"]), (&"TLS 1.3".into(), &"Corp Inspection CA".into()));
    assert_eq!(
        facts["addresses"][0].as_str().map(|address| address == "127.0.0.1" || address == "::1"),
        Some(true)
    );
    // The roots of the system do not have it.
    let folder = tempfile::tempdir().unwrap();
    let report = Report::of(
        fake.ssm(&["doctor"])
            .env_remove("AWS_CA_BUNDLE")
            .env("SSL_CERT_FILE", other_authority(folder.path())),
    );
    assert!(report.failed().contains(&"endpoint-ssm".to_owned()), "{report:?}");
    let found = report.found("endpoint-ssm");
    assert!(
        found.contains("not trusted") && found.ends_with("the certificate is by Corp Inspection CA"),
        "{found}"
    );
    assert!(report.advice("endpoint-ssm").contains("AWS_CA_BUNDLE"));
    assert_eq!(report.found("ssm:StartSession"), "not known: ssm is not reached");
}

#[test]
fn a_certificate_of_another_time_or_host_is_told_as_such() {
    let fake = Fake::secure(healthy, over());
    let report = Report::of(&mut fake.ssm(&["doctor"]));
    assert!(
        report.found("endpoint-ssm").contains("its certificate has expired, on Sat, 01 Jan 2000"),
        "{report:?}"
    );
    let fake = Fake::secure(healthy, good());
    let url = fake.url().replace("localhost", "127.0.0.1");
    let report = Report::of(fake.ssm(&["doctor"]).env("AWS_ENDPOINT_URL", url));
    assert!(report.found("endpoint-ssm").contains("only valid for DnsName(\"localhost\")"), "{report:?}");
}

#[test]
fn a_port_that_is_closed_and_one_without_tls_are_told_apart() {
    let port = closed_port();
    let fake = Fake::start(healthy);
    let report =
        Report::of(fake.ssm(&["doctor"]).env("AWS_ENDPOINT_URL_SSM", format!("https://127.0.0.1:{port}")));
    assert_eq!(report.failed(), ["endpoint-ssm"], "{report:?}");
    assert_eq!(report.facts("endpoint-ssm")["step"], "connect");
    assert!(report.found("endpoint-ssm").contains("refused"), "{report:?}");
    assert_eq!(report.verdict("identity"), "ok");
    let here = Here::start();
    let plain = here.loopback().endpoint_url().replace("http:", "https:");
    let report = Report::of(fake.ssm(&["doctor"]).env("AWS_ENDPOINT_URL_STS", plain));
    assert_eq!((report.code, report.verdict("endpoint-sts")), (0, "warn"), "{report:?}");
    assert!(report.found("endpoint-sts").contains("does not answer with TLS; roles cannot"), "{report:?}");
    assert_eq!(report.found("identity"), "not known: sts is not reached");
    assert_eq!(report.verdict("ssm:ResumeSession"), "ok");
}

#[test]
fn endpoints_are_looked_at_through_the_proxy() {
    let fake = Fake::behind(Front::Proxy(good()), healthy);
    let report = Report::of(&mut fake.ssm(&["doctor", TARGET]));
    assert_eq!(report.code, 0, "{report:?}");
    for service in ["ssm", "ssmmessages", "sts"] {
        let facts = report.facts(&format!("endpoint-{service}"));
        assert_eq!(facts["url"], format!("https://{service}.eu-west-1.amazonaws.com"));
        assert_eq!(facts["proxy"], fake.url());
        assert_eq!((&facts["tls"], &facts["issuer"]), (&"TLS 1.3".into(), &"Corp Inspection CA".into()));
    }
    assert_eq!(report.facts("network")["proxy"], fake.url());
    let hosts: Vec<String> = fake.aws.asked("").into_iter().map(|asked| asked.host).collect();
    assert!(hosts.contains(&"ssmmessages.eu-west-1.amazonaws.com".to_owned()), "{hosts:?}");
    let gone = format!("http://me:hush@127.0.0.1:{}", closed_port());
    let report = Report::of(fake.ssm(&["doctor"]).env("HTTPS_PROXY", gone));
    assert!(report.failed().contains(&"endpoint-ssm".to_owned()), "{report:?}");
    assert!(
        report.advice("endpoint-ssm").contains("HTTPS_PROXY") && !report.stdout.contains("hush"),
        "{report:?}"
    );
    let report = Report::of(fake.ssm(&["doctor"]).env("HTTPS_PROXY", "gopher://me:hush@p"));
    assert_eq!(report.failed(), ["network", "region"], "{report:?}");
    assert!(report.found("network").contains("HTTPS_PROXY is no URL") && !report.stdout.contains("hush"));
}

#[test]
fn what_is_denied_is_told_with_what_does_not_work() {
    let denied = |call: &str, request: &str| {
        let resource = match call {
            "StartSession" if request.contains(TARGET) => {
                "arn:aws:ec2:eu-west-1:1:instance/i-0123456789abcdef0"
            }
            "StartSession" => "arn:aws:ec2:eu-west-1:1:instance/i-00000000000000000",
            "GetCallerIdentity" | "GET" | "GetConnectionStatus" => return healthy(call, request),
            _ => "*",
        };
        let text =
            format!("User: u is not authorized to perform: ssm:{call} on resource: {resource} because");
        if call == "DescribeInstances" {
            let xml = "<Response><Errors><Error><Code>UnauthorizedOperation</Code><Message>no</Message></Error></Errors></Response>";
            return (403, xml.into());
        }
        (400, json!({ "__type": "AccessDeniedException", "message": text }).to_string())
    };
    let fake = Fake::start(denied);
    let report = Report::of(&mut fake.ssm(&["doctor", TARGET]));
    assert_eq!(report.failed(), ["ssm:StartSession"], "{report:?}");
    assert!(
        report.found("ssm:StartSession").starts_with("denied on i-0123456789abcdef0: User: u is not"),
        "{report:?}"
    );
    for check in [
        "ssm:ResumeSession",
        "ssm:TerminateSession",
        "ssm:DescribeSessions",
        "ssm:DescribeInstanceInformation",
    ] {
        assert_eq!(report.verdict(check), "warn", "{check}: {report:?}");
    }
    assert_eq!(report.found("documents"), "not known: your permissions do not allow ssm:DescribeDocument");
    assert_eq!(
        report.found("node"),
        "not known: your permissions do not allow ssm:DescribeInstanceInformation"
    );
    assert_eq!(report.verdict("connection"), "ok");
    if cfg!(feature = "lookup") {
        assert_eq!(report.found("ec2:DescribeInstances"), "denied: no");
    }
    // A machine that does not exist may be denied to those who may use theirs.
    let report = Report::of(&mut fake.ssm(&["doctor"]));
    assert_eq!((report.code, report.verdict("ssm:StartSession")), (0, "warn"), "{report:?}");
    // Sessions of one's own are those whose ids begin with one's name.
    let asked = fake.aws.asked_with("AmazonSSM.ResumeSession");
    assert!(asked[0].has(r#""SessionId":"ada-00000000000000000""#));
}

#[test]
fn permissions_for_certain_documents_say_nothing_of_a_machine() {
    let fake = Fake::start(|call, request| {
        if call != "StartSession" {
            return healthy(call, request);
        }
        let text = "User: u is not authorized to perform: ssm:StartSession on resource: \
            arn:aws:ssm:eu-west-1:1:document/ssm-doctor-asks-for-no-document because";
        (400, json!({ "__type": "AccessDeniedException", "message": text }).to_string())
    });
    let report = Report::of(&mut fake.ssm(&["doctor", TARGET]));
    assert_eq!((report.code, report.verdict("ssm:StartSession")), (0, "warn"), "{report:?}");
    assert!(report.advice("ssm:StartSession").contains("--document"), "{report:?}");
}

#[test]
fn credentials_that_are_not_accepted_fail_once() {
    let fake = Fake::start(|call, request| match call {
        "GET" => healthy(call, request),
        "GetCallerIdentity" => {
            (403, xml_error("ExpiredToken", "The security token included in the request is expired"))
        }
        _ => (400, json!({ "__type": "ExpiredTokenException", "message": "expired" }).to_string()),
    });
    let report = Report::of(&mut fake.ssm(&["doctor", TARGET]));
    assert_eq!(report.failed(), ["identity"], "{report:?}");
    assert!(report.found("identity").contains("ExpiredToken: The security token"), "{report:?}");
    assert_eq!(report.found("ssm:StartSession"), "not known: the credentials are not accepted, see identity");
}

#[test]
fn a_machine_that_is_gone_is_told() {
    let fake = Fake::start(|call, request| match call {
        "DescribeInstanceInformation" => (200, node("ConnectionLost", 7200, "2.3.700.0")),
        "GetConnectionStatus" => (200, json!({ "Target": TARGET, "Status": "notconnected" }).to_string()),
        _ => healthy(call, request),
    });
    let report = Report::of(&mut fake.ssm(&["doctor", TARGET]));
    assert_eq!(report.failed(), ["node", "connection"], "{report:?}");
    assert!(report.found("node").starts_with("ConnectionLost, last seen 120 min "), "{report:?}");
    assert!(report.advice("node").contains("AmazonSSMManagedInstanceCore"));
    assert_eq!(report.verdict("agent"), "warn");
    assert!(report.found("agent").starts_with("2.3.700.0: none of several connections"), "{report:?}");
    let fake = Fake::start(|call, request| match call {
        "DescribeInstanceInformation" => (200, r#"{"InstanceInformationList":[]}"#.into()),
        _ => healthy(call, request),
    });
    let report = Report::of(&mut fake.ssm(&["doctor", TARGET]));
    assert_eq!(report.failed(), ["node"], "{report:?}");
    assert_eq!(report.found("node"), "Systems Manager has no such node in eu-west-1");
    assert_eq!(report.found("agent"), "not known, see node");
}

#[test]
fn preferences_are_told_and_their_key_is_tried() {
    let body = r#"{"schemaVersion":"1.0","sessionType":"Standard_Stream","inputs":{"kmsKeyId":"alias/sessions",
        "s3BucketName":"audit","idleSessionTimeout":"5","runAsEnabled":true,"runAsDefaultUser":"ops"}}"#;
    let documents = vec![Document::from_json("SSM-SessionManagerRunShell", body).unwrap()];
    let here = Here::with(Config { documents, ..Config::default() });
    let kms = Fake::start(|call, request| {
        let has = |part: &str| request.contains(part);
        let is_dry = call == "GenerateDataKey" && has(r#""DryRun":true"#) && has(r#""NumberOfBytes":64"#);
        let is_ours =
            has(r#""aws:ssm:TargetId":"i-0123456789abcdef0""#) && has(r#""KeyId":"alias/sessions""#);
        match (call, is_dry && is_ours) {
            ("GET", _) => healthy(call, request),
            (_, true) => (412, r#"{"__type":"DryRunOperationException","message":"The request would have succeeded, but the DryRun option is set."}"#.into()),
            (_, false) => (400, r#"{"__type":"ValidationException","message":"not as a session asks"}"#.into()),
        }
    });
    let with = |kms: &Fake| Report::of(here.ssm(&["doctor", TARGET]).env("AWS_ENDPOINT_URL_KMS", kms.url()));
    let report = with(&kms);
    assert_eq!(report.code, 0, "{report:?}");
    assert_eq!(
        report.found("preferences"),
        "sessions are encrypted with alias/sessions, logged to the S3 bucket audit, ended when idle for 5 min, run as ops"
    );
    assert_eq!(report.found("kms:GenerateDataKey"), "allowed on alias/sessions");
    assert_eq!(report.facts("endpoint-kms")["url"], kms.url());
    for (code, found) in [
        ("AccessDeniedException", "denied on alias/sessions: the words of KMS"),
        ("NotFoundException", "alias/sessions cannot be used: NotFoundException: the words of KMS"),
        ("DisabledException", "alias/sessions cannot be used: DisabledException: the words of KMS"),
    ] {
        let refuses = Fake::start(move |call, request| match call {
            "GET" => healthy(call, request),
            _ => (400, json!({ "__type": code, "message": "the words of KMS" }).to_string()),
        });
        let report = with(&refuses);
        assert_eq!(report.failed(), ["kms:GenerateDataKey"], "{report:?}");
        assert_eq!(report.found("kms:GenerateDataKey"), found);
    }
}

#[test]
fn answers_that_nobody_knows_are_not_good() {
    let of = |answers: fn(&str, &str) -> (u16, String)| {
        let fake = Fake::start(answers);
        let report = |words: &[&str]| Report::of(fake.ssm(words).env("AWS_MAX_ATTEMPTS", "1"));
        [report(&["doctor"]), report(&["doctor", TARGET])]
    };
    for report in of(|call, request| match call {
        "GET" => healthy(call, request),
        _ => (500, json!({ "__type": "InternalFailure", "message": "odd" }).to_string()),
    }) {
        assert_eq!((report.code, report.failed()), (1, vec!["ssm:StartSession".to_owned()]), "{report:?}");
        assert_eq!(report.found("ssm:StartSession"), "it answers InternalFailure, odd");
        for check in ["identity", "ssm:ResumeSession", "ssm:DescribeSessions", "preferences", "documents"] {
            assert_eq!(report.verdict(check), "warn", "{check}: {report:?}");
        }
    }
    // As a region that is not enabled for the account.
    for report in of(|call, request| match call {
        "GET" | "GetCallerIdentity" => healthy(call, request),
        _ => (400, json!({ "__type": "UnrecognizedClientException", "message": "invalid" }).to_string()),
    }) {
        assert_eq!((report.code, report.failed()), (1, vec!["ssm:StartSession".to_owned()]), "{report:?}");
        assert!(report.advice("ssm:StartSession").contains("region may not be enabled"), "{report:?}");
    }
    // Another time it would have answered.
    for report in of(|call, request| match call {
        "StartSession" => (400, json!({ "__type": "ThrottlingException", "message": "slow" }).to_string()),
        _ => healthy(call, request),
    }) {
        assert_eq!((report.code, report.verdict("ssm:StartSession")), (0, "warn"), "{report:?}");
    }
}

#[test]
fn a_document_of_another_kind_is_told() {
    let fake = Fake::start(|call, request| match call {
        "DescribeDocument" if request.contains("AWS-StartSSHSession") => {
            (200, json!({ "Document": { "DocumentType": "Command", "Status": "Active" } }).to_string())
        }
        "DescribeDocument" if request.contains("ToRemoteHost") => {
            (400, r#"{"__type":"InvalidDocument","message":"no"}"#.into())
        }
        _ => healthy(call, request),
    });
    let report = Report::of(&mut fake.ssm(&["doctor"]));
    assert_eq!((report.code, report.verdict("documents")), (0, "warn"), "{report:?}");
    assert_eq!(
        report.found("documents"),
        "AWS-StartSSHSession is not for sessions but for Command; \
         AWS-StartPortForwardingSessionToRemoteHost is not in this region"
    );
    assert_eq!(
        report.advice("documents"),
        "without them there is no ssm proxy, no ssm forward to other hosts"
    );
}

#[test]
fn the_plugin_on_path_is_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    // Written by another process: a file that this one still has open, in a child of another test for one, does not run.
    let script = |name: &str, text: &str| {
        let path = folder.path().join(name);
        let write = "printf '#!/bin/sh\n%s\n' \"$1\" > \"$2\" && chmod 700 \"$2\"";
        let status = Command::new("sh").args(["-c", write, "sh", text]).arg(path).status().unwrap();
        assert!(status.success());
    };
    let fake = Fake::start(healthy);
    let path = format!("{}:/usr/bin:/bin", folder.path().display());
    let report = || Report::of(fake.ssm(&["doctor"]).env("PATH", &path));
    script("aws", "echo aws-cli/2.31.0 Python/3.13.7 Linux/6.1");
    script("ssh", "echo OpenSSH_9.9p2, OpenSSL 3.4.1 >&2");
    let none = report();
    assert_eq!(none.verdict("plugin"), "warn");
    assert!(none.advice("plugin").ends_with("ssm plugin install"), "{none:?}");
    assert_eq!(none.facts("aws-cli")["version"], "aws-cli/2.31.0");
    assert_eq!(none.facts("ssh")["version"], "OpenSSH_9.9p2");
    for (says, verdict, found) in [
        ("echo 1.2.814.0", "ok", "1.2.814.0, "),
        ("echo 1.2.677.0", "warn", "outdated"),
        ("echo installed", "warn", "for a version"),
        ("echo broken >&2; exit 3", "warn", "exit status: 3: broken"),
    ] {
        script("session-manager-plugin", says);
        let report = report();
        assert_eq!(report.verdict("plugin"), verdict, "{report:?}");
        assert!(report.found("plugin").contains(found), "{report:?}");
    }
    fs::remove_file(folder.path().join("session-manager-plugin")).unwrap();
    symlink(common::SSM, folder.path().join("session-manager-plugin")).unwrap();
    let ours = report();
    assert_eq!(ours.verdict("plugin"), "ok", "{ours:?}");
    assert!(ours.found("plugin").ends_with(", this program"), "{ours:?}");
}

/// What the command has found, by the name of the check.
struct Report {
    code: i32,
    checks: BTreeMap<String, Value>,
    order: Vec<String>,
    stdout: String,
}

impl fmt::Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "exit code {}\n{}", self.code, self.stdout)
    }
}

impl Report {
    fn of(command: &mut Command) -> Self {
        let outcome = common::Program::start(command.arg("--json")).wait();
        let lines: Vec<Value> =
            outcome.stdout.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
        let name = |line: &Value| line["check"].as_str().unwrap().to_owned();
        let order: Vec<String> = lines.iter().map(name).collect();
        let checks: BTreeMap<_, _> = lines.into_iter().map(|line| (name(&line), line)).collect();
        assert_eq!(checks.len(), order.len(), "every check has a name of its own");
        let code = outcome.status.code().unwrap_or_else(|| panic!("{outcome:?}"));
        Self { code, checks, order, stdout: outcome.stdout }
    }

    fn text(&self, check: &str, member: &str) -> &str {
        let line = self.checks.get(check).unwrap_or_else(|| panic!("no {check}: {self:?}"));
        line[member].as_str().unwrap_or_default()
    }

    fn verdict(&self, check: &str) -> &str {
        self.text(check, "verdict")
    }

    fn found(&self, check: &str) -> &str {
        self.text(check, "found")
    }

    fn advice(&self, check: &str) -> &str {
        self.text(check, "advice")
    }

    fn facts(&self, check: &str) -> &Value {
        &self.checks[check]["facts"]
    }

    fn failed(&self) -> Vec<String> {
        self.order.iter().filter(|name| self.verdict(name) == "fail").cloned().collect()
    }
}

/// All of AWS in one place.
struct Fake {
    aws: FakeAws,
}

impl Fake {
    /// `answers` gets the name of the operation, or `GET`, and the request; it gives a status and a body.
    fn start(answers: impl Fn(&str, &str) -> (u16, String) + Send + Sync + 'static) -> Self {
        Self::behind(Front::Plain, answers)
    }

    fn secure(
        answers: impl Fn(&str, &str) -> (u16, String) + Send + Sync + 'static,
        certificate: CertificateParams,
    ) -> Self {
        Self::behind(Front::Tls(certificate), answers)
    }

    fn behind(front: Front, answers: impl Fn(&str, &str) -> (u16, String) + Send + Sync + 'static) -> Self {
        let aws = FakeAws::behind(front, move |asked| answers(operation(asked), &asked.text));
        Self { aws: aws.at(0) }
    }

    /// With a clock that is this many seconds ahead of ours.
    fn at(self, ahead: i64) -> Self {
        Self { aws: self.aws.at(ahead) }
    }

    fn url(&self) -> String {
        self.aws.url()
    }

    fn ssm(&self, args: &[&str]) -> Command {
        let mut command = ssm(args);
        for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"] {
            command.env_remove(name).env_remove(name.to_lowercase());
        }
        command.env("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE").env("AWS_SECRET_ACCESS_KEY", SECRET);
        command.env("AWS_REGION", "eu-west-1").env("PATH", "/nonexistent");
        self.aws.apply(&mut command);
        command
    }
}

/// A certificate that is good for long.
fn good() -> CertificateParams {
    certificate(&["localhost", "*.eu-west-1.amazonaws.com"])
}

/// One that was good once.
fn over() -> CertificateParams {
    let mut certificate = good();
    certificate.not_before = rcgen::date_time_ymd(1999, 1, 1);
    certificate.not_after = rcgen::date_time_ymd(2000, 1, 1);
    certificate
}

/// A file of an authority that has nothing to do with the service.
fn other_authority(folder: &Path) -> PathBuf {
    let path = folder.join("other.pem");
    certified(&good(), "Somebody Else", &path);
    path
}

/// `StartSession` of `X-Amz-Target: AmazonSSM.StartSession`, or of `Action=StartSession&...`.
fn operation(asked: &Asked) -> &str {
    let action = || asked.text.split_once("Action=")?.1.split('&').next();
    asked.operation().or_else(action).unwrap_or("GET")
}

/// An account in which everything is allowed.
fn healthy(call: &str, request: &str) -> (u16, String) {
    let error = |code: &str| (400, json!({ "__type": code, "message": "no" }).to_string());
    match call {
        "GET" => (404, String::new()),
        "GetCallerIdentity" => (
            200,
            "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><GetCallerIdentityResult>\
             <Arn>arn:aws:sts::123456789012:assumed-role/Admin/ada</Arn><UserId>AROA:ada</UserId>\
             <Account>123456789012</Account></GetCallerIdentityResult></GetCallerIdentityResponse>"
                .into(),
        ),
        "StartSession" if request.contains("DocumentName") => error("InvalidDocument"),
        "StartSession" => error("TargetNotConnected"),
        "ResumeSession" | "TerminateSession" => error("DoesNotExistException"),
        "DescribeSessions" => (200, r#"{"Sessions":[]}"#.into()),
        "DescribeInstanceInformation" => (200, node("Online", 60, "3.3.987.0")),
        "GetConnectionStatus" => (200, json!({ "Target": TARGET, "Status": "connected" }).to_string()),
        "DescribeDocument" if request.contains(r#""Name":"Own""#) => error("InvalidDocument"),
        "DescribeDocument" => {
            (200, json!({ "Document": { "DocumentType": "Session", "Status": "Active", "Owner": "Amazon" } }).to_string())
        }
        "DescribeInstances" => (
            412,
            "<Response><Errors><Error><Code>DryRunOperation</Code><Message>Request would have succeeded</Message>\
             </Error></Errors><RequestID>r</RequestID></Response>"
                .into(),
        ),
        _ => error("InvalidDocument"),
    }
}

fn xml_error(code: &str, message: &str) -> String {
    format!(
        "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error></ErrorResponse>"
    )
}

/// A list of one node that was seen this many seconds ago.
fn node(status: &str, seen: u64, agent: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let node = json!({
        "InstanceId": TARGET, "PingStatus": status, "LastPingDateTime": now - seen, "AgentVersion": agent,
        "PlatformType": "Linux", "PlatformName": "Amazon Linux", "PlatformVersion": "2023", "IPAddress": "10.0.0.5",
    });
    json!({ "InstanceInformationList": [node] }).to_string()
}
