//! `ssm ssh`, `ssm scp`, `ssm sftp` and the lines of `ssm ssh-config`, with a real sshd; rsync and git over them.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::aws_cli::aws;
use crate::git;
use crate::openssh::{Sshd, key};
use crate::support::process::{Process, run};
use crate::support::system::installed;
use crate::support::{Loopback, SSM, clean, file_digest, random_file};

#[test]
fn ssh_options_stand_on_both_sides_of_any_target() {
    let far = Far::start();
    let user = &far.server.account.name;
    // The id; an alias that has a user; a computer name, which is looked up.
    for target in [format!("{user}@{}", far.loopback.target), "web".into(), format!("{user}@localhost")] {
        let port = far.server.port.to_string();
        let mut ssh = far.ssm(&["ssh"]);
        ssh.args(far.options()).args(["--payload-size", "2048", &target, "-p", &port, "--pacing=off", "-T"]);
        let mut process = Process::spawn(ssh.args(["--", "echo $((6 * 7)); id -un; exit 3"]));
        assert_eq!(process.wait().code(), Some(3), "{target}: {}", process.stderr());
        assert_eq!(process.stdout(), format!("42\n{user}\n"), "{target}");
    }
    // Under the id alone, which is why StrictHostKeyChecking let them through.
    assert!(far.known_hosts().starts_with(&format!("{} ", far.loopback.target)));
}

#[test]
fn ssh_takes_our_place() {
    let far = Far::start();
    let target = format!("{}:{}", far.server.host(&far.loopback), far.server.port);
    let (mut process, mut stdin) =
        Process::spawn_with_stdin(far.ssm(&["ssh"]).args(far.options()).args([&target, "cat"]));
    stdin.write_all(b"here\n").unwrap();
    process.until_says("here\n");
    assert_eq!(fs::read_to_string(format!("/proc/{}/comm", process.pid())).unwrap(), "ssh\n");
    process.signal(Signal::TERM);
    assert_eq!(process.wait().code(), Some(255), "as ssh itself ends");
}

#[test]
fn a_path_of_our_own_may_have_any_character() {
    let far = Far::start();
    let odd = far.loopback.home().join("a b's 100%h $(x)");
    fs::create_dir(&odd).unwrap();
    symlink(SSM, odd.join("ssm")).unwrap();
    let mut ssh = far.loopback.command(odd.join("ssm"));
    ssh.args(["ssh", "--reason", "it's \"50%\" $HOME `x`;"]).args(far.options());
    let output =
        run(ssh.args(["-p", &far.server.port.to_string(), &far.server.host(&far.loopback), "echo in"]));
    assert_eq!(output, "in\n");
}

#[test]
fn scp_and_sftp_carry_files_each_way() {
    let far = Far::start();
    let local = TempDir::new().unwrap();
    let (original, digest) = random_file(local.path(), 4 * 1024 * 1024);
    let uploaded = far.server.folder.path().join("up:loaded");
    let port = far.server.port.to_string();
    let place = format!("web:{}", uploaded.display());
    run(far.ssm(&["scp"]).args(far.options()).args(["-P", &port]).arg(&original).arg(&place));
    assert_eq!(file_digest(&uploaded), digest);
    let downloaded = local.path().join("down");
    let place = format!("{}:{}", far.server.host(&far.loopback), uploaded.display());
    run(far.ssm(&["scp", "--first"]).args(far.options()).args(["-qP", &port, &place]).arg(&downloaded));
    assert_eq!(file_digest(&downloaded), digest);
    let batch = local.path().join("batch");
    let again = local.path().join("again");
    fs::write(&batch, format!("get \"{}\" \"{}\"\n", uploaded.display(), again.display())).unwrap();
    run(far.ssm(&["sftp"]).args(far.options()).args(["-P", &port, "-b"]).arg(&batch).arg("web"));
    assert_eq!(file_digest(&again), digest);
}

