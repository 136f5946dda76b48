//! Sessions encrypted with a KMS key.

use ssm_channel::{
    Challenge, ChannelError, CloseReason, Config, Encryption, Event, Handshake, HandshakeError, KmsOffer,
    Offer, Role, SessionKind,
};
use ssm_proto::body::{
    ActionStatus, ClientAction, EncryptionChallenge, HandshakeComplete, HandshakeRequest, HandshakeResponse,
    KmsResult,
};
use ssm_proto::{Message, PayloadType};

use crate::pair::{Pair, SEALED_KEY, data_key, encrypted, port, shell};
use crate::solo::{Solo, numbers};

const SECRET: &[u8] = b"correct horse battery staple";

fn pair() -> Pair {
    Pair::connected(Config::client(), Config::agent("i-0", encrypted()))
}

fn with_kms(change: impl FnOnce(&mut KmsOffer)) -> Offer {
    let mut offer = encrypted();
    change(offer.kms.as_mut().expect("it has a key"));
    offer
}

/// What one side has put on the wire under this type.
fn sent(pair: &Pair, role: Role, kind: PayloadType) -> Vec<&Message> {
    let peer = if role == Role::Client { &pair.client } else { &pair.agent };
    let messages = peer.sent.iter().map(|(_, message)| message);
    messages.filter(|message| message.header.payload_type == Some(kind)).collect()
}

fn contains(message: &Message, text: &[u8]) -> bool {
    message.payload.windows(text.len()).any(|window| window == text)
}

#[test]
fn item_66_both_sides_agree_on_a_key_and_use_it_both_ways() {
    let mut pair = pair().started();
    assert!(pair.client.ready[0].encrypted && pair.agent.ready[0].encrypted);
    assert_eq!(pair.client.ready[0].customer_message, "This session is encrypted using AWS KMS.");
    pair.output(Role::Client, SECRET);
    pair.output(Role::Agent, SECRET);
    assert!(pair.send(Role::Agent, PayloadType::StdErr, SECRET));
    pair.settle();
    for (role, kind) in [
        (Role::Client, PayloadType::Output),
        (Role::Agent, PayloadType::Output),
        (Role::Agent, PayloadType::StdErr),
    ] {
        let [message] = sent(&pair, role, kind)[..] else { panic!("{role:?} {kind:?}") };
        assert!(!contains(message, b"horse"), "{role:?} {kind:?} is in the clear");
        assert_eq!(message.payload.len(), SECRET.len() + 28);
    }
}

