//! What a gateway written by hand sees of a session, and what it can do to one.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_credential_types::Credentials;
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use ssm_proto::body::OpenDataChannel;
use ssm_proto::{Header, MessageBuf, MessageId, MessageType};
use ssm_session::{
    CloseReason, Config, ControlError, ControlPlane, Endpoint, Event, Identity, PayloadType, Resumed,
    Session, SessionId, StartSession, Token,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};

const SOON: Duration = Duration::from_secs(20);

#[tokio::test]
async fn item_3_15_a_stream_url_goes_out_as_it_came_and_signed() {
    let gateway = Gateway::start().await;
    let query = "?role=publish_subscribe&cell-number=AAEAAZ%2B%3D&new=%7Ea%2Fb+c&empty=&X-Other";
    let _client = Client::start(Control { query: Mutex::new(vec![query]), ..gateway.control() });
    let open = gateway.accept().await;
    assert_eq!(open.target, format!("/v1/data-channel/me-1{query}"));
    let authorization = open.authorization.unwrap();
    assert!(authorization.starts_with("AWS4-HMAC-SHA256 Credential=AKID0/"), "{authorization}");
    assert!(authorization.contains("/eu-west-1/ssmmessages/aws4_request"), "{authorization}");
}

#[tokio::test]
async fn item_15_a_url_that_is_signed_already_is_not_signed_again() {
    let gateway = Gateway::start().await;
    let query = "?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=00ff";
    let _client = Client::start(Control { query: Mutex::new(vec![query]), ..gateway.control() });
    let open = gateway.accept().await;
    assert_eq!((open.target, open.authorization), (format!("/v1/data-channel/me-1{query}"), None));
}

#[tokio::test]
async fn item_4_6_22_each_connection_has_a_token_a_url_and_credentials_of_its_own() {
    let gateway = Gateway::start().await;
    // The last resume names no URL.
    let query = Mutex::new(vec!["", "?cell-number=c", "?cell-number=b", "?cell-number=a"]);
    let client = Client::start(Control { query, ..gateway.control() });
    let identities = Arc::clone(&client.identities);
    for (number, target) in (0..).zip([
        "/v1/data-channel/me-1?cell-number=a",
        "/v1/data-channel/me-1?cell-number=b",
        "/v1/data-channel/me-1?cell-number=c",
        "/v1/data-channel/me-1?cell-number=c",
    ]) {
        let open = gateway.accept().await;
        assert_eq!((&*open.target, &**open.first.token.expose()), (target, &*format!("token-{number}")));
        assert_eq!(identities.load(Ordering::SeqCst), number + 1);
        assert!(open.authorization.unwrap().contains(&format!("Credential=AKID{number}/")));
    }
}

#[tokio::test]
async fn item_5_a_resume_without_a_token_is_the_end() {
    let gateway = Gateway::start().await;
    let mut client = Client::start(Control { resumes: 1, ..gateway.control() });
    drop(gateway.accept().await);
    drop(gateway.accept().await);
    assert_eq!(client.closed().await, CloseReason::ResumeRefused);
}

/// The library cannot hand over a text frame that is no text, so that its message has to come again.
#[tokio::test]
async fn item_16_fragments_are_one_message_and_broken_text_is_a_lost_connection() {
    let gateway = Gateway::start().await;
    let mut client = Client::start(gateway.control());
    let mut open = gateway.accept().await;
    let wire = output(0, b"in three parts");
    let part = |range: std::ops::Range<usize>, kind, last| {
        Message::Frame(Frame::message(wire.slice(range), OpCode::Data(kind), last))
    };
    open.send(part(0..7, Data::Binary, false)).await;
    open.send(part(7..100, Data::Continue, false)).await;
    open.send(Message::Ping(Bytes::new())).await;
    open.send(part(100..wire.len(), Data::Continue, true)).await;
    assert_eq!(client.payload().await, b"in three parts"[..]);

    let broken = output(1, b"\xff\xfe and text");
    open.send(Message::Frame(Frame::message(broken.clone(), OpCode::Data(Data::Text), true))).await;
    let mut open = gateway.accept().await;
    open.send(Message::Binary(broken)).await;
    assert_eq!(client.payload().await, b"\xff\xfe and text"[..]);
    assert_eq!(client.losses(), ["the peer sent text that is not UTF-8"]);
}

