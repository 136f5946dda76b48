//! Other users of the machine, and an environment, files and folders that somebody else has had a hand in.
//!
//! Some tests are somebody else for a moment, which takes root.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Permissions};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::process::Signal;
use serde_json::{Value, json};
use ssm_session::StartSession;

use crate::common::fake_aws::{FakeAws, Home};
use crate::common::{Handed, Outcome, Program, Served, Tunnels, behind, echo, ssm};
use crate::memory::peak;

/// `nobody`.
const OTHER: u32 = 65534;

const TARGET: &str = "i-0123456789abcdef0";

/// Long enough for a busy machine, and too short for what waits for somebody.
const PATIENCE: Duration = Duration::from_secs(20);

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn fifo(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

fn assert_root() {
    assert!(rustix::process::geteuid().is_root(), "run it as root: it needs a second user");
}

/// Perl, as another user.
fn other(script: &str, args: &[&OsStr]) -> Command {
    assert_root();
    let mut command = Command::new("perl");
    command.args(["-MSocket", "-e", script]).args(args).uid(OTHER).gid(OTHER).current_dir("/");
    command
}

/// The end of a program that has to end.
#[track_caller]
fn outcome(command: &mut Command) -> Outcome {
    let program = Program::start(command);
    let begin = Instant::now();
    let outcome = program.wait();
    assert!(begin.elapsed() < PATIENCE, "{outcome:?}");
    assert!(outcome.status.code().is_some_and(|code| code != 101), "{outcome:?}");
    assert!(!outcome.stderr.contains("panicked"), "{outcome:?}");
    outcome
}

#[test]
fn the_socket_of_a_tunnel_answers_nobody_else() {
    const ASK: &str = r#"$SIG{PIPE} = 'IGNORE'; socket(S, PF_UNIX, SOCK_STREAM, 0) or die; connect(S, sockaddr_un($ARGV[0])) or die "refused: $!\n";
        syswrite(S, "\"$ARGV[1]\"\n"); while (sysread(S, my $part, 4096)) { print $part }"#;
    let (served, places) = (Served::start(), tempfile::tempdir().unwrap());
    let mut command = served.ssm(&["forward", &served.target, "-L", &format!("0:{}", echo())]);
    let mut tunnel = Program::start(command.env("XDG_RUNTIME_DIR", places.path()));
    tunnel.until(|text| text.contains("listening on").then_some(()));
    let folder = places.path().join("ssm");
    let socket = folder.join(format!("{}.sock", tunnel.pid()));
    tunnel.wait_for(|_| socket.exists().then_some(()));
    assert_eq!((mode(&folder), mode(&socket)), (0o700, 0o600));
    let ask = |what: &str| other(ASK, &[socket.as_os_str(), OsStr::new(what)]).output().unwrap();
    set_mode(places.path(), 0o755);
    let refused = ask("stop");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("Permission denied"), "{refused:?}");
    // Even if somebody opens everything.
    set_mode(&folder, 0o755);
    set_mode(&socket, 0o666);
    for what in ["status", "stop"] {
        let asked = ask(what);
        assert!(asked.status.success() && asked.stdout.is_empty(), "{what}: {asked:?}");
    }
    // Its owner is told, when the folder is as it should be again.
    let mut list = ssm(&["tunnels", "--json"]);
    list.env("XDG_RUNTIME_DIR", places.path());
    assert!(outcome(&mut list).stderr.contains("open to others"));
    set_mode(&folder, 0o700);
    let told: Value = serde_json::from_str(&outcome(&mut list).stdout).unwrap();
    assert_eq!(told["forwards"][0]["state"], "ready", "{told}");
    tunnel.signal(Signal::TERM);
    tunnel.wait();
}

