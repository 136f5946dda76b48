//! Sessions on streams, against the loopback's service and agent with real shells.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ssm_loopback::{Config, Direction, Document, Loopback, Profile, Verdict};
use ssm_session::{CloseReason, Evidence, PayloadType, Session, SessionKind, StartSession, TerminalSize};
use ssm_shell::{Controls, EndedBy, Exit, Io, Notice, Question, Recording, ShellError};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::support::{Ends, SOON, open, sh};

/// A session and the far ends of its streams.
struct Running {
    input: Option<DuplexStream>,
    output: DuplexStream,
    error: DuplexStream,
    controls: Controls,
    notices: mpsc::UnboundedReceiver<Notice>,
    ends: Ends,
    run: JoinHandle<Result<Exit, ShellError>>,
    /// Output read so far.
    seen: String,
}

impl Running {
    async fn start(loopback: &Loopback, request: StartSession) -> Self {
        Self::start_with(loopback, request, 64 * 1024).await
    }

    /// `room` is how much of the output the streams hold by themselves.
    async fn start_with(loopback: &Loopback, request: StartSession, room: usize) -> Self {
        Self::start_as(loopback, request, room, |io| io).await
    }

    async fn start_as(
        loopback: &Loopback,
        request: StartSession,
        room: usize,
        change: impl FnOnce(Io) -> Io,
    ) -> Self {
        let (session, ends) = open(loopback, &request).await;
        let (input, session_input) = duplex(64 * 1024);
        let (output, session_output) = duplex(room);
        let (error, session_error) = duplex(room);
        let (notify, notices) = mpsc::unbounded_channel();
        let (io, controls) = Io::streams(session_input, session_output, session_error)
            .controlled(TerminalSize { cols: 101, rows: 33 });
        let run = tokio::spawn(ssm_shell::run(session, change(io), move |notice| {
            let _ = notify.send(notice);
        }));
        Self { input: Some(input), output, error, controls, notices, ends, run, seen: String::new() }
    }

    /// A shell with `~` as the escape character.
    async fn with_escapes(loopback: &Loopback) -> Self {
        let request = StartSession::shell(loopback.target());
        Self::start_as(loopback, request, 64 * 1024, |io| io.escapes(Some(b'~'))).await
    }

    /// Waits for a notice that `find` finds something in.
    async fn until_told<T>(&mut self, find: impl Fn(Notice) -> Option<T>) -> T {
        loop {
            let notice = timeout(SOON, self.notices.recv()).await.unwrap().unwrap();
            if let Some(found) = find(notice) {
                return found;
            }
        }
    }

    async fn type_in(&mut self, text: &str) {
        self.input.as_mut().unwrap().write_all(text.as_bytes()).await.unwrap();
    }

    /// Reads output until `text` is in it, and forgets it up to there.
    async fn until(&mut self, text: &str) {
        loop {
            if let Some(at) = self.seen.find(text) {
                self.seen.drain(..at + text.len());
                return;
            }
            let mut buf = [0; 4096];
            let read = timeout(SOON, self.output.read(&mut buf)).await;
            let read = read.unwrap_or_else(|_| panic!("no {text:?} in {:?}", self.seen)).unwrap();
            assert_ne!(read, 0, "no {text:?} in {:?}", self.seen);
            self.seen.push_str(&String::from_utf8_lossy(&buf[..read]));
        }
    }

    /// Everything that is written from here on, and how the session ended.
    async fn end(mut self) -> (String, String, Exit) {
        let mut output = Vec::new();
        let mut error = Vec::new();
        let reads =
            async { tokio::join!(self.output.read_to_end(&mut output), self.error.read_to_end(&mut error)) };
        let (from_output, from_error) = timeout(SOON * 3, reads).await.unwrap();
        from_output.unwrap();
        from_error.unwrap();
        let exit = self.run.await.unwrap().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (self.seen + &text(output), text(error), exit)
    }
}

