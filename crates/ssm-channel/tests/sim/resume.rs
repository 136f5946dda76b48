//! Lost connections.

use std::time::Duration;

use ssm_channel::{CloseReason, Config, Handshake, Role};
use ssm_proto::body::OpenDataChannel;
use ssm_proto::{MessageType, PayloadType, Token};

use crate::pair::{Pair, port, shell};
use crate::solo::Solo;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

fn patient(reconnect: Duration) -> Pair {
    let config = Config { reconnect: Some(reconnect), ..Config::client() };
    Pair::connected(config, Config::agent("i-0", shell(Handshake::Required))).started()
}

#[test]
fn item_13_19_a_new_connection_goes_on_where_the_old_one_broke() {
    let mut pair = Pair::shell().started();
    pair.output(Role::Client, b"one");
    pair.output(Role::Agent, b"eins");
    pair.cut(Role::Client);
    assert!(pair.client.channel.can_send(), "sending goes on across an outage");
    pair.output(Role::Client, b"two");
    pair.settle();
    assert_eq!((pair.client.resumed, pair.agent.resumed), (1, 0));
    assert_eq!((pair.agent.inbound.delivered, pair.client.inbound.delivered), (2, 1));
    assert_eq!(pair.client.opens.len(), 2);
    let open = |number: usize| OpenDataChannel::decode(&pair.client.opens[number]).unwrap();
    assert_ne!(open(0).request_id, open(1).request_id);
    assert_ne!(open(0).token.expose(), open(1).token.expose());
    assert!(open(0).client_id.is_some_and(|id| Some(id) == open(1).client_id));
}

#[test]
fn item_20_unacknowledged_messages_are_repeated_unchanged_and_the_handshake_is_not() {
    let mut pair = Pair::shell().started();
    pair.output(Role::Client, b"one");
    pair.cut(Role::Client);
    pair.settle();
    let sent = pair.sent_as(Role::Client, 1);
    assert!(sent.len() >= 2 && sent.iter().all(|(_, message)| *message == sent[0].1));
    assert_eq!(pair.sent_as(Role::Agent, 0).len(), 1, "one handshake request");
    assert_eq!(pair.client.ready.len(), 1);
}

#[test]
fn the_first_attempt_is_at_once_and_later_ones_back_off() {
    let mut pair = Pair::shell().started();
    let lost = pair.now;
    pair.client.unreachable_until = Some(pair.now + MINUTE);
    pair.cut(Role::Client);
    pair.run_for(2 * MINUTE);
    let redials = &pair.client.redials;
    assert_eq!(redials[0], (lost, 0));
    for (number, pauses) in redials.windows(2).enumerate() {
        assert_eq!(pauses[1].1, pauses[0].1 + 1);
        let bound = (Duration::from_millis(200) * (1 << number.min(10))).min(8 * SECOND);
        assert!(pauses[1].0 - pauses[0].0 <= bound + Duration::from_millis(41), "{number}");
    }
    assert!((8..40).contains(&redials.len()), "{} attempts in a minute", redials.len());
    assert_eq!(pair.client.resumed, 1);
}

#[test]
fn a_gateway_that_takes_connections_and_drops_them_does_not_reset_the_backoff() {
    let mut pair = Pair::shell().started();
    pair.cut(Role::Agent);
    pair.agent.unreachable_until = Some(pair.now + 10 * MINUTE);
    for _ in 0..30 {
        pair.cut(Role::Client);
        pair.run_until(|pair| pair.client.online);
        pair.run_for(Duration::from_millis(200));
    }
    assert_eq!(pair.client.redials.last().unwrap().1, 29);
    pair.agent.unreachable_until = None;
    pair.run_until(|pair| pair.agent.online);
    pair.output(Role::Agent, b"here");
    pair.settle();
    pair.cut(Role::Client);
    pair.run_for(SECOND);
    assert_eq!(pair.client.redials.last().unwrap().1, 0, "the peer was heard");
}

