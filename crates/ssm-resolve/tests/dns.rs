//! Names in DNS, asked of a real server on this machine.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use common::Account;
use hickory_server::Server;
use hickory_server::net::runtime::TokioRuntimeProvider;
use hickory_server::proto::rr::rdata::{A, AAAA, CNAME, MX, SOA, TXT};
use hickory_server::proto::rr::{Name, RData, Record};
use hickory_server::store::in_memory::InMemoryZoneHandler;
use hickory_server::zone_handler::{AxfrPolicy, Catalog, ZoneType};
use ssm_resolve::{Aliases, Chain, Dns, DnsAddress, DnsText, LookupErrorKind, Outcome, ResolveError, Target};
use tokio::net::{TcpListener, UdpSocket};

const RUNNING: (&str, &str) = ("instance-state-name", "running");
const TIMEOUT: Duration = Duration::from_secs(5);

#[tokio::test]
async fn a_name_with_addresses_is_the_instance_with_one_of_them() {
    let zone = Zone::serve().await;
    let account = account();
    let chain = Chain::new().then(DnsAddress::new(zone.dns(), account.clone()));
    for (name, id, asked) in [
        ("private.test.", "i-00000001", "private-ip-address=10.0.0.1"),
        ("public.test.", "i-00000002", "ip-address=52.1.1.1"),
        ("both.test.", "i-00000002", "ip-address=52.1.1.1"),
        ("six.test.", "i-00000003", "network-interface.ipv6-addresses.ipv6-address=2001:db8::1"),
        ("alias.test.", "i-00000001", "private-ip-address=10.0.0.1"),
        ("private.test", "i-00000001", "private-ip-address=10.0.0.1"),
    ] {
        let resolved = chain.resolve(&target(name)).await.unwrap();
        assert_eq!(resolved.target().as_str(), id, "{name}");
        assert_eq!(account.questions(), [asked], "{name}");
    }
}

#[tokio::test]
async fn ipv6_is_tried_when_no_instance_has_the_ipv4_address() {
    let zone = Zone::serve().await;
    let account = account();
    let chain = Chain::new().then(DnsAddress::new(zone.dns(), account.clone()));
    let resolved = chain.resolve(&target("dual.test.")).await.unwrap();
    assert_eq!(resolved.target().as_str(), "i-00000003");
    assert_eq!(account.questions().len(), 2);
}

#[tokio::test]
async fn a_text_record_names_the_instance() {
    let zone = Zone::serve().await;
    let chain = Chain::new().then(DnsText::new(zone.dns()));
    for (name, id) in [
        ("text.test.", "i-0123456789abcdef0"),
        ("upper.test.", "i-0123456789ABCDEF0"),
        ("split.test.", "i-0123456789abcdef1"),
    ] {
        assert_eq!(chain.resolve(&target(name)).await.unwrap().target().as_str(), id);
    }
    let error = chain.resolve(&target("managed.test.")).await.unwrap_err();
    assert!(matches!(error, ResolveError::NotFound { .. }), "only i- counts: {error}");
}

#[tokio::test]
async fn an_answer_too_long_for_udp_is_read() {
    let zone = Zone::serve().await;
    let chain = Chain::new().then(DnsText::new(zone.dns()));
    assert_eq!(chain.resolve(&target("long.test.")).await.unwrap().target().as_str(), "i-0123456789abcdef2");
}

#[tokio::test]
async fn no_such_name_and_no_such_record_are_answers() {
    let zone = Zone::serve().await;
    let account = account();
    let chain =
        Chain::new().then(DnsAddress::new(zone.dns(), account.clone())).alongside(DnsText::new(zone.dns()));
    for name in ["absent.test.", "mail.test."] {
        let explanation = chain.explain(&target(name)).await;
        assert!(explanation.result.is_err());
        for attempt in explanation.attempts {
            assert_eq!(attempt.outcome, Outcome::Nothing, "{name}");
        }
    }
    assert_eq!(account.questions(), [] as [&str; 0], "no address, no question");
}

#[tokio::test]
async fn a_refusal_is_a_failure_and_not_an_absence() {
    let zone = Zone::serve().await;
    let chain = Chain::new().then(DnsText::new(zone.dns()));
    let error = chain.resolve(&target("elsewhere.example.")).await.unwrap_err();
    assert_eq!(error.failure().map(|failure| failure.kind()), Some(LookupErrorKind::Unreachable), "{error}");
}

#[tokio::test]
async fn a_silent_server_fails_in_time() {
    let silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let dns = Dns::with_servers(&[silent.local_addr().unwrap()], Duration::from_millis(100)).unwrap();
    let chain = Chain::new().then(DnsAddress::new(dns.clone(), account())).alongside(DnsText::new(dns));
    let web = target("web.test.");
    let search = tokio::time::timeout(Duration::from_secs(20), chain.resolve(&web));
    let error = search.await.expect("an end").unwrap_err();
    assert!(error.is_temporary());
    assert!(error.to_string().contains("DNS address: DNS gave no answer for web.test."), "{error}");
}