#[test]
fn rsync_and_git_run_over_ssm_ssh() {
    let far = Far::start();
    let local = TempDir::new().unwrap();
    for number in 0..50 {
        fs::write(local.path().join(format!("file {number}")), format!("content {number}\n").repeat(500))
            .unwrap();
    }
    let there = far.server.folder.path().join("copy");
    let shell =
        format!("{SSM} --config {} ssh -p {} {}", far.config().display(), far.server.port, far.words());
    let rsync = || {
        let mut rsync = far.loopback.command("rsync");
        rsync.args(["-a", "--stats", "-e", &shell]).arg(format!("{}/", local.path().display()));
        run(rsync.arg(format!("web:{}", there.display())))
    };
    let stats = rsync();
    assert!(stats.contains("files transferred: 50\n"), "{stats}");
    assert_eq!(fs::read_to_string(there.join("file 7")).unwrap(), "content 7\n".repeat(500));
    fs::write(local.path().join("file 7"), "other\n").unwrap();
    let stats = rsync();
    assert!(stats.contains("files transferred: 1\n"), "{stats}");
    assert_eq!(fs::read_to_string(there.join("file 7")).unwrap(), "other\n");
    // git finds out first what `ssm ssh` can do.
    let folder = far.server.folder.path();
    let mut init = far.server.account.command("git");
    run(init.args(["init", "-q", "--bare"]).arg(folder.join("repository")).current_dir(folder));
    let mut clone = git::command(&far.loopback);
    clone.env("GIT_SSH_COMMAND", &shell).args(["clone", "-q"]).current_dir(local.path());
    run(clone.arg(format!("web:{}", folder.join("repository").display())));
    assert!(local.path().join("repository/.git").exists());
}

/// What an editor's remote mode does as well: nothing but `ssh HOST` with the user's configuration.
#[test]
fn rsync_and_git_work_by_the_lines_of_ssh_config() {
    let far = Far::start();
    let config = far.loopback.home().join("ssh_config");
    let own = format!("Host *\n    Port {}\n{}", far.server.port, far.lines());
    fs::write(&config, own).unwrap();
    run(&mut far.ssm(&["ssh-config", "--install", "--file", config.to_str().unwrap(), "--pacing", "off"]));
    let ssh = format!("ssh -F {}", config.display());
    let user = &far.server.account.name;
    for host in ["web".to_owned(), format!("{user}@{}", far.loopback.target)] {
        let mut command = far.loopback.command("ssh");
        let output = run(command.arg("-F").arg(&config).args([&host, "id -un"]));
        assert_eq!(output, format!("{user}\n"), "{host}");
    }

    let folder = far.server.folder.path();
    let mut init = far.server.account.command("git");
    run(init.args(["init", "-q", "--bare", "-b", "main"]).arg(folder.join("repository")).current_dir(folder));
    let local = TempDir::new().unwrap();
    let git = |args: &[&str]| {
        let mut git = git::command(&far.loopback);
        run(git.env("GIT_SSH_COMMAND", &ssh).args(args).current_dir(local.path()))
    };
    let url = format!("web:{}", folder.join("repository").display());
    git(&["clone", "-q", &url, "first"]);
    let mut large = vec![0; 1_000_000];
    getrandom::fill(&mut large).unwrap();
    fs::write(local.path().join("first/large"), &large).unwrap();
    git(&["-C", "first", "add", "large"]);
    git(&["-C", "first", "commit", "-q", "-m", "large"]);
    git(&["-C", "first", "push", "-q", "origin", "HEAD:main"]);
    git(&["clone", "-q", &url, "second"]);
    assert!(fs::read(local.path().join("second/large")).unwrap() == large);

    let copy = folder.join("copy");
    let mut rsync = far.loopback.command("rsync");
    rsync.args(["-a", "-e", &ssh]).arg(local.path().join("second/large"));
    run(rsync.arg(format!("web:{}", copy.display())));
    assert!(fs::read(&copy).unwrap() == large);
}

