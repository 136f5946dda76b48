//! Forwards in the background, and `ssm tunnels`.

#![cfg(all(feature = "aws", feature = "demo", target_os = "linux"))]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use ssm_session::StartSession;
use tempfile::TempDir;

use common::{Handed, Outcome, Program, Served, Tunnels, closed_port, echo, exchange, port_of, until};

const NOBODY: &str = "i-00000000000000000";

#[test]
fn a_tunnel_goes_on_in_the_background_until_it_is_stopped() {
    let (served, places) = (Served::start(), Places::new());
    let outcome = places.forward(&served, &["-L", &format!("0:{}", echo()), "--background"]);
    assert_eq!((outcome.status.code(), outcome.stdout.as_str()), (Some(0), ""), "{}", outcome.stderr);
    let (id, port) = (id_of(&outcome), port_of(&outcome.stderr).unwrap());
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    exchange(&mut stream, b"12345");

    let tunnels = places.list();
    assert_eq!(tunnels.len(), 1, "{tunnels:?}");
    let tunnel = &tunnels[0];
    assert_eq!((&tunnel["id"], &tunnel["target"]), (&id.as_str().into(), &served.target.as_str().into()));
    assert_eq!(
        (&tunnel["open"], &tunnel["connections"], &tunnel["sessions"]),
        (&1.into(), &1.into(), &1.into())
    );
    assert_eq!(
        (&tunnel["forwards"][0]["port"], &tunnel["forwards"][0]["state"]),
        (&port.into(), &"ready".into())
    );
    assert!(tunnel["sent"].as_u64() >= Some(5) && tunnel["received"].as_u64() >= Some(5), "{tunnel}");
    let table = places.ssm(&["tunnels"]).stdout;
    assert!(table.starts_with("ID ") && table.contains(&format!("\n{id} ")), "{table}");
    assert!(table.contains(&format!("127.0.0.1:{port}")), "{table}");

    let outcome = places.ssm(&["tunnels", "stop", &id]);
    assert_eq!(outcome.status.code(), Some(0), "{}", outcome.stderr);
    assert!(outcome.stderr.contains(&format!("tunnel {id} has ended")), "{}", outcome.stderr);
    until_gone(&id);
    assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err());
    assert!(places.list().is_empty() && places.sockets().is_empty());
    let log = fs::read_to_string(places.log(&id)).unwrap();
    assert!(log.contains("ssm: 1 connections, "), "{log}");
}

#[test]
fn the_background_has_no_terminal_and_nothing_for_others() {
    let (served, places) = (Served::start(), Places::new());
    let socket = places.folder.path().join("s.sock");
    let spec = format!("{}:{}", socket.display(), echo());
    let outcome = places.forward(&served, &["-L", &spec, "--background"]);
    assert_eq!(outcome.status.code(), Some(0), "{}", outcome.stderr);
    let id = id_of(&outcome);
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
    // Behind the name: state, parent, group, session, terminal.
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    assert_eq!((fields[3], fields[4]), (id.as_str(), "0"), "{stat}");
    for (path, mode) in [
        (places.runtime().join("ssm"), 0o700),
        (places.runtime().join("ssm").join(format!("{id}.sock")), 0o600),
        (places.log(&id), 0o600),
        (places.log(&id).parent().unwrap().to_owned(), 0o700),
    ] {
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode, "{}", path.display());
    }
    for number in 0..=2 {
        let open = fs::read_link(format!("/proc/{id}/fd/{number}")).unwrap();
        assert!(open == Path::new("/dev/null") || open == places.log(&id), "{number}: {}", open.display());
    }
}

