//! Frames that AWS's plugin and agent exchanged, read and written again.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use ssm_smux::{Config, Event, Mux, Side, StreamId};

#[test]
fn answered_requests_give_the_expected_events() {
    let (client, agent) = both_directions(PORT_MUX);
    let request = |path: &str| {
        format!(
            "GET /{path} HTTP/1.1\r\nHost: 127.0.0.1:15014\r\nUser-Agent: curl/7.88.1\r\nAccept: */*\r\n\r\n"
        )
    };
    assert_eq!(
        story(Side::Server, &client),
        [
            "3 opened".into(),
            format!("3 data {:?}", request("one")),
            "3 finished".into(),
            "5 opened".into(),
            format!("5 data {:?}", request("two")),
            "5 finished".into(),
        ]
    );
    let answers = story(Side::Client, &agent);
    assert_eq!(answers.len(), 4);
    for (answer, start) in answers.iter().zip(["3 data", "3 finished", "5 data", "5 finished"]) {
        assert!(answer.starts_with(start), "{answer}");
    }
    assert!(answers[0].contains("HTTP/1.1 200 OK\\r\\n"), "{}", answers[0]);
}

#[test]
fn refused_connections_give_the_expected_events() {
    let (client, agent) = both_directions(PORT_MUX_REFUSED);
    let steps = story(Side::Server, &client);
    let starts =
        ["3 opened", "3 data \"GET /one", "3 finished", "5 opened", "5 data \"GET /two", "5 finished"];
    assert_eq!(steps.len(), starts.len());
    for (step, start) in steps.iter().zip(starts) {
        assert!(step.starts_with(start), "{step}");
    }
    assert_eq!(story(Side::Client, &agent), ["3 finished", "5 finished"]);
}

#[test]
fn item_95_every_cut_of_a_recording_gives_the_same_events() {
    for recording in [PORT_MUX, PORT_MUX_REFUSED] {
        let (client, agent) = both_directions(recording);
        for (side, stream) in [(Side::Server, &client), (Side::Client, &agent)] {
            let whole = story(side, stream);
            for cut in 0..=stream.len() {
                let parts = [stream.slice(..cut), stream.slice(cut..)];
                assert_eq!(story_of_parts(side, parts), whole, "cut at {cut}");
            }
            let bytes = (0..stream.len()).map(|at| stream.slice(at..=at));
            assert_eq!(story_of_parts(side, bytes), whole);
        }
    }
}

#[test]
fn item_94_the_same_operations_give_the_same_bytes() {
    for recording in [PORT_MUX, PORT_MUX_REFUSED] {
        let config = Config { syn_delay: Duration::ZERO, ..Config::default() };
        let mut client = Mux::new(Side::Client, config.clone(), start());
        let mut server = Mux::new(Side::Server, config, start());
        for (from, message) in messages(recording) {
            let (sender, receiver) = match from {
                Side::Client => (&mut client, &mut server),
                Side::Server => (&mut server, &mut client),
            };
            receiver.handle_input(message.clone()).unwrap();
            let seen = std::iter::from_fn(|| receiver.poll_event()).collect();
            assert_eq!(repeat(sender, seen), message);
        }
    }
}

#[test]
fn syn_and_data_share_a_message_as_the_plugin_has_it() {
    let (_, first) = messages(PORT_MUX_REFUSED).next().unwrap();
    let mut client = Mux::new(Side::Client, Config::default(), start());
    let id = client.open(start()).unwrap();
    assert_eq!(first[..16], *client.push(id, first.len() - 16).unwrap());
}

#[test]
fn an_early_syn_is_a_message_of_its_own_as_the_plugin_has_it() {
    let recorded: Vec<Bytes> = messages(PORT_MUX).map(|(_, message)| message).take(2).collect();
    let now = start();
    let mut client = Mux::new(Side::Client, Config::default(), now);
    let id = client.open(now).unwrap();
    client.handle_timeout(now + Duration::from_millis(1));
    assert_eq!(recorded[0], client.poll_transmit().unwrap()[..]);
    assert_eq!(recorded[1][..8], *client.push(id, recorded[1].len() - 8).unwrap());
}

