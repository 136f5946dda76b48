//! Commands with their streams apart, against the loopback's agent on real terminals.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ssm_loopback::{Config, Loopback, Profile, Verdict};
use ssm_session::{ControlPlane, PayloadType, Session, StartSession};
use ssm_shell::{Command, CommandError, CommandIo, Completed, EndedBy, ExecError, Signal};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(10);

struct Running {
    input: Option<DuplexStream>,
    output: DuplexStream,
    error: DuplexStream,
    input_len: Option<oneshot::Sender<u64>>,
    signals: mpsc::Sender<Signal>,
    lines: mpsc::Sender<String>,
    run: JoinHandle<Result<Completed, ExecError>>,
}

impl Running {
    async fn start(loopback: &Loopback, line: impl AsRef<[u8]>) -> Self {
        Self::with_room(loopback, line, 64 * 1024).await
    }

    /// `room` is how much of the output the streams hold by themselves.
    async fn with_room(loopback: &Loopback, line: impl AsRef<[u8]>, room: usize) -> Self {
        let command = Command::new(line).unwrap();
        let request = command.request(loopback.target());
        let config = ssm_session::Config::default();
        let session = Session::start(loopback.control(), &request, config).await.unwrap();
        Self::with_session(session, command, room)
    }

    fn with_session<C: ControlPlane>(session: Session<C>, command: Command, room: usize) -> Self {
        let (input, command_input) = duplex(64 * 1024);
        let (output, command_output) = duplex(room);
        let (error, command_error) = duplex(room);
        let (signals, receiver) = mpsc::channel(4);
        let (lines, received) = mpsc::channel(4);
        let (input_len, known) = oneshot::channel();
        let io = CommandIo::streams(command_output, command_error)
            .input(command_input)
            .input_len(known)
            .signals(receiver)
            .lines(received);
        let run = tokio::spawn(async move { ssm_shell::exec(session, &command, io, |_| {}).await });
        Self { input: Some(input), input_len: Some(input_len), output, error, signals, lines, run }
    }

    /// Gives it this input and waits for what comes of it.
    async fn finish(mut self, input: &[u8]) -> (Result<Completed, ExecError>, Vec<u8>, Vec<u8>) {
        let mut writer = self.input.take().unwrap();
        let write = async {
            // A command that reads no more is told by an error.
            let _ = writer.write_all(input).await;
            drop(writer);
        };
        let (mut output, mut error) = (Vec::new(), Vec::new());
        let all = async {
            let (output, error) = (self.output.read_to_end(&mut output), self.error.read_to_end(&mut error));
            let ((), output, error) = tokio::join!(write, output, error);
            output.and(error).unwrap();
            self.run.await.unwrap()
        };
        let completed = timeout(SOON * 6, all).await.unwrap();
        (completed, output, error)
    }
}

async fn run(loopback: &Loopback, line: impl AsRef<[u8]>, input: &[u8]) -> (u8, Vec<u8>, Vec<u8>) {
    let (completed, output, error) = Running::start(loopback, line).await.finish(input).await;
    let completed = completed.unwrap();
    assert_eq!(completed.ended_by, EndedBy::Session);
    (completed.code, output, error)
}

async fn both() -> [Loopback; 2] {
    let config = |profile| Config { profile, ..Config::default() };
    [
        Loopback::start(config(Profile::Fast)).await.unwrap(),
        Loopback::start(config(Profile::Aws)).await.unwrap(),
    ]
}

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 7 + at / 251) as u8).collect()
}

#[tokio::test]
async fn the_exit_code_is_the_commands() {
    for loopback in both().await {
        for code in [0, 1, 3, 127, 130, 255] {
            assert_eq!(run(&loopback, format!("exit {code}"), b"").await.0, code);
        }
        assert_eq!(run(&loopback, "kill -9 $$", b"").await.0, 137);
        assert_eq!(run(&loopback, "kill -INT $$", b"").await.0, 130);
        loopback.shutdown().await;
    }
}

#[tokio::test]
async fn input_output_and_errors_are_apart_and_unchanged() {
    for loopback in both().await {
        let input = bytes(300_000);
        let (code, output, error) = run(&loopback, "tee /dev/stderr; exit 7", &input).await;
        assert_eq!(code, 7);
        assert!(output == input, "{} of {} bytes", output.len(), input.len());
        assert!(error == input, "{} of {} bytes", error.len(), input.len());
        loopback.shutdown().await;
    }
}

