//! What holds for every input and every order of calls.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use proptest::collection::vec;
use proptest::prelude::*;
use ssm_smux::{Config, Event, FrameError, HEADER_LEN, Mux, Schedule, Side, StreamId};

proptest! {
    #[test]
    fn any_split_gives_the_same_events(stream in stream(), cuts in vec(any::<prop::sample::Index>(), 0..40)) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        cuts.extend([0, stream.len()]);
        cuts.sort_unstable();
        let parts = cuts.windows(2).map(|pair| stream.slice(pair[0]..pair[1]));
        prop_assert_eq!(run(parts), run([stream.clone()]));
    }

    #[test]
    fn the_server_receives_what_the_client_sent(steps in vec(step(), 0..120)) {
        let (sent, bytes) = perform(&steps);
        let mut server = Mux::new(Side::Server, Config::default(), start());
        server.handle_input(bytes).unwrap();
        let mut received: BTreeMap<StreamId, Told> = BTreeMap::new();
        while let Some(event) = server.poll_event() {
            match event {
                Event::Opened { id } => prop_assert!(received.insert(id, Told::default()).is_none()),
                Event::Data { id, data } => received.get_mut(&id).unwrap().data.put(data),
                Event::Finished { id } => received.get_mut(&id).unwrap().finished += 1,
                Event::PeerSilent => prop_assert!(false, "keep-alive is off"),
            }
        }
        let bytes_received: usize = received.values().map(|told| told.data.len()).sum();
        prop_assert_eq!(server.unconsumed(), bytes_received);
        for (id, told) in &received {
            prop_assert_eq!(server.unconsumed_of(*id), told.data.len());
            server.consumed(*id, told.data.len());
        }
        prop_assert_eq!(server.unconsumed(), 0);
        prop_assert_eq!(received, sent);
    }

    #[test]
    fn random_bytes_are_bounded_and_harmless(
        parts in vec(vec(any::<u8>(), 0..200), 0..20),
        side in prop_oneof![Just(Side::Client), Just(Side::Server)],
    ) {
        hostile(side, parts)?;
    }

    #[test]
    fn nearly_valid_frames_are_bounded_and_harmless(
        parts in vec(vec((0..6u8, 0..4u16, 0..12u32), 0..200), 0..20),
        side in prop_oneof![Just(Side::Client), Just(Side::Server)],
    ) {
        let bytes = |frames: Vec<(u8, u16, u32)>| {
            frames.iter().flat_map(|(command, length, id)| header(*command, *length, *id)).collect()
        };
        hostile(side, parts.into_iter().map(bytes).collect())?;
    }

    #[test]
    fn data_is_never_copied(stream in stream()) {
        let mut server = Mux::new(Side::Server, Config::default(), start());
        let range = stream.as_ptr_range();
        server.handle_input(stream).unwrap();
        while let Some(event) = server.poll_event() {
            if let Event::Data { data, .. } = event {
                let slice = data.as_ptr_range();
                prop_assert!(range.start <= slice.start && slice.end <= range.end);
            }
        }
    }

    #[test]
    fn data_after_fin_is_ignored(
        before in vec(any::<u8>(), 1..100),
        after in vec(vec(any::<u8>(), 0..100), 0..10),
    ) {
        let mut bytes = BytesMut::new();
        bytes.put_slice(&header(SYN, 0, 3));
        put_data(&mut bytes, 3, &before);
        bytes.put_slice(&header(FIN, 0, 3));
        for data in &after {
            put_data(&mut bytes, 3, data);
            bytes.put_slice(&header(FIN, 0, 3));
        }
        let id = StreamId::from(3);
        let (events, result) = run([bytes.freeze()]);
        let told = [Event::Opened { id }, Event::Data { id, data: before.into() }, Event::Finished { id }];
        prop_assert_eq!(events, told);
        prop_assert_eq!(result, Ok(()));
    }

    #[test]
    fn busy_streams_get_the_same_bytes_whoever_comes_and_goes(
        busy in 1..6u32,
        turns in vec((0..4u8, 1..=QUANTUM), 1..600),
    ) {
        let mut schedule = Schedule::new(QUANTUM);
        let mut sent = vec![0; busy as usize];
        let mut visited = BTreeMap::new();
        (0..busy).for_each(|number| schedule.ready(StreamId::from(number)));
        for (visitor, len) in turns {
            // One of four streams that come and go, or none.
            schedule.ready(StreamId::from(busy + u32::from(visitor)));
            let id = schedule.next().unwrap();
            match sent.get_mut(u32::from(id) as usize) {
                Some(sent) => {
                    *sent += len;
                    schedule.sent(id, len);
                }
                None if visitor < 2 => {
                    *visited.entry(id).or_insert(0) += len;
                    schedule.sent(id, len);
                }
                None => {}
            }
        }
        let (least, most) = (*sent.iter().min().unwrap(), *sent.iter().max().unwrap());
        prop_assert!(most - least <= 2 * QUANTUM, "{sent:?}");
        for visited in visited.into_values() {
            prop_assert!(visited <= least + 3 * QUANTUM, "{visited} against {sent:?}");
        }
    }

    #[test]
    fn nothing_is_due_that_was_not_announced(steps in vec(any::<(bool, u16)>(), 0..60)) {
        let mut now = start();
        let config = Config { syn_delay: Duration::from_secs(3), ..Config::default().with_keep_alive() };
        let mut client = Mux::new(Side::Client, config, now);
        for (open, wait) in steps {
            now += Duration::from_millis(wait.into());
            if open {
                client.open(now).unwrap();
            }
            let due = client.poll_timeout().is_some_and(|due| due <= now);
            client.handle_timeout(now);
            let acted = std::iter::from_fn(|| client.poll_transmit()).count()
                + std::iter::from_fn(|| client.poll_event()).count();
            prop_assert!(due || acted == 0);
            prop_assert!(client.poll_timeout().is_none_or(|next| next > now));
        }
    }
}

