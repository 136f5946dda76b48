//! `ssm exec`: streams apart, the exit code, signals, and many machines at once.

#![cfg(all(feature = "aws", feature = "demo"))]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::ffi::OsStrExt as _;
use std::process::{Command, Stdio};
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use ssm_loopback::{Config, Document, Profile};
use tempfile::TempDir;

use crate::common::fake_aws::{Asked, FakeAws};
use crate::common::{Here, Outcome, Program, ssm};

fn config(profile: Profile) -> Config {
    Config { profile, ..Config::default() }
}

fn exec(here: &Here, words: &[&str]) -> Command {
    here.ssm(&[&["exec", here.loopback().target(), "--"], words].concat())
}

fn run(command: &mut Command) -> Outcome {
    Program::start(command).wait()
}

#[test]
fn the_exit_code_is_the_commands() {
    for profile in [Profile::Fast, Profile::Aws] {
        let here = Here::with(config(profile));
        for code in [0, 1, 3, 127, 130, 255] {
            let outcome = run(&mut exec(&here, &["exit", &code.to_string()]));
            assert_eq!(outcome.status.code(), Some(code), "{outcome:?}");
            assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("", ""));
        }
    }
}

#[test]
fn output_and_errors_are_apart_and_words_are_joined() {
    let here = Here::start();
    let outcome = run(&mut exec(&here, &["echo", "a  b;", "echo $((6*7)) >&2; echo '{{ x }}'"]));
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("a b\n{{ x }}\n", "42\n"));
    let mut command = exec(&here, &["printf", "%s"]);
    command.arg(std::ffi::OsStr::from_bytes(b"'\xff\xfe'"));
    let mut child = command.stdout(Stdio::piped()).stdin(Stdio::null()).spawn().unwrap();
    let mut stdout = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut stdout).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(stdout, b"\xff\xfe");
}

#[test]
fn a_folder_goes_through_a_pipeline() {
    for profile in [Profile::Fast, Profile::Aws] {
        let here = Here::with(config(profile));
        let (from, to) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        for number in 0..40_u8 {
            fs::write(from.path().join(format!("file {number}")), vec![number; 5000]).unwrap();
        }
        let mut tar = Command::new("tar");
        let mut tar = tar.args(["-c", "."]).current_dir(from.path()).stdout(Stdio::piped()).spawn().unwrap();
        let far = format!("tar -x -C {}", to.path().display());
        let program = Program::with_stdin(&mut exec(&here, &[&far]), tar.stdout.take().unwrap().into());
        let outcome = program.wait();
        assert!(outcome.status.success(), "{outcome:?}");
        assert!(tar.wait().unwrap().success());
        for number in 0..40_u8 {
            assert_eq!(fs::read(to.path().join(format!("file {number}"))).unwrap(), vec![number; 5000]);
        }
    }
}

#[test]
fn without_input_the_command_has_none() {
    let here = Here::start();
    let target = here.loopback().target();
    let mut command = here.ssm(&["exec", "-n", target, "--", "cat; echo end"]);
    // Nobody ever closes it.
    let outcome = Program::with_stdin(&mut command, Stdio::piped()).wait();
    assert_eq!((outcome.status.code(), outcome.stdout.as_str()), (Some(0), "end\n"));
}

#[test]
fn a_signal_ends_the_command_over_there() {
    for profile in [Profile::Fast, Profile::Aws] {
        let here = Here::with(config(profile));
        let folder = TempDir::new().unwrap();
        for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
            let mark = folder.path().join(code.to_string());
            let far = format!(
                "trap 'echo ended > {}; exit' INT TERM; echo started; sleep 300 & wait",
                mark.display()
            );
            let mut program = Program::with_stdin(&mut exec(&here, &[&far]), Stdio::piped());
            program.wait_for(|program| program.stdout().contains("started").then_some(()));
            program.signal(signal);
            let outcome = program.wait();
            assert_eq!(outcome.status.code(), Some(code), "{outcome:?}");
            assert_eq!(fs::read_to_string(&mark).unwrap(), "ended\n");
        }
    }
}

