//! Sessions on the standard streams of a process: real terminals, pipes, files and signals.
//!
//! The process is this test program, started again to run one session with a loopback of its own ([`child`]).

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use pty_process::{Pts, Pty, Size};
use rustix::process::{Pid, Signal, kill_process};
use rustix::termios::{InputModes, LocalModes, OptionalActions, OutputModes, tcgetattr, tcsetattr};
use ssm_loopback::{Direction, Loopback, Verdict};
use ssm_session::StartSession;
use ssm_shell::{Io, install_panic_hook};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::support::{SOON, open, sh};

/// What the started program should do.
const TASK: &str = "SSM_SHELL_TEST_TASK";
const ARGUMENTS: [&str; 4] = ["child", "--exact", "--ignored", "--nocapture"];

#[tokio::test]
async fn item_72_the_terminal_is_raw_during_a_session_and_restored_behind_it() {
    let mut terminal = Terminal::start("shell");
    terminal.until_running().await;
    assert!(terminal.is_raw());
    terminal.type_in("exit\r").await;
    let (status, text) = terminal.end().await;
    assert!(status.success(), "{status} {text}");
    assert!(text.contains("AgentClosed { exit_code: None, detail: None }"), "{text}");
}

#[tokio::test]
async fn the_size_is_right_at_once_and_after_a_change() {
    let mut terminal = Terminal::start("shell");
    terminal.type_in("stty size\r").await;
    terminal.until("33 101\r\n").await;
    terminal.pty.resize(Size::new(20, 90)).unwrap();
    terminal.type_in("until [ \"$(stty size)\" = '20 90' ]; do sleep 0.01; done; echo re''sized\r").await;
    terminal.until("resized").await;
}

#[tokio::test]
async fn item_73_keys_and_signals_act_on_the_remote_side() {
    let mut terminal = Terminal::start("shell");
    terminal.type_in("PS1='pr''ompt> '\r").await;
    terminal.until("prompt> ").await;
    let signals = [Signal::INT, Signal::QUIT, Signal::TSTP];
    for (key, signal) in ["\x03", "\x1c", "\x1a"].into_iter().zip(signals) {
        terminal.occupy().await;
        terminal.type_in(key).await;
        terminal.until("prompt> ").await;
        terminal.occupy().await;
        kill_process(terminal.pid(), signal).unwrap();
        terminal.until("prompt> ").await;
    }
}

/// The AWS CLI starts its plugin like that.
#[tokio::test]
async fn item_73_signals_count_that_were_ignored_at_the_start() {
    let ignoring = "trap '' INT QUIT TSTP; exec \"$0\" \"$@\"";
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(ignoring).arg(std::env::current_exe().unwrap()).args(ARGUMENTS).env(TASK, "shell");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().unwrap();
    let pid = Pid::from_raw(child.id().unwrap().cast_signed()).unwrap();
    let mut input = child.stdin.take().unwrap();
    let each = "for n in 1 2 3; do echo be''gin; dd bs=1 count=1 2>/dev/null | od -An -tx1; done\n";
    input.write_all(b"stty raw -echo; ").await.unwrap();
    input.write_all(each.as_bytes()).await.unwrap();
    let (output, mut seen) = (child.stdout.as_mut().unwrap(), String::new());
    for (signal, byte) in [(Signal::INT, " 03"), (Signal::QUIT, " 1c"), (Signal::TSTP, " 1a")] {
        until(output, &mut seen, "begin").await;
        kill_process(pid, signal).unwrap();
        until(output, &mut seen, byte).await;
    }
}

#[tokio::test]
async fn item_72_76_the_terminal_is_restored_after_a_signal() {
    for signal in [Signal::TERM, Signal::HUP] {
        let mut terminal = Terminal::start("shell");
        terminal.until_running().await;
        kill_process(terminal.pid(), signal).unwrap();
        let (status, text) = terminal.end().await;
        assert!(status.success(), "{status} {text}");
        let report = format!("ended_by: Signal({})", signal.as_raw());
        assert!(text.contains(&report) && text.contains("ended by API: 1"), "{text}");
    }
}

#[tokio::test]
async fn item_72_the_terminal_is_restored_after_an_error() {
    let terminal = Terminal::start("full");
    let (status, text) = terminal.end().await;
    assert!(status.success(), "{status} {text}");
    assert!(text.contains("cannot write the output: No space left on device"), "{text}");
    assert!(text.contains("ended by API: 1"), "{text}");
}

#[tokio::test]
async fn item_72_the_terminal_is_restored_before_a_panic_that_aborts() {
    let mut terminal = Terminal::start("panic");
    terminal.until_running().await;
    kill_process(terminal.pid(), Signal::USR1).unwrap();
    let (status, text) = terminal.end().await;
    assert_eq!(status.signal(), Some(Signal::ABORT.as_raw()), "{text}");
    assert!(text.contains("raw at the panic: false"), "{text}");
}

