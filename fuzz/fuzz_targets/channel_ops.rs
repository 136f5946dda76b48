//! Operations on two channels: whatever is sent, lost, doubled, reordered, cut, paused or delayed, and in whatever order,
//! everything arrives once and in order when the trouble is over.
//!
//! The first byte chooses the session, each pair of bytes behind it is an operation and its argument. The two channels, the
//! link and the model are those of the simulation in `ssm-channel`.

#![no_main]

use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use ssm_channel::{Config, Handshake, Input, Role};
use ssm_proto::{MessageType, PayloadType};

use crate::link::Conditions;
use crate::pair::{Pair, other, port, shell};

#[allow(dead_code, reason = "shared with the simulation, which uses more of it")]
#[path = "../../crates/ssm-channel/tests/sim/link.rs"]
mod link;
#[allow(dead_code, reason = "shared with the simulation, which uses more of it")]
#[path = "../../crates/ssm-channel/tests/sim/model.rs"]
mod model;
#[allow(dead_code, reason = "shared with the simulation, which uses more of it")]
#[path = "../../crates/ssm-channel/tests/sim/pair.rs"]
mod pair;

/// Frames move when an operation says so, not by themselves.
const NEVER: Duration = Duration::from_secs(1_000_000_000);

/// Enough to fill a window and a reorder buffer.
const MAX_OPERATIONS: usize = 2_000;

fuzz_target!(|input: &[u8]| {
    let Some((&session, operations)) = input.split_first() else { return };
    let mut pair = session_of(session);
    for operation in operations.chunks_exact(2).take(MAX_OPERATIONS) {
        operate(&mut pair, operation[0], operation[1]);
    }
    heal(&mut pair);
});

fn session_of(choice: u8) -> Pair {
    let offer = match choice % 3 {
        0 => shell(Handshake::Required),
        1 => shell(Handshake::Skipped),
        _ => port(),
    };
    let client = Config {
        payload_len: 256,
        window_min: 2_048,
        in_flight_max: 16,
        pacing: if choice & 0x40 == 0 { None } else { Config::client().pacing },
        assume_ready: (offer.handshake == Handshake::Skipped).then_some(Duration::from_secs(3)),
        // Whatever an input does to time, the session is not to be given up.
        handshake_timeout: Duration::MAX,
        give_up: Duration::MAX,
        ..Config::client()
    };
    let agent = Config {
        payload_len: 256,
        window_min: 2_048,
        reorder_max: if choice & 0x80 == 0 { 4 } else { 64 },
        handshake_timeout: Duration::MAX,
        give_up: Duration::MAX,
        ..Config::agent("i-0", offer)
    };
    let mut pair = Pair::new(1, client, agent, Conditions { delay: NEVER, ..Conditions::default() });
    pair.records = false;
    pair.connect();
    pair
}

fn operate(pair: &mut Pair, operation: u8, argument: u8) {
    let side = if argument & 1 == 0 { Role::Client } else { Role::Agent };
    let index = usize::from(argument);
    match operation % 12 {
        0..=2 if pair.peer(side).channel.can_send() => {
            let kind = if argument & 2 == 0 { PayloadType::Output } else { PayloadType::Flag };
            // Not one of the channel's own flags.
            let payload = vec![argument | 4; 1 + index];
            assert!(pair.send(side, kind, &payload));
        }
        0..=2 => {}
        3..=5 => {
            if let Some(flight) = nth(pair, index) {
                pair.deliver(flight);
            }
        }
        6 => drop(nth(pair, index)),
        7 => {
            let copy = nth_key(pair, index).and_then(|key| pair.link.flights.get(&key)).cloned();
            if let Some(flight) = copy {
                pair.deliver(flight);
            }
        }
        8 => pair.cut(side),
        9 => pair.run_for(Duration::from_millis(u64::from(argument) * u64::from(argument))),
        10 => {
            let kind =
                if argument & 2 == 0 { MessageType::PausePublication } else { MessageType::StartPublication };
            pair.service(side, kind, b"{}");
        }
        _ => {
            let input = if argument & 2 == 0 { Input::Refused } else { Input::Accepted };
            pair.agent.channel.set_input(input);
        }
    }
}

fn nth_key(pair: &Pair, index: usize) -> Option<(Instant, u64)> {
    let index = index % pair.link.flights.len().max(1);
    pair.link.flights.keys().nth(index).copied()
}

fn nth(pair: &mut Pair, index: usize) -> Option<link::Flight> {
    let key = nth_key(pair, index)?;
    pair.link.flights.remove(&key)
}

/// The link is a good one again, and everything has to arrive.
fn heal(pair: &mut Pair) {
    pair.link.conditions.delay = Duration::from_millis(5);
    pair.agent.channel.set_input(Input::Accepted);
    while let Some(flight) = nth(pair, 0) {
        pair.deliver(flight);
    }
    // What the link held back for ever must not hold back the rest.
    pair.link.latest = [None; 2];
    pair.run_until(|pair| pair.client.online && pair.agent.online);
    for role in [Role::Client, Role::Agent] {
        pair.service(role, MessageType::StartPublication, b"{}");
    }
    pair.run_until(|pair| !pair.client.ready.is_empty() && !pair.agent.ready.is_empty());
    pair.settle();
    for role in [Role::Client, Role::Agent] {
        assert!(pair.peer(role).closed.is_none());
        pair.run_until(|pair| pair.client.channel.can_send() && pair.agent.channel.can_send());
        pair.output(role, b"last");
        pair.settle();
        assert!(pair.peer(other(role)).inbound.delivered > 0);
    }
}

fn origin() -> Instant {
    Instant::now()
}
