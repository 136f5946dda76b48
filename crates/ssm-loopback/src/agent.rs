//! The agent driver: runs one session behind a data channel, in one task.
//!
//! A turn takes in frames, lets the plugin move bytes, and flushes once. What the agent does with a message is decided by
//! [`Channel`](ssm_channel::Channel) in the agent's role; what the bytes mean, by the plugin.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ssm_channel::{
    AgentState, CloseReason, DataKey, Event, Evidence, Handshake, HandshakeError, Input, KeyRequest,
    KmsOffer, Offer, Ready,
};
use ssm_proto::body::{ClientAction, HandshakeRequest};
use ssm_proto::{PayloadType, RawValue, Secret, Strictness};
use tokio::time::{Sleep, sleep_until};

use crate::config::{Config, Profile};
use crate::document::SessionType;
use crate::kms::{KmsAnswer, KmsChallenge};
use crate::plugin::{Announcement, Finish, Plugin};
use crate::random;
use crate::service::{AgentEndpoint, SessionStart};
use crate::wire::{Received, Wire};

/// Frames taken in before the plugin has its turn.
const BATCH: usize = 64;
/// How long AWS's agent waits for the acknowledgement of its last output; the rest is lost (agent `sessionplugin.go`).
const AWS_DRAIN: Duration = Duration::from_secs(2);
/// How long the fast profile waits, so that output arrives over a path with heavy losses too.
const FAST_DRAIN: Duration = Duration::from_secs(10);
/// How long the very last frames may take to be written.
const LEAVE: Duration = Duration::from_secs(2);

/// Runs one session until it is over, and returns the text for `channel_closed`.
pub(crate) async fn run(start: SessionStart, endpoint: AgentEndpoint, config: Arc<Config>) -> String {
    let channel = channel_config(&start, &config);
    let mut agent = Agent {
        wire: Wire::new(channel, start.session_id.clone(), endpoint),
        start,
        config,
        stage: Stage::Starting,
        key: None,
        ask_again: false,
        timer: Box::pin(sleep_until(tokio::time::Instant::now())),
    };
    let output = poll_fn(|cx| agent.poll(cx)).await;
    if let Stage::Running(plugin) = agent.stage {
        plugin.stop().await;
    }
    agent.wire.leave().await;
    output
}

struct Agent {
    start: SessionStart,
    config: Arc<Config>,
    wire: Wire,
    stage: Stage,
    /// The session's data key, on its way from a KMS elsewhere.
    key: Option<KmsAnswer>,
    /// A second request for a handshake is due, because of a fault.
    ask_again: bool,
    timer: Pin<Box<Sleep>>,
}

enum Stage {
    /// Connecting, or in the handshake.
    Starting,
    /// Started, and not ready for what comes until this time, because of a fault.
    Unready {
        ready: Box<Ready>,
        until: Instant,
    },
    Running(Box<Plugin>),
    /// The plugin is done; its last output is on the way.
    Draining {
        finish: Finish,
        until: Instant,
    },
    /// Everything is said that will be; the last frames are being written.
    Leaving {
        output: String,
        until: Instant,
    },
}

impl Agent {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<String> {
        self.wire.begin_turn();
        let mut again = false;
        if let Poll::Ready(output) = self.poll_input(cx, &mut again) {
            return Poll::Ready(output);
        }
        // What was begun in this turn is polled in it too; a new socket is read in the next.
        again |= self.wire.poll_dial(cx).is_ready();
        if let Some(key) = &mut self.key
            && let Poll::Ready(key) = key.as_mut().poll(cx)
        {
            self.key = None;
            self.wire.install_key(data_key(key));
            again = true;
        }
        if self.ask_again && self.wire.can_send(cx) {
            self.ask_again = false;
            self.ask_again();
        }
        if let Stage::Unready { ready, until } = &self.stage
            && *until <= self.wire.now()
        {
            let ready = ready.clone();
            self.run_plugin(&ready);
        }
        if let Stage::Running(plugin) = &mut self.stage {
            let full = !plugin.has_room();
            if let Poll::Ready(finish) = plugin.poll(cx, &mut self.wire) {
                self.drain(finish);
            } else {
                again |= full && plugin.has_room();
            }
        }
        self.wire.transmit(cx);
        let flushed = self.wire.poll_flush(cx);
        if let Poll::Ready(output) = self.poll_end(flushed, &mut again) {
            return Poll::Ready(output);
        }
        self.arm_timer(cx, again);
        Poll::Pending
    }

