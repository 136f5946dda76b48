//! Signing on with IAM Identity Center, which is played by a port of this machine; the token is shared with the AWS CLI.

#![cfg(feature = "aws")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use self::common::fake_aws::{Asked, FakeAws, Home, denied};
use self::common::{OnTerminal, Outcome, Program};

const TARGET: &str = "i-0123456789abcdef0";

const CONFIG: &str = "[profile corp]\nsso_session=corp\nsso_account_id=123456789012\nsso_role_name=Dev\n\
    [sso-session corp]\nsso_region=eu-west-1\nsso_start_url=https://corp.example/start\n\
    sso_registration_scopes=sso:account:access\n\
    [profile old]\nsso_start_url=https://old.example/start\nsso_region=eu-west-1\nsso_account_id=123456789012\n\
    sso_role_name=Dev\n\
    [profile role]\nrole_arn=arn:aws:iam::1:role/R\nsource_profile=corp\n\
    [profile keys]\naws_access_key_id=K\naws_secret_access_key=s\n";

/// `printf corp | sha1sum`, `printf https://old.example/start | sha1sum`
const CORP_TOKEN: &str = ".aws/sso/cache/ee0bfd2552fbd840c02cc48b6e823320543c450f.json";
const OLD_TOKEN: &str = ".aws/sso/cache/103c764598c7bfb84492cce4b625216b27775ddd.json";