/// What a stream may send in a round.
const QUANTUM: usize = 32 * 1024;

/// What one side was told of a stream, or did with it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Told {
    data: BytesMut,
    finished: usize,
}

#[derive(Debug, Clone)]
enum Step {
    Open,
    Push(prop::sample::Index, Vec<u8>),
    Finish(prop::sample::Index),
    FinishBehindData(prop::sample::Index, Vec<u8>),
    Forget(prop::sample::Index),
    Nop,
    Wait,
    Drain,
}

fn step() -> impl Strategy<Value = Step> {
    let data = || vec(any::<u8>(), 1..40);
    prop_oneof![
        3 => Just(Step::Open),
        6 => (any::<prop::sample::Index>(), data()).prop_map(|(at, data)| Step::Push(at, data)),
        1 => any::<prop::sample::Index>().prop_map(Step::Finish),
        1 => (any::<prop::sample::Index>(), data()).prop_map(|(at, data)| Step::FinishBehindData(at, data)),
        1 => any::<prop::sample::Index>().prop_map(Step::Forget),
        1 => Just(Step::Nop),
        1 => Just(Step::Wait),
        2 => Just(Step::Drain),
    ]
}

/// Lets a client do `steps` and returns what the server has to be told, and the bytes.
fn perform(steps: &[Step]) -> (BTreeMap<StreamId, Told>, Bytes) {
    let mut now = start();
    let mut client = Mux::new(Side::Client, Config::default(), now);
    let (mut open, mut sent, mut bytes) = (Vec::new(), BTreeMap::<StreamId, Told>::new(), BytesMut::new());
    for step in steps.iter().chain([&Step::Wait, &Step::Drain]) {
        if let Step::Push(at, data) | Step::FinishBehindData(at, data) = step
            && !open.is_empty()
        {
            let id = *at.get(&open);
            let overhead = client.data_overhead(id);
            let header = client.push(id, data.len()).unwrap();
            assert_eq!(header.len(), overhead);
            bytes.put_slice(&header);
            bytes.put_slice(data);
            sent.entry(id).or_default().data.put_slice(data);
        }
        if let Step::Finish(at) | Step::FinishBehindData(at, _) | Step::Forget(at) = step
            && !open.is_empty()
        {
            let id = open.remove(at.index(open.len()));
            match step {
                Step::Forget(_) => client.forget(id),
                _ => client.finish(id),
            }
            if let Step::FinishBehindData(..) = step {
                bytes.put_slice(&client.take_fin(id).unwrap());
            }
            // A stream that is forgotten before it was announced is never heard of.
            if let Some(told) = sent.get_mut(&id) {
                told.finished = 1;
            } else if let Step::Finish(_) = step {
                sent.insert(id, Told { finished: 1, ..Told::default() });
            }
        }
        match step {
            Step::Open => open.push(client.open(now).unwrap()),
            Step::Nop => client.queue_nop(),
            Step::Wait => {
                now += Duration::from_millis(1);
                client.handle_timeout(now);
                // Every stream is announced by the end of this, or was before.
                while let Some(header) = client.poll_transmit() {
                    bytes.put_slice(&header);
                }
                for id in &open {
                    sent.entry(*id).or_default();
                }
            }
            Step::Drain => {
                while let Some(header) = client.poll_transmit() {
                    bytes.put_slice(&header);
                }
            }
            _ => {}
        }
    }
    (sent, bytes.freeze())
}

