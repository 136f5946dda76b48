//! A client of the API: signs with the SDK's signer and speaks plain HTTP.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4::SigningParams;
use aws_smithy_runtime_api::client::identity::Identity;
use http::Request;
use serde_json::{Value, json};
use ssm_loopback::{Config, Loopback};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

pub(crate) const SOON: Duration = Duration::from_secs(10);

pub(crate) struct Keys {
    pub(crate) access: String,
    pub(crate) secret: String,
}

pub(crate) struct Api {
    pub(crate) loopback: Loopback,
}

impl Api {
    pub(crate) async fn start(config: Config) -> Self {
        Self { loopback: Loopback::start(config).await.unwrap() }
    }

    pub(crate) fn target(&self) -> String {
        self.loopback.target().to_owned()
    }

    pub(crate) fn keys(&self) -> Keys {
        Keys {
            access: self.loopback.access_key().to_owned(),
            secret: self.loopback.secret_key().expose().clone(),
        }
    }

    pub(crate) async fn stream_url(&self) -> String {
        let started = self.ok("StartSession", json!({"Target": self.target()})).await;
        started["StreamUrl"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn ok(&self, operation: &str, body: Value) -> Value {
        let (status, answer) = self.call(operation, &body).await;
        assert_eq!(status, 200, "{operation} {body}: {answer}");
        answer
    }

    pub(crate) async fn call(&self, operation: &str, body: &Value) -> (u16, Value) {
        self.call_as(&self.keys(), operation, body).await
    }

    pub(crate) async fn call_as(&self, keys: &Keys, operation: &str, body: &Value) -> (u16, Value) {
        let body = body.to_string();
        exchange(&self.signed(keys, operation, &body), &body).await
    }

    pub(crate) fn request(&self, operation: &str) -> Request<()> {
        Request::post(format!("{}/", self.loopback.endpoint_url()))
            .header("host", self.loopback.endpoint_url().strip_prefix("http://").unwrap())
            .header("content-type", "application/x-amz-json-1.1")
            .header("x-amz-target", format!("AmazonSSM.{operation}"))
            .body(())
            .unwrap()
    }

    pub(crate) fn signed(&self, keys: &Keys, operation: &str, body: &str) -> Request<()> {
        sign_request(self.request(operation), keys, "ssm", body.as_bytes())
    }

    pub(crate) fn signed_upgrade(&self, keys: &Keys, url: &str) -> Request<()> {
        sign_request(unsigned_upgrade(url), keys, "ssmmessages", b"")
    }

    pub(crate) async fn until_history(&self, id: &str) {
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

pub(crate) fn http_url(url: &str) -> String {
    url.replacen("ws://", "http://", 1)
}

pub(crate) fn unsigned_upgrade(url: &str) -> Request<()> {
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
pub(crate) async fn exchange(request: &Request<()>, body: &str) -> (u16, Value) {
    let mut stream = send(request, body, "connection: close\r\n").await;
    let mut answer = Vec::new();
    timeout(SOON, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (status(head), serde_json::from_str(body).unwrap())
}

/// Sends an upgrade request and reads the status.
pub(crate) async fn upgrade(request: &Request<()>) -> u16 {
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
