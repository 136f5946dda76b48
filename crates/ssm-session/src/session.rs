//! The driver: moves frames between a channel and a WebSocket, and dials again when the channel says so.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::{Either, select};
use futures_util::{Sink, Stream};
use ssm_channel::{
    Channel, CloseReason, DataKey, Event, KeyRequest, Ready, Role, Room, SendError, SessionKind, Stats,
    Transmit,
};
use ssm_proto::{MessageBuf, PayloadType, Token};
use tokio::time::{Sleep, timeout};
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::{self, Message};

use crate::control::{
    Attached, ControlError, ControlErrorKind, ControlPlane, DataKeyRequest, Resumed, SessionId,
};
use crate::dial::{DialError, Socket, dial};
use crate::document::StartSession;
use crate::endpoint::Endpoint;
use crate::error::SessionError;
#[cfg(feature = "metrics")]
use crate::meter::Meter;
use crate::route::Route;
use crate::sign::UpgradeSigning;
use crate::tap::Tap;
use crate::watch::{self, WallClock};

/// How long ending a session by API may take.
const TERMINATE_TIMEOUT: Duration = Duration::from_secs(5);

/// The same for one that was never opened, and how long its start may take, once somebody wants to leave.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(2);

/// The same for a user who leaves while there is no connection, and hence little hope.
const TERMINATE_OFFLINE: Duration = Duration::from_secs(1);

/// How long the API may take to resume a session before that counts as failed. The network may have gone meanwhile.
const RESUME_TIMEOUT: Duration = Duration::from_secs(30);

/// How often the wall clock and the address of the connection are looked at.
pub(crate) const CLOCK_INTERVAL: Duration = Duration::from_secs(1);

/// What is said of a line that was cut.
const WITHOUT_A_WORD: &str = "it ended without a word";

/// How a session is driven.
#[derive(Debug, Clone)]
pub struct Config {
    /// Timers, sizes and limits of the channel.
    pub channel: ssm_channel::Config,
    /// Whether upgrades are signed.
    pub signing: UpgradeSigning,
    /// The way to the data channel; `None` for the one of the control plane.
    pub route: Option<Route>,
    /// The clock whose jumps show that the machine was asleep: then the connection is asked for a sign of life at once. Default
    /// that of the system.
    pub wall_clock: WallClock,
    /// Sees every frame. Default none.
    pub tap: Option<Tap>,
    /// What the session was started on, which is a part of what its key is made for when it is encrypted with KMS.
    /// [`Session::start`] takes it from the request; for sessions that were started elsewhere it has to be said here.
    pub target: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            channel: ssm_channel::Config::client(),
            signing: UpgradeSigning::Auto,
            route: None,
            wall_clock: WallClock::default(),
            tap: None,
            target: None,
        }
    }
}

/// Whether frames are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reading {
    /// As they arrive.
    On,
    /// Not at all: what was received so far has to be consumed first.
    Stopped,
}

/// A running session. It makes progress only while it is polled; dropping it closes the socket and leaves the session to the
/// service, which ends it when it has been idle for long enough.
#[derive(Debug)]
pub struct Session<C> {
    channel: Channel,
    control: Arc<C>,
    config: Config,
    id: SessionId,
    url: String,
    link: Link,
    reading: Reading,
    timer: Pin<Box<Sleep>>,
    /// When `timer` fires; `None` when it is not armed.
    armed: Option<Instant>,
    /// Taken from the channel and not handed out yet.
    events: VecDeque<Event>,
    clock_read: Instant,
    /// Why the connection was asked for a sign of life.
    doubt: Option<String>,
    /// The data key of an encrypted session, on its way.
    key: Option<KeyOnItsWay>,
    #[cfg(feature = "metrics")]
    meter: Meter,
    loss: Option<Loss>,
}

/// A lost connection, or one that did not come back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// What happened last, in words: the loss, or why it could not be made up for yet. Text of the network, not of a user.
    pub cause: String,
    /// When that was.
    pub at: Instant,
    /// Since when there is no connection.
    pub since: Instant,
    /// What kind of answer the API gave, where it was the API that failed. [`ControlErrorKind::Credentials`] and
    /// [`ControlErrorKind::SignOn`] need the user.
    pub api: Option<ControlErrorKind>,
}

#[derive(Debug)]
enum Link {
    Up(Box<Socket>),
    Down,
    Dialing(Dialing),
}

