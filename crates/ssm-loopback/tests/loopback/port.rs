//! Port sessions: multiplexed, basic and stream.

use std::net::Ipv4Addr;
use std::time::Instant;

use bytes::Bytes;
use serde_json::{Value, json};
use ssm_channel::{CloseReason, PortMode, SessionKind};
use ssm_loopback::{Config, Profile};
use ssm_proto::PayloadType;
use ssm_proto::body::ControlFlag;
use ssm_smux::{Event, Mux, Side, StreamId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::api::{Api, SOON};
use crate::client::{Client, config};

const PORT: &str = "AWS-StartPortForwardingSession";
const ENDED: CloseReason = CloseReason::AgentClosed { exit_code: None, detail: None };

#[tokio::test]
async fn streams_carry_bytes_both_ways() {
    for profile in [Profile::Fast, Profile::Aws] {
        let api = Api::start(Config { profile, ..Config::default() }).await;
        let destination = Destination::start(Behaviour::Echo).await;
        let mut port = Port::open(&api, PORT, destination.parameters()).await;
        let (first, second) = (port.stream(), port.stream());
        let len = if profile == Profile::Fast { 3_000_000 } else { 50_000 };
        let data: Vec<u8> = (0..len).map(|n| (n / 7) as u8).collect();
        for chunk in data.chunks(10_000) {
            port.push(&api, first, chunk).await;
            port.push(&api, second, &chunk[..10]).await;
        }
        let short: Vec<u8> = data.chunks(10_000).flat_map(|chunk| chunk[..10].to_vec()).collect();
        port.until(&api, "the echo", |port| port.received(first).len() == data.len()).await;
        port.until(&api, "the other echo", |port| port.received(second).len() == short.len()).await;
        assert!(port.received(first) == data && port.received(second) == short);
        if profile == Profile::Aws {
            let longest = port.client.output.iter().map(|(_, bytes)| bytes.len()).max();
            assert!(longest <= Some(1024), "{longest:?}");
        }
    }
}

#[tokio::test]
async fn a_session_to_a_remote_host_reaches_it() {
    let api = Api::start(Config::default()).await;
    let destination = Destination::start(Behaviour::Greet).await;
    let mut parameters = destination.parameters();
    parameters["host"] = json!(["127.0.0.1"]);
    let mut port = Port::open(&api, "AWS-StartPortForwardingSessionToRemoteHost", parameters).await;
    let stream = port.stream();
    port.push(&api, stream, b"x").await;
    port.until(&api, "the greeting", |port| port.received(stream) == b"hello").await;
}

#[tokio::test]
async fn the_metadata_service_is_refused() {
    let api = Api::start(Config::default()).await;
    let parameters = json!({"host": ["169.254.169.254"], "portNumber": ["80"]});
    let mut client = Client::start(&api, "AWS-StartPortForwardingSessionToRemoteHost", parameters).await;
    let detail = Some("Forwarding to IP address 169.254.169.254 is forbidden.".to_owned());
    assert_eq!(client.until_closed(&api).await, CloseReason::AgentClosed { exit_code: None, detail });
}

#[tokio::test]
async fn item_109_a_closed_port_gives_a_flag_and_then_a_fin() {
    let api = Api::start(Config::default()).await;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let parameters = json!({"portNumber": [listener.local_addr().unwrap().port().to_string()]});
    drop(listener);
    let mut port = Port::open(&api, PORT, parameters).await;
    let stream = port.stream();
    port.push(&api, stream, b"anybody?").await;
    port.until(&api, "the FIN", |port| port.finished(stream)).await;
    let kinds: Vec<PayloadType> = port.client.output.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds, [PayloadType::Flag, PayloadType::Output]);
    assert_eq!(ControlFlag::decode(&port.client.output[0].1), ControlFlag::ConnectToPortError);
    assert!(port.client.closed.is_none());
}

#[tokio::test]
async fn the_first_end_of_a_stream_ends_both_directions() {
    let api = Api::start(Config::default()).await;
    let destination = Destination::start(Behaviour::Collect).await;
    let mut port = Port::open(&api, PORT, destination.parameters()).await;
    let stream = port.stream();
    port.push(&api, stream, b"all of it").await;
    port.finish(&api, stream).await;
    port.until(&api, "the answering FIN", |port| port.finished(stream)).await;
    assert_eq!(destination.collected().await, b"all of it");

    let destination = Destination::start(Behaviour::Greet).await;
    let mut port = Port::open(&api, PORT, destination.parameters()).await;
    let stream = port.stream();
    port.push(&api, stream, b"x").await;
    port.until(&api, "the remote end", |port| port.finished(stream)).await;
    assert_eq!(port.received(stream), b"hello");
}

