//! ECS Exec with the AWS CLI, on real terminals, and against moto as another ECS.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::symlink;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::postgres::Postgres;
use crate::support::nginx::Nginx;
use crate::support::process::{Process, run};
use crate::support::system::{free_port, installed};
use crate::support::tmux::Tmux;
use crate::support::{Forward, Loopback, SSM, clean};

#[test]
fn the_cli_runs_a_command_with_our_plugin() {
    let loopback = Loopback::start();
    let mut process = Process::spawn(&mut aws(
        &loopback,
        &[
            "execute-command",
            "--cluster",
            "loopback",
            "--task",
            "8f01b4f0aa6c4d1e9b7a3c5d2e4f6071",
            "--container",
            "app",
            "--interactive",
            "--command",
            "echo answer-$((6 * 7))",
        ],
    ));
    let status = process.wait();
    let (stdout, stderr) = (process.stdout(), process.stderr());
    assert!(status.success(), "{status}: {stdout}{stderr}");
    assert!(stdout.contains("Starting session with SessionId: ecs-execute-command-"), "{stdout}");
    assert!(stdout.contains("answer-42"), "{stdout}");
    assert!(stdout.contains("Exiting session with sessionId: ecs-execute-command-"), "{stdout}");
}

#[test]
fn the_cli_finds_every_member_where_it_looks_for_it() {
    let loopback = Loopback::start();
    let clusters = json(&mut aws(&loopback, &["list-clusters"]));
    let cluster = clusters["clusterArns"][0].as_str().unwrap();
    assert!(cluster.ends_with(":cluster/loopback"), "{cluster}");
    let described = json(&mut aws(&loopback, &["describe-clusters", "--clusters", cluster]));
    assert_eq!(described["clusters"][0]["clusterName"], "loopback");
    assert_eq!(described["clusters"][0]["activeServicesCount"], 2);
    let services = json(&mut aws(&loopback, &["list-services", "--cluster", cluster]));
    let service = services["serviceArns"][0].as_str().unwrap();
    let tasks = json(&mut aws(&loopback, &["list-tasks", "--cluster", cluster, "--service-name", service]));
    let arn = tasks["taskArns"][0].as_str().unwrap();
    let described = json(&mut aws(&loopback, &["describe-tasks", "--cluster", cluster, "--tasks", arn]));
    let task = &described["tasks"][0];
    let id = arn.rsplit('/').next().unwrap();
    assert_eq!((&task["enableExecuteCommand"], &task["launchType"]), (&true.into(), &"FARGATE".into()));
    assert_eq!((&task["platformVersion"], &task["group"]), (&"1.4.0".into(), &"service:web".into()));
    let container = &task["containers"][0];
    assert_eq!(container["runtimeId"], format!("{id}-3107182542"));
    assert_eq!(container["managedAgents"][0]["name"], "ExecuteCommandAgent");
    assert_eq!(container["managedAgents"][0]["lastStatus"], "RUNNING");
    let definition = task["taskDefinitionArn"].as_str().unwrap();
    let described = json(&mut aws(&loopback, &["describe-task-definition", "--task-definition", definition]));
    let definition = &described["taskDefinition"];
    assert_eq!(definition["containerDefinitions"][0]["linuxParameters"]["initProcessEnabled"], true);
    assert!(definition["taskRoleArn"].is_string());
}

#[test]
fn the_cli_is_refused_as_by_aws() {
    let loopback = Loopback::start();
    for (args, code) in [
        (["--cluster", "absent", "--task", "8f01b4f0aa6c4d1e9b7a3c5d2e4f6071"], "ClusterNotFoundException"),
        (
            ["--cluster", "loopback", "--task", "d4c5b6a7988990a1b2c3d4e5f60718ff"],
            "InvalidParameterException",
        ),
    ] {
        let mut command = aws(&loopback, &["execute-command", "--interactive", "--command", "sh"]);
        let mut process = Process::spawn(command.args(args));
        assert!(!process.wait().success());
        assert!(process.stderr().contains(code), "{}", process.stderr());
    }
}

