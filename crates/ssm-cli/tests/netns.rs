//! Real networks that change: service and client in network namespaces of their own, with a cable between them.
//!
//! ```text
//!  this process         namespace a                                            namespace b
//!  UNIX socket          loopback 127.0.0.1 ◄─ TLS relay 10.77.0.1 ◄── veth ──► 10.77.0.2  ssm forward
//! ```

#![cfg(all(feature = "aws", feature = "demo", target_os = "linux"))]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{self, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustix::process::Signal;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use ssm_loopback::{Config, Loopback};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

use common::{Program, SSM};

const SERVICE: &str = "10.77.0.1";
const CLIENT: &str = "10.77.0.2/24";
const ELSEWHERE: &str = "10.77.0.3/24";

/// Each way.
const LEN: usize = 3_000_000;

#[test]
fn a_transfer_goes_on_when_the_machine_has_another_address() {
    let mut network = Network::new(1500);
    network.transfer(|network| {
        network.client(&["addr", "del", CLIENT, "dev", "cable"]);
        network.client(&["addr", "add", ELSEWHERE, "dev", "cable"]);
    });
    let (redial, _) = network.events("redial");
    let cause = redial[0]["cause"].as_str().unwrap();
    assert!(cause.contains("this machine has not the address 10.77.0.2 any more"), "{cause}");
    network.end();
}

#[test]
fn a_transfer_goes_on_when_the_link_was_down() {
    let mut network = Network::new(1500);
    network.transfer(|network| {
        network.client(&["link", "set", "cable", "down"]);
        // Down until the connection is given up, and longer than the first attempts to bring it back.
        network
            .forward
            .wait_for(|forward| (forward.stdout().matches("\"redial\"").count() >= 3).then_some(()));
        network.client(&["link", "set", "cable", "up"]);
    });
    let (redial, lines) = network.events("redial");
    assert!(redial[0]["cause"].as_str().unwrap().contains("nothing came for too long"), "{lines}");
    network.end();
}

#[test]
fn small_packets_carry_a_transfer() {
    let mut network = Network::new(576);
    network.transfer(|_| {});
    let (redials, lines) = network.events("redial");
    assert_eq!(redials.len(), 0, "{lines}");
    network.end();
}

/// Both namespaces, the service in one, a forward in the other.
struct Network {
    _a: Namespace,
    b: Namespace,
    forward: Program,
    socket: PathBuf,
    _folder: TempDir,
    service: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl Network {
    fn new(mtu: u16) -> Self {
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
        let (served, stop, service) = serve(&a, &authority);
        let socket = folder.path().join("s");
        let url = format!("https://{SERVICE}:{}", served.relay);
        let spec = format!("{}:{}", socket.display(), served.echo);
        let mut command = common::ssm(&[]);
        // The variables and nothing else are taken over.
        let mut forward = Command::new("ip");
        forward.args(["netns", "exec", &b.0, SSM, "forward", &served.target, "-L", &spec, "--json"]);
        forward
            .args(["--endpoint-url", &url, "--ssmmessages-endpoint-url", &url, "--ca-bundle"])
            .arg(&authority);
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
        Self { _a: a, b, forward, socket, _folder: folder, service: Some((stop, service)) }
    }

    /// `ip` in the namespace of the client.
    fn client(&self, arguments: &[&str]) {
        ip(&[&["-n", &self.b.0], arguments].concat());
    }

    /// Sends bytes to an echo and takes them back, with something happening in the middle. All arrive, each once.
    fn transfer(&mut self, happen: impl FnOnce(&mut Self)) {
        let mut out = UnixStream::connect(&self.socket).unwrap();
        let mut back = out.try_clone().unwrap();
        back.set_read_timeout(Some(Duration::from_secs(90))).unwrap();
        let sent = pattern();
        let (half, halfway) = mpsc::channel();
        let reader = thread::spawn(move || {
            let (mut digest, mut len, mut buf) = (Sha256::new(), 0, [0; 16 * 1024]);
            while len < LEN {
                let read = back.read(&mut buf).expect("it goes on");
                assert!(read > 0, "it ended after {len}");
                digest.update(&buf[..read]);
                if len < LEN / 2 && len + read >= LEN / 2 {
                    half.send(()).unwrap();
                }
                len += read;
            }
            digest.finalize()
        });
        let expected = Sha256::digest(&sent);
        let writer = thread::spawn(move || out.write_all(&sent).map(|()| out));
        halfway.recv_timeout(Duration::from_secs(60)).expect("half of it comes");
        happen(self);
        let digest = reader.join().unwrap();
        assert!(digest == expected, "other bytes");
        drop(writer.join().unwrap().unwrap());
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

fn serve(namespace: &Namespace, authority: &PathBuf) -> (Served, oneshot::Sender<()>, JoinHandle<()>) {
    let acceptor = acceptor(authority);
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
            let relay = TcpListener::bind((SERVICE, 0)).await.unwrap();
            let echo = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let served = Served {
                target: loopback.target().to_owned(),
                access_key: loopback.access_key().to_owned(),
                secret_key: loopback.secret_key().expose().clone(),
                relay: relay.local_addr().unwrap().port(),
                echo: echo.local_addr().unwrap().port(),
            };
            tell.send(served).map_err(drop).unwrap();
            tokio::spawn(async move {
                while let Ok((stream, _)) = relay.accept().await {
                    tokio::spawn(carry(acceptor.clone(), stream, gateway));
                }
            });
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

async fn carry(acceptor: TlsAcceptor, stream: TcpStream, gateway: u16) {
    let Ok(mut stream) = acceptor.accept(stream).await else { return };
    let Ok(mut gateway) = TcpStream::connect(("127.0.0.1", gateway)).await else { return };
    let _ = tokio::io::copy_bidirectional(&mut stream, &mut gateway).await;
}

/// A certificate for [`SERVICE`]; the one of its authority goes to a file.
fn acceptor(authority: &PathBuf) -> TlsAcceptor {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    std::fs::write(authority, issuer.pem()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate =
        CertificateParams::new(vec![SERVICE.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key).unwrap();
    TlsAcceptor::from(Arc::new(config))
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

/// Bytes of which none repeats the ones before it.
fn pattern() -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(next).flatten().take(LEN).collect()
}
