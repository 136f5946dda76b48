//! How fast frames are read and headers made. Nothing is copied, so the rate is in frames, not bytes.

use std::hint::black_box;
use std::time::Instant;

use bytes::{BufMut, Bytes, BytesMut};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use ssm_smux::{Config, Event, Mux, Side, StreamId};

fn parse(c: &mut Criterion) {
    let mut group = c.benchmark_group("parse");
    for (name, payload) in [("1 KiB", 1024 - 8), ("32 KiB", 32 * 1024 - 8)] {
        let (mut client, mut server, id) = pair();
        let frame = frame(&mut client, id, payload);
        group.throughput(Throughput::Elements(1));
        group.bench_function(format!("one frame of {name}"), |b| {
            b.iter_batched(|| frame.clone(), |frame| receive(&mut server, frame), BatchSize::SmallInput);
        });
    }

    // What a plugin sends: a 32 KiB frame cut into messages of 1,024 bytes.
    let (mut client, mut server, id) = pair();
    let frame = frame(&mut client, id, 32 * 1024);
    group.throughput(Throughput::Elements(1));
    group.bench_function("32 KiB frame in 1 KiB inputs", |b| {
        b.iter(|| {
            let mut rest = frame.clone();
            while !rest.is_empty() {
                receive(&mut server, rest.split_to(rest.len().min(1024)));
            }
        });
    });
    group.finish();
}

fn push(c: &mut Criterion) {
    let mut group = c.benchmark_group("push");
    for streams in [1, 1000] {
        let now = start();
        let mut client = Mux::new(Side::Client, Config::default(), now);
        let ids: Vec<StreamId> = (0..streams).map(|_| client.open(now).expect("there is room")).collect();
        let mut turn = ids.iter().cycle();
        group.throughput(Throughput::Elements(1));
        group.bench_function(format!("{streams} streams"), |b| {
            b.iter(|| {
                let id = *turn.next().expect("the cycle has no end");
                client.push(black_box(id), black_box(1016)).expect("the stream is open")
            });
        });
    }
    group.finish();
}

/// Reads one input and gives its bytes back at once.
fn receive(server: &mut Mux, input: Bytes) {
    server.handle_input(input).expect("the frames are valid");
    while let Some(event) = server.poll_event() {
        if let Event::Data { id, data } = event {
            server.consumed(id, black_box(data).len());
        }
    }
}

/// Two ends with one stream that both know.
fn pair() -> (Mux, Mux, StreamId) {
    let now = start();
    let mut client = Mux::new(Side::Client, Config::default(), now);
    let mut server = Mux::new(Side::Server, Config::default(), now);
    let id = client.open(now).expect("there is room");
    receive(&mut server, frame(&mut client, id, 1));
    (client, server, id)
}

fn frame(client: &mut Mux, id: StreamId, payload: usize) -> Bytes {
    let mut frame = BytesMut::from(&client.push(id, payload).expect("the stream is open")[..]);
    frame.put_bytes(0x5a, payload);
    frame.freeze()
}

#[expect(
    clippy::disallowed_methods,
    reason = "an instant can only be had from the clock; no bench waits for it"
)]
fn start() -> Instant {
    Instant::now()
}

criterion_group!(benches, parse, push);
criterion_main!(benches);
