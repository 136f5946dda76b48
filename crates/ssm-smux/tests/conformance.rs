//! Items of the protocol's checklist that are about everything a side sends.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use ssm_smux::{Config, Event, FrameError, Mux, Side};

/// The receiver's buffer of AWS's programs (smux `DefaultConfig`), after which one that updates windows would have to.
const RECEIVE_BUFFER: usize = 4 * 1024 * 1024;

/// Both ends of a session, and every header that went either way.
struct Ends {
    client: Mux,
    server: Mux,
    headers: Vec<[u8; 8]>,
}

impl Ends {
    fn new(config: &Config) -> Self {
        let now = start();
        let (client, server) =
            (Mux::new(Side::Client, config.clone(), now), Mux::new(Side::Server, config.clone(), now));
        Self { client, server, headers: Vec::new() }
    }

    /// What one side has to say by itself, handed to the other.
    fn control(&mut self, from: Side) {
        let (sender, receiver) = match from {
            Side::Client => (&mut self.client, &mut self.server),
            Side::Server => (&mut self.server, &mut self.client),
        };
        while let Some(header) = sender.poll_transmit() {
            self.headers.push(header);
            receiver.handle_input(Bytes::copy_from_slice(&header)).unwrap();
        }
    }
}

/// Newer agents end the session over an update, and the captured ones send none.
#[test]
fn item_96_98_a_session_consists_of_four_kinds_of_frame_and_only_data_has_a_length() {
    let mut ends = Ends::new(&Config { syn_delay: Duration::ZERO, ..Config::default().with_keep_alive() });
    let now = start();
    let id = ends.client.open(now).unwrap();
    ends.control(Side::Client);
    assert_eq!(ends.server.poll_event(), Some(Event::Opened { id }));
    let mut moved = 0;
    while moved < 2 * RECEIVE_BUFFER {
        for side in [Side::Client, Side::Server] {
            let (sender, receiver) = match side {
                Side::Client => (&mut ends.client, &mut ends.server),
                Side::Server => (&mut ends.server, &mut ends.client),
            };
            let header = sender.push(id, 30_000).unwrap();
            ends.headers.push(*header.first_chunk().unwrap());
            let mut message = BytesMut::from(&header[..]);
            message.put_bytes(7, 30_000);
            receiver.handle_input(message.freeze()).unwrap();
            while let Some(event) = receiver.poll_event() {
                let Event::Data { data, .. } = event else { panic!("{event:?}") };
                receiver.consumed(id, data.len());
            }
        }
        moved += 30_000;
        ends.control(Side::Client);
        ends.control(Side::Server);
    }
    ends.client.handle_timeout(now + Duration::from_secs(10));
    ends.client.finish(id);
    ends.server.finish(id);
    ends.control(Side::Client);
    ends.control(Side::Server);
    let mut commands: Vec<u8> = ends.headers.iter().map(|header| header[1]).collect();
    commands.sort_unstable();
    commands.dedup();
    assert_eq!(commands, [0, 1, 2, 3], "SYN, FIN, PSH, NOP");
    for header in &ends.headers {
        let length = u16::from_le_bytes([header[2], header[3]]);
        assert_eq!((header[0], length), (1, if header[1] == 2 { 30_000 } else { 0 }), "{header:?}");
    }
}

#[test]
fn item_96_an_update_in_the_middle_of_data_changes_nothing() {
    let now = start();
    let mut client = Mux::new(Side::Client, Config::default(), now);
    let id = client.open(now).unwrap();
    let stream = [
        &[1, 2, 2, 0, 3, 0, 0, 0, b'a', b'b'][..],
        &[1, 4, 8, 0, 3, 0, 0, 0, 0, 0, 4, 0, 0, 0, 4, 0],
        &[1, 2, 2, 0, 3, 0, 0, 0, b'c', b'd'],
    ]
    .concat();
    let mut data = Vec::new();
    for byte in stream {
        client.handle_input(Bytes::copy_from_slice(&[byte])).unwrap();
        while let Some(Event::Data { id: of, data: part }) = client.poll_event() {
            assert_eq!(of, id);
            data.extend_from_slice(&part);
        }
    }
    assert_eq!(data, b"abcd");
    assert_eq!(client.poll_transmit(), None);
}

#[test]
fn item_97_nothing_is_read_behind_a_broken_frame() {
    for (broken, error) in [
        ([2, 0, 0, 0, 3, 0, 0, 0], FrameError::Version(2)),
        ([0, 0, 0, 0, 3, 0, 0, 0], FrameError::Version(0)),
        ([1, 5, 0, 0, 3, 0, 0, 0], FrameError::Command(5)),
        ([1, 255, 0, 0, 3, 0, 0, 0], FrameError::Command(255)),
    ] {
        let mut server = Mux::new(Side::Server, Config::default(), start());
        assert_eq!(server.handle_input(Bytes::copy_from_slice(&broken)), Err(error));
        let fine = Bytes::from_static(&[1, 0, 0, 0, 3, 0, 0, 0]);
        assert_eq!(server.handle_input(fine), Err(error));
        assert_eq!(server.poll_event(), None);
    }
}

/// A receiver that got ten minutes of nothing has not been told to end either.
#[test]
fn item_99_without_keep_alives_nothing_ends_an_idle_session() {
    let now = start();
    let (mut client, mut server) =
        (Mux::new(Side::Client, Config::default(), now), Mux::new(Side::Server, Config::default(), now));
    let id = client.open(now).unwrap();
    client.handle_timeout(now + Duration::from_secs(1));
    let syn = client.poll_transmit().unwrap();
    server.handle_input(Bytes::copy_from_slice(&syn)).unwrap();
    assert_eq!(server.poll_event(), Some(Event::Opened { id }));
    for minute in 1..=10 {
        for mux in [&mut client, &mut server] {
            assert_eq!(mux.poll_timeout(), None);
            mux.handle_timeout(now + Duration::from_secs(60 * minute));
            assert_eq!((mux.poll_event(), mux.poll_transmit()), (None, None));
        }
    }
    assert_eq!(client.push(id, 1).unwrap().len(), 8);
}

#[expect(
    clippy::disallowed_methods,
    reason = "an instant can only be had from the clock; no test waits for it"
)]
fn start() -> Instant {
    Instant::now()
}
