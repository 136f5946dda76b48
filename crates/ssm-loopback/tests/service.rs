//! The service as an AWS client sees it: signed HTTP and WebSockets over TCP.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4::SigningParams;
use aws_smithy_runtime_api::client::identity::Identity;
use http::Request;
use serde_json::{Value, json};
use ssm_loopback::{Cells, Config, Document, Loopback, Upgrade};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_session_is_started_resumed_described_and_terminated() {
    let api = Api::start(Config::default()).await;
    let started = api.ok("StartSession", json!({"Target": api.target(), "Reason": "why not"})).await;
    let id = started["SessionId"].as_str().unwrap();
    assert!(id.starts_with("loopback-") && id.len() == 9 + 26, "{id}");
    let url = started["StreamUrl"].as_str().unwrap();
    let prefix = format!("{}/v1/data-channel/{id}?", api.loopback.endpoint_url().replace("http", "ws"));
    assert!(url.starts_with(&prefix), "{url}");

    let resumed = api.ok("ResumeSession", json!({"SessionId": id})).await;
    assert_eq!(resumed["StreamUrl"], started["StreamUrl"]);
    assert_ne!(resumed["TokenValue"], started["TokenValue"]);

    let active = api.ok("DescribeSessions", json!({"State": "Active"})).await;
    assert_eq!(active["Sessions"][0]["SessionId"], id);
    assert_eq!(active["Sessions"][0]["Reason"], "why not");
    assert_eq!(active["Sessions"][0]["DocumentName"], "SSM-SessionManagerRunShell");

    let ended = api.ok("TerminateSession", json!({"SessionId": id})).await;
    assert_eq!(ended, json!({"SessionId": id}));
    let late = api.ok("ResumeSession", json!({"SessionId": id})).await;
    assert_eq!(late, json!({"SessionId": id}));
    assert_eq!(api.ok("TerminateSession", json!({"SessionId": id})).await, json!({"SessionId": id}));
    api.until_history(id).await;
}

#[tokio::test]
async fn a_node_is_described() {
    let config = Config { targets: vec!["i-1".into(), "mi-2".into()], ..Config::default() };
    let api = Api::start(config).await;
    let all = api.ok("DescribeInstanceInformation", json!({})).await;
    let nodes = all["InstanceInformationList"].as_array().unwrap();
    assert_eq!(nodes.len(), 2);
    assert_eq!(nodes[0]["PingStatus"], "Online");
    let filter = json!({"Filters": [{"Key": "InstanceIds", "Values": ["mi-2"]}]});
    let one = api.ok("DescribeInstanceInformation", filter).await;
    assert_eq!(one["InstanceInformationList"][0]["ResourceType"], "ManagedInstance");
    assert_eq!(one["InstanceInformationList"].as_array().unwrap().len(), 1);
    let status = api.ok("GetConnectionStatus", json!({"Target": "i-1"})).await;
    assert_eq!(status, json!({"Target": "i-1", "Status": "connected"}));
    let status = api.ok("GetConnectionStatus", json!({"Target": "i-9"})).await;
    assert_eq!(status["Status"], "notconnected");
}

#[tokio::test]
async fn mistakes_get_the_errors_of_aws() {
    let api = Api::start(Config::default()).await;
    let target = api.target();
    let cases = [
        ("StartSession", json!({"Target": "i-00000000"}), "TargetNotConnected"),
        ("StartSession", json!({"Target": ""}), "ValidationException"),
        ("StartSession", json!({}), "ValidationException"),
        ("StartSession", json!({"Target": "x".repeat(401)}), "ValidationException"),
        ("StartSession", json!({"Target": target, "DocumentName": "Nope"}), "InvalidDocument"),
        ("StartSession", json!({"Target": target, "DocumentName": "a b"}), "ValidationException"),
        ("StartSession", json!({"Target": target, "Reason": ""}), "ValidationException"),
        ("StartSession", json!({"Target": target, "Parameters": {"x": ["y"]}}), "InvalidParameters"),
        ("StartSession", json!({"Target": target, "Parameters": {"x": "y"}}), "SerializationException"),
        ("StartSession", json!([1]), "SerializationException"),
        ("ResumeSession", json!({"SessionId": "nobody-1"}), "DoesNotExistException"),
        ("ResumeSession", json!({"SessionId": ""}), "ValidationException"),
        ("TerminateSession", json!({"SessionId": "nobody-1"}), "DoesNotExistException"),
        ("DescribeSessions", json!({}), "ValidationException"),
        ("DescribeSessions", json!({"State": "Active", "MaxResults": 201}), "ValidationException"),
        ("DescribeSessions", json!({"State": "Active", "NextToken": "x"}), "InvalidNextToken"),
        (
            "DescribeSessions",
            json!({"State": "Active", "Filters": [{"key": "Colour", "value": "red"}]}),
            "InvalidFilterKey",
        ),
        ("DescribeInstanceInformation", json!({"MaxResults": 4}), "ValidationException"),
        ("SendCommand", json!({}), "UnknownOperationException"),
    ];
    for (operation, body, code) in cases {
        let (status, answer) = api.call(operation, &body).await;
        assert_eq!((status, answer["__type"].as_str()), (400, Some(code)), "{operation} {body}: {answer}");
        assert!(answer["message"].as_str().is_some_and(|message| !message.is_empty()));
    }
}

