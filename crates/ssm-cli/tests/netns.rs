//! Real networks that change: service and client in network namespaces of their own, with a cable between them.
//!
//! ```text
//!  this process         namespace a                                            namespace b
//!  UNIX socket          loopback 127.0.0.1 ◄─ TLS relay 10.77.0.1 ◄── veth ──► 10.77.0.2  ssm forward
//! ```

#![cfg(all(feature = "aws", feature = "demo", target_os = "linux"))]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::Value;
use ssm_loopback::{Config, Loopback};
use tempfile::TempDir;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::{Notify, oneshot};

use common::outside::{acceptor, relay};
use common::transfer::Transfer;
use common::{Program, SSM};

const SERVICE: &str = "10.77.0.1";
const CLIENT: &str = "10.77.0.2/24";
const ELSEWHERE: &str = "10.77.0.3/24";

/// Names of the service, where it is reached by names.
const API: &str = "ssm.example.test";
const STREAMS: &str = "ssmmessages.example.test";

/// Seconds for which the link is down. Without it is down until the third attempt to connect again.
const LINK_DOWN: &str = "SSM_LINK_DOWN_SECONDS";

#[test]
fn a_transfer_goes_on_when_the_machine_has_another_address() {
    let mut network = Network::new(1500, Reached::ByAddress);
    network.transfer(|network, rest| {
        network.client(&["addr", "del", CLIENT, "dev", "cable"]);
        network.client(&["addr", "add", ELSEWHERE, "dev", "cable"]);
        rest();
    });
    let (redial, _) = network.events("redial");
    let cause = redial[0]["cause"].as_str().unwrap();
    assert!(cause.contains("this machine has not the address 10.77.0.2 any more"), "{cause}");
    network.end();
}

#[test]
fn a_transfer_goes_on_when_the_link_was_down() {
    let mut network = Network::new(1500, Reached::ByAddress);
    network.transfer(|network, rest| {
        network.client(&["link", "set", "cable", "down"]);
        let down = Instant::now();
        rest();
        // Down until the connection is given up, and longer than the first attempts to bring it back.
        network.until(|forward| forward.stdout().matches("\"redial\"").count() >= 3);
        thread::sleep(link_down().saturating_sub(down.elapsed()));
        network.client(&["link", "set", "cable", "up"]);
    });
    let (redial, lines) = network.events("redial");
    assert!(redial[0]["cause"].as_str().unwrap().contains("nothing came for too long"), "{lines}");
    network.end();
}

#[test]
fn a_transfer_goes_on_when_names_were_not_found_for_a_while() {
    let mut network = Network::new(1500, Reached::ByName);
    let stream = format!("the data channel is not open yet: cannot connect to {STREAMS}");
    let api = format!(
        "the session is not resumed yet: the Systems Manager API was not reached: cannot connect to {API}"
    );
    network.transfer(|network, rest| {
        network.names.set(STREAMS, Answer::NotKnown);
        network.cut.notify_one();
        rest();
        network.until(|forward| told(forward, &[&stream, "Name or service not known"]));
        network.names.set(STREAMS, Answer::Failure);
        network.until(|forward| told(forward, &[&stream, "Temporary failure in name resolution"]));
        network.names.set(API, Answer::NotKnown);
        network.until(|forward| told(forward, &[&api, "Name or service not known"]));
        network.names.set(API, Answer::None);
        network.until(|forward| told(forward, &[&api, "Temporary failure in name resolution"]));
        for name in [API, STREAMS] {
            network.names.set(name, Answer::Known);
        }
    });
    network.end();
}

/// Whether one attempt failed for this reason, as an event and in words.
fn told(forward: &Program, reason: &[&str]) -> bool {
    let in_one = |lines: &str, first: &str| {
        let mut lines = lines.lines().filter(|line| line.contains(first));
        lines.any(|line| reason.iter().all(|words| line.contains(words)))
    };
    in_one(&forward.stdout(), "\"redial\"") && in_one(&forward.stderr(), "connecting again, for the ")
}

#[test]
fn who_gives_up_while_names_are_not_answered_does_not_wait() {
    let mut network = Network::new(1500, Reached::ByName);
    network.names.set(API, Answer::None);
    network.cut.notify_one();
    let names = Arc::clone(&network.names);
    network.until(|_| names.unanswered.load(Ordering::SeqCst) > 0);
    let left = Instant::now();
    network.forward.signal(Signal::INT);
    let outcome = network.forward.wait();
    assert_eq!(outcome.status.code(), Some(0), "{}", outcome.stderr);
    assert!(left.elapsed() < Duration::from_secs(4), "{:?}: {}", left.elapsed(), outcome.stderr);
}

#[test]
fn small_packets_carry_a_transfer() {
    let mut network = Network::new(576, Reached::ByAddress);
    network.transfer(|_, rest| rest());
    let (redials, lines) = network.events("redial");
    assert_eq!(redials.len(), 0, "{lines}");
    network.end();
}

