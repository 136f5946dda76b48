//! The program under load while the gateway cuts every few seconds and loses 1 %: nothing is lost, wrong, or grows.
//!
//! `cargo xtask soak --minutes 30` runs it for as long as that; a test run for 20 s.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use crate::postgres::Postgres;
use crate::support::Loopback;
use crate::support::process::{Process, run};
use crate::support::server::{Server, connect};

/// How long it takes, in seconds.
const SECONDS: &str = "SSM_SOAK_SECONDS";
const LANES: &str = "4";
/// Half of them live as long as the soak, half as long as one transfer.
const CONNECTIONS: u64 = 64;
/// Largest transfer but each sixteenth, which is as much times sixteen.
const LARGE: u64 = 48 * 1024;
const THINK: Duration = Duration::from_millis(250);
/// How long one run of pgbench takes.
const BENCH: Duration = Duration::from_secs(30);
/// A destination's answer to an upload that came as it should.
const RIGHT: u8 = b'=';

const FAULTS: &[&str] =
    &["cut=5s,jitter=3s", "close=1000,every=9s,jitter=4s", "reset=13s,jitter=5s", "loss=1%", "seed=1"];

#[test]
fn everything_survives_a_gateway_that_cuts_and_loses() {
    let time = Duration::from_secs(std::env::var(SECONDS).map_or(20, |seconds| seconds.parse().unwrap()));
    let faults: Vec<&str> = FAULTS.iter().flat_map(|fault| ["--fault", fault]).collect();
    let (loopback, server, postgres) = (Loopback::with(&faults), Server::start(serve), Postgres::start());
    run(postgres.direct("pgbench").args(["-i", "-q", "-s", "2"]));
    let forward = loopback.forward(server.port(), &["--lanes", LANES]);
    let database = loopback.forward(postgres.port, &[]);
    let (shell, mut typed) = Process::spawn_with_stdin(&mut loopback.ssm(&["shell", &loopback.target]));

    let soak = Soak { end: Instant::now() + time, ..Soak::new() };
    let mut watched = [
        Watched::new("forward, 4 lanes", forward.process.pid()),
        Watched::new("forward, PostgreSQL", database.process.pid()),
        Watched::new("shell", shell.pid()),
        Watched::new("gateway and agent", loopback.pid()),
    ];
    let mut answers = 0;
    let bench = thread::scope(|scope| {
        for worker in 0..CONNECTIONS {
            let soak = &soak;
            scope.spawn(move || soak.work(worker, forward.local));
        }
        let bench = scope.spawn(|| {
            let (mut transactions, mut end) = (0, Instant::now());
            // Each run has connections of its own.
            while let Some(left) = soak.end.checked_duration_since(end).filter(|left| !left.is_zero()) {
                let seconds = left.min(BENCH).as_secs().max(1).to_string();
                let args = ["-n", "-c", "4", "-j", "2", "-R", "40", "-T", &seconds];
                transactions += transactions_of(&run(postgres.client("pgbench", &database).args(args)));
                end = Instant::now();
            }
            transactions
        });
        scope.spawn(|| {
            while Instant::now() < soak.end {
                sleep((time / 400).min(Duration::from_secs(5)));
                watched.iter_mut().for_each(Watched::look);
            }
        });
        while Instant::now() < soak.end {
            answers += 1;
            writeln!(typed, "echo is{answers}-$(({answers}*7))-").unwrap();
            let answer = format!("is{answers}-{}-", answers * 7);
            shell.until("the answer", |text| text.contains(&answer).then_some(()));
            sleep(THINK);
        }
        bench.join().unwrap()
    });
    typed.write_all(b"exit\n").unwrap();
    drop(typed);
    let said_by_shell = shell.stderr();
    shell.success();
    let balance = "select (select sum(abalance) from pgbench_accounts) = (select sum(bbalance) from pgbench_branches),
                          (select sum(delta) from pgbench_history) = (select sum(tbalance) from pgbench_tellers)";
    let balance = run(postgres.client("psql", &database).args(["-X", "-At", "-c", balance]));
    let resumes = [forward.stop(), database.stop(), said_by_shell]
        .map(|said| said.lines().filter(|line| line.contains("connected again")).count());

    let report = soak.report(time, answers, bench, resumes, &watched);
    println!("{report}");
    assert_eq!((soak.wrong.load(Ordering::Relaxed), soak.lost()), (0, 0), "{report}");
    assert_eq!(balance, "t|t\n");
    assert!(resumes.iter().all(|resumes| *resumes > 0), "{report}");
    watched.iter().for_each(Watched::assert_flat);
}

