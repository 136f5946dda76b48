//! What a forward reports while it runs.

use std::net::SocketAddr;
use std::time::Duration;

use crate::{Destination, LocalAddr};
use ssm_session::{CloseReason, ControlErrorKind, Ready};

/// Something a user may want to know. None of it needs an answer.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Notice {
    /// The session has started.
    Ready(Ready),
    /// Connections are taken here.
    Listening(Vec<LocalAddr>),
    /// A local connection was taken.
    Opened {
        /// Its number, from 1.
        connection: u64,
        /// Who connected; `None` for a connection without an address.
        peer: Option<SocketAddr>,
    },
    /// A proxy client said where it wants to go.
    Destination {
        /// The number of its connection.
        connection: u64,
        /// Where to.
        destination: Destination,
    },
    /// The far side could not connect to the destination; the local connection was reset.
    Refused {
        /// Its number.
        connection: u64,
    },
    /// A local connection has ended.
    Closed {
        /// Its number.
        connection: u64,
        /// Bytes that went to the destination.
        sent: u64,
        /// Bytes that came back.
        received: u64,
    },
    /// A connection was reset because too much waited for its reader.
    Overfull {
        /// Its number.
        connection: u64,
    },
    /// The data channel was lost and is dialled again.
    Redial {
        /// 0 for the first attempt.
        attempt: u32,
        /// Why it was lost, or why the last attempt failed. Text of the network.
        cause: String,
        /// How long was waited since then.
        delay: Duration,
        /// What kind of answer the API gave, where it was the API that failed.
        api: Option<ControlErrorKind>,
    },
    /// A session has ended; its connections were reset. Another one is started when a connection needs it, if one can be.
    LaneEnded {
        /// Why.
        reason: CloseReason,
    },
    /// One more session was wanted and could not be started; the others carry on.
    LaneNotStarted {
        /// Why.
        error: String,
    },
    /// A session that connections wait for cannot be started as of now, and is tried again.
    LaneDelayed {
        /// How often it was tried.
        attempts: u32,
        /// Why it was not started.
        error: String,
        /// What kind of answer the API gave, where it was the API that failed.
        api: Option<ControlErrorKind>,
        /// When it is tried again.
        delay: Duration,
    },
    /// The data channel is back; nothing was lost.
    Resumed {
        /// How long it was away.
        after: Duration,
    },
    /// Data messages of a session carry more, or less, than before.
    PayloadSize {
        /// Bytes in a message.
        bytes: usize,
    },
    /// The gateway asked a session to pause; it goes on when the gateway says so.
    Paused,
}
