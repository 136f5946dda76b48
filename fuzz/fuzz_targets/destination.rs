//! Words that decide where something connects: a stream URL of the service, a forward, a listening address, a target.
//!
//! A stream URL that is accepted leads to this machine, or by TLS to a host of AWS's that has the name of the service.

#![no_main]

use std::fmt::{Debug, Display};
use std::net::IpAddr;
use std::str::FromStr;

use libfuzzer_sys::fuzz_target;
use ssm_portfwd::{ForwardSpec, ListenAddr};
use ssm_resolve::Target;
use ssm_session::{StreamEndpoint, StreamHosts};

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else { return };
    for (fips, dual_stack) in [(false, false), (true, false), (false, true)] {
        let region = Some("eu-west-1".to_owned());
        let hosts = StreamHosts { region, fips, dual_stack, ..StreamHosts::default() };
        if let Ok((host, port, secure)) = hosts.judge(text) {
            let here = host == "localhost"
                || host.trim_matches(['[', ']']).parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
            assert!(here || is_of_aws(&host) && port == 443 && secure, "{text:?} leads to {host}:{port}");
        }
        let _ = hosts.trusting(text).judge("wss://other.example/");
    }
    if let Ok(endpoint) = StreamEndpoint::parse(text) {
        let hosts = StreamHosts { endpoint: Some(endpoint), ..StreamHosts::default() };
        let usual = hosts.usual_url().expect("there is an endpoint");
        assert!(StreamEndpoint::parse(&usual).is_ok(), "{text:?} is written {usual:?}");
    }
    let _ = text.parse::<ForwardSpec>();
    round_trip::<ListenAddr>(text);
    round_trip::<Target>(text);
});

fn is_of_aws(host: &str) -> bool {
    let host = host.to_ascii_lowercase();
    let service = host.starts_with("ssmmessages.") || host.starts_with("ssmmessages-fips.");
    service && (host.ends_with(".amazonaws.com") || host.ends_with(".api.aws"))
}

/// What is read can be written, and reads the same.
fn round_trip<T: FromStr + Display + PartialEq + Debug>(text: &str) {
    let Ok(value) = text.parse::<T>() else { return };
    let written = value.to_string();
    let Ok(again) = written.parse::<T>() else {
        panic!("{text:?} is written {written:?}, which cannot be read")
    };
    assert_eq!(again, value, "{text:?} is written {written:?}");
}
