//! A small client: the real channel in the client's role, over one WebSocket at a time.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant, SystemTime};

use futures_util::{SinkExt, Stream, StreamExt};
use serde_json::{Value, json};
use ssm_channel::{Channel, CloseReason, Config, Event, Ready, Role, Transmit};
use ssm_proto::{MessageBuf, PayloadType, Token};
use tokio::net::TcpStream;
use tokio::time::{sleep_until, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::api::{Api, SOON};

pub(crate) struct Client {
    pub(crate) session_id: String,
    channel: Channel,
    socket: Option<WebSocketStream<TcpStream>>,
    /// Payloads as they came.
    pub(crate) output: Vec<(PayloadType, Vec<u8>)>,
    pub(crate) closed: Option<CloseReason>,
    pub(crate) ready: Option<Ready>,
    pub(crate) resumes: u32,
}

impl Client {
    pub(crate) async fn start(api: &Api, document: &str, parameters: Value) -> Self {
        Self::start_with(api, document, parameters, config()).await
    }

    pub(crate) async fn start_with(api: &Api, document: &str, parameters: Value, config: Config) -> Self {
        let request = json!({"Target": api.target(), "DocumentName": document, "Parameters": parameters});
        let answer = api.ok("StartSession", request).await;
        let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let channel = Channel::new(Role::Client, Arc::new(config), [7; 32], Instant::now(), unix);
        let mut client = Self {
            session_id: answer["SessionId"].as_str().unwrap().to_owned(),
            channel,
            socket: None,
            output: Vec::new(),
            closed: None,
            ready: None,
            resumes: 0,
        };
        client.connect(&answer).await;
        client
    }

    async fn connect(&mut self, answer: &Value) {
        let url = answer["StreamUrl"].as_str().unwrap();
        let address = url.strip_prefix("ws://").unwrap().split('/').next().unwrap();
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        self.socket = Some(client_async(url, stream).await.unwrap().0);
        let token = Token::new(answer["TokenValue"].as_str().unwrap().to_owned());
        self.channel.handle_connected(Instant::now(), token);
    }

    /// Runs the session until `done` holds.
    pub(crate) async fn until(&mut self, api: &Api, what: &str, mut done: impl FnMut(&Self) -> bool) {
        let run = async {
            while !done(self) {
                self.turn(api).await;
            }
        };
        if timeout(SOON * 2, run).await.is_err() {
            panic!("{what} did not happen; closed: {:?}, output: {}", self.closed, self.text());
        }
    }

    pub(crate) async fn until_closed(&mut self, api: &Api) -> CloseReason {
        self.until(api, "the end", |client| client.closed.is_some()).await;
        self.closed.clone().unwrap()
    }

    pub(crate) async fn until_ready(&mut self, api: &Api) -> Ready {
        self.until(api, "the start", |client| client.ready.is_some()).await;
        self.ready.clone().unwrap()
    }

    pub(crate) async fn until_text(&mut self, api: &Api, text: &str) {
        self.until(api, text, |client| client.text().contains(text)).await;
    }

    /// All payloads of type Output.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes(PayloadType::Output)).into_owned()
    }

    pub(crate) fn bytes(&self, wanted: PayloadType) -> Vec<u8> {
        self.output.iter().filter(|(kind, _)| *kind == wanted).flat_map(|(_, bytes)| bytes.clone()).collect()
    }

    /// Sends a payload as soon as the channel takes it.
    pub(crate) async fn send(&mut self, api: &Api, kind: PayloadType, payload: &[u8]) {
        self.until(api, "room to send", |client| client.channel.can_send()).await;
        let mut buf = MessageBuf::with_capacity(payload.len());
        buf.put_slice(payload);
        self.channel.send(Instant::now(), kind, buf).unwrap();
        self.transmit().await;
    }

    pub(crate) async fn until_drained(&mut self, api: &Api) {
        self.until(api, "acknowledgement of everything", |client| client.channel.is_drained()).await;
    }

    async fn transmit(&mut self) {
        while let Some(transmit) = self.channel.poll_transmit(Instant::now()) {
            let Some(socket) = &mut self.socket else { return };
            let message = match transmit {
                Transmit::Binary(frame) => Message::Binary(frame),
                Transmit::Text(text) => Message::text(text.expose().as_str()),
                Transmit::Ping => Message::Ping("keepalive".into()),
            };
            if socket.feed(message).await.is_err() {
                return self.lose();
            }
        }
        if let Some(socket) = &mut self.socket
            && socket.flush().await.is_err()
        {
            self.lose();
        }
    }

    fn lose(&mut self) {
        self.socket = None;
        self.channel.handle_disconnected(Instant::now());
    }

    async fn turn(&mut self, api: &Api) {
        self.transmit().await;
        let mut news = false;
        while let Some(event) = self.channel.poll_event() {
            news = true;
            match event {
                Event::Ready(ready) => self.ready = Some(ready),
                Event::Resumed => self.resumes += 1,
                Event::Payload { kind, payload } => self.output.push((kind, payload.to_vec())),
                Event::Closed(reason) => self.closed = Some(reason),
                Event::KeyRequired(_) => panic!("no session here is encrypted"),
                Event::Redial { .. } => {
                    let answer = api.ok("ResumeSession", json!({"SessionId": self.session_id})).await;
                    if answer.get("TokenValue").is_none() {
                        self.channel.handle_resume_refused();
                    } else {
                        self.connect(&answer).await;
                    }
                }
            }
        }
        self.transmit().await;
        if news {
            return;
        }
        // Everything that has arrived, or the next thing that does.
        let far = Instant::now() + Duration::from_secs(1);
        let mut timer = pin!(sleep_until(self.channel.poll_timeout().unwrap_or(far).min(far).into()));
        let socket = &mut self.socket;
        let frame = poll_fn(|cx| {
            if let Some(socket) = socket
                && let Poll::Ready(frame) = socket.poll_next_unpin(cx)
            {
                return Poll::Ready(Some(frame));
            }
            timer.as_mut().poll(cx).map(|()| None)
        });
        match frame.await {
            Some(Some(Ok(Message::Binary(frame)))) => {
                self.channel.handle_binary(Instant::now(), frame).unwrap();
                self.take_waiting();
            }
            Some(Some(Ok(_))) => self.channel.handle_pong(Instant::now()),
            Some(Some(Err(_)) | None) => self.lose(),
            None => {}
        }
        self.channel.handle_timeout(Instant::now());
    }

    /// Takes what has arrived besides, up to a batch.
    fn take_waiting(&mut self) {
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        for _ in 0..64 {
            let Some(socket) = &mut self.socket else { return };
            match pin!(socket).poll_next(&mut cx) {
                Poll::Ready(Some(Ok(Message::Binary(frame)))) => {
                    self.channel.handle_binary(Instant::now(), frame).unwrap();
                }
                Poll::Ready(Some(Ok(_))) => self.channel.handle_pong(Instant::now()),
                Poll::Ready(Some(Err(_)) | None) => return self.lose(),
                Poll::Pending => return,
            }
        }
    }
}

/// A client without pacing.
pub(crate) fn config() -> Config {
    Config { pacing: None, ..Config::client() }
}