/// How long the link is down at least.
fn link_down() -> Duration {
    Duration::from_secs(std::env::var(LINK_DOWN).map_or(0, |seconds| seconds.parse().unwrap()))
}

/// Both namespaces, the service in one, a forward in the other.
struct Network {
    _a: Namespace,
    b: Namespace,
    forward: Program,
    socket: PathBuf,
    /// Ends every connection to the service.
    cut: Arc<Notify>,
    names: Arc<Names>,
    _folder: TempDir,
    service: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

/// How the client reaches the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reached {
    ByAddress,
    /// It asks the namespace of the service for the addresses of names.
    ByName,
}

impl Network {
    fn new(mtu: u16, reached: Reached) -> Self {
        let (a, b) = (Namespace::new("a"), Namespace::new("b"));
        let mtu = mtu.to_string();
        ip(&[
            "-n", &a.0, "link", "add", "cable", "mtu", &mtu, "type", "veth", "peer", "name", "cable",
            "netns", &b.0,
        ]);
        ip(&["-n", &b.0, "link", "set", "cable", "mtu", &mtu]);
        for (namespace, address) in [(&a, "10.77.0.1/24"), (&b, CLIENT)] {
            ip(&["-n", &namespace.0, "addr", "add", address, "dev", "cable"]);
            ip(&["-n", &namespace.0, "link", "set", "lo", "up"]);
            ip(&["-n", &namespace.0, "link", "set", "cable", "up"]);
        }
        let folder = tempfile::tempdir().unwrap();
        let authority = folder.path().join("ca.pem");
        let (cut, names) = (Arc::new(Notify::new()), Arc::new(Names::default()));
        let (served, stop, service) = serve(&a, &authority, Arc::clone(&cut), Arc::clone(&names));
        let socket = folder.path().join("s");
        let hosts = match reached {
            Reached::ByAddress => [SERVICE; 2],
            Reached::ByName => [API, STREAMS],
        };
        let urls = hosts.map(|host| format!("https://{host}:{}", served.relay));
        let spec = format!("{}:{}", socket.display(), served.echo);
        let resolver = folder.path().join("resolv.conf");
        fs::write(&resolver, format!("nameserver {SERVICE}\noptions timeout:5 attempts:1\n")).unwrap();
        let mut command = common::ssm(&[]);
        // The variables and nothing else are taken over.
        let mut forward = Command::new("ip");
        forward.args(["netns", "exec", &b.0]);
        // Its file system is its own, too.
        let mount = "mount --bind \"$0\" /etc/resolv.conf && exec \"$@\"";
        forward.args(["sh", "-c", mount]).arg(resolver).args([SSM, "forward", &served.target, "-L", &spec]);
        forward.args(["--json", "-v", "--endpoint-url", &urls[0], "--ssmmessages-endpoint-url", &urls[1]]);
        forward.arg("--ca-bundle").arg(&authority);
        command.env("AWS_ACCESS_KEY_ID", served.access_key).env("AWS_SECRET_ACCESS_KEY", served.secret_key);
        command.env("AWS_REGION", "us-east-1").env("XDG_RUNTIME_DIR", folder.path());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => forward.env(name, value),
                None => forward.env_remove(name),
            };
        }
        let mut forward = Program::start(&mut forward);
        forward.wait_for(|forward| forward.stdout().contains("\"ready\"").then_some(()));
        let service = Some((stop, service));
        Self { _a: a, b, forward, socket, cut, names, _folder: folder, service }
    }

    /// Waits until it is so.
    fn until(&mut self, is_so: impl Fn(&Program) -> bool) {
        self.forward.wait_for(|forward| is_so(forward).then_some(()));
    }

    /// `ip` in the namespace of the client.
    fn client(&self, arguments: &[&str]) {
        ip(&[&["-n", &self.b.0], arguments].concat());
    }

    /// Sends bytes to an echo and takes them back, with something happening in the middle, which says when the rest is to follow.
    /// All arrive, each once.
    fn transfer(&mut self, happen: impl FnOnce(&mut Self, &dyn Fn())) {
        let out = UnixStream::connect(&self.socket).unwrap();
        let back = out.try_clone().unwrap();
        back.set_read_timeout(Some(Duration::from_secs(90) + link_down())).unwrap();
        let transfer = Transfer::start(out, back);
        transfer.halfway();
        happen(self, &|| transfer.rest());
        transfer.finish();
    }

    /// The events of this name, and all of them.
    fn events(&self, name: &str) -> (Vec<Value>, String) {
        let lines = self.forward.stdout();
        let events = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        (events.filter(|event| event["event"] == name).collect(), lines)
    }

    fn end(mut self) {
        let (resumed, lines) = self.events("resumed");
        assert_eq!(resumed.is_empty(), self.events("redial").0.is_empty(), "{lines}");
        assert_eq!(self.events("session_started").0.len(), 1, "{lines}");
        self.forward.signal(Signal::INT);
        let outcome = self.forward.wait();
        assert_eq!(outcome.status.code(), Some(0), "{}", outcome.stderr);
        let (stop, service) = self.service.take().unwrap();
        let _ = stop.send(());
        service.join().unwrap();
    }
}

