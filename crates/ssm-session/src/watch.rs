//! What shows that a connection may have died unseen, where no packet of the peer can: the machine was asleep, or has lost the
//! address that the connection has.

use std::fmt;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The clock on the wall. It runs on while the machine sleeps, which the monotonic one does not.
#[derive(Clone)]
pub struct WallClock(Arc<dyn Fn() -> Duration + Send + Sync>);

impl WallClock {
    /// One that gives the time since the Unix epoch.
    pub fn new(read: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    pub(crate) fn read(&self) -> Duration {
        (self.0)()
    }
}

/// That of the system.
impl Default for WallClock {
    fn default() -> Self {
        Self::new(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
    }
}

impl fmt::Debug for WallClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WallClock")
    }
}

/// Whether this machine does not have an address any more: it cannot be bound to.
pub(crate) fn is_gone(address: SocketAddr) -> bool {
    if address.ip().is_loopback() {
        return false;
    }
    let mut anywhere = address;
    anywhere.set_port(0);
    UdpSocket::bind(anywhere).is_err_and(|error| error.kind() == io::ErrorKind::AddrNotAvailable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_another_machine_is_gone_and_one_of_this_is_not() {
        assert!(is_gone("192.0.2.1:443".parse().unwrap()));
        assert!(!is_gone("0.0.0.0:443".parse().unwrap()));
        assert!(!is_gone("127.0.0.1:443".parse().unwrap()));
    }
}