#[test]
fn somebody_else_behind_a_socket_is_asked_nothing() {
    const LISTEN: &str = r#"socket(S, PF_UNIX, SOCK_STREAM, 0) or die; bind(S, sockaddr_un($ARGV[0])) or die $!; listen(S, 9);
        $| = 1; print "ready\n"; while (accept(C, S)) { sysread(C, my $part, 4096); print "heard $part" if length $part; close C }"#;
    let places = tempfile::tempdir().unwrap();
    let folder = places.path().join("ssm");
    fs::create_dir(&folder).unwrap();
    set_mode(places.path(), 0o755);
    set_mode(&folder, 0o777);
    let mut listener = other(LISTEN, &[folder.join("77.sock").as_os_str()]);
    let mut trap = Program::start(&mut listener);
    trap.wait_for(|trap| trap.stdout().contains("ready").then_some(()));
    set_mode(&folder, 0o700);
    let run = |args: &[&str]| outcome(ssm(args).env("XDG_RUNTIME_DIR", places.path()));
    let told = run(&["tunnels", "--json"]).stdout;
    assert!(told.contains("somebody else answers for it"), "{told}");
    let told = run(&["tunnels", "stop", "77"]);
    assert!(told.stderr.contains("somebody else") && !told.status.success(), "{told:?}");
    assert_eq!(trap.stdout(), "ready\n");
}

#[test]
fn a_folder_for_everybody_with_a_trap_in_it_is_not_used() {
    assert_root();
    let everybody = tempfile::tempdir().unwrap();
    set_mode(everybody.path(), 0o1777);
    let (trap, elsewhere) = (everybody.path().join("ssm-0"), everybody.path().join("elsewhere"));
    let run = || outcome(ssm(&["tunnels"]).env_remove("XDG_RUNTIME_DIR").env("TMPDIR", everybody.path()));
    fs::create_dir(&elsewhere).unwrap();
    symlink(&elsewhere, &trap).unwrap();
    assert!(run().stderr.contains("ssm-0 is not a folder"), "{:?}", run());
    fs::remove_file(&trap).unwrap();
    fs::create_dir(&trap).unwrap();
    assert!(run().stderr.contains("ssm-0 is open to others"), "{:?}", run());
    set_mode(&trap, 0o700);
    chown(&trap, Some(OTHER), None).unwrap();
    assert!(run().stderr.contains("ssm-0 belongs to somebody else"), "{:?}", run());
    fs::remove_dir(&trap).unwrap();
    assert!(run().status.success());
    assert_eq!((mode(&trap), fs::read_dir(&elsewhere).unwrap().count()), (0o700, 0));
    // The runtime folder of another user, as sudo leaves it there, is as good as none.
    chown(&elsewhere, Some(OTHER), None).unwrap();
    let mut sudo = ssm(&["tunnels"]);
    let told = outcome(sudo.env("XDG_RUNTIME_DIR", &elsewhere).env("TMPDIR", everybody.path()));
    assert!(told.status.success() && fs::read_dir(&elsewhere).unwrap().count() == 0, "{told:?}");
}

/// Polls for as long as it takes: a moment would be enough for somebody who waits for it.
#[test]
fn a_unix_socket_is_never_open_to_others() {
    let (folder, handed) = (tempfile::tempdir().unwrap(), Handed::start());
    set_mode(folder.path(), 0o777);
    let path = folder.path().join("s");
    let (seen, over) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
    let watcher = {
        let (path, seen, over) = (path.clone(), Arc::clone(&seen), Arc::clone(&over));
        thread::spawn(move || {
            loop {
                let last = over.load(Ordering::Relaxed);
                if let Ok(found) = fs::symlink_metadata(&path) {
                    seen.lock().unwrap().push(found.mode() & 0o777);
                }
                if last {
                    return;
                }
            }
        })
    };
    let session = handed.session(|target| StartSession::port(target, echo()));
    // The worst there can be.
    let forward = ssm(&["forward", "--attach", "-L", &format!("{}:80", path.display())]);
    let mut command = behind("umask 0", &forward);
    let mut program = Program::start(command.env("SSM_ATTACH", session));
    program.until(|text| text.contains("listening on").then_some(()));
    over.store(true, Ordering::Relaxed);
    watcher.join().unwrap();
    let seen = seen.lock().unwrap();
    assert!(!seen.is_empty() && seen.iter().all(|mode| *mode == 0o600), "{seen:?}");
    const CONNECT: &str =
        "socket(S, PF_UNIX, SOCK_STREAM, 0); print connect(S, sockaddr_un($ARGV[0])) ? 'open' : $!";
    let tried = other(CONNECT, &[path.as_os_str()]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&tried.stdout), "Permission denied");
}