#[test]
fn a_failed_start_is_told_as_in_the_foreground_and_leaves_nothing() {
    let (served, places) = (Served::start(), Places::new());
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let taken = format!("{}:80", taken.local_addr().unwrap().port());
    let socket = "/no/such/folder/s:80";
    for arguments in
        [&[NOBODY, "-L", "0:80"], &[&served.target, "-L", &taken], &[&served.target, "-L", socket]]
    {
        let arguments = [&["forward"], &arguments[..]].concat();
        let foreground = Program::start(&mut places.command(&served, &arguments)).wait();
        let background = [&arguments[..], &["--background"]].concat();
        let background = Program::start(&mut places.command(&served, &background)).wait();
        assert_eq!(foreground.status.code(), Some(255), "{}", foreground.stderr);
        assert_eq!(background.status.code(), Some(255), "{}", background.stderr);
        let without_session = |said: &str| {
            said.split_once("request id").map_or_else(|| said.to_owned(), |(text, _)| text.into())
        };
        assert_eq!(without_session(&background.stderr), without_session(&foreground.stderr));
    }
    assert!(places.sockets().is_empty() && places.list().is_empty());
    assert!(places.logs().is_empty(), "{:?}", places.logs());
}

#[test]
fn waiting_needs_every_forward_and_the_background_only_one() {
    let (served, places) = (Served::start(), Places::new());
    let missing = "/no/such/folder/s:80";
    let spec = format!("0:{}", echo());
    let outcome = places.forward(&served, &["-L", &spec, "-L", missing, "--wait"]);
    assert_eq!(outcome.status.code(), Some(255), "{}", outcome.stderr);
    assert!(places.list().is_empty());
    let outcome = places.forward(&served, &["-L", &spec, "-L", missing, "--background"]);
    assert_eq!(outcome.status.code(), Some(0), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("there is no such folder"), "{}", outcome.stderr);
    let tunnels = places.list();
    assert_eq!(tunnels[0]["forwards"][0]["state"], "ready");
    assert_eq!(tunnels[0]["forwards"][1]["state"], "ended");
    let outcome = places.forward(&served, &["-L", &spec, "--wait=60s", "--json"]);
    assert_eq!(outcome.status.code(), Some(0), "{}", outcome.stderr);
    let events: Vec<Value> = outcome.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let names: Vec<&str> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert_eq!(names, ["session_started", "ready", "background"]);
    assert_eq!(events[2]["log"], places.log(events[2]["id"].as_str().unwrap()).to_str().unwrap());
    assert_eq!(places.list().len(), 2);
    let outcome = places.ssm(&["tunnels", "stop", "--all"]);
    assert_eq!(outcome.status.code(), Some(0), "{}", outcome.stderr);
    assert!(places.list().is_empty());
}

#[test]
fn a_start_that_takes_too_long_is_given_up() {
    let (places, silent) = (Places::new(), Silent::start());
    let start = Instant::now();
    let outcome = Program::start(&mut places.stuck(&silent, &["--wait=300ms"])).wait();
    assert_eq!(outcome.status.code(), Some(255), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("not ready within 0.3 s"), "{}", outcome.stderr);
    assert!(start.elapsed() >= Duration::from_millis(300));
    assert!(places.sockets().is_empty() && places.list().is_empty());
}

#[test]
fn who_starts_a_tunnel_takes_it_along_when_it_is_not_ready() {
    for (signal, code) in [(Signal::TERM, Some(143)), (Signal::INT, Some(130)), (Signal::KILL, None)] {
        let (places, silent) = (Places::new(), Silent::start());
        let program = Program::start(&mut places.stuck(&silent, &["--background"]));
        let child = until("the child", || {
            silent.is_asked().then_some(())?;
            let children = format!("/proc/{0}/task/{0}/children", program.pid());
            fs::read_to_string(children).ok()?.split_whitespace().next().map(str::to_owned)
        });
        program.signal(signal);
        assert_eq!(program.wait().status.code(), code);
        until_gone(&child);
        assert!(places.list().is_empty());
    }
}

