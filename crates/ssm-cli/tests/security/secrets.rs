//! Secrets, and everywhere they might be seen: each command runs with secrets that can be recognised, when all is well and when nothing
//! is, at `-vvv`, and everything that it and its children leave or show is searched for them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::process::{Signal, geteuid};
use serde_json::{Value, json};
use ssm_loopback::{Config, Kms, KmsAnswer, KmsAuthority, KmsChallenge};
use ssm_session::{Secret, StartSession};

use crate::common::fake_aws::{Asked, FakeAws, Home};
use crate::common::{Handed, OnTerminal, Outcome, Program, SSM, Tunnels, behind, echo, serve, ssm};

/// Long enough for a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

const KEY_ID: &str = "arn:aws:kms:eu-west-1:123456789012:key/00000000-1111-2222-3333-444444444444";

const ACCESS_KEY: &str = "AKIDOPEN";
const SECRET_KEY: &str = "HushSecretAccessKey0001";
const CREDENTIAL_TOKEN: &str = "HushCredentialToken0002";
const SIGN_ON_TOKEN: &str = "HushSignOnToken0003";
const REFRESH_TOKEN: &str = "HushRefreshToken0004";
const CLIENT_SECRET: &str = "HushClientSecret0005";
const DEVICE_CODE: &str = "HushDeviceCode0006";
const ROLE_SECRET: &str = "HushRoleSecret0007";
const ROLE_TOKEN: &str = "HushRoleToken0008";
const DATABASE_PASSWORD: &str = "HushDatabasePassword0009";
const PROXY_PASSWORD: &str = "HushProxyPassword0010";
const MFA_CODE: &str = "739184";
/// 64 bytes, as KMS makes them.
const DATA_KEY: &[u8; 64] = b"HushDataKeyOfTheAgent0011.......HushDataKeyOfTheClient0012......";

/// Commands that have nothing to do with a session or credentials, and why.
const WITHOUT_SECRETS: &[(&str, &str)] = &[
    ("completions", "writes a script out of what the program is"),
    ("config path", "says where a file is"),
    ("demo", "has a service of its own, whose keys it makes"),
    ("ecs", "only holds others"),
    ("loopback", "is a service of its own, and shows its own keys"),
    ("man", "writes out what the program is"),
    ("plugin install", "puts a link somewhere"),
    ("plugin status", "looks for a program"),
    ("plugin uninstall", "takes a link away"),
    ("ssh-config", "writes out what the configuration says"),
];

/// What all the services do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Well,
    /// Every call is refused, in the words of AWS.
    Refused,
    /// Every answer breaks off.
    Broken,
    /// Sessions lead nowhere.
    Nowhere,
}

/// What each secret is.
type Secrets = Arc<Mutex<BTreeMap<String, String>>>;

struct World {
    _tunnels: Tunnels,
    fake: FakeAws,
    home: Home,
    mode: Arc<Mutex<Mode>>,
    secrets: Secrets,
    target: String,
}

impl World {
    fn start(config: Config) -> Self {
        let handed = Handed::with(config);
        let target = handed.target.clone();
        let (mode, secrets) = (Arc::new(Mutex::new(Mode::Well)), Secrets::default());
        for (name, secret) in [
            ("secret key", SECRET_KEY),
            ("credential token", CREDENTIAL_TOKEN),
            ("sign-on token", SIGN_ON_TOKEN),
            ("refresh token", REFRESH_TOKEN),
            ("client secret", CLIENT_SECRET),
            ("device code", DEVICE_CODE),
            ("role secret", ROLE_SECRET),
            ("role token", ROLE_TOKEN),
            ("password", DATABASE_PASSWORD),
            ("proxy password", PROXY_PASSWORD),
            ("data key of the agent", "HushDataKeyOfTheAgent0011"),
            ("data key of the client", "HushDataKeyOfTheClient0012"),
        ] {
            secrets.lock().unwrap().insert(secret.into(), name.into());
        }
        let (state, known) = (Arc::clone(&mode), Arc::clone(&secrets));
        let fake = FakeAws::start(move |asked| answer(asked, &handed, *state.lock().unwrap(), &known));
        let home = Home::new(
            "[default]\nregion = eu-west-1\n[profile corp]\nsso_session=corp\nsso_account_id=1\nsso_role_name=R\n\
             [sso-session corp]\nsso_region=eu-west-1\nsso_start_url=https://corp.example/start\n\
             [profile mfa]\nregion=eu-west-1\nrole_arn=arn:aws:iam::1:role/MFA\nsource_profile=default\nmfa_serial=arn:aws:iam::1:mfa/me\n",
        );
        fs::write(
            home.file(".aws/credentials"),
            format!(
                "[default]\naws_access_key_id={ACCESS_KEY}\naws_secret_access_key={SECRET_KEY}\naws_session_token={CREDENTIAL_TOKEN}\n"
            ),
        )
        .unwrap();
        for folder in ["runtime", "state", "cache", "config/ssm", "tmp", "cwd"] {
            fs::create_dir_all(home.file(folder)).unwrap();
        }
        fs::write(
            home.file("config/ssm/config.toml"),
            format!("[group.dev]\ntunnels = [{{ target = '{target}', forwards = ['0:{}'] }}]\n", echo()),
        )
        .unwrap();
        fs::write(home.file("cwd/file"), "content").unwrap();
        Self { _tunnels: Tunnels::of(home.file("runtime")), fake, home, mode, secrets, target }
    }

