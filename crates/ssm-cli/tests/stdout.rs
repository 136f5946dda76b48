//! What becomes of stdout that cannot be written to: as with `ls`.

#![cfg(all(feature = "aws", feature = "demo"))]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;
use std::process::{Command, Stdio};

use ssm_loopback::Config;
use tempfile::TempDir;

use crate::common::fake_aws::FakeAws;
use crate::common::{Here, ssm};

#[test]
fn a_full_disk_is_an_error() {
    for (name, mut command) in Commands::new().all() {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let (code, stderr) = run(&mut command, full.into());
        assert_eq!(code, Some(255), "{name}: {stderr}");
        let last = stderr.lines().last().unwrap_or_default();
        assert_eq!(
            last, "ssm: cannot write to stdout: No space left on device (os error 28)",
            "{name}: {stderr}"
        );
    }
}

#[test]
fn a_reader_that_is_gone_is_none() {
    for (name, mut command) in Commands::new().all() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let (code, stderr) = run(&mut command, writer.into());
        // Without a region something is wrong, whoever reads what it is.
        assert_eq!(code, Some(i32::from(name == "doctor")), "{name}: {stderr}");
        assert!(!stderr.contains("stdout") && !stderr.contains("pipe"), "{name}: {stderr}");
    }
}

#[test]
fn one_command_on_many_machines_needs_its_output_too() {
    let targets = ["i-00000000000000001", "i-00000000000000002"].map(String::from);
    let here = Here::with(Config { targets: targets.to_vec(), ..Config::default() });
    let exec = |words: &[&str], stdout: Stdio| {
        run(&mut here.ssm(&[&["exec", "--targets", &targets.join(",")], words].concat()), stdout)
    };
    let full = || File::options().write(true).open("/dev/full").unwrap().into();
    for words in [&["--", "echo hello"][..], &["--json", "--", "true"]] {
        let (code, stderr) = exec(words, full());
        assert_eq!(code, Some(255), "{words:?}: {stderr}");
        assert!(stderr.contains("cannot write to stdout: no storage space"), "{words:?}: {stderr}");
    }
    let (mut reader, writer) = io::pipe().unwrap();
    let reading = std::thread::spawn(move || reader.read_exact(&mut [0; 3]).unwrap());
    let (_, stderr) = exec(&["--", "yes"], writer.into());
    reading.join().unwrap();
    assert_eq!(stderr, "");
}

/// Commands that write something, and what they need for it.
struct Commands {
    aws: FakeAws,
    home: TempDir,
}

impl Commands {
    fn new() -> Self {
        let aws = FakeAws::start(|asked| {
            if asked.has("DescribeInstanceInformation") {
                let node =
                    r#"{"InstanceId":"mi-0123456789abcdef0","PingStatus":"Online","ComputerName":"web"}"#;
                return (200, format!(r#"{{"InstanceInformationList":[{node}]}}"#));
            }
            (400, r#"{"__type":"AccessDeniedException","message":"no"}"#.into())
        });
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("config.toml"), "[alias.web]\ntarget = \"i-0123456789abcdef0\"\n")
            .unwrap();
        Self { aws, home }
    }

    fn all(&self) -> Vec<(&'static str, Command)> {
        let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ssm-proto/tests/vectors/shell.jsonl");
        let vectors = vectors.to_str().unwrap();
        let lines = [
            "--help",
            "--version",
            "config",
            "completions bash",
            "ssh-config",
            "resolve i-0123456789abcdef0",
            "exec --print-script i-0123456789abcdef0 -- true",
            "list",
            "list --json",
            "doctor",
        ];
        let words = lines.map(|line| (line, line.split(' ').collect()));
        let words = words.into_iter().chain([("decode", vec!["decode", vectors])]);
        words.map(|(name, words): (_, Vec<&str>)| (name, self.command(&words))).collect()
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = ssm(words);
        self.aws.apply(&mut command);
        if words != ["doctor"] {
            command.env("AWS_REGION", "eu-west-1");
        }
        command.env("AWS_ACCESS_KEY_ID", "AKIA").env("AWS_SECRET_ACCESS_KEY", "secret");
        command.env("HOME", self.home.path()).env("SSM_CONFIG", self.home.path().join("config.toml"));
        command
    }
}

/// The exit code and stderr.
fn run(command: &mut Command, stdout: Stdio) -> (Option<i32>, String) {
    let mut child = command.stdin(Stdio::null()).stdout(stdout).stderr(Stdio::piped()).spawn().unwrap();
    // Whoever has started it would otherwise keep its stdout open.
    command.stdout(Stdio::null());
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    (child.wait().unwrap().code(), stderr)
}