#[tokio::test]
async fn the_next_server_is_asked_when_one_is_silent() {
    let zone = Zone::serve().await;
    let silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let servers = [silent.local_addr().unwrap(), zone.server];
    let dns = Dns::with_servers(&servers, Duration::from_millis(500)).unwrap();
    let resolved = Chain::new().then(DnsText::new(dns)).resolve(&target("text.test.")).await.unwrap();
    assert_eq!(resolved.target().as_str(), "i-0123456789abcdef0");
}

#[tokio::test]
async fn dns_comes_after_the_name_tag_and_before_the_computer_name() {
    let zone = Zone::serve().await;
    let account = Account { nodes: vec![("mi-00000009", "private.test")], ..account() };
    let chain = Chain::standard_with_dns(Aliases::default(), account.clone(), zone.dns());
    let explanation = chain.explain(&target("private.test")).await;
    assert_eq!(
        explanation.to_string(),
        "alias: nothing found\n\
         tag of an instance: nothing found\n\
         address of an instance: does not look up this form\n\
         DNS address: found i-00000001\n\
         DNS text: not asked\n\
         computer name of a managed node: not asked\n\
         i-00000001 by DNS address"
    );
    let tagged = chain.resolve(&target("text.test")).await.unwrap();
    assert_eq!(tagged.target().as_str(), "i-00000004", "the tag counts, whoever answers first");
}

fn account() -> Account {
    Account {
        instances: vec![
            ("i-00000001", &[("private-ip-address", "10.0.0.1"), RUNNING]),
            ("i-00000002", &[("ip-address", "52.1.1.1"), ("private-ip-address", "10.0.0.2"), RUNNING]),
            ("i-00000003", &[("network-interface.ipv6-addresses.ipv6-address", "2001:db8::1"), RUNNING]),
            ("i-00000004", &[("tag:Name", "text.test"), RUNNING]),
        ],
        ..Account::default()
    }
}

fn target(text: &str) -> Target {
    text.parse().unwrap()
}

/// The zone `test.` on a server of its own.
struct Zone {
    server: SocketAddr,
    _server: Server<Catalog>,
}

impl Zone {
    async fn serve() -> Self {
        let origin = Name::from_str("test.").unwrap();
        let mut zone = InMemoryZoneHandler::<TokioRuntimeProvider>::empty(
            origin.clone(),
            ZoneType::Primary,
            AxfrPolicy::Deny,
        );
        let soa = SOA::new(origin.clone(), origin.clone(), 1, 60, 60, 60, 60);
        zone.upsert_mut(Record::from_rdata(origin.clone(), 60, RData::SOA(soa)), 0);
        for (name, data) in records() {
            let name = Name::from_str(name).unwrap().append_domain(&origin).unwrap();
            zone.upsert_mut(Record::from_rdata(name, 60, data), 0);
        }
        let mut catalog = Catalog::new();
        catalog.upsert(origin.into(), vec![Arc::new(zone)]);
        let mut server = Server::new(catalog);
        let (udp, tcp) = same_port().await;
        let address = udp.local_addr().unwrap();
        server.register_socket(udp);
        server.register_listener(tcp, TIMEOUT, 16);
        Self { server: address, _server: server }
    }

    fn dns(&self) -> Dns {
        Dns::with_servers(&[self.server], TIMEOUT).unwrap()
    }
}

fn records() -> Vec<(&'static str, RData)> {
    let text = |parts: &[&str]| RData::TXT(TXT::new(parts.iter().copied().map(Into::into).collect()));
    let a = |a, b, c, d| RData::A(A::new(a, b, c, d));
    let v6 = RData::AAAA(AAAA::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));
    let mut records = vec![
        ("private", a(10, 0, 0, 1)),
        ("public", a(52, 1, 1, 1)),
        ("both", a(52, 1, 1, 1)),
        ("both", a(10, 0, 0, 1)),
        ("six", v6.clone()),
        ("dual", a(10, 0, 0, 99)),
        ("dual", v6),
        ("alias", RData::CNAME(CNAME(Name::from_str("private.test.").unwrap()))),
        ("text", text(&["v=spf1 -all"])),
        ("text", text(&["mi-0123456789abcdef0"])),
        ("text", text(&["i-1234567"])),
        ("text", text(&["i-0123456789abcdef0"])),
        ("upper", text(&["i-0123456789ABCDEF0"])),
        ("split", text(&["i-01234567", "89abcdef1"])),
        ("managed", text(&["mi-0123456789abcdef0"])),
        ("mail", RData::MX(MX::new(1, Name::from_str("a.test.").unwrap()))),
        ("long", text(&["i-0123456789abcdef2"])),
    ];
    for number in 0..40 {
        records.push(("long", text(&[&format!("{number:0200}")])));
    }
    records
}

/// DNS needs the same port for both; another program may have one of them.
async fn same_port() -> (UdpSocket, TcpListener) {
    loop {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
            return (udp, tcp);
        }
    }
}