#[tokio::test]
async fn an_input_of_known_length_arrives_as_any_other() {
    let folder = TempDir::new().unwrap();
    let arrived = folder.path().join("arrived");
    for loopback in both().await {
        let input = bytes(600_000);
        for known in [1, input.len() - 1, input.len()] {
            let line = format!("cat >'{}'; exit 7", arrived.display());
            let mut running = Running::start(&loopback, line).await;
            running.input_len.take().unwrap().send(known as u64).unwrap();
            assert_eq!(running.finish(&input).await.0.unwrap().code, 7);
            assert!(std::fs::read(&arrived).unwrap() == input, "{known}");
        }
        loopback.shutdown().await;
    }
}

#[tokio::test]
async fn an_input_that_is_shorter_than_was_said_is_an_error() {
    let loopback = Loopback::start(Config::default()).await.unwrap();
    let mut running = Running::start(&loopback, "cat >/dev/null").await;
    running.input_len.take().unwrap().send(100_000).unwrap();
    let error = running.finish(&bytes(99_999)).await.0.unwrap_err();
    assert!(matches!(&error, ExecError::Input(short) if short.kind() == ErrorKind::UnexpectedEof), "{error}");
    loopback.shutdown().await;
}

#[tokio::test]
async fn a_command_may_read_less_than_was_said() {
    let loopback = Loopback::start(Config::default()).await.unwrap();
    let mut running = Running::start(&loopback, "head -c 1000; exec <&-; echo over; exit 3").await;
    running.input_len.take().unwrap().send(3_000_000).unwrap();
    let (completed, output, _) = running.finish(&bytes(3_000_000)).await;
    assert_eq!(completed.unwrap().code, 3);
    assert!(output == [&bytes(1000)[..], b"over\n"].concat());
    loopback.shutdown().await;
}

#[tokio::test]
async fn nothing_is_made_of_the_command_line_but_by_sh() {
    let loopback = Loopback::start(Config::default()).await.unwrap();
    for (line, expected) in [
        (&b"printf %s 'a  b' \"c'd\" $(echo e)"[..], &b"a  bc'de"[..]),
        (b"echo one\necho '\ntwo'\n\n", b"one\n\ntwo\n"),
        (
            b"printf '%s' '{{ command }} {{ssm:x}} \\n %d $HOME `x`'",
            b"{{ command }} {{ssm:x}} \\n %d $HOME `x`",
        ),
        (b"printf %s '\xff\xfe\x01\x1b[2J\xc3'", b"\xff\xfe\x01\x1b[2J\xc3"),
        (b"cat <<'X'\n$(no)\nX\n", b"$(no)\n"),
        (b"", b""),
        (b"# nothing", b""),
        (b"test -t 0 || test -t 1 || test -t 2 || echo none", b"none\n"),
        (b"(: </dev/tty) 2>/dev/null || echo no terminal", b"no terminal\n"),
    ] {
        let (code, output, error) = run(&loopback, line, b"").await;
        let shown = String::from_utf8_lossy(line);
        assert_eq!(String::from_utf8_lossy(&error), "", "{shown}");
        assert_eq!((code, &output[..]), (0, expected), "{shown}");
    }
    loopback.shutdown().await;
}

#[test]
fn no_command_holds_a_nul_or_is_endless() {
    assert_eq!(Command::new(b"a\0b").unwrap_err(), CommandError::Nul);
    assert!(matches!(Command::new(vec![b'x'; 70_000]), Err(CommandError::TooLong { .. })));
    assert!(matches!(Command::new(vec![0xff; 20_000]), Err(CommandError::TooLong { .. })));
}

#[tokio::test]
async fn a_command_that_reads_no_more_input_goes_on() {
    for loopback in both().await {
        let (code, output, _) =
            run(&loopback, "head -c 5; exec <&-; sleep 1; echo; exit 4", &bytes(2_000_000)).await;
        assert_eq!((code, output.len()), (4, 6));
        loopback.shutdown().await;
    }
}

#[tokio::test]
async fn output_is_there_before_the_end() {
    for loopback in both().await {
        let mut running = Running::start(&loopback, "echo now; read -r line; echo got $line").await;
        let mut line = [0; 4];
        timeout(SOON, running.output.read_exact(&mut line)).await.unwrap().unwrap();
        assert_eq!(&line, b"now\n");
        let (completed, output, _) = running.finish(b"this\n").await;
        assert_eq!((completed.unwrap().code, &output[..]), (0, &b"got this\n"[..]));
        loopback.shutdown().await;
    }
}

