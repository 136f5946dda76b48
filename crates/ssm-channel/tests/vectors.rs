//! Sessions of AWS's programs, replayed: our client in the place of the plugin, our agent in the place of the agent.
//!
//! Each side gets the frames that its peer really sent, and has to send what the program in its place sent: the same stream
//! messages with the same numbers and payloads, and acknowledgements of the same messages, byte for byte. One difference is
//! meant: in port sessions our client begins with a flag of its own, so that its later numbers are one higher.

#![expect(clippy::unwrap_used, reason = "what is missing in a capture fails the test")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use serde_json::Value;
use ssm_channel::{
    AgentState, Challenge, Channel, CloseReason, Config, DataKey, Event, Handshake, Offer, PortMode, Role,
    SessionKind, Transmit,
};
use ssm_proto::body::{
    Acknowledge, ClientAction, EncryptionChallenge, HandshakeComplete, HandshakeRequest, OpenDataChannel,
    SessionState,
};
use ssm_proto::{
    Header, Layout, Message, MessageBuf, MessageId, MessageType, PayloadType, Strictness, Token,
};

const SHELL: &str = include_str!("vectors/shell.frames");
const SHELL_KMS: &str = include_str!("vectors/shell-kms.frames");
const SHELL_TERMINATE: &str = include_str!("vectors/shell-terminate-api.frames");
const INTERACTIVE: &str = include_str!("vectors/interactive-command.frames");
const NONINTERACTIVE: &str = include_str!("vectors/noninteractive.frames");
const PORT_MUX: &str = include_str!("vectors/port-mux.frames");
const PORT_MUX_REFUSED: &str = include_str!("vectors/port-mux-refused.frames");
const PORT_BASIC: &str = include_str!("vectors/port-basic.frames");
const SSH: &str = include_str!("vectors/ssh.frames");

const MUX: SessionKind = SessionKind::Port(PortMode::Mux { keep_alive: false });

#[test]
fn item_35_37_our_client_takes_the_place_of_the_plugin_in_a_shell() {
    as_client(SHELL, SessionKind::Shell).assert_ended_by_service();
}

#[test]
fn our_client_takes_the_place_of_the_plugin_in_a_shell_that_the_api_ends() {
    as_client(SHELL_TERMINATE, SessionKind::Shell).assert_ended_by_service();
}

/// Without a handshake nothing tells an interactive command from a shell.
#[test]
fn our_client_takes_the_place_of_the_plugin_in_an_interactive_command() {
    as_client(INTERACTIVE, SessionKind::Shell).assert_ended_by_service();
}

#[test]
fn our_client_takes_the_place_of_the_plugin_in_a_noninteractive_command() {
    as_client(NONINTERACTIVE, SessionKind::NonInteractiveCommands).assert_ended_by_service();
}

#[test]
fn item_54_82_86_our_client_takes_the_place_of_the_plugin_in_a_multiplexed_port_session() {
    as_client(PORT_MUX, MUX).assert_ended_by_flag();
}

#[test]
fn our_client_takes_the_place_of_the_plugin_when_the_port_is_closed() {
    as_client(PORT_MUX_REFUSED, MUX).assert_ended_by_flag();
}

#[test]
fn item_82_our_client_takes_the_place_of_the_plugin_in_a_basic_port_session() {
    as_client(PORT_BASIC, SessionKind::Port(PortMode::Basic)).assert_ended_by_flag();
}

#[test]
fn item_81_our_client_takes_the_place_of_the_plugin_under_ssh() {
    as_client(SSH, SessionKind::Port(PortMode::Stream));
}

#[test]
fn item_107_our_agent_takes_the_place_of_the_agent_in_a_shell() {
    as_agent(SHELL, SessionKind::Shell);
    as_agent(SHELL_TERMINATE, SessionKind::Shell);
}

#[test]
fn our_agent_takes_the_place_of_the_agent_in_both_kinds_of_command() {
    as_agent(INTERACTIVE, SessionKind::InteractiveCommands);
    as_agent(NONINTERACTIVE, SessionKind::NonInteractiveCommands);
}

#[test]
fn our_agent_takes_the_place_of_the_agent_in_port_sessions() {
    as_agent(PORT_MUX, MUX);
    as_agent(PORT_MUX_REFUSED, MUX);
    as_agent(SSH, SessionKind::Port(PortMode::Stream));
}

/// The capture is of an agent that is too old for the multiplexer; ours is not, and decides by the client's version.
#[test]
fn our_agent_takes_the_place_of_an_old_agent_but_for_the_mode() {
    as_agent(PORT_BASIC, MUX);
}