#[tokio::test]
async fn item_17_a_ping_is_answered() {
    let gateway = Gateway::start().await;
    let _client = Client::start(gateway.control());
    let mut open = gateway.accept().await;
    open.send(Message::Ping(Bytes::from_static(b"are you there"))).await;
    loop {
        match open.receive().await {
            Message::Pong(payload) => break assert_eq!(payload, b"are you there"[..]),
            Message::Ping(_) | Message::Binary(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn item_18_19_every_kind_of_loss_leads_to_another_connection_that_goes_on() {
    let gateway = Gateway::start().await;
    let mut client = Client::start(gateway.control());
    let mut open = gateway.accept().await;
    for (sequence, end) in (0..).zip([
        End::Close(1000),
        End::Close(1001),
        End::Close(1011),
        End::Close(4000),
        End::Silent,
        End::Reset,
    ]) {
        let text = format!("before {end:?}");
        open.send(Message::Binary(output(sequence, text.as_bytes()))).await;
        assert_eq!(client.payload().await, text.as_bytes());
        open.end(end).await;
        open = gateway.accept().await;
        client.until(|event| matches!(event, Event::Resumed).then_some(())).await;
    }
    open.send(Message::Binary(output(6, b"still here"))).await;
    assert_eq!(client.payload().await, b"still here"[..]);
}

#[tokio::test]
async fn item_21_a_session_that_cannot_be_reconnected_ends_with_its_budget_and_says_so() {
    let gateway = Gateway::start().await;
    let mut control = gateway.control();
    control.reconnect = Some(Duration::from_millis(300));
    let mut client = Client::start(control);
    let open = gateway.accept().await;
    drop(gateway);
    open.end(End::Reset).await;
    assert_eq!(client.closed().await, CloseReason::ConnectionLost(Duration::from_millis(300)));
}

#[tokio::test]
async fn item_80_messages_far_longer_than_the_agents_are_taken() {
    let gateway = Gateway::start().await;
    let mut client = Client::start(gateway.control());
    let mut open = gateway.accept().await;
    for (sequence, len) in (0..).zip([1024, 1027, 64 * 1024, 1024 * 1024 - 120]) {
        let payload: Vec<u8> = (0..len).map(|at: usize| (at % 251) as u8).collect();
        open.send(Message::Binary(output(sequence, &payload))).await;
        assert!(client.payload().await == payload, "{len} bytes");
    }
}

/// A gateway that does nothing by itself.
struct Gateway {
    listener: TcpListener,
    address: SocketAddr,
}

/// A client that has opened its data channel.
struct Opened {
    /// Path and query of its request.
    target: String,
    authorization: Option<String>,
    first: OpenDataChannel,
    socket: WebSocketStream<TcpStream>,
}

/// How a connection ends.
#[derive(Debug, Clone, Copy)]
enum End {
    /// With a closing frame.
    Close(u16),
    /// Without one.
    Silent,
    /// With a reset.
    Reset,
}

impl Gateway {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        Self { listener, address }
    }

    fn control(&self) -> Control {
        Control {
            address: self.address,
            query: Mutex::new(vec!["?role=publish_subscribe"]),
            tokens: AtomicUsize::new(0),
            resumes: usize::MAX,
            identities: Arc::default(),
            reconnect: None,
        }
    }

    #[expect(clippy::result_large_err, reason = "the type of the handshake's callback")]
    async fn accept(&self) -> Opened {
        let (stream, _) = timeout(SOON, self.listener.accept()).await.expect("a connection comes").unwrap();
        let (mut target, mut authorization) = (String::new(), None);
        let note = |request: &Request, response: Response| -> Result<Response, ErrorResponse> {
            target = request.uri().path_and_query().unwrap().to_string();
            let header = request.headers().get("authorization");
            authorization = header.map(|value| value.to_str().unwrap().to_owned());
            Ok(response)
        };
        let mut socket = tokio_tungstenite::accept_hdr_async(stream, note).await.unwrap();
        let Message::Text(text) = socket.next().await.unwrap().unwrap() else {
            panic!("no text comes first")
        };
        Opened { target, authorization, first: OpenDataChannel::decode(&text).unwrap(), socket }
    }
}

impl Opened {
    async fn send(&mut self, message: Message) {
        self.socket.send(message).await.unwrap();
    }

    async fn receive(&mut self) -> Message {
        timeout(SOON, self.socket.next()).await.expect("something comes").unwrap().unwrap()
    }

    async fn end(mut self, end: End) {
        match end {
            End::Close(code) => {
                let frame = CloseFrame { code: CloseCode::from(code), reason: "Bye".into() };
                self.send(Message::Close(Some(frame))).await;
            }
            End::Silent => {}
            End::Reset => self.socket.get_ref().set_zero_linger().unwrap(),
        }
    }
}

/// A control plane that leads to the gateway.
struct Control {
    address: SocketAddr,
    /// What the URLs end with, the last one first; the last that is left is for all others. A resume with an empty one names no URL.
    query: Mutex<Vec<&'static str>>,
    tokens: AtomicUsize,
    /// After so many the session is over.
    resumes: usize,
    identities: Arc<AtomicUsize>,
    reconnect: Option<Duration>,
}

impl Control {
    fn endpoint(&self) -> Endpoint {
        let mut queries = self.query.lock().unwrap();
        let query = if queries.len() > 1 { queries.pop() } else { queries.first().copied() }.unwrap();
        let url = format!("ws://{}/v1/data-channel/me-1{query}", self.address);
        let token = format!("token-{}", self.tokens.fetch_add(1, Ordering::SeqCst));
        Endpoint {
            session_id: SessionId::new("me-1"),
            stream_url: if query.is_empty() { String::new() } else { url },
            token: Token::new(token),
        }
    }
}

impl ControlPlane for Control {
    async fn start(&self, _: &StartSession) -> Result<Endpoint, ControlError> {
        Ok(self.endpoint())
    }

    async fn resume(&self, _: &SessionId) -> Result<Resumed, ControlError> {
        let over = self.tokens.load(Ordering::SeqCst) > self.resumes;
        Ok(if over { Resumed::SessionOver } else { Resumed::Endpoint(self.endpoint()) })
    }

    async fn terminate(&self, _: &SessionId) -> Result<(), ControlError> {
        Ok(())
    }

    async fn identity(&self) -> Result<Option<Identity>, ControlError> {
        let number = self.identities.fetch_add(1, Ordering::SeqCst);
        let credentials = Credentials::new(format!("AKID{number}"), "secret", None, None, "test");
        Ok(Some(Identity::new(credentials, "eu-west-1")))
    }
}

/// A session that runs by itself.
struct Client {
    events: mpsc::UnboundedReceiver<Event>,
    losses: Arc<Mutex<Vec<String>>>,
    identities: Arc<AtomicUsize>,
}

impl Client {
    fn start(control: Control) -> Self {
        let (sender, events) = mpsc::unbounded_channel();
        let (losses, identities) = (Arc::default(), Arc::clone(&control.identities));
        let noted: Arc<Mutex<Vec<String>>> = Arc::clone(&losses);
        let mut config = Config::default();
        config.channel.reconnect = control.reconnect;
        tokio::spawn(async move {
            let mut session = Session::start(control, &StartSession::shell("i-1"), config).await.unwrap();
            loop {
                let event = session.next_event().await;
                if let (Event::Redial { .. }, Some(loss)) = (&event, session.loss()) {
                    noted.lock().unwrap().push(loss.cause.clone());
                }
                let closed = matches!(event, Event::Closed(_));
                if sender.send(event).is_err() || closed {
                    return;
                }
            }
        });
        Self { events, losses, identities }
    }

    async fn until<T>(&mut self, find: impl Fn(&Event) -> Option<T>) -> T {
        loop {
            let event = timeout(SOON, self.events.recv()).await.expect("an event comes").expect("it runs");
            if let Some(found) = find(&event) {
                return found;
            }
        }
    }

    /// The next output.
    async fn payload(&mut self) -> Bytes {
        let output = |event: &Event| match event {
            Event::Payload { kind: PayloadType::Output, payload } => Some(payload.clone()),
            _ => None,
        };
        self.until(output).await
    }

    async fn closed(&mut self) -> CloseReason {
        let closed =
            |event: &Event| if let Event::Closed(reason) = event { Some(reason.clone()) } else { None };
        self.until(closed).await
    }

    fn losses(&self) -> Vec<String> {
        self.losses.lock().unwrap().clone()
    }
}

/// A message of the agent.
fn output(sequence: i64, payload: &[u8]) -> Bytes {
    let id = MessageId::from_random([sequence as u8; 16]);
    let mut buf = MessageBuf::with_capacity(payload.len());
    buf.put_slice(payload);
    buf.finish(Header::stream(MessageType::OutputStreamData, PayloadType::Output, sequence, id, 1))
}
