//! How large data messages get.

use std::time::Duration;

use ssm_channel::{Config, Handshake, Role};
use ssm_proto::body::TerminalSize;
use ssm_proto::{Message, PayloadType};

use crate::pair::{Fate, Pair, port, shell};

const SECOND: Duration = Duration::from_secs(1);

/// Sends `count` payloads as large as they may be.
fn bulk(pair: &mut Pair, count: usize) {
    for _ in 0..count {
        pair.run_until(|pair| pair.client.channel.can_send());
        let full = vec![7; pair.client.channel.payload_len()];
        pair.output(Role::Client, &full);
    }
}

fn is_probe(message: &Message) -> bool {
    message.header.payload_type == Some(PayloadType::Flag) && message.payload.len() > 4
}

#[test]
fn bulk_data_finds_the_largest_size() {
    let mut pair = Pair::port().started();
    bulk(&mut pair, 400);
    pair.settle();
    assert_eq!(pair.client.channel.stats().payload_len, 32 * 1024);
    let probes: Vec<_> =
        pair.client.sent.iter().filter(|(_, m)| is_probe(m)).map(|(_, m)| m.payload.len()).collect();
    assert_eq!(probes, [2048, 4096, 8192, 16_384, 32_768]);
}

#[test]
fn the_next_session_finds_the_size_with_one_probe() {
    let client = Config { assume_ready: None, ..Config::client() };
    for expected in [&[2048, 4096, 8192, 16_384, 32_768][..], &[32_768]] {
        let mut pair = Pair::connected(client.clone(), Config::agent("i-0", port())).started();
        bulk(&mut pair, 400);
        pair.settle();
        let probes: Vec<_> =
            pair.client.sent.iter().filter(|(_, m)| is_probe(m)).map(|(_, m)| m.payload.len()).collect();
        assert_eq!(probes, expected);
        assert_eq!(pair.client.channel.payload_len(), 32 * 1024);
    }
    assert_eq!(client.known_sizes.largest_taken(), Some(32 * 1024));
}

#[test]
fn keystrokes_and_shells_probe_nothing() {
    let mut port = Pair::port().started();
    let mut shell = Pair::shell().started();
    for pair in [&mut port, &mut shell] {
        for _ in 0..50 {
            pair.run_until(|pair| pair.client.channel.can_send());
            pair.output(Role::Client, b"k");
        }
        pair.settle();
    }
    bulk(&mut shell, 50);
    shell.settle();
    for pair in [port, shell] {
        assert_eq!(pair.client.channel.payload_len(), 1024);
        assert!(!pair.client.sent.iter().any(|(_, message)| is_probe(message)));
    }
}

#[test]
fn a_size_that_is_swallowed_is_given_up_and_nothing_is_lost() {
    let mut pair = Pair::port().started();
    pair.rule =
        Some(Box::new(|_, message| if message.payload.len() > 4096 { Fate::Lost } else { Fate::Pass }));
    bulk(&mut pair, 300);
    pair.settle();
    assert_eq!(pair.client.channel.payload_len(), 4096);
    let tried = pair.client.sent.iter().filter(|(_, message)| message.payload.len() == 8192);
    let numbers: Vec<_> = tried.map(|(_, message)| message.header.sequence).collect();
    assert!(numbers.windows(2).all(|pair| pair[0] == pair[1]), "one size, one number: {numbers:?}");
    let short = pair.sent_as(Role::Client, numbers[0]);
    assert_eq!(short.last().unwrap().1.payload[..], [0; 4], "it goes on in four bytes");
}

