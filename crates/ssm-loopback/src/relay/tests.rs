//! The gateway and the relay between two real sockets, without the loopback's own agent.

mod faults;

use std::net::Ipv4Addr;
use std::time::SystemTime;

use futures_util::stream::{SplitSink, SplitStream};
use ssm_proto::body::{ChannelClosed, SessionState};
use ssm_proto::{Flags, MessageBuf, MessageId, PayloadType, Strictness, Token};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::client_async_with_config;

use super::*;
use crate::config::Config;
use crate::document::DEFAULT;
use crate::gateway::socket_config;
use crate::server;
use crate::session_store::{NewSession, Status};

const SOON: Duration = Duration::from_secs(10);

#[tokio::test]
async fn item_103_frames_pass_unchanged_and_in_order() {
    let rig = Rig::start(Config::default()).await;
    let (mut client, mut agent) = rig.pair("s").await;
    let frames: Vec<Message> =
        (0..500).map(|n| data(MessageType::InputStreamData, n, 7 * n as usize)).collect();
    for (from, to) in [(0, 1), (1, 0)] {
        let mut ends = [&mut client, &mut agent];
        let [from, to] = ends.get_disjoint_mut([from, to]).unwrap();
        for frame in &frames {
            from.feed(frame.clone()).await.unwrap();
        }
        from.flush().await.unwrap();
        for frame in &frames {
            assert_eq!(&message(to).await, frame);
        }
    }
}

#[tokio::test]
async fn what_is_no_message_is_relayed_too() {
    let rig = Rig::start(Config::default()).await;
    let (mut client, mut agent) = rig.pair("s").await;
    for odd in [Message::binary(&b""[..]), Message::binary(&b"\0\0\0\x74rest"[..]), Message::text("words")] {
        client.send(odd.clone()).await.unwrap();
        assert_eq!(message(&mut agent).await, odd);
    }
}

#[tokio::test]
async fn both_directions_move_while_each_end_only_reads_when_it_must() {
    let rig = Rig::start(Config::default()).await;
    let (client, agent) = rig.pair("s").await;
    let ((client_out, client_in), (agent_out, agent_in)) = (client.split(), agent.split());
    let all = async {
        tokio::join!(pour(client_out), pour(agent_out), drain(client_in), drain(agent_in));
    };
    timeout(SOON * 3, all).await.expect("neither direction waits for the other");
}

#[tokio::test]
async fn a_reader_that_stops_is_felt_by_the_sender() {
    let rig = Rig::start(Config::default()).await;
    let (client, agent) = rig.pair("s").await;
    let (mut out, _in) = client.split();
    let frame = data(MessageType::InputStreamData, 0, 512 * 1024);
    let mut sent = 0;
    while timeout(Duration::from_millis(500), out.send(frame.clone())).await.is_ok() {
        sent += 1;
        assert!(sent < 200, "100 MiB went nowhere");
    }
    drop(agent);
}

#[tokio::test]
async fn item_109_a_token_works_once() {
    let rig = Rig::start(Config::default()).await;
    let _relay = rig.session("s");
    let token = rig.token("s", Role::Client);
    let mut first = rig.connect("s").await;
    first.send(open_text(&token)).await.unwrap();
    let mut second = rig.connect("s").await;
    second.send(open_text(&token)).await.unwrap();
    let reason = refusal(&mut second).await;
    assert_eq!(reason, "Channel s: the token is used, expired or not of this session.");
}

