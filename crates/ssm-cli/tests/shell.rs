//! What `ssm shell` does for its user beside the session: escapes, recordings, captures, notices.

#![cfg(all(feature = "aws", feature = "demo"))]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use ssm_loopback::{Config, Verdict};

use common::{Here, OnTerminal, Outcome, Program, echo, exchange, port_of};

/// A loopback whose shells are `sh`.
fn here() -> Here {
    Here::with(Config { shell: Some("/bin/sh".into()), ..Config::default() })
}

/// `ssm shell` on a terminal, at the prompt of the far side.
fn shell(here: &Here, args: &[&str]) -> OnTerminal {
    let args = [&["shell", here.loopback().target()], args].concat();
    let mut terminal = OnTerminal::with_stdout(&here.ssm(&args), 100);
    prompt(&mut terminal);
    terminal
}

fn prompt(terminal: &mut OnTerminal) {
    terminal.keys("PS1='far''prompt> '\r");
    terminal.until(|written| written.contains("farprompt> ").then_some(()));
}

fn until(terminal: &OnTerminal, text: &str) {
    terminal.until(|written| written.contains(text).then_some(()));
}

#[test]
fn an_escape_leaves_as_in_ssh() {
    let here = here();
    let mut terminal = shell(&here, &[]);
    terminal.keys("\r~.");
    let outcome = terminal.wait();
    assert_eq!(outcome.status.code(), Some(255), "{}", outcome.stderr);
    assert!(outcome.stderr.ends_with("\r\nssm: the session was ended here\r\n"), "{:?}", outcome.stderr);
}

#[test]
fn an_escape_leaves_a_session_that_hangs_and_one_that_is_lost() {
    for verdict in [Verdict::Drop, Verdict::Cut] {
        let here = here();
        let mut terminal = shell(&here, &[]);
        let _rule = here.loopback().rule(move |_, _| verdict);
        terminal.keys("not sent\r~s");
        until(&terminal, "connection  ");
        terminal.keys("~.");
        let outcome = terminal.wait();
        assert_eq!(outcome.status.code(), Some(255), "{}", outcome.stderr);
    }
}

#[test]
fn questions_are_answered_on_lines_of_their_own() {
    let here = here();
    let spec = format!("0:{}", echo());
    let mut forward = Program::start(&mut here.ssm(&["forward", here.loopback().target(), "-L", &spec]));
    forward.until(port_of);
    let mut terminal = shell(&here, &[]);
    terminal.keys("\r~?");
    until(&terminal, "\r\n  ~.   end the session\r\n");
    until(&terminal, "\r\n  ~~   send the character once\r\n");
    terminal.keys("~s");
    until(&terminal, "\r\nconnection  up, RTT ");
    terminal.keys("~#");
    until(&terminal, &format!("\r\n{}  ", forward.pid()));
    terminal.keys("echo al''ive~.; exit\r");
    until(&terminal, "alive~.");
    assert_eq!(terminal.wait().status.code(), Some(0));
}

#[test]
fn without_escapes_everything_is_sent() {
    let here = here();
    for (flag, typed, shown) in [("none", "~~a.\r", "~~a."), ("%", "~~b.\r", "~~b."), ("%", "%%c.\r", "%c.")]
    {
        let mut terminal = shell(&here, &["-e", flag]);
        terminal.keys("stty -echo; printf 're''ady\\n'; read line; printf '<%s>\\n' \"$line\"\r");
        until(&terminal, "ready");
        terminal.keys(typed);
        until(&terminal, &format!("<{shown}>"));
    }
    let outcome = Program::start(&mut here.ssm(&["shell", "i-1", "-e", "no"])).wait();
    assert!(outcome.stderr.contains("an escape is one ASCII character"), "{}", outcome.stderr);
}

#[test]
fn item_78_input_that_is_no_terminal_has_no_escapes() {
    let here = here();
    let mut command = here.ssm(&["shell", here.loopback().target()]);
    let mut program = Program::with_stdin(&mut command, std::process::Stdio::piped());
    program.write("stty -echo\nread line; printf '<%s>\\n' \"$line\"\n~.\nexit\n");
    program.wait_for(|program| program.stdout().contains("<~.>").then_some(()));
    assert_eq!(program.wait().status.code(), Some(0));
}

