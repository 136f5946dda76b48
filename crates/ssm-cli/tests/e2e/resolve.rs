//! Machines by name: moto plays EC2, the loopback Systems Manager.

use std::io::Write as _;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::moto::Moto;
use crate::support::process::{Process, run};
use crate::support::{Loopback, SSM, clean};

#[test]
fn an_id_needs_no_account() {
    let home = TempDir::new().unwrap();
    for id in ["i-0123456789ABCDEF0", "mi-01234567", "ecs:prod_8f01_8f01-31"] {
        let mut process = Process::spawn(clean(SSM, home.path()).args(["resolve", id]));
        assert!(process.wait().success());
        assert_eq!((process.stdout(), process.stderr()), (format!("{id}\n"), String::new()));
    }
}

#[test]
fn a_tag_names_an_instance() {
    let moto = Moto::start();
    let id = moto.run_instances("web", 1);
    let mut process = Process::spawn(&mut moto.ssm(&["resolve", "Name:web"]));
    assert!(process.wait().success(), "{}", process.stderr());
    assert_eq!(process.stdout(), format!("{}\n", id[0]));
    let found = format!("ssm: tag of an instance: found {}  web  running  ", id[0]);
    assert!(process.stderr().contains(&found), "{}", process.stderr());
    let json: Value = serde_json::from_str(&run(&mut moto.ssm(&["resolve", "--json", "w?b"]))).unwrap();
    assert_eq!(json["found"]["target"], id[0].as_str());
    assert_eq!(json["step"], "tag of an instance");
}

#[test]
fn several_instances_are_listed_unless_any_will_do() {
    let moto = Moto::start();
    let ids = moto.run_instances("worker", 3);
    for command in
        [&["resolve", "tag:Name=worker"][..], &["shell", "tag:Name=worker"], &["proxy", "tag:Name=worker:22"]]
    {
        let mut process = Process::spawn(&mut moto.ssm(command));
        assert_eq!(process.wait().code(), Some(255));
        let stderr = process.stderr();
        assert!(stderr.contains("is the name of 3 machines; give the id of one"), "{stderr}");
        assert!(ids.iter().all(|id| stderr.contains(&format!("ssm:   {id}  worker  running  "))), "{stderr}");
        assert_eq!(process.stdout(), "");
    }
    let first = run(&mut moto.ssm(&["resolve", "--first", "tag:Name=worker"]));
    assert!(ids.contains(&first.trim().to_owned()), "{first}");
}

#[test]
fn every_step_is_told_when_none_finds_the_machine() {
    let moto = Moto::start();
    // Nobody may register a name under `invalid`.
    let mut process = Process::spawn(&mut moto.ssm(&["shell", "nowhere.invalid"]));
    assert_eq!(process.wait().code(), Some(255));
    let stderr = process.stderr();
    assert!(stderr.starts_with("ssm: no machine found for 'nowhere.invalid'\n"), "{stderr}");
    for step in ["alias", "tag of an instance", "DNS address", "DNS text", "computer name of a managed node"]
    {
        assert!(stderr.contains(&format!("\nssm:   {step}: ")), "{step}: {stderr}");
    }
}

#[test]
fn a_shell_opens_by_computer_name() {
    let loopback = Loopback::start();
    let (mut process, mut stdin) = Process::spawn_with_stdin(&mut loopback.ssm(&["shell", "localhost"]));
    stdin.write_all(b"echo answer-$((6 * 7))\nexit\n").unwrap();
    assert!(process.wait().success(), "{}", process.stderr());
    assert!(process.stdout().contains("answer-42"), "{}", process.stdout());
}