    fn ssm(&self, args: &[&str]) -> Command {
        let mut command = ssm(args);
        self.home.apply(&mut command);
        self.fake.apply(&mut command);
        command.env("AWS_SHARED_CREDENTIALS_FILE", self.home.file(".aws/credentials"));
        for (variable, folder) in [
            ("XDG_RUNTIME_DIR", "runtime"),
            ("XDG_STATE_HOME", "state"),
            ("XDG_CACHE_HOME", "cache"),
            ("XDG_CONFIG_HOME", "config"),
            ("TMPDIR", "tmp"),
        ] {
            command.env(variable, self.home.file(folder));
        }
        // For what leads to other machines only; none does.
        command.env("HTTPS_PROXY", format!("http://user:{PROXY_PASSWORD}@127.0.0.1:1"));
        command.env("AWS_MAX_ATTEMPTS", "1").env("RUST_BACKTRACE", "full").current_dir(self.home.file("cwd"));
        command
    }

    /// Whom a text tells what he must not know.
    fn found_in(&self, text: &[u8], allowed: &[&str]) -> Vec<String> {
        let secrets = self.secrets.lock().unwrap();
        let told = secrets.iter().filter(|(_, name)| !allowed.contains(&name.as_str()));
        let told = told.filter(|(secret, _)| {
            let encoded = STANDARD.encode(secret);
            // What is behind depends on what follows.
            contains(text, secret.as_bytes()) || contains(text, &encoded.as_bytes()[..encoded.len() - 4])
        });
        told.map(|(_, name)| name.clone()).collect()
    }

    #[track_caller]
    fn silent(&self, what: &str, text: &[u8], allowed: &[&str]) {
        let found = self.found_in(text, allowed);
        assert!(found.is_empty(), "{what} tells {found:?}: {}", String::from_utf8_lossy(text));
    }

