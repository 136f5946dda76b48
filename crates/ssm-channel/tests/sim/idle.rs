//! Sessions in which nothing, or nothing useful, is said; and pauses.

use std::time::Duration;

use ssm_channel::{Config, Evidence, Handshake, Role};
use ssm_proto::{MessageType, PayloadType};

use crate::pair::{Pair, other, port, shell};

const SECOND: Duration = Duration::from_secs(1);

fn pause(pair: &mut Pair, role: Role) {
    pair.service(role, MessageType::PausePublication, b"pause_publication");
}

/// A port session in which the client says something at least this often, or half as often.
fn kept_active(every: Duration) -> Pair {
    let client = Config { assume_ready: None, keep_active: Some(every), ..Config::client() };
    Pair::connected(client, Config::agent("i-0", port())).started()
}

#[test]
fn item_17_an_idle_session_stays_open_with_a_ping_every_half_minute() {
    let mut pair = Pair::shell().started();
    let before = pair.client.sent.len();
    pair.run_for(3600 * SECOND);
    assert_eq!((pair.client.redials.len(), pair.client.sent.len()), (0, before));
    assert_eq!(pair.client.pings.len(), 120);
    assert_eq!(pair.client.ready[0].evidence, Evidence::Handshake);
}

#[test]
fn a_port_session_that_is_to_stay_active_says_something_without_effect_when_it_is_quiet() {
    let mut pair = kept_active(120 * SECOND);
    pair.run_for(120 * SECOND);
    pair.client.sent.clear();
    pair.run_for(3600 * SECOND);
    assert_eq!(pair.client.sent.len(), 30);
    for (_, message) in &pair.client.sent {
        assert_eq!(message.header.payload_type, Some(PayloadType::Flag));
        assert_eq!(message.payload[..], [0; 4]);
    }
    pair.client.sent.clear();
    for _ in 0..60 {
        pair.output(Role::Client, b"x");
        pair.run_for(60 * SECOND);
    }
    assert_eq!(pair.client.sent.len(), 60, "who is not quiet needs nothing more");
}

#[test]
fn a_shell_is_not_kept_active_by_flags_it_would_not_understand() {
    let client = Config { keep_active: Some(10 * SECOND), ..Config::client() };
    let mut pair = Pair::connected(client, Config::agent("i-0", shell(Handshake::Required))).started();
    pair.client.sent.clear();
    pair.run_for(600 * SECOND);
    assert_eq!(pair.client.sent, []);
}

#[test]
fn what_keeps_a_session_active_does_not_pile_up_while_there_is_no_connection() {
    let mut pair = kept_active(10 * SECOND);
    pair.client.unreachable_until = Some(pair.now + 3600 * SECOND);
    pair.cut(Role::Client);
    pair.client.sent.clear();
    pair.run_for(3600 * SECOND);
    assert!(pair.client.channel.is_drained());
    pair.run_for(120 * SECOND);
    assert!((1..=12).contains(&pair.client.sent.len()), "{}", pair.client.sent.len());
}

#[test]
fn item_18_a_silent_connection_is_replaced_after_90_seconds() {
    let mut pair = Pair::shell().started();
    let last = pair.now;
    pair.client.deaf_until = Some(last + 3600 * SECOND);
    pair.run_for(100 * SECOND);
    let (at, attempt) = pair.client.redials[0];
    assert_eq!(attempt, 0);
    assert!((80 * SECOND..=90 * SECOND).contains(&(at - last)), "{:?}", at - last);
    assert_eq!(pair.client.resumed, 1);
}

/// A change of the network leaves such connections behind: nobody can send the reset.
#[test]
fn a_silent_connection_is_replaced_within_15_seconds_when_something_waits_for_an_answer() {
    let mut pair = Pair::shell().started();
    pair.run_for(60 * SECOND);
    let last = pair.now;
    pair.client.deaf_until = Some(last + 3600 * SECOND);
    pair.output(Role::Client, b"x");
    pair.run_for(20 * SECOND);
    let (at, attempt) = pair.client.redials[0];
    assert_eq!(attempt, 0);
    assert!((14 * SECOND..=16 * SECOND).contains(&(at - last)), "{:?}", at - last);
    assert_eq!(pair.client.resumed, 1);
}

#[test]
fn an_agent_that_acknowledges_nothing_does_not_cost_a_connection_that_answers_pings() {
    let mut pair = Pair::shell().started();
    pair.cut(Role::Agent);
    pair.agent.unreachable_until = Some(pair.now + 3600 * SECOND);
    pair.output(Role::Client, b"x");
    pair.run_for(200 * SECOND);
    assert_eq!(pair.client.redials, []);
}

#[test]
fn a_doubted_connection_has_5_seconds_for_a_sign_of_life() {
    let mut pair = Pair::shell().started();
    pair.client.channel.handle_doubt(pair.now);
    pair.drive(Role::Client);
    pair.run_for(60 * SECOND);
    assert_eq!(pair.client.redials, []);
    let doubted = pair.now;
    pair.client.deaf_until = Some(doubted + 3600 * SECOND);
    pair.client.channel.handle_doubt(doubted);
    pair.drive(Role::Client);
    pair.run_for(6 * SECOND);
    assert_eq!(pair.client.redials, [(doubted + 5 * SECOND, 0)]);
}

#[test]
fn there_is_nothing_to_doubt_without_a_connection() {
    let mut pair = Pair::shell().started();
    pair.client.unreachable_until = Some(pair.now + 3600 * SECOND);
    pair.cut(Role::Client);
    pair.run_for(60 * SECOND);
    let before = format!("{:?}", pair.client.channel);
    pair.client.channel.handle_doubt(pair.now);
    assert_eq!(format!("{:?}", pair.client.channel), before);
}

