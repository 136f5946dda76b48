//! The WebSocket endpoint: takes an upgraded connection, reads the frame that opens the data channel, and hands the
//! socket to the relay of its session. Clients and agents come in the same way; the token tells them apart.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use ssm_proto::body::OpenDataChannel;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role as WebSocketRole, WebSocketConfig};

use crate::service::Service;
use crate::session_store::Role;

/// One WebSocket of a data channel.
pub(crate) type Socket = WebSocketStream<TcpStream>;

/// Longest wait for the opening frame, and for a peer to answer a closing one.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a socket that was told to close may take.
const FAREWELL: Duration = Duration::from_secs(2);

/// What the relay of a session is asked to do.
#[derive(Debug)]
pub(crate) enum Command {
    /// Use this socket for one end, in place of the one in use.
    Attach(Role, Box<Socket>),
    /// Tell both ends that the session is over, and stop.
    Terminate { output: String },
    /// The agent is done: relay what it has sent, then as [`Terminate`](Self::Terminate).
    Finish { output: String },
}

/// Limits and buffers of every data channel socket. Messages may be up to 1 MiB, which a padded Flag message reaches;
/// tungstenite would reserve up to 16 MiB on a declared length.
pub(crate) fn socket_config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(32 * 1024)
        .write_buffer_size(32 * 1024)
        .max_message_size(Some(1024 * 1024))
        .max_frame_size(Some(1024 * 1024))
}

/// Serves one upgraded connection until its socket is with a relay or refused.
pub(crate) async fn open(service: Arc<Service>, session_id: String, upgrade: OnUpgrade) {
    let Some(mut socket) = accept(upgrade).await else { return };
    match admit(&service, &session_id, &mut socket).await {
        Ok((role, relay)) => {
            // A relay that is gone has ended its session in the meantime: dropping the socket says so.
            let _ = relay.send(Command::Attach(role, Box::new(socket))).await;
        }
        Err(refusal) => {
            let reason = format!("Channel {session_id}: {refusal}");
            tracing::debug!(reason, "data channel refused");
            close(socket, CloseCode::Unsupported, reason).await;
        }
    }
}

async fn accept(upgrade: OnUpgrade) -> Option<Socket> {
    let upgraded = upgrade.await.inspect_err(|error| tracing::debug!(%error, "upgrade failed")).ok()?;
    let parts = upgraded.downcast::<TokioIo<TcpStream>>().ok()?;
    let stream = parts.io.into_inner();
    let read = parts.read_buf.to_vec();
    let config = Some(socket_config());
    Some(if read.is_empty() {
        // Its buffer keeps its size when it is replaced.
        WebSocketStream::from_raw_socket(stream, WebSocketRole::Server, config).await
    } else {
        WebSocketStream::from_partially_read(stream, read, WebSocketRole::Server, config).await
    })
}

/// Why the opening frame does not open the channel; follows `Channel <id>: ` in the closing frame.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    /// The service's own words (protocol: close code 1003).
    #[error("request to open data channel does not contain token.")]
    NoToken,
    #[error("the token is used, expired or not of this session.")]
    Token,
    #[error("the session has ended.")]
    Ended,
}

/// Reads the opening frame and uses its token up. What else it holds is not needed: npm `ssm-session`, for one, sends
/// neither ClientId nor ClientVersion.
async fn admit(
    service: &Service,
    session_id: &str,
    socket: &mut Socket,
) -> Result<(Role, mpsc::Sender<Command>), Refusal> {
    let text = timeout(PATIENCE, first_text(socket)).await.ok().flatten().ok_or(Refusal::NoToken)?;
    let open = OpenDataChannel::decode(&text).map_err(|_| Refusal::NoToken)?;
    let mut store = service.store();
    let role = store.redeem(session_id, &open.token, Instant::now()).map_err(|_| Refusal::Token)?;
    let relay = store.relay(session_id).ok_or(Refusal::Ended)?;
    Ok((role, relay))
}

/// The first frame if it is text; pings may come before it.
async fn first_text(socket: &mut Socket) -> Option<String> {
    loop {
        match socket.next().await?.ok()? {
            Message::Text(text) => return Some(text.to_string()),
            Message::Ping(_) | Message::Pong(_) => {}
            _ => return None,
        }
    }
}

/// Sends a last message, if there is one, and the closing frame, and reads on until the peer has answered: a socket that
/// is closed while data waits in it is reset, and a reset throws away what the peer has not read.
pub(crate) async fn farewell(mut socket: Socket, last: Option<Bytes>, code: CloseCode, reason: String) {
    let exchange = async {
        if let Some(last) = last {
            socket.feed(Message::Binary(last)).await?;
        }
        socket.send(Message::Close(Some(CloseFrame { code, reason: reason.into() }))).await?;
        while let Some(message) = socket.next().await {
            message?;
        }
        Ok::<_, tokio_tungstenite::tungstenite::Error>(())
    };
    if let Ok(Err(error)) = timeout(FAREWELL, exchange).await {
        tracing::debug!(%error, "socket ended before its closing frame was answered");
    }
}

/// Closes a socket with a code and a reason of at most 123 bytes, the most a closing frame holds.
async fn close(socket: Socket, code: CloseCode, mut reason: String) {
    let mut end = reason.len().min(123);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    reason.truncate(end);
    farewell(socket, None, code, reason).await;
}
