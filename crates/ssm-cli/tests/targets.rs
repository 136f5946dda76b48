//! Names for machines: what is asked for them and how often, what is remembered, and what is listed.
//!
//! EC2 is played by [`Ec2`], which counts; Systems Manager by the loopback.

#![cfg(all(feature = "lookup", feature = "demo"))]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;

use rustix::process::Signal;
use serde_json::Value;
use ssm_loopback::Config;

use common::fake_aws::FakeAws;
use common::{Here, OnTerminal, Outcome, Program, ssm, until};

const WEB: &str = "i-0aaaaaaaaaaaaaaaa";

#[test]
fn an_id_is_no_call_and_a_tag_is_one() {
    let ec2 = Ec2::start(&[(WEB, "web")]);
    let home = tempfile::tempdir().unwrap();
    for id in ["i-0123456789ABCDEF0", "mi-01234567", "arn:aws:ec2:eu-west-1:123456789012:instance/i-01234567"]
    {
        assert_eq!(ec2.run(home.path(), &["resolve", id]).status.code(), Some(0));
    }
    assert_eq!(ec2.calls(), 0);
    for name in ["tag:Name=web", "Name:web", "asg:web", "10.0.0.7"] {
        assert_eq!(ec2.run(home.path(), &["resolve", "--no-cache", name]).stdout, format!("{WEB}\n"));
        assert_eq!(ec2.calls(), 1, "{name}");
    }
}

#[test]
fn what_was_found_is_known_for_a_while() {
    let ec2 = Ec2::start(&[(WEB, "web")]);
    let home = tempfile::tempdir().unwrap();
    ec2.run(home.path(), &["resolve", "tag:Name=web"]);
    assert_eq!(ec2.calls(), 1);
    let again = ec2.run(home.path(), &["resolve", "tag:Name=web"]);
    assert_eq!(again.stdout, format!("{WEB}\n"));
    assert!(again.stderr.contains("ssm: cache: found i-0aaaaaaaaaaaaaaaa  web  running"), "{}", again.stderr);
    assert_eq!(ec2.calls(), 0);
    let json = ec2.run(home.path(), &["resolve", "--json", "tag:Name=web"]).stdout;
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap()["step"], "cache");
    assert_eq!(ec2.calls(), 0);
    ec2.run(home.path(), &["resolve", "--no-cache", "tag:Name=web"]);
    assert_eq!(ec2.calls(), 1);
    // Another region is another machine, and so is the first of several.
    for other in [&["--region", "us-east-1"][..], &["--first"], &["--profile", "x"]] {
        ec2.run(home.path(), &[&["resolve", "tag:Name=web"], other].concat());
        assert_eq!(ec2.calls(), usize::from(!other.contains(&"--profile")), "{other:?}");
    }
    let cache = home.path().join("cache/ssm/targets.json");
    assert_eq!(mode(&cache), 0o600);
    assert_eq!(mode(cache.parent().unwrap()), 0o700);
    let kept = fs::read_to_string(&cache).unwrap();
    assert!(!kept.contains("AKID"), "{kept}");
    // As after a minute.
    let mut later: Value = serde_json::from_str(&kept).unwrap();
    for entry in later["entries"].as_array_mut().unwrap() {
        entry["expires"] = 1.into();
    }
    fs::write(&cache, later.to_string()).unwrap();
    ec2.run(home.path(), &["resolve", "tag:Name=web"]);
    assert_eq!(ec2.calls(), 1);
}

#[test]
fn a_machine_that_cannot_be_reached_is_looked_up_again() {
    let here = Here::start();
    let ec2 = Ec2::start(&[(WEB, "web")]);
    let home = tempfile::tempdir().unwrap();
    let shell = |name: &str| {
        let mut command = here.ssm(&["shell", name]);
        Program::start(ec2.at(home.path(), &mut command)).wait()
    };
    let first = shell("tag:Name=web");
    assert_eq!(first.status.code(), Some(255));
    assert!(first.stderr.contains("is not connected to Systems Manager"), "{}", first.stderr);
    assert!(first.stderr.contains("another try looks it up"), "{}", first.stderr);
    assert_eq!(ec2.calls(), 1);
    shell("tag:Name=web");
    assert_eq!(ec2.calls(), 1);
    // By its id there is no name to forget.
    assert!(!shell(WEB).stderr.contains("another try"));
}

