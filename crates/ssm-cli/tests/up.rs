//! `ssm up`, `ssm status` and `ssm down`.

#![cfg(all(feature = "aws", feature = "demo", target_os = "linux"))]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use common::{Outcome, Program, Served, Tunnels, echo, exchange};

#[test]
fn a_group_is_started_shown_and_ended() {
    let served = Served::start();
    let (target, port) = (&served.target, echo());
    let home = Home::new(&format!(
        "[alias.one]\ntarget = '{target}'\nforwards = ['0:{port}', '0:{port}']\n\
         [group.dev]\ntunnels = ['one', {{ target = 'one', forwards = ['0:{port}'], lanes = 2 }}]\n"
    ));
    assert_eq!(home.states(&served), [("dev/one".into(), "down".into()), ("dev/#2".into(), "down".into())]);
    let outcome = home.run(&served, &["up"]);
    assert_eq!((outcome.status.code(), outcome.stdout.as_str()), (Some(0), ""), "{}", outcome.stderr);
    for name in ["dev/one", "dev/#2"] {
        assert!(outcome.stderr.contains(&format!("ssm: {name} is up: 127.0.0.1:")), "{}", outcome.stderr);
    }
    let started = home.status(&served);
    assert_eq!(started[0]["tunnel"]["forwards"].as_array().unwrap().len(), 2);
    let local = started[1]["tunnel"]["forwards"][0]["port"].as_u64().unwrap();
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, u16::try_from(local).unwrap())).unwrap();
    exchange(&mut stream, b"hello");

    let again = home.run(&served, &["up", "dev"]);
    assert_eq!(again.status.code(), Some(0), "{}", again.stderr);
    assert_eq!(again.stderr, "ssm: dev/one runs already\nssm: dev/#2 runs already\n");
    let ids = |status: &[Value]| status.iter().map(|line| line["tunnel"]["id"].clone()).collect::<Vec<_>>();
    assert_eq!(ids(&home.status(&served)), ids(&started));
    let table = home.run(&served, &["status"]).stdout;
    assert!(table.starts_with("TUNNEL ") && table.contains("dev/one  up     "), "{table}");

    let outcome = home.run(&served, &["down"]);
    assert_eq!(outcome.status.code(), Some(0), "{}", outcome.stderr);
    assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, u16::try_from(local).unwrap())).is_err());
    assert!(home.status(&served).iter().all(|line| line["tunnel"].is_null() && line["state"] == "down"));
    assert_eq!(home.run(&served, &["down"]).stderr, "ssm: no tunnels\n");
}

#[test]
fn one_that_cannot_be_started_is_told_of_and_the_others_run() {
    let served = Served::start();
    let (target, port) = (&served.target, echo());
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let local = taken.local_addr().unwrap().port();
    let home = Home::new(&format!(
        "[alias.one]\ntarget = '{target}'\nforwards = ['{local}:{port}']\n\
         [alias.two]\ntarget = '{target}'\nforwards = ['0:{port}']\n[group.dev]\ntunnels = ['one', 'two']\n"
    ));
    let outcome = home.run(&served, &["up"]);
    assert_eq!(outcome.status.code(), Some(255), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("dev/one was not started: cannot listen on "), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("dev/two is up: "), "{}", outcome.stderr);
    assert!(outcome.stderr.ends_with("1 of 2 tunnels could not be started; ssm status shows the others\n"));
    let up_and_down = [("dev/one".into(), "down".into()), ("dev/two".into(), "up".into())];
    assert_eq!(home.states(&served), up_and_down);
    drop(taken);
    let outcome = home.run(&served, &["up"]);
    assert_eq!(outcome.status.code(), Some(0), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("dev/two runs already") && outcome.stderr.contains("dev/one is up"));
}