#[tokio::test]
async fn a_terminal_that_others_have_used_is_made_raw_again() {
    let mut terminal = Terminal::start("shell");
    terminal.until_running().await;
    kill_process(terminal.pid(), Signal::STOP).unwrap();
    tcsetattr(&terminal.pts, OptionalActions::Now, &terminal.original).unwrap();
    assert!(!terminal.is_raw());
    kill_process(terminal.pid(), Signal::CONT).unwrap();
    terminal.until_mode(Terminal::is_raw).await;
    terminal.until_running().await;
}

#[tokio::test]
async fn before_the_session_has_started_an_interrupt_ends_it() {
    let mut terminal = Terminal::start("silent");
    terminal.until_mode(|terminal| terminal.local_modes() & LocalModes::ECHO == LocalModes::empty()).await;
    terminal.type_in("\x03").await;
    let (status, text) = terminal.end().await;
    assert!(status.success(), "{status} {text}");
    assert!(text.contains("ended_by: Signal(2)") && text.contains("ended by API: 1"), "{text}");
}

#[tokio::test]
async fn a_terminal_that_is_hung_up_ends_the_session() {
    // Without a controlling terminal there is no signal, only an input that fails.
    let (mut pty, pts) = pty_process::open().unwrap();
    let input = Stdio::from(rustix::io::dup(&pts).unwrap());
    let mut child =
        program("shell").stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    pty.write_all(b"echo be''gin\r").await.unwrap();
    until(child.stdout.as_mut().unwrap(), &mut String::new(), "begin").await;
    drop((pty, pts));
    let output = timeout(SOON, child.wait_with_output()).await.unwrap().unwrap();
    let report = String::from_utf8(output.stderr).unwrap();
    assert!(report.contains("ended_by: InputClosed"), "{report}");
}

#[tokio::test]
async fn commands_come_from_a_pipe_and_their_output_goes_to_one() {
    let mut child = program("shell").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"stty size; echo $((6*7)); seq 1 50000").await.unwrap();
    let output = timeout(SOON, child.wait_with_output()).await.unwrap().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success());
    assert!(text.contains("24 80\r\n42\r\n"), "{text}");
    let sequence: String = (1..=50_000).map(|n| format!("{n}\r\n")).collect();
    assert!(text.contains(&sequence), "{} bytes", text.len());
}

#[tokio::test]
async fn files_are_streams_too() {
    let mut input = tempfile::tempfile().unwrap();
    input.write_all(b"echo $((6*7))\n").unwrap();
    input.rewind().unwrap();
    let mut output = tempfile::tempfile().unwrap();
    let streams = (Stdio::from(input), Stdio::from(output.try_clone().unwrap()));
    let mut child = program("shell").stdin(streams.0).stdout(streams.1).spawn().unwrap();
    assert!(timeout(SOON, child.wait()).await.unwrap().unwrap().success());
    let mut text = String::new();
    output.rewind().unwrap();
    output.read_to_string(&mut text).unwrap();
    assert!(text.contains("\r\n42\r\n"), "{text}");
}

#[tokio::test]
async fn an_input_of_nothing_ends_at_once() {
    let child = program("shell").stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let output = timeout(SOON, child.wait_with_output()).await.unwrap().unwrap();
    assert!(output.status.success());
}

#[tokio::test]
async fn a_reader_that_goes_away_ends_the_session() {
    let mut command = program("shell");
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.as_mut().unwrap().write_all(b"yes\n").await.unwrap();
    until(child.stdout.as_mut().unwrap(), &mut String::new(), "y\r\ny\r\n").await;
    drop(child.stdout.take());
    let output = timeout(SOON, child.wait_with_output()).await.unwrap().unwrap();
    let report = String::from_utf8(output.stderr).unwrap();
    assert!(report.contains("ended_by: OutputClosed") && report.contains("ended by API: 1"), "{report}");
}

/// The started program: runs one session on its standard streams and reports its end on standard error. Without a [`TASK`], as when it is
/// started by hand, it does nothing.
#[test]
#[ignore = "started by the other tests"]
fn child() {
    let Ok(task) = std::env::var(TASK) else { return };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let loopback = Loopback::start(sh()).await.unwrap();
        let mut rules = Vec::new();
        match task.as_str() {
            "panic" => panic_on_demand(),
            "full" => {
                let full = File::options().write(true).open("/dev/full").unwrap();
                rustix::stdio::dup2_stdout(full).unwrap();
            }
            "silent" => rules.push(loopback.rule(|direction, _| match direction {
                Direction::AgentToClient => Verdict::Drop,
                Direction::ClientToAgent => Verdict::Deliver,
            })),
            _ => {}
        }
        let (session, ends) = open(&loopback, &StartSession::shell(loopback.target())).await;
        match ssm_shell::run(session, Io::stdio().unwrap(), |_| {}).await {
            Ok(exit) => eprintln!("{exit:?}"),
            Err(error) => eprintln!("{error}"),
        }
        eprintln!("ended by API: {}", ends.count());
        loopback.shutdown().await;
        // The harness would write its own report to the standard output.
        std::process::exit(0);
    });
}

