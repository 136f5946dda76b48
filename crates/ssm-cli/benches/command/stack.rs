//! The other side, and commands that reach it.

use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use crate::Failure;
use crate::example::Example;
use crate::terminal::{cpu, peak_rss};

/// Time between two looks at a process.
const LOOK: Duration = Duration::from_millis(10);

/// `ssm loopback`; ended when dropped.
pub(crate) struct OtherSide {
    process: Child,
    ssm: String,
    example: Example,
    pub(crate) folder: tempfile::TempDir,
}

impl OtherSide {
    pub(crate) fn start(ssm: &str) -> Result<Self, Failure> {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        let process = clean(ssm, folder.path()).arg("loopback").stderr(Stdio::piped()).spawn()?;
        let mut other_side = Self { process, ssm: ssm.into(), example: Example::default(), folder };
        let stderr = other_side.process.stderr.take().ok_or("a child without stderr")?;
        let (mut stderr, mut said) = (BufReader::new(stderr), String::new());
        while stderr.read_line(&mut said)? > 0 {
            if let Some(example) = Example::find(&said) {
                other_side.example = example;
                return Ok(other_side);
            }
        }
        Err("ssm loopback has not started".into())
    }

    pub(crate) fn target(&self) -> &str {
        &self.example.target
    }

    /// `ssm` with these arguments. The other side has no limit of messages, so that they are not spaced.
    pub(crate) fn ssm(&self, words: &[&str]) -> Command {
        let mut ssm = clean(&self.ssm, self.folder.path());
        ssm.args(words).envs(self.example.variables.iter().cloned()).env("SSM_PACING", "off");
        ssm.stdin(Stdio::null());
        ssm
    }

    /// Starts it with a pipe for its output.
    pub(crate) fn piped(&self, words: &[&str]) -> Result<(Child, ChildStdout), Failure> {
        let mut child = self.ssm(words).stdout(Stdio::piped()).spawn()?;
        let pipe = child.stdout.take().ok_or("a child without stdout")?;
        Ok((child, pipe))
    }

    pub(crate) fn there(&self, path: &Path) -> String {
        format!("{}:{}", self.target(), path.display())
    }
}

impl Drop for OtherSide {
    fn drop(&mut self) {
        // It may be gone already, which is what is wanted.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A program that finds nothing of whoever runs this.
pub(crate) fn clean(program: &str, home: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("HOME", home).env("TMPDIR", home);
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).current_dir(home);
    command
}

/// Reads to the end, and says how much there was.
pub(crate) fn drain(mut pipe: ChildStdout) -> io::Result<u64> {
    let (mut buf, mut read) = (vec![0; 64 * 1024], 0);
    loop {
        match pipe.read(&mut buf)? {
            0 => return Ok(read),
            len => read += len as u64,
        }
    }
}

/// What a process was seen to use.
#[derive(Debug, Default)]
pub(crate) struct Used {
    pub(crate) peak_rss: f64,
    pub(crate) cpu: Duration,
}

/// Waits for the end, and looks meanwhile.
pub(crate) fn watch(child: &mut Child) -> io::Result<(ExitStatus, Used)> {
    let mut used = Used::default();
    loop {
        // Both only grow; the process may have gone in between.
        if let (Ok(peak_rss), Ok(cpu)) = (peak_rss(child), cpu(child)) {
            used = Used { peak_rss, cpu };
        }
        if let Some(status) = child.try_wait()? {
            return Ok((status, used));
        }
        thread::sleep(LOOK);
    }
}