#[test]
fn groups_are_apart_and_one_that_is_no_more_can_be_ended() {
    let served = Served::start();
    let (target, port) = (&served.target, echo());
    let home = Home::new(&format!(
        "[alias.one]\ntarget = '{target}'\nforwards = ['0:{port}']\n\
         [group.dev]\ntunnels = ['one']\n[group.ops]\ntunnels = ['one']\n"
    ));
    let outcome = home.run(&served, &["up", "opps"]);
    assert_eq!(outcome.status.code(), Some(2), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("did you mean ops?"), "{}", outcome.stderr);
    assert_eq!(home.run(&served, &["up"]).status.code(), Some(0));
    assert_eq!(home.run(&served, &["down", "dev"]).status.code(), Some(0));
    let down_and_up = [("dev/one".into(), "down".into()), ("ops/one".into(), "up".into())];
    assert_eq!(home.states(&served), down_and_up);
    home.write("");
    let left = home.status(&served);
    assert_eq!((left.len(), &left[0]["name"], &left[0]["configured"]), (1, &"ops/one".into(), &false.into()));
    assert!(home.run(&served, &["status"]).stdout.contains("up, not configured"));
    home.write("a mistake");
    assert_eq!(home.run(&served, &["down", "ops"]).status.code(), Some(0));
    home.write("");
    assert!(home.status(&served).is_empty());
}

#[test]
fn a_tunnel_that_somebody_else_started_is_none_of_a_group() {
    let served = Served::start();
    let home = Home::new("");
    let spec = format!("0:{}", echo());
    let outcome = home.run(&served, &["forward", &served.target, "-L", &spec, "--background"]);
    assert_eq!(outcome.status.code(), Some(0), "{}", outcome.stderr);
    assert_eq!(home.run(&served, &["down"]).stderr, "ssm: no tunnels\n");
    assert_eq!(home.run(&served, &["tunnels", "--json"]).stdout.lines().count(), 1);
}

#[test]
fn a_start_that_does_not_end_is_given_up() {
    let served = Served::start();
    let home = Home::new("");
    let silent = || {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        home.write(&format!(
            "[alias.one]\ntarget = '{}'\nendpoint-url = '{endpoint}'\nforwards = ['0:80']\n\
             [group.dev]\ntunnels = ['one']\n",
            served.target
        ));
        listener
    };
    let _listener = silent();
    let outcome = home.run(&served, &["up", "--timeout", "300ms"]);
    assert_eq!(outcome.status.code(), Some(255), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("dev/one was not started: "), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("not ready within 0.3 s"), "{}", outcome.stderr);

    let listener = silent();
    let mut program = Program::start(&mut home.command(&served, &["up"]));
    let _asked = program.wait_for(|_| listener.accept().ok());
    program.signal(Signal::TERM);
    let outcome = program.wait();
    assert_eq!(outcome.status.code(), Some(143), "{}", outcome.stderr);
    assert_eq!(home.states(&served), [("dev/one".into(), "down".into())]);
    assert_eq!(home.run(&served, &["tunnels"]).stderr, "ssm: no tunnels\n");
}

/// A user with a configuration and folders for tunnels.
struct Home {
    _tunnels: Tunnels,
    folder: TempDir,
}

impl Home {
    fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let home = Self { _tunnels: Tunnels::of(folder.path().join("run")), folder };
        for folder in ["run", "ssm"] {
            fs::create_dir(home.folder.path().join(folder)).unwrap();
        }
        home.write(text);
        home
    }

    fn write(&self, text: &str) {
        fs::write(self.folder.path().join("ssm").join("config.toml"), text).unwrap();
    }

    fn apply<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        let folder = self.folder.path();
        command.env("XDG_CONFIG_HOME", folder).env("XDG_RUNTIME_DIR", folder.join("run"));
        command.env("XDG_STATE_HOME", folder.join("state"))
    }

    fn command(&self, served: &Served, args: &[&str]) -> Command {
        let mut command = served.ssm(args);
        self.apply(&mut command);
        command
    }

    fn run(&self, served: &Served, args: &[&str]) -> Outcome {
        Program::start(&mut self.command(served, args)).wait()
    }

    fn status(&self, served: &Served) -> Vec<Value> {
        let outcome = self.run(served, &["status", "--json"]);
        assert_eq!(outcome.status.code(), Some(0), "{}", outcome.stderr);
        outcome.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Name and state of each.
    fn states(&self, served: &Served) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        self.status(served).iter().map(|line| (text(&line["name"]), text(&line["state"]))).collect()
    }
}