/// The plugin leaves the agent's challenge out, so our client does in its place. Nonces are random: what is encrypted is compared
/// when it is decrypted.
#[test]
fn item_65_66_67_our_client_takes_the_place_of_the_plugin_in_an_encrypted_shell() {
    let config = Config { challenge: Challenge::Ignored, ..plugin() };
    let mut replay = Replay::new(Role::Client, SHELL_KMS, config);
    let mut theirs = Sent::default();
    for frame in frames(SHELL_KMS) {
        replay.now = replay.start + frame.at;
        replay.channel.handle_timeout(replay.now);
        replay.poll();
        match (frame.dir, &frame.text) {
            ("client->agent", None) => {
                let message = decode(&frame.wire);
                // A message that the plugin has sent again, since the agent's shell had not started.
                if theirs.stream.iter().any(|earlier| earlier.header.id == message.header.id) {
                    continue;
                }
                theirs.add(&message);
                replay.say(&opened(message));
            }
            ("agent->client" | "service->client", None) => replay.receive(frame.wire),
            _ => {}
        }
    }
    assert_eq!(replay.kind, Some(SessionKind::Shell));
    let shown: Vec<u8> = replay.payloads.iter().flat_map(|(_, payload)| payload.clone()).collect();
    assert_eq!(shown.escape_ascii().to_string(), "$ echo secret\\r\\nsecret\\r\\n$ exit\\r\\n");
    // As does our client.
    replay.stream.dedup_by_key(|message| message.header.id);
    assert_eq!(replay.stream.len(), theirs.stream.len());
    for (ours, theirs) in replay.stream.iter().zip(&theirs.stream) {
        assert_eq!(ours.payload.len(), theirs.payload.len());
        assert_same(&opened(ours.clone()), &opened(theirs.clone()));
    }
    assert_same_acks(&mut replay.acks, &mut theirs.acks);
    assert_eq!(replay.closed, Some(CloseReason::AgentClosed { exit_code: None, detail: None }));
}

/// The data key of the capture, as KMS made it.
fn captured_key() -> DataKey {
    let plaintext = STANDARD
        .decode("HtDH3w4IWLH5TV3mgC78GX0f2hDCvrVtRM1zUHUGbtuLYwOeo7dQ7GQiZTcCPW6yzSEJ4hKv11rmqL9Awj4YyQ==");
    let ciphertext = STANDARD.decode(
        "Za/iCEyPnxp1DRUzj2Rpfv9QOzrYnKIabaubNBS6oSztp/YIVCh8VZxHBpLdQ1jxw720H+Zl+7zkyeVsBPXIiU1qC9qeJ7HhXJrTFDsUSkJTh\
         /MMRWXXLP2z0zuWlJOB3NHi1mjeKDqKsw92Dp65w13Dpj1oyje475eE/yqA2ux+4rov4wIbrkkX/3E4ROeoUF/wwNyB",
    );
    DataKey::new(&plaintext.unwrap(), ciphertext.unwrap()).unwrap()
}

/// The message with what the client encrypts in the clear.
fn opened(mut message: Message) -> Message {
    let open = |sealed: &[u8]| {
        let plaintext = STANDARD.decode(
            "HtDH3w4IWLH5TV3mgC78GX0f2hDCvrVtRM1zUHUGbtuLYwOeo7dQ7GQiZTcCPW6yzSEJ4hKv11rmqL9Awj4YyQ==",
        );
        let key = UnboundKey::new(&AES_256_GCM, &plaintext.unwrap()[32..]).unwrap();
        let (nonce, sealed) = sealed.split_at(12);
        let mut sealed = sealed.to_vec();
        let nonce = Nonce::try_assume_unique_for_key(nonce).unwrap();
        LessSafeKey::new(key).open_in_place(nonce, Aad::empty(), &mut sealed).unwrap().to_vec()
    };
    match message.header.payload_type {
        Some(PayloadType::Output) => message.payload = open(&message.payload).into(),
        Some(PayloadType::EncChallengeResponse) => {
            let sealed = EncryptionChallenge::decode(&message.payload).unwrap().challenge;
            message.payload = EncryptionChallenge { challenge: open(&sealed) }.encode().into();
        }
        _ => {}
    }
    message
}