#[test]
fn a_sign_on_is_good_for_this_program_and_for_the_aws_cli() {
    let (center, home) = (Center::start(&["AuthorizationPendingException"]), Home::new(CONFIG));
    let said = login(&home, &center, &["--profile", "corp"]);
    assert!(said.status.success(), "{}", said.stderr);
    assert!(said.stdout.is_empty(), "{}", said.stdout);
    assert!(said.stderr.contains("https://device.example/?user_code=ABCD-EFGH"), "{}", said.stderr);
    assert!(said.stderr.contains("shows the code ABCD-EFGH"), "{}", said.stderr);
    assert!(said.stderr.contains("signed on with corp for 8 h"), "{}", said.stderr);
    let token = home.file(CORP_TOKEN);
    assert_eq!(token.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let kept: Value = serde_json::from_str(&fs::read_to_string(token).unwrap()).unwrap();
    for (key, value) in [
        ("accessToken", "good"),
        ("region", "eu-west-1"),
        ("startUrl", "https://corp.example/start"),
        ("clientId", "client-1"),
        ("clientSecret", "hush"),
        ("registrationExpiresAt", "2999-01-01T00:00:00Z"),
        ("refreshToken", "again"),
    ] {
        assert_eq!(kept[key], value, "{key}");
    }
    assert!(kept["expiresAt"].as_str().unwrap().ends_with('Z'));
    assert_eq!(cli_identity(&home, &center, "corp"), "AKIDSSO");
    assert_eq!(shell(&home, &center, &["--profile", "corp"]).0, "AKIDSSO");
    // The program is known from the first time.
    assert!(login(&home, &center, &["--profile", "corp", "--force"]).status.success());
    assert_eq!(center.fake.asked("POST /client/register").len(), 1);
    let register = &center.fake.asked("POST /client/register")[0];
    assert!(register.has(r#""scopes":["sso:account:access"]"#) && register.has("public"), "{register:?}");
}

#[test]
fn the_older_form_of_a_profile_is_signed_on_with_as_well() {
    let (center, home) = (Center::start(&[]), Home::new(CONFIG));
    let said = login(&home, &center, &["--profile", "old"]);
    assert!(said.status.success(), "{}", said.stderr);
    assert!(home.file(OLD_TOKEN).exists());
    assert_eq!(cli_identity(&home, &center, "old"), "AKIDSSO");
    assert_eq!(shell(&home, &center, &["--profile", "old"]).0, "AKIDSSO");
}

#[test]
fn a_role_behind_a_sign_on_and_a_session_by_name_are_signed_on_with() {
    let (center, home) = (Center::start(&[]), Home::new(CONFIG));
    assert!(login(&home, &center, &["--profile", "role"]).status.success());
    assert!(home.file(CORP_TOKEN).exists());
    let logout = run(&home, &center, &["logout", "--profile", "role"]);
    assert!(logout.status.success() && !home.file(CORP_TOKEN).exists(), "{}", logout.stderr);
    let again = run(&home, &center, &["logout", "--sso-session", "corp"]);
    assert!(again.stderr.contains("was not there"), "{}", again.stderr);
    assert!(login(&home, &center, &["--sso-session", "corp"]).status.success());
    assert!(home.file(CORP_TOKEN).exists());
}

#[test]
fn a_token_that_the_aws_cli_has_renewed_is_used() {
    let (center, home) = (Center::start(&[]), Home::new(CONFIG));
    expired(&home, "again");
    assert_eq!(cli_identity(&home, &center, "corp"), "AKIDSSO");
    let renewed = fs::read_to_string(home.file(CORP_TOKEN)).unwrap();
    assert!(renewed.contains("good"), "{renewed}");
    let asked = center.fake.asked("POST /token").len();
    assert_eq!(shell(&home, &center, &["--profile", "corp"]).0, "AKIDSSO");
    assert_eq!(center.fake.asked("POST /token").len(), asked, "nothing is to be renewed");
}

#[test]
fn a_sign_on_is_renewed_without_a_browser_where_that_can_be() {
    let (center, home) = (Center::start(&[]), Home::new(CONFIG));
    expired(&home, "again");
    let said = login(&home, &center, &["--profile", "corp"]);
    assert!(said.status.success() && said.stderr.contains("renewed"), "{}", said.stderr);
    assert!(center.fake.asked("POST /device_authorization").is_empty());
    // And one whose renewal is refused begins anew.
    expired(&home, "stale");
    let said = login(&home, &center, &["--profile", "corp"]);
    assert!(said.status.success() && said.stderr.contains("ABCD-EFGH"), "{}", said.stderr);
}

#[test]
fn a_shell_renews_a_sign_on_by_itself() {
    let (center, home) = (Center::start(&[]), Home::new(CONFIG));
    expired(&home, "again");
    assert_eq!(shell(&home, &center, &["--profile", "corp"]).0, "AKIDSSO");
    assert!(fs::read_to_string(home.file(CORP_TOKEN)).unwrap().contains("good"));
}

#[test]
fn the_service_says_how_often_it_is_asked_and_when_it_is_over() {
    let home = Home::new(CONFIG);
    let center = Center::start(&["SlowDownException", "ExpiredTokenException"]);
    let start = Instant::now();
    let said = login(&home, &center, &["--profile", "corp"]);
    assert!(!said.status.success() && said.stderr.contains("not used in time"), "{}", said.stderr);
    // One second, then five more.
    assert!(start.elapsed() >= Duration::from_secs(7), "{:?}", start.elapsed());
    assert!(!home.file(CORP_TOKEN).exists());
}

#[test]
fn a_refusal_in_the_browser_is_told() {
    let (center, home) = (Center::start(&["AccessDeniedException"]), Home::new(CONFIG));
    let said = login(&home, &center, &["--profile", "corp"]);
    assert!(!said.status.success() && said.stderr.contains("denied in the browser"), "{}", said.stderr);
}

#[test]
fn a_client_that_the_service_has_forgotten_is_registered_again() {
    let (center, home) = (Center::start(&[]), Home::new(CONFIG));
    assert!(login(&home, &center, &["--profile", "corp"]).status.success());
    *center.forgotten.lock().unwrap() = true;
    let said = login(&home, &center, &["--profile", "corp", "--force"]);
    assert!(said.status.success(), "{}", said.stderr);
    assert_eq!(center.fake.asked("POST /client/register").len(), 2);
}

#[test]
fn what_has_no_sign_on_is_told() {
    let (center, home) = (Center::start(&[]), Home::new(CONFIG));
    let told = |args: &[&str]| {
        let said = login(&home, &center, args);
        assert!(!said.status.success());
        said.stderr
    };
    assert!(told(&["--profile", "keys"]).contains("the profile keys has no single sign-on"));
    assert!(told(&["--profile", "nowhere"]).contains("no such profile"));
    assert!(told(&["--sso-session", "nowhere"]).contains("no [sso-session nowhere]"));
    assert!(told(&[]).contains("has no single sign-on"));
    assert!(center.fake.asked("").is_empty());
}

#[test]
fn the_page_is_opened_on_a_desktop_and_nobody_waits_for_the_browser() {
    let (center, home) = (Center::start(&[]), Home::new(CONFIG));
    let browser = home.file("xdg-open");
    // It stays longer than any test waits for a program.
    fs::write(&browser, "#!/bin/sh\necho $$ > \"$0.pid\"\necho \"$1\" > \"$0.log\"\nexec sleep 100\n")
        .unwrap();
    fs::set_permissions(&browser, fs::Permissions::from_mode(0o700)).unwrap();
    let path = format!("{}:{}", home.file("").display(), std::env::var("PATH").unwrap());
    let opened = home.file("xdg-open.log");
    let run = |more: &[&str], vars: &[(&str, &str)]| {
        let _ = fs::remove_file(&opened);
        let mut command = ssm(&home, &center, &[&["login", "--profile", "corp", "--force"], more].concat());
        let said = Program::start(command.env("PATH", &path).envs(vars.iter().copied())).wait();
        assert!(said.status.success(), "{}", said.stderr);
        fs::read_to_string(&opened).ok()
    };
    let url = "https://device.example/?user_code=ABCD-EFGH\n";
    assert_eq!(run(&[], &[("DISPLAY", ":0")]).as_deref(), Some(url));
    let pid = fs::read_to_string(home.file("xdg-open.pid")).unwrap();
    let pid = Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
    kill_process(pid, Signal::KILL).expect("the browser is still there");
    assert_eq!(run(&["--no-browser"], &[("DISPLAY", ":0")]), None);
    assert_eq!(run(&[], &[("DISPLAY", ":0"), ("SSH_CONNECTION", "a 1 b 22")]), None);
    assert_eq!(run(&[], &[]), None);
}

#[test]
fn on_a_terminal_a_command_offers_to_sign_on_and_goes_on() {
    let (center, home) = (Center::start(&[]), Home::new(CONFIG));
    let mut shell =
        OnTerminal::with_stdout(&ssm(&home, &center, &["shell", TARGET, "--profile", "corp"]), 200);
    shell.until(|text| text.contains("sign on? [Y/n]").then_some(()));
    shell.keys("\n");
    shell.until(|text| text.contains("ABCD-EFGH").then_some(()));
    let outcome = shell.wait();
    assert!(outcome.stderr.contains("denied: your permissions"), "{}", outcome.stderr);
    assert_eq!(center.keys(), ["AKIDSSO"]);
    assert!(home.file(CORP_TOKEN).exists());
}

#[test]
fn an_offer_can_be_turned_down_and_is_not_made_without_a_terminal() {
    let (center, home) = (Center::start(&[]), Home::new(CONFIG));
    let mut shell =
        OnTerminal::with_stdout(&ssm(&home, &center, &["shell", TARGET, "--profile", "corp"]), 200);
    shell.until(|text| text.contains("sign on? [Y/n]").then_some(()));
    shell.keys("n\n");
    let outcome = shell.wait();
    assert!(outcome.stderr.contains("run `ssm login --profile corp`"), "{}", outcome.stderr);
    let said = self::shell(&home, &center, &["--profile", "corp"]).1;
    assert!(said.contains("run `ssm login --profile corp`") && !said.contains("[Y/n]"), "{said}");
    assert!(center.fake.asked("").is_empty());
}

#[test]
fn endpoints_of_flags_go_before_those_of_the_environment() {
    let (center, other, home) = (Center::start(&[]), Center::start(&[]), Home::new(CONFIG));
    let (sso, oidc) = (format!("sso={}", other.fake.url()), format!("sso-oidc={}", other.fake.url()));
    let said = login(&home, &center, &["--profile", "corp", "--endpoint", &oidc]);
    assert!(said.status.success(), "{}", said.stderr);
    assert!(center.fake.asked("").is_empty() && other.fake.asked("POST /token").len() == 1);
    let (key, _) = shell(&home, &center, &["--profile", "corp", "--endpoint", &sso]);
    assert_eq!(key, "AKIDSSO");
    assert!(center.fake.asked("GET /federation").is_empty());
    assert_eq!(other.fake.asked("GET /federation").len(), 1);
}

/// IAM Identity Center, STS, and a Systems Manager that refuses everybody.
struct Center {
    fake: FakeAws,
    forgotten: std::sync::Arc<Mutex<bool>>,
}

impl Center {
    /// One that answers `refusals` before it gives a token.
    fn start(refusals: &[&'static str]) -> Self {
        let refusals = Mutex::new(refusals.iter().rev().copied().collect::<Vec<_>>());
        let forgotten = std::sync::Arc::new(Mutex::new(false));
        let forgets = std::sync::Arc::clone(&forgotten);
        let registered = Mutex::new(0);
        let fake = FakeAws::start(move |asked: &Asked| {
            let refuse =
                |code: &str| (400, json!({ "__type": code, "error": code, "message": "no" }).to_string());
            match asked.line.as_str() {
                "POST /client/register" => {
                    let mut registered = registered.lock().unwrap();
                    *registered += 1;
                    *forgets.lock().unwrap() = false;
                    let client = format!("client-{registered}");
                    (200, json!({ "clientId": client, "clientSecret": "hush", "clientSecretExpiresAt": 32_472_144_000_u64 }).to_string())
                }
                "POST /device_authorization" if *forgets.lock().unwrap() => refuse("InvalidClientException"),
                "POST /device_authorization" => (
                    200,
                    json!({
                        "deviceCode": "device", "userCode": "ABCD-EFGH", "interval": 1, "expiresIn": 600,
                        "verificationUri": "https://device.example/",
                        "verificationUriComplete": "https://device.example/?user_code=ABCD-EFGH",
                    })
                    .to_string(),
                ),
                "POST /token" if asked.has("stale") => refuse("InvalidGrantException"),
                "POST /token" => match refusals.lock().unwrap().pop() {
                    Some(refusal) => refuse(refusal),
                    None => (200, json!({ "accessToken": "good", "expiresIn": 28_800, "refreshToken": "again", "tokenType": "Bearer" }).to_string()),
                },
                line if line.starts_with("GET /federation/credentials") => {
                    let text = asked.text.to_ascii_lowercase();
                    if text.contains("x-amz-sso_bearer_token: good") {
                        (200, json!({ "roleCredentials": { "accessKeyId": "AKIDSSO", "secretAccessKey": "s", "sessionToken": "t", "expiration": 32_472_144_000_000_u64 } }).to_string())
                    } else {
                        (401, json!({ "__type": "UnauthorizedException", "message": "Session token not found or invalid" }).to_string())
                    }
                }
                _ if asked.has("Action=GetCallerIdentity") => {
                    let key = asked.key();
                    (200, format!("<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><GetCallerIdentityResult><Arn>{key}</Arn><UserId>u</UserId><Account>1</Account></GetCallerIdentityResult></GetCallerIdentityResponse>"))
                }
                _ => denied(),
            }
        });
        Self { fake, forgotten }
    }

    /// The access keys that signed requests to Systems Manager.
    fn keys(&self) -> Vec<String> {
        let asked = self.fake.asked_with("AmazonSSM.StartSession");
        asked.iter().map(|asked| asked.key().to_owned()).collect()
    }
}

fn ssm(home: &Home, center: &Center, args: &[&str]) -> Command {
    let mut command = common::ssm(args);
    home.apply(&mut command);
    center.fake.apply(&mut command);
    command
}

fn run(home: &Home, center: &Center, args: &[&str]) -> Outcome {
    Program::start(&mut ssm(home, center, args)).wait()
}

fn login(home: &Home, center: &Center, args: &[&str]) -> Outcome {
    run(home, center, &[&["login"], args].concat())
}

/// The access key that a shell was asked for with, and what was said.
fn shell(home: &Home, center: &Center, args: &[&str]) -> (String, String) {
    let outcome = run(home, center, &[&["shell", TARGET], args].concat());
    assert!(!outcome.status.success());
    (center.keys().pop().unwrap_or_default(), outcome.stderr)
}

/// The access key that the AWS CLI signs with.
fn cli_identity(home: &Home, center: &Center, profile: &str) -> String {
    let mut command = Command::new(aws_cli());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("AWS_") {
            command.env_remove(name);
        }
    }
    home.apply(&mut command);
    center.fake.apply(&mut command);
    command.args(["sts", "get-caller-identity", "--query", "Arn", "--output", "text", "--profile", profile]);
    let outcome = Program::start(&mut command).wait();
    assert!(outcome.status.success(), "{}", outcome.stderr);
    outcome.stdout.trim().to_owned()
}

fn aws_cli() -> PathBuf {
    std::env::var_os("SSM_TEST_AWS").expect("run cargo xtask setup").into()
}

/// Leaves a token that is over, as the AWS CLI writes it.
fn expired(home: &Home, refresh: &str) {
    let token = json!({
        "startUrl": "https://corp.example/start", "region": "eu-west-1", "accessToken": "bad",
        "expiresAt": "2020-01-01T00:00:00Z", "clientId": "client-0", "clientSecret": "hush",
        "registrationExpiresAt": "2999-01-01T00:00:00Z", "refreshToken": refresh,
    });
    fs::create_dir_all(home.file(".aws/sso/cache")).unwrap();
    fs::write(home.file(CORP_TOKEN), token.to_string()).unwrap();
}
