//! Child processes whose output is waited for, and which never outlive the test.

use std::io::Read;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// How long anything may take to happen. Only a failing test waits that long.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// A running child in a process group of its own, with what it has written so far.
pub(crate) struct Process {
    child: Child,
    name: String,
    output: Arc<Output>,
    ended: bool,
}

#[derive(Default)]
struct Output {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    /// Pipes that are still open.
    open: u8,
}

/// One of the two pipes.
#[derive(Clone, Copy)]
enum Stream {
    Stdout,
    Stderr,
}

impl Process {
    /// Starts `command`; stdin is empty unless the command says otherwise.
    pub(crate) fn spawn(command: &mut Command) -> Self {
        command.stdin(Stdio::null());
        Self::spawn_as_is(command)
    }

    /// Starts `command` and hands out its stdin.
    pub(crate) fn spawn_with_stdin(command: &mut Command) -> (Self, ChildStdin) {
        command.stdin(Stdio::piped());
        let mut process = Self::spawn_as_is(command);
        let stdin = process.child.stdin.take().unwrap();
        (process, stdin)
    }

    fn spawn_as_is(command: &mut Command) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let name = command.get_program().to_string_lossy().into_owned();
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => panic!("{name}: {error}; run cargo xtask setup"),
        };
        let output = Arc::new(Output::default());
        output.lock().open = 2;
        let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        for (stream, pipe) in
            [(Stream::Stdout, Box::new(stdout) as Box<dyn Read + Send>), (Stream::Stderr, Box::new(stderr))]
        {
            let output = Arc::clone(&output);
            thread::spawn(move || output.collect(stream, pipe));
        }
        Self { child, name, output, ended: false }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What was written to stdout so far.
    pub(crate) fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.output.lock().stdout).into_owned()
    }

    /// What was written to stderr so far.
    pub(crate) fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.output.lock().stderr).into_owned()
    }

    /// Waits until `find` finds something in stdout followed by stderr.
    pub(crate) fn until<T>(&self, what: &str, find: impl Fn(&str) -> Option<T>) -> T {
        let found = self.output.wait(|state| {
            let found = find(&state.text());
            let over = state.open == 0;
            (found.is_some() || over).then_some(found)
        });
        found.flatten().unwrap_or_else(|| panic!("{}: {what} did not come:\n{}", self.name, self.text()))
    }

    /// Waits until `text` was written to either stream.
    pub(crate) fn until_says(&self, text: &str) {
        self.until(text, |output| output.contains(text).then_some(()));
    }

    /// Waits until something is true that this process brings about outside of its output.
    pub(crate) fn until_true(&self, what: &str, is: impl Fn() -> bool) {
        let deadline = Instant::now() + SOON;
        while !is() {
            assert!(Instant::now() < deadline, "{}: {what} did not come:\n{}", self.name, self.text());
            thread::yield_now();
        }
    }

    /// Waits for the end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        if self.output.wait(|state| (state.open == 0).then_some(())).is_none() {
            panic!("{} did not end:\n{}", self.name, self.text());
        }
        self.ended = true;
        self.child.wait().unwrap()
    }

    /// Waits for the end, and kills what does not end by itself.
    pub(crate) fn wait_quietly(&mut self) {
        self.ended = self.output.wait(|state| (state.open == 0).then_some(())).is_some();
        if self.ended {
            let _ = self.child.wait();
        }
    }

    /// Waits for the end, which must be a success; returns stdout.
    pub(crate) fn success(mut self) -> String {
        let status = self.wait();
        assert!(status.success(), "{} {status}:\n{}", self.name, self.text());
        self.stdout()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        // A process that is gone already is as good.
        let _ = kill_process(pid(self.child.id()), signal);
    }

    fn text(&self) -> String {
        self.output.lock().text()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.ended {
            let _ = kill_process_group(pid(self.child.id()), Signal::KILL);
            let _ = self.child.wait();
        }
    }
}

impl Output {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn collect(&self, stream: Stream, mut pipe: impl Read) {
        let mut chunk = [0; 64 * 1024];
        loop {
            let read = pipe.read(&mut chunk).unwrap_or(0);
            let mut state = self.lock();
            match (read, stream) {
                (0, _) => state.open -= 1,
                (read, Stream::Stdout) => state.stdout.extend_from_slice(&chunk[..read]),
                (read, Stream::Stderr) => state.stderr.extend_from_slice(&chunk[..read]),
            }
            self.changed.notify_all();
            if read == 0 {
                return;
            }
        }
    }

    /// Waits until `done` gives something; `None` when it takes too long.
    fn wait<T>(&self, done: impl Fn(&State) -> Option<T>) -> Option<T> {
        let deadline = Instant::now() + SOON;
        let mut state = self.lock();
        loop {
            if let Some(result) = done(&state) {
                return Some(result);
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            state = self.changed.wait_timeout(state, left).unwrap().0;
        }
    }
}

impl State {
    fn text(&self) -> String {
        format!("{}{}", String::from_utf8_lossy(&self.stdout), String::from_utf8_lossy(&self.stderr))
    }
}

/// Runs `command` to its end, which must be a success; returns stdout.
pub(crate) fn run(command: &mut Command) -> String {
    Process::spawn(command).success()
}

pub(crate) fn pid(id: u32) -> Pid {
    Pid::from_raw(id.try_into().unwrap()).unwrap()
}
