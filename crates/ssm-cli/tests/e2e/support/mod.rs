//! What every test needs: a loopback in a process of its own, and commands that use it.

#[path = "../../common/example.rs"]
mod example;
#[cfg(feature = "lookup")]
pub(crate) mod moto;
pub(crate) mod nginx;
pub(crate) mod process;
pub(crate) mod server;
pub(crate) mod system;
pub(crate) mod tmux;

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use example::Example;
use process::Process;
use system::nss_wrapper;

/// The program under test.
pub(crate) const SSM: &str = env!("CARGO_BIN_EXE_ssm");

/// The program that a loopback and its clients are: [`SSM`], or what `cargo xtask soak --ssm` names.
fn program() -> PathBuf {
    std::env::var_os("SSM_TEST_PROGRAM").map_or_else(|| SSM.into(), PathBuf::from)
}

/// As fast as it goes.
pub(crate) const FAST: &[&str] = &["--payload-size", "32768", "--pacing", "off"];

/// See [`Loopback::with_far_name`]. Nobody may register a name under `test`.
pub(crate) const FAR_NAME: &str = "far.test";

/// `ssm loopback`, and a home folder for those who use it.
pub(crate) struct Loopback {
    process: Process,
    home: TempDir,
    pub(crate) target: String,
    pub(crate) endpoint: String,
    environment: Vec<(String, String)>,
}

impl Loopback {
    pub(crate) fn start() -> Self {
        Self::with(&[])
    }

    pub(crate) fn with(args: &[&str]) -> Self {
        Self::launch(args, |_, _| {})
    }

    /// One whose machine knows [`FAR_NAME`], which stands for 127.0.0.1 there and is unknown everywhere else.
    pub(crate) fn with_far_name(args: &[&str]) -> Self {
        Self::with_names(args, &[FAR_NAME])
    }

    /// The same with these names.
    pub(crate) fn with_names(args: &[&str], names: &[&str]) -> Self {
        let library = nss_wrapper();
        Self::launch(args, |command, home| {
            let hosts = home.join("hosts");
            std::fs::write(&hosts, format!("127.0.0.1 {}\n", names.join(" "))).unwrap();
            command.env("LD_PRELOAD", library).env("NSS_WRAPPER_HOSTS", hosts);
        })
    }

    /// One whose process sees these variables.
    pub(crate) fn with_variables(args: &[&str], variables: &[(&str, &str)]) -> Self {
        Self::launch(args, |command, _| {
            command.envs(variables.iter().copied());
        })
    }

    fn launch(args: &[&str], change: impl FnOnce(&mut Command, &Path)) -> Self {
        let home = TempDir::new().unwrap();
        // A shell that is hung up would write its history when the folder is gone already.
        std::fs::write(home.path().join(".bashrc"), "PS1='remote$ '\nunset HISTFILE\n").unwrap();
        let mut command = clean(program(), home.path());
        change(&mut command, home.path());
        let process = Process::spawn(command.arg("loopback").args(args));
        let Example { variables: environment, target } = process.until("the example", Example::find);
        let endpoint = environment.iter().find(|(name, _)| name == "AWS_ENDPOINT_URL").unwrap().1.clone();
        Self { process, home, target, endpoint, environment }
    }

