//! Credentials of every kind, through a proxy that opens TLS with an authority of its own, as company networks have.
//!
//! Nothing here leaves this machine and nothing of the user's is read: AWS is played by the proxy.

#![cfg(feature = "aws")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;

use self::common::fake_aws::{FakeAws, Front};
use self::common::outside::certificate;

const TARGET: &str = "i-0123456789abcdef0";

const DENIED: &str = r#"{"__type":"AccessDeniedException","message":"User: u is not authorized to perform: ssm:StartSession on resource: arn:aws:ssm:eu-west-1::document/X because no identity-based policy allows it"}"#;

#[test]
fn a_profile_that_is_asked_for_comes_before_keys_in_the_environment() {
    let aws = Aws::start(denies);
    let account = Account::new("[profile static]\naws_access_key_id=AKIDSTATIC\naws_secret_access_key=s\n");
    let keys = [("AWS_ACCESS_KEY_ID", "AKIDENV"), ("AWS_SECRET_ACCESS_KEY", "s")];
    let said = account.shell(&aws, &["--profile", "static"], &keys);
    assert_eq!(aws.keys("ssm."), ["AKIDSTATIC"]);
    assert!(said.contains("do not allow ssm:StartSession on arn:aws:ssm:eu-west-1::document/X"), "{said}");
    account.shell(&aws, &[], &keys);
    assert_eq!(aws.keys("ssm."), ["AKIDSTATIC", "AKIDENV"]);
}

#[test]
fn a_chain_of_roles_is_followed() {
    let aws = Aws::start(denies);
    let account = Account::new(
        "[profile base]\naws_access_key_id=AKIDBASE\naws_secret_access_key=s\n\
         [profile one]\nrole_arn=arn:aws:iam::1:role/ONE\nsource_profile=base\n\
         [profile two]\nrole_arn=arn:aws:iam::1:role/TWO\nsource_profile=one\n",
    );
    account.shell(&aws, &["--profile", "two"], &[]);
    assert_eq!(aws.keys("sts."), ["AKIDBASE", "AKIDONE"]);
    assert_eq!(aws.keys("ssm."), ["AKIDTWO"]);
}

#[test]
fn a_program_is_asked_once() {
    let aws = Aws::start(denies);
    let account = Account::new("");
    let program = account.file("program");
    let script = "#!/bin/sh\necho asked >> \"$0.log\"\n\
        echo '{\"Version\":1,\"AccessKeyId\":\"AKIDPROGRAM\",\"SecretAccessKey\":\"s\",\"SessionToken\":\"t\"}'\n";
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
    account.configure(&format!("[profile program]\ncredential_process={}\n", program.display()));
    account.shell(&aws, &["--profile", "program"], &[]);
    assert_eq!(aws.keys("ssm."), ["AKIDPROGRAM"]);
    assert_eq!(fs::read_to_string(account.file("program.log")).unwrap(), "asked\n");
}

#[test]
fn a_token_of_the_platform_is_exchanged() {
    let aws = Aws::start(denies);
    let account = Account::new("");
    fs::write(account.file("token"), "a.b.c").unwrap();
    account.configure(&format!(
        "[profile web]\nrole_arn=arn:aws:iam::1:role/WEB\nweb_identity_token_file={}\n",
        account.file("token").display()
    ));
    account.shell(&aws, &["--profile", "web"], &[]);
    assert_eq!(aws.keys("ssm."), ["AKIDWEB"]);
}