#[test]
fn a_file_is_typed_first_and_the_user_goes_on() {
    let here = here();
    let folder = tempfile::tempdir().unwrap();
    let init = folder.path().join("init");
    fs::write(&init, "stty -echo\r\nname=world\nPS1='far''prompt> '\n").unwrap();
    let args = ["shell", here.loopback().target(), "--init", init.to_str().unwrap()];
    let mut terminal = OnTerminal::with_stdout(&here.ssm(&args), 100);
    terminal.keys("echo hello $name; exit\r");
    until(&terminal, "hello world\r\n");
    assert_eq!(terminal.wait().status.code(), Some(0));
    let outcome =
        Program::start(&mut here.ssm(&["shell", here.loopback().target(), "--init", "/no/such"])).wait();
    assert_eq!(outcome.status.code(), Some(2));
    assert!(outcome.stderr.contains("cannot read /no/such"), "{}", outcome.stderr);
}

#[test]
fn a_command_runs_in_the_terminal_in_place_of_a_shell() {
    let here = here();
    let command = "stty -echo; read line; stty size; echo got-$line";
    let args = ["shell", here.loopback().target(), "--command", command];
    let mut terminal = OnTerminal::with_stdout(&here.ssm(&args), 100);
    terminal.keys("this\r");
    until(&terminal, "24 100\r\ngot-this\r\n");
    assert_eq!(terminal.wait().status.code(), Some(0));
}

#[test]
fn idleness_is_told_before_the_service_ends_it_and_says_why() {
    let config = Config { idle_timeout: Some(Duration::from_secs(3)), ..Config::default() };
    let here = Here::with(config);
    let args = ["shell", here.loopback().target(), "--idle-notice", "500ms"];
    let terminal = OnTerminal::with_stdout(&here.ssm(&args), 100);
    until(&terminal, "ssm: nothing was typed or shown for 500 ms; the service ends a session after 20 min");
    let outcome = terminal.wait();
    assert_eq!(outcome.status.code(), Some(255));
    let last = outcome.stderr.trim_end().lines().last().unwrap();
    assert!(
        last.starts_with("ssm: the session was ended by the service: ") && last.contains("inactivity"),
        "{last:?}"
    );
}

#[test]
fn a_recording_is_played_by_asciinema() {
    let here = here();
    let folder = tempfile::tempdir().unwrap();
    let cast = folder.path().join("session.cast");
    let mut terminal = shell(&here, &["--record", cast.to_str().unwrap()]);
    terminal.keys("echo gr\u{fc}n $((6*7)); exit\r");
    assert_eq!(terminal.wait().status.code(), Some(0));
    assert_eq!(fs::metadata(&cast).unwrap().permissions().mode() & 0o777, 0o600);
    let header: Value =
        serde_json::from_str(fs::read_to_string(&cast).unwrap().lines().next().unwrap()).unwrap();
    let title = format!("ssm shell {}", here.loopback().target());
    assert_eq!((&header["width"], &header["title"]), (&100.into(), &title.as_str().into()));

    let asciinema =
        Path::new(&std::env::var_os("SSM_TEST_AWS").expect("SSM_TEST_AWS: run cargo xtask setup"))
            .with_file_name("asciinema");
    let mut play = Command::new(&asciinema);
    let played = play.arg("cat").arg(&cast).env("HOME", folder.path()).env("LC_ALL", "C.UTF-8").output();
    let played =
        played.unwrap_or_else(|error| panic!("{}: {error}: run cargo xtask setup", asciinema.display()));
    assert!(played.status.success(), "{}", String::from_utf8_lossy(&played.stderr));
    let shown = String::from_utf8(played.stdout).unwrap();
    assert!(shown.contains("grün 42\r\n"), "{shown:?}");

    let again = Program::start(&mut here.ssm(&[
        "shell",
        here.loopback().target(),
        "--record",
        cast.to_str().unwrap(),
    ]))
    .wait();
    assert_eq!(again.status.code(), Some(2));
    assert!(again.stderr.contains("exists already: remove it, or take another name"), "{}", again.stderr);
}