/// Puts our client in the place of the plugin.
fn as_client(capture: &str, kind: SessionKind) -> Replay {
    let mut replay = Replay::new(Role::Client, capture, plugin());
    let opening_flag = i64::from(matches!(kind, SessionKind::Port(_)));
    let mut theirs = Sent::default();
    for frame in frames(capture) {
        replay.now = replay.start + frame.at;
        replay.channel.handle_timeout(replay.now);
        replay.poll();
        match (frame.dir, &frame.text) {
            ("client->service", Some(text)) => assert_same_open(&replay.opens[0], text),
            ("client->agent", None) => {
                let message = decode(&frame.wire);
                theirs.add(&message);
                replay.say(&message);
            }
            ("agent->client", None) => replay.receive(renumbered(frame.wire, opening_flag)),
            ("service->client", None) => replay.receive(frame.wire),
            _ => {}
        }
        replay.acknowledge_opening_flag(opening_flag);
    }
    assert_eq!(replay.kind, Some(kind));
    assert_eq!(replay.payloads, payloads(capture, "agent->client"));
    if opening_flag == 1 {
        let flag = replay.stream.remove(1);
        assert_eq!((flag.header.sequence, &flag.payload[..]), (1, &[0; 4][..]));
        for message in &mut replay.stream[1..] {
            message.header.sequence -= 1;
        }
    }
    assert_eq!(replay.stream.len(), theirs.stream.len());
    for (ours, theirs) in replay.stream.iter().zip(&theirs.stream) {
        assert_same(ours, theirs);
    }
    assert_same_acks(&mut replay.acks, &mut theirs.acks);
    replay
}

/// Puts our agent in the place of AWS's.
fn as_agent(capture: &str, kind: SessionKind) {
    let mut replay = Replay::new(Role::Agent, capture, agent_config(capture, kind));
    let mut theirs = Sent::default();
    for frame in frames(capture) {
        replay.now = replay.start + frame.at;
        replay.channel.handle_timeout(replay.now);
        replay.poll();
        match (frame.dir, &frame.text) {
            ("agent->service", Some(text)) => assert_same_open(&replay.opens[0], text),
            ("agent->service", None) => {
                let message = decode(&frame.wire);
                replay.announce(&message);
                assert_same(&replay.states.remove(0), &message);
            }
            ("agent->client", None) => {
                let message = decode(&frame.wire);
                theirs.add(&message);
                replay.say(&message);
            }
            ("client->agent" | "service->agent", None) => replay.receive(frame.wire),
            _ => {}
        }
    }
    assert_eq!(replay.kind, Some(kind));
    assert_eq!(replay.payloads, payloads(capture, "client->agent"));
    assert_eq!(replay.stream.len(), theirs.stream.len());
    for (ours, theirs) in replay.stream.iter().zip(&theirs.stream) {
        assert_same(ours, theirs);
    }
    // The last flag ends AWS's agent, often before it has acknowledged it.
    let surplus = replay.acks.len() - theirs.acks.len();
    assert!(surplus <= 1);
    replay.acks.truncate(theirs.acks.len());
    assert_same_acks(&mut replay.acks, &mut theirs.acks);
}

/// One side of ours in a captured session.
struct Replay {
    start: Instant,
    now: Instant,
    channel: Channel,
    opens: Vec<String>,
    stream: Vec<Message>,
    acks: Vec<Message>,
    states: Vec<Message>,
    kind: Option<SessionKind>,
    payloads: Vec<(PayloadType, Vec<u8>)>,
    closed: Option<CloseReason>,
}

impl Replay {
    #[expect(clippy::disallowed_methods, reason = "an origin for virtual time: only differences matter")]
    fn new(role: Role, capture: &str, config: Config) -> Self {
        let start = Instant::now();
        let opener = if role == Role::Client { "client->service" } else { "agent->service" };
        let open = frames(capture).find_map(|frame| frame.text.filter(|_| frame.dir == opener)).unwrap();
        let token = OpenDataChannel::decode(&open).unwrap().token;
        let mut channel =
            Channel::new(role, Arc::new(config), [5; 32], start, Duration::from_secs(1_795_312_728));
        channel.handle_connected(start, Token::new(token.expose().clone()));
        let mut replay = Self {
            start,
            now: start,
            channel,
            opens: Vec::new(),
            stream: Vec::new(),
            acks: Vec::new(),
            states: Vec::new(),
            kind: None,
            payloads: Vec::new(),
            closed: None,
        };
        replay.poll();
        replay
    }

    fn receive(&mut self, wire: Bytes) {
        self.channel.handle_binary(self.now, wire).unwrap();
        self.poll();
    }