    /// Files in this home, but for those that are there to hold secrets.
    #[track_caller]
    fn silent_files(&self, what: &str) {
        let mut folders = vec![self.home.file("")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).unwrap().flatten() {
                let (path, kind) = (entry.path(), entry.file_type().unwrap());
                if kind.is_dir() {
                    folders.push(path);
                } else if kind.is_file() {
                    let kept = [".aws/sso/cache", ".aws/cli/cache"]
                        .iter()
                        .any(|kept| path.starts_with(self.home.file(kept)));
                    if kept {
                        assert_eq!(
                            path.metadata().unwrap().permissions().mode() & 0o777,
                            0o600,
                            "{}",
                            path.display()
                        );
                    } else if path != self.home.file(".aws/credentials") {
                        let content = fs::read(&path).unwrap_or_default();
                        self.silent(&format!("{what}: {}", path.display()), &content, &[]);
                    }
                }
            }
        }
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// What any of AWS's services answers.
fn answer(asked: &Asked, handed: &Handed, mode: Mode, secrets: &Secrets) -> (u16, String) {
    let query = asked.text.contains("Action=");
    match mode {
        Mode::Refused if query => {
            return (403, "<ErrorResponse><Error><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>".into());
        }
        Mode::Refused => {
            return (400, json!({ "__type": "AccessDeniedException", "message": "no" }).to_string());
        }
        _ => {}
    }
    // Somebody asks whether he may, with a machine that there is not.
    if asked.has("AmazonSSM.StartSession") && !asked.has(&handed.target) && !asked.has("\"ecs:") {
        return (400, json!({ "__type": "TargetNotConnected", "message": "no" }).to_string());
    }
    if asked.has("ssm-doctor-asks-for-no-document") {
        return (400, json!({ "__type": "InvalidDocument", "message": "no" }).to_string());
    }
    let mut body = good(asked, handed, mode, secrets);
    if mode == Mode::Broken {
        // All of it, but no longer what it should be.
        body.insert_str(body.len().saturating_sub(1), if query { "<" } else { ",{" });
    }
    (200, body)
}

fn good(asked: &Asked, handed: &Handed, mode: Mode, secrets: &Secrets) -> String {
    let request: Value = asked
        .text
        .split_once("\r\n\r\n")
        .and_then(|(_, body)| serde_json::from_str(body).ok())
        .unwrap_or_default();
    let session = |document: Option<&str>, parameters: BTreeMap<String, Vec<String>>| {
        let session = handed.session(|target| StartSession {
            document: document.map(Into::into),
            parameters,
            ..StartSession::shell(target)
        });
        let mut session: Value = serde_json::from_str(&session).unwrap();
        secrets
            .lock()
            .unwrap()
            .insert(session["TokenValue"].as_str().unwrap().into(), "session token".into());
        let url = session["StreamUrl"].as_str().unwrap();
        let (_, behind) = url.split_once("://127.0.0.1:").unwrap();
        let (port, path) = behind.split_once('/').unwrap();
        let port = if mode == Mode::Nowhere { 1 } else { unsigned(port.parse().unwrap()) };
        session["StreamUrl"] = format!("ws://127.0.0.1:{port}/{path}").into();
        session
    };
    let target = &handed.target;
    let task = "arn:aws:ecs:eu-west-1:1:task/c/0123456789abcdef0123456789abcdef";
    let json = match asked.operation() {
        Some("StartSession") => {
            let parameters = serde_json::from_value(request["Parameters"].clone()).unwrap_or_default();
            session(request["DocumentName"].as_str(), parameters)
        }
        Some("ExecuteCommand") => {
            let of = session(None, BTreeMap::new());
            json!({ "clusterArn": "arn:aws:ecs:eu-west-1:1:cluster/c", "taskArn": task, "containerName": "app", "interactive": true,
                "session": { "sessionId": of["SessionId"], "streamUrl": of["StreamUrl"], "tokenValue": of["TokenValue"] } })
        }
        Some("DescribeInstanceInformation") => json!({ "InstanceInformationList": [
            { "InstanceId": target, "PingStatus": "Online", "ComputerName": "web", "ResourceType": "EC2Instance", "AgentVersion": "3.3.987.0" },
        ] }),
        Some("DescribeSessions") => {
            json!({ "Sessions": [{ "SessionId": "s-1", "Target": target, "Status": "Connected", "Owner": "me" }] })
        }
        Some("TerminateSession") => json!({ "SessionId": "s-1" }),
        Some("GetSecretValue") => {
            json!({ "ARN": "arn:secret", "Name": "n", "VersionId": "00000000-1111-2222-3333-444444444444",
            "SecretString": json!({ "username": "me", "password": DATABASE_PASSWORD }).to_string() })
        }
        Some("GenerateDataKey") => {
            json!({ "Plaintext": STANDARD.encode(DATA_KEY), "CiphertextBlob": STANDARD.encode([7; 184]), "KeyId": KEY_ID })
        }
        Some("ListClusters") => json!({ "clusterArns": ["arn:aws:ecs:eu-west-1:1:cluster/c"] }),
        Some("ListTasks") => json!({ "taskArns": [task] }),
        Some("DescribeTasks") => {
            json!({ "tasks": [{ "taskArn": task, "clusterArn": "arn:aws:ecs:eu-west-1:1:cluster/c",
            "group": "service:web", "lastStatus": "RUNNING", "enableExecuteCommand": true, "containers": [
            { "name": "app", "lastStatus": "RUNNING", "runtimeId": "0123456789abcdef0123456789abcdef-1",
              "managedAgents": [{ "name": "ExecuteCommandAgent", "lastStatus": "RUNNING" }] }] }] })
        }
        Some("SendCommand") => json!({ "Command": { "CommandId": "c-1" } }),
        Some("GetCommandInvocation") => {
            json!({ "Status": "Success", "ResponseCode": 0, "StandardOutputContent": "done\n" })
        }
        Some(_) => json!({}),
        None => match asked.line.as_str() {
            "POST /client/register" => {
                json!({ "clientId": "c", "clientSecret": CLIENT_SECRET, "clientSecretExpiresAt": 32_472_144_000_u64 })
            }
            "POST /device_authorization" => {
                json!({ "deviceCode": DEVICE_CODE, "userCode": "ABCD", "interval": 1, "expiresIn": 600,
                "verificationUri": "https://h", "verificationUriComplete": "https://h/?user_code=ABCD" })
            }
            "POST /token" => {
                json!({ "accessToken": SIGN_ON_TOKEN, "refreshToken": REFRESH_TOKEN, "expiresIn": 28_800, "tokenType": "Bearer" })
            }
            line if line.starts_with("GET /federation/credentials") => {
                json!({ "roleCredentials": { "accessKeyId": "AKIDROLE",
                "secretAccessKey": ROLE_SECRET, "sessionToken": ROLE_TOKEN, "expiration": 32_472_144_000_000_u64 } })
            }
            _ => return xml(asked, target),
        },
    };
    json.to_string()
}

/// A way to the loopback on which upgrades lose their signature: it is that of another account.
fn unsigned(port: u16) -> u16 {
    serve(move |stream| {
        let (mut client, mut head) = (stream.try_clone()?, Vec::new());
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            client.read_exact(&mut byte)?;
            head.extend_from_slice(&byte);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let is_kept = |line: &&str| {
            let line = line.to_ascii_lowercase();
            !line.starts_with("authorization:") && !line.starts_with("x-amz-")
        };
        let mut gateway = TcpStream::connect(("127.0.0.1", port))?;
        gateway.write_all(head.split_inclusive("\r\n").filter(is_kept).collect::<String>().as_bytes())?;
        let mut back = (gateway.try_clone()?, client.try_clone()?);
        thread::spawn(move || {
            let _ = std::io::copy(&mut back.0, &mut back.1);
            let _ = back.1.shutdown(Shutdown::Both);
        });
        let copied = std::io::copy(&mut client, &mut gateway).map(drop);
        let _ = gateway.shutdown(Shutdown::Both);
        copied
    })
}

fn xml(asked: &Asked, target: &str) -> String {
    let of = |action: &str, content: String| {
        format!("<{action}Response><{action}Result>{content}</{action}Result></{action}Response>")
    };
    if asked.has("Action=AssumeRole") {
        return crate::common::fake_aws::role("AKIDROLE", ROLE_SECRET, "2999-01-01T00:00:00Z")
            .replace("<SessionToken>t<", &format!("<SessionToken>{ROLE_TOKEN}<"));
    }
    if asked.has("Action=GetCallerIdentity") {
        return of(
            "GetCallerIdentity",
            "<Arn>arn:aws:iam::1:user/me</Arn><UserId>U</UserId><Account>1</Account>".into(),
        );
    }
    if asked.has("Action=DescribeDBInstances") {
        return of("DescribeDBInstances", "<DBInstances><DBInstance><DBInstanceIdentifier>orders</DBInstanceIdentifier><Engine>postgres</Engine>\
            <DBInstanceStatus>available</DBInstanceStatus><MasterUsername>me</MasterUsername><MasterUserSecret><SecretArn>arn:aws:secretsmanager:eu-west-1:1:secret:n</SecretArn>\
            <SecretStatus>active</SecretStatus></MasterUserSecret><Endpoint><Address>db.internal</Address><Port>5432</Port></Endpoint></DBInstance></DBInstances>".into());
    }
    if asked.has("Action=DescribeDBClusters") {
        return of("DescribeDBClusters", "<DBClusters/>".into());
    }
    if asked.has("Action=DescribeInstances") {
        return format!(
            "<DescribeInstancesResponse><reservationSet><item><instancesSet><item><instanceId>{target}</instanceId>\
            <instanceState><code>16</code><name>running</name></instanceState></item></instancesSet></item></reservationSet></DescribeInstancesResponse>"
        );
    }
    of("X", String::new())
}

/// A run of a command. `TARGET`, `PORT` and `ENDING` stand for the machine, an echo on it and a port that hangs up, `NEW` for the name of a
/// new file.
struct Run {
    command: &'static str,
    args: &'static [&'static str],
    /// Whether it succeeds when all is well.
    succeeds: bool,
    /// Secrets that its own children are given on purpose.
    given: &'static [&'static str],
}