#[tokio::test]
async fn a_shell_runs_what_is_typed_and_ends_with_exit() {
    for profile in [Profile::Fast, Profile::Aws] {
        let loopback = Loopback::start(Config { profile, ..sh() }).await.unwrap();
        let mut shell = Running::start(&loopback, StartSession::shell(loopback.target())).await;
        shell.type_in("echo $((6*7))\r").await;
        shell.until("42").await;
        shell.type_in("exit\r").await;
        let ends = shell.ends.clone();
        let (_, _, exit) = shell.end().await;
        assert_eq!(exit.reason, CloseReason::AgentClosed { exit_code: None, detail: None });
        assert_eq!(exit.ended_by, EndedBy::Session);
        assert_eq!(exit.code, None);
        assert!(exit.bytes_received > 0);
        assert_eq!(ends.count(), 0, "a session that ended by itself needs no call");
    }
}

#[tokio::test]
async fn item_71_the_size_is_known_at_once_and_follows() {
    let loopback = Loopback::start(sh()).await.unwrap();
    let mut shell = Running::start(&loopback, StartSession::shell(loopback.target())).await;
    shell.type_in("stty size\r").await;
    shell.until("33 101\r\n").await;
    for cols in 50..=90 {
        shell.controls.resize(TerminalSize { cols, rows: 20 });
    }
    shell.type_in("until [ \"$(stty size)\" = '20 90' ]; do sleep 0.01; done; echo re''sized\r").await;
    shell.until("resized").await;
}

#[tokio::test]
async fn a_series_of_sizes_is_not_sent_one_by_one() {
    let loopback = Loopback::start(sh()).await.unwrap();
    let (count, mut counted) = mpsc::unbounded_channel();
    let _guard = loopback.rule(move |direction, header| {
        if direction == Direction::ClientToAgent && header.payload_type == Some(PayloadType::Size) {
            let _ = count.send(header.sequence);
        }
        Verdict::Deliver
    });
    let mut shell = Running::start(&loopback, StartSession::shell(loopback.target())).await;
    shell.type_in("echo be''gin\r").await;
    shell.until("begin").await;
    for cols in 100..200 {
        shell.controls.resize(TerminalSize { cols, rows: 20 });
        tokio::task::yield_now().await;
    }
    shell.type_in("until [ \"$(stty size)\" = '20 199' ]; do sleep 0.01; done; echo re''sized\r").await;
    shell.until("resized").await;
    let mut sizes = std::collections::BTreeSet::new();
    while let Ok(sequence) = counted.try_recv() {
        sizes.insert(sequence);
    }
    assert!((2..=10).contains(&sizes.len()), "{} messages for 101 sizes", sizes.len());
}

#[tokio::test]
async fn a_command_that_says_nothing_gets_its_input_all_the_same() {
    let loopback = Loopback::start(sh()).await.unwrap();
    let command = "stty -echo; read line; stty size; echo got-$line";
    let request = StartSession::interactive_command(loopback.target(), command);
    let mut running = Running::start(&loopback, request).await;
    running.type_in("all\r").await;
    running.until("33 101\r\ngot-all\r\n").await;
    let notice = running.notices.try_recv().unwrap();
    assert!(matches!(&notice, Notice::Ready(ready) if ready.evidence == Evidence::Assumed), "{notice:?}");
}

#[tokio::test]
async fn control_bytes_act_on_the_remote_side() {
    let loopback = Loopback::start(sh()).await.unwrap();
    let mut shell = Running::start(&loopback, StartSession::shell(loopback.target())).await;
    shell.type_in("sh -c 'echo be\"\"gin; exec sleep 1000'\r").await;
    shell.until("begin").await;
    shell.type_in("\x03").await;
    shell.type_in("echo al''ive\r").await;
    shell.until("alive").await;
}

#[tokio::test]
async fn the_end_of_the_input_ends_the_shell_after_its_work() {
    // bash's line editor turns an end that is queued while a command runs into something else.
    for shell in ["/bin/sh", "/bin/bash"] {
        let loopback = Loopback::start(Config { shell: Some(shell.into()), ..sh() }).await.unwrap();
        let mut running = Running::start(&loopback, StartSession::shell(loopback.target())).await;
        running.type_in("sleep 0.3; echo do''ne; cat").await;
        running.input = None;
        let (output, _, exit) = running.end().await;
        assert!(output.contains("done\r\n"), "{shell}: {output:?}");
        assert_eq!(exit.reason, CloseReason::AgentClosed { exit_code: None, detail: None });
    }
}

