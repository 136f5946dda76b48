//! One command on many machines by Run Command: moto plays Systems Manager.

use serde_json::Value;

use crate::support::moto::Moto;
use crate::support::process::Process;
use crate::support::system::installed;

#[test]
fn more_than_fifty_machines_of_a_tag_are_reached_by_run_command() {
    let moto = Moto::start();
    let ids = moto.run_instances("web", 60);
    let words = ["exec", "--targets", "Name:web", "--json", "--reason", "a test", "--", "uptime", "-p"];
    let mut process = Process::spawn(&mut moto.ssm(&words));
    assert!(process.wait().success(), "{}", process.stderr());
    let stdout = process.stdout();
    let lines: Vec<Value> = stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for id in &ids {
        let of: Vec<_> = lines.iter().filter(|line| line["target"] == id.as_str()).collect();
        assert_eq!(of.last().unwrap()["exit_code"], 0, "{of:?}");
    }
    let mut aws = moto.command(installed("SSM_TEST_AWS"));
    let sent = crate::support::process::run(aws.args(["ssm", "list-commands", "--output", "json"]));
    let sent: Value = serde_json::from_str(&sent).unwrap();
    let sent = sent["Commands"].as_array().unwrap();
    assert_eq!(sent.len(), 2);
    for command in sent {
        assert_eq!(command["DocumentName"], "AWS-RunShellScript");
        assert_eq!(command["Parameters"]["commands"][0], "uptime -p");
        assert_eq!(
            (command["Comment"].as_str(), command["MaxErrors"].as_str()),
            (Some("a test"), Some("100%"))
        );
    }
}

#[test]
fn a_few_machines_are_too_when_it_is_asked_for() {
    let moto = Moto::start();
    let ids = moto.run_instances("db", 2);
    let list = ids.join(",");
    let mut process =
        Process::spawn(&mut moto.ssm(&["exec", "--targets", &list, "--via", "run-command", "--", "id"]));
    assert!(process.wait().success(), "{}", process.stderr());
    assert!(process.stdout().lines().all(|line| ids.iter().any(|id| line.starts_with(&format!("{id}: ")))));
}
