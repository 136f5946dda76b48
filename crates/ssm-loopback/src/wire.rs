//! The agent's end of the data channel: a [`Channel`] and the WebSocket it happens to have.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use ssm_channel::{AgentState, Channel, Config, DataKey, Event, Input, Role, SendError, Transmit};
use ssm_proto::{MessageBuf, PayloadType, Token};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::client_async_with_config;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::Role as WebSocketRole;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::fault::Faults;
use crate::gateway::{Socket, farewell, socket_config};
use crate::kms::KeyStore;
use crate::random;
use crate::service::{AgentChannel, AgentEndpoint};

/// Longest time for connecting and upgrading.
const CONNECT: Duration = Duration::from_secs(10);

/// One session's channel, driven by the agent's task.
pub(crate) struct Wire {
    channel: Channel,
    session_id: String,
    endpoint: AgentEndpoint,
    link: Link,
    unflushed: bool,
    /// The time of this turn.
    now: Instant,
}

enum Link {
    Down,
    Dialing(Dial),
    Up(Box<Socket>),
}

/// A connection on its way, and the token for it.
type Dial = Pin<Box<dyn Future<Output = Option<(Socket, Token)>> + Send>>;

/// Whether the service still knows the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    Known,
    Gone,
}

impl Standing {
    pub(crate) fn is_gone(self) -> bool {
        self == Self::Gone
    }
}

/// What reading the socket gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Received {
    Frame,
    Lost,
}

impl Wire {
    /// A wire that is not connected; the first turn dials.
    pub(crate) fn new(config: Config, session_id: String, endpoint: AgentEndpoint) -> Self {
        let now = Instant::now();
        let channel = Channel::new(Role::Agent, Arc::new(config), random::bytes(), now, unix_now());
        let mut wire = Self { channel, session_id, endpoint, link: Link::Down, unflushed: false, now };
        wire.channel.handle_disconnected(now);
        wire
    }

    /// The time of this turn.
    pub(crate) fn now(&self) -> Instant {
        self.now
    }

    /// Takes the time and serves what is due.
    pub(crate) fn begin_turn(&mut self) {
        self.now = Instant::now();
        self.channel.handle_clock(self.now, unix_now());
        if self.channel.poll_timeout().is_some_and(|due| due <= self.now) {
            self.channel.handle_timeout(self.now);
        }
    }

    /// The agent's data key, or why there is none.
    pub(crate) fn install_key(&mut self, key: Result<DataKey, String>) {
        self.channel.install_key(self.now, key);
    }

    /// What decrypts data keys here.
    pub(crate) fn data_keys(&self) -> &KeyStore {
        self.endpoint.data_keys()
    }

    /// Where the agent connects to.
    pub(crate) fn endpoint(&self) -> &AgentEndpoint {
        &self.endpoint
    }

    /// What goes wrong on purpose.
    pub(crate) fn faults(&self) -> &Arc<Faults> {
        self.endpoint.faults()
    }

    /// Begins to connect, with a new token. The session is gone when there is none to be had.
    pub(crate) fn dial(&mut self) -> Standing {
        let Some(channel) = self.endpoint.open() else { return Standing::Gone };
        self.link = Link::Dialing(Box::pin(async {
            let connected = timeout(CONNECT, connect(channel)).await;
            match connected {
                Ok(Ok(connected)) => Some(connected),
                Ok(Err(error)) => {
                    tracing::debug!(%error, "the agent cannot connect");
                    None
                }
                Err(_) => None,
            }
        }));
        Standing::Known
    }

    /// Goes on connecting. Ready when that has succeeded or failed.
    pub(crate) fn poll_dial(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Link::Dialing(dial) = &mut self.link else { return Poll::Pending };
        match ready!(dial.as_mut().poll(cx)) {
            Some((socket, token)) => {
                self.link = Link::Up(Box::new(socket));
                let first = self.channel.ready().is_none() && self.channel.stats().messages_sent == 0;
                self.channel.handle_connected(self.now, token);
                if first {
                    self.announce(AgentState::Connected);
                }
            }
            None => self.lose(),
        }
        Poll::Ready(())
    }

    /// Reads one frame and hands it to the channel.
    pub(crate) fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Received> {
        let Link::Up(socket) = &mut self.link else { return Poll::Pending };
        let received = match socket.poll_next_unpin(cx) {
            Poll::Ready(Some(Ok(Message::Binary(frame)))) => self.take(frame),
            Poll::Ready(Some(Ok(Message::Text(text)))) => self.take(text.into()),
            Poll::Ready(Some(Ok(_))) => {
                // Tungstenite has queued the answer to a ping or a close.
                self.unflushed = true;
                self.channel.handle_pong(self.now);
                Received::Frame
            }
            Poll::Ready(Some(Err(_)) | None) => {
                self.lose();
                Received::Lost
            }
            Poll::Pending => return Poll::Pending,
        };
        Poll::Ready(received)
    }