    /// Takes in frames while the plugin has room for what they bring, and while output waits for acknowledgements, which come the
    /// same way: a program that waits for its output to go reads nothing.
    fn poll_input(&mut self, cx: &mut Context<'_>, again: &mut bool) -> Poll<String> {
        for _ in 0..BATCH {
            while let Some(event) = self.wire.poll_event() {
                if let Poll::Ready(output) = self.handle_event(event) {
                    return Poll::Ready(output);
                }
            }
            if matches!(&self.stage, Stage::Running(plugin) if !plugin.has_room()) && self.wire.can_send(cx) {
                return Poll::Pending;
            }
            self.wire.set_input(self.input());
            match self.wire.poll_receive(cx) {
                Poll::Ready(Received::Frame) => {}
                Poll::Ready(Received::Lost) => break,
                Poll::Pending => return Poll::Pending,
            }
        }
        *again = true;
        Poll::Pending
    }

    /// Whether input is acknowledged. What is not comes again.
    fn input(&self) -> Input {
        let accepts = match &self.stage {
            Stage::Unready { .. } => false,
            Stage::Running(plugin) => plugin.is_ready() && plugin.has_room(),
            Stage::Starting | Stage::Draining { .. } | Stage::Leaving { .. } => true,
        };
        if accepts { Input::Accepted } else { Input::Refused }
    }

    fn handle_event(&mut self, event: Event) -> Poll<String> {
        match event {
            Event::Ready(ready) => {
                let faults = self.wire.faults();
                let (again, unready) = (faults.handshake_again(), faults.unready());
                self.ask_again = again && ready.evidence == Evidence::Handshake;
                match unready {
                    Some(time) => {
                        let until = self.wire.now() + time;
                        self.stage = Stage::Unready { ready: Box::new(ready), until };
                    }
                    None => self.run_plugin(&ready),
                }
            }
            Event::Payload { kind, payload } => {
                if let Stage::Running(plugin) = &mut self.stage {
                    plugin.handle(kind, payload);
                }
            }
            Event::Resumed => {}
            Event::KeyRequired(request) => self.decrypt(request),
            Event::Redial { .. } => {
                if self.wire.dial().is_gone() {
                    return Poll::Ready(String::new());
                }
            }
            Event::Closed(reason) => return Poll::Ready(closing_text(&reason)),
        }
        Poll::Pending
    }

    fn run_plugin(&mut self, ready: &Ready) {
        match Plugin::start(ready, &self.start, &self.config, &mut self.wire) {
            Ok(plugin) => self.stage = Stage::Running(Box::new(plugin)),
            Err(finish) => self.drain(finish),
        }
    }

    /// A second request for the handshake, under a number of its own.
    fn ask_again(&mut self) {
        let session_type = self.start.session_type.name().to_owned();
        let request = HandshakeRequest {
            agent_version: self.config.agent_version.clone(),
            actions: vec![ClientAction::SessionType { session_type, properties: None }],
        };
        self.wire.send_bytes(PayloadType::HandshakeRequest, &request.encode());
    }

    /// As the node it is: the target in the context is its own id (agent `blockcipher.go`).
    fn decrypt(&mut self, request: KeyRequest) {
        let SessionStart { session_id, target, .. } = &self.start;
        match self.config.kms.as_ref().and_then(|kms| kms.authority.as_ref()) {
            Some(authority) => {
                let context = request.context(session_id, target);
                self.key = Some(authority.decrypt(request.key_id, request.ciphertext, context));
            }
            None => {
                let key = self.wire.data_keys().decrypt_for_agent(&request, session_id, target);
                self.wire.install_key(data_key(key));
            }
        }
    }

    fn drain(&mut self, finish: Finish) {
        let patience = match self.config.profile {
            Profile::Fast => FAST_DRAIN,
            Profile::Aws => AWS_DRAIN,
        };
        self.stage = Stage::Draining { finish, until: self.wire.now() + patience };
    }

