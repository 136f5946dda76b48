//! Roles, codes of a second factor, and where first credentials come from, with AWS played by a port of this machine.

#![cfg(feature = "aws")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use self::common::fake_aws::{Asked, FakeAws, Home, denied, role, sts_error};
use self::common::{OnTerminal, Program, SSM};

const TARGET: &str = "i-0123456789abcdef0";

const DEVICE: &str = "arn:aws:iam::123456789012:mfa/me";

const ROLES: &str = "[profile base]\naws_access_key_id=AKIDBASE\naws_secret_access_key=s\n\
    [profile mfa]\nrole_arn=arn:aws:iam::123456789012:role/MFA\nsource_profile=base\n\
    mfa_serial=arn:aws:iam::123456789012:mfa/me\nduration_seconds=900\nexternal_id=ext-1\n\
    [profile next]\nrole_arn=arn:aws:iam::123456789012:role/NEXT\nsource_profile=mfa\n\
    [profile far]\nrole_arn=arn:aws:iam::123456789012:role/FAR\nsource_profile=next\nrole_session_name=me\n\
    [profile long]\nrole_arn=arn:aws:iam::123456789012:role/LONG\nsource_profile=base\nduration_seconds=43200\n\
    [profile forbidden]\nrole_arn=arn:aws:iam::123456789012:role/FORBIDDEN\nsource_profile=base\n\
    [profile container]\nrole_arn=arn:aws:iam::123456789012:role/CONTAINER\ncredential_source=EcsContainer\n\
    [profile instance]\nrole_arn=arn:aws:iam::123456789012:role/INSTANCE\ncredential_source=Ec2InstanceMetadata\n\
    [profile environment]\nrole_arn=arn:aws:iam::123456789012:role/ENVIRONMENT\ncredential_source=Environment\n\
    [profile web]\nrole_arn=arn:aws:iam::123456789012:role/WEB\nweb_identity_token_file=TOKEN\n\
    [profile behind]\nrole_arn=arn:aws:iam::123456789012:role/BEHIND\nsource_profile=web\n\
    [profile itself]\nrole_arn=arn:aws:iam::123456789012:role/ITSELF\nsource_profile=itself\n\
    aws_access_key_id=AKIDITSELF\naws_secret_access_key=s\n\
    [profile elsewhere]\naws_access_key_id=AKIDBASE\naws_secret_access_key=s\nservices=mine\n\
    [services mine]\nssm =\n  endpoint_url = URL\n";

