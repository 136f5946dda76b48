//! `config.toml`: where it is found, what it changes, and what is said of mistakes in it.

#![cfg(all(feature = "demo", target_os = "linux"))]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use ssm_session::StartSession;
use tempfile::TempDir;

use common::{Handed, Outcome, Program, echo, exchange, port_of};

const USAGE: i32 = 2;

#[test]
fn the_file_is_where_the_system_has_such_files_unless_it_is_named() {
    let home = Home::new("[defaults]\nregion = 'usual'\n");
    let other = home.folder.path().join("other.toml");
    fs::write(&other, "[defaults]\nregion = 'other'\n").unwrap();
    assert_eq!(home.path(&["config", "path"]), home.file());
    assert_eq!(home.setting(&["config"], "region").0, "usual");
    let named = ["--config", other.to_str().unwrap(), "config"];
    assert_eq!(home.setting(&named, "region").0, "other");
    assert_eq!(home.path(&[&named[..], &["path"]].concat()), other);
    let mut by_variable = home.command(&["config", "path"]);
    by_variable.env("SSM_CONFIG", &other);
    assert_eq!(Program::start(&mut by_variable).wait().stdout, format!("{}\n", other.display()));
}

#[test]
fn a_file_that_is_not_there_matters_only_when_it_is_named() {
    let home = Home::new("");
    fs::remove_file(home.file()).unwrap();
    assert_eq!(home.ssm(&["config"]).status.code(), Some(0));
    let missing = home.file().to_str().unwrap().to_owned();
    let outcome = home.ssm(&["--config", &missing, "config"]);
    refused(&outcome, &format!("cannot read the configuration {missing}: No such file"));
    assert_eq!(home.ssm(&["--config", "/dev/null", "config"]).status.code(), Some(0));
}

#[test]
fn a_database_is_shown_like_an_alias() {
    let home = Home::new(
        "[defaults]\nbastion = 'tag:Role=jump'\n[db.orders]\ncluster = 'prod-orders'\nsecret = 'orders/'\n\
         ports = { dev = 5433 }\nregion = 'eu-west-1'\n",
    );
    let file = |line: u32| format!("{}:{line}", home.file().display());
    let all = home.setting(&["config"], "db.orders");
    assert_eq!(all.0, "cluster prod-orders");
    assert_eq!(home.setting(&["config"], "bastion"), ("tag:Role=jump".into(), file(2)));
    for (key, value, from) in [
        ("cluster", "prod-orders", file(4)),
        ("secret", "orders/", file(5)),
        ("ports.dev", "5433", file(6)),
        ("region", "eu-west-1", file(7)),
    ] {
        assert_eq!(home.setting(&["config", "orders"], key), (value.into(), from));
    }
}

#[test]
fn every_value_is_shown_with_who_says_it() {
    let home = Home::new(
        "[defaults]\nprofile = 'corp'\nlanes = 2\n\n[alias.db]\ntarget = 'i-0123456789abcdef0'\n\
         region = 'eu-west-1'\nlanes = 3\nforwards = [5432]\n",
    );
    let file = |line: u32| format!("{}:{line}", home.file().display());
    let mut command = home.command(&["config", "db", "--json", "--pacing", "450"]);
    command.env("SSM_PAYLOAD_SIZE", "2048").env("AWS_ENDPOINT_URL", "https://me:secret@h");
    let outcome = Program::start(&mut command).wait();
    assert!(!outcome.stdout.contains("secret"), "{}", outcome.stdout);
    let shown: Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!(shown["path"], home.file().to_str().unwrap());
    for (key, value, from) in [
        ("target", "i-0123456789abcdef0", file(6)),
        ("forwards", "5432", file(9)),
        ("profile", "corp", file(2)),
        ("region", "eu-west-1", file(7)),
        ("endpoint-url", "https://***@h", "AWS_ENDPOINT_URL".into()),
        ("lanes", "3", file(8)),
        ("payload-size", "2048", "SSM_PAYLOAD_SIZE".into()),
        ("pacing", "450", "--pacing".into()),
    ] {
        let line = shown["settings"].as_array().unwrap().iter().find(|line| line["key"] == key).unwrap();
        assert_eq!((&line["value"], &line["from"]), (&value.into(), &from.as_str().into()), "{shown}");
    }
    let table = home.ssm(&["config"]).stdout;
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert!(rows.contains(&vec!["lanes", "2", &file(3)]), "{table}");
    assert!(rows.contains(&vec!["alias.db", "i-0123456789abcdef0", &file(6)]), "{table}");
    assert!(rows.contains(&vec!["region", "-", "AWS", "configuration"]), "{table}");
}

