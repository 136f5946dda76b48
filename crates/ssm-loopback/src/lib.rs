//! The other side of Session Manager on 127.0.0.1: service, gateway and agent, for demo, tests and benches.
//!
//! A [`Loopback`] is what AWS runs between a client and a node, and the node itself: the SSM API on HTTP, WebSockets over
//! TCP, and an agent with real terminals and real connections. An unmodified AWS SDK or AWS CLI can be pointed at it. The
//! agent runs the same state machines as the client, in their other roles, so a mistake that both share does not show here:
//! that is what recorded sessions and foreign peers are for.
//!
//! ```text
//!   client ── HTTP ──► server ─► api ─► service ──starts──► agent ─► plugin: shell, command, port
//!     │                   │                │                  │
//!     └──── WebSocket ────┴─► gateway ─► relay ◄──WebSocket───┘
//!                                          ▲ fault: a verdict for each message
//! ```
//!
//! Each session has two tasks, the relay and the agent; between a WebSocket and a destination there is no queue.
//!
//! ```
//! use ssm_loopback::{Config, Direction, Loopback, Verdict};
//! use ssm_session::{Event, Session, StartSession};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let loopback = Loopback::start(Config::default()).await?;
//! // Every third message to the client is lost, which it does not notice.
//! let mut count = 0;
//! let _guard = loopback.rule(move |direction, _| {
//!     count += u32::from(direction == Direction::AgentToClient);
//!     if count % 3 == 2 { Verdict::Drop } else { Verdict::Deliver }
//! });
//! let request = StartSession::interactive_command(loopback.target(), "printf hello");
//! let mut session = Session::start(loopback.control(), &request, ssm_session::Config::default()).await?;
//! let mut output = Vec::new();
//! loop {
//!     match session.next_event().await {
//!         Event::Payload { payload, .. } => output.extend_from_slice(&payload),
//!         Event::Closed(_) => break,
//!         _ => {}
//!     }
//! }
//! assert_eq!(output, b"hello");
//! loopback.shutdown().await;
//! # Ok(())
//! # }
//! ```

mod agent;
mod api;
mod clusters;
mod config;
mod control;
mod date;
mod document;
mod document_api;
mod ecs;
pub mod fault;
#[cfg(fuzzing)]
pub mod fuzzing;
mod gateway;
mod kms;
mod plugin;
mod query;
mod random;
mod relay;
mod server;
mod service;
mod service_message;
mod session_store;
mod sigv4;
mod tasks;
mod wire;

use std::fmt;
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;

use ssm_proto::{Header, Secret};
use ssm_session::ControlPlane;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

pub use crate::clusters::{Cluster, Container, Task};
pub use crate::config::{Cells, Config, Profile, Upgrade};
pub use crate::document::{Document, SessionType};
pub use crate::fault::{Direction, Fault, FaultError, FaultGuard, RuleGuard, Verdict};
pub use crate::kms::{Kms, KmsAnswer, KmsAuthority, KmsChallenge};

use crate::control::DirectControl;
use crate::service::Service;

/// A running service, gateway and agent on this machine.
///
/// It listens on [a port](Config::port) of 127.0.0.1. [`shutdown`](Self::shutdown) ends everything in order;
/// dropping it aborts its tasks and kills what they started.
pub struct Loopback {
    service: Arc<Service>,
    endpoint_url: String,
    server: AbortHandle,
}

impl Loopback {
    /// Starts listening.
    ///
    /// # Errors
    /// When the port cannot be opened, or `config` names no target.
    ///
    /// # Panics
    /// Outside a tokio runtime, or when the system has no source of randomness.
    pub async fn start(config: Config) -> io::Result<Self> {
        if config.targets.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a loopback needs at least one target"));
        }
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, config.port)).await?;
        let addr = listener.local_addr()?;
        let service = Arc::new(Service::new(config, addr));
        let server = service
            .tasks
            .spawn(server::serve(listener, service.clone()))
            .ok_or_else(|| io::Error::other("the task set is closed"))?;
        Ok(Self { service, endpoint_url: format!("http://{addr}"), server })
    }

    /// What `AWS_ENDPOINT_URL` or `--endpoint-url` should be.
    pub fn endpoint_url(&self) -> &str {
        &self.endpoint_url
    }

    /// The access key id that requests must be signed with.
    pub fn access_key(&self) -> &str {
        &self.service.keys.access_key
    }

    /// The secret access key that requests must be signed with. It is good for this loopback only.
    pub fn secret_key(&self) -> &Secret<String> {
        &self.service.keys.secret_key
    }

    /// The region that requests must be signed for.
    pub fn region(&self) -> &str {
        &self.service.config.region
    }

    /// The first managed node.
    pub fn target(&self) -> &str {
        &self.service.config.targets[0]
    }

    /// The service as a control plane for [`Session::start`](ssm_session::Session::start): the same as pointing the AWS SDK
    /// at [`endpoint_url`](Self::endpoint_url), without HTTP and signatures. Data channels are real WebSockets either way.
    pub fn control(&self) -> impl ControlPlane + Clone + use<> {
        DirectControl(self.service.clone())
    }

    /// Lets `rule` decide what becomes of every message relayed in either direction, until the guard is dropped. The first
    /// rule whose verdict is not [`Verdict::Deliver`] decides.
    pub fn rule(&self, rule: impl FnMut(Direction, &Header) -> Verdict + Send + 'static) -> RuleGuard {
        self.service.rules.add(rule)
    }

    /// Makes something go wrong, in sessions that run as well as in new ones, until the guard is dropped. The form is the one of
    /// `ssm loopback --fault` ([`fault::help`]): `loss=5%,direction=up`.
    ///
    /// # Errors
    /// When `spec` does not have that form.
    pub fn fault(&self, spec: &str) -> Result<FaultGuard, FaultError> {
        Ok(self.service.faults.add(spec.parse()?))
    }

    /// Ends every session, tells both of its ends, and returns when no task, child process or port is left.
    pub async fn shutdown(self) {
        self.server.abort();
        self.service.shut_down().await;
    }
}

impl Drop for Loopback {
    fn drop(&mut self) {
        // Dropping the set aborts the tasks.
        drop(self.service.tasks.close());
    }
}

impl fmt::Debug for Loopback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loopback").field("endpoint_url", &self.endpoint_url).finish_non_exhaustive()
    }
}