#[test]
fn a_reader_that_has_seen_enough_ends_it() {
    for profile in [Profile::Fast, Profile::Aws] {
        let here = Here::with(config(profile));
        let mut child = exec(&here, &["yes"]).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut first = [0; 2];
        child.stdout.take().unwrap().read_exact(&mut first).unwrap();
        assert_eq!((&first, child.wait().unwrap().code()), (b"y\n", Some(141)));
    }
}

#[test]
fn a_megabyte_each_way_arrives_unchanged() {
    let here = Here::start();
    let data: Vec<u8> = (0..1_000_000_u32).map(|at| (at / 251) as u8).collect();
    let mut command = exec(&here, &["cat"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut stdin, sent) = (child.stdin.take().unwrap(), data.clone());
    let writer = thread::spawn(move || stdin.write_all(&sent).unwrap());
    let mut back = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut back).unwrap();
    writer.join().unwrap();
    assert!(child.wait().unwrap().success() && back == data);
}

#[test]
fn our_own_failures_have_codes_of_their_own() {
    let here = Here::start();
    let outcome = run(&mut here.ssm(&["exec", "i-00000000000000000", "--", "true"]));
    assert_eq!(outcome.status.code(), Some(255), "{outcome:?}");
    assert!(outcome.stdout.is_empty() && outcome.stderr.contains("not connected"), "{outcome:?}");
    for words in
        [&["exec", "i-00000000000000000"][..], &["exec", "--", "true"], &["exec", "--json", "i-1", "--", "x"]]
    {
        assert_eq!(run(&mut here.ssm(words)).status.code(), Some(2), "{words:?}");
    }
    let long = "x".repeat(70_000);
    let outcome = run(&mut exec(&here, &[&long]));
    assert_eq!(outcome.status.code(), Some(2));
    assert!(outcome.stderr.contains("sh -s <"), "{outcome:?}");
}

#[test]
fn a_document_that_separates_its_output_will_do() {
    let command = r#"{"commands":"{{ command }}","separateOutputStream":"true"}"#;
    let body = format!(
        r#"{{"sessionType":"NonInteractiveCommands","parameters":{{"command":{{}}}},"properties":{{"linux":{command},"macos":{command}}}}}"#
    );
    let documents = vec![Document::from_json("Apart", &body).unwrap()];
    let here = Here::with(Config { documents, ..Config::default() });
    let run = |document: &str, line: &str| {
        let target = here.loopback().target();
        run(&mut here.ssm(&["exec", "--document", document, target, "--", line]))
    };
    let outcome = run("Apart", "echo it\\'s; echo wrong >&2; exit 5");
    assert_eq!((outcome.status.code(), outcome.stdout.as_str()), (Some(5), "it's\n"), "{outcome:?}");
    assert!(outcome.stderr.contains("wrong\n"));
    let outcome = run("AWS-StartNonInteractiveCommand", "echo x");
    assert_eq!(outcome.status.code(), Some(255), "{outcome:?}");
    assert!(outcome.stderr.contains("separateOutputStream"), "{outcome:?}");
    let outcome = run("AWS-StartInteractiveCommand", "exit 6");
    assert_eq!(outcome.status.code(), Some(6), "{outcome:?}");
}

#[test]
fn a_reader_that_stands_still_does_not_keep_ctrl_c_away() {
    let targets = ["i-00000000000000001", "i-00000000000000002"].map(String::from);
    let here = Here::with(Config { targets: targets.to_vec(), ..Config::default() });
    let mut command = here.ssm(&["exec", "--targets", &targets.join(","), "--", "yes"]);
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let stdout = child.stdout.take().unwrap();
    // Until nothing fits into the pipe any more, which holds 64 KiB; and then for as long as the rest takes to fill.
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut seen = 0;
    loop {
        let now = rustix::io::ioctl_fionread(&stdout).unwrap();
        if now > 60_000 && now == seen {
            break;
        }
        assert!(Instant::now() < deadline, "{now} bytes came");
        seen = now;
        thread::sleep(Duration::from_millis(200));
    }
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    while child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < deadline, "it does not end");
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