#[tokio::test]
async fn item_102_a_first_frame_without_a_token_is_refused() {
    let rig = Rig::start(Config::default()).await;
    let _relay = rig.session("s");
    let garbage = [
        Message::text(""),
        Message::text(r#"{"MessageSchemaVersion":"1.0","RequestId":"r","TokenValue":""}"#),
        Message::text("[".repeat(100_000)),
        data(MessageType::InputStreamData, 0, 1),
        Message::binary(vec![0xff; 1000]),
    ];
    for frame in garbage {
        let mut socket = rig.connect("s").await;
        socket.send(frame).await.unwrap();
        let reason = refusal(&mut socket).await;
        assert_eq!(reason, "Channel s: request to open data channel does not contain token.");
    }
}

#[tokio::test]
async fn a_client_without_id_and_version_is_let_in() {
    let rig = Rig::start(Config::default()).await;
    let _relay = rig.session("s");
    let token = rig.token("s", Role::Client);
    let text =
        format!(r#"{{"MessageSchemaVersion":"1.0","RequestId":"r","TokenValue":"{}"}}"#, token.expose());
    let mut client = rig.connect("s").await;
    client.send(Message::text(text)).await.unwrap();
    let mut agent = rig.attach("s", Role::Agent).await;
    expect_service(&mut client, MessageType::StartPublication).await;
    client.send(data(MessageType::InputStreamData, 0, 10)).await.unwrap();
    assert_eq!(sequence(&message(&mut agent).await), 0);
}

#[tokio::test]
async fn a_sender_without_counterpart_is_paused_and_its_first_frames_are_kept() {
    let rig = Rig::start(Config::default()).await;
    let _relay = rig.session("s");
    let mut agent = rig.attach("s", Role::Agent).await;
    for n in 0..100 {
        agent.send(data(MessageType::OutputStreamData, n, 100)).await.unwrap();
    }
    expect_service(&mut agent, MessageType::PausePublication).await;
    ping(&mut agent).await;
    let mut client = rig.connect("s").await;
    client.send(open_text(&rig.token("s", Role::Client))).await.unwrap();
    for n in 0..PARKED_FRAMES as i64 {
        assert_eq!(sequence(&message(&mut client).await), n);
    }
    expect_service(&mut agent, MessageType::StartPublication).await;
    agent.send(data(MessageType::OutputStreamData, 100, 1)).await.unwrap();
    assert_eq!(sequence(&message(&mut client).await), 100);
}

#[tokio::test]
async fn a_lost_counterpart_pauses_the_other_end() {
    let rig = Rig::start(Config::default()).await;
    let (client, mut agent) = rig.pair("s").await;
    drop(client);
    expect_service(&mut agent, MessageType::PausePublication).await;
    assert_eq!(rig.status("s"), Status::Disconnected);
    let _client = rig.attach("s", Role::Client).await;
    expect_service(&mut agent, MessageType::StartPublication).await;
    assert_eq!(rig.status("s"), Status::Connected);
}

#[tokio::test]
async fn a_new_socket_takes_the_place_of_the_old_one() {
    let rig = Rig::start(Config::default()).await;
    let (mut old, mut agent) = rig.pair("s").await;
    let mut new = rig.attach("s", Role::Client).await;
    expect_service(&mut agent, MessageType::StartPublication).await;
    agent.send(data(MessageType::OutputStreamData, 5, 1)).await.unwrap();
    assert_eq!(sequence(&message(&mut new).await), 5);
    let end = timeout(SOON, old.next()).await.unwrap();
    assert!(!matches!(end, Some(Ok(_))), "{end:?}");
}

#[tokio::test]
async fn the_agents_state_is_for_the_service() {
    let rig = Rig::start(Config::default()).await;
    let (mut client, mut agent) = rig.pair("s").await;
    let state = SessionState {
        schema_version: 1,
        session_state: "Terminating".to_owned(),
        session_id: "s".to_owned(),
    };
    let header = Header::control(MessageType::AgentSessionState, MessageId::from_random([1; 16]), 1);
    let mut buf = MessageBuf::with_capacity(1024);
    buf.put_slice(&state.encode());
    agent.send(Message::Binary(buf.finish(header))).await.unwrap();
    agent.send(data(MessageType::OutputStreamData, 1, 1)).await.unwrap();
    assert_eq!(sequence(&message(&mut client).await), 1);
    assert_eq!(rig.status("s"), Status::Terminating);
}

#[tokio::test]
async fn item_105_terminating_tells_both_ends_and_lets_nobody_back() {
    let rig = Rig::start(Config::default()).await;
    let (mut client, mut agent) = rig.pair("s").await;
    rig.service.terminate_session("s").await.unwrap();
    assert!(rig.service.resume_session("s").unwrap().channel.is_none());
    for (end, destination) in [(&mut client, "s"), (&mut agent, "i-1")] {
        let Message::Binary(frame) = message(end).await else { panic!("channel_closed is binary") };
        let closed = ssm_proto::Message::decode(frame, Strictness::Strict).unwrap();
        assert_eq!(closed.header.message_type, MessageType::ChannelClosed);
        let body = ChannelClosed::decode(&closed.payload).unwrap();
        assert_eq!((body.session_id.as_str(), body.output.as_str()), ("s", ""));
        assert_eq!(body.destination_id, destination);
        assert!(matches!(message(end).await, Message::Close(_)));
    }
}

#[tokio::test]
async fn an_agent_that_finishes_is_heard_out() {
    let rig = Rig::start(Config::default()).await;
    let (mut client, mut agent) = rig.pair("s").await;
    for n in 0..50 {
        agent.send(data(MessageType::OutputStreamData, n, 10_000)).await.unwrap();
    }
    let relay = rig.service.store().relay("s").unwrap();
    relay.send(Command::Finish { output: "bad luck".to_owned() }).await.unwrap();
    agent.close(None).await.unwrap();
    for n in 0..50 {
        assert_eq!(sequence(&message(&mut client).await), n);
    }
    let Message::Binary(frame) = message(&mut client).await else { panic!("channel_closed is binary") };
    let closed = ssm_proto::Message::decode(frame, Strictness::Strict).unwrap();
    assert_eq!(ChannelClosed::decode(&closed.payload).unwrap().output, "bad luck");
}

#[tokio::test]
async fn item_109_rules_drop_duplicate_delay_and_corrupt() {
    let rig = Rig::start(Config::default()).await;
    let (mut client, mut agent) = rig.pair("s").await;
    let _guard = rig.service.rules.add(|direction, header| match (direction, header.sequence) {
        (Direction::ClientToAgent, 1) => Verdict::Drop,
        (Direction::ClientToAgent, 2) => Verdict::Duplicate,
        (Direction::ClientToAgent, 3) => Verdict::Delay(Duration::from_millis(20)),
        (Direction::ClientToAgent, 4) => Verdict::Corrupt,
        _ => Verdict::Deliver,
    });
    for n in 0..6 {
        client.send(data(MessageType::InputStreamData, n, 10)).await.unwrap();
    }
    let mut received = Vec::new();
    for _ in 0..6 {
        received.push(message(&mut agent).await);
    }
    assert_eq!(received.iter().map(sequence).collect::<Vec<_>>(), [0, 2, 2, 4, 5, 3]);
    let verdict = |frame: &Message| {
        ssm_proto::Message::decode(frame.clone().into_data(), Strictness::Strict).map(|_| ())
    };
    assert_eq!(verdict(&received[3]), Err(ssm_proto::DecodeError::Digest));
    assert_eq!(verdict(&received[5]), Ok(()));
}

#[test]
fn what_is_held_back_is_bounded_in_frames_and_in_bytes() {
    let now = Instant::now();
    let later = now + Duration::from_secs(1);
    let frame = |len| Message::Binary(Bytes::from(vec![0; len]));
    let mut peer = Peer::new(Role::Client);
    for (len, count) in [(1, LATE_FRAMES), (1024 * 1024, 32)] {
        for _ in 0..count {
            assert!(peer.hold_back(frame(len), later).is_ok());
        }
        assert_eq!(peer.hold_back(frame(1), later), Err(frame(1)), "{count} of {len} bytes");
        assert_eq!(peer.release(now), None);
        // There is room for so many once more.
        assert_eq!(std::iter::from_fn(|| peer.release(later)).count(), count);
    }
}

#[tokio::test]
async fn item_109_a_cut_ends_the_senders_socket_and_a_bye_the_clients() {
    let rig = Rig::start(Config::default()).await;
    let (mut client, mut agent) = rig.pair("s").await;
    {
        let _guard = rig.service.rules.add(|_, _| Verdict::Cut);
        client.send(data(MessageType::InputStreamData, 0, 10)).await.unwrap();
        let end = timeout(SOON, client.next()).await.unwrap();
        assert!(!matches!(end, Some(Ok(_))), "{end:?}");
        expect_service(&mut agent, MessageType::PausePublication).await;
    }
    let mut client = rig.attach("s", Role::Client).await;
    expect_service(&mut agent, MessageType::StartPublication).await;
    let _guard = rig.service.rules.add(|_, _| Verdict::Bye);
    agent.send(data(MessageType::OutputStreamData, 7, 10)).await.unwrap();
    assert_eq!(sequence(&message(&mut client).await), 7);
    let Message::Close(Some(frame)) = message(&mut client).await else { panic!("a closing frame") };
    assert_eq!((frame.code, frame.reason.as_str()), (CloseCode::Normal, "Bye"));
}

#[tokio::test]
async fn item_109_a_pause_can_come_without_a_start() {
    let rig = Rig::start(Config::default()).await;
    let (mut client, mut agent) = rig.pair("s").await;
    let _guard = rig.service.rules.add(|_, _| Verdict::Pause);
    client.send(data(MessageType::InputStreamData, 3, 10)).await.unwrap();
    expect_service(&mut client, MessageType::PausePublication).await;
    assert_eq!(sequence(&message(&mut agent).await), 3);
    ping(&mut client).await;
}

#[tokio::test]
async fn item_109_a_client_that_sends_too_much_is_paused_and_then_cut() {
    let rig = Rig::start(Config { rate_limit: Some(50), ..Config::default() }).await;
    let (client, agent) = rig.pair("s").await;
    let (mut out, mut back) = client.split();
    let flood = async {
        let mut tick = tokio::time::interval(Duration::from_millis(5));
        loop {
            tick.tick().await;
            if out.send(data(MessageType::InputStreamData, 0, 1)).await.is_err() {
                return;
            }
        }
    };
    let notice = async {
        let frame = back.next().await.unwrap().unwrap().into_data();
        assert_eq!(Header::decode(&frame).unwrap().message_type, MessageType::PausePublication);
        assert!(!matches!(back.next().await, Some(Ok(_))));
    };
    timeout(SOON, async { tokio::join!(flood, notice) }).await.expect("the client is cut");
    drop(agent);
}

#[tokio::test]
async fn an_agent_that_leaves_pauses_nobody() {
    let rig = Rig::start(Config::default()).await;
    let (mut client, mut agent) = rig.pair("s").await;
    agent.close(None).await.unwrap();
    while agent.next().await.is_some() {}
    let relay = rig.service.store().relay("s").unwrap();
    relay.send(Command::Finish { output: String::new() }).await.unwrap();
    expect_service(&mut client, MessageType::ChannelClosed).await;
}

#[tokio::test]
async fn an_idle_session_ends() {
    let config = Config { idle_timeout: Some(Duration::from_millis(300)), ..Config::default() };
    let rig = Rig::start(config).await;
    let (mut client, _agent) = rig.pair("s").await;
    expect_service(&mut client, MessageType::ChannelClosed).await;
}

#[tokio::test]
async fn sessions_do_not_mix() {
    let rig = Rig::start(Config::default()).await;
    let mut ends = Vec::new();
    for name in ["a", "b", "c", "d"] {
        ends.push(rig.pair(name).await);
    }
    for (n, (client, _)) in ends.iter_mut().enumerate() {
        client.send(data(MessageType::InputStreamData, n as i64, 10)).await.unwrap();
    }
    for (n, (_, agent)) in ends.iter_mut().enumerate() {
        assert_eq!(sequence(&message(agent).await), n as i64);
    }
}

/// A service and its HTTP server, with sessions that have a relay and no agent.
struct Rig {
    service: Arc<Service>,
}

impl Rig {
    /// With these faults.
    async fn faulty(faults: &[&str]) -> Self {
        let faults = faults.iter().map(|spec| spec.parse().unwrap()).collect();
        Self::start(Config { faults, ..Config::default() }).await
    }

    async fn start(config: Config) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let service = Arc::new(Service::new(config, listener.local_addr().unwrap()));
        service.tasks.spawn(server::serve(listener, service.clone())).unwrap();
        Self { service }
    }

    fn session(&self, id: &str) -> mpsc::Sender<Command> {
        let (relay, commands) = mpsc::channel(8);
        let new = NewSession {
            id: id.to_owned(),
            target: "i-1".to_owned(),
            document: DEFAULT.to_owned(),
            reason: None,
            relay: relay.clone(),
        };
        self.service.store().insert(new, SystemTime::now());
        let task = Relay::new(id.to_owned(), self.service.clone(), commands).run();
        self.service.tasks.spawn(task).unwrap();
        relay
    }

    fn token(&self, id: &str, role: Role) -> Token {
        self.service.store().mint(id, role, Instant::now(), SOON).unwrap()
    }

    fn status(&self, id: &str) -> Status {
        self.service.store().find(id).unwrap().status
    }

    async fn connect(&self, id: &str) -> Socket {
        let url = self.service.stream_url(id);
        let address = url.strip_prefix("ws://").unwrap().split('/').next().unwrap();
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        client_async_with_config(url, stream, Some(socket_config())).await.unwrap().0
    }

    async fn attach(&self, id: &str, role: Role) -> Socket {
        let mut socket = self.connect(id).await;
        socket.send(open_text(&self.token(id, role))).await.unwrap();
        ping(&mut socket).await;
        socket
    }

    /// A new session with both ends attached and its first messages read.
    async fn pair(&self, id: &str) -> (Socket, Socket) {
        let _relay = self.session(id);
        let mut agent = self.attach(id, Role::Agent).await;
        let client = self.attach(id, Role::Client).await;
        expect_service(&mut agent, MessageType::StartPublication).await;
        (client, agent)
    }
}

fn open_text(token: &Token) -> Message {
    let text = format!(
        r#"{{"MessageSchemaVersion":"1.0","RequestId":"r","TokenValue":"{}","ClientId":"c","ClientVersion":"1.2.764.0"}}"#,
        token.expose()
    );
    Message::text(text)
}

/// Returns once the relay has answered, so what was sent before has been seen.
async fn ping(socket: &mut Socket) {
    socket.send(Message::Ping(Bytes::new())).await.unwrap();
    let answer = message(socket).await;
    assert!(matches!(answer, Message::Pong(_)), "{answer:?} instead of a pong");
}

async fn message(socket: &mut Socket) -> Message {
    timeout(SOON, socket.next()).await.expect("a message in time").expect("a message").unwrap()
}

async fn expect_service(socket: &mut Socket, expected: MessageType) {
    let frame = message(socket).await.into_data();
    assert_eq!(Header::decode(&frame).unwrap().message_type, expected);
}

async fn refusal(socket: &mut Socket) -> String {
    match message(socket).await {
        Message::Close(Some(frame)) => {
            assert_eq!(frame.code, CloseCode::Unsupported);
            frame.reason.to_string()
        }
        other => panic!("{other:?} instead of a closing frame"),
    }
}

fn data(message_type: MessageType, sequence: i64, len: usize) -> Message {
    let id = MessageId::from_random(sequence.to_be_bytes().repeat(2).try_into().unwrap());
    let mut header = Header::stream(message_type, PayloadType::Output, sequence, id, 1_700_000_000_000);
    header.flags = Flags(u64::from(sequence == 0));
    let mut buf = MessageBuf::with_capacity(len);
    buf.put_slice(&vec![sequence as u8; len]);
    Message::Binary(buf.finish(header))
}

fn sequence(message: &Message) -> i64 {
    let Message::Binary(frame) = message else { panic!("{message:?} is no data message") };
    Header::decode(frame).unwrap().sequence
}

const POURED: usize = 400;

async fn pour(mut out: SplitSink<Socket, Message>) {
    let frame = data(MessageType::InputStreamData, 1, 128 * 1024);
    for _ in 0..POURED {
        out.send(frame.clone()).await.unwrap();
    }
}

async fn drain(mut from: SplitStream<Socket>) {
    for _ in 0..POURED {
        from.next().await.unwrap().unwrap();
    }
}
