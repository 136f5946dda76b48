//! The service as an AWS client sees it: signed HTTP and WebSockets over TCP.

use http::Request;
use serde_json::json;
use ssm_loopback::{Cells, Config, Document, Loopback, Upgrade};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::api::{Api, Keys, SOON, exchange, http_url, unsigned_upgrade, upgrade};

#[tokio::test]
async fn item_105_a_session_is_started_resumed_described_and_terminated() {
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
async fn item_15_upgrades_are_let_in_by_signature_or_token() {
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
async fn item_109_a_rotated_cell_expires_the_old_url() {
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
