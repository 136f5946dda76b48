//! A running Session Manager session on tokio: one [`ssm_channel::Channel`] driven over one WebSocket.
//!
//! A [`Session`] spawns no task. It makes progress only while it is polled, in the caller's task, so that a byte crosses
//! no queue between a local socket and the WebSocket. There are two ways to drive one:
//!
//! - [`Session::next_event`] does everything and is cancel safe; between two calls, [`Session::send`] what there is.
//! - An own loop polls, in each turn, [`Session::poll_event`] until it is pending, [`Session::poll_writable`] before
//!   each [`Session::send`], and [`Session::poll_flush`] once at the end.
//!
//! A lost connection is dialled again with a new token from the [`ControlPlane`], and nothing is lost or doubled; the
//! session ends with [`Event::Closed`] only.
//!
//! The `aws` feature has the control plane on the AWS SDK. Without it, [`Session::attach`] opens a session that was
//! started elsewhere from its URL and token alone. The `metrics` feature tells what sessions do through the facade of that name.
//!
//! ```no_run
//! use ssm_session::{Config, Endpoint, Event, PayloadType, Session, SessionError};
//!
//! # async fn example(endpoint: Endpoint) -> Result<(), SessionError> {
//! let mut session = Session::attach(endpoint, Config::default()).await?;
//! loop {
//!     match session.next_event().await {
//!         Event::Ready(_) => {
//!             let mut line = session.buffer();
//!             line.put_slice(b"uname -a; exit\r");
//!             session.send(PayloadType::Output, line).expect("a new session takes a line");
//!         }
//!         Event::Payload { payload, .. } => print!("{}", String::from_utf8_lossy(&payload)),
//!         Event::Closed(reason) => break println!("{reason:?}"),
//!         _ => {}
//!     }
//! }
//! # Ok(())
//! # }
//! ```

#[cfg(feature = "aws")]
mod access_key;
#[cfg(feature = "aws")]
mod api_client;
#[cfg(feature = "aws")]
mod aws;
mod backoff;
mod connect;
mod control;
#[cfg(feature = "aws")]
mod credentials;
mod dial;
mod document;
mod endpoint;
mod error;
#[cfg(feature = "metrics")]
mod meter;
mod network;
mod probe;
mod proxy;
#[cfg(feature = "aws")]
mod rehearsal;
mod route;
#[cfg(feature = "aws")]
mod service_endpoints;
mod session;
mod sign;
#[cfg(feature = "aws")]
mod sign_on;
mod stream;
mod stream_url;
mod tap;
mod watch;

#[cfg(feature = "aws")]
pub use access_key::AccessKey;
#[cfg(feature = "aws")]
pub use aws::{AwsControl, AwsOptions, is_throttling};
pub use backoff::backoff;
pub use control::{
    Attached, ControlError, ControlErrorKind, ControlPlane, DataKeyRequest, Resumed, SessionId,
};
#[cfg(feature = "aws")]
pub use credentials::code::{CodePrompt, CodeRequest};
#[cfg(feature = "aws")]
pub use credentials::{causes, profile_ca_bundle};
pub use dial::DialError;
pub use document::StartSession;
pub use endpoint::{Endpoint, EndpointError};
pub use error::SessionError;
pub use network::{Network, NetworkError, NetworkOptions, system_roots};
pub use probe::{Probe, ProbeAnswer, ProbeError, ProbeStep, ProbeTls};
#[cfg(feature = "aws")]
pub use rehearsal::Rehearsal;
pub use route::Route;
#[cfg(feature = "aws")]
pub use service_endpoints::ServiceEndpoints;
pub use session::{Config, Loss, Reading, Session};
pub use sign::{Identity, UpgradeSigning};
#[cfg(feature = "aws")]
pub use sign_on::{DeviceLogin, SignOn, SignOnState};
pub use stream_url::{StreamEndpoint, StreamHosts, StreamUrlError};
pub use tap::{Frame, Tap, Way};
pub use watch::WallClock;

pub use ssm_channel::{
    AgentAbilities, ChannelError, CloseReason, Config as ChannelConfig, DATA_KEY_LEN, DataKey, DataKeyLength,
    Encryption, Event, Evidence, HandshakeError, KnownSizes, Pacing, PortMode, Ready, Room, SendError,
    SessionKind, Stats,
};
pub use ssm_proto::body::{ControlFlag, ExitCode, PortProperties, TerminalSize};
pub use ssm_proto::{MessageBuf, PayloadType, Secret, Token};
