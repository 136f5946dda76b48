//! Where a port session leads.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;

use ssm_proto::body::PortProperties;
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::OnceCell;

use super::{Finish, slow};
use crate::fault::Dial as Fault;
use crate::service::AgentEndpoint;
use std::sync::Arc;

/// A connection attempt. AWS's agent sets no limit to it but the system's own.
pub(super) type Dial = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;

/// Host and port of a session; its addresses are looked up once.
#[derive(Debug, Clone)]
pub(super) struct Destination {
    host: String,
    port: u16,
    addresses: Arc<OnceCell<Vec<SocketAddr>>>,
    /// What knows of faults.
    endpoint: Option<AgentEndpoint>,
}

impl Destination {
    pub(super) fn new(properties: &PortProperties) -> Result<Self, Finish> {
        if properties.port_number.is_empty() {
            return Err(Finish::failed("Port number is empty in session properties."));
        }
        let port = properties.port_number.parse().map_err(|_| {
            Finish::failed(format!("Port number {} is not a port.", properties.port_number.escape_debug()))
        })?;
        let destination =
            Self { host: properties.host.clone(), port, addresses: Arc::default(), endpoint: None };
        match destination.host.parse::<IpAddr>() {
            Ok(address) if is_forbidden(address) => Err(destination.forbidden()),
            _ => Ok(destination),
        }
    }

    /// With the faults that this end of the session knows of.
    pub(super) fn known_to(self, endpoint: AgentEndpoint) -> Self {
        Self { endpoint: Some(endpoint), ..self }
    }

    /// Begins to connect.
    pub(super) fn dial(&self) -> Dial {
        let destination = self.clone();
        Box::pin(async move {
            let addresses = destination.addresses.get_or_init(|| destination.look_up()).await;
            if addresses.iter().any(|address| is_forbidden(address.ip())) {
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, "the address is forbidden"));
            }
            if addresses.is_empty() {
                return Err(io::Error::new(io::ErrorKind::NotFound, "missing address"));
            }
            let faulty = destination.endpoint.as_ref().map(|endpoint| endpoint.faults());
            match faulty.and_then(|faults| faults.dial()) {
                None => {}
                Some(Fault::Refused) => return Err(io::ErrorKind::ConnectionRefused.into()),
                Some(Fault::Stuck) => std::future::pending().await,
                Some(Fault::Late(time)) => tokio::time::sleep(time).await,
            }
            let stream = TcpStream::connect(&addresses[..]).await?;
            stream.set_nodelay(true)?;
            match (faulty.and_then(|faults| faults.destination()), &destination.endpoint) {
                (Some(behaviour), Some(endpoint)) => slow::put_before(stream, behaviour, endpoint).await,
                _ => Ok(stream),
            }
        })
    }

    /// A failed lookup is not an error until something is dialled (agent `port.go`).
    async fn look_up(&self) -> Vec<SocketAddr> {
        if self.host.is_empty() || self.host == "localhost" {
            let local: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
            return local.map(|address| SocketAddr::new(address, self.port)).to_vec();
        }
        lookup_host((self.host.as_str(), self.port)).await.map(Iterator::collect).unwrap_or_default()
    }

    fn forbidden(&self) -> Finish {
        Finish::failed(format!("Forwarding to IP address {} is forbidden.", self.host))
    }
}

/// The addresses of EC2's own services, which AWS's agent does not forward to (agent `appconfig/constants.go`).
fn is_forbidden(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let octets = address.octets();
            octets[..3] == [169, 254, 169] && [123, 250, 251, 253, 254].contains(&octets[3])
        }
        IpAddr::V6(address) => {
            let segments = address.segments();
            segments[..7] == [0xfd00, 0xec2, 0, 0, 0, 0, 0]
                && [0x123, 0x240, 0x253, 0x254].contains(&segments[7])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_metadata_service_is_out_of_reach() {
        for host in ["169.254.169.254", "169.254.169.253", "::ffff:169.254.169.254", "fd00:ec2::254"] {
            let properties =
                PortProperties { host: host.into(), port_number: "80".into(), ..Default::default() };
            let refused = Destination::new(&properties).unwrap_err();
            assert_eq!(refused.output, format!("Forwarding to IP address {host} is forbidden."));
        }
        assert!(!is_forbidden(Ipv4Addr::new(169, 254, 169, 1).into()));
    }

    #[test]
    fn a_port_is_needed() {
        for port_number in ["", "x", "65536"] {
            let properties = PortProperties { port_number: port_number.into(), ..Default::default() };
            assert!(Destination::new(&properties).is_err(), "{port_number}");
        }
    }
}
