//! OpenSSH over `ssm proxy`.

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use tempfile::TempDir;

use crate::support::process::{Process, SOON, run};
use crate::support::system::{Account, at, free_port};
use crate::support::{Loopback, SSM, file_digest, random_file};

#[test]
fn ssh_runs_commands() {
    let (loopback, server) = (Loopback::start(), Sshd::start());
    let output =
        run(server.client(&loopback, "ssh").args([&server.host(&loopback), "echo $((6 * 7)); id -un"]));
    assert_eq!(output, format!("42\n{}\n", server.account.name));
    let status =
        Process::spawn(server.client(&loopback, "ssh").args([&server.host(&loopback), "exit 3"])).wait();
    assert_eq!(status.code(), Some(3));
}

#[test]
fn scp_carries_a_file_unchanged_each_way() {
    let (loopback, server) = (Loopback::start(), Sshd::start());
    let local = TempDir::new().unwrap();
    let (original, digest) = random_file(local.path(), 64 * 1024 * 1024);
    let uploaded = server.folder.path().join("uploaded");
    let far = format!("{}:{}", server.host(&loopback), uploaded.display());
    run(server.client(&loopback, "scp").arg(&original).arg(&far));
    assert_eq!(file_digest(&uploaded), digest);
    let downloaded = local.path().join("downloaded");
    run(server.client(&loopback, "scp").arg(&far).arg(&downloaded));
    assert_eq!(file_digest(&downloaded), digest);
}

#[test]
fn input_that_ends_is_seen_to_the_end() {
    let (loopback, server) = (Loopback::start(), Sshd::start());
    let file = server.folder.path().join("input");
    let lines: String = (0..20_000).map(|line| format!("{line}\n")).collect();
    fs::write(&file, &lines).unwrap();
    let ssh = server.client(&loopback, "ssh");
    let line = format!("{} {} 'wc -l; echo end' <{}", quoted(&ssh), server.host(&loopback), file.display());
    assert_eq!(run(loopback.command("sh").args(["-c", &line])), "20000\nend\n");
}

/// A server of our own, run by a user who owns nothing else.
pub(crate) struct Sshd {
    pub(crate) folder: TempDir,
    pub(crate) keys: TempDir,
    pub(crate) port: u16,
    pub(crate) account: Account,
    _process: Process,
}

impl Sshd {
    pub(crate) fn start() -> Self {
        let account = Account::unprivileged();
        let folder = account.folder();
        let keys = TempDir::new().unwrap();
        let (host_key, user_key) = (folder.path().join("host_key"), keys.path().join("user_key"));
        key(&host_key);
        key(&user_key);
        account.give(&host_key);
        let authorized = folder.path().join("authorized_keys");
        fs::copy(user_key.with_extension("pub"), &authorized).unwrap();
        account.give(&authorized);
        let port = free_port();
        let config = folder.path().join("sshd_config");
        let lines = [
            format!("Port {port}"),
            "ListenAddress 127.0.0.1".into(),
            format!("HostKey {}", host_key.display()),
            format!("AuthorizedKeysFile {}", authorized.display()),
            "AuthenticationMethods publickey".into(),
            "PidFile none".into(),
            "StrictModes no".into(),
            "UsePAM no".into(),
            "PrintMotd no".into(),
            "Subsystem sftp internal-sftp".into(),
        ];
        fs::write(&config, lines.join("\n") + "\n").unwrap();
        account.give(&config);
        let mut sshd = account.command(at("/usr/sbin/sshd"));
        let process = Process::spawn(sshd.args(["-D", "-e", "-f"]).arg(&config).current_dir(folder.path()));
        process.until_says("Server listening on 127.0.0.1");
        let deadline = Instant::now() + SOON;
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            assert!(Instant::now() < deadline, "sshd does not answer");
        }
        Self { folder, keys, port, account, _process: process }
    }

    /// `ssh` or `scp` with nothing of the user's, over `ssm proxy`.
    fn client(&self, loopback: &Loopback, program: &str) -> Command {
        let known = self.keys.path().join("known_hosts");
        let host_key = fs::read_to_string(self.folder.path().join("host_key.pub")).unwrap();
        fs::write(&known, format!("[{}]:{} {host_key}", loopback.target, self.port)).unwrap();
        let mut command = loopback.command(program);
        command.args(["-F", "/dev/null", "-i"]).arg(self.keys.path().join("user_key"));
        for option in [
            "BatchMode=yes".to_owned(),
            "IdentitiesOnly=yes".into(),
            "StrictHostKeyChecking=yes".into(),
            format!("Port={}", self.port),
            format!("UserKnownHostsFile={}", known.display()),
            format!("ProxyCommand={SSM} proxy %h %p --payload-size 32768 --pacing off"),
        ] {
            command.args(["-o", &option]);
        }
        command
    }

    pub(crate) fn host(&self, loopback: &Loopback) -> String {
        format!("{}@{}", self.account.name, loopback.target)
    }
}

pub(crate) fn key(path: &Path) -> PathBuf {
    run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path));
    path.to_owned()
}

/// A command as a shell reads it.
fn quoted(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| format!("'{}'", word.to_str().unwrap())).collect::<Vec<_>>().join(" ")
}