    fn poll_end(&mut self, flushed: Poll<()>, again: &mut bool) -> Poll<String> {
        let now = self.wire.now();
        match &mut self.stage {
            Stage::Draining { finish, until } if self.wire.is_drained() || *until <= now => {
                if finish.announcement == Announcement::Terminating {
                    self.wire.announce(AgentState::Terminating);
                }
                let output = std::mem::take(&mut finish.output);
                self.stage = Stage::Leaving { output, until: now + LEAVE };
                *again = true;
                Poll::Pending
            }
            Stage::Leaving { output, until } if flushed.is_ready() || *until <= now => {
                Poll::Ready(std::mem::take(output))
            }
            _ => Poll::Pending,
        }
    }

    fn arm_timer(&mut self, cx: &mut Context<'_>, again: bool) {
        let own = match &self.stage {
            Stage::Starting => None,
            Stage::Running(plugin) => plugin.deadline(),
            Stage::Unready { until, .. } | Stage::Draining { until, .. } | Stage::Leaving { until, .. } => {
                Some(*until)
            }
        };
        let mut due = again;
        if let Some(next) = [own, self.wire.deadline()].into_iter().flatten().min() {
            let next = tokio::time::Instant::from_std(next);
            if self.timer.deadline() != next {
                self.timer.as_mut().reset(next);
            }
            due |= self.timer.as_mut().poll(cx).is_ready();
        }
        if due {
            cx.waker().wake_by_ref();
        }
    }
}

fn data_key(decrypted: Result<Secret<Vec<u8>>, String>) -> Result<DataKey, String> {
    DataKey::new(decrypted?.expose(), Vec::new()).map_err(|error| error.to_string())
}

fn channel_config(start: &SessionStart, config: &Config) -> ssm_channel::Config {
    let session_type = start.session_type;
    let port = session_type == SessionType::Port;
    // The three other types send no properties (agent plugins' GetPluginParameters).
    let properties = port.then(|| RawValue::from_string(start.properties.to_string()).ok()).flatten();
    let kms = config.kms.as_ref().filter(|_| !port).map(|kms| KmsOffer {
        key_id: kms.key_id.clone(),
        challenge: (kms.challenge != KmsChallenge::Absent)
            .then(|| BASE64_STANDARD.encode(random::bytes::<16>())),
        require_challenge: kms.challenge == KmsChallenge::Required,
    });
    let handshake = match session_type {
        SessionType::StandardStream | SessionType::InteractiveCommands if kms.is_none() => Handshake::Skipped,
        _ => Handshake::Required,
    };
    let offer = Offer { session_type: session_type.name().to_owned(), properties, handshake, kms };
    let mut channel = ssm_channel::Config::agent(&start.target, offer);
    channel.version = config.agent_version.clone();
    match config.profile {
        // Shells serve clients that write another digest than SHA-256, npm ssm-session for one.
        Profile::Fast if port => {
            channel.strictness = Strictness::Lenient;
            channel.payload_len = config.payload_len;
            channel.window_min = channel.window_max;
        }
        Profile::Fast => channel.payload_len = config.payload_len,
        // AWS's agent never looks at what is unacknowledged until 100,000 messages are (agent config.go).
        Profile::Aws => {
            channel.in_flight_max = 100_000;
            channel.window_max = 100_000 * 1200;
            channel.window_min = channel.window_max;
        }
    }
    channel
}