/// Feeds a hostile peer's bytes and checks that what is kept stays within what the input can pay for.
fn hostile(side: Side, parts: Vec<Vec<u8>>) -> Result<(), TestCaseError> {
    let config = Config { max_streams: 4, ..Config::default() };
    let mut mux = Mux::new(side, config, start());
    if side == Side::Client {
        mux.open(start()).unwrap();
    }
    let mut dead = None;
    let mut received = 0;
    for part in parts {
        let (len, result) = (part.len(), mux.handle_input(part.into()));
        if let Some(error) = dead {
            prop_assert_eq!(result, Err(error));
        }
        dead = result.err();
        let events: Vec<Event> = std::iter::from_fn(|| mux.poll_event()).collect();
        prop_assert!(events.len() <= len / HEADER_LEN + 2);
        for event in events {
            if let Event::Data { data, .. } = event {
                prop_assert!(!data.is_empty() && data.len() <= len);
                received += data.len();
            }
        }
        prop_assert_eq!(mux.unconsumed(), received);
        prop_assert!(mux.stream_count() <= 4);
    }
    prop_assert!(std::iter::from_fn(|| mux.poll_transmit()).count() <= 1024 + 2);
    Ok(())
}

/// The events of a server that is fed `parts`, with neighbouring data of a stream joined.
fn run(parts: impl IntoIterator<Item = Bytes>) -> (Vec<Event>, Result<(), FrameError>) {
    let mut server = Mux::new(Side::Server, Config::default(), start());
    let mut result = Ok(());
    let mut events: Vec<Event> = Vec::new();
    for part in parts {
        result = server.handle_input(part);
        while let Some(event) = server.poll_event() {
            match (events.last_mut(), event) {
                (Some(Event::Data { id, data }), Event::Data { id: same, data: more }) if *id == same => {
                    *data = [&data[..], &more].concat().into();
                }
                (_, event) => events.push(event),
            }
        }
    }
    (events, result)
}

/// Valid frames of a few streams in any order, so also for unknown and closed ones.
fn stream() -> impl Strategy<Value = Bytes> {
    let id = || 3..7u32;
    let frame = prop_oneof![
        id().prop_map(|id| header(SYN, 0, id).to_vec()),
        id().prop_map(|id| header(FIN, 0, id).to_vec()),
        Just(header(NOP, 0, 0).to_vec()),
        id().prop_map(|id| [header(UPD, 8, id), [0xee; 8]].concat()),
        (id(), vec(any::<u8>(), 0..60)).prop_map(|(id, data)| {
            let mut bytes = BytesMut::new();
            put_data(&mut bytes, id, &data);
            bytes.into()
        }),
    ];
    vec(frame, 0..40).prop_map(|frames| frames.concat().into())
}

fn put_data(bytes: &mut BytesMut, id: u32, data: &[u8]) {
    bytes.put_slice(&header(PSH, data.len().try_into().unwrap(), id));
    bytes.put_slice(data);
}

fn header(command: u8, length: u16, id: u32) -> [u8; 8] {
    let (l, i) = (length.to_le_bytes(), id.to_le_bytes());
    [1, command, l[0], l[1], i[0], i[1], i[2], i[3]]
}

#[expect(
    clippy::disallowed_methods,
    reason = "an instant can only be had from the clock; no test waits for it"
)]
fn start() -> Instant {
    Instant::now()
}

const SYN: u8 = 0;
const FIN: u8 = 1;
const PSH: u8 = 2;
const NOP: u8 = 3;
const UPD: u8 = 4;
