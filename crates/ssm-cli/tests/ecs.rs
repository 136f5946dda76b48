//! `ssm ecs` against a loopback of this process.

#![cfg(all(feature = "lookup", feature = "demo"))]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::thread;

use rustix::process::Signal;
use ssm_loopback::{Cluster, Config, Container, Direction, Kms, KmsChallenge, Task, Verdict};

use common::fake_aws::request;
use common::{Here, Outcome, Program, Tunnels, echo, exchange, port_of};

const ID: &str = "8f01b4f0aa6c4d1e9b7a3c5d2e4f6071";

#[test]
fn a_command_runs_and_its_output_is_all_there_is_on_stdout() {
    let here = Here::start();
    let outcome = run(&here, &["ecs", "exec", "loopback/web/app", "--", "printf", "%s|", "a b", "$HOME"]);
    assert_eq!((outcome.status.code(), &*outcome.stdout), (Some(0), "a b|$HOME|"), "{}", outcome.stderr);
    // One word is a line for the shell over there.
    let outcome = run(&here, &["ecs", "exec", "loopback/web/app", "--", "echo one | tr a-z A-Z"]);
    assert_eq!(outcome.stdout.trim_end(), "ONE", "{}", outcome.stderr);
}

#[test]
fn the_session_has_begun_with_its_first_output() {
    let here = Here::start();
    let outcome = run(&here, &["-v", "ecs", "exec", "loopback/web/app", "--", "echo hello"]);
    assert!(outcome.stderr.contains("evidence: FirstOutput"), "{}", outcome.stderr);
}

#[test]
fn a_session_of_a_cluster_with_a_key_is_encrypted_for_its_container() {
    let key_id = "arn:aws:kms:us-east-1:000000000000:key/8f01b4f0-aa6c-4d1e-9b7a-3c5d2e4f6071";
    // The agent decrypts the data key with the target that the service knows.
    let kms = Kms { key_id: key_id.into(), challenge: KmsChallenge::Required, authority: None };
    let here = Here::with(Config { kms: Some(kms), ..Config::default() });
    let outcome = run(&here, &["ecs", "exec", "loopback/web/app", "--", "echo hidden"]);
    assert_eq!(outcome.stdout.trim_end(), "hidden", "{}", outcome.stderr);
    assert!(outcome.stderr.contains("This session is encrypted using AWS KMS."), "{}", outcome.stderr);
    let outcome = run(&here, &["ecs", "check", "loopback/web/app"]);
    assert!(outcome.stdout.contains(&format!("sessions are encrypted with {key_id}")), "{}", outcome.stdout);
}

#[test]
fn what_was_left_out_is_skipped_where_there_is_one() {
    let only = vec![cluster("only", vec![Task::new(ID, "job", &["job"])])];
    let here = with(only);
    for place in [&[][..], &["only"], &["only/job"], &["ecs:only/8f01/j"], &["--task", "8f"]] {
        let args = [&["ecs", "exec"], place, &["--", "echo here"]].concat();
        let outcome = run(&here, &args);
        assert_eq!(outcome.stdout.trim_end(), "here", "{place:?} {}", outcome.stderr);
        let is_told = outcome.stderr.contains(&format!("ssm: only/job/job, task {ID}"));
        assert_eq!(is_told, !place.contains(&"ecs:only/8f01/j"), "{place:?} {}", outcome.stderr);
    }
}

#[test]
fn in_a_pipe_choices_are_listed() {
    let here = Here::start();
    for (place, said) in [
        ("loopback", &["there are 3 services; say which: --service NAME", "worker  service  2 tasks"][..]),
        (
            "loopback/worker",
            &["there are 2 tasks; say which: --task NAME", "a1b2c3d4e5f60718293a4b5c6d7e8f90"],
        ),
        ("loopback/web", &["there are 2 containers; say which: --container NAME", "sidecar  RUNNING"]),
        ("loopback/web/x", &["task 8f01b4f0aa6c4d1e9b7a3c5d2e4f6071 has no container x; it has:", "sidecar"]),
        ("nowhere", &["there is no ECS cluster nowhere; there are: loopback"]),
    ] {
        let outcome = run(&here, &["ecs", "exec", place]);
        assert_eq!(outcome.status.code(), Some(255), "{place}");
        assert!(said.iter().all(|said| outcome.stderr.contains(said)), "{place}: {}", outcome.stderr);
        assert_eq!(outcome.stdout, "");
    }
    let outcome = run(&here, &["ecs", "exec", "--first", "loopback/worker", "--", "echo any"]);
    assert_eq!(outcome.stdout.trim_end(), "any", "{}", outcome.stderr);
}

