//! Payload bodies: what stands behind the header of each kind of message.
//!
//! Readers match keys whatever their case and ignore members they do not know, as Go does; writers produce the bytes that
//! AWS's programs produce.

mod acknowledge;
mod channel_closed;
mod flag;
mod handshake;
mod open;
mod port;
mod session_state;
mod size;

pub use acknowledge::Acknowledge;
pub use channel_closed::ChannelClosed;
pub use flag::{ControlFlag, ExitCode};
pub use handshake::{
    ActionStatus, ClientAction, EncryptionChallenge, HandshakeComplete, HandshakeRequest, HandshakeResponse,
    KmsResult, ProcessedAction,
};
pub use open::OpenDataChannel;
pub use port::PortProperties;
pub use session_state::SessionState;
pub use size::TerminalSize;
