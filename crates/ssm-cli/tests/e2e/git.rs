//! git over HTTP through `ssm forward`: a server that takes pushes, behind nginx.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::support::nginx::Nginx;
use crate::support::process::{Process, run};
use crate::support::system::{Account, at};
use crate::support::{FAR_NAME, FAST, Loopback};

#[test]
fn a_clone_and_a_push_through_a_forward_keep_every_object() {
    let (loopback, server) = (Loopback::start(), GitServer::start());
    let forward = loopback.forward(server.port(), FAST);
    round_trip(&loopback, &server, &format!("http://{}", forward.local), &[]);
}

#[test]
fn a_clone_and_a_push_through_the_proxy_keep_every_object() {
    let (loopback, server) = (Loopback::with_far_name(&[]), GitServer::start());
    let forward = loopback.forward_as(&[FAST, &["-D", "0"]].concat());
    let proxy = format!("http.proxy=socks5h://{}", forward.local);
    round_trip(&loopback, &server, &format!("http://{FAR_NAME}:{}", server.port()), &["-c", &proxy]);
}

/// Clones, pushes more than fits into one request, clones again, and compares.
fn round_trip(loopback: &Loopback, server: &GitServer, base: &str, options: &[&str]) {
    let folder = TempDir::new().unwrap();
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    let url = format!("{base}/git/project");
    let git = |args: &[&str]| run(command(loopback).args(options).args(args).current_dir(folder.path()));
    git(&["clone", "-q", &url, "first"]);
    assert_eq!(fs::read_to_string(first.join("file-7")).unwrap(), "content 7\n");
    let mut large = vec![0; 3_000_000];
    getrandom::fill(&mut large).unwrap();
    fs::write(first.join("large"), &large).unwrap();
    git(&["-C", "first", "add", "large"]);
    git(&["-C", "first", "commit", "-q", "-m", "large"]);
    git(&["-C", "first", "push", "-q", "origin", "HEAD"]);
    git(&["clone", "-q", &url, "second"]);
    assert!(fs::read(second.join("large")).unwrap() == large);
    for repository in [&first, &second, &server.repository()] {
        let mut fsck = server.git(loopback, repository);
        run(fsck.args(["fsck", "--full", "--strict"]));
    }
    let head = |repository: &Path| run(server.git(loopback, repository).args(["rev-parse", "HEAD"]));
    assert_eq!(head(&server.repository()), head(&first));
}

/// git with nothing of the user's.
pub(crate) fn command(loopback: &Loopback) -> Command {
    let mut git = loopback.command("git");
    git.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_TERMINAL_PROMPT", "0");
    for role in ["AUTHOR", "COMMITTER"] {
        git.env(format!("GIT_{role}_NAME"), "tester").env(format!("GIT_{role}_EMAIL"), "tester@far.test");
    }
    git
}

/// nginx with `git http-backend` behind it, and one repository that it serves as `/git/project`.
pub(crate) struct GitServer {
    nginx: Nginx,
    folder: TempDir,
    _backend: Process,
}

impl GitServer {
    pub(crate) fn start() -> Self {
        let account = Account::unprivileged();
        let folder = account.folder();
        let socket = folder.path().join("cgi.sock");
        let backend =
            PathBuf::from(run(Command::new("git").arg("--exec-path")).trim()).join("git-http-backend");
        let mut fcgiwrap = account.command(at("/usr/sbin/fcgiwrap"));
        fcgiwrap.args(["-f", "-c", "2", "-s", &format!("unix:{}", socket.display())]);
        let process = Process::spawn(fcgiwrap.current_dir(folder.path()));
        process.until_true("an answer", || UnixStream::connect(&socket).is_ok());
        fill(&account, folder.path());
        let nginx = Nginx::with(&format!(
            "location /git/ {{
                 fastcgi_pass unix:{socket};
                 fastcgi_param SCRIPT_FILENAME {backend};
                 fastcgi_param GIT_PROJECT_ROOT {folder};
                 fastcgi_param GIT_HTTP_EXPORT_ALL '';
                 fastcgi_param HOME {folder};
                 fastcgi_param PATH_INFO $uri;
                 fastcgi_param REMOTE_USER tester;
                 fastcgi_param REQUEST_METHOD $request_method;
                 fastcgi_param QUERY_STRING $query_string;
                 fastcgi_param CONTENT_TYPE $content_type;
                 fastcgi_param CONTENT_LENGTH $content_length;
             }}",
            socket = socket.display(),
            backend = backend.display(),
            folder = folder.path().display(),
        ));
        Self { nginx, folder, _backend: process }
    }

    pub(crate) fn port(&self) -> u16 {
        self.nginx.port
    }

    fn repository(&self) -> PathBuf {
        self.folder.path().join("git/project")
    }

    /// git in a repository that another user may own.
    fn git(&self, loopback: &Loopback, repository: &Path) -> Command {
        let mut git = command(loopback);
        git.args(["-c", "safe.directory=*", "-C"]).arg(repository);
        git
    }
}

/// Makes the repository of the server, with a history.
fn fill(account: &Account, folder: &Path) {
    let bare = folder.join("git/project");
    let script =
        "set -e; git init -q --bare -b main git/project; git -C git/project config http.receivepack true
        exec >stream
        for commit in 1 2 3 4 5 6 7 8 9; do
            echo commit refs/heads/main; echo 'committer tester <tester@far.test> 1700000000 +0000'
            echo data 1; echo x; echo M 644 inline file-$commit; echo data 10; echo content $commit
        done
        exec git -C git/project fast-import --quiet <stream >/dev/null";
    fs::create_dir(folder.join("git")).unwrap();
    account.give(&folder.join("git"));
    let mut sh = account.command("sh");
    run(sh.args(["-c", script]).env("HOME", folder).env("GIT_CONFIG_NOSYSTEM", "1").current_dir(folder));
    assert!(bare.join("HEAD").exists());
}