#[test]
fn a_recording_has_all_that_was_shown_until_a_crash() {
    let here = here();
    let folder = tempfile::tempdir().unwrap();
    let cast = folder.path().join("session.cast");
    let mut terminal = shell(&here, &["--record", cast.to_str().unwrap()]);
    terminal.keys("echo la''st words\r");
    until(&terminal, "last words\r\n");
    terminal.signal(Signal::KILL);
    terminal.wait();
    let text = fs::read_to_string(&cast).unwrap();
    assert!(text.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{text}");
    assert!(text.contains(r"last words\r\n"), "{text}");
}

#[test]
fn a_session_that_does_not_start_leaves_no_recording() {
    let here = here();
    let folder = tempfile::tempdir().unwrap();
    let cast = folder.path().join("session.cast");
    let args = ["shell", "i-00000000000000000", "--record", cast.to_str().unwrap()];
    let outcome = Program::start(&mut here.ssm(&args)).wait();
    assert_eq!(outcome.status.code(), Some(255), "{}", outcome.stderr);
    assert!(!cast.exists());
}

#[test]
fn a_full_disk_ends_the_recording_and_not_the_session() {
    let here = here();
    let folder = tempfile::tempdir().unwrap();
    let cast = folder.path().join("session.cast");
    let ssm = here.ssm(&["shell", here.loopback().target(), "--record", cast.to_str().unwrap()]);
    // No file may have more than 512 bytes.
    let mut limited = Command::new("sh");
    limited.args(["-c", "trap '' XFSZ; ulimit -f 1; exec \"$0\" \"$@\""]);
    limited.arg(ssm.get_program()).args(ssm.get_args());
    for (name, value) in ssm.get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    let mut terminal = OnTerminal::with_stdout(&limited, 100);
    prompt(&mut terminal);
    terminal.keys("seq 1 1000\r");
    until(&terminal, "ssm: nothing is recorded from here on: File too large");
    terminal.keys("echo al''ive; exit\r");
    until(&terminal, "alive\r\n");
    assert_eq!(terminal.wait().status.code(), Some(0));
}

#[test]
fn a_capture_has_every_frame_and_no_token() {
    let here = here();
    let folder = tempfile::tempdir().unwrap();
    let capture = folder.path().join("frames");
    let mut terminal = shell(&here, &["--capture", capture.to_str().unwrap()]);
    terminal.keys("echo \x1b[1mst''range\r");
    until(&terminal, "strange");
    terminal.keys("exit\r");
    assert_eq!(terminal.wait().status.code(), Some(0));
    assert_eq!(fs::metadata(&capture).unwrap().permissions().mode() & 0o777, 0o600);
    let frames = lines(&capture);
    let open: Value = serde_json::from_str(frames[0]["text"].as_str().unwrap()).unwrap();
    assert_eq!(open["TokenValue"], "REDACTED");
    assert!(open["ClientVersion"].is_string());

    let Outcome { status, stdout, stderr } =
        Program::start(&mut common::ssm(&["decode", capture.to_str().unwrap()])).wait();
    assert_eq!((status.code(), stderr.as_str()), (Some(0), ""));
    assert_eq!(stdout.lines().count(), frames.len());
    let has = |words: &[&str]| stdout.lines().any(|line| words.iter().all(|word| line.contains(word)));
    assert!(has(&["client->service", "text", r#""TokenValue":"REDACTED""#]), "{stdout}");
    assert!(
        has(&["client->agent", "input_stream_data", "seq ", "Size", r#"{"cols":100,"rows":24}"#]),
        "{stdout}"
    );
    assert!(has(&["client->agent", "Output", r#"\x1b[1mst"#]), "{stdout}");
    assert!(has(&["agent->client", "output_stream_data", "seq 0", "flags 1"]), "{stdout}");
    assert!(has(&["acknowledge", "AcknowledgedMessageSequenceNumber"]), "{stdout}");
    assert!(has(&["service->client", "channel_closed", "service header"]), "{stdout}");
    assert!(stdout.bytes().all(|byte| byte == b'\n' || !byte.is_ascii_control()), "{stdout:?}");

    let again = Program::start(&mut here.ssm(&[
        "shell",
        here.loopback().target(),
        "--capture",
        capture.to_str().unwrap(),
    ]))
    .wait();
    assert_eq!(again.status.code(), Some(2));
    assert!(again.stderr.contains("exists already"), "{}", again.stderr);
}

#[test]
fn a_tunnel_is_captured_too_also_in_the_background() {
    let here = here();
    let folder = tempfile::tempdir().unwrap();
    let spec = format!("0:{}", echo());
    for (name, wait) in [("front", None), ("back", Some("--wait"))] {
        let capture = folder.path().join(name);
        let mut args =
            vec!["forward", here.loopback().target(), "-L", &spec, "--capture", capture.to_str().unwrap()];
        args.extend(wait);
        let mut program = Program::start(&mut here.ssm(&args));
        let port = program.until(port_of);
        exchange(&mut std::net::TcpStream::connect(("127.0.0.1", port)).unwrap(), b"through it");
        if wait.is_some() {
            assert_eq!(program.wait().status.code(), Some(0));
            assert_eq!(
                Program::start(&mut here.ssm(&["tunnels", "stop", "--all"])).wait().status.code(),
                Some(0)
            );
        } else {
            program.signal(Signal::INT);
            assert_eq!(program.wait().status.code(), Some(0));
        }
        let decoded = Program::start(&mut common::ssm(&["decode", capture.to_str().unwrap()])).wait().stdout;
        assert!(decoded.contains("through it") && decoded.contains("HandshakeRequest"), "{decoded}");
    }
}

#[test]
fn what_is_no_capture_is_told_line_by_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("garbage");
    fs::write(&file, b"\x1b[2J\n{}\n{\"dir\":\"x\",\"kind\":\"ping\",\"b64\":\"\"}\n\xff\xfe").unwrap();
    let outcome = Program::start(&mut common::ssm(&["decode", file.to_str().unwrap()])).wait();
    assert_eq!(outcome.status.code(), Some(1));
    assert_eq!(outcome.stdout.lines().count(), 1);
    assert_eq!(
        outcome.stderr,
        "ssm: line 1 is no frame of a capture\nssm: line 2 is no frame of a capture\n\
         ssm: line 4 is no frame of a capture\n"
    );
    let missing = Program::start(&mut common::ssm(&["decode", "/no/such"])).wait();
    assert_eq!(missing.status.code(), Some(2));
    assert!(missing.stderr.starts_with("ssm: cannot read /no/such: "), "{}", missing.stderr);
}

#[test]
fn what_a_program_left_switched_on_is_switched_off() {
    let here = here();
    let mut terminal = shell(&here, &[]);
    terminal.keys("printf '\\033[?1049h\\033[?25l\\033[?1002;1006hpic''ture'; sleep 100\r");
    until(&terminal, "picture");
    terminal.signal(Signal::TERM);
    let outcome = terminal.wait();
    let end = outcome.stderr.rsplit_once("picture").unwrap().1;
    assert!(
        end.starts_with("\x1b[?1006l\x1b[?1002l\x1b[?25h\x1b[?1049l\x1b[m"),
        "the mouse, the cursor, the screen: {end:?}"
    );
}

#[test]
fn notices_wait_for_a_program_that_has_the_screen() {
    let here = here();
    let mut terminal = shell(&here, &[]);
    terminal.keys("printf '\\033[?1049hpic''ture'; read line; printf '\\033[?1049lte''xt\\n'\r");
    until(&terminal, "picture");
    let cut = std::sync::atomic::AtomicBool::new(true);
    let rule = here.loopback().rule(move |_, _| match cut.swap(false, std::sync::atomic::Ordering::SeqCst) {
        true => Verdict::Cut,
        false => Verdict::Deliver,
    });
    terminal.keys("line\r");
    until(&terminal, "connected again");
    drop(rule);
    let written = terminal.written();
    let shown = written.rsplit_once("picture").unwrap().1;
    let (text, notice) = (shown.find("text"), shown.find("ssm: the connection was lost"));
    assert!(text.is_some() && text < notice, "{shown:?}");
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