#[test]
fn item_21_the_budget_ends_a_session_that_cannot_be_reconnected() {
    let mut pair = patient(10 * MINUTE);
    pair.client.unreachable_until = Some(pair.now + 60 * MINUTE);
    let lost = pair.now;
    pair.cut(Role::Client);
    pair.run_for(11 * MINUTE);
    let (at, reason) = pair.client.closed.clone().unwrap();
    assert_eq!((at - lost, reason), (10 * MINUTE, CloseReason::ConnectionLost(10 * MINUTE)));
    assert_eq!(pair.client.channel.poll_timeout(), None);
}

/// The gateway recycles connections about hourly, and nobody types at night.
#[test]
fn an_idle_session_outlives_its_budget_on_a_connection_that_holds() {
    let mut pair = patient(10 * MINUTE);
    for _ in 0..5 {
        pair.cut(Role::Client);
        pair.run_for(60 * MINUTE);
        assert_eq!(pair.client.closed, None);
        assert_eq!(pair.client.redials.last().unwrap().1, 0);
    }
    pair.output(Role::Client, b"still here");
    pair.settle();
}

#[test]
fn the_budget_ends_a_session_whose_connections_do_not_hold() {
    let mut pair = patient(10 * MINUTE);
    pair.cut(Role::Agent);
    pair.agent.unreachable_until = Some(pair.now + 60 * MINUTE);
    let lost = pair.now;
    while pair.client.closed.is_none() && pair.now < lost + 30 * MINUTE {
        pair.cut(Role::Client);
        pair.run_for(15 * SECOND);
    }
    let (at, reason) = pair.client.closed.clone().unwrap();
    assert_eq!(reason, CloseReason::ConnectionLost(10 * MINUTE));
    assert!(at - lost < 11 * MINUTE);
}

#[test]
fn item_21_a_session_has_as_many_attempts_as_it_may() {
    for attempts in [0, 1, 5] {
        let config = Config { reconnect_attempts: Some(attempts), ..Config::client() };
        let mut pair = Pair::connected(config, Config::agent("i-0", shell(Handshake::Required))).started();
        pair.client.unreachable_until = Some(pair.now + 60 * MINUTE);
        pair.cut(Role::Client);
        pair.run_for(5 * MINUTE);
        assert_eq!(pair.client.redials.len(), attempts as usize);
        let reason = &pair.client.closed.as_ref().unwrap().1;
        assert_eq!(*reason, CloseReason::NotReconnected { attempts, cause: String::new() });
        assert_eq!(pair.client.channel.poll_timeout(), None);
    }
}

#[test]
fn each_loss_has_attempts_of_its_own() {
    let config = Config { reconnect_attempts: Some(1), ..Config::client() };
    let mut pair = Pair::connected(config, Config::agent("i-0", shell(Handshake::Required))).started();
    for _ in 0..5 {
        pair.cut(Role::Client);
        pair.output(Role::Agent, b"here");
        pair.settle();
    }
    assert_eq!((pair.client.resumed, pair.client.closed.is_none()), (5, true));
}

#[test]
fn a_session_without_a_connection_is_ended_at_once() {
    let client = Config { assume_ready: None, ..Config::client() };
    let mut pair = Pair::connected(client, Config::agent("i-0", port())).started();
    pair.client.unreachable_until = Some(pair.now + MINUTE);
    pair.cut(Role::Client);
    pair.run_for(SECOND);
    pair.client.channel.terminate(pair.now);
    pair.drive(Role::Client);
    assert_eq!(pair.client.closed, Some((pair.now, CloseReason::Terminated)));
}

#[test]
fn item_5_a_refused_resume_ends_the_session() {
    let mut pair = Pair::shell().started();
    pair.cut(Role::Client);
    pair.client.channel.handle_resume_refused();
    pair.drive(Role::Client);
    assert_eq!(pair.client.closed.as_ref().unwrap().1, CloseReason::ResumeRefused);
}

