//! Against an agent as slow and as careful as AWS's.

use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;

use tempfile::TempDir;

use crate::git::{self, GitServer};
use crate::postgres::Postgres;
use crate::redis::{self, Redis};
use crate::support::nginx::Nginx;
use crate::support::process::{Process, run};
use crate::support::server::{Server, connect};
use crate::support::{FAR_NAME, Loopback, file_digest, random_file};
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

#[test]
fn curl_gets_and_puts_a_file_through_the_proxy() {
    let (loopback, nginx) = (Loopback::with_far_name(&["--profile", "aws"]), Nginx::start());
    let folder = TempDir::new().unwrap();
    let (original, digest) = random_file(folder.path(), 600_000);
    fs::copy(&original, nginx.file("file")).unwrap();
    let downloaded = folder.path().join("downloaded");
    let forward = loopback.forward_as(&["-D", "0"]);
    let url = |path: &str| format!("http://{FAR_NAME}:{}/{path}", nginx.port);
    for proxy in [format!("socks5h://{}", forward.local), format!("http://{}", forward.local)] {
        let curl = || {
            let mut curl = loopback.command("curl");
            curl.args(["-sS", "--fail", "--max-time", "60", "-p", "-x", &proxy]);
            curl
        };
        run(curl().arg("-o").arg(&downloaded).arg(url("file")));
        assert_eq!(file_digest(&downloaded), digest, "{proxy}");
        run(curl().arg("-T").arg(&original).arg(url("put")));
        assert_eq!(file_digest(&nginx.file("put")), digest, "{proxy}");
    }
}

#[test]
fn psql_copies_both_ways() {
    let (loopback, server) = (Loopback::with(&["--profile", "aws"]), Postgres::start());
    let forward = loopback.forward(server.port, &[]);
    let psql = |statement: &str| {
        run(server.client("psql", &forward).args(["-X", "-At", "-v", "ON_ERROR_STOP=1", "-c", statement]))
    };
    let folder = TempDir::new().unwrap();
    let (original, copy) = (folder.path().join("original"), folder.path().join("copy"));
    fs::write(&original, (0..20_000).map(|row| format!("{row}\tvalue {row}\n")).collect::<String>()).unwrap();
    psql("create table copied (id int, text text)");
    psql(&format!("\\copy copied from '{}'", original.display()));
    psql(&format!("\\copy (select * from copied order by id) to '{}'", copy.display()));
    assert_eq!(file_digest(&copy), file_digest(&original));
}

#[test]
fn git_clones() {
    let (loopback, server) = (Loopback::with(&["--profile", "aws"]), GitServer::start());
    let forward = loopback.forward(server.port(), &[]);
    let folder = TempDir::new().unwrap();
    let url = format!("http://{}/git/project", forward.local);
    run(git::command(&loopback).args(["clone", "-q", &url, "clone"]).current_dir(folder.path()));
    run(git::command(&loopback)
        .args(["fsck", "--full", "--strict"])
        .current_dir(folder.path().join("clone")));
    assert_eq!(fs::read_to_string(folder.path().join("clone/file-9")).unwrap(), "content 9\n");
}

#[test]
fn redis_answers_through_a_unix_socket() {
    let (loopback, redis) = (Loopback::with(&["--profile", "aws"]), Redis::start());
    let folder = TempDir::new().unwrap();
    let socket = folder.path().join("redis.sock");
    let _forward = loopback.forward_socket(&socket, redis.port, &[]);
    let report = run(redis::client("redis-benchmark", &socket)
        .args(["-e", "--csv", "-n", "400", "-c", "10", "-P", "4", "-d", "500", "-t", "set,get"]));
    assert!(!report.to_lowercase().contains("err"), "{report}");
    assert_eq!(run(redis::client("redis-cli", &socket).args(["strlen", "key:__rand_int__"])), "500\n");
}
