//! What `ssm forward` tells of itself: events for programs, words for people.

#![cfg(all(feature = "aws", feature = "demo"))]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use rustix::process::Signal;
use serde_json::Value;
use ssm_loopback::{Direction, Loopback, RuleGuard, Verdict};

use common::fake_aws::{FakeAws, Home, role};
use common::{Here, OnTerminal, Program, closed_port, echo, exchange, port_of};

#[test]
fn the_life_of_a_connection_is_told() {
    let here = Here::start();
    let mut forward = Forward::start(&here, echo(), &["--json"]);
    forward.echo(b"12345");
    forward.until_event("closed");
    let events = forward.stop();
    let names: Vec<&str> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert_eq!(names, ["session_started", "ready", "opened", "closed", "session_ended", "ended"]);
    assert_eq!(events[1]["port"], forward.port);
    assert!(events[2]["peer"].as_str().unwrap().starts_with("127.0.0.1:"));
    assert_eq!((&events[3]["sent"], &events[3]["received"]), (&5.into(), &5.into()));
    assert!(events[3]["duration_ms"].is_u64() && events[3]["failure"].is_null());
    assert_eq!(events[5]["reason"], "the session was ended from here");
    for event in &events {
        assert!(event["forward"] == 1 && event["time_ms"].as_u64() > Some(1_700_000_000_000), "{event}");
    }
}

#[test]
fn a_loss_and_its_end_are_told() {
    let here = Here::start();
    let mut forward = Forward::start(&here, echo(), &["--json"]);
    let mut stream = forward.connect();
    exchange(&mut stream, b"before");
    let (_rule, cut) = cut_once(here.loopback(), Verdict::Cut);
    cut.store(true, Ordering::SeqCst);
    exchange(&mut stream, b"across");
    forward.until_event("resumed");
    drop(stream);
    forward.until_event("closed");
    let events = forward.stop();
    let redial = events.iter().find(|event| event["event"] == "redial").unwrap();
    assert_eq!((&redial["attempt"], redial["delay_ms"].is_u64()), (&0.into(), true));
    assert!(!redial["cause"].as_str().unwrap().is_empty(), "{redial}");
    let resumed = events.iter().find(|event| event["event"] == "resumed").unwrap();
    assert!(resumed["after_ms"].is_u64(), "{resumed}");
    let closed = events.iter().find(|event| event["event"] == "closed").unwrap();
    assert_eq!((&closed["sent"], &closed["received"]), (&12.into(), &12.into()));
}

#[test]
fn the_words_of_a_goodbye_are_passed_on() {
    let here = Here::start();
    let mut forward = Forward::start(&here, echo(), &["--json"]);
    let mut stream = forward.connect();
    exchange(&mut stream, b"before");
    let (_rule, cut) = cut_once(here.loopback(), Verdict::Bye);
    cut.store(true, Ordering::SeqCst);
    exchange(&mut stream, b"across");
    forward.until_event("resumed");
    let events = forward.stop();
    let redial = events.iter().find(|event| event["event"] == "redial").unwrap();
    assert!(redial["cause"].as_str().unwrap().contains("1000 Bye"), "{redial}");
}

