//! The program when the network, the service, or itself is gone of a sudden.

#![cfg(all(feature = "aws", feature = "demo", target_os = "linux"))]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, test_kill_process};
use serde_json::Value;
use tempfile::TempDir;

use common::example::Example;
use common::outside::{Manner, Proxy, Secure};
use common::transfer::Transfer;
use common::{Here, Outcome, Program, Served, closed_port, echo, exchange, until};

/// Long enough for a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The seed of the run whose sessions nobody ends by hand.
const LEFT_TO_THE_NEXT: usize = 99_999;

const TARGET: &str = "i-0123456789abcdef0";

/// How often each of client, service and agent is killed; twice without.
const KILL_ROUNDS: &str = "SSM_KILL_ROUNDS";

#[test]
fn a_client_that_is_killed_leaves_nothing_that_is_in_the_way() {
    let (served, places) = (Served::start(), Places::new());
    let (port, socket) = (closed_port(), places.file("s"));
    let specs = [format!("{port}:{}", echo()), format!("{}:{}", socket.display(), echo())];
    let arguments = ["forward", &served.target, "-L", &specs[0], "-L", &specs[1]];
    for seed in [3, 77, 1234, LEFT_TO_THE_NEXT] {
        let mut forward = Program::start(places.apply(&mut served.ssm(&arguments)));
        forward.until(|said| (said.matches("listening on ").count() == 2).then_some(()));
        let mut streams =
            (TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap(), UnixStream::connect(&socket).unwrap());
        exchange(&mut streams.0, &vec![7; seed]);
        // In the middle of something else.
        streams.1.write_all(&vec![7; seed]).unwrap();
        forward.signal(Signal::KILL);
        drop(forward.wait());
        let mut rest = Vec::new();
        let _ = streams.0.read_to_end(&mut rest);
        assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err(), "something listens");
        assert!(UnixStream::connect(&socket).is_err() && socket.exists());
        let tunnels = places.run(&mut served.ssm(&["tunnels", "--json"]));
        assert_eq!(tunnels.stdout, "", "dead ones are not shown");
        let orphans = places.run(&mut served.ssm(&["sessions", "orphans", "--json"]));
        assert_eq!(orphans.stdout.lines().count(), 2, "{orphans:?}");
        if seed == LEFT_TO_THE_NEXT {
            continue;
        }
        let ended = places.run(&mut served.ssm(&["sessions", "terminate", "--orphans", "--yes"]));
        assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
        // One that is about to end is listed until both of its ends know.
        until("no session", || {
            places.run(&mut served.ssm(&["sessions", "--json"])).stdout.is_empty().then_some(())
        });
    }
    // And once more, so that what was killed last was in nobody's way. Its sessions are ended meanwhile.
    let mut forward = Program::start(places.apply(&mut served.ssm(&arguments)));
    forward.until(|said| (said.matches("listening on ").count() == 2).then_some(()));
    exchange(&mut TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap(), b"hello");
    let open = || places.run(&mut served.ssm(&["sessions", "--json"])).stdout.lines().count();
    until("the sessions of the forward", || (open() == 2).then_some(()));
    let orphans = places.run(&mut served.ssm(&["sessions", "orphans", "--json"]));
    assert_eq!(orphans.stdout, "", "{orphans:?}");
    forward.signal(Signal::INT);
    assert_eq!(forward.wait().status.code(), Some(0));
    assert!(!socket.exists());
}

/// Who is killed. The agent of the loopback is a part of its process: what ends it alone is the fault `restart`, which leaves its
/// sockets without a closing frame, its destinations and its sessions.
#[derive(Debug, Clone, Copy)]
enum Victim {
    Client,
    Service,
    Agent,
}

#[test]
fn whoever_is_killed_and_whenever_nothing_is_left_and_the_next_one_works() {
    let rounds: u64 = std::env::var(KILL_ROUNDS).map_or(2, |rounds| rounds.parse().unwrap());
    for round in 0..rounds {
        for victim in [Victim::Client, Victim::Service, Victim::Agent] {
            // Spread over the first half second of a transfer, another one each time.
            let moment = (3 * round + victim as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) % 500;
            kill(victim, Duration::from_millis(moment));
        }
    }
}