    /// Has the application say what the other program's application said. The handshake is the channel's own matter.
    fn say(&mut self, message: &Message) {
        let kind = message.header.payload_type.unwrap();
        let own = [
            PayloadType::HandshakeRequest,
            PayloadType::HandshakeResponse,
            PayloadType::EncChallengeResponse,
            PayloadType::HandshakeComplete,
        ];
        if !message.header.message_type.is_stream() || own.contains(&kind) {
            return;
        }
        if kind == PayloadType::Flag && message.payload[..] == [0, 0, 0, 2] {
            self.channel.terminate(self.now);
        } else {
            let mut buf = self.channel.buffer();
            buf.put_slice(&message.payload);
            self.channel.send(self.now, kind, buf).unwrap();
        }
        self.poll();
    }

    fn announce(&mut self, message: &Message) {
        let state = SessionState::decode(&message.payload).unwrap();
        let known = match &*state.session_state {
            "Connected" => AgentState::Connected,
            "Terminating" => AgentState::Terminating,
            other => panic!("{other}"),
        };
        self.channel.announce(self.now, known, &state.session_id);
        self.poll();
    }

    /// The plugin sends no such flag, so no captured frame acknowledges it.
    fn acknowledge_opening_flag(&mut self, opening_flag: i64) {
        if opening_flag == 1 && self.kind.is_some() && self.stream.len() == 2 {
            self.receive(acknowledgement(1));
        }
    }

    fn poll(&mut self) {
        while let Some(transmit) = self.channel.poll_transmit(self.now) {
            match transmit {
                Transmit::Text(text) => self.opens.push(text.expose().clone()),
                Transmit::Ping => {}
                Transmit::Binary(wire) => {
                    let message = Message::decode(wire, Strictness::Strict).unwrap();
                    match message.header.message_type {
                        MessageType::Acknowledge => self.acks.push(message),
                        MessageType::AgentSessionState => self.states.push(message),
                        _ => self.stream.push(message),
                    }
                }
            }
        }
        while let Some(event) = self.channel.poll_event() {
            match event {
                Event::Ready(ready) => self.kind = Some(ready.kind),
                Event::Payload { kind, payload } => self.payloads.push((kind, payload.to_vec())),
                Event::Closed(reason) => self.closed = Some(reason),
                Event::KeyRequired(request) => {
                    let key = captured_key();
                    assert_eq!(
                        request.key_id,
                        "arn:aws:kms:us-east-1:123456789012:key/00000000-1111-2222-3333-444444444444"
                    );
                    self.channel.install_key(self.now, Ok(key));
                }
                Event::Resumed | Event::Redial { .. } => panic!("{event:?}"),
            }
        }
    }

    fn assert_ended_by_service(self) {
        assert_eq!(self.closed, Some(CloseReason::AgentClosed { exit_code: None, detail: None }));
    }

    /// By the acknowledgement of it or, where the agent did not get round to that, after 2 s.
    fn assert_ended_by_flag(mut self) {
        self.now += Duration::from_secs(2);
        self.channel.handle_timeout(self.now);
        self.poll();
        assert_eq!(self.closed, Some(CloseReason::Terminated));
    }
}

/// What one of AWS's programs sent.
#[derive(Default)]
struct Sent {
    stream: Vec<Message>,
    acks: Vec<Message>,
}

impl Sent {
    fn add(&mut self, message: &Message) {
        match message.header.message_type {
            MessageType::Acknowledge => self.acks.push(message.clone()),
            _ => self.stream.push(message.clone()),
        }
    }
}

/// Our client as the plugin in the captures, which sends 1,024 bytes at most and tries no more.
fn plugin() -> Config {
    Config { version: "1.2.677.0".into(), payload_max: 1024, ..Config::client() }
}

/// Our agent as the one in the capture: its version, and what it offers.
fn agent_config(capture: &str, kind: SessionKind) -> Config {
    let request = frames(capture)
        .filter(|frame| frame.dir == "agent->client")
        .map(|frame| decode(&frame.wire))
        .find(|message| message.header.payload_type == Some(PayloadType::HandshakeRequest));
    let open =
        frames(capture).find_map(|frame| frame.text.filter(|_| frame.dir == "agent->service")).unwrap();
    let node = OpenDataChannel::decode(&open).unwrap().client_instance_id.unwrap();
    let Some(request) = request else {
        let session_type = match kind {
            SessionKind::InteractiveCommands => "InteractiveCommands",
            _ => "Standard_Stream",
        };
        let offer = Offer {
            session_type: session_type.into(),
            properties: None,
            handshake: Handshake::Skipped,
            kms: None,
        };
        return Config::agent(&node, offer);
    };
    let HandshakeRequest { agent_version, actions } = HandshakeRequest::decode(&request.payload).unwrap();
    let [ClientAction::SessionType { session_type, properties }] = &actions[..] else {
        panic!("{actions:?}")
    };
    let offer = Offer {
        session_type: session_type.clone(),
        properties: properties.clone(),
        handshake: Handshake::Required,
        kms: None,
    };
    Config { version: agent_version, ..Config::agent(&node, offer) }
}

