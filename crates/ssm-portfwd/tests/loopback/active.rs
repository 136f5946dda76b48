//! Sessions that are to stay active, in front of a service that ends idle ones.

use std::time::Duration;

use ssm_loopback::Loopback;
use ssm_portfwd::Config;
use ssm_session::CloseReason;

use crate::support::{Forward, Server, exchange, fast, old};

const IDLE_TIMEOUT: Duration = Duration::from_secs(3);

#[tokio::test]
async fn an_idle_connection_outlives_the_idle_timeout_of_the_service() {
    outlives(fast()).await;
}

#[tokio::test]
async fn so_it_does_without_a_multiplexer() {
    outlives(old()).await;
}

async fn outlives(session: ssm_session::Config) {
    let config = ssm_loopback::Config { idle_timeout: Some(IDLE_TIMEOUT), ..Default::default() };
    let (loopback, server) = (Loopback::start(config).await.unwrap(), Server::echo().await);
    let mut kept = session.clone();
    kept.channel.keep_active = Some(IDLE_TIMEOUT / 10);
    let kept = Forward::with(&loopback, server.port, kept, Config::default()).await;
    let mut stream = kept.connect().await;
    assert_eq!(exchange(&mut stream, b"before").await, b"before");
    // Begun later, and gone when its time is up. An agent without a multiplexer connects as soon as it starts.
    let other = Server::echo().await;
    let plain = Forward::with(&loopback, other.port, session, Config::default()).await;
    assert!(matches!(plain.ended().await, CloseReason::AgentClosed { .. }));
    assert_eq!(exchange(&mut stream, b"after").await, b"after");
    assert_eq!(server.connections(), 1);
    assert!(matches!(kept.shut_down().await, CloseReason::Terminated));
}
