//! The way to each endpoint, and the clock at its end.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use ssm_session::{Network, Probe, ProbeError, ProbeStep};

use super::account::Account;
use super::outcome::{Finding, Outcome};
use crate::output::Took;

/// How long each step on the way may take: as long as connecting may for a session.
const STEP_LIMIT: Duration = Duration::from_secs(10);

/// Clocks that differ by more than this will differ by more.
const SKEW_WARN: f64 = 60.0;

/// Signatures of another time are refused from here on (SigV4).
const SKEW_FAIL: f64 = 300.0;

/// Services that sessions need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Service {
    Ssm,
    SsmMessages,
    Sts,
    Ec2,
    Kms,
}

impl Service {
    pub(super) const ALL: [Self; 5] = [Self::Ssm, Self::SsmMessages, Self::Sts, Self::Ec2, Self::Kms];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ssm => "ssm",
            Self::SsmMessages => "ssmmessages",
            Self::Sts => "sts",
            Self::Ec2 => "ec2",
            Self::Kms => "kms",
        }
    }

    pub(super) fn check(self) -> String {
        format!("endpoint-{}", self.name())
    }

    /// Whether this program has a use for it.
    pub(super) fn is_used(self) -> bool {
        self != Self::Ec2 || cfg!(feature = "lookup")
    }

    /// What does not work without it, where that is not everything.
    fn need(self) -> Option<&'static str> {
        match self {
            Self::Ssm | Self::SsmMessages | Self::Kms => None,
            Self::Sts => Some("roles cannot be assumed"),
            Self::Ec2 => Some("machines are not found by name or address"),
        }
    }
}

/// The way to a service.
pub(super) enum Way {
    Open {
        url: String,
        probe: Box<Probe>,
    },
    Closed {
        url: String,
        error: Box<ProbeError>,
    },
    /// Only the service itself can say where it leads.
    Unknown,
}

impl Way {
    pub(super) async fn find(network: &Network, url: Option<String>) -> Self {
        let Some(url) = url else { return Self::Unknown };
        match network.probe(&url, STEP_LIMIT).await {
            Ok(probe) => Self::Open { url, probe: Box::new(probe) },
            Err(error) => Self::Closed { url, error: Box::new(error) },
        }
    }
}

/// The way to a service, told.
pub(super) async fn endpoint(account: &Account<'_>, service: Service) -> Finding {
    if service == Service::Kms {
        match account.preferences().await {
            Ok(Ok(Some(preferences))) if preferences.kms_key.is_some() => {}
            Ok(Ok(_)) => {
                return Ok(Outcome::skip("not needed: sessions are not encrypted with a key of KMS"));
            }
            _ => return Ok(Outcome::skip("not known whether it is needed, see preferences")),
        }
    }
    Ok(match account.way(service).await? {
        Way::Open { url, probe } => open(url, probe),
        Way::Unknown => Outcome::skip("the service says with each session where it leads"),
        Way::Closed { url, error } => {
            let outcome = closed(url, error);
            match service.need() {
                Some(without) => {
                    Outcome { found: format!("{}; {without}", outcome.found), ..outcome.at_most_warn() }
                }
                None => outcome,
            }
        }
    })
}

fn open(url: &str, probe: &Probe) -> Outcome {
    let Probe { proxy, addresses, lookup, connect, tls, answer, .. } = probe;
    let mut found = format!("{url} {}", place(proxy.as_deref(), addresses));
    found += &format!(": DNS {}, TCP {}", Took(*lookup), Took(*connect));
    let mut facts = Outcome::ok("")
        .with("url", url)
        .with("proxy", proxy.clone())
        .with("addresses", strings(addresses))
        .with("lookup_ms", millis(*lookup))
        .with("connect_ms", millis(*connect));
    if let Some(tls) = tls {
        found += &format!(", {} {}", tls.version, Took(tls.took));
        if let Some(issuer) = &tls.issuer {
            found += &format!(" with a certificate by {issuer}");
        }
        facts = facts
            .with("tls", tls.version)
            .with("issuer", tls.issuer.clone())
            .with("tls_ms", millis(tls.took));
    }
    match answer {
        Some(answer) => {
            found += &format!(", HTTP {}", Took(answer.took));
            facts = facts.with("status", answer.status).with("answer_ms", millis(answer.took));
        }
        None => found += ", no HTTP",
    }
    let is_plain = tls.is_none() && !addresses.iter().all(IpAddr::is_loopback);
    let outcome = if is_plain {
        Outcome::warn(found, "without TLS everybody on the way reads and changes what is sent: use https://")
    } else {
        Outcome::ok(found)
    };
    Outcome { facts: facts.facts, ..outcome }
}

/// Where a host is.
fn place(proxy: Option<&str>, addresses: &[IpAddr]) -> String {
    let shown = match addresses {
        [] => "nowhere".into(),
        [one] => one.to_string(),
        [first, rest @ ..] => format!("{first} and {} more", rest.len()),
    };
    match proxy {
        Some(proxy) => format!("through {proxy} ({shown})"),
        None if addresses.iter().all(IpAddr::is_loopback) => format!("({shown}, this machine)"),
        None if addresses.iter().all(is_private) => format!("({shown}, private, as VPC endpoints are)"),
        None => format!("({shown})"),
    }
}

fn is_private(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let [first, second, ..] = address.octets();
            address.is_private() || first == 100 && second & 0xc0 == 64
        }
        IpAddr::V6(address) => address.is_unique_local(),
    }
}

