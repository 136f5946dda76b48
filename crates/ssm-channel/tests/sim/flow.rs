//! Uploads over long ways: how much is on the way, what that does to a keystroke, and what a loss does to the rate.

use std::time::{Duration, Instant};

use ssm_channel::{Config, Role};

use crate::link::Conditions;
use crate::pair::{Pair, port};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// A port session over a link that takes 25 ms each way, without pacing.
fn far(link: Conditions) -> Pair {
    let client = Config { pacing: None, assume_ready: None, ..Config::client() };
    let conditions = Conditions { delay: 25 * MS, ..link };
    let mut pair = Pair::new(7, client, Config::agent("i-0", port()), conditions);
    pair.records = false;
    pair.connect();
    pair.started()
}

/// Runs until `done` or this time, while the client sends as much as it may.
fn upload(pair: &mut Pair, until: Instant, done: impl Fn(&Pair) -> bool) {
    while !done(pair) {
        while pair.client.channel.can_send() {
            let full = vec![7; pair.client.channel.payload_len()];
            pair.output(Role::Client, &full);
        }
        if !pair.step(until) {
            return;
        }
    }
}

fn delivered(pair: &Pair) -> u64 {
    pair.agent.channel.stats().bytes_received
}

/// How long a keystroke takes to the agent beside an upload, for each of so many.
fn keystrokes(pair: &mut Pair, count: usize) -> Vec<Duration> {
    let mut times = Vec::new();
    for number in 0..count {
        let typed = pair.now + (20 + number as u32 % 60) * MS;
        upload(pair, typed, |_| false);
        upload(pair, typed + SECOND, |pair| pair.client.channel.room().is_some());
        pair.output(Role::Client, b"key");
        let sent = pair.client.channel.stats().bytes_sent;
        upload(pair, typed + SECOND, |pair| delivered(pair) >= sent);
        times.push(pair.now - typed);
    }
    times.sort_unstable();
    times
}

/// Twice what the path holds would make a queue of a whole round trip at the slowest hop; and a window that is full must not
/// hold up what is not bulk.
#[test]
fn a_keystroke_beside_an_upload_takes_its_way_and_little_more() {
    for bottleneck in [None, Some(5_000), Some(20_000)] {
        let mut pair = far(Conditions { bottleneck, ..Conditions::default() });
        let steady = pair.now + 3 * SECOND;
        upload(&mut pair, steady, |_| false);
        let before = (pair.now, delivered(&pair));
        let times = keystrokes(&mut pair, 100);
        // A message that is being passed on is waited for.
        let message = bottleneck.map_or(Duration::ZERO, |rate| MS * (32 * 1024) / rate);
        assert!(times[98] <= 35 * MS + message, "{bottleneck:?}: 99 % within {:?}", times[98]);
        let rate = (delivered(&pair) - before.1) as f64 / (pair.now - before.0).as_secs_f64() / 1e3;
        let possible = bottleneck.map_or(4.0 * 1024.0 * 1024.0 / 50.0, f64::from);
        assert!(rate > 0.97 * possible, "{rate} of {possible} bytes a millisecond");
    }
}

#[test]
fn losses_leave_most_of_the_rate() {
    const BYTES: u64 = 100_000_000;
    for bottleneck in [None, Some(20_000)] {
        let [free, lossy] = [0, 10].map(|loss| {
            let mut pair = far(Conditions { loss, bottleneck, ..Conditions::default() });
            let begun = pair.now;
            upload(&mut pair, begun + 600 * SECOND, |pair| delivered(pair) >= BYTES);
            assert_eq!(pair.agent.channel.stats().refused, 0, "more than the peer holds back");
            pair.now - begun
        });
        assert!(lossy < free * 5 / 4, "{bottleneck:?}: {lossy:?} with losses and {free:?} without");
    }
}
