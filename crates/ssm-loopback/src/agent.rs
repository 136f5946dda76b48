//! The agent driver: opens the data channel as an agent does and runs the session behind it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use ssm_proto::body::OpenDataChannel;
use ssm_proto::{Header, MessageId, MessageType};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::client_async_with_config;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::config::Config;
use crate::gateway::{Socket, socket_config};
use crate::random;
use crate::service::{AgentChannel, AgentEndpoint, SessionStart};

/// Longest time for connecting and upgrading.
const CONNECT: Duration = Duration::from_secs(10);

/// Runs one session until it is over, and returns the text for `channel_closed`.
pub(crate) async fn run(start: SessionStart, endpoint: AgentEndpoint, _config: Arc<Config>) -> String {
    tracing::debug!(session_type = ?start.session_type, properties = %start.properties, "session starts");
    let Some(channel) = endpoint.open() else { return String::new() };
    let mut socket = match timeout(CONNECT, connect(channel, &start.target)).await {
        Ok(Ok(socket)) => socket,
        Ok(Err(error)) => return format!("the agent cannot open its data channel: {error}"),
        Err(_) => return "the agent cannot open its data channel: timed out".to_owned(),
    };
    while let Some(Ok(message)) = socket.next().await {
        let closed = |header: Header| header.message_type == MessageType::ChannelClosed;
        if Header::decode(&message.into_data()).is_ok_and(closed) {
            break;
        }
    }
    String::new()
}

/// Connects a WebSocket of its own to the gateway and opens the data channel.
async fn connect(channel: AgentChannel, node: &str) -> Result<Socket, Error> {
    let address = channel.url.authority().map(http::uri::Authority::as_str).unwrap_or_default();
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut request = channel.url.into_client_request()?;
    request.headers_mut().extend(channel.headers);
    let (mut socket, _) = client_async_with_config(request, stream, Some(socket_config())).await?;
    let open = OpenDataChannel {
        request_id: MessageId::from_random(random::bytes()).to_string(),
        token: channel.token,
        client_instance_id: Some(node.to_owned()),
        client_id: Some(String::new()),
        client_version: None,
    };
    socket.send(Message::text(open.encode().expose().as_str())).await?;
    Ok(socket)
}