#[tokio::test]
async fn sessions_come_in_pages_the_newest_first() {
    let api = Api::start(Config::default()).await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(api.ok("StartSession", json!({"Target": api.target()})).await["SessionId"].clone());
    }
    let mut seen = Vec::new();
    let mut query = json!({"State": "Active", "MaxResults": 2});
    loop {
        let page = api.ok("DescribeSessions", query.clone()).await;
        let sessions = page["Sessions"].as_array().unwrap();
        assert!(sessions.len() <= 2);
        seen.extend(sessions.iter().map(|session| session["SessionId"].clone()));
        match page.get("NextToken") {
            Some(token) => query["NextToken"] = token.clone(),
            None => break,
        }
    }
    ids.reverse();
    assert_eq!(seen, ids);
}

#[tokio::test]
async fn a_call_that_is_not_signed_with_our_keys_is_a_403() {
    let api = Api::start(Config::default()).await;
    let body = json!({"Target": api.target()});
    let unsigned = api.request("StartSession");
    let (status, answer) = exchange(&unsigned, &body.to_string()).await;
    assert_eq!((status, answer["__type"].as_str()), (403, Some("MissingAuthenticationTokenException")));

    let stranger = Keys { access: "AKIAIOSFODNN7EXAMPLE".into(), secret: "x".repeat(40) };
    let (status, answer) = api.call_as(&stranger, "StartSession", &body).await;
    assert_eq!((status, answer["__type"].as_str()), (403, Some("UnrecognizedClientException")));

    let forger = Keys { access: api.loopback.access_key().into(), secret: "x".repeat(40) };
    let (status, answer) = api.call_as(&forger, "StartSession", &body).await;
    assert_eq!((status, answer["__type"].as_str()), (403, Some("InvalidSignatureException")));

    let signed = api.signed(&api.keys(), "StartSession", &body.to_string());
    let (status, _) = exchange(&signed, r#"{"Target":"i-other"}"#).await;
    assert_eq!(status, 403);
    assert_eq!(api.ok("DescribeSessions", json!({"State": "Active"})).await["Sessions"], json!([]));
}

#[tokio::test]
async fn a_request_that_is_too_big_is_refused() {
    let api = Api::start(Config::default()).await;
    let body = json!({"Target": "x".repeat(300 * 1024)});
    let (status, answer) = api.call("StartSession", &body).await;
    assert_eq!((status, answer["__type"].as_str()), (413, Some("RequestEntityTooLargeException")));
}

#[tokio::test]
async fn upgrades_are_let_in_by_signature_or_token() {
    let api = Api::start(Config::default()).await;
    let url = api.stream_url().await;
    assert_eq!(upgrade(&unsigned_upgrade(&url)).await, 101);
    assert_eq!(upgrade(&api.signed_upgrade(&api.keys(), &url)).await, 101);
    let stranger = Keys { access: api.loopback.access_key().into(), secret: "x".repeat(40) };
    assert_eq!(upgrade(&api.signed_upgrade(&stranger, &url)).await, 403);
    assert_eq!(upgrade(&unsigned_upgrade(&url.replace("loopback-", "nobody-"))).await, 404);
    let plain = Request::get(http_url(&url)).body(()).unwrap();
    assert_eq!(exchange(&plain, "").await.0, 400);
}

#[tokio::test]
async fn unsigned_upgrades_can_be_refused() {
    let api = Api::start(Config { upgrade: Upgrade::SignedOnly, ..Config::default() }).await;
    let url = api.stream_url().await;
    assert_eq!(upgrade(&unsigned_upgrade(&url)).await, 403);
    assert_eq!(upgrade(&api.signed_upgrade(&api.keys(), &url)).await, 101);
}

#[tokio::test]
async fn a_rotated_cell_expires_the_old_url() {
    let api = Api::start(Config { cells: Cells::RotateOnResume, ..Config::default() }).await;
    let started = api.ok("StartSession", json!({"Target": api.target()})).await;
    let resumed = api.ok("ResumeSession", json!({"SessionId": started["SessionId"]})).await;
    assert_ne!(started["StreamUrl"], resumed["StreamUrl"]);
    assert_eq!(upgrade(&unsigned_upgrade(started["StreamUrl"].as_str().unwrap())).await, 400);
    assert_eq!(upgrade(&unsigned_upgrade(resumed["StreamUrl"].as_str().unwrap())).await, 101);
}

#[tokio::test]
async fn a_document_of_ones_own_can_be_started() {
    let body = r#"{"schemaVersion":"1.0","sessionType":"InteractiveCommands","parameters":{"name":{"type":"String"}},
                   "properties":{"linux":{"commands":"echo {{name}}"}}}"#;
    let document = Document::from_json("My-Greeting", body).unwrap();
    let api = Api::start(Config { documents: vec![document], ..Config::default() }).await;
    let start =
        json!({"Target": api.target(), "DocumentName": "My-Greeting", "Parameters": {"name": ["you"]}});
    assert!(api.ok("StartSession", start).await["TokenValue"].is_string());
}