#[test]
fn a_machine_is_in_the_region_of_its_arn() {
    let here = Here::start();
    let arn = format!("arn:aws:ec2:us-east-1:123456789012:instance/{}", here.loopback().target());
    let run = |args: &[&str]| {
        let mut command = here.ssm(args);
        let mut program = Program::with_stdin(
            command.env("AWS_REGION", "eu-west-1").env("SSM_REGION", "eu-central-1"),
            std::process::Stdio::piped(),
        );
        program.write("exit\n");
        program.wait()
    };
    // The loopback takes no signature of another region.
    assert_eq!(run(&["shell", &arn]).status.code(), Some(0));
    let other = run(&["shell", here.loopback().target()]);
    assert_eq!(other.status.code(), Some(255), "{}", other.stderr);
    let refused = run(&["shell", &arn, "--region", "eu-west-1"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(refused.stderr.contains("the ARN is of a machine in us-east-1"), "{}", refused.stderr);
}

#[test]
fn of_several_instances_those_that_are_online_count() {
    let ids: Vec<String> = (1..=3).map(|number| format!("i-{number:017}")).collect();
    let ec2 = Ec2::start(&ids.iter().map(|id| (id.as_str(), "worker")).collect::<Vec<_>>());
    let home = tempfile::tempdir().unwrap();
    let resolve = |targets: &[&str], args: &[&str]| {
        let here = Here::with(Config {
            targets: targets.iter().map(ToString::to_string).collect(),
            ..Config::default()
        });
        let mut command = here.ssm(&[&["resolve", "tag:Name=worker", "--no-cache"], args].concat());
        Program::start(ec2.at(home.path(), &mut command)).wait()
    };
    assert_eq!(resolve(&[&ids[1]], &[]).stdout, format!("{}\n", ids[1]));
    let two = resolve(&[&ids[1], &ids[2]], &[]);
    assert!(two.stderr.contains("is the name of 2 machines"), "{}", two.stderr);
    assert!(!two.stderr.contains(&ids[0]), "{}", two.stderr);
    assert_eq!(resolve(&[&ids[1], &ids[2]], &["--first"]).stdout, format!("{}\n", ids[1]));
    let none = resolve(&["mi-0123456789abcdef0"], &[]);
    assert!(none.stderr.contains("is the name of 3 machines"), "{}", none.stderr);
    assert!(
        ids.iter().all(|id| none.stderr.contains(&format!("{id}  worker  running, not online"))),
        "{}",
        none.stderr
    );
}

#[test]
fn a_fleet_is_listed_in_pages() {
    let targets: Vec<String> = (0..5_000).map(|number| format!("i-{number:017}")).collect();
    let here = Here::with(Config { targets: targets.clone(), ..Config::default() });
    let ec2 = Ec2::start(&[(&targets[0], "first"), (&targets[4_999], "last \x1b[2J")]);
    let home = tempfile::tempdir().unwrap();
    let list = |args: &[&str]| {
        let mut command = here.ssm(&[&["list"], args].concat());
        Program::start(ec2.at(home.path(), &mut command)).wait()
    };
    let Outcome { stdout, stderr, status } = list(&["--json"]);
    assert_eq!((status.code(), stderr.as_str()), (Some(0), ""));
    // One call for the names of each page of 50.
    assert_eq!(ec2.calls(), 100);
    let nodes: Vec<Value> = stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(nodes.iter().map(|node| node["id"].as_str().unwrap()).eq(targets.iter().map(String::as_str)));
    assert_eq!((nodes[0]["name"].as_str(), nodes[0]["state"].as_str()), (Some("first"), Some("running")));
    assert_eq!((&nodes[1]["name"], &nodes[1]["ping"]), (&Value::Null, &"Online".into()));
    let table = list(&["--filter", "name=first,l*"]);
    let lines: Vec<&str> = table.stdout.lines().collect();
    // Every machine calls itself localhost.
    assert_eq!(lines.len(), 5_001);
    assert!(lines[0].starts_with("ID ") && lines[0].ends_with(" ADDRESS"), "{}", lines[0]);
    assert!(lines[1].contains("  first "), "{}", lines[1]);
    assert!(lines[5_000].contains("  last \\u{1b}[2J "), "{}", lines[5_000]);
    let one = format!("InstanceIds={}", targets[7]);
    assert_eq!(list(&["--online", "--filter", &one]).stdout.lines().count(), 2);
    assert!(list(&["--filter", "PingStatus=ConnectionLost"]).stderr.contains("no machines"));
    let wrong = list(&["--filter", "Colour=blue"]);
    assert_eq!(wrong.status.code(), Some(255));
    assert!(wrong.stderr.contains("Colour is not a filter"), "{}", wrong.stderr);
    // The names are there to be completed.
    let mut command = here.ssm(&["completions", "bash"]);
    let script = Program::start(ec2.at(home.path(), &mut command)).wait().stdout;
    assert!(script.contains("first") && !script.contains('\x1b'));
}

#[test]
fn the_progress_of_a_list_goes_when_it_is_done() {
    let targets: Vec<String> = (0..500).map(|number| format!("i-{number:017}")).collect();
    let here = Here::with(Config { targets, ..Config::default() });
    let ec2 = Ec2::start(&[]);
    let home = tempfile::tempdir().unwrap();
    let mut command = here.ssm(&["list", "--json"]);
    let outcome = OnTerminal::start(ec2.at(home.path(), &mut command), 120).wait();
    assert_eq!(outcome.stdout.lines().count(), 500);
    assert!(
        outcome.stderr.contains(" machines") && outcome.stderr.ends_with("\x1b[2K"),
        "{:?}",
        outcome.stderr
    );
}

#[test]
fn the_progress_of_a_list_is_in_no_line_of_a_long_table() {
    let page = |first: u32, token: &str| {
        let nodes = (first..first + 3_000).map(|number| {
            format!(r#"{{"InstanceId":"mi-{number:017}","PingStatus":"Online","ComputerName":"web"}}"#)
        });
        let nodes: Vec<_> = nodes.collect();
        format!(r#"{{"InstanceInformationList":[{}]{token}}}"#, nodes.join(","))
    };
    let aws = FakeAws::start(move |asked| match asked.has("NextToken") {
        false => (200, page(0, r#","NextToken":"more""#)),
        true => (200, page(3_000, "")),
    });
    let home = tempfile::tempdir().unwrap();
    let mut command = ssm(&["list"]);
    aws.apply(&mut command);
    command.env("AWS_REGION", "eu-west-1").env("XDG_CACHE_HOME", home.path());
    command.env("AWS_ACCESS_KEY_ID", "AKIA").env("AWS_SECRET_ACCESS_KEY", "secret");
    let outcome = OnTerminal::with_stdout(&command, 120).wait();
    // What is cleared is gone.
    let lines: Vec<_> = outcome.stderr.lines().map(|line| line.rsplit("\x1b[2K").next().unwrap()).collect();
    assert!(outcome.stderr.contains("3,000 machines") && lines[0].starts_with("ID "), "{:?}", &lines[..3]);
    let rows = lines.iter().filter(|line| line.starts_with("mi-0"));
    assert_eq!(rows.count(), 6_000);
}

#[test]
fn a_list_without_ec2_says_so_once() {
    let targets: Vec<String> = (0..200).map(|number| format!("i-{number:017}")).collect();
    let here = Here::with(Config { targets, ..Config::default() });
    let ec2 = Ec2::denying();
    let home = tempfile::tempdir().unwrap();
    let mut command = here.ssm(&["list", "--json"]);
    let Outcome { stdout, stderr, status } = Program::start(ec2.at(home.path(), &mut command)).wait();
    assert_eq!(status.code(), Some(0), "{stderr}");
    assert_eq!((stdout.lines().count(), stderr.lines().count(), ec2.calls()), (200, 1, 1), "{stderr}");
    assert!(stderr.contains("the caller's IAM policy has to allow ec2:DescribeInstances"), "{stderr}");
}

#[test]
fn sessions_are_listed_and_ended() {
    let here = Here::start();
    let home = tempfile::tempdir().unwrap();
    let target = here.loopback().target().to_owned();
    let run = |args: &[&str]| Program::start(at_home(&mut here.ssm(args), home.path())).wait();
    let ids = |args: &[&str]| -> Vec<String> {
        let outcome = run(&[&["sessions", "--json"], args].concat());
        assert_eq!(outcome.status.code(), Some(0), "{}", outcome.stderr);
        let lines = outcome.stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.map(|session| session["id"].as_str().unwrap().to_owned()).collect()
    };
    assert!(run(&["sessions"]).stderr.contains("no sessions of yours"));
    let mut shells: Vec<Program> = (0..3)
        .map(|_| {
            let mut command = here.ssm(&["shell", &target, "--reason", "a\x1b[2Jb"]);
            Program::with_stdin(at_home(&mut command, home.path()), std::process::Stdio::piped())
        })
        .collect();
    let open = until("three sessions", || Some(ids(&[])).filter(|ids| ids.len() == 3));
    assert_eq!(ids(&["--all"]), open);
    assert_eq!(ids(&["--target", &target, "--since", "1h"]), open);
    assert_eq!(ids(&["--owner", "arn:aws:iam::000000000000:user/other"]), Vec::<String>::new());
    assert_eq!(ids(&["--history"]), Vec::<String>::new());
    assert_eq!(ids(&["--since", "2999-01-01T00:00:00Z"]), Vec::<String>::new());
    let table = run(&["sessions"]).stdout;
    assert!(table.contains("OWNER") && table.contains("a\\u{1b}[2Jb"), "{table}");
    // Sessions of processes that run are nobody's orphans.
    assert!(run(&["sessions", "orphans"]).stderr.contains("no sessions were left behind"));
    let ended = run(&["sessions", "terminate", &open[0]]);
    assert_eq!((ended.status.code(), ended.stdout.as_str()), (Some(0), ""));
    assert!(ended.stderr.contains(&format!("session {} has ended", open[0])), "{}", ended.stderr);
    // It is still listed as open until both of its ends know.
    until("the end of the session", || (ids(&["--history"]) == open[..1]).then_some(()));
    let again = run(&["sessions", "terminate", "loopback-00000000000000000"]);
    assert_eq!(again.status.code(), Some(1));
    assert!(again.stderr.contains("does not exist"), "{}", again.stderr);
    // A run that is killed leaves its session.
    shells.iter().for_each(|shell| shell.signal(Signal::KILL));
    shells.drain(..).for_each(|shell| drop(shell.wait()));
    let orphans = run(&["sessions", "orphans", "--json"]).stdout;
    assert_eq!(orphans.lines().count(), 2, "{orphans}");
    assert!(open[1..].iter().all(|id| orphans.contains(id.as_str())), "{orphans}");
    let kept = home.path().join("state/ssm/sessions");
    for file in fs::read_dir(&kept).unwrap() {
        let path = file.unwrap().path();
        assert_eq!(mode(&path), 0o600);
        assert!(!fs::read_to_string(&path).unwrap().contains("oken"));
    }
    assert_eq!(run(&["sessions", "terminate", "--orphans"]).status.code(), Some(0));
    until("the end of all sessions", || ids(&[]).is_empty().then_some(()));
    assert_eq!(fs::read_dir(&kept).unwrap().count(), 0);
    assert!(run(&["sessions", "terminate", "--mine"]).stderr.contains("no sessions"));
}

#[test]
fn a_session_that_ends_as_it_should_leaves_nothing() {
    let here = Here::start();
    let home = tempfile::tempdir().unwrap();
    let kept = home.path().join("state/ssm/sessions");
    let mut command = here.ssm(&["shell", here.loopback().target()]);
    let mut shell = Program::with_stdin(at_home(&mut command, home.path()), std::process::Stdio::piped());
    shell.wait_for(|_| (fs::read_dir(&kept).ok()?.count() == 1).then_some(()));
    shell.write("exit\n");
    assert_eq!(shell.wait().status.code(), Some(0));
    assert_eq!(fs::read_dir(&kept).unwrap().count(), 0);
}

#[test]
fn many_sessions_are_ended_when_the_user_says_so() {
    let here = Here::start();
    let home = tempfile::tempdir().unwrap();
    let _shells = [(); 2].map(|()| {
        let mut command = here.ssm(&["shell", here.loopback().target()]);
        Program::with_stdin(at_home(&mut command, home.path()), std::process::Stdio::piped())
    });
    let open = || {
        let mut command = here.ssm(&["sessions", "--json"]);
        Program::start(at_home(&mut command, home.path())).wait().stdout.lines().count()
    };
    until("two sessions", || (open() == 2).then_some(()));
    for (answer, code, left) in [("n\r", 130, 2), ("\x03", 130, 2), ("y\r", 0, 0)] {
        let mut command = here.ssm(&["sessions", "terminate", "--mine"]);
        let mut terminal = OnTerminal::with_stdout(at_home(&mut command, home.path()), 80);
        terminal.until(|written| written.contains("end 2 sessions? [y/N] ").then_some(()));
        terminal.keys(answer);
        let outcome = terminal.wait();
        assert_eq!(outcome.status.code(), Some(code), "{}", outcome.stderr);
        until("what is left", || (open() == left).then_some(()));
    }
}

#[test]
fn without_a_target_and_a_terminal_there_is_nothing_to_choose() {
    let here = Here::start();
    for args in [
        &["shell"][..],
        &["forward"],
        &["forward", "-L", "0:80"],
        &["forward", "-L", "0:80", "--background"],
        &["proxy"],
    ] {
        let outcome = Program::start(&mut here.ssm(args)).wait();
        assert_eq!((outcome.status.code(), outcome.stdout.as_str()), (Some(2), ""), "{args:?}");
    }
}

/// What plays EC2: instances by their ids and names, whatever is asked for, unless it is an id.
struct Ec2 {
    port: u16,
    calls: Arc<Mutex<usize>>,
}

impl Ec2 {
    fn start(instances: &[(&str, &str)]) -> Self {
        let all: Vec<(String, String)> =
            instances.iter().map(|(id, name)| (id.to_string(), name.to_string())).collect();
        Self::answering(move |request| {
            let wanted = |id: &str| {
                !request.contains("Filter.1.Name=instance-id&") || request.contains(&format!("={id}&"))
            };
            let items = all.iter().filter(|(id, _)| wanted(id)).map(|(id, name)| {
                let name = name.replace('\x1b', "&#x1b;");
                format!(
                    "<item><instanceId>{id}</instanceId><instanceState><code>16</code><name>running</name></instanceState>\
                     <privateIpAddress>10.0.0.7</privateIpAddress>\
                     <tagSet><item><key>Name</key><value>{name}</value></item></tagSet></item>"
                )
            });
            let items: String = items.collect();
            (
                200,
                format!(
                    "<DescribeInstancesResponse xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\"><reservationSet><item>\
                 <instancesSet>{items}</instancesSet></item></reservationSet></DescribeInstancesResponse>"
                ),
            )
        })
    }

    /// One whose caller may not ask.
    fn denying() -> Self {
        Self::answering(|_| {
            let error = "<Code>UnauthorizedOperation</Code><Message>You are not authorized</Message>";
            (
                403,
                format!(
                    "<Response><Errors><Error>{error}</Error></Errors><RequestID>r</RequestID></Response>"
                ),
            )
        })
    }

    fn answering(answer: impl Fn(&str) -> (u16, String) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let calls = Arc::new(Mutex::new(0));
        let (counted, answer) = (Arc::clone(&calls), Arc::new(answer));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (counted, answer) = (Arc::clone(&counted), Arc::clone(&answer));
                thread::spawn(move || serve(stream, &counted, &*answer));
            }
        });
        Self { port, calls }
    }

    /// Calls since this was asked last.
    fn calls(&self) -> usize {
        std::mem::take(&mut *self.calls.lock().unwrap())
    }

    /// The command with this EC2, and folders of its own.
    fn at<'a>(&self, home: &Path, command: &'a mut Command) -> &'a mut Command {
        at_home(command, home).env("AWS_ENDPOINT_URL_EC2", format!("http://127.0.0.1:{}", self.port))
    }

    /// Runs `ssm` with nothing but this EC2.
    fn run(&self, home: &Path, args: &[&str]) -> Outcome {
        let mut command = ssm(args);
        command
            .env("AWS_REGION", "eu-west-1")
            .env("AWS_ACCESS_KEY_ID", "AKID")
            .env("AWS_SECRET_ACCESS_KEY", "s");
        Program::start(self.at(home, &mut command)).wait()
    }
}

fn serve(mut stream: TcpStream, calls: &Mutex<usize>, answer: &dyn Fn(&str) -> (u16, String)) {
    let mut request = Vec::new();
    let mut buf = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&request).into_owned();
        let complete = text.split_once("\r\n\r\n").and_then(|(head, body)| {
            let head = head.to_ascii_lowercase();
            let len: usize = head.split_once("content-length: ")?.1.lines().next()?.parse().ok()?;
            (body.len() >= len).then(|| format!("{body}&"))
        });
        if let Some(body) = complete {
            *calls.lock().unwrap() += 1;
            let (status, answer) = answer(&body);
            let head = format!(
                "HTTP/1.1 {status} X\r\nContent-Type: text/xml\r\nContent-Length: {}\r\n\r\n",
                answer.len()
            );
            if stream.write_all((head + &answer).as_bytes()).is_err() {
                return;
            }
            request.clear();
        }
        match stream.read(&mut buf) {
            Ok(len @ 1..) => request.extend_from_slice(&buf[..len]),
            _ => return,
        }
    }
}

/// Folders of its own: what is remembered for one test is nothing to another.
fn at_home<'a>(command: &'a mut Command, home: &Path) -> &'a mut Command {
    command.env("XDG_CACHE_HOME", home.join("cache")).env("XDG_STATE_HOME", home.join("state"))
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}