/// What the user reads when the session ends with its channel (agent `datachannel.go`, `sessionplugin.go`).
fn closing_text(reason: &CloseReason) -> String {
    let CloseReason::HandshakeFailed(error) = reason else { return String::new() };
    let detail = match error {
        HandshakeError::Timeout => {
            "Handshake timed out. Please ensure that you have the latest version of the session manager plugin."
                .to_owned()
        }
        HandshakeError::Refused { action, error } => {
            format!("{action} failed on client with status 2 error: {error}")
        }
        other => other.to_string(),
    };
    format!("----------ERROR-------\nEncountered error while initiating handshake. {detail}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use futures_util::{SinkExt as _, StreamExt as _};
    use ssm_channel::{Channel, Role, Transmit};
    use ssm_proto::body::SessionState;
    use ssm_proto::{Flags, Message, MessageType, Token};
    use tokio::net::TcpListener;
    use tokio_tungstenite::tungstenite;

    use super::*;
    use crate::service::{Service, SessionRequest};

    /// Seen with AWS's agent 3.3, 15 s after its request. The 15 s are [`ssm_channel`]'s.
    #[test]
    fn item_61_a_handshake_without_an_answer_is_told_in_the_words_of_the_agent() {
        let offer = Offer {
            session_type: "Port".into(),
            properties: None,
            handshake: Handshake::Required,
            kms: None,
        };
        assert_eq!(ssm_channel::Config::agent("i-1", offer).handshake_timeout, Duration::from_secs(15));
        let text = closing_text(&CloseReason::HandshakeFailed(HandshakeError::Timeout));
        assert_eq!(
            text,
            "----------ERROR-------\nEncountered error while initiating handshake. Handshake timed out. Please \
             ensure that you have the latest version of the session manager plugin."
        );
        assert_eq!(closing_text(&CloseReason::Terminated), "");
    }

    /// As captured of AWS's agent: the first message, the last one, and no last one of port sessions.
    #[tokio::test]
    async fn item_107_an_agent_says_first_that_it_is_connected_and_last_that_its_shell_has_ended() {
        let said =
            |document, name: &str, value: &str| heard(document, [(name.into(), vec![value.into()])].into());
        let command = said("AWS-StartInteractiveCommand", "command", "echo hello").await;
        let states: Vec<&str> = command.iter().map(|(state, _)| &**state).collect();
        assert!(states.len() > 2, "{states:?}");
        assert_eq!((states[0], states[states.len() - 1]), ("Connected", "Terminating"));
        assert!(states[1..states.len() - 1].iter().all(|state| state.is_empty()), "{states:?}");
        for (_, header) in command.iter().filter(|(state, _)| !state.is_empty()) {
            assert_eq!((header.sequence, header.flags), (0, Flags::SYN_FIN));
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port().to_string();
        let port = said("AWS-StartPortForwardingSession", "portNumber", &port).await;
        let states: Vec<&str> =
            port.iter().map(|(state, _)| &**state).filter(|state| !state.is_empty()).collect();
        assert_eq!((&*port[0].0, states), ("Connected", vec!["Connected"]));
    }

    /// Everything the agent of a session says, with the state it announces, to a client that ends a port session at once.
    async fn heard(
        document: &str,
        parameters: BTreeMap<String, Vec<String>>,
    ) -> Vec<(String, ssm_proto::Header)> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config = Config { shell: Some("/bin/sh".into()), ..Config::default() };
        let service = Arc::new(Service::new(config, listener.local_addr().unwrap()));
        let target = service.config.targets[0].clone();
        let document = Some(document.to_owned());
        let request = SessionRequest { target, document, parameters, reason: None, owner: None };
        service.start_session(request).unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
        assert!(socket.next().await.unwrap().unwrap().is_text(), "the token comes first");
        let client = Arc::new(ssm_channel::Config::client());
        let mut client = Channel::new(Role::Client, client, [1; 32], Instant::now(), Duration::from_secs(1));
        client.handle_connected(Instant::now(), Token::new("t".into()));
        let mut said = Vec::new();
        while let Some(Ok(message)) = socket.next().await {
            let tungstenite::Message::Binary(wire) = message else { continue };
            let message = Message::decode(wire.clone(), Strictness::Strict).unwrap();
            let state = match message.header.message_type {
                MessageType::AgentSessionState => {
                    SessionState::decode(&message.payload).unwrap().session_state
                }
                _ => String::new(),
            };
            said.push((state, message.header));
            client.handle_binary(Instant::now(), wire).unwrap();
            if client.ready().is_some_and(|ready| ready.port.is_some()) {
                client.terminate(Instant::now());
            }
            while let Some(transmit) = client.poll_transmit(Instant::now()) {
                if let Transmit::Binary(wire) = transmit {
                    // An agent that has ended reads no more.
                    let _ = socket.send(tungstenite::Message::Binary(wire)).await;
                }
            }
        }
        service.shut_down().await;
        said
    }
}
