//! nginx through `ssm forward`, with wrk and curl, which enter by every door there is.

use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::Command;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::nginx::{Nginx, ipv6_literal};
use crate::support::process::{Process, run};
use crate::support::{FAR_NAME, FAST, Forward, Loopback, file_digest, random_file};

#[test]
fn wrk_with_two_hundred_connections_sees_no_error() {
    let (loopback, nginx) = (Loopback::start(), Nginx::start());
    fs::write(nginx.file("page.html"), "x".repeat(5_000)).unwrap();
    for lanes in ["1", "4"] {
        let forward = loopback.forward(nginx.port, &[FAST, &["--lanes", lanes]].concat());
        let url = format!("http://{}/page.html", forward.local);
        let mut wrk = loopback.command("wrk");
        let report = run(wrk.args(["-t", "2", "-c", "200", "-d", "2s", "--timeout", "30s", &url]));
        assert!(!report.contains("Socket errors") && !report.contains("Non-2xx"), "{report}");
        let requests =
            report.lines().find_map(|line| line.trim().split_once(" requests in ")?.0.parse().ok());
        // Every connection got its answer, and more than one.
        assert!(requests.is_some_and(|requests: u32| requests > 400), "{report}");
        let said = forward.stop();
        assert!(!said.contains("connection "), "{said}");
    }
}

#[test]
fn large_files_arrive_unchanged_through_every_door() {
    let (loopback, nginx) = (Loopback::start(), Nginx::start());
    let folder = TempDir::new().unwrap();
    let (original, digest) = random_file(folder.path(), 24 * 1024 * 1024);
    fs::copy(&original, nginx.file("large")).unwrap();
    let downloaded = folder.path().join("downloaded");
    let doors = Doors::open(&loopback, "localhost", nginx.port);
    for door in DOORS {
        let url = |path: &str| doors.url(door, path);
        run(doors.curl(door).arg("-o").arg(&downloaded).arg(url("large")));
        assert_eq!(file_digest(&downloaded), digest, "{door:?}");
        run(doors.curl(door).arg("-T").arg(&original).arg(url(&format!("put-{door:?}"))));
        assert_eq!(file_digest(&nginx.file(&format!("put-{door:?}"))), digest, "{door:?}");
        let body = format!("@{}", original.display());
        run(doors.curl(door).args(["--data-binary", &body]).arg(url(&format!("post/post-{door:?}"))));
        assert_eq!(file_digest(&nginx.file(&format!("post-{door:?}"))), digest, "{door:?}");
    }
}

#[test]
fn connections_are_kept_alive_and_bodies_may_come_in_chunks() {
    let (loopback, nginx) = (Loopback::start(), Nginx::start());
    let text: String = (0..200_000).map(|line| format!("line {line}\n")).collect();
    fs::write(nginx.file("lines.txt"), &text).unwrap();
    let doors = Doors::open(&loopback, "localhost", nginx.port);
    for door in DOORS {
        let url = doors.url(door, "lines.txt");
        let mut twice = doors.curl(door);
        let connects =
            run(twice.args(["-w", "%{num_connects} ", "-o", "/dev/null", &url, "-o", "/dev/null", &url]));
        assert_eq!(connects, "1 0 ", "{door:?}");

        let mut command = doors.curl(door);
        let headers = nginx.file("headers");
        let got = run(command.arg("--compressed").arg("-D").arg(&headers).arg(&url));
        let headers = fs::read_to_string(headers).unwrap().to_ascii_lowercase();
        assert!(headers.contains("transfer-encoding: chunked"), "{headers}");
        assert!(got == text, "{door:?}: {} bytes", got.len());

        let name = format!("put-{door:?}");
        let mut command = doors.curl(door);
        command.args(["-T", "-", &doors.url(door, &name)]);
        let (process, mut stdin) = Process::spawn_with_stdin(&mut command);
        stdin.write_all(text.as_bytes()).unwrap();
        drop(stdin);
        process.success();
        assert!(fs::read_to_string(nginx.file(&name)).unwrap() == text, "{door:?}");
    }
}

#[test]
fn an_ipv6_literal_is_reached_through_every_door() {
    let (loopback, nginx) = (Loopback::start(), Nginx::start());
    fs::write(nginx.file("page.html"), "hello").unwrap();
    let doors = Doors::open(&loopback, ipv6_literal(), nginx.port);
    for door in DOORS {
        assert_eq!(run(doors.curl(door).arg(doors.url(door, "page.html"))), "hello", "{door:?}");
    }
}

#[test]
fn a_stopped_download_in_a_lane_of_its_own_is_whole_when_it_goes_on() {
    let (download, said) = stopped_download(&["--lanes", "2"]);
    assert_eq!(download, Ok(()), "{said}");
}

#[test]
fn a_stopped_download_gives_way_when_it_holds_up_its_lane() {
    let (download, said) = stopped_download(&[]);
    let told = "ssm: connection 1 was reset: its program did not read";
    assert!(download.is_err() && said.contains(told), "{download:?} {said}");
}