fn kill(victim: Victim, moment: Duration) {
    let about = format!("{victim:?} after {moment:?}");
    let (places, api, port) = (Places::new(), closed_port(), closed_port());
    // In messages, so that a session has started before it: more of them than the next one has here.
    let restart = format!("restart={},times=1", moment.as_millis() + 40);
    let faults: &[&str] = if let Victim::Agent = victim { &["--fault", &restart] } else { &[] };
    let mut service = places.serve_with(api, faults);
    let spec = format!("{port}:{}", echo());
    let listens = |said: &str| said.contains("listening on ").then_some(());
    let mut forward = places.forward(api, &["-L", &spec]);
    forward.until(listens);
    let mut shell = None;
    if let Victim::Client | Victim::Service = victim {
        let words = ["exec", TARGET, "--reconnect", "2", "--", "echo pid=$$=; exec sleep 1000"];
        let mut command = Program::start(places.account(&mut common::ssm(&words), api));
        let pid = command.wait_for(|command| {
            let shown = command.stdout();
            shown.split("pid=").find_map(|text| text.split('=').next()?.parse::<u32>().ok())
        });
        shell = Some((command, pid));
    }
    let talk = talk(port);
    thread::sleep(moment);
    match victim {
        Victim::Client => {
            let (command, _) = shell.as_ref().unwrap();
            [&forward, command].into_iter().for_each(|program| program.signal(Signal::KILL));
            drop(forward.wait());
            until(&about, || (!runs(command.pid())).then_some(()));
            assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err(), "{about}: something listens");
            // It ends what they have left, also that of the command, whose exit code nobody has asked for yet.
            forward = places.forward(api, &["-L", &spec]);
            forward.until(listens);
        }
        Victim::Service => {
            service.signal(Signal::KILL);
            drop(service.wait());
            service = places.serve(api);
        }
        Victim::Agent => {}
    }
    let reset = talk.join().unwrap();
    // The kernel closes the connections of a program that is killed; everybody else's are reset, whatever is missing of them.
    assert!(matches!(victim, Victim::Client) || reset, "{about}: a connection ended as if all were there");
    let start = Instant::now();
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).and_then(ask).is_err() {
        assert!(
            start.elapsed() < PATIENCE,
            "{about}: the next connection does not work: {}",
            forward.stderr()
        );
    }
    if let Some((command, pid)) = shell {
        until(&format!("{about}: the end of its shell"), || (!runs(pid)).then_some(()));
        assert_ne!(command.wait().status.code(), Some(0), "{about}");
    }
    let list = |words: &[&str]| {
        let words = [&["sessions"], words, &["--json"]].concat();
        Program::start(places.account(&mut common::ssm(&words), api)).wait().stdout
    };
    until(&format!("{about}: no orphans"), || list(&["orphans"]).is_empty().then_some(()));
    until(&format!("{about}: that of the forward"), || (list(&[]).lines().count() == 1).then_some(()));
    forward.signal(Signal::INT);
    assert_eq!(forward.wait().status.code(), Some(0), "{about}");
    until(&format!("{about}: no session"), || list(&[]).is_empty().then_some(()));
    assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err(), "{about}: something listens");
    service.signal(Signal::INT);
    drop(service.wait());
    TcpListener::bind((Ipv4Addr::LOCALHOST, api)).expect("the port can be had");
}

/// Whether there is such a process, other than one that nobody has asked for its exit code.
fn runs(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

/// Talks to an echo until the connection ends, and gives whether that was a reset. What came back until then is what was sent.
fn talk(port: u16) -> JoinHandle<bool> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut out = stream.try_clone().unwrap();
    // No two stretches of a few bytes are alike.
    let bytes = || (0_u32..).flat_map(|number| number.wrapping_mul(0x9e37_79b1).to_be_bytes());
    // Whoever of the two is there first is told of the reset.
    let is_reset = |error: io::Error| error.kind() == io::ErrorKind::ConnectionReset;
    let writer = thread::spawn(move || {
        let mut bytes = bytes();
        loop {
            if let Err(error) = out.write_all(&bytes.by_ref().take(4000).collect::<Vec<u8>>()) {
                return is_reset(error);
            }
        }
    });
    thread::spawn(move || {
        let (mut expected, mut buf) = (bytes(), [0; 4096]);
        let reset = loop {
            match stream.read(&mut buf) {
                Ok(0) => break false,
                Ok(read) => {
                    let sent: Vec<u8> = expected.by_ref().take(read).collect();
                    assert!(buf[..read] == sent, "other bytes");
                }
                Err(error) => break is_reset(error),
            }
        };
        writer.join().unwrap() || reset
    })
}