/// Panics when it gets `SIGUSR1`, as a program does whose panics abort.
fn panic_on_demand() {
    std::panic::set_hook(Box::new(|_| {
        let raw = is_raw(&tcgetattr(rustix::stdio::stdin()).unwrap());
        eprintln!("raw at the panic: {raw}");
        std::process::abort();
    }));
    install_panic_hook();
    let mut demand = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::user_defined1()).unwrap();
    tokio::spawn(async move {
        demand.recv().await;
        panic!("on demand");
    });
}

fn program(task: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(ARGUMENTS).env(TASK, task).kill_on_drop(true);
    command
}

/// The program on a terminal.
struct Terminal {
    pty: Pty,
    /// Kept open, so that the mode can be looked at when the program has ended.
    pts: Pts,
    child: Child,
    original: rustix::termios::Termios,
    seen: String,
    rounds: u32,
}

impl Terminal {
    fn start(task: &str) -> Self {
        let (pty, pts) = pty_process::open().unwrap();
        pty.resize(Size::new(33, 101)).unwrap();
        let original = tcgetattr(&pts).unwrap();
        let command = pty_process::Command::new(std::env::current_exe().unwrap());
        let command = command.args(ARGUMENTS).env(TASK, task);
        let child = command.kill_on_drop(true).spawn_borrowed(&pts).unwrap();
        Self { pty, pts, child, original, seen: String::new(), rounds: 0 }
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().unwrap().cast_signed()).unwrap()
    }

    async fn type_in(&mut self, text: &str) {
        self.pty.write_all(text.as_bytes()).await.unwrap();
    }

    async fn until(&mut self, text: &str) {
        until(&mut self.pty, &mut self.seen, text).await;
    }

    /// Waits until the remote shell does what is typed.
    async fn until_running(&mut self) {
        self.rounds += 1;
        self.type_in(&format!("echo round-$(({}+1000))\r", self.rounds)).await;
        self.until(&format!("round-{}", self.rounds + 1000)).await;
    }

    /// Runs something that only a signal ends. It is the shell's foreground job before it says so.
    async fn occupy(&mut self) {
        self.type_in("sh -c 'echo be\"\"gin; exec sleep 1000'\r").await;
        self.until("begin").await;
    }

    /// Waits for a mode of the terminal, which nobody announces.
    async fn until_mode(&self, wanted: impl Fn(&Self) -> bool) {
        let wait = async {
            while !wanted(self) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(SOON, wait).await.unwrap();
    }

    fn is_raw(&self) -> bool {
        is_raw(&tcgetattr(&self.pts).unwrap())
    }

    fn local_modes(&self) -> LocalModes {
        tcgetattr(&self.pts).unwrap().local_modes
    }

    /// Waits for the end of the program, and sees to it that the terminal is as it was before. Returns what was written.
    async fn end(mut self) -> (ExitStatus, String) {
        let mut buf = [0; 4096];
        let status = loop {
            tokio::select! {
                read = self.pty.read(&mut buf) => {
                    self.seen.push_str(&String::from_utf8_lossy(&buf[..read.unwrap()]));
                }
                status = timeout(SOON, self.child.wait()) => break status.unwrap().unwrap(),
            }
        };
        while let Ok(Ok(read)) = timeout(Duration::from_millis(20), self.pty.read(&mut buf)).await {
            self.seen.push_str(&String::from_utf8_lossy(&buf[..read]));
        }
        assert_eq!(modes(&tcgetattr(&self.pts).unwrap()), modes(&self.original), "{}", self.seen);
        (status, self.seen)
    }
}

async fn until(from: &mut (impl AsyncReadExt + Unpin), seen: &mut String, text: &str) {
    loop {
        if let Some(at) = seen.find(text) {
            seen.drain(..at + text.len());
            return;
        }
        let mut buf = [0; 4096];
        let read = timeout(SOON, from.read(&mut buf)).await;
        let read = read.unwrap_or_else(|_| panic!("no {text:?} in {seen:?}")).unwrap();
        assert_ne!(read, 0, "no {text:?} in {seen:?}");
        seen.push_str(&String::from_utf8_lossy(&buf[..read]));
    }
}

fn is_raw(termios: &rustix::termios::Termios) -> bool {
    let local = LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG | LocalModes::IEXTEN;
    !termios.local_modes.intersects(local)
        && !termios.input_modes.intersects(InputModes::ICRNL | InputModes::IXON)
        && !termios.output_modes.contains(OutputModes::OPOST)
}

fn modes(termios: &rustix::termios::Termios) -> (InputModes, OutputModes, LocalModes, String) {
    let codes = format!("{:?}", termios.special_codes);
    (termios.input_modes, termios.output_modes, termios.local_modes, codes)
}
