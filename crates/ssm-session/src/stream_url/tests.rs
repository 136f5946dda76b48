use proptest::prelude::*;
use url::Url;

use super::*;

fn hosts(region: &str) -> StreamHosts {
    StreamHosts { region: Some(region.into()), ..StreamHosts::default() }
}

fn error(hosts: &StreamHosts, url: &str) -> String {
    hosts.resolve(url).err().map_or_else(String::new, |error| error.to_string())
}

#[test]
fn item_12_hosts_of_every_partition_are_known() {
    for (region, host) in [
        ("us-east-1", "ssmmessages.us-east-1.amazonaws.com"),
        ("us-east-1", "ssmmessages.us-east-1.amazonaws.com:443"),
        ("us-east-1", "SSMMessages.us-east-1.amazonaws.com"),
        ("us-east-1", "ssmmessages-fips.us-east-1.amazonaws.com"),
        ("us-east-1", "ssmmessages.us-east-1.api.aws"),
        ("us-east-1", "ssmmessages-fips.us-east-1.api.aws"),
        ("ap-southeast-12", "ssmmessages.ap-southeast-12.amazonaws.com"),
        ("us-gov-west-1", "ssmmessages.us-gov-west-1.amazonaws.com"),
        ("us-gov-west-1", "ssmmessages-fips.us-gov-west-1.api.aws"),
        ("cn-north-1", "ssmmessages.cn-north-1.amazonaws.com.cn"),
        ("cn-north-1", "ssmmessages.cn-north-1.api.amazonwebservices.com.cn"),
        ("us-iso-east-1", "ssmmessages.us-iso-east-1.c2s.ic.gov"),
        ("us-isob-east-1", "ssmmessages.us-isob-east-1.sc2s.sgov.gov"),
        ("us-isof-south-1", "ssmmessages.us-isof-south-1.csp.hci.ic.gov"),
        ("eu-isoe-west-1", "ssmmessages.eu-isoe-west-1.cloud.adc-e.uk"),
        ("eusc-de-east-1", "ssmmessages.eusc-de-east-1.amazonaws.eu"),
    ] {
        let url = format!("wss://{host}/v1/data-channel/s?role=publish_subscribe");
        assert_eq!(error(&hosts(region), &url), "", "{url}");
        assert_eq!(error(&StreamHosts::default(), &url), "", "{url}");
    }
}

#[test]
fn fips_and_dual_stack_take_the_place_of_what_the_service_names() {
    let led = |fips, dual_stack, host: &str, query: &str| {
        let hosts = StreamHosts { fips, dual_stack, ..StreamHosts::default() };
        let url = hosts.resolve(&format!("wss://{host}/v1/data-channel/s{query}")).unwrap();
        (url.host, url.uri.host().unwrap().to_owned())
    };
    let plain = "ssmmessages.us-gov-west-1.amazonaws.com";
    for (fips, dual_stack, expected) in [
        (false, false, plain),
        (true, false, "ssmmessages-fips.us-gov-west-1.amazonaws.com"),
        (false, true, "ssmmessages.us-gov-west-1.api.aws"),
        (true, true, "ssmmessages-fips.us-gov-west-1.api.aws"),
    ] {
        assert_eq!(led(fips, dual_stack, plain, "?role=x"), (expected.into(), expected.into()));
        assert_eq!(led(fips, dual_stack, expected, "").0, expected);
        assert_eq!(led(fips, dual_stack, "127.0.0.1", "").0, "127.0.0.1");
    }
    let china = led(false, true, "ssmmessages.cn-north-1.amazonaws.com.cn", "").0;
    assert_eq!(china, "ssmmessages.cn-north-1.api.amazonwebservices.com.cn");
    // What is in the URL is signed, so only the connection leads elsewhere.
    let signed = led(true, false, plain, "?X-Amz-Signature=a");
    assert_eq!(signed, ("ssmmessages-fips.us-gov-west-1.amazonaws.com".into(), plain.into()));
}