#[test]
fn a_code_is_asked_for_on_the_terminal_and_once() {
    let (aws, home) = (aws(), Home::new(ROLES));
    let mut shell = OnTerminal::with_stdout(&shell(&home, &aws, "mfa"), 200);
    shell.until(|text| text.contains("role/MFA: ").then_some(()));
    // The first code is wrong.
    shell.keys("000000\r");
    shell.until(|text| text.contains("not taken").then_some(()));
    shell.until(|text| (text.matches("role/MFA: ").count() == 2).then_some(()));
    shell.keys("65433\x7f21\r");
    let said = shell.wait().stderr;
    assert!(
        said.contains(&format!("ssm: code of {DEVICE} for arn:aws:iam::123456789012:role/MFA: ")),
        "{said}"
    );
    assert!(!said.contains("654321") && !said.contains("000000"), "{said}");
    assert!(said.contains("denied: your permissions"), "{said}");
    assert_eq!(started(&aws), ["AKIDMFA"]);
    let asked = aws.asked_with("Action=AssumeRole");
    assert_eq!(asked.iter().map(Asked::key).collect::<Vec<_>>(), ["AKIDBASE", "AKIDBASE"]);
    for part in [
        "SerialNumber=arn%3Aaws%3Aiam%3A%3A123456789012%3Amfa%2Fme",
        "DurationSeconds=900",
        "ExternalId=ext-1",
    ] {
        assert!(asked[1].has(part), "{part}: {asked:?}");
    }
    let kept = fs::read_dir(home.file(".aws/cli/cache")).unwrap().next().unwrap().unwrap();
    assert_eq!(kept.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    // Neither the next command nor one of a role behind it asks, nor does the AWS CLI.
    assert!(without_terminal(&home, &aws, "mfa").contains("denied: your permissions"));
    without_terminal(&home, &aws, "far");
    assert_eq!(started(&aws), ["AKIDMFA", "AKIDMFA", "AKIDFAR"]);
    let asked = aws.asked_with("Action=AssumeRole");
    assert_eq!(asked[2..].iter().map(Asked::key).collect::<Vec<_>>(), ["AKIDMFA", "AKIDNEXT"]);
    assert!(asked[3].has("RoleSessionName=me"));
    let identity = Program::start(&mut cli(&home, &aws, "mfa")).wait();
    assert_eq!(identity.stdout.trim(), "AKIDMFA", "{}", identity.stderr);
    assert_eq!(aws.asked_with("Action=AssumeRole").len(), asked.len());
}

#[test]
fn what_the_aws_cli_was_given_for_a_code_is_used() {
    let (aws, home) = (aws(), Home::new(ROLES));
    let mut cli = OnTerminal::with_stdout(&cli(&home, &aws, "mfa"), 200);
    cli.until(|text| text.contains(&format!("Enter MFA code for {DEVICE}:")).then_some(()));
    cli.keys("654321\n");
    let outcome = cli.wait();
    assert!(outcome.stderr.contains("AKIDMFA"), "{}", outcome.stderr);
    without_terminal(&home, &aws, "mfa");
    assert_eq!(started(&aws), ["AKIDMFA"]);
    assert_eq!(aws.asked_with("Action=AssumeRole").len(), 1);
}

#[test]
fn where_nobody_can_be_asked_for_a_code_that_is_said() {
    let (aws, home) = (aws(), Home::new(ROLES));
    let said = without_terminal(&home, &aws, "next");
    assert!(
        said.contains(&format!("a code of the device {DEVICE}")) && said.contains("no terminal"),
        "{said}"
    );
    assert!(aws.asked("").is_empty());
}

#[test]
fn a_question_can_be_left() {
    let (aws, home) = (aws(), Home::new(ROLES));
    let mut shell = OnTerminal::with_stdout(&shell(&home, &aws, "mfa"), 200);
    shell.until(|text| text.contains("role/MFA: ").then_some(()));
    shell.keys("12\x03");
    assert!(!shell.wait().status.success());
    assert!(aws.asked("").is_empty());
}

#[test]
fn credentials_that_the_service_does_not_take_are_not_kept() {
    let home = Home::new(ROLES);
    let aws = FakeAws::start(|asked| match asked.has("AmazonSSM.StartSession") && asked.key() == "AKIDMFA" {
        true => (400, r#"{"__type":"ExpiredTokenException","message":"it is expired"}"#.into()),
        false => answer(asked),
    });
    let mut shell = OnTerminal::with_stdout(&shell(&home, &aws, "mfa"), 200);
    shell.until(|text| text.contains("role/MFA: ").then_some(()));
    shell.keys("654321\r");
    let said = shell.wait().stderr;
    assert!(said.contains("have expired"), "{said}");
    assert_eq!(fs::read_dir(home.file(".aws/cli/cache")).unwrap().count(), 0);
}

#[test]
fn the_duration_of_a_role_is_asked_for() {
    let (aws, home) = (aws(), Home::new(ROLES));
    without_terminal(&home, &aws, "long");
    assert_eq!(started(&aws), ["AKIDLONG"]);
    assert!(aws.asked_with("Action=AssumeRole")[0].has("DurationSeconds=43200"));
    // Only what took a code is kept.
    assert!(!home.file(".aws/cli").exists());
}

#[test]
fn a_role_that_may_not_be_assumed_is_named_with_the_action() {
    let (aws, home) = (aws(), Home::new(ROLES));
    let said = without_terminal(&home, &aws, "forbidden");
    assert!(said.contains("may not do sts:AssumeRole on arn:aws:iam::123456789012:role/FORBIDDEN"), "{said}");
}

#[test]
fn first_credentials_come_from_a_container_an_instance_or_the_environment() {
    let (aws, home) = (aws(), Home::new(ROLES));
    let uri = format!("{}/container", aws.url());
    let container = [("AWS_CONTAINER_CREDENTIALS_FULL_URI", uri.as_str())];
    let url = aws.url();
    let instance =
        [("AWS_EC2_METADATA_DISABLED", "false"), ("AWS_EC2_METADATA_SERVICE_ENDPOINT", url.as_str())];
    let keys = [("AWS_ACCESS_KEY_ID", "AKIDKEYS"), ("AWS_SECRET_ACCESS_KEY", "s")];
    let run = |profile: Option<&str>, vars: &[(&str, &str)]| {
        let mut command = shell_of(&home, &aws, profile);
        let said = Program::start(command.envs(vars.iter().copied())).wait().stderr;
        started(&aws).pop().unwrap_or(said)
    };
    assert_eq!(run(None, &container), "AKIDTASK");
    assert_eq!(run(None, &instance), "AKIDMACHINE");
    assert_eq!(run(None, &keys), "AKIDKEYS");
    assert_eq!(run(Some("container"), &container), "AKIDCONTAINER");
    assert_eq!(run(Some("instance"), &instance), "AKIDINSTANCE");
    assert_eq!(run(Some("environment"), &keys), "AKIDENVIRONMENT");
    assert_eq!(run(Some("itself"), &[]), "AKIDITSELF");
    let assumed = aws.asked_with("Action=AssumeRole");
    let sources: Vec<_> = assumed.iter().map(Asked::key).collect();
    assert_eq!(sources, ["AKIDTASK", "AKIDMACHINE", "AKIDKEYS", "AKIDITSELF"]);
}

#[test]
fn keys_of_aws_vault_are_used_as_they_are() {
    let (aws, home) = (aws(), Home::new(ROLES));
    let config = home.file("config.toml");
    fs::write(&config, "[defaults]\nprofile = 'base'\n").unwrap();
    let run = |args: &[&str], vars: &[(&str, &str)]| {
        let mut command =
            common::ssm(&[&["shell", TARGET, "--config", config.to_str().unwrap()], args].concat());
        home.apply(&mut command);
        aws.apply(&mut command);
        command.env("AWS_ACCESS_KEY_ID", "AKIDVAULT").env("AWS_SECRET_ACCESS_KEY", "s");
        Program::start(command.envs(vars.iter().copied())).wait();
        started(&aws).pop().unwrap()
    };
    assert_eq!(run(&[], &[]), "AKIDBASE");
    assert_eq!(run(&[], &[("AWS_VAULT", "prod")]), "AKIDVAULT");
    assert_eq!(run(&["--profile", "base"], &[("AWS_VAULT", "prod")]), "AKIDBASE");
}

#[test]
fn endpoints_are_read_from_flags_variables_configurations_and_services() {
    let (all, mine) = (aws(), aws());
    let home = Home::new("");
    let token = home.file("token");
    fs::write(&token, "a.b.c").unwrap();
    let config = ROLES.replace("URL", &mine.url()).replace("TOKEN", token.to_str().unwrap());
    fs::write(home.file(".aws/config"), config).unwrap();
    let url = mine.url();
    let run = |args: &[&str], vars: &[(&str, &str)], profile: &str| {
        let before = [mine.asked("").len(), all.asked("").len()];
        let mut command = common::ssm(&[&["shell", TARGET, "--profile", profile], args].concat());
        home.apply(&mut command);
        command.envs(vars.iter().copied());
        let said = Program::start(&mut command).wait().stderr;
        assert!(said.contains("denied"), "{said}");
        [mine.asked("").len() - before[0], all.asked("").len() - before[1]]
    };
    let everything = all.url();
    let everywhere = ("AWS_ENDPOINT_URL", everything.as_str());
    // AssumeRole and StartSession.
    assert_eq!(run(&[], &[everywhere], "long"), [0, 2]);
    let sts = format!("sts={url}");
    assert_eq!(run(&["--endpoint", &sts], &[everywhere], "long"), [1, 1]);
    assert_eq!(run(&[], &[everywhere, ("AWS_ENDPOINT_URL_STS", &url)], "long"), [1, 1]);
    assert_eq!(run(&[], &[everywhere, ("SSM_ENDPOINTS_STS", &url)], "long"), [1, 1]);
    // AssumeRoleWithWebIdentity, which the SDK sends, AssumeRole and StartSession.
    assert_eq!(run(&[], &[everywhere], "behind"), [0, 3]);
    assert_eq!(run(&["--endpoint", &sts], &[everywhere], "behind"), [2, 1]);
    assert_eq!(started(&all).last().unwrap(), "AKIDBEHIND");
    let config = home.file("config.toml");
    fs::write(&config, format!("[defaults]\nendpoint-url = '{url}'\n[defaults.endpoints]\nsts = '{url}'\n"))
        .unwrap();
    assert_eq!(run(&["--config", config.to_str().unwrap()], &[everywhere], "long"), [2, 0]);
    assert_eq!(run(&[], &[], "elsewhere"), [1, 0]);
}

/// The access keys that sessions were asked for with.
fn started(aws: &FakeAws) -> Vec<String> {
    let asked = aws.asked_with("AmazonSSM.StartSession");
    asked.iter().map(|asked| asked.key().to_owned()).collect()
}

fn aws() -> FakeAws {
    FakeAws::start(answer)
}

fn answer(asked: &Asked) -> (u16, String) {
    let json = |key: &str| {
        let until = "2999-01-01T00:00:00Z";
        let keys =
            format!(r#""AccessKeyId":"{key}","SecretAccessKey":"s","Token":"t","Expiration":"{until}""#);
        (
            200,
            format!(r#"{{"Code":"Success","Type":"AWS-HMAC","LastUpdated":"2020-01-01T00:00:00Z",{keys}}}"#),
        )
    };
    match asked.line.as_str() {
        "GET /container" => return json("AKIDTASK"),
        "PUT /latest/api/token" => return (200, "token".into()),
        "GET /latest/meta-data/iam/security-credentials/" => return (200, "machine".into()),
        "GET /latest/meta-data/iam/security-credentials/machine" => return json("AKIDMACHINE"),
        _ => {}
    }
    if asked.has("Action=GetCallerIdentity") {
        let key = asked.key();
        return (
            200,
            format!(
                "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><GetCallerIdentityResult>\
                 <Arn>{key}</Arn><UserId>u</UserId><Account>1</Account></GetCallerIdentityResult></GetCallerIdentityResponse>"
            ),
        );
    }
    if asked.has("Action=AssumeRoleWithWebIdentity") {
        let answer = role("AKIDWEB", "s", "2999-01-01T00:00:00Z");
        return (200, answer.replace("AssumeRoleRes", "AssumeRoleWithWebIdentityRes"));
    }
    let Some(name) = asked.text.split_once("role%2F").map(|(_, rest)| rest) else { return denied() };
    let name = name.split('&').next().unwrap();
    if name == "FORBIDDEN" {
        let message = "User: u is not authorized to perform: sts:AssumeRole on resource: r";
        return sts_error("AccessDenied", message);
    }
    // As STS says it.
    if asked.has("SerialNumber=") && !asked.has("TokenCode=654321") {
        return sts_error(
            "AccessDenied",
            "MultiFactorAuthentication failed with invalid MFA one time pass code. ",
        );
    }
    (200, role(&format!("AKID{name}"), "s", "2999-01-01T00:00:00Z"))
}

fn shell(home: &Home, aws: &FakeAws, profile: &str) -> Command {
    shell_of(home, aws, Some(profile))
}

fn shell_of(home: &Home, aws: &FakeAws, profile: Option<&str>) -> Command {
    let mut args = vec!["shell", TARGET];
    if let Some(profile) = profile {
        args.extend(["--profile", profile]);
    }
    let mut command = common::ssm(&args);
    home.apply(&mut command);
    aws.apply(&mut command);
    command
}

/// What a shell says that was started by a program, whatever terminal the tests have.
fn without_terminal(home: &Home, aws: &FakeAws, profile: &str) -> String {
    let shell = shell(home, aws, profile);
    let mut command = Command::new("setsid");
    command.args(["--wait", SSM]).args(shell.get_args());
    for (name, value) in shell.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    Program::start(&mut command).wait().stderr
}

/// The AWS CLI, which shows the access key that it signs with.
fn cli(home: &Home, aws: &FakeAws, profile: &str) -> Command {
    let program: PathBuf = std::env::var_os("SSM_TEST_AWS").expect("run cargo xtask setup").into();
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("AWS_") {
            command.env_remove(name);
        }
    }
    home.apply(&mut command);
    aws.apply(&mut command);
    command.args(["sts", "get-caller-identity", "--query", "Arn", "--output", "text", "--profile", profile]);
    command
}