/// What a side is told, one line per event, with the data of a stream joined up to its next event.
fn story(side: Side, stream: &Bytes) -> Vec<String> {
    story_of_parts(side, [stream.clone()])
}

fn story_of_parts(side: Side, parts: impl IntoIterator<Item = Bytes>) -> Vec<String> {
    let mut lines = Vec::new();
    let mut joined: Option<(StreamId, BytesMut)> = None;
    for event in events(side, parts) {
        if let Event::Data { id, data } = event {
            match &mut joined {
                Some((open, text)) if *open == id => text.put(data),
                _ => joined = Some((id, data.into())),
            }
            continue;
        }
        if let Some((id, text)) = joined.take() {
            lines.push(format!("{id} data {:?}", str::from_utf8(&text).unwrap()));
        }
        match event {
            Event::Opened { id } => lines.push(format!("{id} opened")),
            Event::Finished { id } => lines.push(format!("{id} finished")),
            Event::Data { .. } | Event::PeerSilent => panic!("not expected: {event:?}"),
        }
    }
    assert_eq!(joined, None, "the recordings end with a FIN");
    lines
}

fn events(side: Side, parts: impl IntoIterator<Item = Bytes>) -> Vec<Event> {
    let mut mux = Mux::new(side, Config { syn_delay: Duration::ZERO, ..Config::default() }, start());
    if side == Side::Client {
        // The streams that the recorded client had opened.
        for _ in 0..2 {
            mux.open(start()).unwrap();
        }
    }
    let mut events = Vec::new();
    for part in parts {
        mux.handle_input(part).unwrap();
        events.extend(std::iter::from_fn(|| mux.poll_event()));
    }
    events
}

/// Does what made the other side see `events`, and returns the bytes that takes.
fn repeat(mux: &mut Mux, events: Vec<Event>) -> Bytes {
    let mut sent = BytesMut::new();
    for event in events {
        match event {
            Event::Opened { id } => assert_eq!(mux.open(start()), Ok(id)),
            Event::Data { id, data } => {
                sent.put_slice(&mux.push(id, data.len()).unwrap());
                sent.put(data);
            }
            Event::Finished { id } => mux.finish(id),
            Event::PeerSilent => panic!("keep-alive is off"),
        }
        while let Some(header) = mux.poll_transmit() {
            sent.put_slice(&header);
        }
    }
    sent.freeze()
}

/// The byte streams of a recording: what the client sent, what the agent sent.
fn both_directions(recording: &str) -> (Bytes, Bytes) {
    let (mut client, mut agent) = (BytesMut::new(), BytesMut::new());
    for (from, message) in messages(recording) {
        match from {
            Side::Client => client.put(message),
            Side::Server => agent.put(message),
        }
    }
    (client.freeze(), agent.freeze())
}

/// The messages of a recording and who sent them.
fn messages(recording: &str) -> impl Iterator<Item = (Side, Bytes)> {
    recording.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let (from, hex) = line.split_once(' ').unwrap();
        let from = match from {
            ">" => Side::Client,
            "<" => Side::Server,
            other => panic!("{other} is no direction"),
        };
        let digits: Vec<u8> = hex.chars().map(|digit| digit.to_digit(16).unwrap() as u8).collect();
        (from, digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
    })
}

#[expect(
    clippy::disallowed_methods,
    reason = "an instant can only be had from the clock; no test waits for it"
)]
fn start() -> Instant {
    Instant::now()
}

const PORT_MUX: &str = include_str!("vectors/port-mux.hex");
const PORT_MUX_REFUSED: &str = include_str!("vectors/port-mux-refused.hex");
