//! A gateway that does with each connection what a test likes.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use ssm_proto::body::Acknowledge;
use ssm_proto::{Header, MessageBuf, MessageId, MessageType, PayloadType};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

pub(crate) type Socket = WebSocketStream<TcpStream>;

/// How long a client that takes nothing more is waited for.
const STUCK: Duration = Duration::from_millis(700);

/// A running gateway. It ends with the process.
pub(crate) struct Gateway {
    pub(crate) port: u16,
    connections: Arc<AtomicUsize>,
}

impl Gateway {
    /// Does this with every connection.
    pub(crate) fn raw<F: Future<Output = ()> + Send>(
        serve: impl Fn(TcpStream) -> F + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        listener.set_nonblocking(true).unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                while let Ok((stream, _)) = listener.accept().await {
                    counted.fetch_add(1, Ordering::Relaxed);
                    serve(stream).await;
                }
            });
        });
        Self { port, connections }
    }

    /// Takes the upgrade, and does this with every WebSocket.
    pub(crate) fn web_socket<F: Future<Output = ()> + Send>(
        serve: impl Fn(Socket) -> F + Clone + Send + Sync + 'static,
    ) -> Self {
        Self::raw(move |stream| {
            let serve = serve.clone();
            async move {
                if let Ok(socket) = tokio_tungstenite::accept_async(stream).await {
                    serve(socket).await;
                }
            }
        })
    }

    /// Connections so far.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    pub(crate) fn url(&self) -> String {
        format!("ws://127.0.0.1:{}/v1", self.port)
    }

    /// What StartSession answers with a session here.
    pub(crate) fn session(&self) -> String {
        format!(r#"{{"SessionId":"s-1","StreamUrl":"{}","TokenValue":"t"}}"#, self.url())
    }
}

/// Sends, and tells whether the client still takes something.
pub(crate) async fn sent(socket: &mut Socket, message: Message) -> bool {
    matches!(tokio::time::timeout(STUCK, socket.send(message)).await, Ok(Ok(())))
}

/// Waits until the client acknowledges the message with this number; false when it is gone.
pub(crate) async fn acknowledged(socket: &mut Socket, sequence: i64) -> bool {
    while let Some(Ok(message)) = socket.next().await {
        let frame = message.into_data();
        let Ok(header) = Header::decode(&frame) else { continue };
        let payload = frame.get(header.layout.payload_offset()..).unwrap_or_default();
        if header.message_type == MessageType::Acknowledge
            && Acknowledge::decode(payload).is_ok_and(|body| body.sequence == sequence)
        {
            return true;
        }
    }
    false
}

/// A message of an agent.
pub(crate) fn output(kind: PayloadType, sequence: i64, payload: &[u8]) -> Message {
    let id = MessageId::from_random([sequence as u8; 16]);
    let header = Header::stream(MessageType::OutputStreamData, kind, sequence, id, 1);
    frame(header, payload)
}

pub(crate) fn frame(header: Header, payload: &[u8]) -> Message {
    let mut buf = MessageBuf::with_capacity(payload.len());
    buf.put_slice(payload);
    Message::binary(buf.finish(header))
}

/// The handshake request of a session of this type, with properties in JSON.
pub(crate) fn request(session_type: &str, properties: &str) -> Bytes {
    format!(
        r#"{{"AgentVersion":"3.3.987.0","RequestedClientActions":[{{"ActionType":"SessionType","ActionParameters":{{"SessionType":"{session_type}","Properties":{properties}}}}}]}}"#
    )
    .into()
}

/// The end of a handshake, with what the customer has to say in JSON.
pub(crate) fn complete(message: &str) -> Bytes {
    format!(r#"{{"HandshakeTimeToComplete":1000000,"CustomerMessage":{message}}}"#).into()
}
