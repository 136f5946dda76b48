//! The start of a session.

use std::time::Duration;

use ssm_channel::{
    ChannelError, CloseReason, Config, Event, Evidence, Handshake, HandshakeError, PortMode, Role,
    SessionKind,
};
use ssm_proto::body::{ActionStatus, HandshakeComplete, HandshakeResponse};
use ssm_proto::{MessageType, PayloadType};

use crate::pair::{Fate, Pair, port, shell};
use crate::solo::{Solo, acknowledged, numbers};

const SECOND: Duration = Duration::from_secs(1);

fn request(actions: &str) -> Vec<u8> {
    format!(r#"{{"AgentVersion":"3.3.987.0","RequestedClientActions":[{actions}]}}"#).into_bytes()
}

fn session_type(name: &str, properties: &str) -> String {
    format!(
        r#"{{"ActionType":"SessionType","ActionParameters":{{"SessionType":"{name}","Properties":{properties}}}}}"#
    )
}

fn complete() -> Vec<u8> {
    let complete = HandshakeComplete { time_to_complete: SECOND, customer_message: "hello".into() };
    complete.encode()
}

#[test]
fn both_sides_agree_on_a_shell() {
    let pair = Pair::shell().started();
    let (client, agent) = (&pair.client.ready[0], &pair.agent.ready[0]);
    assert_eq!((client.kind, agent.kind), (SessionKind::Shell, SessionKind::Shell));
    assert_eq!(client.evidence, Evidence::Handshake);
    assert_eq!((&*client.peer_version, &*agent.peer_version), ("3.3.987.0", "1.2.764.0"));
}

#[test]
fn both_sides_agree_on_a_multiplexed_port() {
    let pair = Pair::port().started();
    let mode = SessionKind::Port(PortMode::Mux { keep_alive: false });
    assert_eq!((pair.client.ready[0].kind, pair.agent.ready[0].kind), (mode, mode));
    for ready in [&pair.client.ready[0], &pair.agent.ready[0]] {
        assert_eq!(ready.port.as_ref().unwrap().port_number, "80");
    }
}

#[test]
fn item_54_a_client_answers_every_action_in_order() {
    let mut client = Solo::client(Config::client());
    let kms = r#"{"ActionType":"KMSEncryption","ActionParameters":{"KMSKeyId":"key"}}"#;
    let dance = r#"{"ActionType":"Dance","ActionParameters":{}}"#;
    let actions = [&session_type("Standard_Stream", "null"), kms, dance].join(",");
    client.stream(0, PayloadType::HandshakeRequest, &request(&actions)).unwrap();
    assert_eq!(client.acknowledged(), [0]);
    client.channel.install_key(client.now, Err("no such key".into()));
    let sent = client.messages();
    assert_eq!(numbers(&sent), [0]);
    let response = HandshakeResponse::decode(&sent[0].payload).unwrap();
    let statuses: Vec<_> = response.processed.iter().map(|action| action.action_status).collect();
    assert_eq!(statuses, [ActionStatus::Success, ActionStatus::Failed, ActionStatus::Unsupported]);
    assert_eq!(response.processed[2].error, "Unsupported action Dance");
    assert!(response.processed[2].action_result.is_none());
    assert_eq!(response.errors.len(), 2);
}

/// The agent ends the session after such an answer.
#[test]
fn a_session_without_a_data_key_ends_cleanly() {
    let mut client = Solo::client(Config::client());
    let kms = r#"{"ActionType":"KMSEncryption","ActionParameters":{"KMSKeyId":"key"}}"#;
    let actions = [&session_type("Standard_Stream", "null"), kms].join(",");
    client.stream(0, PayloadType::HandshakeRequest, &request(&actions)).unwrap();
    client.channel.install_key(client.now, Err("no such key".into()));
    assert!(!client.channel.can_send());
    let header = ssm_proto::Header::service(MessageType::ChannelClosed, Default::default(), 1);
    client.channel.handle_binary(client.now, crate::solo::frame(header, b"{}")).unwrap();
    let events = client.events();
    let [
        Event::KeyRequired(_),
        Event::Closed(CloseReason::HandshakeFailed(HandshakeError::NoDataKey(reason))),
    ] = &events[..]
    else {
        panic!("{events:?}")
    };
    assert_eq!(reason, "no such key");
}

#[test]
fn item_56_a_repeated_request_is_acknowledged_and_answered_once() {
    let mut client = Solo::client(Config::client());
    let request = request(&session_type("Standard_Stream", "null"));
    client.stream(0, PayloadType::HandshakeRequest, &request).unwrap();
    assert_eq!(numbers(&client.messages()), [0]);
    for _ in 0..3 {
        client.stream(0, PayloadType::HandshakeRequest, &request).unwrap();
        let sent = client.messages();
        assert_eq!((acknowledged(&sent), numbers(&sent)), (vec![0], vec![]));
    }
    client.stream(1, PayloadType::HandshakeRequest, &request).unwrap();
    let sent = client.messages();
    assert_eq!((acknowledged(&sent), numbers(&sent)), (vec![1], vec![]));
}

#[test]
fn item_63_a_request_that_waited_behind_a_gap_is_processed() {
    let mut client = Solo::client(Config::client());
    client.stream(2, PayloadType::HandshakeComplete, &complete()).unwrap();
    client
        .stream(1, PayloadType::HandshakeRequest, &request(&session_type("Standard_Stream", "null")))
        .unwrap();
    assert_eq!(client.acknowledged(), [2, 1]);
    client.stream(0, PayloadType::Unknown(99), b"x").unwrap();
    let sent = client.messages();
    assert_eq!((acknowledged(&sent), numbers(&sent)), (vec![0], vec![0]));
    let events = client.events();
    assert!(matches!(&events[..], [Event::Ready(ready)] if ready.customer_message == "hello"));
}

#[test]
fn item_59_the_agents_words_for_the_user_come_with_the_start() {
    let mut client = Solo::client(Config::client());
    let asks = request(&session_type("Standard_Stream", "null"));
    client.stream(0, PayloadType::HandshakeRequest, &asks).unwrap();
    client.stream(1, PayloadType::HandshakeComplete, &complete()).unwrap();
    let events = client.events();
    assert!(matches!(&events[..], [Event::Ready(ready)] if ready.customer_message == "hello"), "{events:?}");
}

#[test]
fn item_57_a_client_sends_nothing_of_its_own_before_the_handshake_is_complete() {
    let mut client = Solo::client(Config::client());
    assert!(!client.channel.can_send());
    client
        .stream(0, PayloadType::HandshakeRequest, &request(&session_type("Standard_Stream", "null")))
        .unwrap();
    assert_eq!(client.numbers(), [0]);
    client.acknowledge(0);
    assert!(!client.channel.can_send());
    client.stream(1, PayloadType::HandshakeComplete, &complete()).unwrap();
    assert!(client.channel.can_send());
}

#[test]
fn item_58_what_comes_first_without_a_handshake_says_what_the_session_is() {
    for (kind, session) in [
        (PayloadType::Output, SessionKind::Shell),
        (PayloadType::StdErr, SessionKind::NonInteractiveCommands),
        (PayloadType::ExitCode, SessionKind::NonInteractiveCommands),
    ] {
        let mut client = Solo::client(Config::client());
        client.stream(0, kind, b"EXIT_CODE: 3").unwrap();
        let events = client.events();
        let [Event::Ready(ready), Event::Payload { .. }] = &events[..] else { panic!("{events:?}") };
        assert_eq!((ready.kind, ready.evidence), (session, Evidence::FirstOutput));
    }
}

#[test]
fn silence_starts_a_shell_after_three_seconds() {
    let mut client = Solo::client(Config::client());
    client.wait(SECOND * 3 - Duration::from_millis(1));
    assert!(client.events().is_empty());
    client.wait(Duration::from_millis(1));
    let events = client.events();
    assert!(matches!(&events[..], [Event::Ready(ready)] if ready.evidence == Evidence::Assumed));
    assert!(client.channel.can_send());
}

#[test]
fn a_port_session_waits_for_its_handshake_however_long_it_takes() {
    let mut client = Solo::client(Config { assume_ready: None, ..Config::client() });
    client.wait(SECOND * 59);
    assert!(client.events().is_empty());
    client.wait(SECOND);
    let events = client.events();
    assert!(matches!(events[..], [Event::Closed(CloseReason::HandshakeFailed(HandshakeError::Timeout))]));
}

/// The agent acknowledges and discards what comes before the handshake, so it has to come again.
#[test]
fn what_was_typed_before_a_late_handshake_is_repeated() {
    let mut pair = Pair::shell();
    pair.cut(Role::Agent);
    pair.agent.unreachable_until = Some(pair.now + SECOND * 5);
    pair.run_until(|pair| pair.client.channel.can_send());
    assert_eq!(pair.client.ready[0].evidence, Evidence::Assumed);
    pair.send(Role::Client, PayloadType::Size, br#"{"cols":80,"rows":24}"#);
    pair.output(Role::Client, b"ls\r");
    pair.settle();
    let evidence: Vec<_> = pair.client.ready.iter().map(|ready| ready.evidence).collect();
    assert_eq!(evidence, [Evidence::Assumed, Evidence::Handshake]);
    assert_eq!(pair.agent.inbound.delivered, 2);
    assert_eq!(pair.sent_as(Role::Client, 2)[0].1.header.payload_type, Some(PayloadType::HandshakeResponse));
}

#[test]
fn what_was_typed_for_a_terminal_is_not_sent_to_a_port() {
    let mut client = Solo::client(Config::client());
    client.wait(SECOND * 3);
    client.send(PayloadType::Size, br#"{"cols":80,"rows":24}"#);
    assert_eq!(client.numbers(), [0]);
    let properties = r#"{"portNumber":"22","type":""}"#;
    client.stream(0, PayloadType::HandshakeRequest, &request(&session_type("Port", properties))).unwrap();
    client.stream(1, PayloadType::HandshakeComplete, &complete()).unwrap();
    let sent = client.wait(Duration::ZERO);
    let kinds: Vec<_> = sent.iter().filter_map(|message| message.header.payload_type).collect();
    assert!(kinds.contains(&PayloadType::Flag));
    assert!(!kinds.contains(&PayloadType::Size), "{kinds:?}");
}

/// A command that reads much and says nothing, on an agent that needs no handshake.
#[test]
fn a_long_input_gets_through_an_assumed_start() {
    let mut pair = Pair::connected(Config::client(), Config::agent("i-0", shell(Handshake::Skipped)));
    let until = pair.now + SECOND * 30;
    let mut sent = 0;
    while sent < 200 && pair.now < until {
        while sent < 200 && pair.client.channel.can_send() {
            pair.output(Role::Client, &[7; 1024]);
            sent += 1;
        }
        pair.run_for(Duration::from_millis(10));
    }
    pair.settle();
    assert_eq!((sent, pair.agent.inbound.delivered), (200, 200));
}

#[test]
fn the_first_message_of_a_port_session_is_a_flag_that_data_waits_for() {
    let mut pair = Pair::port();
    pair.run_until(|pair| !pair.client.ready.is_empty());
    assert!(!pair.client.channel.can_send());
    pair.run_until(|pair| pair.client.channel.can_send());
    let flag = &pair.sent_as(Role::Client, 1)[0].1;
    assert_eq!((flag.header.payload_type, &flag.payload[..]), (Some(PayloadType::Flag), &[0; 4][..]));
    assert_eq!(pair.client.channel.stats().in_flight, 0);
}

#[test]
fn item_61_an_agent_gives_a_handshake_fifteen_seconds() {
    let mut pair = Pair::shell();
    pair.rule = Some(Box::new(|to, _| if to == Role::Agent { Fate::Lost } else { Fate::Pass }));
    pair.run_for(SECOND * 16);
    let (at, reason) = pair.agent.closed.clone().unwrap();
    assert_eq!(at - pair.start, SECOND * 15);
    assert_eq!(reason, CloseReason::HandshakeFailed(HandshakeError::Timeout));
}

#[test]
fn an_agent_ends_a_session_whose_client_refuses() {
    let mut pair = Pair::connected(
        Config::client(),
        Config::agent(
            "i-0",
            ssm_channel::Offer { session_type: "Telepathy".into(), ..shell(Handshake::Required) },
        ),
    );
    pair.run_until(|pair| pair.agent.closed.is_some());
    let (_, CloseReason::HandshakeFailed(HandshakeError::Refused { action, error })) =
        pair.agent.closed.clone().unwrap()
    else {
        panic!("{:?}", pair.agent.closed)
    };
    assert_eq!(action, "SessionType");
    assert_eq!(error, "Failed to process action SessionType: Unknown session type Telepathy");
}

#[test]
fn an_agent_discards_input_before_the_handshake_and_a_second_response_after_it() {
    let mut agent = Solo::agent(Config::agent("i-0", port()));
    assert_eq!(agent.numbers(), [0]);
    agent.stream(0, PayloadType::Output, b"early").unwrap();
    let response = br#"{"ClientVersion":"1.2.764.0","ProcessedClientActions":[
        {"ActionType":"SessionType","ActionStatus":1,"ActionResult":null,"Error":""}],"Errors":null}"#;
    agent.stream(1, PayloadType::HandshakeResponse, response).unwrap();
    agent.stream(2, PayloadType::HandshakeResponse, response).unwrap();
    let sent = agent.messages();
    assert_eq!((acknowledged(&sent), numbers(&sent)), (vec![0, 1, 2], vec![1]));
    let events = agent.events();
    assert!(matches!(&events[..], [Event::Ready(_)]), "{events:?}");
}

#[test]
fn a_handshake_that_names_no_session_is_an_error() {
    let mut client = Solo::client(Config::client());
    client.stream(0, PayloadType::HandshakeRequest, &request("")).unwrap();
    let error = client.stream(1, PayloadType::HandshakeComplete, &complete()).unwrap_err();
    assert!(matches!(error, ChannelError::Handshake(_)));
    assert!(client.channel.is_closed());
}
