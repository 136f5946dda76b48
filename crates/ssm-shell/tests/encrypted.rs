//! Sessions encrypted with a KMS key, against the loopback's agent and KMS.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use ssm_loopback::{Config, Kms, KmsAnswer, KmsAuthority, KmsChallenge, Loopback};
use ssm_session::{
    ChannelConfig, CloseReason, ControlPlane, Encryption, Event, HandshakeError, PayloadType, Session,
    StartSession,
};
use tokio::time::timeout;

const KEY: &str = "arn:aws:kms:us-east-1:000000000000:key/1";
const SOON: Duration = Duration::from_secs(20);

async fn encrypted(challenge: KmsChallenge, authority: Option<Arc<dyn KmsAuthority>>) -> Loopback {
    let kms = Some(Kms { key_id: KEY.into(), challenge, authority });
    let config = Config { kms, shell: Some("/bin/sh".into()), ..Config::default() };
    Loopback::start(config).await.unwrap()
}

fn client(encryption: Encryption) -> ssm_session::Config {
    let channel = ChannelConfig { encryption, ..ChannelConfig::client() };
    ssm_session::Config { channel, ..ssm_session::Config::default() }
}

/// Runs a command in a terminal; what it printed, and how the session ended.
async fn run(loopback: &Loopback, encryption: Encryption, command: &str) -> (Vec<u8>, CloseReason, bool) {
    let request = StartSession::interactive_command(loopback.target(), command);
    let session = Session::start(loopback.control(), &request, client(encryption)).await.unwrap();
    timeout(SOON, drain(session)).await.unwrap()
}

async fn drain<C: ControlPlane>(mut session: Session<C>) -> (Vec<u8>, CloseReason, bool) {
    let mut output = Vec::new();
    loop {
        match session.next_event().await {
            Event::Payload { kind: PayloadType::Output, payload } => output.extend_from_slice(&payload),
            Event::Closed(reason) => {
                let encrypted = session.ready().is_some_and(|ready| ready.encrypted);
                return (output, reason, encrypted);
            }
            _ => {}
        }
    }
}

#[tokio::test]
async fn item_64_68_a_command_is_encrypted_whatever_the_agent_knows_of_challenges() {
    for challenge in [KmsChallenge::Absent, KmsChallenge::Offered, KmsChallenge::Required] {
        let loopback = encrypted(challenge, None).await;
        let (output, reason, encrypted) = run(&loopback, Encryption::Required, "echo hello").await;
        assert!(String::from_utf8_lossy(&output).contains("hello"), "{challenge:?}: {reason:?}");
        assert!(encrypted && matches!(reason, CloseReason::AgentClosed { detail: None, .. }), "{reason:?}");
        loopback.shutdown().await;
    }
}

#[tokio::test]
async fn everything_arrives_through_losses_and_cuts() {
    let loopback = encrypted(KmsChallenge::Offered, None).await;
    // The agent sends all that is in flight again when it is back. Were it cut at each Nth message for ever, that could be the same
    // one each time, in front of all acknowledgements.
    let _loss = loopback.fault("loss=8%").unwrap();
    let _cuts = loopback.fault("cut=60,times=3").unwrap();
    let (output, reason, _) = run(&loopback, Encryption::AsAsked, "seq 1 20000").await;
    let expected: String = (1..=20_000).map(|number| format!("{number}\r\n")).collect();
    assert!(output == expected.as_bytes(), "{} bytes of {}, {reason:?}", output.len(), expected.len());
    loopback.shutdown().await;
}

#[derive(Debug)]
struct Refusing;

impl KmsAuthority for Refusing {
    fn decrypt(&self, _: String, _: Vec<u8>, _: Vec<(&'static str, String)>) -> KmsAnswer {
        Box::pin(async { Err("AccessDeniedException".into()) })
    }
}

#[tokio::test]
async fn a_node_that_may_not_decrypt_ends_the_session_with_the_reason() {
    let loopback = encrypted(KmsChallenge::Offered, Some(Arc::new(Refusing))).await;
    let (_, reason, encrypted) = run(&loopback, Encryption::AsAsked, "echo hello").await;
    let CloseReason::AgentClosed { detail: Some(detail), .. } = reason else { panic!("{reason:?}") };
    assert!(detail.contains("AccessDeniedException"), "{detail}");
    assert!(!encrypted);
    loopback.shutdown().await;
}

#[tokio::test]
async fn a_session_in_the_clear_is_refused_where_encryption_is_required() {
    let loopback = Loopback::start(Config::default()).await.unwrap();
    let (output, reason, _) = run(&loopback, Encryption::Required, "echo hello").await;
    assert_eq!(reason, CloseReason::HandshakeFailed(HandshakeError::NotEncrypted));
    assert!(output.is_empty());
    loopback.shutdown().await;
}

/// As for a session that somebody else has started: what its key is made for is not known.
#[tokio::test]
async fn a_session_whose_target_is_unknown_is_not_encrypted_and_says_so() {
    let loopback = encrypted(KmsChallenge::Offered, None).await;
    let request = StartSession::shell(loopback.target());
    let endpoint = loopback.control().start(&request).await.unwrap();
    let session = Session::open(loopback.control(), endpoint, client(Encryption::AsAsked)).await.unwrap();
    let (_, reason, _) = timeout(SOON, drain(session)).await.unwrap();
    let CloseReason::HandshakeFailed(HandshakeError::NoDataKey(why)) = reason else { panic!("{reason:?}") };
    assert!(why.contains("not known"), "{why}");
    loopback.shutdown().await;
}
