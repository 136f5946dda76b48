//! Sessions encrypted with a KMS key: with the loopback's own KMS, with moto's, and without permission.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;

use serde_json::Value;

use crate::support::Loopback;
use crate::support::moto::Moto;
use crate::support::process::{Process, run};
use crate::support::server::Server;
use crate::support::system::installed;

const KEY: &str = "arn:aws:kms:us-east-1:000000000000:key/00000000-1111-2222-3333-444444444444";

/// A shell that is typed into, with these variables on top; its exit code, stdout and stderr.
fn shell(loopback: &Loopback, variables: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let mut command = loopback.ssm(&["shell", &loopback.target]);
    command.envs(variables.iter().copied());
    let (mut process, mut stdin) = Process::spawn_with_stdin(&mut command);
    let _ = stdin.write_all(b"echo answer-$((6 * 7))\nexit\n");
    drop(stdin);
    let code = process.wait().code();
    (code, process.stdout(), process.stderr())
}

#[test]
fn a_shell_is_encrypted_with_a_key_of_the_loopback() {
    let loopback = Loopback::with(&["--kms-key", KEY]);
    let (code, stdout, stderr) = shell(&loopback, &[]);
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    assert!(stdout.contains("answer-42"), "{stdout}");
    assert!(stderr.contains("This session is encrypted using AWS KMS."), "{stderr}");
}

#[test]
fn item_59_the_agents_words_are_on_stderr_where_stdout_is_data() {
    let loopback = Loopback::with(&["--kms-key", KEY]);
    let named = format!("{}: ", loopback.target);
    for (many, prefix) in [(false, ""), (true, named.as_str())] {
        let mut command = vec!["exec"];
        command.extend(many.then_some("--targets"));
        command.extend([loopback.target.as_str(), "--", "echo answer-$((6 * 7))"]);
        let (mut process, stdin) = Process::spawn_with_stdin(&mut loopback.ssm(&command));
        drop(stdin);
        assert_eq!(process.wait().code(), Some(0), "{}", process.stderr());
        assert_eq!(process.stdout(), format!("{prefix}answer-42\n"));
        let words = format!("ssm: {prefix}This session is encrypted using AWS KMS.");
        assert_eq!(process.stderr().matches(&words).count(), 1, "{}", process.stderr());
    }
}

#[test]
fn a_shell_in_the_clear_is_refused_where_encryption_is_asked_for() {
    let loopback = Loopback::start();
    let mut command = loopback.ssm(&["shell", &loopback.target, "--require-encryption"]);
    let (mut process, stdin) = Process::spawn_with_stdin(&mut command);
    drop(stdin);
    assert_eq!(process.wait().code(), Some(255), "{}", process.stderr());
    assert!(process.stderr().contains("it is not encrypted with a KMS key"), "{}", process.stderr());
    assert_eq!(process.stdout(), "");
}

/// moto makes the key for the client and decrypts it for the agent: both have to name the same context.
#[test]
fn item_59_64_a_shell_is_encrypted_with_a_key_of_moto() {
    let moto = Moto::start();
    let mut aws = moto.command(installed("SSM_TEST_AWS"));
    let region = "us-east-1";
    let made = run(aws.args(["kms", "create-key", "--region", region, "--output", "json"]));
    let made: Value = serde_json::from_str(&made).unwrap();
    let key = made["KeyMetadata"]["Arn"].as_str().unwrap();
    // The client asks in the region of the loopback, and so has the agent to.
    let account = [("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test"), ("AWS_REGION", region)];
    let args = ["--kms-key", key, "--kms-endpoint-url", moto.endpoint()];
    let loopback = Loopback::with_variables(&args, &account);
    let (code, stdout, stderr) = shell(&loopback, &[("AWS_ENDPOINT_URL_KMS", moto.endpoint())]);
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    assert!(stdout.contains("answer-42"), "{stdout}");
    assert!(stderr.contains("This session is encrypted using AWS KMS."), "{stderr}");
    assert!(!stdout.contains("encrypted"), "{stdout}");
}

#[test]
fn a_key_that_may_not_be_used_is_named_with_the_action() {
    let denied = Server::start(|stream| answer(stream, "AccessDeniedException", "not for you"));
    let url = format!("http://127.0.0.1:{}", denied.port());
    let loopback = Loopback::with(&["--kms-key", KEY]);
    let (code, stdout, stderr) = shell(&loopback, &[("AWS_ENDPOINT_URL_KMS", &url)]);
    assert_eq!((code, stdout.as_str()), (Some(255), ""), "{stderr}");
    let line = format!("your permissions do not allow kms:GenerateDataKey on {KEY} (not for you)");
    assert!(stderr.contains(&line), "{stderr}");
    assert_eq!(stderr.matches("GenerateDataKey").count(), 1, "{stderr}");
}

/// Answers one request as AWS answers those it refuses.
fn answer(stream: TcpStream, code: &str, message: &str) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        match line.trim().split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.trim().parse().unwrap();
            }
            Some(_) => {}
            None if line.trim().is_empty() => break,
            None => {}
        }
    }
    reader.read_exact(&mut vec![0; length])?;
    let body = format!(r#"{{"__type":"{code}","message":"{message}"}}"#);
    let head = "HTTP/1.1 400 Bad Request\r\nContent-Type: application/x-amz-json-1.1";
    write!(reader.get_mut(), "{head}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}