#[test]
fn a_single_sign_on_is_used_and_its_end_is_told() {
    let aws = Aws::start(denies);
    let profile = |name| {
        format!(
            "[profile {name}]\nsso_session={name}\nsso_account_id=1\nsso_role_name=r\n\
             [sso-session {name}]\nsso_region=eu-west-1\nsso_start_url=https://{name}.example/start\n"
        )
    };
    let account = Account::new(&format!("{}{}{}", profile("corp"), profile("old"), profile("never")));
    // Named by the SHA-1 of the session's name, as the AWS CLI writes them.
    let cache = account.file(".aws/sso/cache");
    fs::create_dir_all(&cache).unwrap();
    for (file, until) in [
        ("ee0bfd2552fbd840c02cc48b6e823320543c450f.json", "2999-01-01T00:00:00Z"),
        ("c00dbbc9dadfbe1e232e93a729dd4752fade0abf.json", "2020-01-01T00:00:00Z"),
    ] {
        let token = format!(r#"{{"accessToken":"good","expiresAt":"{until}","region":"eu-west-1"}}"#);
        fs::write(cache.join(file), token).unwrap();
    }
    account.shell(&aws, &["--profile", "corp"], &[]);
    assert_eq!(aws.keys("ssm."), ["AKIDSSO"]);
    for name in ["old", "never"] {
        let said = account.shell(&aws, &["--profile", name], &[]);
        assert!(said.contains(&format!("ssm login --profile {name}")), "{said}");
    }
}

#[test]
fn what_is_missing_is_said() {
    let aws = Aws::start(denies);
    let account = Account::new("[profile empty]\noutput=json\n");
    let none = account.shell(&aws, &[], &[]);
    assert!(none.contains("AWS_ACCESS_KEY_ID") && none.contains("--profile"), "{none}");
    let empty = account.shell(&aws, &["--profile", "empty"], &[]);
    assert!(empty.contains("the profile empty has none"), "{empty}");
    let keys = [("AWS_ACCESS_KEY_ID", "AKIDENV"), ("AWS_SECRET_ACCESS_KEY", "s")];
    let missing = account.shell(&aws, &["--profile", "nowhere"], &keys);
    assert!(missing.contains("no such profile") && missing.contains("nowhere"), "{missing}");
    let region = account.shell(&aws, &[], &[("AWS_REGION", "")]);
    assert!(region.contains("--region"), "{region}");
    assert!(aws.keys("ssm.").is_empty());
}

#[test]
fn a_profile_of_aws_login_is_told_with_a_way_around_it() {
    let aws = Aws::start(denies);
    let account = Account::new("[profile console]\nlogin_session=arn:aws:iam::1:user/u\n");
    let said = account.shell(&aws, &["--profile", "console"], &[]);
    assert!(said.contains("aws configure export-credentials"), "{said}");
}

#[test]
fn expired_credentials_are_told_as_such() {
    let expired = r#"{"__type":"ExpiredTokenException","message":"The security token included in the request is expired"}"#;
    let aws = Aws::start(move |host, request| match host.starts_with("ssm.") {
        true => (400, expired.into()),
        false => denies(host, request),
    });
    let account = Account::new("[default]\naws_access_key_id=AKID\naws_secret_access_key=s\n");
    let said = account.shell(&aws, &[], &[]);
    assert!(said.contains("have expired"), "{said}");
}

#[test]
fn what_is_throttled_is_tried_again() {
    let throttled = r#"{"__type":"ThrottlingException","message":"Rate exceeded"}"#;
    let calls = Mutex::new(0);
    let aws = Aws::start(move |host, request| {
        let mut calls = calls.lock().unwrap();
        *calls += 1;
        if *calls == 1 { (400, throttled.into()) } else { denies(host, request) }
    });
    let account = Account::new("[default]\naws_access_key_id=AKID\naws_secret_access_key=s\n");
    let said = account.shell(&aws, &[], &[]);
    assert!(said.contains("denied"), "{said}");
    assert_eq!(aws.keys("ssm.").len(), 2);
}

#[test]
fn that_a_call_is_made_again_is_told_when_asked() {
    let throttled = r#"{"__type":"ThrottlingException","message":"Rate exceeded"}"#;
    let aws = Aws::start(move |_, _| (400, throttled.into()));
    let account = Account::new("[default]\naws_access_key_id=AKID\naws_secret_access_key=s\n");
    let said = account.shell(&aws, &["-v"], &[]);
    assert!(said.contains("asking again") && said.contains("attempt=2"), "{said}");
    assert!(said.contains("ssm:StartSession is throttled: Rate exceeded"), "{said}");
    let quiet = account.shell(&aws, &[], &[]);
    assert!(!quiet.contains("asking again"), "{quiet}");
}

#[test]
fn fips_and_dual_stack_are_for_the_api_and_for_data_channels() {
    let account = Account::new(
        "[default]\naws_access_key_id=AKID\naws_secret_access_key=s\n\
         [profile fips]\naws_access_key_id=AKID\naws_secret_access_key=s\nuse_fips_endpoint=true\n",
    );
    let config = account.file("config.toml");
    fs::write(&config, "[defaults]\nfips = true\n[alias.no]\ntarget = 'i-0123456789abcdef0'\nfips = false\n")
        .unwrap();
    let config = config.to_str().unwrap();
    let hosts = |target: &str, args: &[&str], vars: &[(&str, &str)]| {
        let aws = Aws::with_streams();
        let mut command = account.ssm(&aws, &[&["shell", target], args].concat());
        aws.hosts(command.envs(vars.iter().copied()))
    };
    let plain = ["ssm.eu-west-1.amazonaws.com", "ssmmessages.eu-west-1.amazonaws.com"];
    let fips = ["ssm-fips.eu-west-1.amazonaws.com", "ssmmessages-fips.eu-west-1.amazonaws.com"];
    let dual_stack = ["ssm.eu-west-1.api.aws", "ssmmessages.eu-west-1.api.aws"];
    assert_eq!(hosts(TARGET, &[], &[]), plain);
    assert_eq!(hosts(TARGET, &["--fips"], &[]), fips);
    assert_eq!(hosts(TARGET, &[], &[("AWS_USE_FIPS_ENDPOINT", "true")]), fips);
    assert_eq!(hosts(TARGET, &["--profile", "fips"], &[]), fips);
    assert_eq!(hosts(TARGET, &["--config", config], &[]), fips);
    assert_eq!(hosts("no", &["--config", config], &[]), plain);
    assert_eq!(hosts(TARGET, &["--dual-stack"], &[]), dual_stack);
    assert_eq!(hosts(TARGET, &[], &[("AWS_USE_DUALSTACK_ENDPOINT", "true")]), dual_stack);
}

#[test]
fn a_socks_proxy_leads_to_the_api_and_to_data_channels() {
    let account = Account::new("[default]\naws_access_key_id=AKID\naws_secret_access_key=s\n");
    let expected = ["ssm.eu-west-1.amazonaws.com", "ssmmessages.eu-west-1.amazonaws.com"];
    let aws = Aws::with_streams();
    let url = format!("socks5h://{}", aws.0.address());
    let mut command = account.ssm(&aws, &["shell", TARGET]);
    assert_eq!(aws.hosts(command.env("HTTPS_PROXY", "").env("ALL_PROXY", &url)), expected);
    let aws = Aws::with_streams();
    let url = format!("socks5h://{}", aws.0.address());
    let mut command = account.ssm(&aws, &["shell", TARGET, "--proxy", &url]);
    assert_eq!(aws.hosts(command.env("HTTPS_PROXY", "http://127.0.0.1:9")), expected);
}

#[test]
fn a_proxy_and_an_authority_of_a_configuration_are_used() {
    let aws = Aws::start(denies);
    let account = Account::new("[default]\naws_access_key_id=AKID\naws_secret_access_key=s\n");
    let config = account.file("config.toml");
    let text = format!(
        "[defaults]\nproxy = 'http://{}'\nca-bundle = '{}'\n",
        aws.0.address(),
        aws.0.bundle().display()
    );
    fs::write(&config, text).unwrap();
    let config = config.to_str().unwrap();
    let none = [("HTTPS_PROXY", ""), ("AWS_CA_BUNDLE", "")];
    assert!(account.shell(&aws, &["--config", config], &none).contains("denied"));
    account.configure(&format!(
        "[default]\naws_access_key_id=AKID\naws_secret_access_key=s\nca_bundle={}\n",
        aws.0.bundle().display()
    ));
    assert!(account.shell(&aws, &[], &[("AWS_CA_BUNDLE", "")]).contains("denied"));
    // Nobody is at that port, and `off` leads past the proxy to a host that is not there.
    let said = account.shell(&aws, &["--config", config, "--proxy", "http://127.0.0.1:9"], &none);
    assert!(said.contains("through the proxy http://127.0.0.1:9"), "{said}");
    let local = ["--config", config, "--proxy", "off", "--endpoint-url", "http://127.0.0.1:9"];
    assert!(!account.shell(&aws, &local, &none).contains("proxy"));
    let said = account.shell(&aws, &["--proxy", "http://me:hush@h"], &none);
    assert!(said.contains("HTTPS_PROXY") && !said.contains("hush"), "{said}");
}

#[test]
fn a_proxy_that_is_not_trusted_and_one_that_is_none_are_named() {
    let aws = Aws::start(denies);
    let account = Account::new("[default]\naws_access_key_id=AKID\naws_secret_access_key=s\n");
    let said = account.shell(&aws, &[], &[("AWS_CA_BUNDLE", "")]);
    assert!(said.contains("not trusted") && said.contains("AWS_CA_BUNDLE"), "{said}");
    let said = account.shell(&aws, &[], &[("HTTPS_PROXY", "http://user:hush@127.0.0.1:9")]);
    assert!(said.contains("through the proxy http://127.0.0.1:9") && !said.contains("hush"), "{said}");
    let said = account.shell(&aws, &[], &[("HTTPS_PROXY", "gopher://user:hush@p")]);
    assert!(said.contains("HTTPS_PROXY is no URL of a proxy") && !said.contains("hush"), "{said}");
    let said = account.shell(&aws, &["--ca-bundle", "/nonexistent.pem"], &[]);
    assert!(said.contains("/nonexistent.pem"), "{said}");
}

#[test]
fn a_stream_url_of_a_stranger_gets_no_token() {
    let answer =
        r#"{"SessionId":"s-1","TokenValue":"hush","StreamUrl":"wss://ssmmessages.evil.example/v1/s-1"}"#;
    let aws =
        Aws::start(move |host, request| match (host.starts_with("ssm."), request.contains("StartSession")) {
            (true, true) => (200, answer.into()),
            (true, false) => (200, "{}".into()),
            _ => denies(host, request),
        });
    let account = Account::new("[default]\naws_access_key_id=AKID\naws_secret_access_key=s\n");
    let said = account.shell(&aws, &[], &[]);
    assert!(said.contains("ssmmessages.evil.example") && said.contains("not sent"), "{said}");
    assert!(!said.contains("hush"), "{said}");
    assert!(aws.keys("ssmmessages.").is_empty());
}

/// A home with AWS files in it.
struct Account {
    home: tempfile::TempDir,
}

impl Account {
    fn new(config: &str) -> Self {
        let account = Self { home: tempfile::tempdir().unwrap() };
        fs::create_dir_all(account.file(".aws")).unwrap();
        account.configure(config);
        account
    }

    fn configure(&self, config: &str) {
        fs::write(self.file(".aws/config"), config).unwrap();
    }

    fn file(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// What `ssm shell` says before it fails.
    fn shell(&self, aws: &Aws, args: &[&str], vars: &[(&str, &str)]) -> String {
        let mut command = self.ssm(aws, &[&["shell", TARGET], args].concat());
        let outcome = common::Program::start(command.envs(vars.iter().copied())).wait();
        assert!(!outcome.status.success());
        outcome.stderr
    }

    fn ssm(&self, aws: &Aws, args: &[&str]) -> Command {
        let mut command: Command = common::ssm(args);
        for name in
            ["HTTP_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy"]
        {
            command.env_remove(name);
        }
        command
            .env("HOME", self.home.path())
            .env("AWS_CONFIG_FILE", self.file(".aws/config"))
            .env("AWS_REGION", "eu-west-1");
        aws.0.apply(&mut command);
        command
    }
}

/// All of AWS, behind a proxy that opens TLS.
struct Aws(FakeAws);

impl Aws {
    /// `answer` gets the host and the request, and gives a status and a body.
    fn start(answer: impl Fn(&str, &str) -> (u16, String) + Send + Sync + 'static) -> Self {
        let names = [
            "*.eu-west-1.amazonaws.com",
            "*.eu-west-1.api.aws",
            "portal.sso.eu-west-1.amazonaws.com",
            "ssmmessages.evil.example",
        ];
        let front = Front::Proxy(certificate(&names));
        Self(FakeAws::behind(front, move |asked| answer(&asked.host, &asked.text)))
    }

    /// One that starts sessions, whose data channels are refused for good.
    fn with_streams() -> Self {
        let answer = r#"{"SessionId":"s-1","TokenValue":"t","StreamUrl":"wss://ssmmessages.eu-west-1.amazonaws.com/v1/data-channel/s-1"}"#;
        Self::start(move |_, request| match request.contains("AmazonSSM.StartSession") {
            true => (200, answer.into()),
            false => (403, "{}".into()),
        })
    }

    /// The first two hosts that a shell talks to: the API and the data channel.
    fn hosts(&self, shell: &mut Command) -> Vec<String> {
        let mut shell = common::Program::start(shell);
        shell.wait_for(|_| (!self.keys("ssmmessages").is_empty()).then_some(()));
        let mut hosts: Vec<_> = self.0.asked("").into_iter().map(|asked| asked.host).collect();
        hosts.dedup();
        hosts.truncate(2);
        hosts
    }

    /// The access keys that signed the requests to a service.
    fn keys(&self, service: &str) -> Vec<String> {
        let asked = self.0.asked("");
        asked
            .iter()
            .filter(|asked| asked.host.starts_with(service))
            .map(|asked| asked.key().to_owned())
            .collect()
    }
}

/// Gives credentials to everybody, and nobody a session.
fn denies(host: &str, request: &str) -> (u16, String) {
    if host.starts_with("sts.") {
        let role = ["ONE", "TWO", "WEB"].into_iter().find(|role| request.contains(&format!("role%2F{role}")));
        let action =
            if request.contains("WithWebIdentity") { "AssumeRoleWithWebIdentity" } else { "AssumeRole" };
        let credentials = format!(
            "<AccessKeyId>AKID{}</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken>\
             <Expiration>2999-01-01T00:00:00Z</Expiration>",
            role.unwrap_or_default()
        );
        return (
            200,
            format!(
                "<{action}Response><{action}Result><Credentials>{credentials}</Credentials></{action}Result></{action}Response>"
            ),
        );
    }
    if host.starts_with("portal.sso.") {
        assert!(request.to_ascii_lowercase().contains("x-amz-sso_bearer_token: good"), "{request}");
        let credentials = r#"{"roleCredentials":{"accessKeyId":"AKIDSSO","secretAccessKey":"s","sessionToken":"t","expiration":32503680000000}}"#;
        return (200, credentials.into());
    }
    (400, DENIED.into())
}