#[test]
fn item_6_credentials_are_renewed_before_a_session_is_resumed() {
    let here = Here::start();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    // Good for two seconds more than what is taken as good.
    let until = SystemTime::now() + Duration::from_secs(302);
    let answer = |secret: &str, until: &str| {
        let (key, secret) = (here.loopback().access_key(), secret);
        let keys = format!(r#""AccessKeyId":"{key}","SecretAccessKey":"{secret}","Expiration":"{until}""#);
        fs::write(file("next"), format!(r#"{{"Version":1,{keys}}}"#)).unwrap();
        fs::rename(file("next"), file("answer")).unwrap();
    };
    let asked = || fs::read_to_string(file("log")).unwrap_or_default().lines().count();
    let secret = here.loopback().secret_key().expose();
    answer(secret, &utc(until));
    let (log, answers) = (file("log").display().to_string(), file("answer").display().to_string());
    let program = format!("credential_process=sh -c \"echo asked >> {log}; cat {answers}\"");
    fs::write(file("config"), format!("[profile program]\n{program}\n")).unwrap();
    let mut command = here.ssm(&["forward", here.loopback().target(), "-L"]);
    command.arg(format!("0:{}", echo())).args(["--json", "--profile", "program"]);
    command.env("AWS_CONFIG_FILE", file("config"));
    let mut forward = Forward::run(&mut command);
    let mut stream = forward.connect();
    exchange(&mut stream, b"before");
    while SystemTime::now() < until - Duration::from_secs(300) {
        std::thread::sleep(Duration::from_millis(20));
    }
    // The next ones are not even taken: others are asked for.
    answer("not-the-secret", "2999-01-01T00:00:00Z");
    let before = asked();
    let (_rule, cut) = cut_once(here.loopback(), Verdict::Cut);
    cut.store(true, Ordering::SeqCst);
    stream.write_all(b"across").unwrap();
    forward.program().wait_for(|_| (asked() > before + 1).then_some(()));
    answer(secret, "2999-01-01T00:00:00Z");
    let mut back = [0; 6];
    stream.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"across");
    forward.until_event("resumed");
    forward.stop();
}

#[test]
fn a_tunnel_on_a_terminal_asks_for_a_code_when_it_needs_one() {
    let here = Here::start();
    let home = Home::new(
        "[profile mfa]\nrole_arn=arn:aws:iam::1:role/R\nsource_profile=mfa\nmfa_serial=DEVICE\n\
         aws_access_key_id=K\naws_secret_access_key=s\n",
    );
    let until = SystemTime::now() + Duration::from_secs(303);
    let (key, secret) =
        (here.loopback().access_key().to_owned(), here.loopback().secret_key().expose().clone());
    let answers = std::sync::Mutex::new(vec!["2999-01-01T00:00:00Z".into(), utc(until)]);
    let sts = FakeAws::start(move |_| (200, role(&key, &secret, &answers.lock().unwrap().pop().unwrap())));
    let mut command = here.ssm(&["forward", here.loopback().target(), "-L"]);
    command.arg(format!("0:{}", echo())).args(["--profile", "mfa"]);
    home.apply(&mut command);
    command.env("AWS_ENDPOINT_URL_STS", sts.url()).env("AWS_REGION", here.loopback().region());
    let mut forward = OnTerminal::with_stdout(&command, 200);
    let asked = |text: &str| text.ends_with("code of DEVICE for arn:aws:iam::1:role/R: ").then_some(());
    forward.until(asked);
    forward.keys("111111\r");
    let port = forward.until(port_of);
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    exchange(&mut stream, b"before");
    while SystemTime::now() < until - Duration::from_secs(300) {
        std::thread::sleep(Duration::from_millis(20));
    }
    let (_rule, cut) = cut_once(here.loopback(), Verdict::Cut);
    cut.store(true, Ordering::SeqCst);
    stream.write_all(b"across").unwrap();
    forward.until(|text| text.contains("connection was lost").then(|| asked(text))?);
    // The status line, which is drawn twice a second, does not write over the question.
    std::thread::sleep(Duration::from_millis(1200));
    assert!(asked(&forward.written()).is_some(), "{:?}", forward.written());
    forward.keys("222222\r");
    let mut back = [0; 6];
    stream.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"across");
    assert!(!forward.written().contains("222222"));
    forward.signal(Signal::INT);
    assert_eq!(forward.wait().status.code(), Some(0));
}

#[test]
fn the_desktop_is_told_of_a_loss_that_lasts() {
    let here = Here::start();
    let folder = tempfile::tempdir().unwrap();
    let told = folder.path().join("told");
    let program = folder.path().join("notify-send");
    fs::write(&program, format!("#!/bin/sh\necho \"$3: $4\" >> {}\n", told.display())).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = here.ssm(&["forward", here.loopback().target(), "-L"]);
    command.arg(format!("0:{}", echo())).args(["--notify", "--json"]);
    command.env("PATH", format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap()));
    let mut forward = Forward::run(&mut command);
    let mut stream = forward.connect();
    exchange(&mut stream, b"before");
    let lines = || fs::read_to_string(&told).unwrap_or_default();
    {
        let (_rule, cut) = cut_once(here.loopback(), Verdict::Cut);
        cut.store(true, Ordering::SeqCst);
        exchange(&mut stream, b"across");
        forward.until_event("resumed");
        assert_eq!(lines(), "", "what is mended at once is nobody's concern");
    }
    let refused = here.loopback().fault("resume=503,times=20").unwrap();
    let (_rule, cut) = cut_once(here.loopback(), Verdict::Cut);
    cut.store(true, Ordering::SeqCst);
    stream.write_all(b"across").unwrap();
    let title = format!("ssm: {}: ", here.loopback().target());
    forward
        .program()
        .wait_for(|_| lines().starts_with(&format!("{title}the connection was lost (")).then_some(()));
    drop(refused);
    stream.read_exact(&mut [0; 6]).unwrap();
    forward.program().wait_for(|_| lines().ends_with(&format!("{title}connected again\n")).then_some(()));
    forward.stop();
    assert_eq!(lines().lines().count(), 2, "an end that was wanted is no news: {}", lines());
}

#[test]
fn where_there_is_no_desktop_the_forward_says_so_and_works() {
    let here = Here::start();
    let mut command = here.ssm(&["forward", here.loopback().target(), "-L"]);
    command.arg(format!("0:{}", echo())).args(["--notify", "--json"]).env("PATH", "/nowhere");
    let mut forward = Forward::run(&mut command);
    forward.echo(b"12345");
    forward.program().until(|said| said.contains("it takes notify-send").then_some(()));
    forward.stop();
}