/// Stops a curl in the middle of a large file until thirty others had their answers. Returns how it ended, and what the forward
/// said.
fn stopped_download(args: &[&str]) -> (Result<(), String>, String) {
    const LEN: usize = 64 * 1024 * 1024;
    let (loopback, nginx, folder) = (Loopback::start(), Nginx::start(), TempDir::new().unwrap());
    let (original, digest) = random_file(folder.path(), LEN);
    fs::copy(&original, nginx.file("large")).unwrap();
    fs::write(nginx.file("page.html"), "hello").unwrap();
    let forward = loopback.forward(nginx.port, &[FAST, args].concat());
    let curl = || {
        let mut curl = loopback.command("curl");
        curl.args(["-sS", "--fail", "--max-time", "60"]);
        curl
    };
    let downloaded = folder.path().join("downloaded");
    let len = || downloaded.metadata().map_or(0, |file| file.len());
    let mut download = curl();
    download.arg("-o").arg(&downloaded).arg(format!("http://{}/large", forward.local));
    let mut download = Process::spawn(&mut download);
    download.until_true("first bytes", || len() > 0);
    download.signal(Signal::STOP);
    for _ in 0..30 {
        assert_eq!(run(curl().arg(format!("http://{}/page.html", forward.local))), "hello");
    }
    assert!(len() < LEN as u64, "it was over before it was stopped");
    download.signal(Signal::CONT);
    let ended = if download.wait().success() { Ok(()) } else { Err(download.stderr()) };
    assert!(ended.is_err() || file_digest(&downloaded) == digest);
    (ended, forward.stop())
}

#[test]
fn a_name_that_only_the_far_side_knows_is_reached() {
    let (loopback, nginx) = (Loopback::with_far_name(&[]), Nginx::start());
    fs::write(nginx.file("page.html"), "hello").unwrap();
    let doors = Doors::open(&loopback, FAR_NAME, nginx.port);
    for door in [Door::Local, Door::Socks5h, Door::Connect] {
        assert_eq!(run(doors.curl(door).arg(doors.url(door, "page.html"))), "hello", "{door:?}");
    }
    // With socks5:// it is curl that looks the name up, on this side.
    let mut near = Process::spawn(doors.curl(Door::Socks5).arg(doors.url(Door::Socks5, "page.html")));
    assert!(!near.wait().success(), "this side knows the name too");
    assert!(near.stderr().contains(FAR_NAME), "{}", near.stderr());
}

#[test]
fn a_session_that_does_not_start_is_told_in_the_words_of_the_protocol() {
    let loopback = Loopback::start();
    let forward = loopback.forward_through("i-00000000000000000", &["-D", "0"]);
    // SOCKS5 has 4 for a host that cannot be reached.
    for (door, told) in [
        (Door::Socks5h, "Can't complete SOCKS5 connection to localhost. (4)"),
        (Door::Socks5, "(4)"),
        (Door::Connect, "502"),
    ] {
        let mut curl = Process::spawn(curl(&loopback, door, forward.local).arg("http://localhost:80/"));
        assert!(!curl.wait().success());
        assert!(curl.stderr().contains(told), "{door:?}: {}", curl.stderr());
    }
}

#[test]
fn a_port_that_refuses_ends_the_request_and_not_the_forward() {
    let (loopback, nginx) = (Loopback::start(), Nginx::start());
    fs::write(nginx.file("page.html"), "hello").unwrap();
    let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let doors = Doors::open(&loopback, "localhost", closed);
    for _ in 0..2 {
        for door in DOORS {
            let mut command = doors.curl(door);
            let mut curl = Process::spawn(command.arg(doors.url(door, "")));
            // A reset: before curl has looked at its new connection, or after it has sent the request, or before the answer.
            let status = curl.wait();
            assert!(matches!(status.code(), Some(7 | 55 | 56)), "{door:?}, {status}: {}", curl.stderr());
        }
    }
    let url = format!("http://localhost:{}/page.html", nginx.port);
    assert_eq!(run(doors.curl(Door::Socks5h).arg(url)), "hello");
}

/// A way into the tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Door {
    Local,
    Socks5h,
    Socks5,
    Connect,
}

const DOORS: [Door; 4] = [Door::Local, Door::Socks5h, Door::Socks5, Door::Connect];

/// `-L` and `-D`, to one host and port.
struct Doors<'a> {
    loopback: &'a Loopback,
    local: Forward,
    proxy: Forward,
    host: &'a str,
    port: u16,
}

impl<'a> Doors<'a> {
    fn open(loopback: &'a Loopback, host: &'a str, port: u16) -> Self {
        let local = loopback.forward_as(&[FAST, &["-L", &format!("0:{host}:{port}")]].concat());
        let proxy = loopback.forward_as(&[FAST, &["-D", "0"]].concat());
        Self { loopback, local, proxy, host, port }
    }

    fn curl(&self, door: Door) -> Command {
        curl(self.loopback, door, self.proxy.local)
    }

    fn url(&self, door: Door, path: &str) -> String {
        match door {
            Door::Local => format!("http://{}/{path}", self.local.local),
            Door::Socks5h | Door::Socks5 | Door::Connect => {
                format!("http://{}:{}/{path}", self.host, self.port)
            }
        }
    }
}

fn curl(loopback: &Loopback, door: Door, proxy: SocketAddr) -> Command {
    let mut curl = loopback.command("curl");
    curl.args(["-sS", "--fail", "--max-time", "60"]);
    match door {
        Door::Local => &mut curl,
        Door::Socks5h => curl.args(["-x", &format!("socks5h://{proxy}")]),
        Door::Socks5 => curl.args(["-x", &format!("socks5://{proxy}")]),
        Door::Connect => curl.args(["-p", "-x", &format!("http://{proxy}")]),
    };
    curl
}