#[test]
fn a_refused_command_comes_with_what_the_task_lacks() {
    let disabled = Task { exec: false, ..Task::new(ID, "web", &["app"]).of("web") };
    let mut stopped = Task::new("a1b2c3d4e5f60718293a4b5c6d7e8f90", "job", &["job"]);
    stopped.platform_version = Some("1.3.0".into());
    stopped.task_role = None;
    stopped.pid_mode = Some("task".into());
    let container = &mut stopped.containers[0];
    container.agent = Some("STOPPED".into());
    container.agent_reason = Some("Received Container Stopped event".into());
    (container.read_only, container.init) = (true, false);
    container.environment = vec!["PATH".into(), "AWS_ACCESS_KEY_ID".into()];
    let here =
        with(vec![Cluster { services: vec!["web".into()], ..cluster("prod", vec![disabled, stopped]) }]);
    let outcome = run(&here, &["ecs", "exec", "prod/web"]);
    assert_eq!(outcome.status.code(), Some(255));
    for said in [
        "ssm: container app takes no commands: The execute command failed because",
        "ssm: fail  exec      the task was started without ECS Exec",
        "aws ecs update-service --cluster prod --service web --enable-execute-command --force-new-deployment",
    ] {
        assert!(outcome.stderr.contains(said), "{said}: {}", outcome.stderr);
    }
    let outcome = run(&here, &["ecs", "exec", "prod/job"]);
    for said in [
        "fail  platform  Fargate platform 1.3.0",
        "fail  agent     the agent in container job is STOPPED: Received Container Stopped event",
        "fail  role      the task has no role",
        "fail  root      the root file system of container job is read-only",
        "warn  init      container job has no init process",
        "warn  keys      container job is given AWS_ACCESS_KEY_ID",
        "warn  pid-mode  the containers share their processes",
        "skip  network   not looked at: the task needs a way to ssmmessages.us-east-1.amazonaws.com",
    ] {
        assert!(outcome.stderr.contains(said), "{said}: {}", outcome.stderr);
    }
}

#[test]
fn a_check_is_for_stdout_and_its_code_tells_the_worst() {
    let here = Here::start();
    let outcome = run(&here, &["ecs", "check", "loopback/web"]);
    assert_eq!(outcome.status.code(), Some(0), "{}", outcome.stdout);
    assert!(outcome.stdout.contains("ok    agent     the agent in container sidecar is RUNNING\n"));
    let outcome = run(&here, &["ecs", "check", "loopback/job", "--json"]);
    assert_eq!(outcome.status.code(), Some(1));
    let first: serde_json::Value = serde_json::from_str(outcome.stdout.lines().next().unwrap()).unwrap();
    assert_eq!((&first["check"], &first["verdict"]), (&"exec".into(), &"fail".into()));
}

#[test]
fn an_agent_without_a_connection_is_told_of() {
    let mut task = Task::new(ID, "job", &["job"]);
    task.containers[0] = Container { connected: false, ..Container::new("job") };
    let here = with(vec![cluster("prod", vec![task])]);
    let outcome = run(&here, &["ecs", "exec", "prod"]);
    let said =
        "ssm: the agent in container job is not connected to Systems Manager: The execute command failed";
    assert!(outcome.stderr.contains(said), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("skip  network"), "{}", outcome.stderr);
    let outcome = run(&here, &["ecs", "forward", "prod", "-L", "0:80"]);
    assert!(outcome.stderr.contains("is not connected to Systems Manager"), "{}", outcome.stderr);
}

#[test]
fn containers_are_listed_for_people_and_for_programs() {
    let here = Here::start();
    let outcome = run(&here, &["ecs", "list"]);
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    assert_eq!(lines.len(), 6, "{}", outcome.stdout);
    let words: Vec<&str> = lines[2].split_whitespace().collect();
    assert_eq!(words, ["loopback", "web", ID, "app", "running", "running", "127.0.0.1"]);
    let outcome = run(&here, &["ecs", "list", "loopback/web/app", "--json"]);
    let line: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!(line["target"], format!("ecs:loopback_{ID}_{ID}-3107182542"));
    assert_eq!((&line["group"], &line["exec"]), (&"service:web".into(), &"RUNNING".into()));
}

#[test]
fn a_port_of_a_container_is_forwarded() {
    let here = Here::start();
    let spec = format!("0:{}", echo());
    for args in [&["ecs", "forward", "loopback/web/app"][..], &["forward", "ecs:loopback/web/app"]] {
        let mut program = Program::start(&mut here.ssm(&[args, &["-L", &spec]].concat()));
        let port = program.until(port_of);
        exchange(&mut TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap(), &[7; 100_000]);
        program.signal(Signal::INT);
        assert_eq!(program.wait().status.code(), Some(0));
    }
}