#[tokio::test]
async fn sessions_are_bounded() {
    let api = Api::start(Config { max_sessions: 2, ..Config::default() }).await;
    let start = json!({"Target": api.target()});
    let first = api.ok("StartSession", start.clone()).await;
    api.ok("StartSession", start.clone()).await;
    let (status, answer) = api.call("StartSession", &start).await;
    assert_eq!((status, answer["__type"].as_str()), (400, Some("ThrottlingException")));
    api.ok("TerminateSession", json!({"SessionId": first["SessionId"]})).await;
    api.ok("StartSession", start).await;
}

#[tokio::test]
async fn nothing_listens_after_shutdown() {
    let api = Api::start(Config::default()).await;
    api.ok("StartSession", json!({"Target": api.target()})).await;
    let address = api.loopback.endpoint_url().strip_prefix("http://").unwrap().to_owned();
    timeout(SOON, api.loopback.shutdown()).await.expect("shutdown ends");
    assert!(TcpStream::connect(&address).await.is_err());
    assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 0);
}

#[tokio::test]
async fn a_dropped_loopback_leaves_no_task() {
    let api = Api::start(Config::default()).await;
    api.ok("StartSession", json!({"Target": api.target()})).await;
    drop(api);
    let gone = async {
        while tokio::runtime::Handle::current().metrics().num_alive_tasks() > 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, gone).await.expect("aborted tasks go away");
}

#[tokio::test]
async fn debug_output_shows_no_secret() {
    let loopback = Loopback::start(Config::default()).await.unwrap();
    let secret = loopback.secret_key().expose().clone();
    assert_eq!(secret.len(), 40);
    assert_eq!(loopback.access_key().len(), 20);
    assert!(!format!("{loopback:?} {:?}", loopback.secret_key()).contains(&secret));
}

struct Keys {
    access: String,
    secret: String,
}

struct Api {
    loopback: Loopback,
}

impl Api {
    async fn start(config: Config) -> Self {
        Self { loopback: Loopback::start(config).await.unwrap() }
    }

    fn target(&self) -> String {
        self.loopback.target().to_owned()
    }

    fn keys(&self) -> Keys {
        Keys {
            access: self.loopback.access_key().to_owned(),
            secret: self.loopback.secret_key().expose().clone(),
        }
    }

    async fn stream_url(&self) -> String {
        let started = self.ok("StartSession", json!({"Target": self.target()})).await;
        started["StreamUrl"].as_str().unwrap().to_owned()
    }

    async fn ok(&self, operation: &str, body: Value) -> Value {
        let (status, answer) = self.call(operation, &body).await;
        assert_eq!(status, 200, "{operation} {body}: {answer}");
        answer
    }

    async fn call(&self, operation: &str, body: &Value) -> (u16, Value) {
        self.call_as(&self.keys(), operation, body).await
    }