#[tokio::test]
async fn a_destination_that_does_not_read_holds_acknowledgements_back() {
    let api = Api::start(Config::default()).await;
    let destination = Destination::start(Behaviour::Ignore).await;
    let mut port = Port::open(&api, PORT, destination.parameters()).await;
    let stream = port.stream();
    // What the agent holds, what the sockets hold, and the send window are all bounded; the rest must not be taken.
    let chunk = vec![0; 30_000];
    let pour = async {
        for _ in 0..10_000 {
            port.push(&api, stream, &chunk).await;
        }
    };
    assert!(timeout(SOON / 4, pour).await.is_err(), "300 MB went nowhere");
}

#[tokio::test]
async fn flag_2_ends_the_session() {
    let api = Api::start(Config::default()).await;
    let destination = Destination::start(Behaviour::Echo).await;
    let mut port = Port::open(&api, PORT, destination.parameters()).await;
    port.client.send(&api, PayloadType::Flag, &ControlFlag::TerminateSession.encode()).await;
    assert_eq!(port.client.until_closed(&api).await, ENDED);
    api.until_history(&port.client.session_id).await;
}

#[tokio::test]
async fn garbage_on_a_live_multiplexer_ends_the_session() {
    let api = Api::start(Config::default()).await;
    let destination = Destination::start(Behaviour::Echo).await;
    let mut port = Port::open(&api, PORT, destination.parameters()).await;
    let stream = port.stream();
    port.push(&api, stream, b"x").await;
    port.until(&api, "the echo", |port| port.received(stream) == b"x").await;
    port.client.send(&api, PayloadType::Output, b"GET / HTTP/1.1\r\n\r\n").await;
    assert_eq!(port.client.until_closed(&api).await, ENDED);
}

#[tokio::test]
async fn an_old_client_gets_basic_mode_with_redial() {
    let api = Api::start(Config::default()).await;
    let destination = Destination::start(Behaviour::Echo).await;
    let mut client = basic(&api, destination.parameters()).await;
    for word in ["first", "second", "third"] {
        client.send(&api, PayloadType::Output, word.as_bytes()).await;
        client.until_text(&api, word).await;
        client.send(&api, PayloadType::Flag, &ControlFlag::DisconnectToPort.encode()).await;
        client.until_drained(&api).await;
    }
    assert_eq!(client.text(), "firstsecondthird");
    assert_eq!(destination.connections(), 3);
    client.send(&api, PayloadType::Flag, &ControlFlag::TerminateSession.encode()).await;
    assert_eq!(client.until_closed(&api).await, ENDED);
}

#[tokio::test]
async fn in_basic_mode_the_remote_end_is_not_told_and_data_dials_again() {
    let api = Api::start(Config::default()).await;
    let destination = Destination::start(Behaviour::Greet).await;
    let mut client = basic(&api, destination.parameters()).await;
    client.until_text(&api, "hello").await;
    client.send(&api, PayloadType::Output, b"again").await;
    client.until_text(&api, "hellohello").await;
    assert!(client.closed.is_none());
}

#[tokio::test]
async fn a_basic_session_to_a_closed_port_crashes_as_the_agents_does() {
    let api = Api::start(Config::default()).await;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let parameters = json!({"portNumber": [listener.local_addr().unwrap().port().to_string()]});
    drop(listener);
    let mut client = Client::start_with(
        &api,
        PORT,
        parameters,
        ssm_channel::Config { version: "1.0.0.0".into(), ..config() },
    )
    .await;
    let CloseReason::AgentClosed { detail: Some(detail), .. } = client.until_closed(&api).await else {
        panic!("{:?}", client.closed)
    };
    assert!(detail.starts_with("document process failed unexpectedly"), "{detail}");
}

#[tokio::test]
async fn a_stream_session_ends_with_the_remote_side() {
    let api = Api::start(Config::default()).await;
    let destination = Destination::start(Behaviour::Greet).await;
    let mut client = Client::start(&api, "AWS-StartSSHSession", destination.parameters()).await;
    let ready = client.until_ready(&api).await;
    assert_eq!(ready.kind, SessionKind::Port(PortMode::Stream));
    assert_eq!(client.until_closed(&api).await, ENDED);
    assert_eq!(client.text(), "hello");
}

#[tokio::test]
async fn sessions_run_beside_each_other() {
    let api = Api::start(Config::default()).await;
    let destination = Destination::start(Behaviour::Echo).await;
    let mut ports = Vec::new();
    for _ in 0..8 {
        ports.push(Port::open(&api, PORT, destination.parameters()).await);
    }
    for (n, port) in ports.iter_mut().enumerate() {
        let stream = port.stream();
        port.push(&api, stream, &[n as u8; 1000]).await;
    }
    for (n, port) in ports.iter_mut().enumerate() {
        let stream = StreamId::from(3);
        port.until(&api, "the echo", |port| port.received(stream) == [n as u8; 1000]).await;
    }
}