#[test]
fn a_key_made_for_one_login_lets_in_and_is_gone_afterwards() {
    let far = Far::start();
    let connect = InstanceConnect::start(far.authorized());
    let user = far.server.account.name.as_str();
    let port = far.server.port.to_string();
    let login = |words: &[&str]| {
        let mut ssh = far.ssm(&["ssh"]);
        ssh.args(far.options_without_key()).args(["-p", &port]).args(words);
        ssh.env("AWS_ENDPOINT_URL_EC2_INSTANCE_CONNECT", &connect.endpoint);
        Process::spawn(&mut ssh)
    };
    let mut refused = login(&["web", "true"]);
    assert_eq!(refused.wait().code(), Some(255), "nothing lets it in");
    let mut process = login(&["--send-key", "web", "echo in; exit 4"]);
    assert_eq!(process.wait().code(), Some(4), "{}", process.stderr());
    assert_eq!(process.stdout(), "in\n");
    let asked = connect.asked();
    assert_eq!(asked.len(), 1);
    assert_eq!(
        (asked[0]["InstanceId"].as_str(), asked[0]["InstanceOSUser"].as_str()),
        (Some(far.loopback.target.as_str()), Some(user))
    );
    assert!(asked[0]["SSHPublicKey"].as_str().unwrap().starts_with("ssh-ed25519 AAAA"));
    let left: Vec<_> = fs::read_dir(far.loopback.home().join("ssm"))
        .unwrap()
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    assert!(!left.iter().any(|name| name.to_str().unwrap().starts_with("key-")), "{left:?}");

    let source = far.server.folder.path().join("source");
    fs::write(&source, "content").unwrap();
    let copied = far.keys("copied");
    let mut scp = far.ssm(&["scp", "--send-key"]);
    scp.args(far.options_without_key())
        .args(["-P", &port])
        .arg(format!("web:{}", source.display()))
        .arg(&copied);
    run(scp.env("AWS_ENDPOINT_URL_EC2_INSTANCE_CONNECT", &connect.endpoint));
    assert_eq!(fs::read_to_string(&copied).unwrap(), "content");
}

#[test]
fn a_key_of_the_user_is_sent_by_the_proxy() {
    let far = Far::start();
    let connect = InstanceConnect::start(far.authorized());
    let own = far.keys("own");
    key(&own);
    let public = own.with_extension("pub");
    let proxy = format!("ProxyCommand={SSM} proxy --send-key --key {} %r@%h %p", public.display());
    let mut ssh = far.loopback.command("ssh");
    ssh.env("AWS_ENDPOINT_URL_EC2_INSTANCE_CONNECT", &connect.endpoint);
    ssh.args(far.options_without_key())
        .args(["-o", &proxy, "-o"])
        .arg(format!("HostKeyAlias={}", far.loopback.target));
    ssh.arg("-i").arg(&own).args([
        "-p",
        &far.server.port.to_string(),
        &far.server.host(&far.loopback),
        "echo in",
    ]);
    assert_eq!(run(&mut ssh), "in\n");
    assert_eq!(
        connect.asked()[0]["SSHPublicKey"].as_str(),
        Some(fs::read_to_string(&public).unwrap().trim())
    );

    let mut ssh = far.ssm(&["ssh", "--send-key", "--key"]);
    ssh.arg(&public).env("AWS_ENDPOINT_URL_EC2_INSTANCE_CONNECT", &connect.endpoint);
    let output =
        run(ssh.args(far.options_without_key()).args(["-p", &far.server.port.to_string(), "web", "echo in"]));
    assert_eq!(output, "in\n");
}

#[test]
fn a_node_outside_of_ec2_is_no_place_for_a_key() {
    let far = Far::start();
    for words in [
        &["ssh", "--send-key", "mi-0123456789abcdef0"][..],
        &["scp", "--send-key", "mi-0123456789abcdef0:x", "."],
    ] {
        let mut process = Process::spawn(&mut far.ssm(words));
        assert_eq!(process.wait().code(), Some(2));
        assert!(process.stderr().contains("does not reach mi-0123456789abcdef0"), "{}", process.stderr());
    }
}