#[test]
fn hosts_that_only_look_like_aws_are_refused() {
    for host in [
        "example.com",
        "ssmmessages.us-east-1.amazonaws.com.example.com",
        "ssmmessages.us-east-1.amazonaws.com.",
        "ssmmessages.us-east-1.amazonaws.co",
        "ssmmessages.us-east-1.xamazonaws.com",
        "ssmmessages.us-east-1.amazonaws.com.cn",
        "ssmmessages.cn-north-1.amazonaws.com",
        "ssmmessages.us-east-1.evil.amazonaws.com",
        "ssmmessages.evil.amazonaws.com",
        "ssmmessages.s3-bucket.amazonaws.com",
        "ssmmessages.us-east-1.s3.amazonaws.com",
        "ssmmessages.amazonaws.com",
        "ssm.us-east-1.amazonaws.com",
        "bucket.s3.us-east-1.amazonaws.com",
        "vpce-0a-b.ssmmessages.us-east-1.vpce.amazonaws.com",
        "xssmmessages.us-east-1.amazonaws.com",
        "ssmmessages.us-east-1.amazonaws.com:8443",
        "10.0.0.1",
        "[2001:db8::1]",
        "[::ffff:127.0.0.1]",
        "localhost.",
        "127.0.0.1.example.com",
        "xn--ssmmessages-xyz.us-east-1.amazonaws.com",
    ] {
        let error = error(&StreamHosts::default(), &format!("wss://{host}/v1"));
        assert!(error.contains("not sent"), "{host}: {error}");
    }
}

#[test]
fn another_partition_is_refused_and_named() {
    let url = "wss://ssmmessages.cn-north-1.amazonaws.com.cn/v1";
    let refused = error(&hosts("eu-west-1"), url);
    assert!(refused.contains("eu-west-1 (partition aws)"), "{refused}");
    let url = "wss://ssmmessages.us-gov-west-1.amazonaws.com/v1";
    assert!(error(&hosts("us-east-1"), url).contains("partition aws"));
    assert_eq!(error(&hosts("us-east-1"), "wss://ssmmessages.us-west-2.amazonaws.com/v1"), "");
}

#[test]
fn plain_connections_stay_on_this_machine() {
    let hosts = hosts("eu-west-1");
    assert_eq!(error(&hosts, "ws://127.0.0.1:8080/v1"), "");
    assert_eq!(error(&hosts, "ws://[::1]:8080/v1"), "");
    assert_eq!(error(&hosts, "ws://localhost:8080/v1"), "");
    assert!(error(&hosts, "ws://ssmmessages.eu-west-1.amazonaws.com/v1").contains("loopback"));
    assert!(error(&hosts, "ws://127.0.0.1.example.com/v1").contains("loopback"));
}

#[test]
fn what_is_no_stream_url_is_named() {
    for (url, words) in [
        ("https://h/", "wss"),
        ("/v1", "no host"),
        ("not a url", "no URL"),
        ("wss://ssmmessages.us-east-1.amazonaws.com@example.com/v1", "user name"),
        ("wss://a:b@ssmmessages.us-east-1.amazonaws.com/v1", "user name"),
        ("wss://ssmmessages.us-east-1.amazonaws.com:99999/v1", "no URL"),
        ("wss://ssmmessages.us-east-1.amazonaws.com:/v1", "no URL"),
        ("wss://ssmmessages.us-east-1.amazonaws.com\u{ff0e}example.com/v1", "no URL"),
        ("wss://ssmmessages.us-east-1.amazonaws.com\\@example.com/v1", "no URL"),
        ("wss://[::1]ssmmessages:443/v1", "no URL"),
        ("wss://[::1]:443ssmmessages/v1", "no URL"),
    ] {
        let error = error(&StreamHosts::default(), url);
        assert!(error.contains(words), "{url}: {error}");
    }
}