#[test]
fn what_is_in_the_way_of_a_socket_is_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("file"), "kept").unwrap();
    symlink(path("file"), path("link")).unwrap();
    symlink(path("nowhere"), path("dangling")).unwrap();
    fs::create_dir(path("folder")).unwrap();
    fifo(&path("fifo"));
    let live = UnixListener::bind(path("live")).unwrap();
    symlink(path("live"), path("link-to-live")).unwrap();
    drop(UnixListener::bind(path("stale")).unwrap());
    symlink(path("stale"), path("link-to-stale")).unwrap();
    let handed = Handed::start();
    for name in ["file", "link", "dangling", "folder", "fifo", "live", "link-to-live", "link-to-stale"] {
        let spec = format!("{}:80", path(name).display());
        let session = handed.session(|target| StartSession::port(target, 80));
        let told = outcome(ssm(&["forward", "--attach", "-L", &spec]).env("SSM_ATTACH", session));
        assert_eq!(told.status.code(), Some(255), "{name}: {told:?}");
        assert!(told.stderr.contains("cannot listen on"), "{name}: {told:?}");
    }
    assert_eq!(fs::read_to_string(path("file")).unwrap(), "kept");
    assert!(path("link").is_symlink() && path("dangling").is_symlink() && !path("nowhere").exists());
    assert!(path("stale").exists() && path("link-to-stale").is_symlink());
    drop(live);
    // What an earlier run has left is replaced.
    let session = handed.session(|target| StartSession::port(target, echo()));
    let spec = format!("{}:80", path("stale").display());
    let mut program = Program::start(ssm(&["forward", "--attach", "-L", &spec]).env("SSM_ATTACH", session));
    program.until(|text| text.contains("listening on").then_some(()));
    assert_eq!(mode(&path("stale")), 0o600);
}

#[test]
fn a_capture_or_a_recording_goes_into_nothing_that_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("file"), "kept").unwrap();
    set_mode(&path("file"), 0o666);
    symlink(path("file"), path("link")).unwrap();
    symlink(path("nowhere"), path("dangling")).unwrap();
    fifo(&path("fifo"));
    let handed = Handed::start();
    for flag in ["--capture", "--record"] {
        for name in ["file", "link", "dangling", "fifo", ".", "/dev/null", "/dev/zero"] {
            let session = handed.session(|target| StartSession::shell(target));
            let path = path(name);
            let mut command = ssm(&["shell", "--attach", flag]);
            let told = outcome(command.arg(&path).env("SSM_ATTACH", session));
            assert!(told.stderr.contains("exists already"), "{flag} {name}: {told:?}");
        }
        let new = path(&format!("new{flag}"));
        let session = handed.session(|target| StartSession::shell(target));
        let told = outcome(ssm(&["shell", "--attach", flag]).arg(&new).env("SSM_ATTACH", session));
        assert!(told.status.success() && mode(&new) == 0o600, "{told:?}");
    }
    assert_eq!(fs::read_to_string(path("file")).unwrap(), "kept");
    assert!(!path("nowhere").exists());
}

/// Whatever stands in place of a file that this program keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum InPlace {
    Open,
    Link,
    Dangling,
    Fifo,
}

const IN_PLACE: [InPlace; 4] = [InPlace::Open, InPlace::Link, InPlace::Dangling, InPlace::Fifo];