/// Has an echo answer.
fn ask(mut stream: TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"hello")?;
    stream.read_exact(&mut [0; 5])
}

#[test]
fn a_service_that_is_killed_and_comes_back_with_other_keys_is_used_again() {
    let places = Places::new();
    let api = closed_port();
    let service = places.serve(api);
    let port = closed_port();
    let spec = format!("{port}:{}", echo());
    let mut forward = places.forward(api, &["-L", &spec, "--json"]);
    forward.wait_for(|forward| forward.stdout().contains("\"ready\"").then_some(()));
    let mut old = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    exchange(&mut old, &vec![1; 50_000]);
    service.signal(Signal::KILL);
    drop(service.wait());
    forward.until(|said| said.contains("the connection was lost (").then_some(()));
    // It is another one, which knows neither the session nor the credentials.
    let credentials = fs::read(places.credentials()).unwrap();
    let service = places.serve(api);
    let renewed = fs::read(places.credentials()).unwrap();
    fs::write(places.credentials(), credentials).unwrap();
    let advice = "once they are renewed (`ssm login` for a single sign-on) this goes on by itself";
    forward.until(|said| said.contains(advice).then_some(()));
    let before = forward.stdout().matches("\"redial\"").count();
    forward.wait_for(|forward| (forward.stdout().matches("\"redial\"").count() > before + 1).then_some(()));
    assert_eq!(forward.stderr().matches(advice).count(), 1, "{}", forward.stderr());
    fs::write(places.credentials(), renewed).unwrap();
    let ended = "the connection was lost and the session cannot be resumed";
    forward.wait_for(|forward| forward.stdout().contains(ended).then_some(()));
    assert!(old.read(&mut [0]).is_err(), "the old connection is reset");
    let mut new = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    exchange(&mut new, &vec![2; 50_000]);
    forward.signal(Signal::INT);
    assert_eq!(forward.wait().status.code(), Some(0));
    service.signal(Signal::INT);
    drop(service.wait());
}

#[test]
fn a_service_that_is_killed_leaves_no_process_and_no_port() {
    let places = Places::new();
    let api = closed_port();
    let service = places.serve(api);
    let mut shell = Program::with_stdin(
        places.account(&mut common::ssm(&["shell", TARGET, "--reconnect", "2"]), api),
        Stdio::piped(),
    );
    shell.write("echo pid=$$=; sleep 1000\n");
    let pid = shell.wait_for(|shell| {
        let shown = shell.stdout();
        shown.split("pid=").find_map(|text| text.split('=').next()?.parse::<i32>().ok())
    });
    service.signal(Signal::KILL);
    drop(service.wait());
    until("the end of its shell", || test_kill_process(Pid::from_raw(pid).unwrap()).err());
    TcpListener::bind((Ipv4Addr::LOCALHOST, api)).expect("the port can be had");
    let Outcome { status, stderr, .. } = shell.wait();
    assert_eq!(status.code(), Some(255), "{stderr}");
    assert!(stderr.contains("the connection was lost; connecting again"), "{stderr}");
    let reason = "ssm: the connection was lost and 2 attempts to bring it back have failed: ";
    assert!(stderr.contains(reason), "{stderr}");
}

#[test]
fn item_21_a_forward_that_is_not_to_reconnect_ends_with_the_reason() {
    for (times, reason) in [
        ("never", "the connection was lost and is not to be brought back: "),
        ("2", "the connection was lost and 2 attempts to bring it back have failed: "),
    ] {
        let places = Places::new();
        let api = closed_port();
        let service = places.serve(api);
        let mut forward = places.forward(api, &["-L", &format!("0:{}", echo()), "--reconnect", times, "-v"]);
        forward.until(|said| said.contains("listening on ").then_some(()));
        service.signal(Signal::KILL);
        drop(service.wait());
        let Outcome { status, stderr, .. } = forward.wait();
        assert_eq!(status.code(), Some(255), "{stderr}");
        assert!(stderr.contains(reason), "{stderr}");
        assert_eq!(stderr.contains("connecting again, for the 1. time, after "), times == "2", "{stderr}");
    }
}

