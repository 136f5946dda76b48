//! How fast messages are written and read, beside the bare digest of the same bytes, which both contain.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use sha2::{Digest as _, Sha256};
use ssm_proto::body::Acknowledge;
use ssm_proto::{Header, Message, MessageId, MessageType, PayloadType, Slab, Strictness};

criterion_group!(benches, messages, acknowledgements);
criterion_main!(benches);

const SIZES: [usize; 5] = [1, 64, 1024, 16 * 1024, 32 * 1024];

fn messages(c: &mut Criterion) {
    let mut group = c.benchmark_group("codec");
    for size in SIZES {
        let payload: Vec<u8> = (0..size).map(|i| (i * 31 % 251) as u8).collect();
        group.throughput(Throughput::Bytes(size as u64));

        group.bench_with_input(BenchmarkId::new("digest", size), &payload, |b, payload| {
            b.iter(|| Sha256::digest(black_box(payload)));
        });

        let mut slab = Slab::default();
        group.bench_with_input(BenchmarkId::new("encode", size), &payload, |b, payload| {
            b.iter(|| encode(&mut slab, black_box(payload)));
        });

        let wire = encode(&mut slab, &payload);
        group.bench_with_input(BenchmarkId::new("decode", size), &wire, |b, wire| {
            b.iter(|| Message::decode(black_box(wire.clone()), Strictness::Strict));
        });
    }
    group.finish();
}

fn acknowledgements(c: &mut Criterion) {
    let mut group = c.benchmark_group("acknowledge");
    group.throughput(Throughput::Elements(1));
    let acknowledge = Acknowledge {
        message_type: MessageType::OutputStreamData,
        message_id: MessageId::from_random([3; 16]),
        sequence: 1_234_567,
    };

    let mut slab = Slab::default();
    group.bench_function("encode", |b| {
        b.iter(|| encode_acknowledge(&mut slab, black_box(&acknowledge)));
    });

    let wire = encode_acknowledge(&mut slab, &acknowledge);
    group.bench_function("decode", |b| {
        b.iter(|| {
            let message = Message::decode(black_box(wire.clone()), Strictness::Strict)?;
            Ok::<_, ssm_proto::DecodeError>(Acknowledge::decode(&message.payload))
        });
    });
    group.finish();
}

/// The way of a chunk read from a socket, the copy out of the kernel included.
fn encode(slab: &mut Slab, payload: &[u8]) -> Bytes {
    let mut buf = slab.take(payload.len());
    buf.put_slice(payload);
    slab.reclaim(&mut buf);
    buf.finish(Header::stream(
        MessageType::InputStreamData,
        PayloadType::Output,
        7,
        MessageId::from_random([7; 16]),
        1_700_000_000_000,
    ))
}

fn encode_acknowledge(slab: &mut Slab, acknowledge: &Acknowledge) -> Bytes {
    let mut buf = slab.take(Acknowledge::MAX_LEN);
    acknowledge.encode(&mut buf);
    slab.reclaim(&mut buf);
    buf.finish(Header::control(MessageType::Acknowledge, MessageId::from_random([9; 16]), 1_700_000_000_000))
}