#[tokio::test]
async fn an_empty_input_is_an_end_too() {
    let loopback = Loopback::start(sh()).await.unwrap();
    let request = StartSession::interactive_command(loopback.target(), "cat; echo af''ter");
    let mut running = Running::start(&loopback, request).await;
    running.input = None;
    let (output, _, _) = running.end().await;
    assert!(output.contains("after\r\n"), "{output:?}");
}

#[tokio::test]
async fn item_77_everything_received_is_written_before_the_end() {
    let loopback = Loopback::start(sh()).await.unwrap();
    let request = StartSession::interactive_command(loopback.target(), "seq 1 200000");
    let running = Running::start(&loopback, request).await;
    let (output, _, exit) = running.end().await;
    let expected: String = (1..=200_000).map(|n| format!("{n}\r\n")).collect();
    assert!(output == expected, "{} bytes instead of {}", output.len(), expected.len());
    assert_eq!(exit.bytes_received, expected.len() as u64);
}

/// The end is there long before the reader has come so far.
#[tokio::test]
async fn item_77_the_end_waits_for_a_slow_reader() {
    let loopback = Loopback::start(sh()).await.unwrap();
    let request = StartSession::interactive_command(loopback.target(), "seq 1 3000");
    let mut running = Running::start_with(&loopback, request, 1024).await;
    let ended = timeout(Duration::from_secs(1), &mut running.run).await;
    assert!(ended.is_err(), "it ended before its output was taken");
    let (output, _, exit) = running.end().await;
    let expected: String = (1..=3000).map(|n| format!("{n}\r\n")).collect();
    assert!(output == expected, "{} bytes instead of {}", output.len(), expected.len());
    assert_eq!(exit.reason, CloseReason::AgentClosed { exit_code: None, detail: None });
}

#[tokio::test]
async fn a_slow_reader_stops_the_remote_side_and_loses_nothing() {
    let loopback = Loopback::start(sh()).await.unwrap();
    let sent = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&sent);
    let _guard = loopback.rule(move |direction, header| {
        if direction == Direction::AgentToClient {
            count.fetch_add(header.payload_len.into(), Ordering::SeqCst);
        }
        Verdict::Deliver
    });
    let request = StartSession::interactive_command(loopback.target(), "seq 1 2000000");
    let mut running = Running::start_with(&loopback, request, 4096).await;
    let mut first = [0; 3];
    running.output.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"1\r\n");
    let mut before = 0;
    while before != sent.load(Ordering::SeqCst) {
        before = sent.load(Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    let (output, _, _) = running.end().await;
    assert!(output.ends_with("\r\n2000000\r\n"));
    assert_eq!(output.lines().count(), 1_999_999);
    assert!(before < output.len() as u64 / 2, "{before} of {} bytes were sent", output.len());
}

/// Acknowledgements of the output come behind input that nobody reads before the output has gone.
#[tokio::test]
async fn much_input_and_as_much_output_do_not_stop_each_other() {
    let loopback = Loopback::start(sh()).await.unwrap();
    let request = StartSession::interactive_command(loopback.target(), "stty raw -echo; echo go; exec cat");
    let mut config = ssm_session::Config::default();
    config.channel.pacing = None;
    let session = Session::start(loopback.control(), &request, config).await.unwrap();
    let (mut input, session_input) = duplex(64 * 1024);
    let (mut output, session_output) = duplex(64 * 1024);
    let io = Io::streams(session_input, session_output, tokio::io::sink());
    let run = tokio::spawn(ssm_shell::run(session, io, |_| {}));
    let mut first = [0; 3];
    output.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"go\n");
    let sent: Vec<u8> = (0..2_000_000_u32).map(|n| b'a' + (n % 26) as u8).collect();
    let mut back = vec![0; sent.len()];
    let both = async { tokio::join!(input.write_all(&sent), output.read_exact(&mut back)) };
    let (written, read) = timeout(SOON, both).await.expect("neither waits for the other");
    written.unwrap();
    read.unwrap();
    assert!(back == sent);
    run.abort();
}

