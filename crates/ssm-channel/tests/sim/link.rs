//! The way between the two sides: a gateway that relays frames, and everything that can go wrong with it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use ssm_channel::Role;

/// What a link does to frames. Shares are in thousandths.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Conditions {
    /// One-way delay.
    pub(crate) delay: Duration,
    /// Random addition to it, which keeps the order.
    pub(crate) jitter: Duration,
    /// Frames that vanish.
    pub(crate) loss: u32,
    /// Frames that arrive twice.
    pub(crate) duplicates: u32,
    /// Frames that are overtaken by up to three delays' worth of others.
    pub(crate) reorder: u32,
    /// Frames with a flipped bit in their payload.
    pub(crate) damage: u32,
    /// What the socket takes; `None` for everything at once.
    pub(crate) bytes_per_ms: Option<u32>,
    /// What the slowest hop behind the socket passes on, with a queue in front of it; `None` for everything at once.
    pub(crate) bottleneck: Option<u32>,
    /// Frames above this many bytes vanish; `None` for no limit.
    pub(crate) frame_max: Option<usize>,
}

/// A frame or an answer to a ping on its way.
#[derive(Debug, Clone)]
pub(crate) struct Flight {
    pub(crate) to: Role,
    pub(crate) what: Cargo,
}

#[derive(Debug, Clone)]
pub(crate) enum Cargo {
    Frame(Bytes),
    /// Answers a ping of the connection with this number.
    Pong(u32),
}

/// A seeded link between a client and an agent.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) conditions: Conditions,
    rng: ChaCha8Rng,
    /// What is on its way, by the time of its arrival.
    pub(crate) flights: BTreeMap<(Instant, u64), Flight>,
    count: u64,
    /// When the latest frame to each side arrives that keeps its order.
    pub(crate) latest: [Option<Instant>; 2],
    /// When the slowest hop to each side has passed on all it has.
    idle: [Option<Instant>; 2],
}

/// Headers carry no digest, so only what is behind them can be damaged and noticed.
const HEADER_LEN: usize = ssm_proto::HEADER_LEN;

impl Link {
    pub(crate) fn new(seed: u64, conditions: Conditions) -> Self {
        let rng = ChaCha8Rng::seed_from_u64(seed);
        Self { conditions, rng, flights: BTreeMap::new(), count: 0, latest: [None; 2], idle: [None; 2] }
    }

    /// Takes a frame from the socket of the other side of `to`. Returns how long that keeps the socket busy.
    pub(crate) fn send(&mut self, now: Instant, to: Role, wire: Bytes) -> Duration {
        let len = wire.len();
        let Conditions { loss, duplicates, damage, bytes_per_ms, bottleneck, .. } = self.conditions;
        let passed_on = match bottleneck {
            Some(rate) => {
                let idle = &mut self.idle[to as usize];
                let passed_on = idle.map_or(now, |idle| idle.max(now)) + transfer(len, rate);
                *idle = Some(passed_on);
                passed_on
            }
            None => now,
        };
        let fits = self.conditions.frame_max.is_none_or(|most| len <= most);
        if fits && !self.chance(loss) {
            let wire = if self.chance(damage) { self.damaged(&wire) } else { wire };
            if self.chance(duplicates) {
                self.launch(passed_on, to, Cargo::Frame(wire.clone()));
            }
            self.launch(passed_on, to, Cargo::Frame(wire));
        }
        bytes_per_ms.map_or(Duration::ZERO, |rate| transfer(len, rate))
    }

    /// Puts something on the way, at `now`, with the delay of the link.
    pub(crate) fn launch(&mut self, now: Instant, to: Role, what: Cargo) {
        let Conditions { delay, jitter, reorder, .. } = self.conditions;
        let mut arrival = now + delay + self.up_to(jitter);
        if self.chance(reorder) {
            arrival += self.up_to(delay * 3);
        } else {
            let latest = &mut self.latest[to as usize];
            arrival = latest.map_or(arrival, |latest| latest.max(arrival));
            *latest = Some(arrival);
        }
        self.count += 1;
        self.flights.insert((arrival, self.count), Flight { to, what });
    }

    /// When the next frame arrives.
    pub(crate) fn next_arrival(&self) -> Option<Instant> {
        self.flights.keys().next().map(|(at, _)| *at)
    }

    /// A frame that has arrived.
    pub(crate) fn arrived(&mut self, now: Instant) -> Option<Flight> {
        let first = self.flights.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }

    /// When the last that is on the way to `side` arrives.
    pub(crate) fn last_arrival(&self, side: Role) -> Option<Instant> {
        self.flights.iter().rfind(|(_, flight)| flight.to == side).map(|((at, _), _)| *at)
    }

    /// The connection of `side` broke: what is on the way to it is gone, and some of the last that it sent.
    pub(crate) fn cut(&mut self, side: Role) {
        let from: Vec<_> =
            self.flights.iter().filter(|(_, flight)| flight.to != side).map(|(key, _)| *key).collect();
        let kept = self.below(from.len() as u32 + 1) as usize;
        for key in &from[kept..] {
            self.flights.remove(key);
        }
        self.flights.retain(|_, flight| flight.to != side);
    }

    fn damaged(&mut self, wire: &Bytes) -> Bytes {
        let mut copy = BytesMut::from(&wire[..]);
        if wire.len() > HEADER_LEN {
            let at = HEADER_LEN + self.below((wire.len() - HEADER_LEN) as u32) as usize;
            copy[at] ^= 1 << self.below(8);
        }
        copy.freeze()
    }

    fn chance(&mut self, share: u32) -> bool {
        share > 0 && self.below(1000) < share
    }

    fn up_to(&mut self, most: Duration) -> Duration {
        most * self.below(1001) / 1000
    }

    fn below(&mut self, bound: u32) -> u32 {
        self.rng.next_u32() % bound.max(1)
    }
}

fn transfer(len: usize, bytes_per_ms: u32) -> Duration {
    Duration::from_nanos(len as u64 * 1_000_000 / u64::from(bytes_per_ms))
}