#[test]
fn a_session_that_is_handed_over_stays_out_of_the_arguments() {
    let (handed, places, port) = (Handed::start(), Places::new(), echo());
    let session = handed.session(|target| StartSession::port(target, port));
    let spec = format!("0:{port}");
    let mut command = common::ssm(&["forward", "--attach", "-L", &spec, "--background"]);
    places.apply(command.env("SSM_ATTACH", &session));
    let outcome = Program::start(&mut command).wait();
    assert_eq!(outcome.status.code(), Some(0), "{}", outcome.stderr);
    let (id, port) = (id_of(&outcome), port_of(&outcome.stderr).unwrap());
    exchange(&mut TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap(), b"hello");
    let arguments = fs::read_to_string(format!("/proc/{id}/cmdline")).unwrap();
    let token = serde_json::from_str::<Value>(&session).unwrap()["TokenValue"].as_str().unwrap().to_owned();
    let listed = format!("{:?}", places.list());
    for text in [&arguments, &listed, &fs::read_to_string(places.log(&id)).unwrap()] {
        assert!(!text.contains(&token), "{text}");
    }
}

#[test]
fn what_a_killed_tunnel_leaves_is_cleaned_up() {
    let (served, places) = (Served::start(), Places::new());
    let outcome = places.forward(&served, &["-L", &format!("0:{}", echo()), "--background"]);
    let id = id_of(&outcome);
    kill_process(pid(&id), Signal::KILL).unwrap();
    until_gone(&id);
    assert_eq!(places.sockets().len(), 1);
    let outcome = places.ssm(&["tunnels"]);
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("", "ssm: no tunnels\n"));
    assert!(places.sockets().is_empty());
}

#[test]
fn a_new_tunnel_cleans_up_after_a_killed_one() {
    let (served, places) = (Served::start(), Places::new());
    let args = ["-L", &format!("0:{}", echo()), "--background"];
    let killed = id_of(&places.forward(&served, &args));
    kill_process(pid(&killed), Signal::KILL).unwrap();
    until_gone(&killed);
    let left = places.sockets();
    let id = id_of(&places.forward(&served, &args));
    until("the end of what was left", || (!left[0].exists()).then_some(()));
    assert_eq!(places.list()[0]["id"], id);
}

#[test]
fn only_what_runs_can_be_stopped() {
    let places = Places::new();
    let outcome = places.ssm(&["tunnels", "stop", "4711"]);
    assert_eq!(outcome.status.code(), Some(1));
    assert!(outcome.stderr.contains("there is no tunnel 4711"), "{}", outcome.stderr);
    let outcome = places.ssm(&["tunnels", "stop", "--all"]);
    assert_eq!((outcome.status.code(), outcome.stderr.as_str()), (Some(0), "ssm: no tunnels\n"));
}

#[test]
fn a_tunnel_in_the_foreground_is_shown_and_stopped_too() {
    let (served, places) = (Served::start(), Places::new());
    let spec = format!("0:{}", closed_port());
    let mut program = Program::start(&mut places.command(&served, &["forward", &served.target, "-L", &spec]));
    program.until(port_of);
    let tunnels = places.list();
    assert_eq!((&tunnels[0]["id"], &tunnels[0]["log"]), (&program.pid().to_string().into(), &Value::Null));
    assert_eq!(places.ssm(&["tunnels", "stop", &program.pid().to_string()]).status.code(), Some(0));
    let outcome = program.wait();
    assert_eq!(outcome.status.code(), Some(0), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("ssm: 0 connections, "), "{}", outcome.stderr);
}

#[test]
fn a_folder_that_may_be_a_trap_is_not_used() {
    let (served, places) = (Served::start(), Places::new());
    symlink(places.folder.path(), places.runtime().join("ssm")).unwrap();
    let spec = format!("0:{}", echo());
    let outcome = places.forward(&served, &["-L", &spec, "--background"]);
    assert_eq!(outcome.status.code(), Some(255), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("ssm is not a folder"), "{}", outcome.stderr);
    // In the foreground there is a terminal to end it with.
    let mut program = Program::start(&mut places.command(&served, &["forward", &served.target, "-L", &spec]));
    program.until(port_of);
}