#[test]
fn levels_are_chosen_on_a_terminal() {
    let loopback = Loopback::start();
    let tmux = terminal(&loopback);
    tmux.line(&format!("{SSM} ecs exec"));
    tmux.until("the services", |screen| screen.contains("3 services:") && screen.contains("2 tasks"));
    tmux.text("worker");
    tmux.until("the best match", |screen| screen.contains("> worker"));
    tmux.key("Enter");
    tmux.until("the tasks", |screen| screen.contains("2 tasks:") && screen.contains("b2c3d4e5"));
    tmux.text("b2c3");
    tmux.until("the best match", |screen| screen.contains("> b2c3d4e5"));
    tmux.key("Enter");
    // There is one container.
    tmux.until("what was chosen", |screen| screen.contains("loopback/worker/worker, task b2c3d4e5"));
    tmux.until("the far prompt", |screen| {
        screen.trim_end().ends_with(['#', '$']) && !screen.trim_end().ends_with("local$")
    });
    tmux.line("tty; stty size; echo st''ill here");
    tmux.until_line("30 100");
    tmux.until_line("still here");
    tmux.line("exit");
    tmux.until("the local prompt", |screen| screen.trim_end().ends_with("local$"));
}

#[test]
fn leaving_a_list_starts_nothing() {
    let loopback = Loopback::start();
    let tmux = terminal(&loopback);
    tmux.line(&format!("{SSM} ecs forward loopback/web -L 0:80; echo code=$?"));
    tmux.until("the containers", |screen| screen.contains("2 containers:") && screen.contains("sidecar"));
    tmux.key("Escape");
    tmux.until("the exit code", |screen| screen.contains("code=130"));
    tmux.line(&format!("{SSM} shell ecs:loopback/worker; echo code=$?"));
    tmux.until("the machines", |screen| screen.contains("2 machines"));
    tmux.key("C-c");
    tmux.until("the exit code", |screen| screen.matches("code=130").count() == 2);
    let sessions = run(loopback.command(installed("SSM_TEST_AWS")).args([
        "ssm",
        "describe-sessions",
        "--state",
        "Active",
        "--region",
        loopback.variable("AWS_REGION"),
        "--endpoint-url",
        &loopback.endpoint,
        "--output",
        "json",
    ]));
    let sessions: Value = serde_json::from_str(&sessions).unwrap();
    assert_eq!(sessions["Sessions"], Value::Array(Vec::new()));
}

#[test]
fn pages_and_queries_come_through_a_container() {
    let (loopback, nginx, postgres) = (Loopback::start(), Nginx::start(), Postgres::start());
    fs::write(nginx.file("page.html"), "x".repeat(300_000)).unwrap();
    let forward = forward(&loopback, &format!("0:localhost:{}", nginx.port));
    let page = run(loopback.command("curl").args(["-sS", &format!("http://{}/page.html", forward.local)]));
    assert_eq!(page.len(), 300_000);
    forward.stop();
    let forward = self::forward(&loopback, &format!("0:{}", postgres.port));
    let answer = run(postgres.client("psql", &forward).args(["-Atc", "select 6 * 7"]));
    assert_eq!(answer, "42\n");
    forward.stop();
}

#[test]
fn another_ecs_lists_and_finds() {
    let moto = Moto::start();
    let mut ids = moto.run_tasks("web", 2);
    ids.sort();
    let list = run(&mut moto.ssm(&["ecs", "list", "--json"]));
    let lines: Vec<Value> = list.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2, "{list}");
    for (line, id) in lines.iter().zip(&ids) {
        assert_eq!(line["target"], format!("ecs:prod_{id}_{id}-7"), "{line}");
        assert_eq!((&line["group"], &line["container"]), (&"service:web".into(), &"app".into()));
    }
    for place in [format!("ecs:pr/{}", ids[0]), format!("prod/{}/app", ids[0])] {
        let found = run(&mut moto.ssm(&["resolve", &place]));
        assert_eq!(found, format!("ecs:prod_{0}_{0}-7\n", ids[0]), "{place}");
    }
    let mut process = Process::spawn(&mut moto.ssm(&["resolve", "ecs:prod/web"]));
    assert_eq!(process.wait().code(), Some(255));
    assert!(process.stderr().contains("'ecs:prod/web' is the name of 2 machines"), "{}", process.stderr());
    let mut process = Process::spawn(&mut moto.ssm(&["ecs", "exec", "absent"]));
    process.wait();
    assert!(process.stderr().contains("no ECS cluster absent; there are: prod"), "{}", process.stderr());
}