    async fn call_as(&self, keys: &Keys, operation: &str, body: &Value) -> (u16, Value) {
        let body = body.to_string();
        exchange(&self.signed(keys, operation, &body), &body).await
    }

    fn request(&self, operation: &str) -> Request<()> {
        Request::post(format!("{}/", self.loopback.endpoint_url()))
            .header("host", self.loopback.endpoint_url().strip_prefix("http://").unwrap())
            .header("content-type", "application/x-amz-json-1.1")
            .header("x-amz-target", format!("AmazonSSM.{operation}"))
            .body(())
            .unwrap()
    }

    fn signed(&self, keys: &Keys, operation: &str, body: &str) -> Request<()> {
        sign_request(self.request(operation), keys, "ssm", body.as_bytes())
    }

    fn signed_upgrade(&self, keys: &Keys, url: &str) -> Request<()> {
        sign_request(unsigned_upgrade(url), keys, "ssmmessages", b"")
    }

    async fn until_history(&self, id: &str) {
        let listed = async {
            loop {
                let filter = json!([{"key": "SessionId", "value": id}]);
                let past = self.ok("DescribeSessions", json!({"State": "History", "Filters": filter})).await;
                if past["Sessions"][0]["Status"] == "Terminated" {
                    assert!(past["Sessions"][0]["EndDate"].is_f64());
                    return;
                }
            }
        };
        timeout(SOON, listed).await.expect("the session ends");
    }
}

fn sign_request(mut request: Request<()>, keys: &Keys, service: &str, body: &[u8]) -> Request<()> {
    let identity: Identity = Credentials::new(&keys.access, &keys.secret, None, None, "test").into();
    let params = SigningParams::builder()
        .identity(&identity)
        .region("us-east-1")
        .name(service)
        .time(SystemTime::now())
        .settings(SigningSettings::default())
        .build()
        .unwrap()
        .into();
    let uri = request.uri().to_string();
    let signed_names = ["host", "content-type", "x-amz-target"];
    let headers: Vec<(String, String)> = signed_names
        .iter()
        .filter_map(|name| {
            Some(((*name).to_owned(), request.headers().get(*name)?.to_str().unwrap().to_owned()))
        })
        .collect();
    let headers = headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let signable =
        SignableRequest::new(request.method().as_str(), uri, headers, SignableBody::Bytes(body)).unwrap();
    let (instructions, _) = sign(signable, &params).unwrap().into_parts();
    instructions.apply_to_request_http1x(&mut request);
    request
}

fn http_url(url: &str) -> String {
    url.replacen("ws://", "http://", 1)
}

fn unsigned_upgrade(url: &str) -> Request<()> {
    let host = url.strip_prefix("ws://").unwrap().split('/').next().unwrap();
    Request::get(http_url(url))
        .header("host", host)
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .body(())
        .unwrap()
}

/// Sends one request on a connection of its own and reads the whole answer.
async fn exchange(request: &Request<()>, body: &str) -> (u16, Value) {
    let mut stream = send(request, body, "connection: close\r\n").await;
    let mut answer = Vec::new();
    timeout(SOON, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (status(head), serde_json::from_str(body).unwrap())
}

/// Sends an upgrade request and reads the status.
async fn upgrade(request: &Request<()>) -> u16 {
    let mut stream = send(request, "", "").await;
    let mut head = [0; 12];
    timeout(SOON, stream.read_exact(&mut head)).await.unwrap().unwrap();
    status(std::str::from_utf8(&head).unwrap())
}

async fn send(request: &Request<()>, body: &str, extra: &str) -> TcpStream {
    let uri = request.uri();
    let mut text = format!("{} {} HTTP/1.1\r\n{extra}", request.method(), uri.path_and_query().unwrap());
    for (name, value) in request.headers() {
        text.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap()));
    }
    if !request.headers().contains_key("host") {
        text.push_str(&format!("host: {}\r\n", uri.authority().unwrap()));
    }
    if !body.is_empty() {
        text.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    text.push_str("\r\n");
    text.push_str(body);
    let mut stream = TcpStream::connect(uri.authority().unwrap().as_str()).await.unwrap();
    // The server may answer and close before it has read a body that is too big.
    let _ = stream.write_all(text.as_bytes()).await;
    stream
}

fn status(head: &str) -> u16 {
    head.get(9..12).unwrap().parse().unwrap()
}