struct Dialing(Pin<Box<dyn Future<Output = Dialled> + Send>>);

impl std::fmt::Debug for Dialing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Dialing")
    }
}

struct KeyOnItsWay(Pin<Box<dyn Future<Output = Result<DataKey, ControlError>> + Send>>);

impl std::fmt::Debug for KeyOnItsWay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyOnItsWay")
    }
}

enum Dialled {
    Open { socket: Box<Socket>, url: String, token: Token },
    Failed(String, Option<ControlErrorKind>),
    SessionOver,
}

impl Session<Attached> {
    /// Opens a session that was started elsewhere. It can be opened once and not be resumed.
    ///
    /// # Errors
    ///
    /// When the data channel cannot be opened.
    pub async fn attach(endpoint: Endpoint, config: Config) -> Result<Self, SessionError> {
        Self::open(Attached, endpoint, config).await
    }
}

impl<C: ControlPlane> Session<C> {
    /// Starts a session and opens its data channel. A session that cannot be opened is ended again.
    ///
    /// Not cancel safe: a session whose start was cancelled may be left to the service.
    ///
    /// # Errors
    ///
    /// When the API refuses, or the data channel cannot be opened.
    pub async fn start(control: C, request: &StartSession, config: Config) -> Result<Self, SessionError> {
        match Self::start_unless(control, request, config, std::future::pending::<Infallible>()).await? {
            Ok(session) => Ok(session),
            Err(never) => match never {},
        }
    }

