//! What several tests need: programs that are killed when a test ends, however it ends, and a loopback.

#![allow(dead_code, reason = "each test uses a part of it")]

pub(crate) mod example;
pub(crate) mod fake_aws;
pub(crate) mod outside;
pub(crate) mod transfer;

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use ssm_loopback::{Config, Loopback};
use ssm_session::{ControlPlane, StartSession};
use tokio::sync::oneshot;

use self::example::Example;

/// The program under test.
pub(crate) const SSM: &str = env!("CARGO_BIN_EXE_ssm");

/// Long enough for a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// `ssm` with these arguments, without an AWS account of its own.
pub(crate) fn ssm(args: &[&str]) -> Command {
    let mut command = Command::new(SSM);
    command.args(args);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("AWS_") || text.starts_with("SSM_") {
            command.env_remove(name);
        }
    }
    command.env("AWS_EC2_METADATA_DISABLED", "true").env("AWS_CONFIG_FILE", "/dev/null");
    command.env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null");
    // Tunnels, configuration and start-up files of the user of this machine have nothing to do with tests.
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    command.env("HOME", folder);
    command.env("XDG_RUNTIME_DIR", folder).env("XDG_STATE_HOME", folder).env("XDG_CONFIG_HOME", folder);
    command.env("XDG_CACHE_HOME", folder.join("cache"));
    command
}

/// The same command behind something that a shell does first.
pub(crate) fn behind(script: &str, command: &Command) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("{script}; exec \"$0\" \"$@\"")]);
    shell.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        shell.current_dir(folder);
    }
    shell
}

/// A running program. Dropping it kills it.
pub(crate) struct Program {
    child: Child,
    stdout: Collected,
    stderr: Collected,
}

/// What a program left behind.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A program on a terminal of its own. Dropping it kills it.
pub(crate) struct OnTerminal {
    child: Child,
    keys: File,
    shown: Collected,
    /// `None` when it goes to the terminal too.
    stdout: Option<Collected>,
}

impl OnTerminal {
    /// Starts it on a terminal of this many columns, with stdout in a pipe.
    pub(crate) fn start(command: &Command, columns: u16) -> Self {
        Self::spawn(command, columns, Some(Stdio::piped()))
    }

    /// Starts it on a terminal of this many columns.
    pub(crate) fn with_stdout(command: &Command, columns: u16) -> Self {
        Self::spawn(command, columns, None)
    }

    fn spawn(command: &Command, columns: u16, stdout: Option<Stdio>) -> Self {
        let (pty, pts) = pty_process::blocking::open().unwrap();
        pty.resize(pty_process::Size::new(24, columns)).unwrap();
        let mut on_pty = pty_process::blocking::Command::new(command.get_program());
        on_pty = on_pty.args(command.get_args());
        if let Some(stdout) = stdout {
            on_pty = on_pty.stdout(stdout);
        }
        for (name, value) in command.get_envs() {
            on_pty = match value {
                Some(value) => on_pty.env(name, value),
                None => on_pty.env_remove(name),
            };
        }
        let mut child = on_pty.spawn(pts).unwrap();
        let stdout = child.stdout.take().map(collect);
        let keys = File::from(OwnedFd::from(pty));
        let shown = collect(keys.try_clone().unwrap());
        Self { child, keys, shown, stdout }
    }