/// Size and Flag are in the clear in both directions (plugin `streaming.go` `SendInputDataMessage`).
#[test]
fn item_66_only_output_is_encrypted_on_the_way_to_the_agent() {
    let mut pair = pair().started();
    assert!(pair.send(Role::Client, PayloadType::Size, br#"{"cols":80,"rows":24}"#));
    assert!(pair.send(Role::Client, PayloadType::Flag, &[0, 0, 0, 9]));
    pair.settle();
    assert!(contains(sent(&pair, Role::Client, PayloadType::Size)[0], b"cols"));
    assert_eq!(&sent(&pair, Role::Client, PayloadType::Flag)[0].payload[..], [0, 0, 0, 9]);
}

#[test]
fn item_68_the_challenge_is_in_the_context_where_both_know_of_it() {
    let challenge = |client: Challenge, offered: Option<&str>| {
        let offer = with_kms(|kms| {
            kms.challenge = offered.map(Into::into);
            kms.require_challenge = false;
        });
        let pair =
            Pair::connected(Config { challenge: client, ..Config::client() }, Config::agent("i-0", offer))
                .started();
        let (client, agent) = (&pair.client.keys[0], &pair.agent.keys[0]);
        assert_eq!(client.context("session", "i-0"), agent.context("session", "i-0"));
        assert!(client.ciphertext.is_empty());
        assert_eq!(agent.ciphertext, SEALED_KEY);
        client.context("session", "i-0").into_iter().find(|(name, _)| *name == "aws:ssm:RandomChallenge")
    };
    let expected = Some(("aws:ssm:RandomChallenge", "abc".to_owned()));
    assert_eq!(challenge(Challenge::Acknowledged, Some("abc")), expected);
    assert_eq!(challenge(Challenge::Acknowledged, None), None);
    assert_eq!(challenge(Challenge::Ignored, Some("abc")), None);
}

#[test]
fn an_agent_that_requires_the_challenge_refuses_who_leaves_it_out() {
    let client = Config { challenge: Challenge::Ignored, ..Config::client() };
    let mut pair = Pair::connected(client, Config::agent("i-0", encrypted()));
    pair.run_until(|pair| pair.agent.closed.is_some());
    let reason = CloseReason::HandshakeFailed(HandshakeError::ChallengeIgnored);
    assert_eq!(pair.agent.closed.as_ref().unwrap().1, reason);
}

#[test]
fn a_client_without_a_key_says_why_and_to_whom() {
    let mut pair = Pair::connected(Config::client(), Config::agent("i-0", encrypted()));
    pair.client.kms = Err("denied: kms:GenerateDataKey on alias/sessions".into());
    pair.run_until(|pair| pair.agent.closed.is_some());
    let CloseReason::HandshakeFailed(HandshakeError::Refused { action, error }) =
        &pair.agent.closed.as_ref().unwrap().1
    else {
        panic!("{:?}", pair.agent.closed)
    };
    assert_eq!(action, "KMSEncryption");
    let told = "Failed to process action KMSEncryption: denied: kms:GenerateDataKey on alias/sessions";
    assert_eq!(error, told);
    assert!(pair.client.ready.is_empty());
}

/// The agent has another key, as when its context differs: it waits for a proof that cannot come.
#[test]
fn a_client_ends_a_session_whose_challenge_it_cannot_read() {
    let mut pair = Pair::connected(Config::client(), Config::agent("i-0", encrypted()));
    pair.agent.kms = Ok(data_key(8));
    pair.run_until(|pair| pair.client.closed.is_some());
    let reason = CloseReason::PeerMisbehaved(ChannelError::Undecryptable);
    assert_eq!(pair.client.closed.as_ref().unwrap().1, reason);
    pair.run_until(|pair| pair.agent.closed.is_some());
    assert_eq!(pair.agent.closed.as_ref().unwrap().1, CloseReason::HandshakeFailed(HandshakeError::Timeout));
}

/// An agent that knows no key of KMS, written by hand up to the response.
fn asked() -> Solo {
    let session = ClientAction::SessionType { session_type: "Standard_Stream".into(), properties: None };
    let kms = ClientAction::KmsEncryption { key_id: "key".into(), challenge: None };
    let request = HandshakeRequest { agent_version: "3.3.987.0".into(), actions: vec![session, kms] };
    let mut client = Solo::client(Config::client());
    client.stream(0, PayloadType::HandshakeRequest, &request.encode()).expect("a request is fine");
    assert!(numbers(&client.messages()).is_empty(), "nothing is answered before there is a key");
    assert!(matches!(client.events()[..], [Event::KeyRequired(_)]));
    client.channel.install_key(client.now, Ok(data_key(7)));
    let [response] = &client.messages()[..] else { panic!("no response") };
    let response = HandshakeResponse::decode(&response.payload).expect("a response");
    assert_eq!(response.processed[1].action_status, ActionStatus::Success);
    let result = response.processed[1].action_result.as_ref().expect("a result");
    let result = KmsResult::from_raw(result).expect("a key");
    assert_eq!((&result.ciphertext_key[..], result.challenge_acknowledged), (SEALED_KEY, false));
    client
}

#[test]
fn item_69_output_in_the_clear_ends_an_encrypted_session() {
    let mut client = asked();
    let complete =
        HandshakeComplete { time_to_complete: Default::default(), customer_message: String::new() };
    client.stream(1, PayloadType::HandshakeComplete, &complete.encode()).unwrap();
    assert!(matches!(&client.events()[..], [Event::Ready(ready)] if ready.encrypted));
    let clear = b"$ in the clear, and long enough for a nonce";
    assert_eq!(client.stream(2, PayloadType::Output, clear), Err(ChannelError::Undecryptable));
    let reason = CloseReason::PeerMisbehaved(ChannelError::Undecryptable);
    assert!(matches!(&client.events()[..], [Event::Closed(closed)] if *closed == reason));
}

#[test]
fn item_67_a_challenge_that_is_not_the_agents_ends_the_session() {
    let mut client = asked();
    let challenge = EncryptionChallenge { challenge: vec![0; 92] }.encode();
    let error = client.stream(1, PayloadType::EncChallengeRequest, &challenge).unwrap_err();
    assert_eq!(error, ChannelError::Undecryptable);
}

#[test]
fn a_second_key_is_not_taken() {
    let mut client = asked();
    client.channel.install_key(client.now, Ok(data_key(9)));
    assert!(client.messages().is_empty() && client.events().is_empty());
}

#[test]
fn a_challenge_in_a_session_without_encryption_is_ignored() {
    let mut client = Solo::running(Config::client());
    let challenge = EncryptionChallenge { challenge: vec![0; 92] }.encode();
    client.stream(1, PayloadType::EncChallengeRequest, &challenge).unwrap();
    assert_eq!(client.acknowledged(), [1]);
    assert!(client.events().is_empty());
}

fn strict() -> Config {
    Config { encryption: Encryption::Required, ..Config::client() }
}

#[test]
fn a_session_in_the_clear_does_not_start_where_encryption_is_required() {
    let not_encrypted = CloseReason::HandshakeFailed(HandshakeError::NotEncrypted);
    for handshake in [Handshake::Required, Handshake::Skipped] {
        let mut pair = Pair::connected(strict(), Config::agent("i-0", shell(handshake)));
        if handshake == Handshake::Skipped {
            pair.output(Role::Agent, b"$ ");
        }
        pair.run_until(|pair| pair.client.closed.is_some());
        assert_eq!(pair.client.closed.as_ref().unwrap().1, not_encrypted);
        assert!(pair.client.ready.is_empty());
        assert!(sent(&pair, Role::Client, PayloadType::Output).is_empty());
    }
    let mut silent = Solo::client(strict());
    silent.wait(Config::client().handshake_timeout);
    let timeout = CloseReason::HandshakeFailed(HandshakeError::Timeout);
    assert!(matches!(&silent.events()[..], [Event::Closed(reason)] if *reason == timeout));
}

#[test]
fn item_70_requiring_encryption_does_not_concern_ports() {
    let pair = Pair::connected(strict(), Config::agent("i-0", port())).started();
    assert!(matches!(pair.client.ready[0].kind, SessionKind::Port(_)));
    let pair = Pair::connected(strict(), Config::agent("i-0", encrypted())).started();
    assert!(pair.client.ready[0].encrypted);
}

#[test]
fn item_19_a_session_goes_on_with_its_key_when_it_is_resumed() {
    let mut pair = pair().started();
    pair.output(Role::Client, b"before");
    pair.cut(Role::Client);
    pair.run_until(|pair| pair.client.resumed == 1);
    pair.output(Role::Client, b"after");
    pair.output(Role::Agent, b"answer");
    pair.settle();
    assert_eq!((pair.client.keys.len(), pair.agent.keys.len()), (1, 1));
}