#[test]
fn few_messages_wait_behind_a_probe() {
    let mut pair = Pair::port().started();
    pair.rule =
        Some(Box::new(|_, message| if message.payload.len() > 1024 { Fate::Lost } else { Fate::Pass }));
    bulk(&mut pair, 1);
    pair.settle();
    let mut sent = 0;
    // Ten milliseconds are enough for the next of a window to have its turn, and too few for a verdict.
    while pair.client.channel.can_send() {
        pair.output(Role::Client, &[1; 1024]);
        sent += 1;
        pair.run_for(Duration::from_millis(10));
    }
    assert_eq!(sent, 12, "and four places are not for bulk data");
    pair.settle();
    assert_eq!(pair.client.channel.payload_len(), 1024);
}

#[test]
fn a_gateway_that_hangs_up_on_a_probe_ends_the_search() {
    let mut pair = Pair::port().started();
    pair.rule =
        Some(Box::new(|_, message| if message.payload.len() > 2048 { Fate::Lost } else { Fate::Pass }));
    bulk(&mut pair, 20);
    while !pair.client.sent.iter().any(|(_, message)| message.payload.len() == 4096) {
        bulk(&mut pair, 1);
    }
    pair.cut(Role::Client);
    bulk(&mut pair, 100);
    pair.settle();
    assert_eq!(pair.client.channel.payload_len(), 2048);
    assert_eq!(pair.client.resumed, 1);
}

#[test]
fn connections_that_never_last_take_the_size_back() {
    let mut pair = Pair::port().started();
    bulk(&mut pair, 400);
    pair.settle();
    for _ in 0..4 {
        bulk(&mut pair, 1);
        pair.cut(Role::Client);
        pair.run_until(|pair| pair.client.online);
    }
    assert_eq!(pair.client.channel.payload_len(), 1024);
    bulk(&mut pair, 100);
    pair.run_for(10 * SECOND);
    assert_eq!(pair.client.channel.payload_len(), 1024);
    pair.settle();
}

#[test]
fn a_pinned_size_is_kept() {
    let client = Config { payload_len: 8192, payload_max: 8192, assume_ready: None, ..Config::client() };
    let mut pair = Pair::connected(client, Config::agent("i-0", port())).started();
    bulk(&mut pair, 50);
    pair.settle();
    assert!(!pair.client.sent.iter().any(|(_, message)| is_probe(message)));
}

/// The gateway recycles connections about hourly, and an idle tunnel has nothing to be acknowledged.
#[test]
fn idle_connections_that_end_do_not_take_the_size_back() {
    let mut pair = Pair::port().started();
    bulk(&mut pair, 400);
    pair.settle();
    for _ in 0..5 {
        pair.cut(Role::Client);
        pair.run_for(3600 * SECOND);
    }
    assert_eq!(pair.client.channel.payload_len(), 32 * 1024);
}

#[test]
fn a_size_below_that_of_a_flag_can_grow() {
    let client = Config { payload_len: 1, assume_ready: None, ..Config::client() };
    let mut pair = Pair::connected(client, Config::agent("i-0", port())).started();
    bulk(&mut pair, 400);
    pair.settle();
    assert!(pair.client.channel.payload_len() >= 1024);
}

#[test]
fn a_terminal_probes_with_its_size_where_that_is_wanted() {
    let size = TerminalSize { cols: 80, rows: 24 };
    for (limit, expected) in [(usize::MAX, 32 * 1024), (10_000, 8192)] {
        let client = Config { terminal_probe: Some(size), ..Config::client() };
        let mut pair = Pair::connected(client, Config::agent("i-0", shell(Handshake::Required))).started();
        pair.rule = Some(Box::new(
            move |_, message| if message.payload.len() > limit { Fate::Lost } else { Fate::Pass },
        ));
        bulk(&mut pair, 400);
        pair.settle();
        assert_eq!(pair.client.channel.payload_len(), expected);
        let sizes: Vec<_> = pair
            .client
            .sent
            .iter()
            .map(|(_, m)| m)
            .filter(|m| m.header.payload_type == Some(PayloadType::Size))
            .collect();
        assert!(sizes.len() >= 4);
        assert!(sizes.iter().all(|m| TerminalSize::decode(&m.payload) == Ok(size)));
    }
}