#[tokio::test]
async fn lines_reach_descriptor_3() {
    let loopback = Loopback::start(Config::default()).await.unwrap();
    let running = Running::start(&loopback, "cat; read -r line <&3; echo \"$line\"").await;
    running.lines.send("go on".into()).await.unwrap();
    let (completed, output, _) = running.finish(b"input ").await;
    assert_eq!((completed.unwrap().code, &output[..]), (0, &b"input go on\n"[..]));
    loopback.shutdown().await;
}

#[tokio::test]
async fn a_signal_ends_the_command_and_everything_it_started() {
    for loopback in both().await {
        for signal in [Signal::Interrupt, Signal::Terminate] {
            // The output ends when nobody is left who could write to it.
            let mut running = Running::start(&loopback, "echo started; sleep 300 & sleep 300").await;
            let mut line = [0; 8];
            timeout(SOON, running.output.read_exact(&mut line)).await.unwrap().unwrap();
            running.signals.send(signal).await.unwrap();
            let (completed, ..) = running.finish(b"").await;
            let expected =
                Completed { code: 128 + signal.number(), ended_by: EndedBy::Signal(signal.number().into()) };
            assert_eq!(completed.unwrap(), expected);
        }
        loopback.shutdown().await;
    }
}

#[tokio::test]
async fn a_command_that_ignores_a_signal_is_killed_by_a_second_one() {
    let loopback = Loopback::start(Config::default()).await.unwrap();
    let mut running = Running::start(&loopback, "trap '' TERM; echo started; sleep 300; sleep 300").await;
    let mut line = [0; 8];
    timeout(SOON, running.output.read_exact(&mut line)).await.unwrap().unwrap();
    running.signals.send(Signal::Terminate).await.unwrap();
    running.signals.send(Signal::Terminate).await.unwrap();
    let (completed, ..) = timeout(Duration::from_secs(4), running.finish(b"")).await.unwrap();
    assert_eq!(completed.unwrap().code, 143);
    loopback.shutdown().await;
}

#[tokio::test]
async fn a_reader_that_goes_away_ends_the_command() {
    for loopback in both().await {
        let mut running = Running::start(&loopback, "yes").await;
        let mut line = [0; 2];
        timeout(SOON, running.output.read_exact(&mut line)).await.unwrap().unwrap();
        let Running { input, output, error, run, signals, lines, .. } = running;
        drop(output);
        let completed = timeout(SOON, run).await.unwrap().unwrap().unwrap();
        assert_eq!(completed, Completed { code: 141, ended_by: EndedBy::OutputClosed });
        drop((input, error, signals, lines));
        loopback.shutdown().await;
    }
}

#[tokio::test]
async fn a_slow_reader_slows_the_command_down_and_loses_nothing() {
    let loopback = Loopback::start(Config::default()).await.unwrap();
    let mut running = Running::with_room(&loopback, "seq 1 400000", 1024).await;
    let mut first = [0; 1024];
    timeout(SOON, running.output.read_exact(&mut first)).await.unwrap().unwrap();
    let (completed, rest, _) = running.finish(b"").await;
    let expected: String = (1..=400_000).map(|number| format!("{number}\n")).collect();
    assert_eq!(completed.unwrap().code, 0);
    assert!([&first[..], &rest].concat() == expected.as_bytes());
    loopback.shutdown().await;
}

#[tokio::test]
async fn input_waits_for_a_command_that_does_not_read_it() {
    for loopback in both().await {
        let input = bytes(1_000_000);
        let (code, output, _) = run(&loopback, "sleep 3; cat | cksum", &input).await;
        assert_eq!(code, 0);
        assert!(String::from_utf8(output).unwrap().contains(" 1000000"));
        loopback.shutdown().await;
    }
}

#[tokio::test]
async fn a_lost_connection_loses_nothing() {
    let loopback = Loopback::start(Config::default()).await.unwrap();
    let mut count = 0;
    let _rule = loopback.rule(move |_, header| {
        count += u32::from(header.payload_type == Some(PayloadType::Output));
        if [12, 200, 420].contains(&count) { Verdict::Cut } else { Verdict::Deliver }
    });
    let (code, output, _) = run(&loopback, "cat; exit 9", &bytes(500_000)).await;
    assert_eq!(code, 9);
    assert!(output == bytes(500_000));
    loopback.shutdown().await;
}