const fn run(command: &'static str, args: &'static [&'static str]) -> Run {
    Run { command, args, succeeds: true, given: &[] }
}

const RUNS: &[Run] = &[
    run("login", &["login", "--profile", "corp", "--no-browser", "--force"]),
    run("shell", &["shell", "TARGET", "--record", "NEW.cast", "--capture", "NEW.jsonl"]),
    run("shell", &["shell", "TARGET", "--profile", "corp"]),
    run("decode", &["decode", "--full", "last.jsonl"]),
    run("exec", &["exec", "TARGET", "--", "true"]),
    run("exec", &["exec", "--targets", "TARGET", "--json", "--", "true"]),
    run("exec", &["exec", "--targets", "TARGET", "--via", "run-command", "--", "true"]),
    run("cp", &["cp", "file", "TARGET:CWD/NEW"]),
    run("forward", &["forward", "TARGET", "-L", "0:PORT", "--", "sleep", "0.2"]),
    Run { given: &["password"], ..run("db", &["db", "orders", "--bastion", "TARGET", "--", "sleep", "0.2"]) },
    run("db list", &["db", "list", "--json"]),
    run("up", &["up", "dev"]),
    run("ecs forward", &["ecs", "forward", "c", "-L", "0:PORT", "--", "sleep", "0.1"]),
    run("status", &["status", "--json"]),
    run("tunnels", &["tunnels", "--json"]),
    run("down", &["down"]),
    run("tunnels stop", &["tunnels", "stop", "--all"]),
    run("proxy", &["proxy", "TARGET", "ENDING"]),
    Run {
        succeeds: false,
        ..run("ssh", &["ssh", "-oBatchMode=yes", "-oConnectTimeout=2", "-Fnone", "TARGET:1", "true"])
    },
    Run {
        succeeds: false,
        ..run("scp", &["scp", "-oBatchMode=yes", "-oConnectTimeout=2", "-Fnone", "-P1", "file", "TARGET:x"])
    },
    Run {
        succeeds: false,
        ..run("sftp", &["sftp", "-oBatchMode=yes", "-oConnectTimeout=2", "-Fnone", "-P1", "TARGET"])
    },
    run("ecs exec", &["ecs", "exec", "c"]),
    run("ecs list", &["ecs", "list"]),
    Run { succeeds: false, ..run("ecs check", &["ecs", "check", "c"]) },
    run("resolve", &["resolve", "tag:Name=web"]),
    run("list", &["list"]),
    run("sessions", &["sessions"]),
    run("sessions terminate", &["sessions", "terminate", "s-1"]),
    run("sessions orphans", &["sessions", "orphans"]),
    Run { succeeds: false, ..run("doctor", &["doctor", "TARGET"]) },
    run("config", &["config"]),
    run("logout", &["logout", "--profile", "corp"]),
];

/// Handed over in a variable, as the AWS CLI does it; other tests below.
const ELSEWHERE: &[&str] = &["plugin"];

#[test]
fn no_command_is_forgotten() {
    let script = Program::start(&mut ssm(&["completions", "bash"])).wait().stdout;
    // `ssm,shell)` and `ssm__subcmd__ecs,exec)`
    let all: BTreeSet<String> = script
        .lines()
        .filter_map(|line| {
            let (above, name) = line.trim().strip_suffix(')')?.split_once(',')?;
            let above = above.strip_prefix("ssm")?;
            Some(format!("{} {name}", above.replace("__subcmd__", " ")).trim().to_owned())
        })
        .collect();
    assert!(all.contains("ecs exec") && all.len() > 30, "{all:?}");
    let covered = RUNS.iter().map(|run| run.command).chain(ELSEWHERE.iter().copied());
    let known: BTreeSet<String> =
        covered.chain(WITHOUT_SECRETS.iter().map(|(name, _)| *name)).map(Into::into).collect();
    assert_eq!(all, known, "a command is to be tried with secrets here, or to be said to have none");
}

#[test]
fn no_command_tells_a_secret_when_all_is_well() {
    all_runs(&World::start(Config::default()), Mode::Well);
}

#[test]
fn no_command_tells_a_secret_when_it_is_refused() {
    all_runs(&World::start(Config::default()), Mode::Refused);
}

#[test]
fn no_command_tells_a_secret_that_is_in_an_answer_it_cannot_read() {
    all_runs(&World::start(Config::default()), Mode::Broken);
}

#[test]
fn no_command_tells_a_secret_of_a_session_that_leads_nowhere() {
    all_runs(&World::start(Config::default()), Mode::Nowhere);
}

fn all_runs(world: &World, mode: Mode) {
    *world.mode.lock().unwrap() = mode;
    let (port, ending) = (echo().to_string(), serve(|_| Ok(())).to_string());
    let mut looked_at = 0;
    for (number, run) in RUNS.iter().enumerate() {
        let new = format!("new-{number}");
        let args: Vec<String> = ["-vvv"]
            .iter()
            .chain(run.args)
            .map(|word| {
                let word = word
                    .replace("TARGET", &world.target)
                    .replace("PORT", &port)
                    .replace("ENDING", &ending)
                    .replace("NEW", &new);
                word.replace("CWD", &world.home.file("cwd").display().to_string())
            })
            .collect();
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let (outcome, seen) = watched(&mut world.ssm(&args));
        let what = format!("{mode:?}: {}", args.join(" "));
        if mode == Mode::Well && run.succeeds {
            assert!(outcome.status.success(), "{what}: {outcome:?}");
        }
        assert!(outcome.status.code() != Some(101), "{what}: {outcome:?}");
        world.silent(&format!("{what}: stdout"), outcome.stdout.as_bytes(), &[]);
        world.silent(&format!("{what}: stderr"), outcome.stderr.as_bytes(), &[]);
        looked_at += usize::from(!seen.arguments.is_empty());
        world.silent(&format!("{what}: arguments"), &seen.arguments, &[]);
        let given = [&["proxy password"], run.given].concat();
        world.silent(&format!("{what}: variables"), &seen.variables, &given);
        let capture = world.home.file(&format!("cwd/{new}.jsonl"));
        if capture.exists() {
            fs::copy(capture, world.home.file("cwd/last.jsonl")).unwrap();
        }
        world.silent_files(&what);
    }
    // Some are gone before they can be.
    assert!(looked_at > RUNS.len() / 2, "{looked_at}");
    assert!(
        mode != Mode::Well
            || world.secrets.lock().unwrap().values().filter(|name| *name == "session token").count() > 8
    );
}

/// What was seen of a program and its children in /proc.
#[derive(Debug, Default)]
struct Seen {
    arguments: Vec<u8>,
    variables: Vec<u8>,
}

/// Runs a command to its end, and looks at it all the while.
fn watched(command: &mut Command) -> (Outcome, Seen) {
    let mut program = Program::start(command);
    let (pid, begin) = (program.pid(), Instant::now());
    let (mut seen, mut known) = (Seen::default(), BTreeSet::new());
    while !program.has_ended() {
        assert!(begin.elapsed() < PATIENCE, "{} {}", program.stdout(), program.stderr());
        look(pid, &mut seen, &mut known);
        thread::sleep(Duration::from_millis(1));
    }
    (program.wait(), seen)
}

/// Looks at a process and its children; what does not change is looked at once.
fn look(pid: u32, seen: &mut Seen, known: &mut BTreeSet<Vec<u8>>) {
    let read = |name: &str| fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
    for (name, into) in [("cmdline", &mut seen.arguments), ("environ", &mut seen.variables)] {
        let content = read(name);
        if !content.is_empty() && known.insert(content.clone()) {
            into.extend_from_slice(&content);
        }
    }
    let children = String::from_utf8_lossy(&read(&format!("task/{pid}/children"))).into_owned();
    for child in children.split_whitespace().filter_map(|child| child.parse().ok()) {
        look(child, seen, known);
    }
}

/// What the AWS CLI put there stays there; nothing is added.
#[test]
fn the_plugin_tells_no_more_than_the_aws_cli_does() {
    const VARIABLE: &str = "AWS_SSM_START_SESSION_RESPONSE_1";
    let world = World::start(Config::default());
    let handed = Handed::start();
    let request = json!({ "Target": handed.target }).to_string();
    for (number, in_variable) in [true, false].into_iter().enumerate() {
        let session = handed.session(|target| StartSession::shell(target));
        let token =
            serde_json::from_str::<Value>(&session).unwrap()["TokenValue"].as_str().unwrap().to_owned();
        world.secrets.lock().unwrap().insert(token, "session token".into());
        let url = world.fake.url();
        let response = if in_variable { VARIABLE } else { session.as_str() };
        let mut command =
            world.ssm(&["-vvv", "plugin", response, "eu-west-1", "StartSession", "", &request, &url]);
        command.env("SSM_PLUGIN_VERBOSE", "2").env("SSM_PLUGIN_CAPTURE", format!("plugin-{number}.jsonl"));
        if in_variable {
            command.env(VARIABLE, &session);
        }
        let mut program = Program::with_stdin(&mut command, Stdio::piped());
        program.wait_for(|program| program.stdout().contains("Starting session").then_some(()));
        let (mut seen, mut known) = (Seen::default(), BTreeSet::new());
        if in_variable {
            // Once more without the variable, before anything else.
            look(program.pid(), &mut seen, &mut known);
            world.silent("arguments", &seen.arguments, &[]);
            world.silent("variables", &seen.variables, &["proxy password"]);
        }
        program.close();
        let outcome = program.wait();
        assert!(outcome.status.success(), "{outcome:?}");
        world.silent("stdout", outcome.stdout.as_bytes(), &[]);
        world.silent("stderr", outcome.stderr.as_bytes(), &[]);
        world.silent_files("plugin");
    }
}

#[test]
fn a_session_that_is_attached_is_not_inherited_by_a_command() {
    let (world, handed) = (World::start(Config::default()), Handed::start());
    let session = handed.session(|target| StartSession::port(target, echo()));
    let token = serde_json::from_str::<Value>(&session).unwrap()["TokenValue"].as_str().unwrap().to_owned();
    world.secrets.lock().unwrap().insert(token, "session token".into());
    let mut command = world.ssm(&["-vvv", "forward", "--attach", "-L", "0:80", "--", "env"]);
    let outcome = Program::start(command.env("SSM_ATTACH", session)).wait();
    assert!(outcome.status.success() && outcome.stdout.contains("SSM_FORWARD_PORT="), "{outcome:?}");
    world.silent("env", outcome.stdout.as_bytes(), &["proxy password"]);
    world.silent("stderr", outcome.stderr.as_bytes(), &[]);
}

#[test]
fn metrics_tell_no_secret() {
    let world = World::start(Config::default());
    let spec = format!("0:{}", echo());
    let mut program =
        Program::start(&mut world.ssm(&["-vvv", "forward", &world.target, "-L", &spec, "--metrics", "0"]));
    let address = program.until(|text| {
        let (_, rest) = text.split_once("metrics are on http://")?;
        Some(rest.split_once('/')?.0.to_owned())
    });
    program.until(|text| text.contains("listening on").then_some(()));
    let mut metrics = String::new();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").unwrap();
    stream.read_to_string(&mut metrics).unwrap();
    assert!(metrics.contains("ssm_"), "{metrics}");
    world.silent("metrics", metrics.as_bytes(), &[]);
    program.signal(Signal::TERM);
    let outcome = program.wait();
    world.silent("stderr", outcome.stderr.as_bytes(), &[]);
}

/// The KMS of the loopback's agent, which gives the same key as the other one.
#[derive(Debug)]
struct SameKey;

impl KmsAuthority for SameKey {
    fn decrypt(&self, _: String, _: Vec<u8>, _: Vec<(&'static str, String)>) -> KmsAnswer {
        Box::pin(async { Ok(Secret::new(DATA_KEY.to_vec())) })
    }
}

#[test]
fn the_key_of_an_encrypted_session_is_nowhere() {
    let kms =
        Kms { key_id: KEY_ID.into(), challenge: KmsChallenge::Offered, authority: Some(Arc::new(SameKey)) };
    let world = World::start(Config { kms: Some(kms), ..Config::default() });
    let target = &world.target;
    let (outcome, seen) =
        watched(&mut world.ssm(&["-vvv", "shell", target, "--record", "r.cast", "--capture", "c.jsonl"]));
    assert!(outcome.status.success() && outcome.stderr.contains("encrypted using AWS KMS"), "{outcome:?}");
    assert!(!world.fake.asked_with("TrentService.GenerateDataKey").is_empty());
    world.silent("stdout", outcome.stdout.as_bytes(), &[]);
    world.silent("stderr", outcome.stderr.as_bytes(), &[]);
    world.silent("arguments", &seen.arguments, &[]);
    world.silent_files("encrypted");
}

#[test]
fn the_code_of_a_second_factor_is_nowhere() {
    let world = World::start(Config::default());
    world.secrets.lock().unwrap().insert(MFA_CODE.into(), "code".into());
    let mut command = world.ssm(&["-vvv", "exec", &world.target, "--profile", "mfa", "--", "true"]);
    let mut shell = OnTerminal::with_stdout(&command, 200);
    shell.until(|text| text.contains("role/MFA: ").then_some(()));
    shell.keys(&format!("{MFA_CODE}\r"));
    let outcome = shell.wait();
    assert!(outcome.status.success(), "{outcome:?}");
    assert!(!world.fake.asked_with(&format!("TokenCode={MFA_CODE}")).is_empty());
    world.silent("terminal", outcome.stderr.as_bytes(), &[]);
    world.silent_files("second factor");
    // What was kept for the next command is used without being shown.
    let outcome = Program::start(&mut command).wait();
    assert!(outcome.status.success(), "{outcome:?}");
    world.silent("stderr", outcome.stderr.as_bytes(), &[]);
}

#[test]
fn a_crash_leaves_no_core() {
    // Whoever is tested here may leave one.
    const MAY: &str = "ulimit -c $(ulimit -H -c)";
    let world = World::start(Config::default());
    let mut control = Command::new("sh");
    control.args(["-c", "kill -ABRT $$"]).current_dir(world.home.file("tmp"));
    let control = behind(MAY, &control).status().unwrap();
    assert_eq!(control.signal(), Some(6));
    for signal in [Signal::ABORT, Signal::ILL] {
        let spec = format!("0:{}", echo());
        let forward = world.ssm(&["-vvv", "forward", &world.target, "-L", &spec]);
        let mut program = Program::start(&mut behind(MAY, &forward));
        program.until(|text| text.contains("listening on").then_some(()));
        program.signal(signal);
        let outcome = program.wait();
        assert!(outcome.status.signal().is_some() && !outcome.status.core_dumped(), "{signal:?} {outcome:?}");
        world.silent("stderr", outcome.stderr.as_bytes(), &[]);
    }
    assert_eq!(cores(&world.home.file("cwd")), Vec::<PathBuf>::new());
    if !control.core_dumped() {
        eprintln!("this system leaves no core of anybody");
    }
}

/// Its files in /proc are not those of its user. Root is somebody else for that, of whom root's files can be told.
#[test]
fn nobody_but_root_looks_into_a_running_program() {
    const NOBODY: u32 = 65534;
    let me = geteuid();
    let user = if me.is_root() { NOBODY } else { me.as_raw() };
    let (handed, folder) = (Handed::start(), tempfile::tempdir().unwrap());
    let copy = folder.path().join("ssm");
    fs::copy(SSM, &copy).unwrap();
    for path in [folder.path(), &copy] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        chown(path, Some(user), None).unwrap();
    }
    let start = |command: &mut Command| {
        command
            .env_clear()
            .env("HOME", folder.path())
            .env("TMPDIR", folder.path())
            .current_dir(folder.path());
        if me.is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        command.env("SSM_ATTACH", handed.session(|target| StartSession::port(target, echo())));
        Program::start(command)
    };
    let owner = |program: &Program| fs::metadata(format!("/proc/{}/environ", program.pid())).unwrap().uid();
    let control = start(Command::new("/bin/sleep").arg("100"));
    assert_eq!(owner(&control), user);
    let mut program = start(Command::new(&copy).args(["forward", "--attach", "-L", "0:80"]));
    program.until(|text| text.contains("listening on").then_some(()));
    assert_eq!(owner(&program), 0);
}

fn cores(folder: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("core")).collect()
}