    /// Types.
    pub(crate) fn keys(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Everything that was written to the terminal.
    pub(crate) fn written(&self) -> String {
        text(&self.shown)
    }

    /// Waits until `find` finds something in what was written to the terminal.
    pub(crate) fn until<T>(&self, find: impl Fn(&str) -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            let written = self.written();
            if let Some(found) = find(&written) {
                return found;
            }
            assert!(start.elapsed() < PATIENCE, "not found: {written:?}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for its end. The other stderr is what was written to the terminal.
    pub(crate) fn wait(mut self) -> Outcome {
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(start.elapsed() < PATIENCE, "still running: {:?}", self.written());
            thread::sleep(Duration::from_millis(5));
        };
        for collected in [Some(&mut self.shown), self.stdout.as_mut()].into_iter().flatten() {
            collected.1.take().unwrap().join().unwrap();
        }
        let stdout = self.stdout.as_ref().map(text).unwrap_or_default();
        Outcome { status, stdout, stderr: self.written() }
    }
}

impl Drop for OnTerminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a terminal shows that was sent this: lines, with those taken back that were.
pub(crate) fn screen(written: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut rest = written;
    while let Some(char) = rest.chars().next() {
        let line = lines.last_mut().unwrap();
        if let Some(behind) = rest.strip_prefix("\r\x1b[K") {
            line.clear();
            rest = behind;
            continue;
        }
        match char {
            '\n' => lines.push(String::new()),
            '\r' => {}
            _ => line.push(char),
        }
        rest = &rest[char.len_utf8()..];
    }
    lines
}

type Collected = (Arc<Mutex<Vec<u8>>>, Option<JoinHandle<()>>);

impl Program {
    /// Starts it with an empty stdin.
    pub(crate) fn start(command: &mut Command) -> Self {
        Self::with_stdin(command, Stdio::null())
    }

    pub(crate) fn with_stdin(command: &mut Command, stdin: Stdio) -> Self {
        let mut child = command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdout = collect(child.stdout.take().unwrap());
        let stderr = collect(child.stderr.take().unwrap());
        Self { child, stdout, stderr }
    }

    /// Writes to its stdin, which has to be a pipe.
    pub(crate) fn write(&mut self, text: &str) {
        self.child.stdin.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Ends its stdin, which has to be a pipe.
    pub(crate) fn close(&mut self) {
        drop(self.child.stdin.take());
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    pub(crate) fn stdout(&self) -> String {
        text(&self.stdout)
    }

    pub(crate) fn stderr(&self) -> String {
        text(&self.stderr)
    }

    /// Waits until `find` finds something in stderr.
    pub(crate) fn until<T>(&mut self, find: impl Fn(&str) -> Option<T>) -> T {
        self.wait_for(|program| find(&program.stderr()))
    }

    /// Waits until `find` finds something.
    pub(crate) fn wait_for<T>(&mut self, find: impl Fn(&Self) -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            let ended = self.child.try_wait().unwrap().is_some();
            if let Some(found) = find(self) {
                return found;
            }
            assert!(!ended && start.elapsed() < PATIENCE, "not found: {} {}", self.stdout(), self.stderr());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for its end.
    pub(crate) fn wait(mut self) -> Outcome {
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(start.elapsed() < PATIENCE, "still running: {} {}", self.stdout(), self.stderr());
            thread::sleep(Duration::from_millis(5));
        };
        for collected in [&mut self.stdout, &mut self.stderr] {
            collected.1.take().unwrap().join().unwrap();
        }
        Outcome { status, stdout: self.stdout(), stderr: self.stderr() }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn collect(mut pipe: impl Read + Send + 'static) -> Collected {
    let collected = Arc::new(Mutex::new(Vec::new()));
    let into = Arc::clone(&collected);
    let thread = thread::spawn(move || {
        let mut buf = [0; 4096];
        while let Ok(len @ 1..) = pipe.read(&mut buf) {
            into.lock().unwrap().extend_from_slice(&buf[..len]);
        }
    });
    (collected, Some(thread))
}

fn text(collected: &Collected) -> String {
    String::from_utf8_lossy(&collected.0.lock().unwrap()).into_owned()
}

/// Waits until `find` finds something.
pub(crate) fn until<T>(what: &str, find: impl Fn() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = find() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "not in time: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// With shells that do not read the start-up files of this machine's user, who may have anything there.
fn at_home(config: Config) -> Config {
    Config { home: config.home.or_else(|| Some(env!("CARGO_TARGET_TMPDIR").into())), ..config }
}

/// A loopback in this process, for sessions that are handed over.
pub(crate) struct Handed {
    asks: tokio::sync::mpsc::UnboundedSender<(StartSession, oneshot::Sender<String>)>,
    pub(crate) target: String,
    thread: Option<JoinHandle<()>>,
}

impl Handed {
    pub(crate) fn start() -> Self {
        Self::with(Config::default())
    }

    pub(crate) fn with(config: Config) -> Self {
        let config = at_home(config);
        let (asks, mut asked) =
            tokio::sync::mpsc::unbounded_channel::<(StartSession, oneshot::Sender<String>)>();
        let (started, target) = std::sync::mpsc::channel();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let loopback = Loopback::start(config).await.unwrap();
                started.send(loopback.target().to_owned()).unwrap();
                while let Some((request, answer)) = asked.recv().await {
                    let endpoint = loopback.control().start(&request).await.unwrap();
                    answer.send(endpoint.to_json().expose().clone()).unwrap();
                }
                loopback.shutdown().await;
            });
        });
        let target = target.recv().unwrap();
        Self { asks, target, thread: Some(thread) }
    }

    /// Starts a session on the first machine; its JSON is what StartSession answers.
    pub(crate) fn session(&self, request: impl FnOnce(&str) -> StartSession) -> String {
        let (answer, answered) = oneshot::channel();
        assert!(self.asks.send((request(&self.target), answer)).is_ok());
        answered.blocking_recv().unwrap()
    }
}

impl Drop for Handed {
    fn drop(&mut self) {
        let (closed, _) = tokio::sync::mpsc::unbounded_channel();
        drop(std::mem::replace(&mut self.asks, closed));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The tunnels of a runtime folder. Dropping it ends them: a test that failed may have left some.
pub(crate) struct Tunnels(PathBuf);

impl Tunnels {
    pub(crate) fn of(runtime: impl Into<PathBuf>) -> Self {
        Self(runtime.into())
    }
}

impl Drop for Tunnels {
    fn drop(&mut self) {
        let _ = ssm(&["-q", "tunnels", "stop", "--all"]).env("XDG_RUNTIME_DIR", &self.0).output();
    }
}

/// `ssm loopback`, for commands that start their sessions with the AWS SDK.
pub(crate) struct Served {
    program: Program,
    pub(crate) target: String,
    variables: Vec<(String, String)>,
}

impl Served {
    pub(crate) fn start() -> Self {
        Self::with(|_| {})
    }

    /// With a change to the command that starts it.
    pub(crate) fn with(change: impl FnOnce(&mut Command)) -> Self {
        let mut command = ssm(&["loopback"]);
        change(&mut command);
        let mut program = Program::start(&mut command);
        let Example { variables, target } = program.until(Example::find);
        Self { program, target, variables }
    }

    /// `ssm` with these arguments and the account of the loopback.
    pub(crate) fn ssm(&self, args: &[&str]) -> Command {
        let mut command = ssm(args);
        command.envs(self.variables.iter().cloned());
        command
    }

    pub(crate) fn variable(&self, name: &str) -> &str {
        &self.variables.iter().find(|(found, _)| found == name).unwrap().1
    }

    /// Ends it as Ctrl-C does.
    pub(crate) fn stop(self) -> Outcome {
        self.program.signal(Signal::INT);
        self.program.wait()
    }
}

/// A loopback in this process, for commands that start their sessions with the AWS SDK while a test does harm.
pub(crate) struct Here {
    loopback: Option<Loopback>,
    runtime: tokio::runtime::Runtime,
}

impl Here {
    pub(crate) fn start() -> Self {
        Self::with(Config::default())
    }

    pub(crate) fn with(config: Config) -> Self {
        let config = at_home(config);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.unwrap();
        let loopback = Some(runtime.block_on(Loopback::start(config)).unwrap());
        Self { loopback, runtime }
    }

    pub(crate) fn loopback(&self) -> &Loopback {
        self.loopback.as_ref().unwrap()
    }

    /// `ssm` with these arguments and the account of the loopback.
    pub(crate) fn ssm(&self, args: &[&str]) -> Command {
        let mut command = ssm(args);
        self.apply(&mut command);
        command
    }

    fn apply(&self, command: &mut Command) {
        let loopback = self.loopback();
        command.env("AWS_ENDPOINT_URL", loopback.endpoint_url()).env("AWS_REGION", loopback.region());
        command.env("AWS_ACCESS_KEY_ID", loopback.access_key());
        command.env("AWS_SECRET_ACCESS_KEY", loopback.secret_key().expose());
    }
}

impl Drop for Here {
    fn drop(&mut self) {
        if let Some(loopback) = self.loopback.take() {
            self.runtime.block_on(loopback.shutdown());
        }
    }
}

/// A port nobody listens on.
pub(crate) fn closed_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// A port that sends back what comes.
pub(crate) fn echo() -> u16 {
    serve(|stream| std::io::copy(&mut &stream, &mut &stream).map(drop))
}

/// A port that does this with every connection.
pub(crate) fn serve(serve: impl Fn(TcpStream) -> std::io::Result<()> + Send + Sync + Copy + 'static) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || serve(stream));
        }
    });
    port
}

/// Sends `data` to an echo and reads it back.
pub(crate) fn exchange(stream: &mut TcpStream, data: &[u8]) {
    stream.write_all(data).unwrap();
    let mut back = vec![0; data.len()];
    stream.read_exact(&mut back).unwrap();
    assert_eq!(back, data);
}

/// The first port that is said to be listened on.
pub(crate) fn port_of(said: &str) -> Option<u16> {
    let (_, rest) = said.split_once("listening on 127.0.0.1:")?;
    rest.split_once(|char: char| !char.is_ascii_digit())?.0.parse().ok()
}