struct Frame<'a> {
    at: Duration,
    dir: &'a str,
    wire: Bytes,
    text: Option<String>,
}

fn frames(capture: &str) -> impl Iterator<Item = Frame<'_>> {
    capture.lines().map(|line| {
        let [at, dir, kind, wire] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let wire = STANDARD.decode(wire).unwrap();
        let text = (kind == "text").then(|| String::from_utf8(wire.clone()).unwrap());
        Frame { at: Duration::from_millis(at.parse().unwrap()), dir, wire: wire.into(), text }
    })
}

/// What an application gets to see of one direction.
fn payloads(capture: &str, dir: &str) -> Vec<(PayloadType, Vec<u8>)> {
    let shown = [
        PayloadType::Output,
        PayloadType::Size,
        PayloadType::StdErr,
        PayloadType::ExitCode,
        PayloadType::Flag,
    ];
    frames(capture)
        .filter(|frame| frame.dir == dir)
        .map(|frame| decode(&frame.wire))
        .filter(|message| message.header.message_type.is_stream())
        .map(|message| (message.header.payload_type.unwrap(), message.payload.to_vec()))
        .filter(|(kind, _)| shown.contains(kind))
        .collect()
}

fn decode(wire: &Bytes) -> Message {
    Message::decode(wire.clone(), Strictness::Strict).unwrap()
}

/// An acknowledgement of a message behind the opening flag is for a number one higher.
fn renumbered(wire: Bytes, by: i64) -> Bytes {
    let message = decode(&wire);
    if by == 0 || message.header.message_type != MessageType::Acknowledge {
        return wire;
    }
    match Acknowledge::decode(&message.payload).unwrap().sequence {
        0 => wire,
        sequence => acknowledgement(sequence + by),
    }
}

fn acknowledgement(sequence: i64) -> Bytes {
    let mut buf = MessageBuf::with_capacity(Acknowledge::MAX_LEN);
    let message_type = MessageType::InputStreamData;
    Acknowledge { message_type, message_id: MessageId::default(), sequence }.encode(&mut buf);
    buf.finish(Header::control(MessageType::Acknowledge, MessageId::default(), 1))
}

/// Everything but ids and dates; a handshake's payload by what it means.
fn assert_same(ours: &Message, theirs: &Message) {
    let (us, them) = (&ours.header, &theirs.header);
    assert_eq!(us.message_type, them.message_type);
    assert_eq!((us.layout, us.schema_version), (Layout::Standard, them.schema_version));
    assert_eq!((us.sequence, us.flags), (them.sequence, them.flags));
    assert_eq!(us.payload_type, them.payload_type, "number {}", us.sequence);
    if us.payload_type == Some(PayloadType::HandshakeComplete) {
        let theirs = HandshakeComplete::decode(&theirs.payload).unwrap();
        let ours = HandshakeComplete::decode(&ours.payload).unwrap();
        assert_eq!(ours.customer_message, theirs.customer_message);
    } else {
        let text = |payload| String::from_utf8_lossy(payload).into_owned();
        assert_eq!(text(&ours.payload), text(&theirs.payload), "number {}", us.sequence);
    }
}

/// The same messages are acknowledged, in the same words. The order of two that cross does not matter.
fn assert_same_acks(ours: &mut [Message], theirs: &mut [Message]) {
    let number = |message: &Message| Acknowledge::decode(&message.payload).unwrap().sequence;
    ours.sort_by_key(number);
    theirs.sort_by_key(number);
    assert_eq!(ours.len(), theirs.len());
    for (ours, theirs) in ours.iter().zip(theirs) {
        assert_same(ours, theirs);
    }
}

/// The same members in the same order; ids are our own.
fn assert_same_open(ours: &str, theirs: &str) {
    let members = |text: &str| -> Vec<String> {
        let ids = ["RequestId", "ClientId"];
        let mut rest = text.trim_matches(['{', '}']).to_owned();
        let Value::Object(object) = serde_json::from_str(text).unwrap() else { panic!("{text}") };
        for id in ids {
            if let Some(Value::String(value)) = object.get(id).filter(|value| **value != "") {
                rest = rest.replace(value, "id");
            }
        }
        rest.split(',').map(str::to_owned).collect()
    };
    assert_eq!(members(ours), members(theirs));
}