#[tokio::test]
async fn item_74_a_command_has_two_outputs_and_a_code() {
    let loopback = Loopback::start(separate()).await.unwrap();
    let command = "sh -c 'echo out; echo err >&2; exit 3'";
    let request = StartSession::document(loopback.target(), "Separate").parameter("command", command);
    // What is not read is no end either: the command runs to its own.
    let mut running = Running::start(&loopback, request).await;
    running.input = None;
    let (output, error, exit) = running.end().await;
    assert_eq!((output.as_str(), error.as_str()), ("out\n", "err\n"));
    assert_eq!(exit.code, Some(3));
}

#[tokio::test]
async fn item_18_a_lost_connection_is_noticed_and_loses_nothing() {
    let loopback = Loopback::start(sh()).await.unwrap();
    let mut running = Running::start(&loopback, StartSession::shell(loopback.target())).await;
    running.type_in("echo be''gin\r").await;
    running.until("begin").await;
    let mut count = 0;
    let guard = loopback.rule(move |direction, header| {
        let output = direction == Direction::AgentToClient && header.message_type.is_stream();
        count += usize::from(output);
        if output && count == 1 { Verdict::Bye } else { Verdict::Deliver }
    });
    for n in 0..5 {
        running.type_in(&format!("echo n-$(({n}+100))\r")).await;
        running.until(&format!("n-{}", n + 100)).await;
    }
    drop(guard);
    let mut notices = Vec::new();
    while let Ok(notice) = running.notices.try_recv() {
        notices.push(notice);
    }
    assert!(
        matches!(notices.first(), Some(Notice::Ready(ready)) if ready.kind == SessionKind::Shell
            && ready.evidence == Evidence::FirstOutput),
        "{notices:?}"
    );
    let lost =
        |notice: &Notice| matches!(notice, Notice::Redial { attempt: 0, cause, .. } if !cause.is_empty());
    assert!(notices.iter().any(lost), "{notices:?}");
    assert_eq!(notices.last(), Some(&Notice::Resumed));
}

#[tokio::test]
async fn controls_resize_interrupt_and_end() {
    let loopback = Loopback::start(sh()).await.unwrap();
    let (session, ends) = open(&loopback, &StartSession::shell(loopback.target())).await;
    let (mut input, session_input) = duplex(64 * 1024);
    let (mut output, session_output) = duplex(64 * 1024);
    let io = Io::streams(session_input, session_output, tokio::io::sink());
    let (io, controls) = io.controlled(TerminalSize { cols: 90, rows: 30 });
    let run = tokio::spawn(ssm_shell::run(session, io, |_| {}));
    let mut seen = String::new();
    let mut until = async |text: &str| {
        while !seen.contains(text) {
            let mut buf = [0; 4096];
            let read = timeout(SOON, output.read(&mut buf)).await.unwrap().unwrap();
            assert_ne!(read, 0, "no {text:?} in {seen:?}");
            seen.push_str(&String::from_utf8_lossy(&buf[..read]));
        }
        seen.clear();
    };
    input.write_all(b"stty size\r").await.unwrap();
    until("30 90\r\n").await;
    controls.resize(TerminalSize { cols: 120, rows: 40 });
    input
        .write_all(b"until [ \"$(stty size)\" = '40 120' ]; do sleep 0.01; done; echo re''sized\r")
        .await
        .unwrap();
    until("resized").await;
    for (signal, code) in [(Controls::interrupt as fn(&Controls), 130), (Controls::quit, 131)] {
        input.write_all(b"sh -c 'echo be\"\"gin; exec sleep 1000'\r").await.unwrap();
        until("begin").await;
        signal(&controls);
        input.write_all(b"echo code-$?\r").await.unwrap();
        until(&format!("code-{code}")).await;
    }
    controls.end();
    let exit = timeout(SOON, run).await.unwrap().unwrap().unwrap();
    assert_eq!((exit.ended_by, ends.count()), (EndedBy::Caller, 1));
}

#[tokio::test]
async fn what_is_initial_is_typed_before_the_user() {
    let loopback = Loopback::start(sh()).await.unwrap();
    let request = StartSession::shell(loopback.target());
    let (first, second) = (&b"stty -echo; a=one\r"[..], &b"b=two\r"[..]);
    let mut shell =
        Running::start_as(&loopback, request, 64 * 1024, |io| io.initial(first).initial(second)).await;
    shell.type_in("echo $a-$b\r").await;
    shell.until("one-two\r\n").await;
}