#[test]
fn five_seconds_of_the_wall_clock_are_no_sleep_and_more_are() {
    let mut pair = Pair::shell().started();
    let unix = |pair: &Pair| Duration::from_secs(1_700_000_000) + (pair.now - pair.start);
    for (ahead, slept) in [(5 * SECOND, false), (5 * SECOND + Duration::from_millis(1), true)] {
        let mut pair = Pair::shell().started();
        let jumped = unix(&pair) + ahead;
        assert_eq!(pair.client.channel.handle_clock(pair.now, jumped), slept, "{ahead:?}");
    }
    pair.run_for(60 * SECOND);
    let late = unix(&pair) + 4 * SECOND;
    assert!(!pair.client.channel.handle_clock(pair.now, late), "the time that was awake is no sleep");
    let back = unix(&pair) - 3600 * SECOND;
    assert!(!pair.client.channel.handle_clock(pair.now, back), "nor is a clock that is put back");
}

/// Bulk data can keep pongs waiting.
#[test]
fn any_frame_counts_as_a_sign_of_life() {
    let mut pair = Pair::shell().started();
    for _ in 0..60 {
        pair.client.channel.handle_timeout(pair.now);
        pair.output(Role::Agent, b"x");
        pair.run_for(5 * SECOND);
    }
    assert!(pair.client.redials.is_empty());
}

#[test]
fn a_connection_is_probed_when_the_machine_was_asleep() {
    let mut pair = Pair::shell().started();
    let (now, unix) = (pair.now, Duration::from_secs(1_700_000_000));
    pair.client.channel.handle_clock(now, unix + (now - pair.start));
    pair.drive(Role::Client);
    assert!(pair.client.pings.is_empty(), "the clocks agree");
    pair.client.deaf_until = Some(now + 60 * SECOND);
    pair.client.channel.handle_clock(now, unix + 3600 * SECOND);
    pair.drive(Role::Client);
    assert_eq!(pair.client.pings.len(), 1);
    pair.run_for(6 * SECOND);
    assert_eq!(pair.client.redials, [(now + 5 * SECOND, 0)]);
    assert_eq!(pair.client.resumed, 1);
}

#[test]
fn a_probe_that_is_answered_changes_nothing() {
    let mut pair = Pair::shell().started();
    let now = pair.now;
    pair.client.channel.handle_clock(now, Duration::from_secs(1_700_003_600));
    pair.drive(Role::Client);
    pair.run_for(60 * SECOND);
    assert!(pair.client.redials.is_empty());
    pair.output(Role::Client, b"x");
    let created = pair.client.sent.last().unwrap().1.header.created_ms;
    assert_eq!(created / 1000, 1_700_003_660, "dates follow the wall clock");
}

/// A start message that was lost must not hang both sides.
#[test]
fn item_52_a_paused_client_sends_one_message_a_second() {
    let mut pair = Pair::shell().started();
    pause(&mut pair, Role::Client);
    pair.agent.channel.set_input(ssm_channel::Input::Refused);
    let start = pair.now;
    pair.client.sent.clear();
    while pair.now < start + 10 * SECOND {
        while pair.client.channel.can_send() {
            pair.output(Role::Client, b"x");
        }
        pair.step(start + 10 * SECOND);
    }
    let times: Vec<_> = pair.client.sent.iter().map(|(at, _)| (*at - start).as_millis()).collect();
    assert_eq!(times, (1..=10).map(|second| second * 1000).collect::<Vec<u128>>());
}

#[test]
fn item_52_an_acknowledgement_or_a_start_ends_the_pause_of_a_client() {
    let mut pair = Pair::shell().started();
    pause(&mut pair, Role::Client);
    pair.output(Role::Client, b"one");
    pair.run_for(SECOND / 2);
    assert_eq!(pair.agent.inbound.delivered, 0);
    pair.service(Role::Client, MessageType::StartPublication, b"start_publication");
    pair.run_for(SECOND / 10);
    assert_eq!(pair.agent.inbound.delivered, 1);

    pause(&mut pair, Role::Client);
    pair.output(Role::Client, b"two");
    pair.run_for(SECOND + SECOND / 20);
    assert!(pair.agent.inbound.is_complete());
    for _ in 0..5 {
        pair.output(Role::Client, b"at once");
    }
    pair.settle();
}

#[test]
fn item_53_a_paused_agent_sends_and_repeats_nothing_until_it_hears_the_client() {
    let mut pair = Pair::shell().started();
    pair.client.deaf_until = Some(pair.now + SECOND / 10);
    pair.output(Role::Agent, b"lost");
    pause(&mut pair, Role::Agent);
    pair.agent.sent.clear();
    pair.output(Role::Agent, b"held");
    pair.run_for(20 * SECOND);
    assert!(pair.agent.sent.is_empty());
    pair.output(Role::Client, b"any message");
    pair.settle();
    assert_eq!(pair.client.inbound.delivered, 2);
}

#[test]
fn a_new_connection_ends_a_pause() {
    for role in [Role::Client, Role::Agent] {
        let mut pair = Pair::shell().started();
        pause(&mut pair, role);
        pair.output(role, b"held");
        pair.cut(role);
        pair.run_for(SECOND / 5);
        assert_eq!(pair.peer(other(role)).inbound.delivered, 1);
    }
}

#[test]
fn acknowledgements_go_out_during_a_pause() {
    let mut pair = Pair::shell().started();
    pair.rule = None;
    pause(&mut pair, Role::Client);
    pair.send(Role::Agent, PayloadType::Output, b"x");
    pair.run_for(SECOND / 20);
    assert!(pair.agent.channel.is_drained());
}