#[test]
fn a_refusal_is_a_failure_of_the_connection() {
    let here = Here::start();
    let closed = closed_port();
    let mut forward = Forward::start(&here, closed, &["--json"]);
    let _ = forward.connect().read(&mut [0]);
    forward.until_event("closed");
    let events = forward.stop();
    let refused = events.iter().find(|event| event["event"] == "refused").unwrap();
    assert_eq!(refused["destination"], format!("port {closed} of the target"));
    assert_eq!(events.iter().find(|event| event["event"] == "closed").unwrap()["failure"], "refused");
}

#[test]
fn a_larger_size_of_messages_is_told() {
    let here = Here::start();
    let mut forward = Forward::start(&here, echo(), &["--json", "--pacing", "off"]);
    let stream = forward.connect();
    let mut writer = stream.try_clone().unwrap();
    let data = vec![7; 4 << 20];
    std::thread::scope(|scope| {
        scope.spawn(|| writer.write_all(&data).unwrap());
        (&stream).read_exact(&mut vec![0; data.len()]).unwrap();
    });
    forward.until_event("payload_size");
    let events = forward.stop();
    let size = events.iter().find(|event| event["event"] == "payload_size").unwrap();
    assert!(size["bytes"].as_u64() > Some(1024), "{size}");
}

#[test]
fn every_event_is_explained_when_asked() {
    let here = Here::start();
    let mut forward = Forward::start(&here, echo(), &["-v"]);
    let mut stream = forward.connect();
    exchange(&mut stream, b"before");
    let (_rule, cut) = cut_once(here.loopback(), Verdict::Cut);
    cut.store(true, Ordering::SeqCst);
    exchange(&mut stream, b"across");
    forward.program().until(|said| said.contains("nothing was lost").then_some(()));
    drop(stream);
    forward.program().until(|said| said.contains("connection 1 closed").then_some(()));
    forward.program().signal(Signal::INT);
    let said = forward.program.take().unwrap().wait().stderr;
    for words in [
        "a session has started (1 open), agent ",
        "connection 1 opened by 127.0.0.1:",
        "ssm: the connection was lost (",
        "ssm: connected again after ",
        "connection 1 closed after ",
        ": 12 B sent, 12 B received",
        "a session is over (0 open): the session was ended from here",
        "ssm: 1 connections, ",
        "resumed 1 times",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert!(said.bytes().all(|byte| byte == b'\n' || !byte.is_ascii_control()), "{said:?}");
}

/// A running `ssm forward` to a port.
struct Forward {
    program: Option<Program>,
    port: u16,
}

impl Forward {
    fn start(here: &Here, to: u16, args: &[&str]) -> Self {
        let spec = format!("0:{to}");
        let target = here.loopback().target();
        Self::run(&mut here.ssm(&[&["forward", target, "-L", &spec], args].concat()))
    }

    fn run(command: &mut Command) -> Self {
        let mut program = Program::start(command);
        let port = program.until(port_of);
        Self { program: Some(program), port }
    }

    fn program(&mut self) -> &mut Program {
        self.program.as_mut().unwrap()
    }

    fn connect(&self) -> TcpStream {
        TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).unwrap()
    }

    fn echo(&self, data: &[u8]) {
        exchange(&mut self.connect(), data);
    }

    fn until_event(&mut self, name: &str) {
        let event = format!(r#""event":"{name}""#);
        self.program().wait_for(|program| program.stdout().contains(&event).then_some(()));
    }

    /// Ends it as Ctrl-C does; returns its events.
    fn stop(&mut self) -> Vec<Value> {
        let program = self.program.take().unwrap();
        program.signal(Signal::INT);
        let outcome = program.wait();
        assert_eq!(outcome.status.code(), Some(0), "{}", outcome.stderr);
        outcome.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// A time as programs that give credentials write it.
fn utc(time: SystemTime) -> String {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let date = Command::new("date").args(["-u", "-d", &format!("@{seconds}"), "+%FT%TZ"]).output().unwrap();
    String::from_utf8(date.stdout).unwrap().trim().to_owned()
}

/// A rule that does this to the next message of the client once the flag is set.
fn cut_once(loopback: &Loopback, how: Verdict) -> (RuleGuard, Arc<AtomicBool>) {
    let armed = Arc::new(AtomicBool::new(false));
    let shared = Arc::clone(&armed);
    let rule = loopback.rule(move |direction, _| {
        let cuts = direction == Direction::ClientToAgent && shared.swap(false, Ordering::SeqCst);
        if cuts { how } else { Verdict::Deliver }
    });
    (rule, armed)
}
