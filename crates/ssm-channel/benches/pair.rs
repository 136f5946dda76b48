//! A transfer between two channels without any IO, in the clear and encrypted, and the bare digests that no implementation can do without, in the same
//! run: each message is hashed once by its sender and once by its receiver.
//!
//! `cargo bench -p ssm-channel`

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use sha2::{Digest as _, Sha256};
use ssm_channel::{
    Channel, Config, DATA_KEY_LEN, DataKey, Event, Handshake, KmsOffer, Offer, Role, Transmit,
};
use ssm_proto::{PayloadType, Strictness, Token};

/// Payloads of AWS's programs, and the largest that the gateway is known to take.
const SIZES: [usize; 2] = [1024, 32 * 1024];

/// Messages of one transfer.
const MESSAGES: u32 = 1024;

criterion_group!(benches, transfer);
criterion_main!(benches);

fn transfer(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("transfer");
    for size in SIZES {
        let payload = vec![0xa5; size];
        let (elements, bytes) = (u64::from(MESSAGES), u64::from(MESSAGES) * size as u64);
        group.throughput(Throughput::ElementsAndBytes { elements, bytes });
        group.bench_function(BenchmarkId::new("upload", size), |bencher| {
            let mut pair = Pair::new(size, None);
            bencher.iter(|| pair.transfer(Role::Client, &payload));
        });
        group.bench_function(BenchmarkId::new("download", size), |bencher| {
            let mut pair = Pair::new(size, None);
            bencher.iter(|| pair.transfer(Role::Agent, &payload));
        });
        group.bench_function(BenchmarkId::new("encrypted upload", size), |bencher| {
            let mut pair = Pair::new(size, Some(kms()));
            bencher.iter(|| pair.transfer(Role::Client, &payload));
        });
        group.bench_function(BenchmarkId::new("encrypted download", size), |bencher| {
            let mut pair = Pair::new(size, Some(kms()));
            bencher.iter(|| pair.transfer(Role::Agent, &payload));
        });
        group.bench_function(BenchmarkId::new("bare digests", size), |bencher| {
            bencher.iter(|| {
                for _ in 0..2 * MESSAGES {
                    black_box(Sha256::digest(black_box(&payload)));
                }
            });
        });
    }
    group.finish();
}

/// Two connected channels with nothing between them. Both check digests.
struct Pair {
    now: Instant,
    client: Channel,
    agent: Channel,
}

impl Pair {
    fn new(payload_len: usize, kms: Option<KmsOffer>) -> Self {
        let now = start();
        let unix = Duration::from_secs(1_700_000_000);
        let client = Config { payload_len, pacing: None, ..Config::client() };
        let offer = Offer {
            session_type: "Standard_Stream".into(),
            properties: None,
            handshake: Handshake::Required,
            kms,
        };
        let agent = Config { payload_len, strictness: Strictness::Lenient, ..Config::agent("i-0", offer) };
        let mut pair = Self {
            now,
            client: Channel::new(Role::Client, Arc::new(client), [1; 32], now, unix),
            agent: Channel::new(Role::Agent, Arc::new(agent), [2; 32], now, unix),
        };
        pair.client.handle_connected(now, Token::new("client".into()));
        pair.agent.handle_connected(now, Token::new("agent".into()));
        while !(pair.client.can_send() && pair.agent.can_send()) {
            pair.carry();
        }
        pair
    }

    /// Moves all messages from `from` to the other side, a window at a time.
    fn transfer(&mut self, from: Role, payload: &[u8]) {
        let mut left = MESSAGES;
        while left > 0 || !(self.client.is_drained() && self.agent.is_drained()) {
            self.now += Duration::from_micros(50);
            loop {
                let sender = if from == Role::Client { &mut self.client } else { &mut self.agent };
                if left == 0 || !sender.can_send() {
                    break;
                }
                let mut buf = sender.buffer();
                buf.put_slice(payload);
                sender.send(self.now, PayloadType::Output, buf).expect("it can send");
                left -= 1;
                self.carry();
            }
            self.carry();
        }
    }

    fn carry(&mut self) {
        let Self { now, client, agent } = self;
        while carry(*now, client, agent) | carry(*now, agent, client) {}
    }
}

fn carry(now: Instant, from: &mut Channel, to: &mut Channel) -> bool {
    let mut moved = false;
    while let Some(transmit) = from.poll_transmit(now) {
        if let Transmit::Binary(frame) = transmit {
            to.handle_binary(now, frame).expect("it is a message");
            moved = true;
        }
        while let Some(event) = to.poll_event() {
            match event {
                Event::Payload { payload, .. } => drop(black_box(payload)),
                Event::KeyRequired(_) => to.install_key(now, Ok(data_key())),
                _ => {}
            }
        }
    }
    moved
}

/// Encryption as an account's preferences ask for it.
fn kms() -> KmsOffer {
    KmsOffer { key_id: "key".into(), challenge: None, require_challenge: false }
}

fn data_key() -> DataKey {
    DataKey::new(&[7; DATA_KEY_LEN], Vec::new()).expect("it is long enough")
}

#[expect(clippy::disallowed_methods, reason = "an origin for virtual time: only differences matter")]
fn start() -> Instant {
    Instant::now()
}