#[test]
fn a_mistake_is_one_line_with_file_line_and_key() {
    for (text, told) in [
        ("[defaults]\n\nregoin = 'x'", ":3: defaults.regoin: there is no key regoin; did you mean region?"),
        ("[alias.db]\ntarget = 'i-0123456789abcdef0'\nforwards = ['80:']", ":3: alias.db.forwards[0]: "),
        ("[alias.\"a\\u001b[2Jb\"]\ntarget = 't'", ":1: "),
        ("[alias", ":1: "),
    ] {
        let home = Home::new(text);
        for args in [&["config"][..], &["shell", "db"], &["forward", "db"], &["proxy", "db"]] {
            let outcome = home.ssm(args);
            refused(&outcome, &format!("ssm: {}{told}", home.file().display()));
        }
        // What needs no configuration works.
        assert_eq!(home.ssm(&["tunnels"]).status.code(), Some(0));
        assert_eq!(home.ssm(&["config", "path"]).status.code(), Some(0));
    }
    let home = Home::new("");
    let mut command = home.command(&["config"]);
    refused(&Program::start(command.env("SSM_LANES", "none")).wait(), "the variable SSM_LANES: it has to be");
}

#[test]
fn a_file_that_others_can_write_is_refused_also_behind_a_link() {
    let home = Home::new("");
    fs::set_permissions(home.file(), fs::Permissions::from_mode(0o666)).unwrap();
    refused(&home.ssm(&["shell", "db"]), "can be written by others; close it with chmod go-w");
    let elsewhere = home.folder.path().join("elsewhere");
    fs::rename(home.file(), &elsewhere).unwrap();
    symlink(&elsewhere, home.file()).unwrap();
    refused(&home.ssm(&["config"]), "can be written by others");
    fs::set_permissions(&elsewhere, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(home.ssm(&["config"]).status.code(), Some(0));
    assert_eq!(home.ssm(&["--config", "/dev/zero", "config"]).status.code(), Some(USAGE));
}

#[test]
fn an_alias_brings_its_forwards_and_the_command_line_goes_before_them() {
    let (handed, port) = (Handed::start(), echo());
    let home = Home::new(&format!(
        "[alias.db]\ntarget = '{}'\nlanes = 4\nforwards = ['0:{port}']\n[alias.none]\ntarget = 't'\n",
        handed.target
    ));
    let attach = |args: &[&str]| {
        let session = handed.session(|target| StartSession::port(target, port));
        let mut command = home.command(args);
        command.env("SSM_ATTACH", session);
        Program::start(&mut command)
    };
    let mut program = attach(&["forward", "db", "--attach"]);
    let local = program.until(port_of);
    exchange(&mut TcpStream::connect((Ipv4Addr::LOCALHOST, local)).unwrap(), b"hello");
    let socket = home.folder.path().join("s");
    let spec = format!("{}:{port}", socket.display());
    let mut program = attach(&["forward", "db", "--attach", "-L", &spec]);
    program.until(|said| said.contains(socket.to_str().unwrap()).then_some(()));
    assert!(port_of(&program.stderr()).is_none(), "{}", program.stderr());
    refused(&home.ssm(&["forward", "none"]), "say what to forward: -L SPEC");
}

#[test]
fn the_plugin_reads_no_configuration() {
    let home = Home::new("nonsense");
    let outcome = home.ssm(&["plugin", "--version"]);
    assert_eq!(outcome.status.code(), Some(0), "{}", outcome.stderr);
}

/// A user with a configuration.
struct Home {
    folder: TempDir,
}

impl Home {
    fn new(text: &str) -> Self {
        let home = Self { folder: tempfile::tempdir().unwrap() };
        fs::create_dir(home.folder.path().join("ssm")).unwrap();
        fs::write(home.file(), text).unwrap();
        fs::set_permissions(home.file(), fs::Permissions::from_mode(0o644)).unwrap();
        home
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("ssm").join("config.toml")
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = common::ssm(args);
        command.env("XDG_CONFIG_HOME", self.folder.path());
        command
    }

    fn ssm(&self, args: &[&str]) -> Outcome {
        Program::start(&mut self.command(args)).wait()
    }

    fn path(&self, args: &[&str]) -> PathBuf {
        self.ssm(args).stdout.trim_end().into()
    }

    /// Value and origin.
    fn setting(&self, args: &[&str], key: &str) -> (String, String) {
        let outcome = self.ssm(&[args, &["--json"]].concat());
        let shown: Value = serde_json::from_str(&outcome.stdout).unwrap();
        let line = shown["settings"].as_array().unwrap().iter().find(|line| line["key"] == key).unwrap();
        let text = |field: &str| line[field].as_str().unwrap_or_default().to_owned();
        (text("value"), text("from"))
    }
}

fn refused(outcome: &Outcome, told: &str) {
    assert_eq!((outcome.status.code(), outcome.stdout.as_str()), (Some(USAGE), ""), "{}", outcome.stderr);
    assert_eq!(outcome.stderr.trim_end().lines().count(), 1, "{}", outcome.stderr);
    assert!(outcome.stderr.contains(told) && !outcome.stderr.contains('\u{1b}'), "{}", outcome.stderr);
}