async fn basic(api: &Api, parameters: Value) -> Client {
    let config = ssm_channel::Config { version: "1.0.0.0".into(), ..config() };
    let mut client = Client::start_with(api, PORT, parameters, config).await;
    assert_eq!(client.until_ready(api).await.kind, SessionKind::Port(PortMode::Basic));
    client
}

/// A multiplexed session.
struct Port {
    client: Client,
    mux: Mux,
    /// Payloads of the client that the multiplexer has seen.
    seen: usize,
    data: Vec<(StreamId, Bytes)>,
    finished: Vec<StreamId>,
}

impl Port {
    async fn open(api: &Api, document: &str, parameters: Value) -> Self {
        let mut client = Client::start(api, document, parameters).await;
        let ready = client.until_ready(api).await;
        assert_eq!(ready.kind, SessionKind::Port(PortMode::Mux { keep_alive: false }));
        let mux = Mux::new(Side::Client, ssm_smux::Config::default(), Instant::now());
        Self { client, mux, seen: 0, data: Vec::new(), finished: Vec::new() }
    }

    fn stream(&mut self) -> StreamId {
        self.mux.open(Instant::now()).unwrap()
    }

    async fn push(&mut self, api: &Api, id: StreamId, data: &[u8]) {
        let mut message = self.mux.push(id, data.len()).unwrap().to_vec();
        message.extend_from_slice(data);
        self.client.send(api, PayloadType::Output, &message).await;
    }

    async fn finish(&mut self, api: &Api, id: StreamId) {
        self.mux.finish(id);
        let fin = self.mux.take_fin(id).unwrap();
        self.client.send(api, PayloadType::Output, &fin).await;
    }

    fn received(&self, wanted: StreamId) -> Vec<u8> {
        self.data.iter().filter(|(id, _)| *id == wanted).flat_map(|(_, data)| data.to_vec()).collect()
    }

    fn finished(&self, id: StreamId) -> bool {
        self.finished.contains(&id)
    }

    async fn until(&mut self, api: &Api, what: &str, done: impl Fn(&Self) -> bool) {
        loop {
            for (kind, payload) in &self.client.output[self.seen..] {
                self.seen += 1;
                if *kind == PayloadType::Output {
                    self.mux.handle_input(Bytes::copy_from_slice(payload)).unwrap();
                }
            }
            while let Some(event) = self.mux.poll_event() {
                match event {
                    Event::Data { id, data } => self.data.push((id, data)),
                    Event::Finished { id } => self.finished.push(id),
                    other => panic!("{other:?}"),
                }
            }
            if done(self) {
                return;
            }
            let seen = self.seen;
            self.client.until(api, what, |client| client.output.len() > seen).await;
        }
    }
}

/// A TCP server.
struct Destination {
    port: u16,
    connections: std::sync::Arc<std::sync::atomic::AtomicUsize>,
    collected: tokio::sync::Mutex<tokio::sync::mpsc::Receiver<Vec<u8>>>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Clone, Copy)]
enum Behaviour {
    Echo,
    /// Says hello and closes.
    Greet,
    /// Reads to the end.
    Collect,
    /// Never reads.
    Ignore,
}

impl Destination {
    async fn start(behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let connections = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let (collect, collected) = tokio::sync::mpsc::channel(16);
        let count = connections.clone();
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                tokio::spawn(behave(behaviour, stream, collect.clone()));
            }
        });
        Self { port, connections, collected: tokio::sync::Mutex::new(collected), task }
    }

    fn parameters(&self) -> Value {
        json!({"portNumber": [self.port.to_string()]})
    }

    fn connections(&self) -> usize {
        self.connections.load(std::sync::atomic::Ordering::Relaxed)
    }

    async fn collected(&self) -> Vec<u8> {
        timeout(SOON, self.collected.lock().await.recv()).await.unwrap().unwrap()
    }
}

impl Drop for Destination {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn behave(behaviour: Behaviour, mut stream: TcpStream, collect: tokio::sync::mpsc::Sender<Vec<u8>>) {
    match behaviour {
        Behaviour::Echo => {
            let (mut read, mut write) = stream.split();
            let _ = tokio::io::copy(&mut read, &mut write).await;
        }
        Behaviour::Greet => {
            let _ = stream.write_all(b"hello").await;
            let _ = stream.shutdown().await;
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
        Behaviour::Collect => {
            let mut all = Vec::new();
            let _ = stream.read_to_end(&mut all).await;
            let _ = collect.send(all).await;
        }
        Behaviour::Ignore => std::future::pending().await,
    }
}
