//! `ssm completions`, as shells read it.

#![cfg(all(feature = "demo", target_os = "linux"))]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::process::Command;

use common::Program;

#[test]
fn bash_completes_commands_flags_aliases_and_groups() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.toml");
    let text = "[alias.db-one]\ntarget = 't'\nforwards = [80]\n[group.dev]\ntunnels = ['db-one']\n";
    fs::write(&config, text).unwrap();
    let outcome =
        Program::start(&mut common::ssm(&["--config", config.to_str().unwrap(), "completions", "bash"]))
            .wait();
    assert_eq!((outcome.status.code(), outcome.stderr.as_str()), (Some(0), ""));
    let script = folder.path().join("script");
    fs::write(&script, outcome.stdout).unwrap();
    let completed = |words: &[&str]| {
        let list: String = words.iter().map(|word| format!("'{word}' ")).collect();
        let line = format!(
            "source {}; COMP_WORDS=({list}); COMP_CWORD={}; _ssm ssm '{}' '{}'; echo \"${{COMPREPLY[@]}}\"",
            script.display(),
            words.len() - 1,
            words[words.len() - 1],
            words[words.len() - 2],
        );
        let output = Command::new("bash").args(["--norc", "-c", &line]).output().unwrap();
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    assert_eq!(completed(&["ssm", "forw"]), "forward");
    assert_eq!(completed(&["ssm", "forward", "--lan"]), "--lanes");
    for command in ["forward", "shell", "proxy", "ssh", "sftp", "resolve", "config"] {
        assert_eq!(completed(&["ssm", command, "db"]), "db-one", "{command}");
    }
    for command in ["up", "down", "status"] {
        assert_eq!(completed(&["ssm", command, "d"]), "dev", "{command}");
    }
}

#[test]
fn a_mistake_in_the_configuration_leaves_the_commands() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.toml");
    fs::write(&config, "a mistake").unwrap();
    let outcome =
        Program::start(&mut common::ssm(&["--config", config.to_str().unwrap(), "completions", "zsh"]))
            .wait();
    assert_eq!(outcome.status.code(), Some(0), "{}", outcome.stderr);
    assert!(outcome.stdout.starts_with("#compdef ssm") && outcome.stderr.contains("config.toml:1: "));
}
