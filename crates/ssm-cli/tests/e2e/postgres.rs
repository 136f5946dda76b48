//! PostgreSQL through `ssm forward`.

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
#[cfg(feature = "db")]
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use rustix::process::Signal;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::support::process::{Process, run};
use crate::support::system::{Account, free_port, postgres_bin};
use crate::support::{FAST, Forward, Loopback, hex};

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
fn pgbench_with_thirty_two_clients_keeps_the_books_in_balance() {
    let (loopback, server) = (Loopback::start(), Postgres::start());
    let forward = loopback.forward(server.port, &[]);
    run(server.direct("pgbench").args(["-i", "-q", "-s", "4"]));
    let report = run(server.client("pgbench", &forward).args(["-n", "-c", "32", "-j", "2", "-t", "12"]));
    assert!(report.contains("number of transactions actually processed: 384/384"), "{report}");
    assert!(report.contains("number of failed transactions: 0 "), "{report}");
    let balance = "select (select sum(abalance) from pgbench_accounts) = (select sum(bbalance) from pgbench_branches),
                          (select sum(delta) from pgbench_history) = (select sum(tbalance) from pgbench_tellers),
                          (select count(*) from pgbench_history)";
    let balance = run(server.client("psql", &forward).args(["-X", "-At", "-c", balance]));
    assert_eq!(balance, "t|t|384\n");
    // A connection for each transaction.
    let report = run(server.client("pgbench", &forward).args(["-n", "-C", "-S", "-c", "8", "-t", "10"]));
    assert!(report.contains("number of transactions actually processed: 80/80"), "{report}");
    let said = forward.stop();
    assert!(!said.contains("could not connect") && !said.contains("lost"), "{said}");
}

#[test]
fn a_dump_made_by_the_command_of_a_forward_is_that_of_a_direct_connection() {
    let (loopback, server) = (Loopback::start(), Postgres::start());
    run(server.direct("pgbench").args(["-i", "-q", "-s", "2"]));
    let direct = run(&mut server.direct("pg_dump"));
    let spec = format!("0:{}", server.port);
    let mut forward = loopback.ssm(&["forward", &loopback.target, "-L", &spec]);
    forward.args(FAST).arg("--").arg(server.bin.join("pg_dump")).args(["-h", "{host}", "-p", "{port}"]);
    let through = run(forward.args(["-U", "tester", "postgres"]));
    assert!(direct.len() > 10_000_000, "{} bytes", direct.len());
    assert_eq!(dump_digest(&through), dump_digest(&direct));
}

#[test]
fn a_command_that_fails_gives_its_exit_code_and_its_words() {
    let (loopback, server) = (Loopback::start(), Postgres::start());
    let spec = format!("0:{}", server.port);
    let mut forward = loopback.ssm(&["forward", &loopback.target, "-L", &spec, "--"]);
    forward.arg(server.bin.join("psql")).args([
        "-X",
        "-v",
        "ON_ERROR_STOP=1",
        "-h",
        "{host}",
        "-p",
        "{port}",
    ]);
    let mut forward =
        Process::spawn(forward.args(["-U", "tester", "-c", "select 1", "-c", "select 1/0", "postgres"]));
    assert_eq!(forward.wait().code(), Some(1), "{}", forward.stderr());
    assert!(forward.stderr().contains("division by zero"), "{}", forward.stderr());
    assert!(forward.stdout().contains("(1 row)"), "{}", forward.stdout());
}

/// The digest of a dump without the random words that newer versions of pg_dump put around it.
fn dump_digest(dump: &str) -> String {
    let is_random = |line: &&str| line.starts_with("\\restrict ") || line.starts_with("\\unrestrict ");
    let mut digest = Sha256::new();
    for line in dump.split_inclusive('\n').filter(|line| !is_random(line)) {
        digest.update(line);
    }
    hex(&digest.finalize())
}

/// A server of our own, run by a user who owns nothing else.
pub(crate) struct Postgres {
    bin: PathBuf,
    folder: TempDir,
    pub(crate) port: u16,
    process: Process,
}

impl Postgres {
    pub(crate) fn start() -> Self {
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

    /// Makes a user who has to show this password.
    #[cfg(feature = "db")]
    pub(crate) fn add_user(&self, user: &str, password: &str) {
        let rules = self.folder.path().join("data/pg_hba.conf");
        let trust = fs::read_to_string(&rules).unwrap();
        fs::write(&rules, format!("host all {user} 127.0.0.1/32 scram-sha-256\n{trust}")).unwrap();
        self.administer(&format!("create role {user} login password '{password}'"));
        self.administer("select pg_reload_conf()");
    }

    /// Has the server show a certificate for `name`; gives the path of its authority's.
    #[cfg(feature = "db")]
    pub(crate) fn show_certificate(&self, name: &str) -> PathBuf {
        let account = Account::unprivileged();
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate =
            rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap().self_signed(&key).unwrap();
        for (file, text) in [("server.crt", certificate.pem()), ("server.key", key.serialize_pem())] {
            let path = self.folder.path().join("data").join(file);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            account.give(&path);
        }
        self.administer("alter system set ssl = on");
        self.administer("select pg_reload_conf()");
        let shown = || run(self.direct("psql").args(["-X", "-At", "-c", "show ssl"])) == "on\n";
        self.process.until_true("its certificate", shown);
        let authority = self.folder.path().join("authority.pem");
        fs::write(&authority, certificate.pem()).unwrap();
        authority
    }

    #[cfg(feature = "db")]
    fn administer(&self, statement: &str) {
        run(self.direct("psql").args(["-X", "-v", "ON_ERROR_STOP=1", "-c", statement]));
    }

    /// A program of PostgreSQL's.
    #[cfg(feature = "db")]
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.bin.join(name)
    }

    /// A program of PostgreSQL's that connects through `forward`.
    pub(crate) fn client(&self, program: &str, forward: &Forward) -> Command {
        self.client_of(program, forward.local.port())
    }

    /// A program of PostgreSQL's that connects to the server itself.
    pub(crate) fn direct(&self, program: &str) -> Command {
        self.client_of(program, self.port)
    }

    fn client_of(&self, program: &str, port: u16) -> Command {
        let mut command = Command::new(self.bin.join(program));
        command.env("PGHOST", "127.0.0.1").env("PGPORT", port.to_string());
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
