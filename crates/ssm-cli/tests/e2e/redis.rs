//! Redis through a UNIX socket of `ssm forward`.

use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::process::{Process, run};
use crate::support::system::free_port;
use crate::support::{FAST, Loopback};

#[test]
fn redis_benchmark_sees_no_error() {
    let (loopback, redis, folder) = (Loopback::start(), Redis::start(), TempDir::new().unwrap());
    let socket = folder.path().join("redis.sock");
    let forward = loopback.forward_socket(&socket, redis.port, FAST);
    // One request at a time, sixteen at a time, and values that fill many messages.
    for (args, tests) in [
        (&["-n", "5000", "-c", "50", "-t", "ping,set,get,lpush,lpop"][..], 6),
        (&["-n", "40000", "-c", "50", "-P", "16", "-r", "1000", "-t", "set,get"], 2),
        (&["-n", "60", "-c", "4", "-d", "1000000", "-t", "set,get"], 2),
    ] {
        let report = run(client("redis-benchmark", &socket).args(["-e", "--csv"]).args(args));
        assert!(!report.to_lowercase().contains("err"), "{report}");
        // A line of headings and one for each test.
        assert_eq!(report.lines().filter(|line| line.starts_with('"')).count(), 1 + tests, "{report}");
    }
    assert_eq!(run(client("redis-cli", &socket).args(["strlen", "key:__rand_int__"])), "1000000\n");
    forward.signal(Signal::INT);
}

#[test]
fn what_was_set_through_the_tunnel_is_what_the_server_has() {
    let (loopback, redis, folder) = (Loopback::start(), Redis::start(), TempDir::new().unwrap());
    let socket = folder.path().join("redis.sock");
    let _forward = loopback.forward_socket(&socket, redis.port, FAST);
    let script = "for n = 1, 20000 do redis.call('set', 'key:' .. n, string.rep(n, 20)) end";
    run(client("redis-cli", &socket).args(["eval", script, "0"]));
    let keys: Vec<String> = (1..=20_000).map(|number| format!("key:{number}")).collect();
    let values: String = (1..=20_000).map(|number| number.to_string().repeat(20) + "\n").collect();
    assert!(run(client("redis-cli", &socket).arg("mget").args(&keys)) == values);
    let direct = ["-p", &redis.port.to_string()];
    assert!(run(Command::new("redis-cli").args(direct).arg("mget").args(&keys)) == values);
}

/// One of Redis' programs, which connects to `socket`.
pub(crate) fn client(program: &str, socket: &Path) -> Command {
    let mut command = Command::new(program);
    command.arg("-s").arg(socket);
    command
}

/// A server of our own that keeps nothing.
pub(crate) struct Redis {
    pub(crate) port: u16,
    _folder: TempDir,
    _process: Process,
}

impl Redis {
    pub(crate) fn start() -> Self {
        let (port, folder) = (free_port(), TempDir::new().unwrap());
        let mut server = Command::new("redis-server");
        server.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--appendonly", "no"]);
        let process = Process::spawn(server.arg("--dir").arg(folder.path()).current_dir(folder.path()));
        process.until_says("Ready to accept connections");
        Self { port, _folder: folder, _process: process }
    }
}