    /// The same, unless `leave` comes first, whose output is handed on then. What was started until then is ended again, as far as
    /// the API answers within 2 s.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub async fn start_unless<L>(
        control: C,
        request: &StartSession,
        mut config: Config,
        leave: impl Future<Output = L>,
    ) -> Result<Result<Self, L>, SessionError> {
        if request.is_port() {
            config.channel.assume_ready = None;
        }
        config.target.get_or_insert_with(|| request.target.clone());
        let mut leave = pin!(leave);
        let control = Arc::new(control);
        let mut starting = pin!(control.start(request));
        let endpoint = match select(starting.as_mut(), leave.as_mut()).await {
            Either::Left((started, _)) => started?,
            Either::Right((left, _)) => {
                if let Ok(Ok(endpoint)) = timeout(LEAVE_TIMEOUT, starting).await {
                    let _ = timeout(LEAVE_TIMEOUT, control.terminate(&endpoint.session_id)).await;
                }
                return Ok(Err(left));
            }
        };
        let id = endpoint.session_id.clone();
        let opening = pin!(Self::open_shared(Arc::clone(&control), endpoint, config));
        let (not_opened, limit) = match select(opening, leave).await {
            Either::Left((Ok(session), _)) => return Ok(Ok(session)),
            Either::Left((Err(error), _)) => (Err(error), TERMINATE_TIMEOUT),
            Either::Right((left, _)) => (Ok(Err(left)), LEAVE_TIMEOUT),
        };
        let _ = timeout(limit, control.terminate(&id)).await;
        not_opened
    }

    /// Opens the data channel of a session that `control` can resume and end.
    ///
    /// # Errors
    ///
    /// When the data channel cannot be opened.
    pub async fn open(control: C, endpoint: Endpoint, config: Config) -> Result<Self, SessionError> {
        Self::open_shared(Arc::new(control), endpoint, config).await
    }

    async fn open_shared(control: Arc<C>, endpoint: Endpoint, config: Config) -> Result<Self, SessionError> {
        let Endpoint { session_id, stream_url, token } = endpoint;
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(SessionError::Randomness)?;
        let socket = open_socket(&*control, &stream_url, &config).await?;
        let now = now();
        let unix_now = config.wall_clock.read();
        let mut channel = Channel::new(Role::Client, Arc::new(config.channel.clone()), seed, now, unix_now);
        channel.handle_connected(now, token);
        Ok(Self {
            channel,
            control,
            config,
            id: session_id,
            url: stream_url,
            link: Link::Up(Box::new(socket)),
            reading: Reading::On,
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            armed: None,
            events: VecDeque::new(),
            clock_read: now,
            doubt: None,
            key: None,
            #[cfg(feature = "metrics")]
            meter: Meter::new(),
            loss: None,
        })
    }

    /// The session's id.
    pub fn id(&self) -> &SessionId {
        &self.id
    }

    /// How the session started, once it has.
    pub fn ready(&self) -> Option<&Ready> {
        self.channel.ready()
    }

    /// Counters and gauges of the channel.
    pub fn stats(&self) -> Stats {
        self.channel.stats()
    }

    /// The last time the connection was lost, which it may be still.
    pub fn loss(&self) -> Option<&Loss> {
        self.loss.as_ref()
    }

    /// Whether there is a connection as of now.
    pub fn is_connected(&self) -> bool {
        matches!(self.link, Link::Up(_))
    }

    /// Bytes of payload a data message takes as of now; a port session finds out how many it can be.
    pub fn payload_len(&self) -> usize {
        self.channel.payload_len()
    }

    /// Whether everything that was sent has been acknowledged.
    pub fn is_drained(&self) -> bool {
        self.channel.is_drained()
    }

    /// A buffer for one payload.
    pub fn buffer(&mut self) -> MessageBuf {
        self.channel.buffer()
    }

    /// Takes back a buffer that was not used.
    pub fn recycle(&mut self, buf: MessageBuf) {
        self.channel.recycle(buf);
    }

    /// Sends a payload. It goes out with the next [`poll_writable`](Self::poll_writable), [`poll_flush`](Self::poll_flush) or
    /// [`next_event`](Self::next_event).
    ///
    /// # Errors
    ///
    /// [`SendError::Blocked`] gives the payload back when there is no room; [`poll_writable`](Self::poll_writable) tells when.
    pub fn send(&mut self, kind: PayloadType, payload: MessageBuf) -> Result<(), SendError> {
        self.channel.send(now(), kind, payload)
    }

    /// Stops or starts reading frames. While it is stopped nothing is acknowledged, and the peer may pause.
    pub fn set_reading(&mut self, reading: Reading) {
        self.reading = reading;
    }

    /// Begins to end the session. [`Event::Closed`] follows, within 2 s.
    pub fn close(&mut self) {
        self.channel.terminate(now());
        self.take_events();
    }

    /// The next event, driving the session meanwhile. Pending for ever after [`Event::Closed`].
    ///
    /// Cancel safe: no event and no data is lost when the future is dropped.
    pub async fn next_event(&mut self) -> Event {
        poll_fn(|cx| {
            if let Poll::Ready(event) = self.poll_event(cx) {
                return Poll::Ready(event);
            }
            let _ = self.poll_flush(cx);
            self.events.pop_front().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// Waits until [`send`](Self::send) takes a payload, driving the session meanwhile, and flushes what was sent.
    ///
    /// Returns early with false when an event is waiting, which has to be taken first. Cancel safe.
    pub async fn writable(&mut self) -> bool {
        poll_fn(|cx| {
            if let Poll::Ready(event) = self.poll_event(cx) {
                self.events.push_front(event);
                return Poll::Ready(false);
            }
            let writable = self.poll_writable(cx).is_ready();
            let _ = self.poll_flush(cx);
            if writable {
                return Poll::Ready(true);
            }
            if self.events.is_empty() { Poll::Pending } else { Poll::Ready(false) }
        })
        .await
    }

    /// The next event. Reads one frame at a time, so that the caller decides how many to take in a turn.
    pub fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        self.read_clock();
        loop {
            if let Some(event) = self.events.pop_front() {
                return Poll::Ready(event);
            }
            self.poll_key(cx);
            ready!(self.poll_link(cx));
            self.take_events();
        }
    }

    /// Ready when [`send`](Self::send) takes bulk data: the window and the socket both have room. What was sent before is handed
    /// to the socket.
    pub fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self.poll_room(cx) {
            Poll::Ready(Room::Open) => Poll::Ready(()),
            Poll::Ready(Room::Reserve) | Poll::Pending => Poll::Pending,
        }
    }

    /// Ready when [`send`](Self::send) takes a payload, with what it should be. What was sent before is handed to the socket.
    pub fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Room> {
        self.transmit(cx);
        self.channel.room().map_or(Poll::Pending, Poll::Ready)
    }

    /// Hands everything to the socket, flushes it, serves what is due and arms the timer. To be called once at the end of each
    /// turn, when [`poll_event`](Self::poll_event) is pending or the turn's budget is spent.
    ///
    /// Ready when the socket took everything.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.transmit(cx);
        while self.poll_timer(cx).is_ready() {
            self.read_clock();
            self.channel.handle_timeout(now());
            self.transmit(cx);
        }
        let flushed = self.flush(cx);
        self.take_events();
        #[cfg(feature = "metrics")]
        self.meter.tell(self.channel.stats());
        if !self.events.is_empty() {
            cx.waker().wake_by_ref();
        }
        flushed
    }

    /// Ends the session: by flag where the agent heeds it, by API otherwise or when the agent does not answer.
    ///
    /// # Errors
    ///
    /// When the API call fails.
    pub async fn terminate(mut self) -> Result<(), SessionError> {
        self.close();
        loop {
            if let Event::Closed(reason) = self.next_event().await {
                return self.release(&reason).await;
            }
        }
    }

    /// Tells the service that the session is over, where it does not know: when this side gave up, or ended a session whose agent
    /// has no flag for it or did not answer. To be called after [`Event::Closed`] with its reason.
    ///
    /// # Errors
    ///
    /// When the API call fails. One that takes more than 5 s is left alone, or more than one when the user leaves a session that has
    /// no connection.
    pub async fn release(&mut self, reason: &CloseReason) -> Result<(), SessionError> {
        #[cfg(feature = "metrics")]
        self.meter.tell(self.channel.stats());
        let by_flag =
            matches!(self.ready().map(|ready| ready.kind), Some(SessionKind::Port(_))) && self.is_drained();
        let known = match reason {
            CloseReason::AgentClosed { .. } | CloseReason::ResumeRefused => true,
            CloseReason::Terminated => by_flag,
            _ => false,
        };
        if known {
            return Ok(());
        }
        let limit = match reason {
            CloseReason::Terminated if !self.is_connected() => TERMINATE_OFFLINE,
            _ => TERMINATE_TIMEOUT,
        };
        match timeout(limit, self.control.terminate(&self.id)).await {
            Ok(ended) => Ok(ended?),
            Err(_elapsed) => Ok(()),
        }
    }

    /// One thing from the network: a frame, a finished dial, a loss.
    fn poll_link(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.link {
            Link::Down => Poll::Pending,
            Link::Dialing(dialing) => {
                let dialled = ready!(dialing.0.as_mut().poll(cx));
                self.dialled(dialled);
                Poll::Ready(())
            }
            Link::Up(_) if self.reading == Reading::Stopped => Poll::Pending,
            Link::Up(socket) => {
                let frame = ready!(Pin::new(&mut **socket).poll_next(cx));
                self.handle_frame(frame);
                Poll::Ready(())
            }
        }
    }

    /// Gives the channel its key as soon as there is one.
    fn poll_key(&mut self, cx: &mut Context<'_>) {
        let Some(KeyOnItsWay(key)) = &mut self.key else { return };
        let Poll::Ready(key) = key.as_mut().poll(cx) else { return };
        self.key = None;
        if let Err(error) = &key {
            tracing::warn!(%error, session = %self.id, "no key to encrypt the session with");
        }
        self.channel.install_key(now(), key.map_err(|error| error.to_string()));
    }

    fn ask_for_key(&mut self, request: KeyRequest) {
        let Some(target) = &self.config.target else {
            let reason = "what the session was started on is not known here";
            return self.channel.install_key(now(), Err(reason.into()));
        };
        let context = request.context(self.id.as_str(), target);
        let request = DataKeyRequest { key_id: request.key_id, context };
        tracing::debug!(key = request.key_id, session = %self.id, "the session is encrypted");
        let control = Arc::clone(&self.control);
        self.key = Some(KeyOnItsWay(Box::pin(async move { control.data_key(&request).await })));
    }

    fn handle_frame(&mut self, frame: Option<Result<Message, tungstenite::Error>>) {
        let now = now();
        if let (Some(tap), Some(Ok(message))) = (&self.config.tap, &frame) {
            tap.received(&self.id, message);
        }
        let bytes = match frame {
            Some(Ok(Message::Binary(bytes))) => bytes,
            Some(Ok(Message::Text(text))) => Bytes::from(text),
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {
                return self.channel.handle_pong(now);
            }
            Some(Ok(Message::Close(close))) => {
                let reason = close.map_or_else(String::new, |close| {
                    format!(": {} {}", close.code, close.reason.escape_debug())
                });
                return self.lost(now, format!("the service closed it{reason}"));
            }
            Some(Err(tungstenite::Error::Utf8(_))) => {
                return self.lost(now, "the peer sent text that is not UTF-8".into());
            }
            Some(Err(error)) => return self.lost(now, in_words(&error)),
            None => return self.lost(now, WITHOUT_A_WORD.into()),
        };
        if let Err(error) = self.channel.handle_binary(now, bytes) {
            tracing::debug!(%error, "the channel is closed");
        }
    }

    fn lost(&mut self, now: Instant, cause: String) {
        self.failed(now, cause, None);
    }

    fn failed(&mut self, now: Instant, cause: String, api: Option<ControlErrorKind>) {
        self.note_loss(now, cause, api);
        self.link = Link::Down;
        self.channel.handle_disconnected(now);
        self.channel.handle_timeout(now);
    }

    fn note_loss(&mut self, now: Instant, cause: String, api: Option<ControlErrorKind>) {
        tracing::info!(%cause, session = %self.id, "no connection");
        let since = match (&self.link, &self.loss) {
            (Link::Up(_), _) | (_, None) => now,
            (_, Some(loss)) => loss.since,
        };
        self.loss = Some(Loss { cause, at: now, since, api });
    }

    /// Takes the channel's events, keeping those that are for this driver.
    fn take_events(&mut self) {
        while let Some(event) = self.channel.poll_event() {
            match event {
                Event::Redial { attempt } => {
                    self.redial(attempt);
                    self.events.push_back(Event::Redial { attempt });
                }
                Event::KeyRequired(request) => self.ask_for_key(request),
                Event::Closed(CloseReason::NotReconnected { attempts, .. }) => {
                    self.note_silence();
                    let cause = self.loss.as_ref().map(|loss| loss.cause.clone()).unwrap_or_default();
                    self.events.push_back(Event::Closed(CloseReason::NotReconnected { attempts, cause }));
                }
                other => self.events.push_back(other),
            }
        }
    }

    fn redial(&mut self, attempt: u32) {
        self.note_silence();
        tracing::debug!(attempt, session = %self.id, "connecting again");
        let (control, config) = (Arc::clone(&self.control), self.config.clone());
        let (id, url) = (self.id.clone(), self.url.clone());
        self.link = Link::Dialing(Dialing(Box::pin(resume(control, config, id, url))));
    }

    /// The channel has given up a connection that is there as far as anybody knows.
    fn note_silence(&mut self) {
        if self.is_connected() {
            let doubt = self.doubt.take().map(|doubt| format!(": {doubt}")).unwrap_or_default();
            self.note_loss(now(), format!("nothing came for too long{doubt}"), None);
            self.link = Link::Down;
        }
    }

    fn dialled(&mut self, dialled: Dialled) {
        let now = now();
        match dialled {
            Dialled::Open { socket, url, token } => {
                self.url = url;
                self.doubt = None;
                self.link = Link::Up(socket);
                self.channel.handle_connected(now, token);
            }
            Dialled::Failed(cause, api) => self.failed(now, cause, api),
            Dialled::SessionOver => {
                self.link = Link::Down;
                self.channel.handle_resume_refused();
            }
        }
    }

    /// Hands the socket what it takes.
    fn transmit(&mut self, cx: &mut Context<'_>) {
        let now = now();
        while let Link::Up(socket) = &mut self.link {
            let sink = Pin::new(&mut **socket);
            let failed = match sink.poll_ready(cx) {
                Poll::Pending => return,
                Poll::Ready(Err(error)) => Err(error),
                Poll::Ready(Ok(())) => match self.channel.poll_transmit(now) {
                    None => return,
                    Some(transmit) => {
                        if let Some(tap) = &self.config.tap {
                            tap.sent(&self.id, &transmit);
                        }
                        Pin::new(&mut **socket).start_send(message(transmit))
                    }
                },
            };
            if let Err(error) = failed {
                self.lost(now, in_words(&error));
                cx.waker().wake_by_ref();
            }
        }
    }

    fn flush(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Link::Up(socket) = &mut self.link else { return Poll::Ready(()) };
        if let Err(error) = ready!(Pin::new(&mut **socket).poll_flush(cx)) {
            self.lost(now(), in_words(&error));
            cx.waker().wake_by_ref();
        }
        Poll::Ready(())
    }

    /// Ready when something is due. The timer is only moved when it would fire too late: deadlines move with every message.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let watched = self.is_connected().then(|| self.clock_read + CLOCK_INTERVAL);
        let Some(due) = self.channel.poll_timeout().into_iter().chain(watched).min() else {
            return Poll::Pending;
        };
        if due <= now() {
            return Poll::Ready(());
        }
        if self.armed.is_none_or(|armed| due < armed) {
            self.timer.as_mut().reset(due.into());
            self.armed = Some(due);
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            if due <= now() {
                self.armed = None;
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(due.into());
            self.armed = Some(due);
        }
        Poll::Pending
    }

    fn read_clock(&mut self) {
        let now = now();
        if now.saturating_duration_since(self.clock_read) >= CLOCK_INTERVAL {
            self.clock_read = now;
            if self.channel.handle_clock(now, self.config.wall_clock.read()) {
                self.doubted("this machine was asleep".into());
            }
            if self.doubt.is_none()
                && let Link::Up(socket) = &self.link
                && let Ok(address) = socket.get_ref().local_addr()
                && watch::is_gone(address)
            {
                self.channel.handle_doubt(now);
                self.doubted(format!("this machine has not the address {} any more", address.ip()));
            }
        }
    }

    fn doubted(&mut self, why: String) {
        if self.is_connected() {
            tracing::info!(session = %self.id, "{why}: the connection is asked for a sign of life");
            self.doubt = Some(why);
        }
    }
}

