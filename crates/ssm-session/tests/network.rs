//! Proxies, private authorities and endpoints, with real TLS between them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::Duration;

use ssm_session::{
    Attached, Config, DialError, Endpoint, Network, NetworkOptions, Route, Secret, Session, SessionError,
    SessionId, StreamEndpoint, StreamHosts, Token,
};

use self::support::{Authority, HttpProxy, SocksProxy, StreamServer};

/// The name that the server's certificate is for. Nothing looks it up: the proxies know where it is.
const HOST: &str = "ssmmessages.eu-west-1.amazonaws.com";

#[tokio::test]
async fn a_session_opens_through_a_connect_proxy() {
    let authority = Authority::new();
    let mut server = StreamServer::start(&authority, HOST).await;
    let proxy = HttpProxy::start(server.address(), None, None).await;
    assert_eq!(opens(through(&proxy.url(""), &authority), &mut server).await, HOST);
    assert_eq!(proxy.destinations(), [format!("{HOST}:443")]);
}

#[tokio::test]
async fn a_session_opens_through_a_proxy_with_tls_of_its_own() {
    let authority = Authority::new();
    let mut server = StreamServer::start(&authority, HOST).await;
    let proxy = HttpProxy::start(server.address(), None, Some(&authority)).await;
    assert_eq!(opens(through(&proxy.url(""), &authority), &mut server).await, HOST);
}

#[tokio::test]
async fn a_proxy_is_told_who_we_are() {
    let authority = Authority::new();
    let mut server = StreamServer::start(&authority, HOST).await;
    // Base64 of `user:p@ss`.
    let proxy = HttpProxy::start(server.address(), Some("Basic dXNlcjpwQHNz"), None).await;
    opens(through(&proxy.url("user:p%40ss@"), &authority), &mut server).await;
    let none = reason(through(&proxy.url(""), &authority)).await;
    assert!(none.contains("407") && none.contains("USER:PASSWORD"), "{none}");
    let wrong = reason(through(&proxy.url("user:hush@"), &authority)).await;
    assert!(wrong.contains("does not take") && !wrong.contains("hush"), "{wrong}");
}

#[tokio::test]
async fn a_session_opens_through_a_socks_proxy() {
    let authority = Authority::new();
    let mut server = StreamServer::start(&authority, HOST).await;
    let proxy = SocksProxy::start(server.address(), None, 0).await;
    assert_eq!(opens(through(&proxy.url("socks5h", ""), &authority), &mut server).await, HOST);
    assert_eq!(proxy.destinations(), [format!("{HOST}:443")]);
}

#[tokio::test]
async fn socks5_looks_names_up_here_and_socks5h_does_not() {
    let authority = Authority::new();
    let server = StreamServer::start(&authority, HOST).await;
    let proxy = SocksProxy::start(server.address(), None, 4).await;
    let streams = at("https://vpce.invalid");
    let route = Route { streams: streams.clone(), ..through(&proxy.url("socks5", ""), &authority) };
    let error = reason(route).await;
    assert!(error.contains("not found here") && error.contains("socks5h"), "{error}");
    assert!(proxy.destinations().is_empty());
    let error = reason(Route { streams, ..through(&proxy.url("socks5h", ""), &authority) }).await;
    assert!(error.contains("no way to the host"), "{error}");
    assert_eq!(proxy.destinations(), ["vpce.invalid:443"]);
}

#[tokio::test]
async fn a_socks_proxy_is_told_who_we_are() {
    let authority = Authority::new();
    let mut server = StreamServer::start(&authority, HOST).await;
    let proxy = SocksProxy::start(server.address(), Some(("user", "p@ss")), 0).await;
    opens(through(&proxy.url("socks5h", "user:p%40ss@"), &authority), &mut server).await;
    let none = reason(through(&proxy.url("socks5h", ""), &authority)).await;
    assert!(none.contains("USER:PASSWORD"), "{none}");
    let wrong = reason(through(&proxy.url("socks5h", "user:hush@"), &authority)).await;
    assert!(wrong.contains("does not take") && !wrong.contains("hush"), "{wrong}");
}

#[tokio::test]
async fn what_a_proxy_refuses_is_told_in_words() {
    let authority = Authority::new();
    let server = StreamServer::start(&authority, HOST).await;
    let socks = SocksProxy::start(server.address(), None, 2).await;
    let error = reason(through(&socks.url("socks5h", ""), &authority)).await;
    assert!(error.contains("rules do not allow") && error.contains(HOST), "{error}");
    let http = HttpProxy::refusing("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno").await;
    let error = reason(through(&http.url(""), &authority)).await;
    assert!(error.contains("HTTP 403"), "{error}");
    let odd = HttpProxy::refusing("SSH-2.0-OpenSSH_9.9\r\n\r\n").await;
    let error = reason(through(&odd.url(""), &authority)).await;
    assert!(error.contains("does not answer like an HTTP proxy"), "{error}");
    let mute = HttpProxy::refusing("").await;
    let error = reason(through(&mute.url(""), &authority)).await;
    assert!(error.contains("hung up"), "{error}");
    let error = reason(through("http://127.0.0.1:9", &authority)).await;
    assert!(error.contains("proxy http://127.0.0.1:9") && error.contains("cannot connect to it"), "{error}");
}