/// Runs a command by this shell, on a machine that has these programs only.
async fn run_by(
    loopback: &Loopback,
    shell: &str,
    programs: &Path,
    line: &str,
    input: &[u8],
) -> (Result<Completed, ExecError>, Vec<u8>, Vec<u8>) {
    let command = Command::new(line).unwrap();
    let script = command.script().replace('\'', r"'\''");
    let around = format!("PATH={}; export PATH; exec {shell} -c '{script}'", programs.display());
    let request = StartSession::interactive_command(loopback.target(), around);
    let session = Session::start(loopback.control(), &request, ssm_session::Config::default()).await.unwrap();
    Running::with_session(session, command, 64 * 1024).finish(input).await
}

/// A folder with these programs: busybox's, or the system's.
fn folder(names: &[&str], busybox: bool) -> TempDir {
    let folder = TempDir::new().unwrap();
    for name in names {
        let found = ["/usr/bin", "/bin"].map(|place| Path::new(place).join(name));
        let found = found.into_iter().find(|path| path.exists()).unwrap();
        let program = if busybox { PathBuf::from("/bin/busybox") } else { found };
        symlink(program, folder.path().join(name)).unwrap();
    }
    folder
}

const NEEDED: &[&str] = &["sh", "stty", "base64", "head", "dd", "mkdir", "mkfifo", "rm", "cat", "sleep"];

#[tokio::test]
async fn every_shell_will_do_and_so_will_few_programs() {
    let loopback = Loopback::start(Config::default()).await.unwrap();
    assert!(Path::new("/bin/busybox").exists(), "run cargo xtask setup");
    let input = bytes(150_000);
    for shell in ["/bin/dash", "/bin/bash", "/bin/busybox sh"] {
        for (busybox, setsid) in [(false, false), (false, true), (true, false), (true, true)] {
            let names = [NEEDED, if setsid { &["setsid"] } else { &[] }].concat();
            let programs = folder(&names, busybox);
            let shown = format!("{shell}, busybox {busybox}, setsid {setsid}");
            let line = "cat; echo wrong >&2; exit 3";
            let (completed, output, error) = run_by(&loopback, shell, programs.path(), line, &input).await;
            assert_eq!(completed.unwrap().code, 3, "{shown}");
            assert!(output == input && error == b"wrong\n", "{shown}: {} {error:?}", output.len());
        }
    }
    loopback.shutdown().await;
}

#[tokio::test]
async fn what_is_missing_over_there_is_named() {
    let loopback = Loopback::start(Config::default()).await.unwrap();
    let programs = folder(&["sh", "stty", "dd", "mkdir", "rm", "cat"], false);
    let (completed, ..) = run_by(&loopback, "/bin/dash", programs.path(), "true", b"").await;
    let error = completed.unwrap_err();
    assert!(matches!(&error, ExecError::Missing(names) if names == "head, mkfifo, base64"), "{error}");
    loopback.shutdown().await;
}

/// Puts a script in the place of a program.
fn replace(programs: &TempDir, name: &str, script: &str) {
    let program = programs.path().join(name);
    let _ = std::fs::remove_file(&program);
    std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
}

/// A `dd` that reads no full blocks, as those of older BSDs.
const OLD_DD: &str = "case \"$*\" in *iflag*) exit 1;; esac; exec /usr/bin/dd \"$@\"";

/// A `dd` that knows full blocks and cannot write one.
const NO_ROOM_FOR_INPUT: &str = "case \"$*\" in bs=1\\ *) ;; *iflag*) exit 1;; esac; exec /usr/bin/dd \"$@\"";

/// Neither output nor input is cut short without a word.
#[tokio::test]
async fn a_far_side_without_room_is_told() {
    let loopback = Loopback::start(Config::default()).await.unwrap();
    let full = [
        ("echo out", &[("dd", "exit 1")][..]),
        ("cat >/dev/null", &[("dd", OLD_DD), ("head", "exit 1")]),
        ("cat >/dev/null", &[("dd", NO_ROOM_FOR_INPUT)]),
    ];
    let mut kept = Vec::new();
    for (line, replaced) in full {
        let programs = folder(NEEDED, false);
        for (name, script) in replaced {
            replace(&programs, name, script);
        }
        let (completed, ..) = run_by(&loopback, "/bin/dash", programs.path(), line, b"in").await;
        let error = completed.unwrap_err();
        assert!(matches!(error, ExecError::NoFolder), "{replaced:?}: {error}");
        // The far side clears up with them.
        kept.push(programs);
    }
    loopback.shutdown().await;
}