/// Why a connection was lost. Libraries have their own words for a line that was cut, and links to their manuals.
fn in_words(error: &tungstenite::Error) -> String {
    match error {
        tungstenite::Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => WITHOUT_A_WORD.into(),
        tungstenite::Error::Io(error)
            if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe) =>
        {
            WITHOUT_A_WORD.into()
        }
        tungstenite::Error::Io(error) => error.to_string(),
        error => error.to_string(),
    }
}

/// Gets a new token and opens a new WebSocket with it.
async fn resume<C: ControlPlane>(control: Arc<C>, config: Config, id: SessionId, old_url: String) -> Dialled {
    let resumed = timeout(RESUME_TIMEOUT, control.resume(&id)).await;
    let endpoint = match resumed.unwrap_or_else(|_elapsed| Err(unanswered())) {
        Ok(Resumed::Endpoint(endpoint)) => endpoint,
        Ok(Resumed::SessionOver) => return Dialled::SessionOver,
        Err(error) if error.ends_session() => {
            tracing::warn!(%error, session = %id, "the session cannot be resumed");
            return Dialled::SessionOver;
        }
        Err(error) => {
            return Dialled::Failed(format!("the session is not resumed yet: {error}"), Some(error.kind()));
        }
    };
    // The URL names a cell that changes (plugin sessionhandler.go keeps the old one, and hangs when it does).
    let url = if endpoint.stream_url.is_empty() { old_url } else { endpoint.stream_url };
    match open_socket(&*control, &url, &config).await {
        Ok(socket) => Dialled::Open { socket: Box::new(socket), url, token: endpoint.token },
        Err(error) => Dialled::Failed(format!("the data channel is not open yet: {error}"), None),
    }
}

fn unanswered() -> ControlError {
    let message = format!("the API did not answer within {} s", RESUME_TIMEOUT.as_secs());
    ControlError::new(ControlErrorKind::Unreachable, message)
}

async fn open_socket<C: ControlPlane>(control: &C, url: &str, config: &Config) -> Result<Socket, DialError> {
    let identity = match config.signing {
        UpgradeSigning::Off => None,
        UpgradeSigning::Auto => control.identity().await.unwrap_or_else(|error| {
            tracing::warn!(%error, "no credentials to sign the upgrade with; it goes out unsigned");
            None
        }),
    };
    let route = config.route.clone().unwrap_or_else(|| control.route());
    dial(url, identity.as_ref(), &route).await
}

fn message(transmit: Transmit) -> Message {
    match transmit {
        Transmit::Binary(bytes) => Message::Binary(bytes),
        Transmit::Text(text) => Message::text(text.expose().as_str()),
        // The payload of AWS's own pings (plugin websocketchannel.go StartPings).
        Transmit::Ping => Message::Ping(Bytes::from_static(b"keepalive")),
    }
}

/// The monotonic clock of the runtime, which tests can stop.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