impl InPlace {
    /// Puts it there. What a link leads to is `precious`.
    fn put(self, path: &Path, precious: &Path) {
        let _ = fs::remove_file(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        set_mode(path.parent().unwrap(), 0o700);
        let _ = fs::remove_file(precious);
        match self {
            Self::Open => {
                fs::write(path, "{}").unwrap();
                set_mode(path, 0o666);
            }
            Self::Link => {
                fs::write(precious, "precious").unwrap();
                symlink(precious, path).unwrap();
            }
            Self::Dangling => symlink(precious, path).unwrap(),
            Self::Fifo => fifo(path),
        }
    }

    #[track_caller]
    fn is_replaced(self, path: &Path, precious: &Path) {
        let found = fs::symlink_metadata(path).unwrap();
        assert!(found.is_file(), "{self:?} {}", path.display());
        assert_eq!(mode(path), 0o600, "{self:?} {}", path.display());
        if self == Self::Link {
            assert_eq!(fs::read_to_string(precious).unwrap(), "precious");
        } else {
            assert!(!precious.exists(), "{self:?}");
        }
    }
}

#[test]
fn what_is_kept_is_for_this_user_whatever_was_in_its_place() {
    const TOKEN: &str = ".aws/sso/cache/ee0bfd2552fbd840c02cc48b6e823320543c450f.json";
    let home = Home::new(
        "[profile corp]\nsso_session=corp\nsso_account_id=1\nsso_role_name=R\n\
         [sso-session corp]\nsso_region=eu-west-1\nsso_start_url=https://corp.example/start\n",
    );
    let fake = FakeAws::start(|asked| {
        (200, match asked.line.as_str() {
        "POST /client/register" => json!({ "clientId": "c", "clientSecret": "s", "clientSecretExpiresAt": 32_472_144_000_u64 }),
        "POST /device_authorization" => json!({ "deviceCode": "d", "userCode": "u", "interval": 1, "expiresIn": 600, "verificationUri": "https://h" }),
        "POST /token" => json!({ "accessToken": "a", "expiresIn": 28_800, "tokenType": "Bearer" }),
        _ => json!({ "InstanceInformationList": [{ "InstanceId": TARGET, "PingStatus": "Online", "ComputerName": "web", "ResourceType": "EC2Instance" }] }),
    }.to_string())
    });
    let run = |args: &[&str]| {
        let mut command = ssm(args);
        home.apply(&mut command);
        fake.apply(&mut command);
        command.env("XDG_CACHE_HOME", home.file("cache")).env("XDG_STATE_HOME", home.file("state"));
        command.env("AWS_ACCESS_KEY_ID", "K").env("AWS_SECRET_ACCESS_KEY", "s");
        outcome(&mut command)
    };
    let precious = home.file("precious");
    fs::create_dir_all(home.file("state/ssm")).unwrap();
    set_mode(&home.file("state/ssm"), 0o700);
    for in_place in IN_PLACE {
        let names = home.file("cache/ssm/names.json");
        in_place.put(&names, &precious);
        assert!(run(&["list"]).status.success());
        in_place.is_replaced(&names, &precious);
        // What is read does not hang either.
        in_place.put(&home.file("cache/ssm/targets.json"), &precious);
        run(&["resolve", "web"]);
        // A session that is written down under a number that a process had before.
        in_place.put(&home.file("state/ssm/sessions/x.json"), &precious);
        assert!(run(&["sessions", "orphans"]).status.success());
        in_place.put(&home.file(TOKEN), &precious);
        let mut command = ssm(&["login", "--profile", "corp", "--no-browser"]);
        home.apply(&mut command);
        fake.apply(&mut command);
        let told = outcome(&mut command);
        assert!(told.status.success(), "{in_place:?} {told:?}");
        in_place.is_replaced(&home.file(TOKEN), &precious);
    }
}

/// Whoever owns the part of a copy would own the copy, and could change it after it was compared.
#[test]
fn the_part_of_a_copy_that_is_somebody_elses_is_not_used() {
    assert_root();
    let (served, folder) = (Served::start(), tempfile::tempdir().unwrap());
    let path = |name: &str| folder.path().join(name);
    fs::write(path("file"), "content").unwrap();
    fs::create_dir(path("to")).unwrap();
    set_mode(&path("to"), 0o1777);
    let (from, to) = (path("file").display().to_string(), path("to/file").display().to_string());
    let there = |place: &str| format!("{}:{place}", served.target);
    let part = path("to/.file.ssm-part");
    let precious = path("precious");
    let others = || {
        fs::write(&part, "").unwrap();
        set_mode(&part, 0o666);
        chown(&part, Some(OTHER), None).unwrap();
    };
    let traps: [(&str, &dyn Fn()); 3] = [
        ("somebody else's", &others),
        ("a link", &|| symlink(&precious, &part).unwrap()),
        ("a pipe", &|| fifo(&part)),
    ];
    for (name, trap) in traps {
        trap();
        for args in [["cp", &there(&from), &to], ["cp", &from, &there(&to)]] {
            let told = outcome(&mut served.ssm(&args));
            assert!(!told.status.success() && told.stderr.contains("in the way"), "{name} {args:?} {told:?}");
            assert!(!path("to/file").exists() && !precious.exists(), "{name} {args:?}");
        }
        fs::remove_file(&part).unwrap();
    }
    // What an earlier copy has left is gone on with, unless others can write to it.
    fs::write(&part, "con").unwrap();
    set_mode(&part, 0o622);
    assert!(!outcome(&mut served.ssm(&["cp", &there(&from), &to])).status.success());
    set_mode(&part, 0o600);
    for args in [["cp", &there(&from), &to], ["cp", &from, &there(&to)]] {
        let told = outcome(&mut served.ssm(&args));
        assert!(told.status.success(), "{told:?}");
        assert_eq!(fs::read_to_string(&to).unwrap(), "content");
    }
}

#[test]
fn the_log_of_a_tunnel_is_made_anew() {
    let (served, places) = (Served::start(), tempfile::tempdir().unwrap());
    let _tunnels = Tunnels::of(places.path());
    let spec = format!("0:{}", echo());
    let mut command = served.ssm(&["forward", &served.target, "-L", &spec, "--background"]);
    command.env("XDG_RUNTIME_DIR", places.path()).env("XDG_STATE_HOME", places.path().join("state"));
    let told = outcome(&mut command);
    let (_, rest) = told.stderr.split_once("in the background as tunnel ").unwrap();
    let id = rest.split_once(';').unwrap().0;
    let log = places.path().join(format!("state/ssm/{id}.log"));
    assert_eq!((mode(&log), mode(log.parent().unwrap())), (0o600, 0o700));
    let stopped = outcome(ssm(&["tunnels", "stop", id]).env("XDG_RUNTIME_DIR", places.path()));
    assert!(stopped.status.success(), "{stopped:?}");
}

/// Commands that read all there is to read, and end.
const PLAIN: &[&[&str]] = &[
    &["config"],
    &["config", "path"],
    &["tunnels"],
    &["status"],
    &["completions", "bash"],
    &["list"],
    &["resolve", "web"],
    &["shell", TARGET],
    &["forward", TARGET, "-L", "0:80"],
    &["sessions", "orphans"],
    &["logout", "--sso-session", "corp"],
    &["plugin", "status"],
    &["ssh-config"],
];

#[test]
fn a_home_that_is_none_is_none() {
    let here = tempfile::tempdir().unwrap();
    let homes: [Option<&OsStr>; 6] = [
        None,
        Some(OsStr::new("")),
        Some(OsStr::new("relative/home")),
        Some(OsStr::new(".")),
        Some(OsStr::from_bytes(b"/proc/nowhere/\xff\xfe")),
        Some(OsStr::new("/dev/null")),
    ];
    for home in homes {
        for args in PLAIN {
            let mut command = ssm(args);
            for name in ["HOME", "XDG_RUNTIME_DIR", "XDG_STATE_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"] {
                command.env_remove(name);
            }
            if let Some(home) = home {
                command.env("HOME", home);
            }
            command.env("TMPDIR", here.path().join("tmp")).env("AWS_ENDPOINT_URL", "http://127.0.0.1:1");
            fs::create_dir_all(here.path().join("tmp")).unwrap();
            outcome(command.env("AWS_MAX_ATTEMPTS", "1").env("AWS_REGION", "r").current_dir(here.path()));
        }
        let made: Vec<_> =
            fs::read_dir(here.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(made, ["tmp"], "{home:?}");
    }
    // A configuration in such a folder is somebody's, and not read.
    fs::create_dir_all(here.path().join("relative/home/.config/ssm")).unwrap();
    fs::write(here.path().join("relative/home/.config/ssm/config.toml"), "[defaults]\nregion = 'evil'\n")
        .unwrap();
    let mut command = ssm(&["config"]);
    command.env("HOME", "relative/home").env_remove("XDG_CONFIG_HOME").current_dir(here.path());
    let told = outcome(&mut command);
    assert!(!told.stdout.contains("evil"), "{told:?}");
}

#[test]
fn variables_full_of_rubbish_are_errors_or_nothing() {
    let names = [
        "SSM_CONFIG",
        "SSM_PROFILE",
        "SSM_REGION",
        "SSM_ENDPOINT_URL",
        "SSM_SSMMESSAGES_ENDPOINT_URL",
        "SSM_FIPS",
        "SSM_DUAL_STACK",
        "SSM_PROXY",
        "SSM_NO_PROXY",
        "SSM_CA_BUNDLE",
        "SSM_LANES",
        "SSM_PAYLOAD_SIZE",
        "SSM_PACING",
        "SSM_KEEP_ALIVE",
        "SSM_ENDPOINTS_STS",
        "SSM_ATTACH",
        "AWS_PROFILE",
        "AWS_CONFIG_FILE",
        "AWS_VAULT",
        "AWS_SHARED_CREDENTIALS_FILE",
        "AWS_CA_BUNDLE",
        "HTTPS_PROXY",
        "NO_PROXY",
        "TMPDIR",
        "TERM",
        "LANG",
        "PATH",
        "XDG_RUNTIME_DIR",
        "XDG_STATE_HOME",
        "XDG_CONFIG_HOME",
        "XDG_CACHE_HOME",
        "AWS_ENDPOINT_URL_SSM",
        "RUST_BACKTRACE",
    ];
    let giant = OsString::from("x".repeat(120_000));
    let values = [
        OsStr::from_bytes(b"\xff\xfe\x1b[2J"),
        giant.as_os_str(),
        OsStr::new("../../relative"),
        OsStr::new("\n["),
    ];
    // So deep that nothing of a relative value leads out of it.
    let folder = tempfile::tempdir().unwrap();
    let (above, here) = (folder.path().join("above"), folder.path().join("above/here"));
    fs::create_dir_all(&here).unwrap();
    for value in values {
        for args in [&["config"][..], &["shell", TARGET]] {
            for names in names.chunks(11).map(<[&str]>::to_vec).chain([
                vec!["SSM_LANES"],
                vec!["SSM_PROXY"],
                vec!["SSM_CONFIG"],
            ]) {
                let mut command = ssm(args);
                command.env("AWS_REGION", "eu-west-1").env("AWS_ENDPOINT_URL", "http://127.0.0.1:1");
                command.env("AWS_MAX_ATTEMPTS", "1").envs(names.iter().map(|name| (name, value)));
                let told = outcome(command.current_dir(&here));
                assert!(!told.stderr.contains('\x1b') && !told.stdout.contains('\x1b'), "{names:?} {told:?}");
                assert!(told.stderr.len() < 20_000, "{names:?}");
            }
        }
    }
    let inside = |folder: &Path| -> Vec<OsString> {
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect()
    };
    assert_eq!(inside(folder.path()), ["above"]);
    assert_eq!(inside(&above), ["here"]);
    assert_eq!(inside(&here), [""; 0]);
}

#[test]
fn a_configuration_of_somebody_else_is_not_used() {
    assert_root();
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("ssm/config.toml");
    fs::create_dir(home.path().join("ssm")).unwrap();
    let run = || outcome(ssm(&["config"]).env("XDG_CONFIG_HOME", home.path()));
    let put = |content: &[u8]| {
        let _ = fs::remove_file(&path);
        fs::write(&path, content).unwrap();
        set_mode(&path, 0o600);
    };
    put(b"[defaults]\nregion = 'eu-west-1'\n");
    assert!(run().status.success());
    for (open, told) in [(0o666, "can be written by others"), (0o620, "can be written by others")] {
        set_mode(&path, open);
        assert!(run().stderr.contains(told), "{:?}", run());
    }
    set_mode(&path, 0o644);
    assert!(run().status.success());
    chown(&path, Some(OTHER), None).unwrap();
    assert!(run().stderr.contains("belongs to somebody else"), "{:?}", run());
    // One whose content is no configuration, or without end.
    let deep = |open: &str| format!("a = {}", open.repeat(100_000)).into_bytes();
    for content in [
        &b"\0\0\0"[..],
        b"[defaults]\nregion = 'a\0b'\n",
        b"\xff\xfe",
        &deep("["),
        &deep("{a="),
        format!("[{}a]", "a.".repeat(100_000)).as_bytes(),
        &b"[defaults]\n".repeat(50_000),
    ] {
        put(content);
        let told = run();
        assert_eq!(told.status.code(), Some(2), "{told:?}");
        assert_eq!(told.stderr.lines().count(), 1, "{told:?}");
        assert!(told.stderr.len() < 5_000 && !told.stderr.contains('\0'));
    }
    put(b"");
    File::options().write(true).open(&path).unwrap().set_len(100 << 20).unwrap();
    assert!(run().stderr.contains("longer than 1048576 bytes"), "{:?}", run());
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(run().stderr.contains("is a folder"), "{:?}", run());
    fs::remove_dir(&path).unwrap();
    fifo(&path);
    assert!(run().stderr.contains("is a pipe"), "{:?}", run());
    fs::remove_file(&path).unwrap();
    symlink(&path, &path).unwrap();
    assert_eq!(run().status.code(), Some(2), "{:?}", run());
    fs::remove_file(&path).unwrap();
    symlink("/dev/zero", &path).unwrap();
    assert!(run().stderr.contains("longer than 1048576 bytes"), "{:?}", run());
    // A pipe that was named is one that somebody writes to.
    let mut named = ssm(&["--config", "/dev/stdin", "config"]);
    let mut program = Program::with_stdin(&mut named, Stdio::piped());
    program.write("[defaults]\nregion = 'ap-south-1'\n");
    program.close();
    assert!(program.wait().stdout.contains("ap-south-1"));
}

#[test]
fn a_capture_needs_no_more_memory_than_a_few_of_its_lines() {
    const LINE: usize = 1 << 20;
    let text = |unit: &str| unit.repeat(LINE / unit.len());
    let small = json!({ "dir": "x", "kind": "ping", "text": "" });
    for line in [
        json!({ "dir": "x", "kind": "text", "text": format!("[{}0]", text("0,")) }),
        json!({ "dir": "x", "kind": "text", "text": format!("{{{}\"a\":0}}", text("\"a\":[],")) }),
        json!({ "dir": "x", "kind": "text", "text": format!("[{}", text("[],")) }),
        json!({ "dir": "x", "kind": "text", "text": format!("\"{}\"", text("\u{2028}")) }),
        json!({ "dir": "x", "kind": "binary", "b64": STANDARD.encode(vec![0xff; LINE / 4 * 3]) }),
        json!({ "dir": text("\u{2028}"), "kind": text("\x7f") }),
    ] {
        let mut command = ssm(&["decode", "--full", "-"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        writeln!(stdin, "{small}").unwrap();
        stdout.read_line(&mut String::new()).unwrap();
        let before = peak(child.id()).unwrap();
        let line = line.to_string();
        let (shown, len) = (format!("{line:.60}"), line.len());
        let writer = thread::spawn(move || writeln!(stdin, "{line}").unwrap());
        let mut most = before;
        // Once something comes, all of it is there.
        while stdout.read(&mut [0; 4096]).unwrap() > 0 {
            most = most.max(peak(child.id()).unwrap_or_default());
        }
        writer.join().unwrap();
        assert!(child.wait().unwrap().success());
        let needed = most - before;
        assert!(needed > 0 && needed < (10 * len / 1024) as u64, "{shown}: {needed} KiB");
    }
}