#[test]
fn without_a_runtime_folder_there_is_one_among_the_temporary_files() {
    let (served, places) = (Served::start(), Places::new());
    let spec = format!("0:{}", echo());
    let apply = |command: &mut Command| -> Outcome {
        places.apply(command).env_remove("XDG_RUNTIME_DIR").env("TMPDIR", places.folder.path());
        Program::start(command).wait()
    };
    let outcome = apply(&mut served.ssm(&["forward", &served.target, "-L", &spec, "--background"]));
    assert_eq!(outcome.status.code(), Some(0), "{}", outcome.stderr);
    let folder = places.folder.path().join(format!("ssm-{}", rustix::process::getuid().as_raw()));
    assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
    assert!(folder.join(format!("{}.sock", id_of(&outcome))).exists());
    let outcome = apply(&mut common::ssm(&["tunnels", "stop", "--all"]));
    assert!(outcome.stderr.contains("has ended"), "{}", outcome.stderr);
}

#[test]
fn the_flag_of_the_second_process_is_not_for_users() {
    let places = Places::new();
    let outcome = places.ssm(&["forward", NOBODY, "-L", "0:80", "--background", "--detached"]);
    assert_eq!(outcome.status.code(), Some(2), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("write --background"), "{}", outcome.stderr);
}

/// Folders for sockets and logs that no other test has.
struct Places {
    _tunnels: Tunnels,
    folder: TempDir,
}

impl Places {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let places = Self { _tunnels: Tunnels::of(folder.path().join("run")), folder };
        fs::create_dir(places.runtime()).unwrap();
        places
    }

    fn runtime(&self) -> PathBuf {
        self.folder.path().join("run")
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    fn log(&self, id: &str) -> PathBuf {
        self.state().join("ssm").join(format!("{id}.log"))
    }

    fn logs(&self) -> Vec<PathBuf> {
        files(&self.state().join("ssm"))
    }

    fn sockets(&self) -> Vec<PathBuf> {
        files(&self.runtime().join("ssm"))
    }

    fn apply<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.env("XDG_RUNTIME_DIR", self.runtime()).env("XDG_STATE_HOME", self.state())
    }

    fn command(&self, served: &Served, args: &[&str]) -> Command {
        let mut command = served.ssm(args);
        self.apply(&mut command);
        command
    }

    fn forward(&self, served: &Served, args: &[&str]) -> Outcome {
        Program::start(&mut self.command(served, &[&["forward", &served.target], args].concat())).wait()
    }

    /// A forward whose start never ends.
    fn stuck(&self, silent: &Silent, args: &[&str]) -> Command {
        let mut command = common::ssm(&[&["forward", NOBODY, "-L", "0:80"], args].concat());
        command
            .env("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{}", silent.port))
            .env("AWS_REGION", "eu-west-1");
        command.env("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE").env("AWS_SECRET_ACCESS_KEY", "none");
        self.apply(&mut command);
        command
    }

    fn ssm(&self, args: &[&str]) -> Outcome {
        Program::with_stdin(self.apply(&mut common::ssm(args)), Stdio::null()).wait()
    }

    fn list(&self) -> Vec<Value> {
        let outcome = self.ssm(&["tunnels", "--json"]);
        assert_eq!(outcome.status.code(), Some(0), "{}", outcome.stderr);
        outcome.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// A port that takes connections and never answers.
struct Silent {
    listener: TcpListener,
    port: u16,
}

impl Silent {
    fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        Self { listener, port }
    }

    /// Whether somebody has connected. Each connection counts once.
    fn is_asked(&self) -> bool {
        self.listener.accept().map(|(stream, _)| std::mem::forget(stream)).is_ok()
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).map(|entries| entries.map(|entry| entry.unwrap().path()).collect());
    entries.unwrap_or_default()
}

fn id_of(outcome: &Outcome) -> String {
    let (_, rest) = outcome.stderr.split_once("in the background as tunnel ").unwrap();
    rest.split_once(';').unwrap().0.to_owned()
}

fn pid(id: &str) -> Pid {
    Pid::from_raw(id.parse().unwrap()).unwrap()
}

/// Waits until a process has ended; who takes it in may be slow to notice.
fn until_gone(id: &str) {
    until("the end of the process", || match fs::read_to_string(format!("/proc/{id}/stat")) {
        Ok(stat) => stat.contains(") Z ").then_some(()),
        Err(_) => Some(()),
    });
}