#[test]
fn item_3_an_endpoint_takes_the_place_of_the_host_and_nothing_else() {
    let endpoint = StreamEndpoint::parse("https://vpce-1.ssmmessages.eu-west-1.vpce.amazonaws.com").unwrap();
    let hosts = StreamHosts { endpoint: Some(endpoint), ..StreamHosts::default() };
    let url =
        hosts.resolve("wss://ssmmessages.eu-west-1.amazonaws.com/v1/s?role=x&cell-number=AA%3D").unwrap();
    assert_eq!(
        url.uri,
        "wss://vpce-1.ssmmessages.eu-west-1.vpce.amazonaws.com/v1/s?role=x&cell-number=AA%3D"
    );
    assert_eq!((url.host.as_str(), url.port, url.secure), (url.uri.host().unwrap(), 443, true));
    let hosts = StreamHosts {
        endpoint: StreamEndpoint::parse("http://127.0.0.1:8080/").ok(),
        ..StreamHosts::default()
    };
    let url = hosts.resolve("wss://ssmmessages.eu-west-1.amazonaws.com/v1/s").unwrap();
    assert_eq!(url.uri, "ws://127.0.0.1:8080/v1/s");
    assert_eq!((url.port, url.secure), (8080, false));
}

#[test]
fn the_host_of_a_url_with_a_signature_stays_what_was_signed() {
    let endpoint = StreamEndpoint::parse("wss://vpce.example:8443").ok();
    let hosts = StreamHosts { endpoint, ..StreamHosts::default() };
    let signed = "wss://ssmmessages.eu-west-1.amazonaws.com/v1/s?X-Amz-Signature=00";
    let url = hosts.resolve(signed).unwrap();
    assert_eq!(url.uri, signed);
    assert_eq!((url.host.as_str(), url.port), ("vpce.example", 8443));
}

#[test]
fn an_endpoint_is_a_host_and_a_port() {
    for (url, words) in [
        ("vpce.example", "wss"),
        ("https://vpce.example/path", "path"),
        ("https://vpce.example/?q", "path"),
        ("ftp://vpce.example", "wss"),
        ("http://vpce.example", "loopback"),
        ("https://u:p@vpce.example", "user name"),
        ("", "no URL"),
    ] {
        let error = StreamEndpoint::parse(url).unwrap_err().to_string();
        assert!(error.contains(words), "{url}: {error}");
    }
}

#[test]
fn a_trusted_host_is_trusted_on_any_port() {
    let hosts =
        StreamHosts { trusted: Vec::new(), ..hosts("eu-west-1") }.trusting("https://aws.corp.example:4566");
    assert_eq!(error(&hosts, "wss://aws.corp.example:8443/v1"), "");
    assert!(error(&hosts, "wss://x.aws.corp.example/v1").contains("not sent"));
}

/// Pieces of URLs that are read in different ways by different programs.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "ssmmessages",
        "ssmmessages-fips",
        "SSMMESSAGES",
        "us-east-1",
        "cn-north-1",
        "us-gov-west-1",
        "amazonaws.com",
        "amazonaws.com.cn",
        "api.aws",
        "vpce",
        "example.com",
        "localhost",
        "127.0.0.1",
        "2130706433",
        "0x7f.1",
        "[::1]",
        "[::ffff:7f00:1]",
        ".",
        ".",
        ".",
        "@",
        ":",
        ":443",
        ":80",
        "/",
        "\\",
        "?",
        "#",
        "%2e",
        "%40",
        "%00",
        "xn--a",
        "-",
        "\u{ff0e}",
        "\u{3002}",
        "\u{200b}",
        "\u{e9}",
        " ",
        "\t",
        "\r\n",
        "wss://",
    ]);
    prop::collection::vec(piece, 1..10).prop_map(|pieces| pieces.concat())
}

/// AWS's stream URLs with something put into them.
fn disturbed() -> impl Strategy<Value = String> {
    let piece = prop_oneof![any::<char>().prop_map(String::from), pieces()];
    let host = "ssmmessages.us-east-1.amazonaws.com";
    (0..=host.len(), piece).prop_map(move |(at, piece)| format!("{}{piece}{}", &host[..at], &host[at..]))
}

