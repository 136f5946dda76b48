//! PostgreSQL through `ssm forward`.

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::path::PathBuf;
use std::process::Command;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::process::{Process, run};
use crate::support::system::{Account, free_port, postgres_bin};
use crate::support::{Forward, Loopback};

#[test]
fn psql_gets_what_the_server_has() {
    let (loopback, server) = (Loopback::start(), Postgres::start());
    let forward = loopback.forward(server.port, &[]);
    let psql = |statement: &str| {
        run(server.client("psql", &forward).args(["-X", "-At", "-v", "ON_ERROR_STOP=1", "-c", statement]))
    };
    assert_eq!(psql("select 6 * 7"), "42\n");
    let expected: String = (1..=100_000).map(|number| format!("{number}|{}\n", number * 7)).collect();
    assert!(psql("select n, n * 7 from generate_series(1, 100000) n") == expected);

    let rows: String = (0..50_000).map(|row| format!("{row}\tvalue {row}\n")).collect();
    let file = server.folder.path().join("rows");
    fs::write(&file, rows).unwrap();
    psql("create table copied (id int, text text)");
    psql(&format!("\\copy copied from '{}'", file.display()));
    let sum = "select count(*), sum(id), count(*) filter (where text = 'value ' || id) from copied";
    assert_eq!(psql(sum), "50000|1249975000|50000\n");
}

#[test]
fn pgbench_with_eight_clients_sees_no_error() {
    let (loopback, server) = (Loopback::start(), Postgres::start());
    let forward = loopback.forward(server.port, &[]);
    run(server.client("pgbench", &forward).args(["-i", "-q", "-s", "1"]));
    let report = run(server.client("pgbench", &forward).args(["-n", "-c", "8", "-j", "2", "-t", "60"]));
    assert!(report.contains("number of transactions actually processed: 480/480"), "{report}");
    assert!(report.contains("number of failed transactions: 0 "), "{report}");
    // A connection for each transaction.
    let report = run(server.client("pgbench", &forward).args(["-n", "-C", "-S", "-c", "8", "-t", "10"]));
    assert!(report.contains("number of transactions actually processed: 80/80"), "{report}");
    let said = forward.stop();
    assert!(!said.contains("could not connect") && !said.contains("lost"), "{said}");
}

/// A server of our own, run by a user who owns nothing else.
struct Postgres {
    bin: PathBuf,
    folder: TempDir,
    port: u16,
    process: Process,
}

impl Postgres {
    fn start() -> Self {
        let (bin, account) = (postgres_bin(), Account::unprivileged());
        let folder = account.folder();
        let data = folder.path().join("data");
        let mut initdb = account.command(bin.join("initdb"));
        initdb.args([
            "--username=tester",
            "--auth=trust",
            "--encoding=UTF8",
            "--no-sync",
            "--no-locale",
            "-D",
        ]);
        run(initdb.arg(&data).current_dir(folder.path()));
        let port = free_port();
        let mut server = account.command(bin.join("postgres"));
        server.arg("-D").arg(&data).current_dir(folder.path());
        for option in ["listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off"] {
            server.args(["-c", option]);
        }
        let process = Process::spawn(server.args(["-p", &port.to_string()]));
        process.until_says("database system is ready to accept connections");
        assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok());
        Self { bin, folder, port, process }
    }

    /// A program of PostgreSQL's that connects through `forward`.
    fn client(&self, program: &str, forward: &Forward) -> Command {
        let mut command = Command::new(self.bin.join(program));
        command.env("PGHOST", "127.0.0.1").env("PGPORT", forward.local.port().to_string());
        command.env("PGUSER", "tester").env("PGDATABASE", "postgres").env("PGCONNECT_TIMEOUT", "30");
        command.current_dir(self.folder.path());
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Ends every backend at once; a server that was killed would leave its shared memory behind.
        self.process.signal(Signal::QUIT);
        self.process.wait_quietly();
    }
}