/// What the connections have done.
struct Soak {
    end: Instant,
    transfers: AtomicU64,
    bytes: AtomicU64,
    wrong: AtomicU64,
    /// Connections that ended before their time, with what they said.
    broken: Mutex<Vec<String>>,
    /// A connection has failed: the rest need not go on.
    failed: AtomicBool,
}

impl Soak {
    fn new() -> Self {
        Self {
            end: Instant::now(),
            transfers: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            wrong: AtomicU64::new(0),
            broken: Mutex::default(),
            failed: AtomicBool::new(false),
        }
    }

    fn lost(&self) -> usize {
        self.broken.lock().unwrap().len()
    }

    /// One connection after the other, or one for all the time, with a transfer now and then.
    fn work(&self, worker: u64, addr: SocketAddr) {
        let lasting = worker.is_multiple_of(2);
        let mut state = worker + 1;
        let mut stream = lasting.then(|| connect(addr));
        while Instant::now() < self.end && !self.failed.load(Ordering::Relaxed) {
            let seed = next(&mut state);
            let len = 1 + next(&mut state) % if seed.is_multiple_of(16) { 16 * LARGE } else { LARGE };
            let kind = [b'u', b'd', b'e'][(seed / 16 % 3) as usize];
            let done = match &mut stream {
                Some(stream) => transfer(stream, kind, len, seed),
                None => transfer(&mut connect(addr), kind, len, seed),
            };
            match done {
                Ok(right) => {
                    self.transfers.fetch_add(1, Ordering::Relaxed);
                    self.bytes.fetch_add(if kind == b'e' { 2 * len } else { len }, Ordering::Relaxed);
                    self.wrong.fetch_add(u64::from(!right), Ordering::Relaxed);
                }
                Err(error) => {
                    self.broken.lock().unwrap().push(format!("connection {worker}: {error}"));
                    self.failed.store(true, Ordering::Relaxed);
                }
            }
            sleep(THINK / 2 + THINK * (seed % 100) as u32 / 100);
        }
    }

    fn report(
        &self,
        time: Duration,
        answers: u64,
        transactions: u64,
        [lanes, database, shell]: [usize; 3],
        watched: &[Watched],
    ) -> String {
        let mut text = format!(
            "soak of {} s: {CONNECTIONS} connections over {LANES} lanes, faults {}\n\
             {} transfers, {:.1} MiB, {} wrong, {} connections lost {:?}\n\
             {answers} answers of the shell; {transactions} transactions of PostgreSQL, 0 failed\n\
             resumes: lanes {lanes}, PostgreSQL {database}, shell {shell}\n\n\
             | process | RSS MiB at start | middle | end | descriptors, most in the first half | in the second |\n\
             |---|---|---|---|---|---|\n",
            time.as_secs(),
            FAULTS.join(" "),
            self.transfers.load(Ordering::Relaxed),
            self.bytes.load(Ordering::Relaxed) as f64 / f64::from(1 << 20),
            self.wrong.load(Ordering::Relaxed),
            self.lost(),
            self.broken.lock().unwrap(),
        );
        for watched in watched {
            let [start, middle, end] = watched.memory();
            let [first, second] = watched.descriptors();
            let name = watched.name;
            let _ = writeln!(text, "| {name} | {start:.1} | {middle:.1} | {end:.1} | {first} | {second} |");
        }
        text
    }
}