    /// A command with everything that the example exports, and nothing else of the user's account.
    pub(crate) fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = clean(program, self.home.path());
        command.envs(self.environment.iter().cloned());
        command
    }

    /// What the example exports under this name.
    pub(crate) fn variable(&self, name: &str) -> &str {
        &self.environment.iter().find(|(found, _)| found == name).unwrap().1
    }

    /// `ssm` with these arguments.
    pub(crate) fn ssm(&self, args: &[&str]) -> Command {
        let mut command = self.command(program());
        command.args(args);
        command
    }

    /// Starts `ssm forward` to `port` of this machine, from a free local one.
    pub(crate) fn forward(&self, port: u16, args: &[&str]) -> Forward {
        self.forward_as(&[&["-L", &format!("0:{port}")], args].concat())
    }

    /// Starts `ssm forward` with one `-L` or `-D` that has 0 as its local port.
    pub(crate) fn forward_as(&self, args: &[&str]) -> Forward {
        self.forward_through(&self.target, args)
    }

    /// The same through another machine than the one there is.
    pub(crate) fn forward_through(&self, target: &str, args: &[&str]) -> Forward {
        let process = Process::spawn(self.ssm(&["forward", target]).args(args));
        let local = process.until("where it listens", |text| {
            let (_, rest) = text.split_once("listening on 127.0.0.1:")?;
            rest.split_once(|char: char| !char.is_ascii_digit())?.0.parse().ok()
        });
        Forward { process, local: (Ipv4Addr::LOCALHOST, local).into() }
    }

    /// Starts `ssm forward` from a UNIX socket at `path` to `port` of this machine.
    pub(crate) fn forward_socket(&self, path: &Path, port: u16, args: &[&str]) -> Process {
        let spec = format!("{}:localhost:{port}", path.display());
        let process = Process::spawn(self.ssm(&["forward", &self.target, "-L", &spec]).args(args));
        process.until_says("listening on");
        process
    }

    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    pub(crate) fn port(&self) -> u16 {
        self.endpoint.rsplit_once(':').unwrap().1.parse().unwrap()
    }

    /// Ends it as Ctrl-C does.
    pub(crate) fn stop(mut self) {
        self.process.signal(Signal::INT);
        assert_eq!(self.process.wait().code(), Some(0), "{}", self.process.stderr());
    }

    /// Makes it say nothing more, as a network that loses everything does.
    pub(crate) fn freeze(&self) {
        self.process.signal(Signal::STOP);
    }

    /// Ends it as a crash does.
    pub(crate) fn kill(&mut self) {
        self.process.signal(Signal::KILL);
        self.process.wait();
    }
}

/// A digest of bytes.
pub(crate) fn digest(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// A running `ssm forward`.
pub(crate) struct Forward {
    pub(crate) process: Process,
    /// Where it listens.
    pub(crate) local: SocketAddr,
}

impl Forward {
    /// Ends it as Ctrl-C does; returns what it said.
    pub(crate) fn stop(mut self) -> String {
        self.process.signal(Signal::INT);
        assert_eq!(self.process.wait().code(), Some(0), "{}", self.process.stderr());
        self.process.stderr()
    }
}

/// A command that sees no account, no configuration and no proxy of the user.
pub(crate) fn clean(program: impl AsRef<Path>, home: &Path) -> Command {
    let mut command = Command::new(program.as_ref());
    for (name, _) in std::env::vars_os() {
        let lower = name.to_string_lossy().to_ascii_lowercase();
        if lower.starts_with("aws_") || lower.starts_with("xdg_") || lower.ends_with("_proxy") {
            command.env_remove(name);
        }
    }
    command.env("HOME", home).env("AWS_EC2_METADATA_DISABLED", "true").env("LC_ALL", "C.UTF-8");
    // Who stops all tunnels of this user stops none of a test.
    command.env("XDG_RUNTIME_DIR", home);
    command
}

/// A file of this many bytes that no compression makes smaller, and its digest.
pub(crate) fn random_file(folder: &Path, len: usize) -> (PathBuf, String) {
    let path = folder.join("original");
    let mut file = std::fs::File::create(&path).unwrap();
    let mut digest = Sha256::new();
    let mut block = vec![0; 1024 * 1024];
    getrandom::fill(&mut block).unwrap();
    let mut left = len;
    while left > 0 {
        // Enough to make every block another one.
        let changed = &mut block[..8];
        changed.copy_from_slice(&left.to_ne_bytes());
        let part = &block[..left.min(block.len())];
        digest.update(part);
        file.write_all(part).unwrap();
        left -= part.len();
    }
    (path, hex(&digest.finalize()))
}

/// The digest of a file.
pub(crate) fn file_digest(path: &Path) -> String {
    let mut file = std::fs::File::open(path).unwrap();
    let mut digest = Sha256::new();
    let mut block = vec![0; 1024 * 1024];
    loop {
        match file.read(&mut block).unwrap() {
            0 => return hex(&digest.finalize()),
            read => digest.update(&block[..read]),
        }
    }
}

/// Bytes as two digits each.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