/// A terminal at a shell of this machine.
fn terminal(loopback: &Loopback) -> Tmux {
    Tmux::start(&loopback.command("sh"), loopback.home(), (100, 30))
}

fn forward(loopback: &Loopback, spec: &str) -> Forward {
    let process = Process::spawn(&mut loopback.ssm(&["ecs", "forward", "loopback/web/app", "-L", spec]));
    let port = process.until("where it listens", |text| {
        let (_, rest) = text.split_once("listening on 127.0.0.1:")?;
        rest.split_once(|char: char| !char.is_ascii_digit())?.0.parse().ok()
    });
    Forward { process, local: (Ipv4Addr::LOCALHOST, port).into() }
}

/// `aws ecs` with this program as its plugin.
fn aws(loopback: &Loopback, args: &[&str]) -> Command {
    let programs = loopback.home().join("ecs-plugin");
    fs::create_dir_all(&programs).unwrap();
    let plugin = programs.join("session-manager-plugin");
    if !plugin.exists() {
        symlink(SSM, &plugin).unwrap();
    }
    let mut command = loopback.command(installed("SSM_TEST_AWS"));
    command.env("PATH", format!("{}:{}", programs.display(), std::env::var("PATH").unwrap()));
    command.env("AWS_DEFAULT_REGION", loopback.variable("AWS_REGION")).env("AWS_PAGER", "");
    command.args(["ecs", "--endpoint-url", &loopback.endpoint]).args(args);
    command
}

fn json(command: &mut Command) -> Value {
    serde_json::from_str(&run(command.args(["--output", "json"]))).unwrap()
}

/// An ECS that others wrote, whose containers have started: by itself it leaves them pending and without a runtime's id.
struct Moto {
    endpoint: String,
    home: TempDir,
    _process: Process,
}

impl Moto {
    fn start() -> Self {
        let home = TempDir::new().unwrap();
        let python = installed("SSM_TEST_MOTO").with_file_name("python");
        let port = free_port();
        let program = format!(
            "import moto.ecs.models as models\n\
             from moto.server import main\n\
             new = models.Task.__init__\n\
             def started(self, *args, **kwargs):\n\
             \x20   new(self, *args, **kwargs)\n\
             \x20   for container in self.containers:\n\
             \x20       container.last_status, container.runtime_id = 'RUNNING', self.id + '-7'\n\
             models.Task.__init__ = started\n\
             main(['-H', '127.0.0.1', '-p', '{port}'])\n"
        );
        let process = Process::spawn(clean(python, home.path()).args(["-u", "-c", &program]));
        process.until_says("Running on ");
        Self { endpoint: format!("http://127.0.0.1:{port}"), home, _process: process }
    }

    fn command(&self, program: impl AsRef<std::path::Path>) -> Command {
        let mut command = clean(program, self.home.path());
        command.env("AWS_ENDPOINT_URL", &self.endpoint).env("AWS_REGION", "eu-west-1");
        command.env("AWS_DEFAULT_REGION", "eu-west-1").env("AWS_PAGER", "");
        command.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "test");
        command
    }

    fn ssm(&self, args: &[&str]) -> Command {
        let mut command = self.command(SSM);
        command.args(args);
        command
    }

    fn aws(&self, args: &[&str]) -> Value {
        json(self.command(installed("SSM_TEST_AWS")).arg("ecs").args(args))
    }

    /// Starts tasks of a service in the cluster `prod`; returns their ids.
    fn run_tasks(&self, service: &str, count: usize) -> Vec<String> {
        self.aws(&["create-cluster", "--cluster-name", "prod"]);
        let containers = r#"[{"name":"app","image":"x","memory":128}]"#;
        self.aws(&["register-task-definition", "--family", service, "--container-definitions", containers]);
        let group = format!("service:{service}");
        let answer = self.aws(&[
            "run-task",
            "--cluster",
            "prod",
            "--task-definition",
            service,
            "--launch-type",
            "FARGATE",
            "--group",
            &group,
            "--count",
            &count.to_string(),
        ]);
        let tasks = answer["tasks"].as_array().unwrap().iter();
        tasks.map(|task| task["taskArn"].as_str().unwrap().rsplit('/').next().unwrap().to_owned()).collect()
    }
}
