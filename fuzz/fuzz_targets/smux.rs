//! The multiplexer's input: any split of the stream gives the same events, and every byte is accounted for.
//!
//! The first byte chooses the side and the length of the parts; the rest is the stream.

#![no_main]

use std::time::Instant;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use ssm_smux::{Config, Event, FrameError, Mux, Side, StreamId};

/// Few enough that a fuzzer reaches it.
const MAX_STREAMS: usize = 4;

fuzz_target!(|input: &[u8]| {
    let Some((&choice, stream)) = input.split_first() else { return };
    let side = if choice & 0x80 == 0 { Side::Client } else { Side::Server };
    let part = usize::from(choice & 0x7f) + 1;

    let whole = receive(side, std::iter::once(stream));
    let parts = receive(side, stream.chunks(part));
    assert_eq!(whole, parts);
});

/// What came of one stream, without the seams between pieces of data.
#[derive(Debug, PartialEq)]
struct Received {
    events: Vec<Event>,
    answers: Vec<[u8; ssm_smux::HEADER_LEN]>,
    end: Result<(), FrameError>,
}

fn receive<'a>(side: Side, parts: impl Iterator<Item = &'a [u8]>) -> Received {
    let config = Config { max_streams: MAX_STREAMS, ..Config::default() };
    let mut mux = Mux::new(side, config, Instant::now());
    if side == Side::Client {
        for _ in 0..MAX_STREAMS {
            mux.open(Instant::now()).expect("there is room");
        }
    }
    let mut received = Received { events: Vec::new(), answers: Vec::new(), end: Ok(()) };
    let mut handed_out = 0;
    for part in parts {
        received.end = mux.handle_input(Bytes::copy_from_slice(part));
        while let Some(event) = mux.poll_event() {
            if let Event::Data { data, .. } = &event {
                handed_out += data.len();
            }
            append(&mut received.events, event);
        }
        assert_eq!(mux.unconsumed(), handed_out);
        assert!(mux.stream_count() <= MAX_STREAMS);
        if received.end.is_err() {
            break;
        }
    }
    give_everything_back(&mut mux, &received.events);
    received.answers.extend(std::iter::from_fn(|| mux.poll_transmit()));
    received
}

/// Joins data that follows data of the same stream.
fn append(events: &mut Vec<Event>, event: Event) {
    if let (Some(Event::Data { id, data }), Event::Data { id: next, data: more }) =
        (events.last_mut(), &event)
        && id == next
    {
        *data = [&data[..], more].concat().into();
    } else {
        events.push(event);
    }
}

fn give_everything_back(mux: &mut Mux, events: &[Event]) {
    let mut ids: Vec<StreamId> = Vec::new();
    for event in events {
        if let Event::Data { id, data } = event {
            mux.consumed(*id, data.len());
            ids.push(*id);
        }
    }
    assert_eq!(mux.unconsumed(), 0);
    assert!(ids.iter().all(|id| mux.unconsumed_of(*id) == 0));
}