/// moto reads what we send as AWS would.
#[test]
fn instance_connect_is_spoken_as_others_understand_it() {
    let far = Far::start();
    let mut moto = far.loopback.command(installed("SSM_TEST_MOTO"));
    let moto = Process::spawn(moto.args(["--host", "127.0.0.1", "--port", "0"]));
    let endpoint = moto.until("where it listens", |text| {
        let (_, rest) = text.split_once("Running on ")?;
        Some(rest.split_once('\n')?.0.trim().to_owned())
    });
    let own = far.keys("own");
    key(&own);
    let mut proxy = far.ssm(&["-v", "proxy", "--send-key", "--key"]);
    proxy.arg(own.with_extension("pub")).env("AWS_ENDPOINT_URL_EC2_INSTANCE_CONNECT", &endpoint);
    let (process, _stdin) = Process::spawn_with_stdin(
        proxy.args([&far.server.host(&far.loopback), &far.server.port.to_string()]),
    );
    process.until_says("SSH-2.0-");
    assert!(process.stderr().contains("let in for 60 s"), "{}", process.stderr());
}

/// As `~^Z` does it: ssh stops itself, and whoever waits for ssh has to stop as well, or nobody gets the prompt back.
#[test]
fn what_stops_ssh_stops_us_beside_a_key_of_ours() {
    let home = TempDir::new().unwrap();
    let ssh = home.path().join("ssh");
    fs::write(&ssh, "#!/bin/sh\nkill -STOP $$\necho back\nexit 7\n").unwrap();
    fs::set_permissions(&ssh, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", home.path().display(), std::env::var("PATH").unwrap());
    let mut command = clean(SSM, home.path());
    command.env("PATH", path).args(["ssh", "--send-key", "i-0123456789abcdef0"]);
    let mut process = Process::spawn(&mut command);
    let stat = format!("/proc/{}/stat", process.pid());
    process.until_true("the stop", || fs::read_to_string(&stat).unwrap().contains(") T "));
    assert_eq!(process.stdout(), "");
    process.signal(Signal::CONT);
    assert_eq!(process.wait().code(), Some(7), "{}", process.stderr());
    assert_eq!(process.stdout(), "back\n");
}

#[test]
fn the_aws_cli_carries_ssh_with_our_plugin() {
    let far = Far::start();
    let aws = aws(&far.loopback, &["ssm", "start-session", "--target", "%h"]);
    let words: Vec<_> = aws.get_args().map(|word| word.to_str().unwrap()).collect();
    let proxy = format!(
        "ProxyCommand={} {} --document-name AWS-StartSSHSession --parameters portNumber=%p",
        aws.get_program().to_str().unwrap(),
        words.join(" "),
    );
    let mut ssh = far.loopback.command("ssh");
    for (name, value) in aws.get_envs() {
        if let Some(value) = value {
            ssh.env(name, value);
        }
    }
    ssh.args(far.options()).args(["-o", &proxy, "-p", &far.server.port.to_string()]);
    let mut process = Process::spawn(ssh.args([&far.server.host(&far.loopback), "echo $((6 * 7)); exit 3"]));
    assert_eq!(process.wait().code(), Some(3), "{}", process.stderr());
    assert_eq!(process.stdout(), "42\n");
}

/// A loopback, a server behind it, and `web` for an alias of it.
struct Far {
    loopback: Loopback,
    server: Sshd,
}

impl Far {
    fn start() -> Self {
        let far = Self { loopback: Loopback::start(), server: Sshd::start() };
        let (target, user) = (&far.loopback.target, &far.server.account.name);
        fs::write(far.config(), format!("[alias.web]\ntarget = '{target}'\nuser = '{user}'\n")).unwrap();
        let host_key = fs::read_to_string(far.server.folder.path().join("host_key.pub")).unwrap();
        let port = far.server.port;
        fs::write(far.keys("known_hosts"), format!("{target} {host_key}[{target}]:{port} {host_key}"))
            .unwrap();
        far
    }

    fn config(&self) -> PathBuf {
        self.loopback.home().join("ssm.toml")
    }

    fn keys(&self, name: &str) -> PathBuf {
        self.server.keys.path().join(name)
    }

    fn known_hosts(&self) -> String {
        fs::read_to_string(self.keys("known_hosts")).unwrap()
    }

    fn authorized(&self) -> PathBuf {
        self.server.folder.path().join("authorized_keys")
    }

    fn ssm(&self, words: &[&str]) -> Command {
        let mut command = self.loopback.command(SSM);
        command.arg("--config").arg(self.config()).args(words);
        command
    }

    /// Options of ssh that leave the account of this user out of it.
    fn options_without_key(&self) -> Vec<String> {
        let known = format!("UserKnownHostsFile={}", self.keys("known_hosts").display());
        let options =
            ["BatchMode=yes", "IdentitiesOnly=yes", "StrictHostKeyChecking=yes", "UpdateHostKeys=no", &known];
        let options = options.iter().flat_map(|option| ["-o".to_owned(), (*option).to_owned()]);
        ["-F".to_owned(), "/dev/null".into()].into_iter().chain(options).collect()
    }

    fn options(&self) -> Vec<String> {
        let mut options = self.options_without_key();
        options.extend(["-i".into(), self.keys("user_key").display().to_string()]);
        options
    }

    /// The same on a command line.
    fn words(&self) -> String {
        self.options().join(" ")
    }

    /// The same in a configuration.
    fn lines(&self) -> String {
        let known = self.keys("known_hosts");
        format!(
            "    BatchMode yes\n    IdentitiesOnly yes\n    StrictHostKeyChecking yes\n    UserKnownHostsFile {}\n    IdentityFile {}\n",
            known.display(),
            self.keys("user_key").display()
        )
    }
}

/// EC2 Instance Connect, which lets keys into a file.
struct InstanceConnect {
    endpoint: String,
    asked: Arc<Mutex<Vec<Value>>>,
}

impl InstanceConnect {
    fn start(authorized: PathBuf) -> Self {
        // The server's own user reads it, whoever writes it here.
        fs::write(&authorized, "").unwrap();
        fs::set_permissions(&authorized, fs::Permissions::from_mode(0o644)).unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&asked);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let request = serve(&stream, &authorized);
                into.lock().unwrap().push(request);
            }
        });
        Self { endpoint, asked }
    }

    fn asked(&self) -> Vec<Value> {
        self.asked.lock().unwrap().clone()
    }
}

/// Answers one request; returns its body.
fn serve(stream: &TcpStream, authorized: &Path) -> Value {
    let mut reader = BufReader::new(stream);
    let (mut len, mut target, mut line) = (0, String::new(), String::new());
    while reader.read_line(&mut line).unwrap() > 2 {
        let (name, value) = line.split_once(':').unwrap_or_default();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => len = value.trim().parse().unwrap(),
            "x-amz-target" => target = value.trim().to_owned(),
            _ => {}
        }
        line.clear();
    }
    assert_eq!(target, "AWSEC2InstanceConnectService.SendSSHPublicKey");
    let mut body = vec![0; len];
    reader.read_exact(&mut body).unwrap();
    let request: Value = serde_json::from_slice(&body).unwrap();
    fs::write(authorized, format!("{}\n", request["SSHPublicKey"].as_str().unwrap())).unwrap();
    let answer = r#"{"RequestId":"r","Success":true}"#;
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.1\r\nConnection: close";
    write!(&mut &*stream, "{head}\r\nContent-Length: {}\r\n\r\n{answer}", answer.len()).unwrap();
    request
}