#[tokio::test]
async fn a_private_authority_is_trusted_only_when_it_is_named() {
    let authority = Authority::new();
    let server = StreamServer::start(&authority, HOST).await;
    let proxy = HttpProxy::start(server.address(), None, None).await;
    let error = attach(through(&proxy.url(""), &Authority::new())).await.map(drop).unwrap_err();
    assert!(matches!(&error, SessionError::Dial(DialError::Tls { .. })), "{error}");
    assert!(error.to_string().contains("AWS_CA_BUNDLE"), "{error}");
    assert!(server.is_untouched());
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused() {
    let authority = Authority::new();
    let server = StreamServer::start(&authority, "ssmmessages.us-west-2.amazonaws.com").await;
    let proxy = HttpProxy::start(server.address(), None, None).await;
    let error = attach(through(&proxy.url(""), &authority)).await.map(drop).unwrap_err();
    assert!(matches!(&error, SessionError::Dial(DialError::Tls { .. })), "{error}");
    assert!(server.is_untouched());
}

#[tokio::test]
async fn old_tls_and_what_is_no_tls_are_told_apart() {
    // What OpenSSL 3.0 answers with TLS 1.1 alone (`openssl s_server -tls1_1 -cipher ALL@SECLEVEL=0`): an alert.
    let alert = &[0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 0x46];
    // A server that takes no notice: ServerHello with 3.2 for its version, and a suite.
    let mut hello = vec![0x16, 0x03, 0x02, 0x00, 0x2a, 0x02, 0x00, 0x00, 0x26, 0x03, 0x02];
    hello.extend_from_slice(&[7; 32]);
    hello.extend_from_slice(&[0, 0xc0, 0x13, 0]);
    for (answer, told) in [
        (alert.to_vec(), "before 1.2"),
        (hello, "before 1.2"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), "not answer with TLS"),
        (b"SSH-2.0-OpenSSH_9.9\r\n".to_vec(), "not answer with TLS"),
        (Vec::new(), "hung up"),
    ] {
        let server = support::answering(answer.clone()).await;
        let streams = at(&format!("https://{server}"));
        let error = reason(Route { streams, ..Route::default() }).await;
        assert!(error.contains(told) && error.contains(&server.to_string()), "{answer:?}: {error}");
    }
}

#[tokio::test]
async fn an_endpoint_takes_the_place_of_the_host() {
    let authority = Authority::new();
    let name = "vpce-1.ssmmessages.eu-west-1.vpce.amazonaws.com";
    let mut server = StreamServer::start(&authority, name).await;
    let proxy = HttpProxy::start(server.address(), None, None).await;
    let streams = at(&format!("https://{name}:8443"));
    let route = Route { streams, ..through(&proxy.url(""), &authority) };
    assert_eq!(opens(route, &mut server).await, format!("{name}:8443"));
    assert_eq!(proxy.destinations(), [format!("{name}:8443")]);
}

#[tokio::test]
async fn no_token_goes_to_a_host_that_is_not_of_aws() {
    let authority = Authority::new();
    let server = StreamServer::start(&authority, "ssmmessages.evil.example").await;
    let proxy = HttpProxy::start(server.address(), None, None).await;
    let mut endpoint = endpoint();
    endpoint.stream_url = "wss://ssmmessages.evil.example/v1/data-channel/s-1".into();
    let config = Config { route: Some(through(&proxy.url(""), &authority)), ..Config::default() };
    let error = Session::attach(endpoint, config).await.map(drop).unwrap_err().to_string();
    assert!(error.contains("ssmmessages.evil.example") && error.contains("not sent"), "{error}");
    assert!(proxy.destinations().is_empty() && server.is_untouched());
}

fn endpoint() -> Endpoint {
    Endpoint {
        session_id: SessionId::new("s-1"),
        stream_url: format!("wss://{HOST}/v1/data-channel/s-1?role=publish_subscribe"),
        token: Token::new("the-token".into()),
    }
}

fn at(url: &str) -> StreamHosts {
    StreamHosts { endpoint: Some(StreamEndpoint::parse(url).unwrap()), ..StreamHosts::default() }
}

/// The way through `proxy`, trusting `authority`.
fn through(proxy: &str, authority: &Authority) -> Route {
    let options = NetworkOptions {
        https_proxy: Some(Secret::new(proxy.into())),
        ca_bundle: Some(authority.bundle()),
        ..NetworkOptions::default()
    };
    Route { network: Network::new(&options).unwrap(), streams: StreamHosts::default() }
}

async fn attach(route: Route) -> Result<Session<Attached>, SessionError> {
    let attaching = Session::attach(endpoint(), Config { route: Some(route), ..Config::default() });
    tokio::time::timeout(Duration::from_secs(20), attaching).await.expect("an answer")
}

async fn reason(route: Route) -> String {
    attach(route).await.map(drop).unwrap_err().to_string()
}

/// Opens a session on `route`; the `Host` that the server was asked for.
async fn opens(route: Route, server: &mut StreamServer) -> String {
    let mut session = attach(route).await.unwrap();
    let driving = async {
        loop {
            session.next_event().await;
        }
    };
    let opened = tokio::select! {
        opened = server.opened() => opened,
        () = driving => unreachable!("it never ends"),
    };
    assert!(opened.first_frame.contains("the-token"), "{}", opened.first_frame);
    opened.host
}