#[tokio::test]
async fn head_stands_in_for_a_dd_that_reads_no_full_blocks() {
    let loopback = Loopback::start(Config::default()).await.unwrap();
    let input = bytes(1_000_000);
    for shell in ["/bin/dash", "/bin/bash", "/bin/busybox sh"] {
        let programs = folder(NEEDED, false);
        replace(&programs, "dd", OLD_DD);
        let (completed, output, _) = run_by(&loopback, shell, programs.path(), "cat", &input).await;
        assert_eq!(completed.unwrap().code, 0, "{shell}");
        assert!(output == input, "{shell}: {}", output.len());
    }
    loopback.shutdown().await;
}

#[tokio::test]
async fn openssl_stands_in_for_base64() {
    let loopback = Loopback::start(Config::default()).await.unwrap();
    let names: Vec<_> = NEEDED.iter().map(|name| if *name == "base64" { "openssl" } else { name }).collect();
    let programs = folder(&names, false);
    let input = bytes(150_000);
    let (completed, output, _) = run_by(&loopback, "/bin/dash", programs.path(), "cat", &input).await;
    assert_eq!(completed.unwrap().code, 0);
    assert!(output == input);
    loopback.shutdown().await;
}

/// That of macOS makes no lines, and older ones decode with `-D` only.
#[tokio::test]
async fn base64_of_macos_will_do() {
    let loopback = Loopback::start(Config::default()).await.unwrap();
    let input = bytes(150_000);
    for shell in ["/bin/dash", "/bin/bash", "/bin/busybox sh"] {
        for decodes in ["-D", "-d|-D|--decode"] {
            let programs = folder(NEEDED, false);
            let script = format!(
                "case \"$*\" in\n'') /usr/bin/base64 -w 0; echo;;\n{decodes}) exec /usr/bin/base64 -d;;\n\
                 *) echo 'Usage: base64 [-hvD] [-b num] [-i in_file] [-o out_file]'; exit 64;;\nesac"
            );
            replace(&programs, "base64", &script);
            let line = "cat; echo wrong >&2; exit 3";
            let (completed, output, error) = run_by(&loopback, shell, programs.path(), line, &input).await;
            assert_eq!(completed.unwrap().code, 3, "{shell} {decodes}");
            assert!(output == input && error == b"wrong\n", "{shell} {decodes}: {}", output.len());
        }
    }
    loopback.shutdown().await;
}

#[tokio::test]
async fn a_far_side_without_a_posix_shell_is_told_in_its_words() {
    let loopback = Loopback::start(Config::default()).await.unwrap();
    let command = Command::new("true").unwrap();
    let request =
        StartSession::interactive_command(loopback.target(), "echo T=0: The term is not recognized");
    let session = Session::start(loopback.control(), &request, ssm_session::Config::default()).await.unwrap();
    let (completed, ..) = Running::with_session(session, command, 1024).finish(b"").await;
    let error = completed.unwrap_err().to_string();
    assert!(error.contains("T=0: The term is not recognized"), "{error}");
    loopback.shutdown().await;
}

#[tokio::test]
async fn a_session_that_ends_hangs_up_on_the_command() {
    for profile in [Profile::Fast, Profile::Aws] {
        let idle_timeout = Some(Duration::from_secs(2));
        let loopback = Loopback::start(Config { profile, idle_timeout, ..Config::default() }).await.unwrap();
        let folder = TempDir::new().unwrap();
        let mark = folder.path().join("mark");
        let line = format!("trap 'readlink /dev/fd/3 > {}; exit' HUP; sleep 300 & wait", mark.display());
        let (completed, ..) = Running::start(&loopback, line).await.finish(b"").await;
        assert!(matches!(completed, Err(ExecError::Ended(_))), "{completed:?}");
        let fifo =
            eventually(|| std::fs::read_to_string(&mark).ok().filter(|text| text.ends_with('\n'))).await;
        let work = Path::new(&fifo).parent().unwrap().to_owned();
        eventually(|| (!work.exists()).then_some(())).await;
        loopback.shutdown().await;
    }
}

async fn eventually<T>(found: impl Fn() -> Option<T>) -> T {
    let poll = async {
        loop {
            match found() {
                Some(found) => return found,
                None => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    };
    timeout(SOON, poll).await.unwrap()
}

#[tokio::test]
async fn nothing_is_left_behind() {
    let loopback = Loopback::start(Config::default()).await.unwrap();
    let (_, output, _) = run(&loopback, "ls -d /dev/fd/3; readlink /dev/fd/3", b"").await;
    let output = String::from_utf8(output).unwrap();
    let fifo = Path::new(output.lines().nth(1).unwrap());
    assert!(fifo.starts_with("/dev/shm"), "{output}");
    assert!(!fifo.parent().unwrap().exists());
    loopback.shutdown().await;
}