#[tokio::test]
async fn an_escape_ends_the_session_and_is_not_sent() {
    let loopback = Loopback::start(sh()).await.unwrap();
    let mut shell = Running::with_escapes(&loopback).await;
    shell.type_in("echo ~~/; echo re''ady\r").await;
    shell.until("ready").await;
    shell.type_in("~.").await;
    let ends = shell.ends.clone();
    let (_, _, exit) = shell.end().await;
    assert_eq!((exit.ended_by, exit.reason), (EndedBy::Escape, CloseReason::Terminated));
    assert_eq!(ends.count(), 1);
}

#[tokio::test]
async fn an_escape_ends_a_session_that_hangs() {
    let loopback = Loopback::start(sh()).await.unwrap();
    let mut shell = Running::with_escapes(&loopback).await;
    shell.type_in("echo re''ady\r").await;
    shell.until("ready").await;
    let _guard = loopback.rule(|_, _| Verdict::Drop);
    // More than can be on its way at a time, so that nothing can be sent.
    for _ in 0..200 {
        shell.type_in(&"x".repeat(1000)).await;
    }
    shell.type_in("\r~s").await;
    let statistics = shell
        .until_told(|notice| match notice {
            Notice::Asked(Question::Statistics(statistics)) => Some(statistics),
            _ => None,
        })
        .await;
    assert!(statistics.typed_ahead > 100_000 && statistics.channel.in_flight > 0, "{statistics:?}");
    shell.type_in("~.").await;
    let (_, _, exit) = shell.end().await;
    assert_eq!(exit.ended_by, EndedBy::Escape);
}

#[tokio::test]
async fn what_an_escape_asks_is_told() {
    let loopback = Loopback::start(sh()).await.unwrap();
    let mut shell = Running::with_escapes(&loopback).await;
    shell.type_in("echo re''ady\r").await;
    shell.until("ready").await;
    shell.type_in("~?~#~s~\x1a~-\r~?echo st''ill\r").await;
    let asked = |notice| if let Notice::Asked(question) = notice { Some(question) } else { None };
    assert_eq!(shell.until_told(asked).await, Question::Help);
    assert_eq!(shell.until_told(asked).await, Question::List);
    let Question::Statistics(statistics) = shell.until_told(asked).await else { panic!("no statistics") };
    assert!(statistics.lost.is_none() && statistics.channel.bytes_received > 0, "{statistics:?}");
    assert_eq!(shell.until_told(asked).await, Question::Suspend, "there is no shell to go back to");
    assert_eq!(shell.until_told(asked).await, Question::Off);
    shell.until("~?echo").await;
    shell.type_in("\recho af''ter\r").await;
    shell.until("after").await;
}

#[tokio::test]
async fn idleness_is_told_once_each_time() {
    let loopback = Loopback::start(sh()).await.unwrap();
    let request = StartSession::shell(loopback.target());
    let limit = Duration::from_millis(400);
    let mut shell = Running::start_as(&loopback, request, 64 * 1024, |io| io.idle_notice(Some(limit))).await;
    let idle = |notice| matches!(notice, Notice::Idle(_)).then_some(());
    shell.until_told(idle).await;
    assert!(timeout(limit * 3, shell.until_told(idle)).await.is_err(), "told twice");
    shell.type_in("echo re''ady\r").await;
    shell.until("ready").await;
    shell.until_told(idle).await;
}

#[tokio::test]
async fn a_recording_has_what_was_shown() {
    let loopback = Loopback::start(sh()).await.unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    let recording = Recording::new(file.reopen().unwrap());
    let request = StartSession::shell(loopback.target());
    let mut shell = Running::start_as(&loopback, request, 64 * 1024, |io| io.recorded(recording)).await;
    shell.type_in("stty -echo; PS1=; printf 'gr\\303'; sleep 0.2; printf '\\274n\\n'\r").await;
    shell.until("n\r\n").await;
    shell.controls.resize(TerminalSize { cols: 120, rows: 40 });
    shell.type_in("until [ \"$(stty size)\" = '40 120' ]; do sleep 0.01; done; exit 3\r").await;
    let (_, _, exit) = shell.end().await;
    let text = std::fs::read_to_string(file.path()).unwrap();
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((lines[0]["width"].as_u64(), lines[0]["height"].as_u64()), (Some(101), Some(33)));
    let of = |code: &str| -> Vec<&str> {
        lines[1..].iter().filter(|line| line[1] == code).map(|line| line[2].as_str().unwrap()).collect()
    };
    assert_eq!(of("r"), ["120x40"]);
    assert_eq!(of("m"), [exit.reason.to_string()]);
    let shown = of("o").concat();
    assert!(shown.contains("grün\r\n"), "{shown:?}");
    assert_eq!(shown.len() as u64, exit.bytes_received);
    let times: Vec<f64> = lines[1..].iter().map(|line| line[0].as_f64().unwrap()).collect();
    assert!(times.is_sorted(), "{times:?}");
}