#[test]
fn who_gives_up_while_the_service_is_gone_does_not_wait() {
    let places = Places::new();
    let api = closed_port();
    let service = places.serve(api);
    let mut forward = places.forward(api, &["-L", &format!("0:{}", echo())]);
    forward.until(|said| said.contains("listening on ").then_some(()));
    let mut command = common::ssm(&["exec", TARGET, "--", "echo started; sleep 1000"]);
    let mut command = Program::start(places.account(&mut command, api));
    command.wait_for(|command| command.stdout().contains("started").then_some(()));
    service.signal(Signal::KILL);
    drop(service.wait());
    for program in [&mut forward, &mut command] {
        program.until(|said| said.contains("the connection was lost").then_some(()));
    }
    let left = Instant::now();
    forward.signal(Signal::INT);
    command.signal(Signal::INT);
    let (forward, command) = (forward.wait(), command.wait());
    assert_eq!(forward.status.code(), Some(0), "{}", forward.stderr);
    assert_eq!(command.status.code(), Some(130), "{}", command.stderr);
    assert!(left.elapsed() < Duration::from_secs(4), "{:?}: {}", left.elapsed(), forward.stderr);
}

#[test]
fn the_steps_are_told_in_words_and_as_events() {
    let places = Places::new();
    let api = closed_port();
    let service = places.serve(api);
    let port = closed_port();
    let spec = format!("{port}:{}", echo());
    let mut forward = places.forward(api, &["-L", &spec, "--json", "-v", "--reconnect", "1000"]);
    forward.wait_for(|forward| forward.stdout().contains("\"ready\"").then_some(()));
    service.signal(Signal::KILL);
    drop(service.wait());
    // Words and events come by ways of their own.
    forward.wait_for(|forward| {
        let redials = forward.stdout().matches("\"redial\"").count();
        (redials >= 3 && forward.stderr().contains("for the 2. time, after ")).then_some(())
    });
    let stderr = forward.stderr();
    for words in ["the connection was lost (", "connecting again, for the 2. time, after ", "was not reached"]
    {
        assert!(stderr.contains(words), "{words}: {stderr}");
    }
    let stdout = forward.stdout();
    let events = stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let redials: Vec<Value> = events.filter(|event| event["event"] == "redial").collect();
    for (number, redial) in redials.iter().enumerate() {
        assert_eq!(redial["attempt"], number, "{stdout}");
        assert!(
            redial["delay_ms"].as_u64() <= Some(8_000) && redial["cause"].as_str() > Some(""),
            "{stdout}"
        );
    }
}

#[test]
fn a_connect_proxy_that_is_gone_for_a_while_costs_nothing() {
    a_proxy_comes_and_goes(Manner::Connect, "502");
}

#[test]
fn a_socks_proxy_that_is_gone_for_a_while_costs_nothing() {
    a_proxy_comes_and_goes(Manner::Socks, "it has no way to the host (SOCKS reply 4)");
}