/// Otherwise the time of an outage would be taken for the round trip of the path.
#[test]
fn an_outage_is_no_round_trip() {
    let mut client = Solo::running(Config::client());
    client.send(PayloadType::Output, b"x");
    assert_eq!(client.numbers(), [0]);
    client.channel.handle_disconnected(client.now);
    client.wait(MINUTE);
    client.channel.handle_connected(client.now, Token::new("new".into()));
    client.acknowledge(0);
    assert!(client.channel.is_drained());
    assert_eq!(client.channel.stats().rtt, Duration::from_millis(100), "nothing is known yet");
}

#[test]
fn acknowledgements_survive_the_connection_they_were_meant_for() {
    let mut pair = Pair::shell().started();
    pair.output(Role::Agent, b"x");
    pair.client.busy_until = Some(pair.now + SECOND);
    pair.run_for(Duration::from_millis(50));
    pair.client.sent.clear();
    pair.cut(Role::Client);
    pair.run_until(|pair| pair.client.online);
    let first = &pair.client.sent[0].1.header;
    assert_eq!(first.message_type, MessageType::Acknowledge);
}

#[test]
fn both_ends_may_break_at_once() {
    let mut pair = Pair::shell().started();
    let mut sent = 0;
    for number in 0..30_u8 {
        let payload = [number; 10];
        sent += u64::from(pair.send(Role::Client, PayloadType::Output, &payload));
        sent += u64::from(pair.send(Role::Agent, PayloadType::Output, &payload));
        pair.cut(Role::Agent);
        pair.cut(Role::Client);
        pair.run_for(Duration::from_millis(if number % 2 == 0 { 45 } else { 300 }));
    }
    pair.settle();
    assert!(pair.client.resumed > 5 && sent > 10, "{sent}");
    assert_eq!(pair.client.inbound.delivered + pair.agent.inbound.delivered, sent);
}

#[test]
fn a_new_connection_is_not_greeted_with_all_that_was_in_flight() {
    let config = Config { pacing: None, payload_max: 1024, window_min: 1 << 20, ..Config::client() };
    let mut client = Solo::running(config);
    for _ in 0..100 {
        client.send(PayloadType::Output, b"data");
        client.messages();
    }
    client.channel.handle_disconnected(client.now);
    client.channel.handle_connected(client.now, Token::new("again".into()));
    assert_eq!(client.numbers(), [0, 1, 2, 3, 4, 5, 6, 7]);
    client.acknowledge(0);
    assert_eq!(client.numbers(), [8, 9]);
    for sequence in 1..100 {
        client.acknowledge(sequence);
        client.messages();
    }
    assert!(client.channel.is_drained());
    // Nor does it wait for ever when the first ones are lost.
    for _ in 0..100 {
        client.send(PayloadType::Output, b"data");
        client.messages();
    }
    client.channel.handle_disconnected(client.now);
    client.channel.handle_connected(client.now, Token::new("once more".into()));
    client.messages();
    assert!(client.wait(5 * SECOND).len() >= 8);
}

#[test]
fn a_gateway_that_closes_on_every_burst_is_outlasted() {
    let config = Config { pacing: None, payload_max: 1024, window_min: 1 << 20, ..Config::client() };
    let mut client = Solo::running(config);
    for _ in 0..300 {
        client.send(PayloadType::Output, b"data");
        client.messages();
    }
    let mut connections = 0;
    while !client.channel.is_drained() {
        connections += 1;
        assert!(connections < 50, "{:?}", client.channel.stats());
        client.channel.handle_disconnected(client.now);
        client.channel.handle_connected(client.now, Token::new("again".into()));
        let mut taken = 0;
        loop {
            let sent = client.numbers();
            taken += sent.len();
            // The connection is closed before what it was closed for is acknowledged.
            if taken > 20 || sent.is_empty() {
                break;
            }
            sent.into_iter().for_each(|sequence| client.acknowledge(sequence));
        }
    }
}