#[test]
fn ctrl_c_leaves_no_session_that_is_being_opened() {
    let targets: Vec<_> = (1..=6).map(|number| format!("i-0000000000000000{number}")).collect();
    // Takes connections and never says a word.
    let gateway = TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = format!("ws://{}/v1/data-channel/s", gateway.local_addr().unwrap());
    let last = targets[2].clone();
    let (late, answered_late) = mpsc::channel::<()>();
    let answered_late = Mutex::new(answered_late);
    let aws = FakeAws::start(move |asked| {
        let Some(id) =
            asked.operation().filter(|operation| *operation == "StartSession").and_then(|_| id(asked))
        else {
            return (200, "{}".into());
        };
        if id == last {
            // Under way when the signal comes.
            let _ = answered_late.lock().unwrap().recv();
        }
        (200, format!(r#"{{"SessionId":"s-{id}","StreamUrl":"{stream}","TokenValue":"t"}}"#))
    });
    let mut command = ssm(&["exec", "--targets", &targets.join(","), "--", "true"]);
    aws.apply(&mut command);
    command.env("AWS_REGION", "eu-west-1");
    command.env("AWS_ACCESS_KEY_ID", "AKIA").env("AWS_SECRET_ACCESS_KEY", "secret");
    let mut program = Program::start(&mut command);
    program.wait_for(|_| (aws.asked_with("AmazonSSM.StartSession").len() == 3).then_some(()));
    program.signal(Signal::INT);
    // Those that had not begun are told of at once.
    program.wait_for(|program| program.stderr().contains("not started").then_some(()));
    late.send(()).unwrap();
    let outcome = program.wait();
    assert_eq!(outcome.status.code(), Some(130), "{outcome:?}");
    assert_eq!(outcome.stderr.matches("not started").count(), targets.len(), "{outcome:?}");
    let ended: BTreeSet<_> = aws.asked_with("AmazonSSM.TerminateSession").iter().filter_map(id).collect();
    assert_eq!(ended, targets[..3].iter().map(|target| format!("s-{target}")).collect());
    assert_eq!(aws.asked_with("AmazonSSM.StartSession").len(), 3);
}

/// The machine or the session that a call is about.
fn id(asked: &Asked) -> Option<String> {
    let (_, body) = asked.text.split_once("\r\n\r\n")?;
    let body: serde_json::Value = serde_json::from_str(body).ok()?;
    Some(body.get("Target").or_else(|| body.get("SessionId"))?.as_str()?.to_owned())
}

#[test]
fn many_machines_answer_line_by_line() {
    let targets: Vec<_> = (1..=3).map(|number| format!("i-0000000000000000{number}")).collect();
    let here = Here::with(Config { targets: targets.clone(), ..Config::default() });
    let list = targets.join(",");
    let far = "printf 'one\\ntwo'; echo wrong >&2; exit 3";
    let outcome = run(&mut here.ssm(&["exec", "--targets", &list, "--parallel", "2", "--", far]));
    assert_eq!(outcome.status.code(), Some(3), "{outcome:?}");
    let mut lines: Vec<_> = outcome.stdout.lines().map(str::to_owned).collect();
    lines.sort();
    let expected: Vec<_> =
        targets.iter().flat_map(|target| [format!("{target}: one"), format!("{target}: two")]).collect();
    assert_eq!(lines, expected);
    assert!(
        targets.iter().all(|target| outcome.stderr.contains(&format!("{target}: wrong\n"))),
        "{outcome:?}"
    );

    let with_stranger = format!("{list},i-00000000000000009");
    let outcome = run(&mut here.ssm(&["exec", "--targets", &with_stranger, "--json", "--", "echo hello"]));
    assert_eq!(outcome.status.code(), Some(255), "{outcome:?}");
    let lines: Vec<serde_json::Value> =
        outcome.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let count = |key: &str| lines.iter().filter(|line| !line[key].is_null()).count();
    assert_eq!((count("line"), count("exit_code"), count("error")), (3, 3, 1), "{lines:?}");
}
