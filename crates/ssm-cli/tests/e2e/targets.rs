//! Machines of an account: moto has the instances, the loopback the managed nodes.

use std::process::Command;

use serde_json::Value;
use ssm_loopback::{Config, Loopback as Service};

use crate::support::moto::Moto;
use crate::support::process::{Process, run};
use crate::support::system::installed;
use crate::support::tmux::Tmux;
use crate::support::{Loopback, SSM};

#[test]
fn names_of_ec2_join_the_nodes_that_systems_manager_has() {
    let moto = Moto::start();
    let ids = moto.run_instances("worker", 3);
    let fleet = Fleet::start(&moto, &[&ids[0], &ids[1], "mi-0123456789abcdef0"]);
    let lines = run(&mut fleet.ssm(&["list", "--json"]));
    let nodes: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let seen: Vec<_> =
        nodes.iter().map(|node| (&node["id"], node["name"].as_str(), node["state"].as_str())).collect();
    let (one, two, other) =
        (Value::from(ids[0].as_str()), Value::from(ids[1].as_str()), "mi-0123456789abcdef0".into());
    let running = (Some("worker"), Some("running"));
    assert_eq!(seen, [(&one, running.0, running.1), (&two, running.0, running.1), (&other, None, None)]);
    let table = run(&mut fleet.ssm(&["list", "--filter", "name=work*", "--platform", "linux"]));
    assert_eq!(table.lines().count(), 3, "{table}");
    assert!(
        table.lines().nth(1).unwrap().starts_with(&format!("{}  worker  running  Online  ", ids[0])),
        "{table}"
    );
    // Of several instances those are meant that are online.
    let fleet = Fleet::start(&moto, &[&ids[2]]);
    assert_eq!(run(&mut fleet.ssm(&["resolve", "tag:Name=worker"])), format!("{}\n", ids[2]));
    let fleet = Fleet::start(&moto, &["mi-0123456789abcdef0"]);
    let mut process = Process::spawn(&mut fleet.ssm(&["resolve", "--no-cache", "tag:Name=worker"]));
    assert_eq!(process.wait().code(), Some(255));
    assert!(
        process.stderr().contains(&format!("{}  worker  running, not online", ids[0])),
        "{}",
        process.stderr()
    );
}

#[test]
fn without_a_target_a_machine_or_an_alias_is_chosen() {
    let moto = Moto::start();
    let ids = moto.run_instances("worker", 2);
    let fleet = Fleet::start(&moto, &[&ids[0], &ids[1]]);
    let config = moto.home.path().join("config.toml");
    std::fs::write(&config, format!("[alias.db]\ntarget = '{}'\nforwards = ['0:9']\n", ids[1])).unwrap();
    let mut environment = fleet.ssm(&[]);
    environment.env("SSM_CONFIG", &config).env("SHELL", "/bin/sh");
    let tmux = Tmux::start(&environment, moto.home.path(), (100, 30));
    tmux.line(&format!("{SSM} shell"));
    let screen = tmux.until("the list", |screen| screen.contains("> db"));
    assert!(ids.iter().all(|id| screen.contains(&format!("{id}  worker"))), "{screen}");
    tmux.text(&ids[0][2..]);
    tmux.until("one machine", |screen| !screen.contains(&format!("{}  worker", ids[1])));
    tmux.key("Enter");
    tmux.line("echo fa''r; exit");
    tmux.until_line("far");
    tmux.until("the end", |screen| screen.trim_end().ends_with("local$"));
    // A forward without -L can only lead where an alias does.
    tmux.line(&format!("clear; {SSM} forward"));
    let screen = tmux.until("the list", |screen| screen.contains("> db"));
    assert!(!screen.contains("worker"), "{screen}");
    tmux.key("Enter");
    tmux.until("the forward", |screen| screen.contains("ssm: listening on 127.0.0.1:"));
    tmux.key("C-c");
    tmux.until("the end", |screen| screen.trim_end().ends_with("local$"));
    tmux.line(&format!("clear; {SSM} shell; echo sta''tus=$?"));
    tmux.until("the list", |screen| screen.contains("> db"));
    tmux.key("C-c");
    tmux.until_line("status=130");
}

#[test]
fn the_aws_cli_sees_the_same_sessions() {
    let loopback = Loopback::start();
    let (shell, _stdin) = Process::spawn_with_stdin(&mut loopback.ssm(&["shell", &loopback.target]));
    let ours = || {
        let lines = run(&mut loopback.ssm(&["sessions", "--json"]));
        lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect::<Vec<_>>()
    };
    let aws = |args: &[&str]| {
        let mut command = loopback.command(installed("SSM_TEST_AWS"));
        command.args(args).args(["--output", "json"]);
        serde_json::from_str::<Value>(&run(&mut command)).unwrap()
    };
    shell.until_true("the session is connected", || {
        ours().first().is_some_and(|session| session["status"] == "Connected")
    });
    let caller = aws(&["sts", "get-caller-identity"]);
    let filter = format!("key=Owner,value={}", caller["Arn"].as_str().unwrap());
    let theirs = aws(&["ssm", "describe-sessions", "--state", "Active", "--filters", &filter]);
    let (theirs, ours) = (&theirs["Sessions"], ours());
    assert_eq!((theirs.as_array().unwrap().len(), ours.len()), (1, 1));
    for (key, same) in [("id", "SessionId"), ("target", "Target"), ("status", "Status"), ("owner", "Owner")] {
        assert_eq!(ours[0][key], theirs[0][same], "{key}");
    }
    let id = ours[0]["id"].as_str().unwrap();
    aws(&["ssm", "terminate-session", "--session-id", id]);
    let over = || run(&mut loopback.ssm(&["sessions", "--json", "--history", "--status", "terminated"]));
    shell.until_true("the session is over", || over().contains(id));
}

/// Managed nodes beside the instances of moto.
struct Fleet<'a> {
    moto: &'a Moto,
    service: Option<Service>,
    runtime: tokio::runtime::Runtime,
}

impl<'a> Fleet<'a> {
    fn start(moto: &'a Moto, targets: &[&str]) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let targets = targets.iter().map(ToString::to_string).collect();
        let config = Config { targets, region: "eu-west-1".into(), ..Config::default() };
        let service = Some(runtime.block_on(Service::start(config)).unwrap());
        Self { moto, service, runtime }
    }

    /// `ssm` with the keys of the loopback, which is Systems Manager; moto, which is the rest, takes any.
    fn ssm(&self, args: &[&str]) -> Command {
        let service = self.service.as_ref().unwrap();
        let mut command = self.moto.ssm(args);
        command.env("AWS_ENDPOINT_URL_SSM", service.endpoint_url());
        command.env("AWS_ACCESS_KEY_ID", service.access_key());
        command.env("AWS_SECRET_ACCESS_KEY", service.secret_key().expose());
        command
    }
}

impl Drop for Fleet<'_> {
    fn drop(&mut self) {
        if let Some(service) = self.service.take() {
            self.runtime.block_on(service.shutdown());
        }
    }
}