#[test]
fn what_was_found_is_handed_to_the_background() {
    let here = Here::start();
    let spec = format!("0:{}", echo());
    let folder = tempfile::tempdir().unwrap();
    let _tunnels = Tunnels::of(folder.path());
    let ssm = |args: &[&str]| {
        let mut command = here.ssm(args);
        command.env("XDG_RUNTIME_DIR", folder.path()).env("XDG_STATE_HOME", folder.path());
        Program::start(&mut command).wait()
    };
    // The loopback would not tell twice: the second process must know.
    let outcome = ssm(&["ecs", "forward", "--first", "loopback/worker", "-L", &spec, "--background"]);
    assert_eq!(outcome.status.code(), Some(0), "{}", outcome.stderr);
    assert_eq!(outcome.stderr.matches("ssm: loopback/worker/worker, task").count(), 1, "{}", outcome.stderr);
    let port = port_of(&outcome.stderr).unwrap();
    exchange(&mut TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap(), b"hello");
    assert_eq!(ssm(&["tunnels", "stop", "--all"]).status.code(), Some(0));
}

#[test]
fn a_session_is_resumed_and_ended_at_systems_manager() {
    let here = Here::start();
    let ecs = Relay::start(here.loopback().endpoint_url());
    let ssm = Relay::start(here.loopback().endpoint_url());
    let mut command = here.ssm(&[
        "ecs",
        "exec",
        "loopback/web/app",
        "--",
        "echo begun; read line; echo $line-back; read line",
    ]);
    command.env_remove("AWS_ENDPOINT_URL");
    command.env("AWS_ENDPOINT_URL_ECS", ecs.url()).env("AWS_ENDPOINT_URL_SSM", ssm.url());
    let mut program = Program::with_stdin(&mut command, Stdio::piped());
    program.wait_for(|program| program.stdout().contains("begun").then_some(()));
    let mut cuts = 0;
    let guard = here.loopback().rule(move |direction, _| {
        let is_first = direction == Direction::ClientToAgent && cuts == 0;
        cuts += u32::from(is_first);
        if is_first { Verdict::Cut } else { Verdict::Deliver }
    });
    program.write("hello\r");
    program.wait_for(|program| program.stdout().contains("hello-back").then_some(()));
    drop(guard);
    program.signal(Signal::TERM);
    let outcome = program.wait();
    assert_eq!(outcome.status.code(), Some(143), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("connected again"), "{}", outcome.stderr);
    let at_ecs = ecs.targets();
    assert!(
        at_ecs.iter().all(|target| target.starts_with("AmazonEC2ContainerServiceV20141113.")),
        "{at_ecs:?}"
    );
    assert_eq!(at_ecs.last().unwrap(), "AmazonEC2ContainerServiceV20141113.ExecuteCommand");
    assert_eq!(ssm.targets()[0], "AmazonSSM.ResumeSession");
}

fn run(here: &Here, args: &[&str]) -> Outcome {
    Program::start(&mut here.ssm(args)).wait()
}

fn with(clusters: Vec<Cluster>) -> Here {
    Here::with(Config { clusters, ..Config::default() })
}

fn cluster(name: &str, tasks: Vec<Task>) -> Cluster {
    Cluster { name: name.into(), services: Vec::new(), tasks }
}

/// Another address of the loopback, which keeps what is asked there.
struct Relay {
    address: SocketAddr,
    targets: Arc<Mutex<Vec<String>>>,
}

impl Relay {
    fn start(url: &str) -> Self {
        let to = url.strip_prefix("http://").unwrap().to_owned();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let targets = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&targets);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (to, kept) = (to.clone(), Arc::clone(&kept));
                thread::spawn(move || carry(&client, &TcpStream::connect(to).unwrap(), &kept));
            }
        });
        Self { address, targets }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn targets(&self) -> Vec<String> {
        self.targets.lock().unwrap().clone()
    }
}

fn carry(mut client: &TcpStream, mut service: &TcpStream, targets: &Mutex<Vec<String>>) {
    use std::io::{BufReader, Write as _};
    thread::scope(|scope| {
        scope.spawn(move || {
            let _ = std::io::copy(&mut service, &mut client);
            let _ = client.shutdown(Shutdown::Both);
        });
        let mut requests = BufReader::new(client);
        while let Some(asked) = request(&mut requests) {
            targets.lock().unwrap().extend(asked.target().map(str::to_owned));
            if service.write_all(asked.text.as_bytes()).is_err() {
                break;
            }
        }
        let _ = service.shutdown(Shutdown::Both);
    });
}