/// Whether a URL may be used, by rules that are written down another way: what a browser reads, compared with a list.
fn is_safe(url: &str) -> bool {
    let Ok(url) = Url::parse(url) else { return false };
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    if !url.username().is_empty() || url.password().is_some() {
        return false;
    }
    if matches!(host.as_str(), "localhost" | "127.0.0.1" | "::1") {
        return true;
    }
    let rest = host.strip_prefix("ssmmessages.").or_else(|| host.strip_prefix("ssmmessages-fips."));
    let (region, suffix) = rest.and_then(|rest| rest.split_once('.')).unwrap_or_default();
    let plain = region.matches('-').count() >= 2 && !region.contains("--");
    let known = plain
        && match suffix {
            "amazonaws.com" | "api.aws" => !region.starts_with("cn-"),
            "amazonaws.com.cn" => region.starts_with("cn-"),
            _ => false,
        };
    known && url.scheme() == "wss" && url.port_or_known_default() == Some(443)
}

#[test]
fn data_channels_usually_lead_to_the_host_of_their_region() {
    let of = |region: &str| StreamHosts { region: Some(region.into()), ..StreamHosts::default() };
    for (region, url) in [
        ("eu-west-1", "https://ssmmessages.eu-west-1.amazonaws.com"),
        ("us-gov-west-1", "https://ssmmessages.us-gov-west-1.amazonaws.com"),
        ("cn-north-1", "https://ssmmessages.cn-north-1.amazonaws.com.cn"),
    ] {
        assert_eq!(of(region).usual_url().as_deref(), Some(url));
    }
    assert_eq!(StreamHosts::default().usual_url(), None);
    assert_eq!(of("eu-west-1").trusting("http://10.0.0.1:4566").usual_url(), None);
    let endpoint = StreamEndpoint::parse("https://vpce.example:8443").ok();
    let both = StreamHosts { fips: true, dual_stack: true, ..of("us-east-1") };
    assert_eq!(both.usual_url().as_deref(), Some("https://ssmmessages-fips.us-east-1.api.aws"));
    let own = StreamHosts { endpoint, ..of("eu-west-1") };
    assert_eq!(own.usual_url().as_deref(), Some("https://vpce.example:8443"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2048, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_accepted_leads_where_a_browser_would_go_and_is_allowed(
        authority in prop_oneof![pieces(), disturbed()],
        scheme in prop::sample::select(vec!["wss", "ws", "WSS", "https"]),
    ) {
        let url = format!("{scheme}://{authority}/v1/data-channel/s?role=publish_subscribe");
        if let Ok(resolved) = StreamHosts::default().resolve(&url) {
            prop_assert!(is_safe(&url), "{url}");
            let browser = Url::parse(&url).unwrap();
            let host = browser.host_str().unwrap().trim_matches(['[', ']']).to_owned();
            prop_assert_eq!(resolved.host.to_ascii_lowercase(), host);
            prop_assert_eq!(Some(resolved.port), browser.port_or_known_default());
        }
    }

    #[test]
    fn any_text_is_judged_without_a_panic(url in any::<String>(), endpoint in any::<String>()) {
        let hosts = StreamHosts { endpoint: StreamEndpoint::parse(&endpoint).ok(), ..StreamHosts::default() };
        let _ = hosts.resolve(&url);
    }

    #[test]
    fn an_endpoint_is_where_every_url_leads(url in disturbed(), port in 1..=u16::MAX) {
        let endpoint = StreamEndpoint::parse(&format!("https://vpce.example:{port}")).unwrap();
        let hosts = StreamHosts { endpoint: Some(endpoint), ..StreamHosts::default() };
        if let Ok(resolved) = hosts.resolve(&format!("wss://{url}/v1/s?role=x")) {
            prop_assert_eq!((resolved.host.as_str(), resolved.port, resolved.secure), ("vpce.example", port, true));
        }
    }
}
