//! `--metrics`: what the forwards do, for Prometheus.

mod recorder;
mod server;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

use tokio::net::TcpListener;

use crate::error::Error;
use crate::output::say;

use self::recorder::Recorder;

/// Where metrics are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MetricsAddr(SocketAddr);

impl FromStr for MetricsAddr {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WRITTEN: &str = "it is written [ADDR:]PORT, with an IP address, IPv6 in brackets";
        let loopback = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        match text.parse() {
            Ok(port) => Ok(Self(loopback(port))),
            Err(_) => text.parse().map(Self).map_err(|_| WRITTEN),
        }
    }
}

/// Counts from here on, and serves what was counted for as long as this process lives.
///
/// # Errors
///
/// When the address cannot be listened on.
pub(crate) async fn serve(address: MetricsAddr) -> Result<(), Error> {
    let MetricsAddr(wanted) = address;
    let failed = |source| Error::Metrics { address: wanted, source };
    let listener = TcpListener::bind(wanted).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    if !is_loopback(bound.ip()) {
        say(format_args!(
            "metrics on {bound} are open to other machines, and who asks is not asked who it is"
        ));
    }
    say(format_args!("metrics are on http://{bound}{}", server::PATH));
    let recorder = Recorder::default();
    metrics::set_global_recorder(recorder.clone()).expect("a process has one command, which serves once");
    tokio::spawn(server::serve(listener, recorder));
    Ok(())
}

fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_alone_is_for_this_machine() {
        let address =
            |text: &str| text.parse::<MetricsAddr>().map(|MetricsAddr(address)| address.to_string());
        assert_eq!(address("9100").unwrap(), "127.0.0.1:9100");
        assert_eq!(address("0").unwrap(), "127.0.0.1:0");
        assert_eq!(address("0.0.0.0:9100").unwrap(), "0.0.0.0:9100");
        assert_eq!(address("[::1]:9100").unwrap(), "[::1]:9100");
        for wrong in ["", "http", "65536", "localhost:9100", "::1:9100", "127.0.0.1", "127.0.0.1:"] {
            assert!(address(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn loopback_addresses_are_known_in_every_form() {
        for (ip, loopback) in [
            ("127.0.0.1", true),
            ("::1", true),
            ("::ffff:127.0.0.1", true),
            ("0.0.0.0", false),
            ("::", false),
        ] {
            assert_eq!(is_loopback(ip.parse().unwrap()), loopback, "{ip}");
        }
    }
}