/// Memory and file descriptors of a process over time.
struct Watched {
    name: &'static str,
    pid: u32,
    /// Bytes and count.
    samples: Vec<(u64, usize)>,
}

impl Watched {
    fn new(name: &'static str, pid: u32) -> Self {
        Self { name, pid, samples: Vec::new() }
    }

    fn look(&mut self) {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        let rss = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:")?.strip_suffix("kB")?.trim().parse::<u64>().ok());
        let descriptors = fs::read_dir(format!("/proc/{}/fd", self.pid)).map_or(0, Iterator::count);
        self.samples.extend(rss.map(|kib| (kib * 1024, descriptors)));
    }

    /// MiB after a tenth of the time, which is for warming up, in the middle and at the end.
    fn memory(&self) -> [f64; 3] {
        let last = self.samples.len().saturating_sub(1);
        [last / 10, last / 2, last]
            .map(|at| self.samples.get(at).map_or(0.0, |(rss, _)| *rss as f64 / f64::from(1 << 20)))
    }

    /// Most descriptors in each half.
    fn descriptors(&self) -> [usize; 2] {
        let (first, second) = self.samples.split_at(self.samples.len() / 2);
        [first, second].map(|half| half.iter().map(|(_, count)| *count).max().unwrap_or_default())
    }

    fn assert_flat(&self) {
        let [start, _, end] = self.memory();
        assert!(!self.samples.is_empty() && end < start * 1.5 + 8.0, "{}: {start} to {end} MiB", self.name);
        let [first, second] = self.descriptors();
        assert!(second <= first + first / 4 + 8, "{}: {first} to {second} descriptors", self.name);
    }
}

/// How many transactions a run of pgbench has made, none of which failed.
fn transactions_of(report: &str) -> u64 {
    assert!(report.contains("number of failed transactions: 0 "), "{report}");
    let count =
        report.lines().find_map(|line| line.strip_prefix("number of transactions actually processed: "));
    count.and_then(|count| count.trim().parse().ok()).unwrap_or_else(|| panic!("{report}"))
}

/// The far side: takes uploads and compares, makes downloads, and sends back.
fn serve(mut stream: TcpStream) -> io::Result<()> {
    let mut head = [0; 17];
    loop {
        if stream.read(&mut head[..1])? == 0 {
            return Ok(());
        }
        stream.read_exact(&mut head[1..])?;
        let number = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().unwrap());
        let (len, seed) = (number(1), number(9));
        match head[0] {
            b'u' => {
                let right = compare(&mut stream, len, seed)?;
                stream.write_all(&[if right { RIGHT } else { b'!' }])?;
            }
            b'd' => stream.write_all(&pattern(len, seed))?,
            _ => {
                let mut data = vec![0; len as usize];
                stream.read_exact(&mut data)?;
                stream.write_all(&data)?;
            }
        }
    }
}

/// One transfer, and whether every byte was right.
fn transfer(stream: &mut TcpStream, kind: u8, len: u64, seed: u64) -> io::Result<bool> {
    let mut request = vec![kind];
    request.extend_from_slice(&len.to_le_bytes());
    request.extend_from_slice(&seed.to_le_bytes());
    if kind != b'd' {
        request.extend_from_slice(&pattern(len, seed));
    }
    stream.write_all(&request)?;
    if kind == b'u' {
        let mut answer = [0];
        stream.read_exact(&mut answer)?;
        return Ok(answer == [RIGHT]);
    }
    compare(stream, len, seed)
}

fn compare(stream: &mut TcpStream, len: u64, seed: u64) -> io::Result<bool> {
    let mut data = vec![0; len as usize];
    stream.read_exact(&mut data)?;
    Ok(data == pattern(len, seed))
}

fn pattern(len: u64, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let words = std::iter::repeat_with(|| next(&mut state).to_le_bytes());
    let mut data: Vec<u8> = words.take(len.div_ceil(8) as usize).flatten().collect();
    data.truncate(len as usize);
    data
}

fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}