/// What runs in the namespace of the service.
struct Served {
    target: String,
    access_key: String,
    secret_key: String,
    relay: u16,
    echo: u16,
}

fn serve(
    namespace: &Namespace,
    authority: &Path,
    cut: Arc<Notify>,
    names: Arc<Names>,
) -> (Served, oneshot::Sender<()>, JoinHandle<()>) {
    let acceptor = acceptor(&[SERVICE, API, STREAMS], authority);
    let link = File::open(format!("/run/netns/{}", namespace.0)).unwrap();
    let (tell, told) = mpsc::channel();
    let (stop, stopped) = oneshot::channel();
    let thread = thread::spawn(move || {
        // Only this thread: everything that the runtime opens is there.
        move_into_link_name_space(link.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let loopback = Loopback::start(Config::default()).await.unwrap();
            let gateway: u16 = loopback.endpoint_url().rsplit_once(':').unwrap().1.parse().unwrap();
            let lines = TcpListener::bind((SERVICE, 0)).await.unwrap();
            let questions = UdpSocket::bind((SERVICE, 53)).await.unwrap();
            let echo = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let served = Served {
                target: loopback.target().to_owned(),
                access_key: loopback.access_key().to_owned(),
                secret_key: loopback.secret_key().expose().clone(),
                relay: lines.local_addr().unwrap().port(),
                echo: echo.local_addr().unwrap().port(),
            };
            tell.send(served).map_err(drop).unwrap();
            tokio::spawn(relay(lines, acceptor, gateway, cut));
            tokio::spawn(async move { names.serve(&questions).await });
            tokio::spawn(async move {
                while let Ok((mut stream, _)) = echo.accept().await {
                    tokio::spawn(async move {
                        let (mut from, mut to) = stream.split();
                        let _ = tokio::io::copy(&mut from, &mut to).await;
                    });
                }
            });
            let _ = stopped.await;
            loopback.shutdown().await;
        });
    });
    (told.recv().unwrap(), stop, thread)
}

/// Who is asked for the addresses of the service's names, as RFC 1035 has it.
#[derive(Default)]
struct Names {
    answers: Mutex<Vec<(&'static str, Answer)>>,
    unanswered: AtomicU32,
}

/// What comes of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Known,
    NotKnown,
    Failure,
    None,
}

impl Names {
    fn set(&self, name: &'static str, answer: Answer) {
        self.answers.lock().unwrap().push((name, answer));
    }

    fn of(&self, name: &str) -> Answer {
        let answers = self.answers.lock().unwrap();
        answers.iter().rfind(|(known, _)| *known == name).map_or(Answer::Known, |(_, answer)| *answer)
    }

    async fn serve(&self, socket: &UdpSocket) {
        let mut query = [0; 512];
        while let Ok((len, from)) = socket.recv_from(&mut query).await {
            let (name, end) = name_of(&query[..len]);
            let code = match self.of(&name) {
                Answer::Known => 0,
                Answer::Failure => 2,
                Answer::NotKnown => 3,
                Answer::None => {
                    self.unanswered.fetch_add(1, Ordering::SeqCst);
                    continue;
                }
            };
            // There is no address but of IPv4.
            let found = code == 0 && query[end..end + 2] == [0, 1];
            let mut answer = query[..end + 4].to_vec();
            answer[2..12].copy_from_slice(&[0x81, 0x80 | code, 0, 1, 0, u8::from(found), 0, 0, 0, 0]);
            if found {
                answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 10, 77, 0, 1]);
            }
            socket.send_to(&answer, from).await.unwrap();
        }
    }
}

/// The name that is asked for, and where it ends.
fn name_of(query: &[u8]) -> (String, usize) {
    let (mut labels, mut at) = (Vec::new(), 12);
    while query[at] > 0 {
        let next = at + 1 + usize::from(query[at]);
        labels.push(String::from_utf8_lossy(&query[at + 1..next]).into_owned());
        at = next;
    }
    (labels.join("."), at + 1)
}

/// A network namespace with a name, until it is dropped.
struct Namespace(String);

impl Namespace {
    fn new(name: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let namespace = Self(format!("ssm-test-{}-{number}-{name}", process::id()));
        ip(&["netns", "add", &namespace.0]);
        namespace
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).output();
    }
}

fn ip(arguments: &[&str]) {
    let outcome = Command::new("ip").args(arguments).output();
    let outcome = outcome.unwrap_or_else(|error| panic!("ip does not run ({error}): run cargo xtask setup"));
    let said = String::from_utf8_lossy(&outcome.stderr);
    assert!(outcome.status.success(), "this test needs network namespaces: ip {arguments:?}: {said}");
}