    fn take(&mut self, frame: Bytes) -> Received {
        if let Err(error) = self.channel.handle_binary(self.now, frame) {
            tracing::debug!(%error, "the client broke the protocol");
        }
        Received::Frame
    }

    pub(crate) fn poll_event(&mut self) -> Option<Event> {
        self.channel.poll_event()
    }

    /// Puts what the channel has to say into the socket's buffer, as long as the socket takes it.
    pub(crate) fn transmit(&mut self, cx: &mut Context<'_>) {
        loop {
            let Link::Up(socket) = &mut self.link else { return };
            match socket.poll_ready_unpin(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return self.lose(),
                Poll::Pending => return,
            }
            let message = match self.channel.poll_transmit(self.now) {
                None => return,
                Some(Transmit::Binary(frame)) => Message::Binary(frame),
                Some(Transmit::Text(text)) => Message::text(text.expose().as_str()),
                Some(Transmit::Ping) => Message::Ping(Bytes::from_static(b"keepalive")),
            };
            self.unflushed = true;
            if socket.start_send_unpin(message).is_err() {
                return self.lose();
            }
        }
    }

    /// Writes out what was transmitted. Ready when nothing is left, or there is no socket to write to.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Link::Up(socket) = &mut self.link else { return Poll::Ready(()) };
        if !self.unflushed {
            return Poll::Ready(());
        }
        match socket.poll_flush_unpin(cx) {
            Poll::Ready(Ok(())) => self.unflushed = false,
            Poll::Ready(Err(_)) => self.lose(),
            Poll::Pending => return Poll::Pending,
        }
        Poll::Ready(())
    }

    /// Whether the channel takes a payload; the task is woken when that changes.
    pub(crate) fn can_send(&mut self, cx: &mut Context<'_>) -> bool {
        self.transmit(cx);
        self.channel.can_send()
    }

    /// A buffer for one payload.
    pub(crate) fn buffer(&mut self) -> MessageBuf {
        self.channel.buffer()
    }

    /// Takes back a buffer that was not used.
    pub(crate) fn recycle(&mut self, buf: MessageBuf) {
        self.channel.recycle(buf);
    }

    /// Sends a payload, for which [`can_send`](Self::can_send) must have held.
    pub(crate) fn send(&mut self, kind: PayloadType, payload: MessageBuf) {
        match self.channel.send(self.now, kind, payload) {
            // A channel that has closed says so in its last event; empty payloads do not exist on the wire.
            Ok(()) | Err(SendError::Closed | SendError::Empty) => {}
            Err(SendError::Blocked(_)) => unreachable!("can_send was asked"),
        }
    }

    /// Sends a few bytes, as [`send`](Self::send).
    pub(crate) fn send_bytes(&mut self, kind: PayloadType, payload: &[u8]) {
        let mut buf = MessageBuf::with_capacity(payload.len());
        buf.put_slice(payload);
        self.send(kind, buf);
    }

    /// Whether input is acknowledged from now on.
    pub(crate) fn set_input(&mut self, input: Input) {
        self.channel.set_input(input);
    }

    pub(crate) fn announce(&mut self, state: AgentState) {
        self.channel.announce(self.now, state, &self.session_id);
    }

    /// Whether everything that was sent has been acknowledged.
    pub(crate) fn is_drained(&self) -> bool {
        self.channel.is_drained()
    }

    /// When the channel wants a turn at the latest.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.channel.poll_timeout()
    }

    /// Closes the socket in order.
    pub(crate) async fn leave(self) {
        if let Link::Up(socket) = self.link {
            farewell(*socket, None, CloseCode::Normal, String::new()).await;
        }
    }

    fn lose(&mut self) {
        self.link = Link::Down;
        self.unflushed = false;
        self.channel.handle_disconnected(self.now);
    }
}

/// Connects a WebSocket of the agent's own to the gateway.
async fn connect(channel: AgentChannel) -> Result<(Socket, Token), Error> {
    let address = channel.url.authority().map(http::uri::Authority::as_str).unwrap_or_default();
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut request = channel.url.into_client_request()?;
    request.headers_mut().extend(channel.headers);
    let (socket, _) = client_async_with_config(request, stream, Some(socket_config())).await?;
    // The gateway says nothing before the opening frame, so nothing is lost with the buffer of the handshake, which keeps the
    // capacity it grew to only while no frame cut from it is alive: small frames would then take a read each.
    let stream = socket.into_inner();
    let socket = Socket::from_raw_socket(stream, WebSocketRole::Client, Some(socket_config())).await;
    Ok((socket, channel.token))
}

fn unix_now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