#[tokio::test]
async fn a_session_outlives_its_recording() {
    let loopback = Loopback::start(sh()).await.unwrap();
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let request = StartSession::shell(loopback.target());
    let recorded = |io: Io| io.recorded(Recording::new(full));
    let mut shell = Running::start_as(&loopback, request, 64 * 1024, recorded).await;
    let failed = |notice| if let Notice::RecordingFailed(why) = notice { Some(why) } else { None };
    assert!(shell.until_told(failed).await.contains("No space left"));
    shell.type_in("echo al''ive\r").await;
    shell.until("alive").await;
}

#[tokio::test]
async fn item_76_a_reader_that_goes_away_ends_the_session() {
    let loopback = Loopback::start(sh()).await.unwrap();
    let request = StartSession::interactive_command(loopback.target(), "yes");
    let Running { output, run, ends, .. } = Running::start(&loopback, request).await;
    drop(output);
    let exit = timeout(SOON, run).await.unwrap().unwrap().unwrap();
    assert_eq!(exit.ended_by, EndedBy::OutputClosed);
    assert_eq!(exit.reason, CloseReason::Terminated);
    assert_eq!(ends.count(), 1);
}

#[tokio::test]
async fn item_75_a_session_that_is_ended_elsewhere_says_so() {
    let config = Config { max_duration: Some(Duration::from_millis(500)), ..sh() };
    let loopback = Loopback::start(config).await.unwrap();
    let running = Running::start(&loopback, StartSession::shell(loopback.target())).await;
    let (_, _, exit) = timeout(SOON, running.end()).await.unwrap();
    let CloseReason::AgentClosed { detail: Some(detail), .. } = exit.reason else { panic!("{exit:?}") };
    assert!(detail.contains("maximum duration"), "{detail}");
}

#[tokio::test]
async fn a_port_session_is_refused_and_ended() {
    let loopback = Loopback::start(sh()).await.unwrap();
    let Running { run, ends, .. } = Running::start(&loopback, StartSession::ssh(loopback.target(), 9)).await;
    let error = timeout(SOON, run).await.unwrap().unwrap().unwrap_err();
    assert!(matches!(error, ShellError::NotAShell(SessionKind::Port(_))), "{error}");
    assert!(ends.count() <= 1, "by flag or by API");
}

#[tokio::test]
async fn loss_and_reordering_are_not_seen() {
    let loopback = Loopback::start(sh()).await.unwrap();
    let odds = ssm_loopback::fault::Odds {
        drop: 50,
        duplicate: 50,
        delay: 50,
        max_delay: Duration::from_millis(5),
        corrupt: 10,
    };
    let _guard = loopback.rule(ssm_loopback::fault::random(42, odds));
    let mut running = Running::start(&loopback, StartSession::shell(loopback.target())).await;
    let lines: String = (1..=300).map(|n| format!("echo {n}-$(({n}+1))\n")).collect();
    running.type_in(&format!("stty -echo; PS1=\n{lines}")).await;
    running.input = None;
    let (output, _, _) = running.end().await;
    let expected: String = (1..=300).map(|n| format!("{n}-{}\r\n", n + 1)).collect();
    assert!(output.contains(&expected), "{output}");
}

/// A document whose commands have two outputs.
fn separate() -> Config {
    let body = r#"{"sessionType":"NonInteractiveCommands","parameters":{"command":{"type":"String"}},
        "properties":{"linux":{"commands":"{{command}}","separateOutputStream":true}}}"#;
    Config { documents: vec![Document::from_json("Separate", body).unwrap()], ..sh() }
}
