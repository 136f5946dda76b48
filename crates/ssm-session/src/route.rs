//! The way to the data channel.

use crate::{Network, StreamHosts};

/// The way to the data channel: through what, and to which hosts. By default direct, and to those of AWS.
#[derive(Debug, Clone, Default)]
pub struct Route {
    /// Proxies, TLS and trust.
    pub network: Network,
    /// Where it may lead.
    pub streams: StreamHosts,
}