fn closed(url: &str, error: &ProbeError) -> Outcome {
    let ProbeError { step, addresses, proxy, issuer, .. } = error;
    let mut found = error.to_string();
    if let Some(issuer) = issuer {
        found += &format!("; the certificate is by {issuer}");
    }
    let is_private = proxy.is_none() && !addresses.is_empty() && addresses.iter().all(is_private);
    let advice = match step {
        ProbeStep::Url => "put the URL of the endpoint right",
        ProbeStep::Lookup if proxy.is_some() => {
            "the proxy has no address: see HTTPS_PROXY, and the DNS of this machine"
        }
        ProbeStep::Lookup => {
            "is the region right, and does this machine have DNS? A network without internet needs a VPC endpoint with \
             private DNS for this service"
        }
        ProbeStep::Connect if proxy.is_some() => {
            "is the proxy running, and are HTTPS_PROXY and NO_PROXY right?"
        }
        ProbeStep::Connect if is_private => {
            "the address is private: does the security group of the VPC endpoint let this machine in at port 443?"
        }
        ProbeStep::Connect => {
            "something on the way closes port 443: a firewall, or a network that has a proxy (HTTPS_PROXY) or VPC endpoints"
        }
        ProbeStep::Proxy => "the proxy has to lead to this host at port 443: ask whoever runs it",
        ProbeStep::Tls => {
            "if the network opens TLS, AWS_CA_BUNDLE has to name its certificate; otherwise somebody is in the way"
        }
        _ => "try again",
    };
    Outcome::fail(found, advice)
        .with("url", url)
        .with("step", format!("{step:?}").to_lowercase())
        .with("proxy", proxy.clone())
        .with("addresses", strings(addresses))
        .with("issuer", issuer.clone())
}

fn strings(addresses: &[IpAddr]) -> Value {
    addresses.iter().map(ToString::to_string).collect()
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Compares the clocks here and there.
pub(super) async fn clock(account: &Account<'_>) -> Finding {
    for service in [Service::Ssm, Service::Sts, Service::SsmMessages] {
        if let Way::Open { probe, .. } = account.way(service).await?
            && let Some(answer) = &probe.answer
            && let Some(date) = answer.date
        {
            return Ok(judge(ahead(answer.asked, date), &probe.host));
        }
    }
    Ok(Outcome::skip("not known: no endpoint has said what time it is"))
}

/// By how many seconds this machine is ahead. Dates are whole seconds, so half of one is added.
fn ahead(here: SystemTime, there: SystemTime) -> f64 {
    let there = there + Duration::from_millis(500);
    match here.duration_since(there) {
        Ok(ahead) => ahead.as_secs_f64(),
        Err(behind) => -behind.duration().as_secs_f64(),
    }
}

fn judge(ahead: f64, host: &str) -> Outcome {
    let direction = if ahead < 0.0 { "behind" } else { "ahead of" };
    let found = format!("{} {direction} {host}", Took(Duration::from_secs_f64(ahead.abs())));
    let outcome = if ahead.abs() >= SKEW_FAIL {
        Outcome::fail(found, "signatures are refused: set the clock, and have NTP keep it")
    } else if ahead.abs() >= SKEW_WARN {
        Outcome::warn(found, "signatures are refused from 5 min on: set the clock, and have NTP keep it")
    } else if ahead.abs() <= 1.0 {
        Outcome::ok(format!("as that of {host}"))
    } else {
        Outcome::ok(found)
    };
    outcome.with("ahead_s", ahead)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::verdict::Verdict;

    #[test]
    fn a_clock_is_judged_by_its_distance() {
        let base = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let at = |offset: i64| {
            let here = base.checked_add(Duration::from_secs(offset.unsigned_abs()));
            let here =
                if offset < 0 { base.checked_sub(Duration::from_secs(offset.unsigned_abs())) } else { here };
            judge(ahead(here.unwrap(), base), "h")
        };
        for (offset, verdict) in [
            (0, Verdict::Ok),
            (59, Verdict::Ok),
            (-59, Verdict::Ok),
            (61, Verdict::Warn),
            (-61, Verdict::Warn),
            (299, Verdict::Warn),
            (301, Verdict::Fail),
            (-301, Verdict::Fail),
        ] {
            assert_eq!(at(offset).verdict, verdict, "{offset}");
        }
        assert_eq!(at(0).found, "as that of h");
        assert_eq!(at(-600).found, "10 min 0 s behind h");
    }

    #[test]
    fn addresses_say_what_is_there() {
        let at = |addresses: &[&str]| {
            let addresses: Vec<IpAddr> = addresses.iter().map(|text| text.parse().unwrap()).collect();
            place(None, &addresses)
        };
        assert_eq!(at(&["52.94.1.1"]), "(52.94.1.1)");
        assert_eq!(at(&["10.0.1.2", "10.0.2.2"]), "(10.0.1.2 and 1 more, private, as VPC endpoints are)");
        assert_eq!(at(&["100.64.0.1"]), "(100.64.0.1, private, as VPC endpoints are)");
        assert_eq!(at(&["100.128.0.1"]), "(100.128.0.1)");
        assert_eq!(at(&["10.0.1.2", "52.94.1.1"]), "(10.0.1.2 and 1 more)");
        assert_eq!(at(&["127.0.0.1"]), "(127.0.0.1, this machine)");
        assert_eq!(
            place(Some("http://p:1"), &["10.0.0.1".parse().unwrap()]),
            "through http://p:1 (10.0.0.1)"
        );
    }
}