fn a_proxy_comes_and_goes(manner: Manner, no_way: &str) {
    const HOSTS: [&str; 2] = ["ssm.example.test", "ssmmessages.example.test"];
    let (here, places) = (Here::start(), Places::new());
    let authority = places.file("ca.pem");
    let gateway = here.loopback().endpoint_url().rsplit_once(':').unwrap().1.parse().unwrap();
    let secure = Secure::start(&HOSTS, &authority, gateway);
    let mut proxy = Proxy::new(manner);
    proxy.lead(secure.port, None);
    let urls = HOSTS.map(|host| format!("https://{host}"));
    let ssm = |arguments: &[&str]| {
        let mut command = here.ssm(arguments);
        command.env("AWS_ENDPOINT_URL", &urls[0]).env("AWS_ENDPOINT_URL_SSMMESSAGES", &urls[1]);
        command.env("AWS_CA_BUNDLE", &authority).env("HTTPS_PROXY", proxy.url("me:hush@"));
        places.apply(&mut command);
        command
    };
    let target = here.loopback().target();
    let port = closed_port();
    let spec = format!("{port}:{}", echo());
    let mut forward = Program::start(&mut ssm(&["-v", "forward", target, "-L", &spec, "--json"]));
    let script = "echo started; read -r line; echo got $line; exit 7";
    let mut command = Program::with_stdin(&mut ssm(&["-v", "exec", target, "--", script]), Stdio::piped());
    forward.wait_for(|forward| forward.stdout().contains("\"ready\"").then_some(()));
    command.wait_for(|command| command.stdout().contains("started").then_some(()));
    let out = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    let back = out.try_clone().unwrap();
    back.set_read_timeout(Some(PATIENCE)).unwrap();
    let transfer = Transfer::start(out, back);
    transfer.halfway();
    proxy.vanish();
    transfer.rest();
    let gone = [
        "ssm.example.test:443 through the proxy",
        "cannot connect to it: Connection refused",
        "connecting again, for the 2. time",
    ];
    for program in [&mut forward, &mut command] {
        program.until(|said| gone.iter().all(|words| said.contains(words)).then_some(()));
    }
    // Typed while there is no way.
    command.write("across\n");
    proxy.lead(secure.port, Some("ssmmessages."));
    let no_way = ["the data channel is not open yet: no way to ssmmessages.example.test:443", no_way];
    for program in [&mut forward, &mut command] {
        program.until(|said| no_way.iter().all(|words| said.contains(words)).then_some(()));
    }
    proxy.lead(secure.port, None);
    transfer.finish();
    command.close();
    let command = command.wait();
    assert_eq!((command.status.code(), command.stdout.as_str()), (Some(7), "started\ngot across\n"));
    forward.wait_for(|forward| forward.stdout().contains("\"resumed\"").then_some(()));
    forward.signal(Signal::INT);
    let forward = forward.wait();
    assert_eq!(forward.status.code(), Some(0), "{}", forward.stderr);
    let events = |name: &str| {
        let all = forward.stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        all.filter(|event| event["event"] == name).collect::<Vec<_>>()
    };
    assert_eq!(events("session_started").len(), 1, "{}", forward.stdout);
    let causes: Vec<Value> = events("redial").into_iter().map(|mut event| event["cause"].take()).collect();
    let told = |words: &str| causes.iter().any(|cause| cause.as_str().unwrap().contains(words));
    assert!(told(gone[1]) && told(no_way[0]) && told(no_way[1]), "{causes:?}");
    for said in [&forward.stdout, &forward.stderr, &command.stderr] {
        assert!(!said.contains("hush") && !said.contains("://docs.rs"), "{said}");
    }
}

/// A folder with everything that programs of a test leave behind, and the account of services that come and go.
struct Places {
    folder: TempDir,
}

impl Places {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn credentials(&self) -> PathBuf {
        self.file("credentials")
    }

    fn apply<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        let folder: &Path = self.folder.path();
        command.env("XDG_RUNTIME_DIR", folder).env("XDG_STATE_HOME", folder)
    }

    fn run(&self, command: &mut Command) -> Outcome {
        Program::start(self.apply(command)).wait()
    }

    /// `ssm loopback` on this port; its keys go to the file of credentials.
    fn serve(&self, port: u16) -> Program {
        self.serve_with(port, &[])
    }

    fn serve_with(&self, port: u16, arguments: &[&str]) -> Program {
        let mut command = common::ssm(&["loopback", "--port", &port.to_string(), "--target", TARGET]);
        command.args(arguments);
        let mut service = Program::start(&mut command);
        let example = service.until(Example::find);
        let variable = |name: &str| &example.variables.iter().find(|(found, _)| found == name).unwrap().1;
        let keys = format!(
            "[default]\naws_access_key_id={}\naws_secret_access_key={}\n",
            variable("AWS_ACCESS_KEY_ID"),
            variable("AWS_SECRET_ACCESS_KEY"),
        );
        fs::write(self.credentials(), keys).unwrap();
        service
    }

    /// Has a program use that service.
    fn account<'a>(&self, command: &'a mut Command, port: u16) -> &'a mut Command {
        command.env("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{port}")).env("AWS_REGION", "us-east-1");
        command.env("AWS_SHARED_CREDENTIALS_FILE", self.credentials());
        self.apply(command)
    }

    fn forward(&self, port: u16, arguments: &[&str]) -> Program {
        let mut command = common::ssm(&[&["forward", TARGET], arguments].concat());
        Program::start(self.account(&mut command, port))
    }
}
