//! Against an agent as slow and as careful as AWS's.

use std::io::{Read, Write};
use std::net::Shutdown;

use crate::support::Loopback;
use crate::support::process::Process;
use crate::support::server::{Server, connect};
use crate::tunnel::exchange;

#[test]
fn a_shell_works() {
    let loopback = Loopback::with(&["--profile", "aws"]);
    let (mut process, mut stdin) = Process::spawn_with_stdin(&mut loopback.ssm(&["shell", &loopback.target]));
    stdin.write_all(b"echo answer-$((6 * 7))\nseq 1 5000\nexit\n").unwrap();
    let status = process.wait();
    assert!(status.success(), "{status}: {}", process.stderr());
    let stdout = process.stdout();
    let expected: String = (1..=5000).map(|number| format!("{number}\r\n")).collect();
    assert!(stdout.contains("answer-42") && stdout.contains(&expected), "{stdout}");
}

#[test]
fn a_small_transfer_arrives_unchanged_each_way() {
    let loopback = Loopback::with(&["--profile", "aws"]);
    let server = Server::echo();
    let forward = loopback.forward(server.port(), &[]);
    let data: Vec<u8> = (0..1_000_000_u32).map(|number| (number / 251) as u8).collect();
    assert!(exchange(&mut connect(forward.local), &data) == data);
}

#[test]
fn a_request_that_ends_gets_the_whole_answer() {
    let loopback = Loopback::with(&["--profile", "aws"]);
    let server = Server::start(|mut stream| {
        stream.read_exact(&mut [0; 7])?;
        stream.write_all(&[7; 300_000])?;
        stream.shutdown(Shutdown::Both)
    });
    let forward = loopback.forward(server.port(), &[]);
    let mut stream = connect(forward.local);
    stream.write_all(b"request").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert!(answer == [7; 300_000], "{} bytes", answer.len());
}
